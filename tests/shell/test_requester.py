"""`return_to_sender`: every way a request can end, each with exactly one event (event-order C11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pcj import (
    Broker,
    ConfigError,
    Event,
    Node,
    QueueFull,
    ReceiptState,
    RequestError,
    RequestTimeout,
    Status,
    UsageError,
    iq,
    message,
    ping,
    to_bytes,
)
from tests.shell.links import (
    DOMAIN,
    Record,
    Wire,
    client,
    closed_port,
    component,
    never,
    run,
    scripted,
    server,
    turns,
)

PEER = "romeo@localhost/x"


class Silent:
    """A component's server that answers nothing by itself; `say` is what it sends."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.ready = asyncio.Event()

    async def script(self, wire: Wire) -> None:
        await wire.component()
        self.wire = wire
        self.ready.set()
        await wire.close()

    def say(self, **attributes: str) -> None:
        assert self.wire is not None
        attributes = {"from": PEER, "to": DOMAIN, "type": "result", **attributes}
        self.wire.send("<iq " + " ".join(f"{name}='{value}'" for name, value in attributes.items()) + "/>")


@asynccontextmanager
async def silent(**options: Any) -> AsyncIterator[tuple[Broker, Silent, Record]]:
    """A link to a server that answers nothing, up to its READY."""
    peer = Silent()
    async with scripted(peer.script) as at:
        broker = component(at.port, **options)
        record = Record(broker)
        async with broker:
            await peer.ready.wait()
            yield broker, peer, record
        ended(record)


def ended(record: Record) -> None:
    """Each RTS_START has exactly one end."""
    record.check()
    starts = [status for status in record.of(Event.PCJ_RTS_START) if not status.detail.get("internal")]
    assert len(starts) == len(record.of(Event.PCJ_RTS_FINISH)) + len(record.of(Event.RTS_FAIL)), record.names


def ask(broker: Broker, **more: Any) -> asyncio.Future[Node]:
    return broker.return_to_sender(ping(to=PEER, id="r1"), **more)


# ---- answered


def test_a_result_comes_back_to_the_asker_alone() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            broker.add_filter("mine", "/iq")
            record = Record(broker)
            async with broker:
                reply = await broker.return_to_sender(ping(to="localhost", id="r1"))
                assert (reply.get("type"), reply.get("id"), reply.get("from")) == ("result", "r1", "localhost")
            ended(record)
            names = record.names
            assert names[names.index("RTS_START") :][:3] == ["RTS_START", "NODESENT", "RTS_FINISH"]
            assert not {"mine", "NODERECEIVED"} & set(names)
            assert record.one(Event.PCJ_RTS_FINISH).node is reply

    run(main)


def test_an_error_is_a_reply_too() -> None:
    async def main() -> None:
        async with server() as at:
            broker = client(at.client_port)
            record = Record(broker)
            async with broker:
                reply = await broker.return_to_sender(iq(to="juliet@localhost", payload=ping()[0]))
                assert reply.get("type") == "error"
            ended(record)

    run(main)


def test_a_message_that_bounces_answers_its_request() -> None:
    async def main() -> None:
        async with silent() as (broker, peer, record):
            request = broker.return_to_sender(message(to=PEER, id="m1", body="x"))
            assert peer.wire is not None
            peer.wire.send(f"<message from='{PEER}' to='{DOMAIN}' id='m1'><body>not an answer</body></message>")
            peer.wire.send(f"<message from='{PEER}' to='{DOMAIN}' id='m1' type='error'/>")
            assert (await request).get("type") == "error"
            assert record.names.count("NODERECEIVED") == 1

    run(main)


@pytest.mark.parametrize("given", [None, ""])
def test_a_request_without_id_gets_one(given: str | None) -> None:
    async def main() -> None:
        async with server() as at, component(at.component_port) as broker:
            node = ping(to="localhost", id=given)
            reply = await broker.return_to_sender(node)
            assert len(reply.get("id", "")) > 20
            assert node.get("id") == given

    run(main)


