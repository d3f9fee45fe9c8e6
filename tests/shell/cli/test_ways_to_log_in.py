"""`pcj connect`: logging in by certificate, as nobody, by chosen mechanisms, and to a server whose key is known."""

from __future__ import annotations

import hashlib
import re
import ssl
from pathlib import Path

import pytest

from pcj.testing import Server, ServerOptions
from pcj.transport.certificate import Certificate
from tests.interop.servers.clients import ClientAuthority
from tests.shell.cli.background import background, make_server
from tests.shell.cli.test_connect import as_romeo, connect


def pin_of(server: Server) -> tuple[str, str]:
    """The pins of the key and of the certificate."""
    pem = ssl.get_server_certificate((server.host, server.direct_tls_port))
    return Certificate.parse(ssl.PEM_cert_to_DER_cert(pem)).pins


def test_a_log_in_that_is_bound_to_tls_says_to_what() -> None:
    with background(make_server) as server:
        result = connect(*as_romeo(server), "--channel-binding", "require", "--mechanism", "SCRAM-SHA-256-PLUS")
        assert result.exit_code == 0, result.output
        assert "SCRAM-SHA-256-PLUS, bound to tls-server-end-point" in result.stdout


def test_where_nothing_can_be_bound_to_the_option_is_named_as_it_is_given_here() -> None:
    with background(lambda: make_server(ServerOptions(mechanisms=("SCRAM-SHA-1",)))) as server:
        result = connect(*as_romeo(server), "--channel-binding", "require")
        assert result.exit_code == 1
        assert "which --channel-binding require asks for" in re.sub(r"\s+", " ", result.output)


def test_nobody_logs_in_without_being_asked_for_a_password() -> None:
    with background(lambda: make_server(ServerOptions(mechanisms=("ANONYMOUS",)))) as server:
        arguments = ["localhost", *as_romeo(server)[1:], "--mechanism", "ANONYMOUS"]
        result = connect(*arguments, password=None)
        assert result.exit_code == 0, result.output
        assert re.search(r"PCJ_READY +\w+@localhost/", result.stdout)


@pytest.mark.parametrize("address", ["romeo@localhost", "nobody@localhost"])
def test_a_certificate_logs_in_the_account_that_it_names(tmp_path: Path, address: str) -> None:
    authority = ClientAuthority("an authority of clients")
    ca_file = tmp_path / "clients.pem"
    ca_file.write_bytes(authority.pem)
    certificate = authority.issue(tmp_path / "client.pem", address)
    options = ServerOptions(mechanisms=("EXTERNAL", "SCRAM-SHA-1"), client_ca_file=str(ca_file))
    with background(lambda: make_server(options)) as server:
        result = connect(*as_romeo(server), "--client-certificate", str(certificate), password=None)
        if address.startswith("romeo"):
            assert result.exit_code == 0, result.output
            assert "PCJ_AUTHSUCCESS       EXTERNAL" in result.stdout
        else:
            assert result.exit_code == 1
            assert "SCRAM-SHA-1 needs a name and a password" in re.sub(r"\s+", " ", result.output)


def test_a_key_or_a_certificate_can_be_pinned() -> None:
    with background(make_server) as server:
        for pin in pin_of(server.it):
            assert connect(*as_romeo(server), "--pin", pin).exit_code == 0
        wrong = "sha256:" + hashlib.sha256(b"another").hexdigest()
        result = connect(*as_romeo(server), "--pin", wrong)
        assert result.exit_code == 1
        assert pin_of(server.it)[0] in re.sub(r"\s+", "", result.output)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pin", "sha1:00"], "a pin is 'sha256:' or 'cert-sha256:' and 64 hexadecimal digits"),
        (["--mechanism", "NTLM"], "pcj does not know NTLM; --mechanism may name EXTERNAL"),
        (["--mechanism", "EXTERNAL"], "give a password, or a --client-certificate (for EXTERNAL)"),
        (["--client-certificate", __file__], "it must hold our certificate and its private key in PEM form"),
        (["--channel-binding", "yes"], "'yes' is not one of"),
    ],
)
def test_misuse_is_said_in_the_words_of_the_command(arguments: list[str], said: str) -> None:
    result = connect("romeo@localhost", "--host", "127.0.0.1", *arguments)
    assert result.exit_code == 2
    assert said in re.sub(r"\s+", " ", result.output)
