"""The one thread that writes a durable queue: what it is given first is on the disk first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias

from pcj.errors import QueueError
from pcj.queue.file import Changes, QueueFile

__all__ = ["Told", "Writer"]

#: Called in the thread, with why it failed, or None.
Told: TypeAlias = Callable[[QueueError | None], None]
#: Without changes the file is closed, and the thread ends.
_Job: TypeAlias = tuple[Changes | None, Told]


class Writer:
    """Writes one file. The thread is started at first need, and is a daemon: a broken disk must not keep a program.

    It knows the file and not who uses it, so that a queue that is forgotten can be collected.
    """

    def __init__(self, file: QueueFile) -> None:
        self._file = file
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._is_started = False

    def write(self, changes: Changes, told: Told) -> None:
        """Commit these changes, which nobody touches meanwhile. It never waits."""
        self._give((changes, told))

    def close(self, told: Told) -> None:
        """Close the file once all that was given before is written, or has failed; nothing is to be given any more."""
        self._give((None, told))

    def abandon(self) -> None:
        """Nobody uses it any more."""
        if self._is_started:
            self._jobs.put((None, _tell_nobody))
        else:
            self._file.close()

    def _give(self, job: _Job) -> None:
        self._jobs.put(job)
        if not self._is_started:
            self._is_started = True
            threading.Thread(target=_run, args=(self._file, self._jobs), name="pcj queue", daemon=True).start()


def _run(file: QueueFile, jobs: SimpleQueue[_Job]) -> None:
    while True:
        changes, told = jobs.get()
        error: QueueError | None = None
        try:
            if changes is None:
                file.close()
            else:
                file.commit(changes)
        except QueueError as failure:
            error = failure
        except Exception as failure:  # none is known; but a thread that died would leave all waiting
            error = QueueError(f"the queue {file.place!r} cannot be written: {type(failure).__name__}: {failure}")
        told(error)
        if changes is None:
            return
        del changes, told, error  # not to be kept until the next job


def _tell_nobody(error: QueueError | None) -> None:
    pass
