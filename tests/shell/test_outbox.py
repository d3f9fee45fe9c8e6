"""`output`, in every state: what is sent, what is held, what is refused, and what each receipt says."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any, cast

import pytest

from pcj import (
    JABBERD20_COMPONENT,
    Broker,
    ConnectionFailed,
    Event,
    Node,
    NodeError,
    QueueFull,
    ReceiptState,
    RequestError,
    State,
    Status,
    UsageError,
    iq,
    message,
    ping,
    presence,
)
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


def numbered(count: int, start: int = 0) -> list[Node]:
    return [message(to=TO, body=str(number)) for number in range(start, start + count)]


def bodies(count: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, start + count)]


def sent_bodies(record: Record) -> list[str | None]:
    return [body for body in texts(status.node for status in record.of(Event.PCJ_NODESENT)) if body is not None]


async def echo(wire: Wire) -> None:
    """A component's server that listens until the end."""
    await wire.component()
    await wire.close()


def listening(came: list[str]) -> Callable[[Wire], Any]:
    async def script(wire: Wire) -> None:
        await wire.component()
        came.append(await wire.close())

    return script


# ---- when


def test_output_before_connect_is_held_and_told_of() -> None:
    async def main() -> None:
        broker = component(closed_port())
        record = Record(broker)
        receipt = broker.output(message(to=TO, body="x"))
        assert receipt.state is ReceiptState.QUEUED
        assert record.names == ["NODEQUEUED"]
        assert texts([record.statuses[0].node]) == ["x"]
        assert broker.queue == 1
        assert broker.purge_queue() == 0
        with pytest.raises(ConnectionFailed):
            await broker.connect()
        assert broker.queue == 1
        broker.halt()

    run(main)


def test_the_queue_goes_out_in_order_with_purge_queue_and_not_before() -> None:
    async def main() -> None:
        came: list[str] = []
        async with scripted(listening(came)) as at:
            broker = component(at.port, acks="off")
            record = Record(broker)
            receipts = [broker.output(node) for node in numbered(3)]

            @broker.on(Event.PCJ_AUTHNEGOTIATE)
            def negotiating(status: Status) -> None:
                receipts.append(broker.output(message(to=TO, body="3")))
                assert broker.purge_queue() == 0

            await broker.connect()
            assert broker.queue == 4
            direct = broker.output(message(to=TO, body="direct"))
            await turns()
            assert direct.state is ReceiptState.WRITTEN
            assert broker.purge_queue() == 4
            assert broker.queue == 4  # not given to the network before this turn of the loop is over
            await turns()
            assert broker.queue == 0
            assert [receipt.state for receipt in receipts] == [ReceiptState.WRITTEN] * 4
            assert sent_bodies(record) == ["direct", *bodies(4)]
            await broker.shutdown()
            record.check()
            assert record.names.count("NODEQUEUED") == 4
        assert [came[0].count(f"<body>{body}</body>") for body in ("direct", *bodies(4))] == [1] * 5

    run(main)


@pytest.mark.parametrize("coroutine", [False, True])
def test_with_on_ready_send_the_queue_goes_out_behind_ready_and_before_what_its_handlers_output(
    coroutine: bool,
) -> None:
    async def main() -> None:
        came: list[str] = []
        async with scripted(listening(came)) as at:
            broker = component(at.port, on_ready="send")
            heard: list[str] = []

            def plain(status: Status) -> None:
                heard.append("READY")
                broker.output(message(to=TO, body="from the handler"))

            async def waiting(status: Status) -> None:
                plain(status)

            broker.subscribe(Event.PCJ_READY, waiting if coroutine else plain)
            broker.subscribe(Event.PCJ_NODESENT, lambda status: heard.append("NODESENT"))
            record = Record(broker)
            for node in numbered(3):
                broker.output(node)
            await broker.connect()
            await turns()
            assert heard[2:] == ["READY", *["NODESENT"] * 4]
            assert sent_bodies(record) == [*bodies(3), "from the handler"]
            await broker.shutdown()
            record.check()

    run(main)


