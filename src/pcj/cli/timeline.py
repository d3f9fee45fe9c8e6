"""How events are shown: as a timeline for people, or as one line of JSON each."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Final, Protocol

from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pcj.cli.brief import detail_of, sentence_of
from pcj.cli.escape import shown, shown_json
from pcj.cli.run import FAILED, complain
from pcj.events import PCJ_EVENTS, Event, Status

__all__ = ["Display", "JsonLines", "Timeline", "make_console"]

_TIME_WIDTH: Final = 7
_EVENT_WIDTH: Final = max(len(event) for event in Event)
_INDENT: Final = _TIME_WIDTH + _EVENT_WIDTH + 4
_COLUMNS: Final = re.compile(" {2,}")
#: Below this the columns would be of no use; longer lines then wrap where the terminal wraps them.
_MIN_WIDTH: Final = 60

_GOOD = frozenset({Event.PCJ_READY, Event.PCJ_SSLSUCCESS, Event.PCJ_AUTHSUCCESS, Event.PCJ_BINDSUCCESS})
_BAD = frozenset(event for event in Event if event.endswith(("FAIL", "FAILED"))) | {Event.STREAM_ERROR, Event.WARNING}
_ORIGINAL = frozenset(PCJ_EVENTS)
_OURS = frozenset(Event) - _ORIGINAL
# Of the eight basic colours, which every terminal shows on its own background.
_GOOD_STYLE, _BAD_STYLE, _PCJ_STYLE, _OURS_STYLE, _USERS_STYLE = "bold green", "bold red", "cyan", "yellow", "magenta"


class Output:
    """A console that ends the command when it cannot be written to: the reader of a pipe left, or the disk is full."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def print(self, what: RenderableType = "", *, soft_wrap: bool = False) -> None:
        """Print a line."""
        try:
            self.console.print(what, soft_wrap=soft_wrap)
        except OSError as error:  # a broken pipe ends it without a word: rich sees to that itself
            self.console.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            complain(f"the output cannot be written: {error.strerror or error}")
            raise SystemExit(FAILED) from None


def make_console(*, stderr: bool = False) -> Console:
    """A console that takes text for text: no markup, no emoji codes, no guessing at what to colour."""
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if console.width < _MIN_WIDTH:
        console.width = _MIN_WIDTH
    return console


class Display(Protocol):
    """Where statuses and what is said between them go."""

    def heading(self, kind: str, text: str) -> None:
        """A connection of type `kind` begins."""

    def show(self, kind: str, status: Status) -> None:
        """A status of a connection of type `kind`."""

    def note(self, text: str) -> None:
        """A sentence of ours for a person; it may hold remote text."""

    def table(self, table: Table) -> None:
        """A table for a person; its texts are escaped already."""


class Timeline:
    """A line for each status: milliseconds since PCJ_CONNECT (before it: negative), the event, what there is to say.

    Without colour the groups of events are told apart by their names: PCJ_* are the original's, the others in capitals
    are pcj's own.
    """

    def __init__(self, console: Console) -> None:
        self._output = Output(console)
        self._origin: float | None = None
        self._early: list[Status] = []
        self._begun = False
        self._said = ""  # the sentence of the last error of this attempt

    def _legend(self) -> None:
        """What the colours mean, and the unit of time."""
        line = Text("ms since PCJ_CONNECT; ")
        for index, (text, style) in enumerate(
            (("PCJ_ events", _PCJ_STYLE), ("pcj's own", _OURS_STYLE), ("your filters'", _USERS_STYLE))
        ):
            line.append(", " if index else "")
            line.append(text, style)
        self._output.print(line)

    def heading(self, kind: str, text: str) -> None:
        if not self._begun:
            self._begun = True
            self._legend()
        self._origin = None
        self._early.clear()
        self._said = ""
        self._output.print()
        self._output.print(Text.assemble((shown(kind), "bold"), f"  {shown(text)}"))

    def show(self, kind: str, status: Status) -> None:
        if self._origin is not None:
            self._line(status, self._origin)
            return
        # What comes before PCJ_CONNECT is timed by it, so it waits for it.
        self._early.append(status)
        if status.event == Event.PCJ_CONNECT:
            self._origin = status.at
            for each in self._early:
                self._line(each, status.at)
            self._early.clear()

    def note(self, text: str) -> None:
        # Without the columns that only a line of events has: a word of a server's may come to stand at a line's begin.
        self._output.print(Text(_COLUMNS.sub(" ", shown(text))))

    def table(self, table: Table) -> None:
        self._output.print(table)

    def _line(self, status: Status, origin: float) -> None:
        room = self._output.console.width - _INDENT
        if status.event == Event.PCJ_CONNECTING:
            self._said = ""
        said = detail_of(status, self._said)
        if status.error is not None and status.event != Event.ATTEMPT:
            self._said = sentence_of(status.error)
        # By cells: a line of wide characters that the terminal itself had to break could begin the next one with what
        # looks like an event.
        if status.error is None and cell_len(said) > room:
            said = (
                set_cell_size(said, room - 3).rstrip() + "..."
            )  # one line; only an error is worth as many as it takes
        lines = [line.plain.rstrip() for line in Text(said).wrap(self._output.console, room)] or [""]
        line = Text()
        line.append(_time(status.at - origin).rjust(_TIME_WIDTH), "dim")
        line.append("  ")
        event = shown(status.event)
        line.append(event, _style(status.event))
        if said:
            line.append(" " * (_EVENT_WIDTH - len(event)) + "  ")
            line.append(("\n" + " " * _INDENT).join(lines))
        self._output.print(line, soft_wrap=True)


class JsonLines:
    """One line of JSON for each status, `connection_type` among it; what is said between them is left out."""

    def __init__(self, console: Console) -> None:
        self._output = Output(console)

    def heading(self, kind: str, text: str) -> None:
        pass

    def show(self, kind: str, status: Status) -> None:
        record = {"connection_type": kind, **json.loads(status.to_json())}
        self._output.print(Text(shown_json(json.dumps(record, ensure_ascii=False))), soft_wrap=True)

    def note(self, text: str) -> None:
        pass

    def table(self, table: Table) -> None:
        pass


def _time(seconds: float) -> str:
    """Milliseconds, or seconds where those would not fit."""
    return f"{seconds * 1000:.2f}" if abs(seconds) < 9.999 else f"{seconds:.1f} s"


def _style(event: str) -> str:
    if event in _BAD:
        return _BAD_STYLE
    if event in _GOOD:
        return _GOOD_STYLE
    return _PCJ_STYLE if event in _ORIGINAL else _OURS_STYLE if event in _OURS else _USERS_STYLE
