"""Every number in `Config` bounds something: what is at the bound passes, what is one past it does not.

One row for each field, and none without a row. A row says what may be just as large (or as long, or as small) as the
field says, and what is refused; `passes` builds that and looks what becomes of it.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from pcj import Broker, ConfigError, ConnectionFailed, Event, Phase, QueueFull, Retry, message, ping
from pcj.backoff import Backoff
from pcj.config import JABBERD14_COMPONENT, XMPP, Config
from pcj.errors import NodeError, ProtocolError, SaslError
from pcj.intake import Intake
from pcj.liveness import Liveness
from pcj.namespaces import CLIENT, STREAMS
from pcj.outflow import Outflow
from pcj.protocol import Negotiator, dialect_of
from pcj.protocol.actions import Compute, Failed
from pcj.protocol.features.feature import Progress
from pcj.protocol.features.management import ENABLE
from pcj.protocol.steps import Negotiation, Send
from pcj.queue import Entry, Ledger, MemoryQueue, WriteBuffer
from pcj.sasl import MECHANISMS, Challenge, Channel, Credentials, Respond
from pcj.sasl import Limits as SaslLimits
from pcj.serialize import serialize
from pcj.stanza_clock import StanzaClock
from pcj.transport.resolve import Endpoint, resolve
from pcj.transport.tcp import dial
from pcj.xmlstream import NegotiatingParser, ReadyParser, StreamHeader, limits_of
from tests.core.protocol import play
from tests.shell.instant import run as instant
from tests.shell.links import Wire, client, closed_port, component, run, scripted, server, turns
from tests.shell.test_stanza_clock import Clockwork
from tests.shell.transport.dialling import connecting, listen, never
from tests.shell.transport.nameserver import name_server

GIVEN: dict[str, Any] = {"connection_type": XMPP, "jid": "romeo@example.org/orchard", "password": "secret"}
TO = "juliet@localhost"


@dataclass(frozen=True)
class Bound:
    """One row: what the field is set to, what is at the bound, and what is past it."""

    field: str
    value: float
    at: float
    past: float
    passes: Callable[[Any, Any], bool]


# ---- what the peer sends


def received(data: bytes, **options: Any) -> bool:
    """Whether one element passes in both gears, and in both alike."""
    limits = limits_of(Config(**GIVEN, **options))
    header = f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}'>".encode()
    negotiating = NegotiatingParser(limits)
    negotiating.feed(header + data)
    assert negotiating.next() is not None
    answer: str | None = ""
    try:
        passed = negotiating.next() is not None
    except ProtocolError as error:
        passed, answer = False, error.answer
    assert answer == ("" if passed else "policy-violation")
    ready = ReadyParser({"": CLIENT}, CLIENT, limits)
    assert (len(ready.feed(data)) == 1) is passed
    assert (ready.failure is None) is passed
    return passed


def stanza_bytes(bound: int, size: int) -> bool:
    return received(b"<a>" + b"x" * (size - 7) + b"</a>", max_stanza_bytes=bound)


def depth(bound: int, levels: int) -> bool:
    return received(b"<a>" * levels + b"</a>" * levels, max_depth=bound)


def elements(bound: int, count: int) -> bool:
    return received(b"<a>" + b"<b/>" * (count - 1) + b"</a>", max_elements=bound)


def attributes(bound: int, count: int) -> bool:
    return received(b"<a" + b"".join(b" a%d=''" % number for number in range(count)) + b"/>", max_attributes=bound)


def names(bound: int, count: int) -> bool:
    """Whether one parser holds so many; past the bound it is relieved, and nothing is refused."""
    parser = ReadyParser({"": CLIENT}, CLIENT, limits_of(Config(**GIVEN, max_names=bound)))
    first = parser._parser
    for number in range(count):
        assert len(parser.feed(b"<%c/>" % (97 + number))) == 1
    return parser._parser is first


def stanza_time(bound: float, seconds: float) -> bool:
    loop, late = Clockwork(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", lambda: loop)
        clock = StanzaClock(bound, lambda: late.append(True))
        clock.look("<message>", False)
        loop.go_to(loop.now + seconds)
        clock.look("", True)
    return not late


# ---- the phases


BIND = play.features(play.BIND)
LOGIN = [line[3:] for line in play.authentication() if line.startswith("S: ")]
OFFER = play.features(play.mechanisms("SCRAM-SHA-256"))
BOUND_TO = play.bind_result("token-2", "romeo@example.org/orchard")
SESSION = play.features(play.BIND, play.SESSION)
#: What the server says until the phase has begun.
UNTIL: dict[Phase, list[str]] = {
    Phase.STREAM: [],
    Phase.TLS: [play.server_header(), play.features(play.STARTTLS)],
    Phase.AUTHENTICATE: [play.server_header(), OFFER],
    Phase.BIND: [play.server_header(), OFFER, *LOGIN, play.server_header(), BIND],
    Phase.SESSION: [play.server_header(), OFFER, *LOGIN, play.server_header(), SESSION, BOUND_TO],
}


def in_phase(phase: Phase) -> Callable[[float, float], bool]:
    """Whether an answer that comes after so many seconds is still waited for."""

    def passes(bound: float, seconds: float) -> bool:
        options: dict[str, Any] = {f"{phase}_timeout": bound}
        made = play.config(XMPP, require_tls=phase is Phase.TLS, **options)
        negotiator = Negotiator(made, dialect_of(XMPP), token=play.Tokens(), loopback=True)
        waiting = [*negotiator.start(0.0)]
        for line in UNTIL[phase]:
            waiting = negotiator.receive_data(line.encode(), 0.0)
            while waiting and isinstance(waiting[-1], Compute):
                waiting = negotiator.computed(waiting[-1].run(), 0.0)
        assert negotiator.phase is phase
        actions = negotiator.handle_timer(seconds)
        assert not actions or (isinstance(actions[-1], Failed) and actions[-1].phase is phase)
        return not actions

    return passes


def resolving(bound: float, seconds: float) -> bool:
    """Whether the answer of a name server counts; a silent one gives what is connected to without an answer."""

    async def find() -> bool:
        service = "_xmpp-client._tcp.example.org"
        zone: Any = {service: None} if seconds > bound else {service: ["0 5 5999 there.example.org."]}
        async with name_server(zone) as (address, _):
            found = await resolve(
                "example.org", direct_tls_too=False, timeout=bound, random=lambda: 0.0, nameservers=[address]
            )
        return any(endpoint.port == 5999 for endpoint in found)

    return asyncio.run(find())


def dialling(bound: float, seconds: float) -> bool:
    async def connect() -> bool:
        listening, port = listen()
        with listening:
            if seconds > bound:
                connecting(never)(asyncio.get_running_loop())
            try:
                transport, _ = await dial(
                    Endpoint("127.0.0.1", port), asyncio.Protocol, timeout=bound, on_attempt=lambda where, error: None
                )
            except ConnectionFailed:
                return False
            transport.abort()
            await turns()
            return True

    return asyncio.run(connect())


def closing(bound: float, seconds: float) -> bool:
    """Whether the peer's closing tag is waited for."""
    seen: list[bool] = []

    async def main() -> None:
        over = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            await wire.until("</stream:stream>")
            if seconds > bound:
                await over.wait()
            else:
                wire.send("<message from='last@localhost'/></stream:stream>")
                await wire.rest()

        async with scripted(script) as at:
            broker = component(at.port, close_timeout=bound)
            broker.subscribe(Event.PCJ_NODERECEIVED, lambda status: seen.append(True))
            async with broker:
                pass
            over.set()

    run(main)
    return bool(seen)


