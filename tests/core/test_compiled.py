"""What is done twice, in Python and compiled: both say what the long way says, or leave it to that."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcj import message, serialize
from pcj.errors import NodeError
from pcj.namespaces import CLIENT, XML
from pcj.stanza import Node

Form = Callable[..., bytes | None]

_FORMS: dict[str, Form] = {"in Python": serialize._plain_data}
try:
    from pcj._speed import plain_data
except ImportError:
    pass
else:
    _FORMS["compiled"] = plain_data

_WORDS = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(["a&b", "<", ">", '"', "\r\n\t"])
_TEXTS = st.none() | _WORDS
_NAMES = st.sampled_from(["to", "id", "xml:lang", f"{{{XML}}}lang", "{urn:x}y", "é", "a b"])
_TAGS = st.sampled_from(["body", f"{{{CLIENT}}}message", "{urn:x}y", f"{{{XML}}}z", "b c"])


@st.composite
def _nodes(draw: st.DrawFn, depth: int = 3) -> Node:
    node = ET.Element(draw(_TAGS), draw(st.dictionaries(_NAMES, _WORDS, max_size=3)))
    node.text = draw(_TEXTS)
    if depth:
        for child in draw(st.lists(_nodes(depth - 1), max_size=2)):
            child.tail = draw(_TEXTS)
            node.append(child)
    return node


@pytest.fixture(params=["in Python", "compiled"])
def form(request: pytest.FixtureRequest) -> Form:
    """Each form that there is here."""
    if request.param not in _FORMS:
        pytest.skip("pcj._speed was not built: there was no compiler, or no header of Python's")
    return _FORMS[request.param]


def _do(form: Form, node: Node, defaults: dict[str, str] | None = None, inherited: str = CLIENT) -> bytes | None:
    return form(node, inherited, serialize._tags, serialize._starts, defaults)


def _long(node: Node, defaults: dict[str, str] | None = None, inherited: str = CLIENT) -> bytes | None:
    try:
        return serialize._write(node, inherited, 1, defaults).encode()
    except (NodeError, UnicodeEncodeError):
        return None


@given(node=_nodes(), defaults=st.none() | st.just({"from": "x.example", "id": 'a"&'}))
@pytest.mark.parametrize("name", sorted(_FORMS))
def test_what_it_writes_is_what_the_long_way_writes(name: str, node: Node, defaults: dict[str, str] | None) -> None:
    expected = _long(node, defaults)  # the names are known from now on
    assert _do(_FORMS[name], node, defaults) in (None, expected)


def test_a_usual_message_is_written_without_the_long_way(form: Form) -> None:
    node = message(to="juliet@capulet.example/balcony", from_="echo.example", id="1", type="chat", body="héllo")
    expected = _long(node, {"from": "other"})
    assert _do(form, node, {"from": "other"}) == expected
    assert expected is not None
    assert expected.endswith("<body>héllo</body></message>".encode())


@pytest.mark.parametrize("text", ["\0", "\x1f", "\ufffe", "a\uffff", "\ud800", 7, b"b", ["c"]])
def test_what_xml_lacks_and_what_is_no_text_is_left_to_the_long_way(form: Form, text: str) -> None:
    _long(message(to="x", body="y"))
    assert _do(form, message(to=text)) is None
    assert _do(form, message(body=text)) is None


def test_a_name_that_is_not_known_is_left_to_the_long_way(form: Form) -> None:
    assert form(message(), CLIENT, {}, {}, None) is None
    _long(message())
    assert form(message(to="x"), CLIENT, serialize._tags, {}, None) is None


def test_a_node_that_is_nested_too_deep_is_left_to_the_long_way(form: Form) -> None:
    top = node = ET.Element("a")
    for _ in range(serialize.MAX_DEPTH - 1):
        node = ET.SubElement(node, "a")
    expected = _long(top, inherited="")
    assert expected is not None
    assert _do(form, top, inherited="") == expected
    ET.SubElement(node, "a")
    assert _do(form, top, inherited="") is None


def test_a_str_of_another_kind_is_not_asked_how_it_is_written(form: Form) -> None:
    class Loud(str):
        def __str__(self) -> str:
            return "LOUD"

        __format__ = None  # type: ignore[assignment]

    _long(message(to="x", body="y"))
    assert _do(form, message(to=Loud("x"), body="y")) in (None, _long(message(to="x", body="y")))
    assert serialize.serialize(message(to=Loud("x")), CLIENT) == b'<message to="x"/>'


def test_it_is_left_alone_where_the_environment_says_so() -> None:
    asked = "from pcj import serialize; print(serialize._quick is serialize._plain_data)"
    ran = subprocess.run(
        [sys.executable, "-c", asked], env={**os.environ, "PCJ_PURE": "1"}, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "True\n"
