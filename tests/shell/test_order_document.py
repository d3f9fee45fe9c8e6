"""The example of docs/events.md that holds a run against the order of events does what is said of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pcj import Broker, Event
from pcj.testing import Contract

DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
NAME = "docs/events.md"


def run_example(example: str) -> None:
    exec(compile(example, NAME, "exec"), {"__name__": "__main__"})  # noqa: S102


@pytest.fixture
def example() -> str:
    (found,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def test_the_example_hears_a_whole_life_and_finds_nothing_wrong(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Contract] = []
    begin = Contract.__init__

    def kept(contract: Contract, broker: Broker) -> None:
        begin(contract, broker)
        made.append(contract)

    monkeypatch.setattr(Contract, "__init__", kept)
    run_example(example)
    (contract,) = made
    assert contract.violations == []
    assert contract._order.place == "idle"  # behind SHUTDOWN_FINISH, as the text says


def test_the_example_finds_what_is_wrong(example: str) -> None:
    # READY once more, which no broker fires: told to the contract alone.
    assert "            ...\n" in example
    second = "            contract._hear(__import__('pcj').Status('PCJ_READY', 0.0, 0))\n"
    with pytest.raises(AssertionError, match=rf"{Event.PCJ_READY} \(seq 0\)"):
        run_example(example.replace("            ...\n", second))