def test_output_at_ready_is_written_once_for_each_turn_of_the_loop() -> None:
    async def main() -> None:
        async with scripted(echo) as at, component(at.port) as broker:
            record = Record(broker)
            receipts = [broker.output(node) for node in numbered(5)]
            assert {receipt.state for receipt in receipts} == {ReceiptState.QUEUED}
            assert record.names == []
            await turns()
            assert {receipt.state for receipt in receipts} == {ReceiptState.WRITTEN}
            assert record.names == ["NODESENT"] * 5
            assert sent_bodies(record) == bodies(5)

    run(main)


def test_output_in_handlers_of_nodesent_goes_out_behind() -> None:
    async def main() -> None:
        async with scripted(echo) as at, component(at.port) as broker:
            record = Record(broker)

            @broker.on(Event.PCJ_NODESENT)
            def again(status: Status) -> None:
                (body,) = texts([status.node])
                if len(body or "") < 3:
                    broker.output(message(to=TO, body=f"{body}+"))

            for node in numbered(2):
                broker.output(node)
            await turns(10)
            assert sent_bodies(record) == ["0", "1", "0+", "1+", "0++", "1++"]

    run(main)


def test_output_while_the_link_is_being_closed_is_held_for_the_next() -> None:
    async def main() -> None:
        async with scripted(echo) as at:
            broker = component(at.port)
            record = Record(broker)
            receipts = []
            for event in (Event.PCJ_STREAMEND, Event.PCJ_SOCKETDISCONNECT, Event.PCJ_SHUTDOWN_FINISH):
                broker.subscribe(event, lambda status: receipts.append(broker.output(message(to=TO))))
            await broker.connect()
            await broker.shutdown()
            assert [receipt.state for receipt in receipts] == [ReceiptState.QUEUED] * 3
            assert broker.queue == 3
            await broker.connect()
            assert broker.purge_queue() == 3
            await turns()
            assert [receipt.state for receipt in receipts[:3]] == [ReceiptState.WRITTEN] * 3
            broker.halt()
            record.check()

    run(main)


def test_output_after_halt_is_refused_and_what_was_held_is_dropped_with_an_event_each() -> None:
    async def main() -> None:
        async with scripted(echo) as at:
            broker = component(at.port)
            record = Record(broker)
            refused: list[str] = []

            def late(status: Status) -> None:
                with pytest.raises(UsageError):
                    broker.output(message(to=TO))
                with pytest.raises(UsageError):
                    broker.return_to_sender(ping(to="localhost"))
                refused.append(status.event)

            receipts = [broker.output(node) for node in numbered(2)]
            await broker.connect()
            receipts += [broker.output(node) for node in numbered(2, 2)]  # given, but not to the network yet
            for event in (Event.PCJ_SOCKETDISCONNECT, Event.SESSION_LOST, Event.NODE_DROPPED):
                broker.subscribe(event, late)
            broker.halt()
            assert record.since("READY") == ["SOCKETDISCONNECT", "SESSION_LOST", *["NODE_DROPPED"] * 4]
            assert len(refused) == 6
            assert {receipt.state for receipt in receipts} == {ReceiptState.DROPPED}
            assert all("halted" in receipt.reason for receipt in receipts)
            assert sorted(str(body) for body in texts(s.node for s in record.of(Event.NODE_DROPPED))) == bodies(4)
            assert broker.queue == 0
            with pytest.raises(UsageError):
                broker.output(message(to=TO))
            record.check()

    run(main)


def test_what_never_reached_the_network_is_held_again_in_its_order() -> None:
    async def main() -> None:
        async with scripted(echo) as at:
            broker = component(at.port)
            record = Record(broker)
            await broker.connect()
            gone = asyncio.ensure_future(broker.wait_for(Event.SESSION_LOST))
            await turns()
            broker._link.connection.pause_writing()  # type: ignore[union-attr]
            receipts = [broker.output(node) for node in numbered(3)]
            await turns()
            assert broker.queue == 3
            assert {receipt.state for receipt in receipts} == {ReceiptState.QUEUED}
            await asyncio.gather(broker.reconnect(), gone)
            again = record.of(Event.PCJ_NODEQUEUED)
            assert texts(status.node for status in again) == bodies(3)
            assert [status.detail["again"] for status in again] == [True] * 3
            names = record.names
            assert (
                names.index("SESSION_LOST") < names.index("NODEQUEUED") < len(names) - names[::-1].index("CONNECTING")
            )
            assert broker.purge_queue() == 3
            await turns()
            assert sent_bodies(record) == bodies(3)
            await broker.shutdown()
            record.check()

    run(main)


