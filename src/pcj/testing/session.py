"""What the four kinds of session have in common: the course of a connection, features, STARTTLS."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pcj.errors import JidError, ProtocolError
from pcj.jid import JID
from pcj.namespaces import STREAM_LIMITS, STREAMS, TLS
from pcj.stanza import Node
from pcj.testing.auth import binding_types_element, mechanisms_element, sasl_login
from pcj.testing.hub import Hub
from pcj.testing.link import Link
from pcj.testing.options import SilentAt
from pcj.testing.stream import ServerStream, StreamEnded
from pcj.transport.bindings import server_end_point
from pcj.transport.certificate import Certificate
from pcj.xmlstream import StreamHeader

__all__ = ["Session", "SessionInfo"]

STARTTLS = f"{{{TLS}}}starttls"
STREAM_ERROR = f"{{{STREAMS}}}error"
#: RFC 6120 6.4.5: a client may try again, 2 to 5 times.
MAX_SASL_ATTEMPTS = 3

_log = logging.getLogger("pcj.testing")


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """Who is logged in to an embedded server.

    Attributes:
        jid: the full JID of a client, the domain of a component.
        connection_type: "XMPP", "LEGACY", "JABBERD14_COMPONENT" or "JABBERD20_COMPONENT".
        secure: inside TLS. mechanism: how it logged in: the SASL mechanism, "digest", "plain" or "handshake".
        managed: stream management (XEP-0198) is on. unacked: stanzas that the client has not acknowledged.
        resumptions: how often the session was resumed.
    """

    jid: str
    connection_type: str
    secure: bool
    mechanism: str
    managed: bool = False
    unacked: int = 0
    resumptions: int = 0


class Session(ABC):
    """One connection, from accept to its end."""

    namespace = ""
    connection_type = ""
    #: Its connection is lost, and the session waits for the client to come back (XEP-0198 5).
    away = False

    def __init__(self, link: Link, hub: Hub, *, direct_tls: bool = False) -> None:
        self.hub = hub
        self.site = hub.site
        self.options = hub.site.options
        self.direct_tls = direct_tls
        self.mechanism = ""
        self.addresses: list[str] = []
        self._failed_logins = 0
        self.stream = ServerStream(
            link,
            namespace=self.namespace,
            domain=hub.site.domain,
            max_stanza_bytes=self.options.max_stanza_bytes,
            close_timeout=self.options.close_timeout,
        )

    # What each kind does its own way

    @abstractmethod
    async def negotiate(self) -> None:
        """From the header to `begin`."""

    @abstractmethod
    def received(self, node: Node) -> None:
        """An element of a session that is logged in."""

    def deliver(self, node: Node) -> None:
        """Send a stanza to this peer, in the form that its protocol has for it."""
        self.stream.send(node)

    def send(self, node: Node) -> None:
        """Send any element, as it is."""
        self.stream.send(node)

    def close(self, condition: str | None = None, text: str = "", *, resumable: bool = False) -> None:
        """Close the stream, after what is still to be said. `resumable`: the session may be kept all the same."""
        self.stream.close(condition, text)

    def leave(self, *, resumable: bool) -> None:
        """The connection is over. `resumable`: it was lost, so that a session may be kept for who comes back."""
        self.hub.remove(self)

    def forget(self) -> None:
        """Nobody is logged in here any more, and nothing is done about what was on its way."""
        self.hub.remove(self)

    def component_changed(self, domain: str, *, present: bool) -> None:
        """A component has come or gone. Nobody but the router tells its peers."""
        return

    # The course of a connection

    async def serve(self) -> None:
        """All of it; returns when the connection is gone."""
        lost = False
        try:
            await self.silent_at("accept")
            if self.direct_tls:
                await self._handshake()
            await self.negotiate()
            await self.stream.wait_end()
            lost = self.stream.broken
        except StreamEnded:
            pass
        except ProtocolError as error:
            if error.answer is not None:
                self.stream.send_error(error.answer, str(error), error.application)
        except Exception:
            _log.exception("the embedded server failed in a session of %s", self.addresses or "nobody yet")
            self.stream.send_error("internal-server-error")
        finally:
            self.leave(resumable=lost)
            await self.stream.finish()

    async def silent_at(self, phase: SilentAt) -> None:
        """Fall silent here, if the options say so."""
        if self.options.silent_at == phase:
            await self.stream.silence()

    @property
    def secure(self) -> bool:
        """Whether the connection is inside TLS."""
        return self.stream.link.secure

    def infos(self) -> list[SessionInfo]:
        """One for each address that this connection serves."""
        return [SessionInfo(a, self.connection_type, self.secure, self.mechanism) for a in self.addresses]

    # Features that several kinds have

    def offers_starttls(self) -> bool:
        """Whether STARTTLS is possible now."""
        return self.options.starttls != "none" and not self.secure

    def must_start_tls(self) -> bool:
        """Whether nothing else is possible before STARTTLS."""
        return self.options.starttls == "required" and not self.secure

    def starttls_feature(self) -> list[Node]:
        """The feature (RFC 6120 5.4.1), where it is offered."""
        if not self.offers_starttls():
            return []
        feature = ET.Element(STARTTLS)
        if self.options.starttls == "required":
            ET.SubElement(feature, f"{{{TLS}}}required")
        return [feature]

    def limits_feature(self) -> list[Node]:
        """The feature (XEP-0478 3.1), where it is wanted."""
        options = self.options
        given = {"max-bytes": options.announced_max_bytes, "idle-seconds": options.announced_idle_seconds}
        feature = ET.Element(f"{{{STREAM_LIMITS}}}limits")
        for name, value in given.items():
            if value is not None:
                ET.SubElement(feature, f"{{{STREAM_LIMITS}}}{name}").text = str(value)
        return [feature] if len(feature) else []

    def mechanisms_now(self, configured: Sequence[str]) -> list[str]:
        """Those of the configured mechanisms that may be used on this connection as it is."""
        if self.must_start_tls():
            return []
        open_too = {"PLAIN"} if self.options.plain_without_tls else set()
        inside = {name for name in configured if name == "PLAIN" or name.endswith("-PLUS")} - open_too
        left_out = set() if self.secure else inside
        if self.certified() is None:
            left_out.add("EXTERNAL")
        return [name for name in configured if name not in left_out]

    def certified(self) -> str | None:
        """The account that the client's certificate names (XmppAddr, RFC 6120 13.7.1.4), or None."""
        der = self.stream.link.peer_certificate
        addresses = Certificate.parse(der).xmpp_addresses if der is not None else ()
        for address in addresses:
            try:
                jid = JID.parse(address)
            except JidError:
                continue
            if jid.local in self.site.accounts and jid.domain == self.site.domain:
                return jid.local
        return None

    def bindings(self) -> dict[str, bytes] | None:
        """The channel bindings that are listed here, or None if none are (XEP-0440)."""
        types, tls = self.options.binding_types, self.site.tls
        if not self.secure or types is None or tls is None:
            return None
        end_point = server_end_point(Certificate.parse(tls.certificate))
        return {kind: end_point for kind in types if end_point is not None}

    def mechanisms_feature(self, configured: Sequence[str]) -> list[Node]:
        """The list of mechanisms, where there are any, and the types of channel binding that go with it."""
        names = self.mechanisms_now(configured)
        if not names:
            return []
        types = self.bindings() if any(name.endswith("-PLUS") for name in names) else None
        return [mechanisms_element(names), *([] if not types else [binding_types_element(types)])]

    async def start_tls(self) -> None:
        """Answer <starttls/> and shake hands; a new header comes next.

        Raises:
            StreamEnded: it failed, and the connection is over.
        """
        # RFC 6120 5.3.4: no white space either may follow; what is here already was written by who knows whom.
        if not self.offers_starttls() or self.stream.leftover:
            self.stream.send(ET.Element(f"{{{TLS}}}failure"))  # RFC 6120 5.4.2.2: and the stream is closed
            raise StreamEnded
        link = self.stream.link
        link.pause_reading()
        self.stream.send(ET.Element(f"{{{TLS}}}proceed"))
        link.flush()
        self.stream.restart()
        await self._handshake()

    async def _handshake(self) -> None:
        if self.options.silent_at == "tls":
            self.stream.link.resume_reading()
            await self.stream.silence()
        if self.site.tls is None or not await self.stream.link.start_tls(self.site.tls):
            raise StreamEnded

    async def sasl(
        self, auth: Node, configured: Sequence[str], password_of: Callable[[str], str | None], realm: str
    ) -> str | None:
        """Answer <auth/>; the user's name, or None if the peer may try again.

        Raises:
            ProtocolError: it has tried too often.
        """
        await self.silent_at("auth")
        done = await sasl_login(
            self.stream,
            auth,
            offered=self.mechanisms_now(configured),
            configured=configured,
            password_of=password_of,
            realm=realm,
            options=self.options,
            salt=self.site.salt,
            bindings=self.bindings(),
            certified=self.certified(),
        )
        if done is None:
            self._failed_logins += 1
            if self._failed_logins >= MAX_SASL_ATTEMPTS:
                raise ProtocolError("too many failed logins", answer="policy-violation")
            return None
        user, self.mechanism = done
        self.stream.restart()
        return user

    @property
    def failed_logins(self) -> int:
        """How often SASL has failed here."""
        return self._failed_logins

    def take_error(self, node: Node) -> None:
        """A stream error of the peer ends the stream (RFC 6120 4.9.1.1).

        Raises:
            StreamEnded: it was one.
        """
        if node.tag == STREAM_ERROR:
            raise StreamEnded


def check_host(header: StreamHeader) -> str:
    """The domain a header is for.

    Raises:
        ProtocolError: it names none.
    """
    to = header.attributes.get("to", "")
    if not to:
        raise ProtocolError("the header has no 'to'", answer="improper-addressing", expected="to")
    try:
        return JID(None, to).domain
    except JidError:
        raise ProtocolError(f"{to!r:.80} is no domain", answer="host-unknown") from None
