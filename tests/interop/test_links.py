"""Shutdown, reconnect and halt of links to real servers, and two links of one name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from pcj import ConnectionFailed, Event, RequestError, Retry, State, UsageError, ping
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
    words,
)
from tests.interop.matrix import CLIENTS, COMPONENTS, Seen, behaviour
from tests.interop.servers import Ejabberd, Prosody, RealServer, Workspace


@behaviour("shutdown twice")
def test_a_second_shutdown_does_nothing_more(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server)) as (link,):
            await settle(link)
            start = len(link.statuses)
            await asyncio.gather(link.broker.shutdown(), link.broker.shutdown())
            assert link.words(start) == SHUTDOWN
            end = len(link.statuses)
            await link.broker.shutdown()
            assert link.statuses[end:] == []
            assert link.broker.state is State.IDLE
            once = link.words().split().count("SHUTDOWN_FINISH")
            seen(f"{once} sequence of events for 3 calls")

    run(scenario())


@behaviour("shutdown before connect")
def test_a_shutdown_before_connect_only_says_so(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with links(pair.broker(server)) as (link,):
            await link.broker.shutdown()
            told = link.all_words()
            assert told == "SHUTDOWN_START SHUTDOWN_FINISH"
            await link.broker.connect()
            await settle(link)
            seen(f"`{told}`; `connect` then: {link.broker.state}")

    run(scenario())


@asynccontextmanager
async def another_address(link: Watched) -> AsyncIterator[tuple[str, int]]:
    """Where a link reaches its server, too, as soon as that has let go of it."""
    host, port = link.broker.config.host, link.broker.config.port

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the other side has gone; so shall this
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await let_go(link)
        there = await asyncio.open_connection(host, port)
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    listener = await asyncio.start_server(accept, "127.0.0.2")
    try:
        yield listener.sockets[0].getsockname()[:2]
    finally:
        listener.close()


def address_of(link: Watched) -> str:
    """The address of the latest connection, without its port."""
    return str(link.all(Event.PCJ_CONNECTED)[-1].detail["address"]).rpartition(":")[0]


@behaviour("reconnect to another address")
def test_reconnect_ends_the_link_in_order_and_makes_one_elsewhere(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with links(pair.broker(server)) as (link,), another_address(link) as (host, port):
            await link.broker.connect()
            await settle(link)
            first = address_of(link)
            start = len(link.statuses)
            await link.broker.reconnect(host, port)
            told = link.all_words(start)
            assert link.words(start).startswith("CONNECT STREAMEND SOCKETDISCONNECT CONNECTING CONNECTED ")
            assert link.words(start).endswith(f"{pair.order} READY")
            assert link.broker.state is State.READY
            assert link.all(Event.PCJ_READY)[-1].detail["session"] == 2
            await settle(link)
            assert (first, address_of(link)) == (server.host, host)
            seen(f"{first} to {address_of(link)}: `{told.partition(' CONNECTING')[0]}`, {link.broker.state}")
            await link.broker.shutdown()

    run(scenario())


@behaviour("connect while connected")
def test_connect_while_connected_is_refused_and_changes_nothing(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server)) as (link,):
            await settle(link)
            start = len(link.statuses)
            with pytest.raises(UsageError) as refused:
                await link.broker.connect()
            told = link.all_words(start) or "no event"
            assert told == "no event"
            await settle(link)
            seen(f"{type(refused.value).__name__}, {told}; the link: {link.broker.state}")

    run(scenario())


@behaviour("halt")
def test_halt_cuts_the_link_at_once_and_for_good(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        silent = counterpart(pair, server, answer_ping=False, unhandled_iq="ignore")
        async with ready(pair.broker(server, ack_every_seconds=60.0), silent) as (link, other):
            waiting = link.broker.return_to_sender(ping(to=other.jid), timeout=DEADLINE)
            await settle(link)
            start = len(link.statuses)
            link.broker.halt()
            told = link.all_words(start)
            assert told == "SOCKETDISCONNECT SESSION_LOST(halt) NODE_UNCERTAIN RTS_FAIL(halt)"
            with pytest.raises(RequestError) as raised:
                await waiting
            assert raised.value.reason == "halt"
            with pytest.raises(UsageError) as refused:
                link.broker.output(ping(to=other.jid))
            with pytest.raises(UsageError):
                await link.broker.connect()
            assert link.all_words(start) == told
            await settle(other)
            seen(f"`{told}`; `output` and `connect` then: {type(refused.value).__name__}")

    run(scenario())


# ---- two links of one name


def end_of(link: Watched, start: int) -> str:
    """How a link was ended by the server, from a place on: events, the condition, whether a retry can help."""
    (told,) = link.all(Event.STREAM_ERROR)
    return f"`{link.all_words(start)}`, {told.detail['condition']}, {told.detail['retry']}"


@behaviour("resource conflict: the default", CLIENTS)
def test_the_older_session_of_a_resource_loses_it_for_good(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server, auto_reconnect=True)) as (older,):
            await settle(older)
            start = len(older.statuses)
            async with ready(pair.broker(server)) as (newcomer,):
                await older.seen(Event.PCJ_SHUTDOWN_FINISH)
                assert older.broker.state is State.IDLE  # to take it back would be a ping-pong without end
                assert newcomer.broker.state is State.READY
                assert newcomer.jid == f"test01@{server.domain}/orchard"
                await settle(newcomer)
                seen(f"the newcomer is {newcomer.broker.state}, the older ended: {end_of(older, start)}")

    run(scenario())


@pytest.fixture(scope="module")
def refusing(workspace: Workspace, prosody: Prosody, ejabberd_plain: Ejabberd) -> Iterator[dict[str, RealServer]]:
    """Servers that are set to refuse a second session of a resource. Skipped where the usual ones are."""
    del prosody, ejabberd_plain
    first = Prosody(workspace, settings='conflict_resolve = "kick_new"')
    second = Ejabberd(workspace, password_format="plain", settings="resource_conflict: closenew")
    with first, second:
        yield {server.name: server for server in (first, second)}


KNOW_THE_SETTING = [pair for pair in CLIENTS if pair.server != "jabberd2"]


@behaviour("resource conflict: newcomer refused", [pair for pair in KNOW_THE_SETTING if pair.name == "xmpp"])
def test_a_newcomer_that_is_refused_a_resource_takes_another_and_says_so(
    pair: Pair, refusing: dict[str, RealServer], seen: Seen
) -> None:
    server = refusing[pair.server.partition("_")[0]]

    async def scenario() -> None:
        async with ready(pair.broker(server), pair.broker(server)) as (older, newcomer):
            (changed,) = newcomer.all(Event.JID_CHANGED)
            assert changed.detail["asked"] == older.jid == f"test01@{server.domain}/orchard"
            assert changed.detail["given"] == newcomer.jid
            assert newcomer.jid.startswith(f"test01@{server.domain}/")
            assert newcomer.jid != older.jid
            _, _, told = newcomer.all_words().partition("BINDNEGOTIATE")
            assert told.split().count("RTS_START(iq") == 2
            for link in (older, newcomer):
                await settle(link)
            seen(f"the older stays {older.broker.state}, the newcomer gets another resource: `BINDNEGOTIATE{told}`")

    run(scenario())


@behaviour("resource conflict: newcomer refused", [pair for pair in KNOW_THE_SETTING if pair.name == "legacy"])
def test_a_newcomer_by_iq_auth_that_is_refused_a_resource_can_try_again_later(
    pair: Pair, refusing: dict[str, RealServer], seen: Seen
) -> None:
    server = refusing[pair.server.partition("_")[0]]

    async def scenario() -> None:
        async with ready(pair.broker(server)) as (older,), links(pair.broker(server)) as (newcomer,):
            failure = await newcomer.fails()
            (failed,) = newcomer.all(Event.PCJ_AUTHFAIL)
            assert failure.condition == "conflict"
            await settle(older)
            seen(
                f"the older stays {older.broker.state}, the newcomer: "
                f"`{words([failed])}` {failure.condition}, {failure.retry}"
            )

    run(scenario())


@behaviour("a second component of one domain", COMPONENTS)
def test_a_second_component_of_one_domain_is_told_so_or_both_are_served(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server)) as (older,), links(pair.broker(server)) as (newcomer,):
            try:
                await newcomer.broker.connect()
            except ConnectionFailed as error:
                failure = error.failure
                (failed,) = newcomer.all(Event.PCJ_AUTHFAIL, Event.PCJ_BINDFAIL)
                outcome = f"`{words([failed])}` {failure.condition}, {failure.retry}"
                assert failure.retry is Retry.SLOW
                await settle(older)
            else:
                outcome = str(newcomer.broker.state)
                # They are served both; what comes goes to one of them, and nobody is told.
                assert str(pair) in ("jabberd14-ejabberd", "jabberd14-jabberd2")
            assert older.broker.state is State.READY
            seen(f"the older stays {older.broker.state}, the newcomer: {outcome}")

    run(scenario())
