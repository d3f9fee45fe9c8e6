"""The ledger: what is written and not proved, in order, and what may be written next."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from pcj.queue import Entry, Ledger, ReceiptState

ALL = sys.maxsize


def entries(count: int, size: int = 10) -> list[Entry]:
    return [Entry(b"x" * size, b"x" * size, 0.0) for _ in range(count)]


def ledger(*, max_nodes: int = 5, max_bytes: int = 100, every: int = 3) -> Ledger:
    return Ledger(max_nodes, max_bytes, every)


def write(made: Ledger, some: Sequence[Entry]) -> None:
    """As an outflow does."""
    made.written(some, sum(len(entry.data) for entry in some))


class Noted:
    """A durable queue that only listens."""

    def __init__(self) -> None:
        self.marks: list[tuple[list[Entry], bool]] = []
        self.forgotten: list[Entry] = []

    def mark(self, entries: Sequence[Entry], *, written: bool) -> None:
        self.marks.append((list(entries), written))

    def forget(self, entries: Sequence[Entry]) -> None:
        self.forgotten += entries


def states(some: Sequence[Entry]) -> str:
    return " ".join(f"{entry.receipt.state}{'!' if entry.receipt.final else ''}" for entry in some)


@pytest.mark.parametrize(
    ("place", "proved"),
    [(0, 0), (1, 1), (3, 3), (4, 4), (5, 4), (10**6, 4), (-1, 0), (-(10**6), 0)],
)
def test_a_proof_of_a_place_proves_all_before_it_and_no_other(place: int, proved: int) -> None:
    made, some = ledger(), entries(4)
    write(made, some)
    assert made.prove(place) == some[:proved]
    assert states(some) == " ".join(["acked!"] * proved + ["written"] * (4 - proved))
    assert (made.proved, made.total, len(made)) == (proved, 4, 4 - proved)


def test_bytes_make_room_once_all_is_proved_that_was_written_with_them() -> None:
    made, some = ledger(), entries(5)
    write(made, some[:3])
    write(made, some[3:])
    sizes = []
    for place in range(1, 6):
        made.prove(place)
        sizes.append(made.size)
    assert sizes == [50, 50, 20, 20, 0]


def test_a_proof_that_comes_late_or_twice_proves_nothing_more() -> None:
    made, some = ledger(), entries(5)
    write(made, some[:3])
    assert made.prove(3) == some[:3]
    write(made, some[3:])
    assert made.prove(3) == []
    assert made.prove(2) == []
    assert made.prove(4) == [some[3]]
    assert (made.proved, made.total) == (4, 5)


@pytest.mark.parametrize(
    ("written", "suspects", "enabled", "allowed"),
    [
        # (nodes, bytes each) in the window, of at most 5 nodes and 100 bytes
        ((0, 10), 0, True, (5, 100)),
        ((4, 10), 0, True, (1, 60)),
        ((5, 10), 0, True, (0, 0)),
        ((4, 24), 0, True, (1, 4)),
        ((4, 25), 0, True, (0, 0)),
        ((1, 100), 0, True, (0, 0)),
        ((1, 1000), 0, True, (0, 0)),  # one that is larger than all may go alone
        ((1, 10), 1, True, (0, 0)),  # nothing goes while a suspect is unproved
        ((5, 10), 0, False, (ALL, ALL)),
        ((0, 10), 1, False, (ALL, ALL)),
    ],
)
def test_no_more_is_written_than_the_window_has_room_for(
    written: tuple[int, int], suspects: int, enabled: bool, allowed: tuple[int, int]
) -> None:
    made = ledger()
    write(made, entries(*written))
    made.suspects = suspects
    made.enabled = enabled
    assert made.allowance() == allowed


@pytest.mark.parametrize(
    ("written", "asked", "more", "due"),
    [(0, 0, 2, False), (0, 0, 3, True), (2, 0, 0, False), (2, 0, 1, True), (3, 3, 2, False), (3, 3, 3, True)],
)
def test_a_proof_is_asked_for_behind_every_third_node(written: int, asked: int, more: int, due: bool) -> None:
    made = ledger(every=3)
    write(made, entries(written))
    made.asked = asked
    assert made.is_due(more) is due
    made.enabled = False
    assert made.is_due(more) is False


def test_where_nothing_proves_a_node_that_is_written_is_done_with_and_says_so() -> None:
    made, some = ledger(), entries(3)
    made.enabled = False
    write(made, some)
    assert states(some) == "written! written! written!"
    assert some[0].receipt.reason == "nothing proves it on this link"
    assert (len(made), made.size, made.total) == (0, 0, 0)


def test_what_no_server_counts_has_no_place_in_the_window() -> None:
    made, some = ledger(), entries(3)
    made.odd = True
    some[1].counted = False
    write(made, some)
    assert states(some) == "written written! written"
    assert (list(made.window), made.total) == ([some[0], some[2]], 2)
    assert made.prove(2) == [some[0], some[2]]


def test_a_proved_suspect_is_none_any_more() -> None:
    made, some = ledger(), entries(3)
    some[0].doubts = some[2].doubts = 1
    made.suspects = 2
    write(made, some)
    made.prove(1)
    assert made.suspects == 1
    made.prove(2)
    assert made.suspects == 1
    made.prove(3)
    assert made.suspects == 0


def test_a_new_session_counts_from_its_own_beginning() -> None:
    made, some = ledger(), entries(3)
    write(made, some)
    made.prove(1)
    assert made.take_all() == some[1:]
    made.begin()
    assert (made.total, made.asked, made.proved, len(made), made.size) == (0, 0, 0, 0, 0)
    write(made, some[1:])
    assert made.prove(2) == some[1:]


def test_a_session_that_goes_on_counts_on() -> None:
    made, some = ledger(), entries(4)
    write(made, some[:3])
    made.prove(1)
    again = made.take_all()
    made.go_on(1)
    assert (made.total, made.asked, made.proved) == (1, 1, 1)
    write(made, [*again, some[3]])
    assert (made.total, made.proved) == (4, 1)
    assert made.prove(4) == some[1:]


def test_what_another_process_wrote_stands_behind_the_place_it_had() -> None:
    made, some = ledger(), entries(2)
    made.put_back(some)
    made.go_on(7)
    assert (made.total, made.asked, made.proved, made.size) == (9, 7, 7, 20)
    assert made.prove(8) == [some[0]]


def test_a_durable_queue_hears_of_each_node_with_its_place_in_the_session() -> None:
    made, some, noted = ledger(), entries(4), Noted()
    made.marks = noted
    write(made, some[:2])
    made.odd = True
    some[2].counted = False
    write(made, some[2:])
    assert noted.marks == [(some[:2], True), ([some[3]], True)]
    assert [entry.number for entry in some] == [1, 2, None, 3]
    assert noted.forgotten == [some[2]]  # no proof will ever take it off the disk


class Machine(RuleBasedStateMachine):
    """The ledger beside a list of what was written, a count of what is proved, and a set of suspects."""

    fresh = Bundle("fresh")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = ledger(max_nodes=6, max_bytes=60, every=4)
        self.noted = Noted()
        self.ledger.marks = self.noted
        self.written: list[Entry] = []  # of this session, in order
        self.base = 0  # its place before the first of them
        self.proved = 0  # of them
        self.unwritten: list[Entry] = []  # taken out of the window
        self.suspects = 0
        self.asked = 0

    @property
    def window(self) -> list[Entry]:
        return self.written[self.proved :]

    @rule(target=fresh, sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4))
    def make(self, sizes: list[int]) -> object:
        return multiple(*(entries(1, size)[0] for size in sizes))

    @rule(given=st.lists(consumes(fresh), min_size=1, max_size=8, unique_by=id))
    def write(self, given: list[Entry]) -> None:
        nodes, _ = self.ledger.allowance()
        due = self.ledger.is_due(len(given[:nodes]))
        given = given[:nodes]
        before = self.base + len(self.written)
        if given and due:
            self.asked = self.ledger.asked = before + len(given)
        write(self.ledger, given)
        self.written += given
        assert [entry.number for entry in given] == list(range(before + 1, before + 1 + len(given)))
        assert self.noted.marks[-1] == (given, True)
        assert all(entry.receipt.state is ReceiptState.WRITTEN for entry in given)

    @rule(ahead=st.integers(-3, 9))
    def prove(self, ahead: int) -> None:
        count = max(0, min(ahead, len(self.window)))
        expected = self.window[:count]
        assert self.ledger.prove(self.base + self.proved + ahead) == expected
        self.proved += count
        self.suspects -= sum(entry.doubts > 0 for entry in expected)
        assert all(entry.receipt.state is ReceiptState.ACKED and entry.receipt.final for entry in expected)

    @rule()
    def refused(self) -> None:
        """The server ends the stream with an error: who is unproved is suspected (A12)."""
        for entry in self.ledger.window:
            entry.doubts += 1
        self.ledger.put_back(self.ledger.take_all())  # as a link does whose session may go on
        self.suspects = len(self.window)

    @rule(resumed=st.booleans(), more=st.integers(0, 3))
    def session(self, resumed: bool, more: int) -> None:
        """The link is lost, and what follows goes on behind what the server says it has, or begins anew."""
        if resumed:
            more = min(more, len(self.window))
            self.prove(more)
        place = self.base + self.proved
        taken = self.ledger.take_all()
        assert taken == self.window
        self.suspects = 0
        if resumed:
            self.ledger.go_on(place)
            self.base, self.asked = place, place
        else:
            self.ledger.begin()
            self.base = self.asked = 0
        self.written, self.proved = [], 0
        self.unwritten += taken

    @rule()
    def again(self) -> None:
        """What was taken out of the window goes out again, as far as there is room."""
        nodes, _ = self.ledger.allowance()
        given, self.unwritten = self.unwritten[:nodes], self.unwritten[nodes:]
        write(self.ledger, given)
        self.written += given

    @invariant()
    def agrees(self) -> None:
        assert list(self.ledger.window) == self.window
        size, most = sum(len(entry.data) for entry in self.window), sum(len(entry.data) for entry in self.written)
        assert size <= self.ledger.size <= most
        assert self.window or not self.ledger.size
        assert self.ledger.total == self.base + len(self.written)
        assert self.ledger.proved == self.base + self.proved
        assert self.ledger.asked == self.asked
        assert self.ledger.suspects == self.suspects
        assert len(self.ledger) == len(self.window)

    @invariant()
    def room(self) -> None:
        nodes, size = self.ledger.allowance()
        window = self.window
        if self.suspects:
            assert nodes == (0 if window else 1)
        elif len(window) >= 6 or sum(len(entry.data) for entry in window) >= 60:
            assert (nodes, size) == (0, 0)
        else:
            assert nodes in (0, 6 - len(window))
            assert nodes or self.ledger.size >= 60
            assert window or nodes == 6, "an empty window has room"


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
