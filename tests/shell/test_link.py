"""The life of a link: attempts one after the other, and every way to end it, from every state and every handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import pcj.dialling
import pcj.link
from pcj import Broker, ConnectionFailed, Event, RequestError, Retry, State, Status, UsageError, message, ping
from pcj.testing import ScriptedServer, ServerOptions
from tests.shell.links import (
    DOMAIN,
    SECRET,
    Record,
    Wire,
    client,
    closed_port,
    component,
    never,
    run,
    scripted,
    server,
    state_of,
    turns,
)

END = ["STREAMEND", "SHUTDOWN_START", "SOCKETDISCONNECT", "SESSION_LOST", "SHUTDOWN_FINISH"]


async def good(wire: Wire) -> None:
    await wire.component()
    await wire.close()


async def silent(wire: Wire) -> None:
    await wire.rest()


async def refusing(wire: Wire) -> None:
    await wire.header()
    await wire.until("</handshake>")
    wire.send("<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
    await wire.close()


async def dropping(wire: Wire) -> None:
    await wire.component()
    wire.reset()


def ending(condition: str) -> Callable[[Wire], Coroutine[Any, Any, None]]:
    async def script(wire: Wire) -> None:
        await wire.component(
            f"<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
        )
        await wire.rest()

    return script


@pytest.fixture
def endless_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address ever answers."""

    async def dial(*arguments: Any, **more: Any) -> Any:
        await never()

    monkeypatch.setattr(pcj.dialling, "dial", dial)


async def ready_link(at: ScriptedServer, **options: Any) -> tuple[Broker, Record]:
    broker = component(at.port, **options)
    record = Record(broker)
    await broker.connect()
    return broker, record


# ---- connect


def test_connect_while_connected_is_refused_and_changes_nothing() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker, record = await ready_link(at)
            before = record.names
            with pytest.raises(UsageError, match="ready already"):
                await broker.connect()
            assert record.names == before
            assert state_of(broker) is State.READY
            await broker.shutdown()
            assert at.connections == 1

    run(main)


def test_connect_twice_at_a_time_makes_one_connection() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker = component(at.port)
            record = Record(broker)
            results = await asyncio.gather(broker.connect(), broker.connect(), return_exceptions=True)
            assert results[0] is None
            assert isinstance(results[1], UsageError)
            assert record.names.count("CONNECT") == record.names.count("READY") == 1
            await broker.shutdown()
            assert at.connections == 1

    run(main)


def test_connect_again_after_a_shutdown_begins_a_new_attempt_and_session() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker, record = await ready_link(at)
            await broker.shutdown()
            await broker.connect()
            await broker.shutdown()
            record.check()
            assert [status.detail["attempt"] for status in record.of(Event.PCJ_CONNECTING)] == [1, 2]
            assert [status.detail["session"] for status in record.of(Event.PCJ_READY)] == [1, 2]
            assert "session" not in record.of(Event.PCJ_CONNECTED)[1].detail
            assert record.names.count("SHUTDOWN_FINISH") == 2

    run(main)


@pytest.mark.parametrize("script", [silent, None])
def test_connect_cancelled_by_a_deadline_leaves_nothing_running(script: Any, request: pytest.FixtureRequest) -> None:
    if script is None:
        request.getfixturevalue("endless_dial")

    async def main() -> None:
        async with scripted(script or silent) as at:
            broker = component(at.port)
            record = Record(broker)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await broker.connect()
            assert state_of(broker) is State.IDLE
            assert broker._link.connection is None
            record.check()
            assert record.names[-1] == "SHUTDOWN_FINISH"
            assert {task for task in asyncio.all_tasks() if "pcj link" in task.get_name()} == set()

    run(main)


def test_connect_cancelled_in_the_moment_of_ready_leaves_nothing_running() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker = component(at.port)
            record = Record(broker)
            connecting = asyncio.ensure_future(broker.connect())
            broker.subscribe(Event.PCJ_READY, lambda status: connecting.cancel() and None)
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert state_of(broker) is State.IDLE
            record.check()

    run(main)


