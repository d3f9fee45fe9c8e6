"""A loop whose time costs nothing: it sleeps through no time, and a function for a thread runs between two turns."""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class _Instant(selectors.SelectSelector):
    """Sleeps through no time: where nothing is ready, the time is that of the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everybody waits, and nobody for a time: for ever")
            self.now += max(timeout, 0.0)
        return ready


class Loop(asyncio.SelectorEventLoop):
    """A loop of its own time, in which a function for a thread is called between two turns."""

    def __init__(self) -> None:
        self._instant = _Instant()
        super().__init__(self._instant)
        self.timers: list[asyncio.TimerHandle] = []
        #: How long a function in a thread takes, in seconds.
        self.slowness = 0.0

    def time(self) -> float:
        return self._instant.now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        made = super().call_at(when, callback, *args, context=context)
        self.timers = [timer for timer in self.timers if not timer.cancelled() and timer.when() > self.time()]
        self.timers.append(made)
        return made

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Arguments]], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = self.create_future()

        def done() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_later(self.slowness, done)
        return future


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine in such a loop; nothing may be left behind, and asyncio may have nothing to complain of."""
    complaints: list[dict[str, Any]] = []

    async def checked() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        loop.set_exception_handler(lambda loop, context: complaints.append(context))
        await main()
        for _ in range(5):
            await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"left behind: {left}"
        # A held node's own time, a day, is all that may still be waited for.
        timers = [timer for timer in loop.timers if not timer.cancelled() and 0 < timer.when() - loop.time() < 3600]
        assert not timers, f"left behind: {timers}"

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(checked())
    assert not complaints, complaints


class _Begun:
    """A coroutine that was begun already: awaited, it goes on."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], yielded: object) -> None:
        self._coroutine = coroutine
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, None]:
        yielded = self._yielded
        while True:
            try:
                value = yield yielded
            except BaseException as error:
                step = partial(self._coroutine.throw, error)
            else:
                step = partial(self._coroutine.send, value)
            try:
                yielded = step()
            except StopIteration:
                return


#: The name of a task whose coroutine had begun before it.
EAGER = "eager"


def eager_task(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Begin a coroutine at once, as the tasks of asyncio.eager_task_factory (Python 3.12) do, in whatever runs now."""
    loop = asyncio.get_running_loop()
    begun: list[_Begun] = []

    async def rest() -> None:
        for each in begun:
            await each

    task = loop.create_task(rest(), name=EAGER)
    current = asyncio.current_task()
    if current is not None:
        asyncio.tasks._leave_task(loop, current)
    asyncio.tasks._enter_task(loop, task)
    try:
        begun.append(_Begun(coroutine, coroutine.send(None)))
    except StopIteration:
        pass
    finally:
        asyncio.tasks._leave_task(loop, task)
        if current is not None:
            asyncio.tasks._enter_task(loop, current)
    return task
