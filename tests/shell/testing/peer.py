"""A peer that writes its own wire text, for tests of the embedded server."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

from pcj.sasl import (
    MECHANISMS,
    Challenge,
    Channel,
    Compute,
    Credentials,
    Limits,
    Respond,
    Success,
    decode_data,
    encode_data,
)
from pcj.testing import Server

SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
COMPONENT = "jabber:component:accept"
ROUTER = "http://jabberd.jabberstudio.org/ns/component/1.0"
TIMEOUT = 10.0


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine; nothing may be left running behind it."""

    async def checked() -> None:
        async with asyncio.timeout(60):
            await main()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"left behind: {left}"

    asyncio.run(checked())


def digest(stream_id: str, secret: str) -> str:
    """XEP-0078 4.1, XEP-0114 3."""
    return hashlib.sha1(f"{stream_id}{secret}".encode()).hexdigest()  # noqa: S324  # the protocols' own


def handshake(stream_id: str, secret: str = "secret") -> str:
    return f"<handshake>{digest(stream_id, secret)}</handshake>"


class Peer:
    """One connection. `until` reads up to a text and gives all that came before it, itself included."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._buffer = ""

    async def __aenter__(self) -> Peer:
        name = None if self._tls is None else "localhost"
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname=name, limit=1 << 22
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.transport.abort()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    def send(self, text: str) -> None:
        self._writer.write(text.encode())

    async def drain(self) -> None:
        await self._writer.drain()

    def close_writing(self) -> None:
        """The end of what we say; the answers can still be read."""
        self._writer.write_eof()

    async def until(self, text: str) -> str:
        async with asyncio.timeout(TIMEOUT):
            while text not in self._buffer:
                data = await self._reader.read(1 << 16)
                assert data, f"the connection ended before {text!r}: {self._buffer!r}"
                self._buffer += data.decode()
        end = self._buffer.index(text) + len(text)
        came, self._buffer = self._buffer[:end], self._buffer[end:]
        return came

    async def end(self) -> str:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(TIMEOUT):
            while data := await self._reader.read(1 << 16):
                self._buffer += data.decode()
        came, self._buffer = self._buffer, ""
        return came

    async def reset(self) -> bool:
        """Whether the connection ends with an RST."""
        try:
            await self.end()
        except ConnectionResetError:
            return True
        return False

    async def gone(self) -> None:
        """Until the connection has ended, in whichever way."""
        await self.reset()

    def has_nothing(self) -> bool:
        return not self._buffer

    async def start_tls(self, server: Server) -> None:
        self.send(f"<starttls xmlns='{TLS}'/>")
        assert "<proceed" in await self.until("/>")
        assert self.has_nothing()
        async with asyncio.timeout(TIMEOUT):
            await self._writer.start_tls(trust(server), server_hostname="localhost")

    # The steps of a login

    async def open(self, namespace: str = "jabber:client", to: str = "localhost", version: str | None = "1.0") -> str:
        """Send a header; the id of the server's."""
        said = "" if version is None else f" version='{version}'"
        self.send(
            f"<?xml version='1.0'?><stream:stream xmlns='{namespace}' "
            f"xmlns:stream='http://etherx.jabber.org/streams' to='{to}'{said}>"
        )
        await self.until("<stream:stream")
        found = re.search(r'id="([^"]+)"', await self.until(">"))
        assert found is not None
        return found[1]

    async def features(self) -> str:
        return await self.until("</stream:features>")

    async def sasl(self, user: str, password: str, mechanism: str) -> str:
        """Go through a mechanism with pcj's own client side; the name of the last element."""
        chosen = next(m for m in MECHANISMS if m.name == mechanism)
        exchange = chosen.exchange(
            Credentials(user, password, host="localhost"), "fyko+d2lbbFgONRv9qkxdawL", Limits(), Channel()
        )
        step = next(exchange)
        first = True
        while True:
            while isinstance(step, Compute):
                step = exchange.send(step.run())
            assert isinstance(step, Respond)
            name = f"auth mechanism='{mechanism}'" if first else "response"
            text = encode_data(step.data, initial=first)
            self.send(f"<{name} xmlns='{SASL}'>{text}</{name.partition(' ')[0]}>")
            first = False
            answer = await self.element()
            if answer.tag == f"{{{SASL}}}challenge":
                step = exchange.send(Challenge(decode_data(answer.text)))
                continue
            if answer.tag == f"{{{SASL}}}success":
                try:
                    exchange.send(Success(decode_data(answer.text) if answer.text else None))
                except StopIteration:
                    return "success"
            return answer[0].tag.rpartition("}")[2]

    async def element(self) -> ET.Element:
        """The next whole element, which must have a namespace of its own."""
        text = await self.until(">")
        name = text.lstrip("<").rstrip("/>").partition(" ")[0]
        if not text.endswith("/>"):
            text += await self.until(f"</{name}>")
        return ET.fromstring(text)

    async def bind(self, resource: str | None = "orchard") -> str:
        wish = "" if resource is None else f"<resource>{resource}</resource>"
        self.send(f"<iq type='set' id='bind'><bind xmlns='{BIND}'>{wish}</bind></iq>")
        return await self.until("</iq>")

    async def login(
        self, server: Server, user: str = "romeo", resource: str = "orchard", mechanism: str = "SCRAM-SHA-1"
    ) -> None:
        """XMPP without TLS, up to a bound resource."""
        await self.open()
        await self.features()
        assert await self.sasl(user, "secret", mechanism) == "success"
        await self.open()
        await self.features()
        assert f"<jid>{user}@localhost/{resource}</jid>" in await self.bind(resource)

    async def login_component(self, domain: str = "comp.localhost", secret: str = "secret") -> None:
        stream_id = await self.open(COMPONENT, domain, None)
        self.send(handshake(stream_id, secret))
        assert await self.until(">") == "<handshake/>"

    async def login_router(self, server: Server, domain: str = "comp.localhost", option: str = "") -> None:
        await self.open(ROUTER, "jabberd-router")
        await self.features()
        assert await self.sasl("jabberd", "secret", "DIGEST-MD5") == "success"
        await self.open(ROUTER, "jabberd-router")
        await self.features()
        self.send(f"<bind name='{domain}'>{option}</bind>")
        answer = await self.until(">")
        assert answer.startswith("<bind"), answer
        assert "error" not in answer


def trust(server: Server) -> ssl.SSLContext:
    """A client's TLS context that trusts this server and nobody else."""
    return ssl.create_default_context(cafile=server.ca_file)
