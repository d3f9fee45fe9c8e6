"""What the negotiator gives back to whoever drives it: done in order, nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from pcj.errors import Phase, ProtocolError
from pcj.events import NO_DETAIL
from pcj.protocol.steps import AskPassword, Compute, Session
from pcj.stanza import Node

__all__ = ["Action", "AskPassword", "BeginTls", "Compute", "Established", "Failed", "Fire", "Write"]


@dataclass(frozen=True, slots=True)
class Write:
    """Send these bytes (their repr is left out: they may carry a credential)."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fire:
    """Publish this event."""

    event: str
    node: Node | None = None
    error: ProtocolError | None = None
    detail: Mapping[str, object] = field(default_factory=lambda: NO_DETAIL)


@dataclass(frozen=True, slots=True)
class BeginTls:
    """Do the TLS handshake; then call `tls_started`, or `failed`."""


@dataclass(frozen=True, slots=True)
class Established:
    """The negotiation is done.

    Attributes:
        session: what the dialect returned. namespaces: those of the server's header, by prefix. early: stanzas that
            came before the end. leftover: bytes that came behind the last answer, for the next gear.
    """

    session: Session
    namespaces: Mapping[str, str]
    early: tuple[Node, ...]
    leftover: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The negotiation is over: close with the stream error `error.answer`, if it is not None.

    Attributes:
        error: why. phase: where. header_sent: whether a header of ours is out, so that a closing tag is due.
    """

    error: ProtocolError
    phase: Phase
    header_sent: bool


Action: TypeAlias = Write | Fire | BeginTls | AskPassword | Compute | Established | Failed
