"""Nodes from bytes and back: `pcj.from_bytes`, `pcj.to_bytes`, and the writer of streams.

Invariant. Bytes are one element or `ParseError` says why not; it is what ElementTree's own parser reads. What was read
can be written, or `NodeError` says why not; what was written reads as the same node, both by itself and as a stanza in
a stream of any content namespace; but for a namespace that our own way of writing makes longer than may be read.

Input: the document.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pcj
from fuzz.common import depth_of, shape, shown_safely
from fuzz.xmlwords import DICTIONARY
from pcj.errors import NodeError, ParseError
from pcj.namespaces import CLIENT, COMPONENT_ACCEPT, JABBERD_COMPONENT, STREAMS
from pcj.serialize import MAX_DEPTH, escape_value, serialize
from pcj.stanza import Node
from pcj.xmlstream import ReadyParser, from_bytes
from pcj.xmlstream.limits import MAX_NAMESPACE_BYTES

__all__ = ["ALLOWED", "DICTIONARY", "one_input"]

ALLOWED = (ParseError, NodeError)


def one_input(data: bytes) -> None:
    try:
        node = from_bytes(data)
    except ParseError as error:
        shown_safely(error)
        return
    if b"}" not in data:
        assert shape(node) == shape(ET.fromstring(data.lstrip(b" \t\r\n"))), "the witness reads something else"
    before = shape(node)
    try:
        written = pcj.to_bytes(node)
    except NodeError as error:
        shown_safely(error)
        assert depth_of(node) > MAX_DEPTH or any("}" in _namespace(name) for name in _names(node)), error
        return
    assert shape(node) == before, "writing changed the node"
    try:
        again = from_bytes(written)
    except ParseError:
        # ">" and the like take more room as we write them, and a namespace is measured as it is written.
        assert any(len(escape_value(_namespace(name)).encode()) > MAX_NAMESPACE_BYTES for name in _names(node))
        return
    assert shape(again) == before, "what was written reads as something else"
    for content in (CLIENT, COMPONENT_ACCEPT, JABBERD_COMPONENT):
        _in_stream(node, content)


def _in_stream(node: Node, content: str) -> None:
    """As a top-level element, where it is in jabber:client: no other namespace is promised to survive there."""
    if not node.tag.startswith(f"{{{CLIENT}}}"):
        return
    canonical = content != JABBERD_COMPONENT
    written = serialize(node, content if canonical else "")
    parser = ReadyParser({"": content, "stream": STREAMS}, content if canonical else "")
    nodes = parser.feed(written)
    assert parser.failure is None, parser.failure
    assert [shape(each) for each in nodes] == [shape(node)], f"in {content} it reads as something else"


def _names(node: Node) -> list[str]:
    return [name for element in node.iter() for name in (element.tag, *element.attrib)]


def _namespace(name: str) -> str:
    return name[1:].rpartition("}")[0] if name.startswith("{") else ""
