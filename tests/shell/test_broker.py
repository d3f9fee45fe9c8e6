"""The broker as people use it: the 28 events, subscriptions, waiting, filters, options and what it says of itself."""

from __future__ import annotations

import asyncio
import functools
import logging
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pcj import (
    JABBERD14_COMPONENT,
    JABBERD20_COMPONENT,
    LEGACY,
    XMPP,
    Broker,
    Config,
    ConfigError,
    ConnectionFailed,
    Dialect,
    Event,
    FilterError,
    Phase,
    State,
    Status,
    UsageError,
    iq,
    message,
    ping,
    register_dialect,
)
from pcj.events import PCJ_EVENTS
from pcj.testing import Server, ServerOptions
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

# ---- the 28 events


@functools.cache
def whole_life() -> Record:
    """One link from before its connection to after its end, over TLS, with a session of RFC 3921."""
    records: list[Record] = []

    async def main() -> None:
        options = ServerOptions(session="required")
        async with Server(accounts={"romeo": SECRET, "juliet": SECRET}, options=options) as at:
            broker = Broker(
                XMPP,
                "romeo@localhost/orchard",
                password=SECRET,
                host="127.0.0.1",
                port=at.client_port,
                ca_file=at.ca_file,
                acks="off",  # what it tells of them the original did not know
            )
            records.append(Record(broker))
            broker.output(message(to="romeo@localhost/orchard", body="queued"))
            await broker.connect()
            broker.purge_queue()
            await broker.wait_for(Event.PCJ_NODERECEIVED)
            await broker.return_to_sender(ping(to="localhost"))
            await broker.shutdown()

    run(main)
    records[0].check()
    return records[0]


def first(event: str) -> Status:
    return whole_life().of(event)[0]


def last(event: str) -> Status:
    return whole_life().of(event)[-1]


def tag(status: Status) -> str:
    assert status.node is not None
    return status.node.tag.rpartition("}")[2]


async def failing(broker: Broker) -> Record:
    record = Record(broker)
    with pytest.raises(ConnectionFailed):
        await broker.connect()
    record.check()
    return record


def failed(main: Callable[[], Awaitable[Record]]) -> Record:
    records: list[Record] = []

    async def collect() -> None:
        records.append(await main())

    run(collect)
    return records[0]


def connectfail() -> None:
    async def main() -> Record:
        return await failing(component(closed_port()))

    record = failed(main)
    assert record.names == ["CONNECT", "CONNECTING", "ATTEMPT", "CONNECTFAIL"]
    status = record.one(Event.PCJ_CONNECTFAIL)
    assert isinstance(status.error, ConnectionFailed)
    assert status.error.failure.phase is Phase.CONNECT
    assert "refused" in str(status.error)
    assert (status.detail["phase"], status.detail["attempt"]) == ("connect", 1)


def sslfail() -> None:
    async def main() -> Record:
        async with Server(accounts={"romeo": SECRET}) as at:  # its authority is unknown to the system
            return await failing(client(at.client_port, require_tls=True))

    record = failed(main)
    assert record.names[-5:] == ["NODESENT", "SSLFAIL", "SHUTDOWN_START", "SOCKETDISCONNECT", "SHUTDOWN_FINISH"]
    status = record.one(Event.PCJ_SSLFAIL)
    assert "certificate" in str(status.error)
    assert status.detail["phase"] == "tls"
    assert record.of(Event.PCJ_SSLNEGOTIATE)
    assert not record.of(Event.PCJ_SSLSUCCESS)


def authfail() -> None:
    async def main() -> Record:
        async with server() as at:
            broker = Broker(
                JABBERD14_COMPONENT, DOMAIN, password="wrong-" + SECRET, host="127.0.0.1", port=at.component_port
            )
            return await failing(broker)

    record = failed(main)
    at = record.names.index("AUTHFAIL")
    assert "AUTHNEGOTIATE" in record.names[:at]
    assert record.names[at + 1 :] == ["STREAMEND", "SHUTDOWN_START", "SOCKETDISCONNECT", "SHUTDOWN_FINISH"]
    status = record.one(Event.PCJ_AUTHFAIL)
    assert "not-authorized" in str(status.error)
    assert record.one(Event.PCJ_SHUTDOWN_START).detail["by"] == "failure"


