"""Handlers that cannot keep up slow the reading, and nothing else: no deadlock, no memory without bound (A11, K39)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from pcj import Broker, Event, Status, message, ping
from pcj.backpressure import Backpressure
from pcj.config import JABBERD14_COMPONENT, Config
from pcj.connection import Connection
from pcj.dispatch import STANZA_BYTES, Dispatcher
from pcj.requester import Requester
from tests.shell.links import BARRIER, DOMAIN, Record, Wire, component, never, returned, run, scripted, texts, turns

TO = "juliet@localhost"
#: What asyncio takes from a socket in one read, at most.
ONE_READ = 262_144
#: In place of a second.
SOON = 0.01


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcj.backpressure.TRICKLE", SOON)


def numbered(numbers: Iterable[int], filling: str = "") -> str:
    """Messages as the server sends them."""
    return "".join(
        f"<message from='{TO}' to='{DOMAIN}' id='{number}'><body>{number}</body><x>{filling}</x></message>"
        for number in numbers
    )


def bodies(heard: list[Status]) -> list[str | None]:
    return texts(status.node for status in heard)


# ---- when it pauses, with the numbers handed in


class FakeConnection:
    """A socket that is read or is not."""

    def __init__(self) -> None:
        self.ready = True
        self.paused = False
        self.given_up = 0

    def pause_reading(self) -> bool:
        if self.paused or not self.ready:
            return False
        self.paused = True
        return True

    def resume_reading(self) -> None:
        self.paused = False

    def give_up(self) -> None:
        self.given_up += 1


class Bench:
    """A backlog of 10 statuses or 1,000 bytes, which the test sets."""

    def __init__(self) -> None:
        config = Config(
            connection_type=JABBERD14_COMPONENT,
            jid=DOMAIN,
            password="x",
            inbound_backlog=10,
            inbound_max_bytes=1000,
            probe_timeout=0.05,
        )
        self.dispatcher = Dispatcher(time.monotonic, 10)
        self.requests: list[str] = []
        self.connection: FakeConnection | None = FakeConnection()
        self.said: list[tuple[str, object, object]] = []
        for event in (Event.READING_PAUSED, Event.READING_RESUMED):
            self.dispatcher.subscribe(event, self._said)
        self.pressure = Backpressure(
            config,
            self.dispatcher,
            cast(Requester, self.requests),
            lambda: cast(Connection | None, self.connection),
        )
        self.why: list[str] = []
        self.pressure.on_stuck = self.why.append

    def _said(self, status: Status) -> None:
        self.said.append((status.event, status.detail["statuses"], status.detail["bytes"]))

    @property
    def the_connection(self) -> FakeConnection:
        assert self.connection is not None
        return self.connection

    def reads(self) -> bool:
        """Whether it is read now."""
        return not self.the_connection.paused

    def waiting(self, statuses: int, size: int, *, asked: bool = False) -> bool:
        """Whether it is read when so much waits."""
        self.dispatcher.backlog, self.dispatcher.backlog_bytes = statuses, size
        self.requests[:] = ["reply"] if asked else []
        self.pressure.check()
        return self.reads()


def benched(test: Callable[[Bench], Any]) -> None:
    async def main() -> None:
        bench = Bench()
        test(bench)
        bench.pressure.end()

    run(main)


@pytest.mark.parametrize(
    ("statuses", "size", "asked", "reads"),
    [
        (9, 999, False, True),
        (10, 0, False, False),
        (10, 0, True, True),  # A11: the slow handler may be the one who waits for the reply
        (1_000_000, 999, True, True),
        (1, 1000, False, False),
        (1, 1000, True, False),  # the hard bound
    ],
)
def test_reading_pauses_at_the_first_bound_unless_a_reply_is_awaited_and_at_the_hard_one_always(
    statuses: int, size: int, asked: bool, reads: bool
) -> None:
    def test(bench: Bench) -> None:
        assert bench.waiting(statuses, size, asked=asked) is reads
        assert bench.pressure.paused is not reads
        assert bench.said == ([] if reads else [(Event.READING_PAUSED, statuses, size)])

    benched(test)


@pytest.mark.parametrize(
    ("statuses", "size", "asked", "reads", "told"),
    [
        (6, 0, False, False, False),
        (5, 0, False, True, True),
        (5, 501, False, False, False),
        (5, 500, False, True, True),
        (9, 999, True, True, False),
        (9, 1000, True, False, False),
        (5, 500, True, True, True),
    ],
)
def test_reading_goes_on_when_half_is_free_or_a_reply_is_awaited_and_only_the_first_is_told(
    statuses: int, size: int, asked: bool, reads: bool, told: bool
) -> None:
    def test(bench: Bench) -> None:
        assert not bench.waiting(10, 1000)
        assert bench.waiting(statuses, size, asked=asked) is reads
        assert bench.pressure.paused is not told
        assert bench.said[1:] == ([(Event.READING_RESUMED, statuses, size)] if told else [])

    benched(test)


def test_a_handler_that_asks_for_each_stanza_does_not_have_a_pause_told_for_each() -> None:
    def test(bench: Bench) -> None:
        for waiting in range(100, 5, -1):
            bench.waiting(waiting, 0, asked=False)
            bench.waiting(waiting, 0, asked=True)
        assert bench.said == [(Event.READING_PAUSED, 100, 0)]
        bench.waiting(5, 0)
        assert bench.said[1:] == [(Event.READING_RESUMED, 5, 0)]

    benched(test)


@pytest.mark.parametrize("room", [999, 1999])
def test_a_read_is_let_through_now_and_then_up_to_twice_the_bytes(quick: None, room: int) -> None:
    async def main() -> None:
        bench = Bench()
        assert not bench.waiting(10, room)
        for _ in range(3):
            await asyncio.sleep(SOON * 3)
            assert bench.reads()
            assert bench.pressure.paused  # to the user it is
            assert not bench.waiting(10, room)  # behind that read
        assert not bench.waiting(10, 2000)
        await asyncio.sleep(SOON * 3)
        assert not bench.reads()
        assert not bench.waiting(10, room)
        await asyncio.sleep(SOON * 3)  # it goes on looking
        assert bench.reads()
        assert bench.said == [(Event.READING_PAUSED, 10, room)]
        assert not bench.why, "handlers were at work, or it was read"
        bench.pressure.end()

    run(main)


def test_nobody_waits_for_the_peer_while_nothing_can_be_read_and_no_handler_returns(quick: None) -> None:
    async def main() -> None:
        bench = Bench()
        said: list[str] = []
        bench.dispatcher.subscribe(Event.WARNING, lambda status: said.append(str(status.detail["what"])))
        bench.waiting(200, 3000)
        for number in range(199, 190, -1):  # handlers are at work: nothing is wrong, however long it takes
            await asyncio.sleep(SOON)
            bench.dispatcher.backlog = number
        assert not bench.why
        await asyncio.sleep(SOON * 12)
        (what,) = said
        assert "191 statuses of 3000 bytes wait for coroutine handlers" in what
        assert "for 0.05 s (probe_timeout)" in what
        times = len(bench.why)
        bench.waiting(190, 2000)  # the next handler waits by the end of this turn of the loop
        assert len(bench.why) == times
        await turns(1)
        assert len(bench.why) == times + 1
        bench.waiting(189, 1999)  # now one read is let through: there may be an answer in it
        times = len(bench.why)
        await asyncio.sleep(SOON * 3)
        assert bench.reads()
        assert len(bench.why) == times
        bench.waiting(190, 2000)
        await turns(1)
        assert len(bench.why) == times + 1, "there was none"
        bench.waiting(5, 500)
        assert bench.reads()
        bench.waiting(200, 2000)
        await turns(1)
        assert len(bench.why) == times + 1, "all anew"
        assert len(said) == 1
        bench.pressure.end()
        await asyncio.sleep(SOON * 8)
        assert len(bench.why) == times + 1, "the session is over"

    run(main)


def test_another_connection_is_paused_for_itself_and_an_ended_one_not_again(quick: None) -> None:
    async def main() -> None:
        bench = Bench()
        bench.waiting(10, 0)
        old, bench.connection = bench.the_connection, FakeConnection()
        assert not bench.pressure.paused
        await asyncio.sleep(SOON * 3)
        assert old.paused  # a trickle is not for it any more
        assert not bench.waiting(11, 0)
        assert [event for event, *_ in bench.said] == [Event.READING_PAUSED] * 2
        bench.pressure.end()
        assert not bench.pressure.paused
        bench.connection = None
        bench.pressure.check()
        assert len(bench.said) == 2

    run(main)


@pytest.mark.parametrize(("statuses", "size", "given_up"), [(9_999, 1999, False), (10_000, 0, True), (1, 2000, True)])
def test_a_close_goes_on_reading_for_the_peers_own_close_but_not_without_bound(
    statuses: int, size: int, given_up: bool
) -> None:
    def test(bench: Bench) -> None:
        bench.the_connection.ready = False
        assert bench.waiting(statuses, size)
        assert bool(bench.the_connection.given_up) is given_up
        assert bench.said == []

    benched(test)


# ---- with a broker


def paused(broker: Broker) -> bool:
    return broker._backpressure.paused


class Peer:
    """A component's server that floods, and answers pings, those behind its flood."""

    def __init__(self, flood: str, *, answers: bool = True) -> None:
        self.flood = flood
        self.answers = answers
        self.more = asyncio.Event()
        self.then = ""

    async def play(self, wire: Wire) -> None:
        await wire.component(tail=self.flood)
        sending = asyncio.ensure_future(self._then(wire))
        answering = asyncio.ensure_future(self._answer(wire))
        try:
            await wire.writer.wait_closed()
        finally:
            for task in (sending, answering):
                task.cancel()

    async def _then(self, wire: Wire) -> None:
        await self.more.wait()
        wire.send(self.then)

    async def _answer(self, wire: Wire) -> None:
        while data := await wire.reader.read(1 << 16):
            text = data.decode()
            for part in text.split("<iq ")[1:]:
                if self.answers and 'type="get"' in part.partition(">")[0]:
                    identity = part.partition('id="')[2].partition('"')[0]
                    wire.send(f"<iq type='result' id='{identity}' from='localhost' to='{DOMAIN}'/>")
            if "</stream:stream>" in text:
                wire.send("</stream:stream>")
                wire.writer.close()
                return