# ---- what


def test_a_node_changed_after_output_is_sent_as_it_was() -> None:
    async def main() -> None:
        came: list[str] = []
        async with scripted(listening(came)) as at:
            broker = component(at.port)
            record = Record(broker)
            held = message(to=TO, body="before")
            broker.output(held)
            held[0].text = "after"
            await broker.connect()
            direct = message(to=TO, body="before")
            broker.output(direct)
            direct.clear()
            broker.purge_queue()
            await broker.shutdown()
            assert sent_bodies(record) == ["before", "before"]
        assert "after" not in came[0]
        assert came[0].count("before") == 2

    run(main)


def test_a_node_that_cannot_be_written_is_refused_and_the_next_one_goes_out() -> None:
    async def main() -> None:
        came: list[str] = []
        async with scripted(listening(came)) as at:
            broker = component(at.port, acks="off")
            await broker.connect()
            record = Record(broker)
            for text in ("\x00", "\ud800", cast(str, 7)):
                with pytest.raises(NodeError):
                    broker.output(message(to=TO, body=text))
            comment = message(to=TO)
            comment.append(ET.Comment("no"))
            with pytest.raises(NodeError):
                broker.output(comment)
            assert record.names == []
            broker.output(message(to=TO, body="fine"))
            await broker.shutdown()
        assert came == [f'<message to="{TO}" from="{DOMAIN}"><body>fine</body></message></stream:stream>']

    run(main)


KILLERS: list[tuple[str, Callable[[], Any]]] = [
    ("no to", lambda: message(body="x")),
    ("a foreign from", lambda: message(to=TO, from_="romeo@example.org")),
    ("a from that is no address", lambda: message(to=TO, from_="@@@")),
    ("an unknown element", lambda: ET.Element("{urn:x}unknown", {"to": TO})),
    ("a stream error", lambda: ET.Element("{http://etherx.jabber.org/streams}error", {"to": TO})),
    ("a stream header", lambda: ET.Element("{http://etherx.jabber.org/streams}stream", {"to": TO})),
    ("a request of stream management", lambda: ET.Element("{urn:xmpp:sm:3}r", {"to": TO})),
    ("an answer of stream management", lambda: ET.Element("{urn:xmpp:sm:3}a", {"to": TO, "h": "1"})),
    ("a stanza's name in a foreign namespace", lambda: ET.Element("{urn:x}message", {"to": TO})),
    ("an iq without type", lambda: ET.Element("{jabber:client}iq", {"to": TO})),
    ("a get without payload", lambda: iq(to=TO)),
    ("a str", lambda: "<message/>"),
    ("None", lambda: None),
]


@pytest.mark.parametrize(("what", "make"), KILLERS, ids=[what for what, _ in KILLERS])
def test_what_would_end_the_link_is_refused(what: str, make: Callable[[], Any]) -> None:
    async def main() -> None:
        async with scripted(echo) as at, component(at.port) as broker:
            record = Record(broker)
            with pytest.raises(NodeError):
                broker.output(make())
            with pytest.raises(NodeError):
                broker.return_to_sender(make())
            assert record.names == []
            assert broker.pending == 0

    run(main)


def test_check_output_false_lets_all_through_that_is_xml() -> None:
    async def main() -> None:
        came: list[str] = []
        async with scripted(listening(came)) as at:
            broker = component(at.port, check_output=False)
            record = Record(broker)
            await broker.connect()
            broker.output(ET.Element("{urn:xmpp:sm:3}r"))
            broker.output(message(body="no to"))
            with pytest.raises(NodeError):
                broker.output(cast(Node, None))
            await broker.shutdown()
            record.check()
            assert [s.node.tag for s in record.of(Event.PCJ_NODESENT) if s.node is not None][2:] == [
                "{urn:xmpp:sm:3}r",
                "{jabber:client}message",
            ]
        assert '<r xmlns="urn:xmpp:sm:3"/>' in came[0]

    run(main)


