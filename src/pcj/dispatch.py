"""Who hears of what happens: subscriptions, in one total order.

An event that is fired inside a handler waits until all have heard the current one (event-order C15). A handler that is
a coroutine function gets its statuses one after the other, from a backlog of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from pcj.errors import ConfigError
from pcj.events import NO_DETAIL, Event, Status
from pcj.stanza import Node

__all__ = ["ANY", "Dispatcher", "Handler", "Subscription"]

log = logging.getLogger("pcj")

#: Subscribes to every event.
ANY: Final = "*"

Handler: TypeAlias = Callable[[Status], Any] | Callable[[Status], Awaitable[Any]]


class Subscription:
    """One handler of one event; `cancel` ends it."""

    __slots__ = ("_backlog", "_dispatcher", "_working", "event", "handler", "is_coroutine")

    def __init__(self, dispatcher: Dispatcher, event: str, handler: Handler) -> None:
        self.event = event
        self.handler = handler
        self.is_coroutine = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
        )
        self._dispatcher = dispatcher
        self._backlog: deque[Status] = deque()
        self._working = False

    def __repr__(self) -> str:
        return f"Subscription({self.event}, {getattr(self.handler, '__qualname__', self.handler)})"

    def cancel(self) -> None:
        """Hear no more of it. Statuses already waiting for a coroutine handler are dropped; twice does nothing."""
        dispatcher = self._dispatcher
        dispatcher.remove(self)
        self.handler = _deaf  # a dispatch that is under way goes on over the list it began with
        self.is_coroutine = False
        if self._backlog:
            dispatcher.backlog -= len(self._backlog)
            self._backlog.clear()
            dispatcher.relieved()

    def enqueue(self, status: Status) -> None:
        """Hand a status to the coroutine handler's task."""
        dispatcher = self._dispatcher
        if not self._working:
            # First of all: without a running loop it raises, and nothing may be left behind then.
            loop = asyncio.get_running_loop()
            self._working = True
            self._backlog.append(status)
            dispatcher.backlog += 1
            task = loop.create_task(self._work(), name=f"pcj handler of {self.event}")
            dispatcher.tasks.add(task)
            task.add_done_callback(dispatcher.tasks.discard)
        else:
            self._backlog.append(status)
            dispatcher.backlog += 1

    async def _work(self) -> None:
        dispatcher = self._dispatcher
        handler = self.handler
        try:
            while self._backlog:
                status = self._backlog.popleft()
                dispatcher.backlog -= 1
                try:
                    await handler(status)
                except asyncio.CancelledError as error:
                    if is_cancelled():
                        raise
                    dispatcher.report(self, error, status)  # something else was, which the handler awaited
                except Exception as error:
                    dispatcher.report(self, error, status)
                dispatcher.relieved()
        finally:
            dispatcher.backlog -= len(self._backlog)
            self._backlog.clear()
            self._working = False


def _deaf(status: Status) -> None:
    """The handler of a subscription that was cancelled."""


