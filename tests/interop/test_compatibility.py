"""docs/compatibility.md: how it is made and read again, and that it says what this run saw."""

from __future__ import annotations

import pytest

from tests.interop.conftest import Run
from tests.interop.matrix import COLUMNS, COMMAND, GROUPS, MANNERS, PATH, UNSEEN, Table, column_of

CELL = ("halt", "XMPP Prosody")
LONG = "`" + "SOCKETFAIL " * 9 + "READY`"


REMEDY = f"If it is as it should be now, write it anew: {COMMAND}"


def table(**seen: str) -> Table:
    """A table with one row; the cells that are not given, by the names of their pairs, say "the same"."""
    made = Table()
    for pair in COLUMNS:
        made.enter("halt", column_of(pair), seen.get(f"{pair.name}_{pair.server}", "the same"), "1.0")
    return made


def test_a_table_that_is_written_and_read_is_the_same() -> None:
    written = table(xmpp_prosody=f"7, {LONG}: so", legacy_jabberd2=LONG)
    read = Table.parse(written.render())
    assert read == written
    assert read.render() == written.render()


def test_a_long_sequence_stands_below_the_table_once() -> None:
    document = table(xmpp_prosody=f"7, {LONG}: so", legacy_jabberd2=LONG).render()
    assert document.count(LONG) == 1
    assert "| 7, **[1]**: so |" in document


def test_a_cell_that_is_as_the_one_to_its_left_is_a_mark() -> None:
    assert "| the same | ″ | other | the same | ″ |" in table(xmpp_jabberd2="other").render()


def test_every_row_has_a_title_of_its_own_and_every_manner_its_row() -> None:
    names = [row.name for _, rows in GROUPS.values() for row in rows]
    assert len(set(names)) == len(names)
    assert set(MANNERS) <= set(names)


def test_what_differs_is_named_with_both_sides() -> None:
    same, others = table().difference(table(xmpp_prosody="other"), complete=True)
    (message,) = same
    assert message.split("\n")[0] == "halt, XMPP Prosody:"
    assert "the same" in message
    assert "other" in message
    assert others == []


@pytest.mark.parametrize("complete", [True, False])
def test_a_cell_that_is_not_seen_any_more_counts_in_a_whole_run_only(complete: bool) -> None:
    run = table()
    del run.cells[CELL]
    same, _ = table().difference(run, complete=complete)
    assert len(same) == complete
    assert table().updated(run).cells == table().cells


def test_a_cell_that_the_table_does_not_have_is_a_difference() -> None:
    kept = table()
    del kept.cells[CELL]
    (message,), _ = kept.difference(table(), complete=False)
    assert "nothing" in message


def test_a_difference_of_another_version_is_told_apart() -> None:
    run = table(xmpp_prosody="other")
    run.versions[CELL[1]] = "2.0"
    same, (message,) = table().difference(run, complete=True)
    assert same == []
    assert "(1.0 in the table, 2.0 here)" in message


def test_two_tests_cannot_see_two_things_in_one_cell() -> None:
    with pytest.raises(AssertionError, match="another test saw"):
        table().enter(*CELL, "other", "1.0")


def test_the_document_says_what_this_run_saw(whole_run: Run, request: pytest.FixtureRequest) -> None:
    """The last of a run, which compares all that the others saw."""
    run = whole_run.table
    if whole_run.complete:
        assert f"| {UNSEEN} |" not in run.render(), "there are cells that no test shows"
    kept = Table.parse(PATH.read_text()) if PATH.exists() else Table()
    if request.config.getoption("--write-compatibility", default=False):
        PATH.write_text((run if whole_run.complete else kept.updated(run)).render())
        return
    same, whole_run.elsewhere = kept.difference(run, complete=whole_run.complete)
    if same:
        differences = "\n".join(same)
        pytest.fail(f"docs/{PATH.name} is not what was seen:\n{differences}\n{REMEDY}", pytrace=False)
    if whole_run.complete and not whole_run.elsewhere and PATH.read_text() != kept.render():
        pytest.fail(f"docs/{PATH.name} was edited. {REMEDY}", pytrace=False)
