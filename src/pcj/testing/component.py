"""The server's side of a component that uses XEP-0114."""

from __future__ import annotations

from pcj.config import JABBERD14_COMPONENT
from pcj.errors import JidError, ProtocolError
from pcj.jid import JID
from pcj.namespaces import COMPONENT_ACCEPT
from pcj.stanza import STANZAS, Node
from pcj.testing.auth import digest_of, same_secret
from pcj.testing.session import STARTTLS, Session, check_host
from pcj.xmlstream import StreamHeader

__all__ = ["ComponentSession", "address_of"]

_HANDSHAKE = f"{{{COMPONENT_ACCEPT}}}handshake"


def address_of(node: Node, name: str, answer: str) -> JID:
    """An address that must be there.

    Raises:
        ProtocolError: it is not, or is none; `answer` says so on the wire.
    """
    try:
        return JID.parse(node.get(name) or "")
    except JidError:
        raise ProtocolError(f"the stanza's {name!r} is no address", answer=answer) from None


class ComponentSession(Session):
    """One external component of one domain."""

    namespace = COMPONENT_ACCEPT
    connection_type = JABBERD14_COMPONENT

    async def negotiate(self) -> None:
        header, domain = await self._open()
        while (node := await self.stream.receive_node()).tag == STARTTLS:
            await self.start_tls()
            header, domain = await self._open()
        self.take_error(node)
        await self.silent_at("auth")
        expected = digest_of(self.stream.id, self.site.components[domain])
        if node.tag != _HANDSHAKE or not same_secret(node.text or "", expected):
            raise ProtocolError("the handshake is not the one expected", answer="not-authorized")
        for older in self.hub.find(JID(None, domain)):
            if self.options.component_conflict == "kick_new":
                raise ProtocolError(f"{domain} is connected already", answer="conflict")
            self.hub.remove(older)
            older.stream.close("conflict", "replaced by a new connection")
        self.mechanism = "handshake"
        self.stream.write(b"<handshake/>")
        self.hub.add_component(self, domain)
        self.stream.begin(header, self.received)

    async def _open(self) -> tuple[StreamHeader, str]:
        header = await self.stream.receive_header()
        domain = check_host(header)
        # XEP-0114 3: the stream is 'to' the component's own name, and so is the answer 'from' it
        if domain not in self.site.components:
            raise ProtocolError(f"{domain!r:.80} is not configured here", answer="host-unknown")
        self.stream.domain = domain
        self.stream.open(self.options.component_version)
        await self.silent_at("header")
        if self.options.component_version is not None and header.version >= (1, 0):
            self.stream.send_wrapped("features", self.starttls_feature())
        return header, domain

    def offers_starttls(self) -> bool:
        """XEP-0114 has no features, and so no STARTTLS; jabberd2 adds them where both sides say version 1.0."""
        return self.options.component_version is not None and super().offers_starttls()

    def received(self, node: Node) -> None:
        self.take_error(node)
        if node.tag not in STANZAS:
            raise ProtocolError("this is no stanza", answer="unsupported-stanza-type", came=f"{node.tag:.80}")
        domain = self.addresses[0]
        # XEP-0114 3: "the component MUST include a 'from'", of its domain; and there is no default addressee
        if address_of(node, "from", "invalid-from").domain != domain:
            raise ProtocolError(f"'from' is not of {domain}", answer="invalid-from")
        if node.get("to") is None:
            raise ProtocolError("a component's stanza needs a 'to'", answer="improper-addressing")
        self.hub.note(domain, node)
        self.hub.route(node, self)
