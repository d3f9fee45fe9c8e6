"""What the tests of the durable queue share."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pcj import Broker
from pcj.errors import QueueError
from pcj.queue import Entry
from pcj.queue.durable import DurableQueue
from pcj.queue.file import Changes, QueueFile, read
from tests.shell.links import client

ACCOUNT = "XMPP romeo@example.org"
TIMEOUT = 10.0


def entry(stanza: bytes = b"<message/>", *, number: int | None = None, on_doubt: str = "hold") -> Entry:
    made = Entry(stanza, stanza, 0.0, on_doubt=on_doubt)
    made.number = number
    return made


def entries(count: int) -> list[Entry]:
    return [entry(b"<message id='%d'/>" % number) for number in range(count)]


def queue(
    path: Path,
    *,
    account: str = ACCOUNT,
    on_failed: Callable[[QueueError], None] = lambda error: None,
    max_nodes: int = 100_000,
    max_bytes: int = 1 << 30,
    retry_seconds: float = 0.01,
) -> DurableQueue:
    return DurableQueue(
        str(path),
        account=account,
        on_failed=on_failed,
        max_nodes=max_nodes,
        max_bytes=max_bytes,
        retry_seconds=retry_seconds,
    )


def run(path: Path, play: Callable[[DurableQueue], Awaitable[None]]) -> None:
    """Play with an open queue, and close it."""

    async def main() -> None:
        made = queue(path)
        made.open()
        try:
            await play(made)
        finally:
            made.close()

    asyncio.run(main())


def fill(path: Path, stanzas: Iterable[bytes], *, session: dict[str, object] | None = None) -> None:
    """Leave a queue behind that holds these."""

    async def play(made: DurableQueue) -> None:
        for stanza in stanzas:
            made.put(entry(stanza), ttl=None)
        if session is not None:
            made.save_session(session)

    run(path, play)


def stanzas(path: Path) -> list[bytes]:
    """What is in the file."""
    return [row[1] for row in read(str(path)).rows]


def trace(folder: Path) -> dict[str, str]:
    """The files of a folder, and what is in them, but for SQLite's index of a journal, which is made anew each time."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.is_file() and not file.name.endswith("-shm")
    }


def broker_of(port: int, path: Path, **options: Any) -> Broker:
    """A client with a durable queue."""
    return client(port, queue=str(path), **options)


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk on which nothing can be written."""

    def fails(self: QueueFile, changes: Changes) -> None:
        raise QueueError("the disk is full (a test)")

    with monkeypatch.context() as patched:
        patched.setattr(QueueFile, "commit", fails)
        yield


@asynccontextmanager
async def closing(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Task[None]]:
    """A shutdown that waits for the disk until the block ends."""
    may, waits = threading.Event(), threading.Event()
    close = QueueFile.close

    def slow(self: QueueFile) -> None:
        waits.set()
        assert may.wait(10.0)
        close(self)

    with monkeypatch.context() as patched:
        patched.setattr(QueueFile, "close", slow)
        task = asyncio.create_task(broker.shutdown())
        assert await asyncio.to_thread(waits.wait, 10.0)
        try:
            yield task
        finally:
            may.set()
            await task
