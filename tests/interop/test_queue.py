"""Output while a link to a real server is not READY, and much of it at once while it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pcj import Broker, Event, Receipt, ReceiptState, message
from tests.interop.links import (
    PAIRS,
    Pair,
    Watched,
    counterpart,
    jabberd14,
    jabberd20,
    legacy,
    links,
    ready,
    run,
    settle,
    xmpp,
)
from tests.interop.servers import RealServer

#: One of each type.
TYPES = [
    pair
    for pair in PAIRS
    if str(pair) in ("xmpp-prosody", "xmpp-ejabberd", "legacy-jabberd2", "jabberd14-ejabberd", "jabberd20-jabberd2")
]
BURST = 1_000


@pytest.fixture
def server(pair: Pair, request: pytest.FixtureRequest) -> RealServer:
    return pair.server_of(request)


def bodies(link: Watched) -> list[str | None]:
    return [node.findtext("{jabber:client}body") for node in link.messages()]


def output(link: Watched, to: str, texts: list[str]) -> list[Receipt]:
    return [link.broker.output(message(to=to, body=text)) for text in texts]


@pytest.mark.parametrize("pair", TYPES, ids=str)
def test_what_is_output_before_connect_is_held_until_it_is_asked_for(pair: Pair, server: RealServer) -> None:
    texts = [f"held {number}" for number in range(5)]

    async def scenario() -> None:
        async with ready(counterpart(pair, server)) as (other,), links(pair.broker(server)) as (link,):
            receipts = output(link, other.jid, texts)
            assert link.words() == " ".join(["NODEQUEUED"] * 5)
            assert link.broker.purge_queue() == 0  # not READY: they stay

            await link.broker.connect()
            receipts += output(link, other.jid, ["sent"])
            await settle(link)
            await settle(other)
            assert bodies(other) == ["sent"]
            assert [receipt.state for receipt in receipts] == [ReceiptState.QUEUED] * 5 + [ReceiptState.WRITTEN]
            assert link.broker.queue == 5
            assert "5 nodes wait in the queue" in link.broker.explain()

            start = len(link.statuses)
            assert link.broker.purge_queue() == 5
            await other.message(6)
            assert bodies(other) == ["sent", *texts]
            assert link.words(start) == " ".join(["NODESENT(message)"] * 5)
            assert {receipt.state for receipt in receipts} == {ReceiptState.WRITTEN}
            assert (link.broker.queue, link.broker.purge_queue()) == (0, 0)

    run(scenario())


@pytest.mark.parametrize("pair", TYPES, ids=str)
def test_a_broker_told_to_send_on_ready_sends_what_was_held_after_ready(pair: Pair, server: RealServer) -> None:
    texts = [f"held {number}" for number in range(5)]

    async def scenario() -> None:
        broker = pair.broker(server, on_ready="send")
        async with ready(counterpart(pair, server)) as (other,), links(broker) as (link,):
            link.broker.on(Event.PCJ_READY)(lambda status: output(link, other.jid, ["from the handler of READY"]))
            output(link, other.jid, texts)
            await link.broker.connect()
            await other.message(6)
            await settle(link)
            ready_at = link.all(Event.PCJ_READY)[0].seq
            sent = [status for status in link.all(Event.PCJ_NODESENT) if status.seq > ready_at]
            told = [
                node.findtext("{jabber:client}body") for node in (status.node for status in sent) if node is not None
            ]
            assert [text for text in told if text] == bodies(other)
            assert sorted(text for text in bodies(other) if text) == sorted([*texts, "from the handler of READY"])
            assert [text for text in bodies(other) if text in texts] == texts
            assert link.broker.queue == 0

    run(scenario())


@pytest.mark.parametrize(
    ("name", "client", "component"),
    [
        ("prosody", xmpp, jabberd14),
        ("ejabberd", xmpp, jabberd14),
        ("jabberd2", xmpp, jabberd14),
        ("jabberd2", legacy, jabberd20),
    ],
)
def test_a_burst_each_way_arrives_whole_and_in_order(
    name: str,
    client: Callable[[RealServer], Broker],
    component: Callable[[RealServer], Broker],
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue(name)
    texts = [f"{number} <é&>" for number in range(BURST)]

    async def scenario() -> None:
        async with ready(client(server), component(server)) as (one, two):
            receipts = output(one, two.jid, texts) + output(two, one.jid, texts)
            async with asyncio.TaskGroup() as both:
                both.create_task(one.message(BURST))
                both.create_task(two.message(BURST))
            await settle(one)
            await settle(two)
            assert bodies(two) == texts
            assert bodies(one) == texts
            assert {receipt.state for receipt in receipts} == {ReceiptState.WRITTEN}
            assert (one.broker.queue, two.broker.queue) == (0, 0)

    run(scenario())
