"""The second gear: any chunks, the same nodes, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
import string
import tracemalloc
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pcj.namespaces import CLIENT, COMPONENT_ACCEPT, STREAMS
from pcj.serialize import serialize
from pcj.stanza import Node, message
from pcj.xmlstream import Limits, ReadyParser, ready
from tests.core.pieces import Shape, element, negotiate, node, read_ready, same_in_pieces
from tests.core.test_serialize import nodes


@pytest.fixture(params=[0, 1, 100, 1_000_000], ids=lambda bound: f"reprime={bound}")
def reprimed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A new parser at each boundary, at some, at none."""
    bound: int = request.param
    monkeypatch.setattr(ready, "REPRIME_BYTES", bound)
    return bound


def client(limits: Limits | None = None) -> ReadyParser:
    return ReadyParser({"": CLIENT, "stream": STREAMS, "x": "urn:x"}, CLIENT, limits or Limits())


def component() -> ReadyParser:
    return ReadyParser({"": COMPONENT_ACCEPT, "stream": STREAMS}, COMPONENT_ACCEPT)


def read_component(chunks: list[bytes]) -> list[Shape]:
    return read_ready(component(), chunks)


def read_client(chunks: list[bytes]) -> list[Shape]:
    return read_ready(client(), chunks)


SENT = [
    (b"<message to='a'><body>b</body></message>", "<message xmlns='jabber:client' to='a'><body>b</body></message>"),
    (b"<stream:error><x/></stream:error>", f"<e:error xmlns:e='{STREAMS}' xmlns='jabber:client'><x/></e:error>"),
    (b"<a xmlns='urn:a'><b/></a>", "<a xmlns='urn:a'><b/></a>"),
    (b"<a xmlns=''/>", "<a/>"),
    (b"<a b='>' c=\"/>'\">x > y</a>", "<a xmlns='jabber:client' b='>' c=\"/>'\">x > y</a>"),
    (b"<a><![CDATA[<b>'\"]] >&]]><![CDATA[>]]></a>", "<a xmlns='jabber:client'>&lt;b>'\"]] >&amp;></a>"),
    (b"<a>&lt;&amp;&#65;&#x1F600;\r\n</a>", "<a xmlns='jabber:client'>&lt;&amp;A\U0001f600\n</a>"),
    ("<été ø='名'>\U0001f600</été>".encode(), "<été xmlns='jabber:client' ø='名'>\U0001f600</été>"),
    (b"<message><message/></message>", "<message xmlns='jabber:client'><message/></message>"),
    (b"<a xml:lang='de'/>", "<a xmlns='jabber:client' xml:lang='de'/>"),
]


@pytest.mark.usefixtures("reprimed")
@pytest.mark.parametrize(("sent", "read"), SENT, ids=range(len(SENT)))
def test_one_element(sent: bytes, read: str) -> None:
    assert same_in_pieces(read_client, sent) == [element(node(read))]
    assert same_in_pieces(read_client, b"\n" + sent + b" " + sent + b"  ") == [element(node(read))] * 2


@pytest.mark.usefixtures("reprimed")
def test_the_prefixes_of_the_servers_header_stay_declared() -> None:
    assert same_in_pieces(read_client, b"<x:a x:b='c'/>") == [element(node("<x:a xmlns:x='urn:x' x:b='c'/>"))]


def test_a_prefix_that_hides_ours() -> None:
    parser = ReadyParser({"": CLIENT, "stream": "urn:other", "stream_": "urn:\"'<&>\n", "xml": "x"}, CLIENT)
    assert [n.tag for n in parser.feed(b"<stream:a/><stream_:b/><c/>")] == [
        "{urn:other}a",
        "{urn:\"'<&>\n}b",
        f"{{{CLIENT}}}c",
    ]


