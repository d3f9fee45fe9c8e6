"""The programs in examples/ do what they say: each is run as a user runs it, against the embedded server."""

from __future__ import annotations

import ast
import asyncio
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple
from xml.etree.ElementTree import Element

import pytest

from pcj import XMPP, Broker, iq, message
from pcj.stanza import error_condition
from pcj.testing import Server
from tests.shell.cli.background import TIMEOUT, Background, background, make_server
from tests.shell.links import closed_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"


class Example(NamedTuple):
    """One of them: its file, who it is, where it connects, its password, and an address that its nodes come to."""

    name: str
    who: str
    port: str
    password: str
    address: str

    def command(self, server: Server, *more: str) -> list[str]:
        """A user's command line."""
        where = ["--host", server.host, "--port", str(getattr(server, self.port)), "--ca-file", server.ca_file]
        return [sys.executable, str(FOLDER / self.name), self.who, *where, "--pause", "0.2", *more]


XMPP_CLIENT = Example(
    "xmpp_client.py", "romeo@localhost/garden", "client_port", "s3cret-of-romeo", "romeo@localhost/garden"
)
EXAMPLES = [
    XMPP_CLIENT,
    Example("legacy_client.py", "romeo@localhost/old", "client_port", "s3cret-of-romeo", "romeo@localhost/old"),
    Example("jabberd14_component.py", "comp.localhost", "component_port", "s3cret-of-comp", "tybalt@comp.localhost"),
    Example("jabberd20_component.py", "routed.localhost", "router_port", "s3cret-of-router", "paris@routed.localhost"),
]
EACH = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example.name))


@pytest.fixture(scope="module")
def server() -> Iterator[Background[Server]]:
    with background(make_server) as runs:
        yield runs


def environment(password: str | None) -> dict[str, str]:
    # A terminal that knows ASCII alone: whatever comes in can be shown on it.
    return {"PYTHONIOENCODING": "ascii"} | ({} if password is None else {"PCJ_PASSWORD": password})


