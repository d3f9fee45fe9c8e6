"""A stanza that has begun must be complete in time (X20): one byte in ten seconds is no silence, and says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pcj import Broker, Event, Phase, Retry, message
from pcj.stanza_clock import StanzaClock, too_slow
from tests.shell.links import Record, Wire, component, run, scripted, turns


class Timer:
    """What `call_at` gives."""

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def when(self) -> float:
        return self.due

    def cancel(self) -> None:
        self.cancelled = True


class Clockwork:
    """A loop that has nothing but a time and timers. `rung`: how many of these rang."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []
        self.rung = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        assert not self.waiting, "one timer is enough"
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    @property
    def waiting(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def go_to(self, when: float, *, late: float = 0.0) -> None:
        """Let the time pass, and ring on the way; `late`: by so much too late."""
        while self.waiting and (timer := self.waiting[0]).due <= when:
            self.timers.remove(timer)
            self.now = max(self.now, timer.due + late)
            self.rung += 1
            timer.callback()
        self.now = max(self.now, when)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    made = Clockwork()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


@pytest.fixture
def expired() -> list[float]:
    return []


@pytest.fixture
def clock(loop: Clockwork, expired: list[float]) -> StanzaClock:
    return StanzaClock(60.0, lambda: expired.append(loop.now))


def test_a_byte_in_ten_seconds_is_not_enough(loop: Clockwork, clock: StanzaClock, expired: list[float]) -> None:
    for ten in range(20):
        loop.go_to(100.0 + 10 * ten)
        if not expired:
            clock.look("<message>", False)
    assert expired == [160.0]


@pytest.mark.parametrize(("complete_after", "ends"), [(59.9, False), (60.0, True)])
def test_the_bound_and_one_past_it(
    loop: Clockwork, clock: StanzaClock, expired: list[float], complete_after: float, ends: bool
) -> None:
    clock.look("<message>", False)
    loop.go_to(100.0 + complete_after)
    clock.look("", True)
    loop.go_to(1000.0)
    assert bool(expired) is ends


def test_each_stanza_has_its_own_time(loop: Clockwork, clock: StanzaClock, expired: list[float]) -> None:
    for number in range(100):  # a read ends inside a stanza each time, but never in the same
        clock.look("<message>", True)
        loop.go_to(100.0 + 50 * (number + 1))
    assert not expired
    assert loop.rung <= 100
    clock.look("<iq>", True)
    began = loop.now
    loop.go_to(began + 59.0)
    assert not expired
    loop.go_to(began + 61.0)
    assert expired == [began + 60.0]


def test_a_stream_that_rests_between_stanzas_has_no_timer_for_long(loop: Clockwork, clock: StanzaClock) -> None:
    clock.look("<message>", False)
    clock.look("", True)
    loop.go_to(161.0)
    assert not loop.waiting
    assert clock.since is None


def test_the_clock_stands_while_we_do_not_read(loop: Clockwork, clock: StanzaClock, expired: list[float]) -> None:
    clock.look("<message>", False)
    loop.go_to(150.0)
    clock.stand()
    clock.stand()
    loop.go_to(5000.0)
    assert not expired
    clock.go_on()
    clock.go_on()
    loop.go_to(5009.0)
    assert not expired
    loop.go_to(5061.0)
    assert len(expired) == 1


def test_a_short_pause_is_added_and_no_more(loop: Clockwork, clock: StanzaClock, expired: list[float]) -> None:
    clock.look("<message>", False)
    loop.go_to(110.0)
    clock.stand()
    loop.go_to(115.0)
    clock.go_on()
    loop.go_to(1000.0)
    assert expired == [165.0]


def test_a_timer_that_we_held_up_ourselves_is_no_fault_of_the_peers(
    loop: Clockwork, clock: StanzaClock, expired: list[float]
) -> None:
    """A handler that blocks, or a machine that slept: what came meanwhile may not be read yet."""
    clock.look("<message>", False)
    loop.go_to(160.0, late=30.0)
    assert not expired
    loop.go_to(249.9)
    assert not expired
    loop.go_to(250.1)
    assert len(expired) == 1


def test_a_clock_that_is_cancelled_says_nothing(loop: Clockwork, clock: StanzaClock, expired: list[float]) -> None:
    clock.look("<message>", False)
    clock.cancel()
    clock.cancel()
    loop.go_to(1000.0)
    assert not expired


def test_the_error_says_what_was_begun_and_how_long_was_waited() -> None:
    error = too_slow("<message>", 60.0)
    assert str(error) == "the peer began to send <message> and did not complete it within 60 s (stanza_timeout)"
    assert (error.answer, error.retry) == ("policy-violation", Retry.FAST)


# ---- on a link


BEGINNINGS = [
    ("<message from='a@localhost'><body>", "<message>"),
    ("<message from='a", "<message"),
    ("<presence/><iq", "<iq"),
    ("&#120;", "text between elements"),
    ("<x:odd xmlns:x='u'>", "<odd>"),
]


@pytest.mark.parametrize(("text", "begun"), BEGINNINGS, ids=range(len(BEGINNINGS)))
def test_a_stanza_that_is_never_completed_ends_the_link_though_bytes_come(text: str, begun: str) -> None:
    ends: list[str] = []

    async def main() -> None:
        async def trickle(wire: Wire) -> None:
            await wire.component(tail=text)
            drip = asyncio.get_running_loop().create_task(drops(wire))
            try:
                ends.append(await wire.rest())
            finally:
                drip.cancel()

        async def drops(wire: Wire) -> None:
            while True:
                wire.send("x" if begun != "<iq" else " ")
                await asyncio.sleep(0.01)

        async with scripted(trickle) as at:
            broker = component(at.port, stanza_timeout=0.08)
            record = Record(broker)
            lost = broker.events(Event.SESSION_LOST)
            await broker.connect()
            await anext(lost)
            await turns()
            error = record.one(Event.STREAM_ERROR)
            assert begun in str(error.error)
            assert "within 0.08 s (stanza_timeout)" in str(error.error)
            assert (error.detail["phase"], error.detail["retry"]) == (Phase.READY, Retry.FAST)
            assert broker._link.failure is not None
            assert broker._link.failure.retry is Retry.FAST
            await broker.shutdown()
        record.check()

    run(main)
    (end,) = ends
    assert "<policy-violation " in end
    assert end.endswith("</stream:stream>")


def test_keepalives_and_whole_stanzas_wind_no_clock() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component(tail=" \n")
            for _ in range(3):
                wire.send("<message from='a@localhost'/>")
                await asyncio.sleep(0.01)
                wire.send(" ")
            await wire.close()

        async with scripted(script) as at:
            broker = component(at.port, stanza_timeout=0.005)
            received = broker.events(Event.PCJ_NODERECEIVED)
            record = Record(broker)
            async with broker:
                for _ in range(3):
                    await anext(received)
                    assert clock_of(broker).since is None
                    assert clock_of(broker)._timer is None
            assert not record.of(Event.STREAM_ERROR)

    run(main)


def test_a_slow_handler_of_ours_is_not_blamed_on_the_peer() -> None:
    async def main() -> None:
        rest = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component(tail="<message from='a@localhost' id='1'/><message from='a@localhost' id='2'><body>")
            await rest.wait()
            wire.send("x</body></message>")
            await wire.close()

        async with scripted(script) as at:
            broker = component(at.port, stanza_timeout=0.03, inbound_backlog=1)
            record = Record(broker)
            go, heard = asyncio.Event(), asyncio.Event()

            async def slow(status: object) -> None:
                await go.wait()
                if len(record.of(Event.PCJ_NODERECEIVED)) == 2:
                    heard.set()

            broker.subscribe(Event.PCJ_NODERECEIVED, slow)
            async with broker:
                assert broker._link.connection is not None
                assert broker._link.connection.paused
                await asyncio.sleep(0.08)
                assert not record.of(Event.STREAM_ERROR)
                rest.set()
                go.set()
                await heard.wait()
                broker.output(message(to="a@localhost"))
            assert not record.of(Event.STREAM_ERROR)

    run(main)


def clock_of(broker: Broker) -> StanzaClock:
    assert broker._link.connection is not None
    return broker._link.connection._clock