COMPONENT = [
    (b"<message><body/></message>", "<message xmlns='jabber:client'><body/></message>"),
    (  # explicit, as some servers send it: the same stanza (RFC 6120 4.8.3)
        b"<message xmlns='jabber:component:accept'><body><b/></body><x xmlns='urn:x'/></message>",
        "<message xmlns='jabber:client'><body><b/></body><x xmlns='urn:x'/></message>",
    ),
    (b"<message xmlns='jabber:client'><body/></message>", "<message xmlns='jabber:client'><body/></message>"),
    (
        b"<message><f xmlns='urn:f'><message xmlns='jabber:client'/></f></message>",
        "<message xmlns='jabber:client'><f xmlns='urn:f'><message xmlns='jabber:client'/></f></message>",
    ),
    (
        b"<message xmlns='jabber:component:accept'><f xmlns='urn:f'><m xmlns='jabber:component:accept'/></f></message>",
        "<message xmlns='jabber:client'><f xmlns='urn:f'><m xmlns='jabber:component:accept'/></f></message>",
    ),
    (b"<stream:error/>", f"<error xmlns='{STREAMS}'/>"),
]


@pytest.mark.usefixtures("reprimed")
@pytest.mark.parametrize(("sent", "read"), COMPONENT, ids=range(len(COMPONENT)))
def test_stanzas_of_component_streams_are_of_jabber_client(sent: bytes, read: str) -> None:
    assert same_in_pieces(read_component, sent + b"\n" + sent) == [element(node(read))] * 2


def test_no_content_namespace_leaves_all_as_it_is() -> None:
    parser = ReadyParser({"": "urn:router"}, "")
    assert [n.tag for n in parser.feed(b"<route/><m xmlns='jabber:component:accept'/>")] == [
        "{urn:router}route",
        "{jabber:component:accept}m",
    ]
    assert ReadyParser({"": ""}, "").feed(b"<a/>")[0].tag == "a"


@pytest.mark.usefixtures("reprimed")
def test_a_stanza_in_a_stanza_is_not_one_of_the_streams() -> None:
    sent = (
        b"<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>forged</body></message>"
        b"</forwarded></message><presence/>"
    )
    assert [item[0] for item in same_in_pieces(read_client, sent)] == [f"{{{CLIENT}}}message", f"{{{CLIENT}}}presence"]


def test_a_brace_in_a_namespace_does_not_end_the_stream() -> None:
    sent = b"<message><x xmlns='u}v'>{}</x><body>{'xmlns':'}'}</body></message>"
    expected = node("<message xmlns='jabber:client'><x xmlns='u%7Dv'>{}</x><body>{'xmlns':'}'}</body></message>")
    assert same_in_pieces(read_client, sent) == [element(expected)]


def test_a_delivered_node_is_independent() -> None:
    parser = client()
    (first,) = parser.feed(b"<a>b</a>")
    first.tail = "the user's"
    before = element(first)
    first_again = element(first)
    for chunk in (b" ", b"\n\n<b>", b"</b> ", b"x", b"<c/>"):
        parser.feed(chunk)
        assert element(first) == before == first_again
    assert parser.failure is not None
    assert element(first) == before


@pytest.mark.parametrize(
    "behind", [b" <b>", b" <b></c>", b" <!-- -->", b"x</stream:stream>", b"&#32;<b/>", b"<![CDATA[ ]]><b>"]
)
def test_nothing_that_follows_is_hung_on_a_node(behind: bytes) -> None:
    for chunks in ([b"<a/>" + behind], [b"<a/>", behind]):
        parser = client()
        delivered = [n for chunk in chunks for n in parser.feed(chunk)]
        assert [n.tail for n in delivered] == [None] * len(delivered)


def test_delivered_nodes_are_not_kept() -> None:
    parser = client()
    seen: list[weakref.ref[Node]] = []
    for _ in range(100):
        seen += [weakref.ref(n) for n in parser.feed(b"<a><b><c/></b></a>" * 3)]
    gc.collect()
    assert len(seen) == 300
    # The last one, and with it what ElementTree's stack still has of the depths below.
    assert sum(reference() is not None for reference in seen) <= 2