def bindfail() -> None:
    async def main() -> Record:
        async with server(options=ServerOptions(starttls="none", direct_tls_port=None, bind_error="not-allowed")) as at:
            return await failing(client(at.client_port))

    record = failed(main)
    assert "BINDNEGOTIATE" in record.names
    assert "not-allowed" in str(record.one(Event.PCJ_BINDFAIL).error)


def sessionfail() -> None:
    async def script(wire: Wire) -> None:
        await wire.login(
            "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"
        )
        await wire.bind()
        identity = await wire.request()
        wire.send(
            f"<iq type='error' id='{identity}'><error type='wait'>"
            "<internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        )
        await wire.close()

    async def main() -> Record:
        async with scripted(script) as at:
            return await failing(client(at.port))

    record = failed(main)
    assert record.names[record.names.index("BINDSUCCESS") :] == [
        "BINDSUCCESS",
        "SESSIONNEGOTIATE",
        "RTS_START",
        "NODESENT",
        "SESSIONFAIL",
        "STREAMEND",
        "SHUTDOWN_START",
        "SOCKETDISCONNECT",
        "SHUTDOWN_FINISH",
    ]
    assert "internal-server-error" in str(record.one(Event.PCJ_SESSIONFAIL).error)


def socketfail() -> None:
    async def main() -> Record:
        async with server() as at:
            broker = component(at.component_port)
            record = Record(broker)
            await broker.connect()
            gone = asyncio.ensure_future(broker.wait_for(Event.SESSION_LOST))
            await turns()
            await at.drop(DOMAIN)
            await gone
            record.check()
            return record

    record = failed(main)
    assert record.since("READY") == ["SOCKETFAIL", "SOCKETDISCONNECT", "SESSION_LOST"]
    assert isinstance(record.one(Event.PCJ_SOCKETFAIL).error, ConnectionResetError)


def check_connect() -> None:
    assert whole_life().names[:4] == ["NODEQUEUED", "CONNECT", "CONNECTING", "ATTEMPT"]
    assert first(Event.PCJ_CONNECT).detail == {"attempt": 0}


def check_connecting() -> None:
    connected = str(first(Event.PCJ_CONNECTED).detail["address"])
    port = int(connected.rpartition(":")[2])
    assert first(Event.PCJ_CONNECTING).detail == {"attempt": 1, "host": "127.0.0.1", "port": port}


def check_connected() -> None:
    detail = first(Event.PCJ_CONNECTED).detail
    assert str(detail["address"]).startswith("127.0.0.1:")
    assert str(detail["local"]).startswith("127.0.0.1:")


def check_streamstart() -> None:
    starts = whole_life().of(Event.PCJ_STREAMSTART)
    assert [tag(status) for status in starts] == ["stream"] * 3
    nodes = [status.node for status in starts if status.node is not None]
    assert [node.get("to") for node in nodes] == ["localhost"] * 3
    assert [node.get("from") for node in nodes] == [None, "romeo@localhost", "romeo@localhost"]


def check_streamend() -> None:
    assert whole_life().names[-5:] == [
        "STREAMEND",
        "SHUTDOWN_START",
        "SOCKETDISCONNECT",
        "SESSION_LOST",
        "SHUTDOWN_FINISH",
    ]


def check_nodesent() -> None:
    sent = [tag(status) for status in whole_life().of(Event.PCJ_NODESENT)]
    assert sent == ["stream", "starttls", "stream", "auth", "response", "stream", "iq", "iq", "message", "iq"]
    names = whole_life().names
    for place, name in enumerate(names):
        if name in ("STREAMSTART", "SSLNEGOTIATE", "AUTHNEGOTIATE", "RTS_START"):
            assert names[place + 1] == "NODESENT"


def check_nodereceived() -> None:
    status = whole_life().one(Event.PCJ_NODERECEIVED)
    assert status.node is not None
    assert status.node.tag == "{jabber:client}message"
    assert status.node.findtext("{jabber:client}body") == "queued"
    assert status.detail == {"attempt": 1, "session": 1}


def check_nodequeued() -> None:
    status = whole_life().one(Event.PCJ_NODEQUEUED)
    assert tag(status) == "message"
    assert status.seq == 1


def check_sslsuccess() -> None:
    detail = first(Event.PCJ_SSLSUCCESS).detail
    assert str(detail["version"]).startswith("TLSv1.")
    assert detail["cipher"]
    assert detail["verified"] is True


def check_mechanism() -> None:
    for event in (Event.PCJ_AUTHNEGOTIATE, Event.PCJ_AUTHSUCCESS):
        assert whole_life().one(event).detail["mechanism"] == "SCRAM-SHA-512-PLUS"
        assert whole_life().one(event).detail["binding"] == "tls-server-end-point"


def check_bindsuccess() -> None:
    assert first(Event.PCJ_BINDSUCCESS).detail["jid"] == "romeo@localhost/orchard"


def check_session() -> None:
    names = whole_life().names
    at = names.index("SESSIONNEGOTIATE")
    assert names[at - 1 : at + 5] == [
        "BINDSUCCESS",
        "SESSIONNEGOTIATE",
        "RTS_START",
        "NODESENT",
        "SESSIONSUCCESS",
        "READY",
    ]


def check_rts() -> None:
    starts = whole_life().of(Event.PCJ_RTS_START)
    assert [status.detail.get("internal", False) for status in starts] == [True, True, False]
    assert starts[-1].node is not None
    finish = whole_life().one(Event.PCJ_RTS_FINISH)
    assert finish.node is not None
    assert finish.node.get("id") == starts[-1].node.get("id")
    assert finish.node.get("type") == "result"


def check_ready() -> None:
    assert whole_life().one(Event.PCJ_READY).detail == {
        "attempt": 1,
        "session": 1,
        "jid": "romeo@localhost/orchard",
        "resumed": False,
    }


def check_shutdown() -> None:
    assert whole_life().one(Event.PCJ_SHUTDOWN_START).detail["by"] == "user"
    assert whole_life().one(Event.PCJ_SHUTDOWN_FINISH).seq == whole_life().statuses[-1].seq


def check_disconnect() -> None:
    assert (
        whole_life().one(Event.PCJ_SOCKETDISCONNECT).detail["address"] == first(Event.PCJ_CONNECTED).detail["address"]
    )


def check_sslnegotiate() -> None:
    assert whole_life().one(Event.PCJ_SSLNEGOTIATE).seq < whole_life().one(Event.PCJ_SSLSUCCESS).seq


def check_bindnegotiate() -> None:
    assert whole_life().one(Event.PCJ_BINDNEGOTIATE).seq < whole_life().one(Event.PCJ_BINDSUCCESS).seq


CHECKS: dict[str, Callable[[], None]] = {
    Event.PCJ_CONNECT: check_connect,
    Event.PCJ_CONNECTING: check_connecting,
    Event.PCJ_CONNECTED: check_connected,
    Event.PCJ_CONNECTFAIL: connectfail,
    Event.PCJ_STREAMSTART: check_streamstart,
    Event.PCJ_STREAMEND: check_streamend,
    Event.PCJ_NODESENT: check_nodesent,
    Event.PCJ_NODERECEIVED: check_nodereceived,
    Event.PCJ_NODEQUEUED: check_nodequeued,
    Event.PCJ_SSLNEGOTIATE: check_sslnegotiate,
    Event.PCJ_SSLSUCCESS: check_sslsuccess,
    Event.PCJ_SSLFAIL: sslfail,
    Event.PCJ_AUTHNEGOTIATE: check_mechanism,
    Event.PCJ_AUTHSUCCESS: check_mechanism,
    Event.PCJ_AUTHFAIL: authfail,
    Event.PCJ_BINDNEGOTIATE: check_bindnegotiate,
    Event.PCJ_BINDSUCCESS: check_bindsuccess,
    Event.PCJ_BINDFAIL: bindfail,
    Event.PCJ_SESSIONNEGOTIATE: check_session,
    Event.PCJ_SESSIONSUCCESS: check_session,
    Event.PCJ_SESSIONFAIL: sessionfail,
    Event.PCJ_RTS_START: check_rts,
    Event.PCJ_RTS_FINISH: check_rts,
    Event.PCJ_READY: check_ready,
    Event.PCJ_SHUTDOWN_START: check_shutdown,
    Event.PCJ_SHUTDOWN_FINISH: check_shutdown,
    Event.PCJ_SOCKETFAIL: socketfail,
    Event.PCJ_SOCKETDISCONNECT: check_disconnect,
}


@pytest.mark.parametrize("event", PCJ_EVENTS)
def test_each_of_the_28_events_fires_and_carries_what_is_promised(event: Event) -> None:
    CHECKS[event]()


def test_all_28_events_are_covered_here() -> None:
    assert set(CHECKS) == set(PCJ_EVENTS)
    assert len(CHECKS) == 28


def test_the_order_of_a_whole_life_is_the_originals() -> None:
    s = ["STREAMSTART", "NODESENT"]
    assert whole_life().names == [
        "NODEQUEUED",
        "CONNECT",
        "CONNECTING",
        "ATTEMPT",
        "CONNECTED",
        *s,
        *["SSLNEGOTIATE", "NODESENT", "SSLSUCCESS"],
        *s,
        *["AUTHNEGOTIATE", "NODESENT", "NODESENT", "AUTHSUCCESS"],
        *s,
        *["BINDNEGOTIATE", "RTS_START", "NODESENT", "BINDSUCCESS"],
        *["SESSIONNEGOTIATE", "RTS_START", "NODESENT", "SESSIONSUCCESS"],
        "READY",
        *["NODESENT", "NODERECEIVED"],
        *["RTS_START", "NODESENT", "RTS_FINISH"],
        *["STREAMEND", "SHUTDOWN_START", "SOCKETDISCONNECT", "SESSION_LOST", "SHUTDOWN_FINISH"],
    ]


def test_every_event_is_a_line_of_json_without_the_password() -> None:
    whole = "\n".join(status.to_json() + repr(status) for status in whole_life().statuses)
    assert whole.count("\n") == len(whole_life().statuses) - 1
    assert SECRET not in whole


# ---- subscriptions


def test_on_subscribes_functions_and_coroutine_functions_and_gives_them_back() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            heard: list[str] = []

            @broker.on(Event.PCJ_READY)
            def plain(status: Status) -> None:
                heard.append("plain")

            @broker.on(Event.PCJ_READY)
            async def waiting(status: Status) -> None:
                await asyncio.sleep(0)
                heard.append("coroutine")

            async with broker:
                await broker.return_to_sender(ping(to="localhost"))
            assert heard == ["plain", "coroutine"]
            assert asyncio.iscoroutinefunction(waiting)
            assert plain.__name__ == "plain"

    run(main)


def test_events_gives_each_status_in_order_and_ends_with_halt() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            reader = broker.events(Event.PCJ_CONNECTED, Event.PCJ_READY, Event.PCJ_SOCKETDISCONNECT)
            await broker.connect()
            assert [(await anext(reader)).event for _ in range(2)] == [Event.PCJ_CONNECTED, Event.PCJ_READY]
            broker.halt()
            assert [status.event async for status in reader] == [Event.PCJ_SOCKETDISCONNECT]

    run(main)


def test_a_handler_of_negotiation_events_that_raises_does_not_disturb_the_negotiation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            failures: list[Status] = []
            broker.subscribe(Event.HANDLER_FAILED, failures.append)

            def broken(status: Status) -> None:
                raise ValueError(status.event)

            broker.subscribe("*", broken)
            async with broker:
                reply = await broker.return_to_sender(ping(to="localhost"))
                assert reply.get("type") == "result"
            assert "PCJ_READY" in [str(failure.error) for failure in failures]

    run(main)
    assert "PCJ_SHUTDOWN_FINISH" in caplog.text


@pytest.mark.parametrize("backlog", [1, 4, 50])
def test_a_slow_coroutine_handler_pauses_reading_and_still_gets_the_reply_it_awaits(backlog: int) -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port, inbound_backlog=backlog)
            other = Broker(
                JABBERD14_COMPONENT, "other.localhost", password=SECRET, host="127.0.0.1", port=at.component_port
            )
            heard: list[str | None] = []
            done = never()

            async def slow(status: Status) -> None:
                assert status.node is not None
                reply = await broker.return_to_sender(ping(to="localhost"))
                assert reply.get("type") == "result"
                heard.append(status.node.findtext("{jabber:client}body"))
                if len(heard) == 60:
                    done.set_result(None)

            broker.subscribe(Event.PCJ_NODERECEIVED, slow)
            async with broker, other:
                for number in range(60):
                    other.output(message(to=DOMAIN, body=str(number)))
                await done
            assert heard == [str(number) for number in range(60)]

    run(main)


