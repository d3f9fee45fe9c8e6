"""What a hostile peer can make the parsers work: no more than a little for each byte, whatever the bytes are (X15-X18).

The ceiling is far above what the work takes, and far below what it took where each byte was looked at as often as there
are bytes: minutes.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from pcj.errors import ParseError
from pcj.namespaces import CLIENT, STREAMS
from pcj.stanza import Node
from pcj.xmlstream import Limits, ReadyParser, from_bytes, ready
from pcj.xmlstream.limits import MAX_NAMESPACE_BYTES, MAX_NAMESPACES
from tests.core.pieces import Shape, element, negotiate, node, read_ready, same_in_pieces

HEADER = f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}'>".encode()
SIZE = 200_000
CEILING = 2.0
"""Seconds of processor time for `SIZE` bytes. Of these shapes none takes a fourth of it."""

REFUSED = "failure"
POLICY, RESTRICTED, MALFORMED = "policy-violation", "restricted-xml", "not-well-formed"


def client(limits: Limits | None = None) -> ReadyParser:
    return ReadyParser({"": CLIENT, "stream": STREAMS}, CLIENT, limits or Limits())


def roster(size: int) -> bytes:
    item = b"<item jid='someone-%05d@example.org' name='Some One' subscription='both'><group>Friends</group></item>"
    items = b"".join(item % number for number in range(size // 103))
    return b"<iq type='result' id='1'><query xmlns='jabber:iq:roster'>" + items + b"</query></iq>"


def repeated(before: bytes, again: bytes, behind: bytes) -> Callable[[int], bytes]:
    return lambda size: before + again * (size // len(again)) + behind


def numbered(before: bytes, again: bytes, behind: bytes) -> Callable[[int], bytes]:
    """All names in it are different."""
    return lambda size: before + b"".join(again % number for number in range(size // (len(again) + 3))) + behind


def long_namespace(size: int) -> bytes:
    """Each name in it would hold all of the namespace."""
    return numbered(b"<a xmlns:p='" + b"u" * (size // 2) + b"'>", b"<p:x%d/>", b"</a>")(size // 2)


# What comes, and the stream error that it ends in; None where it is an element like any other.
SHAPES: dict[str, tuple[Callable[[int], bytes], str | None]] = {
    "roster": (roster, None),
    "small elements": (repeated(b"<a>", b"<b c=''/>", b"</a>"), None),
    "deep elements": (repeated(b"<a>", b"<b>" * 250 + b"</b>" * 250, b"</a>"), None),
    "small stanzas": (repeated(b"", b"<a/> ", b"<a/>"), None),
    "stanzas with a space": (repeated(b"", b" <a>}</a>", b" <a/>"), None),
    "xmlns as text": (repeated(b"<a>}", b"xmlns", b"</a>"), None),
    "declarations as text": (repeated(b"<a>}", b" xmlns='", b"</a>"), None),
    "braces as text": (repeated(b"<a xmlns:p='}'>", b" xmlns=}", b"</a>"), None),
    "quotes as text": (repeated(b"<a xmlns:p='}'>", b"'\"", b"</a>"), None),
    "long name": (repeated(b"<a xmlns:p='}'><", b"b", b"/></a>"), None),
    "long name of an attribute": (repeated(b"<a xmlns='}' ", b"b", b"=''/>"), None),
    "long prefix": (repeated(b"<a xmlns:", b"b", b"='}'/>"), None),
    "colons": (repeated(b"<a xmlns='}' ", b"xmlns:", b"=''/>"), MALFORMED),
    "white space behind xmlns": (repeated(b"<a xmlns:p='}' xmlns", b" ", b"/>"), MALFORMED),
    "white space before a value": (repeated(b"<a xmlns:p='}' xmlns=", b" ", b"'u'/>"), None),
    "long value": (repeated(b"<a b='", b">", b"' xmlns='}'/>"), None),
    "many values": (numbered(b"<a>", b"<b c='%d' xmlns='}'/>", b"</a>"), None),
    "comment": (repeated(b"<!-- ", b"<", b"-->"), RESTRICTED),
    "comment in an element": (repeated(b"<a><!--", b"<", b"--></a>"), RESTRICTED),
    "comment with ends": (repeated(b"<a><!-- >", b"<b>", b"--></a>"), RESTRICTED),
    "instruction": (repeated(b"<?x ", b"<", b"?>"), RESTRICTED),
    "instruction in an element": (repeated(b"<a><?x ", b"<", b"?></a>"), RESTRICTED),
    "cdata": (repeated(b"<a><![CDATA[", b"<", b"]]></a>"), None),
    "cdata with tags": (repeated(b"<a><![CDATA[", b"<b>'", b"]]></a>"), None),
    "cdata without ends": (repeated(b"<a><![CDATA[", b"]", b"]]></a>"), None),
    "much cdata": (repeated(b"<a>", b"<![CDATA[}]]>", b"</a>"), None),
    "long namespace": (long_namespace, POLICY),
    "many namespaces": (numbered(b"<a", b" xmlns:p%d='u'", b"/>"), None),
    "many attributes": (numbered(b"<a", b" b%d='u'", b"/>"), POLICY),
}
READS = {"whole": 1 << 20, "of 1,400 bytes": 1400, "of 13 bytes": 13}
FEWER = 4  # of the smallest, with which the calls are most of the work


def ready_gear(chunks: list[bytes]) -> tuple[int, str | None]:
    """How many elements came, and the stream error."""
    parser = client()
    count = 0
    for chunk in chunks:
        count += len(parser.feed(chunk))
        assert parser.unusual or not parser.begun  # a connection asks for it at such a read
    return count, None if parser.failure is None else parser.failure.answer


def first_gear(chunks: list[bytes]) -> tuple[int, str | None]:
    items = negotiate([HEADER, *chunks])[1:]
    if items and items[-1][0] == REFUSED:
        return len(items) - 1, str(items[-1][1])
    return len(items), None


@pytest.mark.parametrize("size", READS.values(), ids=READS)
@pytest.mark.parametrize("gear", [ready_gear, first_gear])
@pytest.mark.parametrize(("make", "answer"), SHAPES.values(), ids=SHAPES)
def test_no_bytes_cost_more_than_their_number(
    make: Callable[[int], bytes], answer: str | None, gear: Callable[[list[bytes]], tuple[int, str | None]], size: int
) -> None:
    data = make(SIZE if size > 13 else SIZE // FEWER)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    before = time.process_time()
    count, failed = gear(chunks)
    assert time.process_time() - before < CEILING
    assert failed == answer
    assert (count > 0) is (answer is None)


@pytest.mark.parametrize(("make", "answer"), SHAPES.values(), ids=SHAPES)
def test_nor_does_a_document(make: Callable[[int], bytes], answer: str | None) -> None:
    data = b"<all>" + make(SIZE) + b"</all>"
    before = time.process_time()
    if answer is None or make is SHAPES["many attributes"][0]:  # a document has no bound on them
        assert len(from_bytes(data)) > 0
    else:
        with pytest.raises(ParseError):
            from_bytes(data)
    assert time.process_time() - before < CEILING


def test_a_read_for_each_child_costs_no_more_than_the_children() -> None:
    parser = client()
    before = time.process_time()
    parser.feed(b"<a>")
    for number in range(10_000):
        assert parser.feed(b"<b c='%d'/>" % number) == []
        assert parser.begun == "<a>"
    (whole,) = parser.feed(b"</a>")
    assert time.process_time() - before < CEILING
    assert len(whole) == 10_000


@pytest.mark.parametrize("before", [b"<a>" + b"x" * 200_000, b"<" + b"a" * 200_000 + b">x", b"<a b='" + b"x" * 200_000])
def test_to_ask_what_has_begun_costs_the_same_however_much_is_held(before: bytes) -> None:
    parser = client()
    parser.feed(before)
    begun = time.process_time()
    for _ in range(20_000):
        parser.feed(b"x")
        assert parser.begun.startswith("<a")
    assert time.process_time() - begun < CEILING


@pytest.mark.parametrize("due", [False, True], ids=["at first", "where a new parser is due"])
def test_the_depth_of_an_open_element_is_looked_at_where_twice_as_many_elements_came(
    due: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[int] = []

    def counting(node: Node, max_depth: int) -> bool:
        walked.append(sum(1 for _ in node.iter()))
        return False

    monkeypatch.setattr(ready, "too_deep", counting)
    if due:
        monkeypatch.setattr(ready, "REPRIME_BYTES", 0)
    parser = client(Limits(max_depth=4))
    for _ in range(2):  # each element by itself
        del walked[:]
        parser.feed(b"<a>")
        for _ in range(99):
            parser.feed(b"<b/>")
        assert walked == [5, 10, 20, 40, 80]
        assert len(parser.feed(b"</a>")) == 1
        assert walked == [5, 10, 20, 40, 80, 100]  # and at its end, whatever came before


def test_elements_are_counted_at_each_read() -> None:
    parser = client(Limits(max_elements=100))
    parser.feed(b"<a>")
    for _ in range(99):
        parser.feed(b"<b/>")
        assert parser.failure is None
    parser.feed(b"<b/>")
    assert parser.failure is not None
    assert parser.failure.came == "> 100 elements"


# ---- namespaces


def of(size: int) -> str:
    return "u" * size


LONGEST = of(MAX_NAMESPACE_BYTES)
ONE_MORE = of(MAX_NAMESPACE_BYTES + 1)
ESCAPED = of(MAX_NAMESPACE_BYTES - 5) + "&amp;"
WIDE = of(MAX_NAMESPACE_BYTES - 4) + "\U0001f600"

PASS = [
    ("prefix", f"<a xmlns:p='{LONGEST}'/>"),
    ("default", f'<a xmlns = "{LONGEST}"/>'),
    ("two", f"<a xmlns:p='{LONGEST}' xmlns:q='{LONGEST[:-1]}v'/>"),
    ("escaped", f"<a xmlns:p='{ESCAPED}'/>"),
    ("of four bytes", f"<a xmlns:p='{WIDE}'/>"),
    ("value of another attribute", f"<a b='{ONE_MORE}' xmlnsx='{ONE_MORE}' xmlns='u' xml:lang='{ONE_MORE}'/>"),
    ("in a value", f"<a b=\" xmlns='{ONE_MORE}'\"/>"),
    ("as text", f"<a> xmlns='{ONE_MORE}' </a>"),
    ("in cdata", f"<a><![CDATA[<b xmlns='{ONE_MORE}'/>]]></a>"),
    ("in cdata behind a tag", f"<a><![CDATA[ >]]><c/><![CDATA[<b xmlns='{ONE_MORE}'/>]]></a>"),
]
FAIL = [
    ("prefix", f"<a xmlns:p='{ONE_MORE}'/>"),
    ("default", f'<a xmlns = "{ONE_MORE}"/>'),
    ("behind others", f"<a b='c' xmlns:p='u' xmlns:q='{ONE_MORE}'/>"),
    ("behind a value", f"<a b=\" xmlns='{ONE_MORE}'\" c='' xmlns='{ONE_MORE}'/>"),
    ("inside", f"<a>it's text<b xmlns='{ONE_MORE}'/></a>"),
    ("behind cdata", f"<a><![CDATA[ > ']]>x<b xmlns='{ONE_MORE}'/></a>"),
    ("escaped", f"<a xmlns:p='x{ESCAPED}'/>"),
    ("of four bytes", f"<a xmlns:p='x{WIDE}'/>"),
    ("much longer", f"<a xmlns:p='{of(9000)}'>"),
]
ELEMENT = b"<e>f</e>"


def read_client(chunks: list[bytes]) -> list[Shape]:
    return read_ready(client(), chunks)


@pytest.mark.parametrize("text", [row[1] for row in PASS], ids=[row[0] for row in PASS])
def test_a_namespace_as_long_as_may_be_passes(text: str) -> None:
    data = ELEMENT + text.encode() + ELEMENT
    read = same_in_pieces(read_client, data)
    assert [len(read), REFUSED in (item[0] for item in read)] == [3, False]
    assert same_in_pieces(lambda chunks: negotiate([HEADER, *chunks]), data)[1:] == read
    assert element(from_bytes(text)) == element(node(text))


@pytest.mark.parametrize("text", [row[1] for row in FAIL], ids=[row[0] for row in FAIL])
def test_a_namespace_one_byte_longer_does_not_and_what_came_before_it_is_whole(text: str) -> None:
    data = ELEMENT + text.encode() + ELEMENT
    read = same_in_pieces(read_client, data)
    assert read == [(f"{{{CLIENT}}}e", {}, "f", [], ""), (REFUSED, POLICY)]
    assert same_in_pieces(lambda chunks: negotiate([HEADER, *chunks]), data)[1:] == read
    with pytest.raises(ParseError, match="namespace of more than 512 bytes"):
        from_bytes(text)


def test_nothing_of_a_namespace_that_is_too_long_reaches_expat() -> None:
    """Else a hundred kilobytes would take some hundred megabytes."""
    data = long_namespace(100_000)
    tracemalloc.start()
    try:
        assert client().feed(data) == []
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def declared(count: int, longest: str) -> bytes:
    """A header with so many namespaces, two of which it must have."""
    more = "".join(f" xmlns:p{number}='u'" for number in range(count - 3))
    return HEADER[:-1] + f"{more} xmlns:last='{longest}'>".encode()


def test_a_header_may_declare_so_many_namespaces_of_such_a_length_and_none_more() -> None:
    (header,) = same_in_pieces(negotiate, declared(MAX_NAMESPACES, LONGEST))
    namespaces = header[2]
    assert isinstance(namespaces, dict)
    assert len(namespaces) == MAX_NAMESPACES
    for refused in (declared(MAX_NAMESPACES + 1, "u"), declared(3, ONE_MORE)):
        assert same_in_pieces(negotiate, refused) == [(REFUSED, POLICY)]
    inside = declared(MAX_NAMESPACES + 1, "u").replace(b"stream:stream", b"a", 1)[:-1] + b"/>"
    assert len(same_in_pieces(lambda chunks: negotiate([HEADER, *chunks]), inside)) == 2  # of an element there may be


def test_small_pieces_that_are_held_take_little_more_than_their_bytes() -> None:
    parser = client()
    parser.feed(b"<a b='")

    def pieces() -> Iterator[bytes]:
        for number in range(50_000):
            yield b"%02d" % (number % 100)

    tracemalloc.start()
    try:
        for piece in pieces():
            parser.feed(piece)
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
    (whole,) = parser.feed(b"'/>")
    assert whole.get("b") == b"".join(pieces()).decode()
