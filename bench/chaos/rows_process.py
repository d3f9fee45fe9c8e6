"""Faults of our own process."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Any, Final

from bench.chaos.proxy import Rule, rst
from bench.chaos.rows import EXACT, MESSAGE_END, WINDOW, Outcome, Play, Row, Stage, play, times
from bench.chaos.run import Bench
from bench.chaos.servers import COMPONENT, SM, Mode

__all__ = ["ROWS"]

_ROOT: Final = Path(__file__).parent.parent.parent
_DEATHS: Final = 5


def _killed(mode: Mode) -> Play:
    """The process is killed again and again, and started on the same file."""

    async def run(stage: Stage) -> Outcome:
        waits = [stage.chance.uniform(0.2, 1.2) for _ in range(_DEATHS)]

        async def during(bench: Bench) -> None:
            for number, wait in enumerate(waits):
                await bench.ready(number + 1)
                await asyncio.sleep(wait)
                await bench.die(signal.SIGKILL)
                await bench.start()

        # What comes in without stream management while nobody is there is lost by the server; with it, nothing is.
        expect = dataclasses.replace(WINDOW, in_lost=0 if mode.managed else None, in_repeated=None)
        return await play(
            stage,
            mode,
            expect,
            during=during,
            options={"queue": str(stage.folder / f"{mode.name}.db"), "on_doubt": "resend"},
            spec={"rate": 200},
            note=lambda bench: (
                f"{len(bench.record.durable)} said to be on disk, resumed {bench.record.count('SM_RESUMED')}"
            ),
            checks=lambda bench: [] if bench.record.durable else ["nothing was ever said to be on disk"],
            count=1500,
            timeout=90,
        )

    return Play(mode.name, run)


async def _killed_in_memory(stage: Stage) -> Outcome:
    async def during(bench: Bench) -> None:
        await bench.until(lambda: len(bench.record.delivered_set) > 100, "100 have arrived")
        await bench.die(signal.SIGKILL)
        await bench.start()

    return await play(
        stage,
        COMPONENT,
        dataclasses.replace(WINDOW, in_repeated=None, lost=None),
        during=during,
        options={"on_doubt": "resend"},
        spec={"rate": 200},
        checks=lambda bench: ["a queue in memory said it was on disk"] if bench.record.durable else [],
        count=400,
    )


def _handed_over(late: bool) -> Any:
    async def run(stage: Stage) -> Outcome:
        async def during(bench: Bench) -> None:
            for life in range(1 if late else 3):
                await bench.delivered(150 * (life + 1))
                await bench.die(signal.SIGTERM)
                if late:
                    await asyncio.sleep(3.5)
                await bench.start()
                await bench.ready(life + 2)

        def checks(bench: Bench) -> list[str]:
            record = bench.record
            ends = record.count("PCJ_STREAMEND") - 1  # that of the last life, which leaves in good order
            wrong = [f"the stream was closed {ends} times"] if ends else []
            if not late and record.count("SM_RESUMED") != 3:
                wrong.append(f"resumed {record.count('SM_RESUMED')} times by the next process, 3 expected")
            return wrong

        # The receipts of each life ended with it; the books say by event what became of each node.
        return await play(
            stage,
            SM,
            dataclasses.replace(WINDOW if late else EXACT, in_repeated=None if late else 0),
            during=during,
            options={
                "queue": str(stage.folder / "hand-over.db"),
                "on_doubt": "resend",
                "resume_seconds": 1 if late else 600,
            },
            forgets=1 if late else None,
            spec={"rate": 200},
            checks=checks,
            note=lambda bench: (
                f"resumed {bench.record.count('SM_RESUMED')}, refused {bench.record.count('SM_RESUMEFAILED')}"
            ),
            count=700,
            timeout=90,
        )

    return run


async def _stopped(stage: Stage) -> Outcome:
    """The process stands still for longer than its session, and than the time to live of what it holds."""

    async def during(bench: Bench) -> None:
        await bench.until(lambda: len(bench.record.settled) >= 50, "50 are settled")
        await bench.gone()
        bench.order("limit 100")
        await bench.until(lambda: len(bench.record.given) == 100, "all are given")
        assert bench.process is not None
        bench.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(4.0)
        bench.proxy.mode = "pass"
        bench.process.send_signal(signal.SIGCONT)
        await bench.ready(2)
        bench.order("limit 150")

    def checks(bench: Bench) -> list[str]:
        record = bench.record
        wrong = []
        expired = {number for number in record.given if record.state(number) == "expired"}
        if late := expired & record.delivered_set - record.doubts.keys():
            wrong.append(f"expired, and sent all the same: {sorted(late)[:5]}")
        if len(expired) != 50:
            wrong.append(f"{len(expired)} expired, 50 expected")
        if record.count("PCJ_READY") != 2:
            wrong.append(f"READY {record.count('PCJ_READY')} times: a burst of timers")
        return wrong

    return await play(
        stage,
        SM,
        dataclasses.replace(WINDOW, reconnects=1),
        during=during,
        checks=checks,
        note=lambda bench: f"resumption refused {bench.record.count('SM_RESUMEFAILED')} times",
        options={"on_doubt": "resend", "resume_seconds": 2},
        forgets=2,
        spec={"limit": 50, "ttl": 2.0},
        count=150,
        count_in=100,
    )


async def _twins(stage: Stage) -> Outcome:
    """A second process on the same file."""
    said: list[str] = []

    async def during(bench: Bench) -> None:
        await bench.until(lambda: len(bench.record.delivered_set) > 50, "50 have arrived")
        spec = bench.specification(first=1)
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.chaos.subject", json.dumps(spec)),
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await asyncio.sleep(4.0)
        try:
            async with asyncio.timeout(10):
                told, _ = await second.communicate(b"")
        except TimeoutError:
            second.kill()
            told, _ = await second.communicate()
        said.extend(line for line in told.decode().splitlines() if " CONNECT_RAISED " in line)

    def checks(bench: Bench) -> list[str]:
        return [] if said and "QueueError" in said[0] else [f"the second process was not refused: {said}"]

    return await play(
        stage,
        SM,
        EXACT,
        during=during,
        checks=checks,
        note=lambda _: (
            json.loads(said[0].split(" ", 3)[3])["message"].replace(str(stage.folder), "...") if said else ""
        ),
        options={"queue": str(stage.folder / "twins.db")},
        spec={"rate": 200},
        count=300,
    )


async def _handlers(stage: Stage) -> Outcome:
    def checks(bench: Bench) -> list[str]:
        record = bench.record
        wrong = [] if record.count("PCJ_READY") == 1 else ["the link was dropped, though it lived"]
        asked = record.details("ASKED")
        if len(asked) < 5 or any(detail.get("type") != "result" for detail in asked):
            wrong.append(f"a handler that asks was answered {len(asked)} times: {asked[:3]}")
        wrong += [] if record.count("HANDLER_FAILED") else ["no HANDLER_FAILED was fired"]
        wrong += [] if record.count("READING_PAUSED") else ["reading was never paused"]
        return wrong

    return await play(
        stage,
        SM,
        EXACT,
        checks=checks,
        options={"inbound_backlog": 40},
        spec={"handlers": ["plain", "raising", "sleeping", "asking"], "sleep": 5.0, "asked": "localhost", "rate": 100},
        note=lambda bench: (
            f"reading paused {bench.record.count('READING_PAUSED')} times, "
            f"{bench.record.count('HANDLER_FAILED')} exceptions"
        ),
        count=300,
        quiet=8,
    )


async def _killed_and_cut(stage: Stage) -> Outcome:
    """Both at once: the link is cut while the process dies, with a session saved on disk."""
    nths = [stage.chance.randrange(20, 60) for _ in range(12)]

    async def during(bench: Bench) -> None:
        for number in range(3):
            await bench.ready(2 * number + 1)
            await asyncio.sleep(0.5)
            await bench.die(signal.SIGKILL)
            await bench.start()

    return await play(
        stage,
        SM,
        dataclasses.replace(WINDOW, in_lost=0, in_repeated=None),
        plan=times(12, lambda number: [Rule("out", rst, pattern=MESSAGE_END, nth=nths[number])]),
        during=during,
        options={"queue": str(stage.folder / "both.db"), "on_doubt": "resend"},
        spec={"rate": 200},
        count=1000,
        timeout=90,
    )


ROWS: Final = (
    Row(
        "K20",
        "process",
        "SIGSTOP for twice the time of the session",
        "The session is given up, or refused; no burst of timers; a time to live that ran out meanwhile is kept to",
        (Play("sm", _stopped),),
    ),
    Row(
        "K33",
        "process",
        "SIGKILL at random instants, SQLite queue, no session to resume",
        "What was said to be on disk is delivered; what was acked a commit before is not repeated",
        (_killed(COMPONENT),),
    ),
    Row(
        "K34",
        "process",
        "SIGKILL at random instants, SQLite queue with the session in it",
        "The next process resumes; nothing of ours lost, nothing that came in lost",
        (_killed(SM),),
    ),
    Row(
        "K35",
        "process",
        "SIGKILL, queue in memory",
        "What was queued is lost with the process; nothing was said to be on disk",
        (Play("component", _killed_in_memory),),
    ),
    Row(
        "K36",
        "process",
        "SIGTERM with hand-over (`suspend`)",
        "The stream is not closed, the next process resumes, nothing lost and nothing repeated; too late: as K28",
        (Play("sm, in time, three times", _handed_over(late=False)), Play("sm, too late", _handed_over(late=True))),
    ),
    Row(
        "K38",
        "process",
        "Two processes on one file",
        "The second is refused with a sentence, the first is not disturbed",
        (Play("sm", _twins),),
    ),
    Row(
        "K39",
        "process",
        "Of three handlers one raises on every 7th node, one sleeps for 5 s, one asks the server and waits",
        "The stream lives; reading slows; no deadlock",
        (Play("sm", _handlers),),
    ),
    Row(
        "K41",
        "process",
        "SIGKILL of the process while its link is cut again and again",
        "As K34",
        (Play("sm", _killed_and_cut),),
    ),
)
