"""What is no XML, or no XML of a stream: one row per case, with the stream error that says so (RFC 6120 4.9.3)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcj.errors import ProtocolError
from pcj.namespaces import STREAMS
from pcj.serialize import escape_value
from pcj.xmlstream import Limits, NegotiatingParser, ReadyParser
from pcj.xmlstream.limits import quoted
from tests.core.pieces import Shape, in_pieces, negotiate, node, read_ready, same_in_pieces, shape

HEADER = f"<stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' xmlns:x='urn:x'>".encode()
LIMITS = Limits(max_bytes=2000, max_depth=20, max_elements=50)
SMALL = Limits(max_bytes=300, max_depth=5, max_elements=10, max_attributes=4)

MALFORMED, RESTRICTED, FORMAT = "not-well-formed", "restricted-xml", "bad-format"
PREFIX = "bad-namespace-prefix"
ENCODING, NAMESPACE, POLICY = "unsupported-encoding", "invalid-namespace", "policy-violation"

LAUGHS = b"<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;&b;&b;&b;'>]>"

BEFORE_THE_HEADER: list[tuple[str, bytes, str | None]] = [
    # X01, X02, X03
    ("doctype", b"<!DOCTYPE stream>" + HEADER, RESTRICTED),
    ("doctype behind the declaration", b"<?xml version='1.0'?>\n<!DOCTYPE stream>" + HEADER, RESTRICTED),
    ("internal subset", b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + HEADER, RESTRICTED),
    ("external subset", b"<!DOCTYPE a SYSTEM 'http://example.org/a.dtd'>" + HEADER, RESTRICTED),
    ("parameter entity", b"<!DOCTYPE a [<!ENTITY % b SYSTEM 'file:///etc/passwd'>%b;]>" + HEADER, RESTRICTED),
    ("predefined entity", b"<!DOCTYPE a [<!ENTITY lt 'x'>]>" + HEADER, RESTRICTED),
    ("billion laughs", LAUGHS + HEADER, RESTRICTED),
    ("lower case", b"<!doctype stream>" + HEADER, RESTRICTED),
    ("comment", b"<!-- it's -->" + HEADER, RESTRICTED),
    ("comment with a tag", b"<!-- <a> -->" + HEADER, RESTRICTED),
    ("processing instruction", b"<?foo bar?>" + HEADER, RESTRICTED),
    ("style sheet", b"<?xml-stylesheet href='a'?>" + HEADER, RESTRICTED),
    ("cdata", b"<![CDATA[ ]]>" + HEADER, RESTRICTED),
    # X12, X13
    ("utf-16 declared", b"<?xml version='1.0' encoding='UTF-16'?>" + HEADER, ENCODING),
    ("latin-1 declared", b"<?xml version='1.0' encoding='ISO-8859-1'?>" + HEADER, ENCODING),
    ("utf-7 declared", b"<?xml version='1.0' encoding='UTF-7'?>" + HEADER, ENCODING),
    ("ascii declared", b'<?xml version="1.0" encoding="US-ASCII"?>' + HEADER, ENCODING),
    ("unknown encoding declared", b"<?xml version='1.0' encoding='x-none'?>" + HEADER, ENCODING),
    ("xml 1.1", b"<?xml version='1.1'?>" + HEADER, MALFORMED),
    ("no version", b"<?xml encoding='UTF-8'?>" + HEADER, MALFORMED),
    ("declaration of nothing", b"<?xml ?>" + HEADER, MALFORMED),
    ("declaration with nonsense", b"<?xml version='1.0' foo='bar'?>" + HEADER, MALFORMED),
    ("declaration without quotes", b"<?xml version=1.0?>" + HEADER, MALFORMED),
    ("standalone perhaps", b"<?xml version='1.0' standalone='perhaps'?>" + HEADER, MALFORMED),
    ("two declarations", b"<?xml version='1.0'?><?xml version='1.0'?>" + HEADER, MALFORMED),
    ("utf-16 mark, little", HEADER.decode().encode("utf-16"), ENCODING),
    ("utf-16 mark, big", b"\xfe\xff" + HEADER.decode().encode("utf-16-be"), ENCODING),
    ("utf-16, little", HEADER.decode().encode("utf-16-le"), ENCODING),
    ("utf-16, big", HEADER.decode().encode("utf-16-be"), ENCODING),
    ("utf-32", HEADER.decode().encode("utf-32-le"), ENCODING),
    ("utf-8 mark", b"\xef\xbb\xbf" + HEADER, MALFORMED),
    # X06, X07
    ("another stream namespace", b"<stream:stream xmlns='jabber:client' xmlns:stream='urn:x'>", NAMESPACE),
    ("no stream namespace", b"<stream>", NAMESPACE),
    ("stream without its prefix", f"<stream xmlns='jabber:client' xmlns:stream='{STREAMS}'>".encode(), PREFIX),
    ("another's prefix", f"<x:stream xmlns:x='u' xmlns:stream='{STREAMS}'>".encode(), PREFIX),
    ("an error in place of a stream", f"<e:error xmlns:e='{STREAMS}'>".encode(), None),
    ("stream in the content namespace", b"<stream xmlns='jabber:client'>", NAMESPACE),
    ("prefix undeclared", b"<stream:stream xmlns='jabber:client'>", MALFORMED),
    ("another element", b"<html>", FORMAT),
    ("another element of the namespace", f"<features xmlns='{STREAMS}'>".encode(), FORMAT),
    ("end tag", b"</stream:stream>", MALFORMED),
    # what is no XMPP at all
    ("ssh", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", MALFORMED),
    ("http", b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>", MALFORMED),
    ("smtp", b"220 mail.example.org ESMTP\r\n", MALFORMED),
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01", MALFORMED),
    ("nothing but nul", b"\x00\x00\x00\x00", ENCODING),
    ("bracket and nonsense", b"< stream>", MALFORMED),
    # X15
    ("endless header", b"<stream:stream a='" + b"x" * 2000, POLICY),
    ("endless declaration", b"<?xml version='1.0' " + b"x" * 2000, POLICY),
    ("header of more attributes than may be", b"<s" + b"".join(b" a%d=''" % n for n in range(257)) + b">", POLICY),
    ("header of many attributes", b"<s" + b"".join(b" a%d='x'" % n for n in range(300)) + b">", POLICY),
]


@pytest.mark.parametrize(
    ("data", "answer"), [row[1:] for row in BEFORE_THE_HEADER], ids=[r[0] for r in BEFORE_THE_HEADER]
)
def test_before_the_header(data: bytes, answer: str | None) -> None:
    assert same_in_pieces(lambda chunks: negotiate(chunks, LIMITS), data) == [("failure", answer)]


HEADERS = [
    ("plain", HEADER),
    ("declaration", b"<?xml version='1.0'?>" + HEADER),
    ("white space before it", b"\r\n\t <?xml version='1.0'?>\n\n" + HEADER),
    ("utf-8", b"<?xml version='1.0' encoding='UTF-8'?>" + HEADER),
    ("utf-8 in odd case", b'<?xml version = "1.0" encoding = "uTf-8" ?>' + HEADER),
    ("standalone", b"<?xml version='1.0' encoding='utf-8' standalone='yes'?>" + HEADER),
    ("another prefix", f"<s:stream xmlns='jabber:client' xmlns:s='{STREAMS}'>".encode()),
    ("stream bound elsewhere", f"<s:stream xmlns:s='{STREAMS}' xmlns:stream='urn:x'>".encode()),
    ("as default namespace", f"<stream xmlns='{STREAMS}'>".encode()),
    ("bracket in a value", HEADER[:-1] + b" from='a>b' id=\"/>\">"),
]


@pytest.mark.parametrize("header", [row[1] for row in HEADERS], ids=[row[0] for row in HEADERS])
def test_a_header_that_is_one(header: bytes) -> None:
    (item,) = same_in_pieces(lambda chunks: negotiate(chunks, LIMITS), header)
    assert item[0] == "header"


IN_THE_STREAM = [
    # X01, X02, X03
    ("doctype", b"<!DOCTYPE a><b/>", 0, RESTRICTED),
    ("doctype behind an element", b"<a/><!DOCTYPE a [<!ENTITY b 'c'>]><c/>", 1, RESTRICTED),
    ("doctype in an element", b"<a><!DOCTYPE a></a>", 0, RESTRICTED),
    ("undeclared entity", b"<a>&b;</a>", 0, RESTRICTED),
    ("undeclared entity in a value", b"<a b='&c;'/>", 0, RESTRICTED),
    ("html's entity", b"<a>&nbsp;</a>", 0, RESTRICTED),
    ("ampersand", b"<a>b & c</a>", 0, MALFORMED),
    ("comment between", b"<a/><!-- b --><c/>", 1, RESTRICTED),
    ("comment with an apostrophe", b"<a/><!-- it's --><c/>", 1, RESTRICTED),
    ("comment with a tag", b"<a/><!-- <b> --><c/>", 1, RESTRICTED),
    ("comment in an element", b"<a>x<!-- b -->y</a>", 0, RESTRICTED),
    ("instruction between", b"<a/><?b c?><d/>", 1, RESTRICTED),
    ("instruction in an element", b"<a><?b c?></a>", 0, RESTRICTED),
    ("declaration between", b"<a/><?xml version='1.0'?><b/>", 1, MALFORMED),
    ("declaration in an element", b"<a><?xml version='1.0'?></a>", 0, MALFORMED),
    ("comment in a tag", b"<a <!-- b --> ></a>", 0, MALFORMED),
    # X05
    ("undeclared prefix", b"<a/><p:b/>", 1, MALFORMED),
    ("undeclared prefix inside", b"<a><p:b/></a>", 0, MALFORMED),
    ("undeclared prefix of an attribute", b"<a p:b='c'/>", 0, MALFORMED),
    ("prefix undeclared again", b"<a xmlns:p=''/>", 0, MALFORMED),
    ("xml bound elsewhere", b"<a xmlns:xml='u'/>", 0, MALFORMED),
    ("xmlns bound", b"<a xmlns:xmlns='u'/>", 0, MALFORMED),
    ("xml's namespace bound", b"<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>", 0, MALFORMED),
    ("xmlns' namespace bound", b"<a xmlns='http://www.w3.org/2000/xmlns/'/>", 0, MALFORMED),
    ("attribute twice", b"<a b='c' b='d'/>", 0, MALFORMED),
    ("attribute twice by namespace", b"<a xmlns:p='u' xmlns:q='u' p:b='c' q:b='d'/>", 0, MALFORMED),
    ("two colons", b"<a:b:c xmlns:a='u'/>", 0, MALFORMED),
    # X08
    ("stream in the stream", HEADER, 0, FORMAT),
    ("stream behind an element", b"<a/>" + HEADER + b"<b/>", 1, FORMAT),
    ("stream that is complete", HEADER + b"</stream:stream>", 0, FORMAT),
    ("declaration and stream", b"<?xml version='1.0'?>" + HEADER, 0, MALFORMED),
    # X11
    ("text before", b"x<a/>", 0, FORMAT),
    ("text between", b"<a/>x<b/>", 1, FORMAT),
    ("text behind", b"<a/>x</stream:stream>", 1, FORMAT),
    ("bracket between", b"<a/> > <b/>", 1, FORMAT),
    ("cdata between", b"<a/><![CDATA[x]]><b/>", 1, FORMAT),
    ("reference between", b"<a/>&#65;<b/>", 1, FORMAT),
    ("no-break space between", "<a/>\u00a0<b/>".encode(), 1, FORMAT),
    ("wide space between", "<a/>\u3000<b/>".encode(), 1, FORMAT),
    ("next line between", "<a/>\u0085<b/>".encode(), 1, FORMAT),
    ("byte order mark between", "<a/>\ufeff<b/>".encode(), 1, FORMAT),
    ("form feed between", b"<a/>\x0c<b/>", 1, MALFORMED),
    ("vertical tab between", b"<a/>\x0b<b/>", 1, MALFORMED),
    ("nul", b"<a>\x00</a>", 0, MALFORMED),
    ("nul between", b"<a/>\x00<b/>", 1, MALFORMED),
    ("escape", b"<a>\x1b[31m</a>", 0, MALFORMED),
    ("U+FFFE", b"<a>\xef\xbf\xbe</a>", 0, MALFORMED),
    ("U+FFFF", b"<a>\xef\xbf\xbf</a>", 0, MALFORMED),
    ("surrogates, as CESU-8", b"<a>\xed\xa0\xbd\xed\xb8\x80</a>", 0, MALFORMED),
    ("lone surrogate", b"<a>\xed\xa0\xbd</a>", 0, MALFORMED),
    ("overlong", b"<a>\xc0\xbc</a>", 0, MALFORMED),
    ("overlong of three", b"<a>\xe0\x80\xbc</a>", 0, MALFORMED),
    ("beyond unicode", b"<a>\xf4\x90\x80\x80</a>", 0, MALFORMED),
    ("latin-1", b"<a>\xe9</a>", 0, MALFORMED),
    ("latin-1 in a value", b"<a b='\xe9'/>", 0, MALFORMED),
    ("utf-8 cut short", b"<a>\xe2\x82</a>", 0, MALFORMED),
    ("nul by reference", b"<a>&#0;</a>", 0, MALFORMED),
    ("escape by reference", b"<a>&#x1b;</a>", 0, MALFORMED),
    ("surrogate by reference", b"<a>&#xD800;</a>", 0, MALFORMED),
    ("U+FFFE by reference", b"<a>&#xFFFE;</a>", 0, MALFORMED),
    ("beyond unicode by reference", b"<a>&#x110000;</a>", 0, MALFORMED),
    ("cdata's end in text", b"<a>]]></a>", 0, MALFORMED),
    # and the rest of what is not well-formed
    ("wrong end tag", b"<a></b>", 0, MALFORMED),
    ("end tag too many", b"<a></a></a>", 1, MALFORMED),
    ("tag in a value", b"<a b='<c>'/>", 0, MALFORMED),
    ("attribute without quotes", b"<a b=c/>", 0, MALFORMED),
    ("attribute without a value", b"<a b/>", 0, MALFORMED),
    ("space before a name", b"<a/>< b/>", 1, MALFORMED),
]


def ready(chunks: list[bytes], limits: Limits = LIMITS) -> list[Shape]:
    parser = ReadyParser({"": "jabber:client", "stream": STREAMS, "x": "urn:x"}, "jabber:client", limits)
    return read_ready(parser, chunks)


@pytest.mark.parametrize(
    ("data", "before", "answer"), [row[1:] for row in IN_THE_STREAM], ids=[row[0] for row in IN_THE_STREAM]
)
def test_in_the_stream(data: bytes, before: int, answer: str) -> None:
    # Some versions of expat look at what is no tag only when there is more (see `pull_parser`).
    data += b"<z/>" * 20
    header, *negotiated = same_in_pieces(lambda chunks: negotiate([HEADER, *chunks], LIMITS), data)
    assert header[0] == "header"
    read = same_in_pieces(ready, data)
    assert read == negotiated
    assert len(read) == before + 1
    assert read[-1] == ("failure", answer)


@pytest.mark.parametrize(
    ("data", "reason", "quotes"),
    [
        (b"<a></b>", "mismatched tag", "b>"),
        (b"<a>&nbsp;</a>", "undefined entity", "&nbsp;</a>"),
        (b"<a b='1' b='2'/>", "duplicate attribute", "b='2'/>"),
        (b"<p:a/>", "unbound prefix", "<p:a/>"),
    ],
)
def test_at_ready_the_error_quotes_from_the_fault_on_and_nothing_of_innocent_stanzas(
    data: bytes, reason: str, quotes: str
) -> None:
    parser = ReadyParser({"": "jabber:client", "stream": STREAMS}, "jabber:client", LIMITS)
    (whole,) = parser.feed(b"<message><body>a secret</body></message>" + data)
    assert whole.findtext("{jabber:client}body") == "a secret"
    assert parser.failure is not None
    assert str(parser.failure) == f"the peer sent what is not well-formed XML ({reason}), at {quoted(quotes.encode())}"
    assert (parser.failure.expected, parser.failure.came) == ("well-formed XML", quoted(quotes.encode()))


@pytest.mark.parametrize("pieces", [(b"<a><b>", b"a secret</b>&c;</a>"), (b"<a><b>a secret", b"</b>&c;", b"</a>")])
def test_at_ready_the_fault_is_found_inside_an_element_that_began_before(pieces: tuple[bytes, ...]) -> None:
    parser = ReadyParser({"": "jabber:client", "stream": STREAMS}, "jabber:client", LIMITS)
    for piece in pieces:
        parser.feed(piece)
    assert parser.failure is not None
    assert parser.failure.came.startswith("'&c;")


def test_at_ready_a_fault_that_is_not_to_be_seen_by_itself_is_named_alone() -> None:
    parser = ReadyParser({"": "jabber:client", "stream": STREAMS}, "jabber:client", LIMITS)
    parser.feed(b"<a>")
    parser.feed(b"a secret</b>")
    assert parser.failure is not None
    assert str(parser.failure) == "the peer sent what is not well-formed XML (mismatched tag)"
    assert parser.failure.came == "mismatched tag"


def test_before_ready_the_error_quotes_its_small_piece() -> None:
    parser = NegotiatingParser(LIMITS)
    parser.feed(HEADER)
    parser.next()
    parser.feed(b"<a></b>")
    with pytest.raises(ProtocolError, match=r"\(mismatched tag: line 1, .*, in '</b>'"):
        parser.next()


ELEMENT = b"<a b='c'><d>e</d></a>"


def of_bytes(size: int, form: str) -> bytes:
    """One element of exactly so many bytes."""
    match form:
        case "text":
            return b"<a>" + b"x" * (size - 7) + b"</a>"
        case "children":
            return b"<a>" + b"<b/>" * 5 + b"x" * (size - 27) + b"</a>"
        case "attribute":
            return b"<a b='" + b"x" * (size - 9) + b"'/>"
        case "name":
            return b"<" + b"x" * (size - 3) + b"/>"
        case "namespace":
            return b"<a xmlns='" + b"x" * (size - 13) + b"'/>"
        case "white space":
            return b"<a>" + b" " * (size - 7) + b"</a>"
        case "brackets":
            return b"<a b='" + b">" * (size - 9) + b"'/>"
        case "cdata":
            return b"<a><![CDATA[" + b"<b>'" * ((size - 19) // 4) + b"y" * ((size - 19) % 4) + b"]]></a>"
    raise AssertionError(form)


FORMS = ["text", "children", "attribute", "name", "namespace", "white space", "brackets", "cdata"]
AROUND = [(b"", b""), (ELEMENT, b""), (b"", ELEMENT), (b"  \n" + ELEMENT * 3 + b" \n", b"\n" + ELEMENT)]


@pytest.mark.parametrize(("before", "behind"), AROUND, ids=range(len(AROUND)))
@pytest.mark.parametrize("form", FORMS)
def test_the_bound_of_bytes_is_exact(form: str, before: bytes, behind: bytes) -> None:
    for size, passes in ((SMALL.max_bytes, True), (SMALL.max_bytes + 1, False), (SMALL.max_bytes * 3, False)):
        element = of_bytes(size, form)
        assert len(element) == size
        data = before + element + behind
        whole = len(before) // len(ELEMENT)
        expected = whole + 1 + (1 if behind else 0) if passes else whole + 1
        ways = in_pieces(data) + [[data[at : at + step] for at in range(0, len(data), step)] for step in (7, 64, 290)]
        for chunks in ways:
            read = ready(chunks, SMALL)
            assert len(read) == expected
            assert (read[-1] == ("failure", POLICY)) is not passes
            negotiated = negotiate([HEADER, *chunks], SMALL)[1:]
            assert negotiated == read


def chain(levels: int) -> bytes:
    return b"<a>" * levels + b"</a>" * levels


WIDE = b"<a>x<b c='' d='' e='' f='' g=''/></a>"
BOUNDS = [
    ("depth", chain(SMALL.max_depth), chain(SMALL.max_depth + 1)),
    ("elements", b"<a>" + b"<b/>" * 9 + b"</a>", b"<a>" + b"<b/>" * 10 + b"</a>"),
    ("attributes", b"<a b='' c='' d='' e=''/>", b"<a b='' c='' d='' e='' f=''/>"),
    ("attributes inside", b"<a><b c='' d='' e='' f=''/></a>", b"<a><b c='' d='' e='' f='' g=''/></a>"),
    ("attributes of two", b"<a b='' c='' d=''><e f='' g='' h=''/></a>", b"<a><b><c d='' e='' f='' g='' h=''/></b></a>"),
    ("attributes with a prefix", b"<a x:b='' x:c='' x:d='' e=''/>", b"<a x:b='' x:c='' x:d='' e='' f=''/>"),
    ("long attributes", b"<a b='>>>' c='\"' d='====' e='a=\"b\"'/>", b"<a b='>>>' c='\"' d='====' e='a=\"b\"' f='>'/>"),
    (
        "namespaces are none",
        b"<a xmlns:b='u' xmlns:c='u' xmlns='u' d='' e='' f='' g=''/>",
        b"<a><b c='' d='' e='' f='' g=''/></a>",
    ),
    ("what looks like attributes", b"<a>b='' c='' d='' e='' f='' g=''</a>", b"<a b='' c='' d='' e='' f=''></a>"),
    (
        "cdata like attributes",
        b"<a><![CDATA[<b c='' d='' e='' f='' g=''>]]></a>",
        b"<a>x<b c='' d='' e='' f='' g=''/></a>",
    ),
    ("depth of an early branch", b"<a>" + chain(4) + b"<b/></a>", b"<a>" + chain(5) + b"<b/></a>"),
]


@pytest.mark.parametrize(("passes", "fails"), [row[1:] for row in BOUNDS], ids=[row[0] for row in BOUNDS])
def test_the_bounds_of_depth_and_number_are_exact(passes: bytes, fails: bytes) -> None:
    data = ELEMENT + passes + passes
    assert len(same_in_pieces(lambda chunks: ready(chunks, SMALL), data)) == 3
    assert len(same_in_pieces(lambda chunks: negotiate([HEADER, *chunks], SMALL), data)) == 4
    data = ELEMENT + passes + fails + ELEMENT
    read = same_in_pieces(lambda chunks: ready(chunks, SMALL), data)
    assert read[2:] == [("failure", POLICY)]
    assert same_in_pieces(lambda chunks: negotiate([HEADER, *chunks], SMALL), data)[1:] == read


def test_the_bound_of_elements_holds_below_that_of_depth() -> None:
    limits = Limits(max_elements=3, max_depth=256)
    assert ready([b"<a><b/><c/></a>"], limits)[0][0] == "{jabber:client}a"
    assert ready([b"<a><b/><c/><d/></a>"], limits) == [("failure", POLICY)]


def test_the_default_number_of_attributes() -> None:
    for count, passes in ((256, True), (257, False)):
        element = b"<a" + b"".join(b" a%d=''" % number for number in range(count)) + b"/>"
        for around in (b"", ELEMENT * 100):
            read = ready([around + element + ELEMENT], Limits())
            assert (read[-1] == ("failure", POLICY)) is not passes
            assert len(read) == len(around) // len(ELEMENT) + (2 if passes else 1)
            assert negotiate([HEADER, around + element + ELEMENT], Limits())[1:] == read


@settings(max_examples=300, deadline=None)
@given(
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=8),
    text=st.text("<>='\" ab/", max_size=60),
    size=st.integers(1, 400),
)
def test_no_element_with_too_many_attributes_passes_and_no_other_fails(counts: list[int], text: str, size: int) -> None:
    """The tags that can have too many are found by their length; here by counting."""
    quoted_text = escape_value(text)
    data = b"".join(
        b"<a" + b"".join(f' a{number}="{quoted_text}"'.encode() for number in range(count)) + b"/>" for count in counts
    )
    limits = Limits(max_attributes=4)
    too_wide = [index for index, count in enumerate(counts) if count > 4]
    read = ready([data[at : at + size] for at in range(0, len(data), size)], limits)
    assert len(read) == (too_wide[0] + 1 if too_wide else len(counts))
    assert (read[-1] == ("failure", POLICY)) is bool(too_wide)


@pytest.mark.parametrize("levels", [256, 257])
def test_the_default_depth(levels: int) -> None:
    passes = levels <= Limits().max_depth
    for read in (ready([chain(levels)], Limits()), negotiate([HEADER, chain(levels)], Limits())[1:]):
        assert (read == [("failure", POLICY)]) is not passes


def test_an_element_that_never_ends_is_refused_before_it_is_complete() -> None:
    assert ready([b"<a>"] * 100, SMALL) == [("failure", POLICY)]
    assert ready([b"<a>", *[b"<b/>"] * 100], SMALL) == [("failure", POLICY)]
    assert ready([b"<a>", *[b"x"] * 400], SMALL) == [("failure", POLICY)]
    assert ready([b"<a b='", *[b"x"] * 400], SMALL) == [("failure", POLICY)]


CLOSED = [
    (b"</stream:stream>", 0),
    (b"<a/> </stream:stream>", 1),
    (b"<a/></stream:stream><b/>", 1),
    (b"<a/></stream:stream>" + HEADER + b"<b/>", 1),
    (b"<a/></stream:stream> x &", 1),
    (b"<a/></stream:stream\n>", 1),
]


@pytest.mark.parametrize(("data", "before"), CLOSED)
def test_nothing_is_read_behind_the_closing_tag(data: bytes, before: int) -> None:
    """X21."""
    read = same_in_pieces(ready, data)
    assert read[before:] == [("StreamClosed()",)]
    assert same_in_pieces(lambda chunks: negotiate([HEADER, *chunks], LIMITS), data)[1:] == read


@pytest.mark.parametrize("begun", [b"<!-- >", b"<!-- <", b"<? <", b"<!DOCTYPE a [<", b"<m x='<"])
@pytest.mark.parametrize("before", [b"", b"<b/>", b"<a>", b"<a>text"])
def test_what_is_forbidden_is_refused_where_it_begins_not_where_it_ends(before: bytes, begun: bytes) -> None:
    # Expat keeps a token that is not complete, however long, and reads it anew with each piece.
    parser = ReadyParser({"": "jabber:client", "stream": STREAMS}, "jabber:client")
    for piece in (before, begun, b"<c>"):
        parser.feed(piece)
    assert parser.failure is not None
    assert negotiate([HEADER, before, begun, b"<c>"])[-1][0] == "failure"


def test_what_stands_behind_the_end_is_not_looked_at() -> None:
    assert ready([b"</stream:stream><!-- <"]) == [("StreamClosed()",)]
    assert ready([b"<a/></stream:stream><b c='<"])[1:] == [("StreamClosed()",)]


TEXTS = (("a", " &gt; &lt;!-- "), ("b", "&lt;? &gt;&lt;c xmlns='}'&gt;"))


def test_in_cdata_nothing_is_forbidden_however_it_is_cut() -> None:
    data = b"<a><![CDATA[ <!-- > <? > ]] <![CDATA[ ]]><b/><![CDATA[]]>&lt;!--<d><![CDATA[' ]]> <e/></d></a><c/>"
    expected = [
        shape(node("<a xmlns='jabber:client'><![CDATA[ <!-- > <? > ]] <![CDATA[ ]]><b/>&lt;!--<d>'  <e/></d></a>"))
    ]
    expected.append(shape(node("<c xmlns='jabber:client'/>")))
    assert same_in_pieces(ready, data) == expected
    assert same_in_pieces(lambda chunks: negotiate([HEADER, *chunks]), data)[1:] == expected
    pieces = [b"<a><![CDATA[ >", b" <!-- ]]></a><b>", b"<![CDATA[<? >", b"<c xmlns='}'>]]>", b"</b>"]
    expected = [shape(node(f"<{name} xmlns='jabber:client'>{text}</{name}>")) for name, text in TEXTS]
    assert ready(pieces) == negotiate([HEADER, *pieces])[1:] == expected
