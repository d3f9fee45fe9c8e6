"""Where an attack is played: a hostile server, a broker with all its events recorded, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import traceback
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from pcj import (
    JABBERD14_COMPONENT,
    JABBERD20_COMPONENT,
    LEGACY,
    XMPP,
    Broker,
    ConnectionFailed,
    Event,
    Failure,
    Status,
)
from pcj.namespaces import BIND, CLIENT, COMPONENT_ACCEPT, JABBERD_COMPONENT, PING
from pcj.testing import ScriptedServer
from tests.attacks.foe import DOMAIN, USER, Foe, Gone, header, mechanisms
from tests.shell.links import Record

PASSWORD: Final = "s3cret-of-r0meo-Montague"
#: Deadlines of the phases for a play that lets one pass, in seconds.
SOON: Final = 0.15
#: Within this time a broker must be done with a foe, whose own patience is longer.
DONE: Final = 6.0

#: The options of a broker that connects again, and soon.
AGAIN: Final[Mapping[str, Any]] = MappingProxyType(
    {"auto_reconnect": True, "reconnect_delay": 0.01, "reconnect_delay_max": 0.02}
)

Script = Callable[[Foe], Awaitable[None]]
Led = Callable[[int], AbstractAsyncContextManager[object]]


@dataclass(frozen=True)
class Kind:
    """A connection type: its broker's options, and an honest server's script up to READY.

    Attributes:
        connection_type, jid, options: of the broker. xmlns: of the server's stream. ready: the script up to the last
            answer, which it returns.
    """

    connection_type: str
    jid: str
    xmlns: str
    ready: Callable[[Foe], Awaitable[str]]
    version: str | None = "1.0"
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.connection_type

    def wrapped(self, stanza: str) -> str:
        """A stanza of `jabber:client`, as this type of link brings it."""
        if self.connection_type != JABBERD20_COMPONENT:
            return stanza
        name = stanza[1:].split(" ", 1)[0].split(">", 1)[0]
        stanza = stanza.replace(f"<{name}", f"<{name} xmlns='{CLIENT}'", 1)
        return f"<route xmlns='{JABBERD_COMPONENT}' from='{DOMAIN}' to='{self.jid}'>{stanza}</route>"


async def _client(foe: Foe) -> str:
    await foe.log_in(PASSWORD)
    return bound(await foe.asked())


async def _legacy(foe: Foe) -> str:
    await foe.header(version=None)
    return f"<iq type='result' id='{await foe.asked()}'/>"


async def _component(foe: Foe) -> str:
    await foe.header(COMPONENT_ACCEPT, version=None)
    await foe.until("</handshake>")
    return "<handshake/>"


async def _router(foe: Foe) -> str:
    await foe.header(JABBERD_COMPONENT)
    foe.features(mechanisms("SCRAM-SHA-256"))
    await foe.scram(PASSWORD)
    foe.success(foe.proof)
    await foe.header(JABBERD_COMPONENT)
    foe.features("")
    request = await foe.until("<bind ") + await foe.until("/>")
    identity = request.rpartition('id="')[2].partition('"')[0]
    return f"<bind xmlns='{JABBERD_COMPONENT}' id='{identity}'/>"


def bound(identity: str, jid: str = f"{USER}@{DOMAIN}/orchard") -> str:
    """The answer to a request to bind."""
    return f"<iq type='result' id='{identity}'><bind xmlns='{BIND}'><jid>{jid}</jid></bind></iq>"


CLIENT_KIND: Final = Kind(XMPP, f"{USER}@{DOMAIN}/orchard", CLIENT, _client)
LEGACY_KIND: Final = Kind(LEGACY, f"{USER}@{DOMAIN}/orchard", CLIENT, _legacy, None)
COMPONENT_KIND: Final = Kind(JABBERD14_COMPONENT, f"comp.{DOMAIN}", COMPONENT_ACCEPT, _component, None)
ROUTER_KIND: Final = Kind(
    JABBERD20_COMPONENT, f"comp.{DOMAIN}", JABBERD_COMPONENT, _router, options=(("username", USER),)
)
KINDS: Final = (CLIENT_KIND, LEGACY_KIND, COMPONENT_KIND, ROUTER_KIND)


@dataclass
class Refused:
    """What came of a `connect()` that had to fail.

    Attributes:
        failure: why, as the user is told. record: all events. foes: the hostile server's connections, one after the
            other. took: seconds.
    """

    failure: Failure
    record: Record
    foes: list[Foe]
    took: float

    @property
    def names(self) -> list[str]:
        """The events, without PCJ_."""
        return self.record.names

    @property
    def foe(self) -> Foe:
        """The only connection."""
        (foe,) = self.foes
        return foe

    def nothing_shown(self) -> None:
        """No credential went out, nor anything that one could be guessed from."""
        assert [foe.shown for foe in self.foes] == [[] for _ in self.foes]
        assert "AUTHNEGOTIATE" not in self.names

    def before_bind(self) -> None:
        """The log-in failed: nothing followed it."""
        assert self.names.count("AUTHFAIL") == 1, self.names
        assert "AUTHSUCCESS" not in self.names
        assert "BINDNEGOTIATE" not in self.names
        assert all(BIND.encode() not in foe.came for foe in self.foes)

    def failed(self, event: str, *words: str) -> None:
        """It failed with this event, once, and the user reads these words."""
        assert self.names.count(event) == 1, self.names
        assert "READY" not in self.names
        for word in words:
            assert word in str(self.failure), str(self.failure)


@dataclass
class Session:
    """A link that is READY, its hostile server, and all its events."""

    kind: Kind
    broker: Broker
    record: Record
    foe: Foe
    heard: list[Status] = field(default_factory=list)

    def say(self, stanza: str) -> None:
        """The server sends a stanza of `jabber:client`, as this type of link brings it."""
        self.foe.send(self.kind.wrapped(stanza))

    async def barrier(self, name: str = "barrier") -> None:
        """All that was sent before has been dealt with, and the link lives: it answers a ping."""
        self.say(f"<iq type='get' id='{name}' from='{DOMAIN}' to='{self.kind.jid}'><ping xmlns='{PING}'/></iq>")
        assert 'type="result"' in await self.foe.until(f'id="{name}"') + await self.foe.until(">")

    async def lost(self) -> list[str]:
        """Wait until the link has ended; the names of the events since READY."""
        if "SOCKETDISCONNECT" not in self.record.since("READY"):
            await self.broker.wait_for(Event.PCJ_SOCKETDISCONNECT, timeout=DONE)
        await self.foe.rest()
        return self.record.since("READY")

    def bodies(self) -> list[str | None]:
        """What the messages said that PCJ_NODERECEIVED told of."""
        nodes = [status.node for status in self.record.of(Event.PCJ_NODERECEIVED)]
        return [node.findtext(f"{{{CLIENT}}}body") for node in nodes if node is not None]

    async def refused(self, answer: str) -> list[str]:
        """The server broke the stream's rules: it was told so, and nothing of it reached the user."""
        names = await self.lost()
        assert self.foe.said == answer, self.foe.text[-300:]
        assert names.count("STREAM_ERROR") == 1, names
        return names