def is_cancelled() -> bool:
    """Whether the task that runs is to end itself, rather than having awaited what somebody cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Dispatcher:
    """Subscriptions and the order of events of one broker.

    Args:
        clock: gives the time in seconds. max_backlog: statuses that may wait for an iterator before it misses some.
        name: whose events they are, for the log.

    Attributes:
        backlog: statuses that wait for coroutine handlers, all together. on_relief: called when that has shrunk.
        interest: the subscriptions of each event, to be read: who has none costs nothing.
        context: what every status says besides its own detail (attempt, session).
        follower: hears of every event before anybody else, or None.
    """

    def __init__(self, clock: Callable[[], float], max_backlog: int, *, name: str = "") -> None:
        self._clock = clock
        self._max_backlog = max_backlog
        self._name = name
        self.interest: dict[str, list[Subscription]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.backlog = 0
        self.on_relief: Callable[[], None] | None = None
        self.context: Mapping[str, object] = NO_DETAIL
        self.follower: Callable[[Status], None] | None = None
        self._seq = 0
        self._waiting: deque[Status] = deque()
        self._busy = False
        self._closed = False
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()

    def subscribe(self, event: str, handler: Handler) -> Subscription:
        """Have `handler` called with each status of `event` ("*": of every event)."""
        if not callable(handler):
            raise ConfigError(f"a handler must be callable, not {type(handler).__name__}")
        if not isinstance(event, str) or not event:
            raise ConfigError(f"an event is named by an Event or a str, not by {event!r}")
        subscription = Subscription(self, event, handler)
        # Copied, not changed in place: a dispatch under way goes on over the list it began with.
        self.interest[event] = [*self.interest.get(event, ()), subscription]
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription; one that is not known is ignored."""
        kept = [other for other in self.interest.get(subscription.event, ()) if other is not subscription]
        if kept:
            self.interest[subscription.event] = kept
        else:
            self.interest.pop(subscription.event, None)

    def wants(self, event: str) -> bool:
        """Whether anybody hears of it."""
        return event in self.interest or ANY in self.interest or self.follower is not None

    def fire(
        self,
        event: str,
        node: Node | None = None,
        error: BaseException | None = None,
        detail: Mapping[str, object] = NO_DETAIL,
        *,
        make: bool = False,
    ) -> Status | None:
        """Tell everyone who subscribed. A status is made only if there is someone, or with `make`."""
        self._seq += 1
        interest = self.interest
        if not make and event not in interest and ANY not in interest and self.follower is None:
            return None
        if self._closed:
            return None
        context = self.context
        detail = {**context, **detail} if detail else context
        status = Status(event, self._clock(), self._seq, node, error, detail)
        if self._busy:
            self._waiting.append(status)
            return status
        self._busy = True
        try:
            if self._waiting:  # what a KeyboardInterrupt left behind comes first
                self._waiting.append(status)
            else:
                self._tell(status)
            while self._waiting:
                self._tell(self._waiting.popleft())
        finally:
            self._busy = False
        return status

    def close(self) -> None:
        """Nothing will happen any more: what was fired is still told, then iterators end."""
        self._closed = True
        for reader in self._readers:
            reader.end()

    def _tell(self, status: Status) -> None:
        if self.follower is not None:
            self.follower(status)
        for subscription in self.interest.get(status.event, ()):
            self._call(subscription, status)
        for subscription in self.interest.get(ANY, ()):
            self._call(subscription, status)

    def _call(self, subscription: Subscription, status: Status) -> None:
        try:
            if subscription.is_coroutine:
                subscription.enqueue(status)
                return
            result = subscription.handler(status)
            if result is not None and inspect.iscoroutine(result):
                result.close()
                raise TypeError("a handler that awaits must be a coroutine function (async def)")
        except (Exception, asyncio.CancelledError) as error:  # the latter from the result of a future, say
            self.report(subscription, error, status)

    def report(self, source: object, error: BaseException, status: Status | None = None) -> None:
        """A handler or a filter raised: logged, and an event, and nothing else stops for it."""
        log.error("%s: %r raised %s: %s", self._name, source, type(error).__name__, error, exc_info=error)
        if status is None or status.event != Event.HANDLER_FAILED:  # or a handler of all would hear of itself for ever
            self.fire(Event.HANDLER_FAILED, None, error, {"handler": repr(source)})

    def relieved(self) -> None:
        """A coroutine handler has taken a status off its backlog."""
        if self.on_relief is not None:
            self.on_relief()

    def iterate(self, events: tuple[str, ...]) -> AsyncIterator[Status]:
        """Each status of `events` from now on; a reader too slow finds a BACKLOG_GAP in place of what it missed."""
        reader = _Reader(self._max_backlog)
        if self._closed:
            reader.end()
        self._readers.add(reader)
        subscriptions: list[Subscription] = []

        def cancel() -> None:
            for subscription in subscriptions:
                subscription.cancel()

        async def read() -> AsyncIterator[Status]:
            try:
                while True:
                    while reader.buffer:
                        yield reader.buffer.popleft()
                    gap = reader.take_gap()
                    if gap is not None:
                        yield gap
                    elif reader.ended:
                        return
                    else:
                        reader.arrived.clear()
                        await reader.arrived.wait()
            finally:
                cancel()

        try:
            for event in dict.fromkeys(events or (ANY,)):
                subscriptions.append(self.subscribe(event, reader.keep))
        except ConfigError:
            cancel()
            raise
        generator = read()
        weakref.finalize(generator, cancel)  # also one that was never begun lets go
        return generator


class _Reader:
    """What waits for one iterator. `ended`: nothing more will come."""

    def __init__(self, max_backlog: int) -> None:
        self.buffer: deque[Status] = deque()
        self.arrived = asyncio.Event()
        self.ended = False
        self._max_backlog = max_backlog
        self._missed = 0
        self._last: Status | None = None  # of those missed

    def keep(self, status: Status) -> None:
        """Keep a status, or count it where there is no room."""
        if len(self.buffer) < self._max_backlog:
            gap = self.take_gap()
            if gap is not None:
                self.buffer.append(gap)
            self.buffer.append(status)
        else:
            self._missed += 1
            self._last = status
        self.arrived.set()

    def take_gap(self) -> Status | None:
        """What stands in place of those that were missed; it bears the number of the last of them."""
        last, missed = self._last, self._missed
        self._last, self._missed = None, 0
        return None if last is None else Status(Event.BACKLOG_GAP, last.at, last.seq, detail={"missed": missed})

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self.arrived.set()
