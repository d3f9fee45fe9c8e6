"""A TCP connection (or a Unix socket) to an endpoint: every address of it raced, every failure told."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pcj.errors import ConnectionFailed
from pcj.transport.addresses import MAX_ADDRESSES, Address, address_text, find_addresses, let_go
from pcj.transport.names import ip_literal
from pcj.transport.resolve import Endpoint
from pcj.transport.tcp_errors import Attempt, Overtaken, no_look_up, none_connected

__all__ = ["address_of", "dial", "is_loopback"]

#: How long an attempt has before the next begins beside it, in seconds (RFC 8305 5).
STAGGER_SECONDS = 0.25
#: A silent link is asked after this time, this often, and given up after so many questions without an answer.
KEEPALIVE_IDLE_SECONDS: Final = 60
KEEPALIVE_INTERVAL_SECONDS: Final = 15
KEEPALIVE_PROBES: Final = 4
#: How long data may stay unacknowledged before the kernel ends the link; of itself Linux waits about 15 minutes. Longer
#: than a server that throttles us stops reading.
USER_TIMEOUT_MILLISECONDS: Final = 120_000

OnAttempt = Callable[[str, BaseException | None], None]


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
        on_attempt: called as each attempt ends, with the address and its error; with None for the one that connected.
            That comes last, behind those it has overtaken (`Overtaken`). A host without an address counts as one.

    Returns:
        The transport and the protocol. No other socket is left open, whatever happens.

    Raises:
        ConnectionFailed: in Phase.RESOLVE (the name has no address) or Phase.CONNECT (no address answered).
    """
    attempts: list[Attempt] = []

    def ended(address: str, error: BaseException | None) -> None:
        if error is not None:
            attempts.append(Attempt(address, error))
        if on_attempt is not None:
            on_attempt(address, error)

    race: _Race | None = None
    connected: socket.socket | None = None
    try:
        async with asyncio.timeout(timeout):
            found = await find_addresses(endpoint)
            race = _Race(found.addresses, found.late, ended)
            connected = await race.run()
    except ConnectionFailed as error:
        ended(str(endpoint), error)
        raise
    except TimeoutError as error:
        if race is None:
            failed = ConnectionFailed(no_look_up(endpoint, timeout))
            ended(str(endpoint), failed)
            raise failed from error
        for where, _ in race.running.values():
            ended(where, TimeoutError(f"no answer in {timeout:g} s"))
    if connected is not None:
        return await _protocol_on(connected, factory)
    last = attempts[-1].error if attempts else None
    raise ConnectionFailed(none_connected(endpoint, attempts, untried=len(race.waiting), seconds=timeout)) from last


async def _protocol_on(
    connected: socket.socket, factory: Callable[[], asyncio.Protocol]
) -> tuple[asyncio.Transport, asyncio.Protocol]:
    loop = asyncio.get_running_loop()
    try:
        if connected.family == getattr(socket, "AF_UNIX", None):
            return await loop.create_unix_connection(factory, sock=connected)
        return await loop.create_connection(factory, sock=connected)
    except BaseException:
        connected.close()
        raise


# ---- the race


@dataclass(slots=True)
class _Race:
    """The attempts at one host.

    Attributes:
        waiting: addresses that were not tried yet, the next one first. late: may bring more of them.
        ended: called as an attempt ends. running: the attempts whose end was not told; where, and when each began.
    """

    waiting: list[Address]
    late: asyncio.Task[list[Address]] | None
    ended: OnAttempt
    running: dict[asyncio.Task[socket.socket], tuple[str, float]] = field(default_factory=dict)
    _tried: int = 0
    _next_start: float = 0.0

    async def run(self) -> socket.socket | None:
        """The first socket that connects, or None; all others are closed, also when this is cancelled."""
        connected: socket.socket | None = None
        try:
            first: asyncio.Task[socket.socket] | None = None
            while first is None and (self.waiting or self.running or self.late is not None):
                first = await self._step()
            if first is None:
                return None
            now = time.monotonic()
            where, _ = self.running.pop(first)
            connected = first.result()
            await _stop(self.running)
            for other, began in self.running.values():
                self.ended(other, Overtaken(now - began))
            self.ended(where, None)
        except BaseException:
            if connected is not None:
                connected.close()
            _abandon(self.running)
            raise
        finally:
            if self.late is not None:
                let_go(self.late)
        return connected

    async def _step(self) -> asyncio.Task[socket.socket] | None:
        """Begin what is due, and wait for something to happen. Gives the attempt that connected."""
        now = time.monotonic()
        if self.waiting and (not self.running or now >= self._next_start):
            address = self.waiting.pop(0)
            self._tried += 1
            self.running[asyncio.create_task(_connect(address))] = address_text(address), now
            self._next_start = now + STAGGER_SECONDS
        patience = max(0.0, self._next_start - time.monotonic()) if self.waiting else None
        events: set[asyncio.Task[Any]] = {*self.running, *([] if self.late is None else [self.late])}
        done, _ = await asyncio.wait(events, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if self.late is not None and self.late in done:
            self._take(self.late)
            self.late = None
        first: asyncio.Task[socket.socket] | None = None
        for task in [task for task in self.running if task in done]:
            error = task.exception()
            if error is None:
                first = first or task  # two at once: the other stays among the losers
            elif isinstance(error, OSError):
                self._next_start = 0.0  # RFC 8305 5: after a failure the next need not wait
                where, _ = self.running.pop(task)
                self.ended(where, error)
            else:
                raise error
        return first

    def _take(self, late: asyncio.Task[list[Address]]) -> None:
        """RFC 8305 3: addresses that come later join those that wait. Why there are none is of no interest now."""
        if late.exception() is None:
            room = MAX_ADDRESSES - self._tried - len(self.waiting)
            self.waiting.extend(late.result()[: max(0, room)])


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


async def _connect(address: Address) -> socket.socket:
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
    return "" if not where or family is None else address_text((family, where))


def _family(transport: asyncio.BaseTransport) -> socket.AddressFamily | None:
    made = transport.get_extra_info("socket")
    return None if made is None else made.family
