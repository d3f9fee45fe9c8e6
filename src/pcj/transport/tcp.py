"""A TCP connection (or a Unix socket) to an endpoint: every address of it raced, every failure told."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from pcj.errors import ConnectionFailed, Failure, Phase, Retry
from pcj.transport.names import ascii_name, ip_literal
from pcj.transport.resolve import Endpoint
from pcj.transport.tcp_errors import Attempt, none_connected, too_many_files, unknown_name

__all__ = ["address_of", "dial", "is_loopback"]

#: How long an attempt has before the next begins beside it, in seconds (RFC 8305 5).
STAGGER_SECONDS = 0.25
#: How many addresses of one name are tried.
MAX_ADDRESSES = 16
#: A silent link is asked after this time, this often, and given up after so many questions without an answer.
KEEPALIVE_IDLE_SECONDS: Final = 60
KEEPALIVE_INTERVAL_SECONDS: Final = 15
KEEPALIVE_PROBES: Final = 4
#: How long data may stay unacknowledged before the kernel ends the link; of itself Linux waits about 15 minutes. Longer
#: than a server that throttles us stops reading.
USER_TIMEOUT_MILLISECONDS: Final = 120_000

OnAttempt = Callable[[str, BaseException | None], None]
_Address = tuple[socket.AddressFamily, Any]  # and the address in the form of its family


async def dial(
    endpoint: Endpoint,
    factory: Callable[[], asyncio.Protocol],
    *,
    timeout: float,
    on_attempt: OnAttempt | None = None,
) -> tuple[asyncio.Transport, asyncio.Protocol]:
    """Connect to an endpoint, in the manner of RFC 8305: its addresses one after the other, 0.25 s apart.

    Args:
        endpoint: where to connect. factory: makes the protocol, once, when there is a connection.
        timeout: for all of it, the look-up of the name among it, in seconds.
        on_attempt: called as each attempt ends, with the address and its error, None for the one that connected.
            An attempt that another overtook is not told of.

    Returns:
        The transport and the protocol. No other socket is left open, whatever happens.

    Raises:
        ConnectionFailed: in Phase.RESOLVE (the name has no address) or Phase.CONNECT (no address answered).
    """
    loop = asyncio.get_running_loop()
    attempts: list[Attempt] = []

    def ended(address: str, error: BaseException | None) -> None:
        if error is not None:
            attempts.append(Attempt(address, error))
        if on_attempt is not None:
            on_attempt(address, error)

    addresses: list[_Address] | None = None
    started: list[str] = []
    connected: socket.socket | None = None
    try:
        async with asyncio.timeout(timeout):
            addresses = await _addresses(endpoint)
            connected = await _race(addresses, started, ended)
    except TimeoutError as error:
        if addresses is None:
            message = f"No answer from the name server within {timeout:g} s while looking up {endpoint.host}."
            raise ConnectionFailed(Failure(phase=Phase.RESOLVE, message=message)) from error
        over = {attempt.address for attempt in attempts}
        for where in started:
            if where not in over:
                ended(where, TimeoutError(f"no answer in {timeout:g} s"))
    if connected is not None:
        return await _protocol_on(loop, connected, factory)
    last = attempts[-1].error if attempts else None
    untried = len(addresses) - len(started)
    raise ConnectionFailed(none_connected(endpoint, attempts, untried=untried, seconds=timeout)) from last


async def _protocol_on(
    loop: asyncio.AbstractEventLoop, connected: socket.socket, factory: Callable[[], asyncio.Protocol]
) -> tuple[asyncio.Transport, asyncio.Protocol]:
    try:
        if connected.family == getattr(socket, "AF_UNIX", None):
            return await loop.create_unix_connection(factory, sock=connected)
        return await loop.create_connection(factory, sock=connected)
    except BaseException:
        connected.close()
        raise


# ---- addresses


async def _addresses(endpoint: Endpoint) -> list[_Address]:
    """The addresses of the endpoint's host, in the order in which to try them."""
    host, port = endpoint.host, endpoint.port
    if host.startswith("/"):
        return [(socket.AF_UNIX, host)]
    literal = ip_literal(host)
    if literal is not None and "%" not in str(literal):
        if literal.version == 4:
            return [(socket.AF_INET, (str(literal), port))]
        return [(socket.AF_INET6, (str(literal), port, 0, 0))]
    try:
        name = str(literal) if literal is not None else ascii_name(host)
        found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except ValueError as error:  # UnicodeError is one too
        message = f"{error}: it has no address."
        raise ConnectionFailed(Failure(phase=Phase.RESOLVE, message=message, retry=Retry.FATAL)) from None
    except OSError as error:
        if (full := _files_exhausted()) is not None:  # the resolver says "try again" then
            raise ConnectionFailed(too_many_files(full)) from error
        raise ConnectionFailed(unknown_name(endpoint, error)) from error
    return _interleaved([(family, address) for family, _, _, _, address in found])[:MAX_ADDRESSES]


