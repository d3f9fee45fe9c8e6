"""What every benchmark needs: a process under measure, alternating runs, medians, and the machine's name.

A subject is a program of its own, in whatever language. It is told what to do by one line of JSON, and its CPU time is
read from outside, by the clock that the kernel keeps of each process: the same measure for all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

__all__ = ["ROOT", "BenchError", "Figures", "Subject", "alternate", "arguments", "document", "emit", "machine"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
#: What one run of one subject gave: figures by name, each with its unit in the name.
Figures: TypeAlias = dict[str, float]
#: How much of what a program said on stderr a sentence quotes, in characters.
_TAIL = 600


class BenchError(Exception):
    """A subject could not be measured; the sentence says why."""


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far, user and system together, of all its threads (Linux)."""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of a process, linux/posix-timers.h


class Subject:
    """A program under measure.

    Args:
        name: in sentences. command: of it; it is started by `with`. env: what its environment has besides ours.
    """

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._command = list(command)
        self._env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **(env or {})}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `__exit__` closes it
        self._heard = b""

    def __enter__(self) -> Self:
        try:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise BenchError(f"{self.name} could not be started: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._errors.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def cpu(self) -> float:
        """CPU time so far, in seconds."""
        return cpu_seconds(self.pid)

    def memory(self) -> int:
        """Bytes that it holds of the machine's memory: what it shares with others counts in part (PSS)."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        raise BenchError(f"the kernel does not say how much memory {self.name} has")

    def say(self, what: Mapping[str, object]) -> None:
        """One line of JSON to its stdin."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died("before it was told what to do") from None

    def hear(self, timeout: float) -> dict[str, Any]:
        """The next line of JSON on its stdout; lines that are none are passed over.

        Args:
            timeout: seconds.

        Raises:
            BenchError: it died, or said nothing in time.
        """
        assert self._process.stdout is not None
        until = time.monotonic() + timeout
        descriptor = self._process.stdout.fileno()
        while True:
            while b"\n" in self._heard:
                line, _, self._heard = self._heard.partition(b"\n")
                if line.startswith(b"{"):
                    found: dict[str, Any] = json.loads(line)
                    return found
            left = until - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise BenchError(f"{self.name} said nothing for {timeout:g} seconds{self._tail()}")
            more = os.read(descriptor, 65536)
            if not more:
                raise self._died("in the middle")
            self._heard += more

    def _died(self, when: str) -> BenchError:
        return BenchError(f"{self.name} ended {when}{self._tail()}")

    def _tail(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace").strip()
        return f"; it said: {text[-_TAIL:]}" if text else ""


def alternate(
    runs: int, subjects: Mapping[str, Callable[[], Figures]], told: Callable[[str], None] | None = None
) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """Run each subject in turn, `runs` rounds of them; (figures by subject, why by subject that failed).

    A subject that fails is left out of the rounds that follow, the others go on.
    """
    found: dict[str, list[Figures]] = {name: [] for name in subjects}
    failed: dict[str, str] = {}
    for number in range(runs):
        for name, measure in subjects.items():
            if name in failed:
                continue
            try:
                figures = measure()
            except (BenchError, OSError) as error:
                failed[name] = str(error)
                figures = {}
            else:
                found[name].append(figures)
            if told is not None:
                shown = ", ".join(f"{what} {value:.4g}" for what, value in figures.items())
                told(f"{number + 1}/{runs} {name}: {shown or failed[name]}")
    return {name: runs_of for name, runs_of in found.items() if runs_of and name not in failed}, failed


def summary(runs: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Median, least and greatest of each figure."""
    return {
        name: {
            "median": _short(statistics.median(run[name] for run in runs)),
            "min": _short(min(run[name] for run in runs)),
            "max": _short(max(run[name] for run in runs)),
        }
        for name in runs[0]
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "processor": model,
        "cores": os.cpu_count() or 0,
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def arguments(description: str | None, *, runs: int = 5, count: int | None = None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=runs, help=f"rounds; the medians count (default {runs})")
    options.add_argument("--only", help="these subjects, by commas")
    options.add_argument("--write", action="store_true", help="keep the result, in bench/results")
    if count is not None:
        options.add_argument("--count", type=int, default=count, help=f"how many (default {count})")
    return options


def chosen(only: str | None, subjects: Sequence[str]) -> list[str]:
    """The subjects that were asked for.

    Raises:
        SystemExit: there is no such subject.
    """
    if only is None:
        return list(subjects)
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in subjects]
    if unknown or not wanted:
        sys.exit(f"there is no subject {', '.join(unknown) or repr(only)}; there are {', '.join(subjects)}")
    return wanted


def document(name: str, what: str, runs: int, versions: Mapping[str, str], **more: object) -> dict[str, object]:
    """The result of a benchmark, but for its figures, which are `more`."""
    return {
        "benchmark": name,
        "what": what,
        "machine": machine(),
        "versions": dict(versions),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "runs": runs,
        **more,
    }


def emit(result: Mapping[str, object], *, write: bool) -> None:
    """Print a result; keep it in bench/results, if that is asked for."""
    text = json.dumps(result, indent=1)
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{result['benchmark']}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def progress(line: str) -> None:
    """Say on stderr how far it is."""
    print(line, file=sys.stderr, flush=True)
