"""What is written reads back as the same node, in every stream; what would end a stream is refused."""

from __future__ import annotations

import enum
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcj import serialize as module
from pcj.errors import NodeError
from pcj.namespaces import CLIENT, COMPONENT_ACCEPT, JABBERD_COMPONENT, SERVER, XML, XMLNS
from pcj.serialize import MAX_DEPTH, serialize, to_bytes
from pcj.stanza import Node, message
from pcj.xmlstream import ReadyParser, from_bytes
from tests.core.pieces import element, node

LOCAL = st.sampled_from(["a", "B", "_x", "message", "x-y.z", "xmlns", "été", "名", "x\u0301", "é·"])
NAMESPACE = st.sampled_from(["", CLIENT, COMPONENT_ACCEPT, "urn:x", "urn:y?a=1&b='\"<>", "http://é/{x", " \t\n\r", XML])
TEXT = st.text(
    st.one_of(
        st.sampled_from("&<>\"'\t\n\r]\x85\u2028 \x7f"),
        st.characters(codec="utf-8", exclude_categories=["Cs"], min_codepoint=32, exclude_characters="\ufffe\uffff"),
    ),
    max_size=12,
)


@st.composite
def nodes(draw: st.DrawFn, depth: int = 3) -> Node:
    def name(kind: str) -> str:
        namespace, local = draw(NAMESPACE), draw(LOCAL)
        if kind == "attribute" and namespace == "" and local == "xmlns":
            local = "xmlns-"
        return f"{{{namespace}}}{local}" if namespace else local

    made = ET.Element(name("element"), {name("attribute"): draw(TEXT) for _ in range(draw(st.integers(0, 3)))})
    made.text = draw(TEXT | st.none())
    if depth:
        for _ in range(draw(st.integers(0, 3))):
            child = draw(nodes(depth - 1))
            child.tail = draw(TEXT | st.none())
            made.append(child)
    return made


@given(nodes())
def test_a_node_reads_back_as_itself(made: Node) -> None:
    before = element(made)
    assert element(from_bytes(to_bytes(made))) == before
    assert element(made) == before


@given(nodes())
def test_other_parsers_read_the_same(made: Node) -> None:
    assert element(ET.fromstring(to_bytes(made))) == element(made)


@given(made=nodes(), namespace=st.sampled_from([CLIENT, COMPONENT_ACCEPT, SERVER]))
def test_a_stanza_reads_back_as_itself_from_every_stream(made: Node, namespace: str) -> None:
    made.tag = f"{{{CLIENT}}}message"
    parser = ReadyParser({"": namespace}, namespace)
    (read,) = parser.feed(serialize(made, namespace))
    assert parser.failure is None
    assert element(read) == element(made)


FORMS = [
    ("<message xmlns='jabber:client'><body>x</body></message>", COMPONENT_ACCEPT, "<message><body>x</body></message>"),
    ("<message xmlns='jabber:client'><body>x</body></message>", CLIENT, "<message><body>x</body></message>"),
    ("<message xmlns='jabber:component:accept'><body/></message>", CLIENT, "<message><body/></message>"),
    ("<message xmlns='jabber:server'><body/></message>", COMPONENT_ACCEPT, "<message><body/></message>"),
    ("<message><body/></message>", CLIENT, "<message><body/></message>"),
    (  # a forwarded stanza keeps its namespace, also the stream's own: it is reached through another (RFC 6120 4.8.3)
        "<message xmlns='jabber:client'><f xmlns='urn:f'><message xmlns='jabber:client'/></f></message>",
        COMPONENT_ACCEPT,
        '<message><f xmlns="urn:f"><message xmlns="jabber:client"/></f></message>',
    ),
    (
        "<message xmlns='jabber:client'><x xmlns='urn:x'><y/><z xmlns='urn:z'/></x><x xmlns='urn:x'/></message>",
        CLIENT,
        '<message><x xmlns="urn:x"><y/><z xmlns="urn:z"/></x><x xmlns="urn:x"/></message>',
    ),
    ("<message xmlns='jabber:client'><x xmlns=''/></message>", CLIENT, '<message><x xmlns=""/></message>'),
    ("<r xmlns='urn:xmpp:sm:3'/>", CLIENT, '<r xmlns="urn:xmpp:sm:3"/>'),
    (
        f"<route xmlns='{JABBERD_COMPONENT}' to='a'><message xmlns='jabber:client'/></route>",
        JABBERD_COMPONENT,
        '<route to="a"><message xmlns="jabber:client"/></route>',
    ),
    (
        "<a xmlns='jabber:client' xmlns:p='urn:p' p:x='1' p:y='2' xml:lang='en'><b p:x='3'/></a>",
        CLIENT,
        '<a xmlns:ns0="urn:p" ns0:x="1" ns0:y="2" xml:lang="en"><b xmlns:ns0="urn:p" ns0:x="3"/></a>',
    ),
    ("<a b='&quot;&amp;&lt;&gt;&#9;&#10;&#13;'>&quot;&amp;&lt;&gt;&#9;&#10;&#13;</a>", CLIENT, None),
    ("<xml:a><b xmlns='jabber:client'/></xml:a>", CLIENT, "<xml:a><b/></xml:a>"),
]


