"""How much may wait to be sent: the bounds of the queue, and the high-water mark that `drain` waits behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pcj.config import Config
from pcj.connection import Connection
from pcj.dispatch import Dispatcher
from pcj.errors import PcjError
from pcj.events import Event
from pcj.queue import MemoryQueue, WriteBuffer

__all__ = ["Watermark"]


class Watermark:
    """What waits in a queue and on the connection behind it, taken together.

    Args:
        config, dispatcher: of the broker. queue: what is held.

    Attributes:
        high: HIGH_WATER was told, and LOW_WATER was not.
    """

    def __init__(self, config: Config, dispatcher: Dispatcher, queue: MemoryQueue) -> None:
        self._dispatcher = dispatcher
        self._queue = queue
        # Below both nothing is near a bound.
        self._few = min(config.high_water_nodes, config.queue_max_nodes)
        self._little = min(config.write_high_water, config.queue_max_bytes)
        self._high_nodes = config.high_water_nodes
        self._high_bytes = max(config.write_high_water, config.queue_max_bytes // 2)
        self._low_bytes = config.queue_max_bytes // 4
        self._low: asyncio.Future[None] | None = None
        self._waiting = WriteBuffer()  # that of the connection; without one, nothing
        self._connection: Connection | None = None
        self.high = False

    def check_room(self, data: bytes) -> None:
        """Refuse one more node past the bounds.

        Raises:
            QueueFull: there is no room; nothing was changed.
        """
        queue, waiting = self._queue, self._waiting
        if len(waiting.entries) + len(queue) < self._few and waiting.size + queue.size + len(data) <= self._little:
            return
        connection = self._connection
        nodes = size = 0
        if connection is not None:
            # A burst within one turn of the loop: what the network takes need not wait for its end.
            connection.flush()
            nodes, size = connection.outbound
        queue.check_room(data, others=nodes, other_bytes=size)
        if not self.high:
            self._look_high(nodes + 1, size + len(data))

    def look_high(self) -> None:
        """Nodes came back to the queue: tell where it is much."""
        if not self.high:
            self._look_high(0, 0)

    def _look_high(self, nodes: int, size: int) -> None:
        """Tell where much waits: so many nodes and bytes beside what is held."""
        nodes += len(self._queue)
        size += self._queue.size
        if nodes > self._high_nodes or size > self._high_bytes:
            self.high = True
            if self._connection is not None:
                self._connection.outflow.on_low = self.look_low
            self._dispatcher.fire(Event.HIGH_WATER, detail={"nodes": nodes, "bytes": size})

    def look_low(self) -> None:
        """Less waits than before: tell where it is little."""
        if not self.high:
            return
        nodes, size = self._connection.outbound if self._connection is not None else (0, 0)
        nodes += len(self._queue)
        size += self._queue.size
        if nodes > self._high_nodes // 2 or size > self._low_bytes:
            return
        self.high = False
        if self._connection is not None:
            self._connection.outflow.on_low = None
        self._dispatcher.fire(Event.LOW_WATER, detail={"nodes": nodes, "bytes": size})
        low, self._low = self._low, None
        if low is not None and not low.done():
            low.set_result(None)

    def begin(self, connection: Connection) -> None:
        """There is a connection, which takes what waits."""
        self._waiting = connection.outflow.buffer
        self._connection = connection
        connection.outflow.low = self._high_nodes // 2
        connection.outflow.on_low = self.look_low if self.high else None

    def end(self) -> None:
        """The connection is gone."""
        self._connection = None
        self._waiting = WriteBuffer()

    async def drain(self, ended: Callable[[], PcjError | None]) -> None:
        """Wait until little waits; `ended` says why nothing will go any more.

        Raises:
            PcjError: what `ended` said. TimeoutError, PcjError: what `release` said.
        """
        nodes = size = 0
        if self._connection is not None:
            self._connection.flush()
            nodes, size = self._connection.outbound
            self.look_low()
        if not self.high:
            self._look_high(nodes, size)
        if self.high:
            error = ended()
            if error is not None:
                raise error
            if self._low is None:
                self._low = asyncio.get_running_loop().create_future()
                self._low.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(self._low)

    @property
    def awaited(self) -> bool:
        """Whether somebody is in `drain`."""
        return self._low is not None

    def release(self, error: PcjError | TimeoutError) -> None:
        """Who is in `drain` waits in vain."""
        low, self._low = self._low, None
        if low is not None and not low.done():
            low.set_exception(error)
