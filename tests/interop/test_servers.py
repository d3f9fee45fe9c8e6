"""The real servers themselves: that they come up as promised, and leave nothing behind. Raw sockets, no pcj."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.conftest import require
from tests.interop.servers import (
    Ejabberd,
    Jabberd2,
    Prosody,
    RealServer,
    ServerFailed,
    Workspace,
    greet,
    is_free,
    processes_of,
)

KINDS = [Prosody, Ejabberd, Jabberd2]
CLIENT_HEADER = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost'"
TIMEOUT = 20.0


def talk(link: socket.socket, text: str, until: str) -> str:
    """Sends `text` and returns what comes, to `until`."""
    link.sendall(text.encode())
    heard = ""
    while until not in heard:
        more = link.recv(65536)
        if not more:
            raise ConnectionError(f"closed after {heard!r}, before {until!r}")
        heard += more.decode()
    return heard


def connect(server: RealServer, port: int | None) -> socket.socket:
    assert port is not None
    return socket.create_connection((server.host, port), TIMEOUT)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_client_header_is_answered_with_the_servers_own(real_server: RealServer) -> None:
    header = greet(real_server.c2s_port, to=real_server.domain)
    assert "<stream:stream" in header
    assert "id=" in header
    assert "from='localhost'" in header


def test_a_header_of_version_1_0_brings_features(real_server: RealServer) -> None:
    features = greet(real_server.c2s_port, to=real_server.domain, version="1.0")
    assert "<starttls" in features
    assert "http://jabber.org/features/iq-auth" in features
    assert ("DIGEST-MD5" if real_server.name == "jabberd2" else "SCRAM-SHA-1") in features


def test_a_component_header_is_answered_for_both_domains(real_server: RealServer) -> None:
    for domain in real_server.component_domains:
        header = greet(real_server.component_port, to=domain, xmlns="jabber:component:accept")
        assert f"from='{domain}'" in header
        assert "id=" in header


def log_in_by_sasl(link: socket.socket, user: str, password: str) -> None:
    talk(link, f"<?xml version='1.0'?>{CLIENT_HEADER} version='1.0'>", "</stream:features>")
    response = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    answer = talk(link, f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{response}</auth>", ">")
    assert answer.startswith("<success")


def log_in_by_iq_auth(link: socket.socket, user: str, password: str) -> None:
    talk(link, f"<?xml version='1.0'?>{CLIENT_HEADER}>", ">")
    login = f"<username>{user}</username><password>{password}</password><resource>test</resource>"
    # Prosody's features, which it sends even without a version, may come before the answer.
    answer = talk(link, f"<iq type='set' id='a1'><query xmlns='jabber:iq:auth'>{login}</query></iq>", "a1")
    assert "type='result'" in answer


def log_in_with_each_account(server: RealServer, log_in: Callable[[socket.socket, str, str], None]) -> None:
    with contextlib.ExitStack() as links:
        for user, password in server.accounts:
            # All stay open: jabberd2 may answer who comes just after another left with an internal-server-error, meant
            # for the other, because it tells its clients apart by their descriptors.
            log_in(links.enter_context(connect(server, server.c2s_port)), user, password)


def test_each_account_can_log_in(real_server: RealServer) -> None:
    # jabberd2 has no PLAIN; ejabberd with hashed passwords offers iq:auth but takes no password there.
    log_in_with_each_account(real_server, log_in_by_iq_auth if real_server.name == "jabberd2" else log_in_by_sasl)


def test_each_account_can_log_in_by_the_old_protocol(legacy_server: RealServer) -> None:
    log_in_with_each_account(legacy_server, log_in_by_iq_auth)


def test_direct_tls_bears_a_certificate_that_verifies(real_server: RealServer) -> None:
    context = ssl.create_default_context(cafile=str(real_server.ca_file))
    for name in ("localhost", "127.0.0.1"):
        with (
            connect(real_server, real_server.direct_tls_port) as link,
            context.wrap_socket(link, server_hostname=name) as secure,
        ):
            assert "<stream:stream" in talk(secure, f"<?xml version='1.0'?>{CLIENT_HEADER}>", ">")


def test_starttls_leads_to_a_certificate_that_verifies(real_server: RealServer) -> None:
    context = ssl.create_default_context(cafile=str(real_server.ca_file))
    with connect(real_server, real_server.c2s_port) as link:
        talk(link, f"<?xml version='1.0'?>{CLIENT_HEADER} version='1.0'>", "</stream:features>")
        talk(link, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<proceed")
        with context.wrap_socket(link, server_hostname="localhost") as secure:
            assert secure.version() == "TLSv1.3"


def test_ejabberd_with_plain_passwords_offers_the_digests(ejabberd_plain: RealServer) -> None:
    assert "DIGEST-MD5" in greet(ejabberd_plain.c2s_port, to="localhost", version="1.0")
    with connect(ejabberd_plain, ejabberd_plain.c2s_port) as link:
        talk(link, f"<?xml version='1.0'?>{CLIENT_HEADER}>", ">")
        query = "<query xmlns='jabber:iq:auth'><username>test01</username></query>"
        assert "<digest" in talk(link, f"<iq type='get' id='a1'>{query}</iq>", "</iq>")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_server_leaves_no_process_and_no_port(kind: type[RealServer], workspace: Workspace) -> None:
    require(kind)
    server = kind(workspace)
    server.start()
    assert server.running
    assert processes_of(server.folder)
    server.stop()
    assert processes_of(server.folder) == []
    assert all(is_free(port) for port in server.ports)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_server_comes_back_on_its_ports_although_a_client_was_connected(
    kind: type[RealServer], workspace: Workspace
) -> None:
    require(kind)
    with kind(workspace) as server:
        ports = server.ports
        with connect(server, server.c2s_port) as link, connect(server, server.component_port):
            server.kill()
            assert processes_of(server.folder) == []
            with contextlib.suppress(ConnectionResetError):  # what was unread or unsaid decides which it is
                assert link.recv(1) == b""
            server.start()
        assert server.ports == ports
        test_each_account_can_log_in(server)


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminated_server_ends_by_itself(kind: type[RealServer], workspace: Workspace) -> None:
    require(kind)
    with kind(workspace) as server:
        server.terminate()
        assert server.wait(TIMEOUT)


def test_one_part_of_jabberd2_can_be_killed_alone(jabberd2: RealServer) -> None:
    jabberd2.kill("c2s")
    assert not jabberd2.running
    assert is_free(jabberd2.c2s_port)
    assert "id=" in greet(jabberd2.component_port, to="comp.localhost", xmlns="jabber:component:accept")


def test_a_shared_server_that_a_test_has_ended_is_up_again_for_the_next(jabberd2: RealServer) -> None:
    assert jabberd2.running
    assert "id=" in greet(jabberd2.c2s_port, to="localhost")


def test_starting_a_running_server_is_refused(prosody: RealServer) -> None:
    with pytest.raises(RuntimeError, match="prosody is running"):
        prosody.start()


def test_a_server_that_cannot_start_says_so_with_the_end_of_its_log(workspace: Workspace) -> None:
    require(Prosody)
    server = Prosody(workspace, settings="this is not Lua")
    with pytest.raises(ServerFailed, match=r"prosody\.cfg\.lua"):
        server.start()
    assert processes_of(server.folder) == []


def test_a_port_taken_by_somebody_else_is_given_up(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    require(Jabberd2)
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken: int = somebody.getsockname()[1]
        choose = Jabberd2._choose_ports
        rounds = []

        def choose_a_taken_one_first(server: Jabberd2) -> None:
            choose(server)
            rounds.append(1)
            if len(rounds) == 1:
                server.c2s_port = taken

        monkeypatch.setattr(Jabberd2, "_choose_ports", choose_a_taken_one_first)
        with Jabberd2(workspace) as server:
            assert taken not in server.ports
        assert len(rounds) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_test_run_that_is_killed_takes_its_servers_and_its_folder_with_it(kind: type[RealServer]) -> None:
    require(kind)
    program = (
        "import threading, time\n"
        f"from tests.interop.servers import {kind.__name__}, Workspace\n"
        "with Workspace.open() as workspace:\n"
        f"    server = {kind.__name__}(workspace)\n"
        # From a thread that ends: its end must not be taken for the run's.
        "    starter = threading.Thread(target=server.start)\n"
        "    starter.start()\n"
        "    starter.join()\n"
        "    time.sleep(0.2)\n"
        "    print(server.running, server.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            running, folder = run.stdout.readline().split()
            assert running == "True"
            server_folder = Path(folder)
            assert processes_of(server_folder)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: processes_of(server_folder) == [], "the servers are gone")
    wait_until(lambda: not server_folder.parent.exists(), "the temporary folder is gone")


def test_a_server_that_is_not_installed_is_skipped_and_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(Prosody, "programs", ("no-such-program",))
    with pytest.raises(pytest.skip.Exception, match=r"no-such-program.*package prosody"):
        require(Prosody)


def test_a_server_that_is_not_installed_fails_the_test_where_nothing_may_be_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(Prosody, "programs", ("no-such-program",))
    with pytest.raises(pytest.fail.Exception, match="package prosody"):
        require(Prosody)
