"""What happens to links that are READY when a real server dies, ends in order, and comes back."""

from __future__ import annotations

import asyncio
from itertools import takewhile
from typing import Any

import pytest

from pcj import Broker, ConnectionFailed, Event, ReceiptState, RequestError, State, message, ping
from tests.interop.links import SHUTDOWN, Watched, jabberd14, ready, run, settle, words, xmpp
from tests.interop.matrix import COLUMNS, Seen
from tests.interop.servers import RealServer

#: The columns of each server, all of which are connected at once, in different names.
PAIRS_OF = {
    name: [pair for pair in COLUMNS if pair.server == name] for name in dict.fromkeys(p.server for p in COLUMNS)
}
NAMES: dict[str, dict[str, Any]] = {"legacy": {"user": 1}, "jabberd20": {"domain": 1}}
each_server = pytest.mark.parametrize("name", PAIRS_OF)
#: To make delays too short to be felt.
SOON: dict[str, Any] = {"auto_reconnect": True, "reconnect_delay": 0.05, "reconnect_delay_max": 0.1}


@pytest.fixture
def server(name: str, request: pytest.FixtureRequest) -> RealServer:
    return PAIRS_OF[name][0].server_of(request)


def brokers_of(name: str, server: RealServer) -> list[Broker]:
    """One of each type that the server serves."""
    # No proof by time: what is in doubt at a drop is the same in each run.
    return [pair.broker(server, ack_every_seconds=60.0, **NAMES.get(pair.name, {})) for pair in PAIRS_OF[name]]


def never_answers(server: RealServer) -> Broker:
    """An account that takes requests and keeps them."""
    return xmpp(server, user=1, resource="silent", unhandled_iq="ignore", answer_ping=False)


async def until_lost(link: Watched, start: int) -> str:
    """All that the link tells from `start` to the loss of its session, in both groups of events."""
    lost = await link.seen(Event.SESSION_LOST)
    return words(takewhile(lambda status: status.seq <= lost.seq, link.statuses[start:]), ours=True)


