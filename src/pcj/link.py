"""The life of one logical link: attempts, one after the other, and how it ends (event-order C0 to C10)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from pcj.backoff import Backoff
from pcj.config import Config, check_host_port
from pcj.connection import Connection
from pcj.diagnosis import Diagnosis
from pcj.dialling import Interrupted, Interruptible, reach
from pcj.dispatch import Dispatcher
from pcj.errors import (
    ConnectionFailed,
    Failure,
    PcjError,
    Phase,
    ProtocolError,
    QueueError,
    Retry,
    UsageError,
)
from pcj.events import NO_DETAIL, Event, Status
from pcj.explain import State, clause
from pcj.login import Login
from pcj.owners import LinkOwner
from pcj.protocol import Dialect
from pcj.protocol.negotiator import stream_error_received
from pcj.protocol.redact import repeated, said_in, scrub, scrubbed, secrets_of
from pcj.protocol.steps import Session
from pcj.queue import Ledger
from pcj.route import Candidate, Elsewhere, Route, target_of
from pcj.stanza import Node
from pcj.transport.tls import make_context

__all__ = ["Link"]

log = logging.getLogger("pcj")

#: What the broker is doing once one of these was fired.
_STATES: Mapping[str, State] = {
    Event.PCJ_CONNECTED: State.NEGOTIATING,
    Event.PCJ_STREAMEND: State.CLOSING,
    Event.PCJ_SOCKETFAIL: State.CLOSING,
}

#: Stream errors that no node of ours can cause (RFC 6120 4.9.3).
_NOT_OURS = frozenset(
    {
        "conflict",
        "connection-timeout",
        "host-gone",
        "host-unknown",
        "remote-connection-failed",
        "reset",
        "resource-constraint",
        "see-other-host",
        "system-shutdown",
    }
)


class Link:
    """Attempts and connections of one broker.

    Attributes:
        attempt, session: their numbers, from 1. jid, sid: of the session, "" without one. failure: why the last
            attempt or connection failed, or None. retry_at: when the next attempt comes, by the loop's clock, while it
            waits for one. ready_status: the status of READY, while it lasts. shut: shutdown is complete; a second one
            says nothing. ended: why the link is over for good, until `connect` is called again.
    """

    def __init__(
        self, config: Config, dialect: Dialect, dispatcher: Dispatcher, owner: LinkOwner, ledger: Ledger
    ) -> None:
        self._config = config
        self._dialect = dialect
        self._dispatcher = dispatcher
        self._owner = owner
        self._ledger = ledger
        self._backoff = Backoff(
            config.reconnect_delay, config.reconnect_delay_max, config.reconnect_reset, random.random
        )
        self._state = State.IDLE
        self.attempt = 0
        self.session = 0
        self.jid = ""
        self.sid = ""
        self.failure: Failure | None = None
        self.retry_at: float | None = None
        self.ready_status: Status | None = None
        self.connection: Connection | None = None
        self.wants = dispatcher.wants
        self.together = dispatcher.together
        self.receive = owner.receive
        self.receive_early = owner.receive_early
        self.written = owner.written
        self._task: asyncio.Task[None] | None = None
        self._work = Interruptible(self._stopped)
        self._ready: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._ending = ""  # "user" or "reconnect" while such an end is under way
        self._shutdown_said = False  # SHUTDOWN_START is out and its FINISH is not
        self.shut = False
        self.ended: PcjError | None = None
        self._in_session = False
        self._refused = False  # the peer ended the stream with an error
        self._blamed = False  # which one of our nodes may have caused
        self._suspended: asyncio.TimerHandle | None = None  # until when the session may be resumed
        self._handing_over = False
        self._restored = False  # a process before this one has left a session, and nothing became of it yet
        self._overdue = False  # the session may be resumed no more, and an attempt to do so is under way
        self._ready_at: float | None = None
        self._diagnosis = Diagnosis(config, dialect)
        self._login = Login(config.password)
        self._sent_on: Elsewhere | None = None  # where the server sent us on to when it ended the session
        self._asked: tuple[str | None, int | None] = (None, None)  # where `connect` was told to go
        self._dialling = False  # CONNECTING is out, and neither CONNECTED nor CONNECTFAIL
        self._wish = 0  # counts the calls of the user: the latest one counts
        self._set_context()

    @property
    def state(self) -> State:
        """What it is doing; HALTED is for good."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if self._state is not State.HALTED:
            self._state = state

    # ---- what the broker asks for

    async def connect(self, host: str | None, port: int | None) -> None:
        """Connect, and return when READY.

        Raises:
            UsageError: it is connected or connecting. ConnectionFailed: it could not; no further attempt follows.
        """
        await self._told()
        wish = self._wish
        await self._owner.closed()
        self._check_wish(wish)
        self._check_free()
        self._check_given(host, port)
        self._prepare()
        self._wish += 1
        wish = self._wish
        self.shut = False
        self._dispatcher.fire(Event.PCJ_CONNECT, detail=target_of(host, port))
        self._check_wish(wish)  # a handler of CONNECT may be a task that begins at once (asyncio.eager_task_factory)
        await self._begin(host, port)

    async def reconnect(self, host: str | None, port: int | None) -> None:
        """End what there is, in good order, and connect anew (event-order C13).

        Raises:
            UsageError, ConnectionFailed: as `connect`; UsageError too where another call overtook this one.
        """
        await self._told()
        self._check_given(host, port)
        self._prepare()
        self._wish += 1
        wish = self._wish
        # A shutdown that was asked for before is told to its end: its SHUTDOWN_START would take this CONNECT back.
        while self._task is not None and self._ending == "user" and wish == self._wish:
            await self._end("user")
        if wish == self._wish:
            self.shut = False
            self._dispatcher.fire(Event.PCJ_CONNECT, detail=target_of(host, port))
        try:
            while self._task is not None and wish == self._wish:
                await self._end("reconnect")
            await self._owner.closed()  # a shutdown that was under way lets go of the durable queue
            self._check_wish(wish)
            self._prepare()
        except (asyncio.CancelledError, QueueError):
            if wish == self._wish:  # CONNECT was told, and nobody is left to begin
                await self.shutdown()
            raise
        await self._begin(host, port)

    async def shutdown(self) -> None:
        """End the link in good order and for good; nothing is retried. Twice does nothing."""
        self._wish += 1
        if self.state is State.HALTED or (self.shut and self._task is None):
            return
        if self._task is None:
            self._ending = ""
            self.state = State.CLOSING
            self._say_shutdown("user")
            self._session_ends("shutdown")
            self.state = State.IDLE
            self._finish_shutdown()
            self._owner.link_ended(UsageError("the link was shut down"))
            return
        await self._end("user")

    async def suspend(self) -> None:
        """Leave without closing the stream: the session stays with the server, to be resumed (event-order C10)."""
        connection = self.connection
        waits = self._waits_to_be_resumed
        if self._ending or not (waits or (connection is not None and connection.ready and self.resumable)):
            raise UsageError("there is no session that could be resumed: suspend() needs XEP-0198 at the server")
        if waits or connection is None:
            await self.shutdown()  # which keeps it
            return
        self._wish += 1
        self._ending = "user"
        self._handing_over = True
        self.state = State.CLOSING
        connection.leave()  # what waits goes out before the end is told
        self._say_shutdown("user", suspend=True)
        task = self._task
        if task is not None and asyncio.current_task() is not task:
            await asyncio.wait([task])

    @property
    def _waits_to_be_resumed(self) -> bool:
        """There is a session without a connection: of ours, or of a process before this one."""
        return self._restored or (self._in_session and self._suspended is not None)

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return self._task is None

    @property
    def resumable(self) -> bool:
        """Whether the session could go on over another connection."""
        management = self._owner.management()[0]
        return (self._in_session or self._restored) and management is not None and management.resumable

    def halt(self) -> None:
        """Cut everything now; the broker is of no more use."""
        if self.state is State.HALTED:
            return
        self.state = State.HALTED
        self._wish += 1
        self.retry_at = None
        self._login.memory.forget()
        connection, self.connection = self.connection, None
        if connection is not None:
            self._owner.unsent(connection.take_unsent(), False)
            connection.abort()
        if self._dialling:
            self._connect_failed(Failure(Phase.CONNECT, "the broker was halted before it was connected"))
        elif connection is not None:
            self._disconnected(connection)
        self._session_ends("halt")
        self._finish_shutdown()  # of a shutdown that was under way
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        error = UsageError("the broker was halted")
        self._settle_ready(error)
        self._owner.link_ended(error)

    def _prepare(self) -> None:
        self._owner.prepare()
        self._restored = not self._in_session and self._owner.management()[0] is not None

    async def _told(self) -> None:
        """If the link ends in this very moment, let it say so first."""
        wish = self._wish
        if self.state is State.CLOSING and self.connection is None:
            await asyncio.sleep(0)
        self._check_wish(wish)

    def _check_wish(self, wish: int) -> None:
        """The latest call counts; one that was overtaken is refused."""
        self._check_usable()
        if wish != self._wish:
            raise UsageError("another call of connect, reconnect or shutdown came meanwhile, and counts")

    def _check_usable(self) -> None:
        if self.state is State.HALTED:
            raise UsageError("the broker was halted, which is for good: make a new one")

    def _check_given(self, host: str | None, port: int | None) -> None:
        """What was given is looked at before anything happens: the address, and the files that TLS will read."""
        check_host_port(host, port)
        config = self._config
        if not (config.ca_file is config.client_certificate is config.tls_engine is None):
            make_context(
                verify=config.verify_tls,
                ca_file=config.ca_file,
                client_certificate=config.client_certificate,
                engine=config.tls_engine,
            )

    def _check_free(self) -> None:
        if self._task is not None:
            raise UsageError(f"the broker is {self.state} already; reconnect() ends that first, shutdown() ends it")

    # ---- what a connection tells (owners.Owner)

    def fire(
        self,
        event: str,
        node: Node | None = None,
        error: BaseException | None = None,
        detail: Mapping[str, object] = NO_DETAIL,
    ) -> None:
        """An event of the connection."""
        if event == Event.PCJ_SHUTDOWN_START:
            self._say_shutdown(str(detail.get("by", "failure")))
            return
        state = _STATES.get(event)
        if state is not None:
            self.state = state
            self._dialling = False
        if error is not None:
            if isinstance(error, ProtocolError):  # of a negotiation it is done already; there is more to look for then
                scrub(error, repeated(self.secrets(), f"{error}\n{error.came}".encode("utf-8", "surrogatepass")))
            failure = self.failure
            if event != Event.PCJ_SOCKETFAIL or failure is None:  # else the negotiation has failed by it already
                phase = Phase(str(detail.get("phase", Phase.READY)))
                failure = self._diagnosis.of_connection(error, phase, self.connection)
            detail = failure.detail
        if event not in (Event.SM_RESUMED, Event.SM_RESUMEFAILED):
            self._dispatcher.fire(event, node, error, detail)
            return

        def tell() -> None:  # together: no handler may end the link between the one and the other
            self._dispatcher.fire(event, node, error, detail)
            self._settle_session(event, detail)

        self._dispatcher.together(tell)

    def _settle_session(self, event: str, detail: Mapping[str, object]) -> None:
        """What the server has of the session is settled first, then the session is (event-order C6)."""
        management = self._owner.management()[0]
        proved = detail.get("proved")
        if management is not None and isinstance(proved, int):
            self._owner.proved(management, proved)
        self._restored = False
        if event == Event.SM_RESUMEFAILED:
            self._session_ends("resume failed")

    def connection_ready(self, session: Session) -> None:
        """The negotiation is done."""
        resumed = session.resumed is not None
        if not resumed or not self._in_session:  # a session that another process began is this one's first
            self.session += 1
        self._stop_waiting()
        self._in_session = True
        self._restored = self._refused = False
        self.jid, self.sid = session.jid, session.sid
        self.state = State.READY
        self._diagnosis.was_ready = True
        self._ready_at = asyncio.get_running_loop().time()
        self.failure = None
        if self._diagnosis.route is not None:
            self._diagnosis.route.arrived()
        self._set_context()
        self._owner.session_begins(session)
        if not self._in_session:
            return  # that was the end of it
        detail: dict[str, object] = {"jid": session.jid, "resumed": resumed}
        if session.limits is not None and session.limits.max_bytes is not None:
            detail["max_bytes"] = session.limits.max_bytes
        status = self._dispatcher.fire(Event.PCJ_READY, detail=detail, make=True)
        if self._in_session:  # else a handler has ended it
            self.ready_status = status
            self._settle_ready(None)

    def negotiation_failed(self, error: ProtocolError, phase: Phase) -> bool:
        """Note why; returns whether another attempt will follow."""
        self.failure = self._diagnosis.of_connection(error, phase, self.connection)
        if self._ending:
            return True  # the end that is under way says its own events
        if self._diagnosis.route is not None:
            address = self.connection.address if self.connection is not None else ""
            self._diagnosis.route.tried.append((address, self.failure.message))
        self._follow(error)
        return self._diagnosis.retries(self.failure) or self._diagnosis.more_helps(self.failure)

    def secrets(self) -> set[str]:
        """What a server may repeat of our log-in and nobody else may see."""
        return secrets_of(self._config) | self._login.memory.secrets

    def stream_error(self, node: Node) -> None:
        """The peer ends the stream with an error (RFC 6120 4.9) after READY."""
        secrets = self.secrets()
        error = stream_error_received(node, self._config.account, component=self._dialect.component)
        scrub(error, repeated(secrets, said_in(node)))
        node = scrubbed(node, secrets)
        failure = self._diagnosis.of_connection(error, Phase.READY, self.connection)
        self._refused = True
        self._blamed = error.condition not in _NOT_OURS
        first = self.failure is None  # the first error ends the stream: what follows from it may have been told
        if first:
            self.failure = failure
        if self.connection is not None:
            self.connection.hold()
        self._dispatcher.fire(Event.STREAM_ERROR, node, error, failure.detail)
        self._dispatcher.fire(Event.PCJ_NODERECEIVED, node)
        if not first or self.failure is None:
            return
        if self._config.auto_reconnect and not self._ending:
            self._follow(error)
        if self.connection is not None:
            fatal = self.failure.retry is Retry.FATAL and not self._ending
            # What waits is not sent any more: the peer would not read it.
            self.connection.close((lambda: self._say_shutdown("failure")) if fatal else None, flush=False)

    def connection_ended(self, error: BaseException | None) -> None:
        """The socket is gone."""
        if self._ready_at is not None and self.failure is None and not self._ending:
            self.failure = self._diagnosis.of_connection(error, Phase.READY, self.connection)
        connection, self.connection = self.connection, None
        self.state = State.CLOSING  # until it is clear what follows
        self.ready_status = None
        if connection is not None:
            self._owner.unsent(connection.take_unsent(), self._refused and self._blamed)
        goes_on = self._goes_on(error, connection)
        if connection is not None:
            self._disconnected(connection)
        if goes_on:
            self._suspend(connection)
        else:
            self._session_ends("shutdown" if self._ending == "user" else "drop")
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    # ---- a session without a connection (XEP-0198 5)

    def _goes_on(self, error: BaseException | None, connection: Connection | None) -> bool:
        """Whether the session may go on: the link broke, nobody closed it, and another attempt follows."""
        if not self.resumable or self._overdue:
            return False
        if self._handing_over or (self._ending == "reconnect" and self._suspended is not None):
            return True
        if self._ending or self._refused or self.failure is None or not self._diagnosis.retries(self.failure):
            return False
        if self._ready_at is None:
            return True  # it was suspended before, and this attempt did not come to resume it
        return connection is not None and connection.broken

    def _suspend(self, connection: Connection | None) -> None:
        management = self._owner.management()[0]
        if self._handing_over or management is None:
            self._in_session = False
            self.jid = self.sid = ""
            self._owner.session_ended("shutdown", True)
            return
        if self._ready_at is None:
            return
        route = self._diagnosis.route
        if management.location and route is not None and connection is not None:
            self._sent_on = route.place(management.location, guarded=connection.guarded, sent_by=connection.where)
        self._stop_waiting()
        self._suspended = asyncio.get_running_loop().call_later(management.max_seconds, self._too_late)
        self._owner.session_suspended()

    def _too_late(self) -> None:
        """The server keeps the session no longer."""
        self._suspended = None
        self._overdue = True  # an attempt that is under way may still find the server more patient
        if self._in_session and (self.connection is None or not self.connection.connected):
            management = self._owner.management()[0]
            if management is not None:
                management.forget()
            self._session_ends("resume timeout")

    @property
    def session_for(self) -> float | None:
        """For how many seconds the session can still be resumed, where it waits for that."""
        if self._suspended is None:
            return None
        return max(0.0, self._suspended.when() - asyncio.get_running_loop().time())

    def _stop_waiting(self) -> None:
        self._overdue = False
        if self._suspended is not None:
            self._suspended.cancel()
            self._suspended = None

    # ---- the attempts

    async def _begin(self, host: str | None, port: int | None) -> None:
        self._check_usable()  # the handlers of CONNECT may have changed what there is
        self._check_free()
        self._ending = ""
        self.shut = False
        self._shutdown_said = False
        self._sent_on = self._left_at() if self._restored and host is None else None
        if self._asked != (host, port):
            self._asked = (host, port)
            self._diagnosis.was_ready = False  # what worked elsewhere says nothing of here
        self.failure = None
        self.ended = None
        loop = asyncio.get_running_loop()
        ready = self._ready = loop.create_future()
        ready.add_done_callback(lambda future: future.cancelled() or future.exception())  # looked at, whoever awaits
        self.state = State.CONNECTING
        task = self._task = loop.create_task(self._run(host, port), name=f"pcj link of {self._config.jid}")
        try:
            await asyncio.shield(ready)
        except asyncio.CancelledError:
            # The caller's time is over (asyncio.timeout, say): nothing may go on behind its back.
            if self._task is task:
                self._wish += 1
                await self._end("user")
            raise

    def _left_at(self) -> Elsewhere | None:
        """Where the server would have a session resumed that a process before this one has left."""
        management = self._owner.management()[0]
        if management is None or not management.location:
            return None
        route = Route(self._config, self._dialect, None, None)
        return route.place(management.location, guarded=management.secured, sent_by="the session that was left")

    async def _run(self, host: str | None, port: int | None) -> None:
        try:
            while True:
                self._ready_at = None
                await self._round(host, port)
                failure = self.failure
                if self._ending or failure is None or not self._diagnosis.retries(failure):
                    break
                await self._wait(failure)
        except Interrupted:
            pass
        except Exception as error:
            log.exception("%s: the link failed by a fault of pcj's own", self._config.jid)
            self.failure = Failure(Phase.CONNECT, f"a fault of pcj's own: {error!r}", retry=Retry.FATAL)
            if self._dialling:
                self._connect_failed(self.failure)
        if self.state is not State.HALTED:
            self._ended()

    async def _wait(self, failure: Failure) -> None:
        loop = asyncio.get_running_loop()
        ready_for = loop.time() - self._ready_at if self._ready_at is not None else 0.0
        delay = self._backoff.delay(failure.retry, ready_for)
        self.state = State.WAITING
        self.retry_at = loop.time() + delay
        detail = {"delay": round(delay, 3), "reason": failure.message, "retry": str(failure.retry)}
        log.warning("%s: %s; next attempt in %.1f s", self._config.jid, clause(failure.message), delay)
        self._dispatcher.fire(Event.RECONNECT_DELAY, detail=detail)
        try:
            await self._work.run(lambda: asyncio.sleep(delay))
        finally:
            self.retry_at = None

    async def _round(self, host: str | None, port: int | None) -> None:
        """Try each endpoint once, until one has been READY or the failure is fatal."""
        route = self._diagnosis.route = Route(self._config, self._dialect, host, port, self._sent_on)
        self._sent_on = None
        while True:
            if self._stopped():
                raise Interrupted
            self.attempt += 1
            self.state = State.CONNECTING
            self._dialling = True
            self._set_context()
            self._dispatcher.fire(Event.PCJ_CONNECTING, detail=route.target)
            try:
                found = await self._work.run(route.find)
                if found:
                    self._dispatcher.fire(Event.RESOLVED, detail={"addresses": [str(endpoint) for endpoint in found]})
                gone = await self._dial(route)
            except ConnectionFailed as error:
                self._connect_failed(error.failure, error)
                return
            except Interrupted:
                if self.state is not State.HALTED:
                    self._connect_failed(Failure(Phase.CONNECT, "the attempt was ended by us before it was connected"))
                raise
            await gone
            if self._ending or self._ready_at is not None or not self._diagnosis.more_helps(self.failure):
                return

    async def _dial(self, route: Route) -> asyncio.Future[None]:
        """Connect to the first endpoint that answers; returned: a future of the connection's end."""
        gone: asyncio.Future[None]

        def make(candidate: Candidate) -> Connection:
            nonlocal gone
            gone = self._gone = asyncio.get_running_loop().create_future()
            made = self.connection = Connection(
                self,
                candidate.config,
                self._dialect,
                tls_name=candidate.tls_name,
                endpoint=candidate.endpoint,
                login=self._login,
                ledger=self._ledger,
                management=self._owner.resumption,
            )
            return made

        try:
            await reach(route, self._work, make, partial(self._attempted, route), lambda: self.state is State.HALTED)
        except (ConnectionFailed, Interrupted):
            self.connection = None
            raise
        return gone

    def _attempted(self, route: Route, address: str, error: BaseException | None) -> None:
        detail = {"address": address, "outcome": route.attempted(address, error)}
        self._dispatcher.fire(Event.ATTEMPT, None, error, detail)

    def _follow(self, error: ProtocolError) -> None:
        """Where the server sends us on to is tried next; the failure says why not, if it is not."""
        route = self._diagnosis.route
        try:
            there = self._diagnosis.elsewhere(error, self.connection)
        except ConnectionFailed:
            return
        if there is not None and route is not None:
            count = route.go(there)
            if self._ready_at is not None:
                self._sent_on = there  # after the delay of a reconnect
            self._dispatcher.fire(Event.REDIRECT, detail={"n": count, "target": str(there)})

    @property
    def unsettled(self) -> bool:
        """An end is under way, or a reconnect has ended the old link and not begun the new one."""
        return bool(self._ending) and (self._task is not None or self._ending == "reconnect")

    def _stopped(self) -> bool:
        return bool(self._ending) or self.state is State.HALTED

    # ---- the end

    async def _end(self, by: str) -> None:
        task = self._task
        if task is None:
            return
        if not self._ending:
            self._ending = by
            connection = self.connection
            if connection is not None and connection.connected:
                self.state = State.CLOSING
                keep = self._waits_to_be_resumed and (by == "reconnect" or self._config.queue != "memory")
                connection.close((lambda: self._say_shutdown("user")) if by == "user" else None, keep=keep)
            else:
                if connection is not None:
                    connection.abort()  # should it connect in this very moment
                if by == "user":
                    self._say_shutdown("user")
                self._work.cancel()
        elif by == "user" and self._ending != "user":
            self._ending = by  # a reconnect was under way: now the old link is ended for good
            if self.connection is not None and self.connection.connected:
                self.connection.close(lambda: self._say_shutdown("user"))
            else:
                self._say_shutdown("user")
        if asyncio.current_task() is not task:
            await asyncio.wait([task])

    def _ended(self) -> None:
        """No attempt follows by itself."""
        by_user, again = self._ending == "user", self._ending == "reconnect"
        self.state = State.CLOSING  # a handler that connects now waits until all of this was told
        error: PcjError
        if by_user or self.failure is None:
            error = UsageError("the link was shut down" if by_user else "the link was ended")
        else:
            error = ConnectionFailed(self.failure)
        if not self._handing_over and not (again and self._suspended is not None):
            self._session_ends("shutdown" if by_user else "drop")
        self._handing_over = False
        self._task = None
        ready, self._ready = self._ready, None
        self.state = State.IDLE
        if not again:
            self.ended = error
        self._finish_shutdown()  # from here on another connect may have begun
        if not again:
            self._owner.link_ended(error)
        if ready is not None and not ready.done():
            ready.set_exception(error)

    def _connect_failed(self, failure: Failure, error: ConnectionFailed | None = None) -> None:
        self._dialling = False
        self.failure = failure = self._diagnosis.of_dialling(failure)
        if error is not None:
            error.failure = failure
        self._dispatcher.fire(Event.PCJ_CONNECTFAIL, None, error or ConnectionFailed(failure), failure.detail)

    def _disconnected(self, connection: Connection) -> None:
        self._dispatcher.fire(Event.PCJ_SOCKETDISCONNECT, detail={"address": connection.address})

    def _session_ends(self, reason: str) -> None:
        kept = self._waits_to_be_resumed and self._config.queue != "memory"
        if kept and reason not in ("shutdown", "halt", "resume failed", "resume timeout"):
            return  # it stays on disk, for the next connect
        kept = kept and reason in ("shutdown", "halt")  # for the next process
        self._handing_over = kept and self._task is not None
        self._stop_waiting()
        if self._in_session and not kept:
            # Of requests it is a drop all the same (event-order C11).
            by_us = self._ending == "reconnect" and reason == "drop"
            self._in_session = False
            self._dispatcher.fire(Event.SESSION_LOST, detail={"reason": "reconnect" if by_us else reason})
        self._in_session = self._restored = False
        self.jid = self.sid = ""
        self.ready_status = None
        self._owner.session_ended(reason, kept)

    def _say_shutdown(self, by: str, *, suspend: bool = False) -> None:
        if by == "failure" and self._ending == "reconnect":
            return  # a handler of STREAMEND has asked for another connection: it is no end for good
        if not self._shutdown_said:
            self._shutdown_said = True
            detail = {"by": by, "suspend": True} if suspend else {"by": by}
            self._dispatcher.fire(Event.PCJ_SHUTDOWN_START, detail=detail)

    def _finish_shutdown(self) -> None:
        if self._shutdown_said:
            self._shutdown_said = False
            self.shut = self._ending != "reconnect"
            self._dispatcher.fire(Event.PCJ_SHUTDOWN_FINISH)

    def _settle_ready(self, error: PcjError | None) -> None:
        ready, self._ready = self._ready, None
        if ready is not None and not ready.done():
            if error is None:
                ready.set_result(None)
            else:
                ready.set_exception(error)

    def _set_context(self) -> None:
        """What every status says; of a session until the next attempt, so that what it leaves behind can be told."""
        context: dict[str, object] = {"attempt": self.attempt}
        if self._in_session:
            context["session"] = self.session
        self._dispatcher.context = MappingProxyType(context)
