"""The table as a page for users: docs/howto/cannot-connect.md."""

from __future__ import annotations

from pathlib import Path

from pcj import Retry
from pcj.explain import sentence
from tests.connect_failures.row import Row
from tests.connect_failures.table import NOT_YET, ROWS

PAGE = Path(__file__).parent.parent.parent / "docs" / "howto" / "cannot-connect.md"
COMMAND = ".venv/bin/python tools/draw_failures.py"

#: What stands on the page for what differs from run to run.
EXAMPLES = {
    "at": "192.0.2.7:5222",
    "elsewhere": "192.0.2.8:5222",
    "named": "localhost (127.0.0.1, port 5347)",
    "port": "5222",
    "expired": "2026-10-01",
    "begins": "2027-01-01 00:00",
    "clock": "2026-11-23 12:00",
    "dates": "2026-08-03 to 2026-12-01",
    "until": "2026-07-03 to 2026-10-01",
    "later": "2027-01-01 to 2027-04-01",
    "pin": "sha256:ab12... and cert-sha256:cd34...",
    "limit": "1,024",
    "resolving": "5",
    "connecting": "10",
    "answering": "30",
}

_HEAD = f"""\
# Cannot connect

<!-- Made by {COMMAND} from tests/connect_failures/table.py, in which each row is played; do not edit it here. -->

`broker.explain()` says at any time, in a sentence or two, why the broker is not connected. The same is in
`ConnectionFailed`, which `connect()` raises when no further attempt follows by itself; its `failure` has the parts for
programs: `phase`, `address`, `tried` (each address with what came of it), `expected`, `came`, the server's own
`condition` and `text`, and `retry`. Every event of a failure carries the same parts in `detail`.

Whether it is tried again, where `auto_reconnect` is on:

- **yes**: after a short delay, which grows.
- **slowly**: after at least half of the longest delay (`reconnect_delay_max`): the fault is usually mended elsewhere.
- **no**: a person must change something first.
- **not at first**: the same, as long as this broker has never been READY: it is most likely a mistake in the options.
  After that it may be somebody on the way, who must not be able to end a broker that works, and it is tried slowly.

| | what has happened | what you read | tried again? |
|---|---|---|---|
"""

_TAIL = """\
A durable queue (`queue="..."`) that cannot be used, because it is damaged, in use, another account's or no queue, is no
failure to connect: `connect()` raises `QueueError`, with a sentence of its own, before anything is begun.
"""

_CLASSES = {Retry.FATAL: "no", Retry.SLOW: "slowly", Retry.FAST: "yes"}


def draw() -> str:
    """The page."""
    missing = "".join(f"- {f'{number}. ' if number else ''}{what}: {why}.\n" for number, what, why in NOT_YET)
    return f"{_HEAD}{''.join(map(_line, ROWS))}\nNot told of yet, since pcj does not do it:\n\n{missing}\n{_TAIL}"


def _line(row: Row) -> str:
    text = sentence(row.sentence.replace("127.0.0.", "192.0.2.").format_map(EXAMPLES))
    again = "not at first" if row.later is not None and row.later is not row.retry else _CLASSES[row.retry]
    number = row.number if row.number[0].isdigit() else ""
    return f"| {number} | {_cell(row.what)} | {_cell(text)} | {again} |\n"


def _cell(text: str) -> str:
    """Text as Markdown shows it, in one cell of a table."""
    for special in "\\`*_<>|[]":
        text = text.replace(special, f"\\{special}")
    return text