@pytest.mark.parametrize("backlog", [1, 50])
def test_a_handler_that_awaits_a_reply_for_each_stanza_of_a_flood_gets_each_in_order(backlog: int) -> None:
    count = 2_000

    async def main() -> None:
        peer = Peer(numbered(range(count)))
        async with scripted(peer.play) as at:
            broker = component(at.port, inbound_backlog=backlog, request_timeout=10.0)
            record = Record(broker)
            heard: list[Status] = []
            done = never()

            @broker.on(Event.PCJ_NODERECEIVED)
            async def slow(status: Status) -> None:
                reply = await broker.return_to_sender(ping(to="localhost"))
                assert reply.get("type") == "result"
                heard.append(status)
                if len(heard) == count:
                    done.set_result(None)

            async with broker:
                await done
            assert bodies(heard) == [str(number) for number in range(count)]
            told = [name for name in record.names if name.startswith("READING")]
            assert told == ["READING_PAUSED", "READING_RESUMED"] * (len(told) // 2)
            assert len(told) < count / 10
            record.check()

    run(main)


def test_three_bad_handlers_do_not_stop_the_stream_nor_lose_anything(quick: None) -> None:
    """K39: one raises on every seventh, one sleeps for long, one awaits a reply for each."""
    count = 300

    async def main() -> None:
        peer = Peer(numbered(range(count)))
        peer.then = f"<iq type='get' id='alive' from='localhost' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>"
        peer.more.set()
        async with scripted(peer.play) as at:
            broker = component(at.port, inbound_backlog=20)
            record = Record(broker)
            pinged = broker.events(Event.IQ_ANSWERED)
            awake = asyncio.Event()
            by: dict[str, list[Status]] = {"raises": [], "sleeps": [], "asks": []}
            done: dict[str, asyncio.Future[None]] = {name: never() for name in by}

            def note(name: str, status: Status) -> None:
                by[name].append(status)
                if len(by[name]) == count:
                    done[name].set_result(None)

            @broker.on(Event.PCJ_NODERECEIVED)
            async def raises(status: Status) -> None:
                note("raises", status)
                if len(by["raises"]) % 7 == 0:
                    raise ValueError("every seventh")

            @broker.on(Event.PCJ_NODERECEIVED)
            async def sleeps(status: Status) -> None:
                await awake.wait()
                note("sleeps", status)

            @broker.on(Event.PCJ_NODERECEIVED)
            async def asks(status: Status) -> None:
                await broker.return_to_sender(ping(to="localhost"))
                note("asks", status)

            async with broker:
                await done["raises"]  # though another sleeps
                await done["asks"]
                assert (await anext(pinged)).node is not None
                await asyncio.sleep(SOON * 2)
                assert paused(broker)
                assert f"{count - 1} statuses wait for coroutine handlers" in broker.explain()
                awake.set()
                await done["sleeps"]
                await turns()
                assert not paused(broker)
            for heard in by.values():
                assert bodies(heard) == [str(number) for number in range(count)]
            assert len(record.of(Event.HANDLER_FAILED)) == count // 7
            assert not record.of(Event.RTS_FAIL)
            record.check()

    run(main)


def test_a_ping_behind_what_waits_is_answered_while_the_handler_sleeps(quick: None) -> None:
    async def main() -> None:
        peer = Peer(numbered(range(5)))
        # More than one read of it, before the ping.
        peer.then = (
            numbered(range(5, 605), "x" * 1000) + f"<iq type='get' id='alive' from='localhost' to='{DOMAIN}'>"
            "<ping xmlns='urn:xmpp:ping'/></iq>"
        )
        async with scripted(peer.play) as at:
            broker = component(at.port, inbound_backlog=2)
            record = Record(broker)
            answered = broker.events(Event.IQ_ANSWERED)
            awake, stopped, done = asyncio.Event(), asyncio.Event(), never()
            heard: list[Status] = []
            broker.subscribe(Event.READING_PAUSED, lambda status: stopped.set())

            @broker.on(Event.PCJ_NODERECEIVED)
            async def sleeps(status: Status) -> None:
                await awake.wait()
                heard.append(status)
                if len(heard) == 605:
                    done.set_result(None)

            async with broker:
                await stopped.wait()
                peer.more.set()
                status = await anext(answered)
                assert status.node is not None
                assert status.node.get("id") == "alive"
                assert heard == []
                assert paused(broker)
                assert "Nothing is read, because" in broker.explain()
                assert len(record.of(Event.READING_PAUSED)) == 1
                awake.set()
                await done
            assert bodies(heard) == [str(number) for number in range(605)]
            assert len(record.of(Event.READING_RESUMED)) == 1
            record.check()

    run(main)


@pytest.mark.parametrize("asked", [True, False], ids=["a reply is awaited", "nothing is awaited"])
def test_what_waits_is_never_more_than_twice_the_bytes_and_one_read(quick: None, asked: bool) -> None:
    count, bound = 4_000, 600_000

    async def main() -> None:
        peer = Peer("", answers=False)
        peer.then = numbered(range(count), "x" * 1000)
        async with scripted(peer.play) as at:
            broker = component(at.port, inbound_backlog=100, inbound_max_bytes=bound)
            awake, full, done = asyncio.Event(), asyncio.Event(), never()
            heard: list[Status] = []
            most = 0

            async def sleeps(status: Status) -> None:
                await awake.wait()
                heard.append(status)
                if len(heard) == count:
                    done.set_result(None)

            broker.subscribe(Event.PCJ_NODERECEIVED, sleeps)

            def weigh(status: Status) -> None:
                nonlocal most
                most = max(most, broker._dispatcher.backlog_bytes)
                if most >= 2 * bound:
                    full.set()

            broker.subscribe(Event.PCJ_NODERECEIVED, weigh)
            async with broker:
                reply = broker.return_to_sender(ping(to="localhost")) if asked else None
                peer.more.set()
                await full.wait()  # by trickles
                await asyncio.sleep(SOON * 5)  # more reads would be let through now
                assert paused(broker)
                assert broker._dispatcher.backlog > 100
                assert heard == []
                assert 2 * bound <= most < 2 * bound + ONE_READ * (1 + STANZA_BYTES / 1000)
                awake.set()
                await done
                await turns()
                assert broker._dispatcher.backlog_bytes == 0
                assert most < 2 * bound + ONE_READ * (1 + STANZA_BYTES / 1000)
                if reply is not None:
                    reply.cancel()
            assert bodies(heard) == [str(number) for number in range(count)]

    run(main)


def test_a_stanza_that_came_in_many_reads_weighs_all_of_them() -> None:
    async def main() -> None:
        pieces = [numbered([0], "x" * 50_000)[place : place + 10_000] for place in range(0, 51_000, 10_000)]
        looked = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            for piece in pieces:
                wire.send(piece)
                await wire.writer.drain()
                await asyncio.sleep(0.005)
            await looked.wait()
            await wire.close()

        async with scripted(script) as at:
            broker = component(at.port)
            gate = asyncio.Event()

            async def slow(status: Status) -> None:
                await gate.wait()

            broker.subscribe(Event.PCJ_NODERECEIVED, slow)
            weights: list[int] = []
            came = never()

            def weigh(status: Status) -> None:
                weights.append(broker._dispatcher.weight)
                came.set_result(None)

            broker.subscribe(Event.PCJ_NODERECEIVED, weigh)
            async with broker:
                await came
                looked.set()
                gate.set()
            assert weights[0] >= 50_000

    run(main)


def test_a_session_that_ends_while_paused_leaves_no_pause_to_the_next(quick: None) -> None:
    async def main() -> None:
        async def first(wire: Wire) -> None:
            await wire.component(numbered(range(5)))
            await paused_at.wait()
            wire.reset()

        async def second(wire: Wire) -> None:
            await wire.component(numbered(range(5, 7)))
            await wire.close()

        async with scripted(first, second) as at:
            paused_at, gate, done = asyncio.Event(), asyncio.Event(), never()
            broker = component(at.port, inbound_backlog=2)
            record = Record(broker)
            lost = broker.events(Event.SESSION_LOST)
            broker.subscribe(Event.READING_PAUSED, lambda status: paused_at.set())
            heard: list[Status] = []

            @broker.on(Event.PCJ_NODERECEIVED)
            async def slow(status: Status) -> None:
                await gate.wait()
                heard.append(status)
                if len(heard) == 7:
                    done.set_result(None)

            await broker.connect()
            await anext(lost)
            assert not paused(broker)
            assert "Nothing is read" not in broker.explain()
            await broker.connect()
            assert paused(broker)
            gate.set()
            await done
            await turns()
            assert not paused(broker)
            await broker.shutdown()
            assert bodies(heard) == [str(number) for number in range(7)]
            told = [name for name in record.names if name.startswith("READING")]
            assert told == ["READING_PAUSED", "READING_PAUSED", "READING_RESUMED"]
            record.check()

    run(main)


# ---- handlers that wait for what lies behind the backlog

#: Bytes of the test's own bound; the flood is many times as long, in many reads.
SMALL = 300_000
LONG = 1_500


async def floods(wire: Wire) -> None:
    """A component's server that floods, and behind the flood proves what it was asked to, and answers pings."""
    await wire.component(tail=numbered(range(LONG), "x" * 1000))
    came = ""
    while data := await wire.reader.read(1 << 16):
        came += data.decode()
        end = came.rfind("</iq>") + len("</iq>")
        for asked in BARRIER.finditer(came[:end]):
            own = 'to="localhost"' not in asked[0]
            reply = f"<iq type='result' id='{asked[1]}' from='localhost' to='{DOMAIN}'/>"
            wire.send(returned(asked) if own else reply)
        came = came[end:] if end >= len("</iq>") else came
        if "</stream:stream>" in came:
            wire.send("</stream:stream>")
            return


Wait = Callable[[Broker], Any]


async def _acked(broker: Broker) -> None:
    await broker.output(message(to=TO, body="ok")).acked()


async def _asked(broker: Broker) -> None:
    await broker.return_to_sender(ping(to="localhost"), timeout=60.0)


async def _drained(broker: Broker) -> None:
    for _ in range(3):
        broker.output(message(to=TO, body="ok"))
    await broker.drain()


@pytest.mark.parametrize("on_ready", ["hold", "send"])
@pytest.mark.parametrize("wait", [_acked, _asked, _drained])
def test_a_handler_that_waits_for_what_lies_behind_the_backlog_comes_to_an_end(
    quick: None, wait: Wait, on_ready: str
) -> None:
    async def main() -> None:
        async with scripted(floods) as at:
            broker = component(
                at.port,
                inbound_max_bytes=SMALL,
                inbound_backlog=10,
                ack_every_nodes=1,
                max_unacked_nodes=2,
                high_water_nodes=2,
                queue_max_nodes=20_000,
                on_ready=on_ready,
            )
            broker._backpressure._patience = 0.05  # not the server's time for an answer, which may be late here
            record = Record(broker)
            heard: list[Status] = []
            told: list[TimeoutError] = []
            done = never()
            most = 0

            async def waits(status: Status) -> None:
                try:
                    await wait(broker)
                except TimeoutError as error:
                    told.append(error)
                heard.append(status)
                if len(heard) == LONG:
                    done.set_result(None)

            def weigh(status: Status) -> None:
                nonlocal most
                most = max(most, broker._dispatcher.backlog_bytes)

            broker.subscribe(Event.PCJ_NODERECEIVED, waits)
            broker.subscribe(Event.PCJ_NODERECEIVED, weigh)
            async with broker:
                await done
                assert bodies(heard) == [str(number) for number in range(LONG)]
                assert told, "else this test shows nothing"
                assert 2 * SMALL <= most < 2 * SMALL + ONE_READ * (1 + STANZA_BYTES / 1000)
                assert "an answer could only come behind them" in str(told[0])
                assert "inbound_max_bytes" in str(told[0])
                warnings = [str(status.detail["what"]) for status in record.of(Event.WARNING)]
                assert warnings
                assert all("for 0.05 s (probe_timeout) no handler has taken up another" in what for what in warnings)
                await broker.drain()  # what was sent goes its way
                assert len(record.of(Event.PCJ_SOCKETDISCONNECT)) == 0, "the link stands"
            dropped = record.of(Event.NODE_DROPPED)
            assert {status.detail["reason"] for status in dropped} <= {"abandoned"}, "requests that had not left"
            assert wait is _asked or not dropped
            record.check()

    run(main)