def test_a_reply_is_fired_under_the_askers_own_event_too() -> None:
    async def main() -> None:
        async with silent() as (broker, peer, record):
            heard: list[Status] = []
            broker.subscribe("pong", heard.append)
            future = ask(broker, event="pong")
            peer.say(id="r1")
            node = await future
            assert [status.node for status in heard] == [node]
            names = record.names
            assert names[names.index("RTS_FINISH") + 1] == "pong"

    run(main)


def test_who_asked_by_event_need_not_look_at_the_future() -> None:
    async def main() -> None:
        async with silent() as (broker, _, record):
            ask(broker, event="pong")
        assert record.one(Event.RTS_FAIL).detail["reason"] == "shutdown"

    run(main)


def test_a_request_to_nobody_is_answered_by_the_own_account() -> None:
    async def main() -> None:
        async with server() as at, client(at.client_port) as broker:
            assert (await broker.return_to_sender(ping())).get("type") == "result"

    run(main)


def test_a_reply_from_another_sender_or_with_another_id_is_an_ordinary_node() -> None:
    async def main() -> None:
        async with silent() as (broker, peer, record):
            request = ask(broker)
            for attributes in ({"from": "mallory@localhost/x"}, {"from": "romeo@localhost/y"}, {"id": "r2"}):
                peer.say(**{"id": "r1", **attributes})
            peer.say(id="r1", type="get")
            peer.say(id="r1", type="error")
            assert (await request).get("type") == "error"
            assert record.names.count("NODERECEIVED") == 4
            assert record.names.count("RTS_FINISH") == 1

    run(main)


@pytest.mark.parametrize(
    "said",
    [
        {"from": "mallory@localhost/x"},
        {"from": "localhost"},
        {"from": DOMAIN},
        {"from": "romeo@localhost"},
        {"from": "romeo@localhost/X"},
        {"from": ""},
        {"from": "@"},
        {"from": "r" * 100_000},
        {"id": ""},
        {"id": "R1"},
        {"id": "r1 "},
        {"id": "r" * 100_000},
        {"type": "get"},
        {"type": "set"},
        {"type": "RESULT"},
        {"type": ""},
    ],
    ids=lambda said: " ".join(f"{name}={value:.20}" for name, value in said.items()),
)
def test_what_only_resembles_a_reply_is_none(said: dict[str, str]) -> None:
    """P01, P04, P06: the asker still waits, and the real reply comes to him."""

    async def main() -> None:
        async with silent(unhandled_iq="ignore") as (broker, peer, record):
            request = ask(broker)
            await turns()
            received = broker.events(Event.PCJ_NODERECEIVED)
            peer.say(**{"id": "r1", **said})
            await anext(received)
            assert not request.done()
            peer.say(id="r1", type="result")
            assert (await request).get("type") == "result"
            assert record.names.count("RTS_FINISH") == 1

    run(main)


@pytest.mark.parametrize("second", ["result", "error"])
def test_of_two_replies_the_first_counts_and_the_second_is_an_ordinary_node(second: str) -> None:
    """P03."""

    async def main() -> None:
        async with silent() as (broker, peer, record):
            received = broker.events(Event.PCJ_NODERECEIVED)
            request = ask(broker)
            await turns()
            peer.say(id="r1", type="result")
            peer.say(id="r1", type=second)
            status = await anext(received)
            assert status.node is not None
            assert status.node.get("type") == second
            assert (await request).get("type") == "result"
            assert record.names.count("RTS_FINISH") == 1
            assert not record.of(Event.IQ_ANSWERED)

    run(main)


def test_a_reply_that_comes_before_its_request_was_sent_is_none() -> None:
    """P02."""

    async def main() -> None:
        async with silent() as (broker, peer, _):
            connection = broker._link.connection
            assert connection is not None
            connection.pause_writing()
            request = ask(broker)
            received = broker.events(Event.PCJ_NODERECEIVED)
            peer.say(id="r1")
            await anext(received)
            assert not request.done()
            connection.resume_writing()
            peer.say(id="r1")
            assert (await request).get("id") == "r1"

    run(main)


