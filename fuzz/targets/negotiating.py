"""The parser of the negotiation: `pcj.xmlstream.NegotiatingParser`.

Invariant. However the bytes are cut, the same items come, each at the same byte (what follows stays unparsed), and the
same failure. They are those of ElementTree's own parser. A failure names a stream error, is raised again by every later
call, and after it and after the stream's end nothing comes any more. The bounds on depth, elements, attributes and
namespaces hold.

Input: the first line says how (a letter for the bounds, then how many items come before a restart, "0" for none, then
the sizes of the pieces), the rest is the stream.
"""

from __future__ import annotations

from collections.abc import Iterable

from fuzz.common import Shape, cut, depth_of, digits, head_and_body, shape, shown_safely, top_level
from fuzz.xmlwords import CONDITIONS, DICTIONARY
from pcj.errors import ProtocolError
from pcj.stanza import Node
from pcj.xmlstream import Limits, NegotiatingParser, StreamHeader
from pcj.xmlstream.limits import MAX_NAMESPACE_BYTES, MAX_NAMESPACES

__all__ = ["ALLOWED", "DICTIONARY", "longest_namespace", "one_input"]

ALLOWED = (ProtocolError,)

#: By the first letter of the input: usual bounds, or such as a small input reaches.
BOUNDS = {
    b"u": Limits(),
    b"s": Limits(max_bytes=160, max_depth=4, max_elements=6, max_attributes=4, max_names=2),
    b"d": Limits(max_bytes=4096, max_depth=2),
    b"e": Limits(max_bytes=4096, max_elements=3),
    b"b": Limits(max_bytes=160),
    b"a": Limits(max_bytes=4096, max_attributes=5),
    b"n": Limits(max_bytes=4096, max_names=3),
}


def one_input(data: bytes) -> None:
    head, body = head_and_body(data)
    limits = BOUNDS.get(head[:1], BOUNDS[b"u"])
    restart = head[1] - 48 if 48 < head[1:2].ljust(1)[0] < 58 else 0
    whole = _read([body], limits, restart)
    for pieces in ((body[at : at + 1] for at in range(len(body))), cut(body, digits(head[2:]) or [7])):
        assert _read(pieces, limits, restart) == whole, "the pieces tell"
    if b"}" not in body:
        _compare(body, whole, restart)


def _read(pieces: Iterable[bytes], limits: Limits, restart: int) -> list[tuple[int, Shape]]:
    """Each item, with the number of the bytes behind which it came; at the end the failure, if one came."""
    parser = NegotiatingParser(limits)
    items: list[tuple[int, Shape]] = []
    fed = 0
    for piece in pieces:
        parser.feed(piece)
        fed += len(piece)
        try:
            while (item := parser.next()) is not None:
                items.append((fed - len(parser.leftover), _shape(item, limits)))
                if len(items) == restart:
                    parser.restart()
        except ALLOWED as failure:
            shown_safely(failure)
            assert failure.answer in CONDITIONS, failure.answer
            parser.feed(b"><a/>")
            _still_refuses(parser, failure)
            return [*items, (-1, ("failure", failure.answer))]
    if items and items[-1][1] == ("closed",) and len(items) != restart:
        parser.feed(b"<a/></stream:stream>")
        assert parser.next() is None, "something came behind the stream's end"
    return items


def _still_refuses(parser: NegotiatingParser, failure: ProtocolError) -> None:
    for _ in range(2):
        try:
            item = parser.next()
        except ALLOWED as again:
            assert again is failure
        else:
            raise AssertionError(f"{item} came after {failure!r}")


def _shape(item: object, limits: Limits) -> Shape:
    if isinstance(item, Node):
        assert depth_of(item) <= limits.max_depth
        assert sum(1 for _ in item.iter()) <= limits.max_elements
        assert max(len(element.attrib) for element in item.iter()) <= limits.max_attributes
        assert longest_namespace(item) <= MAX_NAMESPACE_BYTES
        assert not item.tail, "what stood behind it came with it"
        return shape(item)
    if isinstance(item, StreamHeader):
        assert len(item.namespaces) <= MAX_NAMESPACES
        assert max(map(_size, item.namespaces.values()), default=0) <= MAX_NAMESPACE_BYTES
        # What they mean must be to be had of any header.
        assert item.version[0] >= -1
        return "header", *sorted(item.attributes.items()), item.id, item.content_namespace
    return ("closed",)


def longest_namespace(node: Node) -> int:
    """Of the names in a node: how many bytes the longest namespace has."""
    names = [name for element in node.iter() for name in (element.tag, *element.attrib)]
    return max(_size(name[1:].partition("}")[0]) for name in names)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _compare(body: bytes, items: list[tuple[int, Shape]], restart: int) -> None:
    """Hold what came against ElementTree's own parser, each stream by itself."""
    first = items[:restart] if restart else items
    streams = [(0, first)]
    if restart and len(items) > restart:
        streams.append((items[restart - 1][0], items[restart:]))
    for start, said in streams:
        seen = top_level(body[start:].lstrip(b" \t\r\n"))
        came = [shape for end, shape in said if end >= 0]
        if came:
            assert seen.root is not None, "the witness sees no stream"
            attributes = tuple(sorted(seen.root.attrib.items()))
            assert came[0][: 1 + len(attributes)] == ("header", *attributes)
        nodes = [each for each in came[1:] if each != ("closed",)]
        assert nodes == seen.children[: len(nodes)], "the witness reads something else"
        assert len(nodes) <= seen.before_text, "text between elements was let pass"
