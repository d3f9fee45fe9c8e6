"""pcj.filters: what matches, what is selected, what is refused; and that the index changes nothing but the time."""

from __future__ import annotations

import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree

from pcj.errors import FilterError, PcjError
from pcj.filters import MAX_EXPRESSION, MAX_NESTING, Filters, _document, xpath
from pcj.stanza import Node, message

NAMESPACES = {"q": "urn:q", "r": "urn:r", "bad": "a b"}

STANZA = """<message xmlns='jabber:client' type='chat' from='romeo@example.net/x' xml:lang='en'>
<body>Hi &amp; bye</body><body xml:lang='de'>Hallo</body><empty/>
<query xmlns='urn:q' node='n'><item n='1'>2.5</item><item n='2'/><message xmlns='jabber:client' type='inner'/></query>
<odd xmlns='a b'/></message>"""


def stanza(text: str = STANZA) -> Node:
    return ET.fromstring(text)


def filters(*expressions: str) -> Filters:
    made = Filters()
    for number, expression in enumerate(expressions):
        made.add(f"e{number}", expression, NAMESPACES)
    return made


def shown(node: Node, selected: object) -> object:
    """A value with elements as their paths of positions, so that a table can tell which they are."""
    if not isinstance(selected, list):
        return selected
    places = {id(each): place for place, each in enumerate(node.iter())}
    return [each if isinstance(each, str) else places[id(each)] for each in selected]


# Values. Places: 0 message, 1 and 2 body, 3 empty, 4 query, 5 and 6 item, 7 the inner message, 8 odd.

MATCHING: list[tuple[str, object]] = [
    # names
    ("/message", [0]),
    ("/message/body", [1, 2]),
    ("body", [1, 2]),
    ("/*", [0]),
    ("self::message", [0]),
    ("//message", [0, 7]),
    ("//*[local-name()='item']", [5, 6]),
    ("/message/*[name()='query']", [4]),
    ("/node()/body[last()]", [2]),
    # predicates
    ("/message[@type='chat']", [0]),
    ("/message['chat'=@type]/body", [1, 2]),
    ("/message[@type='chat' or @type='normal']/body[1]", [1]),
    ("/message[@type][body and q:query]", [0]),
    ("/message[not(@to)]", [0]),
    ("/message[body='Hallo']", [0]),
    ("/message[@xml:lang='en']/body[lang('de')]", [2]),
    ("/message/q:query/q:item[@n > 1]", [6]),
    ("//q:item[. * 2 = 5]", [5]),
    ("/message[1][position()=last()]/empty", [3]),
    ("(//body)[2]", [2]),
    ("(/message/body | /iq)[1]", [1]),
    # namespaces
    ("/message/q:query", [4]),
    ("q:query/message", [7]),
    ("q:*", [4]),
    ("//q:item/..", [4]),
    ("/message/bad:odd", [8]),
    ("/message/*[namespace-uri()='urn:q']", [4]),
    ("/message/*[namespace-uri()='']", [1, 2, 3]),
    # attributes and texts; both kinds together
    ("/message/@type", ["chat"]),
    ("@type", ["chat"]),
    ("/message/body/text()", ["Hi & bye", "Hallo"]),
    ("/message/body[1] | /message/@from", ["romeo@example.net/x", 1]),
    # unions
    ("/iq | /message/empty", [3]),
    ("/presence | /iq | self::*", [0]),
    # the document
    ("/", [0]),
    ("..", [0]),
    ("/iq | /", [0]),
    ("//empty/ancestor::node()[last()]", [0]),
    # strings, numbers, booleans (fault 9 of the original: these never matched)
    ("string(/message/body)", "Hi & bye"),
    ("substring-before(@from, '@')", "romeo"),
    ("'x'", "x"),
    ("concat(@type, '!')", "chat!"),
    ("count(/message/body)", 2.0),
    ("count(//body) - 3", -1.0),
    ("sum(//q:item/@n)", 3.0),
    ("1 div 0", math.inf),
    ("- - 7 mod 4", 3.0),
    ("boolean(/message/body)", True),
    ("@type = 'chat'", True),
    ("/message/iq = false()", True),
    ("not(/iq)", True),
    ("true()", True),
    ("count(/message/body) = 2 and contains(body, 'Hi')", True),
    ("/message/body != 'Hallo'", True),
    ("@type != 'normal'", True),
    ("@type/../body = 'Hallo'", True),
    ("contains(/iq, '')", True),
    ("starts-with(iq/body, '')", True),
]


