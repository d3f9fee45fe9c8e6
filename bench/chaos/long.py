"""The long run: one link, cut again and again at random bytes, and delivery over time."""

from __future__ import annotations

import asyncio
import dataclasses
import resource
import time
from collections.abc import Callable
from typing import Any, Final

from bench.chaos.check import judge
from bench.chaos.plan import cuts_of, planner
from bench.chaos.rows import EXACT, WINDOW
from bench.chaos.run import Bench, Stuck
from bench.chaos.servers import Mode, Site

__all__ = ["long_run"]

#: Bytes of a message on the wire, about; and the share of a connection's fair part after which it is cut on the
#: average: what is sent twice and the negotiations come on top, so that the cuts last until the end.
_MESSAGE_BYTES: Final = 240
_SHARE: Final = 0.5
#: So many connections' parts may be given ahead of the cuts, so that there is something to cut until the end.
_AHEAD: Final = 3


async def long_run(
    site: Site,
    mode: Mode,
    *,
    messages: int,
    cuts: int,
    seed: int,
    queue: str = "memory",
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Send `messages` each way over a link that is cut `cuts` times, by the plan of `seed`.

    Returns:
        The figures, `broken` (a sentence for each promise that was not kept), and `series`: delivered per second both
        ways, and the times of the cuts.
    """
    mean = int(_SHARE * messages * _MESSAGE_BYTES / cuts)
    plan = planner(cuts_of(seed, cuts, mean, holes=not mode.component))
    expect = dataclasses.replace(EXACT if mode.managed else WINDOW, max_window=10_000, max_queue=10_000)
    broken: list[str] = []
    options = {"on_doubt": "resend", "queue": queue, "silence_timeout": 1.0, "probe_timeout": 1.0}
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF)
    spec = {"limit": messages // cuts * _AHEAD}
    async with Bench(site, mode, count=messages, plan=plan, options=options, spec=spec) as bench:
        bench.in_limit = spec["limit"]
        tasks = [asyncio.create_task(_tell(bench, tell)), asyncio.create_task(_pace(bench, messages // cuts))]
        try:
            await bench.start()
            await bench.finish(25 * 60, quiet=10)
        except Stuck as error:
            broken.append(str(error))
        finally:
            for task in tasks:
                task.cancel()
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    record = bench.record
    figures, more = judge(record, expect)
    last = int(took) + 1
    return {
        "server": site.name,
        "mode": mode.name,
        "queue": "memory" if queue == "memory" else "sqlite",
        "seed": seed,
        "seconds": round(took, 1),
        "connections": len(bench.proxy.connections),
        **figures,
        "bench_cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "broken": broken + more,
        "series": {
            "out": [record.out_by_second[second] for second in range(last)],
            "in": [record.in_by_second[second] for second in range(last)],
            "cuts": [round(at - record.began, 2) for at, _, _ in record.cuts],
            "rss_kb": [
                [round(at - record.began, 1), size >> 10]
                for at, size, _ in record.samples[:: max(1, len(record.samples) // 200)]
            ],
        },
    }


async def _pace(bench: Bench, part: int) -> None:
    """Let as much be given as belongs to the cuts so far, and some more; more also when all of that has arrived."""
    extra, record = _AHEAD, bench.record
    limit = bench.in_limit
    while limit < bench.count:
        await asyncio.sleep(0.01)
        if len(record.settled) >= limit and record.sent_in >= limit:
            extra += 1
        wanted = min(bench.count, (len(bench.proxy.cuts) + extra) * part)
        if wanted > limit:
            limit = bench.in_limit = wanted
            bench.order(f"limit {limit}")
            bench.progress += 1


async def _tell(bench: Bench, tell: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(10)
        record = bench.record
        tell(
            f"{time.monotonic() - record.began:.0f} s: delivered {len(record.delivered_set)} out, "
            f"{len(record.received_set)} in; {len(bench.proxy.cuts)} cuts"
        )
