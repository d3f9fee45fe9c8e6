"""How a connection is made to fail: servers on loopback that are not what was asked for, names that do not exist.

A way is given a `Scene` and yields a broker whose `connect()` fails. What the sentence says of the moment (the port, a
date) is put into `Scene.values`.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import socket
import ssl
import warnings
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pcj import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP, Broker
from pcj.testing import ScriptedServer, Server, ServerOptions
from pcj.transport.resolve import resolve
from pcj.transport.tls import make_context
from tests.connect_failures.scripts import DOMAIN, STREAM_ERRORS, Play
from tests.shell.links import Wire, closed_port
from tests.shell.transport.nameserver import Zone, name_server
from tests.shell.transport.pair import (
    Chain,
    authority,
    certificate_pin_of,
    good,
    issued,
    other_authority,
    pin_of,
    server_context,
)
from tests.shell.transport.pair import Server as Peer

COMPONENT = f"comp.{DOMAIN}"
PASSWORD = "s3cret-of-romeo"
#: Deadlines of the phases, in seconds.
RESOLVING, CONNECTING, ANSWERING = 0.2, 0.1, 0.1


@dataclass
class Scene:
    """Where a way plays.

    Attributes:
        monkeypatch: for what cannot be had on loopback. folder: for files. values: what fills a sentence's gaps.
    """

    monkeypatch: pytest.MonkeyPatch
    folder: Path
    values: dict[str, str | re.Pattern[str]] = field(
        default_factory=lambda: {
            "resolving": f"{RESOLVING}",
            "connecting": f"{CONNECTING}",
            "answering": f"{ANSWERING}",
            **dict.fromkeys(("dates", "until", "later"), re.compile(r"\d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d")),
            "hyphen": re.compile("[- ]"),  # a space in OpenSSL before version 3
        }
    )

    def at(self, port: int) -> None:
        """The address that the sentence names."""
        self.values.update(at=f"127.0.0.1:{port}", named=f"localhost (127.0.0.1, port {port})", port=str(port))


Way = Callable[[Scene], AbstractAsyncContextManager[Broker]]


def client(scene: Scene, port: int | None, **options: Any) -> Broker:
    """An account of the domain, whose server is on loopback."""
    where = {} if port is None else {"host": "127.0.0.1", "port": port}
    return Broker(XMPP, f"romeo@{DOMAIN}/orchard", **{"password": PASSWORD, "close_timeout": 1.0, **where, **options})


def component(scene: Scene, port: int, **options: Any) -> Broker:
    """A component of XEP-0114."""
    options = {"host": "127.0.0.1", "password": PASSWORD, "close_timeout": 1.0, **options}
    if options["host"] == "localhost":
        say_addresses(scene.monkeypatch, [("127.0.0.1", port)])  # not every machine has the same for it
    return Broker(JABBERD14_COMPONENT, COMPONENT, port=port, **options)


def routed(scene: Scene, port: int, **options: Any) -> Broker:
    """A component at jabberd2's router."""
    options = {"host": "127.0.0.1", "password": PASSWORD, "username": "comp", "close_timeout": 1.0, **options}
    return Broker(JABBERD20_COMPONENT, COMPONENT, port=port, require_tls=False, **options)


def legacy(scene: Scene, port: int, **options: Any) -> Broker:
    """An account that logs in with jabber:iq:auth."""
    options = {"host": "127.0.0.1", "password": PASSWORD, "close_timeout": 1.0, **options}
    return Broker(LEGACY, f"romeo@{DOMAIN}/orchard", port=port, **options)


# ---- names


@asynccontextmanager
async def _zone(scene: Scene, zone: Zone) -> AsyncIterator[None]:
    async with name_server(zone) as (address, _):
        scene.monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
        yield


def say_addresses(monkeypatch: pytest.MonkeyPatch, found: list[tuple[str, int]] | int) -> None:
    """What the system's resolver, which asks no name server of ours, says of every name; or its error."""

    async def getaddrinfo(host: object, port: object, *, family: int = 0, **_: object) -> list[Any]:
        if isinstance(found, int):
            raise socket.gaierror(found, "said by the test")
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, number))
            for ip, number in found
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)


def named(zone: Zone, addresses: list[tuple[str, int]] | int = socket.EAI_NONAME, **options: Any) -> Way:
    """An account whose server is looked up in `zone`; the addresses of hosts are said by the test."""

    @asynccontextmanager
    async def way(scene: Scene) -> AsyncIterator[Broker]:
        say_addresses(scene.monkeypatch, addresses)
        async with _zone(scene, zone):
            yield client(scene, None, **options)

    return way


# ---- addresses


@asynccontextmanager
async def refused(scene: Scene) -> AsyncIterator[Broker]:
    port = closed_port()
    scene.at(port)
    yield client(scene, port)


@asynccontextmanager
async def several_refused(scene: Scene) -> AsyncIterator[Broker]:
    port = closed_port()
    scene.at(port)
    say_addresses(scene.monkeypatch, [("127.0.0.1", port), ("127.0.0.2", port), ("127.0.0.3", port)])
    yield client(scene, port, host="xmpp.example.org")


