"""`pcj demo`."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

import pcj.cli.demo
from pcj.broker import Broker
from pcj.cli.group import pcj as command
from pcj.cli.play import Act, Companion, play
from pcj.config import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP
from pcj.events import Status
from pcj.testing import Server, ServerOptions

TYPES = (XMPP, LEGACY, JABBERD14_COMPONENT, JABBERD20_COMPONENT)
LAST = re.compile(r"demo: (\d) of 4 connection types reached PCJ_READY, (\d+) nodes exchanged")


def demo(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["demo", *arguments], env={"COLUMNS": "80"})


def sections(output: str) -> dict[str, list[str]]:
    """The names of the events of each type, in their order."""
    found: dict[str, list[str]] = {}
    events: list[str] = []
    for line in output.splitlines():
        words = line.split()
        if line and not line[0].isspace() and words[0] in TYPES:
            events = found.setdefault(words[0], [])
        elif re.match(r" *-?\d+\.\d\d  ", line):
            events.append(words[1])
    return found


def test_all_four_types_live_their_life() -> None:
    result = demo()
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    last = LAST.fullmatch(lines[-1])
    assert last is not None
    assert last[1] == "4"
    assert int(last[2]) >= 16
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in result.stdout
    shown = sections(result.stdout)
    assert tuple(shown) == TYPES
    for kind, events in shown.items():
        order = [
            events.index(event)
            for event in (
                "PCJ_NODEQUEUED",
                "PCJ_CONNECT",
                "PCJ_CONNECTED",
                "PCJ_AUTHSUCCESS",
                "PCJ_READY",
                "GREETING",
                "PCJ_RTS_FINISH",
                "PCJ_STREAMEND",
                "PCJ_SHUTDOWN_FINISH",
            )
        ]
        assert order == sorted(order), kind
        assert events[events.index("GREETING") + 1] == "PCJ_NODERECEIVED"
        assert ("PCJ_SSLSUCCESS" in events) == (kind in (XMPP, JABBERD20_COMPONENT))
    assert result.stdout.count("verified") == 2
    assert "NOT VERIFIED" not in result.stdout


def test_as_json_it_prints_events_alone_and_the_nodes_are_counted() -> None:
    result = demo("--json")
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    ready = Counter(record["connection_type"] for record in records if record["event"] == "PCJ_READY")
    assert ready == dict.fromkeys(TYPES, 1)
    exchanged = 0
    is_ready: dict[str, bool] = {}
    for record in records:
        kind, event = record["connection_type"], record["event"]
        is_ready[kind] = is_ready.get(kind, False) or event == "PCJ_READY"
        exchanged += event in ("PCJ_NODERECEIVED", "PCJ_RTS_FINISH") or (event == "PCJ_NODESENT" and is_ready[kind])
    last = LAST.fullmatch(result.stderr.splitlines()[-1])
    assert last is not None
    assert int(last[2]) == exchanged


@pytest.mark.parametrize(
    ("unknown", "victims"),
    [("verona.localhost", {JABBERD14_COMPONENT}), ("mirror.localhost", {XMPP, LEGACY})],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, unknown: str, victims: set[str]) -> None:
    def without(secret: str) -> Server:
        domains = {"mirror.localhost", "verona.localhost", "mantua.localhost"} - {unknown}
        return Server(
            accounts={"romeo": secret, "juliet": secret},
            components=dict.fromkeys(domains, secret),
            router_users={"jabberd": secret},
            options=ServerOptions(),
        )

    monkeypatch.setattr(pcj.cli.demo, "make_server", without)
    monkeypatch.setattr("pcj.cli.play.STEP_SECONDS", 1.0)
    result = demo()
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    complaints = [line for line in result.stderr.splitlines() if line.startswith("pcj: demo: ")]
    assert {line.split()[2].rstrip(":") for line in complaints} == victims
    reached = 4 - (unknown == "verona.localhost")
    last = LAST.fullmatch(result.stdout.splitlines()[-1])
    assert last is not None
    assert int(last[1]) == reached
    if unknown == "verona.localhost":
        assert "PCJ_READY" in complaints[0]
    else:
        assert "its message at the companion" in complaints[0]
        assert "the companion mirror.localhost could not connect" in result.stderr


def test_ctrl_c_ends_it_in_good_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(act: Act, broker: Broker, companion: Companion, show: Callable[[Status], None]) -> None:
        broker.subscribe("PCJ_READY", lambda status: os.kill(os.getpid(), signal.SIGINT))
        await play(act, broker, companion, show)

    monkeypatch.setattr(pcj.cli.demo, "play", interrupted)
    result = demo()
    assert result.exit_code == 130
    assert "PCJ_SHUTDOWN_FINISH" in result.stdout
    assert "LEGACY" not in result.stdout
    assert result.stderr == ""


def test_a_server_that_says_nothing_does_not_hold_it_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcj.cli.demo, "make_server", lambda secret: Server(options=ServerOptions(silent_at="accept")))
    monkeypatch.setattr(pcj.cli.demo, "DEADLINE", 0.5)
    result = demo()
    assert result.exit_code == 1
    assert "the demonstration was not done within 0.5 s" in result.stderr
    assert result.stderr.count("it was not reached") == 4
    assert result.stdout.splitlines()[-1].startswith("demo: 0 of 4 ")
