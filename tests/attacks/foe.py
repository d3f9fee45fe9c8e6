"""A hostile server's end of one connection: every byte is the play's own, inside TLS as before it."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from typing import Protocol, cast

from pcj.namespaces import BIND, CLIENT, SASL, STREAM_ERRORS, STREAMS, TLS
from pcj.sasl import Challenge
from pcj.sasl.server import Answer, answer
from pcj.sasl.steps import decode_data
from pcj.testing.link import settle

#: Seconds that a foe waits for the client to say something, or to go.
PATIENCE = 8.0
USER = "romeo"
DOMAIN = "example.org"
#: Starts of what bears a credential, or what one can be guessed from.
CREDENTIALS = (b"<auth", b"<response", b"<handshake", b"jabber:iq:auth")

Tamper = Callable[[int, str], str]


class Side(Protocol):
    """A server's end of TLS: what we use of `ssl.SSLObject`."""

    def do_handshake(self) -> None: ...

    def read(self, size: int) -> bytes: ...

    def write(self, data: bytes | memoryview) -> int: ...

    def version(self) -> str | None: ...

    @property
    def session_reused(self) -> bool | None: ...

    def cipher(self) -> tuple[str, str, int] | None: ...


class Wraps(Protocol):
    """What makes one: `ssl.SSLContext`, or `certificates.Selecting`."""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool) -> Side: ...


class Gone(ConnectionError):
    """The client has closed."""


