"""A socket with or without TLS: bytes in clear on our side, whatever they are on the network."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final

from pcj.errors import ConfigError, PcjError, Phase, ProtocolError, Retry
from pcj.transport.slowness import takes_slowly
from pcj.transport.tcp import address_of, is_loopback
from pcj.transport.tls import Begun, TlsEngine, TlsError, TlsFacts, make_context

__all__ = ["Wire"]

#: How much is encrypted at a time, in bytes.
_TLS_CHUNK = 1_048_576
#: `struct linger` (Windows has shorts): on, and 0 seconds.
_AT_ONCE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Wire:
    """One connection's transport and, once begun, its TLS.

    Args:
        transport: as asyncio gave it. high_water: bytes that may wait in it before it asks for a pause.

    Attributes:
        address, local: "host:port" of both ends. loopback: whether it stays on this machine.
        handshaking: TLS was begun and does not stand yet. paused: nothing is read for now.
    """

    def __init__(self, transport: asyncio.Transport, high_water: int) -> None:
        transport.set_write_buffer_limits(high=high_water)
        self._transport = transport
        self._engine: TlsEngine | None = None
        self.handshaking = False
        self.paused = False
        self.address = address_of(transport)
        self.local = address_of(transport, local=True)
        self.loopback = is_loopback(transport)

    # ---- TLS

    def begin_tls(
        self,
        *,
        name: str,
        peer: str,
        verify: bool,
        ca_file: str | None,
        client_certificate: str | None,
        pins: tuple[str, ...],
        alpn: tuple[str, ...],
        begun: Begun,
        engine: str | None = None,
        service: str | None = None,
    ) -> None:
        """Send the first flight of a handshake.

        Args:
            name: whom the certificate must be for. service: "_xmpp-client", where an SRV-ID of it would do (clients).
            peer: what errors call the server. begun: why TLS was begun. engine: as `Config.tls_engine`.
            verify, ca_file, client_certificate, pins, alpn: as for `make_context` and `TlsEngine`.

        Raises:
            ProtocolError: it could not be begun; of phase TLS.
        """
        self.handshaking = True
        try:
            context = make_context(
                verify=verify, ca_file=ca_file, client_certificate=client_certificate, alpn=alpn, engine=engine
            )
            self._engine = TlsEngine(context, server_name=name, pins=pins, service=service, peer=peer, begun=begun)
            self._engine.start()
        except ProtocolError:
            raise
        except PcjError as error:
            retry = Retry.FATAL if isinstance(error, ConfigError) else None
            raise ProtocolError(str(error), phase=Phase.TLS, retry=retry) from error
        self._push()

    def tls_made(self) -> TlsFacts | None:
        """What is known of the session, once, when the handshake is done and its certificate was accepted."""
        if not self.handshaking or self._engine is None or self._engine.facts is None:
            return None
        self.handshaking = False
        return self._engine.facts

    @property
    def secured(self) -> bool:
        """Whether TLS stands, or did."""
        return self._engine is not None and not self.handshaking

    @property
    def fault(self) -> ProtocolError | None:
        """What broke TLS behind the bytes that were received last, or None."""
        return self._engine.fault if self._engine is not None else None

    @property
    def closed_by_peer(self) -> bool:
        """Whether the peer ended TLS."""
        return self._engine is not None and self._engine.peer_closed

    # ---- bytes

    def receive(self, data: bytes) -> bytes:
        """Decrypt what came from the network.

        Raises:
            ProtocolError: TLS failed or broke; the peer was told why.
        """
        engine = self._engine
        if engine is None:
            return data
        try:
            return engine.receive_data(data)
        finally:
            self._push()

    def receive_eof(self) -> None:
        """The network came to its end.

        Raises:
            ProtocolError: in the middle of a handshake.
        """
        if self._engine is not None and self.handshaking:
            self._engine.receive_eof()

    def send(self, data: bytes) -> bool:
        """Hand bytes to the transport, inside TLS where that stands; False where it can no longer be done."""
        transport, engine = self._transport, self._engine
        if transport.is_closing():
            return False
        if engine is None:
            transport.write(data)
            # A write that fails closes the transport, without a word to us: then nothing of it has left.
            return not transport.is_closing()
        try:
            for at in range(0, len(data), _TLS_CHUNK):
                engine.write(data[at : at + _TLS_CHUNK])
                transport.write(engine.data_to_send())
                if transport.is_closing():
                    return at > 0  # something of it may have left
        except TlsError:
            return False
        return True

    def _push(self) -> None:
        """Send what TLS has to say by itself."""
        data = self._engine.data_to_send() if self._engine is not None else b""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # ---- the flow, and the end

    def pause_reading(self) -> bool:
        """Take no more from the network until `resume_reading`; whether it did until now."""
        if self.paused or self._transport.is_closing():
            return False
        self.paused = True
        self._transport.pause_reading()
        return True

    def resume_reading(self) -> None:
        """Go on reading."""
        if self.paused:
            self.paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    @property
    def closing(self) -> bool:
        """Whether it is closed, or closes behind what is written."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close behind what is written, TLS first."""
        if self._engine is not None and not self.handshaking:
            self._engine.close()
            self._push()
        self._transport.close()

    def abort(self) -> None:
        """Cut it now, with a reset: what the network has not taken yet is lost, and a peer that lives sees it at once.

        Else a server keeps a half-open link that was abandoned, and may refuse the next one for it (`conflict`) or
        deliver into it (protocol-notes B5). What was closed already and has gone out ends as it was.
        """
        transport = self._transport
        made = transport.get_extra_info("socket")
        if made is not None and not (transport.is_closing() and transport.get_write_buffer_size() == 0):
            try:
                # Linger for no time. On a Unix socket it has no effect, and needs none.
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            except OSError:
                pass  # it is gone already
        transport.abort()

    @property
    def throttled(self) -> bool:
        """Whether bytes of ours wait although the peer's machine answers: it takes them, but slowly."""
        made = self._transport.get_extra_info("socket")
        return made is not None and takes_slowly(made)
