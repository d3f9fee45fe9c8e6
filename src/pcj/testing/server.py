"""The embedded server itself: its listeners, and what a test may do with it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType

from pcj.errors import ConfigError, JidError, UsageError
from pcj.jid import JID
from pcj.stanza import Node
from pcj.testing.certificates import make_certificate
from pcj.testing.client import ClientSession
from pcj.testing.component import ComponentSession
from pcj.testing.hub import Hub
from pcj.testing.link import Link, settle
from pcj.testing.options import ServerOptions, Site
from pcj.testing.router import RouterSession
from pcj.testing.session import Session, SessionInfo

__all__ = ["Server"]


class Server:
    """An XMPP server inside the test's own process. It is for tests, not for the world.

    It answers all four connection types of pcj: XMPP and LEGACY clients on one port, components (XEP-0114) on another,
    jabberd2's router protocol on a third, and clients with TLS from the first byte on a fourth. Stanzas are routed
    between whoever is connected. There are no rosters, no storage and no other servers; presence goes only where it is
    directed. Passwords are kept as they are.

    ::

        async with Server(accounts={"romeo": "secret"}) as server:
            ...  # connect to server.host, server.client_port, trusting server.ca_file

    Args:
        domain: the domain of the accounts.
        accounts: password by local part. components: secret by domain; the router may bind these domains too.
        router_users: password by name, for logins at the router.
        host: where to listen; loopback unless told otherwise.
        options: everything else.

    Raises:
        ConfigError: a name is no address.
    """

    def __init__(
        self,
        *,
        domain: str = "localhost",
        accounts: Mapping[str, str] | None = None,
        components: Mapping[str, str] | None = None,
        router_users: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        options: ServerOptions | None = None,
    ) -> None:
        self._host = host
        self._options = options or ServerOptions()
        self._domain = JID(None, domain).domain
        self._accounts = {JID(name, domain).local or "": secret for name, secret in (accounts or {}).items()}
        self._components = {JID(None, name).domain: secret for name, secret in (components or {}).items()}
        self._router_users = dict(router_users or {})
        self._ports: dict[str, int] = {}
        self._listeners: list[asyncio.Server] = []
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._hub: Hub | None = None
        self._stopping = False

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. `async with` does it.

        Raises:
            UsageError: it runs already. ConfigError: TLS is to be offered, and trustme is missing. OSError: a port.
        """
        if self._listeners:
            raise UsageError("the server is running already")
        options = self._options
        self._stopping = False
        try:
            tls = None
            if options.needs_certificate:
                self._folder = tempfile.TemporaryDirectory(prefix="pcj-testing-")
                names = options.certificate_names or (self._ascii_domain(), "localhost", "127.0.0.1")
                tls = make_certificate(names, self._ca_path(self._folder), options.client_ca_file)
            self._hub = Hub(
                Site(self._domain, self._accounts, self._components, self._router_users, options, tls),
            )
            await self._listen("client", options.client_port, ClientSession)
            await self._listen("direct_tls", options.direct_tls_port, partial(ClientSession, direct_tls=True))
            await self._listen("component", options.component_port, ComponentSession)
            await self._listen("router", options.router_port, RouterSession)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close everything: streams with the stream error "system-shutdown". Takes `close_timeout` at the most.

        No session can be resumed after that, and what waited for those that are away is gone.
        """
        self._stopping = True
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        await settle()
        for session in self._sessions.values():
            if session.addresses:
                session.close("system-shutdown")
            else:
                session.stream.mute()  # in negotiation: there is no polite way
                session.stream.link.finish(abort=True)
        for session in [] if self._hub is None else list(self._hub.sessions()):
            session.forget()
        if self._sessions:
            # Each ends by itself within close_timeout; twice that is for a machine under load.
            await asyncio.wait(list(self._sessions), timeout=2 * self._options.close_timeout)
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        for listener in listeners:
            await listener.wait_closed()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    # Where it is

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._host

    @property
    def domain(self) -> str:
        """The domain of its accounts."""
        return self._domain

    @property
    def client_port(self) -> int:
        """The port for XMPP and LEGACY clients."""
        return self._port("client")

    @property
    def direct_tls_port(self) -> int:
        """The port for clients with TLS from the first byte."""
        return self._port("direct_tls")

    @property
    def component_port(self) -> int:
        """The port for components (XEP-0114)."""
        return self._port("component")

    @property
    def router_port(self) -> int:
        """The port for jabberd2's router protocol."""
        return self._port("router")

    @property
    def ca_file(self) -> str:
        """The PEM file of the authority that signed the server's certificate; it is there while the server runs.

        Raises:
            UsageError: the server does not run, or does without TLS.
        """
        if self._folder is None:
            raise UsageError("there is no certificate: the server does not run, or was told to do without TLS")
        return str(self._ca_path(self._folder))

    # What goes on

    @property
    def sessions(self) -> list[SessionInfo]:
        """Who is logged in."""
        return [info for s in self._running().sessions() if not s.away for info in s.infos()]

    @property
    def away(self) -> list[SessionInfo]:
        """Who has lost the connection, and may come back to the session (XEP-0198 5)."""
        return [info for s in self._running().sessions() if s.away for info in s.infos()]

    @property
    def received(self) -> list[tuple[str, Node]]:
        """The last stanzas that came in (`max_received`), each with the address of the session that sent it.

        They are as they were routed: with the `from` that the server puts on clients' stanzas.
        """
        return list(self._running().received)

    async def wait_for_session(self, jid: str, *, timeout: float = 5.0) -> SessionInfo:
        """Wait until somebody is logged in.

        Args:
            jid: a full JID, a bare one (any resource), or a component's domain. timeout: in seconds.

        Returns:
            The session.

        Raises:
            TimeoutError: nobody came.
        """

        def look() -> SessionInfo | None:
            return next((info for s in self._find(jid) for info in s.infos() if _is_at(info.jid, jid)), None)

        async with asyncio.timeout(timeout):
            return await self._running().watch(look)

    async def wait_for_end(self, jid: str, *, timeout: float = 5.0) -> None:
        """Wait until nobody is logged in at this address.

        Raises:
            TimeoutError: somebody still is.
        """
        async with asyncio.timeout(timeout):
            await self._running().watch(lambda: None if self._find(jid) else True)

    async def wait_for_node(
        self, matches: Callable[[str, Node], bool] = lambda jid, node: True, *, timeout: float = 5.0
    ) -> Node:
        """Wait for a stanza, among those of `received` too.

        Args:
            matches: called with the address of the session and the stanza. timeout: in seconds.

        Raises:
            TimeoutError: none came.
        """
        hub = self._running()
        async with asyncio.timeout(timeout):
            return await hub.watch(lambda: next((node for jid, node in hub.received if matches(jid, node)), None))

    # What a test can do

    def route(self, node: Node) -> None:
        """Let a stanza in, as if a session had sent it: it goes to whoever its `to` means.

        Raises:
            UsageError: the server does not run.
        """
        self._running().route(node, None)

    async def send(self, node: Node, *, to: str) -> None:
        """Write any element to whoever is logged in at `to`, whatever its own addresses are.

        Raises:
            UsageError: nobody is. NodeError: it cannot be written.
        """
        for session in self._find_some(to):
            session.send(node)

    async def drop(self, jid: str) -> None:
        """Break the connections of an address without a word (RST), and wait until they are gone.

        A session that can be resumed is in `away` then, until somebody resumes it or `resume_seconds` are over.

        Raises:
            UsageError: nobody is logged in there.
        """
        for session in self._find_some(jid):
            session.stream.link.reset()
            await session.stream.link.wait_closed()
            session.leave(resumable=True)

    def expire(self, jid: str) -> None:
        """End the wait for those of an address that are away, as if their time was over.

        What waits for them goes where it goes for one that is not there: to another resource of the account, or back.
        Whoever tries to resume such a session is refused, and told how much of it was handled (`failed_handled`).

        Raises:
            UsageError: nobody is away there.
        """
        sessions = [s for s in self._find(jid, away=True) if isinstance(s, ClientSession)]
        if not sessions:
            raise UsageError(f"nobody is away as {jid}")
        for session in sessions:
            session.expire()

    async def restart(self) -> None:
        """Break every connection without a word (RST) and forget every session, as if the process had been killed.

        The ports stay, and are listened to again at once. What was on its way to anybody is lost, and is not bounced.
        """
        hub = self._running()
        for session in list(hub.sessions()):
            session.forget()
        hub.resumable.forget()
        links = [session.stream.link for session in self._sessions.values()]
        for link in links:
            link.reset()
        for link in links:
            await link.wait_closed()

    async def close_stream(
        self, jid: str, condition: str | None = None, *, text: str = "", resumable: bool = False
    ) -> None:
        """Close the streams of an address.

        Args:
            jid: a full or bare JID, or a component's domain.
            condition: of a stream error (RFC 6120 4.9.3) to send first; the connection is closed behind it. None: close
                the stream alone; the connection ends when the peer has closed its own, or after `close_timeout`.
            text: for people, in the stream error.
            resumable: keep the session, as if the connection had been lost, where stream management allows it.

        Raises:
            UsageError: nobody is logged in there. NodeError: the condition is no name.
        """
        for session in self._find_some(jid):
            session.close(condition, text, resumable=resumable)

    # Inside

    async def _listen(self, name: str, port: int | None, kind: Callable[[Link, Hub], Session]) -> None:
        if port is None:
            return
        options = self._options
        server = await asyncio.get_running_loop().create_server(
            lambda: Link(
                partial(self._accepted, kind),
                max_outbound_bytes=options.max_outbound_bytes,
                close_timeout=options.close_timeout,
            ),
            self._host,
            port,
        )
        self._listeners.append(server)
        self._ports[name] = server.sockets[0].getsockname()[1]

    def _accepted(self, kind: Callable[[Link, Hub], Session], link: Link) -> None:
        if self._stopping or self._hub is None:
            link.finish(abort=True)
            return
        session = kind(link, self._hub)
        task = asyncio.get_running_loop().create_task(session.serve())
        self._sessions[task] = session
        task.add_done_callback(lambda done: self._sessions.pop(done, None))

    def _running(self) -> Hub:
        if self._hub is None:
            raise UsageError("the server does not run: use `async with`, or `await server.start()`")
        return self._hub

    def _port(self, name: str) -> int:
        if name not in self._ports:
            raise UsageError(f"the server does not run, or was told to have no {name}_port")
        return self._ports[name]

    def _find(self, jid: str, *, away: bool = False) -> list[Session]:
        try:
            return [s for s in self._running().find(JID.parse(jid)) if s.away == away]
        except JidError:
            raise ConfigError(f"{jid!r} is no address") from None

    def _find_some(self, jid: str) -> list[Session]:
        sessions = self._find(jid)
        if not sessions:
            raise UsageError(f"nobody is logged in as {jid}")
        return sessions

    def _ascii_domain(self) -> str:
        return JID(None, self._domain).ascii_domain

    @staticmethod
    def _ca_path(folder: tempfile.TemporaryDirectory[str]) -> Path:
        return Path(folder.name) / "ca.pem"


def _is_at(address: str, jid: str) -> bool:
    """Whether a session's address is meant: a connection may have several."""
    wanted = JID.parse(jid)
    there = JID.parse(address)
    return there == wanted or (wanted.local is not None and there.bare == wanted)
