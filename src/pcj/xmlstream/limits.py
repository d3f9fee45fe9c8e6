"""What both gears and `from_bytes` refuse, and in which words (RFC 6120 4.9.3, 11)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, cast
from xml.parsers.expat import ErrorString, ExpatError, ParserCreate
from xml.parsers.expat import errors as expat_errors

from pcj.config import Config
from pcj.errors import ProtocolError, printable
from pcj.namespaces import STREAMS
from pcj.stanza import Node

STREAM_TAG = f"{{{STREAMS}}}stream"
QUOTED_BYTES: Final = 80
"""How much of what the peer sent an error quotes."""
MAX_NAMESPACE_BYTES: Final = 512
"""How long the value of a namespace declaration may be, as it is written.

ElementTree writes the namespace anew into each name that it has not seen, so what a short name takes is up to the peer.
The longest that the XEPs know has some hundred bytes."""
MAX_NAMESPACES: Final = 64
"""How many namespaces a stream header may declare: each new parser of the second gear declares them again."""
WHITE_SPACE: Final = " \t\r\n"
WHITE_BYTES: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what the peer sends.

    Attributes:
        max_bytes, max_depth, max_elements: of one top-level element; its bytes, and the depth and number of elements in
            it. max_attributes: of each element; declarations of namespaces are none (XML Information Set 2.2).
        max_names: different names that a parser may hold.
    """

    max_bytes: int = 1_048_576
    max_depth: int = 256
    max_elements: int = 65_536
    max_attributes: int = 256
    max_names: int = 262_144


DEFAULT_LIMITS: Final = Limits()


def limits_of(config: Config) -> Limits:
    """The bounds that the options of a broker set."""
    return Limits(
        config.max_stanza_bytes, config.max_depth, config.max_elements, config.max_attributes, config.max_names
    )


def quoted(data: bytes) -> str:
    """The first bytes of what the peer sent, safe to show on a terminal."""
    text = data[:QUOTED_BYTES].decode("utf-8", "backslashreplace")
    return f"'{printable(text)}{'...' if len(data) > QUOTED_BYTES else ''}'"


def restricted(what: str) -> ProtocolError:
    """RFC 6120 11.1: comments, PIs, DTDs and entities of one's own are prohibited."""
    return ProtocolError(
        f"the peer sent {what}, which RFC 6120 11.1 forbids in a stream",
        answer="restricted-xml",
        expected="elements alone",
        came=what,
    )


def too_much(what: str, bound: int) -> ProtocolError:
    """RFC 6120 4.9.3.14: a local policy, here a bound of `Config`."""
    return ProtocolError(
        f"the peer sent one element of more than {bound} {what}",
        answer="policy-violation",
        expected=f"at most {bound} {what}",
        came=f"> {bound} {what}",
    )


def too_wide(bound: int) -> ProtocolError:
    """The same, of the attributes of one element."""
    return ProtocolError(
        f"the peer sent an element with more than {bound} attributes",
        answer="policy-violation",
        expected=f"at most {bound} attributes",
        came=f"> {bound} attributes",
    )


def too_long_namespace() -> ProtocolError:
    """The same, of the length of a namespace."""
    return ProtocolError(
        f"the peer declared a namespace of more than {MAX_NAMESPACE_BYTES} bytes",
        answer="policy-violation",
        expected=f"at most {MAX_NAMESPACE_BYTES} bytes",
        came=f"> {MAX_NAMESPACE_BYTES} bytes",
    )


_ENCODING_CODES = {
    expat_errors.codes[message]
    for message in (expat_errors.XML_ERROR_UNKNOWN_ENCODING, expat_errors.XML_ERROR_INCORRECT_ENCODING)
}
_ENTITY_CODE = expat_errors.codes[expat_errors.XML_ERROR_UNDEFINED_ENTITY]
# Inside an element expat takes a document type declaration for an ordinary syntax error.
_DECLARATION = re.compile(rb"<!(?!\[CDATA\[|--)")


_WELL_FORMED: Final = "well-formed XML"


