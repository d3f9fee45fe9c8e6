"""What stands beside an event."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

import pytest

from pcj.cli.brief import detail_of, node_in_brief
from pcj.errors import ConnectionFailed, Failure, Phase
from pcj.events import Event, Status
from pcj.namespaces import STREAMS
from pcj.stanza import Node, error_reply, iq, message, ping, presence

UNKNOWN = ConnectionFailed(Failure(Phase.RESOLVE, "h has no address: the name does not exist in DNS."))
FULL = ConnectionFailed(Failure(Phase.CONNECT, "No connection: 9 of 9 files open.", came="too many open files"))
GONE = Element(f"{{{STREAMS}}}error")
SubElement(GONE, "{urn:ietf:params:xml:ns:xmpp-streams}host-gone")
SubElement(GONE, "{urn:ietf:params:xml:ns:xmpp-streams}text").text = "moved"
GONE_IN_WORDS = "it is gone (host-gone): 'moved'"


def nested(depth: int) -> Node:
    node = top = Element("a")
    for _ in range(depth):
        node = SubElement(node, "a")
    return top


def many(count: int) -> Node:
    node = Element("query")
    for _ in range(count):
        SubElement(node, "item")
    return node


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (message(to="juliet@example.org", type="chat", body="hi", id="x"), '<message chat to=juliet@example.org> "hi"'),
        (presence(), "<presence>"),
        (ping(to="example.org"), "<iq get to=example.org> <ping>"),
        (error_reply(iq(from_="a@b"), "conflict"), "<iq error to=a@b> <error cancel> <conflict>"),
        (message(body="\x9b31m\u202e"), '<message> "\\x9b31m\\u202e"'),
        (message(to="[bold]x[/]", body="[red]"), '<message to=[bold]x[/]> "[red]"'),
        (Element(f"{{{STREAMS}}}stream", {"to": "b", "from": "a@b", "id": "1"}), "<stream:stream to=b from=a@b>"),
        (message(body="x" * 100), f'<message> "{"x" * 57}..."'),
        (many(5), "<query> <item> <item> <item> ..."),
        (nested(9), "<a> <a> <a> <a> ..."),
    ],
)
def test_a_node_in_brief(node: Node, expected: str) -> None:
    assert node_in_brief(node) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status(Event.PCJ_READY, 0, 1, detail={"jid": "a@b/c", "attempt": 1, "resumed": False}), "a@b/c"),
        (Status(Event.PCJ_CONNECTING, 0, 1, detail={"host": "h", "port": 1, "attempt": 2}), "h:1, attempt 2"),
        (Status(Event.PCJ_CONNECTING, 0, 1, detail={"host": "::1", "port": 1, "attempt": 1}), "[::1]:1"),
        (Status(Event.PCJ_CONNECTING, 0, 1, detail={"host": "[::1]", "port": 1, "attempt": 1}), "[::1]:1"),
        (Status(Event.PCJ_CONNECTING, 0, 1, detail={"host": "/run/x", "port": 1, "attempt": 1}), "/run/x"),
        (Status(Event.PCJ_CONNECT, 0, 1, detail={"host": "h"}), "h"),
        (Status(Event.PCJ_CONNECT, 0, 1, detail={"port": 1}), "port 1"),
        (
            Status(Event.ATTEMPT, 0, 1, error=UNKNOWN, detail={"address": "h:1", "outcome": str(UNKNOWN)}),
            "h:1 no address",
        ),
        (
            Status(Event.ATTEMPT, 0, 1, error=FULL, detail={"address": "h:1", "outcome": str(FULL)}),
            "h:1 too many open files",
        ),
        (
            Status(Event.ATTEMPT, 0, 1, error=OSError(111, "x"), detail={"address": "h:1", "outcome": "refused"}),
            "h:1 refused",
        ),
        (Status(Event.PCJ_SOCKETFAIL, 0, 1, error=ConnectionResetError(104, "reset by peer")), "reset by peer"),
        (Status(Event.STREAM_ERROR, 0, 1, GONE, ValueError("it is gone (host-gone): 'moved'")), GONE_IN_WORDS),
        (
            Status(Event.STREAM_ERROR, 0, 1, GONE, ValueError("it is gone (host-gone)")),
            "it is gone (host-gone): <stream:error> <host-gone> <text> moved",
        ),
        (Status(Event.PCJ_SSLFAIL, 0, 1, error=ValueError("say direct_tls=True")), "say --direct-tls"),
        (
            Status(Event.PCJ_SSLSUCCESS, 0, 1, detail={"version": "V", "cipher": "C", "name": "n", "verified": False}),
            "NOT VERIFIED V C",
        ),
        (Status(Event.RESOLVED, 0, 1, detail={"addresses": ["a:1", "b:2\x1b"]}), "a:1, b:2\\x1b"),
        (Status(Event.PCJ_AUTHFAIL, 0, 1, error=ValueError("no \u202e")), "no \\u202e"),
        (Status(Event.RECONNECT_DELAY, 0, 1, detail={"delay": 1.5, "reason": "r"}), "the next attempt in 1.5 s"),
        (Status(Event.NODE_DROPPED, 0, 1, message(), detail={"reason": "old"}), "reason old: <message>"),
        (
            Status("MINE", 0, 1, message(), detail={"expression": "//x", "selected": ["a\x1b", message(body="b")]}),
            'selected "a\\x1b", <message> "b" by //x',
        ),
        (
            Status("MINE", 0, 1, message(), detail={"expression": "count(//x)", "selected": 2.0}),
            'selected "2.0" by count(//x)',
        ),
        # Our own address goes without saying.
        (Status(Event.PCJ_NODESENT, 0, 1, message(to="a@b", from_="me@b")), "<message to=a@b>"),
        (Status(Event.PCJ_NODERECEIVED, 0, 1, message(to="me@b", from_="a@b")), "<message from=a@b>"),
    ],
)
def test_the_detail_of_a_status(status: Status, expected: str) -> None:
    assert detail_of(status) == expected


def test_every_event_has_a_detail_that_can_be_shown() -> None:
    for event in Event:
        assert detail_of(Status(event, 0, 1, detail={"evil": "\x1b[2J\u202e"})).isprintable()