@pytest.mark.parametrize(("expression", "value"), MATCHING, ids=[row[0] for row in MATCHING])
def test_matching(expression: str, value: object) -> None:
    node = stanza()
    (match,) = filters(expression).match(node)
    assert (match.event, match.expression) == ("e0", expression)
    assert shown(node, match.selected) == value
    assert type(match.selected) is type(value)
    assert shown(node, xpath(node, expression, NAMESPACES)) == value


NOT_MATCHING: list[tuple[str, object]] = [
    ("/iq", []),
    ("/body", []),
    ("message", []),
    ("/message[@type='inner']", []),
    ("/message[2]", []),
    ("/message[@type='chat'][@type='normal']", []),
    ("/message/query", []),
    ("/message/r:query", []),
    ("/q:message", []),
    ("/message/@to", []),
    ("/message/empty/text()", []),
    ("/iq | /presence", []),
    ("../..", []),
    ("/message/preceding-sibling::node()", []),
    ("/message/following::node()", []),
    ("//comment()", []),
    ("id('x')", []),
    ("string(/message/empty)", ""),
    ("''", ""),
    ("count(/iq)", 0.0),
    ("0", 0.0),
    ("-0", 0.0),
    ("number(/message/body)", math.nan),
    ("0 div 0", math.nan),
    ("false()", False),
    ("/message/body = 'Bonjour'", False),
    ("contains(/iq/body, 'x')", False),
]


@pytest.mark.parametrize(("expression", "value"), NOT_MATCHING, ids=[row[0] for row in NOT_MATCHING])
def test_not_matching(expression: str, value: object) -> None:
    node = stanza()
    assert filters(expression).match(node) == []
    got = xpath(node, expression, NAMESPACES)
    assert type(got) is type(value)
    assert str(got).lstrip("-") == str(value)


BAD: list[tuple[str, str]] = [
    ("", "expected a step, got the end, at character 1 of ''"),
    ("   ", "expected a step, got the end, at character 4"),
    ("/message[", "expected a step, got the end, at character 10"),
    ("/message]", "expected an operator or the end, got ']', at character 9"),
    ("/message[body", "expected ']', got the end, at character 14"),
    ("(body", "expected ')', got the end, at character 6"),
    ("/message/", "expected a step, got the end, at character 10"),
    ("//", "expected a step, got the end, at character 3"),
    ("/message[@]", "expected a name, got ']', at character 11"),
    ("1 +", "expected a step, got the end, at character 4"),
    ("a b", "expected an operator, got 'b', at character 3"),
    ("'a' 'b'", "expected an operator or the end, got \"'b'\", at character 5"),
    (".[1]", "expected an operator or the end, got '[', at character 2"),
    ("'abc", "a string that is not closed, at character 1"),
    ("/message#", "unexpected '#', at character 9"),
    ("a : b", "unexpected ':', at character 3"),
    ("/message[nope:x]", "the prefix 'nope' is not in `namespaces`, at character 10"),
    ("/message/nope:*", "the prefix 'nope' is not in `namespaces`, at character 10"),
    ("/iq[nope()]", "there is no function nope() in XPath 1.0, at character 5"),
    ("q:test(1)", "there is no function q:test() in XPath 1.0, at character 1"),
    ("document('/etc/passwd')", "there is no function document() in XPath 1.0, at character 1"),
    ("/iq[@id=$id]", "a filter has no variables, at character 9"),
    ("/iq and position() = 1", "position() has a meaning in a predicate only, at character 9"),
    ("/iq[@a] = last()", "last() has a meaning in a predicate only, at character 11"),
    ("/iq[count()]", "count() takes 1 arguments, got 0, at character 5"),
    ("/iq[concat('a')]", "concat() takes 2 or more arguments, got 1, at character 5"),
    ("substring('a')", "substring() takes 2 to 3 arguments, got 1, at character 1"),
    ("/iq[count('a')]", "count() takes a node-set, not a string, at character 11"),
    ("/iq | 'a'", "'|' joins node-sets only, not a string, at character 7"),
    ("1 | /iq", "'|' joins node-sets only, not a number, at character 1"),
    ("'a'/b", "'[' and '/' can follow a node-set only, not a string, at character 1"),
    ("true()[1]", "'[' and '/' can follow a node-set only, not a boolean, at character 1"),
    ("a/count(b)", "a function call cannot be a step, at character 3"),
    ("up::a", "there is no axis 'up', at character 1"),
    ("namespace::a", "there is no namespace axis, at character 1"),
    ("text('a')", "expected ')', got \"'a'\", at character 6"),
    ("'\x00'", "XML compatible"),
    ("/message['\ud800']", "surrogates not allowed"),
    ("a" * (MAX_EXPRESSION + 1), "at most 4096 characters, this one has 4097"),
    ("(" * 40 + "1" + ")" * 40, "nested more than 32 deep, at character 33"),
]