def test_connect_gives_the_reason_of_the_failure() -> None:
    async def main() -> None:
        async with scripted(refusing) as at:
            broker = component(at.port)
            with pytest.raises(ConnectionFailed) as caught:
                await broker.connect()
            failure = caught.value.failure
            assert (failure.phase, failure.condition) == ("authenticate", "not-authorized")
            assert failure.address == f"127.0.0.1:{at.port}"
            assert failure.message in broker.explain() or "rejected the secret" in broker.explain()

    run(main)


def test_connect_takes_another_address_than_the_configured_one() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker = component(closed_port())
            record = Record(broker)
            await broker.connect("127.0.0.1", at.port)
            assert record.one(Event.PCJ_CONNECT).detail["port"] == at.port
            await broker.shutdown()

    run(main)


# ---- reconnect


def test_reconnect_ends_the_old_attempt_fully_before_the_new_one_begins() -> None:
    async def main() -> None:
        async with scripted(good) as at, scripted(good) as elsewhere:
            broker, record = await ready_link(at)
            await broker.reconnect("127.0.0.1", elsewhere.port)
            names = record.names
            first = names.index("READY")
            assert names[first + 1 : first + 8] == [
                "CONNECT",
                "STREAMEND",
                "SOCKETDISCONNECT",
                "SESSION_LOST",
                "CONNECTING",
                "ATTEMPT",
                "CONNECTED",
            ]
            assert elsewhere.connections == 1
            assert str(elsewhere.port) in broker.explain()
            await broker.shutdown()
            record.check()
            assert record.names.count("SHUTDOWN_START") == 1

    run(main)


def test_reconnect_without_a_link_is_a_connect() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker = component(at.port)
            await broker.reconnect()
            assert state_of(broker) is State.READY
            await broker.shutdown()

    run(main)


def test_of_two_reconnects_at_a_time_the_later_one_counts() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker, record = await ready_link(at)
            results = await asyncio.gather(broker.reconnect(), broker.reconnect(), return_exceptions=True)
            assert isinstance(results[0], UsageError)
            assert results[1] is None
            assert state_of(broker) is State.READY
            await broker.shutdown()
            record.check()
            assert record.names.count("READY") == 2
            assert at.connections == 2

    run(main)


def test_a_shutdown_during_a_reconnect_ends_the_link_for_good() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker, record = await ready_link(at)
            reconnecting = asyncio.ensure_future(broker.reconnect())
            await turns(1)
            assert state_of(broker) is State.CLOSING
            await broker.shutdown()
            with pytest.raises(UsageError):
                await reconnecting
            await turns()
            assert state_of(broker) is State.IDLE
            record.check()
            assert record.since("READY") == ["CONNECT", *END]

    run(main)


def test_a_reconnect_during_a_shutdown_comes_behind_it() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker, record = await ready_link(at)
            ending_ = asyncio.ensure_future(broker.shutdown())
            await turns(1)
            await broker.reconnect()
            await ending_
            assert state_of(broker) is State.READY
            await broker.shutdown()
            record.check()
            assert record.names.count("SHUTDOWN_FINISH") == 2

    run(main)


def test_a_reconnect_ends_a_connect_that_is_under_way() -> None:
    async def main() -> None:
        async with scripted(silent, good) as at:
            broker = component(at.port)
            record = Record(broker)
            connecting = asyncio.ensure_future(broker.connect())
            await broker.wait_for(Event.PCJ_STREAMSTART)
            await broker.reconnect()
            with pytest.raises(UsageError):
                await connecting
            await broker.shutdown()
            record.check()
            assert record.names.count("SHUTDOWN_START") == 1

    run(main)


# ---- shutdown


def test_shutdown_twice_says_so_once() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker, record = await ready_link(at)
            await asyncio.gather(broker.shutdown(), broker.shutdown())
            await broker.shutdown()
            assert record.since("READY") == END
            record.check()

    run(main)


