"""TLS over buffers: `pcj.transport.tls.TlsEngine`, with both libraries, against a real server whose bytes are tampered
with.

Invariant. Whatever comes, there is data, nothing, or `TlsError`, whose sentence is bounded and safe to print and which
every later call raises again; `UsageError` for a write at the wrong time. No data is handed out before the session was
accepted, and none that the server did not say, in its order, without a gap. What the session's facts say is what the
server has: its certificate, and the bindings. What a server can make us send is bounded.

Input, line by line: the first says how ("o" pyOpenSSL, else the standard library; "2" TLS 1.2; "c" the client does not
trust the server; "n" it looks for another name); then "P" what the server's side wrote comes, with an edit if more
letters follow; "H" half of it; "D" it is lost; "A" the server says data; "G" it says goodbye; "W" the client writes;
"C" it closes; "E" the bytes end; "Z" the rest of the line comes, 4096 times. Any other line comes as it is.
"""

from __future__ import annotations

import hashlib
import ssl
import tempfile
from functools import cache
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fuzz.common import shown_safely, splice
from pcj.errors import UsageError
from pcj.transport.tls import TlsEngine, TlsError, make_context

__all__ = ["ALLOWED", "DICTIONARY", "MAX_BYTES", "one_input"]

ALLOWED = (TlsError, UsageError)
MAX_BYTES = 1024
DICTIONARY: tuple[bytes, ...] = (
    b"\nP",
    b"\nP\nP\nP",
    b"\nH",
    b"\nAhello",
    b"\nG",
    b"\nWhello",
    b"\nC",
    b"\nE",
    b"\nZ",
    b"\x16\x03\x03\x00\x04\x0e\x00\x00\x00",
    b"\x15\x03\x03\x00\x02\x01\x00",
    b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x14\x03\x03\x00\x01\x01",
    b"\x17\x03\x03\x00\x10",
    b"\x16\x03\x01\x40\x00",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"<stream:stream>",
)
FLOOD = 4096
MAX_MOVES = 40
#: Bytes that the engine may be made to send, beyond what was written: its own bound on answers, several times.
MAX_SENT = 262_144


@cache
def _server(maximum: ssl.TLSVersion) -> tuple[ssl.SSLContext, bytes, str]:
    """A server's context, its certificate in DER, and the file of its authority."""
    authority = trustme.CA(organization_name="fuzz")
    issued = authority.issue_cert("example.org")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = maximum
    issued.configure_cert(context)
    der = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_bytes(Encoding.DER)
    file = Path(tempfile.mkdtemp()) / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return context, der, str(file)


def one_input(data: bytes) -> None:
    head, *lines = data.split(b"\n")
    pair = Pair(head)
    for line in lines[:MAX_MOVES]:
        pair.move(line)


class Pair:
    """Our engine, and the other end: what it writes waits until it is passed on."""

    def __init__(self, head: bytes) -> None:
        tls_1_2 = b"2" in head
        context, self.certificate, ca_file = _server(ssl.TLSVersion.TLSv1_2 if tls_1_2 else ssl.TLSVersion.TLSv1_3)
        self.trusted = b"c" not in head and b"n" not in head
        if b"c" in head:  # another authority's
            ca_file = _server(ssl.TLSVersion.TLSv1_3 if tls_1_2 else ssl.TLSVersion.TLSv1_2)[2]
        client = make_context(
            verify=True, ca_file=ca_file, client_certificate=None, engine="openssl" if b"o" in head else "ssl"
        )
        name = "example.net" if b"n" in head else "example.org"
        self.engine = TlsEngine(client, server_name=name, peer="example.org:5222")
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.shaken = False
        self.wire = b""
        self.said = b""
        self.heard = b""
        self.asked = 0  # bytes that we wanted written
        self.sent = 0
        self.error: TlsError | None = None
        self.engine.start()
        self._carry()

    def move(self, line: bytes) -> None:
        """What one line says; then all must hold."""
        kind, rest = line[:1], line[1:]
        if kind == b"P":
            wire, self.wire = self.wire, b""
            self._deliver(splice(wire, rest))
        elif kind == b"H":
            half = len(self.wire) // 2
            wire, self.wire = self.wire[:half], self.wire[half:]
            self._deliver(wire)
        elif kind == b"D":
            self.wire = b""
        elif kind == b"A":
            self._say(rest)
        elif kind == b"G":
            self._goodbye()
        elif kind == b"W":
            self._write(rest)
        elif kind == b"C":
            self.engine.close()
        elif kind == b"E":
            self._end()
        else:
            self._deliver(rest * FLOOD if kind == b"Z" else line)
        self._carry()
        if self.engine.facts is not None:
            self._check_facts()
        assert self.sent <= MAX_SENT + 2 * self.asked, "it can be made to send without end"

    # ---- the engine's side

    def _deliver(self, data: bytes) -> None:
        try:
            plain = self.engine.receive_data(data)
        except TlsError as error:
            self._failed(error)
            return
        assert not plain or self.engine.facts is not None, "data before the session was accepted"
        assert self.error is None, "it went on after an error"
        self.heard += plain
        assert self.said.startswith(self.heard), "the server did not say this"

    def _failed(self, error: TlsError) -> None:
        shown_safely(error)
        assert self.error is None or error is self.error, "another error after the first"
        self.error = error

    def _write(self, data: bytes) -> None:
        try:
            self.engine.write(data)
            assert self.engine.facts is not None
            self.asked += len(data) + 64
        except TlsError as error:
            self._failed(error)
        except UsageError as error:
            shown_safely(error)

    def _end(self) -> None:
        try:
            clean = self.engine.receive_eof()
        except TlsError as error:
            self._failed(error)
            return
        assert clean == self.engine.peer_closed
        assert self.engine.facts is not None

    def _check_facts(self) -> None:
        facts = self.engine.facts
        assert facts is not None
        assert self.trusted, "it was accepted, and ought not to have been"
        assert facts.certificate == self.certificate
        assert facts.verified
        assert facts.bindings["tls-server-end-point"] == hashlib.sha256(self.certificate).digest()
        stands = self.shaken and self.server.version() is not None  # which it is after a fatal alert
        if stands:
            assert facts.version == self.server.version()
        if "tls-unique" in facts.bindings:
            assert facts.version == "TLSv1.2"
        if "tls-unique" in facts.bindings and stands:
            assert facts.bindings["tls-unique"] == self.server.get_channel_binding("tls-unique")
        if "tls-exporter" in facts.bindings:
            assert len(facts.bindings["tls-exporter"]) == 32

    def _carry(self) -> None:
        """What the engine wants sent goes to the server at once; what that writes waits."""
        data = self.engine.data_to_send()
        self.sent += len(data)
        self.incoming.write(data)
        try:
            if not self.shaken:
                self.server.do_handshake()
                self.shaken = True
            while self.server.read(65536):
                pass
        except ssl.SSLError:
            pass  # it wants more, or refuses what the tampering led to
        self.wire += self.outgoing.read()

    # ---- the server's side

    def _say(self, data: bytes) -> None:
        if not self.shaken or not data:
            return
        try:
            self.server.write(data)
        except ssl.SSLError:
            return
        self.said += data
        self.wire += self.outgoing.read()

    def _goodbye(self) -> None:
        if self.shaken:
            try:
                self.server.unwrap()
            except ssl.SSLError:
                pass  # our answer is not there yet
            self.wire += self.outgoing.read()
