"""Which stream errors we send, and when none (RFC 6120 4.9; protocol-notes B10): what a server sees on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pcj import XMPP, Broker, ConnectionFailed, Event
from tests.shell.links import SECRET, STREAMS, Record, Wire, client, component, run, scripted, turns

RESTRICTED, MALFORMED, FORMAT = "restricted-xml", "not-well-formed", "bad-format"
POLICY, ENCODING, OUT_OF_PHASE = "policy-violation", "unsupported-encoding", "undefined-condition"
END = "</stream:stream>"
CLOSED = f"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>{END}"
HEADER = f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='{STREAMS}' id='s1' from='echo.localhost'>"


def seen(script: Callable[[Wire], Awaitable[None]], make: Callable[[int], Broker]) -> tuple[str, Record]:
    """What the server sees from where the script ends, and the events."""
    ends: list[str] = []
    records: list[Record] = []

    async def main() -> None:
        async def told(wire: Wire) -> None:
            await script(wire)
            ends.append(await wire.rest())

        async with scripted(told) as at:
            broker = make(at.port)
            records.append(Record(broker))
            gone = broker.events(Event.PCJ_SOCKETDISCONNECT)
            try:
                await broker.connect()
            except ConnectionFailed:
                pass
            else:
                await anext(gone)
            await turns()
            await broker.shutdown()
        records[0].check()

    run(main)
    return ends[0], records[0]


def check_end(end: str, condition: str | None) -> None:
    """One stream error, with its condition and nothing else, and our closing tag; or the tag alone."""
    error = f'<stream:error><{condition} xmlns="urn:ietf:params:xml:ns:xmpp-streams"/></stream:error>'
    assert end == (error if condition is not None else "") + END


#: (what the server sends in place of its header, what we answer)
AT_FIRST = [
    ("<!DOCTYPE stream>" + HEADER, RESTRICTED),
    ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + HEADER, RESTRICTED),
    ("<?php ?>" + HEADER, RESTRICTED),
    ("<!-- x -->" + HEADER, RESTRICTED),
    ("<?xml version='1.0' encoding='ISO-8859-1'?>" + HEADER, ENCODING),
    ("<?xml version='1.0' encoding='UTF-16'?>" + HEADER, ENCODING),
    ("<?xml version='1.1'?>" + HEADER, MALFORMED),
    (HEADER.replace(f"xmlns:stream='{STREAMS}'", "xmlns:stream='urn:x'"), "invalid-namespace"),
    (HEADER.replace("<stream:stream", "<stream"), "bad-namespace-prefix"),
    (HEADER.replace("xmlns:stream", "xmlns:other"), MALFORMED),
    ("HTTP/1.1 400 Bad Request\r\n\r\n", MALFORMED),
    ("<html>", FORMAT),
    (f"<stream:stream a='{'x' * 9000}'>", POLICY),
    (HEADER[:-1] + "".join(f" a{number}=''" for number in range(300)) + ">", POLICY),
    (f"<stream:error xmlns:stream='{STREAMS}'><conflict/>", None),
    (END, MALFORMED),
]


@pytest.mark.parametrize(("sent", "condition"), AT_FIRST, ids=range(len(AT_FIRST)))
def test_in_place_of_a_header(sent: str, condition: str | None) -> None:
    async def script(wire: Wire) -> None:
        await wire.until("<stream:stream")
        await wire.until(">")
        wire.send(sent)

    end, record = seen(script, lambda port: component(port, max_stanza_bytes=8000))
    check_end(end, condition)
    assert len(record.of(Event.STREAM_ERROR)) == 1


#: (what the server sends, what we answer): the same before READY and after, but for what is only then out of place.
IN_THE_STREAM = [
    ("<!DOCTYPE a>", RESTRICTED),
    ("<?a b?><a/>", RESTRICTED),
    ("<!-- a --><a/>", RESTRICTED),
    ("<a><!-- a --></a>", RESTRICTED),
    ("<a>&nbsp;</a>", RESTRICTED),
    ("<a>&b;</a>", RESTRICTED),
    ("<a></b>", MALFORMED),
    ("<p:a/>", MALFORMED),
    ("<a b='1' b='2'/>", MALFORMED),
    ("<a>\ud800</a>", MALFORMED),
    ("<a>\x01</a>", MALFORMED),
    ("text<a/>", FORMAT),
    (HEADER, FORMAT),
    (f"<a>{'x' * 9000}</a>", POLICY),
    (f"<a>{'x' * 9000}", POLICY),
    ("<a>" * 300, POLICY),
    ("<a>" + "<b/>" * 600 + "</a>", POLICY),
    ("<a" + "".join(f" a{number}=''" for number in range(300)) + "/>", POLICY),
    ("<a></b><a>&nbsp;</a>", MALFORMED),  # once
    (END, None),
    (CLOSED, None),
    (CLOSED + "<!DOCTYPE a>", None),
    (CLOSED.replace(END, "<a></b>"), None),
]


async def before_ready(wire: Wire) -> None:
    await wire.header()
    await wire.until("</handshake>")


async def at_ready(wire: Wire) -> None:
    await wire.component()


@pytest.mark.parametrize("until", [before_ready, at_ready])
@pytest.mark.parametrize(("sent", "condition"), IN_THE_STREAM, ids=range(len(IN_THE_STREAM)))
def test_in_the_stream(sent: str, condition: str | None, until: Callable[[Wire], Awaitable[None]]) -> None:
    async def script(wire: Wire) -> None:
        await until(wire)
        wire.writer.write(sent.encode("utf-8", "surrogatepass"))

    end, record = seen(script, lambda port: component(port, max_stanza_bytes=8000, max_elements=500))
    check_end(end, condition)
    errors = [*record.of(Event.STREAM_ERROR), *record.of(Event.PCJ_AUTHFAIL)]
    assert bool(errors) is (condition is not None or sent != END or until is before_ready)


def negotiating(port: int) -> Broker:
    return client(port, stream_timeout=0.05, authenticate_timeout=0.05)


CLIENT_HEADER = f"<stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' id='s1' from='localhost'"
FEATURES = (
    "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
    "</stream:features>"
)

#: (what a client's server sends, what we answer)
OF_CLIENTS = [
    (f"{CLIENT_HEADER}>", "unsupported-version"),
    (f"{CLIENT_HEADER} version='0.9'>", "unsupported-version"),
    (f"{CLIENT_HEADER} version='2.0'>", "unsupported-version"),
    (f"{CLIENT_HEADER} version='1.0'><message/>", OUT_OF_PHASE),
    (f"{CLIENT_HEADER} version='1.0'>{FEATURES}<message/>", OUT_OF_PHASE),
    (f"{CLIENT_HEADER} version='1.0'>{FEATURES}<iq type='result'/>", OUT_OF_PHASE),
    ("", "connection-timeout"),
    (f"{CLIENT_HEADER} version='1.0'>", "connection-timeout"),
    (f"{CLIENT_HEADER} version='1.0'>{FEATURES}", "connection-timeout"),
]


@pytest.mark.parametrize(("sent", "condition"), OF_CLIENTS, ids=range(len(OF_CLIENTS)))
def test_of_a_client(sent: str, condition: str) -> None:
    async def script(wire: Wire) -> None:
        await wire.until("<stream:stream")
        await wire.until(">")
        first, features, behind = sent.partition(FEATURES)
        wire.send(first + features)
        if features:
            await wire.until("</auth>")
            wire.send(behind)

    end, _ = seen(script, negotiating)
    check_end(end, condition)


def test_an_end_of_our_own_is_no_error_before_ready_and_after() -> None:
    async def main() -> None:
        ends: list[str] = []

        async def silent(wire: Wire) -> None:
            await wire.until("<stream:stream")
            await wire.until(">")
            ends.append(await wire.rest())

        async def ready(wire: Wire) -> None:
            await wire.component()
            ends.append(await wire.rest())

        for script, event in ((silent, Event.PCJ_STREAMSTART), (ready, Event.PCJ_READY)):
            async with scripted(script) as at:
                broker = component(at.port, close_timeout=0.05)
                heard = broker.events(event)
                connecting = _ignored(broker)
                await anext(heard)
                await broker.shutdown()
                await connecting
                await turns()
        assert ends == [END, END]

    run(main)


def test_nothing_is_sent_where_no_header_of_ours_is_out() -> None:
    """TLS from the first byte: what comes in its place is answered by TLS alone."""

    async def script(wire: Wire) -> None:
        await wire.reader.read(1 << 16)
        wire.send("<!DOCTYPE a>" + HEADER)

    def make(port: int) -> Broker:
        where = {"host": "127.0.0.1", "port": port, "direct_tls": True}
        return Broker(XMPP, "romeo@localhost/orchard", password=SECRET, **where)

    end, record = seen(script, make)
    assert "stream" not in end
    assert not record.of(Event.PCJ_STREAMEND)


def _ignored(broker: Broker) -> Awaitable[None]:
    """Connect in the background, whatever comes of it."""

    async def connect() -> None:
        try:
            await broker.connect()
        except Exception:  # the end was asked for
            return

    return asyncio.ensure_future(connect())