@pytest.mark.parametrize("given", [None, ""])
def test_an_iq_without_id_gets_one_and_the_users_node_does_not(given: str | None) -> None:
    async def main() -> None:
        async with scripted(echo) as at, component(at.port) as broker:
            record = Record(broker)
            node = ping(to="localhost", id=given)
            broker.output(node)
            broker.output(message(to=TO, id="mine"))
            broker.output(presence(to=TO))
            await turns()
            sent = [status.node for status in record.of(Event.PCJ_NODESENT) if status.node is not None]
            assert len(sent[0].get("id", "")) > 20
            assert len(sent[0]) == 1
            assert [stanza.get("id") for stanza in sent[1:]] == ["mine", None]
            assert node.get("id") == given
            assert [stanza.get("from") for stanza in sent] == [DOMAIN] * 3

    run(main)


def test_a_client_needs_no_to_and_no_from() -> None:
    async def main() -> None:
        async with server() as at, client(at.client_port) as broker:
            broker.output(presence())
            broker.output(message(to="romeo@localhost/orchard", body="me"))
            status = await broker.wait_for(Event.PCJ_NODERECEIVED)
            assert texts([status.node]) == ["me"]

    run(main)


def test_a_large_node_is_sent_and_shown_whatever_the_bounds_on_the_peers_are() -> None:
    async def main() -> None:
        came: list[str] = []
        async with scripted(listening(came)) as at:
            bounds = {"max_stanza_bytes": 1000, "max_elements": 5, "max_depth": 3}
            broker = component(at.port, max_outbound_bytes=4_000_000, **bounds)
            record = Record(broker)
            big = message(to=TO, body="x" * 2_000_000)
            many = message(to=TO)
            many.extend([ET.Element("{urn:x}e") for _ in range(70_000)])
            broker.output(big)
            await broker.connect()
            broker.purge_queue()
            broker.output(many)
            await broker.shutdown()
            sent = [status.node for status in record.of(Event.PCJ_NODESENT)][2:]
            assert [len(node) for node in sent if node is not None] == [1, 70_000]
            record.check()
        assert len(came[0]) > 2_000_000

    run(main)


def test_through_the_router_held_nodes_are_wrapped_when_they_are_sent() -> None:
    async def main() -> None:
        async with server() as at:
            broker = Broker(
                JABBERD20_COMPONENT,
                DOMAIN,
                password=SECRET,
                username="jabberd",
                host="127.0.0.1",
                port=at.router_port,
                require_tls=False,
                on_ready="send",
            )
            record = Record(broker)
            broker.add_filter("/message", "/message")
            broker.output(message(to=DOMAIN, body="held"))
            reply = broker.return_to_sender(ping(to=DOMAIN))
            async with broker:
                assert (await reply).get("type") == "result"
                broker.output(message(to=DOMAIN, body="direct"))
                await broker.wait_for("/message")
            assert texts(status.node for status in record.of("/message")) == ["held", "direct"]
            assert sent_bodies(record) == ["held", "direct"]
            record.check()

    run(main)


# ---- bounds


def test_the_queue_is_bounded_by_count_and_by_bytes() -> None:
    async def main() -> None:
        broker = component(closed_port(), queue_max_nodes=2)
        record = Record(broker)
        broker.output(message(to=TO))
        broker.return_to_sender(ping(to=TO)).cancel()
        with pytest.raises(QueueFull, match="queue_max_nodes"):
            broker.output(message(to=TO))
        with pytest.raises(QueueFull):
            broker.return_to_sender(ping(to=TO))
        await turns()
        assert (broker.queue, broker.pending) == (1, 0)  # whose reply nobody awaits is not sent
        assert record.names == ["NODEQUEUED", "RTS_START", "NODEQUEUED", "NODE_DROPPED", "RTS_FAIL"]
        broker = component(closed_port(), queue_max_bytes=200)
        broker.output(message(to=TO, body="x" * 50))
        with pytest.raises(QueueFull, match="queue_max_bytes"):
            broker.output(message(to=TO, body="x" * 100))
        broker = component(closed_port(), max_outbound_bytes=100)
        with pytest.raises(NodeError, match="max_outbound_bytes"):
            broker.output(message(to=TO, body="x" * 100))

    run(main)


def test_what_the_network_does_not_take_counts_towards_the_bounds() -> None:
    async def main() -> None:
        async with scripted(echo) as at, component(at.port, queue_max_nodes=3) as broker:
            broker._link.connection.pause_writing()  # type: ignore[union-attr]
            for node in numbered(3):
                broker.output(node)
            with pytest.raises(QueueFull):
                broker.output(message(to=TO))
            broker._link.connection.resume_writing()  # type: ignore[union-attr]
            broker.output(message(to=TO))

    run(main)


