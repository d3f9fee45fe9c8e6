"""What docs/howto/from-perl.md says is so, and it leaves nothing of the original out."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest

import pcj
from pcj import XMPP, Broker, Config, Event, Status, Subscription, iq, message
from pcj.config import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY
from pcj.events import PCJ_EVENTS
from pcj.protocol import Dialect
from pcj.stanza import error_condition
from pcj.testing import Server
from tests.shell.cli.background import TIMEOUT, background, make_server

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "from-perl.md"
TEXT = PAGE.read_text(encoding="utf-8")
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "asyncio.run(" in block]
FRAGMENTS = [block for block in BLOCKS if "asyncio.run(" not in block]

#: All that PCJ 3.00 and its PubSub have: arguments of `new`, and so on, by the headings of the page.
ORIGINAL = {
    "Constructor arguments": """IP PORT HOSTNAME USERNAME PASSWORD RESOURCE ALIAS CONNECTIONTYPE VERSION XMLNS STREAM
        DEBUG PLAINTEXT BINDDOMAIN BINDOPTION""",
    "Input events": "output return_to_sender xpath_filter purge_queue connect reconnect shutdown halt",
    "Methods": """new wheel sock sid jid config pending queue input events relinquish_states debug_message _reset
        _gather_options""",
    "POE::Component::PubSub": """publish subscribe rescind cancel listing destroy _default new PUBLISH_INPUT
        PUBLISH_OUTPUT $TRACE_AND_DEBUG""",
    "Protocol classes": """Protocol->new get_version get_xmlns get_states get_input_event get_error_event
        get_flushed_event ProtocolFactory::get_guts XMPP Legacy J14 J2""",
    "Nodes": """->new('message',['to',$jid]) setAttribute setAttributes getAttribute getAttributes
        appendChild('query',['xmlns',$ns]) appendText appendTextChild textContent nodeName getSingleChildByTagName
        getChildrenByTagName getChildrenHash findnodes toString cloneNode stream_start stream_end""",
    "Example scripts": "XMPPClient LegacyClient J14Component J2Component",
}
#: States of its session, named in one sentence.
STATES = frozenset(
    {
        "initiate_stream",
        "_connect",
        "connected",
        "disconnected",
        "connect_error",
        "server_error",
        "flushed",
        "input_handler",
        "output_handler",
        "set_auth",
        "init_input_handler",
        "build_tls_wheel",
        "challenge_response",
        "binding",
        "session_establish",
    }
)
#: Names that are no events, as the page says, and the variable with the password.
NO_EVENTS = {"PCJ_STEAMSTART", "PCJ_RECONNECT", "PCJ_XPATHFILTER", "PCJ_INIT_FINISHED", "PCJ_PASSWORD"}
FIELDS = set(Config.__dataclass_fields__)


def section(heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PROSE, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1]


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def spans(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("heading", ORIGINAL)
def test_everything_that_the_original_has_is_in_the_first_column(heading: str) -> None:
    named = [span.replace(" ", "") for row in rows(heading) for span in spans(row[0])]
    assert sorted(named) == sorted(ORIGINAL[heading].split())


def test_the_states_of_its_session_are_named() -> None:
    assert set(STATES) <= set(spans(section("Methods")))


def test_the_28_events_are_there_in_their_order() -> None:
    assert [spans(row[0])[0] for row in rows("Output events")] == [event.value for event in PCJ_EVENTS]


def test_what_the_events_carry_is_what_the_reference_says() -> None:
    reference = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    carries = dict(re.findall(r"^\| (PCJ_\w+) \|.*\|([^|]*)\|$", reference, re.MULTILINE))
    for event, _, carried, _ in rows("Output events"):
        stated = carries[spans(event)[0]]
        outside = re.sub(r"\[.*?\]", "", stated)
        for attribute in ("node", "error"):
            assert (attribute in spans(carried)) == (attribute in outside), (event, attribute)
        details = re.findall(r"\w+", carried.partition(":")[2])
        assert set(details) <= set(re.findall(r"\w+", " ".join(re.findall(r"\[(.*?)\]", stated)))), event


def test_the_second_column_of_the_arguments_names_fields_of_the_configuration() -> None:
    named = {span for row in rows("Constructor arguments") for span in spans(row[1])}
    assert len(named) >= len(ORIGINAL["Constructor arguments"].split()) - 1  # HOSTNAME and USERNAME are in `jid`
    assert named <= FIELDS


@pytest.mark.parametrize("heading", ["Input events", "Methods", "POE::Component::PubSub"])
def test_the_second_column_of_the_others_names_what_there_is(heading: str) -> None:
    for row in rows(heading):
        names = spans(row[1])
        assert names or row[1] == "none", row
        for name in names:
            owner, _, member = name.rpartition(".")
            there = {"": (Broker, pcj), "Subscription": (Subscription,)}[owner]
            assert any(hasattr(each, member) for each in there) or (
                name in FIELDS and row[0] == "`$TRACE_AND_DEBUG`"
            ), name


def test_every_name_in_the_text_exists() -> None:
    ours = "\n".join(line.split("|", 2)[2] if line.startswith("| ") else line for line in PROSE.splitlines())
    known = FIELDS | set(dir(Broker)) | set(dir(pcj)) | set(Event.__members__) | STATES | NO_EVENTS
    known |= set(inspect.signature(Broker.return_to_sender).parameters) | set(
        inspect.signature(Broker.add_filter).parameters
    )
    known |= {name for names in ORIGINAL.values() for name in names.split()}
    for name in re.findall(r"PCJ_[A-Z_]+\b", PROSE):
        assert name in Event.__members__ or name in NO_EVENTS, name
    for span in spans(ours):
        for owner, member in re.findall(r"\b(Config|Event|broker|pcj|Broker|Dialect|status)\.(\w+)", span):
            if owner == "pcj" and member in ("testing", "events"):
                continue
            thing = {"Config": Config, "Event": Event, "pcj": pcj, "Dialect": Dialect, "status": Status}.get(
                owner, Broker
            )
            assert hasattr(thing, member), span
        for option in re.findall(r"^(?:Broker\(\.\.\., )?(\w+)=", span):
            assert option in known, span
        if re.fullmatch(r"[a-z]+(_[a-z]+)+|[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", span):
            assert span in known | {"delay_set", "inline_states", "debug_"}, span


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXT):
        path, _, anchor = link.partition("#")
        target = (PAGE.parent / path).resolve() if path else PAGE
        assert target.is_file(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings], link


def test_there_is_code_to_be_run() -> None:
    assert len(PROGRAMS) == 2
    assert len(FRAGMENTS) == 6


def test_the_first_program_works_as_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    romeo = "romeo@example.org/orchard"
    with background(lambda: make_server(domain="example.org")) as runs:
        server = runs.it
        where: dict[str, Any] = {"host": server.host, "port": server.client_port, "ca_file": server.ca_file}

        async def juliet_is_heard() -> str:
            async with Broker(XMPP, "juliet@example.org/balcony", password="s3cret-of-juliet", **where) as juliet:
                await server.wait_for_session(romeo, timeout=TIMEOUT)
                await server.wait_for_node(lambda jid, node: "presence" in node.tag, timeout=TIMEOUT)
                juliet.output(message(to=romeo, body="O Romeo"))
                # It only looks on, so its broker refuses this; and the message has come before.
                reply = await juliet.return_to_sender(iq(to=romeo, payload=Element("{urn:x}x")), timeout=TIMEOUT)
                await server.drop(romeo)
            return error_condition(reply)[1]

        juliet = asyncio.run_coroutine_threadsafe(juliet_is_heard(), runs.loop)

        def elsewhere(*arguments: Any, **options: Any) -> Broker:
            """Only where the server is, and the password, are not as written."""
            return Broker(*arguments, **{**options, **where, "password": "s3cret-of-romeo"})

        monkeypatch.setattr(pcj, "Broker", elsewhere)
        exec(compile(PROGRAMS[0], PAGE.name, "exec"), {"__name__": "__main__"})  # noqa: S102
        assert juliet.result(TIMEOUT) == "service-unavailable"
    assert "<body>O Romeo</body>" in capsys.readouterr().out


def test_the_program_with_a_server_of_its_own_works_as_written() -> None:
    exec(compile(PROGRAMS[1], PAGE.name, "exec"), {"__name__": "__main__"})  # noqa: S102


def test_the_fragments_work_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    purge, echo, requests, filters, subscription, nodes = FRAGMENTS

    async def do(code: str, names: dict[str, Any]) -> None:
        made = eval(compile(code, PAGE.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307
        if inspect.iscoroutine(made):
            await made

    async def main() -> None:
        async with Server(domain="example.org", accounts={"romeo": "secret", "juliet": "secret"}) as server:
            where: dict[str, Any] = {"host": server.host, "port": server.client_port, "ca_file": server.ca_file}
            broker = Broker(XMPP, "romeo@example.org/orchard", password="secret", **where)
            failures: list[Status] = []
            broker.subscribe(Event.HANDLER_FAILED, failures.append)
            names: dict[str, Any] = {"broker": broker, "Event": Event, "to_bytes": pcj.to_bytes}
            await do(purge, names)
            broker.output(message(to="juliet@example.org", body="held"))
            await do(echo, names)
            assert names["echo"].config.login == "jabberd"
            async with (
                asyncio.timeout(TIMEOUT),
                Broker(XMPP, "juliet@example.org/balcony", password="secret", **where) as juliet,
                broker,
            ):
                await server.wait_for_node(lambda jid, node: node.findtext("{*}body") == "held")
                await do(requests, names)
                await broker.wait_for("VERSION")
                await do(filters, names)
                heard = asyncio.create_task(broker.wait_for("CHAT"))
                await asyncio.sleep(0)  # it listens
                juliet.output(message(to=broker.jid, type="chat", body="Good night"))
                await heard
                await do(subscription, names)
                await do(nodes, names)
                sent = await server.wait_for_node(lambda jid, node: node.get("to") == "nurse@example.org")
                assert sent.find("{urn:xmpp:receipts}request") is not None
            assert failures == []

    asyncio.run(main())
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["pcj.testing", "pcj.testing", "juliet@example.org/balcony says Good night"]


def test_the_four_types_are_named_as_they_are() -> None:
    for name in (XMPP, LEGACY, JABBERD14_COMPONENT, JABBERD20_COMPONENT):
        assert f"`{name}`" in section("Constructor arguments")
