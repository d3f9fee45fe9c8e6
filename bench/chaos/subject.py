"""The broker under test, in a process of its own, so that it can be killed, stopped, and have its memory measured.

Its orders come by stdin, one line each (`limit N`: give nodes up to that number; `purge`; `quit`; `halt`); SIGTERM
has it hand its session over. What it does and sees goes out by stdout, one short line each, see `Journal`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from typing import Any

from pcj import Broker, Config, DeliveryError, Event, PcjError, QueueFull, Receipt, Status, message, ping
from pcj.testing import Contract

__all__ = ["Journal", "main"]

_PER_NODE = frozenset({"PCJ_NODERECEIVED", "PCJ_NODESENT", "PCJ_NODEQUEUED", "NODE_ACKED", "NODE_UNCERTAIN"})
_SAMPLE_SECONDS = 0.5
_SWEEP_SECONDS = 0.1


class Journal:
    """What happened, as lines `kind time what ...`, gathered for one turn of the loop.

    G n: given to `output`. Q n: refused, the queue is full. D n: on disk. A n by: acked. U n next: in doubt. X n
    reason: given up. F n state: its receipt is final. L n state: where it was at the end. R n: received. B n: came back
    as an error. E name detail: another event. W n: longest drain. M rss cpu queue window: a sample. V text: the order
    of events was broken.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._loop = asyncio.get_running_loop()

    def __call__(self, kind: str, *what: object) -> None:
        if not self._lines:
            self._loop.call_soon(self.flush)
        self._lines.append(f"{kind} {time.monotonic():.4f} {' '.join(map(str, what))}\n")

    def flush(self) -> None:
        """Hand it over; from then on it outlives us."""
        data = "".join(self._lines).encode()
        self._lines.clear()
        while data:
            data = data[os.write(1, data) :]


def _number(identity: str | None, way: str) -> int | None:
    """The number in an id such as "o-17"; None if it is no message of that way."""
    if identity is None or not identity.startswith(way):
        return None
    return int(identity[2:])


