"""The command line: ``python -m bench.chaos rows|long``."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from bench.chaos import report
from bench.chaos.long import long_run
from bench.chaos.rows import Outcome, Play, Row, Stage
from bench.chaos.run import Stuck
from bench.chaos.servers import MODES, Site, open_site
from bench.chaos.table import TABLE

SERVERS = ("prosody", "ejabberd")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def seed_of(base: int, row: Row, play: Play) -> int:
    """The seed of one play: the same whichever rows are played with it."""
    return base ^ zlib.crc32(f"{row.id} {play.name}".encode())


async def play_one(site: Site, row: Row, play: Play, base: int) -> Outcome:
    """Play one way of one row; it leaves the server running."""
    if not site.server.running:
        await site.start()
    with tempfile.TemporaryDirectory(prefix="pcj-chaos-") as folder:
        try:
            return await play.run(Stage(site, seed_of(base, row, play), Path(folder)))
        except Stuck as error:
            return Outcome({}, [str(error)])


async def rows(arguments: argparse.Namespace) -> int:
    """Play rows of the table; the exit code."""
    unknown = set(arguments.rows) - TABLE.keys()
    if unknown:
        _say(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(TABLE)}")
        return 2
    chosen = [TABLE[name] for name in arguments.rows or TABLE]
    results: list[dict[str, Any]] = []
    failed = 0
    for name in SERVERS if arguments.server == "both" else (arguments.server,):
        async with open_site(name) as site:
            for row in chosen:
                for play in row.plays:
                    if play.only not in (None, name) or (arguments.play and arguments.play not in play.name):
                        continue
                    began = time.monotonic()
                    outcome = await play_one(site, row, play, arguments.seed)
                    failed += bool(outcome.broken)
                    took = time.monotonic() - began
                    results.append(
                        {
                            "row": row.id,
                            "play": play.name,
                            "server": site.name,
                            "seed": arguments.seed,
                            "seconds": round(took, 1),
                            "note": outcome.note,
                            "broken": outcome.broken,
                            **outcome.figures,
                        }
                    )
                    verdict = "as promised" if not outcome.broken else "BROKEN"
                    _say(f"{row.id} {play.name} at {site.name}: {verdict} ({took:.1f} s, seed {arguments.seed})")
                    for sentence in outcome.broken:
                        _say(f"    {sentence}")
    sys.stdout.write(json.dumps(results, indent=1) + "\n")
    if arguments.write:
        report.keep_rows(results)
        report.write()
    return 1 if failed else 0


async def long(arguments: argparse.Namespace) -> int:
    """One long run; the exit code."""
    mode = MODES[arguments.mode]
    _say(f"seed {arguments.seed}")
    async with open_site(arguments.server) as site:
        with tempfile.TemporaryDirectory(prefix="pcj-chaos-") as folder:
            result = await long_run(
                site,
                mode,
                messages=arguments.messages,
                cuts=arguments.cuts,
                seed=arguments.seed,
                queue=str(Path(folder) / "queue.db") if arguments.queue == "sqlite" else "memory",
                tell=_say,
            )
    sys.stdout.write(json.dumps({name: value for name, value in result.items() if name != "series"}, indent=1) + "\n")
    for sentence in result["broken"]:
        _say(f"BROKEN: {sentence}")
    if arguments.write:
        report.keep_long(result)
        report.write()
    return 1 if result["broken"] else 0


def main() -> int:
    """Parse, and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    table = kinds.add_parser("rows", help="play rows of the table of faults")
    table.add_argument("rows", nargs="*", metavar="K01", help="which; by default all")
    table.add_argument("--server", choices=(*SERVERS, "both"), default="both")
    table.add_argument("--play", default="", help="only plays whose name contains this")
    run = kinds.add_parser("long", help="one link, cut at random bytes again and again")
    run.add_argument("--messages", type=int, default=100_000, help="each way")
    run.add_argument("--cuts", type=int, default=1000)
    run.add_argument("--server", choices=SERVERS, default="prosody")
    run.add_argument("--mode", choices=tuple(MODES), default="sm-tls")
    run.add_argument("--queue", choices=("memory", "sqlite"), default="memory")
    for each in (table, run):
        each.add_argument("--seed", type=int, default=198, help="the plan follows from it")
        each.add_argument(
            "--write", action="store_true", help="keep the figures, and write docs/reliability.md from them"
        )
    kinds.add_parser("report", help="write docs/reliability.md from the figures that are kept")
    arguments = parser.parse_args()
    logging.getLogger("pcj").addHandler(logging.NullHandler())  # the counterpart's reconnects are no news
    if arguments.kind == "report":
        report.write()
        return 0
    return asyncio.run(rows(arguments) if arguments.kind == "rows" else long(arguments))


if __name__ == "__main__":
    sys.exit(main())