def test_reading_pauses_while_coroutine_handlers_cannot_keep_up() -> None:
    async def main() -> None:
        taken = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            wire.writer.transport.set_write_buffer_limits(high=0)
            stanza = f"<message from='a@localhost' to='{DOMAIN}'><body>{'x' * 10_000}</body></message>"
            try:
                async with asyncio.timeout(0.3):  # until the client reads no more
                    for _ in range(10_000):
                        wire.send(stanza)
                        await wire.writer.drain()
            except TimeoutError:
                taken.set()
            wire.writer.transport.abort()

        async with scripted(script) as at:
            broker = component(at.port, inbound_backlog=5)
            gate = asyncio.Event()
            heard: list[int] = []

            async def slow(status: Status) -> None:
                await gate.wait()
                heard.append(status.seq)

            broker.subscribe(Event.PCJ_NODERECEIVED, slow)
            record = Record(broker)
            await broker.connect()
            await taken.wait()
            assert "wait for coroutine handlers" in broker.explain()
            assert len(record.of(Event.READING_PAUSED)) == 1
            gate.set()
            await broker.wait_for(Event.PCJ_SOCKETDISCONNECT)
            broker.halt()
            assert 0 < len(heard) < 10_000

    run(main)


# ---- wait_for


def test_wait_for_ready_returns_at_once_when_ready() -> None:
    async def main() -> None:
        async with server() as at, component(at.component_port) as broker:
            status = await broker.wait_for(Event.PCJ_READY, timeout=0.01)
            assert status.event == Event.PCJ_READY
            assert broker._dispatcher.interest == {}

    run(main)


