"""Links of every type to the real servers, and what they tell. For the tests of this folder."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import pytest

from pcj import (
    JABBERD14_COMPONENT,
    JABBERD20_COMPONENT,
    LEGACY,
    XMPP,
    Broker,
    Config,
    ConnectionFailed,
    Event,
    Failure,
    Node,
    State,
    Status,
    ping,
)
from pcj.testing import Contract
from tests.interop.servers import Jabberd2, RealServer

#: For one test's coroutine, in seconds. On an idle machine each is done in a fraction of one.
DEADLINE = 30.0
#: What follows a failed negotiation that is not retried, and `shutdown` while READY (original-traces, section 1).
SHUTDOWN = "STREAMEND SHUTDOWN_START SOCKETDISCONNECT SHUTDOWN_FINISH"

ResultT = TypeVar("ResultT")


def run(coroutine: Coroutine[Any, Any, ResultT], deadline: float = DEADLINE) -> ResultT:
    """Runs a test's coroutine to its end, in a loop of its own."""

    async def bounded() -> ResultT:
        async with asyncio.timeout(deadline):
            return await coroutine

    return asyncio.run(bounded())


# ---- one link of each type; `options` are those of `Config`, and win over what stands here


def xmpp(server: RealServer, *, user: int = 0, **options: Any) -> Broker:
    """A client by STARTTLS, or with `direct_tls`: as the account of that number, the certificate verified."""
    port = server.direct_tls_port if options.get("direct_tls") else server.c2s_port
    return _client(XMPP, server, user, {"port": port, **options})


def legacy(server: RealServer, *, user: int = 0, **options: Any) -> Broker:
    """A client by iq:auth, without TLS unless it is required."""
    return _client(LEGACY, server, user, {"port": server.c2s_port, **options})


def _client(connection_type: str, server: RealServer, user: int, options: dict[str, Any]) -> Broker:
    name, password = server.accounts[user]
    usual = {"jid": f"{name}@{server.domain}/orchard", "password": password, "ca_file": str(server.ca_file)}
    broker = Broker(connection_type, **{**usual, "host": server.host, **options})
    if isinstance(server, Jabberd2):
        _at_jabberd2.add(broker)
    return broker


def jabberd14(server: RealServer, *, domain: int = 0, **options: Any) -> Broker:
    """A component of XEP-0114: of the component domains, the one of that number."""
    usual = {"jid": server.component_domains[domain], "password": server.component_secret}
    return Broker(JABBERD14_COMPONENT, **{**usual, "host": server.host, "port": server.component_port, **options})


def jabberd20(server: RealServer, *, domain: int = 0, user: str = "comp", **options: Any) -> Broker:
    """A component at jabberd2's router, logged in as one of `router_users`."""
    assert isinstance(server, Jabberd2)
    usual = {
        "jid": server.component_domains[domain],
        "username": user,
        "password": dict(server.router_users)[user],
        "host": server.host,
        "port": server.router_port,
        "tls_name": server.domain,
        "ca_file": str(server.ca_file),
    }
    return Broker(JABBERD20_COMPONENT, **{**usual, **options})


# ---- every pair of a type and a server that must work

_STARTTLS = "S SSLNEGOTIATE NODESENT(starttls) SSLSUCCESS"
_DIRECT_TLS = "SSLNEGOTIATE SSLSUCCESS"
# SCRAM; and DIGEST-MD5 as jabberd2 does it, which proves itself in <success/>.
_SASL = "S AUTHNEGOTIATE NODESENT(auth) NODESENT(response) AUTHSUCCESS S"
# DIGEST-MD5 as ejabberd does it: the proof is one more challenge.
_SASL_IN_THREE = "S AUTHNEGOTIATE NODESENT(auth) NODESENT(response) NODESENT(response) AUTHSUCCESS S"
_BIND_RESOURCE = "BINDNEGOTIATE RTS_START(iq bind) NODESENT(iq bind) BINDSUCCESS"
_BIND_DOMAIN = "BINDNEGOTIATE RTS_START(bind) NODESENT(bind) BINDSUCCESS"
_SESSION = "SESSIONNEGOTIATE RTS_START(iq session) NODESENT(iq session) SESSIONSUCCESS"
_IQ_AUTH = "S AUTHNEGOTIATE NODESENT(iq query) AUTHSUCCESS"
_HANDSHAKE = "S AUTHNEGOTIATE NODESENT(handshake) AUTHSUCCESS"

_XMPP = f"{_STARTTLS} {_SASL} {_BIND_RESOURCE}"
_XMPP_DIRECT = f"{_DIRECT_TLS} {_SASL} {_BIND_RESOURCE}"
_XMPP_IN_THREE = f"{_STARTTLS} {_SASL_IN_THREE} {_BIND_RESOURCE}"
_XMPP_SESSION = f"{_XMPP} {_SESSION}"
_LEGACY_TLS = f"{_STARTTLS} {_IQ_AUTH}"
_JABBERD20 = f"{_STARTTLS} {_SASL} {_BIND_DOMAIN}"