def test_shutdown_before_any_connect_only_says_so() -> None:
    async def main() -> None:
        broker = component(closed_port())
        record = Record(broker)
        await broker.shutdown()
        await broker.shutdown()
        assert record.names == ["SHUTDOWN_START", "SHUTDOWN_FINISH"]

    run(main)


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_shutdown_while_dialling_ends_the_attempt(endless_dial: None, rounds: int) -> None:
    async def main() -> None:
        broker = component(1)
        record = Record(broker)
        connecting = asyncio.ensure_future(broker.connect())
        await turns(1 + rounds)
        await broker.shutdown()
        with pytest.raises(UsageError, match="shut down"):
            await connecting
        record.check()
        names = record.names
        assert names[0] == "CONNECT"
        assert names[-1] == "SHUTDOWN_FINISH"
        assert names.count("CONNECTING") == names.count("CONNECTFAIL")
        if rounds == 2:
            assert names == ["CONNECT", "CONNECTING", "SHUTDOWN_START", "CONNECTFAIL", "SHUTDOWN_FINISH"]

    run(main)


@pytest.mark.parametrize("rounds", range(14))
def test_shutdown_at_any_turn_of_the_loop_ends_the_attempt_in_good_order(rounds: int) -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            record = Record(broker)
            connecting = asyncio.ensure_future(broker.connect())
            await turns(rounds)
            async with asyncio.timeout(1):
                await broker.shutdown()
            await asyncio.gather(connecting, return_exceptions=True)
            if state_of(broker) is not State.IDLE:  # connect had not begun yet
                await broker.shutdown()
            record.check()
            assert state_of(broker) is State.IDLE
            assert record.names[-1] in ("SHUTDOWN_FINISH", "CONNECTFAIL")

    run(main)


@pytest.mark.parametrize("rounds", range(14))
def test_halt_at_any_turn_of_the_loop_leaves_nothing_behind(rounds: int) -> None:
    async def main() -> None:
        async with scripted(silent) as at:
            broker = component(at.port)
            record = Record(broker)
            connecting = asyncio.ensure_future(broker.connect())
            await turns(rounds)
            broker.halt()
            count = len(record.names)
            (result,) = await asyncio.gather(connecting, return_exceptions=True)
            assert isinstance(result, UsageError)
            await turns(5)
            assert state_of(broker) is State.HALTED
            assert len(record.names) == count
            record.check()
            names = record.names
            assert names.count("CONNECTING") == names.count("CONNECTFAIL") + names.count("SOCKETDISCONNECT")

    run(main)


def test_shutdown_in_negotiation_closes_the_stream() -> None:
    async def main() -> None:
        async with scripted(silent) as at:
            broker = component(at.port)
            record = Record(broker)
            connecting = asyncio.ensure_future(broker.connect())
            await broker.wait_for(Event.PCJ_STREAMSTART)
            await turns()
            await broker.shutdown()
            with pytest.raises(UsageError):
                await connecting
            assert record.since("NODESENT") == ["STREAMEND", "SHUTDOWN_START", "SOCKETDISCONNECT", "SHUTDOWN_FINISH"]
            record.check()

    run(main)


def test_shutdown_in_back_off_ends_the_waiting() -> None:
    async def main() -> None:
        broker = component(closed_port(), auto_reconnect=True, reconnect_delay=100.0)
        record = Record(broker)
        connecting = asyncio.ensure_future(broker.connect())
        await broker.wait_for(Event.RECONNECT_DELAY)
        await broker.shutdown()
        with pytest.raises(UsageError):
            await connecting
        assert record.since("CONNECTFAIL") == ["RECONNECT_DELAY", "SHUTDOWN_START", "SHUTDOWN_FINISH"]
        record.check()

    run(main)


def test_a_shutdown_that_is_cancelled_goes_on_by_itself() -> None:
    async def main() -> None:
        held = asyncio.Event()

        async def slow(wire: Wire) -> None:
            await wire.component()
            await wire.until("</stream:stream>")
            await held.wait()

        async with scripted(slow) as at:
            broker, record = await ready_link(at)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await broker.shutdown()
            assert state_of(broker) is State.CLOSING
            finish = asyncio.ensure_future(broker.wait_for(Event.PCJ_SHUTDOWN_FINISH))
            await turns()
            held.set()
            await finish
            assert record.since("READY") == END

    run(main)


