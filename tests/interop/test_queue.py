"""Output while a link to a real server is not READY, and much of it at once while it is."""

from __future__ import annotations

import asyncio

import pytest

from pcj import Event, Receipt, ReceiptState, State, message
from tests.interop.links import (
    DEADLINE,
    SHUTDOWN,
    Pair,
    Watched,
    counterpart,
    let_go,
    links,
    ready,
    run,
    settle,
    the_pair,
)
from tests.interop.matrix import Seen, behaviour
from tests.interop.servers import RealServer

BURST = 1_000
#: More than one write takes, so that some of it still waits with us when the shutdown comes.
PENDING = 1_500
HELD = [f"held {number}" for number in range(5)]
LARGE = "0123456789" * 20_000


def bodies(link: Watched) -> list[str | None]:
    return [node.findtext("{jabber:client}body") for node in link.messages()]


def output(link: Watched, to: str, texts: list[str]) -> list[Receipt]:
    return [link.broker.output(message(to=to, body=text)) for text in texts]


def arrived(other: Watched, texts: list[str]) -> str:
    """How much of it has come, in words."""
    came = [text for text in bodies(other) if text in set(texts)]
    missing = sum(text not in set(came) for text in texts)
    order = "" if missing else ", in order" if came == texts else ", in another order"
    return f"{len(texts) - missing:,} of {len(texts):,}{order}"


