"""Requests through real servers: every asker hears how it ended, every request to us is answered."""

from __future__ import annotations

import asyncio
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

from pcj import Broker, Event, Node, RequestError, RequestTimeout, Status, UsageError, iq, ping
from pcj.stanza import error_condition
from tests.interop.links import (
    DEADLINE,
    Pair,
    counterpart,
    jabberd14,
    jabberd20,
    legacy,
    ready,
    run,
    settle,
    xmpp,
)
from tests.interop.matrix import Seen, behaviour
from tests.interop.servers import RealServer

#: Who asks, and who is asked. Legacy clients and router components are jabberd2's.
CONVERSATIONS = [
    ("prosody", xmpp, jabberd14),
    ("prosody", jabberd14, xmpp),
    ("ejabberd", xmpp, jabberd14),
    ("ejabberd", jabberd14, xmpp),
    ("jabberd2", xmpp, jabberd14),
    ("jabberd2", jabberd14, xmpp),
    ("jabberd2", legacy, jabberd20),
    ("jabberd2", jabberd20, legacy),
]

Make = Callable[..., Broker]


def ask(to: str, identity: str) -> Node:
    """A question that no broker knows by itself."""
    return iq(to=to, id=identity, payload=ET.Element("{urn:example:question}query"))


@pytest.fixture(params=CONVERSATIONS, ids=lambda row: f"{row[0]}-{row[1].__name__}-asks-{row[2].__name__}")
def conversation(request: pytest.FixtureRequest) -> tuple[RealServer, Make, Make]:
    name, asker, asked = request.param
    return request.getfixturevalue(name), asker, asked


Conversation = tuple[RealServer, Make, Make]


def test_a_ping_to_a_broker_is_answered_by_it(conversation: Conversation) -> None:
    server, asker, asked = conversation

    async def scenario() -> None:
        async with ready(asker(server), asked(server)) as (one, two):
            two.broker.subscribe(Event.PCJ_NODERECEIVED, lambda status: None)
            reply = await one.broker.return_to_sender(ping(to=two.jid, id="p1"), timeout=DEADLINE)
            assert (reply.get("type"), reply.get("id"), reply.get("from")) == ("result", "p1", two.jid)
            assert reply.get("to") == one.jid
            assert len(reply) == 0
            answers = [status for status in two.all(Event.IQ_ANSWERED) if status.node is not None]
            assert [status.detail["condition"] for status in answers if answered(status.node, "p1")] == ["result"]
            assert not any(answered(status.node, "p1") for status in two.all(Event.PCJ_NODERECEIVED))

    run(scenario())


def answered(node: Node | None, identity: str) -> bool:
    return node is not None and node.get("id") == identity


def test_a_request_that_nobody_takes_is_answered_service_unavailable(conversation: Conversation) -> None:
    server, asker, asked = conversation

    async def scenario() -> None:
        async with ready(asker(server), asked(server)) as (one, two):
            reply = await one.broker.return_to_sender(ask(two.jid, "q1"), timeout=DEADLINE)
            assert (reply.get("type"), reply.get("id"), reply.get("from")) == ("error", "q1", two.jid)
            assert error_condition(reply)[:2] == ("cancel", "service-unavailable")
            finished = [status for status in one.all(Event.PCJ_RTS_FINISH) if answered(status.node, "q1")]
            assert len(finished) == 1
            assert any(answered(status.node, "q1") for status in two.all(Event.PCJ_NODERECEIVED))

    run(scenario())


def test_a_request_that_a_handler_takes_is_answered_by_it_alone(conversation: Conversation) -> None:
    server, asker, asked = conversation

    async def scenario() -> None:
        async with ready(asker(server), asked(server)) as (one, two):
            two.broker.add_filter("question", "/iq[@type='get']/q:query", {"q": "urn:example:question"})

            @two.broker.on("question")
            async def answer(status: Status) -> None:
                node = status.node
                assert node is not None
                payload = ET.Element("{urn:example:question}query")
                payload.text = "forty-two"
                two.broker.output(
                    iq(to=node.get("from"), from_=node.get("to"), id=node.get("id"), type="result", payload=payload)
                )

            reply = await one.broker.return_to_sender(ask(two.jid, "q1"), timeout=DEADLINE)
            assert reply.get("type") == "result"
            assert reply.findtext("{urn:example:question}query") == "forty-two"
            assert not any(answered(status.node, "q1") for status in two.all(Event.IQ_ANSWERED))

    run(scenario())


@behaviour("timed out")
def test_a_request_that_is_never_answered_fails_when_its_time_is_over(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server), counterpart(pair, server, unhandled_iq="ignore")) as (one, two):
            await settle(one)
            start = len(one.statuses)
            began = time.monotonic()
            with pytest.raises(RequestTimeout, match=r"within 0\.1 s") as raised:
                await one.broker.return_to_sender(ask(two.jid, "q1"), timeout=0.1)
            assert raised.value.reason == "timeout"
            assert time.monotonic() - began >= 0.1
            (told,) = one.all(Event.RTS_FAIL)
            assert told.detail["reason"] == "timeout"
            assert told.detail["id"] == "q1"
            assert one.broker.pending == 0
            failed = one.all_words(start)

            # It was there all the same; and an answer that comes too late is a node like any other.
            await settle(two)
            assert any(answered(status.node, "q1") for status in two.all(Event.PCJ_NODERECEIVED))
            start = len(one.statuses)
            two.broker.output(iq(to=one.jid, from_=two.jid, id="q1", type="result"))
            await one.until(lambda: any(answered(status.node, "q1") for status in one.all(Event.PCJ_NODERECEIVED)))
            seen(f"`{failed.split()[-1]}`; the reply that comes too late: `{one.all_words(start)}`")

    run(scenario())


