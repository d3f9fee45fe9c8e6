"""Whether a peer lives (chaos K06 to K11, K20, K27, K31): time is handed in, and a network of a few words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pcj import Phase, ProtocolError, Retry
from pcj.liveness import Liveness

SILENCE, PROBE = 60.0, 20.0


class Timer:
    """What `call_at` gives."""

    def __init__(self, due: float, callback: Callable[..., None], args: tuple[object, ...]) -> None:
        self.due = due
        self._callback = callback
        self._args = args
        self.cancelled = False

    def ring(self) -> None:
        self._callback(*self._args)

    def when(self) -> float:
        return self.due

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """A loop that has nothing but a time and timers; what our side asked and was told is noted with its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.asked: list[float] = []
        self.kept: list[float] = []
        self.told: list[tuple[float, float, str]] = []
        self.dead: list[tuple[float, ProtocolError]] = []
        self.rung = 0
        self.slow = False
        self.on_ask: Callable[[], None] = lambda: None
        self.by = "ping"

    # the loop

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., None], *args: object) -> Timer:
        self.timers.append(Timer(when, callback, args))
        return self.timers[-1]

    def at(self, when: float, callback: Callable[..., None], *args: object) -> None:
        """Something of the network happens then."""
        self.call_at(when, callback, *args)

    def go_to(self, until: float, *, stopped: tuple[float, float] | None = None) -> None:
        """Let the time pass; between the two times of `stopped` nothing happens, and then all that is due at once."""
        while True:
            due = [timer for timer in self.timers if not timer.cancelled and timer.due <= until]
            if not due:
                break
            timer = min(due, key=lambda each: each.due)
            self.timers.remove(timer)
            when = timer.due
            if stopped is not None and stopped[0] <= when < stopped[1]:
                when = stopped[1]
            self.now = max(self.now, when)
            self.rung += 1
            timer.ring()
        self.now = max(self.now, until)

    # our side

    def watch(self, *, silence: float = SILENCE, probe: float = PROBE, idle: float | None = None) -> Liveness:
        return Liveness(
            silence,
            probe,
            ask=self._ask,
            dead=lambda error: self.dead.append((self.now, error)),
            tell=lambda seconds, by: self.told.append((self.now, seconds, by)),
            keepalive=lambda: self.kept.append(self.now),
            idle=idle,
            slow=lambda: self.slow,
        )

    def _ask(self) -> str:
        self.asked.append(self.now)
        self.on_ask()
        return self.by

    @property
    def died(self) -> list[float]:
        return [when for when, _ in self.dead]

    @property
    def why(self) -> str:
        ((_, error),) = self.dead
        return str(error)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def answers(world: World, watch: Liveness, after: float) -> Callable[[], None]:
    """A peer that answers each question after so many seconds."""

    def answer() -> None:
        watch.heard(40)
        watch.answered()

    return lambda: world.at(world.now + after, answer)


def hears(world: World, watch: Liveness, *times: float, size: int = 100) -> None:
    for when in times:
        world.at(when, watch.heard, size)


def every(seconds: float, until: float, start: float = 0.0) -> list[float]:
    return [start + seconds * number for number in range(1, int((until - start) / seconds) + 1)]


# ---- a peer that is gone


@pytest.mark.parametrize(("silence", "probe"), [(60.0, 20.0), (0.5, 0.25), (10.0, 300.0)])
def test_a_black_hole_is_noticed_within_the_silence_and_the_probe(world: World, silence: float, probe: float) -> None:
    """K06, K07: no byte comes any more."""
    watch = world.watch(silence=silence, probe=probe)
    hears(world, watch, 0.125, 0.25)
    world.go_to(1000.0)
    assert world.asked == [0.25 + silence]
    assert world.told == [(0.25 + silence, silence, "ping")]
    assert world.died == [0.25 + silence + probe]


@pytest.mark.parametrize(("silence", "probe"), [(60.0, 20.0), (10.0, 300.0)])
def test_the_silence_behind_an_answer_is_as_long_as_any(world: World, silence: float, probe: float) -> None:
    watch = world.watch(silence=silence, probe=probe)
    world.at(1.0, watch.asked, 1)
    world.at(2.0, watch.heard)
    world.at(2.0, watch.answered, 1)
    world.go_to(1000.0)
    assert world.asked == [2.0 + silence]
    assert world.died == [2.0 + silence + probe]


