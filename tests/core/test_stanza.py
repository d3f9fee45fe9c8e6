"""The builders of the common nodes, and what answers them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from pcj import stanza
from pcj.serialize import to_bytes
from pcj.stanza import Node, error_condition, error_reply, iq, message, ping, presence

CASES = [
    (message(), '<message xmlns="jabber:client"/>'),
    (
        message(to="a@b", from_="c@d/e", id="1", type="chat", body="hi & bye", subject="s", thread="t"),
        '<message xmlns="jabber:client" to="a@b" from="c@d/e" id="1" type="chat">'
        "<subject>s</subject><body>hi &amp; bye</body><thread>t</thread></message>",
    ),
    (message(body=""), '<message xmlns="jabber:client"><body/></message>'),
    (presence(), '<presence xmlns="jabber:client"/>'),
    (
        presence(to="a@b", type="unavailable", show="away", status="lunch", priority=-1),
        '<presence xmlns="jabber:client" to="a@b" type="unavailable">'
        "<show>away</show><status>lunch</status><priority>-1</priority></presence>",
    ),
    (presence(priority=0), '<presence xmlns="jabber:client"><priority>0</priority></presence>'),
    (iq(), '<iq xmlns="jabber:client" type="get"/>'),
    (
        iq(to="a", id="x", type="set", payload=ET.Element("{urn:x}query")),
        '<iq xmlns="jabber:client" to="a" id="x" type="set"><query xmlns="urn:x"/></iq>',
    ),
    (ping(to="a"), '<iq xmlns="jabber:client" to="a" type="get"><ping xmlns="urn:xmpp:ping"/></iq>'),
]


@pytest.mark.parametrize(("node", "xml"), CASES, ids=[xml[:40] for _, xml in CASES])
def test_builder(node: Node, xml: str) -> None:
    assert to_bytes(node).decode() == xml


def test_the_names_are_those_of_jabber_client() -> None:
    assert {message().tag, presence().tag, iq().tag} == stanza.STANZAS


def test_a_reply_goes_back_where_the_request_came_from() -> None:
    request = iq(to="me@here/x", from_="you@there/y", id="7", payload=ET.Element("{urn:x}q"))
    before = to_bytes(request)
    assert to_bytes(stanza.reply(request, type="result")).decode() == (
        '<iq xmlns="jabber:client" to="you@there/y" from="me@here/x" id="7" type="result"/>'
    )
    assert to_bytes(request) == before


def test_a_reply_to_nobody_has_no_address() -> None:
    assert stanza.reply(iq(id="7"), type="result").attrib == {"id": "7", "type": "result"}


def test_an_error_reply() -> None:
    answer = error_reply(iq(from_="a@b", id="1"), "service-unavailable", type="wait", text="later")
    assert to_bytes(answer).decode() == (
        '<iq xmlns="jabber:client" to="a@b" id="1" type="error"><error type="wait">'
        '<service-unavailable xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/>'
        '<text xmlns="urn:ietf:params:xml:ns:xmpp-stanzas">later</text></error></iq>'
    )
    assert stanza.error_condition(answer) == ("wait", "service-unavailable", "later")


S = "urn:ietf:params:xml:ns:xmpp-stanzas"
ERRORS = [
    ("<iq xmlns='jabber:client'/>", ("", "", "")),
    ("<iq xmlns='jabber:client'><error/></iq>", ("", "", "")),
    ("<iq xmlns='jabber:client'><error xmlns='urn:other' type='auth'/></iq>", ("", "", "")),
    (f"<iq xmlns='jabber:client'><error type='auth'><gone xmlns='{S}'>x</gone></error></iq>", ("auth", "gone", "")),
    (f"<iq xmlns='jabber:client'><error><a xmlns='{S}'/><b xmlns='{S}'/></error></iq>", ("", "a", "")),
    (f"<iq xmlns='jabber:client'><error><text xmlns='{S}'/><x xmlns=''/></error></iq>", ("", "", "")),
]


@pytest.mark.parametrize(("xml", "said"), ERRORS)
def test_the_condition_of_an_error(xml: str, said: tuple[str, str, str]) -> None:
    assert stanza.error_condition(ET.fromstring(xml)) == said


def test_an_error_of_the_old_form_has_the_condition_of_its_code() -> None:
    node = ET.Element("{jabber:client}iq", {"type": "error"})
    ET.SubElement(node, "{jabber:client}error", {"code": "401"}).text = "Unauthorized"
    assert error_condition(node) == ("", "not-authorized", "Unauthorized")
