"""One connection: the deadline of each phase, every way it can break, and that all that is sent arrives."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pcj import (
    JABBERD14_COMPONENT,
    JABBERD20_COMPONENT,
    LEGACY,
    XMPP,
    Broker,
    ConfigError,
    ConnectionFailed,
    Event,
    Failure,
    Phase,
    ReceiptState,
    State,
    Status,
    message,
    ping,
    presence,
)
from pcj.config import Config
from pcj.connection import Connection
from pcj.protocol import dialect_of
from pcj.testing import Server, ServerOptions
from pcj.testing.certificates import make_certificate
from pcj.transport.resolve import Endpoint
from tests.shell.links import (
    BARRIER,
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

Script = Callable[[Wire], Awaitable[None]]
TINY = {
    f"{name}_timeout": 0.05
    for name in ("resolve", "connect", "tls", "stream", "authenticate", "bind", "session", "close")
}


async def failing(broker: Broker) -> tuple[Record, Failure]:
    """Connect, which must fail; the events are held against the rules."""
    record = Record(broker)
    with pytest.raises(ConnectionFailed) as caught:
        await broker.connect()
    record.check()
    assert state_of(broker) is State.IDLE
    assert broker._link.connection is None
    return record, caught.value.failure


# ---- scripts that stop in a phase


async def at_accept(wire: Wire) -> None:
    await wire.until(">")


async def at_features(wire: Wire) -> None:
    await wire.header("jabber:client", version="1.0")


async def at_starttls(wire: Wire) -> None:
    await wire.header("jabber:client", version="1.0")
    wire.features("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    await wire.until("<starttls")
    await wire.until(">")


async def at_proceed(wire: Wire) -> None:
    await at_starttls(wire)
    wire.send("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    await wire.reader.read(1 << 16)


async def at_sasl(wire: Wire) -> None:
    await wire.header("jabber:client", version="1.0")
    wire.features("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>")
    await wire.until("</auth>")


async def at_second_header(wire: Wire) -> None:
    await at_sasl(wire)
    wire.send("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
    await wire.until("<stream:stream")


async def at_bind(wire: Wire) -> None:
    await wire.login()
    await wire.request()


async def at_session(wire: Wire) -> None:
    await wire.login(
        "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"
    )
    await wire.bind()
    await wire.request()


async def at_handshake(wire: Wire) -> None:
    await wire.header()
    await wire.until("</handshake>")


#: (where the script stops, the phase of the failure, its event, whether the client had sent its header)
PHASES: list[tuple[Script, Phase, Event]] = [
    (at_accept, Phase.STREAM, Event.STREAM_ERROR),
    (at_features, Phase.STREAM, Event.STREAM_ERROR),
    (at_starttls, Phase.TLS, Event.PCJ_SSLFAIL),
    (at_proceed, Phase.TLS, Event.PCJ_SSLFAIL),
    (at_sasl, Phase.AUTHENTICATE, Event.PCJ_AUTHFAIL),
    (at_second_header, Phase.STREAM, Event.STREAM_ERROR),
    (at_bind, Phase.BIND, Event.PCJ_BINDFAIL),
    (at_session, Phase.SESSION, Event.PCJ_SESSIONFAIL),
    (at_handshake, Phase.AUTHENTICATE, Event.PCJ_AUTHFAIL),
]
IDS = [script.__name__ for script, _, _ in PHASES]


def broker_for(script: Script, port: int, **options: Any) -> Broker:
    return (component if script is at_handshake else client)(port, **options)


@pytest.mark.parametrize(("script", "phase", "event"), PHASES, ids=IDS)
def test_silence_in_a_phase_ends_the_attempt_and_names_the_phase(script: Script, phase: Phase, event: Event) -> None:
    async def main() -> None:
        async def silent(wire: Wire) -> None:
            await script(wire)
            await wire.rest()

        async with scripted(silent) as at:
            record, failure = await failing(broker_for(script, at.port, **TINY))
        assert failure.phase is phase
        assert f"no answer from 127.0.0.1:{at.port} within 0.05 s in the phase '{phase}'" in failure.message
        assert failure.came == "nothing"
        assert failure.expected
        assert failure.address == f"127.0.0.1:{at.port}"
        assert record.one(event).error is not None
        end = [] if script is at_proceed else ["STREAMEND"]
        assert record.since(event) == [*end, "SHUTDOWN_START", "SOCKETDISCONNECT", "SHUTDOWN_FINISH"]

    run(main)


@pytest.mark.parametrize(
    ("kind", "silent_at", "phase"),
    [
        (XMPP, "accept", Phase.STREAM),
        (XMPP, "header", Phase.STREAM),
        (XMPP, "tls", Phase.TLS),
        (XMPP, "auth", Phase.AUTHENTICATE),
        (XMPP, "bind", Phase.BIND),
        (XMPP, "session", Phase.SESSION),
        (LEGACY, "auth", Phase.AUTHENTICATE),
        (JABBERD14_COMPONENT, "accept", Phase.STREAM),
        (JABBERD14_COMPONENT, "auth", Phase.AUTHENTICATE),
        (JABBERD20_COMPONENT, "header", Phase.STREAM),
        (JABBERD20_COMPONENT, "auth", Phase.AUTHENTICATE),
        (JABBERD20_COMPONENT, "bind", Phase.BIND),
    ],
)
def test_every_connection_type_has_a_deadline_in_every_phase(kind: str, silent_at: Any, phase: Phase) -> None:
    async def main() -> None:
        options = ServerOptions(
            starttls="optional" if silent_at == "tls" else "none",
            direct_tls_port=None,
            session="required",
            silent_at=silent_at,
            close_timeout=0.2,
        )
        async with server(options=options) as at:
            port = {JABBERD14_COMPONENT: at.component_port, JABBERD20_COMPONENT: at.router_port}
            broker = Broker(
                kind,
                DOMAIN if "COMPONENT" in kind else "romeo@localhost/x",
                password=SECRET,
                username="jabberd" if kind == JABBERD20_COMPONENT else None,
                host="127.0.0.1",
                port=port.get(kind, at.client_port),
                require_tls=False,
                **{**TINY, "authenticate_timeout": 0.05 if phase is Phase.AUTHENTICATE else 5.0},
            )
            _, failure = await failing(broker)
        assert failure.phase is phase
        assert "0.05 s" in failure.message

    run(main)


@pytest.mark.parametrize(("script", "phase", "event"), PHASES, ids=IDS)
@pytest.mark.parametrize("how", ["stream", "socket", "reset", "error", "garbage"])
def test_a_server_that_breaks_off_in_a_phase_ends_the_attempt_with_its_event(
    script: Script, phase: Phase, event: Event, how: str
) -> None:
    async def main() -> None:
        async def breaking(wire: Wire) -> None:
            await script(wire)
            if how == "stream":
                wire.send("</stream:stream>")
            elif how == "reset":
                wire.reset()
                return
            elif how == "error":
                wire.send(
                    "<stream:error><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
                )
            elif how == "garbage":
                wire.send("<<<<<<<<")
            if how != "socket":
                await wire.rest()

        async with scripted(breaking) as at:
            record, failure = await failing(broker_for(script, at.port))
        assert failure.phase is phase, failure
        assert record.of(event)
        names = record.names
        assert names[-3:] == ["SHUTDOWN_START", "SOCKETDISCONNECT", "SHUTDOWN_FINISH"]
        if how == "reset":
            assert names[-5:-3] == [event.removeprefix("PCJ_"), "SOCKETFAIL"]
        else:
            assert "SOCKETFAIL" not in names
        if how == "error" and script not in (at_proceed, at_accept, at_second_header):
            assert "internal-server-error" in failure.message
            assert names.count("STREAM_ERROR") == 1
        assert names.count("AUTHFAIL") <= 1

    run(main)


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    ca_file = tmp_path_factory.mktemp("tls") / "ca.pem"
    return make_certificate(("localhost",), ca_file), ca_file


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("how", ["garbage", "cut", "close_notify"])
def test_tls_that_breaks_is_an_end_in_good_order(
    certificate: tuple[ssl.SSLContext, Path], ready: bool, how: str
) -> None:
    async def main() -> None:
        context, ca_file = certificate

        async def script(wire: Wire) -> None:
            await at_starttls(wire)
            wire.send("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            await wire.writer.start_tls(context)
            if ready:
                await wire.login()
                await wire.bind()
                wire.send("<message from='a@localhost' to='romeo@localhost'/>")
                await wire.until("</presence>")
            else:
                await at_sasl(wire)
            sock = wire.writer.get_extra_info("socket")
            if how == "garbage":
                os.write(sock.fileno(), b"this is no TLS record, and never was one")
                await wire.rest()
            elif how == "cut":
                wire.reset()
            else:
                wire.writer.close()
                await wire.rest()

        async with scripted(script) as at:
            broker = client(at.port, ca_file=str(ca_file), require_tls=True)
            record = Record(broker)
            if ready:
                held = broker.events(Event.PCJ_NODEQUEUED)
                await broker.connect()
                receipt = broker.output(presence(status="x"))
                await anext(held)
                names = record.since("NODESENT")
                # Nothing proved it: it is named, and held.
                assert [name for name in names if name != "NODERECEIVED"] == [
                    "SOCKETFAIL",
                    "SOCKETDISCONNECT",
                    "SESSION_LOST",
                    "NODE_UNCERTAIN",
                    "NODEQUEUED",
                ]
                assert (receipt.state, receipt.final, broker.queue) == (ReceiptState.UNCERTAIN, False, 1)
                assert record.one(Event.PCJ_SOCKETFAIL).error is not None
                await broker.shutdown()
                record.check()
            else:
                with pytest.raises(ConnectionFailed):
                    await broker.connect()
                record.check()
                assert record.names.count("AUTHFAIL") + record.names.count("SSLFAIL") == 1
                assert record.names[-3:] == ["SHUTDOWN_START", "SOCKETDISCONNECT", "SHUTDOWN_FINISH"]

    run(main)


def test_direct_tls_fires_the_events_of_tls_before_any_stream() -> None:
    async def main() -> None:
        async with Server(accounts={"romeo": SECRET}) as at:
            broker = client(at.direct_tls_port, direct_tls=True, ca_file=at.ca_file, require_tls=True)
            record = Record(broker)
            async with broker:
                await broker.return_to_sender(ping(to="localhost"))
            record.check()
            names = record.names
            assert names[names.index("CONNECTED") :][:4] == ["CONNECTED", "SSLNEGOTIATE", "SSLSUCCESS", "STREAMSTART"]
            assert names.count("STREAMSTART") == 2

    run(main)


@pytest.mark.parametrize("option", ["ca_file", "client_certificate"])
def test_a_file_of_tls_that_cannot_be_used_is_told_before_anything_is_connected(option: str) -> None:
    async def main() -> None:
        broker = client(closed_port(), require_tls=True, auto_reconnect=True, **{option: "/nonexistent/file.pem"})
        record = Record(broker)
        with pytest.raises(ConfigError, match=r"/nonexistent/file\.pem"):
            await broker.connect()
        assert record.names == []

    run(main)


# ---- READY and after


def test_xml_that_is_not_well_formed_at_ready_is_answered_with_a_stream_error() -> None:
    async def main() -> None:
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await wire.component()
            wire.send("<message from='a@localhost' id='whole'/><message></presence>")
            came.append(await wire.rest())

        async with scripted(script) as at:
            broker = component(at.port)
            record = Record(broker)
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            await anext(gone)
            assert record.since("READY") == [
                "NODERECEIVED",
                "STREAM_ERROR",
                "STREAMEND",
                "SOCKETDISCONNECT",
                "SESSION_LOST",
            ]
            assert record.one(Event.STREAM_ERROR).node is None
            assert "well-formed" in str(record.one(Event.STREAM_ERROR).error)
            await turns()
            assert "well-formed" in broker.explain()
            await broker.shutdown()
            record.check()
        (end,) = came
        assert end.startswith('<stream:error><not-well-formed xmlns="urn:ietf:params:xml:ns:xmpp-streams"/>')
        assert end.endswith("</stream:error></stream:stream>")

    run(main)


def test_the_peers_clean_close_is_answered() -> None:
    async def main() -> None:
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await wire.component("</stream:stream>")
            came.append(await wire.rest())

        async with scripted(script) as at:
            broker = component(at.port)
            record = Record(broker)
            await broker.connect()
            with pytest.raises(ConnectionFailed, match="closed the stream"):
                await broker.wait_for("never")
            assert record.since("READY") == ["STREAMEND", "SOCKETDISCONNECT", "SESSION_LOST"]
            record.check()
        assert came == ["</stream:stream>"]

    run(main)


def test_an_end_without_the_closing_tag_is_a_failure_of_the_socket() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()

        async with scripted(script) as at:
            broker = component(at.port)
            record = Record(broker)
            await broker.connect()
            with pytest.raises(ConnectionFailed, match="without closing the stream"):
                await broker.wait_for("never")
            assert record.since("READY") == ["SOCKETFAIL", "SOCKETDISCONNECT", "SESSION_LOST"]
            record.check()

    run(main)


def test_what_is_output_while_the_peer_ends_the_stream_is_not_taken_for_sent() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()
            wire.send(
                f"<message from='a@localhost' to='{DOMAIN}'/>"
                "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
                "</stream:stream>"
            )
            assert await wire.rest() == "</stream:stream>"

        async with scripted(script) as at:
            broker = component(at.port)
            record = Record(broker)
            receipts = []

            @broker.on(Event.PCJ_NODERECEIVED)
            def reply(status: Status) -> None:
                receipts.append(broker.output(message(to="a@localhost", body="too late")))

            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            await anext(gone)
            await turns()
            assert {receipt.state for receipt in receipts} == {ReceiptState.QUEUED}
            assert broker.queue == 2
            await broker.shutdown()
            record.check()

    run(main)


def test_a_server_that_never_closes_is_cut_off_after_close_timeout() -> None:
    async def main() -> None:
        held = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            await wire.until("</stream:stream>")
            held.set()
            await wire.rest()

        async with scripted(script) as at:
            broker = component(at.port, close_timeout=0.05)
            record = Record(broker)
            await broker.connect()
            await broker.shutdown()
            assert held.is_set()
            assert record.since("READY") == [
                "STREAMEND",
                "SHUTDOWN_START",
                "SOCKETDISCONNECT",
                "SESSION_LOST",
                "SHUTDOWN_FINISH",
            ]
            record.check()

    run(main)


def test_a_server_that_reads_no_more_cannot_hold_up_the_shutdown_and_what_is_left_is_held() -> None:
    async def main() -> None:
        go = never()

        async def script(wire: Wire) -> None:
            await wire.component()
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await go

        async with scripted(script) as at:
            broker = component(at.port, close_timeout=0.05, write_high_water=65_536)
            record = Record(broker)
            await broker.connect()
            receipts = [broker.output(message(to="a@localhost", body="x" * 100_000)) for _ in range(200)]
            await turns()
            assert broker.queue > 100, "what the network does not take stays with us"
            await broker.shutdown()
            written = [receipt.state for receipt in receipts].count(ReceiptState.UNCERTAIN)
            assert 0 < written < 100
            assert broker.queue == 200, "what was written and not proved is held, too"
            assert [receipt.state for receipt in receipts[written:]] == [ReceiptState.QUEUED] * (200 - written)
            assert record.names.count("NODEQUEUED") == 200
            assert record.names.count("NODE_UNCERTAIN") == written
            assert record.names.count("NODESENT") == 2 + written
            assert record.names[-1] == "SHUTDOWN_FINISH"
            record.check()
            go.set_result(None)
            broker.halt()

    run(main)


@pytest.mark.parametrize("proves", [True, False])
def test_shutdown_with_output_pending_delivers_all_of_it_in_order(proves: bool) -> None:
    async def main() -> None:
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await wire.component()
            came.append(await (wire.proving() if proves else wire.close()))

        async with scripted(script) as at:
            broker = component(at.port, write_high_water=65_536, close_timeout=10.0 if proves else 0.5)
            record = Record(broker)
            await broker.connect()
            receipts = [
                broker.output(message(to="a@localhost", id=str(number), body="x" * 1000)) for number in range(5000)
            ]
            await broker.shutdown()
            states = {receipt.state for receipt in receipts}
            if proves:
                assert states == {ReceiptState.ACKED}
                assert {str(status.detail["by"]) for status in record.of(Event.NODE_ACKED)} == {"barrier"}
                last = len(record.names) - 1 - record.names[::-1].index("NODE_ACKED")
                assert last < record.names.index("STREAMEND"), "what is proved is told before the end of the stream"
                assert not record.of(Event.NODE_UNCERTAIN)
            else:
                assert states == {ReceiptState.UNCERTAIN}, "an answer to our closing tag proves nothing"
                assert len(record.of(Event.NODE_UNCERTAIN)) == broker.queue == 5000
            record.check()
        ids = [piece.partition('"')[0] for piece in BARRIER.sub("", came[0]).split(' id="')[1:]]
        assert ids == [str(number) for number in range(5000)]
        assert came[0].endswith("</stream:stream>")

    run(main)


@pytest.mark.parametrize("coroutine", [False, True])
def test_a_flood_is_echoed_whole_and_in_order(coroutine: bool) -> None:
    count = 20_000

    async def main() -> None:
        echoed: list[str] = []

        async def script(wire: Wire) -> None:
            await wire.component()

            async def flood() -> None:
                for at in range(0, count, 500):
                    # Behind all that is in flight are the answers to our pings, too.
                    while at > len(echoed) + 5_000:  # noqa: ASYNC110
                        await asyncio.sleep(0)
                    wire.send(
                        "".join(
                            f"<message from='romeo@localhost/x' to='{DOMAIN}' id='{number}'><body>b</body></message>"
                            for number in range(at, at + 500)
                        )
                    )
                    await wire.writer.drain()

            sending = asyncio.ensure_future(flood())
            text = ""
            while len(echoed) < count:
                text = wire.prove(text + (await wire.reader.read(1 << 18)).decode())
                *whole, text = text.split("</message>")
                echoed.extend(piece.partition(' id="')[2].partition('"')[0] for piece in whole)
            await sending
            wire.send("</stream:stream>")
            await wire.rest()

        async with scripted(script) as at:
            broker = component(at.port)

            def reply(status: Status) -> None:
                node = status.node
                assert node is not None
                broker.output(message(to=node.get("from"), from_=node.get("to"), id=node.get("id"), body="b"))

            async def later(status: Status) -> None:
                reply(status)

            broker.subscribe(Event.PCJ_NODERECEIVED, later if coroutine else reply)
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            await anext(gone)
        assert echoed == [str(number) for number in range(count)]

    run(main)


# ---- the connection by itself


class Nobody:
    """An owner that counts its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append(name)


