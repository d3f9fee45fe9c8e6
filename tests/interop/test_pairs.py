"""Each type of link on each server that must serve it: to READY in the order that is promised, to and fro, and down."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from pcj import Event, Node, State, message, ping
from tests.interop.links import (
    LOG,
    PAIRS,
    SHUTDOWN,
    Pair,
    Watched,
    counterpart,
    jabberd14,
    ready,
    run,
    settle,
    words,
    xmpp,
)
from tests.interop.matrix import Seen, behaviour
from tests.interop.servers import RealServer

BODY = "Здравствуй, 世界 🦊 \u00a0é | <b>&amp;</b> & \"double\" 'single' ]]> <![CDATA[x]]>\nsecond line\tend"
MARKUP = "{urn:example:markup}markup"


every_pair = pytest.mark.parametrize("pair", PAIRS, ids=str)


@behaviour("happy path", [*PAIRS, LOG])
def test_the_link_gets_ready_in_the_order_of_the_original(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server)) as (link,):
            statuses = [*link.statuses]
            last = next(place for place, status in enumerate(statuses) if status.event == Event.PCJ_READY)
            assert link.words().startswith(f"CONNECT CONNECTING CONNECTED {pair.order} READY")
            assert link.broker.state is State.READY
            assert link.broker.sid
            assert [status.seq for status in statuses] == sorted({status.seq for status in statuses})
            assert all(status.detail["attempt"] == 1 for status in statuses if status.event != Event.PCJ_CONNECT)
            assert statuses[last].detail["session"] == 1
            assert statuses[last].detail["jid"] == link.jid
            for status in link.all(Event.PCJ_STREAMSTART):
                assert status.node is not None
                assert status.node.tag == "{http://etherx.jabber.org/streams}stream"
                assert status.node.get("to") == ("localhost" if not pair.component else "comp.localhost")
            for status in link.all(Event.PCJ_SSLSUCCESS):
                assert status.detail["verified"] is True
                assert status.detail["name"] == "localhost"
                assert status.detail["version"] == "TLSv1.3"
            secured = [str(status.detail["version"]) for status in link.all(Event.PCJ_SSLSUCCESS)]
            (mechanism,) = [str(status.detail["mechanism"]) for status in link.all(Event.PCJ_AUTHNEGOTIATE)]
            seen(", ".join([*(secured or ["no TLS"]), mechanism, f"`{words(statuses[: last + 1])}`"]))

    run(scenario())


@behaviour("shutdown", PAIRS)
def test_shutdown_ends_the_link_in_the_order_of_the_original(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server)) as (link,):
            await settle(link)
            start = len(link.statuses)
            await link.broker.shutdown()
            assert link.words(start) == SHUTDOWN
            assert link.broker.state is State.IDLE
            assert {status.detail["by"] for status in link.all(Event.PCJ_SHUTDOWN_START)} == {"user"}
            seen(f"`{link.all_words(start)}`")

    run(scenario())


async def tell(sender: Watched, receiver: Watched, identity: str) -> Node:
    """A message with all that has to be escaped; what the receiver's subscribers see of it."""
    node = message(to=receiver.jid, type="chat", id=identity, body=BODY)
    ET.SubElement(node, MARKUP, {"quotes": "<\"'&>"}).text = "&lt;"
    before = len(receiver.messages())
    sender.broker.output(node)
    return await receiver.message(before + 1)


@every_pair
def test_messages_go_both_ways_whatever_they_say(pair: Pair, server: RealServer) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server), counterpart(pair, server)) as (link, other):
            for sender, receiver in ((link, other), (other, link)):
                node = await tell(sender, receiver, "m1")
                assert node.tag == "{jabber:client}message"
                assert node.findtext("{jabber:client}body") == BODY
                assert node.get("from") == sender.jid
                assert node.get("to") == receiver.jid
                assert node.get("type") == "chat"
                assert node.get("id") == "m1"
                markup = node.find(MARKUP)
                assert markup is not None
                assert markup.get("quotes") == "<\"'&>"
                assert markup.text == "&lt;"
                (sent,) = [
                    status.node
                    for status in sender.all(Event.PCJ_NODESENT)
                    if status.node is not None and status.node.get("id") == "m1"
                ]
                assert sent.findtext("{jabber:client}body") == BODY

    run(scenario())


