"""A server that runs in a thread of its own, for commands that run a loop of theirs in the test's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Generic, TypeVar

from pcj.testing import Server, ServerOptions

__all__ = ["Background", "background", "make_server"]

T = TypeVar("T")
R = TypeVar("R")
TIMEOUT = 20.0


class Background(Generic[T]):
    """What runs, and the loop it runs in."""

    def __init__(self, it: T, loop: asyncio.AbstractEventLoop) -> None:
        self.it = it
        self.loop = loop

    def do(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine there, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(TIMEOUT)


@contextmanager
def background(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[Background[T]]:
    """Run an asynchronous context manager in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server of a test")
    thread.start()
    try:
        manager = asyncio.run_coroutine_threadsafe(_made(make), loop).result(TIMEOUT)
        runs = Background(asyncio.run_coroutine_threadsafe(_enter(manager), loop).result(TIMEOUT), loop)
        try:
            yield runs
        finally:
            runs.do(_leave(manager))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(TIMEOUT)
        loop.close()


async def _made(make: Callable[[], AbstractAsyncContextManager[T]]) -> AbstractAsyncContextManager[T]:
    return make()


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[T]) -> None:
    await manager.__aexit__(None, None, None)


def make_server(options: ServerOptions | None = None, domain: str = "localhost") -> Server:
    """The server that most tests of commands talk with."""
    return Server(
        domain=domain,
        accounts={"romeo": "s3cret-of-romeo", "juliet": "s3cret-of-juliet"},
        components={"comp.localhost": "s3cret-of-comp", "routed.localhost": "s3cret-of-comp"},
        router_users={"jabberd": "s3cret-of-router"},
        options=options,
    )
