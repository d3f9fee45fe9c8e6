"""How a socket ends: in good order with a FIN, abandoned with a reset (protocol-notes B5). Real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pcj.transport.tls import Begun
from pcj.transport.wire import Wire

HIGH_WATER = 1 << 20
#: More than a kernel takes from us for a peer that does not read.
MUCH = b"x" * 32_000_000


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Wire, socket.socket]]:
    """A wire over TCP, and the peer's end of it."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(5.0)
            yield Wire(transport, HIGH_WATER), peer
            transport.abort()
            await turns()


def throttled(wire: Wire) -> bool:
    """Now; by a call, or a type checker takes it for what it was before."""
    return wire.throttled


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def all_from(peer: socket.socket) -> tuple[int, str]:
    """How many bytes the peer can read, and how they end."""
    count = 0
    try:
        while data := peer.recv(1 << 20):
            count += len(data)
    except ConnectionResetError:
        return count, "reset"
    return count, "end"


def shake(wire: Wire) -> None:
    """The first flight of a TLS handshake."""
    wire.begin_tls(
        name="localhost",
        peer="the server",
        verify=False,
        ca_file=None,
        client_certificate=None,
        pins=(),
        alpn=(),
        begun=Begun.ASKED,
    )


def written(wire: Wire) -> None:
    assert wire.send(b"</stream:stream>")


def full(wire: Wire) -> None:
    assert wire.send(MUCH)


def nothing(wire: Wire) -> None:
    assert not wire.closing


@pytest.mark.parametrize("before", [nothing, written, full, shake])
def test_an_abandoned_socket_is_reset_at_once(before: Callable[[Wire], None]) -> None:
    async def main() -> None:
        async with connected() as (wire, peer):
            before(wire)
            wire.abort()
            await turns()
            count, how = all_from(peer)
            assert how == "reset"
            assert count < len(MUCH)

    asyncio.run(main())


def test_a_socket_that_is_closed_in_good_order_ends_with_a_fin_behind_all_that_was_written() -> None:
    async def main() -> None:
        async with connected() as (wire, peer):
            written(wire)
            wire.close()
            await turns()
            assert all_from(peer) == (len("</stream:stream>"), "end")

    asyncio.run(main())


def test_one_that_is_cut_while_it_closes_keeps_what_has_gone_out() -> None:
    """What the kernel has would be thrown away by a reset, and there is nothing left to wait for."""

    async def main() -> None:
        async with connected() as (wire, peer):
            written(wire)
            wire.close()
            wire.abort()
            await turns()
            assert all_from(peer) == (len("</stream:stream>"), "end")
            wire.abort()  # when all is over it does nothing

    asyncio.run(main())


def test_one_that_cannot_close_because_the_peer_does_not_read_is_reset_when_it_is_cut() -> None:
    async def main() -> None:
        async with connected() as (wire, peer):
            full(wire)
            wire.close()
            await turns()
            wire.abort()
            await turns()
            assert all_from(peer)[1] == "reset"

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_a_unix_socket_has_no_reset_and_is_cut_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            transport, _ = await loop.create_unix_connection(asyncio.Protocol, str(tmp_path / "s"))
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(5.0)
                wire = Wire(transport, HIGH_WATER)
                written(wire)
                wire.abort()
                await turns()
                assert all_from(peer) == (len("</stream:stream>"), "end")
                assert not wire.throttled

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="this kernel does not tell")
def test_a_peer_that_does_not_read_throttles_us_and_one_that_has_read_all_does_not() -> None:
    async def main() -> None:
        async with connected() as (wire, peer):
            assert not throttled(wire)
            full(wire)
            assert throttled(wire)
            peer.setblocking(False)
            left = len(MUCH)
            deadline = time.monotonic() + 5.0
            while left or throttled(wire):
                assert time.monotonic() < deadline, left
                try:
                    left -= len(peer.recv(1 << 20))
                except BlockingIOError:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0)

    asyncio.run(main())