def run(command: list[str], password: str | None) -> subprocess.CompletedProcess[str]:
    """Run one that ends by itself."""
    done = subprocess.run(
        command,
        env=environment(password),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


@contextmanager
def started(
    command: list[str], password: str | None, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """Run one that goes on until it is ended; it does not outlive the test."""
    process = subprocess.Popen(
        command,
        env=environment(password),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # no terminal but the one it is given
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a run in the background ignores it
    )
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        watchdog.cancel()


def printed(stream: IO[str] | None, *wanted: str) -> list[str]:
    """The lines up to where each of these has been seen."""
    assert stream is not None
    missing = set(wanted)
    lines: list[str] = []
    while missing:
        line = stream.readline()
        assert line, f"it ended, and {missing} was not printed: {lines}"
        lines.append(line)
        missing = {each for each in missing if each not in line}
    return lines


async def juliet_writes(server: Server, to: str) -> str:
    """A peer asks what nobody answers, and sends a message; returns the condition of the answer."""
    where = {"host": server.host, "port": server.client_port, "ca_file": server.ca_file}
    async with Broker(XMPP, "juliet@localhost/balcony", password="s3cret-of-juliet", **where) as juliet:
        reply = await juliet.return_to_sender(iq(to=to, payload=Element("{urn:example:x}x")), timeout=TIMEOUT)
        juliet.output(message(to=to, type="chat", body="Goldgelb: \u00f6\n\u202e\x9b31m"))
        await asyncio.wait_for(server.wait_for_node(lambda jid, node: node.get("to") == to and is_chat(node)), TIMEOUT)
    return error_condition(reply)[1]


def is_chat(node: Element) -> bool:
    return node.get("type") == "chat"


@EACH
def test_it_says_it_is_there_talks_to_itself_prints_what_comes_and_ends_in_good_order(
    server: Background[Server], example: Example
) -> None:
    it = server.it
    with started(example.command(it), example.password) as process:
        assert printed(process.stdout, "ready") == ["--- Connection is ready for use! ---\n"]
        session = server.do(it.wait_for_session(example.who))
        assert server.do(juliet_writes(it, example.address)) == "service-unavailable"
        lines = printed(process.stdout, "This is a test, sent at ", "Goldgelb")
        assert all(line.startswith("--- Node received: <") for line in lines)
        (chat,) = [line for line in lines if "Goldgelb" in line]
        assert 'from="juliet@localhost/balcony"' in chat
        assert "<body>Goldgelb: &#246;&#10;&#8238;&#155;31m</body>" in chat
        own = next(line for line in lines if "This is a test" in line)
        assert f'to="{example.who}"' in own
        assert f'from="{example.who}"' in own
        sent = [node.tag.partition("}")[2] for jid, node in it.received if jid == session.jid]
        assert [name for name in sent if name != "iq"][:2] == ["presence", "message"]
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, stderr) == (130, "")
    server.do(it.wait_for_end(example.who))


@EACH
def test_a_wrong_password_is_a_sentence(server: Background[Server], example: Example) -> None:
    done = run(example.command(server.it), "guess-of-mine")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{example.name}: ")
    assert len(done.stderr.splitlines()) == 1
    assert "not-authorized" in done.stderr or "handshake" in done.stderr or "password" in done.stderr
    assert "guess-of-mine" not in done.stderr


@EACH
def test_a_connection_that_is_lost_ends_it_with_the_reason(server: Background[Server], example: Example) -> None:
    with started(example.command(server.it), example.password) as process:
        printed(process.stdout, "ready")
        server.do(server.it.drop(example.who))
        _, stderr = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 1
        assert stderr.startswith(f"{example.name}: Not connected as {example.who} any more: ")
        assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["xmpp_client.py"], "the following arguments are required: jid"),
        (["xmpp_client.py", "localhost"], "name@domain"),
        (["legacy_client.py", "ro meo@localhost"], "local"),
        (["jabberd14_component.py", "romeo@localhost"], "a component's jid is a domain"),
        (["jabberd20_component.py", "romeo@localhost"], "a component's jid is a domain"),
        (["jabberd20_component.py", "routed.localhost", "--bind-option", "none"], "--bind-option"),
        (["xmpp_client.py", "romeo@localhost", "--port", "0"], "port must be between"),
        (["xmpp_client.py", "romeo@localhost", "--port", "http"], "--port"),
        (["xmpp_client.py", "romeo@localhost", "--pause", "0"], "--pause"),
        (["xmpp_client.py", "romeo@localhost", "--pause", "inf"], "--pause"),
        (["xmpp_client.py", "romeo@localhost", "--ca-file", "/does/not/exist"], "No such file"),
        (["xmpp_client.py", "romeo@localhost", "--password", "hunter2"], "unrecognized arguments"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(arguments: list[str], said: str) -> None:
    done = run([sys.executable, str(FOLDER / arguments[0]), *arguments[1:]], "anything")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[-1]


def test_without_a_password_it_says_where_one_can_be_given(server: Background[Server]) -> None:
    done = run(XMPP_CLIENT.command(server.it), None)
    assert done.returncode == 2
    assert "PCJ_PASSWORD" in done.stderr.splitlines()[-1]


def test_at_a_terminal_it_asks_for_the_password_without_echo(server: Background[Server]) -> None:
    ours, terminal = pty.openpty()
    try:
        with started(XMPP_CLIENT.command(server.it), None, stdin=terminal) as process:
            assert process.stderr is not None
            assert process.stderr.read(len("Password of")) == "Password of"
            os.write(ours, f"{XMPP_CLIENT.password}\n".encode())
            printed(process.stdout, "ready")
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=TIMEOUT)
        assert XMPP_CLIENT.password not in stdout + stderr
    finally:
        os.close(terminal)
        os.close(ours)


def test_where_nobody_listens_it_says_so() -> None:
    where = ["--host", "127.0.0.1", "--port", str(closed_port())]
    done = run([sys.executable, str(FOLDER / "jabberd14_component.py"), "comp.localhost", *where], "anything")
    assert (done.returncode, done.stdout) == (1, "")
    assert "refused the connection" in done.stderr


def test_a_reader_that_leaves_ends_it_without_noise(server: Background[Server]) -> None:
    with started(XMPP_CLIENT.command(server.it), XMPP_CLIENT.password) as process:
        printed(process.stdout, "ready")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(TIMEOUT) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_what_the_four_have_in_common_is_the_same_in_each() -> None:
    def functions(name: str) -> dict[str, str]:
        body = ast.parse((FOLDER / name).read_text(encoding="utf-8")).body
        return {
            each.name: ast.unparse(each) for each in body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
        }

    first = functions(XMPP_CLIENT.name)
    for name in ("talk", "shown", "seconds", "password_of"):
        assert {functions(example.name)[name] for example in EXAMPLES} == {first[name]}


@EACH
def test_it_says_at_its_top_how_it_is_run(example: Example) -> None:
    documentation = ast.get_docstring(ast.parse((FOLDER / example.name).read_text(encoding="utf-8")))
    assert f"python examples/{example.name} " in (documentation or "")


def test_every_example_is_tested_here() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == {example.name for example in EXAMPLES}
