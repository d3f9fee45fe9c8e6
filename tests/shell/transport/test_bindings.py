"""Channel bindings: what both ends know, and when it is not to be relied upon."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from pcj.transport.bindings import server_end_point
from pcj.transport.certificate import Certificate
from pcj.transport.server_hello import has_extended_master_secret
from tests.shell.transport.pair import Server, engine_for, good, issued, leaf_of, server_context, talk
from tests.shell.transport.records import SUITE_1_3, logged, secret_in

DER = serialization.Encoding.DER
#: SSL_OP_NO_EXTENDED_MASTER_SECRET, from openssl/ssl.h; Python has no name for it.
NO_EXTENDED_MASTER_SECRET = 1 << 0


def bindings(engine_of: str, ca_file: str, context: ssl.SSLContext) -> tuple[dict[str, bytes], Server]:
    engine, server = engine_for(ca_file, engine_of), Server(context)
    talk(engine, server)
    assert engine.facts is not None
    assert "bindings" not in repr(engine.facts)
    return dict(engine.facts.bindings), server


@pytest.mark.parametrize(
    ("engine", "version", "extended", "kinds"),
    [
        ("ssl", "TLSv1_3", True, ["tls-server-end-point"]),
        ("openssl", "TLSv1_3", True, ["tls-exporter", "tls-server-end-point"]),
        ("ssl", "TLSv1_2", True, ["tls-unique", "tls-server-end-point"]),
        ("openssl", "TLSv1_2", True, ["tls-exporter", "tls-unique", "tls-server-end-point"]),
        ("ssl", "TLSv1_2", False, ["tls-server-end-point"]),
        ("openssl", "TLSv1_2", False, ["tls-server-end-point"]),
    ],
)
def test_the_bindings_that_are_safe_are_had_the_best_first(
    tmp_path: Path, ca_file: str, engine: str, version: str, extended: bool, kinds: list[str]
) -> None:
    chain = good("example.org")
    context = server_context(chain, tmp_path, maximum=ssl.TLSVersion[version])
    if not extended:
        context.options |= ssl.Options(NO_EXTENDED_MASTER_SECRET)
    found, server = bindings(engine, ca_file, context)
    assert list(found) == kinds
    der = leaf_of(chain).public_bytes(DER)
    assert found["tls-server-end-point"] == hashlib.sha256(der).digest()
    if "tls-unique" in found:
        assert found["tls-unique"] == server.tls.get_channel_binding("tls-unique")


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_the_exporters_octets_are_the_servers(tmp_path: Path, ca_file: str, version: int) -> None:
    chain = good("example.org")
    file = tmp_path / "server.pem"
    file.write_bytes(chain.key + chain.certificates)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_max_proto_version(version)
    context.use_certificate_chain_file(str(file))
    context.use_privatekey_file(str(file))
    server, engine = SSL.Connection(context, None), engine_for(ca_file, "openssl")
    server.set_accept_state()
    while engine.facts is None:
        server.bio_write(engine.data_to_send())
        try:
            server.do_handshake()
        except SSL.WantReadError:
            pass
        engine.receive_data(server.bio_read(65536))
    if rest := engine.data_to_send():
        server.bio_write(rest)
        server.do_handshake()
    # RFC 9266 2: this label, 32 octets, and a context that is empty: on TLS 1.2 not the same as none (RFC 5705 4).
    theirs = server.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    assert engine.facts.bindings["tls-exporter"] == theirs
    without = server.export_keying_material(b"EXPORTER-Channel-Binding", 32)
    assert (without == theirs) is (version == SSL.TLS1_3_VERSION)


def test_the_exporters_octets_are_what_rfc_8446_derives(tmp_path: Path, ca_file: str) -> None:
    context = server_context(good("example.org"), tmp_path)
    log = logged(context, tmp_path)
    engine = engine_for(ca_file, "openssl")
    talk(engine, Server(context))
    assert engine.facts is not None
    if engine.facts.cipher != SUITE_1_3:
        pytest.skip(f"derived for another suite than {engine.facts.cipher}")

    def expand(secret: bytes, label: bytes, about: bytes, length: int) -> bytes:
        info = length.to_bytes(2, "big") + bytes([6 + len(label)]) + b"tls13 " + label + bytes([len(about)]) + about
        return hmac.digest(secret, info + b"\x01", "sha384")[:length]

    nothing = hashlib.sha384().digest()
    derived = expand(secret_in(log, "EXPORTER_SECRET"), b"EXPORTER-Channel-Binding", nothing, 48)
    assert engine.facts.bindings["tls-exporter"] == expand(derived, b"exporter", nothing, 32)


def test_every_session_has_bindings_of_its_own(tmp_path: Path, ca_file: str) -> None:
    context = server_context(good("example.org"), tmp_path)
    (one, _), (two, _) = bindings("openssl", ca_file, context), bindings("openssl", ca_file, context)
    assert one["tls-exporter"] != two["tls-exporter"]
    assert one["tls-server-end-point"] == two["tls-server-end-point"]


# ---- tls-server-end-point


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


def signed(
    key: Key, algorithm: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None, **options: padding.PSS
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.org")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime.now(UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
    )
    return builder.sign(key, algorithm, rsa_padding=options.get("pss")).public_bytes(DER)


def pss(mask: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(padding.MGF1(mask), 32)


def test_the_hash_is_that_of_the_signature_and_the_weak_ones_are_lifted(rsa_key: rsa.RSAPrivateKey) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    with_sha256 = signed(rsa_key, hashes.SHA256())
    prefix = bytes.fromhex("2a864886f70d0101")
    assert with_sha256.count(prefix + b"\x0b") == 2, "inside the certificate, and beside the signature"
    rows: list[tuple[bytes, str | None]] = [
        (with_sha256, "sha256"),
        (signed(rsa_key, hashes.SHA224()), "sha224"),
        (signed(rsa_key, hashes.SHA384()), "sha384"),
        (signed(rsa_key, hashes.SHA512()), "sha512"),
        (signed(curve, hashes.SHA256()), "sha256"),
        (signed(curve, hashes.SHA384()), "sha384"),
        (signed(curve, hashes.SHA512()), "sha512"),
        (with_sha256.replace(prefix + b"\x0b", prefix + b"\x04"), "sha256"),  # MD5: RFC 5929 4.1
        (with_sha256.replace(prefix + b"\x0b", prefix + b"\x05"), "sha256"),  # SHA-1: the same
        (with_sha256.replace(prefix + b"\x0b", prefix + b"\x7f"), None),  # unknown
        (signed(rsa_key, hashes.SHA256(), pss=pss(hashes.SHA256())), "sha256"),
        (signed(rsa_key, hashes.SHA384(), pss=pss(hashes.SHA384())), "sha384"),
        (signed(rsa_key, hashes.SHA512(), pss=pss(hashes.SHA512())), "sha512"),
        (signed(rsa_key, hashes.SHA256(), pss=pss(hashes.SHA384())), None),  # two hashes
        (signed(ed25519.Ed25519PrivateKey.generate(), None), None),
        (signed(ed448.Ed448PrivateKey.generate(), None), None),
    ]
    for number, (der, algorithm) in enumerate(rows):
        wanted = hashlib.new(algorithm, der).digest() if algorithm else None
        assert server_end_point(Certificate.parse(der)) == wanted, number


def test_rsassa_pss_without_parameters_means_sha_1_which_is_lifted(rsa_key: rsa.RSAPrivateKey) -> None:
    der = signed(rsa_key, hashes.SHA256(), pss=pss(hashes.SHA256()))
    oid = bytes.fromhex("06092a864886f70d01010a")
    at = der.rindex(oid)
    length = der[at - 1]  # of the AlgorithmIdentifier
    # The same length: an unknown field in place of what would say SHA-256.
    filler = bytes([0xA7, length - len(oid) - 4]) + bytes(length - len(oid) - 4)
    bare = der[: at + len(oid)] + bytes([0x30, len(filler)]) + filler + der[at + length :]
    assert Certificate.parse(bare).signature_hash == "sha1"
    assert server_end_point(Certificate.parse(bare)) == hashlib.sha256(bare).digest()


@pytest.mark.parametrize("engine", ["ssl", "openssl"])
def test_a_certificate_without_one_hash_has_no_end_point(tmp_path: Path, engine: str) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path / "server.pem"
    file.write_bytes(pem + ssl.DER_cert_to_PEM_cert(signed(key, None)).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    engine_, server = engine_for(None, engine, verify=False), Server(context)
    talk(engine_, server)
    assert engine_.facts is not None
    assert "tls-server-end-point" not in engine_.facts.bindings


# ---- the extended master secret


def hello(*extensions: tuple[int, bytes], version: bytes = b"\x03\x03", session: bytes = b"") -> bytes:
    """A ServerHello in a record (RFC 5246 7.4.1.3)."""
    said = b"".join(k.to_bytes(2, "big") + len(v).to_bytes(2, "big") + v for k, v in extensions)
    body = version + bytes(32) + bytes([len(session)]) + session + b"\xc0\x2b\x00"
    body += len(said).to_bytes(2, "big") + said if extensions else b""
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message


EXTENDED = (0x17, b"")
OTHER = (0xFF01, b"\x00")
WARNING = b"\x15\x03\x03\x00\x02\x01\x70"  # unrecognized_name, as a warning


def cut(record: bytes, at: int) -> bytes:
    """The same message in two records."""
    content = record[5:]
    return b"".join(b"\x16\x03\x03" + len(p).to_bytes(2, "big") + p for p in (content[:at], content[at:]))


@pytest.mark.parametrize(
    ("first", "extended"),
    [
        (hello(EXTENDED), True),
        (hello(OTHER, EXTENDED), True),
        (hello(OTHER, EXTENDED, session=bytes(32)), True),
        (WARNING + hello(EXTENDED), True),
        (cut(hello(OTHER, EXTENDED), 3), True),
        (cut(hello(OTHER, EXTENDED), 40), True),
        (hello(EXTENDED)[:-2], False),
        (hello(), False),
        (hello(OTHER), False),
        (hello((0xFF01, b"\x00\x17\x00\x00")), False),  # inside another
        (hello(EXTENDED, version=b"\x03\x02"), False),
        (b"\x16\x03\x03\x00\x04\x00\x00\x00\x00" + hello(EXTENDED), False),  # HelloRequest first: not worth it
        (b"", False),
        (b"\x16\x03\x03\x00\x01\x02", False),
    ],
)
def test_the_extended_master_secret_is_seen_only_where_it_is(first: bytes, extended: bool) -> None:
    assert has_extended_master_secret(first) is extended


def test_no_cut_of_a_hello_is_taken_for_one_with_it(tmp_path: Path) -> None:
    whole = hello(OTHER, (0x0B, b"\x01\x00"), EXTENDED)
    assert has_extended_master_secret(whole)
    for end in range(len(whole) - 4):
        assert not has_extended_master_secret(whole[:end])


def test_the_facts_of_a_session_can_be_shown_and_compared(tmp_path: Path, ca_file: str, library: str) -> None:
    engine = engine_for(ca_file, library)
    talk(engine, Server(server_context(issued(), tmp_path)))
    facts = engine.facts
    assert facts is not None
    assert all(repr(octets) not in repr(facts) for octets in facts.bindings.values())
    assert facts in {facts}
