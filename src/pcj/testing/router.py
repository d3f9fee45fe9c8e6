"""The server's side of jabberd2's router protocol, as router/router.c of jabberd2 2.7 speaks it."""

from __future__ import annotations

import secrets
import xml.etree.ElementTree as ET

from pcj.config import JABBERD20_COMPONENT
from pcj.errors import JidError, ProtocolError
from pcj.jid import JID
from pcj.namespaces import DISCO_INFO, JABBERD_COMPONENT
from pcj.stanza import STANZAS, Node, iq
from pcj.testing.auth import AUTH
from pcj.testing.hub import SESSION_MANAGER
from pcj.testing.session import STARTTLS, Session
from pcj.xmlstream import StreamHeader

__all__ = ["RouterSession"]

REALM = "jabberd-router"
_BIND = f"{{{JABBERD_COMPONENT}}}bind"
_UNBIND = f"{{{JABBERD_COMPONENT}}}unbind"
_ROUTE = f"{{{JABBERD_COMPONENT}}}route"
_PRESENCE = f"{{{JABBERD_COMPONENT}}}presence"
_DEFAULT = f"{{{JABBERD_COMPONENT}}}default"
_LOG = f"{{{JABBERD_COMPONENT}}}log"


class RouterSession(Session):
    """One component at the router; it may bind several domains."""

    namespace = JABBERD_COMPONENT
    connection_type = JABBERD20_COMPONENT

    log_sink = False

    async def negotiate(self) -> None:
        header = await self._open(login=True)
        while True:
            node = await self.stream.receive_node()
            self.take_error(node)
            if node.tag == STARTTLS:
                await self.start_tls()
            elif node.tag == AUTH:
                names = self.options.router_mechanisms
                if await self.sasl(node, names, self.site.router_users.get, REALM) is not None:
                    break
                continue
            else:
                raise ProtocolError("log in first", answer="not-authorized")
            header = await self._open(login=True)
        header = await self._open(login=False)
        self.stream.begin(header, self.received, rename=False)

    async def _open(self, *, login: bool) -> StreamHeader:
        header = await self.stream.receive_header()
        if header.version < (1, 0):
            raise ProtocolError("the router protocol needs version 1.0", answer="unsupported-version")
        # The router answers to any name.
        self.stream.domain = header.attributes.get("to") or REALM
        self.stream.open("1.0")
        await self.silent_at("header")
        offered = self.starttls_feature() + self.mechanisms_feature(self.options.router_mechanisms)
        self.stream.send_wrapped("features", (offered if login else []) + self.limits_feature())
        return header

    def received(self, node: Node) -> None:
        self.take_error(node)
        if node.tag == _BIND:
            self._bind(node)
        elif node.tag == _UNBIND:
            self._unbind(node)
        elif node.tag == _ROUTE:
            self._route(node)
        # Anything else is dropped in silence, a stanza outside <route/> too: so does the router.

    def _bind(self, request: Node) -> None:
        if self.options.silent_at == "bind":
            self.stream.mute()
            return
        try:
            domain = JID.parse(request.get("name") or "").domain
        except JidError:
            request.set("error", "400")
            self.stream.send(request)
            return
        # The router takes the name out of its answer, whichever it is.
        del request.attrib["name"]
        default = request.find(_DEFAULT) is not None
        taken = domain in self.hub.components() or (default and self.hub.default_route is not None)
        if domain not in self.site.components:
            request.set("error", "403")
        elif taken or domain in (SESSION_MANAGER, self.site.domain):
            request.set("error", "409")
        self.stream.send(request)
        if request.get("error") is not None:
            return
        if default:
            self.hub.default_route = self
        self.log_sink = self.log_sink or request.find(_LOG) is not None
        self.hub.add_component(self, domain)
        if self.options.router_news:
            self._tell_news(domain)

    def _unbind(self, request: Node) -> None:
        domain = request.get("name", "")
        request.attrib.pop("name", None)
        if domain in self.addresses:
            self.hub.remove_address(self, domain)
        else:
            request.set("error", "404")
        self.stream.send(request)

    def component_changed(self, domain: str, *, present: bool) -> None:
        if self.options.router_news:
            presence = ET.Element(_PRESENCE, {"from": domain})
            if not present:
                presence.set("type", "unavailable")
            self.stream.send(presence)

    def _tell_news(self, domain: str) -> None:
        """Who is bound already (this is no user's presence), then the session manager's question."""
        for name in ("c2s", SESSION_MANAGER, self.site.domain, *self.hub.components()):
            if name not in self.addresses:
                self.stream.send(ET.Element(_PRESENCE, {"from": name}))
        question = iq(
            to=domain,
            from_=SESSION_MANAGER,
            id=secrets.token_hex(8),
            payload=ET.Element(f"{{{DISCO_INFO}}}query"),
        )
        self.deliver(question)

    def _route(self, route: Node) -> None:
        if route.get("error") is not None:
            return  # "dropping error packet, trying to avoid loops"
        try:
            to = JID.parse(route.get("to") or "").domain
            from_ = JID.parse(route.get("from") or "").domain
        except JidError:
            self._refuse(route, "400")
            return
        if from_ not in self.addresses:
            self._refuse(route, "401")
            return
        stanza = route[0] if len(route) else None
        if stanza is not None:
            self.hub.note(from_, stanza)
        target = self.hub.components().get(to)
        if target is None and to not in (self.site.domain, SESSION_MANAGER) and self.hub.default_route is not self:
            target = self.hub.default_route
        self._log(route)
        if isinstance(target, RouterSession):
            target.stream.send(route)
            self.hub.press(target, self)
        elif target is not None or to in (self.site.domain, SESSION_MANAGER):
            # Beyond this point stands the session manager, which answers in stanzas.
            if stanza is not None and stanza.tag in STANZAS and stanza.get("to") is not None:
                self.hub.route(stanza, self)
        else:
            self._refuse(route, "404")

    def _refuse(self, route: Node, code: str) -> None:
        """The router sends a route back as it came, with an error: its addresses are not turned round."""
        route.set("error", code)
        self.stream.send(route)

    def deliver(self, node: Node) -> None:
        """A stanza from elsewhere, in a route between the domains of its addresses."""
        route = ET.Element(_ROUTE, {"to": self._domain_of(node, "to"), "from": self._domain_of(node, "from")})
        route.append(node)
        self.stream.send(route)
        self._log(route)

    def _domain_of(self, node: Node, name: str) -> str:
        fallback = self.addresses[0] if name == "to" and self.addresses else self.site.domain
        try:
            return JID.parse(node.get(name) or fallback).domain
        except JidError:
            return fallback

    def _log(self, route: Node) -> None:
        """Log sinks get a copy of every route."""
        sinks = [s for s in self.hub.components().values() if isinstance(s, RouterSession) and s.log_sink]
        if sinks:
            copy = ET.Element(_ROUTE, {**route.attrib, "type": "log"})
            copy.extend(route)
            for sink in dict.fromkeys(sinks):
                sink.stream.send(copy)
