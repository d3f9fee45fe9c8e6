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


@pytest.mark.parametrize(("size", "taken"), [(100, 3), (60, 3), (59, 2), (30, 2), (29, 1), (1, 1)])
def test_the_first_nodes_are_taken_up_to_a_size_and_at_least_one(size: int, taken: int) -> None:
    buffer, entries = filled(10, 20, 30)
    assert buffer.take(size) == entries[:taken]
    assert len(buffer) == 3 - taken
    assert buffer.size == sum(len(entry.data) for entry in entries[taken:])


def test_what_was_not_written_goes_back_to_the_front_in_its_order() -> None:
    buffer, entries = filled(10, 20, 30)
    buffer.put_back(buffer.take(30))
    assert (buffer.size, buffer.take_all()) == (60, entries)
    assert (buffer.size, len(buffer)) == (0, 0)


def test_a_node_is_withdrawn_by_its_receipt() -> None:
    buffer, entries = filled(10, 20, 30)
    assert buffer.withdraw(entries[1].receipt) is entries[1]
    assert buffer.withdraw(Receipt()) is None
    assert (buffer.size, buffer.take_all()) == (40, [entries[0], entries[2]])


def test_of_nothing_nothing_is_taken() -> None:
    assert WriteBuffer().take(0) == []