@pytest.mark.parametrize(("expression", "said"), BAD, ids=[ascii(row[0][:30]) for row in BAD])
def test_bad_expressions_are_refused_when_added(expression: str, said: str) -> None:
    made = filters("/message")
    with pytest.raises(FilterError) as raised:
        made.add("bad", expression, NAMESPACES)
    assert said in str(raised.value)
    assert isinstance(raised.value, PcjError)
    assert len(made) == 1
    with pytest.raises(FilterError):
        xpath(stanza(), expression, NAMESPACES)


BAD_NAMESPACES: list[tuple[dict[object, object], str]] = [
    ({}, "the prefix 'q' is not in `namespaces`"),
    ({"q": "jabber:client"}, "elements of jabber:client bear no prefix in a filter: write the name without 'q'"),
    ({"q": ""}, "the prefix 'q' needs a namespace"),
    ({"q": 1}, "maps a str to a str, not 'q' to 1"),
    ({None: "urn:q"}, "maps a str to a str, not None to 'urn:q'"),
]


@pytest.mark.parametrize(("namespaces", "said"), BAD_NAMESPACES, ids=[repr(row[0]) for row in BAD_NAMESPACES])
def test_bad_namespaces(namespaces: dict[str, str], said: str) -> None:
    with pytest.raises(FilterError) as raised:
        Filters().add("e", "/message/q:x", namespaces)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "expression",
    [
        "* * *",
        "and and or",
        "/or div and",
        "a-b - c",
        "child::text/text()",
        "processing-instruction('x')",
        ".5 + 1. > -1",
        "//@*",
        "a/div/mod",
        "self::node()[self::q:x]",
        "/\n\tmessage [ body ]",
        "(1)",
        "a|b|c",
        "e\u0301",
        "\u0442\u0435\u043a\u0441\u0442/@\u0438",
    ],
    ids=ascii,
)
def test_what_xpath_allows_is_not_refused(expression: str) -> None:
    filters(expression).match(stanza())


# Many filters


def test_filters_fire_in_the_order_they_were_added() -> None:
    expressions = ["//body", "/message[@type='chat']/body", "count(body)", "/iq", "/message", "q:query", "true()"]
    made = filters(*expressions)
    assert [match.event for match in made.match(stanza())] == ["e0", "e1", "e2", "e4", "e5", "e6"]
    made = filters(*reversed(expressions))
    assert [match.event for match in made.match(stanza())] == ["e0", "e1", "e2", "e4", "e5", "e6"]


def test_filters_may_share_an_event_and_are_removed_with_it() -> None:
    made = Filters()
    made.add("a", "/message")
    made.add("b", "/message/body")
    made.add("a", "count(/message/body)")
    assert list(made) == [("a", "/message"), ("b", "/message/body"), ("a", "count(/message/body)")]
    assert [match.selected for match in made.match(message(body="x"))][2] == 1.0
    assert made.remove("a")
    assert not made.remove("a")
    assert [match.event for match in made.match(message(body="x"))] == ["b"]
    made.add("a", "/message")
    assert [match.event for match in made.match(message(body="x"))] == ["b", "a"]
    assert made.remove("b")
    assert made.remove("a")
    assert (len(made), list(made), made.match(message(body="x"))) == (0, [], [])


