"""docs/events.md says what each event carries: all that comes in runs of every kind, and nothing that never comes."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pcj import JABBERD20_COMPONENT, LEGACY, XMPP, Broker, ConnectionFailed, Event, Status, iq, message, ping
from pcj.errors import RequestError
from pcj.testing import ServerOptions
from pcj.transport.resolve import Endpoint
from tests.shell.links import SECRET, Wire, client, closed_port, component, never, run, scripted, server, turns

DOCUMENT = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
TO = "juliet@localhost"
#: Every status has them.
CONTEXT = {"attempt", "session"}
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"


# ---- what the document says


def rows() -> dict[str, str]:
    """Of each event that is fired: what stands under "carries"."""
    return {
        cells[0]: cells[3]
        for cells in ([cell.strip() for cell in line[1:-1].split("|")] for line in DOCUMENT.splitlines())
        if cells[0] in Event.__members__ and len(cells) == 4
    }


ROWS = rows()
_FAILURES = re.search(r"Every event of a failure \(([^)]*)\).*?\n\n", DOCUMENT, re.DOTALL)
assert _FAILURES is not None
FAILURES = set(re.findall(r"\w+", _FAILURES[1]))
FAILURE_KEYS = set(re.findall(r"`(\w+)`", _FAILURES[0])) - {"detail"}


def documented_keys(event: str) -> set[str]:
    listed = re.search(r"\[([\w, ]+)\]", ROWS[event])
    own = set(listed[1].split(", ")) if listed is not None else set()
    return own | (FAILURE_KEYS if event in FAILURES else set())


def documented_words(event: str) -> set[str]:
    return set(re.findall(r'"([\w ]+)"', ROWS[event]))


def documented_attributes(event: str) -> set[str]:
    return {name for name in ("node", "error") if re.search(rf"\b{name}\b", ROWS[event])}


# ---- what comes


class Seen:
    """What came in all runs: of each event the keys, the words among their values, and the other attributes."""

    def __init__(self) -> None:
        self.keys: defaultdict[str, set[str]] = defaultdict(set)
        self.words: defaultdict[str, set[str]] = defaultdict(set)
        self.attributes: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, status: Status) -> None:
        event = status.event
        self.keys[event] |= status.detail.keys() - CONTEXT
        self.words[event] |= {str(status.detail[key]) for key in ("reason", "by") if key in status.detail}
        self.attributes[event] |= {name for name in ("node", "error") if getattr(status, name) is not None}


async def fails(broker: Broker) -> None:
    with pytest.raises(ConnectionFailed):
        await broker.connect()


def ask(broker: Broker, **options: Any) -> asyncio.Future[Any]:
    return broker.return_to_sender(ping(to=TO), **options)


def stream_error(condition: str, said: str = "") -> str:
    text = f"<text xmlns='{STREAM_ERRORS}'>in short: no</text>"
    return f"<stream:error><{condition} xmlns='{STREAM_ERRORS}'>{said}</{condition}>{text}</stream:error>"


async def _each_type(hear: Callable[[Broker], Broker]) -> None:
    options = ServerOptions(session="required", bound_resource="another")
    async with server(options=options) as at:
        where: dict[str, Any] = {"password": SECRET, "host": at.host, "ca_file": at.ca_file}
        routed = {**where, "port": at.router_port, "username": "jabberd"}
        for broker in (
            Broker(XMPP, "romeo@localhost/orchard", port=at.client_port, **where),
            Broker(LEGACY, "romeo@localhost/orchard", port=at.client_port, **where),
            component(at.component_port),
            Broker(JABBERD20_COMPONENT, "other.localhost", **routed),
        ):
            hear(broker)
            broker.output(message(to=TO, body="queued"))
            async with broker:
                broker.purge_queue()
                await broker.return_to_sender(ping(to="localhost" if "@" in broker.jid else broker.jid))


async def _no_session(hear: Callable[[Broker], Broker]) -> None:
    refusals: list[dict[str, Any]] = [{"session_error": "not-allowed"}, {"bind_error": "not-allowed"}]
    for refusal in refusals:
        options = ServerOptions(session="required", starttls="none", direct_tls_port=None, **refusal)
        async with server(options=options) as at:
            await fails(hear(client(at.client_port)))


async def _failures(hear: Callable[[Broker], Broker]) -> None:
    async def no_tls(wire: Wire) -> None:
        await wire.header("jabber:client", version="1.0")
        wire.features("")
        await wire.until("<starttls")
        wire.send("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>")
        await wire.rest()

    async def sent_on(wire: Wire) -> None:
        await wire.header("jabber:client", version="1.0")
        wire.send(stream_error("see-other-host", f"127.0.0.1:{closed_port()}"))
        await wire.rest()

    async def no_password(wire: Wire) -> None:
        await wire.header("jabber:client", version="1.0")
        names = "".join(f"<mechanism>SCRAM-SHA-{number}</mechanism>" for number in (256, 1))
        wire.features(f"<mechanisms xmlns='{SASL}'>{names}</mechanisms>")
        for condition in ("invalid-mechanism", "not-authorized"):
            await wire.until("</auth>")
            wire.send(f"<failure xmlns='{SASL}'><{condition}/><text>No.</text></failure>")
        await wire.close()

    async with scripted(no_tls, sent_on, no_password) as at:
        await fails(hear(client(at.port, require_tls=True)))
        await fails(hear(client(at.port)))
        await fails(hear(client(at.port)))
    await fails(hear(component(closed_port())))


async def _looked_up(hear: Callable[[Broker], Broker]) -> None:
    async def stranger(wire: Wire) -> None:
        await wire.until(">")
        wire.send(f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' "
                  f"version='1.0' from='elsewhere.example'>{stream_error('host-unknown')}")  # fmt: skip
        await wire.rest()

    async with scripted(stranger) as at:

        async def find(*_: object, **__: object) -> list[Endpoint]:
            return [Endpoint("127.0.0.1", port, source="srv") for port in (closed_port(), at.port)]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pcj.route.find_endpoints", find)
            await fails(hear(Broker(XMPP, "romeo@localhost/orchard", password=SECRET, require_tls=False)))


async def _lost(hear: Callable[[Broker], Broker]) -> None:
    async def breaks(wire: Wire) -> None:
        await wire.component()
        await wire.until("<iq")
        wire.reset()

    async def holds(wire: Wire) -> None:
        await wire.component(f"<success xmlns='{SASL}'/><iq type='get' id='q' from='{TO}'><unknown xmlns='u'/></iq>")
        await wire.close()

    async with scripted(breaks, holds) as at:
        broker = hear(component(at.port, auto_reconnect=True, reconnect_delay=0.01))
        await broker.connect()
        with pytest.raises(RequestError):
            await ask(broker)  # "drop"
        await broker.wait_for(Event.IQ_ANSWERED)

        broker._link.connection.pause_writing()  # type: ignore[union-attr]
        broker.output(message(to=TO))
        await broker.reconnect(at.host, at.port)
        pending = ask(broker)
        await broker.shutdown()
        assert isinstance(pending.exception(), RequestError)
        await broker.reconnect()
        ask(broker)
        broker.halt()  # with the message of before still held
        await turns()


async def _requests(hear: Callable[[Broker], Broker]) -> None:
    async def answers_late(wire: Wire) -> None:
        await wire.component()
        identity = await wire.request()
        await wire.until("<late/>")
        wire.send(f"<iq type='result' id='{identity}' from='{TO}' to='echo.localhost'/>")
        await wire.close()

    async with scripted(answers_late) as at:
        broker = hear(component(at.port))
        async with broker:
            with pytest.raises(RequestError):
                await ask(broker, timeout=0.02)
            heard = asyncio.ensure_future(broker.wait_for(Event.PCJ_NODERECEIVED))
            await turns()
            node = message(to=TO)
            node.append(iq().makeelement("{jabber:client}late", {}))
            broker.output(node)
            await heard
    broker = hear(component(closed_port(), queue_max_age=0.02))
    with pytest.raises(RequestError):
        await ask(broker)  # "expired"
    ask(broker).cancel()
    await turns()


async def _handlers(hear: Callable[[Broker], Broker]) -> None:
    async with server() as at:
        broker = hear(component(at.component_port))

        async def slow(_: Status) -> None:
            await never()

        broker.subscribe(Event.PCJ_NODESENT, slow)
        async with broker:  # two were sent by then: one is being told of, one waits
            (task,) = broker._dispatcher.tasks
            task.cancel()
            await turns()


async def _too_slow(seen: Seen) -> None:
    broker = component(closed_port(), inbound_backlog=1)
    statuses = broker.events(Event.PCJ_NODEQUEUED)
    for _ in range(3):
        broker.output(message(to=TO))
    seen.add(await anext(statuses))
    seen.add(await anext(statuses))


async def _full(hear: Callable[[Broker], Broker]) -> None:
    async def curious(wire: Wire) -> None:
        await wire.component()
        await wire.until("<message")
        for identity in ("q", "r"):
            wire.send(f"<iq type='get' id='{identity}' from='{TO}' to='echo.localhost'><unknown xmlns='u'/></iq>")
        await wire.close()

    async with scripted(curious) as at:
        broker = hear(component(at.port, max_auto_replies=1))
        async with broker:
            warned = asyncio.ensure_future(broker.wait_for(Event.WARNING))
            broker.output(message(to=TO))
            await turns()
            broker._link.connection.pause_writing()  # type: ignore[union-attr]
            broker.output(message(to=TO))
            await warned
            broker._link.connection.resume_writing()  # type: ignore[union-attr]


async def _unsent(hear: Callable[[Broker], Broker]) -> None:
    go, answered = asyncio.Event(), asyncio.Event()

    async def asks(wire: Wire) -> None:
        await wire.component()
        await go.wait()
        wire.send(f"<iq type='get' id='q' from='{TO}' to='echo.localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        await answered.wait()
        wire.reset()

    async with scripted(asks) as at:
        broker = hear(component(at.port))
        broker.subscribe(Event.IQ_ANSWERED, lambda status: answered.set())
        await broker.connect()
        broker._link.connection.pause_writing()  # type: ignore[union-attr]
        gone = broker.events(Event.SESSION_LOST)
        go.set()
        await anext(gone)
        await turns()


async def _small_server(hear: Callable[[Broker], Broker]) -> None:
    async with server(options=ServerOptions(starttls="none", direct_tls_port=None, announced_max_bytes=10_000)) as at:
        broker = hear(client(at.client_port, on_ready="send"))
        large = ping(to=TO)
        large.set("id", "x" * 10_000)
        asked = broker.return_to_sender(large)
        async with broker:
            assert isinstance(asked.exception(), RequestError)


async def _managed(hear: Callable[[Broker], Broker]) -> None:
    """A session is resumed, and then it is not."""
    async with server(options=ServerOptions(starttls="none", direct_tls_port=None)) as at:
        broker = hear(client(at.client_port, auto_reconnect=True, reconnect_delay=0.01))
        again = broker.events(Event.PCJ_READY)
        async with broker:
            await anext(again)
            await at.drop(broker.jid)
            assert (await anext(again)).detail["resumed"] is True
            await at.drop(broker.jid)
            at.expire(broker.jid)
            assert (await anext(again)).detail["resumed"] is False
        late = hear(client(at.client_port, auto_reconnect=True, reconnect_delay=60.0))
        waiting = late.events(Event.RECONNECT_DELAY)
        async with late:
            await at.drop(late.jid)
            await anext(waiting)
            late._link._too_late()  # as if the time were over


async def _handed_over(hear: Callable[[Broker], Broker]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with server(options=ServerOptions(starttls="none", direct_tls_port=None)) as at:
            broker = hear(client(at.client_port, queue=f"{folder}/queue.db"))
            await broker.connect()
            await broker.suspend()


async def _doubted(hear: Callable[[Broker], Broker]) -> None:
    """A node is in doubt, and sent again; the server ends the stream for it."""

    async def cut(wire: Wire) -> None:
        await wire.component()
        await wire.until("</message>")
        wire.reset()

    async def refuse(wire: Wire) -> None:
        await wire.component()
        await wire.until("</message>")
        wire.send(stream_error("policy-violation") + "</stream:stream>")
        await wire.rest()

    async with scripted(cut, refuse) as at:
        broker = hear(component(at.port, on_doubt="resend", max_doubts=1))
        for time in range(2):
            lost = broker.events(Event.SESSION_LOST)
            await broker.connect()
            if time == 0:
                broker.output(message(to=TO, body="it"))
            await anext(lost)
            await turns()


async def _much(hear: Callable[[Broker], Broker]) -> None:
    broker = hear(component(closed_port(), high_water_nodes=1))
    for receipt in [broker.output(message(to=TO)) for _ in range(3)]:
        assert broker.withdraw(receipt)


async def _silent(hear: Callable[[Broker], Broker]) -> None:
    async def silence(wire: Wire) -> None:
        await wire.component()
        await wire.until("<ping")
        await wire.close()

    async with scripted(silence) as at:
        broker = hear(component(at.port, silence_timeout=0.02))
        async with broker:
            await broker.wait_for(Event.PROBE)


async def _slow(hear: Callable[[Broker], Broker]) -> None:
    async def talks(wire: Wire) -> None:
        await wire.component(tail=f"<message from='{TO}'/>" * 4)
        await wire.close()

    async with scripted(talks) as at:
        broker = hear(component(at.port, inbound_backlog=2))
        go = asyncio.Event()

        async def slow(_: object) -> None:
            await go.wait()

        broker.subscribe(Event.PCJ_NODERECEIVED, slow)
        paused, resumed = broker.events(Event.READING_PAUSED), broker.events(Event.READING_RESUMED)
        async with broker:
            await anext(paused)
            go.set()
            await anext(resumed)


RUNS: tuple[Callable[[Callable[[Broker], Broker]], Awaitable[None]], ...] = (
    _each_type, _no_session, _failures, _looked_up, _lost, _requests, _handlers, _full, _unsent,
    _small_server, _managed, _handed_over, _doubted, _much, _silent, _slow,
)  # fmt: skip


@pytest.fixture(scope="module")
def seen() -> Seen:
    found = Seen()

    def hear(broker: Broker) -> Broker:
        broker.subscribe("*", found.add)
        return broker

    async def main() -> None:
        for each in RUNS:
            await each(hear)
        await _too_slow(found)

    run(main)
    return found


def test_the_runs_have_every_event_that_is_fired(seen: Seen) -> None:
    assert ROWS.keys() - seen.keys.keys() == set()


@pytest.mark.parametrize("event", sorted(ROWS))
def test_an_event_carries_what_is_documented_and_no_more(seen: Seen, event: str) -> None:
    if event in FAILURES or event == Event.SM_RESUMEFAILED:  # why varies
        assert seen.keys[event] <= documented_keys(event)
    else:
        assert seen.keys[event] == documented_keys(event)
    assert seen.attributes[event] == documented_attributes(event)


def test_the_failures_together_carry_all_that_is_documented_of_them(seen: Seen) -> None:
    assert set().union(*(seen.keys[event] for event in FAILURES)) == FAILURE_KEYS


@pytest.mark.parametrize("event", ["PCJ_SHUTDOWN_START", "SESSION_LOST", "RTS_FAIL", "NODE_DROPPED"])
def test_a_reason_is_one_of_the_words_that_are_documented(seen: Seen, event: str) -> None:
    assert seen.words[event] == documented_words(event)