@pytest.mark.parametrize(("xml", "stream", "written"), FORMS, ids=range(len(FORMS)))
def test_the_form_on_a_stream(xml: str, stream: str, written: str | None) -> None:
    written = written or '<a b="&quot;&amp;&lt;>&#9;&#10;&#13;">"&amp;&lt;&gt;\t\n&#13;</a>'
    made = node(xml)
    assert serialize(made, stream).decode() == written
    assert serialize(made, stream).decode() == written  # again, with every name known


def test_the_tail_of_a_node_is_not_its_own() -> None:
    made = message()
    made.tail = "not mine"
    assert serialize(made, CLIENT) == b"<message/>"
    assert to_bytes(made) == b'<message xmlns="jabber:client"/>'


def test_defaults_fill_what_is_missing() -> None:
    made = message(to="a@b", id="")
    assert serialize(made, CLIENT, {"id": "7", "from": "<c@d>"}) == b'<message to="a@b" id="" from="&lt;c@d>"/>'
    assert made.attrib == {"to": "a@b", "id": ""}
    assert serialize(message(), CLIENT, {"id": "7"}) == b'<message id="7"/>'
    with pytest.raises(NodeError, match="attribute 'id' holds U\\+0000"):
        serialize(made := message(), CLIENT, {"id": "\x00"})


class Name(str, enum.Enum):  # noqa: UP042  # the older way writes itself as Name.TO
    TO = "to"


def test_subclasses_of_str_are_written_as_what_they_are() -> None:
    made: Any = ET.Element(Name.TO, {Name.TO: Name.TO})
    made.text = Name.TO
    for _ in range(2):
        assert to_bytes(made) == b'<to to="to">to</to>'


def test_qualified_names_as_objects() -> None:
    made: Any = ET.Element("a", {"c": "2"})
    made.tag = ET.QName("urn:x", "a")
    made.attrib = {ET.QName("urn:y", "b"): "1", ET.QName("c"): "2"}
    for _ in range(2):
        assert to_bytes(made) == b'<a xmlns="urn:x" xmlns:ns0="urn:y" ns0:b="1" c="2"/>'


def parent(child: Any) -> Node:
    made = message()
    made.append(child)
    return made


def named(tag: Any) -> Node:
    made = message()
    made.tag = tag
    return made


def with_text(text: Any) -> Node:
    made = message()
    made.text = text
    return made


def with_tail(text: Any) -> Node:
    child = ET.Element("a")
    child.tail = text
    return parent(child)


def nested(levels: int) -> Node:
    top = innermost = ET.Element("a")
    for _ in range(levels - 1):
        innermost = ET.SubElement(innermost, "a")
    return top


def cycle() -> Node:
    made = ET.Element("a")
    made.append(made)
    return made


