#!/usr/bin/env python3
"""Draws docs/images/timeline.svg: the life of one XMPP connection, from a real run against the embedded server.

    .venv/bin/python tools/draw_timeline.py [FILE]

No number in it is written by hand. A first connection warms up what is made once per process (SSL context, imports);
the second is drawn.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from pcj import XMPP, Broker, Event, Status, message, ping
from pcj.cli.brief import detail_of
from pcj.testing import Server

DEFAULT = Path(__file__).parent.parent / "docs" / "images" / "timeline.svg"

# Phase, the event that begins it, the event that ends it, its colours on light and on dark ground.
PHASES = (
    ("connect", Event.PCJ_CONNECT, Event.PCJ_CONNECTED, "#b6d4f2", "#27486b"),
    ("TLS", Event.PCJ_SSLNEGOTIATE, Event.PCJ_SSLSUCCESS, "#d9c6f0", "#4c3570"),
    ("authenticate", Event.PCJ_AUTHNEGOTIATE, Event.PCJ_AUTHSUCCESS, "#f6dba6", "#6b4e14"),
    ("bind", Event.PCJ_BINDNEGOTIATE, Event.PCJ_BINDSUCCESS, "#f3bfc6", "#70303a"),
    ("ready", Event.PCJ_READY, Event.PCJ_STREAMEND, "#b9e3bd", "#235c2c"),
    ("shutdown", Event.PCJ_STREAMEND, Event.PCJ_SHUTDOWN_FINISH, "#cfd4da", "#454c55"),
)
WIDTH, TOP, ROW = 880, 76, 19
AXIS, BAND, LABELS, DETAILS = 208, 112, 290, 472
MAX_DETAIL = 54

STYLE = """
  text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12px }
  .ground { fill: #ffffff; stroke: #d0d7de } .ink { fill: #1f2328 } .soft { fill: #59636e } .pcj { fill: #0b5cad }
  .ours { fill: #8a5a00 } .axis { stroke: #59636e } .lead { stroke: #a5adb6; fill: none } .mark { fill: #1f2328 }
  .title { font-size: 15px; font-weight: bold } .ready { font-weight: bold }
"""
DARK = """
  .ground { fill: #0d1117; stroke: #3d444d } .ink { fill: #e6edf3 } .soft { fill: #9198a1 } .pcj { fill: #79b8ff }
  .ours { fill: #e3b341 } .axis { stroke: #9198a1 } .lead { stroke: #545d68 } .mark { fill: #e6edf3 }
"""


async def record() -> list[Status]:
    """The events of one connection that queues a node, sends it, pings the server and shuts down."""
    statuses: list[Status] = []
    async with Server(accounts={"romeo": "secret", "juliet": "secret"}) as server, asyncio.timeout(20):
        where: dict[str, Any] = {
            "password": "secret",
            "host": server.host,
            "port": server.client_port,
            "ca_file": server.ca_file,
        }
        async with Broker(XMPP, "juliet@localhost/balcony", **where) as juliet:
            broker = Broker(XMPP, "romeo@localhost/orchard", **where)
            broker.subscribe("*", statuses.append)
            broker.output(message(to=juliet.jid, type="chat", body="hail"))
            heard = asyncio.create_task(juliet.wait_for(Event.PCJ_NODERECEIVED, timeout=10))
            async with broker:
                answered = asyncio.create_task(broker.wait_for(Event.PCJ_NODERECEIVED, timeout=10))
                broker.purge_queue()
                await heard
                juliet.output(message(to=broker.jid, type="chat", body="hello"))
                await answered
                await broker.return_to_sender(ping(to="localhost"))
    return statuses


def step_of(span: float) -> float:
    """A round distance between ticks, for about ten of them; in milliseconds."""
    return next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if span / step <= 12)


def draw(statuses: list[Status]) -> str:
    """The picture: time runs down the axis, each event is a mark on it, led to a line of its own."""
    first = {status.event: status.at for status in reversed(statuses)}
    last = {status.event: status.at for status in statuses}
    origin, end = first[Event.PCJ_CONNECT], statuses[-1].at
    height = ROW * (len(statuses) - 1)

    def y(at: float) -> float:
        return TOP + 8 + (max(at, origin) - origin) / (end - origin) * height

    out = []
    for name, begin, finish, _, _ in PHASES:
        top, bottom = y(first[begin]), y(last[finish])
        size = f'width="{AXIS - BAND}" height="{max(bottom - top, 2):.1f}"'
        out.append(f'<rect class="p-{name}" x="{BAND}" y="{top:.1f}" {size}/>')
        middle = (top + bottom) / 2 + 4
        out.append(f'<text class="ink" x="{BAND - 8}" y="{middle:.1f}" text-anchor="end">{name}</text>')
        if bottom - top > 12:
            took = (last[finish] - first[begin]) * 1000
            out.append(f'<text class="ink" x="{BAND + 6}" y="{middle:.1f}">{took:.1f} ms</text>')
    out.append(f'<path class="axis" d="M{AXIS} {y(origin):.1f}V{y(end):.1f}"/>')
    span = (end - origin) * 1000
    tick, step = 0.0, step_of(span)
    while tick <= span:
        at = y(origin + tick / 1000)
        out.append(f'<path class="axis" d="M{AXIS - 5} {at:.1f}h5"/>')
        out.append(f'<text class="soft" x="{AXIS - 9}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
        tick += step
    for index, status in enumerate(statuses):
        row = TOP + 8 + index * ROW
        group = "pcj" if status.event.startswith("PCJ_") else "ours"
        ready = " ready" if status.event == Event.PCJ_READY else ""
        detail = detail_of(status)
        detail = detail if len(detail) <= MAX_DETAIL else detail[: MAX_DETAIL - 3] + "..."
        at = y(status.at)
        out.append(f'<path class="lead" d="M{AXIS} {at:.1f}L{LABELS - 26} {row}H{LABELS - 6}"/>')
        out.append(f'<circle class="mark" cx="{AXIS}" cy="{at:.1f}" r="2.4"/>')
        out.append(f'<text class="{group}{ready}" x="{LABELS}" y="{row + 4}">{escape(status.event)}</text>')
        out.append(f'<text class="soft" x="{DETAILS}" y="{row + 4}">{escape(detail)}</text>')
    bottom_edge = TOP + height + 34
    light = "".join(f"  .p-{name} {{ fill: {colour} }}\n" for name, _, _, colour, _ in PHASES)
    dark = "".join(f"  .p-{name} {{ fill: {colour} }}\n" for name, _, _, _, colour in PHASES)
    ready_after = (first[Event.PCJ_READY] - origin) * 1000
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom_edge}" width="{WIDTH}" \
height="{bottom_edge}" role="img" aria-label="The events of one XMPP connection on a time axis">
<style>{STYLE}{light}  @media (prefers-color-scheme: dark) {{{DARK}{dark}  }}
</style>
<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{bottom_edge - 1}" rx="8"/>
<text class="ink title" x="20" y="30">One XMPP connection, event by event</text>
<text class="soft" x="20" y="50">milliseconds since PCJ_CONNECT; READY after {ready_after:.1f} ms; \
a run against the embedded server, on loopback</text>
{chr(10).join(out)}
</svg>
"""


def main(path: Path) -> None:
    """Draw it into a file."""
    asyncio.run(record())
    picture = draw(asyncio.run(record()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