def test_ids_of_ours_cannot_be_guessed_from_those_before() -> None:
    """P02: 192 random bits each, and nothing that counts."""

    async def main() -> None:
        broker = component(closed_port())
        queued = broker.events(Event.PCJ_NODEQUEUED)
        ids = []
        for _ in range(200):
            broker.output(ping(to=PEER))
            node = (await anext(queued)).node
            assert node is not None
            ids.append(node.get("id", ""))
        broker.halt()
        assert len(set(ids)) == 200
        assert {len(identity) for identity in ids} == {32}
        columns = [set(column) for column in zip(*ids, strict=True)]
        assert min(len(column) for column in columns) > 30  # of 64 letters each; 61 are to be expected of 200

    run(main)


def test_the_same_id_may_wait_for_two_peers_but_not_twice_for_one() -> None:
    async def main() -> None:
        async with silent() as (broker, peer, record):
            first = ask(broker)
            second = broker.return_to_sender(ping(to="juliet@localhost", id="r1"))
            before = record.names
            for to in (PEER, "JULIET@localhost"):
                with pytest.raises(UsageError, match="r1"):
                    broker.return_to_sender(ping(to=to, id="r1"))
            assert record.names == before
            assert (broker.pending, broker.queue) == (2, 2)
            peer.say(id="r1", **{"from": "juliet@localhost"})
            peer.say(id="r1")
            assert (await second).get("from") == "juliet@localhost"
            assert (await first).get("from") == PEER
            third = ask(broker)  # the id is free again
            peer.say(id="r1")
            await third

    run(main)


# ---- not answered


def test_a_request_times_out_and_its_late_reply_is_an_ordinary_node() -> None:
    async def main() -> None:
        async with silent() as (broker, peer, record):
            with pytest.raises(RequestTimeout, match=r"no reply within 0\.02 s") as caught:
                await ask(broker, timeout=0.02)
            assert caught.value.reason == "timeout"
            assert isinstance(caught.value, TimeoutError)
            fail = record.one(Event.RTS_FAIL)
            assert fail.error is caught.value
            assert (fail.detail["reason"], fail.detail["id"]) == ("timeout", "r1")
            peer.say(id="r1")
            await broker.wait_for(Event.PCJ_NODERECEIVED)
            assert not record.of(Event.PCJ_RTS_FINISH)
            assert broker.pending == 0

    run(main)


def test_the_default_timeout_is_the_configs() -> None:
    async def main() -> None:
        async with silent(request_timeout=0.02) as (broker, _, _record):
            with pytest.raises(RequestTimeout):
                await ask(broker)

    run(main)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_more_than_nothing(timeout: float) -> None:
    async def main() -> None:
        broker = component(closed_port())
        with pytest.raises(ConfigError):
            ask(broker, timeout=timeout)
        assert (broker.pending, broker.queue) == (0, 0)

    run(main)


def test_a_drop_fails_what_was_sent_and_keeps_what_is_queued() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            record = Record(broker)
            queued = broker.return_to_sender(ping(to="localhost", id="queued"))
            await broker.connect()
            sent = broker.return_to_sender(ping(to="juliet@localhost/none", id="sent"))
            broker._link.connection.pause_reading()  # type: ignore[union-attr]  # so that no answer comes first
            await turns()
            broker._link.connection.resume_reading()  # type: ignore[union-attr]
            await at.drop(DOMAIN)
            with pytest.raises(RequestError) as caught:
                await sent
            assert caught.value.reason == "drop"
            names = record.names
            assert names.index("SESSION_LOST") < names.index("RTS_FAIL")
            assert broker.pending == 1
            await broker.connect()
            broker.purge_queue()
            assert (await queued).get("type") == "result"
            await broker.shutdown()
            ended(record)

    run(main)


@pytest.mark.parametrize("connected", [True, False])
def test_shutdown_fails_all_also_those_in_the_queue(connected: bool) -> None:
    async def main() -> None:
        async with silent() as (broker, _, record):
            if not connected:
                await broker.shutdown()
            requests = [ask(broker), broker.return_to_sender(ping(to=PEER, id="r2"))]
            await broker.shutdown()
            if not connected:
                await broker.connect()
                await broker.shutdown()
            for request in requests:
                with pytest.raises(RequestError) as caught:
                    await request
                assert caught.value.reason == "shutdown"
            assert len(record.of(Event.RTS_FAIL)) == 2

    run(main)