def requesting(bound: float, seconds: float) -> bool:
    came: list[bool] = []

    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()
            identity = await wire.request()
            if seconds <= bound:
                wire.send(f"<iq type='result' id='{identity}' from='{TO}' to='echo.localhost'/>")
            await wire.close()

        async with scripted(script) as at, component(at.port, request_timeout=bound) as broker:
            try:
                await broker.return_to_sender(ping(to=TO))
            except TimeoutError:
                return
            came.append(True)

    run(main)
    return bool(came)


# ---- connecting again


def delay(failures: int, ready_for: float = 0.0, **options: Any) -> float:
    """The longest that may come after so many failures in a row."""
    config = Config(**GIVEN, **options)
    made = Backoff(config.reconnect_delay, config.reconnect_delay_max, config.reconnect_reset, lambda: 1.0)
    for _ in range(failures):
        made.delay(Retry.FAST, 0.0)
    return made.delay(Retry.FAST, ready_for)


def first_delay(bound: float, seconds: float) -> bool:
    return seconds <= delay(0, reconnect_delay=bound)


def longest_delay(bound: float, seconds: float) -> bool:
    return seconds <= delay(50, reconnect_delay_max=bound)


def small_again(bound: float, seconds: float) -> bool:
    """Whether the delay is still a long one after a session of so many seconds."""
    return delay(5, seconds, reconnect_reset=bound) > delay(0, seconds, reconnect_reset=bound)


