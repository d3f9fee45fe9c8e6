"""The temporary folder of one test run, and the certificate of its servers."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from tests.interop.servers.clients import ClientAuthority

#: Names below ``localhost`` under which a server serves other ways to log in; which of them, each server's class says.
HOSTS = ("anonymous", "certificate", "downgrade", "endpoint", "sha256", "sha512", "tls12")


@dataclass(frozen=True)
class Workspace:
    """The temporary folder of one test run, with the certificate that all its servers show.

    It is for ``localhost`` and ``127.0.0.1``; that of the hosts of `HOSTS` is another.

    Attributes:
        folder: Everything is below it. Gone after the run, however the run ended.
        ca_file: The authority's certificate (PEM): what a client is given to verify the servers.
        certificate: The servers' certificate alone (PEM).
        key: Its private key (PEM).
        key_and_certificate: Both in one file, for servers that want that.
        hosts: The key and the certificate of the hosts below ``localhost``, in one file.
        client_ca_file: The authority of clients' certificates (PEM), see `ClientAuthority`.
        clients: That authority.
    """

    folder: Path
    ca_file: Path
    certificate: Path
    key: Path
    key_and_certificate: Path
    hosts: Path
    client_ca_file: Path
    clients: ClientAuthority

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Workspace]:
        folder = Path(tempfile.mkdtemp(prefix="pcj-servers-", dir=_reachable_temporary_folder()))
        try:
            folder.chmod(0o755)  # the servers may run as another user
            with _janitor(folder):
                yield cls._fill(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @classmethod
    def _fill(cls, folder: Path) -> Workspace:
        authority = trustme.CA()
        # trustme's own date, the year 3000, is past what Erlang's timers can count: ejabberd would not load it.
        expiry = datetime.now(UTC) + timedelta(days=3650)
        certificate = authority.issue_cert("localhost", "127.0.0.1", common_name="localhost", not_after=expiry)
        hosts = authority.issue_cert(*(f"{name}.localhost" for name in HOSTS), not_after=expiry)
        workspace = cls(
            folder=folder,
            ca_file=folder / "ca.pem",
            certificate=folder / "certificate.pem",
            key=folder / "key.pem",
            key_and_certificate=folder / "key-and-certificate.pem",
            hosts=folder / "hosts.pem",
            client_ca_file=folder / "client-ca.pem",
            clients=ClientAuthority("clients of the tests"),
        )
        workspace.client_ca_file.write_bytes(workspace.clients.pem)
        authority.cert_pem.write_to_path(workspace.ca_file)
        certificate.private_key_pem.write_to_path(workspace.key)
        certificate.private_key_and_cert_chain_pem.write_to_path(workspace.key_and_certificate)
        hosts.private_key_and_cert_chain_pem.write_to_path(workspace.hosts)
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(workspace.certificate, append=True)
        for path in folder.iterdir():
            path.chmod(0o644)  # readable for the servers' user; the key is worth nothing outside this run
        return workspace


def _reachable_temporary_folder() -> str:
    """The temporary folder, unless the user ``nobody`` could not get into it (a root's private one): then /tmp."""
    usual = Path(tempfile.gettempdir()).resolve()
    if os.geteuid() != 0 or all(step.stat().st_mode & stat.S_IXOTH for step in (usual, *usual.parents)):
        return str(usual)
    return "/tmp"  # noqa: S108 - mkdtemp makes an unguessable folder in it


@contextmanager
def _janitor(folder: Path) -> Iterator[None]:
    """Sees to it that `folder` goes away even if this process is killed: end of file on a pipe tells of our end.

    The loop is for servers that are just being killed and still write.
    """
    script = 'cat >/dev/null; for i in 1 2 3 4 5; do rm -rf "$1"; [ -e "$1" ] || break; sleep 0.3; done'
    command = ["/bin/sh", "-c", script, "sh", str(folder)]
    # A session of its own: an interrupt from the terminal is for the test run, not for who cleans up after it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as janitor:
        yield
        assert janitor.stdin is not None
        janitor.stdin.close()