class Subject:
    """One life of the broker under test.

    Args:
        spec: options (of Config), count, first, peer, ttl, rate, handlers, body.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._journal = Journal()
        options = dict(spec["options"])
        self._broker = Broker.from_config(Config(**options))
        self._durable = options.get("queue", "memory") != "memory"
        self._contract = Contract(self._broker)
        self._broker.subscribe("*", self._heard)
        self._pending: dict[int, Receipt] = {}
        self._stored: set[int] = set()
        self._window: set[int] = set()
        self._max_window = self._max_queue = 0
        self._limit = int(spec.get("limit", spec["count"]))
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._leave: str | None = None
        self._received = 0
        for handler in spec.get("handlers", ["plain"]):
            self._broker.subscribe(Event.PCJ_NODERECEIVED, getattr(self, f"_handle_{handler}"))

    # ---- what it hears

    def _heard(self, status: Status) -> None:
        event = status.event
        if event not in _PER_NODE:
            if event == Event.NODE_DROPPED:
                self._gone(status, "X", status.detail.get("reason"))
            elif not event.startswith("PCJ_RTS"):
                said = json.loads(status.to_json())
                said.pop("node", None)
                detail = said.get("detail", {}) | ({"error": said["error"]} if "error" in said else {})
                self._journal("E", event, json.dumps(detail))
            return
        if event == Event.NODE_ACKED:
            self._gone(status, "A", status.detail.get("by"))
        elif event == Event.NODE_UNCERTAIN:
            self._gone(status, "U", status.detail.get("next"))
        elif event == Event.PCJ_NODESENT and status.node is not None:
            number = _number(status.node.get("id"), "o-")
            if number is not None:
                self._window.add(number)
                self._max_window = max(self._max_window, len(self._window))

    def _gone(self, status: Status, kind: str, what: object) -> None:
        number = None if status.node is None else _number(status.node.get("id"), "o-")
        if number is not None:
            self._window.discard(number)
            self._journal(kind, number, what)

    def _handle_plain(self, status: Status) -> None:
        node = status.node
        if node is None or not node.tag.endswith("}message"):
            return
        if node.get("type") == "error":
            number = _number(node.get("id"), "o-")
            if number is not None:
                self._journal("B", number)
            return
        number = _number(node.get("id"), "i-")
        if number is not None:
            self._journal("R", number)

    async def _handle_slow(self, status: Status) -> None:
        """The same, but it takes its time."""
        await asyncio.sleep(self._spec.get("handler_seconds", 0.005))
        self._handle_plain(status)

    def _handle_raising(self, status: Status) -> None:
        """Raises on every seventh node."""
        self._received += 1
        if self._received % 7 == 0:
            raise ValueError("the handler of the bench raises on every seventh node")

    async def _handle_sleeping(self, status: Status) -> None:
        """Sleeps long, once."""
        if status.node is not None and status.node.get("id") == "i-10":
            await asyncio.sleep(self._spec.get("sleep", 10.0))

    async def _handle_asking(self, status: Status) -> None:
        """Asks the server something in the middle of handling, and waits for the answer."""
        if status.node is not None and (_number(status.node.get("id"), "i-") or 1) % 20 == 0:
            reply = await self._broker.return_to_sender(ping(to=self._spec.get("asked")), timeout=30)
            self._journal("E", "ASKED", json.dumps({"type": reply.get("type")}))

    # ---- what it does

    async def run(self) -> None:
        """Until it is told to leave, or the link ends for good."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._order, "suspend")
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        tasks = [
            asyncio.create_task(self._listen(reader)),
            asyncio.create_task(self._connect()),
            asyncio.create_task(self._give()),
            asyncio.create_task(self._watch()),
        ]
        await self._over.wait()
        try:
            async with asyncio.timeout(30):
                if self._leave == "suspend":
                    await self._broker.suspend()
                elif self._leave == "halt":
                    self._broker.halt()
                else:
                    await self._broker.shutdown()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._sweep()
            for number, receipt in self._pending.items():
                self._journal("L", number, str(receipt.state))
            for sentence in self._contract.violations[:20]:
                self._journal("V", sentence)
            self._sample()
            self._journal("E", "EXIT", json.dumps({"by": self._leave}))
            self._journal.flush()

    def _order(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "limit":
            self._limit = int(rest)
            self._news.set()
        elif word == "purge":
            self._journal("E", "PURGED", json.dumps({"nodes": self._broker.purge_queue()}))
        elif word == "explain":
            self._journal("E", "EXPLAINED", json.dumps({"text": self._broker.explain()}))
        else:
            self._leave = word
            self._over.set()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._order(line.decode().strip())
        self._order("quit")  # nobody is there any more

    async def _connect(self) -> None:
        try:
            await self._broker.connect()
        except PcjError as error:
            self._journal("E", "CONNECT_RAISED", json.dumps({"kind": type(error).__name__, "message": str(error)}))

    async def _give(self) -> None:
        spec = self._spec
        broker, rate = self._broker, spec.get("rate")
        body = "x" * int(spec.get("body", 100))
        options: dict[str, Any] = {"ttl": spec["ttl"]} if spec.get("ttl") else {}
        begun, number, longest = time.monotonic(), int(spec.get("first", 1)), 0.0
        first = number
        while number <= spec["count"]:
            while number > self._limit:
                self._news.clear()
                await self._news.wait()
                begun, first = time.monotonic(), number
            node = message(to=spec["peer"], id=f"o-{number}", type="chat", body=f"{number} {body}")
            try:
                self._pending[number] = broker.output(node, **options)
                self._journal("G", number)
            except QueueFull:
                self._journal("Q", number)
            number += 1
            self._max_queue = max(self._max_queue, broker.queue)
            if number % 10 == 0 and not spec.get("heedless"):
                started = time.monotonic()
                await broker.drain()
                waited = time.monotonic() - started
                if waited > max(0.05, longest):
                    longest = waited
                    self._journal("W", f"{waited:.3f}")
            if self._durable and number % 50 == 0:
                await self._on_disk()
            if rate:
                await asyncio.sleep(max(0.0, begun + (number - first) / rate - time.monotonic()))
            elif number % 10 == 0:
                await asyncio.sleep(0)
        if self._durable:
            await self._on_disk()

    async def _on_disk(self) -> None:
        waiting = [receipt for receipt in self._pending.values() if not receipt.stored and not receipt.final]
        if waiting:
            with contextlib.suppress(DeliveryError):
                await waiting[-1].on_disk(30)
        self._sweep()

    async def _watch(self) -> None:
        sampled = 0.0
        while True:
            self._sweep()
            if time.monotonic() - sampled >= _SAMPLE_SECONDS:
                sampled = time.monotonic()
                self._sample()
            await asyncio.sleep(_SWEEP_SECONDS)

    def _sweep(self) -> None:
        """Note what has become stored and final, and let go of it."""
        done = []
        for number, receipt in self._pending.items():
            if self._durable and receipt.stored and number not in self._stored:
                self._stored.add(number)
                self._journal("D", number)
            if receipt.final and receipt.state not in ("written", "queued"):  # else it goes on in the next process
                done.append(number)
                self._journal("F", number, str(receipt.state))
        for number in done:
            del self._pending[number]
            self._stored.discard(number)

    def _sample(self) -> None:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
        rss = pages * os.sysconf("SC_PAGE_SIZE")
        self._journal("M", rss, f"{time.process_time():.3f}", self._max_queue, self._max_window)


def main() -> None:
    """Live by the specification in the first argument (JSON)."""
    spec = json.loads(sys.argv[1])
    os.set_blocking(1, True)
    # What the broker logs it also tells by events. Whatever else comes to stderr is a fault, and ends the run as one.
    logging.getLogger("pcj").addHandler(logging.NullHandler())

    async def live() -> None:
        await Subject(spec).run()

    asyncio.run(live())


if __name__ == "__main__":
    main()
