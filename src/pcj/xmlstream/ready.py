"""The second gear: whole chunks, many stanzas at a time.

We stand on an element boundary when it begins, so a new expat is primed with a header of our own that declares
`jabber:client` as the default namespace where the server declared its stream's: stanzas of every stream type come out
in one vocabulary at no cost per stanza. The prefixes that the server's header declared stay declared.

Expat is fed up to the end of a tag, never with a part of one (see `pull_parser`), nor with the text behind it, which
ElementTree would hang on a node that is no longer ours. What remains is held until its tag is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pcj.errors import ProtocolError, printable
from pcj.namespaces import CLIENT, STREAMS
from pcj.serialize import escape_value
from pcj.stanza import Node
from pcj.xmlstream.limits import (
    DEFAULT_LIMITS,
    MAX_NAMESPACE_BYTES,
    QUOTED_BYTES,
    STREAM_TAG,
    WHITE_BYTES,
    Forbidden,
    Limits,
    TagEnd,
    check_text,
    from_fault,
    long_namespace,
    not_well_formed,
    pull_parser,
    restricted,
    stream_in_stream,
    too_deep,
    too_long_namespace,
    too_much,
    too_wide,
    without_braces,
)

__all__ = ["ReadyParser"]

REPRIME_BYTES = 1_048_576
"""After so many bytes at the latest a new expat takes over, at a boundary.