def test_wait_for_gives_the_next_of_several_events() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            waiting = asyncio.ensure_future(broker.wait_for(Event.PCJ_CONNECTFAIL, Event.PCJ_CONNECTED))
            ready = asyncio.ensure_future(broker.wait_for(Event.PCJ_READY))
            await turns()
            async with broker:
                assert (await waiting).event == Event.PCJ_CONNECTED
                assert (await ready).event == Event.PCJ_READY
                finish = asyncio.ensure_future(broker.wait_for(Event.PCJ_SHUTDOWN_FINISH))
                await turns()
            assert (await finish).event == Event.PCJ_SHUTDOWN_FINISH
            assert broker._dispatcher.interest == {}

    run(main)


def test_wait_for_times_out_and_lets_go() -> None:
    async def main() -> None:
        async with server() as at, component(at.component_port) as broker:
            with pytest.raises(TimeoutError):
                await broker.wait_for(Event.PCJ_NODERECEIVED, timeout=0.01)
            assert broker._dispatcher.interest == {}
            assert broker._waiters == set()

    run(main)


def test_wait_for_ends_with_the_reason_when_the_link_ends_for_good() -> None:
    async def main() -> None:
        broker = component(closed_port())
        waiting = asyncio.ensure_future(broker.wait_for(Event.PCJ_READY))
        await turns()
        with pytest.raises(ConnectionFailed, match="refused"):
            await broker.connect()
        with pytest.raises(ConnectionFailed, match="refused"):
            await waiting
        with pytest.raises(ConnectionFailed, match="refused"):  # at once: nothing is under way
            await broker.wait_for(Event.PCJ_READY)
        for words in ("shut down", "halted"):
            broker = component(closed_port())
            waiting = asyncio.ensure_future(broker.wait_for(Event.PCJ_READY))
            await turns()
            if words == "halted":
                broker.halt()
            else:
                await broker.shutdown()
            with pytest.raises(UsageError, match=words):
                await waiting
        with pytest.raises(UsageError, match="halted"):
            await broker.wait_for(Event.PCJ_READY)

    run(main)


