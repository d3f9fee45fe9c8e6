"""The file of a durable queue: a SQLite database that is checked before it is believed, and written in groups.

Nothing here knows asyncio; every call may wait for the disk.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote
from zlib import crc32

from pcj.errors import QueueError, UsageError
from pcj.queue.place import Lock, check_file, check_folder, is_held_here, place_of

__all__ = ["Changes", "Contents", "QueueFile", "Row", "read"]

#: "pcjq", in the header (SQLite's PRAGMA application_id): a file without it is somebody else's, and is left alone.
APPLICATION: Final = 0x70636A71
#: Of the schema (PRAGMA user_version).
VERSION: Final = 1
#: How long another program (one that reads along) may keep us waiting, in seconds: at opening, and in the thread.
_OPEN_SECONDS: Final = 1.0
_WRITE_SECONDS: Final = 5.0
#: Rows in one statement. Each statement gives the interpreter's lock away once, and a busy program takes its time to
#: hand it back: row by row a large group would take seconds. SQLite before 3.32 allows 999 values.
_ROWS: Final = 99
#: The write-ahead log is cut back to this after a peak, in bytes.
_JOURNAL_BYTES: Final = 1 << 22

# `check` is a sum over what is not changed (crc32) or is (`_state`): SQLite itself does not notice a changed byte
# inside a value. There is no column for a password.
_SCHEMA: Final = {
    "about": "CREATE TABLE about (id INTEGER PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL)",
    "node": (
        "CREATE TABLE node (key INTEGER PRIMARY KEY, stanza BLOB NOT NULL, at REAL NOT NULL, expires REAL, "
        "on_doubt TEXT NOT NULL, doubts INTEGER NOT NULL, written INTEGER NOT NULL, number INTEGER, "
        "checksum INTEGER NOT NULL, state_checksum INTEGER NOT NULL)"
    ),
}
_STATE: Final = (
    "UPDATE node SET written = :written, doubts = :doubts, number = key + :offset, state_checksum = "
    "key * 7 + :written * 3 + :doubts * 5 + coalesce(key + :offset + 1, 0) * 11 WHERE key BETWEEN :first AND :last"
)
#: What is said in `about`, and the ids there.
_ACCOUNT: Final = 1
_NEXT: Final = 2
_SESSION: Final = 3
_HEADER: Final = b"SQLite format 3\0"
_ON_DOUBT: Final = frozenset({"hold", "resend", "drop"})

#: key, stanza, at, expires (both by the wall clock), on_doubt, doubts, written, number
Row: TypeAlias = tuple[int, bytes, float, float | None, str, int, int, int | None]
#: written, doubts, number
State: TypeAlias = tuple[int, int, int | None]


@dataclass(slots=True)
class Changes:
    """What is to be committed together.

    Attributes:
        puts: new rows by key. marks: the new states of rows that are in the file. forgets: keys of rows to delete.
        session: the text to save as the session, "" to save that there is none, or None to leave it as it is.
    """

    puts: dict[int, Row] = field(default_factory=dict)
    marks: dict[int, State] = field(default_factory=dict)
    forgets: dict[int, None] = field(default_factory=dict)  # a set in order
    session: str | None = None

    def __bool__(self) -> bool:
        return bool(self.puts or self.marks or self.forgets) or self.session is not None

    def add(self, later: Changes) -> None:
        """Make these the changes that they and the `later` ones are together."""
        for key, state in later.marks.items():
            row = self.puts.get(key)
            if row is None:
                self.marks[key] = state
            else:
                written, doubts, number = state
                self.puts[key] = (*row[:5], doubts, written, number)
        self.puts.update(later.puts)
        for key in later.forgets:
            self.puts.pop(key, None)
            self.marks.pop(key, None)
        self.forgets.update(later.forgets)  # of a put, too: one that failed may have come to the disk all the same
        if later.session is not None:
            self.session = later.session


@dataclass(frozen=True, slots=True)
class Contents:
    """All that is in a queue. `session`: the saved state of stream management. next: no key so far was as great."""

    account: str
    rows: list[Row]
    session: dict[str, object] | None
    next: int


class QueueFile:
    """A durable queue that is open for writing, and locked.

    Args:
        path: where. account: whose nodes these are; None takes any. create: make it if there is none.

    Attributes:
        place: the absolute path.

    Raises:
        QueueError: it cannot be used, and no byte of it was changed.
    """

    def __init__(self, path: str, *, account: str | None, create: bool = True) -> None:
        place = self.place = place_of(path)
        check_folder(place)
        _check_present(place, write=True, create=create)
        self._lock = Lock(place)
        try:
            # Once more, since it is ours only now.
            facts = _check_present(place, write=True, create=create)
            if facts is None or facts.st_size == 0:
                if account is None:
                    raise QueueError(f"the queue {place!r} is empty: no broker has used it yet")
                _create(place, account)
            self._contents: Contents | None = _read_checked(place, account)
            self._file = os.stat(place)
            if self._file.st_mode & 0o077:
                # It was readable by others. That can be mended, and to refuse would not unread anything.
                os.chmod(place, 0o600)
            self._connection = _connect_to_write(place)
        except sqlite3.Error as error:
            self._lock.release()
            raise _failure(place, error, "cannot be opened") from error
        except OSError as error:
            self._lock.release()
            raise QueueError(f"the queue {place!r} cannot be opened: {error.strerror or error}") from error
        except BaseException:
            self._lock.release()
            raise

    def take_contents(self) -> Contents:
        """What was in it when it was opened; to be asked for once, since it is not kept."""
        contents, self._contents = self._contents, None
        if contents is None:
            raise UsageError("what was in the queue was taken already")
        return contents

    def commit(self, changes: Changes) -> None:
        """Have these changes on the disk, all of them or none. May be repeated after a failure.

        Raises:
            QueueError: they are not, as far as is known.
        """
        self._check_place()
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for rows in _in_groups(changes.puts.values()):
                values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * len(rows))
                connection.execute(
                    f"INSERT OR REPLACE INTO node VALUES {values}",  # noqa: S608 - nothing but question marks
                    [value for row in rows for value in (*row, _checksum(row), _state_checksum(row))],
                )
            for first, last, (written, doubts, offset) in _runs_of_marks(changes.marks):
                state = {"written": written, "doubts": doubts, "offset": offset, "first": first, "last": last}
                connection.execute(_STATE, state)
            for first, last in _runs(changes.forgets):
                connection.execute("DELETE FROM node WHERE key BETWEEN ? AND ?", (first, last))
            if changes.puts:
                _save(connection, _NEXT, str(max(changes.puts) + 1))
            if changes.session:
                _save(connection, _SESSION, changes.session)
            elif changes.session is not None:
                connection.execute("DELETE FROM about WHERE id = ?", (_SESSION,))
            connection.execute("COMMIT")
        except BaseException as error:
            self._undo()  # whatever it was: in a transaction left open no other could begin
            if isinstance(error, sqlite3.Error):
                raise _failure(self.place, error, "cannot be written") from error
            raise

    def _undo(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # SQLite rolls back by itself what it could not write

    def _check_place(self) -> None:
        """A file that was deleted or replaced takes what is written to it, and no process would ever find it again."""
        try:
            there = os.path.samestat(os.stat(self.place), self._file)
        except OSError:
            there = False
        if not there:
            raise QueueError(
                f"the queue {self.place!r} was moved, deleted or replaced while in use; put it back, or restart"
            )

    def close(self) -> None:
        """Close it, and let others have it."""
        try:
            self._connection.close()
        finally:
            self._lock.release()


def read(path: str) -> Contents:
    """What is in a queue, while others may have it open; nothing is locked.

    Raises:
        QueueError: it is none, or it is damaged.
    """
    place = place_of(path)
    facts = _check_present(place, write=False, create=False)
    if facts is not None and facts.st_size == 0:
        return Contents("", [], None, 1)
    return _read_checked(place, None, is_checked=is_held_here(place))


def _check_present(place: str, *, write: bool, create: bool) -> os.stat_result | None:
    facts = check_file(place, write=write)
    if facts is None and not create:
        raise QueueError(f"the queue {place!r}: there is no such file")
    if facts is None or facts.st_size == 0:
        try:
            lost = os.stat(f"{place}-wal").st_size
        except OSError:
            return facts
        if lost:  # SQLite would play it back into the new file, or throw it away
            raise QueueError(
                f"the queue {place!r} is {'missing' if facts is None else 'empty'}, but its journal {place + '-wal'!r} "
                "is there and may hold nodes; put the queue back beside it, or remove the journal"
            )
    return facts


def _connect(place: str, mode: str, timeout: float) -> sqlite3.Connection:
    # Transactions are ours to begin; the thread that opens it is not the one that writes.
    return sqlite3.connect(
        f"file:{quote(os.fsencode(place))}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def _connect_to_write(place: str) -> sqlite3.Connection:
    connection = _connect(place, "rw", _WRITE_SECONDS)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # where fsync alone does not reach the disk (macOS)
        connection.execute("PRAGMA secure_delete = ON")  # what is delivered is not to lie around
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _create(place: str, account: str) -> None:
    """Make an empty queue, complete from the moment it is there."""
    new = f"{place}-new"
    for leftover in (new, f"{new}-journal", f"{new}-wal", f"{new}-shm"):
        Path(leftover).unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        connection = _connect(new, "rw", _OPEN_SECONDS)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            for statement in _SCHEMA.values():
                connection.execute(statement)
            _save(connection, _ACCOUNT, account)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        os.rename(new, place)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
    folder = os.open(os.path.dirname(place), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_checked(place: str, account: str | None, *, is_checked: bool = False) -> Contents:
    """All that is in a file, if it is sound and of `account`.

    Args:
        is_checked: a broker of this process has it open, so its header was seen.

    Raises:
        QueueError: it is not; no byte of it was changed.
    """
    if not is_checked:
        _check_header(place)
    try:
        # Read-only: the last one to close a database writes its journal back, and a damaged file is to stay as it is.
        connection = _connect(place, "ro", _OPEN_SECONDS)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("BEGIN")
            return _contents(place, connection, account)
        finally:
            connection.close()
    except (sqlite3.Error, ValueError, RecursionError) as error:
        raise _failure(place, error, "cannot be read") from error


def _check_header(place: str) -> None:
    """Look at the first bytes before SQLite does: to open a database of another program could change it already."""
    try:
        file = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            header = os.pread(file, 100, 0)
        finally:
            os.close(file)
    except OSError as error:
        raise QueueError(f"the queue {place!r} cannot be read: {error.strerror or error}") from error
    if len(header) < 100 or not header.startswith(_HEADER):
        raise QueueError(
            f"the queue {place!r}: this is no database, and pcj writes over nothing; say another path, or move it away"
        )
    if int.from_bytes(header[68:72], "big") != APPLICATION:
        raise QueueError(
            f"the queue {place!r}: this is the database of another program (application_id "
            f"{int.from_bytes(header[68:72], 'big'):#x}, not {APPLICATION:#x}); say another path"
        )
    version = int.from_bytes(header[60:64], "big")
    if version > VERSION:
        raise QueueError(
            f"the queue {place!r} was written by a newer pcj (its schema is {version}, this one knows {VERSION}); "
            "use that one, or send what is in it with that one first"
        )
    if version != VERSION or header[18:20] != b"\2\2":  # 2: write-ahead logging, which every queue is made with
        raise _damaged(place, "its header is not what pcj wrote")


def _contents(place: str, connection: sqlite3.Connection, account: str | None) -> Contents:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found is None or found[0] != "ok":
        raise _damaged(place, str(found[0] if found else "it cannot be checked").replace("\n", " "))
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 100"))
    if tables != _SCHEMA:
        raise _damaged(place, f"its tables are not those of schema {VERSION}")
    about: dict[int, str] = {}
    for number, value, checksum in connection.execute("SELECT id, value, checksum FROM about LIMIT 100"):
        if not isinstance(value, str) or checksum != crc32(f"{number} {value}".encode()):
            raise _damaged(place, "a checksum of what it says of itself is wrong")
        about[number] = value
    if not {_ACCOUNT} <= about.keys() <= {_ACCOUNT, _NEXT, _SESSION}:
        raise _damaged(place, "it does not say whose it is")
    if account is not None and about[_ACCOUNT] != account:
        raise QueueError(
            f"the queue {place!r} holds the nodes of {about[_ACCOUNT]!r:.200}, not of {account!r:.200}: none is sent "
            "in another's name; use one queue for each account"
        )
    rows: list[Row] = []
    for *values, checksum, state in connection.execute("SELECT * FROM node ORDER BY key"):
        row: Any = tuple(values)
        if not _is_row(row) or checksum != _checksum(row) or state != _state_checksum(row):
            raise _damaged(place, f"the checksum of node {row[0]!r:.20} is wrong")
        rows.append(row)
    return Contents(
        about[_ACCOUNT],
        rows,
        json.loads(about[_SESSION]) if _SESSION in about else None,
        max(int(about.get(_NEXT, 1)), rows[-1][0] + 1 if rows else 1),
    )


def _is_row(row: tuple[Any, ...]) -> bool:
    """Whether the values of a row are such as were written; SQLite keeps any kind in any column."""
    key, stanza, at, expires, on_doubt, doubts, written, number = row
    return (
        isinstance(key, int)
        and isinstance(stanza, bytes)
        and isinstance(at, float)
        and isinstance(expires, float | None)
        and on_doubt in _ON_DOUBT
        and isinstance(doubts, int)
        and written in (0, 1)
        and isinstance(number, int | None)
    )


def _checksum(row: Row) -> int:
    key, stanza, at, expires, on_doubt, *_ = row
    return crc32(stanza, crc32(f"{key} {at!r} {expires!r} {on_doubt}".encode()))


def _state_checksum(row: Row) -> int:
    """What `_STATE` reckons for many rows at once; each factor is odd, so that no changed bit goes unseen."""
    key, _, _, _, _, doubts, written, number = row
    return key * 7 + written * 3 + doubts * 5 + (0 if number is None else number + 1) * 11


def _save(connection: sqlite3.Connection, number: int, value: str) -> None:
    checksum = crc32(f"{number} {value}".encode())
    connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?, ?)", (number, value, checksum))


def _in_groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    all_rows = list(rows)
    for at in range(0, len(all_rows), _ROWS):
        yield all_rows[at : at + _ROWS]


def _runs(keys: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Keys as (first, last) of each row of neighbours."""
    first = last = -1
    for key in sorted(keys):
        if key != last + 1 or first < 0:
            if first >= 0:
                yield first, last
            first = key
        last = key
    if first >= 0:
        yield first, last