@behaviour("answered", PAIRS)
def test_a_request_to_the_server_gets_its_reply_past_all_others(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server)) as (link,):
            link.broker.add_filter("any-iq", "/iq[@type='result']")
            reply = await link.broker.return_to_sender(ping(to=server.domain, id="p1"))
            assert reply.tag == "{jabber:client}iq"
            assert (reply.get("type"), reply.get("id"), reply.get("from")) == ("result", "p1", server.domain)
            assert link.broker.pending == 0
            about_it = [status for status in link.statuses if status.node is not None and status.node.get("id") == "p1"]
            assert [status.event for status in about_it] == [
                Event.PCJ_RTS_START,
                Event.PCJ_NODESENT,
                Event.PCJ_RTS_FINISH,
            ]
            seen(f"{reply.get('type')}: `{words(about_it)}`")

    run(scenario())


ELEMENT = "{urn:example:разметка}élément"


@behaviour("non-ASCII everywhere, each way")
def test_nothing_need_be_ascii(pair: Pair, server: RealServer, seen: Seen) -> None:
    # Name, password and resource of the account, addresses of a component; id, names, attributes, text of a stanza.
    account: dict[str, Any] = {"user": 2, "resource": "балкон 世"}

    async def scenario() -> None:
        if pair.component:
            broker, other_broker = pair.broker(server), xmpp(server, **account)
        else:
            broker, other_broker = pair.broker(server, **account), jabberd14(server)
        async with ready(broker, other_broker) as (link, other):
            component, client = (link, other) if pair.component else (other, link)
            persona = f"жюльета@{component.jid}/{account['resource']}"
            assert client.jid == f"{server.accounts[2][0]}@{server.domain}/{account['resource']}"
            told = []
            for sender, receiver in ((link, other), (other, link)):
                addresses = (client.jid, persona) if sender is client else (persona, client.jid)
                node = message(from_=addresses[0], to=addresses[1], type="chat", id="м-é-世", body=BODY)
                ET.SubElement(node, ELEMENT, {"città": "Zürich", "{urn:example:é}ключ": "\u00a0"}).text = "🦊"
                sender.broker.output(node)
                came = await receiver.message()
                assert (came.get("from"), came.get("to"), came.get("id")) == (*addresses, "м-é-世")
                assert came.findtext("{jabber:client}body") == BODY
                element = came.find(ELEMENT)
                assert element is not None
                assert (element.text, element.attrib) == (
                    "🦊",
                    {"città": "Zürich", "{urn:example:é}ключ": "\u00a0"},
                )
                told.append(str(came.get("from")))
            seen(f"as it was, from {' and from '.join(sorted(told))}")

    run(scenario())


async def overhear(server: RealServer) -> tuple[Watched, Watched]:
    """A component bound as the router's log, and another, while a client talks to that other: says, pings."""
    async with ready(LOG.broker(server), jabberd14(server, domain=1), xmpp(server, user=1)) as (log, other, client):
        await settle(other)  # the session manager's questions to it are over
        start = len(log.statuses)
        client.broker.output(message(to=other.jid, id="m1", body=BODY))
        reply = await client.broker.return_to_sender(ping(to=other.jid, id="p1"))
        assert reply.get("type") == "result"
        await settle(log)
        del log.statuses[:start]
        return log, other


def copies(log: Watched) -> list[Node]:
    """The stanzas in the router's copies: each in its <route type='log'>, so that none is taken for ours."""
    routes = [status.node for status in log.all(Event.PCJ_NODERECEIVED)]
    return [route[0] for route in routes if route is not None and route.get("type") == "log"]


def test_a_component_bound_as_log_hears_what_others_say(jabberd2: RealServer) -> None:
    async def scenario() -> None:
        log, other = await overhear(jabberd2)
        heard = [node.findtext("{jabber:client}body") for node in copies(log) if node.get("id") == "m1"]
        assert heard == [BODY, BODY]  # on its way to the session manager, and from there
        assert len(other.messages()) == 1

    run(scenario())


def test_a_component_bound_as_log_answers_nobody_in_the_place_of_others(jabberd2: RealServer) -> None:
    async def scenario() -> None:
        log, _ = await overhear(jabberd2)
        assert log.all(Event.WARNING, Event.IQ_ANSWERED) == []
        assert [node.get("type") for node in copies(log) if node.get("id") == "p1"][:1] == ["get"]

    run(scenario())