_DIRECT = {"direct_tls": True}
_SECURE = {"require_tls": True}
_PLAINTEXT = {"plaintext": True}


@dataclass(frozen=True)
class Pair:
    """One type of link on one server, in one manner.

    Attributes:
        name: of the manner. server: the fixture. make, options: its broker. order: what is fired between CONNECTED and
            READY, in the words of `words`.
    """

    name: str
    server: str
    make: Callable[..., Broker]
    order: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}-{self.server}"

    def broker(self, server: RealServer, **options: Any) -> Broker:
        return self.make(server, **{**self.options, **options})

    def server_of(self, request: pytest.FixtureRequest) -> RealServer:
        """Its server, started."""
        server = request.getfixturevalue(self.server)
        assert isinstance(server, RealServer)
        return server

    @property
    def component(self) -> bool:
        return self.make in (jabberd14, jabberd20)

    @property
    def secure(self) -> bool:
        return "SSLNEGOTIATE" in self.order


PAIRS = [
    Pair("xmpp", "prosody", xmpp, _XMPP),
    Pair("xmpp", "ejabberd", xmpp, _XMPP),
    Pair("xmpp", "jabberd2", xmpp, _XMPP),
    Pair("xmpp-direct-tls", "prosody", xmpp, _XMPP_DIRECT, _DIRECT),
    Pair("xmpp-direct-tls", "ejabberd", xmpp, _XMPP_DIRECT, _DIRECT),
    Pair("xmpp-direct-tls", "jabberd2", xmpp, _XMPP_DIRECT, _DIRECT),
    # Prosody and ejabberd offer it as optional, jabberd2 does not.
    Pair("xmpp-session", "prosody", xmpp, _XMPP_SESSION, {"session": "always"}),
    Pair("xmpp-session", "ejabberd", xmpp, _XMPP_SESSION, {"session": "always"}),
    Pair("xmpp-digest-md5", "ejabberd_plain", xmpp, _XMPP_IN_THREE, {"sasl_mechanisms": ("DIGEST-MD5",)}),
    Pair("legacy", "prosody", legacy, _IQ_AUTH, _PLAINTEXT),
    Pair("legacy", "ejabberd_plain", legacy, _IQ_AUTH),
    Pair("legacy", "jabberd2", legacy, _IQ_AUTH),
    Pair("legacy-tls", "prosody", legacy, _LEGACY_TLS, _PLAINTEXT | _SECURE),
    Pair("legacy-tls", "ejabberd_plain", legacy, _LEGACY_TLS, _SECURE),
    Pair("legacy-tls", "jabberd2", legacy, _LEGACY_TLS, _SECURE),
    Pair("jabberd14", "prosody", jabberd14, _HANDSHAKE),
    Pair("jabberd14", "ejabberd", jabberd14, _HANDSHAKE),
    Pair("jabberd14", "jabberd2", jabberd14, _HANDSHAKE),
    Pair("jabberd20", "jabberd2", jabberd20, _JABBERD20),
    Pair("jabberd20-other-domain", "jabberd2", jabberd20, _JABBERD20, {"bind_domain": "other.localhost"}),
]

#: The router's log hears all that the others say, so it is no pair like those. Only who may do everything may be it.
LOG = Pair("jabberd20-log", "jabberd2", jabberd20, _JABBERD20, {"bind_option": "log", "user": "jabberd"})


def the_pair(name: str) -> Pair:
    """The pair of this name, "xmpp-prosody" for example."""
    (found,) = [pair for pair in PAIRS if str(pair) == name]
    return found


def counterpart(pair: Pair, server: RealServer, **options: Any) -> Broker:
    """Somebody else to talk to: a client for a component, a component for a client."""
    if pair.component:
        return xmpp(server, user=1, **options)
    return jabberd14(server, domain=1, **options)


# ---- what a link tells


class Watched:
    """A broker, and every status of it from the beginning, in order, held against the contract of their order."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.statuses: list[Status] = []
        self.contract = Contract(broker)
        self._news = asyncio.Event()
        broker.subscribe("*", self._heard)

    def _heard(self, status: Status) -> None:
        self.statuses.append(status)
        self._news.set()

    @property
    def jid(self) -> str:
        return self.broker.jid

    def all(self, *events: str) -> list[Status]:
        """The statuses of these events."""
        return [status for status in self.statuses if status.event in events]

    def messages(self) -> list[Node]:
        """The messages that came in."""
        nodes = [status.node for status in self.all(Event.PCJ_NODERECEIVED)]
        return [node for node in nodes if node is not None and node.tag == "{jabber:client}message"]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a status has made it true."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def seen(self, *events: str, count: int = 1) -> Status:
        """The status of these events that is the `count`th from the beginning, as soon as it is there."""
        await self.until(lambda: len(self.all(*events)) >= count)
        return self.all(*events)[count - 1]

    async def message(self, count: int = 1) -> Node:
        """The message that is the `count`th from the beginning, as soon as it is there."""
        await self.until(lambda: len(self.messages()) >= count)
        return self.messages()[count - 1]

    def words(self, start: int = 0) -> str:
        """The original's events from a place in `statuses` on, as `words` has them."""
        return words(self.statuses[start:])

    def all_words(self, start: int = 0) -> str:
        """The same with those of ours, and why, where they say it."""
        return words(self.statuses[start:], ours=True)

    async def fails(self) -> Failure:
        """Connects, which must fail; what for."""
        try:
            await self.broker.connect()
        except ConnectionFailed as error:
            assert self.broker.state is State.IDLE
            return error.failure
        raise AssertionError(f"connected, against expectation: {self.words()}")


