"""The first gear: element by element, each boundary exact.

Expat is fed up to the end of each tag only, so that what comes behind <proceed/> or SASL's <success/> is still unparsed
when the negotiation decides what it means: bytes smuggled in before TLS stands can never pass for the server's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pcj.errors import ProtocolError, printable
from pcj.namespaces import STREAMS
from pcj.stanza import Node
from pcj.xmlstream.framing import STREAM_ERROR_TAG
from pcj.xmlstream.limits import (
    DEFAULT_LIMITS,
    MAX_NAMESPACE_BYTES,
    MAX_NAMESPACES,
    QUOTED_BYTES,
    STREAM_TAG,
    Forbidden,
    Limits,
    TagEnd,
    check_prolog,
    check_text,
    long_namespace,
    not_well_formed,
    pull_parser,
    restricted,
    stream_in_stream,
    too_long_namespace,
    too_much,
    too_wide,
    without_braces,
)

__all__ = ["NegotiatingParser", "StreamClosed", "StreamHeader"]

LARGEST_ELEMENTS: Final = 4
"""So many elements of the largest size may come in one stream before READY, or more that are smaller.

Expat frees no name that it has seen, and stanzas that come early are kept; a negotiation takes a few thousand bytes."""

_NOT_WHITE = re.compile(rb"[^ \t\r\n]")


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """The peer's <stream:stream> (RFC 6120 4.7): its attributes, and the namespaces it declares by prefix."""

    attributes: Mapping[str, str]
    namespaces: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The stream's id, or "" if the peer gave none."""
        return self.attributes.get("id", "")

    @property
    def version(self) -> tuple[int, int]:
        """(major, minor), compared as numbers (RFC 6120 4.7.5); (0, 0) if it is absent, (-1, 0) if it is no version."""
        text = self.attributes.get("version")
        if text is None:
            return 0, 0
        major, dot, minor = text.partition(".")
        if not (dot and text.isascii() and major.isdigit() and minor.isdigit() and len(text) <= 16):
            return -1, 0
        return int(major), int(minor)

    @property
    def content_namespace(self) -> str:
        """The default namespace the header declares, or ""."""
        return self.namespaces.get("", "")


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The peer's </stream:stream>."""