@pytest.mark.behaviour("server killed (SIGKILL)", "in flight at a drop")
@each_server
def test_a_killed_server_is_a_broken_socket_and_what_was_asked_fails(name: str, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(*brokers_of(name, server), never_answers(server)) as (*all_links, silent):
            replies = [link.broker.return_to_sender(ping(to=silent.jid)) for link in all_links]
            ends = [asyncio.create_task(link.broker.wait_for(Event.RECONNECT_DELAY)) for link in all_links]
            for link in all_links:
                await settle(link)
            starts = [len(link.statuses) for link in all_links]
            assert [link.broker.pending for link in all_links] == [1] * len(all_links)

            await asyncio.to_thread(server.kill)

            for pair, link, start, reply, end in zip(PAIRS_OF[name], all_links, starts, replies, ends, strict=True):
                lost = await until_lost(link, start)
                assert lost == BROKEN
                assert link.broker.state is not State.READY
                with pytest.raises(RequestError, match="the connection was lost") as raised:
                    await reply
                assert raised.value.reason == "drop"
                assert words(link.statuses[start:]) == "SOCKETFAIL SOCKETDISCONNECT"
                (told,) = link.all(Event.RTS_FAIL)
                assert told.detail["reason"] == "drop"
                assert told.seq > link.all(Event.SESSION_LOST)[0].seq
                (failed,) = link.all(Event.PCJ_SOCKETFAIL)
                assert isinstance(failed.error, OSError)
                assert link.broker.pending == 0
                assert link.broker.sid == ""
                with pytest.raises(ConnectionFailed, match="the connection"):
                    await end  # nothing follows
                seen(f"`{lost}`, {failed.detail['retry']}", pair=pair, row="server killed (SIGKILL)")
                seen(f"`{link.all_words(start)}`", pair=pair, row="in flight at a drop")
                assert link.broker.state is State.IDLE
                assert "connection" in link.broker.explain()

                receipt = link.broker.output(message(to=silent.jid, body="too late"))
                assert receipt.state is ReceiptState.QUEUED
                assert link.statuses[-1].event == Event.PCJ_NODEQUEUED

    run(scenario())


SAID = "STREAM_ERROR NODERECEIVED STREAMEND SOCKETDISCONNECT SESSION_LOST(drop)"
CLOSED = "STREAMEND SOCKETDISCONNECT SESSION_LOST(drop)"
BROKEN = "SOCKETFAIL SOCKETDISCONNECT SESSION_LOST(drop)"
#: How each of PAIRS_OF ends with SIGTERM. Prosody and ejabberd say to clients what it is, and drop components without a
#: word; jabberd2 closes every stream, and gives no reason.
TERMINATED = {
    "prosody": [SAID, SAID, BROKEN],
    "ejabberd": [SAID, BROKEN],
    "ejabberd_plain": [SAID],
    "jabberd2": [CLOSED] * 4,
}


@pytest.mark.behaviour("server ended (SIGTERM)")
@each_server
def test_a_server_that_ends_in_order_is_heard_out_before_the_link_ends(
    name: str, server: RealServer, seen: Seen
) -> None:
    async def scenario() -> None:
        async with ready(*brokers_of(name, server)) as all_links:
            for link in all_links:
                await settle(link)
            starts = [len(link.statuses) for link in all_links]

            server.terminate()
            try:
                ends = [await until_lost(link, start) for link, start in zip(all_links, starts, strict=True)]
            finally:
                assert await asyncio.to_thread(server.wait)

            assert ends == TERMINATED[name]
            for pair, link, end in zip(PAIRS_OF[name], all_links, ends, strict=True):
                conditions = [f", {told.detail['condition']}" for told in link.all(Event.STREAM_ERROR)]
                seen(f"`{end}`{''.join(conditions)}", pair=pair)
                assert link.broker.state is State.IDLE
                assert link.all(Event.PCJ_SHUTDOWN_START) == []
                if end == SAID:
                    (told,) = link.all(Event.STREAM_ERROR)
                    assert "system-shutdown" in str(told.error)
                    assert told.node is not None
                    assert told.node.tag == "{http://etherx.jabber.org/streams}error"
                    assert "is shutting down" in link.broker.explain().lower()
                else:
                    assert "closed the" in link.broker.explain()

    run(scenario())


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_link_that_reconnects_is_ready_again_when_the_server_is(prosody: RealServer, end: str) -> None:
    async def scenario() -> None:
        async with ready(*[make(prosody, **SOON) for make in (xmpp, jabberd14)]) as all_links:
            first = [link.broker.sid for link in all_links]
            getattr(prosody, end)()
            for link in all_links:
                await link.seen(Event.PCJ_CONNECTFAIL)
                assert link.broker.state in (State.WAITING, State.CONNECTING)
                link.broker.output(message(to=all_links[0].jid, id="held"))
            await asyncio.to_thread(prosody.wait)
            await asyncio.to_thread(prosody.start)

            for link, sid in zip(all_links, first, strict=True):
                again = await link.seen(Event.PCJ_READY, count=2)
                assert again.detail["session"] == 2
                assert again.detail["resumed"] is False
                assert link.broker.sid not in ("", sid)
                await settle(link)
                assert link.broker.queue == 1  # held, as long as nobody purges
                # The user asked once; each attempt has its one end, and a delay before the next.
                assert len(link.all(Event.PCJ_CONNECT)) == 1
                attempts = len(link.all(Event.PCJ_CONNECTING))
                ends = link.all(Event.PCJ_CONNECTFAIL, Event.PCJ_SOCKETDISCONNECT)
                assert len(ends) == len(link.all(Event.RECONNECT_DELAY)) == attempts - 1
                assert link.all(Event.PCJ_SHUTDOWN_START) == []

                start = len(link.statuses)
                await link.broker.shutdown()
                assert link.words(start) == SHUTDOWN

    run(scenario())
