"""What `output` refuses because servers would end the link for it, one row per case (protocol-notes A17, B4)."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from pcj.errors import NodeError
from pcj.outbound import check_addressed, check_node
from pcj.serialize import to_bytes
from pcj.stanza import Node, iq, message, ping, presence

CHILD = "<q xmlns='urn:example:q'/>"


def node(xml: str) -> Node:
    return ET.fromstring(xml)


@pytest.mark.parametrize(
    "stanza",
    [
        message(),
        message(to="a@b.example", body="hi"),
        presence(),
        presence(type="unavailable"),
        ping(),
        iq(type="result"),
        iq(type="error"),
        node("<message/>"),
        node("<presence/>"),
        node(f"<iq type='set'>{CHILD}</iq>"),
        node("<message xmlns='jabber:client'/>"),
        node("<message xmlns='jabber:server'/>"),
        node("<presence xmlns='jabber:component:accept'/>"),
        node(f"<iq xmlns='jabber:component:connect' type='get'>{CHILD}</iq>"),
        node(f"<iq xmlns='jabber:client' type='result'>{CHILD}</iq>"),
        node(f"<iq xmlns='jabber:client' type='error'>{CHILD}<error/></iq>"),
    ],
    ids=to_bytes,
)
def test_stanzas_of_every_content_namespace_may_go_out(stanza: Node) -> None:
    before = to_bytes(stanza)
    check_node(stanza)
    assert to_bytes(stanza) == before


@pytest.mark.parametrize(
    "element",
    [
        ET.Element("body"),
        ET.Element("Message"),
        ET.Element("IQ"),
        ET.Element(""),
        ET.Element("{}x"),
        node("<message xmlns='urn:example:other'/>"),
        node("<iq xmlns='jabber:iq:auth' type='get'><x/></iq>"),
        # Nonzas that would break stream management's count, or the stream.
        node("<a xmlns='urn:xmpp:sm:3' h='1'/>"),
        node("<r xmlns='urn:xmpp:sm:3'/>"),
        node("<enable xmlns='urn:xmpp:sm:3'/>"),
        node("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
        node("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        node("<stream xmlns='http://etherx.jabber.org/streams'/>"),
        node("<error xmlns='http://etherx.jabber.org/streams'/>"),
        node("<features xmlns='http://etherx.jabber.org/streams'/>"),
        node("<handshake xmlns='jabber:component:accept'/>"),
        node("<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0'/>"),
        ET.Comment("hello"),
        ET.ProcessingInstruction("pi"),
    ],
    ids=lambda element: str(element.tag),
)
def test_an_element_that_is_no_stanza_is_refused(element: Node) -> None:
    with pytest.raises(NodeError, match="is no stanza"):
        check_node(element)


@pytest.mark.parametrize(
    ("stanza", "said"),
    [
        (node("<iq xmlns='jabber:client'/>"), "must have the type"),
        (node("<iq xmlns='jabber:client' type=''/>"), "must have the type"),
        (node(f"<iq xmlns='jabber:client' type='GET'>{CHILD}</iq>"), "must have the type"),
        (node(f"<iq type='subscribe'>{CHILD}</iq>"), "must have the type"),
        (iq(type="get"), "exactly one child, not 0"),
        (iq(type="set"), "exactly one child, not 0"),
        (node(f"<iq type='get'>{CHILD}{CHILD}</iq>"), "exactly one child, not 2"),
        (node(f"<iq type='result'>{CHILD}{CHILD}</iq>"), "no more than one child, not 2"),
    ],
)
def test_an_iq_has_the_type_and_the_children_of_rfc_6120_8_2_3(stanza: Node, said: str) -> None:
    with pytest.raises(NodeError, match=said):
        check_node(stanza)


DOMAIN = "bot.example.org"


@pytest.mark.parametrize(
    "sender",
    [
        None,  # the writer puts the component's own there
        "bot.example.org",
        "echo@bot.example.org",
        "echo@bot.example.org/resource",
        "bot.example.org/resource",
        "echo@BOT.example.org",
        "Bot.Example.Org",
        "echo@bot.example.org/a@b/c",
    ],
)
def test_a_component_speaks_for_any_address_in_its_domain(sender: str | None) -> None:
    check_addressed(message(to="romeo@example.org", from_=sender), DOMAIN)


@pytest.mark.parametrize(
    "sender",
    [
        "",
        "example.org",
        "romeo@example.org",
        "bot.example.org.evil.example",
        "x.bot.example.org",
        "romeo@x.bot.example.org",
        "evilbot.example.org",
        "romeo@evil.example/@bot.example.org",
        "evil.example/bot.example.org",
        "x@y@bot.example.org",
        "@bot.example.org",
        "@",
        "a b",
    ],
)
def test_a_component_does_not_speak_for_others(sender: str) -> None:
    with pytest.raises(NodeError, match="'from' is"):
        check_addressed(message(to="romeo@example.org", from_=sender), DOMAIN)


@pytest.mark.parametrize("to", [None, ""])
def test_a_component_says_whom_it_speaks_to(to: str | None) -> None:
    with pytest.raises(NodeError, match="must have a 'to'"):
        check_addressed(message(to=to, from_=DOMAIN), DOMAIN)


def test_domains_in_other_scripts_are_compared_prepared() -> None:
    check_addressed(message(to="a@b.example", from_="x@xn--bcher-kva.example"), "bücher.example")
    check_addressed(message(to="a@b.example", from_="x@bücher.example/y"), "bücher.example")


def test_what_a_node_says_is_quoted_within_bounds() -> None:
    with pytest.raises(NodeError) as caught:
        check_addressed(message(to="a@b.example", from_="x" * 3000), DOMAIN)
    assert len(str(caught.value)) < 500
