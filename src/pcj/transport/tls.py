"""TLS over memory buffers: bytes in, plaintext and bytes out. No socket, no loop.

`TlsEngine` is what holds whichever library does the work: Python's `ssl` (`tls_ssl`), or pyOpenSSL (`tls_openssl`).
Bounds, pins, the application protocol, the facts and the sentences are here. Whoever has the connection feeds it what
came, and sends what `data_to_send` gives after every call.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pcj.errors import ConfigError, UsageError
from pcj.transport import tls_errors
from pcj.transport.bindings import channel_bindings
from pcj.transport.certificate import Certificate
from pcj.transport.names import ascii_name, both_names, ip_literal, shown
from pcj.transport.server_hello import HELLO_BYTES
from pcj.transport.tls_context import make_context
from pcj.transport.tls_errors import Begun, TlsError
from pcj.transport.tls_library import RECORD_BYTES, LibraryContext

__all__ = ["Begun", "TlsEngine", "TlsError", "TlsFacts", "make_context"]

#: What the peer may send before the handshake is done, in bytes.
MAX_HANDSHAKE_BYTES = 262_144
#: What may wait in the engine to be taken by `data_to_send`, in bytes.
MAX_UNSENT_BYTES = 67_108_864
#: What the peer may make us send after the handshake without sending data itself, in bytes.
MAX_ANSWER_BYTES = 65_536
#: What the peer may send after the handshake without any data in it (session tickets, key updates), in bytes.
MAX_DATALESS_BYTES = 262_144
#: How many of the peer's first bytes are quoted, in the sentence about a peer that does not speak TLS.
FIRST_BYTES = 80

# ContentType (RFC 8446 5.1): what a server may begin with.
_ALERT, _HANDSHAKE = 0x15, 0x16
_RECORD_HEADER_BYTES = 5


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """A TLS session that was made and accepted.

    Attributes:
        version: "TLSv1.3" or "TLSv1.2". cipher: OpenSSL's name of the suite.
        name: the name or address that was looked for, as A-labels. verified: chain and name were checked against it.
        certificate: the leaf in DER, as received. alpn: the application protocol selected, or None.
        bindings: the channel bindings that can be had, by type, the best first.
        own_addresses: the JIDs in our client certificate (XmppAddr, RFC 6120 13.7.1.4).
    """

    version: str
    cipher: str
    name: str
    verified: bool
    certificate: bytes = field(repr=False)
    alpn: str | None
    bindings: Mapping[str, bytes] = field(repr=False, hash=False)
    own_addresses: tuple[str, ...]


class TlsEngine:
    """The client's side of one TLS session.

    `start`, then `receive_data` for every piece that comes; after every call send what `data_to_send` returns, also
    after an error: it may hold the alert that tells the peer why. Sessions are never resumed, so the certificate, the
    name and the pins are checked on every connection.

    Args:
        context: from `make_context`; it says which library it is done with.
        server_name: the name that the certificate must bear, as U-labels or A-labels, or an IP address. A name is sent
            as SNI too; an address is not (RFC 6066 3).
        pins: "sha256:<hex>" of the SubjectPublicKeyInfos that are accepted, "cert-sha256:<hex>" of whole
            certificates; one that fits is enough; empty: any.
        service: what the certificate may name instead ("_xmpp-client"), in an SRV-ID with `server_name` (RFC 6120
            13.7.1.2.1), where the library can check that; None: nothing else will do.
        peer: where the server is ("example.org:5222"), for the sentences of errors. begun: why TLS was begun, for them.

    Attributes:
        facts: None until the handshake is done and certificate, pins and ALPN were accepted.
        peer_closed: the peer's close_notify was seen: it will send nothing more, and nothing was cut off.

    Raises:
        ConfigError: `server_name` is neither a name nor an address.
    """

    def __init__(
        self,
        context: LibraryContext,
        *,
        server_name: str,
        pins: tuple[str, ...] = (),
        service: str | None = None,
        peer: str = "",
        begun: Begun = Begun.ASKED,
    ) -> None:
        address = ip_literal(server_name)
        try:
            # A certificate knows no scope of an IPv6 address ("%eth0").
            self._name = ascii_name(server_name) if address is None else str(address).partition("%")[0]
        except ValueError as error:
            raise ConfigError(f"a certificate cannot be looked for under this name: {error}") from None
        self._both_names = both_names("" if server_name.isascii() else shown(server_name)[1:-1], self._name)
        self._begun = begun
        self._context = context
        self._pins = tuple(pin.lower() for pin in pins)
        self._peer = peer
        self._service = service
        self._library = context.session(self._name, address=address is not None, service=service)
        self._started = False
        self._closing = False
        self._first = b""
        self._handshake_room = MAX_HANDSHAKE_BYTES
        self._answered = 0  # bytes of our answers since data came last
        self._dataless = 0  # bytes of the peer's since then
        self._heard = False
        self._error: TlsError | None = None
        self.facts: TlsFacts | None = None
        self.peer_closed = False

    def start(self) -> None:
        """Begin the handshake; the ClientHello is in `data_to_send`."""
        if self._started:
            raise UsageError("start() was called before")
        self._started = True
        self._handshake()

    def receive_data(self, data: bytes) -> bytes:
        """Take what came from the peer, and go on as far as it leads.

        Returns:
            All plaintext there is: b"" while the handshake lasts, and what followed its last flight once it is done
            (`facts` is set then). An error behind plaintext in the same piece is raised by the next call.

        Raises:
            TlsError: the session was not made, was refused or is broken; every later call raises it again.
        """
        if self._error is not None:
            raise self._error
        if not self._started:
            raise UsageError("receive_data() before start()")
        if self.peer_closed:
            return b""  # RFC 8446 6.1: what follows close_notify is ignored
        if self.facts is None:
            rest = self._receive_handshake(data)
            if rest is None:
                return b""
            data = rest
        return self._decrypt(data)

    @property
    def fault(self) -> TlsError | None:
        """What ended the session, or None; it may have come behind plaintext that was good."""
        return self._error

    def receive_eof(self) -> bool:
        """Note that the peer's bytes have ended.

        Returns:
            True if its close_notify came before: else the end may have been cut off (RFC 8446 6.1).

        Raises:
            TlsError: the handshake was not done, or an error waited behind the last plaintext.
        """
        if self._error is not None:
            raise self._error
        if self.facts is None:
            wrong = self._first and self._first[0] not in (_ALERT, _HANDSHAKE)
            first = self._first[:FIRST_BYTES]
            raise self._fail((tls_errors.not_tls if wrong else tls_errors.closed)(first, self._peer, self._begun))
        return self.peer_closed

    def write(self, plaintext: bytes) -> None:
        """Encrypt data; `data_to_send` has it then.

        Raises:
            TlsError: the session is broken.
            UsageError: it is not made, or closed, or 64 MiB wait to be sent; nothing was taken.
        """
        if self._error is not None:
            raise self._error
        if self.facts is None or self._closing:
            raise UsageError("write() on a TLS session that is " + ("closed" if self.facts else "not made"))
        library = self._library
        if library.pending + len(plaintext) > MAX_UNSENT_BYTES:
            raise UsageError(f"more than {MAX_UNSENT_BYTES} bytes would wait to be sent: call data_to_send() first")
        if not plaintext:
            return
        try:
            written = library.write(plaintext)
            if written < len(plaintext):  # one record a time
                view = memoryview(plaintext)
                while written < len(view):
                    written += library.write(view[written : written + RECORD_BYTES])
        except ssl.SSLError as error:
            raise self._fail(tls_errors.broken(error, self._heard, self._peer)) from error

    def data_to_send(self) -> bytes:
        """What is to be sent to the peer now; it is handed out once."""
        return self._library.take()

    def close(self) -> None:
        """Say that we send nothing more (close_notify). What the peer still sends can be received."""
        if not self._closing:
            self._closing = True
            self._library.say_goodbye()

    # ---- the handshake

    def _receive_handshake(self, data: bytes) -> bytes | None:
        """Feed the handshake, no more than it may take. Returns what is left once it is done, None before."""
        if len(self._first) < HELLO_BYTES:
            self._first += data[: HELLO_BYTES - len(self._first)]
        if self._first and self._first[0] not in (_ALERT, _HANDSHAKE):
            if len(self._first) < _RECORD_HEADER_BYTES:
                return None  # too little to quote; the next bytes, the end or the deadline will come
            raise self._fail(tls_errors.not_tls(self._first[:FIRST_BYTES], self._peer, self._begun))
        taken = data[: self._handshake_room]
        self._handshake_room -= len(taken)
        self._library.feed(taken)
        if self._handshake():
            return data[len(taken) :]
        if self._handshake_room == 0:
            raise self._fail(tls_errors.too_long(MAX_HANDSHAKE_BYTES, self._peer))
        return None

    def _handshake(self) -> bool:
        """Go on with the handshake. True once it is done and accepted."""
        library = self._library
        try:
            if not library.handshake():
                return False
        except ssl.SSLCertVerificationError as error:
            looked_for = tls_errors.LookedFor(
                self._both_names, self._name, self._service, self._context.checks_services
            )
            raise self._fail(tls_errors.unverified(error, looked_for, library.chain(), time.time())) from error
        except ssl.SSLError as error:
            first = self._first[:FIRST_BYTES]
            raise self._fail(tls_errors.handshake(error, self._both_names, first, self._peer)) from error
        self.facts = self._accept()
        self._first = b""  # of no more use, and there are thousands of links
        return True

    def _accept(self) -> TlsFacts:
        """The handshake is done: look at what the library does not, before a byte of data is handed out."""
        library, offered = self._library, self._context.offered
        certificate = library.certificate()
        if certificate is None:
            raise self._refuse(tls_errors.unreadable_certificate("there is none", self._peer))
        leaf = None
        try:
            leaf = Certificate.parse(certificate)
        except ValueError as error:
            if self._pins:
                raise self._refuse(tls_errors.unreadable_certificate(error, self._peer)) from None
        if leaf is not None and self._pins and not set(leaf.pins) & set(self._pins):
            raise self._refuse(tls_errors.wrong_pin(leaf, self._pins, self._peer))
        selected = library.alpn()
        # RFC 7301 3.2: no selection is a server that does not know of ALPN; a foreign one is another service.
        if selected is not None and selected not in offered:
            raise self._refuse(tls_errors.wrong_alpn(selected, offered, self._peer))
        return TlsFacts(
            version=library.version(),
            cipher=library.cipher(),
            name=self._name,
            verified=self._context.verifies,
            certificate=certificate,
            alpn=selected,
            bindings=channel_bindings(library, leaf, self._first),
            own_addresses=self._context.own_addresses,
        )

    # ---- the session

    def _decrypt(self, data: bytes) -> bytes:
        library = self._library
        unsent = library.pending
        parts: list[bytes] = []
        library.feed(data)
        try:
            self.peer_closed = library.decrypt(parts)
        except ssl.SSLError as error:
            failure = self._fail(tls_errors.broken(error, self._heard or bool(parts), self._peer))
            if not parts:
                raise failure from error
            failure.__cause__ = error
        if parts:
            self._heard = True
            self._answered = self._dataless = 0
            return parts[0] if len(parts) == 1 else b"".join(parts)
        self._answered += library.pending - unsent
        self._dataless += len(data)
        if self._answered > MAX_ANSWER_BYTES:
            raise self._fail(tls_errors.endless_answers(MAX_ANSWER_BYTES, self._peer))
        if self._dataless > MAX_DATALESS_BYTES:
            raise self._fail(tls_errors.no_data(MAX_DATALESS_BYTES, self._peer))
        return b""

    def _refuse(self, error: TlsError) -> TlsError:
        """The handshake was done, and we do not like what came of it."""
        self._closing = True
        self._library.say_goodbye()
        return self._fail(error)

    def _fail(self, error: TlsError) -> TlsError:
        self._error = error
        return error
