"""XPath filters: `pcj.filters`.

Invariant. An expression is one, or `FilterError` says why not, in a bounded sentence (which quotes the user's own
characters); the same holds of its value for a node. No expression changes a node, reaches outside it, or ends the
process. Where an expression is true of a node, the index finds its filter; where it is not, the filter does not match.

Input: the first line is the expression, the rest a document; without one, some nodes of our own.
"""

from __future__ import annotations

from functools import cache

from fuzz.common import MAX_SENTENCE, head_and_body, shape
from pcj.errors import FilterError, ParseError
from pcj.filters import Filters, xpath
from pcj.stanza import Node
from pcj.xmlstream import from_bytes

__all__ = ["ALLOWED", "DICTIONARY", "MAX_BYTES", "one_input"]

ALLOWED = (FilterError,)
MAX_BYTES = 512
DICTIONARY: tuple[bytes, ...] = (
    b"/message",
    b"/message[@type='chat']/body",
    b"//x:event",
    b"@type",
    b"@xml:lang",
    b"text()",
    b"node()",
    b"comment()",
    b"processing-instruction('x')",
    b"ancestor::",
    b"descendant-or-self::",
    b"following-sibling::",
    b"preceding::",
    b"self::",
    b"namespace::",
    b"count(",
    b"contains(",
    b"starts-with(",
    b"not(",
    b"position()",
    b"last()",
    b"string-length(",
    b"translate(",
    b"substring(",
    b"number(",
    b"name()",
    b"local-name(",
    b"namespace-uri(",
    b"id('x')",
    b"lang('en')",
    b"document('x')",
    b"$x",
    b" or ",
    b" and ",
    b" div ",
    b" mod ",
    b" | ",
    b"'chat'",
    b"*",
    b"[1]",
    b"..",
    b"//",
)
NAMESPACES = {"x": "http://jabber.org/protocol/pubsub#event", "d": "urn:xmpp:delay"}
DOCUMENTS = (
    b"<message xmlns='jabber:client' type='chat' from='a@b/c' xml:lang='en'><body>hi</body> t <thread/></message>",
    b"<message xmlns='jabber:client'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'>"
    b"<item id='1'/><item id='2'><e xmlns=''>5</e></item></items></event>"
    b"<delay xmlns='urn:xmpp:delay' stamp='s'/></message>",
    b"<iq xmlns='jabber:client' type='get' id='i'><query xmlns='jabber:iq:version'/></iq>",
    b"<presence xmlns='jabber:client'/>",
)


@cache
def _nodes() -> tuple[Node, ...]:
    return tuple(map(from_bytes, DOCUMENTS))


def one_input(data: bytes) -> None:
    head, body = head_and_body(data)
    expression = head.decode("utf-8", "surrogateescape")
    nodes = _nodes()
    if body:
        try:
            nodes = (from_bytes(body),)
        except ParseError:
            return
    failures: list[FilterError] = []
    filters = Filters(on_error=lambda event, text, error: failures.append(error))
    try:
        filters.add("EVENT", expression, NAMESPACES)
    except ALLOWED as error:
        assert len(str(error)) <= MAX_SENTENCE
        return
    for node in nodes:
        _evaluate(filters, failures, node, expression)


def _evaluate(filters: Filters, failures: list[FilterError], node: Node, expression: str) -> None:
    before = shape(node)
    failures.clear()
    matches = filters.match(node)
    elements = set(map(id, node.iter()))
    try:
        value = xpath(node, expression, NAMESPACES)
    except ALLOWED as error:
        assert len(str(error)) <= MAX_SENTENCE
        assert not matches
        return
    assert not failures, failures
    # XPath 1.0 4.3, boolean(): a number is true if it is neither 0 nor NaN.
    true = value == value and bool(value)
    assert len(matches) == true, f"{expression!r} is {value!r}, and the filter says {matches!r}"
    if isinstance(value, list):
        assert all(isinstance(each, str) or id(each) in elements for each in value), "it reached outside the node"
    assert shape(node) == before, "the expression changed the node"
