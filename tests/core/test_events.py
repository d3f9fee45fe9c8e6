"""The vocabulary is the documented one, and each status is one line of JSON whatever it carries."""

from __future__ import annotations

import enum
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcj import events
from pcj.events import PCJ_EVENTS, Event, Status
from pcj.stanza import message

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "events.md"
NAMES = [
    "PCJ_CONNECT",
    "PCJ_CONNECTING",
    "PCJ_CONNECTED",
    "PCJ_CONNECTFAIL",
    "PCJ_STREAMSTART",
    "PCJ_STREAMEND",
    "PCJ_NODESENT",
    "PCJ_NODERECEIVED",
    "PCJ_NODEQUEUED",
    "PCJ_SSLNEGOTIATE",
    "PCJ_SSLSUCCESS",
    "PCJ_SSLFAIL",
    "PCJ_AUTHNEGOTIATE",
    "PCJ_AUTHSUCCESS",
    "PCJ_AUTHFAIL",
    "PCJ_BINDNEGOTIATE",
    "PCJ_BINDSUCCESS",
    "PCJ_BINDFAIL",
    "PCJ_SESSIONNEGOTIATE",
    "PCJ_SESSIONSUCCESS",
    "PCJ_SESSIONFAIL",
    "PCJ_RTS_START",
    "PCJ_RTS_FINISH",
    "PCJ_READY",
    "PCJ_SHUTDOWN_START",
    "PCJ_SHUTDOWN_FINISH",
    "PCJ_SOCKETFAIL",
    "PCJ_SOCKETDISCONNECT",
]


def documented() -> list[list[str]]:
    """The rows of the tables of events, before those of their order: event, fires when, types, carries."""
    text = DOCUMENTATION.read_text().partition("## The order of events")[0]
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if re.fullmatch("[A-Z_0-9]+ ", row[0])]


def test_the_28_are_those_of_the_original_in_its_order() -> None:
    assert [str(event) for event in PCJ_EVENTS] == NAMES
    assert len(NAMES) == 28


@pytest.mark.parametrize("name", NAMES)
def test_each_of_the_28_is_a_constant(name: str) -> None:
    assert getattr(events, name) is Event[name]
    assert name in events.__all__


def test_the_documentation_has_every_event_once_and_no_other() -> None:
    assert [row[0] for row in documented()] == [event.value for event in Event]


@pytest.mark.parametrize("row", documented(), ids=lambda row: row[0])
def test_each_row_says_when_and_for_which_types(row: list[str]) -> None:
    _, when, types, *_ = row
    assert when
    assert types
    assert set(types.split()) <= {"X", "L", "C14", "C20"}


def test_binding_and_session_are_of_few_types() -> None:
    types = {row[0]: row[2] for row in documented()}
    assert {types[name] for name in NAMES if "BIND" in name} == {"X C20"}
    assert {types[name] for name in NAMES if "SESSION" in name} == {"X"}


def test_a_name_is_its_value() -> None:
    assert all(event.name == event.value == str(event) for event in Event)


def test_repr_shows_what_there_is() -> None:
    assert repr(Status(Event.PCJ_CONNECT, 1.5, 1)) == "Status(PCJ_CONNECT, at=1.500, seq=1)"
    node = message()  # without children: the truth value of such an element is False, and deprecated
    text = repr(Status(Event.PCJ_NODESENT, 1.5, 2, node, ValueError("x"), {"a": 1}))
    assert """node='<message xmlns="jabber:client"/>'""" in text
    assert "error=ValueError('x')" in text
    assert "detail={'a': 1}" in text


def test_repr_shows_nodes_as_xml_cut_short_and_without_what_steers_a_terminal() -> None:
    nodes = {"selected": [message(body="\x9b31m\u202e")], "what": "\x1b[2J" + "y" * 900}
    text = repr(Status("MINE", 1.5, 2, message(body="x" * 900), ValueError("\x1b[2J"), nodes))
    assert text.isprintable()
    assert "<body>" + "x" * 400 in text
    assert "... of " in text
    assert len(text) < 1500
    assert r"<body>\x9b31m\u202e" in text


def test_json() -> None:
    status = Status(Event.PCJ_NODESENT, 12.3456789, 7, message(to="a@b", body="é"), OSError("gone"), {"resend": True})
    assert json.loads(status.to_json()) == {
        "event": "PCJ_NODESENT",
        "at": 12.345679,
        "seq": 7,
        "node": '<message xmlns="jabber:client" to="a@b"><body>é</body></message>',
        "error": {"kind": "OSError", "message": "gone"},
        "detail": {"resend": True},
    }


class Speechless:
    def __str__(self) -> str:
        raise RuntimeError("no")


class Colour(enum.IntEnum):
    RED = 1


def cyclic() -> dict[str, Any]:
    detail: dict[str, Any] = {}
    detail["self"] = [detail]
    return detail


DETAILS = [
    ({"a": None, "b": True, "c": 1, "d": 1.5, "e": "x"}, {"a": None, "b": True, "c": 1, "d": 1.5, "e": "x"}),
    ({"a": Event.PCJ_READY}, {"a": "PCJ_READY"}),
    ({"a": Colour.RED}, {"a": "1"}),
    ({"a": ("x", ["y", {"z"}])}, {"a": ["x", ["y", ["z"]]]}),
    ({"a": MappingProxyType({1: 2})}, {"a": {"1": 2}}),
    ({"a": float("nan"), "b": float("-inf")}, {"a": "nan", "b": "-inf"}),
    ({"a": b"\xff"}, {"a": "b'\\xff'"}),
    ({"a": ValueError("x")}, {"a": "x"}),
    ({"a": ET.Element("b")}, {"a": "<b/>"}),
    ({"a": ET.Comment("b")}, None),
    ({"a": ET.Element("b", {"c": "\x00"})}, None),
    ({"a": Speechless()}, {"a": "a Speechless whose text raises RuntimeError"}),
    ({Speechless(): 1}, {"a Speechless whose text raises RuntimeError": 1}),
    ({"a": 10**5000}, None),
    ({"a": "\ud800\u2028\x1b[31m\n\x7f"}, {"a": "\ud800\u2028\x1b[31m\n\x7f"}),
    (cyclic(), None),
]


@pytest.mark.parametrize(("detail", "written"), DETAILS, ids=range(len(DETAILS)))
def test_any_detail_is_one_line_of_json(detail: Any, written: object) -> None:
    line = Status("mine", 0.0, 1, detail=detail).to_json()
    assert line.isascii()
    assert line.isprintable()
    if written is not None:
        assert json.loads(line)["detail"] == written


@pytest.mark.parametrize("node", [ET.Comment("x"), ET.Element("a b"), ET.Element("a", {"b": "\x00"})])
def test_a_node_that_cannot_be_written_does_not_stop_the_trace(node: ET.Element) -> None:
    assert "cannot be written" in json.loads(Status("mine", 0.0, 1, node).to_json())["node"]


def test_an_error_without_words_does_not_stop_the_trace() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    record = json.loads(Status("mine", 0.0, 1, error=Mute()).to_json())
    assert record["error"] == {"kind": "Mute", "message": "a Mute whose text raises RuntimeError"}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(detail=st.dictionaries(st.text(), PLAIN))
def test_any_plain_detail_is_one_line_of_json(detail: dict[str, Any]) -> None:
    line = Status(Event.WARNING, 1.0, 1, detail=detail).to_json()
    assert line.isprintable()
    json.loads(line)