def test_an_iterator_ends_with_the_link() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            everything = broker.events()
            await broker.connect()
            await at.drop(DOMAIN)
            async with asyncio.timeout(5):
                heard = [status.event async for status in everything]
            assert heard[-2:] == [Event.PCJ_SOCKETDISCONNECT, Event.SESSION_LOST]

    run(main)


def test_wait_for_ends_when_a_link_that_was_ready_drops_for_good() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            await broker.connect()
            waiting = asyncio.ensure_future(broker.wait_for("mine"))
            await turns()
            await at.drop(DOMAIN)
            with pytest.raises(ConnectionFailed):
                await waiting

    run(main)


@pytest.mark.parametrize("events", [(), ("",), (Event.PCJ_READY, "")])
def test_wait_for_needs_names(events: tuple[str, ...]) -> None:
    async def main() -> None:
        broker = component(1)
        with pytest.raises(ConfigError):
            await broker.wait_for(*events)
        assert broker._dispatcher.interest == {}

    run(main)


def test_wait_for_in_a_handler_waits_for_the_next() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            found: asyncio.Future[Status] = asyncio.get_running_loop().create_future()

            @broker.on(Event.PCJ_READY)
            async def ready(status: Status) -> None:
                broker.output(message(to=DOMAIN, body="to myself"))
                found.set_result(await broker.wait_for(Event.PCJ_NODERECEIVED))

            async with broker:
                node = (await found).node
                assert node is not None
                assert node.findtext("{jabber:client}body") == "to myself"

    run(main)


