"""What the tests of the durable queue share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from pcj.errors import QueueError
from pcj.queue import Entry
from pcj.queue.durable import DurableQueue
from pcj.queue.file import read

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
