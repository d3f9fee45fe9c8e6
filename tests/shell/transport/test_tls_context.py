"""The making and keeping of contexts, and what is wrong with a file."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pcj.errors import ConfigError
from pcj.transport.tls import make_context
from tests.shell.transport.pair import authority, good, other_authority


def test_a_context_is_strict() -> None:
    context = make_context(verify=True, ca_file=None, client_certificate=None)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.hostname_checks_common_name
    assert context.cert_store_stats()["x509"] >= 0


def test_a_context_without_verification_is_another_one() -> None:
    context = make_context(verify=False, ca_file=None, client_certificate=None)
    assert context.verify_mode is ssl.CERT_NONE
    assert context is not make_context(verify=True, ca_file=None, client_certificate=None)


def test_a_context_is_made_once_and_again_when_its_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(file))

    def make() -> ssl.SSLContext:
        return make_context(verify=True, ca_file=str(file), client_certificate=None)

    first = make()
    assert make() is first
    other_authority().cert_pem.write_to_path(str(file))
    os.utime(file, ns=(1, 1))  # whatever the clock of the file system can tell apart
    second = make()
    assert second is not first
    assert second.get_ca_certs() != first.get_ca_certs()


def test_a_mended_file_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match=r"ca_file '.*ca\.pem' cannot be read: No such file"):
        make_context(verify=True, ca_file=str(file), client_certificate=None)
    file.write_text("not yet\n")
    with pytest.raises(ConfigError, match=r"ca_file '.*ca\.pem' holds no certificate in PEM form"):
        make_context(verify=True, ca_file=str(file), client_certificate=None)
    authority().cert_pem.write_to_path(str(file))
    make_context(verify=True, ca_file=str(file), client_certificate=None)


@pytest.mark.parametrize("path", ["\0", "/"])
def test_a_path_that_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="ca_file"):
        make_context(verify=True, ca_file=path, client_certificate=None)
    with pytest.raises(ConfigError, match="client_certificate"):
        make_context(verify=True, ca_file=None, client_certificate=path)


def test_a_client_certificate_needs_its_own_plain_key(tmp_path: Path) -> None:
    file = tmp_path / "client.pem"
    one, two = good("one.example"), good("two.example")
    key = serialization.load_pem_private_key(one.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    rows = [
        (b"nonsense", "it must hold our certificate and its private key"),
        (one.certificates, "it must hold our certificate and its private key"),
        (two.key + one.certificates, "its key is not the certificate's"),
        (locked + one.certificates, "its key is encrypted"),
    ]
    for content, why in rows:
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=f"client_certificate '.*client.pem': {why}"):
            make_context(verify=True, ca_file=None, client_certificate=str(file))
    file.write_bytes(one.key + one.certificates)
    make_context(verify=True, ca_file=None, client_certificate=str(file))


@pytest.mark.parametrize("alpn", [("",), ("x" * 256,), ("ü",)])
def test_a_protocol_that_cannot_be_offered_is_refused(alpn: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="alpn"):
        make_context(verify=False, ca_file=None, client_certificate=None, alpn=alpn)