# ---- filters


async def filtered(at: Server, broker: Broker, *nodes: ET.Element) -> Record:
    """What fires for these nodes, from the server to the component, up to a last one."""
    record = Record(broker)
    await broker.connect()
    for node in nodes:
        node.set("from", "romeo@localhost/x")
        node.set("to", DOMAIN)
        await at.send(node, to=DOMAIN)
    await at.send(iq(type="result", id="last", from_="romeo@localhost/x", to=DOMAIN), to=DOMAIN)
    async for status in broker.events(Event.PCJ_NODERECEIVED):
        if status.node is not None and status.node.get("id") == "last":
            break
    await broker.shutdown()
    record.check()
    return record


def test_filters_fire_in_the_order_they_were_added_and_noderecieved_follows() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            broker.add_filter("second", "/message[@type='chat']")
            broker.add_filter("first", "/message/body")
            broker.add_filter("second", "/presence")
            broker.add_filter("number", "count(/message/body)")
            broker.add_filter("text", "string(/message/body)")
            broker.add_filter("other", "/message/q:x", {"q": "urn:q"})
            with_payload = message(body="b")
            ET.SubElement(with_payload, "{urn:q}x")
            record = await filtered(at, broker, message(type="chat", body="hello"), message(), with_payload)
            names = record.names[record.names.index("READY") + 1 : -6]
            assert names == [
                *["second", "first", "number", "text", "NODERECEIVED"],
                "NODERECEIVED",
                *["first", "number", "text", "other", "NODERECEIVED"],
            ]
            (chat, _) = record.of("first")
            assert chat.detail["expression"] == "/message/body"
            selected = chat.detail["selected"]
            assert isinstance(selected, list)
            assert [body.text for body in selected] == ["hello"]
            assert chat.node is not None
            assert selected[0] in list(chat.node)
            assert record.of("number")[0].detail["selected"] == 1.0
            assert record.of("text")[0].detail["selected"] == "hello"

    run(main)


