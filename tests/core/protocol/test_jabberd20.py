"""<route/> around each stanza of a link to jabberd2's router (protocol-notes A27)."""

from __future__ import annotations

import pytest

from pcj.namespaces import CLIENT, JABBERD_COMPONENT
from pcj.protocol.jabberd20 import RouteEnvelope
from pcj.serialize import serialize, to_bytes
from pcj.stanza import Node, error_condition, message
from pcj.xmlstream import from_bytes

ENVELOPE = RouteEnvelope("bot.example.org")


@pytest.mark.parametrize(
    ("to", "domain"),
    [
        ("example.org", "example.org"),
        ("romeo@example.org/or/chard@home", "example.org"),
        ("Romeo@EXAMPLE.org", "example.org"),
        ("romeo@bücher.example", "bücher.example"),
        ("", ""),
        ("a@b@c/d", "c"),
        ("'<&\">", "'<&\">"),
    ],
)
def test_a_stanza_is_wrapped_for_the_domain_of_its_to(to: str, domain: str) -> None:
    node = message(to=to, from_="bot.example.org", body="hi")
    route = from_bytes(ENVELOPE.wrap(serialize(node, CLIENT), node))
    assert route.tag == f"{{{JABBERD_COMPONENT}}}route"
    assert dict(route.attrib) == {"from": "bot.example.org", "to": domain}


@pytest.mark.parametrize("namespace", ["jabber:client", "jabber:component:accept", None])
def test_a_stanza_says_jabber_client_in_the_envelope_and_comes_back_the_same(namespace: str | None) -> None:
    declared = f" xmlns='{namespace}'" if namespace else ""
    node = from_bytes(f"<message{declared} to='romeo@example.org'><body>a &lt; b</body></message>".encode())
    unwrapped = ENVELOPE.unwrap(from_bytes(ENVELOPE.wrap(serialize(node, CLIENT), node)))
    assert unwrapped is not None
    assert to_bytes(unwrapped) == to_bytes(message(to="romeo@example.org", body="a < b"))


def route(content: str, attributes: str = "") -> Node:
    return from_bytes(
        f"<route xmlns='{JABBERD_COMPONENT}' from='sm' to='bot.example.org' {attributes}>{content}</route>".encode()
    )


STANZA = "<message xmlns='jabber:client' from='bot.example.org/x' to='a@b.example' id='1'><body>hi</body></message>"


def test_the_stanza_inside_is_what_counts_whatever_the_addresses_on_the_envelope() -> None:
    stanza = ENVELOPE.unwrap(route(STANZA + "\n"))
    assert stanza is not None
    assert (stanza.tag, stanza.get("from"), stanza.tail) == (f"{{{CLIENT}}}message", "bot.example.org/x", None)


@pytest.mark.parametrize(
    "node",
    [
        route(""),
        route(STANZA + STANZA),
        route(f"<route xmlns='{JABBERD_COMPONENT}'>{STANZA}</route>"),
        route("<message xmlns='urn:example:other'/>"),
        route("<message/>"),
        route("", "error='404'"),
        route("<session xmlns='http://jabberd.jabberstudio.org/ns/session/1.0'/>"),
        from_bytes(f"<bind xmlns='{JABBERD_COMPONENT}'/>".encode()),
        from_bytes(STANZA.encode()),
        from_bytes(b"<x xmlns='urn:example:other'/>"),
    ],
    ids=[
        "none",
        "two",
        "nested",
        "other-namespace",
        "routers-namespace",
        "error-without",
        "session",
        "bind",
        "bare",
        "x",
    ],
)
def test_what_is_no_envelope_around_one_stanza_is_delivered_as_it_came(node: Node) -> None:
    assert ENVELOPE.unwrap(node) is node  # M10: a node, no crash, and nothing lost in silence


def test_news_of_the_routing_table_are_for_nobody() -> None:
    assert ENVELOPE.unwrap(from_bytes(f"<presence xmlns='{JABBERD_COMPONENT}' from='sm'/>".encode())) is None


@pytest.mark.parametrize(
    ("code", "kind", "condition"),
    [
        ("400", "modify", "bad-request"),
        ("401", "auth", "not-authorized"),
        ("404", "cancel", "remote-server-not-found"),
        ("999", "cancel", "undefined-condition"),
        ("", "cancel", "undefined-condition"),
        ("4" * 10_000, "cancel", "undefined-condition"),
    ],
)
def test_what_the_router_could_not_deliver_is_an_error_from_its_addressee(code: str, kind: str, condition: str) -> None:
    bounced = ENVELOPE.unwrap(route(STANZA, f"error='{code}'"))
    assert bounced is not None
    assert (bounced.get("type"), bounced.get("id")) == ("error", "1")
    assert (bounced.get("from"), bounced.get("to")) == ("a@b.example", "bot.example.org/x")
    kinds, conditions, text = error_condition(bounced)
    assert (kinds, conditions) == (kind, condition)
    assert len(text) < 100
    assert [child.tag for child in bounced] == [f"{{{CLIENT}}}body", f"{{{CLIENT}}}error"]


@pytest.mark.parametrize("type", ["error", "result"])
def test_an_answer_of_ours_that_comes_back_is_not_answered(type: str) -> None:
    stanza = f"<iq xmlns='jabber:client' type='{type}' id='1' from='bot.example.org' to='a@b.example'/>"
    assert ENVELOPE.unwrap(route(stanza, "error='404'")) is None
    assert ENVELOPE.unwrap(route(stanza)) is not None
