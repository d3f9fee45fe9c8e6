"""What a scripted server says, to make a connection fail."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

from pcj.sasl.scram import offer_hash
from tests.shell.links import Wire

DOMAIN = "example.org"
NAMESPACES = {
    "sasl": "urn:ietf:params:xml:ns:xmpp-sasl",
    "tls": "urn:ietf:params:xml:ns:xmpp-tls",
    "bind": "urn:ietf:params:xml:ns:xmpp-bind",
}
Play = Callable[[Wire], Awaitable[None]]
STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"


async def greeted(wire: Wire, features: str) -> None:
    """The client's header, the server's, and what it offers."""
    await wire.header("jabber:client", version="1.0")
    wire.features(features)


def mechanisms(*names: str) -> str:
    """The feature that lists them."""
    listed = "".join(f"<mechanism>{name}</mechanism>" for name in names)
    return f"<mechanisms xmlns='{NAMESPACES['sasl']}'>{listed}</mechanisms>"


def stream_error(condition: str, text: str = "", xmlns: str = "jabber:client") -> Play:
    """A stream that ends with an error as soon as it has begun; `xmlns` is what its header declares."""

    async def play(wire: Wire) -> None:
        await wire.header(xmlns, version="1.0")
        said = f"<text xmlns='{STREAM_ERRORS}'>{text}</text>" if text else ""
        wire.send(f"<stream:error><{condition} xmlns='{STREAM_ERRORS}'/>{said}</stream:error>")

    return play


async def no_starttls(wire: Wire) -> None:
    """A server that offers TLS, and refuses it."""
    await greeted(wire, f"<starttls xmlns='{NAMESPACES['tls']}'/>")
    await wire.until("<starttls")
    wire.send(f"<failure xmlns='{NAMESPACES['tls']}'/>")


def goes_on(data: bytes) -> Play:
    """A server that agrees to TLS, and goes on with this."""

    async def play(wire: Wire) -> None:
        await greeted(wire, f"<starttls xmlns='{NAMESPACES['tls']}'/>")
        await wire.until("<starttls")
        wire.send(f"<proceed xmlns='{NAMESPACES['tls']}'/>")
        await wire.reader.read(1 << 16)  # our ClientHello: what came before it would be another fault
        if not data:
            wire.writer.close()
        wire.send(data.decode())

    return play


async def bindless(wire: Wire) -> None:
    """A server that lets us in, and has nothing more to offer."""
    await wire.login("")


def offers(*names: str) -> Play:
    """A server that offers these mechanisms, without TLS."""

    async def play(wire: Wire) -> None:
        await greeted(wire, mechanisms(*names))

    return play


def sasl(condition: str, text: str = "", mechanism: str = "PLAIN") -> Play:
    """A server that answers our first credentials with a failure; without a condition, with success."""

    async def play(wire: Wire) -> None:
        await greeted(wire, mechanisms(mechanism))
        await wire.until("</auth>")
        said = f"<text>{text}</text>" if text else ""
        name, inside = ("failure", f"<{condition}/>{said}") if condition else ("success", "")
        wire.send(f"<{name} xmlns='{NAMESPACES['sasl']}'>{inside}</{name}>")

    return play


def altered(*names: str, sent: tuple[str, ...]) -> Play:
    """A server that vouches for the mechanisms that it sent (XEP-0474), of which these came."""

    async def play(wire: Wire) -> None:
        await greeted(wire, mechanisms(*names))
        _, _, text = (await wire.until("</auth>")).rpartition(">")[0].rpartition("</auth")[0].rpartition(">")
        nonce = base64.b64decode(text).decode().rpartition("r=")[2]
        said = f"r={nonce}theirs,s={base64.b64encode(b'salt').decode()},i=4096,h={offer_hash('sha1', sent, None)}"
        wire.send(f"<challenge xmlns='{NAMESPACES['sasl']}'>{base64.b64encode(said.encode()).decode()}</challenge>")

    return play


def at_bind(condition: str, kind: str = "cancel", text: str = "") -> Play:
    """A server that refuses to bind, however often it is asked."""

    async def play(wire: Wire) -> None:
        await wire.login()
        stanzas = "urn:ietf:params:xml:ns:xmpp-stanzas"
        said = f"<text xmlns='{stanzas}'>{text}</text>" if text else ""
        for _ in range(3 if condition == "conflict" else 1):
            identity = await wire.request()
            error = f"<error type='{kind}'><{condition} xmlns='{stanzas}'/>{said}</error>"
            wire.send(f"<iq type='error' id='{identity}'>{error}</iq>")

    return play


def sends(data: str) -> Play:
    """A server that greets, and then sends this."""

    async def play(wire: Wire) -> None:
        await wire.header("jabber:client", version="1.0")
        wire.send(data)

    return play


async def versionless(wire: Wire) -> None:
    """A server whose header has no version, as on a port for components."""
    await wire.header("jabber:client")


async def insists(wire: Wire) -> None:
    """A server that requires what nobody knows, beside what everybody does."""
    bind = f"<bind xmlns='{NAMESPACES['bind']}'/>"
    await wire.login(f"{bind}<captcha xmlns='urn:example:captcha'><required/></captcha>")
    identity = await wire.request()
    jid = f"<jid>romeo@{DOMAIN}/orchard</jid>"
    wire.send(f"<iq type='result' id='{identity}'><bind xmlns='{NAMESPACES['bind']}'>{jid}</bind></iq>")
