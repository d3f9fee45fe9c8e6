"""The matrix: behaviours by types and servers, what a run saw of them, and docs/compatibility.md made from it.

A test of a behaviour bears `@behaviour("wrong password")` (or the bare mark `behaviour`, if it is not one test for each
column), takes the fixture `seen`, and gives it what it saw in a few words. At the end of a run
test_compatibility.py holds all of it against the committed table.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from tests.interop.links import PAIRS, Pair

#: The table, and how it is made.
PATH = Path(__file__).parents[2] / "docs/compatibility.md"
COMMAND = ".venv/bin/python -m pytest tests/interop --write-compatibility"

Test = TypeVar("Test", bound=Callable[..., None])


class Row(NamedTuple):
    """One behaviour.

    Attributes:
        otherwise: what stands in a cell of which no test can see anything: by a part of the column's name, the first
            that fits.
    """

    name: str
    otherwise: Mapping[str, str] = {}

    def empty(self, column: str) -> str:
        """What stands in a cell that nobody saw."""
        return next((text for part, text in self.otherwise.items() if part in column), UNSEEN)


UNSEEN = "?"
#: A manner that this type or server does not have, or has as its ordinary one.
NOT_HERE = "-"
#: In the document: as the cell to the left.
DITTO = "″"

_MANNER = {"": NOT_HERE}
_RESOURCE = {"COMPONENT": "n/a: a component has no resource", "jabberd2": "n/a: jabberd2 has no such setting"}
_CLIENT = {"XMPP": "n/a: not a component", "LEGACY": "n/a: not a component"}

#: Every behaviour, in the order of the document: by groups, each with what a reader must know of it.
GROUPS: dict[str, tuple[str, tuple[Row, ...]]] = {
    "Becoming READY": (
        "From `connect` to READY, and how we were let in. The order is that of the 28 events of PCJ;"
        " ours (RESOLVED, ATTEMPT) are left out.",
        (
            Row("happy path"),
            Row("direct-tls", _MANNER),
            Row("tls", _MANNER),
            Row("session", _MANNER),
            Row("digest-md5", _MANNER),
            Row("other-domain", _MANNER),
            Row("log", _MANNER),
        ),
    ),
    "Failures": (
        "The event that tells of it, the server's own condition where it gives one, and whether a retry can help:"
        " *fast*, *slow* (after the longest delay) or *fatal* (not without a change by a person).",
        (Row("wrong password"), Row("unknown domain"), Row("connection refused")),
    ),
    "Losing the server": (
        "A link that is READY. All events to the loss of the session; a condition, if the server gave one.",
        (Row("server killed (SIGKILL)"), Row("server ended (SIGTERM)")),
    ),
    "Output": (
        "What `output` does when the link is not READY, and what arrives of it at the other end.",
        (
            Row("output before connect"),
            Row("output during negotiation"),
            Row("output after the end"),
            Row("purge_queue"),
            Row("a large stanza, each way"),
            Row("non-ASCII everywhere, each way"),
            Row("1,000 nodes in one burst, each way"),
        ),
    ),
    "Requests (return_to_sender)": (
        "How a request ends: with the reply, RTS_FINISH, or with RTS_FAIL and its reason.",
        (
            Row("answered"),
            Row("timed out"),
            Row("in flight at a drop"),
            Row("in flight at shutdown"),
            Row("clashing id"),
            Row("reply from the wrong sender"),
        ),
    ),
    "Filters": (
        "Events of one incoming message: those of the filters, by the names that were given to them, and our own."
        " Behind a colon: what was selected.",
        (
            Row("filter added"),
            Row("filter removed"),
            Row("overlapping filters"),
            Row("filter with namespaces"),
            Row("filters yielding strings and numbers"),
        ),
    ),
    "Shutdown, reconnect, halt": (
        "",
        (
            Row("shutdown"),
            Row("shutdown twice"),
            Row("shutdown before connect"),
            Row("shutdown with output pending"),
            Row("reconnect to another address"),
            Row("connect while connected"),
            Row("halt"),
        ),
    ),
    "Two links of one name": (
        "A second client of the same account and resource, as servers treat it by default and where they are set to"
        ' refuse the newcomer (Prosody `conflict_resolve = "kick_new"`, ejabberd `resource_conflict: closenew`);'
        " a second component of the same domain.",
        (
            Row("resource conflict: the default", _RESOURCE),
            Row("resource conflict: newcomer refused", _RESOURCE),
            Row("a second component of one domain", _CLIENT),
        ),
    ),
}

#: The titles of rows that show a type in another manner than its column does, by what the pair is called after it.
MANNERS = {
    "direct-tls": "happy path, direct TLS",
    "tls": "happy path, with STARTTLS",
    "session": "happy path, with a session (RFC 3921)",
    "digest-md5": "happy path, DIGEST-MD5",
    "other-domain": "happy path, `bind_domain`",
    "log": 'happy path, `bind_option="log"`',
}

_ROWS = {row.name: row for _, rows in GROUPS.values() for row in rows}
_TYPES = {"xmpp": "XMPP", "legacy": "LEGACY", "jabberd14": "JABBERD14_COMPONENT", "jabberd20": "JABBERD20_COMPONENT"}
_SERVERS = {"prosody": "Prosody", "ejabberd": "ejabberd", "jabberd2": "jabberd2"}

#: The pairs that are columns: each type on each server, in its ordinary manner.
COLUMNS = [pair for pair in PAIRS if pair.name in _TYPES]
CLIENTS = [pair for pair in COLUMNS if not pair.component]
COMPONENTS = [pair for pair in COLUMNS if pair.component]


def behaviour(row: str, pairs: Sequence[Pair] = COLUMNS) -> Callable[[Test], Test]:
    """Marks the test of a behaviour, which runs once for each pair (its argument `pair`)."""

    def decorate(test: Test) -> Test:
        marked: Test = pytest.mark.behaviour(row)(pytest.mark.parametrize("pair", pairs, ids=str)(test))
        return marked

    return decorate


def column_of(pair: Pair) -> str:
    """The column a pair belongs to: "XMPP Prosody"."""
    return f"{_TYPES[pair.name.partition('-')[0]]} {_SERVERS[pair.server.partition('_')[0]]}"


_TITLES = [column_of(pair) for pair in COLUMNS]

Cell = tuple[str, str]


class Seen:
    """What one test saw, for the cells of its behaviours."""

    def __init__(self, table: Table, rows: tuple[str, ...], pair: Pair | None, version: Callable[[Pair], str]) -> None:
        self._table = table
        self._rows = rows
        self._pair = pair
        self._version = version

    def __call__(self, what: str, *, pair: Pair | None = None, row: str | None = None) -> None:
        """Notes what was seen.

        Args:
            what: in a few words, the same in every run: no port, id or time. Event names in backticks. pair: on which,
                if the test is not for one. row: of which behaviour, if the test is marked with several.
        """
        pair = pair or self._pair
        assert pair is not None, "say of which pair"
        if row is None:
            (row,) = self._rows
        assert row in self._rows, f"the test is not marked with {row!r}"
        _, _, manner = pair.name.partition("-")
        if manner and row == "happy path":
            row = manner
        elif manner:
            return  # the table has the ordinary manner only
        self._table.enter(row, column_of(pair), what, self._version(pair))


@dataclass
class Table:
    """The cells of a run, or of a document.

    Attributes:
        cells: what was seen, by row and column. versions: of the servers, by column.
    """

    cells: dict[Cell, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def enter(self, row: str, column: str, what: str, version: str) -> None:
        """A test saw this. Where two tests see the same cell, they must see the same."""
        assert row in _ROWS, f"no row {row!r}: see GROUPS"
        before = self.cells.setdefault((row, column), what)
        assert before == what, f"{row}, {column}: another test saw {before!r}, this one {what!r}"
        self.versions[column] = version

    def difference(self, run: Table, *, complete: bool) -> tuple[list[str], list[str]]:
        """How a run differs from this table: where the versions of the servers are the same, and where not.

        Args:
            complete: all tests ran, so that a cell which the run does not have is one that nobody sees any more.
        """
        same: list[str] = []
        others: list[str] = []
        for cell in [*run.cells, *(self.cells.keys() - run.cells.keys() if complete else ())]:
            committed, seen = self.cells.get(cell, "nothing"), run.cells.get(cell, "nothing")
            if committed == seen:
                continue
            row, column = cell
            kept, ran = self.versions.get(column), run.versions.get(column)
            version = f" ({kept} in the table, {ran} here)" if kept and ran and kept != ran else ""
            (others if version else same).append(
                f"{row}, {column}{version}:\n    in the table: {committed}\n    seen:         {seen}"
            )
        return same, others

    def updated(self, run: Table) -> Table:
        """This table with what a run saw anew."""
        return Table(self.cells | run.cells, self.versions | run.versions)

    # ---- as a document

    def render(self) -> str:
        """The document."""
        notes = _Notes()
        parts = [INTRODUCTION.rstrip()]
        for title, (text, rows) in GROUPS.items():
            parts += [f"## {title}", textwrap.fill(text, 118, break_on_hyphens=False)]
            heads = [f"{column.replace(' ', '<br>')} {self.versions.get(column, '?')}" for column in _TITLES]
            lines = [_line("", heads), "|" + "---|" * (len(heads) + 1)]
            for row in rows:
                told = [notes.shorten(self.cells.get((row.name, column), row.empty(column))) for column in _TITLES]
                pairs = zip(told, [None, *told], strict=False)
                lines.append(
                    _line(
                        MANNERS.get(row.name, row.name),
                        [DITTO if text == left and text != NOT_HERE else text for text, left in pairs],
                    )
                )
            parts += ["\n".join(lines), "\n".join(notes.take())]
        return "\n\n".join(part for part in parts if part) + "\n"

    @classmethod
    def parse(cls, document: str) -> Table:
        """The table of a document that `render` made."""
        notes = dict(_NOTE_LINE.findall(document))
        names = {title: row for row, title in MANNERS.items()}
        table = cls()
        columns: list[str] = []
        for line in document.splitlines():
            if not line.startswith("| "):
                continue
            title, *texts = line[2:-2].split(" | ")
            if not title:
                heads = [text.replace("<br>", " ").rpartition(" ") for text in texts]
                columns = [column for column, _, _ in heads]
                table.versions = {column: version for column, _, version in heads if version != "?"}
                continue
            row = _ROWS.get(names.get(title, title), Row(title))
            told = ""
            for column, text in zip(columns, texts, strict=True):
                told = told if text == DITTO else _NOTE.sub(lambda found: notes[found[1]], text)
                if told not in (UNSEEN, row.empty(column)):
                    table.cells[row.name, column] = told
        return table


_NOTE = re.compile(r"\*\*\[(\d+)\]\*\*")
_NOTE_LINE = re.compile(r"^- \*\*\[(\d+)\]\*\* (.*)$", re.MULTILINE)
_CODE = re.compile(r"`[^`]*`")
#: Longer sequences of events, in characters, are too long for a cell.
_WIDTH = 48


INTRODUCTION = f"""\
<!-- Made by a test run; do not edit. -->

