"""Asking the system for the addresses of a name, in threads of our own.

The system cannot be told to stop: a name for which no name server answers holds its thread for as long as the system
tries, whoever has stopped waiting. In asyncio's own threads, which are few and serve the whole program (PBKDF2 among
it), and for which `asyncio.run` waits at its end, one dead name would in time stop everything else.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

__all__ = ["MAX_LOOK_UPS", "MAX_SAME", "LookUps", "getaddrinfo"]

#: How many threads ask the system at once, in this process; what comes more waits.
MAX_LOOK_UPS: Final = 96
#: How many of them ask the same: more than one, since what was asked while the network was down is answered late.
MAX_SAME: Final = 3

#: What `socket.getaddrinfo` gives.
Infos = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]
_Key = tuple[str, int, int]  # name, port, family


class _Question:
    """What is asked: by how many threads, and for whom."""

    __slots__ = ("threads", "waiters")

    def __init__(self) -> None:
        self.threads = 0
        self.waiters: list[Future[Infos]] = []


class LookUps:
    """Questions to the system, each in threads that do not keep the process from ending.

    Whoever asks what is being asked already has the first answer. May be used from several loops and threads.

    Args:
        most: how many threads. same: how many of them ask the same.
    """

    def __init__(self, most: int, same: int) -> None:
        self._most = most
        self._same = same
        self._lock = threading.Lock()
        self._threads = 0
        self._running: dict[_Key, _Question] = {}
        self._waiting: dict[_Key, _Question] = {}  # nobody asks in vain: without waiters a question is taken out

    def ask(self, name: str, port: int, family: int) -> Future[Infos]:
        """Ask; a cancelled future is as good as never asked, except for the thread that may be at it.

        Raises:
            OSError: the system has no thread left.
        """
        key = name, port, int(family)
        waiter: Future[Infos] = Future()
        with self._lock:
            question = self._running.get(key) or self._waiting.get(key) or _Question()
            if question.threads < self._same and self._threads < self._most:
                thread = threading.Thread(target=self._work, args=(key,), name="pcj look-up", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise OSError(f"no thread is left to look up {name}: {error}") from error
                self._threads += 1
                question.threads += 1
                self._running[key] = question
                self._waiting.pop(key, None)
            elif not question.threads:
                self._waiting[key] = question
            question.waiters.append(waiter)
        waiter.add_done_callback(partial(self._left, key))
        return waiter

    def _left(self, key: _Key, waiter: Future[Infos]) -> None:
        if not waiter.cancelled():
            return
        with self._lock:
            for questions in (self._running, self._waiting):
                if key in questions and waiter in questions[key].waiters:
                    questions[key].waiters.remove(waiter)
            if key in self._waiting and not self._waiting[key].waiters:
                del self._waiting[key]

    def _work(self, key: _Key | None) -> None:
        """Ask what `key` says, then what waits."""
        while key is not None:
            found: Infos = ()
            failure: BaseException | None = None
            try:
                found = socket.getaddrinfo(key[0], key[1], key[2], socket.SOCK_STREAM)
            except BaseException as error:
                failure = error
            served: list[Future[Infos]] = []
            with self._lock:
                question = self._running[key]
                question.threads -= 1
                if failure is None or not question.threads:  # else another may still have better news
                    served, question.waiters = question.waiters, []
                if not question.threads:
                    del self._running[key]
                key = next(iter(self._waiting), None)
                if key is None:
                    self._threads -= 1
                else:
                    question = self._running[key] = self._waiting.pop(key)
                    question.threads = 1
            for waiter in served:
                if not waiter.set_running_or_notify_cancel():
                    continue
                if failure is not None:
                    waiter.set_exception(failure)
                else:
                    waiter.set_result(found)


_look_ups = LookUps(MAX_LOOK_UPS, MAX_SAME)


def _begin_anew() -> None:
    """In a forked process: its parent's threads are not there."""
    global _look_ups
    _look_ups = LookUps(MAX_LOOK_UPS, MAX_SAME)


if hasattr(os, "register_at_fork"):  # not on every system
    os.register_at_fork(after_in_child=_begin_anew)


async def getaddrinfo(name: str, port: int, *, family: int) -> Infos:
    """The addresses of a name, for TCP.

    Raises:
        OSError, UnicodeError: as `socket.getaddrinfo`.
    """
    return await asyncio.wrap_future(_look_ups.ask(name, port, family))