def test_a_filter_that_was_removed_is_silent() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            broker.add_filter("a", "/message")
            broker.add_filter("a", "/message/body")
            broker.add_filter("b", "/message")
            assert broker.remove_filter("a") is True
            assert broker.remove_filter("a") is False
            record = await filtered(at, broker, message(body="x"))
            assert "a" not in record.names
            assert len(record.of("b")) == 1

    run(main)


def test_filters_can_be_added_and_removed_by_their_own_handlers() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)

            def once(status: Status) -> None:
                broker.remove_filter("once")
                broker.add_filter("later", "/message")

            broker.add_filter("once", "/message")
            broker.subscribe("once", once)
            record = await filtered(at, broker, message(), message(), message())
            assert [name for name in record.names if name in ("once", "later")] == ["once", "later", "later"]

    run(main)


@pytest.mark.parametrize("expression", ["/message[", "//x:y", "document('/etc/passwd')", "$v", ""])
def test_a_filter_that_cannot_be_used_is_refused_where_it_is_added(expression: str) -> None:
    broker = component(1)
    with pytest.raises(FilterError):
        broker.add_filter("mine", expression)
    assert broker.remove_filter("mine") is False


@pytest.mark.parametrize("name", ["", "*", "PCJ_READY", "STREAM_ERROR", None])
def test_pcjs_own_names_are_no_names_for_filters_and_requests(name: Any) -> None:
    async def main() -> None:
        broker = component(1)
        with pytest.raises(ConfigError):
            broker.add_filter(name, "/message")
        if name is not None:
            with pytest.raises(ConfigError):
                broker.return_to_sender(ping(to="localhost"), event=name)
            assert broker.pending == 0
            assert broker.queue == 0

    run(main)


# ---- what it says of itself


def test_explain_says_what_is_going_on_in_every_state() -> None:
    async def main() -> None:
        held = asyncio.Event()
        go = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.until(">")
            held.set()
            await go.wait()
            wire.send(
                "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'"
                " id='s1' from='x'>"
            )
            await wire.until("</handshake>")
            wire.send("<handshake/>")
            await wire.until("</stream:stream>")
            held.set()
            await go.wait()

        async with scripted(script) as at:
            broker = component(at.port)
            assert state_of(broker) is State.IDLE
            assert "nobody asked" in broker.explain()
            connecting = asyncio.ensure_future(broker.connect())
            await turns(1)
            assert state_of(broker) is State.CONNECTING
            assert "looking for the server" in broker.explain()
            await held.wait()
            assert state_of(broker) is State.NEGOTIATING
            assert f"127.0.0.1:{at.port}" in broker.explain()
            assert "phase 'stream'" in broker.explain()
            held.clear()
            go.set()
            await connecting
            go.clear()
            assert state_of(broker) is State.READY
            assert broker.explain() == f"Connected as {DOMAIN} at 127.0.0.1:{at.port}."
            ending = asyncio.ensure_future(broker.shutdown())
            await held.wait()
            assert state_of(broker) is State.CLOSING
            assert "being closed" in broker.explain()
            broker.output(message(to="a@localhost"))
            go.set()
            await ending
            assert state_of(broker) is State.IDLE
            assert "1 node waits in the queue" in broker.explain()
            broker.halt()
            assert state_of(broker) is State.HALTED
            assert "halted" in broker.explain()

    run(main)


def test_explain_names_the_failure_and_the_next_attempt() -> None:
    async def main() -> None:
        port = closed_port()
        broker = component(port, auto_reconnect=True, reconnect_delay=60.0)
        connecting = asyncio.ensure_future(broker.connect())
        await broker.wait_for(Event.RECONNECT_DELAY)
        await turns()
        assert state_of(broker) is State.WAITING
        assert "next attempt comes in" in broker.explain()
        assert "refused" in broker.explain().lower()
        await broker.shutdown()
        with pytest.raises(UsageError):
            await connecting
        assert state_of(broker) is State.IDLE

    run(main)