def forms_of(secret: str) -> set[bytes]:
    """A secret as it might be seen: as it is, in hexadecimal, in base64 wherever in it it begins, as its digest."""
    octets = secret.encode()
    found = {octets, octets.hex().encode(), hashlib.sha1(octets).hexdigest().encode()}  # noqa: S324 - to look for it
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + octets)
        found.add(whole[(shift * 8 + 5) // 6 : -4])  # the characters at its ends hold bits of its neighbours
    return found


#: What stands in SASL's elements, and is worth hiding.
_PROOFS: Final = re.compile(rb"<(?:auth|response)\b[^>]*>([A-Za-z0-9+/=]{24,})<")


class Stage:
    """What a play is given.

    Attributes:
        monkeypatch: for what cannot be had on loopback. folder: for files. password_may_be_sent: the play lets the
            password itself go out, as its user said it might.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.monkeypatch = monkeypatch
        self.folder = folder
        self.password_may_be_sent = False
        self.foes: list[Foe] = []
        self.records: list[Record] = []
        self._record_of: dict[int, Record] = {}

    # ---- the two sides

    def server(self, *scripts: Script) -> ScriptedServer:
        """A hostile server: one script for each connection, the last one for all that follow."""
        waiting = list(scripts)

        async def handle(reader: StreamReader, writer: StreamWriter) -> None:
            foe = Foe(reader, writer)
            self.foes.append(foe)
            script = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            try:
                await script(foe)
            except Gone:
                pass  # the client has had enough, which is what most plays are about
            await foe.rest()  # it must close: a foe that waits in vain fails the play

        return ScriptedServer(handle)

    def broker(self, kind: Kind, port: int | None, *, watch: bool = True, **options: Any) -> Broker:
        """Not connected yet; without TLS unless `options` say otherwise. `watch`: its events are recorded."""
        where = {} if port is None else {"host": "127.0.0.1", "port": port}
        usual = {"password": PASSWORD, "require_tls": False, "close_timeout": 0.5, **where, **dict(kind.options)}
        made = {"jid": kind.jid, **usual, **options}
        broker = Broker(kind.connection_type, **made)
        record = Record(broker if watch else _deaf(broker))
        self.records.append(record)
        self._record_of[id(broker)] = record
        return broker

    def record(self, broker: Broker) -> Record:
        """All its events."""
        return self._record_of[id(broker)]

    async def refused(
        self, *scripts: Script, kind: Kind = CLIENT_KIND, led: Led | None = None, **options: Any
    ) -> Refused:
        """Connect to a server that follows these scripts, which must fail for good, and in time.

        Args:
            led: given its port, makes the broker find it in DNS.
        """
        first = len(self.foes)
        loop = asyncio.get_running_loop()
        async with self.server(*scripts) as at, nullcontext() if led is None else led(at.port):
            broker = self.broker(kind, at.port if led is None else None, **options)
            record = self.record(broker)
            began = loop.time()
            with pytest.raises(ConnectionFailed) as raised:
                async with asyncio.timeout(DONE):
                    await broker.connect()
            took = loop.time() - began
            foes = self.foes[first:]
            for foe in foes:
                await self._end_of(foe)
        return Refused(raised.value.failure, record, foes, took)

    @asynccontextmanager
    async def session(
        self, kind: Kind = CLIENT_KIND, *, before: str = "", behind: str = "", watch: bool = True, **options: Any
    ) -> AsyncIterator[Session]:
        """A broker that is READY.

        Args:
            before, behind: what the server sends in one piece with the answer that makes the link READY.
            watch: keep every event; not where there are too many.
        """
        foes: asyncio.Queue[Foe] = asyncio.Queue()

        async def script(foe: Foe) -> None:
            answer = await kind.ready(foe)
            foe.send(before + answer + behind)
            foes.put_nowait(foe)
            await _over.wait()

        _over = asyncio.Event()
        async with self.server(script) as at:
            broker = self.broker(kind, at.port, watch=watch, **options)
            record = self.record(broker)
            try:
                async with asyncio.timeout(DONE):
                    await broker.connect()
                yield Session(kind, broker, record, await foes.get())
            finally:
                _over.set()
                broker.halt()
            for foe in self.foes:
                await self._end_of(foe)

    async def _end_of(self, foe: Foe) -> None:
        """The client has closed its end, and need not be asked twice."""
        async with asyncio.timeout(DONE):
            await foe.left.wait()

    # ---- what must hold afterwards

    def check(self, logged: Iterable[logging.LogRecord]) -> None:
        """No secret was told, logged or sent, and the order of events is as promised."""
        forms = forms_of(PASSWORD)
        # What the password can be guessed from: digests of components and LEGACY, messages of SASL.
        digest = hashlib.sha1(f"s1{PASSWORD}".encode()).hexdigest().encode()  # noqa: S324 - to look for it
        told = forms | {digest} | {found for foe in self.foes for found in _PROOFS.findall(bytes(foe.came))}
        for record in self.records:
            record.check()
            for status in record.statuses:
                _without(told, status.to_json(), repr(status), repr(status.detail))
                if status.error is not None:
                    _without(told, "".join(traceback.format_exception(status.error)), repr(vars(status.error)))
        for line in logged:
            _without(told, line.getMessage(), repr(line.args), line.exc_text or "")
        if not self.password_may_be_sent:
            for foe in self.foes:
                assert not any(form in foe.came for form in forms), "the password was sent"


def _without(forms: set[bytes], *texts: str) -> None:
    for text in texts:
        assert not any(form.decode() in text for form in forms), text


def _deaf(broker: Broker) -> Any:
    """In place of a broker, for a record that shall stay empty."""

    class Deaf:
        def subscribe(self, *_: object) -> None:
            """Hear nothing."""

    return Deaf()


__all__ = [
    "AGAIN",
    "CLIENT_KIND",
    "COMPONENT_KIND",
    "DONE",
    "KINDS",
    "LEGACY_KIND",
    "PASSWORD",
    "ROUTER_KIND",
    "SOON",
    "Kind",
    "Refused",
    "Script",
    "Session",
    "Stage",
    "bound",
    "header",
]
