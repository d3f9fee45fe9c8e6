"""An echo component under a flood: CPU time of the whole process per echoed stanza, and stanzas per second.

``python -m bench.echo [--count 100000] [--runs 5] [--only pcj,bare] [--write]`` prints JSON. A chat message of 322
bytes comes in, a reply with its body goes out; 2,000 are on their way at a time. Each library does it as its users
would; the bare loop (asyncio, ElementTree and a format string) has no events, checks or bounds. Beside pcj as it comes
is measured pcj without proofs of delivery (`acks="off"`).
``--profile FILE`` writes a cProfile of one run of pcj, and nothing else.
"""

from __future__ import annotations

import cProfile
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from bench.measure import (
    ROOT,
    BenchError,
    Figures,
    Subject,
    alternate,
    arguments,
    chosen,
    document,
    emit,
    progress,
    summary,
)
from bench.peers import available, own

#: How many stanzas may be unanswered at a time.
WINDOW = 2000
_WHAT = (
    "A component is flooded with chat messages of 322 bytes and answers each with its body. CPU time of the whole "
    "process per echoed stanza, from the first message to the last reply."
)


class Flood:
    """The flooding peer, in a process of its own."""

    def __init__(self, count: int, window: int = WINDOW) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.flood", str(count), str(window)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def measure(self, pid: int, seconds: float) -> dict[str, float]:
        """Serve the process `pid`; the CPU and wall time of it, in seconds.

        Raises:
            BenchError: it did not answer all in so many seconds.
        """
        try:
            said, errors = self._process.communicate(f"{pid}\n", timeout=seconds)
        except subprocess.TimeoutExpired:
            raise BenchError(f"not all messages were answered in {seconds:g} seconds") from None
        if self._process.returncode:
            raise BenchError(f"the flood ended: {errors.strip()[-300:]}")
        found: dict[str, float] = json.loads(said)
        return found

    def end(self) -> None:
        """Whatever became of it."""
        self._process.kill()
        self._process.wait()


def measure(name: str, command: list[str], count: int, options: dict[str, object]) -> Figures:
    """One run of one subject."""
    flood = Flood(count)
    try:
        with Subject(name, command) as subject:
            subject.say({"port": flood.port, "domain": "echo.localhost", **options})
            found = flood.measure(subject.pid, 120)
    finally:
        flood.end()
    return {"cpu_us_per_stanza": found["cpu"] / count * 1e6, "stanzas_per_s": count / found["wall"]}


def main() -> None:
    """Measure, alternating, and print the medians."""
    options = arguments(__doc__, count=100_000)
    options.add_argument("--profile", help="write a cProfile of one run of the broker to this file, and nothing else")
    given = options.parse_args()
    if given.profile:
        profile(given.profile, given.count)
        return
    role = "echo-component"
    subjects: dict[str, Callable[[], Figures]] = {
        "pcj": partial(measure, "pcj", own("pcj", role), given.count, {}),
        "bare": partial(measure, "bare", own("bare", role), given.count, {}),
        "pcj, acks off": partial(measure, "pcj", own("pcj", role), given.count, {"options": {"acks": "off"}}),
    }
    versions = {}
    for peer in available(role):
        subjects[peer.name] = partial(measure, peer.name, [*peer.command, role], given.count, {})
        versions[peer.name] = peer.version()
    subjects = {name: subjects[name] for name in chosen(given.only, list(subjects))}
    found, failed = alternate(given.runs, subjects, progress)
    series = {name: summary(runs) for name, runs in found.items()}
    emit(
        document("echo", _WHAT, given.runs, versions, stanzas=given.count, series=series, failed=failed),
        write=given.write,
    )


def profile(path: str, count: int) -> None:
    """A cProfile of one run of pcj, in this process."""
    import asyncio
    import os
    import threading

    from bench.peers.pcj_program import echo_component

    flood = Flood(count)
    served = threading.Thread(target=flood.measure, args=(os.getpid(), 300))
    served.start()
    try:
        recorded = cProfile.Profile()
        recorded.runcall(asyncio.run, echo_component({"port": flood.port, "domain": "echo.localhost"}))
        recorded.dump_stats(path)
    finally:
        served.join(300)
        flood.end()


if __name__ == "__main__":
    main()
