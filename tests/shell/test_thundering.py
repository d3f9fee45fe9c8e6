"""A thousand brokers lose one server, which is down for a minute: all come back, and never together.

They are real ones, with their links and connections, in a loop of its own time and on a network in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
from collections import Counter
from typing import Any

import pytest

import pcj.dialling
import pcj.link
from pcj import JABBERD14_COMPONENT, Broker, ConnectionFailed, Event, Failure, Phase
from pcj.transport.resolve import Endpoint
from tests.core.protocol.play import stream_error
from tests.core.test_thundering import LONGEST, share
from tests.shell.fire import DOMAIN, SECRET, Memory, MemoryTransport, Peer, Script
from tests.shell.instant import Loop

BROKERS = 1000
FEW = 50
DOWN = 60.0
DAY = 86_400.0


class Swift(Loop):
    """The loop of the other tests, without its book of timers: a thousand links have too many."""

    call_at = asyncio.SelectorEventLoop.call_at


class World:
    """One server and its network. `came`: when an attempt reached it, by the loop's time from the start.

    Args:
        down: seconds, from the loss, for which nobody listens. cuts_after: a session is cut so long after its log-in.
    """

    def __init__(self, *, down: float = 0.0, cuts_after: float | None = None, says: str = "") -> None:
        self._up_at = asyncio.get_running_loop().time() + down
        self._cuts_after = cuts_after
        self._says = says
        self.peers: list[Peer] = []
        self.came: list[float] = []

    async def dial(self, endpoint: Endpoint, factory: Any, *, timeout: float, on_attempt: Any) -> tuple[Any, Any]:
        """As `pcj.transport.tcp.dial`."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        self.came.append(loop.time())
        if loop.time() < self._up_at:
            refused = ConnectionRefusedError(111, "Connection refused")
            on_attempt(f"{endpoint.host}:{endpoint.port}", refused)
            raise ConnectionFailed(Failure(Phase.CONNECT, "refused")) from refused
        on_attempt(f"{endpoint.host}:{endpoint.port}", None)
        peer = Peer(JABBERD14_COMPONENT, Script(), "", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "PLAIN", Memory(""))
        self.peers.append(peer)
        protocol = factory()
        transport = MemoryTransport(protocol, "192.0.2.1", peer)
        if self._cuts_after is not None:
            loop.call_later(self._cuts_after, self._end, transport)
        return transport, protocol

    def _end(self, transport: MemoryTransport) -> None:
        if self._says:
            transport.deliver(self._says.encode())
        transport.reset(ConnectionResetError(104, "Connection reset by peer"))

    def lose(self, down: float) -> None:
        """The server is gone, with every connection that it had."""
        self._up_at = asyncio.get_running_loop().time() + down
        self.came.clear()
        for peer in self.peers:
            if peer.transport is not None:
                self._end(peer.transport)
        self.peers.clear()


def brokers(count: int) -> list[Broker]:
    return [
        Broker(
            JABBERD14_COMPONENT, DOMAIN, password=SECRET, host="192.0.2.1", auto_reconnect=True,
            require_tls=False, acks="off", silence_timeout=DAY,
        )
        for _ in range(count)
    ]  # fmt: skip


def simulate(monkeypatch: pytest.MonkeyPatch, main: Any) -> None:
    random.seed(5)
    monkeypatch.setattr("logging.Logger.isEnabledFor", lambda *_: False)  # a thousand times ten lines
    with asyncio.Runner(loop_factory=Swift) as runner:
        runner.run(main())


def test_a_thousand_brokers_that_lose_one_server_come_back_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        world = World()
        monkeypatch.setattr(pcj.dialling, "dial", world.dial)
        herd = brokers(BROKERS)
        await asyncio.gather(*[broker.connect() for broker in herd])
        await asyncio.sleep(100.0)  # READY has lasted
        lost_at = loop.time()
        ready: list[float] = []
        for broker in herd:
            broker.subscribe(Event.PCJ_READY, lambda _: ready.append(loop.time() - lost_at))
        world.lose(DOWN)
        await asyncio.sleep(DOWN + LONGEST)
        assert len(ready) == BROKERS
        assert min(ready) >= DOWN
        seconds = Counter(int(when - lost_at) for when in world.came)
        for second in range(2, int(DOWN + LONGEST)):
            assert seconds[second] <= share(min(second, int(DOWN))), second
        assert max(Counter(map(int, ready)).values()) < BROKERS / 20
        assert sorted(ready)[BROKERS // 2] < 2 * DOWN
        await asyncio.gather(*[broker.shutdown() for broker in herd])

    simulate(monkeypatch, main)


@pytest.mark.parametrize(
    ("says", "most"),
    [
        ("", 2 * (9 + DAY / 150)),  # nine doublings, then one in the mean of the longest delay
        (stream_error("conflict"), 2 * DAY / 225),  # SLOW: a component whose twin takes its place (K26)
    ],
    ids=["fast", "slow"],
)
def test_a_server_that_cuts_a_second_after_ready_is_not_hammered(
    monkeypatch: pytest.MonkeyPatch, says: str, most: float
) -> None:
    async def main() -> None:
        world = World(cuts_after=1.0, says=says)
        monkeypatch.setattr(pcj.dialling, "dial", world.dial)
        (broker,) = brokers(1)
        lasted: list[str] = []
        for event in (Event.PCJ_READY, Event.SESSION_LOST):
            broker.subscribe(event, lambda status: lasted.append(status.event))
        await broker.connect()
        await asyncio.sleep(DAY)
        assert most / 4 < len(world.came) < most
        assert lasted[: 2 * (len(lasted) // 2)] == [Event.PCJ_READY, Event.SESSION_LOST] * (len(lasted) // 2)
        await broker.shutdown()

    simulate(monkeypatch, main)


def test_a_server_that_cuts_after_reconnect_reset_is_met_with_the_first_delay_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        world = World(cuts_after=31.0)
        monkeypatch.setattr(pcj.dialling, "dial", world.dial)
        (broker,) = brokers(1)
        await broker.connect()
        await asyncio.sleep(3600.0)
        gaps = [later - earlier for earlier, later in itertools.pairwise(world.came)]
        assert len(gaps) > 100
        assert all(31.0 <= gap < 32.0 for gap in gaps)
        await broker.shutdown()

    simulate(monkeypatch, main)


def test_the_slow_class_is_spread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends all its links for good reason (host-gone, say) sees none for half of the longest delay."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        world = World(says=stream_error("host-gone"))
        monkeypatch.setattr(pcj.dialling, "dial", world.dial)
        herd = brokers(FEW)
        await asyncio.gather(*[broker.connect() for broker in herd])
        await asyncio.sleep(100.0)
        lost_at = loop.time()
        world.lose(0.0)
        await asyncio.sleep(LONGEST + 1)
        after = sorted(when - lost_at for when in world.came)
        assert len(after) == FEW
        assert after[0] >= LONGEST / 2
        assert after[-1] - after[0] > LONGEST / 4
        assert max(Counter(map(int, after)).values()) <= FEW / 10
        await asyncio.gather(*[broker.shutdown() for broker in herd])

    simulate(monkeypatch, main)