def redirected(bound: int, times: int) -> bool:
    reached: list[bool] = []

    async def main() -> None:
        left = [times]

        async def sends_on(wire: Wire) -> None:
            if left[0] == 0:
                await wire.login()
                await wire.bind()
                await wire.close()
                return
            left[0] -= 1
            await wire.header("jabber:client", version="1.0")
            wire.send(
                "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>"
                f"127.0.0.1:{at.port}</see-other-host></stream:error></stream:stream>"
            )
            await wire.rest()

        async with scripted(*[sends_on] * (times + 1)) as at:
            broker = client(at.port, max_redirects=bound)
            try:
                async with broker:
                    reached.append(True)
            except ConnectionFailed:
                return

    run(main)
    return bool(reached)


# ---- what waits


def accepted(make: Callable[[], Broker], give: Callable[[Broker], object]) -> bool:
    taken: list[bool] = []

    async def main() -> None:
        broker = make()
        try:
            give(broker)
            taken.append(True)
        except (NodeError, QueueFull):
            pass
        broker.halt()

    run(main)
    return bool(taken)


def outbound_bytes(bound: int, size: int) -> bool:
    return accepted(
        lambda: component(closed_port(), max_outbound_bytes=bound),
        lambda broker: broker.output(of_bytes(size)),
    )


def of_bytes(size: int) -> Any:
    """A component's message of so many bytes."""
    given = message(to=TO, from_="echo.localhost", id="i", body="x")
    empty = len(serialize(given, "jabber:component:accept")) - 1
    return message(to=TO, from_="echo.localhost", id="i", body="x" * (size - empty))


def queue_nodes(bound: int, count: int) -> bool:
    return accepted(
        lambda: component(closed_port(), queue_max_nodes=bound),
        lambda broker: [broker.output(message(to=TO)) for _ in range(count)],
    )


def queue_bytes(bound: int, size: int) -> bool:
    return accepted(
        lambda: component(closed_port(), queue_max_bytes=bound),
        lambda broker: [broker.output(of_bytes(part)) for part in (200, size - 200)],
    )


def queue_age(bound: float, seconds: float) -> bool:
    async def made() -> Entry:
        options = Config(
            connection_type=JABBERD14_COMPONENT, jid="echo.localhost", password="secret", queue_max_age=bound
        )
        return Intake(options, dialect_of(JABBERD14_COMPONENT)).entry(message(to=TO), None, None, None)

    queue = MemoryQueue(10, 1000)
    entry = asyncio.run(made())
    queue.put(entry)
    return queue.expire(entry.at + seconds) == []


def pending(bound: int, count: int) -> bool:
    return accepted(
        lambda: component(closed_port(), max_pending_requests=bound),
        lambda broker: [broker.return_to_sender(ping(to=TO)) for _ in range(count)],
    )