def test_what_is_selected_is_the_stanza_s_own() -> None:
    node = message(body="x")
    (match,) = filters("/message/body").match(node)
    assert isinstance(match.selected, list)
    assert match.selected[0] is node[0]


# Stanzas


def test_nothing_outside_the_stanza_can_be_reached() -> None:
    stream = stanza("<s xmlns='jabber:client'>a<message>b</message>c<iq/></s>")
    node = stream[0]
    assert xpath(node, "//text()") == ["b"]
    assert xpath(node, "count(//node())") == 2.0
    assert xpath(node, "/message/.. | //following::node() | //preceding::node()") == [node]
    assert (node.tail, len(stream)) == ("c", 2)


def test_text_and_attributes_come_as_they_are() -> None:
    text = " a\r\n\t&<>\"']]>\u2028\U0001f600 "
    node = message(id=text, body=text)
    ET.SubElement(node, "{urn:q}x", {"{urn:q}y": text}).tail = text
    assert xpath(node, "body/text() | text()") == [text, text]
    assert xpath(node, "@id | q:x/@q:y", NAMESPACES) == [text, text]


def test_what_expat_passes_and_libxml2_would_refuse() -> None:
    names = ["a b", "\u00e9", "http://[x", "%zz", "a#b#c", ":x", "http://a:b/", "urn:pcj:uri:6120", "1x", "vcard-temp"]
    for name in [*names, " ", "http:", "//", "a:", "http://x//y", "x?a?b#c?d", "urn:x:y", "-x"]:
        node = stanza(f"<message xmlns='jabber:client'><x xmlns='{name}' xmlns:p='{name}' p:a='1'><y/></x></message>")
        assert xpath(node, "/message/n:x[@n:a]/n:y", {"n": name}) == [node[0][0]], name
    node = stanza("<message xmlns='jabber:client'><xml:x xml:id='1 2'><body/><q xmlns='urn:q'/></xml:x></message>")
    assert xpath(node, "/message/xml:x[@xml:id='1 2']/body") == [node[0][0]]
    assert xpath(node, "/message/xml:x/q:q", NAMESPACES) == [node[0][1]]


def test_comments_and_pis_are_no_part_of_it() -> None:
    node = message(body="x")
    node.insert(0, ET.Comment("c"))
    node[0].tail = "t"
    node.insert(1, ET.ProcessingInstruction("p"))
    assert xpath(node, "//node()[self::body]") == [node[2]]
    assert xpath(node, "count(//comment() | //processing-instruction())") == 0.0
    assert xpath(node, "string()") == "tx"


def test_qnames_are_names() -> None:
    name, attribute = ET.QName("jabber:client", "message"), ET.QName("urn:q", "a")
    node: Node = ET.Element(name, {attribute: "1"})  # type: ignore[arg-type, dict-item]  # ElementTree allows it
    assert xpath(node, "/message/@q:a", NAMESPACES) == ["1"]


def deep(levels: int) -> Node:
    node = top = message()
    for _ in range(levels):
        node = ET.SubElement(node, "{urn:q}x")
    return top


def test_depth() -> None:
    node = deep(256)  # Config.max_depth
    assert xpath(node, "count(//q:x)", NAMESPACES) == 256.0
    with pytest.raises(FilterError, match="nested too deeply"):
        xpath(deep(3000), "//x")


BAD_NODES = [
    message(body="\x00"),
    message(body="\ud800"),
    message(id="\ufffe"),
    ET.Element("a b"),
    ET.Element("p:a"),
    ET.Element("{}a"),
    ET.Element("a", {"xmlns": "urn:q"}),
    ET.Element("a", {"b><c": "1"}),
    ET.Element("a", {"b": 1}),  # type: ignore[dict-item]
    ET.Comment("c"),
]


@pytest.mark.parametrize("node", BAD_NODES, ids=range(len(BAD_NODES)))
def test_a_node_that_is_no_xml_is_an_error_of_each_candidate(node: Node) -> None:
    with pytest.raises(FilterError):
        xpath(node, "true()")
    told: list[tuple[str, str, str]] = []
    made = Filters(lambda event, expression, error: told.append((event, expression, type(error).__name__)))
    made.add("a", "true()")
    made.add("b", "/presence")
    made.add("a", "//x")
    assert made.match(node) == []
    assert told == [("a", "true()", "FilterError"), ("a", "//x", "FilterError")]
    assert filters("true()").match(node) == []  # nobody to tell


