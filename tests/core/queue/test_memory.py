"""The queue in memory: order, bounds by count, bytes and age."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcj.errors import QueueFull
from pcj.queue import Entry, MemoryQueue, Receipt, ReceiptState


def entry(data: bytes = b"<message/>", expires: float = 60.0) -> Entry:
    return Entry(data, data, 0.0, expires)


def queue(*entries: Entry, max_nodes: int = 100, max_bytes: int = 10_000) -> MemoryQueue:
    made = MemoryQueue(max_nodes, max_bytes)
    for each in entries:
        made.put(each)
    return made


def test_what_was_put_first_is_taken_first() -> None:
    entries = [entry(b"%d" % number) for number in range(5)]
    made = queue(*entries)
    assert (len(made), made.size) == (5, 5)
    assert made.take_all() == entries
    assert (len(made), made.size, made.take_all()) == (0, 0, [])


def test_what_is_put_back_comes_before_what_came_meanwhile_in_its_own_order() -> None:
    old = [entry(b"old"), entry(b"older")]
    new = [entry(b"new")]
    made = queue(*old)
    taken = made.take_all()
    made.put(new[0])
    made.put_back(iter(taken))
    assert made.size == 11
    assert made.take_all() == [*old, *new]


def test_to_put_nothing_back_changes_nothing() -> None:
    made = queue(entry())
    made.put_back([])
    assert (len(made), made.size) == (1, 10)


@pytest.mark.parametrize(
    ("waiting", "others", "has_room"),
    [(0, 0, True), (2, 0, True), (3, 0, False), (1, 1, True), (1, 2, False), (0, 3, False)],
)
def test_the_bound_of_nodes_counts_those_that_wait_elsewhere(waiting: int, others: int, has_room: bool) -> None:
    made = queue(*(entry() for _ in range(waiting)), max_nodes=3)
    if has_room:
        made.check_room(b"x", others=others)
    else:
        with pytest.raises(QueueFull, match=r"3 nodes wait to be sent; queue_max_nodes"):
            made.check_room(b"x", others=others)
    assert len(made) == waiting


@pytest.mark.parametrize(
    ("waiting", "other_bytes", "size", "has_room"),
    [
        (0, 0, 100, True),
        (0, 0, 101, False),
        (60, 0, 40, True),
        (60, 0, 41, False),
        (60, 30, 10, True),
        (60, 30, 11, False),
        (100, 0, 0, True),
    ],
)
def test_the_bound_of_bytes_counts_those_that_wait_elsewhere(
    waiting: int, other_bytes: int, size: int, has_room: bool
) -> None:
    made = queue(entry(b"x" * waiting), max_bytes=100)
    if has_room:
        made.check_room(b"x" * size, other_bytes=other_bytes)
    else:
        with pytest.raises(QueueFull, match=f"queue_max_bytes has no room for {size} more"):
            made.check_room(b"x" * size, other_bytes=other_bytes)


def test_what_is_put_back_had_its_room_before() -> None:
    made = queue(entry(), max_nodes=1)
    taken = made.take_all()
    made.put(entry())
    made.put_back(taken)
    assert len(made) == 2
    with pytest.raises(QueueFull):
        made.check_room(b"")


def test_each_node_waits_until_its_own_time_is_over() -> None:
    soon, late, later = entry(b"soon", 10.0), entry(b"late", 90.0), entry(b"later", math.inf)
    made = queue(late, soon, later)
    assert made.next_expiry() == 10.0
    assert made.expire(9.999) == []
    assert made.expire(10.0) == [soon]
    assert (len(made), made.size, made.next_expiry()) == (2, 9, 90.0)
    assert made.expire(1e9) == [late]
    assert (list(made), made.size, made.next_expiry()) == ([later], 5, None)
    assert soon.receipt.state is late.receipt.state is ReceiptState.QUEUED  # the outbox says what became of them


def test_what_was_put_back_expires_when_it_would_have() -> None:
    first, second = entry(expires=60.0), entry(expires=110.0)
    made = queue(first)
    taken = made.take_all()
    assert made.next_expiry() is None
    made.put(second)
    made.put_back(taken)
    assert made.next_expiry() == 60.0
    assert made.expire(70.0) == [first]
    assert list(made) == [second]


def test_the_node_of_a_receipt_is_taken_once_and_the_others_keep_their_order() -> None:
    entries = [entry(b"%d" % number, float(number)) for number in range(1, 5)]
    made = queue(*entries)
    assert made.take(entries[0].receipt) is entries[0]
    assert made.take(entries[2].receipt) is entries[2]
    assert made.take(entries[2].receipt) is None
    assert made.take(Receipt()) is None
    assert (made.size, made.expire(2.0), made.take_all()) == (2, [entries[1]], [entries[3]])


MOVES = st.one_of(
    st.tuples(st.just("put"), st.binary(max_size=5), st.integers(0, 50)),
    st.tuples(st.sampled_from(["take all", "back", "expire"])),
    st.tuples(st.just("take"), st.integers(0, 9)),
)


@given(st.lists(MOVES, max_size=40))
def test_the_count_the_size_and_the_order_are_always_those_of_what_waits(moves: list[tuple[Any, ...]]) -> None:
    made = queue()
    taken: list[Entry] = []
    waiting: list[Entry] = []
    for now, (move, *given_) in enumerate(moves):
        if move == "put":
            waiting.append(entry(given_[0], float(given_[1])))
            made.put(waiting[-1])
        elif move == "take all":
            assert made.take_all() == waiting
            taken, waiting = waiting, []
        elif move == "back":
            made.put_back(taken)
            taken, waiting = [], [*taken, *waiting]
        elif move == "take" and waiting:
            one = waiting.pop(given_[0] % len(waiting))
            assert made.take(one.receipt) is one
        elif move == "expire":
            assert made.expire(float(now)) == [each for each in waiting if each.expires <= now]
            waiting = [each for each in waiting if each.expires > now]
        assert (list(made), len(made)) == (waiting, len(waiting))
        assert made.size == sum(len(each.data) for each in waiting)
        when = made.next_expiry()
        # A look too early finds nothing, one too late leaves a node waiting past its time.
        assert (when is None) == (not waiting)
        assert when is None or when <= min(each.expires for each in waiting)