def test_jid_sid_pending_and_queue_tell_of_the_session() -> None:
    async def main() -> None:
        async with server(options=ServerOptions(starttls="none", direct_tls_port=None, bound_resource="other")) as at:
            broker = client(at.client_port)
            record = Record(broker)
            assert (broker.jid, broker.sid, broker.pending, broker.queue) == ("romeo@localhost/orchard", "", 0, 0)
            broker.output(message(to="juliet@localhost"))
            assert broker.queue == 1
            await broker.connect()
            assert broker.jid == "romeo@localhost/other"
            assert broker.sid
            request = broker.return_to_sender(ping(to="localhost"))
            assert broker.pending == 1
            await request
            assert broker.pending == 0
            assert broker.queue == 1  # held until purge_queue
            await broker.shutdown()
            assert (broker.jid, broker.sid) == ("romeo@localhost/orchard", "")
            assert record.one(Event.JID_CHANGED).detail["given"] == "romeo@localhost/other"

    run(main)


def test_a_broker_of_a_config_is_the_same() -> None:
    config = Config(connection_type=LEGACY, jid="romeo@localhost", password=SECRET, alias="r")
    broker = Broker.from_config(config)
    assert broker.config is config
    assert broker.jid == "romeo@localhost"
    assert isinstance(broker, Broker)


@pytest.mark.parametrize(
    ("kind", "jid", "options", "words"),
    [
        (XMPP, "romeo@localhost", {"passwort": "x"}, "passwort"),
        (XMPP, "romeo@localhost", {"close_timeout": 0}, "close_timeout"),
        (XMPP, "localhost", {}, "name@domain"),
        (JABBERD14_COMPONENT, "romeo@localhost", {}, "domain"),
        (JABBERD20_COMPONENT, "romeo@localhost", {}, "domain"),
        ("IRC", "romeo@localhost", {}, "IRC"),
        (XMPP, "@@", {}, "local part"),
    ],
)
def test_options_that_cannot_be_used_are_refused(kind: str, jid: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Broker(kind, jid, password=SECRET, **options)
    assert SECRET not in str(caught.value)


def test_a_dialect_registered_from_outside_can_be_used() -> None:
    from pcj.protocol import dialect_of  # the original's component, under another name

    original = dialect_of(JABBERD14_COMPONENT)
    register_dialect(
        Dialect(
            "TEST_SHELL_MINE",
            original.negotiate,
            original.xmlns,
            component=True,
            tls_on_loopback=False,
            default_port=5347,
        )
    )

    async def main() -> None:
        async with server() as at:
            broker = Broker("TEST_SHELL_MINE", DOMAIN, password=SECRET, host="127.0.0.1", port=at.component_port)
            async with broker:
                assert state_of(broker) is State.READY

    run(main)


@pytest.mark.parametrize("kind", [XMPP, LEGACY, JABBERD14_COMPONENT, JABBERD20_COMPONENT])
def test_the_password_is_in_no_repr_event_log_or_exception(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    secret = "a-wrong-" + SECRET

    async def main() -> None:
        async with server(
            options=ServerOptions(
                starttls="none",
                direct_tls_port=None,
                plain_without_tls=True,
                mechanisms=("PLAIN",),
                router_mechanisms=("PLAIN",),
            )
        ) as at:
            port = {
                JABBERD14_COMPONENT: at.component_port,
                JABBERD20_COMPONENT: at.router_port,
            }.get(kind, at.client_port)
            broker = Broker(
                kind,
                DOMAIN if "COMPONENT" in kind else "romeo@localhost",
                password=secret,
                host="127.0.0.1",
                port=port,
                require_tls=False,
                allow_plain=True,
                plaintext=True,
                debug=True,
                username="jabberd" if kind == JABBERD20_COMPONENT else None,
            )
            record = Record(broker)
            with pytest.raises(ConnectionFailed) as caught:
                await broker.connect()
            shown.extend(traceback.format_exception(caught.value))
            shown.extend([repr(broker), repr(broker.config), broker.explain(), repr(caught.value.failure)])
            for status in record.statuses:
                shown.extend([repr(status), status.to_json(), repr(status.error)])
            assert record.of(Event.PCJ_AUTHFAIL)

    run(main)
    shown.append(caplog.text)
    assert "AUTHFAIL" in caplog.text
    assert not [text for text in shown if secret in text]