def test_a_node_that_waits_too_long_is_given_up_with_an_event() -> None:
    async def main() -> None:
        broker = component(closed_port(), queue_max_age=0.05)
        record = Record(broker)
        dropped = asyncio.ensure_future(broker.wait_for(Event.NODE_DROPPED))
        await turns()
        receipt = broker.output(message(to=TO, body="old"))
        status = await dropped
        assert texts([status.node]) == ["old"]
        assert status.detail["reason"] == "expired"
        assert "queue_max_age" in receipt.reason
        assert (receipt.state, broker.queue) == (ReceiptState.EXPIRED, 0)
        broker.output(message(to=TO, body="next"))
        await broker.wait_for(Event.NODE_DROPPED)
        assert record.names == ["NODEQUEUED", "NODE_DROPPED"] * 2

    run(main)


def has_timer(broker: Broker) -> bool:
    return broker._outbox._expiry is not None


def test_an_emptied_queue_leaves_no_timer_behind() -> None:
    async def main() -> None:
        async with scripted(echo) as at:
            broker = component(at.port)
            broker.output(message(to=TO))
            assert has_timer(broker)
            async with broker:
                broker.purge_queue()
                assert not has_timer(broker)
            broker.output(message(to=TO))
            broker.halt()
            assert not has_timer(broker)

    run(main)


def test_purge_queue_in_handlers_sends_each_node_once() -> None:
    async def main() -> None:
        async with scripted(echo) as at:
            broker = component(at.port)
            record = Record(broker)
            for node in numbered(3):
                broker.output(node)
            for event in (Event.PCJ_READY, Event.PCJ_NODESENT, Event.PCJ_STREAMEND, Event.PCJ_SOCKETDISCONNECT):
                broker.subscribe(event, lambda status: broker.purge_queue() and None)
            await broker.connect()
            await turns()
            await broker.shutdown()
            assert sent_bodies(record) == bodies(3)
            record.check()

    run(main)


def test_nothing_is_output_by_a_broker_that_is_halted_in_the_handler_of_its_request() -> None:
    async def main() -> None:
        broker = component(closed_port())
        record = Record(broker)
        broker.subscribe(Event.PCJ_RTS_START, lambda status: broker.halt())
        request = broker.return_to_sender(ping(to="localhost"))
        with pytest.raises(RequestError, match="halted"):
            await request
        assert state_of(broker) is State.HALTED
        assert broker.queue == 0
        assert record.names == ["RTS_START", "NODEQUEUED", "NODE_DROPPED", "RTS_FAIL"]

    run(main)


@pytest.mark.parametrize("sender", ["mallory@localhost", "romeo@localhost/other", "localhost"])
def test_a_client_cannot_output_a_stanza_of_somebody_elses(sender: str) -> None:
    async def main() -> None:
        async with server() as at, client(at.client_port) as broker:
            with pytest.raises(NodeError, match="not our address"):
                broker.output(message(to="juliet@localhost", from_=sender))
            own = broker.jid
            for allowed in (own, own.partition("/")[0], own.upper().partition("/")[0]):
                broker.output(message(to="juliet@localhost", from_=allowed))

    run(main)


def test_a_burst_within_one_turn_of_the_loop_is_not_held_against_the_queue() -> None:
    async def main() -> None:
        async with server() as at, component(at.component_port, queue_max_nodes=10) as broker:
            for node in numbered(1000):
                broker.output(node)

    run(main)


def test_a_password_in_a_node_of_the_users_own_is_shown_in_no_event() -> None:
    async def main() -> None:
        async with server() as at:
            broker = client(at.client_port)
            record = Record(broker)
            query = ET.Element("{jabber:iq:register}query")
            ET.SubElement(query, "{jabber:iq:register}password").text = "hush-hush"
            broker.output(iq(type="set", to="localhost", payload=query))
            async with broker:
                broker.purge_queue()
            assert {"NODEQUEUED", "NODESENT"} <= set(record.names)
            assert not [status for status in record.statuses if "hush-hush" in status.to_json()]

    run(main)


def test_output_outside_the_loop_is_misuse() -> None:
    with pytest.raises(UsageError, match="event loop"):
        component(closed_port()).output(message(to=TO))