def test_shutdown_of_a_broker_that_was_never_connected_fails_its_requests() -> None:
    async def main() -> None:
        broker = component(closed_port())
        record = Record(broker)
        request = ask(broker)
        await broker.shutdown()
        with pytest.raises(RequestError) as caught:
            await request
        assert caught.value.reason == "shutdown"
        assert record.names[:2] == ["RTS_START", "NODEQUEUED"]
        assert record.names[2:] == ["SHUTDOWN_START", "NODE_DROPPED", "RTS_FAIL", "SHUTDOWN_FINISH"]
        broker.halt()

    run(main)


def test_halt_fails_all() -> None:
    async def main() -> None:
        async with silent() as (broker, _, record):
            request = ask(broker)
            broker.halt()
            with pytest.raises(RequestError) as caught:
                await request
            assert caught.value.reason == "halt"
            assert record.since("READY")[-4:] == ["SOCKETDISCONNECT", "SESSION_LOST", "NODE_DROPPED", "RTS_FAIL"]

    run(main)


def test_a_request_that_waits_too_long_in_the_queue_fails_as_expired() -> None:
    async def main() -> None:
        broker = component(closed_port(), queue_max_age=0.02)
        record = Record(broker)
        with pytest.raises(RequestError) as caught:
            await ask(broker)
        assert caught.value.reason == "expired"
        assert record.names == ["RTS_START", "NODEQUEUED", "NODE_DROPPED", "RTS_FAIL"]
        assert broker.pending == 0

    run(main)


def test_a_request_that_times_out_in_the_queue_is_dropped_and_says_that_it_was_never_sent() -> None:
    async def main() -> None:
        broker = component(closed_port())
        record = Record(broker)
        broker.output(ping(to="romeo@localhost"))
        with pytest.raises(RequestTimeout, match="never sent"):
            await ask(broker, timeout=0.02)
        assert broker.queue == 1  # the other one
        assert record.names[-2:] == ["NODE_DROPPED", "RTS_FAIL"]
        broker.halt()

    run(main)


def test_a_cancelled_request_is_told_of_and_its_reply_is_an_ordinary_node() -> None:
    async def main() -> None:
        async with silent() as (broker, peer, record):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await ask(broker)
            await turns()
            fail = record.one(Event.RTS_FAIL)
            assert (fail.detail["reason"], fail.error) == ("cancelled", None)
            assert broker.pending == 0
            peer.say(id="r1")
            await broker.wait_for(Event.PCJ_NODERECEIVED)

    run(main)


def test_a_request_cancelled_in_the_moment_of_its_reply_ends_once() -> None:
    async def main() -> None:
        async with silent() as (broker, peer, record):
            request = ask(broker)
            broker.subscribe(Event.PCJ_RTS_FINISH, lambda status: request.cancel() and None)
            peer.say(id="r1")
            with pytest.raises(asyncio.CancelledError):
                await request
            await turns()
            assert not record.of(Event.RTS_FAIL)

    run(main)


def test_max_pending_requests_bounds_those_that_wait() -> None:
    async def main() -> None:
        async with silent(max_pending_requests=2) as (broker, peer, record):
            first = ask(broker)
            second = broker.return_to_sender(ping(to=PEER))
            before = record.names
            with pytest.raises(QueueFull, match="max_pending_requests"):
                broker.return_to_sender(ping(to=PEER))
            assert record.names == before
            peer.say(id="r1")
            await first
            ask(broker).cancel()
            second.cancel()

    run(main)


def test_a_request_held_in_the_queue_is_answered_once_it_was_sent() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            record = Record(broker)
            request = broker.return_to_sender(ping(to="localhost"))
            assert record.names == ["RTS_START", "NODEQUEUED"]
            assert (broker.pending, broker.queue) == (1, 1)
            async with broker:
                assert not request.done()
                broker.purge_queue()
                await request
            ended(record)

    run(main)


# ---- from within handlers