def kernel(number: int | None, **options: Any) -> Way:
    """The kernel's part of connecting is replaced: its error, or silence."""

    @asynccontextmanager
    async def way(scene: Scene) -> AsyncIterator[Broker]:
        async def sock_connect(*_: object) -> None:
            if number is None:
                await asyncio.Event().wait()
            else:
                raise OSError(number, os.strerror(number))

        scene.monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect, raising=False)
        yield client(scene, 5222, **options)

    return way


@asynccontextmanager
async def no_files_left(scene: Scene) -> AsyncIterator[Broker]:
    """The limit of open files is lowered to what is open, and reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [os.open(os.devnull, os.O_RDONLY)]
    limit = opened[0] + 16
    broker = client(scene, 5222)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        while True:
            try:
                opened.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:  # the limit
                break
        scene.values["limit"] = f"{limit:,}"
        yield broker
    finally:
        for file in opened:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- what is no XMPP, or says it in its own way


def server(
    handler: Callable[[StreamReader, StreamWriter], Awaitable[None]],
    make: Callable[..., Broker] = client,
    **options: Any,
) -> Way:
    """A server of the test's own."""

    @asynccontextmanager
    async def way(scene: Scene) -> AsyncIterator[Broker]:
        async with ScriptedServer(handler) as at:
            scene.at(at.port)
            yield make(scene, at.port, **options)

    return way


async def _drain(reader: StreamReader) -> None:
    """Until the client closes."""
    try:
        while await reader.read(1 << 16):
            pass
    except ConnectionResetError:
        pass


def banner(data: bytes, **options: Any) -> Way:
    """A server that speaks first."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(data)
        await _drain(reader)

    return server(handler, **options)


def answer(data: bytes | None, **options: Any) -> Way:
    """A server that answers our first bytes; with None it closes."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read(1 << 16)
        if data is not None:
            writer.write(data)
            await _drain(reader)

    return server(handler, **options)


def resets(**options: Any) -> Way:
    """A server that breaks the connection when it reads our first bytes."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read(1 << 16)
        Wire(reader, writer).reset()

    return server(handler, **options)


def silent(**options: Any) -> Way:
    """A server that takes the connection and says nothing."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        await _drain(reader)

    return server(handler, **options)


def script(play: Play, make: Callable[..., Broker] = client, **options: Any) -> Way:
    """A server that follows a script; a client's without TLS unless `options` say otherwise."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        wire = Wire(reader, writer)
        await play(wire)
        await wire.close()

    if make is client:
        options = {"require_tls": False, "allow_plain": True, **options}
    return server(handler, make, **options)


# ---- TLS

Made = Callable[[Scene], ssl.SSLContext]


def presents(chain: Callable[[], Chain]) -> Made:
    """The context of a server with this certificate."""
    return lambda scene: server_context(chain(), scene.folder)


def ca_file(scene: Scene) -> str:
    """The authority that our certificates are of."""
    file = scene.folder / "ca.pem"
    authority().cert_pem.write_to_path(str(file))
    return str(file)


def _dated(scene: Scene, begins: timedelta, ends: timedelta) -> ssl.SSLContext:
    now = datetime.now(UTC)
    scene.values["expired"] = f"{now + ends:%Y-%m-%d}"
    scene.values["begins"] = scene.values["clock"] = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
    return server_context(issued(begins=begins, ends=ends), scene.folder)


def dated(begins: timedelta, ends: timedelta) -> Made:
    """The context of a server whose certificate is valid from and until then, as seen from now."""
    return partial(_dated, begins=begins, ends=ends)


def foreign(scene: Scene) -> ssl.SSLContext:
    """The context of a server with a certificate of an authority that is not ours."""
    made = other_authority().issue_cert(DOMAIN)
    return server_context(Chain(made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes()), scene.folder)


def pinned(scene: Scene) -> ssl.SSLContext:
    """The context of a server whose key is told to the sentence."""
    chain = good(DOMAIN)
    scene.values["pin"] = f"{pin_of(chain)} and {certificate_pin_of(chain)}"
    return server_context(chain, scene.folder)


def web(scene: Scene) -> ssl.SSLContext:
    """The context of a server that selects 'h2', though we do not offer it.

    Python's servers select only what is offered, so it is offered, behind the back of our engine.
    """

    def offering(**options: Any) -> Any:
        ours = make_context(**options)
        ours.set_alpn_protocols(["xmpp-client", "h2"])
        return ours

    scene.monkeypatch.setattr("pcj.transport.wire.make_context", offering)
    context = server_context(good(DOMAIN), scene.folder)
    context.set_alpn_protocols(["h2"])
    return context


@asynccontextmanager
async def old_tls(scene: Scene) -> AsyncIterator[Broker]:
    """OpenSSL as a server that speaks nothing newer than TLS 1.0."""
    context = server_context(good(DOMAIN), scene.folder)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        peer = Peer(context)
        while data := await reader.read(1 << 16):
            peer.feed(data)
            writer.write(peer.outgoing.read())

    async with ScriptedServer(handler) as at:
        scene.at(at.port)
        yield client(scene, at.port, direct_tls=True)


def tls(made: Made, make: Callable[..., Broker] = client, **options: Any) -> Way:
    """A server with TLS from the first byte."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        await _drain(reader)

    @asynccontextmanager
    async def way(scene: Scene) -> AsyncIterator[Broker]:
        async with ScriptedServer(handler, tls=made(scene)) as at:
            scene.at(at.port)
            given = {name: value(scene) if callable(value) else value for name, value in options.items()}
            yield make(scene, at.port, **{"direct_tls": True, "ca_file": ca_file(scene), **given})

    return way


