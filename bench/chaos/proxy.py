"""A TCP proxy on loopback between the broker under test and its server, that does to a link what networks do.

It works on bare sockets, not on streams: nothing is buffered behind its back, and a reset is a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self

__all__ = ["BOTH", "Connection", "Proxy", "Rule", "Shape", "fin", "hole", "rst"]

Direction = Literal["out", "in"]
#: "out": from the broker to the server. "in": the way back.
BOTH: Final[tuple[Direction, ...]] = ("out", "in")
#: How much of the past a pattern may reach back into, in bytes: an element's start tag is shorter.
_TAIL: Final = 512
_CHUNK: Final = 65536
#: What may be under way inside the proxy where it delays, in chunks.
_MAX_DELAYED: Final = 256

Action = Callable[["Connection"], "Awaitable[None] | None"]


@dataclass
class Rule:
    """What is to happen when a direction of a connection has come to a certain place, once.

    Attributes:
        direction: which way. then: what is done, when just the bytes before the place have been passed on.
        after: the place, as a number of bytes; or pattern: as text of the (unencrypted) stream, its `nth` match.
        at: "before" or "after" the match, or "inside" it: `offset` bytes behind its beginning. "after" adds `offset`.
            A place that has gone by when the match is whole is here and now.
    """

    direction: Direction
    then: Action
    after: int | None = None
    pattern: re.Pattern[bytes] | None = None
    nth: int = 1
    at: Literal["before", "after", "inside"] = "after"
    offset: int = 0
    _seen: int = field(default=0, init=False)
    _searched: int = field(default=0, init=False)

    def look(self, start: int, data: bytes, tail: bytes) -> None:
        """Look for the pattern in `data`, which begins at `start` of the direction, behind `tail`."""
        if self.after is not None or self.pattern is None:
            return
        text, begin = tail + data, start - len(tail)
        for match in self.pattern.finditer(text):
            if begin + match.end() <= self._searched:
                continue
            self._searched = begin + match.end()
            self._seen += 1
            if self._seen == self.nth:
                place = {"before": match.start(), "after": match.end() + self.offset}.get(
                    self.at, match.start() + self.offset
                )
                self.after = max(start, begin + place)
                return


@dataclass(frozen=True)
class Shape:
    """How a direction's bytes are passed on.

    Attributes:
        chunk: at most so many bytes per write. latency, jitter: seconds, the second added at random, order kept.
        rate: bytes per second; None: as they come. read_ahead: bytes that are taken from the sender at a time.
    """

    chunk: int = _CHUNK
    latency: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    read_ahead: int = _CHUNK


class Connection:
    """One connection through the proxy.

    Attributes:
        number: from 0. passed: bytes of each direction that were passed on. ended: when it was cut, or None. how: by
            whom or what: "rst", "fin", "reset by the broker", "closed by the server" and so on. holes: the directions
            in which everything is thrown away, ends and resets included. rewrite: what the server says is changed so.
    """

    def __init__(self, proxy: Proxy, number: int, broker: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self.number = number
        self._broker = broker
        self._server = server
        self.passed: dict[Direction, int] = {"out": 0, "in": 0}
        self.dropped: dict[Direction, int] = {"out": 0, "in": 0}
        self.rules: list[Rule] = []
        self.shapes: dict[Direction, Shape] = {"out": Shape(), "in": Shape()}
        self.holes: set[Direction] = set()
        self._garbled: set[Direction] = set()
        self.rewrite: tuple[re.Pattern[bytes], bytes] | None = None
        self.how = ""
        self.ended: float | None = None
        self.broker_end: str = ""
        self._tails: dict[Direction, bytes] = {"out": b"", "in": b""}
        self._flow: dict[Direction, asyncio.Event] = {"out": asyncio.Event(), "in": asyncio.Event()}
        for flow in self._flow.values():
            flow.set()
        self.done = asyncio.Event()

    # ---- what can be done to it

    def cut(self, how: Literal["rst", "fin"] = "rst") -> None:
        """End it now, on both sides: by a reset, which destroys what is under way, or by an ordinary close."""
        if self.ended is not None:
            return
        self.how = how
        self.ended = time.monotonic()
        for link in (self._broker, self._server):
            if how == "rst":
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_WR)
        self._proxy.was_cut(self)
        self.done.set()

    def hole(self, *directions: Direction) -> None:
        """From now on everything that goes in these directions is lost, without a word: ends and resets, too."""
        self.holes.update(directions)
        self._proxy.was_cut(self)

    def stall(self, *directions: Direction) -> None:
        """Pass nothing on in these directions until `resume`; nothing is lost."""
        for direction in directions:
            self._flow[direction].clear()

    def garble(self, direction: Direction) -> None:
        """Flip one bit in what passes next: TLS will notice."""
        self._garbled.add(direction)
        self._proxy.was_cut(self, "garbled")

    async def close_stream(self, condition: str = "") -> None:
        """Say to the broker what a server says that ends the stream in good order, or in error, and close."""
        error = f"<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
        said = f"{error if condition else ''}</stream:stream>".encode()
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._broker, said)
        self.cut("fin")

    def resume(self) -> None:
        """Go on after `stall`."""
        for flow in self._flow.values():
            flow.set()

    # ---- the work

    async def run(self) -> None:
        """Pass on until it is over."""
        pumps = [
            asyncio.create_task(self._pump("out", self._broker, self._server)),
            asyncio.create_task(self._pump("in", self._server, self._broker)),
        ]
        both = asyncio.gather(*pumps, return_exceptions=True)
        both.add_done_callback(lambda _: self.done.set())
        try:
            await self.done.wait()
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            if self.ended is None:
                self.ended = time.monotonic()
            self._broker.close()
            self._server.close()

    async def _pump(self, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        who = "broker" if direction == "out" else "server"
        shape = self.shapes[direction]
        delayed: asyncio.Queue[tuple[float, bytes]] | None = None
        carrier = None
        if shape.latency or shape.jitter:
            delayed = asyncio.Queue(_MAX_DELAYED)
            carrier = asyncio.create_task(self._carry(direction, delayed, sink))
        chance = random.Random(self.number)  # noqa: S311 - jitter is no secret
        due = 0.0
        try:
            while True:
                try:
                    data = await loop.sock_recv(source, shape.read_ahead)
                    end = f"closed by the {who}"
                except OSError:
                    data, end = b"", f"reset by the {who}"
                if self._over():
                    return  # cut while this waited: what came since is lost
                if who == "broker" and not data:
                    self.broker_end = end
                if direction in self.holes:
                    self.dropped[direction] += len(data)
                    if not data:
                        await self.done.wait()  # the other side is not to hear of the end
                    continue
                await self._flow[direction].wait()
                if self._over():
                    return
                if not data:
                    self._other_end(end, sink)
                    return
                if delayed is not None:
                    due = max(due, time.monotonic() + shape.latency + chance.random() * shape.jitter)
                    await delayed.put((due, data))
                else:
                    await self._pass(direction, data, sink)
        except OSError as error:
            self._other_end(f"{type(error).__name__} towards the {'server' if who == 'broker' else 'broker'}", sink)
        finally:
            if carrier is not None:
                carrier.cancel()

    def _other_end(self, how: str, sink: socket.socket) -> None:
        self.how = self.how or how
        if how.startswith("closed"):
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
            return
        for link in (self._broker, self._server):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.done.set()

    async def _carry(
        self, direction: Direction, delayed: asyncio.Queue[tuple[float, bytes]], sink: socket.socket
    ) -> None:
        while True:
            due, data = await delayed.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                await self._pass(direction, data, sink)
            except OSError:
                self.done.set()
                return

    def _over(self) -> bool:
        return self.ended is not None

    async def _pass(self, direction: Direction, data: bytes, sink: socket.socket) -> None:
        if self.rewrite is not None and direction == "in":
            data = self.rewrite[0].sub(self.rewrite[1], data)
        rules = [rule for rule in self.rules if rule.direction == direction]
        if rules:
            start = self.passed[direction]
            for rule in rules:
                rule.look(start, data, self._tails[direction])
            self._tails[direction] = (self._tails[direction] + data)[-_TAIL:]
            due = [rule for rule in rules if rule.after is not None and rule.after <= start + len(data)]
            for rule in sorted(due, key=lambda each: each.after or 0):
                self.rules.remove(rule)
                assert rule.after is not None
                ahead = max(0, rule.after - self.passed[direction])
                await self._send(direction, data[:ahead], sink)
                data = data[ahead:]
                result = rule.then(self)
                if result is not None:
                    await result
                if self.ended is not None:
                    return
        await self._send(direction, data, sink)

    async def _send(self, direction: Direction, data: bytes, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        shape = self.shapes[direction]
        for place in range(0, len(data), shape.chunk):
            if direction in self.holes:
                self.dropped[direction] += len(data) - place
                return
            if self.ended is not None:
                return
            part = data[place : place + shape.chunk]
            if direction in self._garbled:
                self._garbled.discard(direction)
                part = part[:-1] + bytes((part[-1] ^ 1,))
            await loop.sock_sendall(sink, part)
            self.passed[direction] += len(part)
            if shape.rate is not None:
                await asyncio.sleep(len(part) / shape.rate)


Planner = Callable[[Connection], None]


class Proxy:
    """Listens on loopback and passes each connection on to the server's port, or not.

    Args:
        port: the server's. plan: called with each new connection; it gives it rules and shapes.
        receive_buffer: bytes that the kernel takes from the broker beforehand; None: as it likes.

    Attributes:
        connections: all so far. cuts: (time, connection, how) of each that was cut by plan, and each hole.
        mode: what happens to a new connection: "pass", "refuse" (reset at once), "silent" (taken, and nothing said) or
            "answer" (it is read once, and told what stands in `answer`).
    """

    def __init__(self, port: int, plan: Planner | None = None, *, receive_buffer: int | None = None) -> None:
        self._target = port
        self.plan = plan
        self._receive_buffer = receive_buffer
        self.mode: Literal["pass", "refuse", "silent", "answer"] = "pass"
        self.answer = b""
        self.connections: list[Connection] = []
        self.cuts: list[tuple[float, int, str]] = []
        self.port = 0
        self.accepted = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        if self._receive_buffer is not None:  # taken over by what is accepted, and only before it is
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._accepting.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(self._accepting, *self._tasks, return_exceptions=True)
        self._listener.close()
        for link in self._idle:
            link.close()

    @property
    def live(self) -> Sequence[Connection]:
        """The connections that are not over."""
        return [each for each in self.connections if each.ended is None]

    @property
    def last(self) -> Connection:
        """The newest connection."""
        return self.connections[-1]

    def was_cut(self, connection: Connection, how: str = "") -> None:
        """Note a cut, for the picture and the count."""
        self.cuts.append((time.monotonic(), connection.number, how or connection.how or "hole"))

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            broker, _ = await loop.sock_accept(self._listener)
            self.accepted += 1
            broker.setblocking(False)
            broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.mode == "silent":
                self._idle.append(broker)
            elif self.mode == "refuse":
                broker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                broker.close()
            else:
                serve = self._serve if self.mode == "pass" else self._say
                task = asyncio.create_task(serve(broker))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _say(self, broker: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError), broker:
            await loop.sock_recv(broker, _CHUNK)
            await loop.sock_sendall(broker, self.answer)
            broker.shutdown(socket.SHUT_WR)
            await loop.sock_recv(broker, _CHUNK)

    async def _serve(self, broker: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with broker, socket.socket() as server:
            server.setblocking(False)
            try:
                await loop.sock_connect(server, ("127.0.0.1", self._target))
            except OSError:
                broker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, len(self.connections), broker, server)
            self.connections.append(connection)
            if self.plan is not None:
                self.plan(connection)
            await connection.run()


def rst(connection: Connection) -> None:
    """Cut by a reset."""
    connection.cut("rst")


def fin(connection: Connection) -> None:
    """Cut by an ordinary close, without a word of XML."""
    connection.cut("fin")


def hole(*directions: Direction) -> Action:
    """Lose everything from here on, in these directions."""

    def act(connection: Connection) -> None:
        connection.hole(*(directions or BOTH))

    return act
