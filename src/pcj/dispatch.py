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
from pcj.handled import Handled
from pcj.stanza import Node

__all__ = ["ANY", "STANZA_BYTES", "Dispatcher", "Handler", "Subscription"]

log = logging.getLogger("pcj")

#: Subscribes to every event.
ANY: Final = "*"

Handler: TypeAlias = Callable[[Status], Any] | Callable[[Status], Awaitable[Any]]

#: What a small stanza and its status take in memory besides the stanza's bytes, about: 780 for a message without body.
STANZA_BYTES: Final = 800

#: A stanza of the peer's that is not done yet: where it is counted, which may not be where later ones are, and its
#: number.
_Held: TypeAlias = tuple[Handled, int]


class Subscription:
    """One handler of one event; `cancel` ends it."""

    __slots__ = ("__weakref__", "_backlog", "_dispatcher", "_task", "event", "handler", "is_coroutine", "observes")

    def __init__(self, dispatcher: Dispatcher, event: str, handler: Handler, *, observes: bool) -> None:
        self.event = event
        self.observes = observes
        self.handler = handler
        self.is_coroutine = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
        )
        self._dispatcher = dispatcher
        self._backlog: deque[tuple[Status, int, _Held | None]] = deque()  # with what each weighs
        self._task: asyncio.Task[None] | None = None  # which works off the backlog

    def __repr__(self) -> str:
        return f"Subscription({self.event}, {getattr(self.handler, '__qualname__', self.handler)})"

    def cancel(self) -> None:
        """Hear no more of it. Statuses already waiting for a coroutine handler are dropped; twice does nothing."""
        dispatcher = self._dispatcher
        dispatcher.remove(self)
        self.handler = _deaf  # a dispatch that is under way goes on over the list it began with
        self.is_coroutine = False
        if self._empty():
            dispatcher.relieved()

    def enqueue(self, status: Status) -> None:
        """Hand a status to the coroutine handler's task."""
        dispatcher = self._dispatcher
        task = self._task
        # First of all: without a running loop it raises, and nothing may be left behind then.
        loop = asyncio.get_running_loop() if task is None else None
        weight, held = dispatcher.weight, dispatcher.held
        if held is not None:
            held[0].hold(held[1])
        self._backlog.append((status, weight, held))
        dispatcher.backlog += 1
        dispatcher.backlog_bytes += weight
        if loop is not None:
            self._task = task = loop.create_task(self._work(), name=f"pcj handler of {self.event}")
            dispatcher.tasks.add(task)
            task.add_done_callback(self._done)

    async def _work(self) -> None:
        dispatcher = self._dispatcher
        handler = self.handler
        try:
            while self._backlog:
                status, weight, held = self._backlog.popleft()
                dispatcher.backlog -= 1
                dispatcher.backlog_bytes -= weight
                try:
                    await handler(status)
                except asyncio.CancelledError as error:
                    if is_cancelled():
                        raise
                    dispatcher.report(self, error, status)  # something else was, which the handler awaited
                except Exception as error:
                    dispatcher.report(self, error, status)
                finally:
                    if held is not None:
                        held[0].release(held[1])
                dispatcher.relieved()
            self._task = None
        except GeneratorExit:  # the loop is gone, and with it whoever could be told
            self._drop()
            raise
        except BaseException as error:
            self._broken_off(error)
            raise

    def _done(self, task: asyncio.Task[None]) -> None:
        self._dispatcher.tasks.discard(task)
        if self._task is task:  # cancelled before it began, so that nothing in `_work` saw it
            self._broken_off(asyncio.CancelledError())

    def _broken_off(self, error: BaseException) -> None:
        """The task ends with statuses still waiting for it; the next status begins another."""
        dropped = self._drop()
        if dropped:
            self._dispatcher.report(self, error, dropped=dropped)
        self._dispatcher.relieved()

    def _drop(self) -> int:
        """The task is over: let go of what waits; how many."""
        self._task = None
        return self._empty()

    def _empty(self) -> int:
        """Let go of what waits; how many. Nobody else will handle it, so that it counts as handled."""
        dispatcher = self._dispatcher
        dropped = 0
        while self._backlog:
            _, weight, held = self._backlog.popleft()
            dropped += 1
            dispatcher.backlog -= 1
            dispatcher.backlog_bytes -= weight
            if held is not None:
                held[0].release(held[1])
        return dropped


def _deaf(status: Status) -> None:
    """The handler of a subscription that was cancelled."""


