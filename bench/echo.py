"""An echo component under a flood: stanzas per second, and CPU time of the whole process per echoed stanza.

``python -m bench.echo [--count 200000] [--runs 5] [--profile FILE]`` prints JSON. Beside the broker a bare loop is
measured in the same run (asyncio, ElementTree and a format string, with no events, checks or bounds): the ratio of the
two says more than either figure on a noisy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import platform
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from pcj import JABBERD14_COMPONENT, Broker, Event, Status, message

ROOT = Path(__file__).resolve().parent.parent
#: How many stanzas may be unanswered at a time.
WINDOW = 2000


async def echo_with_pcj(port: int) -> float:
    """The broker as a user would write it; returns the CPU time from READY to the end of the stream, in seconds."""
    broker = Broker(JABBERD14_COMPONENT, "echo.localhost", password="secret", host="127.0.0.1", port=port)

    @broker.on(Event.PCJ_NODERECEIVED)
    def reply(status: Status) -> None:
        node = status.node
        assert node is not None
        broker.output(
            message(
                to=node.get("from"),
                from_=node.get("to"),
                id=node.get("id"),
                type="chat",
                body=node.findtext("{jabber:client}body"),
            )
        )

    ended = asyncio.ensure_future(broker.wait_for(Event.PCJ_SOCKETDISCONNECT))
    await broker.connect()
    started = time.process_time()
    await ended
    used = time.process_time() - started
    await broker.shutdown()
    return used


class _Bare(asyncio.Protocol):
    """The least that echoes: parse, format, write."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        self.parser: ET.XMLPullParser[tuple[str, ET.Element]] = ET.XMLPullParser(("start", "end"))  # type: ignore[type-var]
        self.root: ET.Element | None = None

    def data_received(self, data: bytes) -> None:
        self.parser.feed(data)
        replies = []
        root = self.root
        for event, element in self.parser.read_events():  # type: ignore[misc]
            if event == "start":
                if root is None:
                    root = self.root = element
                    self.transport.write(b"<handshake>0</handshake>")
                continue
            if root is None or not len(root) or element is not root[0]:
                continue
            if element.tag.endswith("handshake"):
                self.started = time.process_time()
            else:
                body = element.findtext("{jabber:component:accept}body") or ""
                replies.append(
                    f"<message to={quoteattr(element.get('from', ''))} from={quoteattr(element.get('to', ''))} "
                    f"id={quoteattr(element.get('id', ''))} type='chat'><body>{escape(body)}</body></message>"
                )
            del root[0]
        if replies:
            self.transport.write("".join(replies).encode())

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(time.process_time() - self.started)


async def echo_bare(port: int) -> float:
    """The bare loop; the same measure."""
    _, protocol = await asyncio.get_running_loop().create_connection(_Bare, "127.0.0.1", port)
    return float(await protocol.ended)


def run(echo: Callable[[int], Awaitable[float]], count: int) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of one flood."""
    flood = subprocess.Popen(
        [sys.executable, "-m", "bench.flood", str(count), str(WINDOW)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert flood.stdout is not None
    try:
        port = int(flood.stdout.readline())
        started = time.perf_counter()

        async def bounded() -> float:
            async with asyncio.timeout(120):
                return await echo(port)

        used = asyncio.run(bounded())
        return used, time.perf_counter() - started
    finally:
        flood.kill()
        flood.wait()


def main() -> None:
    """Measure, alternating, and print the medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=100_000, help="stanzas per run")
    options.add_argument("--runs", type=int, default=5, help="runs of each; the median counts")
    options.add_argument("--profile", help="write a cProfile of one run of the broker to this file, and nothing else")
    chosen = options.parse_args()
    if chosen.profile:
        profile = cProfile.Profile()
        profile.runcall(run, echo_with_pcj, chosen.count)
        profile.dump_stats(chosen.profile)
        return
    results: dict[str, list[tuple[float, float]]] = {"pcj": [], "bare": []}
    for _ in range(chosen.runs):
        results["pcj"].append(run(echo_with_pcj, chosen.count))
        results["bare"].append(run(echo_bare, chosen.count))
    figures: dict[str, object] = {"benchmark": "echo", "stanzas": chosen.count, "runs": chosen.runs}
    for name, pairs in results.items():
        figures[name] = {
            "cpu_us_per_stanza": round(statistics.median(cpu for cpu, _ in pairs) / chosen.count * 1e6, 2),
            "stanzas_per_s": round(chosen.count / statistics.median(wall for _, wall in pairs)),
        }
    cpu = {name: statistics.median(pair[0] for pair in pairs) for name, pairs in results.items()}
    figures["ratio_to_bare"] = round(cpu["pcj"] / cpu["bare"], 2)
    figures["python"] = platform.python_version()
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
