"""Subscriptions: who hears what, in which order, and what one subscriber can do to the others."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import pytest

from pcj import ConfigError, Event, Status
from pcj.dispatch import Dispatcher
from tests.shell.links import never, run, turns


def dispatcher(max_backlog: int = 10) -> Dispatcher:
    return Dispatcher(lambda: 1.5, max_backlog, name="romeo")


def test_a_handler_hears_of_its_event_alone_and_an_observer_of_all() -> None:
    told = dispatcher()
    heard: list[str] = []
    told.subscribe("a", lambda status: heard.append(f"a {status.event}"))
    told.subscribe("*", lambda status: heard.append(f"* {status.event}"))
    told.fire("a")
    told.fire("b")
    assert heard == ["a a", "* a", "* b"]


def test_a_status_carries_event_time_number_node_error_and_detail() -> None:
    told = dispatcher()
    heard: list[Status] = []
    told.subscribe("b", heard.append)
    told.context = {"attempt": 3}
    error = ValueError("x")
    told.fire("a")
    told.fire("b", None, error, {"more": 1})
    told.fire("b")
    first, second = heard
    assert (first.event, first.at, first.seq, first.error) == ("b", 1.5, 2, error)
    assert first.detail == {"attempt": 3, "more": 1}
    assert (second.seq, second.detail) == (3, {"attempt": 3})


def test_no_status_is_made_when_nobody_listens_unless_it_is_asked_for() -> None:
    told = dispatcher()
    assert told.fire("a") is None
    assert not told.wants("a")
    made = told.fire("a", make=True)
    assert made is not None
    assert made.seq == 2
    told.subscribe("*", lambda status: None)
    assert told.wants("a")


def test_a_follower_hears_of_every_event_before_all_others() -> None:
    told = dispatcher()
    heard: list[str] = []
    told.subscribe("a", lambda status: heard.append(f"subscriber {status.event}"))
    told.follower = lambda status: heard.append(f"follower {status.event}")
    assert told.wants("b")
    told.fire("a")
    told.fire("b")
    assert heard == ["follower a", "subscriber a", "follower b"]


def test_an_event_fired_in_a_handler_comes_after_all_have_heard_the_current_one() -> None:
    told = dispatcher()
    heard: list[str] = []

    def first(status: Status) -> None:
        heard.append("first a")
        told.fire("b")
        told.fire("c")
        heard.append("first a ends")

    told.subscribe("a", first)
    told.subscribe("a", lambda status: heard.append("second a"))
    told.subscribe("*", lambda status: heard.append(f"{status.event} {status.seq}"))
    told.subscribe("b", lambda status: told.fire("d") and None)
    told.fire("a")
    assert heard == ["first a", "first a ends", "second a", "a 1", "b 2", "c 3", "d 4"]


def test_all_subscribers_see_one_order_of_numbers() -> None:
    async def main() -> None:
        told = dispatcher(100)
        plain: list[int] = []
        waiting: list[int] = []

        async def slow(status: Status) -> None:
            await asyncio.sleep(0)
            waiting.append(status.seq)

        told.subscribe("*", lambda status: plain.append(status.seq))
        told.subscribe("*", slow)
        reader = told.iterate(())
        told.subscribe("a", lambda status: told.fire("b") and None)
        for _ in range(5):
            told.fire("a")
        read = [(await anext(reader)).seq for _ in range(10)]
        await asyncio.wait(told.tasks)
        assert plain == waiting == read == list(range(1, 11))

    run(main)


def test_a_handler_that_raises_is_logged_and_told_of_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    told = dispatcher()
    heard: list[Status] = []

    def broken(status: Status) -> None:
        raise ValueError("broken handler")

    told.subscribe("a", broken)
    told.subscribe("a", heard.append)
    told.subscribe(Event.HANDLER_FAILED, heard.append)
    told.fire("a")
    assert [status.event for status in heard] == ["a", Event.HANDLER_FAILED]
    assert str(heard[1].error) == "broken handler"
    assert "broken" in str(heard[1].detail["handler"])
    assert "broken handler" in caplog.text
    assert "ValueError" in caplog.text


@pytest.mark.parametrize("event", ["*", Event.HANDLER_FAILED])
def test_a_handler_of_failures_that_fails_is_not_told_of_its_own_failure_for_ever(event: str) -> None:
    told = dispatcher()
    calls: list[str] = []

    def broken(status: Status) -> None:
        calls.append(status.event)
        raise ValueError

    told.subscribe(event, broken)
    told.subscribe("a", broken)
    told.fire("a")
    assert len(calls) <= 4
    assert calls.count(Event.HANDLER_FAILED) in (1, 2)


def test_a_cancelled_future_looked_at_in_a_handler_is_a_failure_like_any_other() -> None:
    async def main() -> None:
        told = dispatcher()
        heard: list[Status] = []
        future = never()
        future.cancel()
        told.subscribe("a", lambda status: future.result())

        async def waits(status: Status) -> None:
            await future

        told.subscribe("a", waits)
        told.subscribe(Event.HANDLER_FAILED, heard.append)
        told.fire("a")
        told.fire("a")
        await asyncio.wait(told.tasks)
        assert [type(status.error) for status in heard] == [asyncio.CancelledError] * 4

    run(main)


def test_what_a_keyboard_interrupt_left_behind_is_told_first() -> None:
    told = dispatcher()
    heard: list[int] = []

    def interrupted(status: Status) -> None:
        told.fire("b")
        raise KeyboardInterrupt

    subscription = told.subscribe("a", interrupted)
    told.subscribe("*", lambda status: heard.append(status.seq))
    with pytest.raises(KeyboardInterrupt):
        told.fire("a")
    subscription.cancel()
    told.fire("a")
    assert heard == [2, 3]


def test_a_function_that_only_makes_a_coroutine_is_reported() -> None:
    told = dispatcher()
    heard: list[Status] = []

    async def work() -> None: ...

    told.subscribe("a", lambda status: work())
    told.subscribe(Event.HANDLER_FAILED, heard.append)
    told.fire("a")
    assert "async def" in str(heard[0].error)


def test_partials_and_objects_with_a_coroutine_call_are_awaited() -> None:
    async def main() -> None:
        told = dispatcher()
        heard: list[str] = []

        async def named(name: str, status: Status) -> None:
            heard.append(name)

        class Awaited:
            async def __call__(self, status: Status) -> None:
                heard.append("object")

        told.subscribe("a", functools.partial(named, "partial"))
        told.subscribe("a", Awaited())
        told.fire("a")
        await asyncio.wait(told.tasks)
        assert heard == ["partial", "object"]

    run(main)


# ---- cancel


def test_a_cancelled_subscription_hears_no_more_also_of_the_event_under_way() -> None:
    told = dispatcher()
    heard: list[str] = []

    def first(status: Status) -> None:
        second.cancel()
        told.subscribe("a", lambda status: heard.append("new"))

    told.subscribe("a", first)
    second = told.subscribe("a", lambda status: heard.append("second"))
    told.fire("a")
    assert heard == []
    second.cancel()
    told.fire("a")
    assert heard == ["new"]


def test_a_handler_can_cancel_itself() -> None:
    told = dispatcher()
    heard: list[int] = []

    def once(status: Status) -> None:
        heard.append(status.seq)
        subscription.cancel()

    subscription = told.subscribe("a", once)
    told.fire("a")
    told.fire("a")
    assert heard == [1]
    assert "a" not in told.interest


def test_cancel_drops_what_waits_for_a_coroutine_handler_and_gives_back_its_room() -> None:
    async def main() -> None:
        told = dispatcher()
        relieved: list[int] = []
        told.on_relief = lambda: relieved.append(told.backlog)
        heard: list[int] = []
        gate = asyncio.Event()

        async def slow(status: Status) -> None:
            heard.append(status.seq)
            await gate.wait()

        subscription = told.subscribe("a", slow)
        for _ in range(5):
            told.fire("a")
        await turns()
        assert told.backlog == 4
        subscription.cancel()
        assert told.backlog == 0
        assert relieved == [0]
        gate.set()
        await asyncio.wait(told.tasks)
        assert heard == [1]
        assert told.backlog == 0

    run(main)


def test_a_coroutine_handler_takes_one_status_after_the_other_and_goes_on_after_a_failure() -> None:
    async def main() -> None:
        told = dispatcher()
        heard: list[str] = []
        inside = 0

        async def slow(status: Status) -> None:
            nonlocal inside
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1
            heard.append(f"{status.event} {status.seq}")
            raise ValueError(status.seq)

        told.subscribe("a", slow)
        failures: list[str] = []
        told.subscribe(Event.HANDLER_FAILED, lambda status: failures.append(str(status.error)))
        for _ in range(3):
            told.fire("a")
        await asyncio.wait(told.tasks)
        assert heard == ["a 1", "a 2", "a 3"]
        assert failures == ["1", "2", "3"]
        told.fire("a")
        await asyncio.wait(told.tasks)
        assert told.tasks == set()
        assert told.backlog == 0
        assert len(heard) == 4

    run(main)


def test_a_coroutine_handler_whose_task_is_cancelled_gives_back_its_room_and_hears_the_next() -> None:
    async def main() -> None:
        told = dispatcher()
        heard: list[int] = []

        async def slow(status: Status) -> None:
            heard.append(status.seq)
            if status.seq < 4:
                await never()

        told.subscribe("a", slow)
        for _ in range(3):
            told.fire("a")
        await turns()
        (task,) = told.tasks
        task.cancel()
        await turns()
        assert told.backlog == 0
        told.fire("a")
        await asyncio.wait(told.tasks)
        assert heard == [1, 5]  # 4 said that the others were dropped

    run(main)


@pytest.mark.parametrize("begun", [True, False])
def test_what_a_cancelled_task_of_a_handler_leaves_is_told_of_and_reading_goes_on(
    begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        told = dispatcher()
        failures: list[Status] = []
        relieved: list[int] = []
        heard: list[int] = []
        told.on_relief = lambda: relieved.append(told.backlog)

        async def slow(status: Status) -> None:
            heard.append(status.seq)
            if status.seq == 1:
                await never()

        told.subscribe("a", slow)
        told.subscribe(Event.HANDLER_FAILED, failures.append)
        for _ in range(3):
            told.fire("a")
        if begun:
            await turns()
        (task,) = told.tasks
        task.cancel()
        await turns()
        (failure,) = failures
        dropped = 2 if begun else 3
        assert isinstance(failure.error, asyncio.CancelledError)
        assert failure.detail["dropped"] == dropped
        assert "slow" in str(failure.detail["handler"])
        assert f"{dropped} statuses that waited for it are dropped" in caplog.text
        assert relieved[-1] == 0
        assert told.tasks == set()
        told.fire("a")
        await asyncio.wait(told.tasks)
        assert heard[-1] == 5

    run(main)


def test_a_handler_that_cancels_its_own_task_on_the_last_status_is_no_failure_and_reading_goes_on() -> None:
    async def main() -> None:
        told = dispatcher()
        failures: list[Status] = []
        relieved: list[int] = []
        told.on_relief = lambda: relieved.append(told.backlog)

        async def ends(status: Status) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        told.subscribe("a", ends)
        told.subscribe(Event.HANDLER_FAILED, failures.append)
        told.fire("a")
        await asyncio.wait(told.tasks)
        assert failures == []
        assert relieved == [0]

    run(main)


def test_an_observer_whose_task_is_cancelled_hears_once_that_it_missed_some() -> None:
    async def main() -> None:
        told = dispatcher()
        heard: list[str] = []

        async def slow(status: Status) -> None:
            heard.append(status.event)
            if status.event == "a":
                await never()

        told.subscribe("*", slow)
        for _ in range(3):
            told.fire("a")
        await turns()
        (task,) = told.tasks
        task.cancel()
        await turns(5)
        assert heard == ["a", Event.HANDLER_FAILED]
        assert told.tasks == set()

    run(main)


# ---- after


def test_a_callback_comes_at_once_where_nothing_waits() -> None:
    told = dispatcher()
    called: list[str] = []
    told.after(lambda: called.append("now"))
    assert called == ["now"]


def test_a_callback_comes_after_all_that_was_fired_and_before_what_is_fired_later() -> None:
    told = dispatcher()
    heard: list[str] = []

    def first(status: Status) -> None:
        told.fire("b")
        told.after(lambda: heard.append("after"))
        told.fire("c")

    told.subscribe("a", first)
    told.subscribe("*", lambda status: heard.append(status.event))
    told.fire("a")
    assert heard == ["a", "b", "after", "c"]


def test_a_callback_can_fire_and_call_back_again() -> None:
    told = dispatcher()
    heard: list[str] = []

    def back() -> None:
        told.fire("b")
        told.after(lambda: heard.append("again"))
        heard.append("back")

    told.subscribe("b", lambda status: heard.append("b"))
    told.after(back)
    assert heard == ["back", "b", "again"]


def test_a_callback_comes_also_after_the_end_behind_what_was_fired_before_it() -> None:
    told = dispatcher()
    heard: list[str] = []

    def halting(status: Status) -> None:
        told.fire("b")
        told.after(lambda: heard.append("after"))
        told.close()

    told.subscribe("a", halting)
    told.subscribe("b", lambda status: heard.append("b"))
    told.fire("a")
    told.after(lambda: heard.append("closed"))
    assert heard == ["b", "after", "closed"]


def test_a_callback_that_raises_is_told_of_and_stops_nothing() -> None:
    told = dispatcher()
    heard: list[str] = []

    def broken() -> None:
        raise ValueError("broken callback")

    def first(status: Status) -> None:
        told.after(broken)
        told.fire("b")

    told.subscribe("a", first)
    told.subscribe("b", lambda status: heard.append("b"))
    told.subscribe(Event.HANDLER_FAILED, lambda status: heard.append(str(status.error)))
    told.fire("a")
    assert heard == ["b", "broken callback"]


def test_a_callback_waits_for_what_a_keyboard_interrupt_left_behind() -> None:
    told = dispatcher()
    heard: list[str] = []

    def interrupted(status: Status) -> None:
        told.fire("b")
        raise KeyboardInterrupt

    told.subscribe("a", interrupted)
    told.subscribe("b", lambda status: heard.append("b"))
    with pytest.raises(KeyboardInterrupt):
        told.fire("a")
    told.after(lambda: heard.append("after"))
    assert heard == ["b", "after"]


@pytest.mark.parametrize("event", ["", None, 3])
def test_an_event_must_have_a_name(event: object) -> None:
    with pytest.raises(ConfigError):
        dispatcher().subscribe(cast(str, event), print)
    with pytest.raises(ConfigError):
        dispatcher().iterate((cast(str, event),))


def test_a_handler_must_be_callable() -> None:
    with pytest.raises(ConfigError, match="callable"):
        dispatcher().subscribe("a", cast("type[Status]", None))


# ---- iterators


def test_an_iterator_reads_from_the_moment_it_was_made() -> None:
    async def main() -> None:
        told = dispatcher()
        told.fire("a")
        reader = told.iterate(("a", "b", "a"))
        told.fire("a")
        told.fire("c")
        told.fire("b")
        assert [(await anext(reader)).seq for _ in range(2)] == [2, 4]

    run(main)


def test_a_slow_reader_finds_a_gap_in_place_of_what_it_missed() -> None:
    async def main() -> None:
        told = dispatcher(2)
        reader = told.iterate(("a",))
        for _ in range(5):
            told.fire("a")
        assert (await anext(reader)).seq == 1
        told.fire("a")  # there is room again
        assert (await anext(reader)).seq == 2
        gap = await anext(reader)
        assert (gap.event, gap.seq, gap.detail) == (Event.BACKLOG_GAP, 5, {"missed": 3})
        assert (await anext(reader)).seq == 6
        for _ in range(3):
            told.fire("a")
        assert [(await anext(reader)).event for _ in range(3)] == ["a", "a", Event.BACKLOG_GAP]

    run(main)


def test_an_iterator_that_is_left_lets_go() -> None:
    async def main() -> None:
        told = dispatcher()
        async with aclosing(cast("AsyncGenerator[Status, None]", told.iterate(("a",)))) as reader:
            told.fire("a")
            async for status in reader:
                assert status.seq == 1
                break
        assert told.interest == {}

    run(main)


def test_an_iterator_that_was_never_begun_lets_go() -> None:
    async def main() -> None:
        told = dispatcher()
        reader = told.iterate(("a",))
        assert "a" in told.interest
        del reader
        gc.collect()
        assert told.interest == {}

    run(main)


class Owner:
    """Who has both a broker's dispatcher and an iterator over it, and is known to the first."""

    def __init__(self) -> None:
        self.told = dispatcher()
        self.told.on_relief = self.relieved
        self.reader = self.told.iterate(())

    def relieved(self) -> None: ...


