"""Run targets under atheris: `python -m fuzz.run TARGET ... --seconds 600`; `all` runs all of them.

Each target has a process of its own. What is found is written to its corpus (`fuzz/corpus/TARGET/found-...`), one input
for each place that raised; new inputs that are of interest only to the fuzzer go to a folder that is thrown away, or to
the one that `--work` names.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from fuzz.common import CORPUS, TARGETS, Target, load, target_in

__all__ = ["Findings", "Report", "main"]

#: Places that are told apart, and written down, in one run; past it the run ends.
MAX_FOUND: Final = 20
#: Seconds that one input may take; libFuzzer then ends the process and keeps the input.
INPUT_SECONDS: Final = 10
#: Megabytes that a process may grow to.
MEMORY: Final = 1536
#: Seconds that a process may take beyond its time, to start and to say what it did.
GRACE: Final = 120
ROOT: Final = Path(__file__).parents[1]

_DONE = re.compile(r"^Done (\d+) runs? in (\d+) second", re.MULTILINE)
_STATUS = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
_FOUND = re.compile(r"^FOUND (\S+): (.*)$", re.MULTILINE)


@dataclass
class Report:
    """What one run of a target came to.

    Attributes:
        inputs: how many were run. seconds: how long. coverage, features: libFuzzer's, edges of pcj and of the target.
        found: the files of what broke the invariant, and how. ended: "" or why it ended before its time.
    """

    target: str
    inputs: int = 0
    seconds: int = 0
    coverage: int = 0
    features: int = 0
    found: dict[str, str] = field(default_factory=dict)
    ended: str = ""

    @property
    def clean(self) -> bool:
        """Whether the invariant held, for as long as it was to."""
        return not self.found and not self.ended and self.inputs > 0


class Findings:
    """Runs inputs and writes down those that break the invariant, one for each place that raised.

    Args:
        target: what is run. folder: where they go. tell: is told the file and the fault.
    """

    def __init__(self, target: Target, folder: Path, tell: Callable[[str], None]) -> None:
        self._target = target
        self._folder = folder
        self._tell = tell
        self.places: set[tuple[str, ...]] = set()

    def run(self, data: bytes) -> None:
        """One input."""
        try:
            self._target.one_input(data)
        except Exception as error:
            place = _place_of(error)
            if place in self.places:
                return
            self.places.add(place)
            name = f"found-{hashlib.sha256(data).hexdigest()[:12]}"
            (self._folder / name).write_bytes(data)
            self._tell(f"FOUND {name}: {ascii(str(error))[:300]} {' '.join(place)}")
            if len(self.places) >= MAX_FOUND:
                raise


def _place_of(error: BaseException) -> tuple[str, ...]:
    """What tells one fault from another: its kind, and the last lines of ours that it came through."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/pcj/" in frame.filename]
    fuzz = [frame for frame in traceback.extract_tb(error.__traceback__) if "/fuzz/" in frame.filename]
    last = (fuzz[-1:] + ours[-1:]) or traceback.extract_tb(error.__traceback__)[-1:]
    return (type(error).__name__, *(f"{Path(frame.filename).name}:{frame.lineno}" for frame in last))


def fuzz_here(name: str, seconds: int, work: Path, found: Path, module_folder: Path | None = None) -> None:
    """Fuzz one target in this process, which ends with it."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("fuzzing needs the package atheris, which is no dependency of pcj: pip install atheris")
    if module_folder is not None:
        sys.path.insert(0, str(module_folder))
    with atheris.instrument_imports(include=["pcj", "fuzz", name], enable_loader_override=False):
        target = load(name) if module_folder is None else target_in(name)
    found.mkdir(parents=True, exist_ok=True)
    findings = Findings(target, found, lambda line: print(line, file=sys.stderr, flush=True))
    words = work / "dictionary"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.dictionary))
    inputs = work / "inputs"
    inputs.mkdir(exist_ok=True)
    arguments = [
        sys.argv[0],
        str(inputs),
        *([str(CORPUS / name)] if (CORPUS / name).is_dir() else []),
        f"-max_total_time={seconds}",
        f"-max_len={target.max_bytes}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        "-use_value_profile=1",
        *([f"-dict={words}"] if target.dictionary else []),
    ]
    atheris.Setup(arguments, findings.run)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    """As libFuzzer reads it in a dictionary."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def run_target(
    name: str, seconds: int, work: Path | None, found: Path | None, *, module_folder: Path | None = None
) -> Report:
    """Fuzz one target in a process of its own.

    Args:
        name, seconds, work, found: as on the command line. module_folder: where the target's module is, if it is none
            of `fuzz.targets` (a test of this harness).
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = (work or Path(temporary)) / name
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log"
        began = time.monotonic()
        with log.open("w") as output:
            command = [sys.executable, "-m", "fuzz.run", name, "--seconds", str(seconds), "--inside", str(folder)]
            command += ["--found", str(found)] if found is not None else []
            command += ["--module-folder", str(module_folder)] if module_folder is not None else []
            try:
                code = subprocess.run(
                    command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, timeout=seconds + GRACE, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
        return read_log(name, log.read_text("utf-8", "replace"), code, int(time.monotonic() - began))


def read_log(name: str, log: str, code: int, seconds: int) -> Report:
    """What a process of libFuzzer's said, and the code that it ended with."""
    report = Report(name, seconds=seconds)
    for match in _STATUS.finditer(log):
        report.inputs, report.coverage, report.features = int(match[1]), int(match[2]), int(match[3])
    for match in _DONE.finditer(log):
        report.inputs, report.seconds = int(match[1]), int(match[2])
    report.found = {match[1]: match[2] for match in _FOUND.finditer(log)}
    if code != 0:
        report.ended = f"code {code}: " + " ".join(log.strip().splitlines()[-3:])[-300:]
    return report


def has_atheris() -> bool:
    """Whether the fuzzer is installed."""
    return importlib.util.find_spec("atheris") is not None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0 if every invariant held for as long as it was to."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description="Fuzz pcj; see fuzz/README.md.")
    parser.add_argument("targets", nargs="+", metavar="TARGET", help=f"all, or some of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (1)")
    parser.add_argument("--summary", type=Path, help="a JSON file that says what came of it")
    parser.add_argument("--work", type=Path, help="where the fuzzer's own inputs and logs stay, and begin from")
    parser.add_argument("--found", type=Path, help="where found cases go, in place of the corpus")
    for inner in ("--inside", "--module-folder"):
        parser.add_argument(inner, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    names = list(TARGETS) if given.targets == ["all"] else given.targets
    if given.inside is not None:
        (name,) = names
        found = given.found if given.found is not None else CORPUS / name
        fuzz_here(name, given.seconds, given.inside, found, given.module_folder)
        return 0
    for name in names:
        if name not in TARGETS:
            parser.error(f"{name!r} is no target; there are {', '.join(TARGETS)}")
    if not has_atheris():
        parser.error("fuzzing needs the package atheris, which is no dependency of pcj: pip install atheris")

    def one(name: str) -> Report:
        report = run_target(name, given.seconds, given.work, given.found)
        print(
            f"{name}: {report.inputs} inputs in {report.seconds} s, coverage {report.coverage}, "
            + (f"FOUND {report.found} {report.ended}" if not report.clean else "nothing found"),
            flush=True,
        )
        return report

    with ThreadPoolExecutor(max(1, given.jobs)) as pool:
        reports = list(pool.map(one, names))
    if given.summary is not None:
        given.summary.write_text(json.dumps([asdict(report) for report in reports], indent=2) + "\n")
    return 0 if all(report.clean for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
