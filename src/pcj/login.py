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
    """What a function supplied as the password. asyncio's debug mode logs the results of tasks: this one shows nothing.

    Attributes:
        value: it.
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Login:
    """The password's source, and the memory of log-ins.

    Args:
        source: `Config.password`. Only a function is ever asked; a str is nobody's to supply.

    Attributes:
        memory: of log-ins before.
    """

    def __init__(self, source: str | PasswordSource | None) -> None:
        self._source = source
        self._running: Future[object] | None = None
        self.memory = Memory()

    async def password(self) -> Supplied:
        """Ask the function: a coroutine function here, another in a thread of its own.

        Nothing can stop a thread. So there is one at a time, however often it is asked, and it keeps no process from
        ending.

        Raises:
            ProtocolError: the function failed, or has not returned since it was asked before. Its own error is the
                cause, and not in the sentence: who knows what it quotes.
        """
        source = self._source
        if not callable(source):
            raise ProtocolError("there is no function that supplies the password", retry=Retry.FATAL)
        if self._running is not None and not self._running.done():
            raise ProtocolError(
                "the function that supplies the password was asked before and has not returned since", retry=Retry.SLOW
            )
        try:
            if _is_coroutine_function(source):
                return Supplied(await _awaited(source()))
            self._running = _in_thread(source)
            # Shielded: whoever stops waiting does not stop the thread.
            return Supplied(await _awaited(await asyncio.shield(asyncio.wrap_future(self._running))))
        except Exception as error:
            what = f"the function that supplies the password failed ({type(error).__name__})"
            raise ProtocolError(what, expected="the password", came=type(error).__name__, retry=Retry.SLOW) from error


def _is_coroutine_function(source: object) -> bool:
    return inspect.iscoroutinefunction(source) or inspect.iscoroutinefunction(getattr(source, "__call__", None))  # noqa: B004


async def _awaited(result: object) -> object:
    return await result if isinstance(result, Awaitable) else result


def _in_thread(source: PasswordSource) -> Future[object]:
    future: Future[object] = Future()

    def work() -> None:
        try:
            result: object = source()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, name="pcj password", daemon=True).start()
    return future