def test_a_with_block_left_by_an_exception_shuts_down() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker = component(at.port)
            record = Record(broker)
            with pytest.raises(ValueError, match="mine"):
                async with broker:
                    raise ValueError("mine")
            assert record.since("READY") == END
            record.check()

    run(main)


def test_a_with_block_whose_connection_fails_is_not_entered() -> None:
    async def main() -> None:
        broker = component(closed_port())
        with pytest.raises(ConnectionFailed):
            async with broker:
                pytest.fail("entered")
        assert state_of(broker) is State.IDLE

    run(main)


# ---- halt


def test_halt_before_connect_is_for_good() -> None:
    async def main() -> None:
        broker = component(1)
        record = Record(broker)
        broker.halt()
        broker.halt()
        await broker.shutdown()
        for call in (broker.connect, broker.reconnect):
            with pytest.raises(UsageError, match="halted"):
                await call()
        assert record.names == []
        assert state_of(broker) is State.HALTED

    run(main)


def test_halt_at_ready_cuts_the_connection_now() -> None:
    async def main() -> None:
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await wire.component()
            came.append(await wire.rest())

        async with scripted(script) as at:
            broker, record = await ready_link(at)
            broker.output(message(to="a@localhost"))
            broker.halt()
            assert record.since("READY") == ["SOCKETDISCONNECT", "SESSION_LOST", "NODE_DROPPED"]
            assert (broker.jid, broker.sid) == (DOMAIN, "")
            await turns()
            record.check()
        assert came == [""]

    run(main)


def test_halt_in_back_off_ends_the_waiting() -> None:
    async def main() -> None:
        broker = component(closed_port(), auto_reconnect=True, reconnect_delay=100.0)
        record = Record(broker)
        connecting = asyncio.ensure_future(broker.connect())
        await broker.wait_for(Event.RECONNECT_DELAY)
        broker.halt()
        with pytest.raises(UsageError):
            await connecting
        assert record.since("CONNECTFAIL") == ["RECONNECT_DELAY"]
        assert state_of(broker) is State.HALTED

    run(main)


def test_halt_while_closing_ends_the_shutdown() -> None:
    async def main() -> None:
        async def never_closing(wire: Wire) -> None:
            await wire.component()
            await wire.rest()

        async with scripted(never_closing) as at:
            broker, record = await ready_link(at)
            shutting = asyncio.ensure_future(broker.shutdown())
            await turns()
            broker.halt()
            async with asyncio.timeout(1):
                await shutting
            assert record.since("READY") == [
                *("STREAMEND", "SHUTDOWN_START", "SOCKETDISCONNECT", "SESSION_LOST", "SHUTDOWN_FINISH")
            ]

    run(main)


# ---- from within handlers

LIFE = [
    "CONNECT",
    "CONNECTING",
    "ATTEMPT",
    "CONNECTED",
    "STREAMSTART",
    "NODESENT",
    "AUTHNEGOTIATE",
    "AUTHSUCCESS",
    "BINDNEGOTIATE",
    "RTS_START",
    "BINDSUCCESS",
    "READY",
    "NODERECEIVED",
    "RTS_FINISH",
    "mine",
    "STREAMEND",
    "SHUTDOWN_START",
    "SOCKETDISCONNECT",
    "SESSION_LOST",
    "SHUTDOWN_FINISH",
]


async def live(broker: Broker) -> None:
    """A life with every event of LIFE, wherever it ends."""
    try:
        await broker.connect()
        broker.output(message(to="romeo@localhost/orchard", body="x"))
        await broker.return_to_sender(ping(to="localhost"), timeout=0.5)
        await broker.wait_for(Event.PCJ_NODERECEIVED, timeout=0.05)
    except (UsageError, ConnectionFailed, TimeoutError):
        pass
    except Exception as error:
        assert "no reply" in str(error)  # noqa: PT017 - one of several ends
    await broker.shutdown()


def event_named(name: str) -> str:
    return f"PCJ_{name}" if f"PCJ_{name}" in Event.__members__ else name


