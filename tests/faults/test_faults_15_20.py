"""Faults 15 to 20 of POE::Component::Jabber 3.00, one test for each: it fails on what the original did."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable

import pytest

from pcj import (
    JABBERD14_COMPONENT,
    XMPP,
    Broker,
    Event,
    Node,
    ReceiptState,
    RequestError,
    State,
    Status,
    UsageError,
    message,
    ping,
)
from tests.faults.links import KINDS, Kind, bodies, kind_of
from tests.shell.links import DOMAIN, Record, Wire, run, scripted, server, state_of, turns

# ---- 15


def _sockets_at(address: str) -> int:
    """How many descriptors of this process are sockets of this local address, "host:port"."""
    found = 0
    for name in os.listdir("/dev/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as each:
                    local = each.getsockname()
                    found += isinstance(local, tuple) and f"{local[0]}:{local[1]}" == address
        except OSError:
            pass  # the listing's own, or no socket of the internet
    return found


@pytest.mark.parametrize("ready", [True, False], ids=["READY", "negotiating"])
@pytest.mark.parametrize("how", ["FIN", "RST", "close"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_fault_15_a_drop_by_the_server_fires_socketdisconnect_and_leaves_no_descriptor(
    kind: Kind, how: str, ready: bool
) -> None:
    """Fault 15: "A server-side drop fires no SOCKETDISCONNECT, though the manual says it always does; the file
    descriptor stays in CLOSE-WAIT"."""

    async def main() -> None:
        left = asyncio.Event()

        async def script(wire: Wire) -> None:
            await (kind.ready(wire) if ready else kind.request(wire))
            if how == "RST":
                wire.reset()
                left.set()
                return
            if how == "close":
                wire.send("</stream:stream>")
            wire.writer.write_eof()  # our half alone: the connection is gone when the broker closes its own
            await wire.rest()
            left.set()

        async with scripted(script) as at:
            broker = kind.broker(at.port)
            record = Record(broker)
            open_then: list[int] = []
            broker.subscribe(
                Event.PCJ_CONNECTED, lambda status: open_then.append(_sockets_at(str(status.detail["local"])))
            )
            gone = broker.events(Event.PCJ_SOCKETDISCONNECT)
            connecting = asyncio.ensure_future(broker.connect())
            await anext(gone)
            await asyncio.gather(connecting, return_exceptions=True)
            await left.wait()
            await turns()
            assert open_then == [1]
            assert _sockets_at(str(record.one(Event.PCJ_CONNECTED).detail["local"])) == 0
            assert record.names.count("SOCKETDISCONNECT") == 1
            if ready:
                end = {"close": "STREAMEND"}.get(how, "SOCKETFAIL")
                assert record.since("READY") == [end, "SOCKETDISCONNECT", "SESSION_LOST"]
            assert state_of(broker) is State.IDLE
            record.check()

    run(main)


# ---- 16


async def _reconnect(broker: Broker, cut: asyncio.Event) -> None:
    await broker.reconnect()


async def _shutdown(broker: Broker, cut: asyncio.Event) -> None:
    await broker.shutdown()


async def _halt(broker: Broker, cut: asyncio.Event) -> None:
    broker.halt()


async def _drop(broker: Broker, cut: asyncio.Event) -> None:
    lost = broker.events(Event.SESSION_LOST)
    cut.set()
    await anext(lost)
    await broker.connect()


@pytest.mark.parametrize(
    ("end", "reason"),
    [(_reconnect, "drop"), (_drop, "drop"), (_shutdown, "shutdown"), (_halt, "halt")],
    ids=["reconnect", "drop", "shutdown", "halt"],
)
def test_fault_16_every_asker_is_told_when_its_request_ends_with_the_link(
    end: Callable[[Broker, asyncio.Event], Awaitable[None]], reason: str
) -> None:
    """Fault 16: "Pending requests are emptied by a reconnect without telling the askers"."""

    async def main() -> None:
        kind, cut = kind_of(JABBERD14_COMPONENT), asyncio.Event()
        late = f"<iq type='result' id='r1' from='localhost' to='{DOMAIN}'/>"

        async def first(wire: Wire) -> None:
            await kind.ready(wire)
            await wire.until("r3")
            if end is _drop:
                await cut.wait()
                wire.reset()
            else:
                await wire.close()

        async def second(wire: Wire) -> None:
            await kind.ready(wire, behind=late)
            await wire.close()

        async with scripted(first, second) as at:
            broker = kind.broker(at.port)
            record = Record(broker)
            await broker.connect()
            told: list[str] = []
            askers = []
            for name, event in (("r1", "ANSWER"), ("r2", "ANSWER"), ("r3", None)):
                asker = broker.return_to_sender(ping(to="localhost", id=name), event=event)
                asker.add_done_callback(lambda done: told.append(str(done.exception())))
                askers.append(asker)
            await turns()  # they are sent
            await end(broker, cut)
            await turns()
            for asker in askers:
                with pytest.raises(RequestError) as caught:
                    await asker
                assert caught.value.reason == reason
                assert told.pop(0) == str(caught.value)
            assert [status.detail["id"] for status in record.of(Event.RTS_FAIL)] == ["r1", "r2", "r3"]
            assert broker.pending == 0
            assert "RTS_FINISH" not in record.names
            assert "ANSWER" not in record.names
            if reason == "drop":  # the answer that comes in the next session is nobody's any more
                node = record.one(Event.PCJ_NODERECEIVED).node
                assert node is not None
                assert node.get("id") == "r1"
            await broker.shutdown()
            record.check()

    run(main)


