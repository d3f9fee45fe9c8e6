"""Where the command `pcj` begins: what must be there before anything of ours can run."""

from __future__ import annotations

import importlib
import logging
import sys
from io import TextIOWrapper

from pcj.cli.escape import shown
from pcj.cli.memory import keep_private

__all__ = ["main"]

#: What the extra `pcj[cli]` brings.
_NEEDED = ("click", "rich")


class _OneLine(logging.Formatter):
    """A record as one line that no remote text can break out of; tracebacks are for whoever debugs."""

    def __init__(self) -> None:
        super().__init__("pcj: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return shown(f"pcj: {record.getMessage()}")


def main() -> None:
    """The entry point of the console script.

    Exit codes: 0 it did what was asked for; 1 it failed; 2 it was asked for in a way that cannot be; 130 Ctrl-C;
    143 SIGTERM.
    """
    keep_private()  # before any command can have a password
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            print("pcj: the command line needs pcj[cli]: pip install 'pcj[cli]'", file=sys.stderr)
            sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows only ASCII is no reason to fail
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    # Errors alone: what the library logs as a warning is an event, and the timeline shows it.
    logging.basicConfig(level=logging.ERROR, handlers=[handler])

    from pcj.cli.group import pcj  # late: it needs what was looked for above

    pcj()
