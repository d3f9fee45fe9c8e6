"""Servers that repeat all that they are told, their clients' secrets among it, in every way that the types have."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from pcj import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP
from pcj.testing import ScriptedServer
from tests.shell.links import Wire, scripted

__all__ = ["echoes", "send_on"]

_NAMESPACES: Final = {
    XMPP: "jabber:client",
    LEGACY: "jabber:client",
    JABBERD14_COMPONENT: "jabber:component:accept",
    JABBERD20_COMPONENT: "http://jabberd.jabberstudio.org/ns/component/1.0",
}


def _everything(password: str, came: str) -> str:
    """What a server could repeat: the password, its base64, and all that it was sent."""
    return escape(f"{password} {base64.b64encode(password.encode()).decode()} {came}", {'"': "&quot;"})


async def _echo_of_sasl(wire: Wire, xmlns: str, mechanism: str, say: Callable[[str], str]) -> None:
    """A server that takes the credentials of a SASL mechanism and repeats them."""
    namespace = "urn:ietf:params:xml:ns:xmpp-sasl"
    await wire.header(xmlns, version="1.0")
    wire.features(f"<mechanisms xmlns='{namespace}'><mechanism>{mechanism}</mechanism></mechanisms>")
    came = await wire.until("/>" if mechanism == "DIGEST-MD5" else "</auth>")
    if mechanism != "PLAIN":
        if mechanism == "DIGEST-MD5":
            said = 'realm="jabberd-router",nonce="abc",qop="auth",charset=utf-8,algorithm=md5-sess'
        else:
            first = base64.b64decode(came.partition("</")[0].rpartition(">")[2]).decode()
            said = f"r={first.rpartition('r=')[2]}more,s={base64.b64encode(b'a salt of ours').decode()},i=4096"
        wire.send(f"<challenge xmlns='{namespace}'>{base64.b64encode(said.encode()).decode()}</challenge>")
        came += await wire.until("</response>")
    wire.send(say(came))
    await wire.close()


def _refusal(said: str) -> str:
    namespace = "urn:ietf:params:xml:ns:xmpp-sasl"
    return f"<failure xmlns='{namespace}'><not-authorized/><text xml:lang='en'>{said}</text></failure>"


def _stream_error(said: str) -> str:
    namespace = "urn:ietf:params:xml:ns:xmpp-streams"
    return (
        f"<stream:error><not-authorized xmlns='{namespace}'/><text xmlns='{namespace}'>{said}</text>"
        f'<why xmlns="urn:example" x="{said}">{said}</why></stream:error></stream:stream>'
    )


def _redirect(said: str) -> str:
    namespace = "urn:ietf:params:xml:ns:xmpp-streams"
    return f"<stream:error><see-other-host xmlns='{namespace}'>{said}</see-other-host></stream:error></stream:stream>"


def _success(said: str) -> str:
    data = base64.b64encode(said.encode()).decode()
    return f"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{data}</success>{_not_xml(said)}"


def _not_xml(said: str) -> str:
    return f"<x>{said}</y>"


_ENDS: Final = (_refusal, _stream_error, _redirect, _success, _not_xml)


def echoes(kind: str, password: str, mechanisms: Sequence[str]) -> Iterator[Callable[[Wire], Awaitable[None]]]:
    """Servers that repeat what they were sent, in every way that the type has, after each of these SASL mechanisms."""
    for end in _ENDS:

        def say(came: str, end: Callable[[str], str] = end) -> str:
            return end(_everything(password, came))

        if kind == LEGACY:

            async def iq_auth(wire: Wire, say: Callable[[str], str] = say) -> None:
                await wire.header("jabber:client")
                came = await wire.until("</iq>")
                identity = re.search(r'id="([^"]+)"', came)
                if identity is not None and "password" not in came and "digest" not in came:
                    fields = "<username/><password/><digest/><resource/>"
                    wire.send(
                        f"<iq type='result' id='{identity[1]}'><query xmlns='jabber:iq:auth'>{fields}</query></iq>"
                    )
                    came += await wire.until("</iq>")
                wire.send(say(came))
                await wire.close()

            yield iq_auth
        elif kind == JABBERD14_COMPONENT:

            async def handshake(wire: Wire, say: Callable[[str], str] = say) -> None:
                await wire.header()
                wire.send(say(await wire.until("</handshake>")))
                await wire.close()

            yield handshake
        else:
            for mechanism in mechanisms if kind == XMPP else ("DIGEST-MD5",):

                async def sasl(wire: Wire, mechanism: str = mechanism, say: Callable[[str], str] = say) -> None:
                    await _echo_of_sasl(wire, _NAMESPACES[kind], mechanism, say)

                yield sasl


def send_on(kind: str, target: str) -> ScriptedServer:
    """A server that sends whoever comes on to another."""

    async def script(wire: Wire) -> None:
        await wire.until("<stream:stream")
        wire.send(
            f"<?xml version='1.0'?><stream:stream xmlns='{_NAMESPACES[kind]}' xmlns:stream='http://etherx.jabber.org/streams'"
            f" id='s1' from='localhost' version='1.0'>{_redirect(target)}"
        )
        await wire.rest()

    return scripted(script)
