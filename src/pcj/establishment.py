"""From the socket to READY: carries out what the negotiator asks for, and watches the deadline of each phase."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pcj.config import Config
from pcj.errors import ProtocolError
from pcj.events import Event
from pcj.login import Login, Supplied
from pcj.protocol import Dialect, Negotiator
from pcj.protocol.actions import Action, AskPassword, BeginTls, Compute, Established, Failed, Fire, Write
from pcj.protocol.management import Management
from pcj.transport.resolve import Endpoint
from pcj.transport.tls import Begun
from pcj.transport.wire import Wire

__all__ = ["Establishment", "token"]


def token() -> str:
    """192 random bits as printable ASCII: ids and nonces that nobody can guess."""
    return secrets.token_urlsafe(24)


class Told(Protocol):
    """Whom the negotiation tells what happens to it: its connection."""

    def fire(self, action: Fire) -> None:
        """An event."""

    def together(self, callback: Callable[[], None]) -> None:
        """Call back at once; all that it fires is told before any handler can change what follows."""

    def established(self, action: Established) -> None:
        """It is done."""

    def failed(self, action: Failed) -> None:
        """It is over."""


class Establishment:
    """One negotiation over one wire. After `Told.established`, `Told.failed` or `cancel` it does nothing more.

    Args:
        told: whom to tell. wire: what it runs over. config, dialect: what to negotiate. local: whether the link stays
            on this machine because the user wanted that. tls_name: the name that the certificate must bear. where: the
            server, for errors. endpoint: what it was connected to; None: what the user named. login: what to log in
            with. management, outstanding: a session that is to be resumed, and how many of ours are unproved.

    Attributes:
        over: nothing more will come of it. header_sent: a header of ours is out.
    """

    def __init__(
        self,
        told: Told,
        wire: Wire,
        config: Config,
        dialect: Dialect,
        *,
        local: bool,
        tls_name: str,
        where: str,
        endpoint: Endpoint | None,
        login: Login,
        management: Management | None = None,
        outstanding: int = 0,
    ) -> None:
        self._told = told
        self._wire = wire
        self._config = config
        self._dialect = dialect
        self._tls_name = tls_name
        self._where = where
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._login = login
        self._asked: asyncio.Task[Supplied] | None = None
        self._negotiator = Negotiator(
            config,
            dialect,
            token=token,
            loopback=local,
            memory=login.memory,
            management=management,
            outstanding=outstanding,
        )
        self._timer: asyncio.TimerHandle | None = None
        self.over = False
        self.header_sent = False

    @property
    def phase(self) -> str:
        """The phase it is in, or "" when it is over."""
        return "" if self.over else str(self._negotiator.phase)

    # ---- what the connection tells

    def start(self) -> None:
        """Begin."""
        self._perform(self._negotiator.start(self._loop.time()))

    def receive(self, data: bytes) -> None:
        """Bytes came (decrypted, where TLS stands)."""
        self._perform(self._negotiator.receive_data(data, self._loop.time()))

    def look_for_tls(self) -> None:
        """The TLS handshake may be done by now."""
        facts = self._wire.tls_made()
        if facts is not None:
            self._perform(self._negotiator.tls_started(facts, self._loop.time()))

    def receive_eof(self, broken: Exception | None = None) -> None:
        """The peer ended the connection; or it broke, by an error of the network."""
        self._perform(self._negotiator.receive_eof(self._loop.time(), broken))

    def fail(self, error: ProtocolError) -> None:
        """It cannot go on."""
        self._perform(self._negotiator.failed(error, self._loop.time()))

    def cancel(self) -> None:
        """The connection ends; nobody is told."""
        self.over = True
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- what the negotiator asks for

    def _perform(self, actions: list[Action]) -> None:
        """Carry it out, in order."""
        for index, action in enumerate(actions):
            if self.over:
                return  # a handler of an event ended the connection meanwhile
            if isinstance(action, Fire):
                if action.error is not None:
                    # The peer's error, what it means for the phase, and the end are one: a handler cannot part them.
                    self._told.together(partial(self._fail, actions[index:]))
                    return
                if action.event == Event.PCJ_STREAMSTART:
                    self.header_sent = True
                self._told.fire(action)
            elif isinstance(action, Write):
                self._wire.send(action.data)
            elif isinstance(action, Compute):
                self._compute(action)
            elif isinstance(action, AskPassword):
                self._ask_password()
            elif isinstance(action, BeginTls):
                self._begin_tls()
            elif isinstance(action, Established):
                self.cancel()
                self._told.established(action)
                return
        deadline = None if self.over else self._negotiator.next_deadline()
        if deadline is not None:
            self._set_timer(deadline)

    def _fail(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Fire):
                self._told.fire(action)
            elif isinstance(action, Failed):
                self.cancel()
                self._told.failed(action)

    def _begin_tls(self) -> None:
        config = self._config
        try:
            self._wire.begin_tls(
                name=self._tls_name,
                peer=self._where,
                verify=config.verify_tls,
                ca_file=config.ca_file,
                client_certificate=config.client_certificate,
                pins=config.pins,
                # XEP-0368 4: asked for where TLS comes first, and a component's port is none of its ports.
                alpn=("xmpp-client",) if config.direct_tls and not self._dialect.component else (),
                begun=self._why_tls(),
                engine=config.tls_engine,
                service=None if self._dialect.component else "_xmpp-client",  # RFC 6120 13.7.1.2.1
            )
        except ProtocolError as error:
            self.fail(error)

    def _why_tls(self) -> Begun:
        """Why TLS is begun, for the sentences."""
        if not self._config.direct_tls:
            return Begun.STARTTLS
        source = self._endpoint.source if self._endpoint is not None else "given"
        return {"srv": Begun.NAMED, "redirect": Begun.SENT_ON}.get(source, Begun.ASKED)

    def _compute(self, action: Compute) -> None:
        """Run a slow function in a thread; its result, or its failure, goes back to the negotiation."""

        def done(future: asyncio.Future[object]) -> None:
            error = None if future.cancelled() else future.exception()  # looked at, or asyncio complains of it
            if future.cancelled() or self.over:
                return
            if error is None:
                self._perform(self._negotiator.computed(future.result(), self._loop.time()))
            else:
                self.fail(ProtocolError(f"could not compute the proof: {error}"))

        self._loop.run_in_executor(None, action.run).add_done_callback(done)

    def _ask_password(self) -> None:
        """Ask the user's function for the password; it has until the phase's deadline."""

        def done(task: asyncio.Task[Supplied]) -> None:
            if task.cancelled() or self.over:
                return
            self._asked = None
            supplied = task.result()
            if isinstance(supplied.error, ProtocolError):
                self.fail(supplied.error)
            else:
                self._perform(self._negotiator.password_given(supplied.value, self._loop.time()))

        self._asked = self._loop.create_task(self._login.password(), name="pcj password")
        self._asked.add_done_callback(done)

    # ---- time

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() == when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._perform(self._negotiator.handle_timer(self._loop.time()))
