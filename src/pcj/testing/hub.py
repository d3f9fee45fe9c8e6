"""Who is connected to the embedded server, and how stanzas find their way between them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, TypeVar

from pcj.errors import JidError, NodeError
from pcj.jid import JID
from pcj.stanza import IQ, MESSAGE, PRESENCE, Node
from pcj.testing.management import Resumable
from pcj.testing.options import Site
from pcj.testing.services import answer, is_session_request, refusal

if TYPE_CHECKING:
    from pcj.testing.session import Session

__all__ = ["SESSION_MANAGER", "Hub"]

T = TypeVar("T")

#: The name under which jabberd2's session manager is bound at the router.
SESSION_MANAGER = "sm"


class Hub:
    """The table of sessions and the rules of RFC 6121 8, as far as a server without rosters needs them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.received: deque[tuple[str, Node]] = deque(maxlen=site.options.max_received)
        self.resumable = Resumable()
        self.default_route: Session | None = None
        self._exact: dict[str, Session] = {}  # by full JID as text: what most stanzas are addressed to
        self._clients: dict[str, dict[str, Session]] = {}  # local part -> resource, oldest first
        self._components: dict[str, Session] = {}
        self._presences: dict[Session, Node] = {}
        self._changed = asyncio.Event()
        self._watched = 0

    # Who is connected

    def add_client(self, session: Session, jid: JID) -> None:
        """Enter a client; nobody else has this full JID (see `find`)."""
        self._clients.setdefault(jid.local or "", {})[jid.resource or ""] = session
        self._exact[str(jid)] = session
        session.addresses.append(str(jid))
        self.notify()

    def add_component(self, session: Session, domain: str) -> None:
        """Enter a component for one domain; nobody else has it (see `find`)."""
        self._components[domain] = session
        session.addresses.append(domain)
        self._tell(domain, session, present=True)
        self.notify()

    def remove(self, session: Session) -> None:
        """Strike out a session, if it is there."""
        self._presences.pop(session, None)
        if self.default_route is session:
            self.default_route = None
        for address in list(session.addresses):
            self.remove_address(session, address)

    def remove_address(self, session: Session, address: str) -> None:
        """Strike out one address of a session."""
        session.addresses.remove(address)
        self._exact.pop(address, None)
        jid = JID.parse(address)
        if jid.local is None:
            self._components.pop(jid.domain, None)
            self._tell(jid.domain, session, present=False)
        elif (resources := self._clients.get(jid.local)) is not None:
            resources.pop(jid.resource or "", None)
            if not resources:
                del self._clients[jid.local]
        self.notify()

    def take_over(self, older: Session, session: Session) -> None:
        """A client goes on with its session on another connection (XEP-0198 5): its address and presence go with it."""
        session.addresses, older.addresses = older.addresses, []
        for address in session.addresses:
            jid = JID.parse(address)
            self._clients[jid.local or ""][jid.resource or ""] = session
            self._exact[address] = session
        presence = self._presences.pop(older, None)
        if presence is not None:
            self._presences[session] = presence
        self.notify()

    def find(self, jid: JID) -> list[Session]:
        """The sessions of an address: all resources of a bare JID, or the component of its domain."""
        if jid.domain != self.site.domain:
            component = self._components.get(jid.domain)
            return [] if component is None else [component]
        resources = self._clients.get(jid.local or "", {})
        if jid.resource is None:
            return list(resources.values())
        return [resources[jid.resource]] if jid.resource in resources else []

    def sessions(self) -> Iterator[Session]:
        """All that are logged in, each once."""
        return iter(dict.fromkeys([*self._exact.values(), *self._components.values()]))

    def components(self) -> dict[str, Session]:
        """The components that are connected, by domain."""
        return dict(self._components)

    def _tell(self, domain: str, session: Session, *, present: bool) -> None:
        for other in self.sessions():
            if other is not session:
                other.component_changed(domain, present=present)

    def set_presence(self, session: Session, presence: Node) -> None:
        """Remember a client's undirected presence (RFC 6121 4.2); there are no rosters to tell it to."""
        self._presences[session] = presence

    # Waiting, for tests

    def note(self, address: str, node: Node) -> None:
        """Remember a stanza of `address` for assertions."""
        self.received.append((address, node))
        if self._watched:
            self.notify()

    def notify(self) -> None:
        """Something changed: let those who wait look again."""
        self._changed.set()

    async def watch(self, look: Callable[[], T | None]) -> T:
        """Wait until `look` returns something."""
        self._watched += 1
        try:
            while (value := look()) is None:
                self._changed.clear()
                await self._changed.wait()
            return value
        finally:
            self._watched -= 1

    # Stanzas

    def route(self, node: Node, sender: Session | None) -> None:
        """Bring a stanza to its addressee, or its error back.

        Args:
            node: with its `from`, in `jabber:client`. sender: who sent it; None: the server itself.
        """
        to = node.get("to")
        session = self._exact.get(to) if to is not None else None
        if session is not None:
            self._hand_over(session, node, sender)
            return
        try:
            jid = JID.parse(to) if to is not None else None
        except JidError:
            self.bounce(node, "jid-malformed", sender)
            return
        if jid is None or jid == JID(None, self.site.domain) or jid.domain == SESSION_MANAGER:
            self._serve(node, sender, "own" if jid is None else "server")
        elif jid.domain == self.site.domain:
            self._route_to_account(node, jid, sender)
        else:
            self._route_to_domain(node, jid.domain, sender)

    def _route_to_domain(self, node: Node, domain: str, sender: Session | None) -> None:
        session = self._components.get(domain)
        if session is None and sender is not self.default_route:
            session = self.default_route
        if session is not None:
            self._hand_over(session, node, sender)
        elif domain in self.site.components:
            self.bounce(node, "service-unavailable", sender)  # it is one of ours, and not connected
        else:
            self.bounce(node, "remote-server-not-found", sender)

    def _route_to_account(self, node: Node, jid: JID, sender: Session | None) -> None:
        """RFC 6121 8.5, for an address of an account that is not exactly a connected one."""
        type = node.get("type", "")
        resources = self._clients.get(jid.local or "", {})
        if jid.resource is not None and jid.resource in resources:  # written otherwise, and equal
            self._hand_over(resources[jid.resource], node, sender)
        elif node.tag == PRESENCE:
            if jid.resource is None and type not in ("error", "probe"):
                for session in list(resources.values()):
                    self._hand_over(session, node, sender)
        elif node.tag == IQ:
            if jid.resource is None:
                own = sender is not None and str(jid) == self._account_of(sender)
                self._serve(node, sender, "own" if own else "other")
            else:
                self.bounce(node, "service-unavailable", sender)
        elif type == "error":
            pass  # RFC 6121 8.5.2.1.1: silently ignored
        elif resources and type != "groupchat":
            self._hand_over(self._preferred(resources), node, sender)
        else:
            self.bounce(node, "service-unavailable", sender)

    def _preferred(self, resources: dict[str, Session]) -> Session:
        """The available resource of the highest priority, the most recent among equals; without any, the most recent.

        RFC 6121 8.5.2.1.1 would refuse where none is available: a test need not send presence first.
        """

        def rank(session: Session) -> int:
            presence = self._presences.get(session)
            if presence is None or presence.get("type") is not None:
                return -1000
            text = presence.findtext("{jabber:client}priority", "0").strip()
            return int(text) if text.lstrip("-").isdecimal() and len(text) <= 4 else 0

        return max(reversed(resources.values()), key=rank)

    def _account_of(self, session: Session) -> str:
        return session.addresses[0].partition("/")[0] if session.addresses else ""

    def _serve(self, node: Node, sender: Session | None, place: Literal["server", "own", "other"]) -> None:
        """A stanza that the server answers itself (RFC 6120 10.3, 10.5)."""
        options = self.site.options
        if node.tag == IQ and node.get("type") in ("get", "set"):
            if options.silent_at == "session" and sender is not None and is_session_request(node):
                sender.stream.mute()
                return
            reply = answer(node, place, components=self._components, session_error=options.session_error)
            self._answer(reply, sender)
        elif node.tag == MESSAGE:
            if place == "own" and sender is not None:
                # RFC 6120 10.3.1: as if it was addressed to the sender's own bare JID
                self._route_to_account(node, JID.parse(self._account_of(sender)), sender)
            else:
                self.bounce(node, "service-unavailable", sender)

    def bounce(self, node: Node, condition: str, sender: Session | None, text: str | None = None) -> None:
        """Answer with a stanza error, where that is allowed."""
        type = node.get("type")
        # RFC 6120 8.3.1: never an error for an error; 8.2.3: nor for a result.
        if type in ("error", "result") or (node.tag == PRESENCE and type is not None):
            return
        self._answer(refusal(node, condition, text), sender)

    def _answer(self, reply: Node, sender: Session | None) -> None:
        if sender is not None:
            self._hand_over(sender, reply, sender)
        elif reply.get("to") is not None:
            self.route(reply, None)

    def _hand_over(self, session: Session, node: Node, sender: Session | None) -> None:
        try:
            session.deliver(node)
        except NodeError:  # at the bounds of depth, when it is wrapped
            self.bounce(node, "not-acceptable", sender)
            return
        if sender is not None:
            self.press(session, sender)

    def press(self, session: Session, sender: Session) -> None:
        """Read no more from a sender while its addressee is behind."""
        if session.stream.link.congested:
            sender.stream.link.hold_for(session.stream.link)
