"""Dialling what cannot be reached, with the kernel's and the name server's part replaced."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pcj.errors import ConnectionFailed, Failure
from pcj.transport.resolve import Endpoint
from pcj.transport.tcp import dial

Attempts = list[tuple[str, str]]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fail(
    endpoint: Endpoint, *, timeout: float = 5.0, loop_patch: Callable[[Any], None] | None = None
) -> tuple[Failure, Attempts]:
    """Dial what cannot be reached. Gives the failure and the attempts."""
    attempts: Attempts = []

    async def run() -> Failure:
        if loop_patch is not None:
            loop_patch(asyncio.get_running_loop())
        with pytest.raises(ConnectionFailed) as raised:
            await dial(
                endpoint,
                asyncio.Protocol,
                timeout=timeout,
                on_attempt=lambda where, error: attempts.append((where, type(error).__name__)),
            )
        return raised.value.failure

    return asyncio.run(run()), attempts


def names(*addresses: tuple[str, int]) -> Callable[[Any], None]:
    """Make every name have these addresses."""

    def patch(loop: Any) -> None:
        async def getaddrinfo(host: object, port: object, **_: object) -> list[Any]:
            return [
                (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, number))
                for ip, number in addresses
            ]

        loop.getaddrinfo = getaddrinfo

    return patch


def connecting(outcome: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], None]:
    """Replace the kernel's part of connecting."""

    def patch(loop: Any) -> None:
        async def sock_connect(_: object, address: Any) -> None:
            await outcome(address)

        loop.sock_connect = sock_connect

    return patch


async def never(_: Any) -> None:
    await asyncio.Event().wait()


def both(*patches: Callable[[Any], None]) -> Callable[[Any], None]:
    def patch(loop: Any) -> None:
        for one in patches:
            one(loop)

    return patch


def listen() -> tuple[socket.socket, int]:
    """A port on which the kernel answers; nobody takes the connections."""
    server = socket.create_server(("127.0.0.1", 0))
    return server, server.getsockname()[1]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
