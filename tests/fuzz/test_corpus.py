"""Every input that is kept is run through its target; and the harness itself finds what it is there to find."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from fuzz import run
from fuzz.common import CORPUS, TARGETS, Target, corpus_of, cut, load, shown_safely, splice, top_level

#: The most that is kept of one target, in files, and of all, in bytes.
MAX_FILES = 60
MAX_BYTES = 2_000_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_invariant_holds_for_all_that_is_kept(name: str) -> None:
    target = load(name)
    kept = corpus_of(name)
    assert kept
    for path in kept:
        try:
            target.one_input(path.read_bytes())
        except Exception as error:
            error.add_note(f"replay: {path}")
            raise


def test_every_module_of_targets_is_registered_and_has_a_corpus() -> None:
    modules = {path.stem for path in (CORPUS.parent / "targets").glob("*.py")} - {"__init__"}
    assert modules == set(TARGETS)
    assert {path.name for path in CORPUS.iterdir()} == modules
    assert len(TARGETS) == len(modules)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_states_its_invariant_its_input_and_what_may_be_raised(name: str) -> None:
    target = load(name)
    assert "\nInvariant. " in target.invariant
    assert "\nInput: " in target.invariant or "\nInput, line by line: " in target.invariant
    assert isinstance(target.allowed, tuple)
    for kind in target.allowed:
        assert issubclass(kind, Exception)
        assert kind not in (Exception, AssertionError), "nothing could be found"


def test_the_corpus_stays_small() -> None:
    sizes = {name: [path.stat().st_size for path in corpus_of(name)] for name in TARGETS}
    assert {name: len(found) for name, found in sizes.items() if len(found) >= MAX_FILES} == {}
    assert sum(map(sum, sizes.values())) < MAX_BYTES


def test_a_target_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError):
        load("nothing")
    with pytest.raises(SystemExit):
        run.main(["nothing"])
    assert "is no target" in capsys.readouterr().err


# ---- the harness


def planted(data: bytes) -> None:
    assert b"!" not in data, "a planted bug"
    if b"?" in data:
        raise RuntimeError("another")


def test_what_breaks_an_invariant_is_written_down_once_for_each_place(tmp_path: Path) -> None:
    told: list[str] = []
    findings = run.Findings(Target("planted", "", (), planted), tmp_path, told.append)
    for data in (b"fine", b"a!", b"b!", b"?", b"c?"):
        findings.run(data)
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"?", b"a!"]
    assert len(told) == len(findings.places) == 2
    assert all(line.startswith("FOUND found-") for line in told)
    assert "a planted bug" in told[0]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris, which is no dependency, is missing")
def test_the_fuzzer_finds_a_planted_bug_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = tmp_path / "fuzz_planted.py"
    targets.write_text(
        '"""A target with a bug."""\n\nALLOWED = ()\n\n\ndef one_input(data):\n    assert b"!" not in data, "planted"\n'
    )
    report = run.run_target("fuzz_planted", 2, tmp_path / "work", tmp_path / "found", module_folder=tmp_path)
    assert report.inputs > 0
    assert not report.clean
    assert [b"!" in (tmp_path / "found" / name).read_bytes() for name in report.found] == [True]
    assert "planted" in next(iter(report.found.values()))


def test_a_run_that_ended_before_its_time_is_not_clean() -> None:
    log = "#8\tNEW    cov: 12 ft: 30 corp: 3/9b\nDone 1234 runs in 5 second(s)\n"
    report = run.read_log("jid", log, 0, 6)
    assert (report.inputs, report.seconds, report.coverage, report.features) == (1234, 5, 12, 30)
    assert report.clean
    assert not run.read_log("jid", log, 77, 6).clean
    assert not run.read_log("jid", "", 0, 6).clean
    assert not run.read_log("jid", log + "FOUND found-1: 'x' AssertionError jid.py:3\n", 0, 6).clean


def test_the_summary_is_json_and_the_outcome_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ran(name: str, *_: object) -> run.Report:
        return run.Report(name, inputs=5, seconds=1, found={"found-1": "x"} if name == "jid" else {})

    monkeypatch.setattr(run, "run_target", ran)
    monkeypatch.setattr(run, "has_atheris", lambda: True)
    file = tmp_path / "summary.json"
    assert run.main(["all", "--jobs", "2", "--summary", str(file)]) == 1
    assert [each["target"] for each in json.loads(file.read_text())] == list(TARGETS)
    assert run.main(["scram", "--summary", str(file)]) == 0
    said = capsys.readouterr().out
    assert "scram: 5 inputs in 1 s, coverage 0, nothing found" in said
    assert "FOUND" in said
    monkeypatch.setattr(run, "has_atheris", lambda: False)
    with pytest.raises(SystemExit):
        run.main(["scram"])
    assert "pip install atheris" in capsys.readouterr().err


def test_the_helpers_do_what_they_say() -> None:
    assert list(cut(b"abcdef", [1, 3])) == [b"a", b"bcd", b"e", b"f"]
    assert list(cut(b"abc", [])) == [b"abc"]
    assert splice(b"0123456789", bytes([128, 2]) + b"xy") == b"01234xy789"
    assert splice(b"0123", b"") == b"0123"
    seen = top_level(b"<a b='c'><d>e</d> <f/></a>")
    assert seen.root is not None
    assert seen.root.attrib == {"b": "c"}
    assert (len(seen.children), seen.before_text, seen.ended, seen.broken) == (2, 2, True, False)
    seen = top_level(b"<a><b/>text<c/></d>")
    assert (len(seen.children), seen.before_text, seen.ended, seen.broken) == (2, 1, False, True)
    with pytest.raises(AssertionError, match="steer"):
        shown_safely(ValueError("\x1b[2J"))
    with pytest.raises(AssertionError, match="told"):
        shown_safely(ValueError("the secret is out"), ["secret"])
