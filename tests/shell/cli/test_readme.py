"""What README.md says is so."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import pcj
from pcj.broker import Broker
from pcj.cli.group import pcj as command
from pcj.cli.play import Companion
from tests.shell.cli.background import background, make_server

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_works_as_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with background(lambda: make_server(domain="example.org")) as runs:
        where: dict[str, Any] = {"host": runs.it.host, "port": runs.it.client_port, "ca_file": runs.it.ca_file}

        async def juliet_answers() -> Broker:
            broker = Broker("XMPP", "juliet@example.org/balcony", password="s3cret-of-juliet", **where)
            Companion(broker)
            await broker.connect()
            return broker

        juliet = runs.do(juliet_answers())
        # Only where the server is, and the password, are not as written.
        elsewhere = partial(Broker, **where)
        monkeypatch.setattr(pcj, "Broker", elsewhere)
        exec(compile(example.replace('"secret"', '"s3cret-of-romeo"'), "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102
        runs.do(juliet.shutdown())
    assert capsys.readouterr().out == "hello\n"


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_its_options_exist() -> None:
    help_text = CliRunner().invoke(command, ["connect", "--help"]).output
    for option in re.findall(r"--[a-z-]+", README.partition("## The command line")[2]):
        assert option in help_text, option


def test_its_table_names_the_connection_types() -> None:
    assert re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE) == [
        pcj.XMPP,
        pcj.LEGACY,
        pcj.JABBERD14_COMPONENT,
        pcj.JABBERD20_COMPONENT,
    ]
