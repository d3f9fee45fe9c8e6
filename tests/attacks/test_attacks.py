"""Each attack is played against a broker; and the page that lists them is the table."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from pathlib import Path

import pytest

from tests.attacks import foe as module
from tests.attacks.attack import SECTIONS, Play
from tests.attacks.page import COMMAND, PAGE, draw
from tests.attacks.stage import PASSWORD, Stage, forms_of
from tests.attacks.table import ATTACKS, LISTED
from tests.shell.links import run

CASES = [
    pytest.param(play, id=f"{attack.id} {name}".strip()) for attack in ATTACKS for name, play in attack.plays.items()
]


@pytest.mark.parametrize("play", CASES)
def test_the_attack_comes_to_nothing(
    play: Play, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stage = Stage(monkeypatch, tmp_path)

    async def main() -> None:
        await play(stage)

    run(main)
    assert stage.records or stage.foes, "nobody was attacked"
    stage.check(caplog.records)


def test_every_attack_of_the_list_has_a_row_and_the_numbers_have_no_gaps() -> None:
    numbers = [attack.id for attack in ATTACKS]
    assert len(set(numbers)) == len(numbers)
    assert set(LISTED) <= set(numbers), sorted(set(LISTED) - set(numbers))
    for letter in SECTIONS:
        own = [int(number[1:]) for number in numbers if number[0] == letter]
        assert own == list(range(1, len(own) + 1)), letter


def test_every_row_says_what_is_done_what_it_would_cost_and_what_pcj_does_and_is_played() -> None:
    for attack in ATTACKS:
        assert re.fullmatch(r"[TSXPM]\d\d", attack.id), attack.id
        for text in (attack.what, attack.unprotected, attack.pcj):
            assert text, attack.id
            assert not text.endswith("."), (attack.id, text)
            assert "\n" not in text, (attack.id, text)
        assert attack.plays, attack.id


def test_the_looking_for_secrets_finds_them() -> None:
    for told in (PASSWORD, PASSWORD.encode().hex(), base64.b64encode(f"\0romeo\0{PASSWORD}".encode()).decode()):
        assert any(form.decode() in f"something {told} else" for form in forms_of(PASSWORD)), told
    for ahead in range(3):
        told = base64.b64encode(b"x" * ahead + PASSWORD.encode() + b"yz").decode()
        assert any(form.decode() in told for form in forms_of(PASSWORD)), ahead


def test_a_client_that_would_not_close_fails_the_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    async def main() -> None:
        reader = asyncio.StreamReader()
        lingering = module.Foe(reader, None)  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="neither speaks nor closes"):
            await lingering.rest()

    asyncio.run(main())


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == draw(), f"write it anew: {COMMAND}"
