"""A broker under fire, in memory: a transport without a network, and a server at random.

The server (`Peer`) knows how to be a good one of all four connection types. A plan says what it does instead: a list of
moves, each made in its turn; when they are over, it is good for the rest of the connection.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
from collections import Counter, deque
from typing import Any, NamedTuple

from pcj.errors import SaslError
from pcj.sasl.server import Answer, answer
from pcj.sasl.steps import Success
from tests.core.protocol.play import BIND, SESSION, STARTTLS, features, mechanisms, sasl, server_header

USER, SECRET, DOMAIN = "romeo", "s3cret-of-the-fire", "echo.localhost"
NAMESPACES = {
    "XMPP": "jabber:client",
    "LEGACY": "jabber:client",
    "JABBERD14_COMPONENT": "jabber:component:accept",
    "JABBERD20_COMPONENT": "http://jabberd.jabberstudio.org/ns/component/1.0",
}


# ---- the network


class _Socket:
    family = socket.AF_INET

    def fileno(self) -> int:
        return -1  # as of one that is closed: the kernel knows nothing of it

    def setsockopt(self, *option: object) -> None:
        """There is no network that could be told."""


class MemoryTransport(asyncio.Transport):
    """What asyncio's own does, step by step, to a peer in the same process."""

    def __init__(self, protocol: asyncio.Protocol, address: str, peer: Peer) -> None:
        extra = {"peername": (address, 5222), "sockname": ("127.0.0.1", 40000), "socket": _Socket()}
        super().__init__(extra)
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._peer = peer
        self._closing = False
        self.lost = False
        self.stalled = False  # the network takes no more
        self.breaks: OSError | None = None  # the next write does
        self._paused = False
        self._asked_to_pause = False
        self._high = 1 << 16
        self._buffer = b""
        self._inbound: deque[bytes] = deque()  # b"" is its end
        peer.transport = self
        self._loop.call_soon(protocol.connection_made, self)

    # asyncio's side

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 1 << 16 if high is None else high

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def write(self, data: Any) -> None:
        if self.lost or not data:
            return
        if self.breaks is not None:
            self._force(self.breaks)
            return
        self._buffer += bytes(data)
        self._move()
        if len(self._buffer) > self._high and not self._asked_to_pause:
            self._asked_to_pause = True
            self._protocol.pause_writing()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._buffer:
            self._lose(None)

    def abort(self) -> None:
        self._force(None)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._read)

    def _force(self, error: Exception | None) -> None:
        self._buffer = b""
        self._closing = True
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self._loop.call_soon(self._protocol.connection_lost, error)
            self._peer.gone()

    def _move(self) -> None:
        if not self.stalled and self._buffer:
            data, self._buffer = self._buffer, b""
            self._peer.came(data)
            if self._asked_to_pause:
                self._asked_to_pause = False
                self._protocol.resume_writing()
            if self._closing and not self._buffer:
                self._lose(None)

    def _read(self) -> None:
        while self._inbound and not self._paused and not self._closing:
            data = self._inbound.popleft()
            if data:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()

    # the peer's side

    def deliver(self, data: bytes) -> None:
        """Bytes come in, as one read; none are the end."""
        self._inbound.append(data)
        self._loop.call_soon(self._read)

    def reset(self, error: Exception | None) -> None:
        """The connection breaks."""
        self._loop.call_soon(self._force, error)

    def go_on(self) -> None:
        """The network takes what waits."""
        self.stalled = False
        self._loop.call_soon(self._move)


# ---- the server


class Move(NamedTuple):
    """What a server does in its turn."""

    kind: str
    text: str = ""
    number: float = 0


class Script(NamedTuple):
    """One connection: whether and how it comes about, what the server does, and how its bytes are cut."""

    dial: str = "connects"
    moves: tuple[Move, ...] = ()
    cuts: tuple[int, ...] = ()


_SAID = re.compile(
    r"<stream:stream[^>]*>|<starttls[^>]*/>|</stream:stream>|"
    r"<(auth|response|handshake|iq|message|presence|bind|enable|resume|r|a)\b[^>]*?(?:/>|>.*?</\1>)"
)
_STANZAS = ("iq", "message", "presence")
_SM = "xmlns='urn:xmpp:sm:3'"
#: How long an answer that a move is about may take to fall due, in seconds.
PATIENCE = 2.0


