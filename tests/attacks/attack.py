"""One attack of the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.attacks.stage import Stage

Play = Callable[[Stage], Awaitable[None]]

#: The sections of the page, by the letter that their numbers begin with.
SECTIONS: Final[Mapping[str, str]] = {
    "T": "TLS, names and where to connect to",
    "S": "Authentication",
    "X": "The XML stream",
    "P": "Stanzas, requests and replies",
    "M": "Stream management, the router, the end of a link",
}


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack.

    Attributes:
        id: the section's letter and a number, "X01". what: what a hostile server, peer or man in the middle does.
        unprotected: what a client would lose that does not look. pcj: what pcj does, as the plays assert it.
        plays: each way in which it is played, by what is special to it; "" where there is one only.
        note: what is not real in it, or why it cannot be played in full. see: a CVE or a document that tells of it.
    """

    id: str
    what: str
    unprotected: str
    pcj: str
    plays: Mapping[str, Play]
    note: str = ""
    see: str = ""

    @property
    def section(self) -> str:
        """The heading that it stands under."""
        return SECTIONS[self.id[0]]


def only(play: Play) -> Mapping[str, Play]:
    """The plays of an attack that has one."""
    return {"": play}
