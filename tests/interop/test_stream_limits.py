"""XEP-0478 at real servers: what is announced is kept, so that no node of ours ends a link."""

from __future__ import annotations

import pytest

from pcj import Broker, Event, NodeError, ReceiptState, message, ping
from pcj.serialize import serialize
from pcj.stanza import Node
from tests.interop.links import jabberd14, ready, run, xmpp
from tests.interop.servers import Prosody, RealServer

#: What Prosody takes of a client that is logged in, by default.
TAKES = 262_144
#: So that the server's limit counts, not ours.
OURS = 2 * TAKES


def of_bytes(size: int, to: str) -> Node:
    empty = len(serialize(message(to=to, id="i", body="x"), "jabber:client")) - 1
    return message(to=to, id="i", body="x" * (size - empty))


def test_prosody_says_what_it_takes_and_gets_no_more(prosody: Prosody) -> None:
    async def scenario() -> None:
        async with ready(xmpp(prosody, max_outbound_bytes=OURS)) as (link,):
            (status,) = link.all(Event.PCJ_READY)
            assert status.detail["max_bytes"] == TAKES
            for size in (TAKES + 1, OURS):
                with pytest.raises(NodeError, match=f"this server takes {TAKES} at most"):
                    link.broker.output(of_bytes(size, link.jid))
            link.broker.output(of_bytes(TAKES, link.jid))
            await link.message()
            assert not link.all(Event.STREAM_ERROR)

    run(scenario())


def test_what_was_held_for_prosody_and_is_too_large_is_dropped_and_the_link_lives(prosody: Prosody) -> None:
    async def scenario() -> None:
        broker = xmpp(prosody, max_outbound_bytes=OURS)
        large, small = (broker.output(of_bytes(size, "localhost")) for size in (TAKES + 1, 1000))
        async with ready(broker) as (link,):
            assert broker.purge_queue() == 1
            assert (await broker.return_to_sender(ping(to="localhost"))).get("type") == "result"
            assert (large.state, small.state) != (ReceiptState.DROPPED, ReceiptState.QUEUED)
            assert large.state is ReceiptState.DROPPED
            (dropped,) = link.all(Event.NODE_DROPPED)
            assert dropped.detail["reason"] == "oversized"
            assert not link.all(Event.STREAM_ERROR)

    run(scenario())


def test_prosody_ends_the_link_of_whoever_sends_twice_as_much(prosody: Prosody) -> None:
    """What an unprotected client would see: without the limit the same node costs the session."""

    async def scenario() -> None:
        async with ready(xmpp(prosody, max_outbound_bytes=OURS)) as (link,):
            forget_the_limit(link.broker)
            link.broker.output(of_bytes(OURS, link.jid))
            error = (await link.seen(Event.STREAM_ERROR)).error
            assert "policy-violation" in str(error)

    run(scenario())


def test_where_a_server_says_nothing_our_own_bound_counts(real_server: RealServer) -> None:
    async def scenario() -> None:
        async with ready(jabberd14(real_server, max_outbound_bytes=5000)) as (link,):
            (status,) = link.all(Event.PCJ_READY)
            assert "max_bytes" not in status.detail
            with pytest.raises(NodeError, match="max_outbound_bytes allows 5000"):
                link.broker.output(of_bytes(6000, "localhost"))

    run(scenario())


def forget_the_limit(broker: Broker) -> None:
    broker._outbox._intake.set_limits(None)