class Memory:
    """What the servers of one example have in common.

    Args:
        manages: how they do stream management: "" not at all, "refuses" each <enable/>, "counts" without resumption,
            "keeps" the sessions of links that broke, "forgets" them (and says what it has handled).

    Attributes:
        handled: of each session that was kept, by its id: the stanzas of the client's. received: how often the message
            of an id was read, by any of them.
    """

    def __init__(self, manages: str) -> None:
        self.manages = manages
        self.handled: dict[str, int] = {}
        self.received: Counter[str] = Counter()
        self.faults: list[str] = []


class Peer:
    """A server's end of one connection."""

    def __init__(
        self,
        connection_type: str,
        script: Script,
        tls: str,
        context: ssl.SSLContext,
        mechanism: str,
        memory: Memory,
    ) -> None:
        """It begins at once; `transport` is to be set in the same turn of the loop."""
        self._memory = memory
        self._managed = ""  # the id of its stream-managed session
        self.type = connection_type
        self._script = script
        self._tls = tls
        self._mechanism = mechanism
        self._context = context
        self._cuts = list(script.cuts)
        self._engine: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._shaken = False
        self._authenticated = False
        self._exchange: Answer | None = None
        self._came = ""
        self._due: deque[str] = deque()
        self._last = ""
        self._kept = ""
        self._something = asyncio.Event()
        self._gone = False
        self.transport: MemoryTransport | None = None
        if tls == "direct":
            self._begin_tls()
        self.task = asyncio.get_running_loop().create_task(self._serve())

    # what comes in

    def came(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._engine is not None:
            self._incoming.write(data)
            data = self._decrypted()
            self._push()
        self._came += data.decode("utf-8", "replace")
        while (found := _SAID.search(self._came)) is not None:
            self._came = self._came[found.end() :]
            reply = self._answer(found[0], found[1] or "")
            if reply:
                self._due.append(reply)
                self._something.set()

    def gone(self) -> None:
        """The connection is no more."""
        self._gone = True
        self._something.set()
        self.task.cancel()

    def _begin_tls(self) -> None:
        self._engine = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._came = ""

    def _decrypted(self) -> bytes:
        engine, data = self._engine, b""
        assert engine is not None
        try:
            if not self._shaken:
                engine.do_handshake()
                self._shaken = True
            while piece := engine.read(1 << 16):
                data += piece
        except ssl.SSLError:
            pass  # more is wanted, or it is the client's end, or garbage of our own making was refused
        return data

    def _push(self) -> None:
        data = self._outgoing.read()
        if data and self.transport is not None:
            self.transport.deliver(data)

    # what a good server answers

    def _answer(self, said: str, name: str) -> str:
        identity = (re.search(r'\bid="([^"]*)"', said) or ["", ""])[1]
        if said.startswith("<stream:stream"):
            return self._header()
        if said.startswith("</"):
            return "</stream:stream>"
        if said.startswith("<starttls"):
            return "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
        if name in ("enable", "resume", "r", "a"):
            return self._manage(said, name)
        if name in _STANZAS and self._managed:
            self._memory.handled[self._managed] += 1
        if name in ("message", "presence"):
            self._memory.received[identity] += 1
            return ""
        text = said[said.index(">") + 1 :].partition("<")[0]
        if name in ("auth", "response"):
            return self._sasl(name, text)
        if name == "handshake":
            return "<handshake/>"
        if name == "bind":
            return f"<bind id='{identity}'/>"
        if 'type="result"' in said or 'type="error"' in said:
            return ""
        inside = ""
        if "xmpp-bind" in said:
            inside = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>romeo@localhost/orchard</jid></bind>"
        to = (re.search(r'\bto="([^"]*)"', said) or ["", ""])[1]
        sender = f" from='{to}'" if to else ""
        return self.wrapped(f"<iq type='result' id='{identity}'{sender} to='{DOMAIN}'>{inside}</iq>")

    def _manage(self, said: str, name: str) -> str:
        """Stream management (XEP-0198)."""
        memory = self._memory
        handled = memory.handled
        if name == "enable":
            if memory.manages == "refuses":
                return f"<failed {_SM}><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
            if self._managed:
                memory.faults.append(f"twice: {said}")
            self._managed = f"session-{len(handled)}"
            handled[self._managed] = 0
            kept = memory.manages in ("keeps", "forgets")
            resumes = f" id='{self._managed}' resume='true' max='10'" if kept else ""
            return f"<enabled {_SM}{resumes}/>"
        if name == "resume":
            identity = (re.search(r'\bprevid="([^"]*)"', said) or ["", ""])[1]
            if memory.manages == "keeps" and identity in handled:
                self._managed = identity
                return f"<resumed {_SM} previd='{identity}' h='{handled[identity]}'/>"
            count = f" h='{handled[identity]}'" if identity in handled else ""
            gone = "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
            return f"<failed {_SM}{count}>{gone}</failed>"
        if not self._managed:
            memory.faults.append(f"outside a managed session: {said}")
            return ""
        return f"<a {_SM} h='{handled[self._managed]}'/>" if name == "r" else ""

    def wrapped(self, stanza: str) -> str:
        """A stanza as it travels to this type."""
        if self.type != "JABBERD20_COMPONENT" or not stanza.startswith(("<message", "<presence", "<iq")):
            return stanza
        named = re.sub(r"^<(\w+)", r"<\1 xmlns='jabber:client'", stanza)
        return f"<route from='localhost' to='{DOMAIN}'>{named}</route>"

    def _header(self) -> str:
        before_tls = self._tls == "starttls" and not self._shaken
        old = self.type in ("LEGACY", "JABBERD14_COMPONENT") and not before_tls
        header = server_header(
            xmlns=NAMESPACES[self.type], version=None if old else "1.0", from_="localhost", id="stream-id"
        )
        if old:
            return header
        if before_tls:
            return header + features(STARTTLS)
        if not self._authenticated:
            return header + features(mechanisms(self._mechanism))
        if self.type != "XMPP":
            return header + features()
        return header + features(BIND, SESSION, *([f"<sm {_SM}/>"] if self._memory.manages else []))

    def _sasl(self, name: str, text: str) -> str:
        data = None if not text else b"" if text == "=" else base64.b64decode(text)
        try:
            if name == "auth" or self._exchange is None:
                self._exchange = answer(
                    self._mechanism, data, password_of={USER: SECRET}.get, nonce="server", realm="localhost"
                )
                step = next(self._exchange)
            else:
                step = self._exchange.send(data if data is not None else b"")
        except (SaslError, StopIteration):
            return sasl("failure", "<not-authorized/>")
        said = "" if step.data is None else base64.b64encode(step.data).decode()
        if isinstance(step, Success):
            self._authenticated = True
            return sasl("success", said)
        return sasl("challenge", said)

    # what this one does

    def _say(self, text: str) -> None:
        self._last = text
        data = text.encode("utf-8", "surrogatepass")
        while data:
            size = self._cuts.pop(0) if self._cuts else len(data)
            self._send(data[:size])
            data = data[size:]
        if "<proceed" in text and self._engine is None:
            self._begin_tls()

    def _send(self, data: bytes) -> None:
        assert self.transport is not None
        if self._engine is None:
            self.transport.deliver(data)
        elif self._shaken:
            try:
                self._engine.write(data)
            except ssl.SSLError:
                return
            self._push()

    async def _next(self, patience: float = PATIENCE) -> str:
        """The next answer that is due; "" if none is in time."""
        try:
            async with asyncio.timeout(patience):
                while not self._due:
                    self._something.clear()
                    await self._something.wait()
        except TimeoutError:
            return ""
        return self._due.popleft()

    async def _serve(self) -> None:
        for move in self._script.moves:
            await self._do(move)
        while True:
            text = self._due.popleft() if self._due else ""
            if not text:
                self._something.clear()
                await self._something.wait()
                continue
            self._good(text)

    def _good(self, text: str) -> None:
        self._say(text)
        if text == "</stream:stream>" and self.transport is not None:
            self.transport.deliver(b"")

    async def _do(self, move: Move) -> None:
        transport = self.transport
        assert transport is not None
        match move.kind:
            case "answer":
                if text := await self._next():
                    self._good(text)
            case "answer twice":
                text = await self._next()
                self._say(text + text)
            case "forget":
                await self._next()
            case "keep":
                self._kept += await self._next()
            case "answer with what was kept":
                text = await self._next()
                self._say(text + self._kept)
            case "answer, and":  # in one piece
                self._say(await self._next() + self.wrapped(move.text))
            case "cut short":
                text = await self._next()
                self._say(text[: int(len(text) * move.number)])
            case "garble":
                text = await self._next()
                at = int(len(text) * move.number)
                self._say(text[:at] + move.text + text[at + 1 :])
            case "again":
                self._say(self._last)
            case "say":
                self._say(self.wrapped(move.text))
            case "raw":
                transport.deliver(move.text.encode())
            case "wait":
                await asyncio.sleep(move.number)
            case "end":
                transport.deliver(b"")
            case "reset":
                transport.reset(ConnectionResetError(104, "Connection reset by peer"))
            case "vanish":
                transport.reset(None)
            case "break":
                transport.breaks = BrokenPipeError(32, "Broken pipe")
            case "stall":
                transport.stalled = True
            case "go on":
                transport.go_on()
            case _:
                raise AssertionError(move)
