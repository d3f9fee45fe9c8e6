"""The checker of the chaos bench must be seen to fail: each promise is broken here once, by books that lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from bench.chaos.check import Expect, judge
from bench.chaos.record import Death, Record

COUNT = 5


def honest() -> Record:
    """Books of a run in which all went well."""
    record = Record()
    for number in range(1, COUNT + 1):
        record.line(f"G 1.0 {number}")
        record.arrived(number)
        record.line(f"A 2.0 {number} sm")
        record.line(f"F 2.1 {number} acked")
        record.sent_in += 1
        record.line(f"R 2.0 {number}")
    record.line("E 1.0 PCJ_READY {}")
    record.line("M 2.0 1000 0.5 3 2")
    return record


def loses_in_silence(record: Record) -> None:
    record.delivered.remove(3)
    record.delivered_set.discard(3)
    del record.acked[3], record.final[3]
    record.left[3] = "queued"
    record.left[3] = "uncertain"


def acked_but_lost(record: Record) -> None:
    record.delivered.remove(3)
    record.delivered_set.discard(3)


def repeats_what_was_settled(record: Record) -> None:
    record.arrived(2)


def repeats_out_of_order(record: Record) -> None:
    record.delivered[1], record.delivered[2] = record.delivered[2], record.delivered[1]


def arrives_from_nowhere(record: Record) -> None:
    record.arrived(COUNT + 1)


def forgets_a_receipt(record: Record) -> None:
    del record.final[4]


def ends_in_no_end(record: Record) -> None:
    record.final[4] = "written"


def settles_twice(record: Record) -> None:
    record.line("F 3.0 4 acked")


def acks_what_was_dropped(record: Record) -> None:
    record.final[4] = "dropped"


def acks_without_an_event(record: Record) -> None:
    del record.acked[4]


def acks_twice(record: Record) -> None:
    record.line("A 3.0 4 sm")


def loses_inbound(record: Record) -> None:
    record.sent_in += 1


def repeats_inbound(record: Record) -> None:
    record.line("R 3.0 2")


def turns_inbound_round(record: Record) -> None:
    record.received[0], record.received[1] = record.received[1], record.received[0]


def passes_a_bound(record: Record) -> None:
    record.line("M 3.0 1000 0.6 3 11")


def never_reconnects(record: Record) -> None:
    record.events.clear()


def breaks_the_order_of_events(record: Record) -> None:
    record.line("V 3.0 PCJ_READY came in the place 'halted'")


def complains(record: Record) -> None:
    record.stderr = "Task exception was never retrieved"


def grows(record: Record) -> None:
    for sample in range(60):
        record.line(f"M {sample}.0 {(20 + sample) << 20} {sample}.0 1 1")


def loses_what_was_durable(record: Record) -> None:
    record.deaths.append(Death(9.0, "SIGKILL", COUNT))
    record.line("D 1.0 5")
    record.delivered.remove(5)
    record.delivered_set.discard(5)
    del record.acked[5], record.final[5]


def repeats_what_was_committed(record: Record) -> None:
    record.deaths.append(Death(9.0, "SIGKILL", COUNT))
    record.arrived(2)  # acked at 2.0, seven seconds before


LIES: list[tuple[Callable[[Record], None], str]] = [
    (loses_in_silence, "lost in silence"),
    (acked_but_lost, "acked, and never arrived though the server lived"),
    (repeats_what_was_settled, "repeated though not in doubt"),
    (repeats_out_of_order, "out of order"),
    (arrives_from_nowhere, "never given"),
    (forgets_a_receipt, "without a state"),
    (ends_in_no_end, "a state that is no end"),
    (settles_twice, "final twice"),
    (acks_what_was_dropped, "the receipt says otherwise"),
    (acks_without_an_event, "acked without an event"),
    (acks_twice, "acked twice"),
    (loses_inbound, "never came"),
    (repeats_inbound, "came in twice"),
    (turns_inbound_round, "out of order: i-1"),
    (passes_a_bound, "past its bound"),
    (never_reconnects, "READY again 0 times"),
    (breaks_the_order_of_events, "order of events"),
    (complains, "wrote to stderr"),
    (grows, "memory grew"),
    (loses_what_was_durable, "lost in silence"),
    (repeats_what_was_committed, "repeated though not in doubt"),
]


def test_honest_books_break_nothing() -> None:
    figures, broken = judge(honest(), Expect(max_window=10))
    assert broken == []
    assert (figures["sent"], figures["delivered"], figures["lost"], figures["repeated"]) == (COUNT, COUNT, 0, 0)
    assert figures["states"] == {"acked": COUNT}


@pytest.mark.parametrize(("lie", "sentence"), LIES, ids=[lie.__name__ for lie, _ in LIES])
def test_each_broken_promise_is_told(lie: Callable[[Record], None], sentence: str) -> None:
    record = honest()
    expect = Expect(repeated=None, max_window=10)
    if lie is never_reconnects:
        expect = dataclasses.replace(expect, reconnects=1)
    lie(record)
    _, broken = judge(record, expect)
    assert any(sentence in each for each in broken), broken


def test_a_repeat_that_was_named_is_allowed_within_the_window_and_not_where_nothing_may_be_repeated() -> None:
    record = honest()
    record.line("U 1.5 2 resend")
    record.arrived(2)
    figures, broken = judge(record, Expect(repeated=None))
    assert (broken, figures["repeated"]) == ([], 1)
    _, broken = judge(record, Expect())
    assert broken == ["repeated 1 (2), at most 0 expected"]


def test_what_a_killed_server_had_acked_is_counted_apart() -> None:
    record = honest()
    record.server_died = True
    acked_but_lost(record)
    figures, broken = judge(record, Expect())
    assert (broken, figures["lost"], figures["acked_then_lost_by_server"]) == ([], 0, 1)
