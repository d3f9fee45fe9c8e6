"""The scripted server says what the test says."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter

import pytest

from pcj.errors import UsageError
from pcj.testing import ScriptedServer
from tests.shell.testing.peer import Peer, run


def test_it_sends_the_bytes_of_its_handler_and_closes_behind_them() -> None:
    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        assert await reader.readexactly(5) == b"hello"
        writer.write(b"<not-xml")

    async def main() -> None:
        async with ScriptedServer(handler) as server:
            for _ in range(2):
                async with Peer(server.port) as peer:
                    peer.send("hello")
                    assert await peer.end() == "<not-xml"
            assert server.connections == 2
            with pytest.raises(UsageError):
                await server.__aenter__()

    run(main)


def test_a_handler_that_never_ends_is_ended() -> None:
    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(b"!")
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with ScriptedServer(handler) as server, Peer(server.port) as peer:
            await peer.until("!")

    run(main)


def test_what_fails_in_a_handler_fails_the_test() -> None:
    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        assert await reader.read(1) == b"y", "the wrong byte"

    async def main() -> None:
        with pytest.raises(AssertionError, match="the wrong byte"):
            async with ScriptedServer(handler) as server, Peer(server.port) as peer:
                peer.send("n")
                await peer.end()

    run(main)


def test_a_client_that_goes_away_is_no_failure() -> None:
    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readexactly(5)

    async def main() -> None:
        async with ScriptedServer(handler) as server, Peer(server.port) as peer:
            peer.send("hell")
            peer.close_writing()
            await peer.end()

    run(main)
