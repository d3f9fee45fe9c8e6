"""The first gear: item by item, and the bytes behind each still unparsed."""

from __future__ import annotations

import pytest

from pcj.errors import ProtocolError
from pcj.namespaces import SASL, STREAMS, TLS
from pcj.stanza import Node
from pcj.xmlstream import Limits, NegotiatingParser, StreamClosed, StreamHeader
from tests.core.pieces import TAIL, element, in_pieces, negotiate, node, same_in_pieces

HEADER = (
    f"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' xmlns:x='urn:x' "
    "id='a&gt;b' from='example.org' version='1.0' xml:lang='en'>"
).encode()
FEATURES = f"<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>".encode()


def test_a_negotiation() -> None:
    data = HEADER + FEATURES + f"<proceed xmlns='{TLS}'/>".encode()
    header, features, proceed = same_in_pieces(negotiate, data)
    assert header == (
        "header",
        {
            "id": "a>b",
            "from": "example.org",
            "version": "1.0",
            "{http://www.w3.org/XML/1998/namespace}lang": "en",
        },
        {"": "jabber:client", "stream": STREAMS, "x": "urn:x"},
    )
    assert features[0] == f"{{{STREAMS}}}features"
    assert proceed == (f"{{{TLS}}}proceed", {}, "", [], "")


@pytest.mark.parametrize(
    "last",
    [
        f"<proceed xmlns='{TLS}'/>",
        f"<proceed xmlns='{TLS}'></proceed>",
        f"<success xmlns='{SASL}'>dj1ib2d1cw==</success>",
        f"<success xmlns='{SASL}' a='>' b=\"'/>'\">x > y<![CDATA[</success>]]></success >",
        f"<success xmlns='{SASL}'><![CDATA[it's]]></success>",
        f"<success xmlns='{SASL}'><![CDATA[']]></success>",
    ],
)
@pytest.mark.parametrize("tail", [TAIL, b" ' \" <", b"<a b='", b"\x16\x03\x01", b"<!DOCTYPE a>"])
def test_what_comes_behind_an_item_is_not_parsed(last: str, tail: bytes) -> None:
    for chunks in in_pieces(HEADER + last.encode(), tail):
        parser = NegotiatingParser()
        items: list[object] = []
        fed = b""
        for chunk in chunks:
            parser.feed(chunk)
            fed += chunk
            while len(items) < 2 and (item := parser.next()) is not None:
                items.append(item)
        assert isinstance(items[1], Node)
        assert element(items[1]) == element(node(last))
        behind = fed[len(HEADER) + len(last.encode()) :]
        assert parser.leftover == behind
        assert parser.take_leftover() == behind
        assert parser.leftover == b""


def test_a_restart_reads_a_new_header() -> None:
    second = HEADER.replace(b"id='", b"id='second-")
    for chunks in in_pieces(FEATURES + TAIL):
        parser = NegotiatingParser()
        for chunk in (HEADER, *chunks):
            parser.feed(chunk)
        assert isinstance(parser.next(), StreamHeader)
        assert isinstance(parser.next(), Node)
        assert parser.take_leftover() == TAIL
        parser.restart()
        parser.feed(second)
        header = parser.next()
        assert isinstance(header, StreamHeader)
        assert header.id == "second-a>b"
        assert parser.next() is None


def test_an_item_behind_the_restart_may_be_there_already() -> None:
    parser = NegotiatingParser()
    parser.feed(HEADER + FEATURES + HEADER + TAIL)
    assert isinstance(parser.next(), StreamHeader)
    assert isinstance(parser.next(), Node)
    parser.restart()
    assert isinstance(parser.next(), StreamHeader)
    tail = parser.next()
    assert isinstance(tail, Node)
    assert tail.tag == "{urn:tail}tail"


def test_a_stream_that_ends_as_it_begins() -> None:
    data = HEADER[:-1] + b"/>"
    header, closed = same_in_pieces(negotiate, data)
    assert header[0] == "header"
    assert closed == ("StreamClosed()",)


def test_there_is_nothing_behind_the_end() -> None:
    parser = NegotiatingParser()
    parser.feed(HEADER + b"</stream:stream>" + TAIL)
    assert isinstance(parser.next(), StreamHeader)
    assert isinstance(parser.next(), StreamClosed)
    assert parser.next() is None
    assert parser.leftover == TAIL


def test_a_failure_stays() -> None:
    parser = NegotiatingParser()
    parser.feed(HEADER + b"<a></b>" + TAIL)
    assert isinstance(parser.next(), StreamHeader)
    with pytest.raises(ProtocolError) as first:
        parser.next()
    with pytest.raises(ProtocolError) as second:
        parser.next()
    assert second.value is first.value