def test_the_verdict_says_how_long_was_waited_and_what_was_asked(world: World) -> None:
    world.watch()
    world.go_to(1000.0)
    ((_, error),) = world.dead
    assert str(error) == (
        "the peer has been silent for 80 s and did not answer a ping (XEP-0199) within 20 s "
        "(silence_timeout, probe_timeout): it is gone, or the network between"
    )
    assert (error.phase, error.retry, error.answer) == (Phase.READY, Retry.FAST, "connection-timeout")
    assert (error.expected, error.came) == ("an answer within 20 s", "nothing at all")


@pytest.mark.parametrize(
    ("by", "words"), [("sm", "(<r/>, XEP-0198)"), ("ping", "(XEP-0199)"), ("", "whether it has read what we sent")]
)
def test_the_question_is_named(world: World, by: str, words: str) -> None:
    world.by = by
    world.watch()
    world.go_to(1000.0)
    assert words in world.why


def test_a_proof_of_the_ledgers_has_the_deadline_of_a_probe(world: World) -> None:
    """K06 while we send: nobody waits for the silence to last."""
    watch = world.watch()
    for second in range(1, 200):
        world.at(float(second), watch.sent)
        world.at(float(second), watch.asked, second)
    world.go_to(1000.0)
    assert world.died == [1.0 + PROBE]
    assert not world.asked
    assert "whether it has read what we sent" in world.why


def test_nothing_is_asked_or_said_behind_the_end(world: World) -> None:
    watch = world.watch(idle=10)
    world.go_to(1000.0)
    kept = list(world.kept)
    watch.heard()
    watch.sent()
    watch.asked(7)
    watch.answered(7)
    watch.stand()
    watch.go_on()
    world.go_to(10_000.0)
    assert len(world.dead) == 1
    assert world.kept == kept


@pytest.mark.parametrize("when", ["ask", "tell", "keepalive"])
def test_a_connection_that_ends_while_it_asks_is_left_alone(world: World, when: str) -> None:
    def ask() -> str:
        world.asked.append(world.now)
        if when == "ask":
            watch.cancel()
        return "ping"

    def tell(seconds: float, by: str) -> None:
        world.told.append((world.now, seconds, by))
        if when == "tell":
            watch.cancel()

    watch = Liveness(
        SILENCE,
        PROBE,
        ask=ask,
        dead=lambda error: world.dead.append((world.now, error)),
        tell=tell,
        keepalive=lambda: watch.cancel(),
        idle=10 if when == "keepalive" else None,
    )
    world.go_to(1000.0)
    assert not world.dead
    assert len(world.asked) == (0 if when == "keepalive" else 1)
    assert len(world.told) == (1 if when == "tell" else 0)


# ---- bytes come, and no answer


def test_an_inbound_that_goes_on_does_not_hide_that_nothing_of_ours_arrives(world: World) -> None:
    """K08: mere silence would never notice."""
    watch = world.watch()
    hears(world, watch, *every(1.0, 1000.0))
    world.at(5.5, watch.asked, 1)
    world.go_to(1000.0)
    assert world.asked == [25.5, 45.5]  # asked again, twice
    assert world.died == [65.5]
    assert "left 3 questions in a row unanswered" in world.why
    assert "though other bytes came from it: what we send does not arrive" in world.why
    assert "or another connection gets our answers" in world.why  # K27: the twin of a component
    assert world.dead[0][1].came == "other bytes, and no answer"


def test_silence_after_a_question_counts_from_that_question(world: World) -> None:
    watch = world.watch()
    world.at(1.0, watch.asked, 1)
    hears(world, watch, 10.0)
    world.go_to(1000.0)
    assert world.asked == [21.0]
    assert world.died == [41.0]
    assert "silent for 31 s" in world.why


def test_an_answer_ends_the_count(world: World) -> None:
    watch = world.watch()
    hears(world, watch, *every(1.0, 1000.0))
    for start in every(100.0, 900.0):  # two are lost each time, and the third is answered
        world.at(start + 0.5, watch.asked, int(start))
        world.at(start + 55.5, watch.answered, int(start))
    world.go_to(1000.0)
    assert not world.dead
    assert len(world.asked) == 18


def test_an_answer_to_what_was_asked_before_gives_the_later_question_its_whole_time(world: World) -> None:
    watch = world.watch()
    world.at(1.0, watch.asked, 100)
    world.at(2.0, watch.asked, 200)
    world.at(19.0, watch.heard)
    world.at(19.0, watch.answered, 100)
    world.go_to(38.9)
    assert not world.dead
    world.go_to(39.0)
    assert world.died == [39.0]


