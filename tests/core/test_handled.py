"""The count of what is handled, held against a model that counts by looking at everything."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pcj.handled import Handled


class AgainstAModel(RuleBasedStateMachine):
    """Stanzas begin, get more who hold them, and are released, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 0
        self.holds: dict[int, int] = {}  # of every stanza there was

    @initialize(count=st.integers(0, 2**33))
    def begin(self, count: int) -> None:
        self.handled = Handled(count)
        self.first = count

    @property
    def open(self) -> list[int]:
        return [number for number, holds in self.holds.items() if holds]

    @rule()
    def a_stanza_begins(self) -> None:
        number = self.handled.next()
        assert number == self.first + len(self.holds) + 1
        self.holds[number] = 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def one_more_works_on_it(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.open))
        self.handled.hold(number)
        self.holds[number] += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def one_is_done(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.open))
        self.handled.release(number)
        self.holds[number] -= 1

    @invariant()
    def it_counts_what_is_done_up_to_the_first_that_is_not(self) -> None:
        done = self.first
        for number in sorted(self.holds):
            if self.holds[number]:
                break
            done = number
        assert self.handled.count == done

    @invariant()
    def it_remembers_no_more_than_what_is_held(self) -> None:
        assert len(self.handled) == len(self.open)


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_who_holds_or_releases_what_is_done_or_never_began_is_told_so(number: int) -> None:
    handled = Handled()
    handled.release(handled.next())
    handled.next()
    with pytest.raises(KeyError):
        handled.hold(number)
    with pytest.raises(KeyError):
        handled.release(number)
    assert handled.count == 1


def test_ten_thousand_that_end_backwards_count_all_at_once() -> None:
    handled = Handled()
    numbers = [handled.next() for _ in range(10_000)]
    for number in reversed(numbers[1:]):
        handled.release(number)
    assert handled.count == 0
    handled.release(1)
    assert (handled.count, len(handled)) == (10_000, 0)
    assert repr(handled) == "<Handled 10000 of 10000>"