def _cancel_all(references: list[weakref.ref[Subscription]], reader: weakref.ref[_Reader]) -> None:
    held = reader()  # first: it may live in its subscriptions only
    for reference in references:
        subscription = reference()
        if subscription is not None:
            subscription.cancel()
    if held is not None:
        held.let_go()


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
        backlog: statuses that wait for coroutine handlers, all together. backlog_bytes: what they weigh. on_relief:
            called when that has shrunk.
        weight: what each status weighs that comes to wait from now on; `weigh` sets it, and 0 is for what is no stanza.
        tracker, mark: where the peer's stanzas are counted, and the number of the one that is being told of; 0: none.
            Whoever sets the mark holds the stanza meanwhile. What handlers fire in turn does not bear it.
        held: the same of the status that handlers are being told of, or None.
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
        self.backlog_bytes = 0
        self.weight = 0
        self.tracker: Handled | None = None
        self.mark = 0
        self.held: _Held | None = None
        self.on_relief: Callable[[], None] | None = None
        self.context: Mapping[str, object] = NO_DETAIL
        self.follower: Callable[[Status], None] | None = None
        self._seq = 0
        self._waiting: deque[Status | Callable[[], None]] = deque()  # what to tell, and what `after` was given
        self._busy = False
        self._closed = False
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()

    def subscribe(self, event: str, handler: Handler, *, observes: bool = False) -> Subscription:
        """Have `handler` called with each status of `event` ("*": of every event).

        One that `observes` hears, and does not count as one who takes care of what it hears of.
        """
        if not callable(handler):
            raise ConfigError(f"a handler must be callable, not {type(handler).__name__}")
        if not isinstance(event, str) or not event:
            raise ConfigError(f"an event is named by an Event or a str, not by {event!r}")
        subscription = Subscription(self, event, handler, observes=observes)
        # Copied, not changed in place: a dispatch under way goes on over the list it began with.
        self.interest[event] = [*self.interest.get(event, ()), subscription]
        return subscription

    def answers(self, event: str) -> bool:
        """Whether somebody hears of `event` who may be taken to answer it."""
        return any(not subscription.observes for subscription in self.interest.get(event, ()))

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
        self._seq = seq = self._seq + 1
        interest = self.interest
        subscriptions = interest.get(event)
        everybody = ANY in interest or self.follower is not None
        if subscriptions is None and not everybody and not make:
            return None
        if self._closed:
            return None
        context = self.context
        status = Status(event, self._clock(), seq, node, error, {**context, **detail} if detail else context)
        if self.mark:
            self._fire_marked(status)
            return status
        waiting = self._waiting
        if self._busy or waiting:  # what a KeyboardInterrupt left behind comes first
            waiting.append(status)
            if not self._busy:
                self._tell_waiting()
            return status
        self._busy = True
        try:
            if everybody or subscriptions is None:
                self._tell(status)
            else:
                self._call(subscriptions, status)
        finally:
            self._busy = False
        if waiting:
            self._tell_waiting()
        return status

    def _fire_marked(self, status: Status) -> None:
        """As `fire`, for a status of a stanza that is counted; see `mark`."""
        mark, tracker = self.mark, self.tracker
        if tracker is None:
            raise RuntimeError("a mark without a tracker: nothing says what it counts")
        self.mark = 0  # for what is fired meanwhile
        try:
            if self._busy or self._waiting:
                tracker.hold(mark)

                def tell() -> None:
                    try:
                        self._tell_held(status, (tracker, mark))
                    finally:
                        tracker.release(mark)

                self._waiting.append(tell)
                if not self._busy:
                    self._tell_waiting()
                return
            self._busy = True
            try:
                self._tell_held(status, (tracker, mark))
            finally:
                self._busy = False
            if self._waiting:
                self._tell_waiting()
        finally:
            self.mark = mark

    def _tell_held(self, status: Status, held: _Held) -> None:
        self.held = held
        try:
            self._tell(status)
        finally:
            self.held = None

    def after(self, callback: Callable[[], None]) -> None:
        """Call back when all that was fired up to now has been told: at once, where nothing waits.

        What is fired later is told after it. It is called also after `close`.
        """
        self._waiting.append(callback)
        if not self._busy:
            self._tell_waiting()

    @property
    def telling(self) -> bool:
        """Whether handlers are being told, so that what is seen now is between two events."""
        return self._busy

    def together(self, callback: Callable[[], None]) -> None:
        """Call back at once; what it fires is told behind it, all of it, also where a handler of the first halts."""
        if self._busy:
            callback()
            return
        self._busy = True
        try:
            callback()
        finally:
            self._busy = False
        if self._waiting:
            self._tell_waiting()

    def end_iterators(self) -> None:
        """The link has ended for good: each iterator ends behind what it has yet to give."""
        for reader in self._readers:
            reader.end()

    def close(self) -> None:
        """Nothing will happen any more: what was fired is still told, then iterators end."""
        self._closed = True
        self.end_iterators()

    def _tell_waiting(self) -> None:
        """Tell what was fired meanwhile, and call back who waited for that, in order."""
        waiting = self._waiting
        self._busy = True
        try:
            while waiting:
                item = waiting.popleft()
                if isinstance(item, Status):
                    self._tell(item)
                    continue
                try:
                    item()
                except Exception as error:
                    self.report(item, error)
        finally:
            self._busy = False

    def _tell(self, status: Status) -> None:
        if self.follower is not None:
            self.follower(status)
        interest = self.interest
        event = status.event
        if event in interest:
            self._call(interest[event], status)
        if ANY in interest:
            self._call(interest[ANY], status)

    def _call(self, subscriptions: list[Subscription], status: Status) -> None:
        for subscription in subscriptions:
            try:
                if subscription.is_coroutine:
                    subscription.enqueue(status)
                    continue
                result = subscription.handler(status)
                if result is not None and inspect.iscoroutine(result):
                    result.close()
                    raise TypeError("a handler that awaits must be a coroutine function (async def)")
            except (Exception, asyncio.CancelledError) as error:  # the latter from the result of a future, say
                self.report(subscription, error, status)

    def report(self, source: object, error: BaseException, status: Status | None = None, *, dropped: int = 0) -> None:
        """A handler or a filter raised: logged, and an event, and nothing else stops for it.

        Args:
            source: what raised. error: what was raised. status: while it was told of this one. dropped: statuses that
                waited for it and that it will not hear of.
        """
        kind = type(error).__name__
        detail: dict[str, object] = {"handler": repr(source)}
        if dropped:
            detail["dropped"] = dropped
            kind = f"{kind} ({dropped} statuses that waited for it are dropped)"
        log.error("%s: %r raised %s: %s", self._name, source, kind, error, exc_info=error)
        if status is None or status.event != Event.HANDLER_FAILED:  # or a handler of all would hear of itself for ever
            self.fire(Event.HANDLER_FAILED, None, error, detail)

    def weigh(self, size: int, stanzas: int) -> None:
        """Stanzas will be told of.

        Args:
            size: bytes that were read since the last of them was complete: a stanza may have come in many reads.
            stanzas: how many they are, 1 or more.
        """
        self.weight = size // stanzas + STANZA_BYTES

    def relieved(self) -> None:
        """A coroutine handler has taken a status off its backlog."""
        if self.on_relief is not None:
            self.on_relief()

    def iterate(self, events: tuple[str, ...]) -> AsyncIterator[Status]:
        """Each status of `events` from now on; a reader too slow finds a BACKLOG_GAP in place of what it missed."""
        reader = _Reader(self, self._max_backlog)
        if self._closed:
            reader.end()
        self._readers.add(reader)
        subscriptions: list[Subscription] = []

        async def read() -> AsyncIterator[Status]:
            try:
                while True:
                    while reader.buffer:
                        status, held = reader.buffer.popleft()
                        try:
                            yield status
                        finally:  # the reader has come back for the next, or will not come back
                            if held is not None:
                                held[0].release(held[1])
                    gap = reader.take_gap()
                    if gap is not None:
                        yield gap
                    elif reader.ended:
                        return
                    else:
                        reader.arrived.clear()
                        await reader.arrived.wait()
            finally:
                for subscription in subscriptions:
                    subscription.cancel()
                reader.let_go()

        try:
            for event in dict.fromkeys(events or (ANY,)):
                subscriptions.append(self.subscribe(event, reader.keep))
        except ConfigError:
            for subscription in subscriptions:
                subscription.cancel()
            raise
        generator = read()
        # One that was never begun lets go, too. The registry holds this for ever, so nothing in it may lead back to the
        # generator: a broker's owner may keep both. (The reader is held: nobody else holds a task that waits in it.)
        references = [weakref.ref(subscription) for subscription in subscriptions]
        weakref.finalize(generator, _cancel_all, references, weakref.ref(reader))
        return generator