def test_an_iterator_kept_by_its_own_broker_keeps_nothing_alive() -> None:
    async def main() -> None:
        owner = Owner()
        gone = weakref.ref(owner)
        del owner
        gc.collect()
        assert gone() is None

    run(main)


def test_a_task_that_nobody_holds_goes_on_reading() -> None:
    async def main() -> None:
        told = dispatcher()
        heard: list[int] = []

        async def read() -> None:
            async for status in told.iterate(("a",)):
                heard.append(status.seq)
            heard.append(0)

        asyncio.create_task(read())  # noqa: RUF006 - what is tested
        await turns()
        gc.collect()
        told.fire("a")
        await turns()
        gc.collect()
        told.close()
        await turns()
        assert heard == [1, 0]

    run(main)


def test_after_the_end_what_was_fired_is_still_told_and_then_nothing() -> None:
    async def main() -> None:
        told = dispatcher()
        heard: list[str] = []

        def halting(status: Status) -> None:
            told.fire("b")
            told.close()
            told.fire("c")

        told.subscribe("a", halting)
        told.subscribe("*", lambda status: heard.append(status.event))
        reader = told.iterate(())
        told.fire("a")
        told.fire("d")
        assert heard == ["a", "b"]
        assert [status.event async for status in reader] == ["a", "b"]
        assert [status.event async for status in told.iterate(())] == []

    run(main)