def test_what_is_inside_an_element_is_inert() -> None:
    """X09."""
    inner = f"<x:m><stream:stream/><stream:error/><success xmlns='{SASL}'/></x:m>".encode()
    items = same_in_pieces(negotiate, HEADER + inner + TAIL)
    assert [item[0] for item in items] == ["header", "{urn:x}m", "{urn:tail}tail"]


def test_white_space_between_items_means_nothing_and_stays_nowhere() -> None:
    items = same_in_pieces(negotiate, HEADER + b" \r\n" + FEATURES + b"\t\n " + TAIL + b"\n")
    assert [item[0] for item in items] == ["header", f"{{{STREAMS}}}features", "{urn:tail}tail"]
    parser = NegotiatingParser(Limits(max_bytes=1000))
    parser.feed(HEADER)
    parser.next()
    for _ in range(5000):  # more than one element could have
        parser.feed(b" ")
        assert parser.next() is None
    assert parser.leftover == b""


def test_a_node_stays_as_it_was_delivered() -> None:
    parser = NegotiatingParser()
    parser.feed(HEADER + FEATURES)
    parser.next()
    features = parser.next()
    assert isinstance(features, Node)
    before = element(features)
    parser.feed(b"  <a>")
    assert parser.next() is None
    assert element(features) == before


def test_a_long_tag_in_many_parts_is_looked_at_once() -> None:
    parser = NegotiatingParser(Limits(max_bytes=200_000))
    parser.feed(HEADER)
    parser.next()
    parser.feed(b"<a b='")
    for _ in range(100_000):  # of seconds, if each were a search from the beginning
        parser.feed(b">")
        assert parser.next() is None
    parser.feed(b"'/>")
    item = parser.next()
    assert isinstance(item, Node)
    assert len(item.get("b", "")) == 100_000


VERSIONS = [
    (None, (0, 0)),
    ("1.0", (1, 0)),
    ("1.1", (1, 1)),
    ("1.10", (1, 10)),
    ("01.0", (1, 0)),
    ("0.9", (0, 9)),
    ("2.0", (2, 0)),
    ("", (-1, 0)),
    ("1", (-1, 0)),
    ("1.", (-1, 0)),
    (".0", (-1, 0)),
    ("1.0abc", (-1, 0)),
    ("-1.0", (-1, 0)),
    ("+1.0", (-1, 0)),
    (" 1.0", (-1, 0)),
    ("1.0.0", (-1, 0)),
    ("\u0661.\u0660", (-1, 0)),
    ("1.\u00b2", (-1, 0)),
    ("99999999999", (-1, 0)),
    ("1." + "9" * 5000, (-1, 0)),
]


@pytest.mark.parametrize(("text", "version"), VERSIONS, ids=[str(text)[:12] for text, _ in VERSIONS])
def test_the_version(text: str | None, version: tuple[int, int]) -> None:
    """X24; RFC 6120 4.7.5 compares numbers, not text."""
    assert StreamHeader({} if text is None else {"version": text}).version == version


def test_what_a_header_does_not_say_is_empty() -> None:
    header = StreamHeader({})
    assert (header.id, header.content_namespace, header.namespaces) == ("", "", {})


def test_a_refusal_tells_what_came() -> None:
    parser = NegotiatingParser()
    parser.feed(b"SSH-2.0-OpenSSH_9.2\r\n")
    with pytest.raises(ProtocolError, match=r"'SSH-2.0-OpenSSH_9.2\\r\\n': this is not an XMPP stream") as caught:
        parser.next()
    assert caught.value.expected == "<stream:stream>"
    assert str(caught.value).isprintable()


def test_before_ready_no_more_comes_than_four_of_the_largest_elements() -> None:
    """Names that expat has seen, and stanzas that come early, stay until READY: so they are bounded together."""
    bound = 400
    header = f"<stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}'>".encode()
    parser = NegotiatingParser(Limits(max_bytes=bound))
    parser.feed(header)
    assert isinstance(parser.next(), StreamHeader)
    for size in (400, 400, 400, 400 - len(header)):
        parser.feed(b"<a" + b" " * (size - 4) + b"/>")
        assert parser.next() is not None
    parser.feed(b"<a/>")
    with pytest.raises(ProtocolError, match="more than 1600 bytes before the link was ready") as caught:
        parser.next()
    assert caught.value.answer == "policy-violation"
    parser = NegotiatingParser(Limits(max_bytes=bound))
    for _ in range(3):  # a new stream has a room of its own
        parser.restart()
        parser.feed(header + b"<a/>" * 300)
        assert isinstance(parser.next(), StreamHeader)
        for _ in range(300):
            assert parser.next() is not None
