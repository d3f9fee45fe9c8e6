"""STARTTLS: what is taken away or put in before TLS stands (T01 to T07)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pcj import Event
from pcj.namespaces import STREAM_ERRORS, TLS
from tests.attacks.attack import Attack, Play
from tests.attacks.certificates import presents, tls
from tests.attacks.foe import DOMAIN, Foe, header, mechanisms
from tests.attacks.stage import AGAIN, CLIENT_KIND, COMPONENT_KIND, LEGACY_KIND, ROUTER_KIND, SOON, Kind, Stage
from tests.shell.transport.pair import (
    good,
)

STARTTLS: Final = f"<starttls xmlns='{TLS}'/>"
PROCEED: Final = f"<proceed xmlns='{TLS}'/>"
PLAIN: Final = mechanisms("PLAIN", "SCRAM-SHA-256")


# ---- T01 to T07: STARTTLS


def stripped(answer: str, kind: Kind = CLIENT_KIND, **options: Any) -> Play:
    """No STARTTLS in the features; it is asked for all the same, and this is the answer."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header(kind.xmlns)
            foe.features(PLAIN)
            await foe.until("<starttls")
            await foe.until(">")
            foe.send(answer)

        refused = await stage.refused(script, kind=kind, **{"require_tls": True, "tls_timeout": SOON, **options})
        refused.failed("SSLFAIL")
        refused.nothing_shown()
        assert "SSLNEGOTIATE" not in refused.names

    return play


async def headless(stage: Stage) -> None:
    """A component's server without a version has no STARTTLS: the handshake is not sent."""

    async def script(foe: Foe) -> None:
        await foe.header(COMPONENT_KIND.xmlns, version=None)

    refused = await stage.refused(script, kind=COMPONENT_KIND, require_tls=True)
    refused.failed("SSLFAIL", "offers no encryption")
    refused.nothing_shown()


