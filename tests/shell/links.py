"""What the tests of a broker share: a bounded run, a server that follows a script, and a record of all events."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from pcj import JABBERD14_COMPONENT, XMPP, Broker, Event, Node, State, Status
from pcj.testing import ScriptedServer, Server, ServerOptions

TIMEOUT = 15.0
DOMAIN = "echo.localhost"
SECRET = "s3cret-of-the-link"
STREAMS = "http://etherx.jabber.org/streams"
#: A server without TLS starts at once: no certificate has to be made.
PLAIN = ServerOptions(starttls="none", direct_tls_port=None)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine; nothing may be left running behind it, and asyncio may have nothing to complain of."""
    complaints: list[dict[str, Any]] = []

    async def checked() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with asyncio.timeout(TIMEOUT):
            await main()
        for _ in range(5):  # what was cancelled ends within a few turns of the loop
            await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"left behind: {left}"

    asyncio.run(checked())
    assert not complaints, complaints


async def turns(count: int = 3) -> None:
    """Let the loop go round, so that what was scheduled happens."""
    for _ in range(count):
        await asyncio.sleep(0)


def never() -> asyncio.Future[None]:
    """Something to wait for in vain."""
    return asyncio.get_running_loop().create_future()


# ---- a scripted server


#: A ping that proves what was written before it, or looks whether we live; of the broker's own.
BARRIER = re.compile(r"""<iq\b[^>]*\bid="([^"]+)"[^>]*><ping xmlns="urn:xmpp:ping"/></iq>""")


def returned(barrier: re.Match[str]) -> str:
    """What a server makes of one: a component's comes back to it, a client's is answered."""
    return barrier[0] if ' to="' in barrier[0] else f"<iq type='result' id='{barrier[1]}'/>"


