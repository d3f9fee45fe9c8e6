"""What a row of the table of faults is, and the stage on which it is played."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.chaos.check import Expect, judge
from bench.chaos.proxy import Connection, Rule
from bench.chaos.run import LOSSY_WINDOW, Bench, Stuck
from bench.chaos.servers import BARRIER, COMPONENT, LEGACY_CLIENT, SM, Mode, Site, forgetful

__all__ = [
    "ALL",
    "EXACT",
    "IN_STANZA",
    "MESSAGE_END",
    "NAMED",
    "UNMANAGED",
    "WINDOW",
    "Outcome",
    "Play",
    "Row",
    "Stage",
    "play",
    "times",
]

#: Nothing lost, nothing repeated, either way.
EXACT: Final = Expect()
#: Nothing of ours lost, what was in doubt perhaps repeated; what comes in is the server's affair.
WINDOW: Final = Expect(repeated=None, in_lost=None)
#: What was in doubt is perhaps lost, and named; nothing repeated.
NAMED: Final = Expect(lost=None, in_lost=None)

UNMANAGED: Final = (BARRIER, COMPONENT, LEGACY_CLIENT)
ALL: Final = (SM, *UNMANAGED)

MESSAGE_END: Final = re.compile(rb"</message>")
IN_STANZA: Final = re.compile(rb"<message ")

Planner = Callable[[Connection], None]


@dataclass
class Stage:
    """Where rows are played.

    Attributes:
        site: the server. seed: of this row. folder: for files of the play.
    """

    site: Site
    seed: int
    folder: Path
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - it has to be the same again


@dataclass(frozen=True)
class Outcome:
    """What a play showed.

    Attributes:
        figures: see `judge`. broken: a sentence for each promise that was not kept. note: what else was seen.
    """

    figures: dict[str, Any]
    broken: list[str]
    note: str = ""


@dataclass(frozen=True)
class Play:
    """One way to play a row.

    Attributes:
        name: the kind of link, and what is special. run: plays it. only: of which server; None: of all.
    """

    name: str
    run: Callable[[Stage], Awaitable[Outcome]]
    only: str | None = None


@dataclass(frozen=True)
class Row:
    """A fault, and what is promised under it.

    Attributes:
        id: of the list of faults. fault, promise: in words. plays: how it is done. elsewhere: why it is not played.
    """

    id: str
    group: str
    fault: str
    promise: str
    plays: Sequence[Play] = ()
    elsewhere: str = ""


def times(count: int, rules: Callable[[int], list[Rule]]) -> Planner:
    """The plan that gives `rules` to each of the first connections."""

    def plan(connection: Connection) -> None:
        if connection.number < count:
            connection.rules += rules(connection.number)

    return plan


During = Callable[[Bench], Awaitable[None]]
Checks = Callable[[Bench], "list[str]"]


async def play(
    stage: Stage,
    mode: Mode,
    expect: Expect,
    *,
    plan: Planner | None = None,
    during: During | None = None,
    checks: Checks | None = None,
    note: Callable[[Bench], str] | None = None,
    timeout: float = 60.0,
    quiet: float = 3.0,
    finish: bool = True,
    forgets: int | None = None,
    **settings: Any,
) -> Outcome:
    """Play: begin, let `during` do what it does, wait until all is settled, and compare the books.

    Args:
        checks: what must hold besides, as sentences on what did not. finish: False if `during` ends the process.
        forgets: at a server that keeps no session longer than so many seconds.
        settings: of `Bench`.
    """
    stuck: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        site = stage.site
        if forgets is not None:
            site = await stack.enter_async_context(forgetful(site, forgets))
        bench = await stack.enter_async_context(Bench(site, mode, plan=plan, **settings))
        if expect.in_lost is None:
            bench.in_window = LOSSY_WINDOW
        try:
            await bench.start()
            if during is not None:
                await during(bench)
            if finish:
                await bench.finish(timeout, quiet=quiet)
        except Stuck as error:
            stuck.append(str(error))
        said = "" if note is None else note(bench)
        more = [] if checks is None else checks(bench)
    figures, broken = judge(bench.record, expect)
    return Outcome(figures, [*stuck, *broken, *more], said)