def _runs_of_marks(marks: dict[int, State]) -> Iterator[tuple[int, int, State]]:
    """The same for states; each with the number less the key, which in one session is the same for neighbours."""
    first = last = -1
    common: State | None = None
    for key in sorted(marks):
        written, doubts, number = marks[key]
        state = written, doubts, None if number is None else number - key
        if key != last + 1 or state != common:
            if common is not None:
                yield first, last, common
            first, common = key, state
        last = key
    if common is not None:
        yield first, last, common


def _damaged(place: str, what: str) -> QueueError:
    return QueueError(
        f"the queue {place!r} is damaged: {what:.200}; pcj leaves it as it is. Keep a copy of it and of what lies "
        "beside it, and go on with another path"
    )


def _failure(place: str, error: Exception, what: str) -> QueueError:
    """An error of SQLite in our words."""
    # The low byte is the primary code (sqlite.org/rescode.html); an error of Python's wrapper has none.
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or (what == "cannot be read" and not code):
        return _damaged(place, str(error))
    advice = {
        sqlite3.SQLITE_FULL: "the disk is full; make room",
        sqlite3.SQLITE_READONLY: "it, or its folder, became read-only",
        sqlite3.SQLITE_IOERR: f"the disk fails, or is full ({error})",
        sqlite3.SQLITE_BUSY: "another program keeps it locked",
        sqlite3.SQLITE_CANTOPEN: "it, or its journal beside it, cannot be opened; its folder must be writable",
    }.get(code, str(error))
    return QueueError(f"the queue {place!r} {what}: {advice}")
