"""The least that echoes: an asyncio loop that parses, formats and writes, with no events, checks or bounds.

Beside the broker in the same run it says how fast the machine is just now: the ratio of the two says more than either.
"""

from __future__ import annotations

import asyncio
import json
import sys
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape, quoteattr


class Bare(asyncio.Protocol):
    """One component link."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

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
            if not element.tag.endswith("handshake"):
                body = element.findtext("{jabber:component:accept}body") or ""
                replies.append(
                    f"<message to={quoteattr(element.get('from', ''))} from={quoteattr(element.get('to', ''))} "
                    f"id={quoteattr(element.get('id', ''))} type='chat'><body>{escape(body)}</body></message>"
                )
            del root[0]
        if replies:
            self.transport.write("".join(replies).encode())

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)


async def main() -> None:
    """Echo until the stream ends."""
    port = json.loads(sys.stdin.readline())["port"]
    _, protocol = await asyncio.get_running_loop().create_connection(Bare, "127.0.0.1", port)
    await protocol.ended


if __name__ == "__main__":
    asyncio.run(main())
