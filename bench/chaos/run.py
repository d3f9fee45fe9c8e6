"""One run: a server, the proxy before it, the broker under test in a process of its own, and its counterpart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bench.chaos.proxy import Connection, Proxy
from bench.chaos.record import Death, Record
from bench.chaos.servers import Mode, Site
from pcj import JABBERD14_COMPONENT, Broker, Event, Status, message

__all__ = ["LOSSY_WINDOW", "OPTIONS", "Bench", "Stuck"]

_ROOT: Final = Path(__file__).parent.parent.parent
#: So many of those sent to the broker under test may be on their way.
_WINDOW: Final = 200
#: The same where the server loses what is on its way: else the messages are gone before the cuts are.
LOSSY_WINDOW: Final = 20
#: After so many seconds without news those on their way are taken for lost, where the server may lose some.
_GIVEN_UP: Final = 0.7

#: A broker that reconnects fast and notices soon: what takes minutes in life takes a second here.
OPTIONS: Final[dict[str, Any]] = {
    "host": "127.0.0.1",
    "auto_reconnect": True,
    "reconnect_delay": 0.02,
    "reconnect_delay_max": 0.25,
    "reconnect_reset": 0.2,
    "on_ready": "send",
    "ack_every_nodes": 20,
    "ack_every_seconds": 0.1,
    "silence_timeout": 2.0,
    "probe_timeout": 1.0,
    "close_timeout": 1.0,
    "connect_timeout": 3.0,
    "stream_timeout": 3.0,
    "authenticate_timeout": 5.0,
}


class Stuck(Exception):
    """A run did not come to where it should in its time; says where it was."""


class Bench:
    """One run. Use it as a context manager: at the end nothing of it is left.

    Args:
        site: the server. mode: the kind of link. count: messages out. count_in: messages in; by default as many.
        options: of the broker under test, over those of `OPTIONS`. spec: more of its specification (see `Subject`).
        plan: what the proxy does to each connection. via_proxy: False for a link that is left alone.

    Attributes:
        record: the books. proxy: the proxy. counterpart: the broker that is left alone, directly at the server.
    """

    def __init__(
        self,
        site: Site,
        mode: Mode,
        *,
        count: int = 300,
        count_in: int | None = None,
        options: dict[str, Any] | None = None,
        spec: dict[str, Any] | None = None,
        plan: Callable[[Connection], None] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.site = site
        self.mode = mode
        self.count = count
        self.count_in = count if count_in is None else count_in
        self.in_limit = self.count_in
        self.in_window = _WINDOW if mode.managed else LOSSY_WINDOW
        self.in_rate: float | None = None
        self.record = Record()
        self.proxy = Proxy(site.port(mode), plan, receive_buffer=receive_buffer)
        self._options = {**OPTIONS, **site.options(mode), **(options or {})}
        self._spec = {"count": count, "peer": site.server.component_domains[1], **(spec or {})}
        self._limit = self._spec.get("limit", count)
        self.process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []
        self._ready = False
        #: Counted up by who steers the run, so that it is not taken for quiet.
        self.progress = 0
        self.counterpart = Broker(
            JABBERD14_COMPONENT,
            site.server.component_domains[1],
            password=site.server.component_secret,
            host="127.0.0.1",
            port=site.server.component_port,
            auto_reconnect=True,
            reconnect_delay=0.05,
            reconnect_delay_max=0.3,
            on_ready="send",
            on_doubt="resend",
            queue_max_nodes=50_000,
            max_unacked_nodes=10_000,
        )
        self.counterpart.subscribe("*", self._counterpart_heard)

    async def __aenter__(self) -> Self:
        await self.proxy.__aenter__()
        await self.counterpart.connect()
        self._tasks.append(asyncio.create_task(self._send_in()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.record.cuts = list(self.proxy.cuts)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self.counterpart.halt()
        await self.proxy.__aexit__(kind, error, trace)

    # ---- the counterpart

    def _counterpart_heard(self, status: Status) -> None:
        if status.event == Event.NODE_UNCERTAIN:
            self.record.counterpart_resent += 1
        node = status.node
        if status.event != Event.PCJ_NODERECEIVED or node is None or not node.tag.endswith("}message"):
            return
        identity = node.get("id") or ""
        if node.get("type") == "error":
            if identity.startswith("i-"):
                self.record.returned_in.add(int(identity[2:]))
        elif identity.startswith("o-"):
            self.record.arrived(int(identity[2:]))

    async def _send_in(self) -> None:
        record = self.record
        body = "y" * int(self._spec.get("body", 100))
        given_up, seen, since = 0, 0, time.monotonic()
        while True:
            known = len(record.received_set) + len(record.returned_in)
            if known != seen:
                seen, since = known, time.monotonic()
            elif time.monotonic() - since > _GIVEN_UP and self._may_be_lost():
                given_up, since = record.sent_in - known, time.monotonic()
            on_their_way = record.sent_in - known - given_up
            if record.sent_in >= self.in_limit or on_their_way >= self.in_window or not self._in_may_flow():
                await asyncio.sleep(0.005)
                continue
            record.sent_in += 1
            self.counterpart.output(
                message(
                    to=self.site.jid(self.mode),
                    id=f"i-{record.sent_in}",
                    type="chat",
                    body=f"{record.sent_in} {body}",
                )
            )
            if self.in_rate is not None:
                await asyncio.sleep(1 / self.in_rate)
            elif record.sent_in % 10 == 0:
                await asyncio.sleep(0)

    def _may_be_lost(self) -> bool:
        return not self.mode.managed or self.record.server_died or self.record.count("SESSION_LOST") > 0

    def _in_may_flow(self) -> bool:
        # To somebody who is away and has no session at the server every message would come back at once: a peer that
        # does not stop for that would only count how fast the server says no.
        if self.mode.managed:
            return self.record.count("PCJ_READY") > 0
        return self._ready

    # ---- the broker under test

    def specification(self, first: int) -> dict[str, Any]:
        """What a life of the broker under test is told to do (see `Subject`)."""
        options = {"port": self.proxy.port, **self._options}
        return {**self._spec, "options": options, "first": first, "limit": self._limit}

    async def start(self, *, first: int | None = None) -> None:
        """Begin a life of the broker under test, from number `first` on; by default from behind the last one known."""
        if first is None:
            first = max(self.record.given | self.record.delivered_set, default=0) + 1
        spec = self.specification(first)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.chaos.subject", json.dumps(spec)),
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self._readers += [
            asyncio.create_task(self._read(self.process)),
            asyncio.create_task(self._complaints(self.process)),
        ]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        rest = b""
        while data := await process.stdout.read(1 << 16):
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                text = line.decode()
                self.record.line(text)
                if text.startswith("E"):
                    if " PCJ_READY " in text:
                        self._ready = True
                    elif " PCJ_SOCKETDISCONNECT " in text:
                        self._ready = False
        self._ready = False

    async def _complaints(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while data := await process.stderr.read(1 << 16):
            self.record.stderr = (self.record.stderr + data.decode(errors="replace"))[-4000:]

    def order(self, line: str) -> None:
        """Tell the broker's process to do something (see `subject`)."""
        assert self.process is not None
        assert self.process.stdin is not None
        if line.startswith("limit "):
            self._limit = int(line.removeprefix("limit "))
        self.process.stdin.write(f"{line}\n".encode())

    async def die(self, number: signal.Signals) -> None:
        """Send the broker's process a signal, and wait for its end."""
        process = self.process
        assert process is not None
        process.send_signal(number)
        at = time.monotonic()
        async with asyncio.timeout(40):
            await process.wait()
            await asyncio.gather(*self._readers)
        self.record.life_ends()
        self.record.deaths.append(Death(at, number.name, max(self.record.given, default=0)))

    async def leave(self, how: str = "quit") -> None:
        """Have the broker's process leave in good order."""
        assert self.process is not None
        if self.process.returncode is not None:
            raise Stuck(f"the broker's process has ended by itself with {self.process.returncode}: {self._where()}")
        self.order(how)
        try:
            async with asyncio.timeout(40):
                await self.process.wait()
                await asyncio.gather(*self._readers)
        except TimeoutError:
            raise Stuck(f"the broker did not leave ({how}): {self._where()}") from None

    # ---- waiting

    async def until(self, condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
        """Wait for something to become true.

        Raises:
            Stuck: it did not in `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise Stuck(f"waited {timeout} s until {what}: {self._where()}")
            await asyncio.sleep(0.005)

    async def gone(self) -> None:
        """Cut the link, take no other, and wait until the broker knows: what is given from then on is not written."""
        before = self.record.count("PCJ_SOCKETDISCONNECT")
        self.proxy.mode = "refuse"
        self.proxy.last.cut("rst")
        await self.until(lambda: self.record.count("PCJ_SOCKETDISCONNECT") > before, "the cut is noticed")

    async def ready(self, count: int = 1, timeout: float = 20.0) -> None:
        """Wait until it was READY so many times."""
        await self.until(lambda: self.record.count("PCJ_READY") >= count, f"READY for the {count}th time", timeout)

    async def delivered(self, count: int, timeout: float = 20.0) -> None:
        """Wait until so many have arrived."""
        await self.until(lambda: len(self.record.delivered_set) >= count, f"{count} have arrived", timeout)

    async def settled(self, timeout: float = 60.0, *, quiet: float = 3.0) -> None:
        """Wait until all is settled and arrived, or until nothing has happened for `quiet` seconds while READY.

        Raises:
            Stuck: neither came.
        """
        record = self.record
        deadline = time.monotonic() + timeout
        last: tuple[int, ...] = ()
        since = time.monotonic()
        while True:
            now = time.monotonic()
            done_out = len(record.settled | record.refused) >= self.count
            arrived = len(record.delivered_set) >= self.count
            done_in = record.sent_in >= self.count_in and len(record.received_set) >= self.count_in
            if done_out and arrived and done_in:
                return
            news = (
                *(len(record.given), len(record.delivered), len(record.received), len(record.settled)),
                *(record.sent_in, len(record.events) - record.count("PROBE"), len(record.refused), self.progress),
            )
            if news != last:
                last, since = news, now
            elif now - since > (1.0 if done_out and arrived and self._may_be_lost() else quiet) and (
                self._ready or (done_out and record.sent_in >= self.count_in)
            ):
                return  # the checker says what is missing
            if self.process is not None and self.process.returncode is not None:
                raise Stuck(f"the broker's process ended with {self.process.returncode}: {self._where()}")
            if now > deadline:
                raise Stuck(f"not settled in {timeout} s: {self._where()}")
            await asyncio.sleep(0.01)

    async def finish(self, timeout: float = 60.0, *, quiet: float = 3.0) -> None:
        """Wait until all is settled, then have the broker leave."""
        await self.settled(timeout, quiet=quiet)
        await self.leave()
        with contextlib.suppress(Stuck):
            # What the broker sent last may still be on its way from the server to the counterpart.
            await self.until(lambda: self.record.settled <= self.record.delivered_set, "all arrived", 0.5)

    def _where(self) -> str:
        record = self.record
        said = [f"{name}{detail.get('reason') or detail.get('error') or ''}" for _, name, detail in record.events[-6:]]
        return (
            f"given {len(record.given)}, delivered {len(record.delivered_set)}, settled {len(record.settled)}, "
            f"in {len(record.received_set)} of {record.sent_in}; connections {len(self.proxy.connections)}; "
            f"last events: {'; '.join(said)}; stderr: {record.stderr[-600:]!r}"
        )
