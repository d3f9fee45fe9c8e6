"""One TCP connection of the embedded server: bytes, TLS, and pressure in both directions."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from typing import cast

__all__ = ["Link", "settle"]

#: How long a TLS handshake may take, in seconds.
HANDSHAKE_TIMEOUT = 30.0


async def settle() -> None:
    """Let every connection that a closed listener has accepted reach its protocol: asyncio takes three turns for it."""
    for _ in range(4):
        await asyncio.sleep(0)


def ignore(data: bytes) -> None:
    """What a silent server does with what it reads."""


class Link(asyncio.Protocol):
    """Writes are gathered and handed over once per loop turn. Whoever sends to a slow reader is not read from.

    Args:
        accepted: called with the link when it stands; it sets `on_data` and `on_end`.
        max_outbound_bytes: more than that waiting for the peer, and `on_overflow` is called.
        close_timeout: how long the peer may take to close, in seconds.

    Attributes:
        secure: inside TLS. congested: the peer reads more slowly than we write. lost: there is no connection any more.
    """

    def __init__(self, accepted: Callable[[Link], None], *, max_outbound_bytes: int, close_timeout: float) -> None:
        self._accepted = accepted
        self._max_outbound_bytes = max_outbound_bytes
        self._close_timeout = close_timeout
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._holds = 0  # how many slow readers keep us from being read
        self._waiting: set[Link] = set()  # who is not read from because we are slow
        self._deadline: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self.on_data: Callable[[bytes], None] = ignore
        self.on_end: Callable[[], None] = lambda: None
        self.on_overflow: Callable[[], None] = lambda: None
        self.secure = False
        self.congested = False
        self.lost = False

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._accepted(self)

    def data_received(self, data: bytes) -> None:
        self.on_data(data)

    def eof_received(self) -> None:
        self.flush()  # what is already said still goes out: asyncio closes after its buffer is empty
        self.on_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.congested = False
        self._out.clear()
        if self._deadline is not None:
            self._deadline.cancel()
        self._release_waiting()
        self._closed.set()
        self.on_end()

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False
        self._release_waiting()

    # Called by the stream

    def write(self, data: bytes) -> None:
        """Say something, at the end of this loop turn."""
        if self.lost or self._transport is None or self._transport.is_closing():
            return
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes + (self._transport.get_write_buffer_size() if self.congested else 0) > (
            self._max_outbound_bytes
        ):
            self.on_overflow()

    def flush(self) -> None:
        """Hand over what was written so far."""
        if self._out and self._transport is not None and not self.lost:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self._transport.write(data)

    def mute(self) -> None:
        """Read on and throw it away, so that the peer's end is still seen."""
        self.on_data = ignore

    def pause_reading(self) -> None:
        """Leave what comes next in the kernel: it is for the TLS handshake."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The end of `pause_reading`."""
        if self._transport is not None:
            self._transport.resume_reading()

    def hold_for(self, slow: Link) -> None:
        """Do not read from this peer until `slow` has read what waits for it."""
        if self.lost or slow.lost or self in slow._waiting or self._transport is None:
            return
        slow._waiting.add(self)
        self._holds += 1
        self._transport.pause_reading()

    async def start_tls(self, context: ssl.SSLContext) -> bool:
        """The server's side of a handshake. False if it failed; then the connection is gone."""
        transport = self._transport
        upgraded: asyncio.Transport | None = None
        if transport is not None and not transport.is_closing():
            try:
                upgraded = await self._loop.start_tls(
                    transport,
                    self,
                    context,
                    server_side=True,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                    ssl_shutdown_timeout=self._close_timeout,
                )
            except OSError:  # ssl.SSLError is one
                transport.abort()
        if upgraded is None:
            if not self.lost:
                self.connection_lost(None)  # asyncio does not tell, where a handshake was under way
            return False
        self._transport = upgraded
        self.secure = True
        return True

    @property
    def peer_certificate(self) -> bytes | None:
        """The client's certificate in DER, or None."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        found: bytes | None = tls.getpeercert(binary_form=True) if tls is not None else None
        return found

    def finish(self, *, abort: bool = False) -> None:
        """Close: at once, or when all is written, and in any case within `close_timeout`."""
        if self._transport is None or self.lost:
            return
        if abort:
            self._transport.abort()
            return
        self.flush()
        self._transport.close()
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._close_timeout, self._transport.abort)

    def reset(self) -> None:
        """Break the connection without a word: the peer gets an RST, what waited for it is gone."""
        if self._transport is None or self.lost:
            return
        self._out.clear()
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Until the connection is gone."""
        await self._closed.wait()

    def _release_waiting(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for link in waiting:
            link._holds -= 1
            if not link._holds and not link.lost and link._transport is not None:
                link._transport.resume_reading()
