"""Every wire example is fed whole, byte by byte and with a tail: what comes of it must not depend on the segments."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable

from pcj.errors import ProtocolError
from pcj.stanza import Node
from pcj.xmlstream import Limits, NegotiatingParser, ReadyParser, StreamClosed, StreamHeader

#: What a well-behaved peer may send behind anything but its closing tag.
TAIL = b"<tail xmlns='urn:tail'/>"

Shape = tuple[object, ...]


def in_pieces(data: bytes, tail: bytes = b"") -> list[list[bytes]]:
    """The ways to feed `data`: whole, byte by byte, in halves, in threes; with a tail also behind it, and apart."""
    half = len(data) // 2
    ways = [
        [data],
        [data[at : at + 1] for at in range(len(data))],
        [data[:half], data[half:]],
        [data[at : at + 3] for at in range(0, len(data), 3)],
    ]
    if tail:
        ways += [[data + tail], [data, tail], [*(data[at : at + 1] for at in range(len(data))), tail]]
    return ways


def shape(item: object) -> Shape:
    """An item as something that can be compared and printed: nodes by all that they hold, their tail too."""
    if isinstance(item, Node):
        return element(item)
    if isinstance(item, StreamHeader):
        return "header", dict(item.attributes), dict(item.namespaces)
    if isinstance(item, ProtocolError):
        return "failure", item.answer
    return (repr(item),)


def element(node: Node) -> Shape:
    """All that a node holds. ElementTree has two ways to say that there is no text."""
    return node.tag, dict(node.attrib), node.text or "", [element(child) for child in node], node.tail or ""


def negotiate(chunks: Iterable[bytes], limits: Limits | None = None) -> list[Shape]:
    """What the negotiating gear makes of the chunks: each item, and at the end the failure, if one came."""
    parser = NegotiatingParser(limits) if limits else NegotiatingParser()
    items: list[Shape] = []
    for chunk in chunks:
        parser.feed(chunk)
        try:
            while (item := parser.next()) is not None:
                items.append(shape(item))
        except ProtocolError as failure:
            return [*items, shape(failure)]
    return items


def read_ready(parser: ReadyParser, chunks: Iterable[bytes]) -> list[Shape]:
    """The same of the ready gear. Nodes are looked at only after the last chunk: nothing may have come into them."""
    nodes = [node for chunk in chunks for node in parser.feed(chunk)]
    items = [shape(node) for node in nodes]
    if parser.failure is not None:
        items.append(shape(parser.failure))
    if parser.closed:
        items.append(shape(StreamClosed()))
    return items


def same_in_pieces(read: Callable[[list[bytes]], list[Shape]], data: bytes) -> list[Shape]:
    """What `read` makes of `data`, the same for every way to feed it."""
    first, *others = in_pieces(data)
    items = read(first)
    for chunks in others:
        assert read(chunks) == items, f"in {len(chunks)} pieces"
    return items


def node(xml: str) -> Node:
    """A node from trusted text, by ElementTree's own parser: what ours is compared with."""
    return ET.fromstring(xml)