class NegotiatingParser:
    """Bytes in by `feed`, one item at a time out by `next`; what is not yet asked for stays unparsed."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self.restart()

    def restart(self) -> None:
        """Expect a new stream header (RFC 6120 4.3.3), in what is left over or in what comes."""
        self._parser = pull_parser("start-ns")
        self._fed = b""  # what expat was fed last
        self._tag_end: TagEnd | None = None  # of the tag in which the buffer ends, if it does
        self._forbidden = Forbidden()
        self._scanned = 0  # how far the buffer was looked at
        self._consumed = 0  # bytes of the current top-level element that are parsed
        self._before = 0  # bytes of those before it
        self._depth = 0  # 1: in the stream, 2: in a top-level element
        self._elements = 0
        self._begun = False  # more than the XML declaration was parsed
        self._closed = False
        self._failure: ProtocolError | None = None
        self._root: Node | None = None
        self._previous: Node | None = None
        self._namespaces: dict[str, str] = {}

    def feed(self, data: bytes) -> None:
        """Take bytes; nothing is parsed yet."""
        self._buffer += data

    @property
    def leftover(self) -> bytes:
        """The bytes that are not yet parsed."""
        return bytes(self._buffer)

    @property
    def leftover_bytes(self) -> int:
        """How many these are."""
        return len(self._buffer)

    def take_leftover(self) -> bytes:
        """The same, handed over to the next gear."""
        data = bytes(self._buffer)
        self._buffer.clear()
        self._tag_end = None
        self._scanned = 0
        return data

    def next(self) -> StreamHeader | StreamClosed | Node | None:
        """The next complete item, or None until more bytes come. After StreamClosed there is none.

        Raises:
            ProtocolError: what came is not allowed in a stream; `answer` is the stream error that says so. Nothing is
                read after it, and each further call raises it again.
        """
        if self._failure is not None:
            raise self._failure
        try:
            while not self._closed:
                item = self._collect()
                if item is not None:
                    self._before += self._consumed
                    self._consumed = self._elements = 0
                    return item
                in_cdata = self._forbidden.in_cdata
                piece = self._piece()
                if piece is None:
                    break
                if len(piece) > MAX_NAMESPACE_BYTES and long_namespace(piece, in_cdata=in_cdata) >= 0:
                    raise too_long_namespace()
                self._fed = piece
                self._parser.feed(without_braces(piece, in_cdata=in_cdata))
        except ProtocolError as error:
            self._failure = error
            raise
        return None

    def _piece(self) -> bytes | None:
        """The bytes up to the end of the next tag, if it has come: one tag at most, and nothing behind it."""
        buffer = self._buffer
        if self._consumed == self._scanned == 0:
            # White space between elements and before the XML declaration means nothing (RFC 6120 4.6.1).
            first = _NOT_WHITE.search(buffer)  # not `lstrip`, which copies all that is not asked for yet
            del buffer[: len(buffer) if first is None else first.start()]
        if not self._begun and buffer and buffer != b"<" and not buffer.startswith(b"<?"):
            check_prolog(bytes(buffer[: QUOTED_BYTES + 1]))  # at once: a banner, of SSH say, may never hold a tag
        if self._tag_end is None:
            start = buffer.find(b"<", self._scanned)
            if start >= 0:
                self._tag_end = TagEnd()
                self._scanned = start + 1
        end = -1 if self._tag_end is None else self._tag_end.find(buffer, self._scanned)
        size = self._consumed + (len(buffer) if end < 0 else end)
        if size > self._limits.max_bytes:
            raise too_much("bytes", self._limits.max_bytes)
        if self._before + size > LARGEST_ELEMENTS * self._limits.max_bytes:
            raise ProtocolError(
                f"the peer sent more than {LARGEST_ELEMENTS * self._limits.max_bytes} bytes before the link was ready",
                answer="policy-violation",
                expected="a negotiation",
                came=f"> {LARGEST_ELEMENTS * self._limits.max_bytes} bytes",
            )
        if end < 0:
            self._scanned = len(buffer)
            return None
        piece = bytes(buffer[:end])
        del buffer[:end]
        self._tag_end = None
        self._scanned = 0
        if self._begun or not check_prolog(piece):
            self._begun = True
            self._consumed = size
            self._forbidden.check(piece)
        return piece

    def _collect(self) -> StreamHeader | StreamClosed | Node | None:
        limits = self._limits
        try:
            for event, value in self._parser.read_events():
                if event == "start":
                    self._elements += 1
                    self._depth += 1
                    if len(value.attrib) > limits.max_attributes:
                        raise too_wide(limits.max_attributes)
                    if self._root is None:
                        return self._header(value)
                    if self._depth == 2:
                        self._check_between()
                        if value.tag == STREAM_TAG:
                            raise stream_in_stream()
                    if self._elements > limits.max_elements:
                        raise too_much("elements", limits.max_elements)
                    if self._depth > limits.max_depth + 1:
                        raise too_much("levels", limits.max_depth)
                elif event == "end":
                    self._depth -= 1
                    if self._depth == 0:
                        self._check_between()
                        self._closed = True
                        return StreamClosed()
                    if self._depth == 1:
                        return self._complete(value)
                elif event == "start-ns":
                    if self._root is None:
                        prefix, uri = value
                        self._namespaces[prefix] = uri
                        if len(self._namespaces) > MAX_NAMESPACES:
                            raise ProtocolError(
                                f"the peer's stream header declares more than {MAX_NAMESPACES} namespaces",
                                answer="policy-violation",
                                expected=f"at most {MAX_NAMESPACES} namespaces",
                                came=f"> {MAX_NAMESPACES} namespaces",
                            )
                else:
                    raise restricted("a comment" if event == "comment" else "a processing instruction")
        except SyntaxError as error:
            raise not_well_formed(error, self._fed) from error
        return None

    def _header(self, root: Node) -> StreamHeader:
        if root.tag != STREAM_TAG:
            # By namespace, never by prefix (RFC 6120 4.8.1).
            name = root.tag.rpartition("}")[2]
            answer: str | None = "bad-format"
            if name == "stream":
                # RFC 6120 4.9.3.2: the namespace is declared, and the element does not bear its prefix.
                declared = STREAMS in self._namespaces.values()
                answer = "bad-namespace-prefix" if declared else "invalid-namespace"
            elif root.tag == STREAM_ERROR_TAG:
                answer = None  # never in reply to a stream error (RFC 6120 4.9.1.1)
            came = printable(f"<{root.tag!s:.80}>")
            raise ProtocolError(
                f"the peer began with {came}, not with <stream:stream>: this is not an XMPP stream",
                answer=answer,
                expected="<stream:stream>",
                came=came,
            )
        self._root = root
        return StreamHeader(dict(root.attrib), dict(self._namespaces))

    def _check_between(self) -> None:
        """Look at the text before a top-level tag: ElementTree hangs it on the element before, delivered or not."""
        if self._previous is not None:
            text, self._previous.tail = self._previous.tail, None
            check_text(text)
        elif self._root is not None:
            check_text(self._root.text)

    def _complete(self, node: Node) -> Node:
        self._previous = node
        if self._root is not None:
            del self._root[0]
        return node
