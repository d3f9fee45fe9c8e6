"""The books of one run: what the broker under test said and saw, and what its counterpart did."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Death", "Record"]


@dataclass(frozen=True)
class Death:
    """The end of one life of the broker's process: when, how ("SIGKILL", "SIGTERM"), and its last number given."""

    at: float
    how: str
    given: int


@dataclass
class Record:
    """Everything that is known of a run. Numbers are those in the messages' ids; times are of `time.monotonic`."""

    began: float = field(default_factory=time.monotonic)
    # Out, as the broker under test tells it
    given: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    durable: set[int] = field(default_factory=set)
    acked: dict[int, float] = field(default_factory=dict)
    acked_by: Counter[str] = field(default_factory=Counter)
    acked_twice: list[int] = field(default_factory=list)
    doubts: dict[int, list[str]] = field(default_factory=dict)
    final: dict[int, str] = field(default_factory=dict)
    settled_twice: list[int] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)
    dropped: dict[int, str] = field(default_factory=dict)
    returned: set[int] = field(default_factory=set)
    # ... and as its counterpart saw it
    delivered: list[int] = field(default_factory=list)
    delivered_at: dict[int, float] = field(default_factory=dict)
    out_by_second: Counter[int] = field(default_factory=Counter)
    # In
    sent_in: int = 0
    returned_in: set[int] = field(default_factory=set)
    received: list[int] = field(default_factory=list)
    in_by_second: Counter[int] = field(default_factory=Counter)
    # The rest
    events: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    samples: list[tuple[float, int, float]] = field(default_factory=list)
    cuts: list[tuple[float, int, str]] = field(default_factory=list)
    max_queue: int = 0
    max_window: int = 0
    longest_drain: float = 0.0
    server_died: bool = False
    counterpart_resent: int = 0
    stderr: str = ""
    _delivered: set[int] = field(default_factory=set)
    _received: set[int] = field(default_factory=set)

    def line(self, line: str) -> None:
        """Enter one line of the broker's journal (see `subject.Journal`)."""
        kind, when, rest = line.rstrip("\n").split(" ", 2)
        at = float(when)
        if kind in "EV":
            self._event(kind, at, rest)
            return
        first, *more = rest.split(" ")
        if kind == "M":
            self.samples.append((at, int(first), float(more[0])))
            self.max_queue, self.max_window = max(self.max_queue, int(more[1])), max(self.max_window, int(more[2]))
            return
        if kind == "W":
            self.longest_drain = max(self.longest_drain, float(first))
            return
        number = int(first)
        if kind == "G":
            self.given.add(number)
        elif kind == "Q":
            self.refused.add(number)
        elif kind == "D":
            self.durable.add(number)
        elif kind == "A":
            if number in self.acked:
                self.acked_twice.append(number)
            self.acked[number] = at
            self.acked_by[more[0]] += 1
        elif kind == "U":
            self.doubts.setdefault(number, []).append(more[0])
        elif kind == "X":
            self.dropped[number] = more[0]
        elif kind == "F":
            if number in self.final:
                self.settled_twice.append(number)
            self.final[number] = more[0]
        elif kind == "L":
            self.left[number] = more[0]
        elif kind == "R":
            self.received.append(number)
            self._received.add(number)
            self.in_by_second[int(at - self.began)] += 1
        elif kind == "B":
            self.returned.add(number)
        else:
            raise ValueError(f"the journal has a line of no kind: {line!r}")

    def _event(self, kind: str, at: float, rest: str) -> None:
        if kind == "V":
            self.violations.append(rest)
            return
        name, _, detail = rest.partition(" ")
        self.events.append((at, name, json.loads(detail or "{}")))

    def arrived(self, number: int) -> None:
        """The counterpart received one of ours."""
        now = time.monotonic()
        self.delivered.append(number)
        self._delivered.add(number)
        self.delivered_at.setdefault(number, now)
        self.out_by_second[int(now - self.began)] += 1

    def life_ends(self) -> None:
        """A process has ended. What it left open is open: the next one goes on with it, under receipts of its own."""
        self.left.clear()
        for number in [number for number, state in self.final.items() if state == "written"]:
            del self.final[number]

    # ---- to be asked

    @property
    def delivered_set(self) -> set[int]:
        """The numbers of ours that arrived."""
        return self._delivered

    @property
    def received_set(self) -> set[int]:
        """The numbers that came in."""
        return self._received

    def state(self, number: int) -> str:
        """What is known of a number of ours: its final state, or the last one seen, or "" ."""
        if number in self.final:
            return self.final[number]
        if number in self.acked:
            return "acked"
        if number in self.dropped:
            return "expired" if self.dropped[number] == "expired" else "dropped"
        return self.left.get(number, "")

    @property
    def settled(self) -> set[int]:
        """The numbers of ours of which nothing more is to come."""
        return self.final.keys() | self.acked.keys() | self.dropped.keys()

    def count(self, event: str) -> int:
        """How often an event was fired."""
        return sum(1 for _, name, _ in self.events if name == event)

    def details(self, event: str) -> list[dict[str, Any]]:
        """The details of each time an event was fired."""
        return [detail for _, name, detail in self.events if name == event]

    def outages(self) -> list[float]:
        """Seconds without a link, after it stood the first time: from each end of it to the READY that followed."""
        gaps, lost = [], None
        ready = False
        ends = sorted(
            [(at, name) for at, name, _ in self.events if name in ("PCJ_READY", "PCJ_SOCKETDISCONNECT")]
            + [(death.at, "PCJ_SOCKETDISCONNECT") for death in self.deaths]
        )
        for at, name in ends:
            if name == "PCJ_READY":
                if lost is not None:
                    gaps.append(at - lost)
                ready, lost = True, None
            elif ready:
                ready, lost = False, at
        return gaps