# Compatibility

What pcj does and what real servers answer: Prosody, ejabberd and jabberd2, with each type of connection that they
serve. Every cell is what a test saw; none is a claim. The tables are made by

    {COMMAND}

and every later run of these tests, which are a part of `./check`, must see the same, or it fails. Where a server's
version is another than that in the heading, a difference is shown and fails nothing.

**How to read it.** Words in `CAPITALS` are the events of [events.md](events.md), without the prefix `PCJ_`: all that
came, in this order. `NODESENT(auth)` names the node, `NODESENT(iq bind)` an IQ and its child, `RTS_FAIL(drop)` a
reason; `S` is `STREAMSTART` with the `NODESENT` of the stream's header. `{DITTO}` means: as the cell to its left. A
number such as **[1]** refers to the list below the table. "n/a" says why there is nothing to see, "{NOT_HERE}" marks
what is not tested there.

**How the servers are set up.** On one machine, as `localhost`, with a certificate that the client verifies. XMPP and
JABBERD20_COMPONENT use STARTTLS; LEGACY and JABBERD14_COMPONENT are plain TCP on loopback. Prosody has
`mod_legacyauth`, which takes the plaintext password only (`plaintext=True`). LEGACY is shown with an ejabberd that
keeps passwords in plain text (`auth_password_format: plain`): with hashed ones it lets in nobody by `jabber:iq:auth`.
ejabberd's listener for components has `global_routes: false`: by default each component of a listener is given a part
of what is meant for the others.
"""


class _Notes:
    """What is too long for a cell: it stands below the table, each text once in the document, under a number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._taken = 0

    def shorten(self, text: str) -> str:
        """A cell's text with numbers in the place of what is long."""
        return _CODE.sub(self._shortened, text)

    def _shortened(self, code: re.Match[str]) -> str:
        if len(code[0]) <= _WIDTH:
            return code[0]
        return f"**[{self._numbers.setdefault(code[0], len(self._numbers) + 1)}]**"

    def take(self) -> list[str]:
        """The lines of the notes that are new since the last time."""
        fresh = [f"- **[{number}]** {text}" for text, number in self._numbers.items() if number > self._taken]
        self._taken = len(self._numbers)
        return fresh


def _line(title: str, cells: Sequence[str]) -> str:
    assert not any("|" in cell or "\n" in cell for cell in cells), f"{title}: a cell breaks the table"
    return f"| {' | '.join([title, *cells])} |"
