"""Where a durable queue may lie, and the lock that keeps it to one broker."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from pathlib import Path
from typing import Final

from pcj.errors import QueueError

__all__ = ["Lock", "check_file", "check_folder", "is_held_here", "place_of"]

#: Paths that brokers of this process have open. A lock of POSIX does not keep a process from itself, and it is lost as
#: soon as the process closes any descriptor of the file (fcntl(2)): so none of these is opened again.
_held: set[str] = set()
_guard: Final = threading.Lock()
#: How often the lock's file may vanish while it is being locked: whoever held it was just leaving.
_TRIES: Final = 10


def place_of(path: str) -> str:
    """The absolute path without symbolic links: what lies beside a queue lies beside the file itself.

    Raises:
        QueueError: it is none.
    """
    try:
        return os.path.realpath(path)
    except (OSError, ValueError) as error:
        raise QueueError(f"the queue {path!r}: this is no path of a file: {error}") from None


def check_folder(place: str) -> None:
    """The folder of a queue must be there, we must be able to write in it, and not everybody else (B15).

    Raises:
        QueueError: it is not so.
    """
    folder = os.path.dirname(place)
    try:
        mode = os.stat(folder).st_mode
    except FileNotFoundError:
        raise QueueError(
            f"the queue {place!r}: there is no folder {folder!r}; make it first: pcj makes the file alone"
        ) from None
    except OSError as error:
        raise QueueError(f"the queue {place!r}: the folder {folder!r} cannot be looked at: {_why(error)}") from None
    if not stat.S_ISDIR(mode):
        raise QueueError(f"the queue {place!r}: {folder!r} is no folder")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise QueueError(
            f"the queue {place!r}: everybody may write in the folder {folder!r}, and put another file in its place; "
            "take that right away (chmod o-w), or use another folder"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise QueueError(
            f"the queue {place!r}: the folder {folder!r} cannot be written in; a queue needs that for its journal"
        )


def check_file(place: str, *, write: bool) -> os.stat_result | None:
    """What is at `place`, if anything, must be a file of ours.

    Args:
        write: it is to be written, too.

    Returns:
        The facts of the file, or None if there is none.

    Raises:
        QueueError: it cannot be a queue of ours, or not be used.
    """
    try:
        facts = os.stat(place)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise QueueError(f"the queue {place!r} cannot be looked at: {_why(error)}") from None
    if not stat.S_ISREG(facts.st_mode):
        what = "a folder" if stat.S_ISDIR(facts.st_mode) else "no ordinary file"
        raise QueueError(f"the queue {place!r}: this is {what}; say the path of a file")
    if not os.access(place, os.R_OK):
        raise QueueError(f"the queue {place!r} cannot be read: its rights do not allow it")
    if not write:
        return facts
    if not os.access(place, os.W_OK):
        raise QueueError(f"the queue {place!r} is read-only: what becomes of its nodes could not be noted")
    if facts.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise QueueError(f"the queue {place!r} belongs to another user (uid {facts.st_uid})")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        # Who may read it can be told from now on; what others may have put into it would be sent in our name.
        raise QueueError(
            f"the queue {place!r} can be written by other users, and what they put into it would be sent in your name; "
            "see what is in it (pcj queue list), then take that right away (chmod go-w)"
        )
    return facts


def is_held_here(place: str) -> bool:
    """Whether a broker of this process has it open."""
    return place in _held


class Lock:
    """The right to a queue, for one broker of one process; it dies with the process.

    It is a file of its own beside the queue, so that others can still read that, and it names its process.

    Args:
        place: the queue's path, by `place_of`.

    Raises:
        QueueError: another has it.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._path = f"{place}-lock"
        with _guard:
            if place in _held:
                raise QueueError(
                    f"the queue {place!r} is in use by another broker of this process (process {os.getpid()})"
                )
            self._file = self._take()
            _held.add(place)

    def _take(self) -> int:
        try:
            for _ in range(_TRIES):
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if self._is_there(file):
                        _sign(file)
                        return file
                except (BlockingIOError, PermissionError):
                    holder = _named(os.pread(file, 20, 0))
                    os.close(file)
                    raise QueueError(
                        f"the queue {self._place!r} is in use by {holder}; one queue serves one broker"
                    ) from None
                except BaseException:
                    os.close(file)
                    raise
                os.close(file)
        except OSError as error:
            raise QueueError(f"the queue {self._place!r} cannot be locked by {self._path!r}: {_why(error)}") from None
        raise QueueError(f"the queue {self._place!r} cannot be locked: {self._path!r} keeps vanishing")

    def _is_there(self, file: int) -> bool:
        """Whether what we locked still is what others will lock."""
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the right back."""
        with _guard:
            if self._file >= 0:
                try:
                    if self._is_there(self._file):
                        Path(self._path).unlink()
                except OSError:
                    pass  # the folder cannot be written any more: the file stays, and says nothing without its lock
                os.close(self._file)
                self._file = -1
                _held.discard(self._place)


def _sign(file: int) -> None:
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, b"%d\n" % os.getpid(), 0)
    except OSError:
        pass  # a full disk: the lock holds, but others are not told whose it is


def _named(content: bytes) -> str:
    number = content.strip()
    return f"process {number.decode()}" if number.isdigit() else "another process"


def _why(error: OSError) -> str:
    return error.strerror or str(error)
