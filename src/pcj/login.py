"""What one broker logs in with, from one connection to the next: its password's source, and what it remembers."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable
from concurrent.futures import Future

from pcj.config import PasswordSource
from pcj.errors import ProtocolError, Retry
from pcj.sasl.memory import Memory

__all__ = ["Login", "Supplied"]


class Supplied:
    """What a function supplied as the password, or its error; shown by no repr, since asyncio's debug mode logs them.

    Attributes:
        value: what it gave. error: what it raised, or None.
    """

    __slots__ = ("error", "value")

    def __init__(self, value: object = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error


class Login:
    """The password's source, and the memory of log-ins.

    Args:
        source: `Config.password`. Only a function is ever asked; a str is nobody's to supply.

    Attributes:
        memory: of log-ins before.
    """

    def __init__(self, source: str | PasswordSource | None) -> None:
        self._source = source
        self._running: Future[Supplied] | None = None
        self.memory = Memory()

    async def password(self) -> Supplied:
        """Ask the function: a coroutine function here, another in a thread of its own.

        Nothing can stop a thread. So there is one at a time, however often it is asked, and it keeps no process from
        ending.

        Returns:
            What it gave, or its error: the cause of a `ProtocolError` whose sentence does not have it, since nobody
            knows what it quotes.
        """
        source = self._source
        if not callable(source):
            return Supplied(error=ProtocolError("there is no function that supplies the password", retry=Retry.FATAL))
        if self._running is not None:
            what = "the function that supplies the password was asked before and has not returned since"
            return Supplied(error=ProtocolError(what, retry=Retry.SLOW))
        try:
            if _is_coroutine_function(source):
                return Supplied(await _awaited(source()))
            running = self._running = _in_thread(source)
            running.add_done_callback(self._returned)
            # Shielded: whoever stops waiting does not stop the thread.
            supplied = await asyncio.shield(asyncio.wrap_future(running))
            return _failed(supplied.error) if supplied.error is not None else Supplied(await _awaited(supplied.value))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return _failed(error)  # what the function awaited was cancelled, and not we
        except Exception as error:
            return _failed(error)

    def _returned(self, running: Future[Supplied]) -> None:
        """In its thread: it is over, and what it holds is the password."""
        self._running = None


def _failed(error: BaseException) -> Supplied:
    name = type(error).__name__
    what = f"the function that supplies the password failed ({name})"
    failure = ProtocolError(what, expected="the password", came=name, retry=Retry.SLOW)
    failure.__cause__ = error
    return Supplied(error=failure)


def _is_coroutine_function(source: object) -> bool:
    return inspect.iscoroutinefunction(source) or inspect.iscoroutinefunction(getattr(source, "__call__", None))  # noqa: B004


async def _awaited(result: object) -> object:
    return await result if isinstance(result, Awaitable) else result


def _in_thread(source: PasswordSource) -> Future[Supplied]:
    future: Future[Supplied] = Future()

    def work() -> None:
        # Never set_exception: one that nobody looks at, because the deadline has passed, would be logged with its text.
        try:
            future.set_result(Supplied(source()))
        except BaseException as error:
            future.set_result(Supplied(error=error))

    threading.Thread(target=work, name="pcj password", daemon=True).start()
    return future
