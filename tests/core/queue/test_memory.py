"""The queue in memory: order, bounds by count, bytes and age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcj.errors import QueueFull
from pcj.queue import Entry, MemoryQueue, ReceiptState


def entry(data: bytes = b"<message/>", at: float = 0.0) -> Entry:
    return Entry(data, data, at)


def queue(*entries: Entry, max_nodes: int = 100, max_bytes: int = 10_000, max_age: float = 60.0) -> MemoryQueue:
    made = MemoryQueue(max_nodes, max_bytes, max_age)
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


def test_nodes_past_the_bound_of_age_are_given_up_and_say_so() -> None:
    old, young = entry(b"old", 0.0), entry(b"young", 30.0)
    made = queue(old, young)
    assert made.next_expiry() == 60.0
    assert made.expire(59.999) == []
    assert made.expire(60.0) == [old]
    assert (old.receipt.state, old.receipt.reason) == (
        ReceiptState.EXPIRED,
        "waited longer than queue_max_age (60 s)",
    )
    assert young.receipt.state is ReceiptState.QUEUED
    assert (len(made), made.size, made.next_expiry()) == (1, 5, 90.0)
    assert made.expire(1e9) == [young]
    assert (len(made), made.size, made.next_expiry()) == (0, 0, None)


def test_what_was_put_back_expires_by_the_age_it_had() -> None:
    first, second = entry(at=0.0), entry(at=50.0)
    made = queue(first)
    taken = made.take_all()
    made.put(second)
    made.put_back(taken)
    assert made.next_expiry() == 60.0
    assert made.expire(70.0) == [first]


@given(st.lists(st.one_of(st.binary(max_size=5), st.sampled_from(["take", "back", "expire"])), max_size=40))
def test_the_count_and_the_size_are_always_those_of_what_waits(moves: list[bytes | str]) -> None:
    made = queue(max_age=5.0)
    taken: list[Entry] = []
    waiting: list[Entry] = []
    for now, move in enumerate(moves):
        if isinstance(move, bytes):
            waiting.append(entry(move, float(now)))
            made.put(waiting[-1])
        elif move == "take":
            assert made.take_all() == waiting
            taken, waiting = waiting, []
        elif move == "back":
            made.put_back(taken)
            taken, waiting = [], [*taken, *waiting]
        else:
            gone = made.expire(float(now))
            assert gone == waiting[: len(gone)]
            waiting = waiting[len(gone) :]
            assert all(now - each.at < 5.0 for each in waiting[:1])
        assert (len(made), made.size) == (len(waiting), sum(len(each.data) for each in waiting))