def test_a_link_full_of_what_the_server_has_for_us_gets_more_time(world: World) -> None:
    """It answers behind that: 100 kbit/s, and 2 MB of stored messages (K11)."""
    watch = world.watch()
    watch.asked(1)
    hears(world, watch, *every(0.25, 170.0), size=3125)
    world.at(170.0, watch.answered, 1)
    hears(world, watch, *every(10.0, 1000.0, 170.0))
    world.go_to(400.0)
    assert not world.dead


def test_but_not_for_ever(world: World) -> None:
    watch = world.watch()
    watch.asked(1)
    hears(world, watch, *every(0.25, 1000.0), size=100_000)
    world.go_to(1000.0)
    assert world.died == [10 * PROBE]
    assert "left 10 questions" in world.why


# ---- a peer that is slow, and lives


def test_a_stall_of_nine_tenths_of_the_limit_again_and_again_is_none(world: World) -> None:
    """K09."""
    watch = world.watch()
    hears(world, watch, *every(54.0, 100_000.0))
    world.go_to(100_000.0)
    assert not world.asked
    assert not world.dead


def test_an_answer_after_nine_tenths_of_the_time_for_it_will_do(world: World) -> None:
    watch = world.watch()
    world.on_ask = answers(world, watch, 18.0)
    world.go_to(10_000.0)
    assert not world.dead
    assert len(world.asked) == 10_000 // 78
    assert {silence for _, silence, _ in world.told} == {60.0}


@pytest.mark.parametrize(("after", "dies"), [(19.999, False), (20.001, True)])
def test_the_bound_and_one_past_it(world: World, after: float, dies: bool) -> None:
    watch = world.watch()
    world.on_ask = answers(world, watch, after)
    world.go_to(100.0)
    assert bool(world.dead) is dies


def test_a_byte_at_a_time_is_as_good_as_a_read(world: World) -> None:
    """K10: the answer comes in forty bytes, two a second."""
    watch = world.watch()
    world.at(10.0, watch.asked, 1)
    hears(world, watch, *every(0.5, 25.0, 5.0), size=1)
    world.at(25.0, watch.answered, 1)
    world.go_to(80.0)
    assert not world.asked
    assert not world.dead


@pytest.mark.parametrize("jitter", [0.0, 2.0])
def test_five_seconds_of_latency_are_no_fault(world: World, jitter: float) -> None:
    """K11: a proof is asked for every second, and each answer comes 5 s later, or a little more."""
    watch = world.watch()

    def answer(number: int) -> None:
        watch.heard(40)
        watch.answered(number)

    for second in range(1, 1000):
        world.at(float(second), watch.asked, second)
        world.at(second + 5.0 + jitter * (second % 7) / 7, answer, second)
    world.go_to(1000.0)
    assert not world.dead
    assert not world.asked


def test_a_server_that_throttles_our_writing_is_slow_and_not_dead(world: World) -> None:
    """K31: the question waits in the kernel, behind what is taken at 1 kB/s."""
    watch = world.watch()
    watch.asked(1)
    world.slow = True
    world.go_to(600.0)
    assert not world.dead
    assert not world.asked  # one more would only wait behind it
    world.slow = False  # all has been taken, and the server works on what its own kernel holds
    world.go_to(650.0)
    assert not world.dead
    watch.heard()
    watch.answered(1)
    world.go_to(700.0)
    assert not world.dead


def test_a_server_that_took_all_and_says_nothing_then_is_given_up_after_three(world: World) -> None:
    watch = world.watch()
    watch.asked(1)
    world.slow = True
    world.go_to(100.0)
    world.slow = False
    world.go_to(1000.0)
    assert world.died == [160.0]
    assert "silent for 160 s" in world.why


def test_a_link_that_has_nothing_but_white_space_is_never_given_up_by_us(world: World) -> None:
    world.by = "whitespace"
    world.watch()
    world.go_to(300.0)
    assert world.asked == [60.0, 120.0, 180.0, 240.0, 300.0]
    assert [silence for _, silence, _ in world.told] == world.asked
    assert not world.dead
    assert not world.kept  # that was said already


# ---- our own pauses


