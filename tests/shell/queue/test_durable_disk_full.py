"""A disk without room, and one that becomes read-only: real ones, where this process may mount them.

Elsewhere a limit on the size of files (RLIMIT_FSIZE, in a process of its own) stands in for the full disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcj.errors import QueueError
from tests.shell.queue.disk import TIMEOUT, entry, queue, stanzas

MOUNT = "mount", "-t", "tmpfs", "-o"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run([*MOUNT, "size=1m", "tmpfs", folder], check=True, capture_output=True, timeout=TIMEOUT)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("a file system can be mounted by root alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=TIMEOUT)


def test_on_a_full_disk_nothing_is_lost_and_with_room_it_goes_on(small_disk: Path) -> None:
    path = small_disk / "q.db"
    failures: list[QueueError] = []

    async def main() -> None:
        made = queue(path, on_failed=failures.append)
        made.open()
        early = [entry(b"<message id='%d'>%s</message>" % (number, b"x" * 1000)) for number in range(50)]
        for each in early:
            made.put(each, ttl=None)
        await made.flush(TIMEOUT)
        ballast = small_disk / "ballast"
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:  # noqa: ASYNC230 - in memory
            while file.write(b"x" * 4096):
                pass
        late = [entry(b"<message id='%d'>%s</message>" % (number, b"x" * 1000)) for number in range(50, 150)]
        for each in late:
            made.put(each, ttl=None)
        with pytest.raises(QueueError, match="cannot be written: the disk is full; make room"):
            await made.flush(TIMEOUT)
        made.forget(early[:10])
        assert not any(each.receipt.stored for each in late)
        assert stanzas(path) == [each.stanza for each in early]
        assert len(failures) == 1
        ballast.unlink()
        await made.flush(TIMEOUT)
        assert made.failed is None
        assert all(each.receipt.stored for each in late)
        assert stanzas(path) == [each.stanza for each in (*early[10:], *late)]
        made.close()

    asyncio.run(main())


def test_a_queue_cannot_be_made_on_a_full_disk_and_no_half_is_left(small_disk: Path) -> None:
    with contextlib.suppress(OSError), open(small_disk / "ballast", "wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass

    async def main() -> None:
        queue(small_disk / "q.db").open()

    with pytest.raises(QueueError, match=r"disk is full|No space left"):
        asyncio.run(main())
    assert [file.name for file in small_disk.iterdir()] == ["ballast"]


def test_a_disk_that_became_read_only_is_a_sentence_and_the_file_stays(small_disk: Path) -> None:
    path = small_disk / "q.db"

    async def main() -> None:
        made = queue(path)
        made.open()
        made.put(entry(b"<a/>"), ttl=None)
        made.close()
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True, timeout=TIMEOUT)  # noqa: ASYNC221
        before = path.read_bytes()
        with pytest.raises(QueueError, match="cannot be written in"):
            made.open()
        assert path.read_bytes() == before

    asyncio.run(main())


def test_a_file_that_may_not_grow_is_a_failure_and_what_is_in_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    code = """
import asyncio, resource, sys
from pathlib import Path
from pcj.errors import QueueError
from tests.shell.queue.disk import TIMEOUT, entry, queue, stanzas
async def main():
    path = Path(sys.argv[1])
    made = queue(path)
    made.open()
    made.put(entry(b"<a/>"), ttl=None)
    await made.flush(TIMEOUT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    late = entry(b"<b>" + b"x" * 200_000 + b"</b>")
    made.put(late, ttl=None)
    try:
        await made.flush(TIMEOUT)
    except QueueError as error:
        print(error)
    assert not late.receipt.stored and len(stanzas(path)) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await made.flush(TIMEOUT)
    assert late.receipt.stored and len(stanzas(path)) == 2
    made.close()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be written: the disk" in done.stdout
    assert len(stanzas(path)) == 2
