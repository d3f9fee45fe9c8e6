"""What the two engines share, what only one can do, and how one is chosen."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import crypto

from pcj.errors import ConfigError, Retry, UsageError
from pcj.transport import tls
from pcj.transport.certificate import Certificate
from pcj.transport.identity import is_for
from pcj.transport.tls import TlsEngine, TlsError, make_context
from pcj.transport.tls_errors import LookedFor, unverified
from pcj.transport.tls_openssl import OpenSslContext
from pcj.transport.tls_ssl import SslContext
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
    server_context,
    srv_id,
    talk,
    xmpp_address,
)

DER = serialization.Encoding.DER


def read(chain: Chain) -> Certificate:
    return Certificate.parse(leaf_of(chain).public_bytes(DER))


# ---- who the certificate is for

FOR: list[tuple[str, list[x509.GeneralName], str, bool]] = [
    ("the name", dns("example.org"), "example.org", True),
    ("another case", dns("EXAMPLE.org"), "example.org", True),
    ("one of several", dns("mail.example.org", "example.org"), "example.org", True),
    ("a name of one label", dns("localhost"), "localhost", True),
    ("a wildcard for one label", dns("*.example.org"), "im.example.org", True),
    ("a bad name beside a good one", dns("*.org", "example.org"), "example.org", True),
    ("a name with an underscore", dns("a_b.example.org"), "a_b.example.org", True),
    ("an address", ip("192.0.2.7"), "192.0.2.7", True),
    ("an address in long form", ip("2001:0db8:0:0::7"), "2001:db8::7", True),
    ("a longer name", dns("example.org.attacker.example"), "example.org", False),
    ("a name inside another", dns("notexample.org"), "example.org", False),
    ("a parent", dns("org"), "example.org", False),
    ("the address as a name", dns("192.0.2.7"), "192.0.2.7", False),
    ("a name cut by a NUL", dns("example.org\0.attacker.example"), "example.org", False),
    ("a name with a space", dns(" example.org"), "example.org", False),
    ("a wildcard for everything", dns("*"), "example.org", False),
    ("a wildcard under a top domain", dns("*.org"), "example.org", False),
    ("a part of a label", dns("f*.example.org"), "foo.example.org", False),
    ("the end of a label", dns("*o.example.org"), "foo.example.org", False),
    ("two wildcards", dns("*.*.example.org"), "a.b.example.org", False),
    ("a wildcard in the middle", dns("im.*.org"), "im.example.org", False),
    ("two labels", dns("*.example.org"), "a.b.example.org", False),
    ("no label", dns("*.example.org"), "example.org", False),
    ("a wildcard in an address", dns("*.0.2.7"), "192.0.2.7", False),
    ("nothing", [], "example.org", False),
]


@pytest.mark.parametrize(("names", "name", "passes"), [row[1:] for row in FOR], ids=[row[0] for row in FOR])
def test_both_engines_find_a_certificate_to_be_for_the_same_names(
    tmp_path: Path, ca_file: str, library: str, names: list[x509.GeneralName], name: str, passes: bool
) -> None:
    server, engine = Server(server_context(issued(names=names), tmp_path)), engine_for(ca_file, library, name)
    if passes:
        talk(engine, server)
        assert engine.facts is not None
        assert engine.facts.verified
    else:
        with pytest.raises(TlsError, match=r"not for|no name that could be"):
            talk(engine, server)


def test_a_wildcard_stands_for_no_a_label_where_pyopenssl_is_used() -> None:
    leaf = read(issued(names=dns("*.example.org")))
    assert is_for(leaf, "im.example.org")
    assert not is_for(leaf, "xn--bcher-kva.example.org")


@pytest.mark.parametrize("name", ["", "7", "exa!mple.org"])
def test_a_name_that_no_certificate_can_have_is_nobodys(name: str) -> None:
    assert not is_for(read(issued(names=dns("example.org", "*.example.org"))), name)


def test_what_is_refused_for_its_name_does_not_see_our_certificate(tmp_path: Path, ca_file: str, library: str) -> None:
    ours = tmp_path / "ours.pem"
    authority().issue_cert("romeo.example").private_key_and_cert_chain_pem.write_to_path(str(ours))
    context = server_context(issued(names=dns("other.example")), tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    engine = TlsEngine(context_for(ca_file, library, client_certificate=str(ours)), server_name="example.org")
    engine.start()
    server = Server(context)
    with pytest.raises(TlsError, match="not for example"):
        talk(engine, server)
    server.feed(engine.data_to_send())
    assert not server.done
    assert server.error is not None
    assert "ALERT" in str(server.error.reason)


# ---- SRV-ID

SERVICE = "_xmpp-client.example.org"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_names_the_service_only_is_taken_with_pyopenssl(
    tmp_path: Path, ca_file: str, version: ssl.TLSVersion
) -> None:
    for names in (srv_id(SERVICE), srv_id("_XMPP-client.EXAMPLE.org"), dns("mail.example.org") + srv_id(SERVICE)):
        engine = engine_for(ca_file, "openssl")
        talk(engine, Server(server_context(issued(names=names), tmp_path, maximum=version)))
        assert engine.facts is not None
        assert engine.facts.verified


@pytest.mark.parametrize("names", [srv_id(SERVICE), dns("mail.example.org") + srv_id(SERVICE)])
def test_pythons_ssl_cannot_check_it_and_says_what_to_install(
    tmp_path: Path, ca_file: str, names: list[x509.GeneralName]
) -> None:
    with pytest.raises(TlsError) as raised:
        talk(engine_for(ca_file, "ssl"), Server(server_context(issued(names=names), tmp_path)))
    assert str(raised.value).startswith(
        "The certificate is for example.org only as a service (SRV-ID _xmpp-client.example.org), which Python's ssl "
        "cannot check: install 'pcj[binding]', or have example.org put into it as a DNS name too. It is issued by "
    )
    assert raised.value.retry is Retry.FATAL


def test_a_component_is_no_client_of_that_service(tmp_path: Path, ca_file: str, library: str) -> None:
    engine = engine_for(ca_file, library, service=None)
    with pytest.raises(TlsError, match=r"only services or accounts \(_xmpp-client\.example\.org\), and not") as raised:
        talk(engine, Server(server_context(issued(names=srv_id(SERVICE)), tmp_path)))
    assert "pcj[binding]" not in str(raised.value)


def below(middle: Chain, names: list[x509.GeneralName]) -> Chain:
    made = issued(names=names, above=middle)
    return Chain(made.key, made.certificates + middle.certificates)


def test_an_authority_that_may_vouch_for_some_names_only_cannot_name_services(tmp_path: Path, ca_file: str) -> None:
    # OpenSSL holds DNS names against the constraints, and SRV-IDs against none.
    free, bound = intermediate(), intermediate("hosting.example")
    engine = engine_for(ca_file, "openssl")
    talk(engine, Server(server_context(below(free, srv_id(SERVICE)), tmp_path)))
    assert engine.facts is not None
    with pytest.raises(TlsError, match="by an authority that may vouch for some names only") as raised:
        talk(engine_for(ca_file, "openssl"), Server(server_context(below(bound, srv_id(SERVICE)), tmp_path)))
    assert raised.value.retry is Retry.FATAL


def test_an_authority_is_held_to_its_constraints(tmp_path: Path, ca_file: str, library: str) -> None:
    bound = intermediate("hosting.example")
    engine = engine_for(ca_file, library, "im.hosting.example")
    talk(engine, Server(server_context(below(bound, dns("im.hosting.example")), tmp_path)))
    assert engine.facts is not None
    with pytest.raises(TlsError, match="permitted subtree violation"):
        talk(engine_for(ca_file, library), Server(server_context(below(bound, dns("example.org")), tmp_path)))


# ---- the chain


def test_the_certificates_in_between_may_come_in_any_order(tmp_path: Path, ca_file: str, library: str) -> None:
    # RFC 8446 4.4.2: the leaf comes first; other orders and certificates beyond need are to be borne with.
    middle = intermediate()
    leaf = issued(above=middle)
    shuffled = leaf.certificates + good("other.example").certificates + middle.certificates
    engine = engine_for(ca_file, library)
    talk(engine, Server(server_context(Chain(leaf.key, shuffled), tmp_path)))
    assert engine.facts is not None


@pytest.mark.parametrize("trusted", ["the leaf", "the one above it"])
def test_a_part_of_the_chain_is_trust_enough(tmp_path: Path, library: str, trusted: str) -> None:
    middle = intermediate()
    chain = below(middle, dns("example.org"))
    file = tmp_path / "trusted.pem"
    file.write_bytes(
        middle.certificates
        if trusted == "the one above it"
        else leaf_of(chain).public_bytes(serialization.Encoding.PEM)
    )
    engine = engine_for(str(file), library)
    talk(engine, Server(server_context(chain, tmp_path)))
    assert engine.facts is not None
    with pytest.raises(TlsError, match=r"not for other\.example"):
        talk(engine_for(str(file), library, "other.example"), Server(server_context(chain, tmp_path)))


@pytest.mark.parametrize("place", ["file", "folder"])
def test_the_systems_authorities_are_found_where_python_looks(
    tmp_path: Path, ca_file: str, library: str, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    pem = authority().cert_pem.bytes()
    name = crypto.load_certificate(crypto.FILETYPE_PEM, pem).subject_name_hash()
    (folder / f"{name:08x}.0").write_bytes(pem)
    nowhere = str(tmp_path / "nowhere")
    monkeypatch.setenv("SSL_CERT_FILE", ca_file if place == "file" else nowhere)
    monkeypatch.setenv("SSL_CERT_DIR", f"{nowhere}:{folder}" if place == "folder" else nowhere)
    engine = engine_for(None, library)
    talk(engine, Server(server_context(good("example.org"), tmp_path)))
    assert engine.facts is not None
    foreign = other_authority().issue_cert("example.org")
    stranger = Chain(foreign.private_key_pem.bytes(), foreign.cert_chain_pems[0].bytes())
    with pytest.raises(TlsError, match="does not trust"):
        talk(engine_for(None, library), Server(server_context(stranger, tmp_path)))


# ---- pins


def test_a_pinned_certificate_is_taken_and_its_like_is_not(tmp_path: Path, ca_file: str, library: str) -> None:
    chain = good("example.org")
    pins = ("cert-sha256:" + certificate_pin_of(chain).removeprefix("cert-sha256:").upper(),)
    engine = engine_for(ca_file, library, pins=pins)
    talk(engine, Server(server_context(chain, tmp_path)))
    assert engine.facts is not None
    with pytest.raises(TlsError, match=r"The certificate of the server at .* is not the pinned one"):
        talk(engine_for(ca_file, library, pins=pins), Server(server_context(good("example.org"), tmp_path)))


# ---- who we are


def client_file(tmp_path: Path, chain: Chain) -> str:
    file = tmp_path / "ours.pem"
    file.write_bytes(chain.certificates + chain.key)
    return str(file)


def test_the_addresses_in_our_certificate_are_known(tmp_path: Path, ca_file: str, library: str) -> None:
    names = xmpp_address("romeo@example.net") + xmpp_address("bücher@example.net") + dns("example.net")
    context = server_context(good("example.org"), tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    purpose = x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH
    ours = context_for(ca_file, library, client_certificate=client_file(tmp_path, issued(names=names, purpose=purpose)))
    engine = TlsEngine(ours, server_name="example.org")
    engine.start()
    server = Server(context)
    talk(engine, server)
    assert server.tls.getpeercert()
    assert engine.facts is not None
    assert engine.facts.own_addresses == ("romeo@example.net", "bücher@example.net")


def test_without_a_certificate_of_ours_or_addresses_in_it_there_are_none(
    tmp_path: Path, ca_file: str, library: str
) -> None:
    assert context_for(ca_file, library).own_addresses == ()
    file = client_file(tmp_path, good("romeo.example"))
    assert context_for(ca_file, library, client_certificate=file).own_addresses == ()


def test_the_whole_chain_of_our_certificate_is_sent(tmp_path: Path, ca_file: str, library: str) -> None:
    middle = intermediate()
    purpose = x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH
    made = issued(names=dns("romeo.example"), above=middle, purpose=purpose)
    context = server_context(good("example.org"), tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)  # it knows the root only
    file = client_file(tmp_path, Chain(made.key, made.certificates + middle.certificates))
    engine = TlsEngine(context_for(ca_file, library, client_certificate=file), server_name="example.org")
    engine.start()
    server = Server(context)
    talk(engine, server)
    assert server.done
    assert server.error is None


def test_a_certificate_of_ours_that_only_pythons_ssl_can_read_is_refused_with_advice(
    tmp_path: Path, ca_file: str
) -> None:
    chain = good("romeo.example")
    odd = Chain(chain.key, chain.certificates.replace(b" CERTIFICATE-", b" TRUSTED CERTIFICATE-"))
    file = client_file(tmp_path, odd)
    assert context_for(ca_file, "ssl", client_certificate=file).own_addresses == ()
    with pytest.raises(ConfigError, match=r"ours\.pem' cannot be used with pyOpenSSL \(.*: say tls_engine='ssl'"):
        context_for(ca_file, "openssl", client_certificate=file)


# ---- which engine


def test_the_engine_is_chosen_by_name_and_else_the_one_that_can_do_more() -> None:
    def made(engine: str | None) -> object:
        return make_context(verify=True, ca_file=None, client_certificate=None, engine=engine)

    assert isinstance(made("ssl"), SslContext)
    assert isinstance(made("openssl"), OpenSslContext)
    assert isinstance(made(None), OpenSslContext)
    assert made(None) is made("openssl"), "it is kept"


def test_a_changed_file_makes_a_new_context_for_both(tmp_path: Path, library: str) -> None:
    file = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(file))
    first = context_for(str(file), library)
    assert context_for(str(file), library) is first
    other_authority().cert_pem.write_to_path(str(file))
    second = context_for(str(file), library)
    assert second is not first
    engine = TlsEngine(second, server_name="example.org")
    engine.start()
    with pytest.raises(TlsError, match="does not trust"):
        talk(engine, Server(server_context(good("example.org"), tmp_path)))


HIDINGS: list[Callable[[pytest.MonkeyPatch], None]] = [
    lambda monkeypatch: monkeypatch.setitem(sys.modules, "OpenSSL", None),
    lambda monkeypatch: monkeypatch.setitem(sys.modules, "service_identity", None),
]


@pytest.mark.parametrize("hide", HIDINGS, ids=["pyOpenSSL", "service-identity"])
def test_without_the_extra_the_standard_library_does_and_asking_for_it_is_refused(
    tmp_path: Path, ca_file: str, monkeypatch: pytest.MonkeyPatch, hide: Callable[[pytest.MonkeyPatch], None]
) -> None:
    for module in ("tls_openssl", "identity"):
        monkeypatch.delitem(sys.modules, f"pcj.transport.{module}")
        monkeypatch.delattr(f"pcj.transport.{module}")
    hide(monkeypatch)
    with pytest.raises(ConfigError, match=r"tls_engine 'openssl' needs .*: install 'pcj\[binding\]'"):
        make_context(verify=True, ca_file=ca_file, client_certificate=None, engine="openssl")
    context = make_context(verify=True, ca_file=ca_file, client_certificate=None, engine=None)
    assert isinstance(context, SslContext)
    engine = TlsEngine(context, server_name="example.org")
    engine.start()
    talk(engine, Server(server_context(good("example.org"), tmp_path)))
    assert engine.facts is not None
    assert list(engine.facts.bindings) == ["tls-server-end-point"]


def test_neither_library_of_the_extra_is_imported_before_tls_is_begun() -> None:
    program = (
        "import sys, pcj; pcj.Broker; import pcj.transport.wire; "
        "print([name for name in ('OpenSSL', 'service_identity', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


# ---- what only pyOpenSSL's side could get wrong


def test_the_suites_and_versions_offered_are_those_of_pythons_ssl(tmp_path: Path, ca_file: str) -> None:
    def offered(library: str) -> list[bytes]:
        hello = engine_for(ca_file, library).data_to_send()
        at = 5 + 4 + 2 + 32
        at += 1 + hello[at]
        suites = hello[at + 2 : at + 2 + int.from_bytes(hello[at : at + 2], "big")]
        return [suites[i : i + 2] for i in range(0, len(suites), 2)]

    # 0x00ff is no suite, but another way to say renegotiation_info (RFC 5746 3.3).
    assert set(offered("ssl")) - {b"\x00\xff"} == set(offered("openssl")) - {b"\x00\xff"}


def test_an_unverified_code_without_words_of_its_own_is_told_by_its_number() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 77, "X509_V_ERR 77"
    ders = [leaf_of(issued()).public_bytes(DER)]
    said = str(unverified(error, LookedFor("example.org", "example.org"), ders, 0.0))
    assert said.startswith("The certificate of example.org did not pass: X509_V_ERR 77. It is for example.org, issued")


def test_what_waits_to_be_sent_is_counted_and_taken_whole(
    tmp_path: Path, ca_file: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, engine = Server(server_context(good("example.org"), tmp_path)), engine_for(ca_file, library)
    talk(engine, server)
    monkeypatch.setattr(tls, "MAX_UNSENT_BYTES", 400_000)
    engine.write(bytes(200_000))
    with pytest.raises(UsageError, match="would wait to be sent"):
        engine.write(bytes(200_000))
    server.feed(engine.data_to_send())
    assert engine.data_to_send() == b""
    assert server.received == bytes(200_000)


class Broken:
    """A session whose library fails when it is written to."""

    def __init__(self, library: object) -> None:
        self._library = library

    def __getattr__(self, name: str) -> object:
        return getattr(self._library, name)

    def write(self, plaintext: bytes) -> int:
        raise ssl.SSLError(1, "internal error")


def test_a_library_that_fails_to_write_has_broken_the_session(
    tmp_path: Path, ca_file: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_for(ca_file, library)
    talk(engine, Server(server_context(good("example.org"), tmp_path)))
    monkeypatch.setattr(engine, "_library", Broken(engine._library))
    with pytest.raises(TlsError, match="broke") as raised:
        engine.write(b"x")
    assert raised.value.phase is None
    assert engine.fault is raised.value
