"""The server's side of a client: XMPP (RFC 6120), and LEGACY (XEP-0078) on the same port."""

from __future__ import annotations

import asyncio
import secrets
import xml.etree.ElementTree as ET
from dataclasses import replace

from pcj.config import LEGACY, XMPP
from pcj.errors import JidError, ProtocolError
from pcj.jid import JID, same_address
from pcj.namespaces import BIND, CLIENT, IQ_AUTH, IQ_AUTH_FEATURE, SESSION
from pcj.serialize import serialize
from pcj.stanza import IQ, PRESENCE, STANZAS, Node, reply
from pcj.testing.auth import AUTH, digest_of, same_secret
from pcj.testing.management import ACK, ENABLE, REQUEST, RESUME, Management, failed, feature, read_count
from pcj.testing.services import refusal
from pcj.testing.session import STARTTLS, Session, SessionInfo, check_host
from pcj.xmlstream import StreamHeader

__all__ = ["ClientSession"]

_BIND = f"{{{BIND}}}bind"
_QUERY = f"{{{IQ_AUTH}}}query"


class ClientSession(Session):
    """One client."""

    namespace = CLIENT
    connection_type = XMPP

    #: What stream management knows of this session, once it is on.
    management: Management | None = None
    _local: str | None = None  # the account, once SASL has proved it
    _survives = False  # its end, though the server closed the stream
    _expiry: asyncio.TimerHandle | None = None
    _left_over: tuple[Node, ...] = ()  # of a session that this one replaces

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
            elif node.tag == RESUME and self._managed():
                if self._local is not None and self._resume(node):
                    break
                if self._local is None:
                    self.stream.send(failed("unexpected-request", self.options))
            elif node.tag == ENABLE and self._managed():
                self.stream.send(failed("unexpected-request", self.options))  # XEP-0198 3: not before a bound resource
            else:
                # RFC 6120 4.9.3.12: before the stream is authenticated and bound
                raise ProtocolError("log in first, then bind a resource", answer="not-authorized")
        self.stream.begin(header, self.received)
        self._bring_left_over()

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
            if self._managed():
                features.append(feature())
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
            # One that is away has nobody who could be disturbed.
            if self.options.resource_conflict == "kick_new" and not older.away:
                return False
            if isinstance(older, ClientSession):
                self._left_over += older.end()
            older.stream.close("conflict", "replaced by a new connection")
        return True

    def _bring_left_over(self) -> None:
        left_over, self._left_over = self._left_over, ()
        for node in left_over:
            self.hub.route(node, None)

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
            if self._managed() and self._manage(node):
                return
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
        if self.management is not None:
            self.management.handled += 1

    def deliver(self, node: Node) -> None:
        management = self.management
        if management is None:
            self.stream.send(node)
            return
        data = serialize(node, self.namespace)
        if self.away and not management.has_room(len(data)):
            self.hub.bounce(node, "recipient-unavailable", None, "too much waits for it")
            return
        management.keep(node, len(data))
        if self.stream.ended:
            return
        self.stream.write(data)
        if management.is_full():
            self.close("policy-violation", "you acknowledge too little")
        elif management.request_is_due():
            self.stream.send(ET.Element(REQUEST))

    def send(self, node: Node) -> None:
        if node.tag in STANZAS:
            self.deliver(node)  # what counts must be counted
        else:
            self.stream.send(node)

    def close(self, condition: str | None = None, text: str = "", *, resumable: bool = False) -> None:
        self._last_ack()
        self._survives = resumable
        self.stream.close(condition, text)

    # Stream management (XEP-0198)

    @property
    def account(self) -> str:
        """The local part of whoever has logged in; "" before."""
        return self._local or ""

    def infos(self) -> list[SessionInfo]:
        found, management = super().infos(), self.management
        if management is None:
            return found
        return [
            replace(info, managed=True, unacked=management.outstanding, resumptions=management.resumptions)
            for info in found
        ]

    def _managed(self) -> bool:
        return self.options.stream_management and self.connection_type == XMPP

    def _manage(self, node: Node) -> bool:
        """What stream management has to do with an element that is no stanza. False: nothing."""
        management = self.management
        if node.tag == ENABLE:
            if management is not None:
                # XEP-0198 3: it SHOULD be answered with a stream error
                raise ProtocolError("stream management is on already", answer="policy-violation")
            self._enable(node)
        elif node.tag == RESUME:
            self.stream.send(failed("unexpected-request", self.options))  # a resource is bound
        elif management is None:
            return False
        elif node.tag == REQUEST:
            if self.options.answer_ack_requests:
                self.stream.send(management.ack())
        elif node.tag == ACK:
            management.acked(read_count(node))
        else:
            return False
        return True

    def _enable(self, request: Node) -> None:
        if self.options.enable_error is not None:
            self.stream.send(failed(self.options.enable_error, self.options))
            return
        self.management = Management.enabled_by(request, self.options)
        if self.management.id:
            self.hub.resumable.enter(self.management.id, self)
        self.stream.send(self.management.enabled())

    def _resume(self, request: Node) -> bool:
        previd, h = request.get("previd", ""), read_count(request)
        older = self.hub.resumable.find(previd, self.account)
        management = older.management if older is not None else None
        if older is None or management is None or self.options.resume_error is not None:
            handled = management.handled if management is not None else None
            if handled is None:
                handled = self.hub.resumable.handled(previd, self.account)
            told = handled if self.options.failed_handled else None
            self.stream.send(failed(self.options.resume_error or "item-not-found", self.options, told))
            return False
        management.acked(h)
        older.hand_over()
        management.resumptions += 1
        self.management = management
        self.hub.resumable.enter(management.id, self)
        self.stream.send(management.resumed())
        # XEP-0198 5: what was not handled is sent again, in its order; it is counted already
        for node in management.unacked(self.site.domain):
            self.stream.send(node)
        if management.outstanding and management.request_is_due(after=0):
            self.stream.send(ET.Element(REQUEST))
        self.hub.take_over(older, self)
        return True

    def hand_over(self) -> None:
        """Another connection goes on with this session; ours, if it still stands, is none any more."""
        self.management = None
        self._come_back()
        if not self.stream.broken:
            # XEP-0198 5: "the server SHOULD send a 'conflict' stream error and close that stream"
            self.stream.close("conflict", "the session was resumed on another connection")

    def leave(self, *, resumable: bool) -> None:
        management = self.management
        if self.away:
            return  # the server's `drop` was here before
        if management is not None and management.id and (resumable or self._survives):
            self.away = True
            self._expiry = asyncio.get_running_loop().call_later(management.seconds, self.expire)
            self.hub.notify()
            return
        if self.stream.closed_by_peer:
            self._last_ack()
        self.expire()

    def expire(self) -> None:
        """The session is over: what waited for the client goes where it goes for one that is not there."""
        self._left_over += self.end()
        self._bring_left_over()

    def end(self) -> tuple[Node, ...]:
        """Nobody is logged in here any more; returns what the client has not acknowledged."""
        management, self.management = self.management, None
        self._come_back()
        self.hub.remove(self)
        if management is None:
            return ()
        self.hub.resumable.end(management.id, self.account, management.handled)
        return tuple(management.unacked(self.site.domain))

    def forget(self) -> None:
        self.management = None
        self._come_back()
        self.hub.remove(self)

    def _come_back(self) -> None:
        self.away = False
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _last_ack(self) -> None:
        """What we have handled is told before our stream closes, as Prosody does."""
        if self.management is not None and self.options.answer_ack_requests:
            self.stream.write(serialize(self.management.ack(), self.namespace))
