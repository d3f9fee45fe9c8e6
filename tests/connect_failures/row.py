"""One row of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pcj import Phase, Retry
from tests.connect_failures.ways import Way

FATAL: Final = Retry.FATAL
SLOW: Final = Retry.SLOW
FAST: Final = Retry.FAST


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to fail.

    Attributes:
        number: of the list. what: what has happened, for the reader of the page. way: how it is made to happen.
        sentence: what `str(ConnectionFailed)` is, with names in braces for what differs from run to run.
        retry: the class at the first attempt. later: the class once the broker has been READY, where it is another.
        phase, event: where it failed, and the event which says so; without them it is a `ConfigError`.
        expected, came, condition, text, address, tried: what `Failure` and the event's detail say, in braces as above.
        instead: what is not real in it.
    """

    number: str
    what: str
    way: Way
    sentence: str
    retry: Retry
    later: Retry | None = None
    phase: Phase | None = None
    event: str = ""
    expected: str = ""
    came: str = ""
    condition: str = ""
    text: str = ""
    address: str = "{at}"
    tried: tuple[tuple[str, str], ...] = ()
    instead: str = ""
