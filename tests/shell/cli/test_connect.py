"""`pcj connect`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from pcj.cli.group import pcj as command
from pcj.testing import ScriptedServer, Server, ServerOptions
from tests.shell.cli.background import TIMEOUT, Background, background, make_server

ROMEO = "s3cret-of-romeo"


@pytest.fixture(scope="module")
def server() -> Iterator[Background[Server]]:
    with background(make_server) as runs:
        yield runs


def connect(*arguments: str, password: str | None = ROMEO, typed: str | None = None) -> Result:
    env = {"PCJ_PASSWORD": password, "COLUMNS": "80"}
    result = CliRunner().invoke(command, ["connect", *arguments], env=env, input=typed)
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def as_romeo(server: Background[Server]) -> list[str]:
    it = server.it
    return ["romeo@localhost/orchard", "--host", it.host, "--port", str(it.client_port), "--ca-file", it.ca_file]


def test_it_shows_the_connection_and_shuts_down(server: Background[Server]) -> None:
    result = connect(*as_romeo(server))
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "PCJ_READY             romeo@localhost/orchard" in result.stdout
    assert "PCJ_SHUTDOWN_FINISH" in result.stdout
    last = result.stdout.splitlines()[-1]
    assert re.fullmatch(r"READY was reached as romeo@localhost/orchard after \d+ ms; then it was shut down\.", last), (
        last
    )
    assert ROMEO not in result.output


@pytest.mark.parametrize(
    ("kind", "jid", "port", "password", "more"),
    [
        ("LEGACY", "romeo@localhost/old", "client_port", ROMEO, []),
        ("legacy", "romeo@localhost/old", "client_port", ROMEO, ["--plaintext"]),
        ("jabberd14_component", "comp.localhost", "component_port", "s3cret-of-comp", []),
        ("Jabberd20_Component", "routed.localhost", "router_port", "s3cret-of-router", ["--username", "jabberd"]),
        ("xmpp", "romeo@localhost/direct", "direct_tls_port", ROMEO, ["--direct-tls", "--tls-name", "localhost"]),
    ],
)
def test_every_type_in_lines_of_json_without_the_password(
    server: Background[Server], kind: str, jid: str, port: str, password: str, more: list[str]
) -> None:
    it = server.it
    where = ["--host", it.host, "--port", str(getattr(it, port)), "--ca-file", it.ca_file, "--json"]
    result = connect(jid, "--type", kind, *where, *more, password=password)
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert {record["connection_type"] for record in records} == {kind.upper()}
    assert "PCJ_READY" in [record["event"] for record in records]
    assert result.stderr.startswith("pcj: READY was reached as ")
    assert password not in result.output


def test_a_wrong_password_is_a_sentence(server: Background[Server]) -> None:
    result = connect(*as_romeo(server), password="guess-of-mine")
    assert result.exit_code == 1
    assert "PCJ_AUTHFAIL" in result.stdout
    assert "rejected user 'romeo' or the password" in " ".join(result.stdout.split())
    assert "guess-of-mine" not in result.output


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as bound:  # bound, and not listening: refused, and nobody else can take it
        bound.bind(("127.0.0.1", 0))
        result = connect("romeo@localhost", "--host", "127.0.0.1", "--port", str(bound.getsockname()[1]))
    assert result.exit_code == 1
    assert "PCJ_CONNECTFAIL" in result.stdout
    timeline, _, end = result.stdout.rpartition("\n\n")
    assert "refused the connection: nothing listens there." in " ".join(timeline.split()[-20:])
    # Right below it, that need not be said again.
    assert " ".join(end.split()) == "Not connected as romeo@localhost. Trying again can help."
    assert "PCJ_SHUTDOWN_START" not in result.stdout


def test_a_failure_is_told_in_full_where_no_timeline_stands_above_it() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        where = ["romeo@localhost", "--host", "127.0.0.1", "--port", str(bound.getsockname()[1])]
        result = connect(*where, "--json")
    assert result.stderr.count("refused the connection: nothing listens there.") == 1


def test_an_unknown_authority_names_the_option_of_the_command(server: Background[Server]) -> None:
    arguments = as_romeo(server)[:-2]
    result = connect(*arguments)
    assert result.exit_code == 1
    timeline, _, end = result.stdout.rpartition("\n\n")
    assert "--ca-file" in timeline
    assert "--ca-file" in end
    assert "ca_file" not in result.stdout
    result = connect(*arguments, "--insecure")
    assert result.exit_code == 0
    assert "NOT VERIFIED TLSv1" in result.stdout
    assert result.stderr.startswith("pcj: warning: --insecure")


def test_no_tls_is_accepted_only_if_told_so() -> None:
    with background(lambda: make_server(ServerOptions(starttls="none"))) as runs:
        where = ["romeo@localhost", "--host", runs.it.host, "--port", str(runs.it.client_port)]
        refused = connect(*where)
        assert refused.exit_code == 1
        assert "--no-require-tls" in refused.stdout
        assert connect(*where, "--no-require-tls").exit_code == 0


def test_the_password_itself_goes_out_without_tls_only_if_told_so() -> None:
    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"version='1.0'")
        writer.write(
            b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' "
            b"id='1'><stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>"
            b"</mechanisms></stream:features>"
        )
        if b"<auth" in await reader.readuntil(b"</"):  # its end, or the stream's
            writer.write(b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>")
        await reader.read()

    with background(lambda: ScriptedServer(handler)) as runs:
        where = ["romeo@localhost", "--host", runs.it.host, "--port", str(runs.it.port), "--no-require-tls"]
        refused = connect(*where)
        assert refused.exit_code == 1
        assert "--allow-plain" in refused.stdout.rpartition("\n\n")[2]
        allowed = connect(*where, "--allow-plain")
        assert "PCJ_AUTHNEGOTIATE     PLAIN" in allowed.stdout
        assert "--allow-plain" not in allowed.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["romeo@localhost", "--type", "MSN"], "'MSN' is no connection type"),
        (["romeo@localhost", "--password", "hunter2"], "can be read by every user"),
        (["romeo@localhost", "--password=hunter2"], "can be read by every user"),
        (["localhost"], "name@domain"),
        (["romeo@localhost", "--type", "JABBERD14_COMPONENT"], "a component's jid is a domain"),
        (["ro meo@localhost"], "local"),
        (["romeo@localhost", "--port", "0"], "--port"),
        (["romeo@localhost", "--host", "http://x"], "with --port"),
        (["romeo@localhost", "--host", "1.2.3.4:5222"], "with --port"),
        (["romeo@localhost", "--host", "xmpp.example.org:5222"], "with --port"),
        (["romeo@localhost", "--host", "[::1]:5222"], "with --port"),
        (["romeo@localhost", "--host", ""], "host must be"),
        (["romeo@localhost", "--timeout", "0"], "--timeout"),
        (["romeo@localhost", "--ca-file", "/does/not/exist"], "--ca-file"),
        (["romeo@localhost", "--ca-file", __file__], f"--ca-file '{__file__}' holds no certificate"),
        (["romeo@localhost", "--password-command", "'unclosed"], "cannot be split"),
        (["romeo@localhost", "--password-command", " "], "is empty"),
        (["romeo@localhost", "--password-command", "/does/not/exist"], "No such file"),
        (["romeo@localhost", "--password-command", f"{sys.executable} -c 'raise SystemExit(3)'"], "exit code 3"),
        (["romeo@localhost", "--password-command", f"{sys.executable} -c ''"], "printed no password"),
    ],
)
def test_misuse_is_said_in_one_sentence(arguments: list[str], said: str) -> None:
    result = connect(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert "hunter2" not in result.output


def test_without_any_password_it_says_where_one_can_be_given() -> None:
    result = connect("romeo@localhost", password=None)
    assert result.exit_code == 2
    assert "PCJ_PASSWORD" in result.stderr
    assert "--password-command" in result.stderr


def test_an_empty_password_is_none() -> None:
    result = connect("romeo@localhost", password="")
    assert result.exit_code == 2
    assert "there is no password" in result.stderr


def test_the_password_of_a_command_is_its_first_line_and_no_shell_is_asked(server: Background[Server]) -> None:
    code = f"print({ROMEO!r}); print('$(touch /nowhere)')"
    program = f'{sys.executable} -c "{code}"'
    result = connect(*as_romeo(server), "--password-command", program, password="the command comes first")
    assert result.exit_code == 0, result.output


def test_the_password_is_asked_for_without_echo(server: Background[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcj.cli.password._at_terminal", lambda: True)
    result = connect(*as_romeo(server), password=None, typed=f"{ROMEO}\n")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("Password of romeo@localhost/orchard")
    assert ROMEO not in result.output
    given_up = connect(*as_romeo(server), password=None, typed="")
    assert given_up.exit_code == 130


def test_it_waits_no_longer_than_it_was_told() -> None:
    with background(lambda: make_server(ServerOptions(silent_at="header"))) as runs:
        where = ["romeo@localhost", "--host", runs.it.host, "--port", str(runs.it.client_port)]
        result = connect(*where, "--timeout", "0.3")
    assert result.exit_code == 1
    assert "pcj: not READY within 0.3 s" in result.stderr
    assert "PCJ_SHUTDOWN_FINISH" in result.stdout
    said = " ".join(result.stdout.rpartition("\n\n")[2].split())
    assert said.startswith("READY was not reached; then it was shut down. Before that: Connected at ")
    assert "but not ready as romeo@localhost yet" in said


def test_what_is_said_at_the_end_is_true_then() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        where = ["romeo@localhost", "--host", "127.0.0.1", "--port", str(bound.getsockname()[1])]
        result = connect(*where, "--stay", "--timeout", "0.4")
    assert result.exit_code == 1
    said = " ".join(result.stdout.rpartition("\n\n")[2].split())
    assert "refused the connection" in said
    assert "next attempt" not in said


def test_an_ipv6_address_and_a_socket_are_hosts() -> None:
    with socket.socket(socket.AF_INET6) as bound:
        bound.bind(("::1", 0))
        port = str(bound.getsockname()[1])
        for host in ("::1", "[::1]"):
            assert connect("romeo@localhost", "--host", host, "--port", port).exit_code == 1
    assert connect("romeo@localhost", "--host", "/does/not/exist:1").exit_code == 1


def test_remote_text_cannot_touch_the_terminal() -> None:
    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"version='1.0'")
        writer.write(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' id='1'>"
            "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
            "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>\x9b31m \u202e [bold]evil[/bold]</text>"
            "</stream:error></stream:stream>".encode()
        )
        await writer.drain()
        await reader.read()

    with background(lambda: ScriptedServer(handler)) as runs:
        where = ["romeo@localhost", "--host", runs.it.host, "--port", str(runs.it.port)]
        for result in (connect(*where), connect(*where, "--json")):
            assert result.exit_code == 1
            assert all(line.isprintable() for line in result.output.splitlines())
            assert "202e" in result.output
            assert "[bold]evil[/bold]" in result.output


def stay(server: Background[Server]) -> subprocess.Popen[str]:
    """A process that stays connected, and is READY."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from pcj.cli.main import main; main()",
            "connect",
            *as_romeo(server),
            "--stay",
            "--json",
        ],
        env={"PCJ_PASSWORD": ROMEO},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "PCJ_READY":
            break
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_stays_until_a_signal_and_then_shuts_down_in_order(
    server: Background[Server], number: signal.Signals, code: int
) -> None:
    process = stay(server)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code
    events = [json.loads(line)["event"] for line in stdout.splitlines()]
    assert events[0] == "PCJ_STREAMEND"
    assert events[-1] == "PCJ_SHUTDOWN_FINISH"
    assert stderr.startswith("pcj: READY was reached as romeo@localhost/orchard after ")


def test_while_it_stays_it_reconnects_and_a_fatal_end_ends_it(server: Background[Server]) -> None:
    process = stay(server)
    server.do(server.it.drop("romeo@localhost/orchard"))
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(json.loads(line)["event"])
        if seen[-1] == "PCJ_READY":
            break
    assert "RECONNECT_DELAY" in seen
    server.do(server.it.close_stream("romeo@localhost/orchard", "conflict"))
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    (said,) = stderr.splitlines()  # of the retries the events tell
    assert said.startswith("pcj: Not connected as romeo@localhost/orchard any more: ")


def test_a_reader_that_leaves_ends_it_without_noise(server: Background[Server]) -> None:
    process = stay(server)
    assert process.stdout is not None
    process.stdout.close()
    server.do(_greet(server.it))
    assert process.wait(TIMEOUT) == 1
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""


async def _greet(server: Server) -> None:
    from pcj.stanza import message

    server.route(message(to="romeo@localhost/orchard", from_="juliet@localhost", body="are you there?"))
    await asyncio.sleep(0)