def traced(work: Iterator[object]) -> int:
    """How many bytes more there are behind the work than after a tenth of it."""
    tracemalloc.start()
    try:
        for _ in range(1000):
            next(work)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(9000):
            next(work)
        after, _ = tracemalloc.get_traced_memory()
        return after - before
    finally:
        tracemalloc.stop()


def fed(parser: ReadyParser, chunks: Iterable[bytes]) -> Iterator[object]:
    for chunk in chunks:
        parser.feed(chunk)
        assert parser.failure is None
        yield None


@pytest.mark.parametrize("first", [b"<a/>", b"<a></a>", b"<a/", b"<a b='>'", b"<a/>\n"])
def test_keepalives_leave_nothing_behind(first: bytes) -> None:
    """X19: however many come, one by one, and however the element before came."""
    parser = client(Limits(max_bytes=1000))
    parser.feed(first)
    if not first.rstrip().endswith(b">"):
        parser.feed(b">" if first.endswith(b"/") else b"/>")
    assert traced(fed(parser, [b" "] * 10_000)) < 500
    assert len(parser.feed(b"<a/>")) == 1


@pytest.mark.parametrize("stanza", ["<a{0}/>", "<a b{0}='c'/>", "<p{0}:a xmlns:p{0}='u'/>", "<a xmlns='urn:{0}'/>"])
def test_new_names_for_ever_do_not_fill_the_memory(stanza: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """X17."""
    monkeypatch.setattr(ready, "REPRIME_BYTES", 5000)
    assert traced(fed(client(), (stanza.format(number).encode() for number in range(10_000)))) < 100_000


LETTERS = string.ascii_letters + "_"


def shortest_names() -> Iterator[str]:
    """All different, the shortest first: the most that fit into so many bytes."""
    for length in itertools.count(1):
        for letters in itertools.product(LETTERS, repeat=length):
            yield "".join(letters)


def one_by_one(form: str) -> Callable[[Iterator[str]], tuple[str, int]]:
    """A stanza of the form, and how many names it has that no stanza before it had."""
    return lambda names: (form.format(next(names)), form.count("{0}"))


def many_attributes(names: Iterator[str]) -> tuple[str, int]:
    return "<a" + "".join(f" {name}=''" for name in itertools.islice(names, 100)) + "/>", 100


def prefixed_attributes(names: Iterator[str]) -> tuple[str, int]:
    """Of a namespace each time new: the names are new with it, though each is of one letter."""
    return f"<a xmlns:p='{next(names)}'" + "".join(f" p:{letter}=''" for letter in LETTERS) + "/>", 1 + len(LETTERS)


@pytest.mark.parametrize(
    "make",
    [
        one_by_one("<{0}/>"),
        one_by_one("<a {0}=''/>"),
        one_by_one("<a xmlns='{0}'/>"),
        one_by_one("<{0}:b xmlns:{0}='u'/>"),
        one_by_one("<{0} {0}='' xmlns='{0}'/>"),
        many_attributes,
        prefixed_attributes,
    ],
    ids=["elements", "attributes", "namespaces", "prefixes", "all", "many attributes", "prefixed attributes"],
)
def test_no_parser_holds_more_names_than_may_be_and_those_of_one_read(
    make: Callable[[Iterator[str]], tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """X17: the bound is kept by bytes, since each new name takes four at the least."""
    bound = 2000
    held = [0]
    most, parsers = 0, 0
    prime = ReadyParser._prime

    def primed(parser: ReadyParser) -> None:
        nonlocal parsers
        held[0] = 0
        parsers += 1
        prime(parser)

    monkeypatch.setattr(ReadyParser, "_prime", primed)
    parser = client(Limits(max_names=bound, max_attributes=1000))
    names = shortest_names()
    largest = 0
    for _ in range(3000):
        text, count = make(names)
        largest = max(largest, count)
        held[0] += count  # what a new parser that takes over behind this read has not seen is not counted out
        most = max(most, held[0])
        assert len(parser.feed(text.encode())) == 1, parser.failure
    assert most <= bound + largest  # a new parser takes over behind the element that comes next
    assert parsers > 1
    assert parser.failure is None


def test_a_hundred_thousand_names_leave_no_more_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """X17, with an eighth of the names that a parser may hold by default."""
    names = shortest_names()
    parser = client(Limits(max_names=32_768))
    sizes = []
    tracemalloc.start()
    try:
        for _ in range(10):
            for _ in range(100):
                chunk = "".join(f"<{name}/>" for name in itertools.islice(names, 100)).encode()
                assert len(parser.feed(chunk)) == 100
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # One parser that has just begun, or is about to be relieved: a name takes some 300 bytes in it.
    assert max(sizes) < 12_000_000
    assert min(sizes[-3:]) < 2 * max(sizes[:3])
    monkeypatch.setattr(ready, "REPRIME_BYTES", 1 << 40)
    unbounded = client(Limits(max_names=1 << 40))
    tracemalloc.start()
    try:
        for _ in range(500):
            unbounded.feed("".join(f"<{name}/>" for name in itertools.islice(names, 100)).encode())
        assert tracemalloc.get_traced_memory()[0] > max(sizes), "the test would see it"
    finally:
        tracemalloc.stop()


def test_ever_more_stanzas_of_one_kind_leave_nothing_behind() -> None:
    """X18."""
    photo = b"<PHOTO><BINVAL>AAAA</BINVAL></PHOTO>"
    card = b"<iq type='result' id='v'><vCard xmlns='vcard-temp'><FN>Juliet</FN>" + photo + b"</vCard></iq>"
    assert traced(fed(client(), [card * 3] * 10_000)) < 100_000


@pytest.mark.parametrize("chunk", [b" " * 65_536, b"\n", b" \t\r\n" * 1000])
def test_much_white_space_costs_and_leaves_nothing(chunk: bytes) -> None:
    """X19: 100 MB of keepalives, and single ones."""
    parser = client(Limits(max_bytes=1000))
    parser.feed(b"<a/>")
    for _ in range(1600):
        assert parser.feed(chunk) == []
    assert parser.failure is None
    assert (parser.begun, parser.unusual) == ("", False)


@pytest.mark.usefixtures("reprimed")
@pytest.mark.parametrize(
    "chunks",
    [
        [b"<message to='a>", b" ", b"b'/>"],
        [b"<message to='", b"a>", b" ", b"b'/>"],
        [b"<message to='a", b">", b" ", b"b'", b"/>"],
        [b"<p/>", b"<message to='a>", b" b'/>"],
        [b"<p/><message to='a>", b" ", b"b'/>"],
    ],
)
def test_white_space_in_a_value_is_not_a_keepalive(chunks: list[bytes]) -> None:
    parser = client()
    nodes = [n for chunk in chunks for n in parser.feed(chunk)]
    assert parser.failure is None
    assert nodes[-1].get("to") == "a> b"


def test_a_stanza_never_waits_for_the_next() -> None:
    """Some versions of expat put a token off that comes in three parts or more."""
    parser = client()
    delivered = [len(parser.feed(b"%c" % byte)) for byte in b"<message to='x'/><a>&#128512;</a>"]
    assert [at for at, count in enumerate(delivered) if count] == [16, 32]


def test_an_empty_chunk_is_nothing() -> None:
    parser = client()
    assert parser.feed(b"") == []
    assert parser.feed(b"<a") == []
    assert parser.feed(b"") == []
    assert len(parser.feed(b"/>")) == 1


def test_a_chunk_may_be_larger_than_any_element() -> None:
    parser = client(Limits(max_bytes=100))
    sent = b"<a>" + b"x" * 90 + b"</a>"
    assert len(parser.feed(sent * 1000)) == 1000
    assert parser.failure is None


def test_nodes_before_a_failure_are_whole() -> None:
    parser = client()
    first, second = parser.feed(b"<a>b</a> <c/> <d></e>")
    assert element(first) == (f"{{{CLIENT}}}a", {}, "b", [], "")
    assert element(second) == (f"{{{CLIENT}}}c", {}, "", [], "")
    assert parser.failure is not None
    assert parser.failure.answer == "not-well-formed"
    assert parser.feed(b"<a/>") == []
    assert not parser.closed


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Node], bytes, list[bytes]]:
    """Stanzas, their bytes with white space between them, and these in random chunks."""
    stanzas = []
    for made in draw(st.lists(nodes(2), max_size=4)):
        made.tag = f"{{{CLIENT}}}message"
        made.tail = None
        stanzas.append(made)
    between = st.sampled_from([b"", b" ", b"\r\n\t "])
    data = b"".join(draw(between) + serialize(made, CLIENT) for made in stanzas) + draw(between)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return stanzas, data, [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(made=streams(), bound=st.sampled_from([0, 1, 30, 200, 1_000_000]))
def test_the_chunks_and_the_new_parsers_make_no_difference(
    made: tuple[list[Node], bytes, list[bytes]], bound: int
) -> None:
    stanzas, _, chunks = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ready, "REPRIME_BYTES", bound)
        parser = client()
        assert read_ready(parser, chunks) == [element(stanza) for stanza in stanzas]
        assert parser.failure is None
        assert read_ready(component(), chunks) == [element(stanza) for stanza in stanzas]


@settings(max_examples=500)
@example(data=b">", sizes=[9], bound=0, limits=Limits())  # text behind the last tag at which a new parser takes over
@given(
    data=st.text("<>/'\"=a &;!-?[]\n}x:").map(str.encode) | st.binary(max_size=30),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    bound=st.sampled_from([0, 1, 1_000_000]),
    limits=st.sampled_from([Limits(), Limits(max_bytes=15), Limits(max_depth=1), Limits(max_elements=1)]),
)
def test_no_bytes_raise_and_no_chunks_change_what_they_mean(
    data: bytes, sizes: list[int], bound: int, limits: Limits
) -> None:
    """By fire: whatever comes, there is an answer, and no node more or less for other chunks or the other gear."""
    data = b"<a>" + data + b"</a>" + data + b"<b/><c/>"
    chunks = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        chunks.append(data[at : at + size])
        at, turn = at + size, turn + 1
    whole = read_ready(client(limits), [data])
    header = f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}' xmlns:x='urn:x'>".encode()
    negotiated = negotiate([header, data], limits)[1:] if limits.max_bytes > len(header) else whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ready, "REPRIME_BYTES", bound)
        in_parts = read_ready(client(limits), chunks)
    for items in (in_parts, negotiated):
        assert [item for item in items if item[0] != "failure"] == [item for item in whole if item[0] != "failure"]
        assert (items[-1:] == whole[-1:]) or "failure" in (items[-1][0], whole[-1][0])


def test_a_stanza_goes_from_stream_to_stream() -> None:
    """The bridge: from a client's stream to a component's and back."""
    sent = message(to="a@b", body="x")
    sent.append(ET.fromstring("<forwarded xmlns='urn:f'><message xmlns='jabber:client'><body/></message></forwarded>"))
    (there,) = component().feed(serialize(sent, COMPONENT_ACCEPT))
    (back,) = client().feed(serialize(there, CLIENT))
    assert element(there) == element(back) == element(sent)


def test_deep_and_wide_renaming() -> None:
    levels = 200
    sent = b"<a xmlns='jabber:component:accept'>" + b"<b>" * levels + b"</b>" * levels + b"</a>"
    (read,) = component().feed(sent)
    assert {n.tag for n in read.iter()} == {f"{{{CLIENT}}}a", f"{{{CLIENT}}}b"}
