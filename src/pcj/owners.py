"""Whom a connection, and a link, tell what happens to them: the floors above, which they do not know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pcj.errors import PcjError, Phase, ProtocolError
from pcj.events import NO_DETAIL
from pcj.protocol.steps import Session
from pcj.queue import Entry
from pcj.stanza import Node

__all__ = ["LinkOwner", "Owner"]


class Owner(Protocol):
    """Whom a connection tells what happens. The calls come in the order of what happened."""

    def fire(
        self,
        event: str,
        node: Node | None = None,
        error: BaseException | None = None,
        detail: Mapping[str, object] = NO_DETAIL,
    ) -> None: ...

    def wants(self, event: str) -> bool: ...

    def together(self, callback: Callable[[], None]) -> None:
        """Call back at once; all that it fires is told before any handler can change what follows."""

    def connection_ready(self, session: Session) -> None: ...

    def negotiation_failed(self, error: ProtocolError, phase: Phase) -> bool:
        """Returns whether another attempt will follow."""

    def receive(self, nodes: list[Node]) -> None: ...

    def written(self, entry: Entry) -> None: ...

    def connection_ended(self, error: BaseException | None) -> None:
        """The socket is gone; the owner fires SOCKETDISCONNECT."""


@dataclass(frozen=True, slots=True)
class LinkOwner:
    """Whom a link tells of its nodes and of its session.

    Attributes:
        session_begins: called before READY is fired; what it sends goes out when all have heard of that.
        receive: nodes came in. written: a node went out.
        unsent: called when a connection is gone, before that is told, with the nodes that never reached the network.
        session_ended: called after SOCKETDISCONNECT with the reason, "drop", "shutdown" or "halt".
        link_ended: no attempt will follow by itself.
    """

    session_begins: Callable[[Session], None]
    receive: Callable[[list[Node]], None]
    written: Callable[[Entry], None]
    unsent: Callable[[list[Entry]], None]
    session_ended: Callable[[str], None]
    link_ended: Callable[[PcjError], None]
