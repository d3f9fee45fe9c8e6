"""Whom a connection, and a link, tell what happens to them: the floors above, which they do not know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pcj.errors import PcjError, Phase, ProtocolError
from pcj.events import NO_DETAIL
from pcj.protocol.management import Management
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

    def receive(self, nodes: list[Node], size: int) -> None:
        """Nodes of one read of so many bytes."""

    def receive_early(self, nodes: list[Node]) -> None:
        """Nodes that came before READY: stream management does not count them."""

    def written(self, entry: Entry) -> None: ...

    def connection_ended(self, error: BaseException | None) -> None:
        """The socket is gone; the owner fires SOCKETDISCONNECT."""


@dataclass(frozen=True, slots=True)
class LinkOwner:
    """Whom a link tells of its nodes and of its session.

    Attributes:
        session_begins: called before READY is fired; what it sends goes out when all have heard of that.
        receive, receive_early: nodes came in. written: a node went out.
        unsent: called when a connection is gone, before that is told, with the nodes that never reached the network and
            whether the server ended the stream with an error.
        session_suspended: called after SOCKETDISCONNECT, where the session may go on over another connection.
        proved: the server said, as it resumed that session or refused to, how many more of our stanzas it has.
        session_ended: called after SOCKETDISCONNECT with the reason, "drop", "resume failed", "resume timeout",
            "shutdown" or "halt", and whether it is kept for another process.
        management: gives the session that could be resumed, and how many of our stanzas in it are unproved.
            resumption: the same, as it is to be asked for now.
        prepare: called before the first attempt; may raise what then nobody connects for. closed: waits, before that,
            for what the link before is still letting go of.
        link_ended: no attempt will follow by itself.
    """

    session_begins: Callable[[Session], None]
    receive: Callable[[list[Node], int], None]
    receive_early: Callable[[list[Node]], None]
    written: Callable[[Entry], None]
    unsent: Callable[[list[Entry], bool], None]
    session_suspended: Callable[[], None]
    proved: Callable[[Management, int], None]
    management: Callable[[], tuple[Management | None, int]]
    resumption: Callable[[], tuple[Management | None, int]]
    prepare: Callable[[], None]
    closed: Callable[[], Awaitable[None]]
    session_ended: Callable[[str, bool], None]
    link_ended: Callable[[PcjError], None]
