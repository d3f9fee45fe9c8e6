"""What the broker answers by itself."""

from __future__ import annotations

import pytest

from pcj.protocol.answers import answer_to_ping, answer_to_unhandled, is_request
from pcj.serialize import to_bytes
from pcj.stanza import Node, error_condition, message, presence
from pcj.xmlstream import from_bytes

PING = "<ping xmlns='urn:xmpp:ping'/>"


def iq(attributes: str, content: str = PING) -> Node:
    return from_bytes(f"<iq xmlns='jabber:client' {attributes}>{content}</iq>".encode())


ASKED = "from='juliet@example.org/balcony' to='romeo@example.org/orchard'"


def test_a_ping_is_answered_with_an_empty_result_to_its_sender() -> None:
    answer = answer_to_ping(iq(f"type='get' id='a' {ASKED}"))
    assert answer is not None
    assert answer.attrib == {
        "type": "result",
        "id": "a",
        "to": "juliet@example.org/balcony",
        "from": "romeo@example.org/orchard",
    }
    assert len(answer) == 0


def test_a_ping_of_the_server_without_addresses_is_answered_without_any() -> None:
    answer = answer_to_ping(iq("type='get' id='a'"))
    assert answer is not None
    assert answer.attrib == {"type": "result", "id": "a"}


@pytest.mark.parametrize(
    ("attributes", "content"),
    [
        ("type='set' id='a'", PING),
        ("type='result' id='a'", PING),
        ("type='error' id='a'", PING),
        ("type='get'", PING),
        ("type='get' id=''", PING),
        ("id='a'", PING),
        ("type='get' id='a'", ""),
        ("type='get' id='a'", PING + PING),
        ("type='get' id='a'", "<ping xmlns='urn:example:other'/>"),
        ("type='get' id='a'", "<query xmlns='jabber:iq:version'/>"),
    ],
)
def test_what_is_no_ping_is_not_answered_as_one(attributes: str, content: str) -> None:
    assert answer_to_ping(iq(attributes, content)) is None


@pytest.mark.parametrize("type", ["get", "set"])
def test_a_request_that_nobody_handles_is_answered_as_by_a_server_whose_user_is_away(type: str) -> None:
    request = iq(f"type='{type}' id='a' {ASKED}", "<query xmlns='urn:example:q'/>")
    before = to_bytes(request)
    answer = answer_to_unhandled(request)
    assert error_condition(answer) == ("cancel", "service-unavailable", "")
    assert (answer.get("to"), answer.get("id")) == ("juliet@example.org/balcony", "a")
    assert to_bytes(request) == before


@pytest.mark.parametrize(
    ("attributes", "content"),
    [("type='get' id='a'", ""), ("type='set' id='a'", PING + PING), ("type='get'", PING), ("type='get' id=''", PING)],
)
def test_a_malformed_request_is_a_bad_request(attributes: str, content: str) -> None:
    assert error_condition(answer_to_unhandled(iq(attributes, content)))[:2] == ("modify", "bad-request")


@pytest.mark.parametrize(
    ("node", "answered"),
    [
        (iq("type='get' id='a'"), True),
        (iq("type='set' id='a'"), True),
        (iq("type='result' id='a'"), False),
        (iq("type='error' id='a'"), False),
        (iq("id='a'"), False),
        (iq("type='GET' id='a'"), False),
        (message(type="get"), False),
        (presence(type="set"), False),
        (message(type="error"), False),
    ],
)
def test_only_requests_are_ever_answered_so_that_no_bounce_can_loop(node: Node, answered: bool) -> None:
    assert is_request(node) is answered


def test_our_own_answers_are_no_requests() -> None:
    request = iq(f"type='get' id='a' {ASKED}")
    answer = answer_to_ping(request)
    assert answer is not None
    assert not is_request(answer)
    assert not is_request(answer_to_unhandled(request))