class _Reader:
    """What waits for one iterator. `ended`: nothing more will come."""

    def __init__(self, dispatcher: Dispatcher, max_backlog: int) -> None:
        self.buffer: deque[tuple[Status, _Held | None]] = deque()
        self.arrived = asyncio.Event()
        self.ended = False
        self._dispatcher = dispatcher
        self._max_backlog = max_backlog
        self._missed = 0
        self._last: Status | None = None  # of those missed

    def keep(self, status: Status) -> None:
        """Keep a status, or count it where there is no room."""
        if len(self.buffer) < self._max_backlog:
            gap = self.take_gap()
            if gap is not None:
                self.buffer.append((gap, None))
            held = self._dispatcher.held
            if held is not None:
                held[0].hold(held[1])
            self.buffer.append((status, held))
        else:
            self._missed += 1
            self._last = status
        self.arrived.set()

    def take_gap(self) -> Status | None:
        """What stands in place of those that were missed; it bears the number of the last of them."""
        last, missed = self._last, self._missed
        self._last, self._missed = None, 0
        return None if last is None else Status(Event.BACKLOG_GAP, last.at, last.seq, detail={"missed": missed})

    def let_go(self) -> None:
        """Nobody will read what is left."""
        while self.buffer:
            _, held = self.buffer.popleft()
            if held is not None:
                held[0].release(held[1])

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self.arrived.set()
