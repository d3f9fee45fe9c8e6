"""Our TLS engine and a server of the standard library, in memory, and certificates of every kind."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pcj.transport.tls import TlsEngine, make_context
from pcj.transport.tls_openssl import OpenSslContext
from pcj.transport.tls_ssl import SslContext

#: Every value of `tls_engine` that names a library.
ENGINES = ("ssl", "openssl")


class Server:
    """The other end: `ssl.SSLObject` on the server's side, driven by `feed`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.done = False
        self.received = b""
        self.error: ssl.SSLError | None = None
        self.closed = False

    def feed(self, data: bytes) -> None:
        self.incoming.write(data)
        try:
            if not self.done:
                self.tls.do_handshake()
                self.done = True
            while True:
                piece = self.tls.read(65536)
                if not piece:
                    self.closed = True
                    break
                self.received += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        except ssl.SSLError as error:
            self.error = error

    def say(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]

    def say_goodbye(self) -> None:
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # our answer is not there yet


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def talk(engine: TlsEngine, server: Server, *, size: int = 1 << 30) -> bytes:
    """Carry bytes both ways, `size` at a time, until nobody has any. Returns the client's plaintext."""
    plain = b""
    while True:
        ours, theirs = engine.data_to_send(), server.outgoing.read()
        if not ours and not theirs:
            return plain
        for piece in pieces(ours, size):
            server.feed(piece)
        for piece in pieces(theirs, size):
            plain += engine.receive_data(piece)


@lru_cache(maxsize=1)
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Example Test CA")


@lru_cache(maxsize=1)
def other_authority() -> trustme.CA:
    return trustme.CA(organization_name="Foreign Test CA")


class Chain(NamedTuple):
    """What a server presents, PEM."""

    key: bytes
    certificates: bytes


def server_context(chain: Chain, folder: Path, *, maximum: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    file = folder / "server.pem"
    file.write_bytes(chain.key + chain.certificates)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if maximum is not None:
        context.maximum_version = maximum
    return context


def good(*names: str) -> Chain:
    issued = authority().issue_cert(*names)
    return Chain(issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems))


def issued(
    *,
    names: Sequence[x509.GeneralName] = (x509.DNSName("example.org"),),
    common_name: str = "example.org",
    begins: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=1),
    self_signed: bool = False,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    above: Chain | None = None,
) -> Chain:
    """A certificate of our authority, or of the one `above`, with any fault one wishes."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    issuer, signer = subject, key
    if above is not None:
        issuer = leaf_of(above).subject
        signer = key_of(above)
    elif not self_signed:
        issuer = x509.load_pem_x509_certificate(authority().cert_pem.bytes()).subject
        loaded = serialization.load_pem_private_key(authority().private_key_pem.bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return Chain(pem_of(key), certificate.public_bytes(serialization.Encoding.PEM))


def intermediate(*constraints: str) -> Chain:
    """An authority under ours; with `constraints` it may vouch for DNS names below these only."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    root = x509.load_pem_x509_certificate(authority().cert_pem.bytes())
    signer = serialization.load_pem_private_key(authority().private_key_pem.bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Middle CA")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    if constraints:
        permitted = [x509.DNSName(name) for name in constraints]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    return Chain(pem_of(key), builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_of(chain: Chain) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(chain.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def ip(address: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_address(address))]


def srv_id(name: str) -> list[x509.GeneralName]:
    """id-on-dnsSRV (RFC 4985): an IA5String."""
    value = name.encode("ascii")
    return [x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7"), b"\x16" + bytes([len(value)]) + value)]


def xmpp_address(jid: str) -> list[x509.GeneralName]:
    """id-on-xmppAddr (RFC 6120 13.7.1.4): a UTF8String."""
    value = jid.encode("utf-8")
    return [x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5"), b"\x0c" + bytes([len(value)]) + value)]


def leaf_of(chain: Chain) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain.certificates)


def context_for(
    ca_file: str | None,
    library: str,
    *,
    verify: bool = True,
    alpn: tuple[str, ...] = (),
    client_certificate: str | None = None,
) -> SslContext | OpenSslContext:
    return make_context(
        verify=verify, ca_file=ca_file, client_certificate=client_certificate, alpn=alpn, engine=library
    )


def engine_for(
    ca_file: str | None,
    library: str,
    name: str = "example.org",
    *,
    pins: tuple[str, ...] = (),
    verify: bool = True,
    service: str | None = "_xmpp-client",
) -> TlsEngine:
    engine = TlsEngine(
        context_for(ca_file, library, verify=verify),
        server_name=name,
        pins=pins,
        service=service,
        peer="example.org:5222",
    )
    engine.start()
    return engine


def pin_of(chain: Chain) -> str:
    key = leaf_of(chain).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(spki).hexdigest()


def certificate_pin_of(chain: Chain) -> str:
    return "cert-sha256:" + hashlib.sha256(leaf_of(chain).public_bytes(serialization.Encoding.DER)).hexdigest()
