"""What counts as handled, and what weighs, while statuses wait for those who subscribed (protocol-notes A10)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import cast

import pytest

from pcj import Event, Status
from pcj.dispatch import STANZA_BYTES, Dispatcher, Subscription
from pcj.handled import Handled
from tests.shell.links import never, run, turns


def counting(max_backlog: int = 10) -> tuple[Dispatcher, Handled]:
    told = Dispatcher(lambda: 1.5, max_backlog, name="romeo")
    told.tracker = handled = Handled()
    return told, handled


def stanza(told: Dispatcher, event: str = "a", *more: str) -> None:
    """As the way in does it for each stanza that came."""
    tracker = told.tracker
    assert tracker is not None
    told.mark = number = tracker.next()
    try:
        for name in (event, *more):
            told.fire(name)
    finally:
        told.mark = 0
        tracker.release(number)


def statuses(told: Dispatcher, *events: str) -> AsyncGenerator[Status, None]:
    return cast(AsyncGenerator[Status, None], told.iterate(events))


def test_a_stanza_counts_at_once_where_nobody_hears_or_all_have_returned() -> None:
    told, handled = counting()
    stanza(told)
    assert handled.count == 1
    seen: list[int] = []
    told.subscribe("a", lambda status: seen.append(handled.count))

    def fails(status: Status) -> None:
        raise ValueError("x")

    told.subscribe("a", fails)
    stanza(told)
    assert seen == [1]  # not while it is told of
    assert handled.count == 2


async def _returns(told: Dispatcher, subscription: Subscription, gate: asyncio.Event) -> None:
    gate.set()
    await asyncio.wait(told.tasks)


async def _task_is_cancelled(told: Dispatcher, subscription: Subscription, gate: asyncio.Event) -> None:
    (task,) = told.tasks
    task.cancel()


async def _subscription_is_cancelled(told: Dispatcher, subscription: Subscription, gate: asyncio.Event) -> None:
    subscription.cancel()
    assert told.backlog_bytes == 0  # all but the one that is under way
    gate.set()


End = Callable[[Dispatcher, Subscription, asyncio.Event], Awaitable[None]]


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("end", [_returns, _task_is_cancelled, _subscription_is_cancelled])
@pytest.mark.parametrize("error", [None, ValueError("x"), asyncio.CancelledError()])
def test_a_stanza_counts_and_weighs_no_more_when_its_coroutine_handler_is_done_however_it_ends(
    end: End, begun: bool, error: BaseException | None
) -> None:
    async def main() -> None:
        told, handled = counting()
        gate = asyncio.Event()

        async def slow(status: Status) -> None:
            await gate.wait()
            if error is not None:
                raise error

        subscription = told.subscribe("a", slow)
        told.weight = 100
        for _ in range(3):
            stanza(told)
        if begun:
            await turns()
        assert handled.count == 0
        assert told.backlog_bytes == (200 if begun else 300)
        await end(told, subscription, gate)
        await turns()
        assert (handled.count, len(handled)) == (3, 0)
        assert (told.backlog, told.backlog_bytes) == (0, 0)

    run(main)


def test_the_loop_that_ends_under_a_handler_leaves_nothing_held() -> None:
    told, handled = counting()

    async def slow(status: Status) -> None:
        await never()

    async def main() -> None:
        told.subscribe("a", slow)
        stanza(told)
        stanza(told)
        await turns()

    asyncio.run(main())
    assert (handled.count, told.backlog_bytes) == (2, 0)


def test_a_stanza_waits_for_the_slowest_of_its_handlers_and_those_behind_it_for_it() -> None:
    async def main() -> None:
        told, handled = counting()
        gates = {1: asyncio.Event(), 2: asyncio.Event()}

        async def of_the_filter(status: Status) -> None:
            await gates[1].wait()

        async def of_all(status: Status) -> None:
            await gates[2].wait()

        told.subscribe("chat", of_the_filter)
        told.subscribe("a", of_all)
        stanza(told, "chat", "a")
        stanza(told, "b")  # whom nobody hears
        gates[2].set()
        await turns()
        assert handled.count == 0
        gates[1].set()
        await turns()
        assert handled.count == 2

    run(main)


def test_what_handlers_fire_in_turn_does_not_hold_the_stanza() -> None:
    async def main() -> None:
        told, handled = counting()

        async def hung(status: Status) -> None:
            await never()

        told.subscribe("a", lambda status: told.fire("b"))
        told.subscribe("b", lambda status: told.fire("c"))
        told.subscribe("b", hung)
        told.subscribe("c", hung)
        stanza(told)
        assert told.backlog == 2
        assert handled.count == 1
        for task in told.tasks:
            task.cancel()

    run(main)


def test_a_stanza_that_is_told_later_is_held_until_then() -> None:
    async def main() -> None:
        told, handled = counting()
        gate = asyncio.Event()
        seen: list[int] = []

        async def slow(status: Status) -> None:
            await gate.wait()

        told.subscribe("a", lambda status: seen.append(handled.count))
        told.subscribe("a", slow)

        def both() -> None:
            stanza(told)
            stanza(told)
            assert handled.count == 0

        told.together(both)
        assert seen == [0, 0]
        assert told.mark == 0
        assert told.held is None
        gate.set()
        await turns()
        assert handled.count == 2

    run(main)


def test_a_stanza_that_an_interrupt_left_behind_is_told_first_and_counted() -> None:
    told, handled = counting()
    heard: list[int] = []

    def interrupted(status: Status) -> None:
        if not heard:
            heard.append(0)
            stanza(told, "b")
            raise KeyboardInterrupt

    told.subscribe("a", interrupted)
    told.subscribe("b", lambda status: heard.append(status.seq))
    with pytest.raises(KeyboardInterrupt):
        stanza(told)
    assert handled.count == 1  # the first will be told of no more; the second waits
    stanza(told)
    assert heard == [0, 2]
    assert handled.count == 3


def test_handlers_of_an_earlier_session_change_nothing_in_the_count_of_the_next() -> None:
    async def main() -> None:
        told, first = counting()
        gate = asyncio.Event()

        async def slow(status: Status) -> None:
            await gate.wait()

        told.subscribe("a", slow)
        stanza(told)
        stanza(told)
        told.tracker = second = Handled()
        stanza(told)
        assert (first.count, second.count) == (0, 0)
        gate.set()
        await turns()
        assert (first.count, second.count) == (2, 1)

    run(main)


def test_without_a_tracker_nothing_is_held() -> None:
    async def main() -> None:
        told = Dispatcher(lambda: 1.5, 10)
        heard: list[Status] = []

        async def slow(status: Status) -> None:
            heard.append(status)

        told.subscribe("a", slow)
        told.fire("a")
        await turns()
        assert len(heard) == 1
        told.mark = 1
        with pytest.raises(RuntimeError, match="without a tracker"):
            told.fire("a")

    run(main)


# ---- iterators


def test_a_status_counts_when_its_reader_comes_back_for_the_next() -> None:
    async def main() -> None:
        told, handled = counting()
        reader = statuses(told, "a")
        stanza(told)
        stanza(told)
        seen = []
        for _ in range(2):
            await anext(reader)
            seen.append(handled.count)
        assert seen == [0, 1]
        third = asyncio.ensure_future(anext(reader))
        await turns()
        assert handled.count == 2
        stanza(told)
        await third
        assert handled.count == 2
        await reader.aclose()
        assert handled.count == 3

    run(main)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("close", [True, False])
def test_what_a_reader_leaves_that_ends_or_is_forgotten_counts(begun: bool, close: bool) -> None:
    async def main() -> None:
        told, handled = counting()
        reader = statuses(told, "a")
        for _ in range(3):
            stanza(told)
        if begun:
            await anext(reader)
        assert handled.count == 0
        if close:
            await reader.aclose()
        del reader
        gc.collect()
        await turns()
        assert (handled.count, len(handled)) == (3, 0)
        assert told.interest == {}

    run(main)


def test_what_a_reader_missed_counts_at_once() -> None:
    async def main() -> None:
        told, handled = counting(max_backlog=2)
        reader = statuses(told, "a")
        for _ in range(5):
            stanza(told)
        assert len(handled) == 2
        seen = [(await anext(reader)).event for _ in range(3)]
        assert seen == ["a", "a", Event.BACKLOG_GAP]
        assert handled.count == 5
        await reader.aclose()

    run(main)


# ---- weight


@pytest.mark.parametrize(
    ("size", "stanzas", "weight"),
    [(1000, 1, 1000), (1000, 3, 333), (0, 5, 0), (65_536, 600, 109)],
)
def test_a_stanza_weighs_its_share_of_what_was_read_and_what_a_status_takes(
    size: int, stanzas: int, weight: int
) -> None:
    told = Dispatcher(lambda: 1.5, 10)
    told.weigh(size, stanzas)
    assert told.weight == weight + STANZA_BYTES


def test_each_waiting_status_keeps_the_weight_it_came_with() -> None:
    async def main() -> None:
        told = Dispatcher(lambda: 1.5, 10)
        gates = asyncio.Semaphore(0)
        sizes: list[int] = []

        async def slow(status: Status) -> None:
            await gates.acquire()

        told.subscribe("a", slow)
        for weight in (1, 10, 100, 0):
            told.weight = weight
            told.fire("a")
        for _ in range(4):
            sizes.append(told.backlog_bytes)
            await turns()
            gates.release()
            await turns()
        assert sizes == [111, 100, 0, 0]
        assert told.backlog == 0

    run(main)
