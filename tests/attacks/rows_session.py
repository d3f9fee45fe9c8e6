"""TLS: what is done with the session (T16 to T20)."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pcj import Event
from tests.attacks.attack import Attack, Play
from tests.attacks.certificates import Selecting, by_engine, presents, tls
from tests.attacks.foe import DOMAIN, Foe, mechanisms
from tests.attacks.stage import CLIENT_KIND, Stage
from tests.shell.transport.pair import (
    good,
)
from tests.shell.transport.records import SUITE_1_2, SUITE_1_3, Tls12, Tls13, logged

HELLO: Final = f"<message from='juliet@{DOMAIN}'><body>hello</body></message>"


# ---- T16, T17: other protocols


def selects(protocol: bytes) -> Callable[[str], Play]:
    """A server that selects an application protocol that was not offered."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            context = Selecting(good(DOMAIN), protocol, stage.folder)

            async def script(foe: Foe) -> None:
                await foe.start_tls(context)
                await foe.greeting()
                raise AssertionError("the client went on")

            outcome = await stage.refused(script, **tls(stage, engine, direct_tls=True))
            outcome.failed("SSLFAIL")
            outcome.nothing_shown()

        return play

    return make


T16 = Attack(
    id="T16",
    what="A server that selects the application protocol `h2`, or another, though only `xmpp-client` was offered",
    see="ALPACA",
    unprotected="bytes that are XMPP to us are commands to a web server with the same certificate, and the other way "
    "round",
    pcj="SSLFAIL: what was not offered cannot be selected",
    plays={**by_engine("h2", selects(b"h2")), **by_engine("xmpp-server", selects(b"xmpp-server"))},
)


def speaks(banner: str, *words: str) -> Play:
    """Another service of the same machine, with the right certificate, that knows nothing of application protocols."""

    async def play(stage: Stage) -> None:
        context = presents(lambda: good(DOMAIN))(stage)

        async def script(foe: Foe) -> None:
            await foe.start_tls(context)
            foe.send(banner)

        outcome = await stage.refused(script, **tls(stage, "ssl", direct_tls=True))
        outcome.failed("STREAM_ERROR", *words)
        outcome.nothing_shown()

    return play


T17 = Attack(
    id="T17",
    what="A link that is led to another service with the right certificate: web, mail, a file server",
    see="ALPACA",
    unprotected="its answers are read as ours, and what we send is taken for commands there",
    pcj="what is no stream ends the link at its first bytes, before any credential is sent; the failure names the "
    "service",
    plays={
        "web": speaks("HTTP/1.1 400 Bad Request\r\n\r\n<html>", "speaks HTTP"),
        "mail": speaks("220 mail.example.org ESMTP\r\n", "220 mail.example.org"),
        "an echo": speaks(f"<?xml version='1.0'?><stream:stream to='{DOMAIN}'>"),
    },
)


# ---- T18 to T20: inside the session


async def ready_in_records(foe: Foe, context: ssl.SSLContext, stage: Stage) -> Tls13 | Tls12:
    """A session up to READY whose records are made by hand from the handshake on."""
    log = logged(context, stage.folder)
    await foe.upgrade(context)
    randoms = foe.hellos[0][11:43], foe.hellos[1][11:43]
    made = Tls13(log) if foe.tls.version() == "TLSv1.3" else Tls12(log, *randoms)
    foe.seal = lambda data: made.seal(data, 0x17)
    foe.send(await CLIENT_KIND.ready(foe))
    return made


def kinds_of(records: bytes | bytearray) -> set[int]:
    """The types of TLS records."""
    kinds: set[int] = set()
    at = 0
    while at + 5 <= len(records):
        kinds.add(records[at])
        at += 5 + int.from_bytes(records[at + 3 : at + 5], "big")
    return kinds


