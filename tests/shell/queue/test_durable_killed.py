"""A process that is killed at any instant has lost nothing that was stored, and brings back nothing that was forgotten.

PCJ_FIRE=n kills n times.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

from pcj.queue.file import QueueFile
from tests.shell.queue.disk import ACCOUNT, TIMEOUT

ROUNDS = int(os.environ.get("PCJ_FIRE", "10"))
ROOT = Path(__file__).parents[3]


def said_until_killed(path: Path, seed: int, seconds: float) -> list[tuple[str, int]]:
    command = [sys.executable, "-m", "tests.shell.queue.killed", str(path), str(seed)]
    said = b""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    with process:
        try:
            until = time.monotonic() + TIMEOUT
            while (left := until - time.monotonic()) > 0 and select.select([process.stdout], [], [], left)[0]:
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not said and data:
                    until = time.monotonic() + seconds  # it is at work only now
                said += data
                assert data, "it ended by itself"
        finally:
            process.kill()
            process.wait()
        said += process.stdout.read()
    lines = said.decode().split("\n")
    assert lines[0] == "open"
    return [(word, int(name)) for word, name in (line.split() for line in lines[1:-1])]  # the last may be half a line


def test_a_process_that_is_killed_at_any_instant_lost_nothing_and_brings_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    first = random.randrange(1 << 32)  # noqa: S311 - not for secrets
    stored: set[int] = set()
    acked: set[int] = set()
    gone: set[int] = set()
    for seed in range(first, first + ROUNDS):
        seconds = random.Random(seed).random() * 0.12  # noqa: S311
        for word, name in said_until_killed(path, seed, seconds):
            {"stored": stored, "acked": acked, "gone": gone}[word].add(name)
        what = f"seed {seed}, killed after {seconds:.3f} s: {len(stored)} stored, {len(gone)} gone"
        file = QueueFile(str(path), account=ACCOUNT)
        rows = file.take_contents().rows
        file.close()
        found = [int(row[1].split(b"'")[1]) for row in rows]
        assert stored - acked <= set(found), what
        assert not gone & set(found), what
        assert found == sorted(found), what
        # What is found is stored, whether or not the process came to say so.
        stored = set(found)
    assert stored, first
    assert gone, first