@behaviour("output before connect")
def test_what_is_output_before_connect_is_held_until_it_is_asked_for(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    async def scenario() -> None:
        async with ready(counterpart(pair, server)) as (other,), links(pair.broker(server)) as (link,):
            receipts = output(link, other.jid, HELD)
            told = link.all_words()
            assert told == " ".join(["NODEQUEUED"] * 5)
            assert link.broker.purge_queue() == 0  # not READY: they stay

            await link.broker.connect()
            receipts += output(link, other.jid, ["sent"])
            await settle(link)
            await settle(other)
            assert bodies(other) == ["sent"]
            assert [receipt.state for receipt in receipts] == [ReceiptState.QUEUED] * 5 + [ReceiptState.WRITTEN]
            assert link.broker.queue == 5
            assert "5 nodes wait in the queue" in link.broker.explain()
            seen(f"`{told.split()[0]}`; after READY {link.broker.queue} of 5 still held")

    run(scenario())


@behaviour("purge_queue")
def test_purge_queue_sends_what_was_held_in_order(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(counterpart(pair, server)) as (other,), links(pair.broker(server)) as (link,):
            receipts = output(link, other.jid, HELD)
            await link.broker.connect()
            await settle(link)
            start = len(link.statuses)
            assert link.broker.purge_queue() == 5
            await other.message(5)
            assert bodies(other) == HELD
            told = link.words(start)
            assert told == " ".join(["NODESENT(message)"] * 5)
            assert {receipt.state for receipt in receipts} == {ReceiptState.WRITTEN}
            assert (link.broker.queue, link.broker.purge_queue()) == (0, 0)
            seen(f"{arrived(other, HELD)}; `{told.split()[0]}` each")

    run(scenario())


@behaviour("output during negotiation")
def test_what_is_output_during_the_negotiation_is_held_until_it_is_asked_for(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    async def scenario() -> None:
        async with ready(counterpart(pair, server)) as (other,), links(pair.broker(server)) as (link,):
            link.broker.on(Event.PCJ_AUTHNEGOTIATE)(lambda status: output(link, other.jid, HELD))
            await link.broker.connect()
            await settle(link)
            await settle(other)
            assert bodies(other) == []
            negotiation = link.words().partition(" READY")[0]
            assert negotiation.count("NODEQUEUED") == link.broker.queue == 5
            assert link.broker.purge_queue() == 5
            await other.message(5)
            assert bodies(other) == HELD
            seen(f"`NODEQUEUED`; {arrived(other, HELD)}, by `purge_queue`")

    run(scenario())


@behaviour("output after the end")
def test_what_is_output_after_the_end_is_held_for_the_next_link(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(counterpart(pair, server), pair.broker(server)) as (other, link):
            await link.broker.shutdown()
            await let_go(link)
            start = len(link.statuses)
            output(link, other.jid, HELD)
            told = link.all_words(start)
            assert told == " ".join(["NODEQUEUED"] * 5)
            await link.broker.connect()
            assert link.broker.purge_queue() == 5
            await other.message(5)
            assert bodies(other) == HELD
            seen(f"`{told.split()[0]}`; {arrived(other, HELD)}, by the next link's `purge_queue`")

    run(scenario())


@behaviour("shutdown with output pending")
def test_what_is_output_just_before_shutdown_arrives_all_the_same(pair: Pair, server: RealServer, seen: Seen) -> None:
    texts = [f"{number} {'.' * 1_000}" for number in range(PENDING)]

    async def scenario() -> None:
        broker = pair.broker(server, write_high_water=65_536)
        async with ready(counterpart(pair, server), broker) as (other, link):
            await settle(link)
            start = len(link.statuses)
            receipts = output(link, other.jid, texts)
            assert link.broker.queue > 0
            await link.broker.shutdown()
            assert {receipt.state for receipt in receipts} == {ReceiptState.ACKED}
            assert link.words(start) == " ".join(["NODESENT(message)"] * PENDING + [SHUTDOWN])
            await other.message(PENDING)
            assert bodies(other) == texts
            seen(arrived(other, texts))

    run(scenario())


@behaviour("a large stanza, each way")
def test_a_large_stanza_arrives_as_it_was(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(counterpart(pair, server), pair.broker(server)) as (other, link):
            came = []
            for sender, receiver in ((link, other), (other, link)):
                output(sender, receiver.jid, [LARGE])
                body = (await receiver.message()).findtext("{jabber:client}body")
                assert body == LARGE
                came.append(f"{len(body):,}")
            assert {link.broker.state, other.broker.state} == {State.READY}
            seen(f"{' and '.join(came)} characters")

    run(scenario())


#: One of each type.
TYPES = [
    the_pair(name)
    for name in ("xmpp-prosody", "xmpp-ejabberd", "legacy-jabberd2", "jabberd14-ejabberd", "jabberd20-jabberd2")
]


@pytest.mark.parametrize("pair", TYPES, ids=str)
def test_a_broker_told_to_send_on_ready_sends_what_was_held_after_ready(pair: Pair, server: RealServer) -> None:
    async def scenario() -> None:
        broker = pair.broker(server, on_ready="send")
        async with ready(counterpart(pair, server)) as (other,), links(broker) as (link,):
            link.broker.on(Event.PCJ_READY)(lambda status: output(link, other.jid, ["from the handler of READY"]))
            output(link, other.jid, HELD)
            await link.broker.connect()
            await other.message(6)
            await settle(link)
            ready_at = link.all(Event.PCJ_READY)[0].seq
            sent = [status for status in link.all(Event.PCJ_NODESENT) if status.seq > ready_at]
            told = [
                node.findtext("{jabber:client}body") for node in (status.node for status in sent) if node is not None
            ]
            assert [text for text in told if text] == bodies(other)
            assert sorted(text for text in bodies(other) if text) == sorted([*HELD, "from the handler of READY"])
            assert [text for text in bodies(other) if text in HELD] == HELD
            assert link.broker.queue == 0

    run(scenario())


@pytest.mark.behaviour("1,000 nodes in one burst, each way")
@pytest.mark.parametrize(
    ("client", "component"),
    [
        ("xmpp-prosody", "jabberd14-prosody"),
        ("xmpp-ejabberd", "jabberd14-ejabberd"),
        ("xmpp-jabberd2", "jabberd14-jabberd2"),
        ("legacy-prosody", "jabberd14-prosody"),
        ("legacy-ejabberd_plain", "jabberd14-ejabberd"),
        ("legacy-jabberd2", "jabberd20-jabberd2"),
    ],
)
def test_a_burst_each_way_arrives_whole_and_in_order(
    client: str, component: str, request: pytest.FixtureRequest, seen: Seen
) -> None:
    first, second = the_pair(client), the_pair(component)
    server = first.server_of(request)
    texts = [f"{number} <é&>" for number in range(BURST)]

    async def scenario() -> None:
        async with ready(first.broker(server), second.broker(server)) as (one, two):
            receipts = output(one, two.jid, texts) + output(two, one.jid, texts)
            async with asyncio.TaskGroup() as both:
                both.create_task(one.message(BURST))
                both.create_task(two.message(BURST))
            await settle(one)
            await settle(two)
            assert bodies(two) == texts
            assert bodies(one) == texts
            for receipt in receipts:
                await receipt.acked(DEADLINE)
            assert (one.broker.queue, two.broker.queue) == (0, 0)
            for pair in (first, second):
                seen(f"out {arrived(two, texts)}; in {arrived(one, texts)}", pair=pair)

    run(scenario())
