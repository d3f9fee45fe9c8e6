"""The parser of an open link: `pcj.xmlstream.ReadyParser`.

Invariant. It never raises: what is wrong is its `failure`, which names a stream error. However the bytes are cut, the
same nodes come before a failure, and there is one or none (of several faults another may be told, and later). The nodes
are those of ElementTree's own parser, but that the stream's content namespace is read as `jabber:client`. A node that
was handed out never changes. Each is within the bounds on depth, elements, attributes and namespaces, no more than the
bound on bytes is held, and after a failure and after the stream's end nothing comes. A new parser that takes over, for
the bound on names, makes no difference.

Input: the first line says how (a letter for the bounds, one for the header, then the sizes of the pieces), the rest is
what the server sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fuzz.common import Shape, cut, depth_of, digits, head_and_body, shape, shown_safely, top_level
from fuzz.targets.negotiating import BOUNDS, longest_namespace
from fuzz.xmlwords import CONDITIONS, DICTIONARY
from pcj.errors import ProtocolError
from pcj.namespaces import CLIENT, COMPONENT_ACCEPT, JABBERD_COMPONENT, STREAMS
from pcj.stanza import Node
from pcj.xmlstream import Limits, ReadyParser
from pcj.xmlstream.limits import MAX_NAMESPACE_BYTES

__all__ = ["ALLOWED", "DICTIONARY", "one_input"]

#: In `failure`; nothing is raised.
ALLOWED = (ProtocolError,)


class Header(NamedTuple):
    """What the server's header declared, and the content namespace that is read as jabber:client ("" for none)."""

    namespaces: Mapping[str, str]
    content: str


HEADERS = {
    b"c": Header({"": CLIENT, "stream": STREAMS}, CLIENT),
    b"a": Header({"": COMPONENT_ACCEPT, "stream": STREAMS}, COMPONENT_ACCEPT),
    b"r": Header({"": JABBERD_COMPONENT, "stream": STREAMS}, ""),
    b"p": Header({"": CLIENT, "s": STREAMS, "stream": "urn:x", "b": "urn:b&<'", "xml": "x"}, CLIENT),
    b"n": Header({}, CLIENT),
    b"d": Header({"": STREAMS, "c": COMPONENT_ACCEPT}, COMPONENT_ACCEPT),
}


def one_input(data: bytes) -> None:
    head, body = head_and_body(data)
    limits = BOUNDS.get(head[:1], BOUNDS[b"u"])
    header = HEADERS.get(head[1:2], HEADERS[b"c"])
    ways = [[body], [body[at : at + 1] for at in range(len(body))], list(cut(body, digits(head[2:]) or [7]))]
    reads = [_read(pieces, header, limits) for pieces in ways]
    if any(failure is not None for _, failure, _ in reads):
        reads = [_read(pieces, header, limits, late=True) for pieces in ways]
    whole = reads[0]
    # How deep an open element is, is looked at when its elements have doubled, and at its end: that may be yet to come.
    deep = any(failure is not None and "levels" in failure for _, failure, _ in reads)
    for nodes, failure, closed in reads[1:]:
        # Of several faults in what comes together, which is told depends on what is looked at first.
        fails = deep or failure is not None
        assert (nodes, fails, closed) == (whole[0], deep or whole[1] is not None, whole[2]), "the pieces tell"
    if b"}" not in body:
        _compare(body, header, whole)


def _read(
    pieces: Iterable[bytes], header: Header, limits: Limits, *, late: bool = False
) -> tuple[list[Shape], str | None, bool]:
    """The nodes, what the failure says, and whether the stream was closed.

    With `late` there is a failure, which may be a while in coming: expat, fed a comment or an instruction in parts (it
    has ">" in it), looks at it again only when as much has come once more.
    """
    parser = ReadyParser(header.namespaces, header.content, limits)
    nodes: list[Node] = []
    shapes: list[Shape] = []
    open_bytes = fed = 0
    for piece in pieces:
        came = parser.feed(piece)
        fed += len(piece)
        for node in came:
            assert depth_of(node) <= limits.max_depth
            assert sum(1 for _ in node.iter()) <= limits.max_elements
            assert max(len(element.attrib) for element in node.iter()) <= limits.max_attributes
            assert longest_namespace(node) <= MAX_NAMESPACE_BYTES
        if came and len(piece) == 1:
            assert open_bytes + 1 <= limits.max_bytes, "an element is longer than its bound"
        nodes += came
        shapes += [shape(node) for node in came]
        open_bytes = 0 if came or not (open_bytes or piece.strip()) else open_bytes + len(piece)
        if parser.failure is not None or parser.closed:
            break
        assert open_bytes <= limits.max_bytes + len(piece), "what is held is longer than its bound"
    for _ in range(fed if late and parser.failure is None else 0):
        assert parser.feed(b"<late/>") == [], "something came behind what is to be refused"
    assert [shape(node) for node in nodes] == shapes, "something came into a node after it was handed out"
    if parser.failure is not None:
        shown_safely(parser.failure)
        assert isinstance(parser.failure, ALLOWED)
        assert parser.failure.answer in CONDITIONS, parser.failure.answer
    if parser.failure is not None or parser.closed:
        failure = parser.failure
        for more in (b"<message/>", b"", b"> <a", b"/></stream:stream>"):
            assert parser.feed(more) == [], "something came after the end"
        assert parser.failure is failure
    return shapes, None if parser.failure is None else str(parser.failure), parser.closed


def _compare(body: bytes, header: Header, read: tuple[list[Shape], str | None, bool]) -> None:
    """Hold what came against ElementTree's own parser, in a stream whose default namespace is jabber:client."""
    nodes, failure, closed = read
    declared = {
        prefix: CLIENT if header.content and uri == header.content else uri for prefix, uri in header[0].items()
    }
    declared.setdefault("", CLIENT)
    own = "pcj"
    text = "".join(
        f' xmlns{":" * bool(prefix)}{prefix}="{uri.replace("&", "&amp;").replace("<", "&lt;")}"'
        for prefix, uri in {**declared, own: STREAMS}.items()
        if prefix != "xml"
    )
    # The closing tag is written with the prefix that is declared for the stream's namespace: the opening one too.
    prefix = next((prefix for prefix, uri in declared.items() if uri == STREAMS and prefix), "stream")
    if prefix not in declared:
        text += f' xmlns:stream="{STREAMS}"'
    seen = top_level(f"<{prefix}:stream{text}>".encode() + body)
    assert seen.root is not None
    expected = [_canonical(child, header.content) for child in seen.children]
    assert nodes == expected[: len(nodes)], "the witness reads something else"
    assert len(nodes) <= seen.before_text, "text between elements was let pass"
    if failure is None and not seen.broken:
        assert len(nodes) == len(expected), "something did not come"
        assert closed == seen.ended


def _canonical(child: Shape, content: str) -> Shape:
    """The same with the stream's content namespace read as jabber:client, as far as it goes down without a break."""
    if not content or content == CLIENT:
        return child
    start = f"{{{content}}}"
    renamed: list[object] = []
    until = 0  # the depth below which the chain of that namespace reaches
    for element in child:
        assert isinstance(element, tuple)
        depth, tag, *rest = element
        if depth <= until and tag.startswith(start):
            until = depth + 1
            tag = f"{{{CLIENT}}}{tag[len(start) :]}"
        else:
            until = min(until, depth)
        renamed.append((depth, tag, *rest))
    return tuple(renamed)
