"""The server's side of a client: XMPP (RFC 6120), and LEGACY (XEP-0078) on the same port."""

from __future__ import annotations

import secrets
import xml.etree.ElementTree as ET

from pcj.config import LEGACY, XMPP
from pcj.errors import JidError, ProtocolError
from pcj.jid import JID, same_address
from pcj.namespaces import BIND, CLIENT, IQ_AUTH, IQ_AUTH_FEATURE, SESSION
from pcj.stanza import IQ, PRESENCE, STANZAS, Node, reply
from pcj.testing.auth import AUTH, digest_of, same_secret
from pcj.testing.services import refusal
from pcj.testing.session import STARTTLS, Session, check_host
from pcj.xmlstream import StreamHeader

__all__ = ["ClientSession"]

_BIND = f"{{{BIND}}}bind"
_QUERY = f"{{{IQ_AUTH}}}query"


class ClientSession(Session):
    """One client."""

    namespace = CLIENT
    connection_type = XMPP

    _local: str | None = None  # the account, once SASL has proved it

    async def negotiate(self) -> None:
        header = await self._open()
        while True:
            node = await self.stream.receive_node()
            self.take_error(node)
            query = node.find(_QUERY) if node.tag == IQ else None
            if node.tag == STARTTLS and self._local is None:
                await self.start_tls()
                header = await self._open()
            elif node.tag == AUTH and self._local is None:
                user = await self.sasl(node, self.options.mechanisms, self.site.password_of, self.site.domain)
                if user is not None:
                    self._local = self.site.local_part(user)
                    header = await self._open()
            elif query is not None and self._local is None and self.options.legacy:
                if await self._legacy(node, query):
                    break
            elif self._local is not None and node.tag == IQ and node.find(_BIND) is not None:
                if await self._bind(node):
                    break
            else:
                # RFC 6120 4.9.3.12: before the stream is authenticated and bound
                raise ProtocolError("log in first, then bind a resource", answer="not-authorized")
        self.stream.begin(header, self.received)

    async def _open(self) -> StreamHeader:
        header = await self.stream.receive_header()
        to = check_host(header)
        if to != self.site.domain:
            raise ProtocolError(f"{to!r:.80} is not served here", answer="host-unknown")
        # RFC 6120 4.7.5: a header without version is of Jabber's time, and so is the answer
        modern = header.version >= (1, 0)
        self.stream.open("1.0" if modern else None, to=header.attributes.get("from"))
        await self.silent_at("header")
        if modern or self.options.legacy_features:
            self.stream.send_wrapped("features", self._features())
        return header

    def _features(self) -> list[Node]:
        if self._local is not None:
            features = [ET.Element(_BIND)]
            if self.options.session is not None:
                features.append(ET.Element(f"{{{SESSION}}}session"))
                if self.options.session == "optional":
                    ET.SubElement(features[-1], f"{{{SESSION}}}optional")
            return features + self.limits_feature()
        features = self.starttls_feature() + self.mechanisms_feature(self.options.mechanisms)
        if self.options.legacy and not self.must_start_tls():
            features.append(ET.Element(f"{{{IQ_AUTH_FEATURE}}}auth"))
        return features + self.limits_feature()

    # Binding (RFC 6120 7)

    async def _bind(self, request: Node) -> bool:
        await self.silent_at("bind")
        options = self.options
        if options.bind_error is not None:
            self.stream.send(refusal(request, options.bind_error))
            return False
        wanted = request.findtext(f"{_BIND}/{{{BIND}}}resource")
        try:
            # RFC 6120 7.6.1: without a wish the server makes one up
            jid = JID(self._local, self.site.domain, options.bound_resource or wanted or secrets.token_hex(8))
        except JidError:
            self.stream.send(refusal(request, "bad-request"))
            return False
        if not self._make_room(jid):
            self.stream.send(refusal(request, "conflict"))
            return False
        result = reply(request, type="result")
        bound = ET.SubElement(result, _BIND)
        ET.SubElement(bound, f"{{{BIND}}}jid").text = str(jid)
        self.stream.send(result)
        self.hub.add_client(self, jid)
        return True

    def _make_room(self, jid: JID) -> bool:
        """RFC 6120 7.7.2.2: of two sessions of one full JID, the policy says which stays. False: not this one."""
        for older in self.hub.find(jid):
            if self.options.resource_conflict == "kick_new":
                return False
            self.hub.remove(older)
            older.stream.close("conflict", "replaced by a new connection")
        return True

    # XEP-0078

    async def _legacy(self, request: Node, query: Node) -> bool:
        if self.failed_logins:
            # XEP-0078 3: after a failed SASL negotiation the server MUST NOT let iq:auth pass
            raise ProtocolError("SASL has failed on this stream", answer="policy-violation")
        if self.must_start_tls():
            self.stream.send(refusal(request, "not-acceptable", "TLS is required"))
            return False
        if request.get("type") == "get":
            self._send_fields(request, query)
            return False
        await self.silent_at("auth")
        username = query.findtext(f"{{{IQ_AUTH}}}username") or ""
        resource = query.findtext(f"{{{IQ_AUTH}}}resource") or ""
        given = {
            "digest": query.findtext(f"{{{IQ_AUTH}}}digest"),
            "plain": query.findtext(f"{{{IQ_AUTH}}}password"),
        }
        usable = [kind for kind in self.options.legacy if given.get(kind)]
        if not usable and self.options.legacy_fields_as_result:
            self._send_fields(request, query)
            return False
        if not (username and resource and usable):
            self.stream.send(refusal(request, "not-acceptable"))  # XEP-0078 3.3: 406, information is missing
            return False
        self.mechanism = usable[0]
        password = self.site.password_of(username)
        expected = password if self.mechanism == "plain" else digest_of(self.stream.id, password or "")
        if password is None or not same_secret(given[self.mechanism] or "", expected or ""):
            self.stream.send(refusal(request, "not-authorized"))
            return False
        try:
            jid = JID(self.site.local_part(username), self.site.domain, resource)
        except JidError:
            self.stream.send(refusal(request, "jid-malformed"))
            return False
        if not self._make_room(jid):
            self.stream.send(refusal(request, "conflict"))
            return False
        self.connection_type = LEGACY
        self.stream.send(reply(request, type="result"))
        self.hub.add_client(self, jid)
        return True

    def _send_fields(self, request: Node, query: Node) -> None:
        answer = reply(request, type="result")
        fields = ET.SubElement(answer, _QUERY)
        username = query.findtext(f"{{{IQ_AUTH}}}username")
        names = {"digest": "digest", "plain": "password"}
        for name in ("username", *(names[kind] for kind in self.options.legacy), "resource"):
            ET.SubElement(fields, f"{{{IQ_AUTH}}}{name}").text = username if name == "username" else None
        self.stream.send(answer)

    # Logged in

    def received(self, node: Node) -> None:
        self.take_error(node)
        if node.tag not in STANZAS:
            raise ProtocolError("this is no stanza", answer="unsupported-stanza-type", came=f"{node.tag:.80}")
        address = self.addresses[0]
        given = node.get("from")
        if given != address:
            # RFC 6120 8.1.2.1: whatever a client writes must be its own address, and others see the full one
            if given is not None and not (
                same_address(given, address) or same_address(given, address.partition("/")[0])
            ):
                raise ProtocolError("'from' is another's address", answer="invalid-from")
            node.set("from", address)
        self.hub.note(address, node)
        if node.tag == PRESENCE and node.get("to") is None:
            self.hub.set_presence(self, node)
        else:
            self.hub.route(node, self)
