"""The table: every attack that was tried.

`LISTED` are the numbers of the list that the project began with; the others were found on the way.
"""

from __future__ import annotations

from typing import Final

from tests.attacks import (
    rows_bounds,
    rows_discovery,
    rows_logins,
    rows_management,
    rows_older,
    rows_requests,
    rows_sasl,
    rows_scram,
    rows_session,
    rows_stanzas,
    rows_starttls,
    rows_stream,
    rows_tls,
    rows_unspoken,
    rows_xml,
)
from tests.attacks.attack import SECTIONS, Attack


def _numbered(letter: str, last: int, *missing: int) -> list[str]:
    return [f"{letter}{number:02}" for number in range(1, last + 1) if number not in missing]


LISTED: Final = [
    *_numbered("T", 29, 4, 10, 12, 17, 20, 24, 28),
    *_numbered("S", 38, 14, 29, 32),
    *_numbered("X", 28, 14),
    *_numbered("P", 12),
    *_numbered("M", 12, 7, 11),
]

_MODULES: Final = (
    rows_starttls,
    rows_tls,
    rows_session,
    rows_discovery,
    rows_scram,
    rows_sasl,
    rows_logins,
    rows_older,
    rows_xml,
    rows_bounds,
    rows_stream,
    rows_requests,
    rows_stanzas,
    rows_management,
    rows_unspoken,
)
_ORDER: Final = tuple(SECTIONS)

ATTACKS: Final[list[Attack]] = sorted(
    (attack for module in _MODULES for attack in module.ROWS),
    key=lambda attack: (_ORDER.index(attack.id[0]), attack.id),
)