def backlog_bytes(bound: int, weight: int) -> bool:
    """Whether more is still read while a status of so many bytes waits."""
    reads: list[bool] = []

    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()
            await wire.close()

        async with scripted(script) as at:
            broker = component(at.port, inbound_max_bytes=bound)
            go = asyncio.Event()

            async def slow(_: object) -> None:
                await go.wait()

            broker.subscribe("of the test's own", slow)
            async with broker:
                broker._dispatcher.weight = weight
                broker._dispatcher.fire("of the test's own")
                broker._backpressure.check()
                connection = broker._link.connection
                assert connection is not None
                reads.append(not connection.paused)
                go.set()
                await turns()

    run(main)
    return reads[0]


def backlog(bound: int, waiting: int) -> bool:
    """Whether more is still read while so many statuses wait: when as many wait as may, nothing is."""
    reads: list[bool] = []

    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component(tail="".join(f"<message from='{TO}' id='{number}'/>" for number in range(waiting)))
            await wire.close()

        async with scripted(script) as at:
            broker = component(at.port, inbound_backlog=bound)
            go, all_came = asyncio.Event(), asyncio.Event()

            async def slow(_: object) -> None:
                await go.wait()

            def count(status: Any) -> None:
                if status.node.get("id") == str(waiting - 1):
                    all_came.set()

            broker.subscribe(Event.PCJ_NODERECEIVED, slow)
            broker.subscribe(Event.PCJ_NODERECEIVED, count)
            async with broker:
                await all_came.wait()
                await turns()
                connection = broker._link.connection
                assert connection is not None
                assert broker._dispatcher.backlog == waiting - 1  # of one is being told
                reads.append(not connection.paused)
                go.set()
                await turns()

    run(main)
    return reads[0]


def one_write(bound: int, size: int) -> bool:
    """Whether all that waits goes to the transport at once, which then asks for a pause if the network is slow."""
    buffer = WriteBuffer()
    for part in (100, size - 100):
        buffer.append(Entry(b"", b"x" * part, 0.0))
    return len(buffer.take(10, bound)) == 2


def window_nodes(bound: int, count: int) -> bool:
    """Whether so many nodes may be written and unproved."""
    return Ledger(bound, 10_000, 100).allowance()[0] >= count


def window_bytes(bound: int, size: int) -> bool:
    """Whether one more node may be written behind so many unproved bytes."""
    ledger = Ledger(10, bound, 100)
    ledger.written([Entry(b"", b"x" * (size - 1), 0.0)], size - 1)
    return ledger.allowance()[0] > 0


def proof_due(bound: int, count: int) -> bool:
    """Whether so many nodes may go out before a proof is asked for."""
    return not Ledger(1_000, 10_000, bound).is_due(count)


def high_water(bound: int, count: int) -> bool:
    """Whether so many nodes may wait before HIGH_WATER is told."""
    told: list[object] = []

    async def main() -> None:
        broker = component(closed_port(), high_water_nodes=bound)
        broker.subscribe(Event.HIGH_WATER, told.append)
        for _ in range(count):
            broker.output(message(to=TO))
        broker.halt()

    run(main)
    return not told


def watched(silence: float, probe: float, seconds: float) -> tuple[list[str], list[str]]:
    """(what was asked, who was given up) when a peer has been silent for so long."""
    asked: list[str] = []
    dead: list[str] = []

    async def main() -> None:
        def ask() -> str:
            asked.append("ping")
            return "ping"

        liveness = Liveness(
            silence,
            probe,
            ask=ask,
            dead=lambda error: dead.append(str(error)),
            tell=lambda silence, by: None,
            keepalive=lambda: None,
        )
        await asyncio.sleep(seconds)
        liveness.cancel()

    instant(main)
    return asked, dead


def silent(bound: float, seconds: float) -> bool:
    return not watched(bound, 1000.0, seconds)[0]


def unanswered(bound: float, seconds: float) -> bool:
    return not watched(10.0, bound, 10.0 + seconds)[1]


