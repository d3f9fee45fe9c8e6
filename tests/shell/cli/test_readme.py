"""What README.md says is so."""

from __future__ import annotations

import asyncio
import re
import textwrap
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from click.testing import CliRunner

import pcj
from pcj.broker import Broker
from pcj.cli.group import pcj as command
from pcj.config import XMPP
from pcj.errors import ConnectionFailed
from pcj.events import Event
from pcj.namespaces import STREAMS
from pcj.protocol import dialect
from pcj.stanza import error_condition, iq, message
from pcj.testing import ScriptedServer
from tests.shell.cli.background import TIMEOUT, background, make_server

ROOT = Path(__file__).parents[3]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
README_EXAMPLES: list[str] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_each_way_to_log_in_that_the_readme_shows_is_one() -> None:
    ways = README_EXAMPLES[1]
    keyring = SimpleNamespace(get_password=lambda service, user: "from the keyring")
    for line in ways.strip().splitlines():
        made: dict[str, Any] = {"XMPP": XMPP, "Broker": Broker, "keyring": keyring, "key_hash": "0f" * 32}
        exec(line, made)  # noqa: S102  # the README's own
        assert made["broker"].config.connection_type == XMPP


def test_the_example_works_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    example = README_EXAMPLES[0]
    romeo = "romeo@example.org"
    with background(lambda: make_server(domain="example.org")) as runs:
        server = runs.it
        where: dict[str, Any] = {"host": server.host, "port": server.client_port, "ca_file": server.ca_file}

        async def juliet_is_echoed() -> list[str | None]:
            async with Broker("XMPP", "juliet@example.org/balcony", password="s3cret-of-juliet", **where) as juliet:
                await server.wait_for_session(f"{romeo}/orchard", timeout=TIMEOUT)
                # What is no chat message with a body is not echoed: the first echo is that of the last.
                juliet.output(message(to=f"{romeo}/orchard", type="chat"))
                juliet.output(message(to=f"{romeo}/orchard", type="headline", body="no"))
                heard = [await juliet.return_to_sender(iq(to=f"{romeo}/orchard", payload=Element("{urn:x}x")))]
                echoed = asyncio.create_task(juliet.wait_for(Event.PCJ_NODERECEIVED, timeout=TIMEOUT))
                await asyncio.sleep(0)  # it listens
                juliet.output(message(to=f"{romeo}/orchard", type="chat", body="O Romeo"))
                node = (await echoed).node
                assert node is not None
                await server.drop(f"{romeo}/orchard")
                return [error_condition(heard[0])[1], node.get("from"), node.get("type"), node.findtext("{*}body")]

        juliet = asyncio.run_coroutine_threadsafe(juliet_is_echoed(), runs.loop)
        # Only where the server is, and the password, are not as written.
        elsewhere = partial(Broker, **where)
        monkeypatch.setattr(pcj, "Broker", elsewhere)
        exec(compile(example.replace('"secret"', '"s3cret-of-romeo"'), "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102
        assert juliet.result(TIMEOUT) == ["service-unavailable", f"{romeo}/orchard", "chat", "O Romeo"]


def test_the_example_of_a_durable_queue_delivers_a_node_and_leaves_a_session_to_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = README_EXAMPLES[2:]
    queue = tmp_path / "outbound.db"
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"XMPP": XMPP, "message": message}
    example = example.replace('"secret"', '"s3cret-of-romeo"')
    exec(f"async def run():\n{textwrap.indent(example, '    ')}\n    return broker, receipt", names)  # noqa: S102
    with background(lambda: make_server(domain="example.org")) as runs:
        server = runs.it
        where: dict[str, Any] = {"host": server.host, "port": server.client_port, "ca_file": server.ca_file}
        names["Broker"] = partial(Broker, **where)
        _, receipt = asyncio.run(names["run"]())
        assert (receipt.state, receipt.stored) == ("acked", True)
        assert [info.jid for info in server.away] == ["romeo@example.org/orchard"]
        (delivered,) = [node for _, node in server.received if node.findtext("{*}body")]
        assert delivered.get("to") == "juliet@example.org"
        # What stands below the example is so: nothing waits, and the next process can resume.
        listed = CliRunner().invoke(command, ["queue", "list", str(queue)])
        assert listed.output.startswith("0 nodes, 0 bytes of romeo@example.org; a session that may be resumed is saved")


def test_the_dialect_of_the_architecture_works_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", ARCHITECTURE, re.DOTALL)
    registered = dict(dialect._registry)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (f"<stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' id='s1'>", knocked):
            await reader.read(4096)
            writer.write(answer.encode())
        await reader.read()

    async def main() -> str:
        async with ScriptedServer(handler) as server:
            where: dict[str, Any] = {"host": server.host, "port": server.port, "require_tls": False}
            where["close_timeout"] = 0.05  # the server waits for our close, and says no more
            names: dict[str, Any] = {}
            monkeypatch.setattr(pcj, "Broker", partial(Broker, **where))
            monkeypatch.setattr(dialect, "_registry", dict(registered))
            exec(compile(example, "architecture.md", "exec"), names)  # noqa: S102
            try:
                async with names["broker"] as broker:
                    return f"{broker.jid} {broker.sid}"
            except ConnectionFailed as error:
                return f"{error.failure.phase}: {error}"

    knocked = "<come-in xmlns='urn:example:knock'/>"
    assert asyncio.run(main()) == "romeo@example.org s1"
    knocked = "<go-away/>"
    failed = asyncio.run(main())
    assert failed.startswith("authenticate: the server at 127.0.0.1:")
    assert " sent <go-away> where " in failed


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_its_options_exist() -> None:
    help_text = CliRunner().invoke(command, ["connect", "--help"]).output
    for option in re.findall(r"--[a-z-]+", README.partition("## The command line")[2]):
        assert option in help_text, option
    commands = re.findall(r"^pcj queue (\w+)([^\n]*)", README, re.MULTILINE)
    assert [name for name, _ in commands] == ["list", "drop"]
    for name, line in commands:
        help_text = CliRunner().invoke(command, ["queue", name, "--help"]).output
        assert help_text.startswith(f"Usage: pcj queue {name} ")
        for option in re.findall(r"--[a-z-]+", line):
            assert option in help_text, option


def test_its_table_names_the_connection_types() -> None:
    assert re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE) == [
        pcj.XMPP,
        pcj.LEGACY,
        pcj.JABBERD14_COMPONENT,
        pcj.JABBERD20_COMPONENT,
    ]