def test_a_filter_that_fails_spares_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _document.Compiled.evaluate

    def evaluate(self: _document.Compiled, document: _document.Document) -> _document.Selected:
        if self.expression == "//b":
            raise FilterError("limit")
        return real(self, document)

    monkeypatch.setattr(_document.Compiled, "evaluate", evaluate)
    told: list[tuple[str, str, str]] = []
    made = Filters(lambda event, expression, error: told.append((event, expression, str(error))))
    for event, expression in (("a", "//body"), ("b", "//b"), ("c", "/message")):
        made.add(event, expression)
    assert [match.event for match in made.match(message(body="x"))] == ["a", "c"]
    assert told == [("b", "//b", "limit")]


def test_lxml_s_own_failure_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = _document.Compiled("//body", None)

    def fail(root: object) -> object:
        raise etree.XPathEvalError("Memory allocation failed")

    monkeypatch.setattr(compiled, "_evaluate", fail)
    with pytest.raises(FilterError, match="Memory allocation failed, in evaluating '//body'"):
        compiled.evaluate(_document.Document(message(body="x"), frozenset()))


# libxml2 never forgets a name


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> _document.Names:
    names = _document.Names(room=100)
    monkeypatch.setattr(_document, "_names", names)
    return names


def test_names_past_the_bound_are_replaced_where_no_expression_could_tell(no_room: _document.Names) -> None:
    node = stanza(
        "<message xmlns='jabber:client' a='1' b='2' type='chat' xml:lang='en' xmlns:q='urn:q' xmlns:s='urn:s' q:a='3'"
        " s:a='4' s:b='5' q:c='6'><s:x/><q:x/><q:y/><body/><xml:x/></message>"
    )
    assert xpath(node, "/message[@type='chat'][@xml:lang='en']/body") == [node[3]]
    assert xpath(node, "q:x | xml:x | *[local-name()='y']", NAMESPACES) == [node[1], node[2], node[4]]
    assert xpath(node, "@q:a | @*[local-name()='b']", NAMESPACES) == ["2", "3", "5"]
    assert xpath(node, "count(@*)") == 8.0
    assert xpath(node, "count(*)") == 5.0
    assert xpath(node, "@q:*", NAMESPACES) == ["3", "6"]
    assert xpath(node, "local-name(*[1])") == "_pcj.0"
    assert len(no_room.elements) + len(no_room.attributes) <= 1


def test_names_are_remembered_within_the_bound() -> None:
    names = _document.Names(room=1_000_000)
    for number in range(20_000):
        names.element(f"{{urn:x}}n{number}", frozenset())
        names.attribute(f"n{number}", frozenset(), 0)
    held = [*names.elements, *names.attributes]
    assert len(held) > 10_000
    assert sum(len(name) + 64 for name in held) <= 1_000_000


def test_a_name_of_ours_cannot_be_brought_in(no_room: _document.Names) -> None:
    node = stanza("<message xmlns='jabber:client' a='1' _pcj.0='2' _pcj.1='3'/>")
    assert xpath(node, "count(@*)") == 3.0


def test_lxml_is_imported_at_the_first_filter() -> None:
    program = (
        "import sys, pcj.filters as f\n"
        "made = f.Filters(); import xml.etree.ElementTree as ET; made.match(ET.Element('x'))\n"
        "assert not any(name.startswith('lxml') for name in sys.modules)\n"
        "made.add('e', '/x'); assert 'lxml.etree' in sys.modules"
    )
    source = str(Path(_document.__file__).parents[2])
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": source})


# The index against the truth

TAGS = ["{jabber:client}body", "{jabber:client}x", "{urn:q}x", "{urn:q}query", "body", "{jabber:client}message"]
TEXTS = st.sampled_from([None, "", "a", "5", "chat"])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["type", "from", "n", "{urn:q}n"]), st.sampled_from(["chat", "a", "5", ""]), max_size=2
)