@pytest.mark.parametrize("name", LIFE)
def test_halt_in_the_handler_of_any_event_is_the_end_of_all_events(name: str) -> None:
    async def main() -> None:
        async with server(options=ServerOptions(starttls="none", direct_tls_port=None, session="required")) as at:
            broker = client(at.client_port)
            broker.add_filter("mine", "/message")
            heard: list[str] = []

            def halting(status: Status) -> None:
                broker.halt()
                heard.append(broker.state)

            broker.subscribe(event_named(name), halting)
            record = Record(broker)
            await live(broker)
            assert set(heard) == {State.HALTED}
            count = len(record.names)
            await turns(5)
            assert len(record.names) == count
            names = record.names
            assert state_of(broker) is State.HALTED
            assert names.count("CONNECTING") == names.count("CONNECTFAIL") + names.count("SOCKETDISCONNECT"), names
            if "SHUTDOWN_START" not in names:
                record.check()
            assert (broker.queue, broker.pending) == (0, 0)

    run(main)


@pytest.mark.parametrize("name", LIFE)
def test_shutdown_in_the_handler_of_any_event_ends_in_good_order(name: str) -> None:
    async def main() -> None:
        async with server(options=ServerOptions(starttls="none", direct_tls_port=None, session="required")) as at:
            broker = client(at.client_port)
            broker.add_filter("mine", "/message")
            called: list[str] = []

            async def closing(status: Status) -> None:
                called.append(status.event)
                await broker.shutdown()

            broker.subscribe(event_named(name), closing)
            record = Record(broker)
            await live(broker)
            await turns()
            assert called
            record.check()
            assert state_of(broker) is State.IDLE
            assert broker.pending == 0
            assert record.names[-1] == "SHUTDOWN_FINISH"

    run(main)


@pytest.mark.parametrize("name", LIFE[1:])
def test_reconnect_in_the_handler_of_any_event_brings_a_new_link(name: str) -> None:
    async def main() -> None:
        async with server(options=ServerOptions(starttls="none", direct_tls_port=None, session="required")) as at:
            broker = client(at.client_port)
            broker.add_filter("mine", "/message")
            done = asyncio.get_running_loop().create_future()

            async def again(status: Status) -> None:
                subscription.cancel()
                try:
                    await broker.reconnect()
                except UsageError:  # the life goes on beside it, and shuts down
                    done.set_result(False)
                else:
                    done.set_result(True)

            subscription = broker.subscribe(event_named(name), again)
            record = Record(broker)
            await live(broker)
            await done
            await broker.shutdown()
            record.check()
            assert state_of(broker) is State.IDLE

    run(main)


@pytest.mark.parametrize("name", LIFE)
def test_any_handler_may_output_subscribe_cancel_filter_and_purge(name: str) -> None:
    async def main() -> None:
        async with server(options=ServerOptions(starttls="none", direct_tls_port=None, session="required")) as at:
            broker = client(at.client_port)
            broker.add_filter("mine", "/message")
            calls: list[str] = []

            def busy(status: Status) -> None:
                if len(calls) > 20:
                    return
                calls.append(status.event)
                broker.output(message(to="juliet@localhost", body="x"))
                broker.return_to_sender(ping(to="localhost"), timeout=5.0, event="pong")
                broker.purge_queue()
                broker.add_filter(f"f{len(calls)}", "/message")
                broker.remove_filter("f1")
                broker.subscribe("*", lambda status: None).cancel()
                broker.explain()

            broker.subscribe(event_named(name), busy)
            failures: list[Status] = []
            broker.subscribe(Event.HANDLER_FAILED, failures.append)
            record = Record(broker)
            await live(broker)
            await turns()
            assert failures == []
            record.check()
            broker.halt()
            assert (broker.queue, broker.pending) == (0, 0)
            asked = [status for status in record.of(Event.PCJ_RTS_START) if not status.detail.get("internal")]
            assert len(asked) == len(record.of(Event.PCJ_RTS_FINISH)) + len(record.of(Event.RTS_FAIL))

    run(main)