# ---- 17


async def _connect_while_ready() -> None:
    async with server() as at:
        broker = kind_of(XMPP).broker(at.client_port)
        record = Record(broker)
        await broker.connect()
        fired = len(record.statuses)
        with pytest.raises(UsageError, match="reconnect"):
            await broker.connect()
        assert len(record.statuses) == fired  # nothing was dropped, and nothing said
        assert state_of(broker) is State.READY
        await broker.return_to_sender(ping(to="localhost"))
        assert [session.jid for session in at.sessions] == [broker.jid]
        assert record.names.count("CONNECTED") == 1
        await broker.shutdown()
        record.check()


async def _connect_while_negotiating() -> None:
    go = asyncio.Event()
    kind = kind_of(JABBERD14_COMPONENT)

    async def script(wire: Wire) -> None:
        answer = await kind.request(wire)
        await go.wait()
        wire.send(answer)
        await wire.close()

    async with scripted(script) as at:
        broker = kind.broker(at.port)
        record = Record(broker)
        begun = broker.events(Event.PCJ_AUTHNEGOTIATE)
        first = asyncio.ensure_future(broker.connect())
        await anext(begun)
        with pytest.raises(UsageError, match="reconnect"):
            await broker.connect()
        go.set()
        await first
        assert at.connections == 1
        assert record.names.count("CONNECT") == 1
        await broker.shutdown()
        record.check()


async def _reconnect_tells_of_the_old_links_end() -> None:
    async with server() as at:
        broker = kind_of(XMPP).broker(at.client_port)
        record = Record(broker)
        await broker.connect()
        await broker.reconnect()
        first = record.names.index("READY") + 1
        expected = ["CONNECT", "STREAMEND", "SOCKETDISCONNECT", "SESSION_LOST", "CONNECTING"]
        assert record.names[first : first + len(expected)] == expected
        await broker.shutdown()
        record.check()


async def _halt_while_ready() -> None:
    kind = kind_of(JABBERD14_COMPONENT)
    left = asyncio.Event()

    async def script(wire: Wire) -> None:
        await kind.ready(wire)
        await wire.rest()
        left.set()

    async with scripted(script) as at:
        broker = kind.broker(at.port)
        record = Record(broker)
        held = broker.output(message(to="juliet@localhost", body="held"))
        await broker.connect()
        asker = broker.return_to_sender(ping(to="localhost"))
        await turns()
        fired = len(record.names)
        broker.halt()
        assert record.names[fired:] == ["SOCKETDISCONNECT", "SESSION_LOST", "NODE_DROPPED", "RTS_FAIL"]
        assert held.state is ReceiptState.DROPPED
        assert isinstance(asker.exception(), RequestError)
        await left.wait()
        record.check()


async def _halt_while_connecting() -> None:
    async with server() as at:
        broker = kind_of(XMPP).broker(at.client_port)
        record = Record(broker)
        broker.subscribe(Event.PCJ_CONNECTING, lambda status: broker.halt())
        with pytest.raises(UsageError, match="halted"):
            await broker.connect()
        assert record.names == ["CONNECT", "CONNECTING", "CONNECTFAIL"]


@pytest.mark.parametrize(
    "side",
    [
        _connect_while_ready,
        _connect_while_negotiating,
        _reconnect_tells_of_the_old_links_end,
        _halt_while_ready,
        _halt_while_connecting,
    ],
    ids=["connect, READY", "connect, negotiating", "reconnect", "halt, READY", "halt, connecting"],
)
def test_fault_17_connect_while_connected_is_refused_and_drops_nothing_and_halt_tells_what_it_cut(
    side: Callable[[], Awaitable[None]],
) -> None:
    """Fault 17: "connect while connected drops the old socket without an event. halt is silent"."""

    async def main() -> None:
        await side()

    run(main)


# ---- 18