Expat frees no name that it has seen, ElementTree not the last element of each depth; with this neither can hold more
than so many bytes of stream give rise to, whatever the peer sends. A new parser costs what two stanzas cost."""

NAME_BYTES: Final = 4
"""Of no fewer bytes comes each name that expat has not seen: "<a/>", " a=''", and three of " xmlns:p='u'"."""

BLOCK_BYTES: Final = 262_144
"""How much is parsed at a time; the bounds on elements and depth are looked at after each."""

HELD_BYTES: Final = 1024
"""Held pieces that are shorter are put together: a byte by itself takes what forty take together."""

# A complete tag; see `TagEnd` for the same in parts. No character can be taken in two ways, so it takes linear time
# without the possessive forms, which are wrong in Python 3.11 before 3.11.5.
_TAG = re.compile(rb"""<[^<>"']*(?:"[^<"]*"[^<>"']*|'[^<']*'[^<>"']*)*>""")
# How a tag begins, complete or not.
_NAME = re.compile(rb"<([^<>/!?=\"' \t\r\n]*)")
# Where elements begin: CDATA is passed over, and within tags there is no "<".
_ELEMENT = re.compile(rb"<!\[CDATA\[.*?(?:\]\]>|\Z)|(<[^/!?])", re.DOTALL)
_LESS: Final = ord("<")
_GREATER: Final = ord(">")
_SLASH: Final = ord("/")


class ReadyParser:
    """Bytes in, the complete top-level elements out. They are independent of the stream and of each other.

    Attributes:
        closed: the peer closed the stream; nothing after that is an element.
        failure: why the stream is broken, or None; the nodes returned before it are whole.
        unusual: it may be that an element has begun and is not complete (`begun` says it); False says that none has.

    Args:
        namespaces: what the server's header declared, by prefix ("" for the default).
        content: the stream's content namespace, to be read as `jabber:client`; "" to leave every namespace as it is.
        limits: bounds, each exact: at the bound it passes, one past it is refused. That of names is no refusal: a new
            parser takes over in time, so that none holds more than so many, and those of one read.
    """

    def __init__(self, namespaces: Mapping[str, str], content: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._content = f"{{{content}}}" if content and content != CLIENT else ""
        declared = {prefix: CLIENT if content and uri == content else uri for prefix, uri in namespaces.items()}
        declared.setdefault("", CLIENT)
        own = "stream"
        while declared.get(own, STREAMS) != STREAMS:  # the server may have bound our prefix to something else
            own += "_"
        declared[own] = STREAMS
        text = "".join(
            f' xmlns{":" + prefix if prefix else ""}="{escape_value(uri)}"'
            for prefix, uri in declared.items()
            if prefix not in ("xml", "xmlns")
        )
        # The child stands in for the element before the first: what text comes before that is found in its tail.
        self._primer = f"<{own}:stream{text}><{own}:stream/>".encode()
        self.closed = False
        self.failure: ProtocolError | None = None
        self._small = min(limits.max_depth, limits.max_elements)  # so many elements break neither bound
        self._block = min(limits.max_bytes, BLOCK_BYTES)
        # An element with more than `max_attributes` is a run without "<" of more than so many bytes (" a=''" is one).
        self._wide = 5 * limits.max_attributes
        # No shorter is a tag that breaks this bound, or that on namespaces.
        self._long = min(self._wide, MAX_NAMESPACE_BYTES)
        self._lifetime = min(REPRIME_BYTES, NAME_BYTES * limits.max_names)
        self.unusual = False  # inside an element, bytes are held, a new parser is due, or there is nothing to read
        self._held: list[bytes] = []  # not yet fed: text, or text and a part of a tag
        self._held_bytes = 0
        self._tag_end: TagEnd | None = None  # of the tag in which the held bytes end, if they do
        self._pending = 0  # bytes fed since an element was last completed, those of _from included
        self._elements = 0  # elements begun since then
        self._walked = 0  # how many of these there were when the depth was last looked at
        self._from = b"", 0  # what was fed when an element was last completed and another begun; its _elements
        self._prime()

    def _prime(self) -> None:
        self._parser = pull_parser()
        self._parser.feed(self._primer)
        events = self._parser.read_events()
        self._root: Node = next(events)[1]
        self._previous: Node = next(events)[1]
        next(events)
        self._root.clear()
        self._until_due = self._lifetime  # bytes that this parser is still to parse
        self._forbidden = Forbidden()

    @property
    def begun(self) -> str:
        """What has begun and is not complete, "<message>" for a sentence; "" where the last that came is complete."""
        if len(self._root):
            # No more of it is looked at than must be: this is asked for at each read that ends inside an element.
            tag = self._root[0].tag
            start = tag.find("}", 0, MAX_NAMESPACE_BYTES + 2) + 1
            return f"<{tag[start : start + 64]}>"
        if self._held:
            name = _NAME.match(self._held[0][:QUOTED_BYTES])
            return f"<{printable(name[1].decode('utf-8', 'replace'))}" if name is not None else "text between elements"
        return ""

    def feed(self, data: bytes) -> list[Node]:
        """The elements that are complete now, in order. Look at `failure` and `closed` after it.

        Nothing is read after a failure or the stream's end.
        """
        if (
            self.unusual
            or not 0 < len(data) <= self._block
            or data[0] != _LESS
            or data[-1] != _GREATER
            # An end tag holds no ">" but its last; of others that is looked into.
            or (data[(last := data.rfind(b"<")) + 1] != _SLASH and _TAG.fullmatch(data, last) is None)
        ):
            return self._feed_unusual(data)
        return self._parse(data)

    def _feed_unusual(self, data: bytes) -> list[Node]:
        """Whatever is not a chunk of moderate size that begins between elements and ends with a tag."""
        if len(data) > self._block:
            return [node for at in range(0, len(data), self._block) for node in self.feed(data[at : at + self._block])]
        if self.failure is not None or self.closed:
            return []
        nodes: list[Node] = []
        try:
            complete = self._hold(data)
            if complete and (self._until_due < 0 or self._too_long(len(complete))):
                self._step(complete, nodes)
            elif complete:
                nodes = self._parse(complete)
            if complete and self._held and not len(self._root):
                self._set_held(self._held[0].lstrip(WHITE_BYTES))
            if self._held and self._too_long(self._held_bytes):
                raise too_much("bytes", self._limits.max_bytes)
        except ProtocolError as error:
            self._fail(error)
        self.unusual = bool(self._held or self._until_due < 0 or len(self._root) or self.closed or self.failure)
        return nodes

    def _hold(self, data: bytes) -> bytes:
        """Take `data` behind what is held; give back all up to the end of the last complete tag, and hold the rest."""
        if not self._held and not len(self._root):
            data = data.lstrip(WHITE_BYTES)  # keepalives leave nothing behind, however many come
        last = data.rfind(b"<")
        end = 0
        if last >= 0:
            data = b"".join((*self._held, data))
            last += self._held_bytes
            self._tag_end = TagEnd()
            end = self._tag_end.find(data, last + 1)
            if end >= 0:
                self._tag_end = None
            else:
                before = data.rfind(b"<", 0, last)
                end = TagEnd().find(data, before + 1) if before >= 0 else 0
        elif self._tag_end is not None and (end := self._tag_end.find(data, 0)) >= 0:
            end += self._held_bytes
            data = b"".join((*self._held, data))
            self._tag_end = None
        else:  # more of the same text, or of the same tag
            if data:
                if self._held and len(self._held[-1]) < HELD_BYTES:
                    self._held[-1] += data
                else:
                    self._held.append(data)
                self._held_bytes += len(data)
            return b""
        self._set_held(data[end:])
        return data[:end]

    def _set_held(self, data: bytes) -> None:
        self._held = [data] if data else []
        self._held_bytes = len(data)

    def _too_long(self, more: int) -> bool:
        """Whether the element that is open would have more than `max_bytes` with so many bytes more."""
        if self._pending + more <= self._limits.max_bytes:
            return False
        fed, elements = self._from
        if elements:
            # Only now is it worth counting what stood before the element in the bytes that it began in.
            starts = [found.start(1) for found in _ELEMENT.finditer(fed) if found[1]]
            self._pending -= starts[-elements] if elements <= len(starts) else 0
            self._from = b"", 0
        return self._pending + more > self._limits.max_bytes

    def _step(self, data: bytes, nodes: list[Node]) -> None:
        """Parse `data` tag by tag up to the end of an element; a new parser takes over there, if it is due.

        Raises:
            ProtocolError: the element is too long. `nodes` has those before it.
        """
        at = 0
        while at < len(data) and self.failure is None and not self.closed:
            start = data.find(b"<", at)
            end = TagEnd().find(data, start + 1) if start >= 0 else -1
            if end < 0:
                end = len(data)  # what only looked like a tag; expat decides
            piece = data[at:end]
            if not len(self._root):
                piece = piece.lstrip(WHITE_BYTES)
            if self._too_long(len(piece)):
                raise too_much("bytes", self._limits.max_bytes)
            completed = self._parse(piece)
            nodes += completed
            at = end
            if completed:
                if self._until_due < 0 and self.failure is None:
                    self._prime()
                rest = data[at:].lstrip(WHITE_BYTES)
                if rest and len(rest) <= self._limits.max_bytes:
                    nodes += self._parse(rest)
                    break

    def _parse(self, data: bytes) -> list[Node]:
        """Feed expat; `data` ends with a tag."""
        root = self._root
        before = previous = self._previous
        kept = before.tail  # the user's, if any: what is there after the feed came from the peer
        if kept is not None:
            before.tail = None
        refusal: ProtocolError | None = None
        wide = False
        if len(data) > self._long and _has_run(data, self._long):
            at = long_namespace(data, in_cdata=self._forbidden.in_cdata)
            if at >= 0:
                data = data[:at]  # before expat makes names of it
                refusal = too_long_namespace()
            wide = len(data) > self._wide and _has_run(data, self._wide)
        parser = self._parser
        fed = data if b"}" not in data else without_braces(data, in_cdata=self._forbidden.in_cdata)
        parser.feed(fed)
        content = self._content
        elements = self._elements
        nodes: list[Node] = []
        events = parser.read_events()
        if wide or refusal is not None:
            events = self._guarded(events, refusal)
        # All of `data` is parsed: what follows a complete element in the tree is the next that can be completed. By
        # identity, so that no element inside another is ever taken for one of the stream's.
        children = iter(root)
        expected: Any = next(children, None)
        event = ""
        try:
            for event, element in events:
                if event == "start":
                    elements += 1
                elif element is expected:
                    if elements > self._small:
                        self._check_size(element, elements)
                    if previous.tail is not None:
                        text, previous.tail = previous.tail, None
                        check_text(text)
                    tag = element.tag
                    if tag == STREAM_TAG:
                        raise stream_in_stream()
                    if content and tag.startswith(content):
                        _rename(element, content)
                    nodes.append(element)
                    previous = element
                    elements = 0
                    expected = next(children, None)
                elif event != "end":
                    raise restricted("a comment" if event == "comment" else "a processing instruction")
                elif element is root:
                    self._close(previous)
                    break  # what comes behind it is not looked at
            if nodes:
                self._previous = previous
                del root[: len(nodes)]
            if expected is not None or self._pending:
                self._open(expected, previous, elements, data, bool(nodes))
            elif (not event or data[-1] != _GREATER) and not self.closed:
                # Between elements each tag is an event, but what expat waits for the end of: CDATA, and the forbidden.
                Forbidden().check(data)
                check_text(data.decode("utf-8", "replace"))
        except (SyntaxError, ProtocolError) as error:
            previous.tail = None
            if not isinstance(error, ProtocolError):
                # What `data` begins with may be whole stanzas, and expat counts lines and columns from our primer on.
                error = not_well_formed(error, data, fault=from_fault(self._primer, fed))
            self._fail(error)
        if kept is not None:
            before.tail = kept
        self._until_due -= len(data)
        if self._until_due < 0:
            # That no element is open says not that expat has nothing begun ("<!-- >"), nor that no text came behind the
            # last tag ("</a>>"), which would go with this parser; else `_step` sees it end.
            ends = data.find(b">", data.rfind(b"<")) == len(data) - 1
            if expected is None and nodes and ends and not self.unusual and b"<!" not in data and b"<?" not in data:
                self._prime()
            else:
                self.unusual = True
        return nodes

    def _guarded(self, events: Iterator[tuple[str, Any]], refusal: ProtocolError | None) -> Iterator[tuple[str, Any]]:
        """The events of tags that may break a bound; behind the last, the refusal of what was not parsed, if any."""
        bound = self._limits.max_attributes
        for event, element in events:
            if event == "start" and len(element.attrib) > bound:
                raise too_wide(bound)
            yield event, element
        if refusal is not None:
            raise refusal

    def _open(self, node: Node | None, previous: Node, elements: int, data: bytes, completed: bool) -> None:
        """Look at the element that is still open, if any, at the text before it, and count its bytes."""
        self._elements = elements
        if node is None:
            self._pending = 0
            self._from = b"", 0
            self._walked = 0
            self._forbidden = Forbidden()
            return
        self.unusual = True
        self._forbidden.check(data)
        if completed:
            self._pending = len(data)
            self._from = data, elements
            self._walked = 0
        else:
            self._pending += len(data)
        text, previous.tail = previous.tail, None
        check_text(text)
        if node.tag == STREAM_TAG:
            raise stream_in_stream()
        if elements > self._small and (elements >= 2 * self._walked or elements > self._limits.max_elements):
            # Depth only where twice as many came: each is walked over twice, however small the pieces that come.
            self._walked = elements
            self._check_size(node, elements)

    def _check_size(self, node: Node, elements: int) -> None:
        if elements > self._limits.max_elements:
            raise too_much("elements", self._limits.max_elements)
        if too_deep(node, self._limits.max_depth):
            raise too_much("levels", self._limits.max_depth)

    def _close(self, previous: Node) -> None:
        """The peer's closing tag came."""
        text, previous.tail = previous.tail, None
        check_text(text)
        self.closed = self.unusual = True

    def _fail(self, error: ProtocolError) -> None:
        self.failure = error
        self.unusual = True
        self._root.clear()
        self._set_held(b"")


def _has_run(data: bytes, length: int) -> bool:
    """Whether there may be more than `length` bytes without "<"; True if there are. Looks at few of the bytes."""
    at, end = 0, len(data) - length
    while at < end:
        at = data.rfind(b"<", at, at + length) + 1
        if not at:
            return True
    return False


def _rename(node: Node, content: str) -> None:
    """Read `content` as `jabber:client`, through elements of that namespace alone (RFC 6120 4.8.3)."""
    found = [node]
    for element in found:
        element.tag = f"{{{CLIENT}}}{element.tag[len(content) :]}"
        found += [child for child in element if child.tag.startswith(content)]