def flooded(
    record: Callable[[Any], bytes], number: int, *, version: str = "TLSv1.3", borne: bool
) -> Callable[[str], Play]:
    """So many records that carry no data."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            context = presents(lambda: good(DOMAIN), num_tickets=0)(stage)
            if version == "TLSv1.2":
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                context.set_ciphers(SUITE_1_2)

            async def script(foe: Foe) -> None:
                made = await ready_in_records(foe, context, stage)
                if version == "TLSv1.3":
                    assert foe.tls.cipher() is not None
                    assert foe.tls.cipher()[0] == SUITE_1_3  # type: ignore[index]
                foe.send(HELLO)
                await foe.settle()
                for _ in range(number):
                    foe.raw(record(made))
                if borne:
                    foe.send(HELLO)
                    await foe.settle()
                    foe.send("</stream:stream>")
                    await foe.rest()
                    # TLS 1.2: data and alerts; a handshake message (0x16) would be the beginning of another handshake.
                    assert version != "TLSv1.2" or kinds_of(foe.records) <= {0x15, 0x17}

            async with stage.server(script) as at:
                broker = stage.broker(CLIENT_KIND, at.port, **tls(stage, engine))
                told = stage.record(broker)
                await broker.connect()
                if broker.state == "ready":
                    await broker.wait_for(Event.PCJ_SOCKETDISCONNECT, timeout=5)
                await broker.shutdown()
            names = told.since("READY")
            assert names.count("NODERECEIVED") == (2 if borne else 1), names
            assert ("SOCKETFAIL" in names) == (not borne), names

        return play

    return make


T18 = Attack(
    id="T18",
    what="A request to renegotiate (TLS 1.2), KeyUpdates without end, session tickets without end (TLS 1.3)",
    unprotected="each costs a computation and an answer: the client is busy with nothing, or its answers pile up",
    pcj="renegotiation is declined; a thousand tickets or KeyUpdates between data are borne; without data they are "
    "bounded, and end the link",
    plays={
        **by_engine("renegotiation", flooded(lambda made: made.hello_request(), 1, version="TLSv1.2", borne=True)),
        **by_engine("KeyUpdates", flooded(lambda made: made.key_update(), 6_000, borne=False)),
        **by_engine("some KeyUpdates", flooded(lambda made: made.key_update(), 20, borne=True)),
        **by_engine("a thousand tickets", flooded(lambda made: made.ticket(32), 1_000, borne=True)),
        **by_engine("tickets", flooded(lambda made: made.ticket(1_000), 400, borne=False)),
    },
)


def inside(end: Callable[[Foe], None], check: Callable[[list[str]], None], **options: Any) -> Callable[[str], Play]:
    """A session in TLS that is READY; then this."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            context = presents(lambda: good(DOMAIN))(stage)

            async def script(foe: Foe) -> None:
                await foe.upgrade(context)
                foe.send(await CLIENT_KIND.ready(foe))
                foe.send(HELLO)
                await foe.settle()
                end(foe)

            async with stage.server(script) as at:
                broker = stage.broker(CLIENT_KIND, at.port, **tls(stage, engine, **options))
                record = stage.record(broker)
                await broker.connect()
                if broker.state == "ready":
                    await broker.wait_for(Event.PCJ_SOCKETDISCONNECT, timeout=5)
                await broker.shutdown()
            names = record.since("READY")
            assert names.count("NODERECEIVED") == 1, names
            check(names)

        return play

    return make


def broke(names: list[str]) -> None:
    assert names[:3] == ["NODERECEIVED", "SOCKETFAIL", "SOCKETDISCONNECT"], names


def closed(names: list[str]) -> None:
    assert names[:4] == ["NODERECEIVED", "STREAMEND", "SOCKETDISCONNECT", "SESSION_LOST"], names


def half(foe: Foe) -> None:
    foe.send("<message><body>the beginning of")
    foe.cut()


def after_close(foe: Foe) -> None:
    foe.send("</stream:stream>")
    foe.cut()


def at_phase(script: Callable[[Foe], Awaitable[object]], event: str) -> Callable[[str], Play]:
    """The connection ends without a word in a phase of the negotiation."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            context = presents(lambda: good(DOMAIN))(stage)

            async def cutting(foe: Foe) -> None:
                await foe.upgrade(context)
                await script(foe)
                foe.cut()

            outcome = await stage.refused(cutting, **tls(stage, engine))
            outcome.failed(event, "closed the connection")

        return play

    return make


async def _greets(foe: Foe) -> None:
    await foe.header()


async def _asks(foe: Foe) -> None:
    await foe.greet(mechanisms("SCRAM-SHA-256"))
    await foe.take_auth()


T19 = Attack(
    id="T19",
    what="The end of the connection without TLS's own: in the middle of a stanza, behind the header, during "
    "authentication, behind `</stream:stream>`",
    unprotected="what somebody on the way has cut short passes for all that there was",
    pcj="the link broke (SOCKETFAIL), and half a stanza is none; behind the server's own closing tag, which came "
    "inside TLS, the end is one in good order",
    plays={
        **by_engine("in a stanza", inside(half, broke)),
        **by_engine("between stanzas", inside(lambda foe: foe.cut(), broke)),
        **by_engine("behind the closing tag", inside(after_close, closed)),
        **by_engine("behind the header", at_phase(_greets, "STREAM_ERROR")),
        **by_engine("during authentication", at_phase(_asks, "AUTHFAIL")),
    },
)


def damaged(foe: Foe) -> None:
    record = bytearray(foe.sealed(HELLO.encode()))
    record[-1] ^= 1
    foe.raw(bytes(record) + foe.sealed(HELLO.encode()))


def replayed(foe: Foe) -> None:
    record = foe.sealed(b" ")
    foe.raw(record * 2 + foe.sealed(HELLO.encode()))


def oversized(foe: Foe) -> None:
    foe.raw(b"\x17\x03\x03\xff\xff" + bytes(65_535))


T20 = Attack(
    id="T20",
    what="Bytes put into the session from outside: XML in the clear, a changed record, a repeated one, one of 64 kB, "
    "an alert",
    unprotected="what is not the server's is read as the server's",
    pcj="the link broke (SOCKETFAIL); nothing of it, nor behind it, is read",
    plays={
        **by_engine("in the clear", inside(lambda foe: foe.raw(HELLO.encode()), broke)),
        **by_engine("changed", inside(damaged, broke)),
        **by_engine("repeated", inside(replayed, broke)),
        **by_engine("too long", inside(oversized, broke)),
        **by_engine("an alert", inside(lambda foe: foe.raw(b"\x15\x03\x03\x00\x02\x02\x28"), broke)),
    },
)


ROWS: Final = [T16, T17, T18, T19, T20]
