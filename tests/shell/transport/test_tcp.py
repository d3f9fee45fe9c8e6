"""Dialling on loopback: who answers, who does not, and what is said of it."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from pcj.transport import tcp
from pcj.transport.resolve import Endpoint
from pcj.transport.tcp import address_of, dial, is_loopback
from tests.shell.transport.dialling import (
    Attempts,
    closed_port,
    listen,
    names,
    never,
    open_files,
)


class _Chosen(asyncio.Protocol):
    pass


# ---- connecting


def test_a_listener_is_reached_and_its_addresses_are_told() -> None:
    async def run() -> None:
        server, port = listen()
        attempts: list[tuple[str, BaseException | None]] = []
        transport, protocol = await dial(
            Endpoint("127.0.0.1", port),
            _Chosen,
            timeout=5,
            on_attempt=lambda where, error: attempts.append((where, error)),
        )
        assert isinstance(protocol, _Chosen)
        assert attempts == [(f"127.0.0.1:{port}", None)]
        assert address_of(transport) == f"127.0.0.1:{port}"
        assert address_of(transport, local=True) == "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
        assert is_loopback(transport)
        made = transport.get_extra_info("socket")
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == tcp.USER_TIMEOUT_MILLISECONDS
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == tcp.KEEPALIVE_IDLE_SECONDS
        transport.close()
        server.close()

    asyncio.run(run())


def test_a_name_is_looked_up() -> None:
    async def run() -> None:
        server, port = listen()
        transport, _ = await dial(Endpoint("localhost", port), _Chosen, timeout=5)
        assert address_of(transport) == f"127.0.0.1:{port}"
        transport.close()
        server.close()

    asyncio.run(run())


def test_a_refused_address_leads_to_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "STAGGER_SECONDS", 3600.0)

    async def run() -> None:
        server, port = listen()
        dead = closed_port()
        names(("127.0.0.1", dead), ("127.0.0.1", port))(asyncio.get_running_loop())
        attempts: Attempts = []
        transport, _ = await dial(
            Endpoint("xmpp.example.org", port),
            _Chosen,
            timeout=5,
            on_attempt=lambda where, error: attempts.append((where, type(error).__name__)),
        )
        assert attempts == [(f"127.0.0.1:{dead}", "ConnectionRefusedError"), (f"127.0.0.1:{port}", "NoneType")]
        transport.close()
        server.close()

    asyncio.run(run())


def test_a_silent_address_is_overtaken_and_told_of_and_its_socket_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "STAGGER_SECONDS", 0.01)

    async def run() -> None:
        server, port = listen()
        loop: Any = asyncio.get_running_loop()
        names(("192.0.2.7", 5222), ("127.0.0.1", port))(loop)
        real, sockets = loop.sock_connect, []

        async def sock_connect(made: socket.socket, address: Any) -> None:
            sockets.append(made)
            await (never(address) if address[0] == "192.0.2.7" else real(made, address))

        loop.sock_connect = sock_connect
        attempts: list[str] = []
        transport, _ = await dial(
            Endpoint("xmpp.example.org", port),
            _Chosen,
            timeout=5,
            on_attempt=lambda where, error: attempts.append(f"{where} {error}"),
        )
        assert attempts[1:] == [f"127.0.0.1:{port} None"], "the one that connected comes last"
        assert re.fullmatch(r"192\.0\.2\.7:5222 overtaken after 0\.\d\d s", attempts[0])
        assert [made.fileno() == -1 for made in sockets] == [True, False]
        transport.close()
        server.close()

    asyncio.run(run())


def test_two_that_connect_at_once_leave_one_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "STAGGER_SECONDS", 0.0)

    async def run() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = listen()
        names(("127.0.0.1", port), ("127.0.0.2", port))(loop)
        together, real, sockets = asyncio.Barrier(2), loop.sock_connect, []

        async def sock_connect(made: socket.socket, address: Any) -> None:
            sockets.append(made)
            await real(made, ("127.0.0.1", port))
            await together.wait()

        loop.sock_connect = sock_connect
        attempts: Attempts = []
        transport, _ = await dial(
            Endpoint("xmpp.example.org", port),
            _Chosen,
            timeout=5,
            on_attempt=lambda where, error: attempts.append((where, type(error).__name__)),
        )
        assert attempts == [(f"127.0.0.2:{port}", "Overtaken"), (f"127.0.0.1:{port}", "NoneType")]
        assert sorted(made.fileno() == -1 for made in sockets) == [False, True]
        transport.close()
        server.close()

    asyncio.run(run())


def test_a_unix_socket_is_reached(tmp_path: Path) -> None:
    path = str(tmp_path / "xmpp.sock")

    async def run() -> None:
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()
        transport, _ = await dial(Endpoint(path, 5347), _Chosen, timeout=5)
        assert (address_of(transport), address_of(transport, local=True)) == (path, "")
        assert is_loopback(transport)
        transport.close()
        server.close()

    asyncio.run(run())


# ---- leaving


def test_a_cancelled_dial_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "STAGGER_SECONDS", 0.0)

    async def run() -> None:
        loop: Any = asyncio.get_running_loop()
        names(("192.0.2.7", 5222), ("192.0.2.8", 5222))(loop)
        sockets: list[socket.socket] = []
        attempts: list[str] = []

        async def sock_connect(made: socket.socket, address: Any) -> None:
            sockets.append(made)
            await never(address)

        loop.sock_connect = sock_connect
        dialling = asyncio.create_task(
            dial(
                Endpoint("example.org", 5222),
                asyncio.Protocol,
                timeout=60,
                on_attempt=lambda where, error: attempts.append(where),
            )
        )
        while len(sockets) < 2:  # noqa: ASYNC110  the code under test has no event to wait for
            await asyncio.sleep(0)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await asyncio.sleep(0)
        assert [made.fileno() for made in sockets] == [-1, -1]
        assert attempts == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


@pytest.mark.parametrize("steps", range(12))
def test_a_dial_cancelled_at_any_step_leaves_nothing_open(steps: int) -> None:
    async def run() -> None:
        server, port = listen()
        names(("127.0.0.1", closed_port()), ("127.0.0.1", port))(asyncio.get_running_loop())
        before = open_files()
        dialling = asyncio.create_task(dial(Endpoint("example.org", port), asyncio.Protocol, timeout=60))
        for _ in range(steps):
            await asyncio.sleep(0)
        dialling.cancel()
        try:
            transport, _ = await dialling
            transport.close()
        except asyncio.CancelledError:
            pass
        server.close()
        for _ in range(5):
            await asyncio.sleep(0)
        assert open_files() <= before

    asyncio.run(run())


def test_a_dial_cancelled_while_the_losers_end_closes_the_one_that_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "STAGGER_SECONDS", 0.0)

    async def run() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = listen()
        names(("192.0.2.7", 5222), ("127.0.0.1", port))(loop)
        real, ending, ended = loop.sock_connect, asyncio.Event(), asyncio.Event()
        sockets: dict[str, socket.socket] = {}

        async def sock_connect(made: socket.socket, address: Any) -> None:
            sockets[address[0]] = made
            if address[0] != "192.0.2.7":
                await real(made, address)
                return
            try:
                await never(address)
            finally:
                ending.set()
                await ended.wait()

        loop.sock_connect = sock_connect
        dialling = asyncio.create_task(dial(Endpoint("example.org", port), asyncio.Protocol, timeout=60))
        await ending.wait()
        assert sockets["127.0.0.1"].getpeername()[1] == port
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert sockets["127.0.0.1"].fileno() == -1
        ended.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert sockets["192.0.2.7"].fileno() == -1
        server.close()

    asyncio.run(run())


def test_a_factory_that_raises_leaves_nothing_open() -> None:
    def factory() -> asyncio.Protocol:
        raise LookupError("no protocol")

    async def run() -> None:
        server, port = listen()
        before = open_files()
        with pytest.raises(LookupError):
            await dial(Endpoint("127.0.0.1", port), factory, timeout=5)
        server.close()
        await asyncio.sleep(0)
        assert open_files() <= before

    asyncio.run(run())


# ---- loopback


class _Told(asyncio.BaseTransport):
    """A transport of which only the address matters."""

    def __init__(self, family: socket.AddressFamily, peer: object) -> None:
        with socket.socket(family) as made:
            super().__init__({"peername": peer, "socket": made})


@pytest.mark.parametrize(
    ("family", "peer", "expected", "text"),
    [
        (socket.AF_INET, ("127.0.0.1", 1), True, "127.0.0.1:1"),
        (socket.AF_INET, ("127.9.9.9", 1), True, "127.9.9.9:1"),
        (socket.AF_INET, ("128.0.0.1", 1), False, "128.0.0.1:1"),
        (socket.AF_INET6, ("::1", 1, 0, 0), True, "[::1]:1"),
        (socket.AF_INET6, ("::ffff:127.0.0.1", 1, 0, 0), True, "[::ffff:127.0.0.1]:1"),
        (socket.AF_INET6, ("::ffff:192.0.2.7", 1, 0, 0), False, "[::ffff:192.0.2.7]:1"),
        (socket.AF_INET6, ("fe80::1%eth0", 1, 0, 2), False, "[fe80::1%eth0]:1"),
        (socket.AF_INET6, ("fe80::1", 1, 0, 2), False, "[fe80::1%2]:1"),
        (socket.AF_UNIX, "/run/x", True, "/run/x"),
        (socket.AF_UNIX, b"\0abstract", True, "\0abstract"),
        (socket.AF_INET, None, False, ""),
    ],
)
def test_loopback_is_known_by_the_peers_address(
    family: socket.AddressFamily, peer: object, expected: bool, text: str
) -> None:
    transport = _Told(family, peer)
    assert is_loopback(transport) is expected
    assert address_of(transport) == text


def test_a_transport_without_a_socket_is_not_loopback() -> None:
    assert not is_loopback(asyncio.BaseTransport())
    assert address_of(asyncio.BaseTransport()) == ""
