"""What it costs to start: CPU time of importing each library, and of ``pcj --help``.

``python -m bench.start [--runs 15] [--only pcj,slixmpp] [--write]`` prints JSON. Each run is a new process; what an
empty one of the same interpreter costs is taken off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.measure import (
    ROOT,
    BenchError,
    Figures,
    alternate,
    arguments,
    chosen,
    document,
    emit,
    progress,
    summary,
)
from bench.peers import PEERS

_WHAT = (
    "CPU time of a new process that imports the library and ends, less that of one that imports nothing; and of "
    "`pcj --help`, whole."
)


def _used(command: Sequence[str]) -> float:
    """CPU time of a process from its start to its end, in milliseconds."""
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{command[0]} ended with {process.returncode}: {errors.strip()[-300:]}")
    return (used.ru_utime + used.ru_stime) * 1e3


def _import(interpreter: str, library: str) -> Figures:
    return {"cpu_ms": _used([interpreter, "-c", f"import {library}"]) - _used([interpreter, "-c", "pass"])}


def main() -> None:
    """Measure, alternating, and print the medians."""
    given = arguments(__doc__, runs=15).parse_args()
    subjects: dict[str, Callable[[], Figures]] = {"pcj": partial(_import, sys.executable, "pcj")}
    versions = {}
    for peer in PEERS.values():
        if peer.language == "Python" and peer.installed.exists():
            # wokkel by itself imports nothing: this is what a component needs.
            module = {"wokkel": "wokkel.component, wokkel.xmppim"}.get(peer.name, peer.name)
            subjects[peer.name] = partial(_import, peer.command[0], module)
            versions[peer.name] = peer.version()
    tool = Path(sys.executable).with_name("pcj")
    if tool.exists():
        subjects["pcj --help"] = lambda: {"cpu_ms": _used([str(tool), "--help"])}
    subjects = {name: subjects[name] for name in chosen(given.only, list(subjects))}
    found, failed = alternate(given.runs, subjects, progress)
    series = {name: summary(runs) for name, runs in found.items()}
    emit(document("start", _WHAT, given.runs, versions, series=series, failed=failed), write=given.write)


if __name__ == "__main__":
    main()