@asynccontextmanager
async def direct_by_dns(scene: Scene) -> AsyncIterator[Broker]:
    """A port that DNS names for TLS from the first byte, and that speaks XML."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(b"<stream:stream/>")
        await _drain(reader)

    async with ScriptedServer(handler) as at:
        scene.at(at.port)
        say_addresses(scene.monkeypatch, [("127.0.0.1", at.port)])
        async with _zone(scene, {f"_xmpps-client._tcp.{DOMAIN}": [f"0 0 {at.port} localhost."]}):
            yield client(scene, None)


# ---- redirects


@asynccontextmanager
async def sent_round(scene: Scene) -> AsyncIterator[Broker]:
    """A server that sends everybody on to itself."""
    where: list[str] = []

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        wire = Wire(reader, writer)
        await wire.header("jabber:client", version="1.0")
        wire.send(f"<stream:error><see-other-host xmlns='{STREAM_ERRORS}'>{where[0]}</see-other-host></stream:error>")
        await wire.close()

    async with ScriptedServer(handler) as at:
        scene.at(at.port)
        where.append(f"127.0.0.1:{at.port}")
        yield client(scene, at.port, max_redirects=2)


def _sends_on(where: str) -> Callable[[StreamReader, StreamWriter], Awaitable[None]]:
    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        wire = Wire(reader, writer)
        await wire.header("jabber:client", version="1.0")
        wire.send(f"<stream:error><see-other-host xmlns='{STREAM_ERRORS}'>{where}</see-other-host></stream:error>")
        await wire.close()

    return handler


@asynccontextmanager
async def sent_nowhere(scene: Scene) -> AsyncIterator[Broker]:
    """A server that sends us on to a port where nothing listens."""
    elsewhere = scene.values["elsewhere"] = f"127.0.0.1:{closed_port()}"
    async with ScriptedServer(_sends_on(elsewhere)) as at:
        scene.at(at.port)
        yield client(scene, at.port)


@asynccontextmanager
async def sent_to_another(scene: Scene) -> AsyncIterator[Broker]:
    """A server that sends us on to what is none of XMPP's."""

    async def ssh(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await _drain(reader)

    async with ScriptedServer(ssh) as there:
        elsewhere = scene.values["elsewhere"] = f"127.0.0.1:{there.port}"
        async with ScriptedServer(_sends_on(elsewhere)) as at:
            scene.at(at.port)
            yield client(scene, at.port)


# ---- the embedded server


def embedded(
    make: Callable[..., Broker] = client,
    *,
    port: str = "client_port",
    broker: dict[str, Any] | None = None,
    **options: Any,
) -> Way:
    """The embedded server of the domain; `options` are its own, `broker` the client's."""

    @asynccontextmanager
    async def way(scene: Scene) -> AsyncIterator[Broker]:
        async with site(**options) as made:
            where = getattr(made, port)
            scene.at(where)
            trust = {"ca_file": made.ca_file} if options.get("starttls") != "none" else {}
            yield make(scene, where, **{**trust, **(broker or {})})

    return way


def site(**options: Any) -> Server:
    """The domain's server."""
    return Server(
        domain=DOMAIN,
        accounts={"romeo": PASSWORD},
        components={COMPONENT: PASSWORD},
        router_users={"comp": PASSWORD},
        options=ServerOptions(**options),
    )


def stranger(scene: Scene, port: int, **options: Any) -> Broker:
    """An account of a domain that the server does not have."""
    options = {"host": "127.0.0.1", "password": PASSWORD, "close_timeout": 1.0, **options}
    return Broker(XMPP, "romeo@example.net", port=port, **options)


def unbindable(scene: Scene, port: int, **options: Any) -> Broker:
    """A component of a domain that the router does not let us have."""
    return routed(scene, port, bind_domain="other.example.org", **options)


def twice(make: Callable[..., Broker], port: str) -> Way:
    """A component whose place is taken by another link."""

    @asynccontextmanager
    async def way(scene: Scene) -> AsyncIterator[Broker]:
        async with site(starttls="none", direct_tls_port=None) as made:
            where = getattr(made, port)
            scene.at(where)
            async with make(scene, where):
                yield make(scene, where)

    return way