def _interleaved(addresses: Sequence[_Address]) -> list[_Address]:
    """RFC 8305 4: the families by turns, the family of the first address first."""
    families: dict[socket.AddressFamily, list[_Address]] = {}
    for entry in dict.fromkeys(addresses):
        families.setdefault(entry[0], []).append(entry)
    queues = list(families.values())
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _text(address: _Address) -> str:
    """ "192.0.2.7:5222", "[2001:db8::7]:5222" or the path of a Unix socket."""
    family, where = address
    if family == socket.AF_INET:
        return f"{where[0]}:{where[1]}"
    if family == socket.AF_INET6:
        return f"[{where[0]}]:{where[1]}"
    return where.decode("utf-8", "backslashreplace") if isinstance(where, bytes) else str(where)


def _files_exhausted() -> OSError | None:
    """The error of opening one more file, if that is what fails."""
    try:
        socket.socket().close()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return error
    return None


# ---- the race


async def _race(addresses: Sequence[_Address], started: list[str], ended: OnAttempt) -> socket.socket | None:
    """The first socket that connects, or None; all others are closed, also when this is cancelled.

    `started` gets every address as its attempt begins; `ended` is called as one ends, not for those that are cut short.
    """
    waiting = list(reversed(addresses))
    running: dict[asyncio.Task[socket.socket], str] = {}
    winner: socket.socket | None = None
    next_start = 0.0
    try:
        while winner is None and (waiting or running):
            now = time.monotonic()
            if waiting and (not running or now >= next_start):
                address = waiting.pop()
                started.append(_text(address))
                running[asyncio.create_task(_connect(address))] = started[-1]
                next_start = now + STAGGER_SECONDS
            patience = max(0.0, next_start - time.monotonic()) if waiting else None
            done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None and winner is not None:
                    continue  # two at once: this one stays among the losers
                where = running.pop(task)
                if error is None:
                    winner = task.result()
                elif isinstance(error, OSError):
                    next_start = 0.0  # RFC 8305 5: after a failure the next need not wait
                else:
                    raise error
                ended(where, error)
        await _stop(running)
    except BaseException:
        if winner is not None:
            winner.close()
        _abandon(running)
        raise
    return winner


def _abandon(losers: Iterable[asyncio.Task[socket.socket]]) -> None:
    for task in losers:
        task.cancel()
        task.add_done_callback(_close_late)


async def _stop(losers: Collection[asyncio.Task[socket.socket]]) -> None:
    _abandon(losers)
    if losers:
        await asyncio.wait(losers)


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """A loser that ended by itself: its socket is closed, its error looked at (or asyncio complains of it)."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(address: _Address) -> socket.socket:
    """One attempt."""
    family, where = address
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        if family in (socket.AF_INET, socket.AF_INET6):
            _set_options(made)
        await asyncio.get_running_loop().sock_connect(made, where)
        if family in (socket.AF_INET, socket.AF_INET6):
            # Not before: connecting has a deadline of its own.
            _set_option(made, socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", USER_TIMEOUT_MILLISECONDS)
    except BaseException:
        made.close()
        raise
    return made


def _set_options(made: socket.socket) -> None:
    """Small stanzas leave at once, and a peer that is gone is noticed in minutes."""
    _set_option(made, socket.IPPROTO_TCP, "TCP_NODELAY", 1)
    _set_option(made, socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    # TCP_KEEPALIVE is macOS's name of TCP_KEEPIDLE.
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"
    _set_option(made, socket.IPPROTO_TCP, idle, KEEPALIVE_IDLE_SECONDS)
    _set_option(made, socket.IPPROTO_TCP, "TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS)
    _set_option(made, socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_PROBES)


def _set_option(made: socket.socket, level: int, name: str, value: int) -> None:
    option = getattr(socket, name, None)
    if option is None:
        return
    try:
        made.setsockopt(level, option, value)
    except OSError:
        pass  # known to Python, not to this kernel: the link works without it


# ---- what a transport is connected to


def is_loopback(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer is this machine: 127.0.0.0/8, ::1, the same mapped into IPv6, or a Unix socket."""
    if _family(transport) == getattr(socket, "AF_UNIX", None):
        return True
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple) or not peer:
        return False
    address = ip_literal(str(peer[0]))
    if address is None:
        return False
    mapped = address.ipv4_mapped if address.version == 6 else None
    return (mapped or address).is_loopback


def address_of(transport: asyncio.BaseTransport, *, local: bool = False) -> str:
    """The peer's address, or our own: "127.0.0.1:5222", "[::1]:5222", the path of a Unix socket ("" if it has none)."""
    where = transport.get_extra_info("sockname" if local else "peername")
    family = _family(transport)
    return "" if not where or family is None else _text((family, where))


def _family(transport: asyncio.BaseTransport) -> socket.AddressFamily | None:
    made = transport.get_extra_info("socket")
    return None if made is None else made.family