@behaviour("in flight at shutdown")
def test_a_request_in_flight_at_shutdown_fails_before_it_is_finished(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server), counterpart(pair, server, unhandled_iq="ignore")) as (one, two):
            waiting = one.broker.return_to_sender(ask(two.jid, "q1"))
            await settle(one)
            start = len(one.statuses)
            await one.broker.shutdown()
            with pytest.raises(RequestError) as raised:
                await waiting
            assert raised.value.reason == "shutdown"
            told = one.all_words(start)
            assert told.split().count("RTS_FAIL(shutdown)") == 1
            assert told.endswith("SHUTDOWN_FINISH")
            assert one.broker.pending == 0
            seen(f"`{told}`")

    run(scenario())


@behaviour("clashing id")
def test_an_id_may_wait_for_one_reply_from_each_address(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server), counterpart(pair, server, unhandled_iq="ignore")) as (one, two):
            first = one.broker.return_to_sender(ask(two.jid, "q1"))
            start = len(one.statuses)
            with pytest.raises(UsageError) as refused:
                one.broker.return_to_sender(ask(two.jid, "q1"))
            assert one.statuses[start:] == []
            # Of another it may be asked: neither gets the other's reply.
            second = await one.broker.return_to_sender(ping(to=server.domain, id="q1"))
            assert second.get("from") == server.domain
            assert not first.done()
            two.broker.output(iq(to=one.jid, from_=two.jid, id="q1", type="result"))
            replies = [await first, second]
            assert [reply.get("from") for reply in replies] == [two.jid, server.domain]
            froms = len({reply.get("from") for reply in replies})
            seen(f"to the same address: {type(refused.value).__name__}; to {froms} addresses: each its own reply")

    run(scenario())


@behaviour("reply from the wrong sender")
def test_a_request_cannot_be_answered_by_a_stranger(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        silent: dict[str, Any] = {"unhandled_iq": "ignore"}
        asked = xmpp(server, user=1, **silent) if pair.component else jabberd14(server, **silent)
        async with ready(pair.broker(server), asked, jabberd14(server, domain=1)) as (one, two, stranger):
            waiting = one.broker.return_to_sender(ask(two.jid, "q1"))
            await settle(one)
            start = len(one.statuses)
            stranger.broker.output(iq(to=one.jid, id="q1", type="result"))
            await one.until(lambda: any(answered(status.node, "q1") for status in one.statuses[start:]))
            assert not waiting.done()
            wrong = one.all_words(start)
            start = len(one.statuses)
            two.broker.output(iq(to=one.jid, id="q1", type="result"))
            assert (await waiting).get("from") == two.jid
            right = one.all_words(start)
            assert (wrong, right) == ("NODERECEIVED", "RTS_FINISH")
            seen(f"`{wrong}`; the right one: `{right}`")

    run(scenario())


def test_a_request_to_a_resource_that_is_not_there_comes_back_as_an_error(real_server: RealServer) -> None:
    async def scenario() -> None:
        async with ready(xmpp(real_server), jabberd14(real_server)) as all_links:
            for link in all_links:
                reply = await link.broker.return_to_sender(ping(to="test02@localhost/nowhere", id="q1"))
                assert (reply.get("type"), reply.get("id")) == ("error", "q1")
                assert reply.get("from") == "test02@localhost/nowhere"
                assert error_condition(reply)[1] == "service-unavailable"

    run(scenario())


def test_a_reply_is_known_whatever_the_case_of_the_address(conversation: Conversation) -> None:
    server, asker, asked = conversation

    async def scenario() -> None:
        async with ready(asker(server), asked(server)) as (one, two):
            for to in ("LOCALHOST", "LocalHost"):
                reply = await one.broker.return_to_sender(ping(to=to), timeout=DEADLINE)
                assert reply.get("type") == "result"
            name, at, rest = two.jid.partition("@")
            domain, slash, resource = (rest or name).partition("/")
            shouted = (name.upper() + at if at else "") + domain.upper() + slash + resource
            reply = await one.broker.return_to_sender(ping(to=shouted), timeout=DEADLINE)
            assert reply.get("type") == "result"

    run(scenario())


def test_many_requests_at_once_each_get_their_own_reply(real_server: RealServer) -> None:
    async def scenario() -> None:
        async with ready(xmpp(real_server), jabberd14(real_server)) as (one, two):

            @two.broker.on(Event.PCJ_NODERECEIVED)
            def answer(status: Status) -> None:
                node = status.node
                if node is not None and node.find("{urn:example:question}query") is not None:
                    payload = ET.Element("{urn:example:answer}to", {"question": node.get("id", "")})
                    two.broker.output(iq(to=node.get("from"), id=node.get("id"), type="result", payload=payload))

            replies = await asyncio.gather(
                *[one.broker.return_to_sender(ask(two.jid, f"q{number}")) for number in range(200)]
            )
            assert [reply[0].get("question") for reply in replies] == [f"q{number}" for number in range(200)]

    run(scenario())