def asked_in_time(bound: float, seconds: float) -> bool:
    """Whether nothing is asked yet so long after the first node went out."""
    asked: list[int] = []

    async def main() -> None:
        class Taker:
            def transmit(self, data: bytes) -> bool:
                return True

            def unwritable(self) -> None: ...

            def emptied(self) -> None: ...

            def wants(self, event: str) -> bool:
                return False

            def written(self, entry: Entry) -> None: ...

        def prove(place: int) -> bytes:
            asked.append(place)
            return b""

        outflow = Outflow(Taker(), Ledger(10, 1_000, 5), 1_000, bound)
        outflow.prover = prove
        outflow.send(Entry(b"", b"x", 0.0))
        outflow.flush()
        await asyncio.sleep(seconds)
        outflow.end()

    instant(main)
    return not asked


def doubted(bound: int, times: int) -> bool:
    """Whether a node may be unproved so many times when the server ends the stream in error."""

    async def main() -> None:
        broker = component(closed_port(), max_doubts=bound, on_doubt="resend")
        outbox = broker._outbox
        entry = outbox.entry(message(to=TO))
        entry.doubts = times
        outbox.ledger.written([entry], len(entry.data))
        outbox.end()
        ended.append(entry.receipt.final)
        broker.halt()

    ended: list[bool] = []
    run(main)
    return not ended[0]


def resumable_for(bound: float, seconds: float) -> bool:
    """Whether a server is asked to keep a lost session for so many seconds."""
    options = Config(
        connection_type=XMPP,
        jid="romeo@localhost",
        password="secret",
        auto_reconnect=True,
        resume_seconds=bound,
    )
    given = Negotiation(options, "jabber:client", component=False, tls_required=False, token=lambda: "t")
    program = ENABLE.negotiate(given, Progress("romeo@localhost/x", StreamHeader({})), Element("features"))
    step = next(program)
    assert isinstance(step, Send)
    return float(step.node.get("max", "0")) >= seconds


def answers(bound: int, count: int) -> bool:
    """Whether so many requests are answered while the network takes nothing."""
    waits: list[int] = []

    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()
            await asked.wait()
            ping_ = f"<iq type='get' id='p' from='{TO}' to='echo.localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
            wire.send(ping_ * count + f"<message from='{TO}'/>")
            await wire.close()

        asked = asyncio.Event()
        async with scripted(script) as at, component(at.port, max_auto_replies=bound) as broker:
            connection = broker._link.connection
            assert connection is not None
            connection.pause_writing()
            last = broker.events(Event.PCJ_NODERECEIVED)
            asked.set()
            await anext(last)
            waits.append(broker.queue)
            connection.resume_writing()

    run(main)
    return waits == [count]


# ---- what a server may ask of us


def iterations(**limits: int) -> bool:
    """Whether SCRAM goes on at this number of rounds."""
    asked = limits.pop("asked")
    (scram,) = (each for each in MECHANISMS if each.name == "SCRAM-SHA-1")
    exchange = scram.exchange(Credentials("romeo", "secret"), "nonce", SaslLimits(**limits), Channel())
    assert isinstance(next(exchange), Respond)
    first = f"r=nonceserver,s={base64.b64encode(b'salt-of-16-bytes').decode()},i={asked}"
    try:
        exchange.send(Challenge(first.encode()))
    except SaslError:
        return False
    return True


def least_iterations(bound: int, asked: int) -> bool:
    return iterations(asked=asked, min_iterations=bound)


def most_iterations(bound: int, asked: int) -> bool:
    return iterations(asked=asked, max_iterations=bound)


def port(_: int, number: int) -> bool:
    try:
        Config(**GIVEN, port=number)
    except ConfigError:
        return False
    return True


