"""What the benchmarks stand on: processes are timed from outside, a subject that fails spoils no other."""

from __future__ import annotations

import sys

import pytest

from bench.measure import BenchError, Figures, Subject, alternate, chosen, summary

_BUSY = (
    "import json, sys, time\n"
    "print('noise', flush=True)\n"
    "told = json.loads(sys.stdin.readline())\n"
    "while time.process_time() < told['seconds']: pass\n"
    "print(json.dumps({'used': time.process_time()}), flush=True)\n"
    "sys.stdin.readline()\n"
)


def test_the_cpu_time_of_a_subject_is_what_it_measures_itself() -> None:
    with Subject("busy", [sys.executable, "-c", _BUSY]) as subject:
        subject.say({"seconds": 0.3})
        used = subject.hear(20)["used"]
        assert used <= subject.cpu() < used + 0.05
        assert subject.memory() > 1_000_000


def test_a_subject_that_dies_is_named_with_what_it_said() -> None:
    with (
        Subject("broken", [sys.executable, "-c", "import sys; sys.exit('no such luck')"]) as subject,
        pytest.raises(BenchError, match=r"broken ended in the middle; it said: no such luck"),
    ):
        subject.hear(20)


def test_a_subject_that_is_silent_is_not_waited_for_without_an_end() -> None:
    with (
        Subject("mute", [sys.executable, "-c", "import time; time.sleep(20)"]) as subject,
        pytest.raises(BenchError, match=r"mute said nothing for 0.05 seconds"),
    ):
        subject.hear(0.05)


def test_a_program_that_is_not_there_is_an_error_of_its_subject() -> None:
    with pytest.raises(BenchError, match="ghost could not be started"), Subject("ghost", ["/nowhere/at/all"]):
        pass


def test_subjects_take_turns_and_one_that_fails_is_left_out() -> None:
    order: list[str] = []

    def good() -> Figures:
        order.append("good")
        return {"cost": float(len(order))}

    def bad() -> Figures:
        order.append("bad")
        raise BenchError("it is broken")

    found, failed = alternate(3, {"good": good, "bad": bad})
    assert order == ["good", "bad", "good", "good"]
    assert failed == {"bad": "it is broken"}
    assert summary(found["good"]) == {"cost": {"median": 3.0, "min": 1.0, "max": 4.0}}
    assert "bad" not in found


def test_an_unknown_subject_is_refused_with_those_there_are() -> None:
    assert chosen(None, ["a", "b"]) == ["a", "b"]
    assert chosen("b", ["a", "b"]) == ["b"]
    with pytest.raises(SystemExit, match="there is no subject c; there are a, b"):
        chosen("c", ["a", "b"])
