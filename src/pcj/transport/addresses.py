"""The addresses of a host, in the order in which to try them (RFC 8305 3 and 4)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pcj.errors import ConnectionFailed, Failure, Phase, Retry
from pcj.transport import lookup
from pcj.transport.names import ascii_name, ip_literal
from pcj.transport.resolve import Endpoint
from pcj.transport.tcp_errors import too_many_files, unknown_name

__all__ = ["MAX_ADDRESSES", "Address", "Found", "address_text", "find_addresses", "let_go"]

#: How many addresses of one name are tried.
MAX_ADDRESSES = 16
#: How long the one question for all addresses may take before each family is asked for by itself, in seconds.
PATIENCE_SECONDS = 0.5
#: How long IPv6 addresses are waited for once those of IPv4 are known (RFC 8305 3, "Resolution Delay"), in seconds.
RESOLUTION_DELAY_SECONDS = 0.05

Address = tuple[socket.AddressFamily, Any]  # and the address in the form of its family


@dataclass(frozen=True, slots=True)
class Found:
    """The addresses to try at once, and a task that may bring more of them: whoever takes it cancels it in the end."""

    addresses: list[Address]
    late: asyncio.Task[list[Address]] | None = None


async def find_addresses(endpoint: Endpoint) -> Found:
    """Look up the addresses of an endpoint's host.

    The system is asked for both families at once, since it knows which of them to prefer (RFC 6724). It answers when it
    knows both; a name server that never answers for one of them must not hold up the other, so after half a second each
    is asked for by itself.

    Raises:
        ConnectionFailed: it has none, in Phase.RESOLVE; or no file descriptor is left.
    """
    host, port = endpoint.host, endpoint.port
    if host.startswith("/"):
        return Found([(socket.AF_UNIX, host)])
    literal = ip_literal(host)
    if literal is not None and "%" not in str(literal):
        if literal.version == 4:
            return Found([(socket.AF_INET, (str(literal), port))])
        return Found([(socket.AF_INET6, (str(literal), port, 0, 0))])
    try:
        name = str(literal) if literal is not None else ascii_name(host)
        return await _look_up(name, port)
    except ValueError as error:  # UnicodeError is one too
        message = f"{error}: it has no address."
        raise ConnectionFailed(Failure(phase=Phase.RESOLVE, message=message, retry=Retry.FATAL)) from None
    except OSError as error:
        if (full := _files_exhausted()) is not None:  # the resolver says "try again" then
            raise ConnectionFailed(too_many_files(full)) from error
        raise ConnectionFailed(unknown_name(endpoint, error)) from error


async def _look_up(name: str, port: int) -> Found:
    """The addresses of a name, as soon as there are any."""
    loop = asyncio.get_running_loop()

    async def ask(family: socket.AddressFamily) -> list[Address]:
        found = await lookup.getaddrinfo(name, port, family=family)
        return _interleaved([(kind, address) for kind, _, _, _, address in found])[:MAX_ADDRESSES]

    both = loop.create_task(ask(socket.AF_UNSPEC))
    tasks = [both]
    late: asyncio.Task[list[Address]] | None = None
    try:
        await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
        if both.done():
            return Found(both.result())
        six, four = loop.create_task(ask(socket.AF_INET6)), loop.create_task(ask(socket.AF_INET))
        tasks += [six, four]
        while waiting := [task for task in tasks if not task.done()]:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if _has_addresses(four) and not six.done() and not both.done():
                await asyncio.wait([six, both], timeout=RESOLUTION_DELAY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if _has_addresses(both):
                return Found(both.result())
            for first, second in ((six, four), (four, six)):
                if _has_addresses(first):
                    late = None if second.done() else second
                    more = second.result() if _has_addresses(second) else []
                    return Found(_interleaved([*first.result(), *more])[:MAX_ADDRESSES], late)
        return Found(both.result())
    finally:
        for task in tasks:
            if task is not late:
                let_go(task)


def _has_addresses(task: asyncio.Task[list[Address]]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def let_go(task: asyncio.Task[list[Address]]) -> None:
    """Cancel it; an error it has is looked at, or asyncio complains of it."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """RFC 8305 4: the families by turns, the family of the first address first."""
    families: dict[socket.AddressFamily, list[Address]] = {}
    for entry in dict.fromkeys(addresses):
        families.setdefault(entry[0], []).append(entry)
    queues = list(families.values())
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def address_text(address: Address) -> str:
    """ "192.0.2.7:5222", "[2001:db8::7]:5222", "[fe80::1%2]:5222" or the path of a Unix socket."""
    family, where = address
    if family == socket.AF_INET:
        return f"{where[0]}:{where[1]}"
    if family == socket.AF_INET6:
        scope = f"%{where[3]}" if len(where) > 3 and where[3] and "%" not in where[0] else ""
        return f"[{where[0]}{scope}]:{where[1]}"
    return where.decode("utf-8", "backslashreplace") if isinstance(where, bytes) else str(where)


def _files_exhausted() -> OSError | None:
    """The error of opening one more file, if that is what fails."""
    try:
        socket.socket().close()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return error
    return None