ROWS = [
    Bound("port", 65535, 65535, 65536, port),
    Bound("port", 1, 1, 0, port),
    Bound("min_scram_iterations", 5000, 5000, 4999, least_iterations),
    Bound("max_scram_iterations", 5000, 5000, 5001, most_iterations),
    Bound("reconnect_delay", 2.0, 2.0, 2.1, first_delay),
    Bound("reconnect_delay_max", 90.0, 90.0, 90.1, longest_delay),
    Bound("reconnect_reset", 30.0, 29.9, 30.0, small_again),
    Bound("resolve_timeout", 0.09, 0.0, 1.0, resolving),
    Bound("connect_timeout", 0.09, 0.0, 1.0, dialling),
    Bound("tls_timeout", 7.0, 6.999, 7.0, in_phase(Phase.TLS)),
    Bound("stream_timeout", 7.0, 6.999, 7.0, in_phase(Phase.STREAM)),
    Bound("authenticate_timeout", 7.0, 6.999, 7.0, in_phase(Phase.AUTHENTICATE)),
    Bound("bind_timeout", 7.0, 6.999, 7.0, in_phase(Phase.BIND)),
    Bound("session_timeout", 7.0, 6.999, 7.0, in_phase(Phase.SESSION)),
    Bound("close_timeout", 0.09, 0.0, 1.0, closing),
    Bound("request_timeout", 0.09, 0.0, 1.0, requesting),
    Bound("max_stanza_bytes", 500, 500, 501, stanza_bytes),
    Bound("max_depth", 7, 7, 8, depth),
    Bound("max_elements", 9, 9, 10, elements),
    Bound("max_attributes", 5, 5, 6, attributes),
    Bound("max_names", 6, 6, 7, names),
    Bound("stanza_timeout", 60.0, 59.999, 60.0, stanza_time),
    Bound("max_outbound_bytes", 600, 600, 601, outbound_bytes),
    Bound("queue_max_nodes", 3, 3, 4, queue_nodes),
    Bound("queue_max_bytes", 600, 600, 601, queue_bytes),
    Bound("queue_max_age", 60.0, 59.999, 60.0, queue_age),
    Bound("max_pending_requests", 3, 3, 4, pending),
    Bound("max_redirects", 2, 2, 3, redirected),
    Bound("inbound_backlog", 4, 3, 4, backlog),
    Bound("inbound_max_bytes", 500, 499, 500, backlog_bytes),
    Bound("max_unacked_nodes", 5, 5, 6, window_nodes),
    Bound("max_unacked_bytes", 500, 500, 501, window_bytes),
    Bound("max_doubts", 2, 1, 2, doubted),
    Bound("high_water_nodes", 5, 5, 6, high_water),
    Bound("ack_every_nodes", 5, 4, 5, proof_due),
    Bound("ack_every_seconds", 2.0, 1.9, 2.1, asked_in_time),
    Bound("resume_seconds", 90.0, 90.0, 91.0, resumable_for),
    Bound("silence_timeout", 50.0, 49.9, 50.1, silent),
    Bound("probe_timeout", 20.0, 19.9, 20.1, unanswered),
    Bound("max_auto_replies", 3, 3, 4, answers),
    Bound("write_high_water", 500, 500, 501, one_write),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.field)
def test_what_is_at_the_bound_passes_and_what_is_past_it_does_not(row: Bound) -> None:
    assert row.passes(row.value, row.at) is True
    assert row.passes(row.value, row.past) is False


def test_every_number_in_the_options_has_a_row_and_no_row_has_no_option() -> None:
    numeric = {
        option.name
        for option in dataclasses.fields(Config)
        if str(option.type).removesuffix(" | None") in ("int", "float")
    }
    assert {row.field for row in ROWS} == numeric


@pytest.mark.parametrize("name", sorted({row.field for row in ROWS} - {"port"}))
def test_every_bound_is_there_by_default(name: str) -> None:
    assert getattr(Config(**GIVEN), name) > 0


def test_the_bounds_of_the_sockets_buffer_are_given_to_the_transport() -> None:
    async def main() -> None:
        async with server() as at, component(at.component_port, write_high_water=12_345) as broker:
            connection = broker._link.connection
            assert connection is not None
            assert connection._wire is not None
            transport: Any = connection._wire._transport
            assert transport.get_write_buffer_limits()[1] == 12_345

    run(main)