def test_whoever_hears_of_the_end_finds_the_link_not_ready() -> None:
    async def main() -> None:
        async with scripted(good, dropping, ending("system-shutdown")) as at:
            broker = component(at.port)
            found: list[tuple[str, State]] = []
            for event in (Event.PCJ_STREAMEND, Event.PCJ_SOCKETFAIL, Event.PCJ_SOCKETDISCONNECT, Event.SESSION_LOST):
                broker.subscribe(event, lambda status: found.append((status.event, broker.state)))
            await broker.connect()
            await broker.shutdown()
            for _ in range(2):
                gone = broker.events(Event.SESSION_LOST)
                await broker.connect()
                await anext(gone)
                with pytest.raises((TimeoutError, ConnectionFailed)):
                    await broker.wait_for(Event.PCJ_READY, timeout=0.01)
            assert len(found) == 9
            assert {state for _, state in found} == {State.CLOSING}

    run(main)


# ---- auto_reconnect


def test_a_link_that_drops_is_made_again_after_a_delay() -> None:
    async def main() -> None:
        async with scripted(dropping, refusing_for_now, good) as at:
            broker = component(at.port, auto_reconnect=True, reconnect_delay=0.01)
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            await anext(ready)
            status = await anext(ready)
            assert (status.detail["attempt"], status.detail["session"]) == (3, 2)
            delays = record.of(Event.RECONNECT_DELAY)
            assert [delay.detail["retry"] for delay in delays] == ["fast", "fast"]
            assert all(0 <= float(str(delay.detail["delay"])) <= 0.02 for delay in delays)
            assert "broke" in str(delays[0].detail["reason"])
            names = record.names
            at_drop = names.index("SOCKETFAIL")
            assert names[at_drop : at_drop + 5] == [
                "SOCKETFAIL",
                "SOCKETDISCONNECT",
                "SESSION_LOST",
                "RECONNECT_DELAY",
                "CONNECTING",
            ]
            assert names.count("CONNECT") == 1
            assert "SHUTDOWN_START" not in names
            await broker.shutdown()
            record.check()

    run(main)