@pytest.mark.parametrize("filters", [1, 2])
def test_fault_18_a_removed_filter_leaves_nothing_of_its_event_behind(filters: int) -> None:
    """Fault 18: "Filters: `remove` leaves the event published"."""

    async def main() -> None:
        kind = kind_of(JABBERD14_COMPONENT)
        wires: asyncio.Queue[Wire] = asyncio.Queue()
        over = asyncio.Event()

        async def script(wire: Wire) -> None:
            await kind.ready(wire)
            wires.put_nowait(wire)
            await over.wait()
            await wire.close()

        async with scripted(script) as at:
            broker = kind.broker(at.port)
            record = Record(broker)
            heard: list[object] = []
            arrived: asyncio.Queue[None] = asyncio.Queue()

            def observe(status: Status) -> None:
                """As an observer: who subscribes to PCJ_NODERECEIVED by name would take the request below."""
                if status.event == Event.PCJ_NODERECEIVED:
                    arrived.put_nowait(None)

            broker.subscribe("*", observe)
            await broker.connect()
            wire = await wires.get()
            for expression in ("/*", "//body | //*")[:filters]:
                broker.add_filter("MINE", expression)
            broker.subscribe("MINE", lambda status: heard.append(status.detail["expression"]))
            wire.send(kind.message("1"))
            await arrived.get()
            assert record.since("READY") == ["MINE"] * filters + ["NODERECEIVED"]

            assert broker.remove_filter("MINE") is True
            assert broker.remove_filter("MINE") is False
            wire.send(kind.message("2"))
            await arrived.get()
            assert record.since("MINE") == ["NODERECEIVED", "NODERECEIVED"]
            # Nor does it count any more as one who takes the requests that it selected (RFC 6120 8.2.3).
            wire.send(f"<iq type='get' id='q' from='juliet@localhost' to='{DOMAIN}'><query xmlns='urn:q'/></iq>")
            assert 'id="q"' in await wire.until("<service-unavailable")
            assert "MINE" not in record.since("MINE")

            # And the name is free: its new filter is its only one.
            del heard[:]
            broker.add_filter("MINE", "/message[body='4']")
            wire.send(kind.message("3") + kind.message("4"))
            while bodies(record)[-1] != "4":
                await arrived.get()
            assert heard == ["/message[body='4']"]
            over.set()
            await broker.shutdown()
            record.check()

    run(main)


# ---- 19


@pytest.mark.parametrize("how", ["output", "held", "return_to_sender"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_fault_19_a_node_changed_after_output_goes_out_as_it_was(kind: Kind, how: str) -> None:
    """Fault 19: "A node changed after `output` changes what is sent"."""

    async def main() -> None:
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await kind.ready(wire)
            came.append(await wire.close())

        async with scripted(script) as at:
            broker = kind.broker(at.port)
            record = Record(broker)
            node = message(to="juliet@localhost", body="before", id="m1")
            asker: asyncio.Future[Node] | None = None
            if how == "held":
                broker.output(node)
            await broker.connect()
            if how == "output":
                broker.output(node)
            elif how == "return_to_sender":
                asker = broker.return_to_sender(node)
            body = node.find("{jabber:client}body")
            assert body is not None
            body.text = "after"
            node.set("to", "nurse@localhost")
            node.set("id", "m2")
            node.append(Node("{jabber:client}subject"))
            if how == "held":
                assert broker.purge_queue() == 1
            await turns()
            told = record.of(Event.PCJ_NODESENT)[-1].node
            assert told is not None
            assert told is not node
            assert (told.get("to"), told.get("id"), len(told)) == ("juliet@localhost", "m1", 1)
            assert told.findtext("{jabber:client}body") == "before"
            await broker.shutdown()
            if asker is not None:
                assert isinstance(asker.exception(), RequestError)
            record.check()
        assert "<body>before</body>" in came[0]
        assert not {word for word in ("after", "nurse", "m2", "subject") if word in came[0]}

    run(main)


# ---- 20


@pytest.mark.parametrize("apart", [True, False], ids=["alone", "behind a stanza"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_fault_20_a_closing_tag_of_the_server_is_answered_and_the_connection_ends(kind: Kind, apart: bool) -> None:
    """Fault 20: "A lone closing stream tag from the server is not answered; the connection stays "up\""."""

    async def main() -> None:
        came: list[str] = []
        ready = asyncio.Event()

        async def script(wire: Wire) -> None:
            await kind.ready(wire)
            await ready.wait()
            wire.send(("" if apart else kind.message("last")) + "</stream:stream>")
            came.append(await wire.rest())  # this side closes nothing: it is the broker that ends the connection

        async with scripted(script) as at:
            broker = kind.broker(at.port)
            record = Record(broker)
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            ready.set()
            await anext(gone)
            assert bodies(record) == ([] if apart else ["last"])
            end = ["STREAMEND", "SOCKETDISCONNECT", "SESSION_LOST"]
            assert record.since("READY" if apart else "NODERECEIVED") == end
            assert broker.output(message(to="juliet@localhost")).state is ReceiptState.QUEUED
            assert state_of(broker) is not State.READY
            assert "SHUTDOWN_START" not in record.names  # it is no end that we wanted
            await broker.shutdown()
            record.check()
        assert came == ["</stream:stream>"]

    run(main)
