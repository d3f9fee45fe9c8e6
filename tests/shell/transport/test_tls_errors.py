"""Every way in which TLS is not made, and its sentence."""

from __future__ import annotations

import re
import ssl
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from pcj.errors import Phase, Retry
from pcj.transport import tls, tls_errors
from pcj.transport.certificate import Certificate
from pcj.transport.tls import TlsEngine, TlsError
from pcj.transport.tls_errors import LookedFor
from tests.shell.transport.pair import (
    Chain,
    Server,
    authority,
    certificate_pin_of,
    context_for,
    dns,
    engine_for,
    good,
    intermediate,
    ip,
    issued,
    leaf_of,
    other_authority,
    pieces,
    pin_of,
    server_context,
    srv_id,
    talk,
    xmpp_address,
)

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


# ---- the certificate does not pass

REFUSED: list[tuple[str, Callable[[], Chain], str, Retry, str]] = [
    (
        "other name",
        lambda: issued(names=dns("mail.example.org", "*.hosting.net")),
        "example.org",
        Retry.SLOW,
        r"The certificate is for mail\.example\.org and \*\.hosting\.net, not for example\.org \(.*tls_name=",
    ),
    (
        "many other names",
        lambda: issued(names=dns(*(f"n{i}.example" for i in range(9)))),
        "example.org",
        Retry.SLOW,
        r"for n0\.example, n1\.example, n2\.example, n3\.example, n4\.example and 4 more, not for example\.org",
    ),
    ("other address", lambda: issued(names=ip("192.0.2.7")), "192.0.2.8", Retry.SLOW, r"for 192\.0\.2\.7, not for"),
    ("name for an address", lambda: issued(names=dns("x.org")), "::1", Retry.SLOW, r"for x\.org, not for ::1"),
    ("wildcard of a top domain", lambda: issued(names=dns("*.org")), "example.org", Retry.SLOW, r"\*\.org, not for"),
    ("bare wildcard", lambda: issued(names=dns("*")), "example.org", Retry.SLOW, r"for \*, not for"),
    ("part of a label", lambda: issued(names=dns("f*.example.org")), "foo.example.org", Retry.SLOW, r"f\*.*not for"),
    ("two wildcards", lambda: issued(names=dns("*.*.example.org")), "a.b.example.org", Retry.SLOW, r"not for"),
    ("two labels", lambda: issued(names=dns("*.example.org")), "a.b.example.org", Retry.SLOW, r"not for a\.b\."),
    ("two labels down", lambda: issued(names=dns("*.example.org")), "example.org", Retry.SLOW, r"not for example\."),
    (
        "the host that DNS names for the domain",
        lambda: issued(names=dns("xmpp.hosting.example")),
        "example.org",
        Retry.SLOW,
        r"for xmpp\.hosting\.example, not for example\.org",
    ),
    (
        "a service elsewhere",
        lambda: issued(names=srv_id("_xmpp-client.example.net")),
        "example.org",
        Retry.SLOW,
        r"names only services or accounts \(_xmpp-client\.example\.net\), and not example\.org\.",
    ),
    (
        "another service",
        lambda: issued(names=srv_id("_xmpp-server.example.org")),
        "example.org",
        Retry.SLOW,
        r"names only services or accounts \(_xmpp-server\.example\.org\), and not example\.org\.",
    ),
    (
        "a wildcard in the service's name",
        lambda: issued(names=srv_id("_xmpp-client.*.org")),
        "example.org",
        Retry.SLOW,
        r"names only services or accounts \(_xmpp-client\.\*\.org\)",
    ),
    (
        "an account of that name",
        lambda: issued(names=xmpp_address("example.org")),
        "example.org",
        Retry.SLOW,
        r"names only services or accounts \(example\.org\), and not example\.org\.",
    ),
    (
        "only the common name",
        lambda: issued(names=()),
        "example.org",
        Retry.SLOW,
        r"no name that could be example\.org, only the common name 'example\.org', which counts no more",
    ),
    (
        "expired",
        lambda: issued(begins=timedelta(days=-90), ends=timedelta(days=-53, hours=-1)),
        "example.org",
        Retry.SLOW,
        r"The certificate of example\.org expired on \d{4}-\d\d-\d\d \(53 days ago\)\.",
    ),
    (
        "expired today",
        lambda: issued(begins=timedelta(days=-90), ends=timedelta(hours=-2)),
        "example.org",
        Retry.SLOW,
        r"\(less than a day ago\)",
    ),
    (
        "not yet valid",
        lambda: issued(begins=timedelta(days=40), ends=timedelta(days=90)),
        "example.org",
        Retry.SLOW,
        r"is valid from \d{4}-.* UTC; this machine's clock says \d{4}-.* UTC\. Is the clock right\?",
    ),
    (
        "self-signed",
        lambda: issued(self_signed=True),
        "example.org",
        Retry.SLOW,
        r"is self-signed \(by 'example\.org'\), and this machine does not trust it\. Give ca_file=",
    ),
    (
        "unknown issuer",
        lambda: Chain(
            (cert := other_authority().issue_cert("example.org")).private_key_pem.bytes(),
            cert.cert_chain_pems[0].bytes(),
        ),
        "example.org",
        Retry.SLOW,
        r"was issued by 'Foreign Test CA', which this machine does not trust\. Give ca_file=",
    ),
    (
        "unknown issuer, its authority in between",
        lambda: (middle := intermediate()) and issued(above=middle),
        "example.org",
        Retry.SLOW,
        r"was issued by 'Middle CA', which .*\(Or the server does not send the certificates in between\.\)",
    ),
    (
        "the authority in place of the server",
        lambda: Chain(authority().private_key_pem.bytes(), authority().cert_pem.bytes()),
        "example.org",
        Retry.SLOW,
        r"The certificate has no name that could be example\.org",
    ),
    (
        "for clients",
        lambda: issued(purpose=ExtendedKeyUsageOID.CLIENT_AUTH),
        "example.org",
        Retry.SLOW,
        r"is not made for servers",
    ),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("make", "name", "retry", "sentence"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_a_certificate_that_does_not_pass_is_told_of(
    tmp_path: Path,
    ca_file: str,
    library: str,
    version: ssl.TLSVersion,
    make: Callable[[], Chain],
    name: str,
    retry: Retry,
    sentence: str,
) -> None:
    presented = make()
    server = Server(server_context(presented, tmp_path, maximum=version))
    engine = engine_for(ca_file, library, name)
    with pytest.raises(TlsError, match=sentence) as raised:
        talk(engine, server)
    assert raised.value.retry is retry
    assert raised.value.phase is Phase.TLS
    assert engine.facts is None
    # Whatever is wrong with it: who was looked for, who it is for, who issued it, and when it is valid.
    leaf, said = Certificate.parse(ssl.PEM_cert_to_DER_cert(presented.certificates.decode())), str(raised.value)
    assert name in said
    assert all(found in said for found in leaf.names[:4])
    assert leaf.issuer in said
    assert f"dated {leaf.not_before:%Y-%m-%d} to {leaf.not_after:%Y-%m-%d}." in said
    # The alert tells the server, and the refusal lasts.
    server.feed(engine.data_to_send())
    assert server.error is not None
    with pytest.raises(TlsError, match=sentence):
        engine.receive_data(b"")
    with pytest.raises(TlsError, match=sentence):
        engine.receive_eof()


def test_an_expired_authority_is_named(tmp_path: Path) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 10, "certificate has expired"
    old = issued(common_name="Old CA", begins=timedelta(days=-9), ends=timedelta(days=-3, hours=-1))
    ders = [leaf_of(c).public_bytes(serialization.Encoding.DER) for c in (issued(), old)]
    failure = tls_errors.unverified(error, LookedFor("example.org", "example.org"), ders, time.time())
    assert str(failure).startswith("The certificate of 'Old CA', which is to vouch for example.org, expired on")


@pytest.mark.parametrize("ders", [[], [b"nonsense"]])
def test_without_a_readable_certificate_openssl_is_quoted(ders: list[bytes]) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 62, "Hostname mismatch."
    failure = tls_errors.unverified(error, LookedFor("example.org", "example.org"), ders, 0.0)
    assert str(failure) == "The certificate of example.org did not pass: Hostname mismatch."


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("verify", [True, False])
def test_another_key_than_the_pinned_is_refused(
    tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion, verify: bool
) -> None:
    chain = good("example.org")
    server = Server(server_context(chain, tmp_path, maximum=version))
    engine = engine_for(ca_file, library, pins=("sha256:" + "a" * 64, "sha256:" + "b" * 64), verify=verify)
    with pytest.raises(TlsError, match="not one of the 2 pinned ones") as raised:
        talk(engine, server)
    assert (
        f"The key of the server at example.org:5222 is not one of the 2 pinned ones (seen {pin_of(chain)} and "
        in str(raised.value)
    )
    assert f"{certificate_pin_of(chain)}). The server changed its key, or" in str(raised.value)
    assert raised.value.retry is Retry.FATAL
    assert engine.facts is None


@pytest.mark.parametrize(
    ("pins", "what"),
    [
        (("sha256:" + "a" * 64,), "The key of the server is not the pinned one "),
        (("cert-sha256:" + "a" * 64,), "The certificate of the server is not the pinned one "),
        (("cert-sha256:" + "a" * 64, "sha256:" + "a" * 64), "The key or certificate of the server is not one of the 2"),
    ],
)
def test_a_wrong_pin_is_named_by_its_kind(pins: tuple[str, ...], what: str) -> None:
    leaf = Certificate.parse(leaf_of(good("example.org")).public_bytes(serialization.Encoding.DER))
    assert str(tls_errors.wrong_pin(leaf, pins, "")).startswith(what)


def test_a_pin_is_held_against_every_session_anew(tmp_path: Path, ca_file: str, library: str) -> None:
    chain = good("example.org")
    ours = context_for(ca_file, library)
    for presented, passes in ((chain, True), (good("example.org"), False), (chain, True)):
        engine = TlsEngine(ours, server_name="example.org", pins=(pin_of(chain),))
        engine.start()
        server = Server(server_context(presented, tmp_path))
        if passes:
            talk(engine, server)
            assert engine.facts is not None
            assert not server.tls.session_reused
        else:
            with pytest.raises(TlsError, match="not the pinned one"):
                talk(engine, server)


def test_a_protocol_that_was_not_offered_is_refused(tmp_path: Path, ca_file: str, library: str) -> None:
    context = server_context(good("example.org"), tmp_path)
    context.set_alpn_protocols(["h2"])
    ours = context_for(ca_file, library, alpn=("xmpp-client",))
    ours.set_alpn_protocols(["xmpp-client", "h2"])  # makes a server of the standard library select what it should not
    engine = TlsEngine(ours, server_name="example.org")
    engine.start()
    with pytest.raises(TlsError, match="selected the TLS application protocol 'h2' instead of 'xmpp-client'") as raised:
        talk(engine, Server(context))
    assert raised.value.retry is Retry.FATAL


# ---- the handshake does not succeed

NOT_TLS = [
    (
        b"<?xml version='1.0'?><stream:stream>",
        r"We began TLS at example\.org:5222, but .* plain XML: .*direct_tls=False",
    ),
    (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n", r"at example\.org:5222 speaks HTTP \('HTTP/1\.1 400 Bad Request'\)"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", r"sent 'SSH-2\.0-OpenSSH_9\.2', not TLS: this is not an XMPP port"),
    (b"220 \x1b[31m mail\r\n", r"sent '220 \\x1b\[31m mail', not TLS"),
]


@pytest.mark.parametrize(("answer", "sentence"), NOT_TLS)
def test_an_answer_that_is_not_tls_is_quoted(ca_file: str, library: str, answer: bytes, sentence: str) -> None:
    engine = engine_for(ca_file, library)
    with pytest.raises(TlsError, match=sentence) as raised:
        engine.receive_data(answer)
    assert raised.value.retry is Retry.FATAL


@pytest.mark.parametrize("answer", [row[0] for row in NOT_TLS])
def test_an_answer_that_is_not_tls_is_known_byte_by_byte(ca_file: str, library: str, answer: bytes) -> None:
    engine = engine_for(ca_file, library)
    with pytest.raises(TlsError, match=r"not TLS|plain XML"):
        for piece in pieces(answer, 1):
            engine.receive_data(piece)


@pytest.mark.parametrize(
    ("begun", "xml", "web", "ended"),
    [
        (tls.Begun.ASKED, r"direct_tls=False", Retry.FATAL, r"or not want TLS from the first byte here\.$"),
        (tls.Begun.NAMED, r"_xmpps-client record that names it in DNS is wrong\.$", Retry.FATAL, r"first byte here\.$"),
        (tls.Begun.SENT_ON, r"plain XML: that port wants STARTTLS\.$", Retry.FATAL, r"first byte here\.$"),
        (
            tls.Begun.STARTTLS,
            r"agreed to TLS .* and then went on in plain XML\.$",
            Retry.SLOW,
            r"have no certificate\.$",
        ),
    ],
)
def test_where_no_tls_comes_the_advice_is_to_whoever_began_it(
    ca_file: str, library: str, begun: tls.Begun, xml: str, web: Retry, ended: str
) -> None:
    def fails(came: bytes) -> TlsError:
        engine = TlsEngine(
            context_for(ca_file, library), server_name="example.org", peer="example.org:5222", begun=begun
        )
        engine.start()
        with pytest.raises(TlsError) as raised:
            engine.receive_data(came) if came else engine.receive_eof()
        return raised.value

    plain = fails(b"<stream:features/>")
    assert re.search(xml, str(plain))
    assert plain.retry is (Retry.FATAL if begun is tls.Begun.ASKED else Retry.SLOW)
    assert ("direct_tls" in str(plain)) is (begun is tls.Begun.ASKED)
    assert fails(b"HTTP/1.1 400 Bad Request\r\n").retry is web
    assert re.search(ended, str(fails(b"")))


def test_a_certificate_for_a_name_beyond_ascii_is_told_of_in_both_spellings(ca_file: str, library: str) -> None:
    engine = engine_for(ca_file, library, "bücher.example")
    with pytest.raises(TlsError, match=r"not for bücher\.example \(xn--bcher-kva\.example\) \(for an account"):
        talk(engine, Server(server_context(issued(), Path(ca_file).parent)))


def test_a_short_answer_that_is_not_tls_is_quoted_at_its_end(ca_file: str, library: str) -> None:
    engine = engine_for(ca_file, library)
    assert engine.receive_data(b"no\n") == b""
    with pytest.raises(TlsError, match="sent 'no', not TLS"):
        engine.receive_eof()


def test_an_end_at_once_hints_at_the_port(ca_file: str, library: str) -> None:
    with pytest.raises(TlsError, match="closed the connection during the TLS handshake: it sent nothing") as raised:
        engine_for(ca_file, library).receive_eof()
    assert raised.value.retry is Retry.FAST


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_anywhere_in_the_handshake_is_told_of(
    tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion
) -> None:
    server, engine = (
        Server(server_context(good("example.org"), tmp_path, maximum=version)),
        engine_for(ca_file, library),
    )
    server.feed(engine.data_to_send())
    engine.receive_data(server.outgoing.read()[:-1])
    with pytest.raises(TlsError, match=r"closed the connection during the TLS handshake\."):
        engine.receive_eof()


def test_an_old_version_is_named(ca_file: str, library: str) -> None:
    body = b"\x03\x01" + bytes(32) + b"\x00" + b"\xc0\x13" + b"\x00"  # a ServerHello of TLS 1.0
    hello = b"\x16\x03\x01" + (len(body) + 4).to_bytes(2, "big") + b"\x02" + len(body).to_bytes(3, "big") + body
    with pytest.raises(TlsError, match=r"speaks TLS 1\.0 at most; pcj needs TLS 1\.2") as raised:
        engine_for(ca_file, library).receive_data(hello)
    assert raised.value.retry is Retry.SLOW


ALERTS = [
    (70, r"speaks neither TLS 1\.2 nor 1\.3; pcj needs", Retry.SLOW),
    (40, r"refused the TLS handshake \(handshake_failure\)", Retry.SLOW),
    (112, r"has no certificate for example\.org \(TLS alert unrecognized_name\)", Retry.SLOW),
    (120, r"none of the application protocols we offered", Retry.FATAL),
    (42, r"did not accept us in TLS \(.*See client_certificate=", Retry.SLOW),
    (80, r"TLS with example\.org failed: the server sent the alert ", Retry.FAST),
]


@pytest.mark.parametrize(("number", "sentence", "retry"), ALERTS)
def test_an_alert_in_the_handshake_has_its_sentence(
    ca_file: str, library: str, number: int, sentence: str, retry: Retry
) -> None:
    with pytest.raises(TlsError, match=sentence) as raised:
        engine_for(ca_file, library).receive_data(b"\x15\x03\x03\x00\x02\x02" + bytes([number]))
    assert raised.value.retry is retry
    assert raised.value.phase is Phase.TLS


def test_no_cipher_suite_in_common_is_a_refusal(tmp_path: Path, ca_file: str, library: str) -> None:
    context = server_context(good("example.org"), tmp_path, maximum=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("aNULL:NULL:@SECLEVEL=0")
    server, engine = Server(context), engine_for(ca_file, library)
    with pytest.raises(TlsError, match="handshake_failure"):
        talk(engine, server)


@pytest.mark.parametrize(
    "suites", ["aNULL:@SECLEVEL=0", "eNULL:@SECLEVEL=0", "AES128-SHA:@SECLEVEL=0"], ids=["anonymous", "NULL", "RSA"]
)
def test_suites_without_authentication_encryption_or_forward_secrecy_are_not_ours(
    tmp_path: Path, ca_file: str, library: str, suites: str
) -> None:
    context = server_context(good("example.org"), tmp_path, maximum=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(suites)
    server, engine = Server(context), engine_for(ca_file, library)
    with pytest.raises(TlsError, match="handshake_failure") as raised:
        talk(engine, server)
    assert raised.value.retry is Retry.SLOW


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_a_server_of_an_older_tls_is_refused(
    tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
        context = server_context(good("example.org"), tmp_path, maximum=version)
        context.minimum_version = version
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    server, engine = Server(context), engine_for(ca_file, library)
    with pytest.raises(TlsError, match=r"pcj needs TLS 1\.2 or newer"):
        talk(engine, server)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_wants_a_client_certificate_is_told_of(
    tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion
) -> None:
    context = server_context(good("example.org"), tmp_path, maximum=version)
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    server, engine = Server(context), engine_for(ca_file, library)
    with pytest.raises(TlsError, match=r"handshake_failure|wants a client certificate") as raised:
        talk(engine, server)
    # With TLS 1.3 our handshake is through by then, and SSLSUCCESS was told: it counts for the phase of that moment.
    phase = None if version is ssl.TLSVersion.TLSv1_3 else Phase.TLS
    assert (raised.value.phase, raised.value.retry) == (phase, Retry.SLOW)


def test_a_client_certificate_is_shown(tmp_path: Path, ca_file: str, library: str) -> None:
    context = server_context(good("example.org"), tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    ours = tmp_path / "ours.pem"
    authority().issue_cert("romeo.example").private_key_and_cert_chain_pem.write_to_path(str(ours))
    engine = TlsEngine(context_for(ca_file, library, client_certificate=str(ours)), server_name="example.org")
    engine.start()
    server = Server(context)
    talk(engine, server)
    assert server.tls.getpeercert()


def test_a_handshake_without_end_is_bounded(
    tmp_path: Path, ca_file: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKE_BYTES", 600)
    server, engine = Server(server_context(good("example.org"), tmp_path)), engine_for(ca_file, library)
    with pytest.raises(TlsError, match="more than 600 bytes of TLS handshake"):
        talk(engine, server, size=100)