@st.composite
def nodes(draw: st.DrawFn, tags: tuple[str, ...] = (), depth: int = 3) -> Node:
    node = ET.Element(draw(st.sampled_from(tags or TAGS)), draw(ATTRIBUTES))
    node.text = draw(TEXTS)
    for _ in range(draw(st.integers(0, 3 if depth > 1 else 0))):
        child = draw(nodes(depth=depth - 1))
        child.tail = draw(TEXTS)
        node.append(child)
    return node


STANZAS = nodes(("{jabber:client}message", "{jabber:client}iq", "message", "{urn:q}message"))

AXES = st.sampled_from(["", "", "", "", "@", "self::", "descendant::", "parent::", "following-sibling::", "ancestor::"])
TESTS = st.sampled_from(
    ["message", "iq", "body", "x", "q:x", "q:query", "q:message", "q:*", "*", "node()", "text()", "type", "q:n", "from"]
)
LITERALS = st.sampled_from(["'chat'", "'a'", "''", "'5'", "5", "0", "1"])
COMPARE = st.sampled_from(["=", "!=", "<", ">=", "="])


def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions of which `inner` are predicates and operands."""
    predicates = st.lists(inner.map(lambda text: f"[{text}]"), max_size=2).map("".join)
    step = st.one_of(
        st.tuples(AXES, TESTS, predicates).map("".join),
        st.tuples(AXES, TESTS, predicates).map("".join),
        st.sampled_from([".", ".."]),
    )
    path = st.builds(
        lambda start, steps, joints: start + steps[0] + "".join(map("".join, zip(joints, steps[1:], strict=False))),
        st.sampled_from(["/", "/", "", "//"]),
        st.lists(step, min_size=1, max_size=3),
        st.lists(st.sampled_from(["/", "/", "//"]), min_size=2, max_size=2),
    )
    node_set = st.one_of(
        path,
        path,
        st.builds("{} | {}".format, path, path),
        st.builds("({}){}".format, path, predicates),
        st.builds("({} | {})/{}".format, path, path, step),
        st.just("/"),
    )
    of_node_set = st.sampled_from(
        "string count sum number string-length normalize-space name local-name namespace-uri boolean not".split()  # noqa: SIM905
    )
    return st.one_of(
        node_set,
        node_set,
        st.builds("{}({})".format, of_node_set, node_set),
        st.builds("{}({}, {})".format, st.sampled_from(["contains", "starts-with"]), node_set, LITERALS),
        st.builds("{} {} {}".format, node_set, COMPARE, st.one_of(LITERALS, node_set, inner.map("({})".format))),
        st.builds("{} {} {}".format, LITERALS, COMPARE, node_set),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["and", "or", "=", "+", "-"]), inner),
        st.builds("not({})".format, inner),
        st.builds("boolean({})".format, inner),
        LITERALS,
    )


EXPRESSIONS = st.recursive(
    st.one_of(LITERALS, st.sampled_from(["@type='chat'", "body", "q:x", "@from", "*[position()=1]", "true()"])),
    extend,
    max_leaves=6,
)


def truth(node: Node, expression: str) -> tuple[bool, object]:
    """XPath's answer for a copy that is made in another way, asked of lxml directly."""

    def copy(source: Node, into: etree._Element | None) -> etree._Element:
        tag = source.tag.removeprefix("{jabber:client}")
        made = etree.Element(tag) if into is None else etree.SubElement(into, tag)
        for name, value in source.items():
            made.set(name, value)
        made.text = source.text or None
        for child in source:
            copy(child, made).tail = child.tail or None
        return made

    root = copy(node, None)
    value = etree.XPath(expression, namespaces=NAMESPACES, smart_strings=False)(root)
    true = etree.XPath(f"boolean({expression})", namespaces=NAMESPACES)(root)
    if isinstance(value, list):
        places = {each: place for place, each in enumerate(root.iter())}
        nodes = cast("list[etree._Element | str]", value)
        return bool(true), [each if isinstance(each, str) else places[each] for each in nodes] or [0]
    return bool(true), value


