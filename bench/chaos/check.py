"""Compares the books of both ends, and says what the promises are worth: figures, and each that was broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench.chaos.record import Record

__all__ = ["COMMIT_SECONDS", "Expect", "judge"]

#: What a commit of a durable queue, and the way of an ack to it, may take: acked later than this before a SIGKILL, a
#: node may be repeated.
COMMIT_SECONDS = 1.0
#: A process that has lived for a quarter of its run has all it needs: it may not grow past this share, and this much.
_GROWTH, _GROWTH_BYTES = 1.15, 8 << 20
_SHOWN = 5
_FINAL = ("acked", "uncertain", "expired", "dropped")


@dataclass(frozen=True)
class Expect:
    """What a run must show beyond what must always hold.

    Attributes:
        lost: at most so many of ours do not arrive (but for those expired, given up or still held); None: all that were
            in doubt may. repeated: at most so many arrive twice; None: as many as were in doubt. in_lost, in_repeated:
            the same of those sent to us; None: the server's affair. reconnects: at least so many.
        in_order: also what comes in must be in order.
        max_queue, max_window: bounds of the broker's, if they are to be held.
    """

    lost: int | None = 0
    repeated: int | None = 0
    in_lost: int | None = 0
    in_repeated: int | None = 0
    reconnects: int = 0
    in_order: bool = True
    max_queue: int | None = None
    max_window: int | None = None


def judge(record: Record, expect: Expect) -> tuple[dict[str, Any], list[str]]:
    """The figures of a run, and one sentence for each promise that was broken.

    Returns:
        (figures, broken): the first can be written as JSON.
    """
    broken: list[str] = []
    figures = _out(record, expect, broken) | _in(record, expect, broken) | _link(record, expect, broken)
    figures |= _process(record, broken)
    if record.violations:
        broken.append(f"the order of events was broken: {'; '.join(record.violations[:_SHOWN])}")
    if record.stderr:
        broken.append(f"the broker's process wrote to stderr: {record.stderr[-500:]!r}")
    return figures, broken


def _some(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return f"{len(ordered)} ({', '.join(map(str, ordered[:_SHOWN]))}{', ...' if len(ordered) > _SHOWN else ''})"


def _named(numbers: Iterable[int]) -> dict[str, object]:
    ordered = sorted(numbers)
    return {"count": len(ordered), "first": [f"o-{number}" for number in ordered[:_SHOWN]]}


def _disorder(numbers: Iterable[int], skip: set[int]) -> tuple[int, int] | None:
    """The first number that comes after a greater one, repeats left out: (the greater, it)."""
    seen: set[int] = set()
    highest = 0
    for number in numbers:
        if number in seen or number in skip:
            continue
        seen.add(number)
        if number < highest:
            return highest, number
        highest = number
    return None


def _out(record: Record, expect: Expect, broken: list[str]) -> dict[str, Any]:
    arrived = record.delivered_set
    # A number may have been given in the last instant before a SIGKILL, its line lost with the process.
    known = record.given | arrived if record.deaths else record.given
    if not arrived <= known:
        broken.append(f"messages arrived that were never given: {_some(arrived - known)}")
    expired = {number for number in known if record.state(number) == "expired"}
    dropped = {number for number in known if record.state(number) == "dropped"}
    held = {number for number in known if record.state(number) == "queued"} - arrived
    missing = known - arrived - expired - dropped - held
    doubted = set(record.doubts)
    acked_then_lost = missing & record.acked.keys()  # also what was in doubt before that
    gone_with_process = (missing - acked_then_lost - record.durable - doubted) if record.deaths else set()
    silent = missing - doubted - acked_then_lost - record.returned - gone_with_process
    repeats = Counter(record.delivered)
    again = {number: count - 1 for number, count in repeats.items() if count > 1}

    if acked_then_lost and not record.server_died:
        broken.append(f"acked, and never arrived though the server lived: {_some(acked_then_lost)}")
    if silent:
        broken.append(f"lost in silence, with no doubt named: {_some(silent)}")
    if expect.lost is not None and len(missing - acked_then_lost - gone_with_process) > expect.lost:
        broken.append(f"lost {_some(missing - acked_then_lost - gone_with_process)}, at most {expect.lost} expected")
    _repeats(record, expect, again, broken)
    held_back = {number for number, nexts in record.doubts.items() if "hold" in nexts}
    if wrong := _disorder(record.delivered, held_back):
        broken.append(f"out of order: o-{wrong[1]} arrived for the first time after o-{wrong[0]}")
    _states(record, broken)
    return {
        "sent": len(known),
        "refused": len(record.refused),
        "delivered": len(arrived),
        "lost": len(missing - acked_then_lost - gone_with_process),
        "lost_in_silence": len(silent),
        "acked_then_lost_by_server": len(acked_then_lost),
        "lost_with_process_undurable": len(gone_with_process),
        "returned": len(record.returned),
        "repeated": sum(again.values()),
        "uncertain": _named(doubted),
        "dropped": len(dropped),
        "expired": len(expired),
        "held": len(held),
        "acked_by": dict(record.acked_by),
        "states": dict(Counter(record.state(number) or "unknown" for number in known)),
    }


def _repeats(record: Record, expect: Expect, again: dict[int, int], broken: list[str]) -> None:
    """Settled and repeated exclude each other: each repetition has a doubt, named before, or the death of a process."""
    unexplained = []
    for number, count in again.items():
        allowed = sum(1 for following in record.doubts.get(number, ()) if following in ("resend", "hold", "resume"))
        acked = record.acked.get(number)
        allowed += sum(1 for death in record.deaths if acked is None or acked > death.at - COMMIT_SECONDS)
        if count > allowed:
            unexplained.append(number)
    if unexplained:
        broken.append(f"repeated though not in doubt: {_some(unexplained)}")
    total = sum(again.values())
    if expect.repeated is not None and total > expect.repeated:
        broken.append(f"repeated {_some(again)}, at most {expect.repeated} expected")


def _states(record: Record, broken: list[str]) -> None:
    """The sum of final states is the number of `output`s, each exactly once."""
    if record.settled_twice:
        broken.append(f"receipts were final twice: {_some(record.settled_twice)}")
    if record.acked_twice and not record.deaths:
        broken.append(f"acked twice: {_some(record.acked_twice)}")
    open_ = {n for n, state in record.final.items() if state not in _FINAL}
    open_ |= {n for n, state in record.left.items() if state not in ("queued", "uncertain")}
    if open_:
        broken.append(f"receipts ended in a state that is no end: {_some(open_)}")
    both = {number for number in record.acked if record.final.get(number, "acked") != "acked"}
    if both:
        broken.append(f"acked, and yet the receipt says otherwise: {_some(both)}")
    if record.deaths:
        return  # the receipts of a dead process are dead, too
    without = record.given - record.final.keys() - record.left.keys()
    if without:
        broken.append(f"receipts without a state at the end: {_some(without)}")
    if overlap := record.final.keys() & record.left.keys():
        broken.append(f"receipts both final and open: {_some(overlap)}")
    silent = {n for n, state in record.final.items() if state == "acked"} - record.acked.keys()
    if silent:
        broken.append(f"acked without an event: {_some(silent)}")


def _in(record: Record, expect: Expect, broken: list[str]) -> dict[str, Any]:
    received = record.received_set
    lost = set(range(1, record.sent_in + 1)) - received
    repeated = len(record.received) - len(received)
    if expect.in_lost is not None and len(lost) > expect.in_lost:
        broken.append(f"of those sent to us {_some(lost)} never came, at most {expect.in_lost} expected")
    allowed = expect.in_repeated
    if allowed is not None and repeated > allowed and not (record.deaths or record.counterpart_resent):
        broken.append(f"{repeated} came in twice, at most {allowed} expected")
    if expect.in_order and (wrong := _disorder(record.received, set())):
        broken.append(f"out of order: i-{wrong[1]} came in for the first time after i-{wrong[0]}")
    return {
        "in_sent": record.sent_in,
        "in_received": len(received),
        "never_reached_us": len(lost),
        "in_returned": len(lost & record.returned_in),
        "in_repeated": 0 if record.deaths or record.counterpart_resent else repeated,
        "repeated_after_process_death": repeated if record.deaths else 0,
        "in_resent_by_counterpart": repeated if record.counterpart_resent and not record.deaths else 0,
    }


def _link(record: Record, expect: Expect, broken: list[str]) -> dict[str, Any]:
    readies = record.count("PCJ_READY")
    reconnects = max(0, readies - 1)
    if reconnects < expect.reconnects:
        broken.append(f"READY again {reconnects} times, at least {expect.reconnects} expected")
    for name, bound, reached in (
        ("queue", expect.max_queue, record.max_queue),
        ("window of unproved nodes", expect.max_window, record.max_window),
    ):
        if bound is not None and reached > bound:
            broken.append(f"the {name} reached {reached}, past its bound of {bound}")
    return {
        "reconnects": reconnects,
        "resumed": record.count("SM_RESUMED"),
        "resume_refused": record.count("SM_RESUMEFAILED"),
        "refused_because": dict(Counter(str(detail.get("condition")) for detail in record.details("SM_RESUMEFAILED"))),
        "sessions_lost": record.count("SESSION_LOST"),
        "probes": record.count("PROBE"),
        "cuts": len(record.cuts),
        "cuts_by": dict(Counter(how for _, _, how in record.cuts)),
        "longest_outage_s": round(max(record.outages(), default=0.0), 3),
        "max_queue": record.max_queue,
        "max_window": record.max_window,
        "longest_drain_s": round(record.longest_drain, 3),
    }


def _process(record: Record, broken: list[str]) -> dict[str, Any]:
    if not record.samples:
        return {}
    sizes = [size for _, size, _ in record.samples]
    quarter = max(sizes[: max(1, len(sizes) // 4)])
    end = sizes[-1]
    if len(sizes) >= 40 and not record.deaths and end > quarter * _GROWTH + _GROWTH_BYTES:
        broken.append(f"memory grew: {quarter >> 10} kB after a quarter of the run, {end >> 10} kB at its end")
    cpu = 0.0
    before = 0.0
    for _, _, used in record.samples:
        cpu += used - before if used >= before else used
        before = used
    return {
        "rss_kb": {"start": sizes[0] >> 10, "quarter": quarter >> 10, "end": end >> 10, "peak": max(sizes) >> 10},
        "cpu_s": round(cpu, 2),
        "deaths": [death.how for death in record.deaths],
    }
