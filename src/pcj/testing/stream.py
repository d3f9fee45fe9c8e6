"""One XML stream as its server sees it (RFC 6120 4): headers, elements, errors, the end."""

from __future__ import annotations

import asyncio
import secrets
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable

from pcj.errors import ProtocolError
from pcj.namespaces import STREAM_ERRORS
from pcj.serialize import serialize
from pcj.stanza import Node
from pcj.testing.link import Link
from pcj.xmlstream import Limits, NegotiatingParser, ReadyParser, StreamClosed, StreamHeader
from pcj.xmlstream.framing import stream_header

__all__ = ["ServerStream", "StreamEnded"]


class StreamEnded(Exception):
    """The peer closed its stream, or is gone."""


class ServerStream:
    """Reads element by element while it is negotiated (`receive`), then in whole chunks (`begin`).

    Args:
        link: the connection below. namespace: the content namespace of both directions. domain: who we are.
        max_stanza_bytes: of one element from the peer. close_timeout: for the peer to close when we do, in seconds.

    Attributes:
        id: of our latest header. muted: we say nothing more. closed_by_peer: it has closed its stream, or has sent a
            stream error.
    """

    def __init__(self, link: Link, *, namespace: str, domain: str, max_stanza_bytes: int, close_timeout: float) -> None:
        self.link = link
        self.namespace = namespace
        self.domain = domain
        self.id = ""
        self.muted = False
        self.closed_by_peer = False
        self._limits = Limits(max_bytes=max_stanza_bytes)
        self._close_timeout = close_timeout
        self._parser = NegotiatingParser(self._limits)
        self._ready: ReadyParser | None = None
        self._handler: Callable[[Node], None] = lambda node: None
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._failure: ProtocolError | None = None
        self._opened = False
        self._closed = False
        self._deadline: asyncio.TimerHandle | None = None
        link.on_data = self._negotiating_data
        link.on_end = self._end
        link.on_overflow = self._overflow

    # Reading

    async def receive(self) -> StreamHeader | Node:
        """The next header or element.

        Raises:
            StreamEnded: there is none. ProtocolError: what came is not allowed in a stream.
        """
        while True:
            if self._failure is not None:
                raise self._failure
            item = self._parser.next()
            if isinstance(item, StreamClosed):
                self.closed_by_peer = True
                raise StreamEnded
            if item is not None:
                return item
            if self._ended.is_set():
                raise StreamEnded
            self._arrived.clear()
            await self._arrived.wait()

    async def receive_header(self) -> StreamHeader:
        """The peer's stream header, which must come now."""
        header = await self.receive()
        if not isinstance(header, StreamHeader):
            raise ProtocolError("a stream begins with its header", answer="bad-format")
        if header.content_namespace != self.namespace:
            # RFC 6120 4.9.3.10
            raise ProtocolError(
                f"the content namespace here is {self.namespace}",
                answer="invalid-namespace",
                came=header.content_namespace,
            )
        if header.version[0] < 0:
            raise ProtocolError("the version is a number, a dot and a number", answer="unsupported-version")
        return header

    async def receive_node(self) -> Node:
        """The next element of the stream."""
        node = await self.receive()
        if isinstance(node, StreamHeader):
            raise ProtocolError("there is a stream already", answer="not-well-formed")
        return node

    def restart(self) -> None:
        """Expect a new header (RFC 6120 4.3.3); what is not parsed yet belongs to it."""
        self._parser.restart()
        self._opened = False

    @property
    def leftover(self) -> bytes:
        """What the peer sent and nobody asked for yet."""
        return self._parser.leftover

    def begin(self, header: StreamHeader, handler: Callable[[Node], None], *, rename: bool = True) -> None:
        """The negotiation is over: `handler` gets each element from here on, at once.

        Args:
            header: of the peer. handler: may raise ProtocolError or StreamEnded.
            rename: read the stream's content namespace as `jabber:client`.
        """
        self._ready = ReadyParser(header.namespaces, self.namespace if rename else "", self._limits)
        self._handler = handler
        if self.muted:
            return
        self.link.on_data = self._ready_data
        rest = self._parser.take_leftover()
        if rest:
            self._ready_data(rest)

    async def wait_end(self) -> None:
        """Until the stream is over, whoever ended it.

        Raises:
            ProtocolError: because of what the peer sent.
        """
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def ended(self) -> bool:
        """Whether it is over, whoever ended it."""
        return self._ended.is_set()

    @property
    def broken(self) -> bool:
        """Whether it ended with the connection alone: neither side had closed it, and nobody was at fault."""
        return self._ended.is_set() and not (self._closed or self.closed_by_peer or self._failure is not None)

    async def silence(self) -> None:
        """Say nothing more, and wait for the peer to give up.

        Raises:
            StreamEnded: always, at last.
        """
        self.mute()
        await self._ended.wait()
        raise StreamEnded

    def mute(self) -> None:
        """Say nothing more, and hear nothing more but the end of the connection."""
        self.muted = True
        self.link.flush()
        self.link.mute()

    # Writing

    def open(self, version: str | None, *, to: str | None = None) -> None:
        """Our header, with a fresh id (RFC 6120 4.7)."""
        self.id = secrets.token_hex(12)
        self._opened = True
        attributes = {"id": self.id, "from": self.domain}
        if to is not None:
            attributes["to"] = to
        if version is not None:
            attributes["version"] = version
        self.write(stream_header(attributes, self.namespace))

    def write(self, data: bytes) -> None:
        """Bytes that are well-formed in themselves."""
        if not self.muted and not self._closed:
            self.link.write(data)

    def send(self, node: Node) -> None:
        """An element, in this stream's content namespace.

        Raises:
            NodeError: it cannot be written.
        """
        if self._ready is not None and self._ended.is_set():
            return  # what is left to say is the end; past the bound of a slow reader nothing may pile up
        self.write(serialize(node, self.namespace))

    def send_error(self, condition: str, text: str = "", application: bytes = b"") -> None:
        """A stream error (RFC 6120 4.9), with an element of an application (4.9.4); after it only the end may come."""
        if not self._opened:
            self.open("1.0")  # RFC 6120 4.9.1.2: an error during set-up still comes inside a stream
        children = [ET.Element(f"{{{STREAM_ERRORS}}}{condition}")]
        if text:
            children.append(ET.Element(f"{{{STREAM_ERRORS}}}text"))
            children[1].text = text
        self.send_wrapped("error", children, application)

    def send_wrapped(self, name: str, children: Iterable[Node], more: bytes = b"") -> None:
        """An element of the stream's own namespace, under the prefix that every implementation expects."""
        inside = b"".join(serialize(child, self.namespace) for child in children) + more
        self.write(b"<stream:%b>%b</stream:%b>" % (name.encode(), inside, name.encode()))

    def close(self, condition: str | None = None, text: str = "") -> None:
        """Close our direction. With a stream error that is all; without, the peer may first close its own."""
        if condition is not None:
            self.send_error(condition, text)
        self._send_end()
        if condition is not None or self.muted or self._ready is None:
            self._end()
        elif not self._ended.is_set():
            # RFC 6120 4.4: wait for the other party to close its stream, for a reasonable time.
            self._deadline = asyncio.get_running_loop().call_later(self._close_timeout, self._end)

    async def finish(self) -> None:
        """End everything, and wait until the connection is gone."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._send_end()
        self.link.mute()
        self.link.finish(abort=self.muted)
        await self.link.wait_closed()

    def _send_end(self) -> None:
        if self._opened and not self._closed:
            self.write(b"</stream:stream>")
        self._closed = True

    # Called by the link

    def _negotiating_data(self, data: bytes) -> None:
        self._parser.feed(data)
        self._arrived.set()

    def _ready_data(self, data: bytes) -> None:
        parser = self._ready
        if parser is None:
            return
        try:
            for node in parser.feed(data):
                self._handler(node)
                if self.muted or self._ended.is_set():
                    return
            if parser.failure is not None:
                raise parser.failure
            if parser.closed:
                raise StreamEnded
        except ProtocolError as error:
            self._fail(error)
        except StreamEnded:
            self.closed_by_peer = True
            self._end()

    def _fail(self, error: ProtocolError) -> None:
        self._failure = self._failure or error
        self._end()

    def _overflow(self) -> None:
        if not self._ended.is_set():
            self._fail(ProtocolError("you read too slowly", answer="policy-violation"))

    def _end(self) -> None:
        if self._ready is not None or self.link.lost:
            self.link.mute()
        self._ended.set()
        self._arrived.set()