@settings(max_examples=400, deadline=None)
@given(STANZAS, st.lists(EXPRESSIONS, min_size=1, max_size=8))
@example(
    stanza(STANZA.replace("a b", "urn:odd")),
    ["/message/body = false()", "/message[@type='chat' or q:query]", "(/message | /iq)[body]"],
)
@example(
    stanza(STANZA.replace("a b", "urn:odd")),
    ["@type = ../message/@type", "/message[self::iq]", "body[1] = body[2]", "'' = string(iq)"],
)
def test_the_index_changes_nothing_but_the_time(node: Node, expressions: list[str]) -> None:
    expected = []
    for expression in expressions:
        true, value = truth(node, expression)
        # An element's prefix is the copy's own affair.
        if true:
            expected.append((expression, None if "name(" in expression else value))
    told: list[FilterError] = []
    made = Filters(lambda event, expression, error: told.append(error))
    for expression in expressions:
        made.add("e", expression, NAMESPACES)
    got = [
        (match.expression, None if "name(" in match.expression else shown(node, match.selected))
        for match in made.match(node)
    ]
    assert got == expected
    assert told == []


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_whatever_an_expression_is_it_works_or_is_refused(expression: str) -> None:
    try:
        xpath(message(body="x"), expression)
    except FilterError:
        pass  # nothing else may come


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab1:/?#[]@!$&'()*+,;=%-._~ \u00e9"), min_size=1, max_size=12))
def test_whatever_a_namespace_is_it_is_kept_apart(namespace: str) -> None:
    node = ET.Element("{jabber:client}message")
    ET.SubElement(node, f"{{{namespace}}}x")
    ET.SubElement(node, f"{{{namespace}.}}x")
    assert xpath(node, "n:x", {"n": namespace}) == [node[0]]


INDEXED = [
    # (expression, a stanza that it must not be asked about)
    ("/iq", "<message xmlns='jabber:client'/>"),
    ("/message[@type='chat']", "<message xmlns='jabber:client' type='normal'/>"),
    ("/message[@type='chat' or @type='normal']", "<message xmlns='jabber:client'/>"),
    ("/message/body", "<message xmlns='jabber:client'><x/></message>"),
    ("/iq/q:query", "<iq xmlns='jabber:client'><query/></iq>"),
    ("/iq[q:query]", "<iq xmlns='jabber:client'/>"),
    ("body = 'x'", "<message xmlns='jabber:client'/>"),
    ("count(/message/body)", "<message xmlns='jabber:client'/>"),
    ("/iq | /presence", "<message xmlns='jabber:client'/>"),
    (
        "/message[@from='a'][@type='chat']/q:x",
        "<message xmlns='jabber:client' type='chat'><x xmlns='urn:q'/></message>",
    ),
    ("boolean(/message/body) and q:query", "<message xmlns='jabber:client'><body/></message>"),
    ("/iq[self::message]", "<iq xmlns='jabber:client'/>"),
    ("contains(/message/body, 'x')", "<iq xmlns='jabber:client'/>"),
]


@pytest.mark.parametrize(("expression", "text"), INDEXED, ids=[row[0] for row in INDEXED])
def test_no_copy_is_made_for_a_filter_that_cannot_match(
    expression: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = filters(expression)

    def copied(*arguments: object) -> object:
        raise AssertionError("the stanza was copied")

    monkeypatch.setattr("pcj.filters.Document", copied)
    assert made.match(stanza(text)) == []


def test_alternatives_are_bounded() -> None:
    clauses = [f"[@a{n}='1' or @b{n}='1']" for n in range(40)]
    made = filters("/message" + "".join(clauses))
    node = message()
    for n in range(40):
        node.set(f"b{n}", "1")
    assert len(made.match(node)) == 1
    node.set("b7", "2")
    assert made.match(node) == []


def test_long_and_deep_expressions() -> None:
    node = message(type="chat")
    for operator in (" or ", " | ", " and "):
        assert len(filters(operator.join(["@type"] * 400)).match(node)) == 1
    assert len(filters("(" * (MAX_NESTING - 1) + "@type" + ")" * (MAX_NESTING - 1)).match(node)) == 1
    assert len(filters("/message[@type[.='chat']]").match(node)) == 1
    assert len(filters("+".join(["1"] * 2000)).match(node)) == 1
    assert len(filters("=".join(["1"] * 2000)).match(node)) == 1