async def refusing_for_now(wire: Wire) -> None:
    await wire.header()
    await wire.until("</handshake>")
    wire.send("<stream:error><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
    await wire.close()


def test_connect_returns_at_the_ready_of_a_later_attempt() -> None:
    async def main() -> None:
        async with scripted(refusing_for_now, good) as at:
            broker = component(at.port, auto_reconnect=True, reconnect_delay=0.01)
            record = Record(broker)
            await broker.connect()
            names = record.names
            failed = names.index("AUTHFAIL")
            assert names[failed : failed + 5] == [
                "AUTHFAIL",
                "STREAMEND",
                "SOCKETDISCONNECT",
                "RECONNECT_DELAY",
                "CONNECTING",
            ]
            await broker.shutdown()
            record.check()

    run(main)


def test_a_refused_connection_is_tried_again() -> None:
    async def main() -> None:
        broker = component(closed_port(), auto_reconnect=True, reconnect_delay=0.001)
        record = Record(broker)
        failures = broker.events(Event.PCJ_CONNECTFAIL)
        connecting = asyncio.ensure_future(broker.connect())
        for _ in range(3):
            await anext(failures)
        await broker.shutdown()
        with pytest.raises(UsageError):
            await connecting
        record.check()
        assert record.names.count("CONNECT") == 1

    run(main)


def test_a_fatal_failure_stops_the_attempts() -> None:
    async def main() -> None:
        async with scripted(refusing) as at:
            broker = component(at.port, auto_reconnect=True, reconnect_delay=0.01)
            record = Record(broker)
            with pytest.raises(ConnectionFailed) as caught:
                await broker.connect()
            assert caught.value.failure.retry is Retry.FATAL
            assert record.since("AUTHFAIL") == ["STREAMEND", "SHUTDOWN_START", "SOCKETDISCONNECT", "SHUTDOWN_FINISH"]
            assert record.one(Event.PCJ_SHUTDOWN_START).detail["by"] == "failure"
            assert at.connections == 1
            record.check()

    run(main)


def test_a_fatal_stream_error_at_ready_shuts_down_by_failure() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.login()
            await wire.bind()
            wire.send("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
            await wire.close()

        async with scripted(script) as at:
            broker = client(at.port, auto_reconnect=True, reconnect_delay=0.01)
            record = Record(broker)
            await broker.connect()
            with pytest.raises(ConnectionFailed, match="conflict"):
                await broker.wait_for("never")
            assert record.since("READY") == ["STREAM_ERROR", "NODERECEIVED", *END]
            assert record.one(Event.PCJ_SHUTDOWN_START).detail["by"] == "failure"
            await broker.shutdown()  # it was one already
            assert record.names.count("SHUTDOWN_START") == 1
            record.check()
            assert at.connections == 1

    run(main)


def test_a_passing_stream_error_at_ready_is_followed_by_the_next_attempt() -> None:
    async def main() -> None:
        async with scripted(ending("system-shutdown"), good) as at:
            broker = component(at.port, auto_reconnect=True, reconnect_delay=0.01)
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            await anext(ready)
            await anext(ready)
            names = record.names
            first = names.index("READY")
            assert names[first + 1 : first + 8] == [
                "STREAM_ERROR",
                "NODERECEIVED",
                "STREAMEND",
                "SOCKETDISCONNECT",
                "SESSION_LOST",
                "RECONNECT_DELAY",
                "CONNECTING",
            ]
            await broker.shutdown()
            record.check()

    run(main)


def test_without_auto_reconnect_a_link_that_dropped_stays_down() -> None:
    async def main() -> None:
        async with scripted(dropping) as at:
            broker, record = await ready_link(at)
            with pytest.raises(ConnectionFailed):
                await broker.wait_for("never")
            await turns()
            assert state_of(broker) is State.IDLE
            assert "broke" in broker.explain()
            assert f"127.0.0.1:{at.port}" in str(broker._link.failure and broker._link.failure.address)
            assert record.since("READY") == ["SOCKETFAIL", "SOCKETDISCONNECT", "SESSION_LOST"]
            await broker.shutdown()
            assert record.names[-2:] == ["SHUTDOWN_START", "SHUTDOWN_FINISH"]

    run(main)


def test_connect_in_the_handler_of_a_drop_brings_the_link_back() -> None:
    async def main() -> None:
        async with scripted(dropping, good) as at:
            broker = component(at.port)
            record = Record(broker)
            back = never()

            @broker.on(Event.PCJ_SOCKETDISCONNECT)
            async def dropped(status: Status) -> None:
                if status.detail["attempt"] == 1:
                    await broker.connect()
                    back.set_result(None)

            await broker.connect()
            await back
            assert state_of(broker) is State.READY
            await broker.shutdown()
            record.check()

    run(main)


# ---- faults of our own


def test_a_fault_in_the_link_itself_is_told_of_and_ends_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def dial(*arguments: Any, **more: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(pcj.dialling, "dial", dial)

    async def main() -> None:
        broker = component(1, auto_reconnect=True)
        record = Record(broker)
        with pytest.raises(ConnectionFailed, match="fault"):
            await broker.connect()
        record.check()
        assert record.names == ["CONNECT", "CONNECTING", "CONNECTFAIL"]
        assert state_of(broker) is State.IDLE

    run(main)
    assert "ZeroDivisionError" in caplog.text


# ---- the latest call counts


@pytest.mark.parametrize("call", ["connect", "reconnect"])
def test_a_shutdown_behind_a_connect_in_the_very_moment_of_the_end_counts(call: str) -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            record = Record(broker)
            await broker.connect()
            tasks: list[asyncio.Task[None]] = []

            def gone(status: Status) -> None:
                if not tasks:
                    tasks.append(asyncio.create_task(getattr(broker, call)()))
                    tasks.append(asyncio.create_task(broker.shutdown()))

            broker.subscribe(Event.PCJ_SOCKETDISCONNECT, gone)
            await at.drop(DOMAIN)
            while len(tasks) < 2:
                await turns()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(outcomes[0], UsageError)
            assert outcomes[1] is None
            assert broker.state is State.IDLE
            assert record.names.count("READY") == 1

    run(main)


def test_what_worked_elsewhere_says_nothing_of_where_connect_is_told_to_go_now() -> None:
    async def banner(wire: Wire) -> None:
        wire.send("SSH-2.0-OpenSSH_9.2\r\n")
        await wire.rest()

    async def main() -> None:
        async with server() as at, scripted(banner) as other:
            broker = component(at.component_port, auto_reconnect=True)
            await broker.connect()
            with pytest.raises(ConnectionFailed) as caught:
                await broker.reconnect("127.0.0.1", other.port)
            assert caught.value.failure.retry is Retry.FATAL

    run(main)


def test_every_status_bears_its_attempt_and_what_a_session_leaves_behind_bears_its_session() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker = component(at.port)
            record = Record(broker)
            broker.output(message(to="romeo@localhost", body="held"))
            await broker.connect()
            asked = broker.return_to_sender(ping(to="nobody.example"))
            await broker.shutdown()
            with pytest.raises(RequestError):
                await asked
            await broker.connect()
            await broker.shutdown()
            seen = [
                (status.event.removeprefix("PCJ_"), status.detail["attempt"], status.detail.get("session"))
                for status in record.statuses
            ]
            assert seen[:3] == [("NODEQUEUED", 0, None), ("CONNECT", 0, None), ("CONNECTING", 1, None)]
            for event in ("READY", "STREAMEND", "SOCKETDISCONNECT", "SESSION_LOST", "RTS_FAIL", "SHUTDOWN_FINISH"):
                assert (event, 1, 1) in seen, event
            assert ("CONNECTING", 2, None) in seen
            assert ("READY", 2, 2) in seen

    run(main)


def test_what_a_server_says_at_the_end_of_a_session_shows_no_secret_and_steers_no_terminal() -> None:
    async def main() -> None:
        async def says(wire: Wire) -> None:
            await wire.component()
            streams = "urn:ietf:params:xml:ns:xmpp-streams"
            wire.send(
                f"<stream:error><conflict xmlns='{streams}'/><text xmlns='{streams}'>"
                f"the secret &#{ord(SECRET[0])};{SECRET[1:]} \u009b31m</text></stream:error></stream:stream>"
            )
            await wire.rest()

        async with scripted(says) as at:
            broker = component(at.port)
            record = Record(broker)
            await broker.connect()
            while state_of(broker) is not State.IDLE:
                await turns()
            shown = f"{broker.explain()} {record.one(Event.STREAM_ERROR)!r} {record.one(Event.STREAM_ERROR).to_json()}"
            shown += f"{record.one(Event.PCJ_NODERECEIVED)!r} {record.one(Event.STREAM_ERROR).error}"
            assert SECRET not in shown
            assert "[redacted]" in shown
            assert shown.isprintable()
            assert "\u009b" not in str(record.one(Event.STREAM_ERROR).detail["text"])

    run(main)


def test_a_reconnect_whose_time_is_over_while_the_old_link_is_being_ended_is_a_shutdown() -> None:
    async def main() -> None:
        async def never_closing(wire: Wire) -> None:
            await wire.component()
            await wire.rest()

        async with scripted(never_closing) as at:
            broker, record = await ready_link(at, close_timeout=0.05)
            waiting = asyncio.ensure_future(broker.wait_for("never"))
            await turns()
            again = asyncio.ensure_future(broker.reconnect())
            await turns()
            again.cancel()
            with pytest.raises(asyncio.CancelledError):
                await again
            with pytest.raises(UsageError, match="shut down"):
                await waiting
            assert state_of(broker) is State.IDLE
            assert record.since("READY") == [
                *("CONNECT", "STREAMEND", "SHUTDOWN_START", "SOCKETDISCONNECT", "SESSION_LOST", "SHUTDOWN_FINISH")
            ]

    run(main)


def test_a_shutdown_behind_the_connect_of_a_broker_that_was_shut_down_before_counts() -> None:
    async def main() -> None:
        async with scripted(good) as at:
            broker, record = await ready_link(at)
            await broker.shutdown()
            seen = len(record.statuses)

            def begins_at_once(status: Status) -> None:
                # As asyncio.eager_task_factory does: up to its first wait within the handler.
                with pytest.raises(StopIteration):
                    broker.shutdown().send(None)

            subscription = broker.subscribe(Event.PCJ_CONNECT, begins_at_once)
            with pytest.raises(UsageError, match="came meanwhile"):
                await broker.connect()
            subscription.cancel()
            assert record.names[seen:] == ["CONNECT", "SHUTDOWN_START", "SHUTDOWN_FINISH"]

    run(main)
