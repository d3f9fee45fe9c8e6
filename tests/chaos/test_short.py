"""The short chaos: a few rows of the table, and a link that is cut a few dozen times, against a real server."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from bench.chaos.__main__ import play_one
from bench.chaos.long import long_run
from bench.chaos.servers import COMPONENT, SM_TLS, Mode, open_site
from bench.chaos.table import TABLE
from tests.interop.servers import Ejabberd, Prosody

SEED = 198

pytestmark = pytest.mark.interop


def require(name: str) -> None:
    """Skips the test if this machine has no such server; where nothing may be skipped (CI=true), fails it."""
    reason = Prosody.missing() if name == "prosody" else Ejabberd.missing()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; CI=true, so this is not skipped", pytrace=False)
    pytest.skip(reason)


def test_rows_of_the_table_hold_at_prosody() -> None:
    require("prosody")
    wanted = [("K02", "sm"), ("K14", "sm"), ("K15", "sm"), ("K34", "sm"), ("K36", "sm, in time")]

    async def run() -> dict[str, list[str]]:
        broken = {}
        async with open_site("prosody") as site:
            for row, name in wanted:
                play = next(each for each in TABLE[row].plays if each.name.startswith(name))
                outcome = await play_one(site, TABLE[row], play, SEED)
                broken[f"{row} {name}, seed {SEED}"] = outcome.broken
        return broken

    broken = asyncio.run(run())
    assert {name: sentences for name, sentences in broken.items() if sentences} == {}


@pytest.mark.parametrize(
    ("server", "mode", "queue"),
    [("prosody", COMPONENT, "memory"), ("ejabberd", SM_TLS, "sqlite")],
    ids=["component at prosody", "stream management at ejabberd, durable"],
)
def test_a_link_that_is_cut_again_and_again_loses_nothing_in_silence(server: str, mode: Mode, queue: str) -> None:
    require(server)

    async def run() -> list[str]:
        with tempfile.TemporaryDirectory(prefix="pcj-chaos-") as folder:
            path = str(Path(folder) / "queue.db") if queue == "sqlite" else "memory"
            async with open_site(server) as site:
                result = await long_run(site, mode, messages=1500, cuts=20, seed=SEED, queue=path)
        assert result["cuts"] >= 10, "the plan cut too little to show anything"
        assert result["sent"] == 1500
        broken: list[str] = result["broken"]
        return broken

    assert asyncio.run(run()) == []