class Foe:
    """One connection.

    Attributes:
        came: all that the client said, decrypted. clear: what of it came outside TLS. left: set when the client has
            closed its end. broken: whether it did so by a reset. seal: makes the TLS records in which we speak, in
            place of the library. hellos: the first bytes of both sides of the handshake. records: the client's
            behind the handshake, as they came.
    """

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._tls: Side | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._unread = bytearray()
        self.seal: Callable[[bytes], bytes] | None = None
        self.hellos = b"", b""
        self.records = bytearray()
        self.came = bytearray()
        self.clear = bytearray()
        self.left = asyncio.Event()
        self.broken = False

    @property
    def gone(self) -> bool:
        """Whether the client has closed its end."""
        return self.left.is_set()

    # ---- bytes

    def send(self, data: str | bytes) -> None:
        """Say this, inside TLS where that stands."""
        octets = data.encode() if isinstance(data, str) else data
        if self._tls is None:
            self._writer.write(octets)
            return
        if self.seal is not None:
            self._writer.write(self.seal(octets))
            return
        view = memoryview(octets)
        while view:
            view = view[self._tls.write(view) :]
        self.push()

    def raw(self, data: bytes) -> None:
        """Put this on the wire as it is, past TLS."""
        self._writer.write(data)

    def push(self) -> None:
        """Send what TLS has to say."""
        if data := self._outgoing.read():
            self._writer.write(data)

    def cut(self) -> None:
        """End the connection without a word."""
        self._writer.close()

    def sealed(self, data: bytes) -> bytes:
        """These bytes as a record of TLS, which is not sent."""
        self.tls.write(data)
        return self._outgoing.read()

    async def drain(self) -> None:
        """Wait until the network has taken what was sent; Gone where it never will."""
        try:
            await self._writer.drain()
        except OSError as error:
            self.left.set()
            raise Gone from error

    async def until(self, text: str) -> str:
        """All that came up to `text`, itself included; Gone where the client closes before."""
        sought = text.encode()
        while sought not in self._unread:
            await self._more()
        end = self._unread.index(sought) + len(sought)
        found, self._unread = bytes(self._unread[:end]), self._unread[end:]
        return found.decode("utf-8", "replace")

    async def rest(self) -> str:
        """All that comes until the client closes, which it must."""
        try:
            while True:
                await self._more()
        except Gone:
            found, self._unread = bytes(self._unread), bytearray()
            return found.decode("utf-8", "replace")

    async def farewell(self) -> str:
        """All that comes up to the client's closing tag, which is answered; then its end is waited for."""
        try:
            came = await self.until("</stream:stream>")
        except Gone:
            return self.text
        self.send("</stream:stream>")
        return came + await self.rest()

    @property
    def text(self) -> str:
        """All that came, as text."""
        return self.came.decode("utf-8", "replace")

    @property
    def said(self) -> str:
        """The condition of the stream error that the client sent, or ""."""
        found = re.search(rf'<stream:error><([a-z-]+) xmlns="{STREAM_ERRORS}"/>', self.text)
        return found[1] if found is not None else ""

    @property
    def shown(self) -> list[bytes]:
        """Which kinds of credentials were sent."""
        return [mark for mark in CREDENTIALS if mark in self.came]

    async def _more(self) -> None:
        if self.gone:
            raise Gone
        try:
            async with asyncio.timeout(PATIENCE):
                data = await self._reader.read(1 << 16)
        except ConnectionError:
            self.broken, data = True, b""
        except TimeoutError:
            raise AssertionError(f"the client neither speaks nor closes: {self.text[-400:]!r}") from None
        if not data:
            self.left.set()
            raise Gone
        plain = data if self._tls is None else self._decrypted(data)
        if self._tls is None:
            self.clear += data
        self.came += plain
        self._unread += plain

    def _decrypted(self, data: bytes) -> bytes:
        assert self._tls is not None
        self.records += data
        self._incoming.write(data)
        plain = b""
        try:
            while piece := self._tls.read(1 << 16):
                plain += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        except ssl.SSLError:
            self.left.set()  # an alert: the client has ended it
        self.push()
        return plain

    def stop_reading(self) -> None:
        """Take nothing more from the network."""
        cast(asyncio.Transport, self._writer.transport).pause_reading()

    def resume_reading(self) -> None:
        """Take it again."""
        cast(asyncio.Transport, self._writer.transport).resume_reading()

    # ---- TLS

    async def start_tls(self, context: Wraps) -> None:
        """The server's side of the handshake; Gone where the client refuses."""
        assert not self._unread, "the client went on in the clear"
        tls = context.wrap_bio(self._incoming, self._outgoing, True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self.push()
                await self.rest()
                raise Gone from error
            answer = self._outgoing.read()
            if answer:
                self.hellos = self.hellos[0], self.hellos[1] or answer
                self._writer.write(answer)
            async with asyncio.timeout(PATIENCE):
                try:
                    data = await self._reader.read(1 << 16)
                except ConnectionError:
                    data = b""
            if not data:
                self.left.set()
                raise Gone
            self.hellos = self.hellos[0] or data, self.hellos[1]
            self._incoming.write(data)
        self._tls = tls
        self.push()
        plain = self._decrypted(b"")  # what came in one piece with the end of the handshake
        self.came += plain
        self._unread += plain

    @property
    def tls(self) -> Side:
        """The TLS session."""
        assert self._tls is not None
        return self._tls

    async def upgrade(self, context: Wraps, *, features: str = "", xmlns: str = CLIENT) -> None:
        """A stream up to TLS by STARTTLS, as an honest server does it."""
        await self.header(xmlns)
        self.features(f"<starttls xmlns='{TLS}'><required/></starttls>{features}")
        await self.until("<starttls")
        await self.until(">")
        self.send(f"<proceed xmlns='{TLS}'/>")
        await self.start_tls(context)

    # ---- XMPP

    async def header(self, xmlns: str = CLIENT, *, version: str | None = "1.0", id: str | None = "s1") -> None:
        """The client's header, and ours."""
        await self.greeting()
        self.send(header(xmlns, version=version, id=id))

    async def greeting(self) -> str:
        """The client's header."""
        return await self.until("<stream:stream") + await self.until(">")

    async def greet(self, features: str) -> None:
        """Both headers, and what is offered."""
        await self.header()
        self.features(features)

    def features(self, inside: str) -> None:
        """What is offered."""
        self.send(f"<stream:features>{inside}</stream:features>")

    async def take_auth(self) -> tuple[str, bytes | None]:
        """The client's <auth/>: its mechanism and its initial response."""
        tag = await self.until("<auth") + await self.until(">")
        name = re.search(r'mechanism="([^"]*)"', tag)
        assert name is not None, tag
        if tag.endswith("/>"):
            return name[1], None
        text = (await self.until("</auth>")).removesuffix("</auth>")
        return name[1], decode_data("" if text == "=" else text)

    async def take_response(self) -> bytes:
        """The client's <response/>."""
        tag = await self.until("<response") + await self.until(">")
        if tag.endswith("/>"):
            return b""
        return decode_data((await self.until("</response>")).removesuffix("</response>"))

    async def scram(self, password: str, tamper: Tamper = lambda number, text: text, **options: object) -> Answer:
        """SCRAM as an honest server does it, up to its success, which is left to the play.

        Args:
            tamper: given the number of our message (0: server-first) and its text, gives what is sent instead.
        """
        name, initial = await self.take_auth()
        exchange = answer(name, initial, password_of=lambda user: password, nonce="0f5e", **options)  # type: ignore[arg-type]
        step = next(exchange)
        number = 0
        while isinstance(step, Challenge):
            self.challenge(tamper(number, step.data.decode()))
            step = exchange.send(await self.take_response())
            number += 1
        self.proof = (step.data or b"").decode()
        return exchange

    def challenge(self, text: str | bytes) -> None:
        """A challenge that says this."""
        self.send(f"<challenge xmlns='{SASL}'>{base64_of(text)}</challenge>")

    def success(self, text: str | None = None) -> None:
        """Success, with this as its additional data."""
        self.send(f"<success xmlns='{SASL}'>{'' if text is None else base64_of(text)}</success>")

    async def log_in(self, password: str, features: str = f"<bind xmlns='{BIND}'/>", *, greeted: bool = False) -> None:
        """SCRAM, and the stream behind it."""
        if not greeted:
            await self.greet(mechanisms("SCRAM-SHA-256"))
        await self.scram(password)
        self.success(self.proof)
        await self.greet(features)

    async def bind_request(self) -> str:
        """The id of the client's request to bind."""
        return await self.asked()

    async def asked(self) -> str:
        """The id of the next IQ of type get or set."""
        stanza = await self.until("<iq ") + await self.until("</iq>")
        found = re.search(r'<iq [^>]*id="([^"]+)"', stanza[stanza.index("<iq ") :])
        assert found is not None, stanza
        return found[1]

    async def settle(self) -> None:
        """Let the client read what was sent."""
        await self.drain()
        await settle()


def base64_of(text: str | bytes) -> str:
    """As SASL's elements bear it."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def header(
    xmlns: str = CLIENT,
    *,
    version: str | None = "1.0",
    id: str | None = "s1",
    sender: str = DOMAIN,
    streams: str = STREAMS,
) -> str:
    """A server's header."""
    said = "".join(
        f" {name}='{value}'"
        for name, value in (("id", id), ("version", version), ("from", sender))
        if value is not None
    )
    return f"<?xml version='1.0'?><stream:stream xmlns='{xmlns}' xmlns:stream='{streams}'{said}>"


def mechanisms(*names: str) -> str:
    """The feature that lists them, in this order."""
    return f"<mechanisms xmlns='{SASL}'>{''.join(f'<mechanism>{name}</mechanism>' for name in names)}</mechanisms>"


def stream_error(condition: str, text: str = "") -> str:
    """A stream error of RFC 6120."""
    said = f"<text xmlns='{STREAM_ERRORS}'>{text}</text>" if text else ""
    return f"<stream:error><{condition} xmlns='{STREAM_ERRORS}'/>{said}</stream:error>"