def not_well_formed(error: SyntaxError, data: bytes, *, fault: bytes | None = None) -> ProtocolError:
    """Expat's refusal of `data` in the words of RFC 6120 4.9.3 (`ET.ParseError` is a SyntaxError).

    Args:
        error: with expat's `code`. data: what it was fed; its beginning is quoted, with where in it the fault is.
        fault: what is quoted instead (`from_fault`; b"": nothing), where `data` may begin with what is private and
            without fault, and expat has read more than the peer sent.
    """
    code = getattr(error, "code", None)
    if isinstance(code, int) and code in _ENCODING_CODES:
        answer = "unsupported-encoding"
    elif code == _ENTITY_CODE or _DECLARATION.search(data):
        answer = "restricted-xml"
    else:
        answer = "not-well-formed"
    said, where, came = error.msg, f", in {quoted(data)}", quoted(data)
    if fault is not None:
        said = (ErrorString(code) if isinstance(code, int) else None) or "syntax error"
        where, came = (f", at {quoted(fault)}", quoted(fault)) if fault else ("", said)
    message = f"the peer sent what is not well-formed XML ({said}){where}"
    return ProtocolError(message, answer=answer, expected=_WELL_FORMED, came=came)


def from_fault(before: bytes, data: bytes) -> bytes:
    """`data` from where expat refuses it; b"" where that is not to be seen in it alone.

    Args:
        before: what a parser was fed before, up to an open root. data: what it was fed then. It may begin inside
            elements that were opened in between: where it ends them, they are opened here.
    """
    ended: list[bytes] = []
    depth = 0
    for tag in (found[0] for found in _MARKUP.finditer(data)):
        if tag.startswith(b"</"):
            if depth == 0:
                ended.append(tag[2:-1].strip(WHITE_BYTES))
            depth = max(0, depth - 1)
        elif not tag.startswith((b"<!", b"<?")) and not tag.endswith(b"/>"):
            depth += 1
    before += b"".join(b"<" + name + b">" for name in reversed(ended))
    parser = ParserCreate("utf-8", "}")
    try:
        parser.Parse(before + data, True)
    except ExpatError:
        at = parser.ErrorByteIndex - len(before)
        return data[at:] if at >= 0 else b""
    return b""


def unfinished(what: str) -> ProtocolError:
    """The error for a tag that another begins in, and for an XML declaration that is not the first of all."""
    return ProtocolError(
        f"the peer sent what is not well-formed XML (misplaced markup), at {what}",
        answer="not-well-formed",
        expected=_WELL_FORMED,
        came=what,
    )


def stream_in_stream() -> ProtocolError:
    """RFC 6120 4.9.3.1: well-formed, and yet nothing that a stream can hold (a new one begins only after a restart)."""
    return ProtocolError(
        "the peer opened a stream inside the stream",
        answer="bad-format",
        expected="a stanza",
        came="<stream:stream>",
    )


_XML_DECLARATION = re.compile(
    rb"""<\?xml\s+version\s*=\s*["']([^"']*)["'](?:\s+encoding\s*=\s*["']([^"']*)["'])?[^>]*\?>"""
)


def check_prolog(start: bytes) -> bool:
    """Hold what comes before the root element against RFC 6120 11. True if `start` is the XML declaration.

    Args:
        start: what came, without white space before it: enough to tell, at the least its first two bytes.

    Raises:
        ProtocolError: it is neither an XML declaration nor the beginning of an element, or declares what is not XML 1.0
            in UTF-8 (RFC 6120 11.5, 11.6).
    """
    # By no more than must have come: of anything but "<" one byte.
    if start[:1] in (b"\xfe", b"\xff", b"\x00") or start[:2] == b"<\x00":
        raise ProtocolError(
            "the peer's stream is not UTF-8, but looks like UTF-16",
            answer="unsupported-encoding",
            expected="UTF-8",
            came=quoted(start),
        )
    if not start.startswith(b"<"):
        raise ProtocolError(
            f"the peer sent {quoted(start)}: this is not an XMPP stream. Is it an XMPP port?",
            answer="not-well-formed",
            expected="<stream:stream>",
            came=quoted(start),
        )
    if start.startswith(b"<!"):
        raise restricted("a DOCTYPE" if start[2:9].upper() == b"DOCTYPE" else "a declaration or a comment")
    if not start.startswith(b"<?"):
        return False
    declaration = _XML_DECLARATION.fullmatch(start)
    if declaration is None:
        if start[:5] != b"<?xml" or start[5:6] not in b" \t\r\n":
            raise restricted("a processing instruction")
        raise ProtocolError(
            f"the peer's XML declaration is none: {quoted(start)}",
            answer="not-well-formed",
            expected="an XML declaration",
            came=quoted(start),
        )
    version, encoding = declaration.groups()
    if version != b"1.0":
        raise ProtocolError(
            f"the peer declares XML {quoted(version)}, not 1.0",
            answer="not-well-formed",
            expected="XML 1.0",
            came=quoted(start),
        )
    if encoding is not None and encoding.upper() != b"UTF-8":
        raise ProtocolError(
            f"the peer declares the encoding {quoted(encoding)}, not UTF-8",
            answer="unsupported-encoding",
            expected="UTF-8",
            came=quoted(start),
        )
    return True


