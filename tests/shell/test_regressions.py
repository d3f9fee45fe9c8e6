"""Faults that reviews found, each mended and held here to what the broker promises instead."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import ssl
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcj import (
    JABBERD20_COMPONENT,
    XMPP,
    Broker,
    ConfigError,
    Event,
    Node,
    NodeError,
    Receipt,
    ReceiptState,
    RequestTimeout,
    State,
    Status,
    Subscription,
    iq,
    message,
    ping,
)
from pcj.testing import ScriptedServer
from pcj.testing.certificates import make_certificate
from tests.shell.instant import eager_task
from tests.shell.links import (
    DOMAIN,
    SECRET,
    Record,
    Wire,
    client,
    closed_port,
    component,
    run,
    scripted,
    server,
    state_of,
    texts,
    turns,
)

TO = "a@localhost"
#: More than the kernel and the server's reader take while nobody reads.
TOO_MUCH = 16_000_000


def numbered(count: int) -> list[Node]:
    return [message(to=TO, body=str(number)) for number in range(count)]


def came_in(count: int) -> str:
    return "".join(f"<message from='a@localhost' to='{DOMAIN}'><body>{n}</body></message>" for n in range(count))


def stuck(port: int, **options: Any) -> Broker:
    """A component that can fill the network with one node: what is output behind it waits.

    Of that one, nothing more is heard: what was written and is in doubt is not what these tests are about.
    """
    return component(port, write_high_water=1000, max_outbound_bytes=2 * TOO_MUCH, on_doubt="drop", **options)


def fill(broker: Broker) -> Receipt:
    return broker.output(message(to=TO, body="x" * TOO_MUCH))


def flushing(port: int, **options: Any) -> tuple[Broker, Callable[[], list[Receipt]]]:
    """A component, and what outputs so much in small parts that most of them wait."""
    broker = component(port, write_high_water=65_536, max_outbound_bytes=1_100_000, on_doubt="drop", **options)
    return broker, lambda: [broker.output(message(to=TO, body="x" * 1_000_000)) for _ in range(16)]


def resets(go: asyncio.Event) -> Callable[[Wire], Any]:
    """A server that reads nothing after READY, and breaks the connection when told to."""

    async def script(wire: Wire) -> None:
        await wire.component()
        await go.wait()
        wire.reset()

    return script


def listens(came: list[str]) -> Callable[[Wire], Any]:
    async def script(wire: Wire) -> None:
        await wire.component()
        came.append(await wire.proving())

    return script


def states(receipts: list[Receipt]) -> list[ReceiptState]:
    return [receipt.state for receipt in receipts]


# ---- what waits when the link ends


@pytest.mark.parametrize("event", [Event.PCJ_SOCKETFAIL, Event.PCJ_SOCKETDISCONNECT, Event.SESSION_LOST])
def test_a_halt_in_a_handler_of_the_links_end_drops_each_unsent_node_and_says_so(event: Event) -> None:
    async def main() -> None:
        go, over = asyncio.Event(), asyncio.Event()
        async with scripted(resets(go)) as at:
            broker = stuck(at.port)
            record = Record(broker)

            def halting(status: Status) -> None:
                broker.halt()
                over.set()

            broker.subscribe(event, halting)
            await broker.connect()
            first = fill(broker)
            receipts = [broker.output(node) for node in numbered(3)]
            await turns()
            assert first.state is ReceiptState.WRITTEN
            assert states(receipts) == [ReceiptState.QUEUED] * 3
            go.set()
            await over.wait()
            await turns()
            assert state_of(broker) is State.HALTED
            assert states(receipts) == [ReceiptState.DROPPED] * 3
            assert texts(status.node for status in record.of(Event.NODE_DROPPED)) == ["0", "1", "2"]
            assert broker.queue == 0
            assert "NODEQUEUED" not in record.names
            record.check()

    run(main)


def test_a_request_that_timed_out_behind_a_full_network_is_not_sent_in_the_next_session() -> None:
    async def main() -> None:
        go, came = asyncio.Event(), list[str]()
        async with scripted(resets(go), listens(came)) as at:
            broker = stuck(at.port)
            record = Record(broker)
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            fill(broker)
            await turns()
            with pytest.raises(RequestTimeout, match="never sent"):
                await broker.return_to_sender(ping(to=TO), timeout=0.05)
            assert broker.queue == 0
            dropped = record.one(Event.NODE_DROPPED).node
            assert dropped is not None
            assert dropped.find("{urn:xmpp:ping}ping") is not None
            go.set()
            await anext(gone)
            await broker.connect()
            assert broker.purge_queue() == 0
            await broker.shutdown()
            record.check()
        (second,) = came
        assert "ping" not in second

    run(main)


def test_an_answer_of_the_brokers_own_that_never_left_is_not_given_in_the_next_session() -> None:
    async def main() -> None:
        go, came = asyncio.Event(), list[str]()

        async def asks(wire: Wire) -> None:
            await wire.component()
            await go.wait()
            wire.send(f"<iq type='get' id='p1' from='{TO}' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>")
            await answered.wait()
            wire.reset()

        async with scripted(asks, listens(came)) as at:
            broker = stuck(at.port)
            record = Record(broker)
            answered = asyncio.Event()
            broker.subscribe(Event.IQ_ANSWERED, lambda status: answered.set())
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            fill(broker)
            await turns()
            kept = broker.output(message(to=TO, body="kept"))
            go.set()
            await anext(gone)
            await turns()
            dropped = record.one(Event.NODE_DROPPED)
            assert dropped.node is not None
            assert (dropped.node.get("id"), dropped.detail["reason"]) == ("p1", "drop")
            assert broker.queue == 1
            await broker.connect()
            assert broker.purge_queue() == 1
            await broker.shutdown()
            assert kept.state is ReceiptState.ACKED
            record.check()
        assert "kept" in came[0]
        assert "p1" not in came[0]

    run(main)


def test_an_answer_for_which_the_link_is_ended_in_the_very_moment_is_not_given_in_the_next_session() -> None:
    async def main() -> None:
        came: list[str] = []

        async def asks(wire: Wire) -> None:
            # Both in one piece: the reply to the first still waits when the answer to the second wants its room.
            await wire.component(
                f"<message from='{TO}' to='{DOMAIN}'/>"
                f"<iq type='get' id='old' from='{TO}' to='{DOMAIN}'><q xmlns='u'/></iq>"
            )
            await wire.proving()

        async with scripted(asks, listens(came)) as at:
            broker = component(at.port, queue_max_nodes=1, on_ready="send")
            ends: list[asyncio.Task[None]] = []
            broker.add_filter("said", "/message")
            broker.subscribe("said", lambda status: broker.output(message(to=TO, body="x")))

            def ending(status: Status) -> None:
                if status.node is not None and status.node.tag.endswith("}message"):
                    ends.append(eager_task(broker.shutdown()))

            broker.subscribe(Event.PCJ_NODESENT, ending)
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            await anext(gone)
            await asyncio.gather(*ends)
            assert broker.queue == 0
            await broker.connect()
            await broker.shutdown()
        assert came == ["</stream:stream>"]

    run(main)


def test_nodes_whose_write_fails_are_held_and_go_out_in_the_next_session() -> None:
    async def main() -> None:
        receipts: list[Receipt] = []
        came: list[str] = []

        async def first(wire: Wire) -> None:
            await wire.component()
            await wire.until("</message>")
            wire.reset()
            await turns(1)  # the socket is closed now, and the broker has not looked at its own since
            receipts.extend(broker.output(node) for node in numbered(3))

        async with scripted(first, listens(came)) as at:
            broker = component(at.port)
            record = Record(broker)
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            written = broker.output(message(to=TO, body="first"))
            await anext(gone)
            await turns()
            assert states([written, *receipts]) == [ReceiptState.UNCERTAIN, *[ReceiptState.QUEUED] * 3]
            assert broker.queue == 4
            assert texts([record.one(Event.NODE_UNCERTAIN).node]) == ["first"]
            assert texts(status.node for status in record.of(Event.PCJ_NODEQUEUED)) == ["first", "0", "1", "2"]
            assert record.since("READY").count("NODESENT") == 1
            await broker.connect()
            assert broker.purge_queue() == 4
            await broker.shutdown()
            assert states([written, *receipts]) == [ReceiptState.ACKED] * 4
            record.check()
        assert re.findall("<body>([^<]*)", came[0]) == ["first", "0", "1", "2"]

    run(main)


def test_the_bound_on_age_holds_for_an_old_node_behind_a_younger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        real, ahead = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + ahead)
        go = asyncio.Event()
        async with scripted(resets(go)) as at:
            broker = stuck(at.port, queue_max_age=4.0)
            record = Record(broker)
            gone = broker.events(Event.SESSION_LOST)
            old = broker.output(message(to=TO, body="old"))
            await broker.connect()
            fill(broker)
            ahead += 2.5
            young = broker.output(message(to=TO, body="young"))
            await turns()
            go.set()
            await anext(gone)
            await turns()
            assert broker.queue == 2  # the younger one, which was on its way, comes first
            dropped = broker.events(Event.NODE_DROPPED)
            ahead += 2.0
            # Its timer is seen when the loop looks at the clock the next time.
            await anext(dropped)
            assert states([old, young]) == [ReceiptState.EXPIRED, ReceiptState.QUEUED]
            ahead += 2.5
            await anext(dropped)
            assert young.state is ReceiptState.EXPIRED
            assert texts(status.node for status in record.of(Event.NODE_DROPPED)) == ["old", "young"]
            assert broker.queue == 0
            record.check()
            await broker.shutdown()

    run(main)


# ---- handlers that cannot keep up


def test_handlers_busy_with_the_last_sessions_backlog_do_not_stop_the_next_negotiation() -> None:
    async def main() -> None:
        steps = asyncio.Semaphore(0)
        heard: list[str | None] = []
        done = asyncio.Event()

        async def first(wire: Wire) -> None:
            await wire.component(came_in(60) + "</stream:stream>")
            await wire.rest()

        async def second(wire: Wire) -> None:
            await wire.header()
            await wire.until("</handshake>")
            for _ in range(3):
                steps.release()
            await turns(10)  # a handler has gone on meanwhile, and far too much still waits for it
            assert 0 < len(heard) < 10
            wire.send("<handshake/><message to='x'><body>last</body></message>")
            await wire.close()

        async with scripted(first, second) as at:
            broker = component(at.port, inbound_backlog=10, stream_timeout=1.0, authenticate_timeout=1.0)
            record = Record(broker)
            gone = broker.events(Event.SESSION_LOST)

            @broker.on(Event.PCJ_NODERECEIVED)
            async def slow(status: Status) -> None:
                await steps.acquire()
                heard.extend(texts([status.node]))
                if heard[-1] == "last":
                    done.set()

            await broker.connect()
            await anext(gone)
            await broker.connect()
            for _ in range(100):
                steps.release()
            await done.wait()
            assert heard == [*map(str, range(60)), "last"]
            await broker.shutdown()
            record.check()

    run(main)


def test_a_peer_that_floods_after_our_close_is_cut() -> None:
    async def main() -> None:
        over, flooded = asyncio.Event(), asyncio.Event()
        flood = came_in(500)

        async def script(wire: Wire) -> None:
            await wire.component()
            while True:
                wire.send(flood)
                await wire.writer.drain()

        async with scripted(script) as at:
            broker = component(at.port, inbound_backlog=10, close_timeout=10.0)
            received = 0

            def count(status: Status) -> None:
                nonlocal received
                received += 1
                flooded.set()

            async def hung(status: Status) -> None:
                await over.wait()

            broker.subscribe(Event.PCJ_NODERECEIVED, count)
            subscription = broker.subscribe(Event.PCJ_NODERECEIVED, hung)
            record: list[str] = []
            for event in (Event.PCJ_STREAMEND, Event.PCJ_SOCKETDISCONNECT, Event.PCJ_SHUTDOWN_FINISH):
                broker.subscribe(event, lambda status: record.append(status.event))
            await broker.connect()
            await flooded.wait()
            try:
                async with asyncio.timeout(8):  # not only when close_timeout is over
                    await broker.shutdown()
            finally:
                broker.halt()
                subscription.cancel()
                over.set()
            assert record == [Event.PCJ_STREAMEND, Event.PCJ_SOCKETDISCONNECT, Event.PCJ_SHUTDOWN_FINISH]
            assert received < 30_000

    run(main)


# ---- the end of a stream


def test_our_closing_tag_goes_out_when_the_peer_closes_while_we_still_send() -> None:
    async def main() -> None:
        closing, closed, read = asyncio.Event(), asyncio.Event(), asyncio.Event()
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await wire.component()
            await closing.wait()
            wire.send("</stream:stream>")
            await closed.wait()
            came.append(await wire.rest())
            read.set()

        async with scripted(script) as at:
            broker, output = flushing(at.port)
            record = Record(broker)
            broker.subscribe(Event.PCJ_STREAMEND, lambda status: closed.set())
            await broker.connect()
            receipts = output()
            await turns()
            shutdown = asyncio.ensure_future(broker.shutdown())
            await turns()
            assert "STREAMEND" not in record.names
            closing.set()
            await shutdown
            waiting = states(receipts).count(ReceiptState.QUEUED)
            assert waiting == broker.queue > 0
            assert record.names.count("STREAMEND") == 1
            record.check()
            await read.wait()
        assert came[0].endswith("</message></stream:stream>")
        assert came[0].count("<message") == len(receipts) - waiting

    run(main)


def test_after_a_stream_error_nothing_that_waits_is_written() -> None:
    async def main() -> None:
        closing, told = asyncio.Event(), asyncio.Event()
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await wire.component()
            await closing.wait()
            wire.send("<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
            await told.wait()
            came.append(await wire.close())

        async with scripted(script) as at:
            broker, output = flushing(at.port)
            record = Record(broker)
            broker.subscribe(Event.STREAM_ERROR, lambda status: told.set())
            await broker.connect()
            receipts = output()
            await turns()
            shutdown = asyncio.ensure_future(broker.shutdown())
            await turns()
            closing.set()
            await shutdown
            names = record.since("STREAM_ERROR")
            waiting = states(receipts).count(ReceiptState.QUEUED)
            assert waiting == broker.queue == names.count("NODEQUEUED") > 0
            assert "NODESENT" not in names
            assert names.count("STREAMEND") == 1
            doubtful = record.of(Event.NODE_UNCERTAIN)
            assert len(doubtful) == len(receipts) - waiting > 0
            assert {status.detail["doubts"] for status in doubtful} == {1}, "one of these may be why"
            record.check()
        assert came[0].endswith("</message></stream:stream>")
        assert came[0].count("<message") == len(receipts) - waiting

    run(main)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    ca_file = tmp_path_factory.mktemp("tls") / "ca.pem"
    return make_certificate(("localhost",), ca_file), ca_file


def test_a_fault_of_tls_behind_good_data_in_the_same_piece_ends_the_link(
    certificate: tuple[ssl.SSLContext, Path],
) -> None:
    async def main() -> None:
        context, ca_file = certificate

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            wire = Wire(reader, writer)
            await wire.component()
            await wire.until("</message>")
            wire.send("<message to='x'><body>good</body></message>")
            # A record that nobody encrypted; the broker has not read what is before it.
            os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"Z" * 32)
            await wire.rest()

        async with ScriptedServer(handler, tls=context) as at:
            broker = component(at.port, direct_tls=True, require_tls=True, ca_file=str(ca_file), tls_name="localhost")
            record = Record(broker)
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            broker.output(message(to=TO, body="x"))
            await anext(gone)
            assert texts([record.one(Event.PCJ_NODERECEIVED).node]) == ["good"]
            await turns()
            ends = ["SOCKETFAIL", "SOCKETDISCONNECT", "SESSION_LOST", "NODE_UNCERTAIN", "NODEQUEUED"]
            assert record.since("NODERECEIVED") == ends
            assert "TLS" in str(record.one(Event.PCJ_SOCKETFAIL).error)
            assert broker.output(message(to=TO, body="later")).state is ReceiptState.QUEUED
            record.check()
            await broker.shutdown()

    run(main)


# ---- what a finished broker keeps


class Owner:
    """Who has a broker and what reads its events, and is known to the broker."""

    def __init__(self, port: int, *, unread: bool, held: bool) -> None:
        self.broker = component(port)
        self.broker.subscribe(Event.PCJ_READY, self.ready)
        self.reader = self.broker.events() if unread else None
        if held:
            self.broker.output(message(to=TO, body="held"))

    def ready(self, status: Status) -> None: ...


@pytest.mark.parametrize(("unread", "held"), [(False, False), (True, False), (False, True)])
def test_a_finished_broker_is_collected_with_an_unread_iterator_and_with_a_held_node(unread: bool, held: bool) -> None:
    async def finished(port: int) -> weakref.ref[Broker]:
        owner = Owner(port, unread=unread, held=held)
        await owner.broker.connect()
        await owner.broker.shutdown()
        assert owner.broker.queue == int(held)
        return weakref.ref(owner.broker)

    async def main() -> None:
        async with server() as at:
            gone = await finished(at.component_port)
            await turns(5)
            gc.collect()
            assert gone() is None

    run(main)


# ---- who answers a request


def answers_to_a_request(prepare: Callable[[Broker], None]) -> list[ET.Element]:
    """What goes out when a request comes in."""
    came: list[str] = []

    async def script(wire: Wire) -> None:
        await wire.component()
        await wire.until("<presence")  # all has been prepared
        await wire.until(">")
        wire.send(f"<iq type='get' id='1' from='{TO}' to='{DOMAIN}'><query xmlns='urn:x'/></iq></stream:stream>")
        came.append(await wire.rest())

    async def main() -> None:
        async with scripted(script) as at:
            broker = component(at.port)
            gone = broker.events(Event.SESSION_LOST)
            prepare(broker)
            await broker.connect()
            broker.output(ET.Element("presence", {"to": TO}))
            await anext(gone)
            await broker.shutdown()

    run(main)
    (text,) = came
    return list(ET.fromstring(f"<all xmlns='jabber:client'>{text.removesuffix('</stream:stream>')}</all>"))


def reply(broker: Broker, status: Status) -> None:
    """Answer what a status bears, if it is a request that came in."""
    node = status.node
    if node is not None and status.event == Event.PCJ_NODERECEIVED and node.get("type") == "get":
        broker.output(iq(type="result", to=node.get("from"), id=node.get("id")))


def test_a_handler_that_cancels_its_own_subscription_and_replies_gives_the_one_answer() -> None:
    def prepare(broker: Broker) -> None:
        subscriptions: list[Subscription] = []

        def once(status: Status) -> None:
            subscriptions.pop().cancel()
            reply(broker, status)

        subscriptions.append(broker.subscribe(Event.PCJ_NODERECEIVED, once))

    (answer,) = answers_to_a_request(prepare)
    assert (answer.get("id"), answer.get("type")) == ("1", "result")


def test_a_handler_of_everything_that_replies_gives_the_one_answer() -> None:
    def prepare(broker: Broker) -> None:
        broker.subscribe("*", lambda status: reply(broker, status))

    (answer,) = answers_to_a_request(prepare)
    assert (answer.get("id"), answer.get("type")) == ("1", "result")


def test_who_merely_waits_for_a_node_does_not_keep_a_request_from_being_answered() -> None:
    waiting: list[asyncio.Task[Status]] = []

    def prepare(broker: Broker) -> None:
        waiting.append(asyncio.create_task(broker.wait_for(Event.PCJ_NODERECEIVED)))

    (answer,) = answers_to_a_request(prepare)
    assert (answer.get("id"), answer.get("type")) == ("1", "error")
    assert answer.find(".//{urn:ietf:params:xml:ns:xmpp-stanzas}service-unavailable") is not None
    (heard,) = (task.result().node for task in waiting)
    assert heard is not None
    assert heard.get("id") == "1"


# ---- what is refused before anything happens


@pytest.mark.parametrize("port", [70_000, 0, -1])
def test_a_port_that_cannot_be_is_refused_beside_a_host_and_nothing_happens(port: int) -> None:
    async def main() -> None:
        broker = component(closed_port())
        record = Record(broker)
        for call in (broker.connect, broker.reconnect):
            with pytest.raises(ConfigError, match="between 1 and 65535"):
                await call("127.0.0.1", port)
        assert record.names == []
        assert state_of(broker) is State.IDLE

    run(main)


def test_a_misspelt_event_of_pcjs_is_refused_wherever_one_is_named() -> None:
    async def main() -> None:
        broker = component(closed_port())
        with pytest.raises(ConfigError, match="PCJ_REDY"):
            broker.subscribe("PCJ_REDY", lambda status: None)
        with pytest.raises(ConfigError, match="PCJ_REDY"):
            broker.on("PCJ_REDY")
        with pytest.raises(ConfigError, match="PCJ_REDY"):
            broker.events("PCJ_REDY")
        with pytest.raises(ConfigError, match="PCJ_REDY"):
            await broker.wait_for("PCJ_REDY")

    run(main)


@pytest.mark.parametrize("type", ["result", "error"])
def test_a_reply_is_no_request_and_is_refused_as_one(type: str) -> None:
    async def main() -> None:
        broker = component(closed_port())
        record = Record(broker)
        with pytest.raises(NodeError, match="is itself a reply"):
            broker.return_to_sender(iq(type=type, to=TO, id="1"))
        assert (broker.pending, broker.queue, record.names) == (0, 0, [])

    run(main)


def test_a_password_that_saslprep_refuses_is_refused_at_once_and_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        Broker(XMPP, "romeo@localhost", password="hush\x07hush")
    assert "hush" not in str(refused.value)


def test_mechanisms_that_pcj_does_not_know_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="FOO"):
        client(closed_port(), sasl_mechanisms=("FOO",))
    with pytest.raises(ConfigError, match="FOO"):
        Broker(JABBERD20_COMPONENT, DOMAIN, password=SECRET, username="jabberd", sasl_mechanisms=("FOO",))