@asynccontextmanager
async def links(*brokers: Broker) -> AsyncIterator[Sequence[Watched]]:
    """Watches all, and shuts down at the end who is connected; returns when their servers have let go of them."""
    watched = [Watched(broker) for broker in brokers]
    try:
        yield watched
    finally:
        for each in watched:
            await each.broker.shutdown()
        for each in watched:
            await let_go(each)
    for each in watched:
        assert each.contract.violations == [], each.broker


@asynccontextmanager
async def ready(*brokers: Broker) -> AsyncIterator[Sequence[Watched]]:
    """As `links`, all connected, one after the other."""
    async with links(*brokers) as watched:
        for each in watched:
            await each.broker.connect()
        yield watched


async def let_go(link: Watched) -> None:
    """Waits until the server has closed all connections of this link, too.

    ejabberd takes a component off its table only after it has answered our closing tag, and sends part of what is for
    its successor there until then. The kernel tells nobody of another process's sockets: it has to be asked.
    """
    assert link.broker.config.port is not None
    port = _hexadecimal(link.broker.config.port)
    # A port of ours towards another address (a relay) says nothing of the server: the kernel may give it to two.
    direct = [status.detail for status in link.all(Event.PCJ_CONNECTED) if _port(status.detail["address"]) == port]
    ours = {_port(detail["local"]) for detail in direct}
    ours -= _held()
    while any(local.endswith(port) and remote[-5:] in ours for local, remote in _connections()):  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    if link.broker in _at_jabberd2:
        _occupy_the_descriptor(link.broker.config)


def _hexadecimal(port: int) -> str:
    """A port as /proc/net/tcp writes it."""
    return f":{port:04X}"


def _port(address: object) -> str:
    """The port of an address as an event names it."""
    return _hexadecimal(int(str(address).rpartition(":")[2]))


def _held() -> set[str]:
    """The ports of the connections that occupy descriptors: one that has gone may have had the same before."""
    return {_hexadecimal(each.getsockname()[1]) for each in _occupied}


def _connections() -> Iterator[tuple[str, str]]:
    """The local and the remote address of each TCP connection on this machine that a process has hold of."""
    time_wait = "06"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if state != time_wait:
            yield local, remote


_at_jabberd2: WeakSet[Broker] = WeakSet()
_occupied: deque[socket.socket] = deque()


def _occupy_the_descriptor(config: Config) -> None:
    """Has jabberd2 give the descriptor of a client that left to a connection that wants nothing.

    It tells its clients apart by their descriptors, the lowest that is free: who comes just after another left may be
    given what was meant for the other, an internal-server-error.
    """
    try:
        taken = socket.create_connection((config.host, config.port), DEADLINE)
    except OSError:
        return  # it is down, and with it all of its past
    taken.sendall(
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost'>"
    )
    taken.recv(1)  # it has it
    _occupied.append(taken)
    if len(_occupied) > 64:
        _occupied.popleft().close()


async def settle(link: Watched) -> None:
    """All that was sent before is with the server, all that the server sent before is here."""
    reply = await link.broker.return_to_sender(ping(to="localhost"), timeout=DEADLINE)
    assert reply.get("type") == "result"


def words(statuses: Iterable[Status], *, ours: bool = False) -> str:
    """The events of the original among them, in the words of its traces.

    Without their prefix; NODESENT and RTS_START with the node's name, an IQ with its child's; S is a stream header.
    With `ours` all other events, too, with the reason of those that have one; but for proofs, which come in their own
    time, and a row of nodes in doubt is told once.
    """
    said: list[str] = []
    for status in statuses:
        if not status.event.startswith("PCJ_"):
            in_a_row = status.event == Event.NODE_UNCERTAIN and said[-1:] == [status.event]
            if ours and status.event != Event.NODE_ACKED and not in_a_row:
                reason = status.detail.get("reason")
                said.append(f"{status.event}({reason})" if reason else status.event)
            continue
        word = status.event.removeprefix("PCJ_")
        if status.event in (Event.PCJ_NODESENT, Event.PCJ_RTS_START):
            assert status.node is not None
            names = [status.node, *status.node] if status.node.tag.endswith("}iq") else [status.node]
            word += f"({' '.join(node.tag.rpartition('}')[2] for node in names)})"
        if word == "NODESENT(stream)" and said and said[-1] == "STREAMSTART":
            said[-1] = "S"
        else:
            said.append(word)
    return " ".join(said)
