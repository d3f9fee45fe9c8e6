"""jabberd2's <route/> around stanzas: `pcj.protocol.jabberd20.RouteEnvelope`.

Invariant. Any element that comes is unwrapped without an error: into itself, the one stanza that it holds, the error
that this stanza's fate makes of it, or nothing. What it became can be written. A stanza that is wrapped is one <route/>
of our domain, and unwraps into the same stanza.

Input: what the router sends.
"""

from __future__ import annotations

from fuzz.common import depth_of, shape
from fuzz.xmlwords import DICTIONARY as XML
from pcj.errors import NodeError
from pcj.namespaces import CLIENT, JABBERD_COMPONENT, STREAMS
from pcj.protocol.jabberd20 import RouteEnvelope
from pcj.serialize import MAX_DEPTH, serialize, to_bytes
from pcj.stanza import STANZAS, Node
from pcj.xmlstream import ReadyParser

__all__ = ["ALLOWED", "DICTIONARY", "one_input"]

#: Of what it becomes, if that is nested too deep to be written, or names what no namespace can be.
ALLOWED = (NodeError,)
DICTIONARY: tuple[bytes, ...] = (
    *XML,
    b"<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0'>",
    b"</route>",
    b" error='404'",
    b" type='log'",
    b" type='error'",
    b" to='a@b/c'",
    b"<message xmlns='jabber:client'",
    b"<iq xmlns='jabber:client' type='get'",
    b"<presence",
)
DOMAIN = "bot.example.org"
ROUTE = f"{{{JABBERD_COMPONENT}}}route"


def one_input(data: bytes) -> None:
    envelope = RouteEnvelope(DOMAIN)
    for node in _parsed(data):
        before = shape(node)
        inside = envelope.unwrap(node)
        if inside is None:
            continue
        if inside is not node:
            assert node.tag == ROUTE
            assert inside.tag in STANZAS, inside.tag
            assert not inside.tail
            if node.get("error") is not None:
                assert inside.get("type") == "error"
                assert inside.get("to") == node[0].get("from")
        else:
            assert shape(node) == before
        try:
            to_bytes(inside)
        except ALLOWED:
            assert depth_of(inside) > MAX_DEPTH or b"}" in data
            continue
        if inside.tag in STANZAS and depth_of(inside) < MAX_DEPTH:
            _round_trip(envelope, inside)


def _parsed(data: bytes) -> list[Node]:
    return ReadyParser({"": JABBERD_COMPONENT, "stream": STREAMS}, "").feed(data)


def _round_trip(envelope: RouteEnvelope, stanza: Node) -> None:
    stanza.tail = None
    written = envelope.wrap(serialize(stanza, CLIENT), stanza)
    wrapped = _parsed(written)
    assert len(wrapped) == 1, written
    assert wrapped[0].tag == ROUTE
    assert wrapped[0].get("from") == DOMAIN
    again = envelope.unwrap(wrapped[0])
    assert again is not None
    assert shape(again) == shape(stanza), "wrapped it is another stanza"
