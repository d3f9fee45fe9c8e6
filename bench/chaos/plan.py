"""Which connection of a long run is cut where and how: all of it follows from the seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from bench.chaos.proxy import Connection, Rule, Shape, fin, hole, rst

__all__ = ["Cut", "cuts_of", "planner"]

How = Literal["rst", "fin", "hole", "hole-in", "hole-out"]
_ACTIONS = {"rst": rst, "fin": fin, "hole": hole(), "hole-in": hole("in"), "hole-out": hole("out")}
#: Of a hundred cuts. A hole costs the time until it is noticed, so there are few.
_SHARES: tuple[tuple[How, int], ...] = (("rst", 85), ("fin", 10), ("hole", 2), ("hole-in", 2), ("hole-out", 1))


@dataclass(frozen=True)
class Cut:
    """The end of one connection.

    Attributes:
        direction: whose bytes are counted. after: how many of them still pass. how: by what.
        chunk: bytes per write on that connection; 1 is byte by byte.
    """

    direction: Literal["out", "in"]
    after: int
    how: How
    chunk: int = 65536


def cuts_of(seed: int, count: int, mean: int, *, holes: bool = True) -> Iterator[Cut]:
    """The plan of a seed.

    Args:
        count: of cuts. mean: bytes per connection and direction, on the average; each length is as likely as any other
            up to twice that, so that negotiations are hit, too. holes: whether there are black holes among them.
    """
    chance = random.Random(seed)  # noqa: S311 - it has to be the same again
    kinds = [(how, share) for how, share in _SHARES if holes or not how.startswith("hole")]
    for _ in range(count):
        (how,) = chance.choices([kind for kind, _ in kinds], [share for _, share in kinds])
        direction: Literal["out", "in"] = "out" if chance.random() < 0.5 else "in"
        after = chance.randrange(1, 2 * mean)
        # One in fifty comes in small pieces; whole runs of that would measure the proxy.
        chunk = chance.choice((1, 7, 100)) if chance.random() < 0.02 else 65536
        yield Cut(direction, after, how, chunk)


def planner(cuts: Iterator[Cut]) -> Callable[[Connection], None]:
    """Gives each connection the next cut of a plan; those after the last are left alone."""

    def plan(connection: Connection) -> None:
        cut = next(cuts, None)
        if cut is not None:
            connection.rules.append(Rule(cut.direction, _ACTIONS[cut.how], after=cut.after))
            connection.shapes = {"out": Shape(chunk=cut.chunk), "in": Shape(chunk=cut.chunk)}

    return plan