REFUSED: list[tuple[Any, str]] = [
    (ET.Comment("x"), "an element must be a str, not Comment"),
    (parent(ET.Comment("x")), "an element must be a str, not Comment"),
    (parent(ET.ProcessingInstruction("x")), "an element must be a str, not ProcessingInstruction"),
    (ET.Element(""), "no name that XML allows"),
    (ET.Element("a b"), "no name that XML allows"),
    (ET.Element("a:b"), "no name that XML allows"),
    (ET.Element("stream:stream"), "no name that XML allows"),
    (ET.Element("1a"), "no name that XML allows"),
    (ET.Element("-a"), "no name that XML allows"),
    (ET.Element("a/><b"), "no name that XML allows"),
    (ET.Element("a\n"), "no name that XML allows"),
    (ET.Element("²"), "no name that XML allows"),
    (ET.Element("é:b"), "no name that XML allows"),
    (ET.Element("é b='c'"), "no name that XML allows"),
    (ET.Element("é/><é"), "no name that XML allows"),
    (ET.Element("é\ud800"), "no name that XML allows"),
    (ET.Element("{urn:x}"), "no name that XML allows"),
    (ET.Element("{a"), "does not say a namespace"),
    (ET.Element("{}a"), "does not say a namespace"),
    (ET.Element("{a}b}c"), "does not say a namespace"),
    (ET.Element("{a\x00}a"), "does not say a namespace"),
    (ET.Element(f"{{{XMLNS}}}a"), "does not say a namespace"),
    (named(None), "an element must be a str, not NoneType"),
    (named(b"a"), "an element must be a str, not bytes"),
    (message(to=5), "attribute 'to' must be a str, not int"),  # type: ignore[arg-type]
    (message(to=b"a"), "attribute 'to' must be a str, not bytes"),  # type: ignore[arg-type]
    (message(to="\x00"), "attribute 'to' holds U\\+0000 at position 0"),
    (message(to="a\ud800"), "attribute 'to' holds U\\+D800 at position 1"),
    (ET.Element("a", {"xmlns": "urn:x"}), "not by an attribute 'xmlns'"),
    (ET.Element("a", {"xmlns:p": "urn:x"}), "no name that XML allows for an attribute"),
    (ET.Element("a", {"b c": "x"}), "no name that XML allows for an attribute"),
    (ET.Element("a", {f"{{{XMLNS}}}p": "urn:x"}), "does not say a namespace"),
    (ET.Element("a", {1: "x"}), "an attribute must be a str, not int"),  # type: ignore[dict-item]
    (with_text(5), "the text of 'message' must be a str, not int"),
    (with_text(0), "the text of 'message' must be a str, not int"),
    (with_text(b""), "the text of 'message' must be a str, not bytes"),
    (with_text("a\x1b[31m"), "the text of 'message' holds U\\+001B at position 1"),
    (with_text("\ufffe"), "the text of 'message' holds U\\+FFFE"),
    (with_text("\uffff"), "the text of 'message' holds U\\+FFFF"),
    (with_text("\udc80"), "the text of 'message' holds U\\+DC80"),
    (with_tail(0), "between the elements in 'message' must be a str, not int"),
    (with_tail("\x0b"), "between the elements in 'message' holds U\\+000B"),
    (nested(MAX_DEPTH + 1), "nested more than 256 deep"),
    (cycle(), "nested more than 256 deep"),
    ("<message/>", "expected an xml.etree.ElementTree.Element, got str"),
    (None, "expected an xml.etree.ElementTree.Element, got NoneType"),
]


@pytest.mark.parametrize(("made", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(made: Any, message: str) -> None:
    for write in (to_bytes, lambda made: serialize(made, CLIENT)):
        with pytest.raises(NodeError, match=message):
            write(made)


def test_the_deepest_that_is_written() -> None:
    made = nested(MAX_DEPTH)
    assert element(from_bytes(to_bytes(made))) == element(made)


def test_no_secret_or_text_is_in_a_refusal() -> None:
    with pytest.raises(NodeError) as caught:
        to_bytes(with_text("the-secret\x00"))
    assert "the-secret" not in str(caught.value)


def test_names_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 8)
    for number in range(100):
        assert to_bytes(ET.Element(f"a{number}", {f"b{number}": ""})) == f'<a{number} b{number}=""/>'.encode()
        assert len(module._tags) <= 8 + 1
        assert len(module._starts) <= 8 + 1
    long = "x" * (module.MAX_NAME_LENGTH + 1)
    to_bytes(ET.Element(long, {long: ""}))
    assert long not in module._tags
    assert long not in module._starts


@settings(max_examples=300)
@given(st.text(st.characters(), min_size=1, max_size=6))
def test_a_name_is_written_only_if_it_reads_back(name: str) -> None:
    made = ET.Element(name if not name.startswith("{") else "a", {"b" + name: "x"})
    try:
        written = to_bytes(made)
    except NodeError:
        return
    assert element(from_bytes(written)) == element(made)