def check_text(text: str | None) -> None:
    """Refuse text between top-level elements; white space is allowed there (RFC 6120 4.6.1, keepalives).

    Raises:
        ProtocolError: there was text.
    """
    # XML's white space (section 2.3), not Python's, which knows some twenty more characters.
    if text is not None and (text := text.strip(WHITE_SPACE)):
        raise ProtocolError(
            "the peer sent text between elements",
            answer="bad-format",
            expected="elements alone",
            came=ascii(text[:QUOTED_BYTES]),
        )


def too_deep(node: Node, max_depth: int) -> bool:
    """Whether elements are nested more than `max_depth` levels in `node`, itself the first."""
    level = [node]
    for _ in range(max_depth):
        level = [child for element in level for child in element]
        if not level:
            return False
    return True


class PullParser(Protocol):
    """What we use of `ET.XMLPullParser`."""

    def feed(self, data: bytes) -> None:
        """Parse `data`."""

    def read_events(self) -> Iterator[tuple[str, Any]]:
        """What came of it: (event, element), or for start-ns (event, (prefix, namespace)). Raises ET.ParseError."""


def pull_parser(*more: Literal["start-ns"]) -> PullParser:
    """A fresh expat behind ElementTree's pull interface; its events are start, end, comment, pi, and `more`.

    It must be fed up to the end of a tag each time. Expat that was mended of CVE-2023-52425 (from 2.6, and in many
    distributions' older ones) lies in wait when a token comes in three parts or more, until as much again has come;
    ElementTree's `flush`, against that, is missing from the Python 3.11 that such distributions pair it with.
    """
    return cast("PullParser", ET.XMLPullParser(("start", "end", "comment", "pi", *more)))


# A tag, or CDATA, in which nothing is one.
_MARKUP = re.compile(rb"""<!\[CDATA\[.*?(?:\]\]>|\Z)|<[^<>"']*(?:"[^<"]*"[^<>"']*|'[^<']*'[^<>"']*)*>""", re.DOTALL)
# What declares a namespace, up to its value. White space must come before it: there is no other way to read the same
# bytes, and so each is looked at a few times at the most, however often the peer repeats "xmlns" or "xmlns:".
_DECLARES = rb"""xmlns(?<=[ \t\r\n]xmlns)(?::[^ \t\r\n=<>"']*)?[ \t\r\n]*=[ \t\r\n]*"""
# What may be a namespace with a brace, or one that is too long; `_ATTRIBUTE` says whether it is.
_BRACED = re.compile(_DECLARES + rb"""(?:"[^"<]*\}|'[^'<]*\})""")
_LONG = re.compile(_DECLARES + rb"""(?:"[^"<]{%d}|'[^'<]{%d})""" % (MAX_NAMESPACE_BYTES + 1, MAX_NAMESPACE_BYTES + 1))
# In a whole tag: the values one after another, so that none begins inside another, and before namespaces what it takes.
_ATTRIBUTE = re.compile(rb"""(%b)?("[^"<]*"|'[^'<]*')""" % _DECLARES)


def without_braces(data: bytes, *, in_cdata: bool = False) -> bytes:
    """`data`, with each "}" in a namespace as "%7D".

    It is legal in a namespace as far as XML goes, servers pass it on, and ElementTree's expat refuses it, because the
    brace divides namespace from name there: anyone could end our stream by one message. No URI holds a "}" (RFC 3986
    2), so nothing is lost that anybody could have meant.

    Args:
        data: tags are whole in it. Worth a call only if there is a "}". in_cdata: it begins inside CDATA.
    """
    if _BRACED.search(data) is None:
        return data
    if in_cdata:
        text, end, data = data.partition(b"]]>")
        return text + end + _MARKUP.sub(_mended, data)
    return _MARKUP.sub(_mended, data)