def test_nothing_is_blamed_on_the_peer_while_we_do_not_read(world: World) -> None:
    """Protocol-notes A11: the answer may have been there for an hour."""
    watch = world.watch()
    world.at(10.0, watch.asked, 1)
    world.at(15.0, watch.stand)
    world.at(16.0, watch.stand)
    world.go_to(3600.0)
    assert not world.dead
    assert not world.asked
    watch.go_on()
    watch.go_on()
    world.go_to(3614.9)
    assert not world.dead
    world.go_to(3615.0)
    assert world.died == [3615.0]  # 5 s had passed before, of the 20


def test_a_pause_in_the_middle_of_a_silence_is_taken_out_of_it(world: World) -> None:
    watch = world.watch()
    hears(world, watch, 20.0)
    world.at(50.0, watch.stand)
    world.at(1050.0, watch.go_on)
    world.go_to(1079.0)
    assert not world.asked
    world.go_to(1080.0)
    assert world.asked == [1080.0]


def test_a_question_of_a_pause_has_its_time_behind_it(world: World) -> None:
    watch = world.watch()
    world.at(5.0, watch.stand)
    world.at(10.0, watch.asked, 1)
    world.at(500.0, watch.go_on)
    world.go_to(519.9)
    assert not world.dead
    world.go_to(520.0)
    assert world.died == [520.0]


def test_our_own_silence_goes_on_while_we_do_not_read(world: World) -> None:
    watch = world.watch(idle=40)
    watch.stand()
    world.go_to(100.0)
    assert world.kept == [30.0, 60.0, 90.0]
    assert not world.asked


@pytest.mark.parametrize("asked_before", [False, True])
def test_a_process_that_was_stopped_judges_nothing_of_that_time(world: World, asked_before: bool) -> None:
    """K20: it asks, once, and gives the answer its whole time; no burst of what expired meanwhile."""
    watch = world.watch(idle=840)
    world.on_ask = answers(world, watch, 1.0)
    if asked_before:
        world.at(9.0, watch.asked, 1)
    rung = world.rung
    world.go_to(1300.0, stopped=(10.0, 1290.0))
    assert world.asked == [1290.0]
    assert world.told == [(1290.0, 1290.0, "ping")]
    assert not world.dead
    assert world.rung - rung <= 3
    world.go_to(1350.0)
    assert world.asked == [1290.0]


def test_a_peer_that_was_lost_in_that_time_is_noticed_one_probe_later(world: World) -> None:
    watch = world.watch()
    watch.asked(1)
    world.go_to(2000.0, stopped=(10.0, 1290.0))
    assert world.asked == [1290.0]
    assert world.died == [1310.0]


def test_a_timer_a_little_late_is_no_stop(world: World) -> None:
    world.watch()
    world.go_to(1000.0, stopped=(79.9, 80.9))
    assert world.died == [80.9]


# ---- our own silence


@pytest.mark.parametrize(
    ("idle", "kept"),
    [
        (40, [30.0, 60.0, 90.0, 120.0]),  # three quarters of what the server allows (XEP-0478)
        (1800, [80.0]),  # it allows more than we want
        (None, [80.0]),
        (1, [0.75 * number for number in range(1, 161)]),
    ],
)
def test_we_are_not_silent_for_longer_than_the_server_allows(
    world: World, idle: float | None, kept: list[float]
) -> None:
    watch = world.watch(idle=idle)
    hears(world, watch, *every(1.0, 120.0))
    world.go_to(120.0)
    assert world.kept == kept
    assert not world.asked


def test_who_writes_needs_no_white_space(world: World) -> None:
    watch = world.watch(idle=40)
    hears(world, watch, *every(1.0, 100.0))
    for when in every(29.0, 100.0):
        world.at(when, watch.sent)
    world.go_to(100.0)
    assert not world.kept


def test_a_probe_is_no_silence_either(world: World) -> None:
    watch = world.watch()
    world.on_ask = answers(world, watch, 0.1)
    world.go_to(1000.0)
    assert not world.kept


# ---- what it costs


def test_a_busy_link_has_one_timer_that_seldom_rings(world: World) -> None:
    watch = world.watch()
    for number in range(1, 10_001):
        world.now = number / 100
        watch.heard(500)
        watch.sent()
        watch.asked(number)
        watch.answered(number)
        world.go_to(world.now)
    assert world.rung <= 100 / PROBE + 1
    assert len([timer for timer in world.timers if not timer.cancelled]) == 1
    assert len(world.timers) <= 10  # those that were set back among them