T01 = Attack(
    id="T01",
    what="STARTTLS taken out of the features, with PLAIN left in them",
    see="CVE-2016-10027",
    unprotected="the password goes out in the clear: whoever is on the way logs in with it",
    pcj="`<starttls/>` is sent all the same; without `<proceed/>` SSLFAIL, and no credential is sent",
    plays={
        "failure": stripped(f"<failure xmlns='{TLS}'/>"),
        "another stream error": stripped(f"<stream:error><not-authorized xmlns='{STREAM_ERRORS}'/></stream:error>"),
        "closed": stripped("</stream:stream>"),
        "silence": stripped(""),
        "features again": stripped(f"<stream:features>{PLAIN}</stream:features>"),
        "success": stripped("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
        "router": stripped(f"<failure xmlns='{TLS}'/>", ROUTER_KIND),
        "legacy": stripped(f"<failure xmlns='{TLS}'/>", LEGACY_KIND),
        "component": stripped(f"<failure xmlns='{TLS}'/>", COMPONENT_KIND),
        "component, no features": headless,
    },
)


async def refuses_twice(stage: Stage) -> None:
    """`<failure/>`, at the first attempt and at the next: neither goes on in the clear."""

    async def script(foe: Foe) -> None:
        await foe.greet(STARTTLS + PLAIN)
        await foe.until("<starttls")
        foe.send(f"<failure xmlns='{TLS}'/></stream:stream>")

    async with stage.server(script) as at:
        broker = stage.broker(CLIENT_KIND, at.port, require_tls=True, **AGAIN)
        record = stage.record(broker)
        connecting = asyncio.create_task(broker.connect())
        for _ in range(3):
            await broker.wait_for(Event.PCJ_SSLFAIL, timeout=5)
        await broker.shutdown()
        await asyncio.gather(connecting, return_exceptions=True)
    assert len(stage.foes) >= 3
    assert all(foe.shown == [] for foe in stage.foes)
    assert "AUTHNEGOTIATE" not in record.names


T02 = Attack(
    id="T02",
    what="`<failure/>` in answer to `<starttls/>`, time after time",
    unprotected="the client goes on without TLS, or does at its next attempt",
    pcj="SSLFAIL each time; no attempt goes on in the clear",
    plays={"": refuses_twice},
)


def smuggled(what: str | bytes) -> Play:
    """This stands behind `<proceed/>` in one piece; TLS would stand behind it."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.greet(STARTTLS)
            await foe.until("<starttls")
            await foe.until(">")
            foe.send(PROCEED.encode() + (what.encode() if isinstance(what, str) else what))

        refused = await stage.refused(script, **tls(stage, "ssl"))
        refused.failed("SSLFAIL", "before TLS began")
        refused.nothing_shown()
        assert b"\x16\x03" not in refused.foe.came, "no ClientHello either"

    return play


T03 = Attack(
    id="T03",
    what="Bytes behind `<proceed/>` in the same segment: features with PLAIN, a whole stream, an authentication's "
    "success",
    see="CVE-2011-0411 and its kind",
    unprotected="what was put in before TLS is read as if it had come inside it",
    pcj="SSLFAIL before the handshake; nothing of it is parsed, before TLS or in it",
    plays={
        "features": smuggled(f"<stream:features>{PLAIN}</stream:features>"),
        "a stream": smuggled(f"{header()}<stream:features>{PLAIN}</stream:features>"),
        "success": smuggled("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
        "text": smuggled("x"),
        "a record": smuggled(b"\x16\x03\x03\x00\x05hello"),
    },
)


def in_the_clear(answer: str | bytes, *, at_once: bool) -> Play:
    """`<proceed/>`, and then what is no TLS."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header()
            if at_once:
                foe.send(f"<stream:features>{STARTTLS}</stream:features>{PROCEED}")
                await foe.until("<starttls")
            else:
                foe.features(STARTTLS)
                await foe.until("<starttls")
                foe.send(PROCEED)
            await foe.until("\x16")
            foe.send(answer)

        refused = await stage.refused(script, **tls(stage, "ssl", tls_timeout=0.5))
        refused.failed("SSLFAIL")
        refused.nothing_shown()

    return play


T04 = Attack(
    id="T04",
    what="`<proceed/>` in one read with the features, before we asked; XML, or nothing, in place of the handshake",
    unprotected="the client goes on in the clear, and believes itself inside TLS",
    pcj="behind `<proceed/>` there is TLS or nothing: what is no handshake is SSLFAIL, and silence meets `tls_timeout`",
    plays={
        "before we asked": in_the_clear(f"{header()}<stream:features>{PLAIN}</stream:features>", at_once=True),
        "XML": in_the_clear(f"{header()}<stream:features>{PLAIN}</stream:features>", at_once=False),
        "an alert": in_the_clear(b"\x15\x03\x03\x00\x02\x02\x28", at_once=False),
        "zeros": in_the_clear(bytes(100), at_once=False),
        "silence": in_the_clear(b"", at_once=False),
    },
)


async def forgotten(stage: Stage) -> None:
    """Before TLS there is PLAIN, and inside it nothing."""
    context = presents(lambda: good(DOMAIN))(stage)

    async def script(foe: Foe) -> None:
        await foe.upgrade(context, features=PLAIN)
        await foe.greet("")

    refused = await stage.refused(script, **tls(stage, "ssl"))
    refused.failed("AUTHFAIL", "offers no SASL mechanism")
    refused.nothing_shown()


T05 = Attack(
    id="T05",
    what="PLAIN in the features before TLS, nothing in those inside it",
    unprotected="the choice is made by a list that anybody on the way has written",
    pcj="the list from before TLS is forgotten (RFC 6120 5.4.3.3): AUTHFAIL without AUTHNEGOTIATE",
    plays={"": forgotten},
)


def offered_again(inside: str) -> Play:
    """STARTTLS is offered inside TLS."""

    def make(*, direct: bool) -> Play:
        async def play(stage: Stage) -> None:
            context = presents(lambda: good(DOMAIN))(stage)

            async def script(foe: Foe) -> None:
                if direct:
                    await foe.start_tls(context)
                else:
                    await foe.upgrade(context)
                await foe.greet(inside + mechanisms("SCRAM-SHA-256"))
                await foe.take_auth()
                foe.send("</stream:stream>")

            refused = await stage.refused(script, **tls(stage, "ssl", direct_tls=direct))
            refused.failed("AUTHFAIL", "closed the stream")
            assert refused.names.count("SSLSUCCESS") == 1
            assert refused.foe.came.count(b"<starttls") == (not direct)

        return play

    return make(direct=inside.startswith(" "))


T06 = Attack(
    id="T06",
    what="STARTTLS offered again inside TLS, even as required",
    unprotected="TLS in TLS: a loop, or a session whose inner end is somebody else's",
    pcj="passed over: TLS is begun once",
    plays={
        "offered": offered_again(STARTTLS),
        "required": offered_again(f"<starttls xmlns='{TLS}'><required/></starttls>"),
    },
)

T07 = Attack(
    id="T07",
    what="A port with TLS from the first byte whose stream offers STARTTLS",
    unprotected="as T06",
    pcj="passed over (XEP-0368 forbids it)",
    plays={
        "offered": offered_again(" " + STARTTLS),
        "required": offered_again(f" <starttls xmlns='{TLS}'><required/></starttls>"),
    },
)


ROWS: Final = [T01, T02, T03, T04, T05, T06, T07]
