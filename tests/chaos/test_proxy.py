"""The proxy of the chaos bench does what it says, to the byte."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from bench.chaos.plan import cuts_of
from bench.chaos.proxy import Connection, Proxy, Rule, Shape, fin, hole, rst

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def through(plan: Callable[[Connection], None], test: Callable[[Proxy, Streams, Streams], Awaitable[None]]) -> None:
    """Runs a test with both ends of a connection through a proxy: the broker's, and the server's."""

    async def run() -> None:
        accepted: asyncio.Queue[Streams] = asyncio.Queue()
        server = await asyncio.start_server(
            lambda reader, writer: accepted.put_nowait((reader, writer)), "127.0.0.1", 0
        )
        async with asyncio.timeout(5), Proxy(server.sockets[0].getsockname()[1], plan) as proxy:
            ours = await asyncio.open_connection("127.0.0.1", proxy.port)
            theirs = await accepted.get()
            try:
                await test(proxy, ours, theirs)
            finally:
                ours[1].transport.abort()
                theirs[1].transport.abort()
                await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    asyncio.run(run())


async def rest(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """What still comes, and how it ends."""
    data = b""
    while True:
        try:
            more = await reader.read(1000)
        except ConnectionResetError:
            return data, "reset"
        if not more:
            return data, "closed"
        data += more


def give(*rules: Rule) -> Callable[[Connection], None]:
    def plan(connection: Connection) -> None:
        connection.rules += rules

    return plan


PLACES = [
    (Rule("out", rst, after=7), b"<a/><b>"),
    (Rule("out", rst, pattern=re.compile(rb"<b>"), at="before"), b"<a/>"),
    (Rule("out", rst, pattern=re.compile(rb"<b>")), b"<a/><b>"),
    (Rule("out", rst, pattern=re.compile(rb"<b>"), at="inside", offset=1), b"<a/><"),
    (Rule("out", rst, pattern=re.compile(rb"<b>"), nth=2, offset=1), b"<a/><b></b><b><"),
]


@pytest.mark.parametrize(("rule", "passed"), PLACES, ids=range(len(PLACES)))
@pytest.mark.parametrize("size", [1, 4, 100], ids=["byte by byte", "in fours", "whole"])
def test_a_cut_falls_at_its_place_to_the_byte_however_the_bytes_come(rule: Rule, passed: bytes, size: int) -> None:
    async def test(proxy: Proxy, ours: Streams, theirs: Streams) -> None:
        data = b"<a/><b></b><b></b>"
        for place in range(0, len(data), size):
            if not ours[1].is_closing():
                ours[1].write(data[place : place + size])
                await asyncio.sleep(0.001)
        assert (await rest(ours[0]))[1] == "reset"
        await rest(theirs[0])
        # A reset destroys what the kernel still holds; how much was passed on the proxy knows.
        forwarded = proxy.connections[0].passed["out"]
        # A place inside a match that came in pieces has gone by when the match is whole.
        late = 2 if rule.at != "after" and size < 100 else 0
        assert len(passed) <= forwarded <= len(passed) + late
        assert [how for _, _, how in proxy.cuts] == ["rst"]

    # A rule is used up by its connection.
    again = Rule(
        rule.direction, rst, after=rule.after, pattern=rule.pattern, nth=rule.nth, at=rule.at, offset=rule.offset
    )
    through(give(again), test)


def test_nothing_passes_after_a_cut_in_either_direction() -> None:
    async def test(proxy: Proxy, ours: Streams, theirs: Streams) -> None:
        theirs[1].write(b"there")
        ours[1].write(b"x" * 100_000)
        await rest(ours[0])
        data, _ = await rest(theirs[0])
        assert len(data) <= 10
        assert proxy.connections[0].passed["out"] == 10

    through(give(Rule("out", fin, after=10)), test)


def test_a_fin_lets_what_was_passed_arrive() -> None:
    async def test(proxy: Proxy, ours: Streams, theirs: Streams) -> None:
        theirs[1].write(b"12345")
        assert await rest(ours[0]) == (b"123", "closed")
        assert (await rest(theirs[0]))[0] == b""

    through(give(Rule("in", fin, after=3)), test)


def test_a_hole_swallows_one_direction_and_tells_nobody_of_the_end() -> None:
    async def test(proxy: Proxy, ours: Streams, theirs: Streams) -> None:
        ours[1].write(b"1234567")
        assert await theirs[0].readexactly(4) == b"1234"
        theirs[1].write(b"back")
        assert await ours[0].readexactly(4) == b"back"
        ours[1].transport.abort()
        await asyncio.sleep(0.02)
        assert not theirs[0].at_eof()
        assert proxy.connections[0].dropped["out"] == 3
        assert proxy.connections[0].broker_end in ("reset by the broker", "closed by the broker")
        assert proxy.connections[0].ended is None

    through(give(Rule("out", hole("out"), after=4)), test)


def test_pieces_and_delays_change_nothing_but_time() -> None:
    def plan(connection: Connection) -> None:
        connection.shapes = {"out": Shape(chunk=1), "in": Shape(latency=0.02, jitter=0.01)}

    async def test(proxy: Proxy, ours: Streams, theirs: Streams) -> None:
        data = bytes(range(256)) * 4
        ours[1].write(data)
        assert await theirs[0].readexactly(len(data)) == data
        begun = asyncio.get_running_loop().time()
        theirs[1].write(data)
        assert await ours[0].readexactly(len(data)) == data
        assert asyncio.get_running_loop().time() - begun >= 0.02

    through(plan, test)


def test_a_seed_is_a_plan() -> None:
    assert list(cuts_of(7, 50, 1000)) == list(cuts_of(7, 50, 1000))
    assert list(cuts_of(7, 50, 1000)) != list(cuts_of(8, 50, 1000))
    assert not [cut for cut in cuts_of(7, 500, 1000, holes=False) if cut.how.startswith("hole")]
    assert max(cut.after for cut in cuts_of(7, 500, 1000)) < 2000