def _mended(markup: re.Match[bytes]) -> bytes:
    tag = markup[0]
    return tag if tag.startswith(b"<!") else _ATTRIBUTE.sub(_mended_attribute, tag)


def _mended_attribute(attribute: re.Match[bytes]) -> bytes:
    return attribute[0] if attribute[1] is None else attribute[1] + attribute[2].replace(b"}", b"%7D")


def long_namespace(data: bytes, *, in_cdata: bool = False) -> int:
    """Where in `data` the first tag begins that declares a namespace of more than `MAX_NAMESPACE_BYTES`; -1: nowhere.

    Args:
        data: tags are whole in it. in_cdata: it begins inside CDATA.
    """
    if _LONG.search(data) is None:
        return -1
    start = data.find(b"]]>") if in_cdata else 0
    for markup in _MARKUP.finditer(data, start) if start >= 0 else ():
        tag = markup[0]
        if not tag.startswith(b"<!"):
            for attribute in _ATTRIBUTE.finditer(tag):
                if attribute[1] is not None and len(attribute[2]) - 2 > MAX_NAMESPACE_BYTES:
                    return markup.start()
    return -1


# What a stream may not hold, outside of CDATA.
_FORBIDDEN = re.compile(rb"<!\[CDATA\[.*?(?:\]\]>|\Z)|<\?xml(?=[ \t\r\n?])|<[!?]", re.DOTALL)


class Forbidden:
    """Finds comments, instructions and declarations where they begin (RFC 6120 11.1), before expat is fed any of them.

    Expat tells of a comment when it has all of it. One that comes in parts (it may hold "<" and ">") it keeps, however
    long, and reads from its beginning each time: a few hundred kilobytes would cost minutes.

    Attributes:
        in_cdata: the last that was looked at ended inside CDATA.
    """

    __slots__ = ("in_cdata",)

    def __init__(self) -> None:
        self.in_cdata = False

    def check(self, data: bytes) -> None:
        """Look at the next bytes.

        Args:
            data: what came behind the last that was looked at. It ends with a ">", or before a "<".

        Raises:
            ProtocolError: something forbidden begins in it, or it ends inside a tag, which no "<" can.
        """
        at = 0
        if self.in_cdata:
            at = data.find(b"]]>")
            if at < 0:
                return
            self.in_cdata = False
        if b"<!" in data or b"<?" in data:
            for found in _FORBIDDEN.finditer(data, at):
                markup = found[0]
                if markup == b"<!":
                    raise restricted("a comment" if data.startswith(b"--", found.end()) else "a declaration")
                if markup.startswith(b"<?"):
                    raise restricted("a processing instruction") if markup == b"<?" else unfinished("<?xml")
                self.in_cdata = not markup.endswith(b"]]>")
                at = found.end()
        # Behind CDATA there may be text: a quote in it looks as if a tag went on (`TagEnd`).
        if not self.in_cdata and not data.endswith(b">") and (last := data.rfind(b"<", at)) >= 0:
            raise unfinished(quoted(data[last:]))


class TagEnd:
    """Finds where a tag ends that comes in parts; each byte is looked at once."""

    __slots__ = ("_quote",)

    def __init__(self) -> None:
        self._quote = b""

    def find(self, data: bytes | bytearray, position: int) -> int:
        """The index behind the tag, or -1 if it goes on. Then call again with what comes after `data`.

        Args:
            data: holds the tag, or its next part. position: where to begin: behind the tag's "<", or at the next part.

        A "<" ends it too: no tag holds one (XML 1.0 section 3.1), so what began was CDATA, or no XML.
        """
        quote = self._quote
        while found := _STOPS[quote].search(data, position):
            character = found.group()
            position = found.end()
            if character == b"<":
                return found.start()
            if character == b">":
                return position
            quote = b"" if quote else character
        self._quote = quote
        return -1


# A value may hold ">" (XML 1.0 section 2.3).
_STOPS = {b"": re.compile(rb"""[<>"']"""), b'"': re.compile(rb'[<"]'), b"'": re.compile(rb"[<']")}
