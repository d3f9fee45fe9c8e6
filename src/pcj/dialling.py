"""One attempt of a link to reach a server: endpoint after endpoint, and what ends it from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from pcj.connection import Connection
from pcj.diagnosis import none_reached
from pcj.errors import ConnectionFailed, Failure
from pcj.route import Candidate, Route
from pcj.transport.tcp import dial

__all__ = ["Interrupted", "Interruptible", "reach"]

ResultT = TypeVar("ResultT")


class Interrupted(Exception):
    """What the link waited for was ended by shutdown, reconnect or halt."""


class Interruptible:
    """Runs what a link waits for, one thing at a time, so that it can be ended.

    Args:
        stopped: whether the link is to do nothing more.
    """

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._inner: asyncio.Task[Any] | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """What `work` gives.

        Raises:
            Interrupted: the link is to do nothing more. Whatever `work` raises.
        """
        if self._stopped():
            raise Interrupted
        inner = asyncio.get_running_loop().create_task(work())
        self._inner = inner
        try:
            return await inner
        except asyncio.CancelledError:
            if self._stopped() and inner.cancelled():
                raise Interrupted from None
            raise
        finally:
            self._inner = None
            if inner.done() and not inner.cancelled():
                inner.exception()  # looked at, also if we were cancelled in the same moment

    def cancel(self) -> None:
        """End what runs, if anything does."""
        if self._inner is not None:
            self._inner.cancel()


async def reach(
    route: Route,
    interruptible: Interruptible,
    make: Callable[[Candidate], Connection],
    on_attempt: Callable[[str, BaseException | None], None],
    halted: Callable[[], bool],
) -> None:
    """Connect to the first endpoint of a route that answers; those tried are taken off it.

    Args:
        route: where to. interruptible: runs it. make: the connection for an endpoint; the last one made counts.
        on_attempt: called for each address that was tried. halted: whether nobody wants to hear of it any more.

    Raises:
        ConnectionFailed: none answers. Interrupted: it was ended, and none is connected.
    """
    failures: list[Failure] = []
    while (candidate := route.take()) is not None:
        made = make(candidate)
        work = partial(
            dial,
            candidate.endpoint,
            partial(_same, made),
            timeout=candidate.config.connect_timeout,
            on_attempt=on_attempt,
        )
        try:
            await interruptible.run(work)
        except ConnectionFailed as error:
            failures.append(error.failure)
            continue
        except Interrupted:
            # Connected in the same moment: then its end is told by itself.
            if not made.connected or halted():
                raise
        return
    raise ConnectionFailed(none_reached(failures))


def _same(made: Connection) -> Connection:
    """The protocol of the one connection that is dialled."""
    return made
