"""What waits to be written to one connection."""

from __future__ import annotations

import pytest

from pcj.queue import Entry, Receipt, WriteBuffer


def filled(*sizes: int) -> tuple[WriteBuffer, list[Entry]]:
    entries = [Entry(b"", b"x" * size, 0.0) for size in sizes]
    buffer = WriteBuffer()
    for entry in entries:
        buffer.append(entry)
    return buffer, entries


@pytest.mark.parametrize(
    ("nodes", "size", "taken"),
    [
        (3, 100, 3),
        (3, 60, 3),
        (3, 59, 2),
        (3, 30, 2),
        (3, 29, 1),
        (3, 1, 1),
        (3, 0, 1),
        (2, 100, 2),
        (1, 100, 1),
        (2, 29, 1),
        (9, 60, 3),
    ],
)
def test_the_first_nodes_are_taken_up_to_a_count_and_a_size_and_at_least_one(nodes: int, size: int, taken: int) -> None:
    buffer, entries = filled(10, 20, 30)
    assert buffer.take(nodes, size) == entries[:taken]
    assert len(buffer) == 3 - taken
    assert buffer.size == sum(len(entry.data) for entry in entries[taken:])
    assert buffer.take_all() == entries[taken:]


def test_what_was_not_written_goes_back_to_the_front_in_its_order() -> None:
    buffer, entries = filled(10, 20, 30)
    buffer.put_back(buffer.take(3, 30))
    assert (buffer.size, buffer.take_all()) == (60, entries)
    assert (buffer.size, len(buffer)) == (0, 0)


def test_what_is_past_its_time_waits_no_more_wherever_it_stands() -> None:
    buffer = WriteBuffer()
    times = (5.0, 2.0, 9.0, 2.5)
    entries = [Entry(b"", b"x" * 10, 0.0, expires) for expires in times]
    for entry in entries:
        buffer.append(entry)
    assert buffer.expire(1.999) == []
    assert buffer.expire(2.5) == [entries[1], entries[3]]
    assert (len(buffer), buffer.size) == (2, 20)
    assert buffer.take_all() == [entries[0], entries[2]]


def test_a_node_is_withdrawn_by_its_receipt() -> None:
    buffer, entries = filled(10, 20, 30)
    assert buffer.withdraw(entries[1].receipt) is entries[1]
    assert buffer.withdraw(Receipt()) is None
    assert (buffer.size, buffer.take_all()) == (40, [entries[0], entries[2]])


def test_of_nothing_nothing_is_taken() -> None:
    assert WriteBuffer().take(1, 0) == []
    assert WriteBuffer().expire(1e9) == []
    assert WriteBuffer().take_all() == []