def test_a_connection_that_was_aborted_before_it_was_made_stays_silent() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            assert await wire.rest() == ""

        async with scripted(script) as at:
            owner = Nobody()
            config = component(at.port).config
            made = Connection(owner, config, dialect_of(JABBERD14_COMPONENT), tls_name="x")
            made.abort()
            await asyncio.get_running_loop().create_connection(lambda: made, "127.0.0.1", at.port)
            await turns(5)
            assert owner.calls == []
            assert not made.connected
            assert not made.ready

    run(main)


@pytest.mark.parametrize(
    ("source", "jid", "guarded"),
    [
        ("given", "romeo@example.org", False),
        (None, "romeo@example.org", False),
        ("srv", "romeo@example.org", True),
        ("srv", "romeo@localhost", True),
        ("redirect", "romeo@localhost", True),
        ("fallback", "romeo@example.org", True),
        ("fallback", "romeo@localhost", False),
        ("fallback", "romeo@echo.localhost", False),
        ("fallback", "romeo@127.0.0.1", False),
        ("fallback", "romeo@192.0.2.7", True),
        ("fallback", "romeo@localhost.example.org", True),
    ],
)
def test_this_machine_needs_no_tls_only_where_the_user_named_it(source: str | None, jid: str, guarded: bool) -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.rest()

        async with scripted(script) as at:
            config = Config(connection_type=LEGACY, jid=jid, password=SECRET)
            endpoint = None if source is None else Endpoint("localhost", at.port, source=source)
            made = Connection(Nobody(), config, dialect_of(LEGACY), tls_name="x", endpoint=endpoint)
            assert not made.guarded
            await asyncio.get_running_loop().create_connection(lambda: made, "127.0.0.1", at.port)
            assert made.guarded is guarded
            made.abort()

    run(main)