class Wire:
    """The server's end of one connection, in words of the test's own."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._came = ""

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    async def until(self, text: str) -> str:
        """All that came up to `text`, itself included."""
        async with asyncio.timeout(TIMEOUT):
            while text not in self._came:
                data = await self.reader.read(1 << 16)
                assert data, f"the connection ended before {text!r}: {self._came!r}"
                self._came += data.decode("utf-8", "replace")
        end = self._came.index(text) + len(text)
        came, self._came = self._came[:end], self._came[end:]
        return came

    async def rest(self) -> str:
        """All that comes until the client closes."""
        try:
            while data := await self.reader.read(1 << 16):
                self._came += data.decode("utf-8", "replace")
        except ConnectionResetError:
            pass  # that is an end as well
        came, self._came = self._came, ""
        return came

    def reset(self) -> None:
        """Break the connection with an RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def header(self, xmlns: str = "jabber:component:accept", id: str = "s1", version: str = "") -> None:
        """The client's header, and ours."""
        await self.until("<stream:stream")
        await self.until(">")
        said = f" version='{version}'" if version else ""
        self.send(
            f"<?xml version='1.0'?><stream:stream xmlns='{xmlns}' xmlns:stream='{STREAMS}' id='{id}'"
            f" from='localhost'{said}>"
        )

    async def component(self, tail: str = "") -> None:
        """Up to READY of an XEP-0114 component; `tail` is sent in one piece with the last answer."""
        await self.header()
        digest = hashlib.sha1(f"s1{SECRET}".encode()).hexdigest()  # noqa: S324 - the protocol's own
        assert digest in await self.until("</handshake>")
        self.send("<handshake/>" + tail)

    async def login(self, features: str = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>") -> None:
        """XMPP without TLS up to the features behind SASL PLAIN."""
        await self.header("jabber:client", version="1.0")
        self.features("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>")
        await self.until("</auth>")
        self.send("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        await self.header("jabber:client", version="1.0")
        self.features(features)

    def features(self, inside: str) -> None:
        self.send(f"<stream:features>{inside}</stream:features>")

    async def request(self) -> str:
        """The id of the next <iq/>."""
        found = re.search(r'id="([^"]+)"', (await self.until("<iq"))[-3:] + await self.until("</iq>"))
        assert found is not None
        return found[1]

    async def bind(self, resource: str = "orchard") -> None:
        identity = await self.request()
        self.send(
            f"<iq type='result' id='{identity}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            f"<jid>romeo@localhost/{resource}</jid></bind></iq>"
        )

    def prove(self, came: str) -> str:
        """Answer the barriers in what came; returns it without them."""
        self.send("".join(map(returned, BARRIER.finditer(came))))
        return BARRIER.sub("", came)

    async def proving(self, came: list[str] | None = None) -> str:
        """All that comes up to the client's closing tag, which is answered, as is each barrier in its turn.

        Args:
            came: where each piece is noted as it is read, without the barriers.
        """
        whole, done = "", 0
        noted = [] if came is None else came
        try:
            while "</stream:stream>" not in self._came[done:]:
                data = await self.reader.read(1 << 18)
                if not data:
                    return whole
                self._came += data.decode("utf-8", "replace")
                end = self._came.rfind(">") + 1
                # A piece ends behind a whole element only if no ping is cut: then its rest comes with the next.
                cut = self._came.rfind("<iq", done, end)
                if cut >= 0 and "</iq>" not in self._came[cut:end]:
                    end = cut
                piece = self.prove(self._came[done:end])
                noted.append(piece)
                whole += piece
                done = end
                if "</stream:stream>" in piece:
                    break
        except ConnectionResetError:
            return whole
        self._came = self._came[done:]
        self.send("</stream:stream>")
        return whole

    async def close(self) -> str:
        """All that comes up to the client's closing tag, which is answered; or up to the end of the connection."""
        try:
            while "</stream:stream>" not in self._came:
                data = await self.reader.read(1 << 16)
                if not data:
                    return self._came
                self._came += data.decode("utf-8", "replace")
        except ConnectionResetError:
            return self._came
        self.send("</stream:stream>")
        return self._came


def scripted(*scripts: Callable[[Wire], Awaitable[None]]) -> ScriptedServer:
    """A server that follows a script for each connection, the last one for all that are left."""
    waiting = list(scripts)

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        script = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        await script(Wire(reader, writer))

    return ScriptedServer(handle)


def state_of(broker: Broker) -> State:
    """What it is doing now; by a call, or a type checker takes it for what it was before."""
    return broker.state


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


# ---- brokers


def component(port: int, **options: Any) -> Broker:
    """A component of XEP-0114, not connected yet."""
    options = {"host": "127.0.0.1", "port": port, "close_timeout": 2.0, **options}
    return Broker(JABBERD14_COMPONENT, DOMAIN, password=SECRET, **options)


def client(port: int, **options: Any) -> Broker:
    """A client, not connected yet; without TLS unless `options` say otherwise."""
    options = {
        "host": "127.0.0.1",
        "port": port,
        "require_tls": False,
        "allow_plain": True,
        "close_timeout": 2.0,
        **options,
    }
    return Broker(XMPP, "romeo@localhost/orchard", password=SECRET, **options)


def server(**options: Any) -> Server:
    """An embedded server with the accounts that `component` and `client` use, and without TLS."""
    return Server(
        accounts={"romeo": SECRET, "juliet": SECRET},
        components={DOMAIN: SECRET, "other.localhost": SECRET},
        router_users={"jabberd": SECRET},
        **{"options": PLAIN, **options},
    )


class Record:
    """Every event of a broker, in order. `check` holds them against the rules that are true of all sequences."""

    def __init__(self, broker: Broker) -> None:
        self.statuses: list[Status] = []
        broker.subscribe("*", self.statuses.append)

    @property
    def names(self) -> list[str]:
        """The events, without PCJ_."""
        return [status.event.removeprefix("PCJ_") for status in self.statuses]

    def since(self, event: str) -> list[str]:
        """The names behind the last `event`."""
        names = self.names
        return names[len(names) - names[::-1].index(event.removeprefix("PCJ_")) :]

    def of(self, event: str) -> list[Status]:
        """The statuses of one event."""
        return [status for status in self.statuses if status.event == event]

    def one(self, event: str) -> Status:
        """The only status of an event."""
        (status,) = self.of(event)
        return status

    def check(self) -> None:
        """The order of events as a contract: C0, C8, C9, C11, C15."""
        numbers = [status.seq for status in self.statuses]
        assert numbers == sorted(set(numbers)), "one order (C15)"
        names = self.names
        terminals = [name for name in names if name in ("CONNECTING", "CONNECTFAIL", "SOCKETDISCONNECT")]
        assert terminals[::2] == ["CONNECTING"] * len(terminals[::2]), (names, "C0")
        assert "CONNECTING" not in terminals[1::2], (names, "C0: one terminal for each attempt")
        attempt: list[str] = []
        ended = False
        for name in names:
            if name == "CONNECTING":
                attempt, ended = [name], False
            elif name in OF_AN_ATTEMPT:
                assert attempt, (names, f"C0: {name} before any attempt")
                assert not ended, (names, f"C0: {name} after the attempt's end")
                ended = name in ("CONNECTFAIL", "SOCKETDISCONNECT")
        for place, name in enumerate(names):
            if name == "SOCKETFAIL":
                assert "SOCKETDISCONNECT" in names[place:], (names, "C8")
            if name == "STREAMEND":
                end = names.index("SOCKETDISCONNECT", place) if "SOCKETDISCONNECT" in names[place:] else len(names)
                assert "NODESENT" not in names[place:end], (names, "C9")
        shutdown = [name for name in names if name.startswith("SHUTDOWN")]
        assert shutdown == ["SHUTDOWN_START", "SHUTDOWN_FINISH"] * (len(shutdown) // 2), (names, "C9")
        asked = [s for s in self.of(Event.PCJ_RTS_START) if not s.detail.get("internal")]
        over = self.of(Event.PCJ_RTS_FINISH) + self.of(Event.RTS_FAIL)
        assert len(over) <= len(asked), (names, "C11")
        assert names.count("READY") >= names.count("SESSION_LOST"), names


#: What belongs to an attempt, and never comes behind its end.
OF_AN_ATTEMPT = frozenset(
    {
        "CONNECTFAIL",
        "CONNECTED",
        "STREAMSTART",
        "STREAMEND",
        "NODESENT",
        "NODERECEIVED",
        "SSLNEGOTIATE",
        "SSLSUCCESS",
        "SSLFAIL",
        "AUTHNEGOTIATE",
        "AUTHSUCCESS",
        "AUTHFAIL",
        "BINDNEGOTIATE",
        "BINDSUCCESS",
        "BINDFAIL",
        "SESSIONNEGOTIATE",
        "SESSIONSUCCESS",
        "SESSIONFAIL",
        "READY",
        "SOCKETFAIL",
        "SOCKETDISCONNECT",
        "RTS_FINISH",
        "STREAM_ERROR",
        "IQ_ANSWERED",
    }
)


def texts(nodes: Iterable[Node | None]) -> list[str | None]:
    """The bodies."""
    return [None if node is None else node.findtext("{jabber:client}body") for node in nodes]