def test_handlers_of_a_failed_request_may_ask_again_and_end_others() -> None:
    async def main() -> None:
        async with silent() as (broker, _, record):
            asked: list[asyncio.Future[Node]] = [ask(broker), broker.return_to_sender(ping(to=PEER, id="r2"))]

            def again(status: Status) -> None:
                if len(asked) < 4:
                    asked.append(broker.return_to_sender(ping(to=PEER, id=str(status.detail["id"]))))

            await turns()
            broker.subscribe(Event.RTS_FAIL, again)
            await broker.shutdown()
            assert len(asked) == 4
            assert [request.done() for request in asked[:2]] == [True, True]
            broker.halt()
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(result) for result in results} == {RequestError}
            assert len(record.of(Event.RTS_FAIL)) == 4

    run(main)


def test_halt_in_the_handler_of_a_failed_request_ends_each_other_once() -> None:
    async def main() -> None:
        async with silent() as (broker, _, record):
            requests = [broker.return_to_sender(ping(to=PEER)) for _ in range(3)]
            await turns()
            broker.subscribe(Event.RTS_FAIL, lambda status: broker.halt())
            await broker.reconnect()
            results = await asyncio.gather(*requests, return_exceptions=True)
            assert [result.reason for result in results if isinstance(result, RequestError)] == ["drop", "halt", "halt"]
            assert len(record.of(Event.RTS_FAIL)) == 3

    with pytest.raises(UsageError, match=r"halt"):
        run(main)


def test_a_request_in_the_handler_of_ready_is_the_first_thing_sent() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            done = never()

            @broker.on(Event.PCJ_READY)
            async def ready(status: Status) -> None:
                await broker.return_to_sender(ping(to="localhost"))
                done.set_result(None)

            async with broker:
                await done

    run(main)


def test_the_receipt_of_a_request_is_written_when_it_was_sent() -> None:
    async def main() -> None:
        async with silent() as (broker, _, record):
            entries: list[ReceiptState] = []
            broker.subscribe(Event.PCJ_NODESENT, lambda status: entries.append(ReceiptState.WRITTEN))
            request = ask(broker)
            node = record.one(Event.PCJ_RTS_START).node
            assert node is not None
            assert b'id="r1"' in to_bytes(node)
            await turns()
            assert entries == [ReceiptState.WRITTEN]
            request.cancel()

    run(main)


# ---- a reply that comes too late (C11)


def test_a_reply_behind_its_rts_fail_is_an_ordinary_node_marked_as_late_and_only_once() -> None:
    async def main() -> None:
        async with silent() as (broker, peer, record):
            with pytest.raises(RequestTimeout):
                await broker.return_to_sender(ping(to=PEER, id="q1"), timeout=0.01)
            peer.say(id="q1", **{"from": "stranger@localhost/x"})
            peer.say(id="q1")
            peer.say(id="q1")
            while len(record.of(Event.PCJ_NODERECEIVED)) < 3:
                await turns()
            late = [status.detail.get("late", False) for status in record.of(Event.PCJ_NODERECEIVED)]
            assert late == [False, True, False]

    run(main)


def test_an_error_to_a_message_that_was_asked_and_given_up_is_late_too() -> None:
    async def main() -> None:
        async with silent() as (broker, peer, record):
            future = broker.return_to_sender(message(to=PEER, id="m1", body="there?"))
            future.cancel()
            await turns()
            assert peer.wire is not None
            peer.wire.send(f"<message from='{PEER}' to='{DOMAIN}' type='error' id='m1'/>")
            await broker.wait_for(Event.PCJ_NODERECEIVED)
            assert record.one(Event.PCJ_NODERECEIVED).detail["late"] is True

    run(main)


def test_a_handler_of_the_start_cannot_take_the_room_of_the_request() -> None:
    async def main() -> None:
        broker = component(closed_port(), queue_max_nodes=1)
        record = Record(broker)
        broker.subscribe(Event.PCJ_RTS_START, lambda status: broker.output(message(to=PEER, body="more")))
        request = broker.return_to_sender(ping(to=PEER))
        assert broker.queue == 1
        assert record.names == ["RTS_START", "NODEQUEUED", "HANDLER_FAILED"]
        assert isinstance(record.one(Event.HANDLER_FAILED).error, QueueFull)
        await broker.shutdown()
        with pytest.raises(RequestError):
            await request
        ended(record)

    run(main)
