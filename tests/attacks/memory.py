"""Memory that must not grow."""

from __future__ import annotations

import resource
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def flat(megabytes: float) -> Iterator[None]:
    """What is held at any moment may not be more than this above what was held before; expat's part is counted."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert grown < megabytes * 1_048_576, f"{grown / 1_048_576:.1f} MB"


def resident() -> float:
    """The memory of this process in MB, of whatever kind; it costs nothing to look."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1_048_576
    unit = 1 if sys.platform == "darwin" else 1024  # the highest so far, where the present one cannot be seen
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1_048_576


@contextmanager
def steady(megabytes: float) -> Iterator[None]:
    """The same by the memory of the process at the end: for floods, which `flat` would make slow."""
    before = resident()
    yield
    grown = resident() - before
    assert grown < megabytes, f"{grown:.1f} MB"
