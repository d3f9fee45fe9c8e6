"""One physical connection: bytes to protocol and back, and the deadline of each phase.

It lets `Establishment` negotiate, then hands stanzas to its owner, and ends in exactly one call of
`Owner.connection_ended`, which tells of SOCKETDISCONNECT. Once aborted it tells nobody anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Protocol, cast

from pcj.config import Config
from pcj.errors import Phase, ProtocolError
from pcj.establishment import Establishment
from pcj.events import NO_DETAIL, Event
from pcj.login import Login
from pcj.outflow import Outflow
from pcj.owners import Owner
from pcj.protocol import Dialect
from pcj.protocol.actions import Established, Failed, Fire
from pcj.protocol.management import Management
from pcj.queue import Entry, Ledger, Receipt
from pcj.stanza import Node
from pcj.stanza_clock import StanzaClock, too_slow
from pcj.transport.names import is_local_name
from pcj.transport.resolve import Endpoint
from pcj.transport.tls import TlsError
from pcj.transport.wire import Wire
from pcj.watch import Watch
from pcj.xmlstream import ReadyParser, limits_of
from pcj.xmlstream.framing import STREAM_CLOSE, stream_error

__all__ = ["Connection"]


class Farewell(Protocol):
    """Gives the last bytes for the peer."""

    def __call__(self, *, for_good: bool) -> bytes: ...


class State(Enum):
    """How far the connection is."""

    NEW = auto()
    NEGOTIATING = auto()
    READY = auto()
    CLOSING = auto()  # our closing tag is out, or is to go out behind what waits
    ENDED = auto()


class Connection(asyncio.Protocol):
    """One TCP (or Unix) connection, from `connection_made` to `Owner.connection_ended`.

    Args:
        owner: whom to tell. config, dialect: what to negotiate. tls_name: the name the certificate must bear.
        login: what to log in with; by default the config's password, and no memory.
        endpoint: what it was connected to; by default what the user named. ledger: where what is written waits for its
            proof; by default one of its own, which asks for none. management: gives a session that is to be resumed,
            and how many of our stanzas in it are unproved.

    Attributes:
        ready: whether stanzas can be sent. outflow: what goes out.
        address: of the server, "192.0.2.7:5222". where: the same, behind the host's name if it has one.
        farewell: gives what goes out last, before our closing tag or (for_good=False) without one (XEP-0198 4: the last
            count of what was handled).
        failed_by_peer: the peer ended the stream with an error. given_up: it left our questions unanswered.
    """

    def __init__(
        self,
        owner: Owner,
        config: Config,
        dialect: Dialect,
        *,
        tls_name: str,
        login: Login | None = None,
        endpoint: Endpoint | None = None,
        ledger: Ledger | None = None,
        management: Callable[[], tuple[Management | None, int]] = lambda: (None, 0),
    ) -> None:
        self._owner: Owner | None = owner
        self._config = config
        self._dialect = dialect
        self._tls_name = tls_name
        self._login = login if login is not None else Login(config.password)
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._establishment: Establishment | None = None
        self._parser: ReadyParser | None = None
        self._clock = StanzaClock(config.stanza_timeout, self._too_slow)
        self.ready = False
        self._state = State.NEW
        if ledger is None:
            ledger = Ledger(config.max_unacked_nodes, config.max_unacked_bytes, config.ack_every_nodes)
            ledger.enabled = False
        self._ledger = ledger
        self._management = management
        self._outflow = self.outflow = Outflow(self, ledger, config.write_high_water, config.ack_every_seconds)
        self._watch = Watch(
            config,
            self._outflow,
            ledger,
            transmit=self.transmit,
            dead=self.lose,
            tell=self._tell_probe,
            slow=lambda: self._wire is not None and self._wire.throttled,
        )
        self.farewell: Farewell | None = None
        self.failed_by_peer = False  # it reads no more
        self.given_up = False
        self._close_sent = False
        self._resuming = False  # <resume/> may be out, and is not answered
        self._patience: asyncio.TimerHandle | None = None  # how long our closing tag waits for a proof
        self._peer_closed = False
        self._unfinished = 0  # bytes of stanzas that nobody was told of yet: one may come in many reads
        self._before_close: list[Callable[[], None]] = []
        self._error: BaseException | None = None
        self._socket_error: BaseException | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.address = self.where = ""

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket stands: begin the negotiation."""
        transport = cast(asyncio.Transport, transport)  # a stream protocol is given a stream transport
        if self._owner is None:
            transport.abort()
            return
        wire = self._wire = Wire(transport, self._config.write_high_water)
        self.address = self.where = wire.address
        if self._endpoint is not None:
            self.where = self._endpoint.at(wire.address)
        self._state = State.NEGOTIATING
        self._fire(Event.PCJ_CONNECTED, detail={"address": wire.address, "local": wire.local})
        if self._state is not State.NEGOTIATING:
            return  # a handler ended it
        management, outstanding = self._management()
        self._establishment = Establishment(
            self,
            wire,
            self._config,
            self._dialect,
            local=self._local,
            tls_name=self._tls_name,
            where=self.where,
            endpoint=self._endpoint,
            login=self._login,
            management=management,
            outstanding=outstanding,
        )
        self._establishment.start()

    def data_received(self, data: bytes) -> None:
        """Bytes from the network; decrypted, where TLS stands, then read."""
        wire = self._wire
        if wire is None:
            return
        self._watch.heard(len(data))
        try:
            data = wire.receive(data)
        except ProtocolError as error:
            self._broken(error)
            return
        if wire.handshaking and (negotiation := self._negotiation) is not None:
            negotiation.look_for_tls()
        if data:
            self._read(data)
        fault = wire.fault
        if fault is not None and self._state is not State.ENDED:
            self._broken(fault)  # it came behind the data
        if wire.closed_by_peer and not self._peer_closed and self._state is not State.ENDED:
            self._peer_ended()

    def eof_received(self) -> bool:
        """The peer ended its half; the connection is of no more use."""
        self._peer_ended()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone: the one end of this connection."""
        self._cancel_timer()
        self._stop()
        if self._owner is None:
            return
        self._close_sent = True  # nothing can be sent any more
        if (negotiation := self._negotiation) is not None:
            # The negotiation ends with its own event first.
            self._socket_error = error
            negotiation.receive_eof(error)
        elif self._state is State.READY:
            self._error = self._socket_error = error or ConnectionResetError("the connection broke")
        self._end_negotiation()
        self._state = State.ENDED
        if self._socket_error is not None:
            self._fire(Event.PCJ_SOCKETFAIL, error=self._socket_error)
        self._settle_close()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.connection_ended(self._error)

    def pause_writing(self) -> None:
        """The network takes no more for now: nodes stay queued (design 6)."""
        self._outflow.pause()

    def resume_writing(self) -> None:
        """It does again."""
        self._outflow.unpause()
        self._watch.resume()
        self._outflow.flush()

    # ---- what the owner calls

    @property
    def connected(self) -> bool:
        """Whether there is a socket, or was one."""
        return self._wire is not None

    @property
    def guarded(self) -> bool:
        """Whether TLS stands here, or would have had to."""
        wire = self._wire
        return wire is not None and (wire.secured or self._dialect.tls_required(self._config, loopback=self._local))

    @property
    def _local(self) -> bool:
        """Whether the link stays on this machine because the user wanted that.

        Not where DNS or a server said it: they prove nothing, and could by that take TLS away.
        """
        if self._wire is None or not self._wire.loopback:
            return False
        if self._endpoint is None or self._endpoint.source == "given":
            return True
        return self._endpoint.source == "fallback" and is_local_name(self._config.account.ascii_domain)

    @property
    def broken(self) -> bool:
        """Whether it ended, or ends, without a close of the stream by either side."""
        return self._socket_error is not None

    @property
    def phase(self) -> str:
        """The phase of the negotiation, or "" outside one."""
        return self._establishment.phase if self._establishment is not None else ""

    @property
    def outbound(self) -> tuple[int, int]:
        """(nodes, bytes) that wait because the network, or the ledger, takes no more."""
        return self._outflow.waiting

    @property
    def _state(self) -> State:
        """How far it is; `ready`, which is asked for each node, goes with it."""
        return self.__state

    @_state.setter
    def _state(self, state: State) -> None:
        self.__state = state
        self.ready = state is State.READY

    def flush(self) -> None:
        """Send what waits now, and not at the end of this turn of the loop."""
        self._outflow.flush_now()

    @property
    def watch(self) -> Watch:
        """What is asked of the peer, and owed to it."""
        return self._watch

    def _tell_probe(self, silence: float, by: str) -> None:
        self._fire(Event.PROBE, detail={"silence": round(silence, 3), "by": by})

    def answered(self, place: int) -> None:
        """A proof of all up to `place` came: there is room for more."""
        self._watch.answered(place)
        if self._state is State.CLOSING and not len(self._ledger):
            self._outflow.flush_now()  # then our closing tag may go
        elif not self._outflow.dispatching:
            self._outflow.schedule()

    def lose(self, error: ProtocolError) -> None:
        """The peer is gone, or no more to be trusted: cut the connection without a closing tag, as if it had broken."""
        if self._state is not State.READY:
            return
        self._error = self._socket_error = error
        self._closing()
        self._close_sent = self.given_up = True
        self._outflow.stopped = True
        if self._wire is not None:
            self._wire.abort()

    def leave(self) -> None:
        """Go without a closing tag, so that the session can be resumed (XEP-0198 5)."""
        self._outflow.closing = True
        self._outflow.flush_now()
        if self.farewell is not None:
            self.transmit(self.farewell(for_good=False))
        self._closing()
        self._close_sent = True
        self._outflow.stopped = True
        self._drop()

    @property
    def paused(self) -> bool:
        """Whether nothing is read for now."""
        return self._wire is not None and self._wire.paused

    def pause_reading(self) -> bool:
        """Take no more from the network until `resume_reading`; whether it did until now."""
        # Elsewhere an answer is awaited, or the peer's close, and a deadline runs: slow handlers must not make it pass.
        if self._wire is None or self._state is not State.READY or not self._wire.pause_reading():
            return False
        self._clock.stand()
        self._watch.stand()
        return True

    def resume_reading(self) -> None:
        """Go on reading."""
        if self._wire is not None:
            self._clock.go_on()
            self._watch.go_on()
            self._wire.resume_reading()

    def hold(self) -> None:
        """Send no more nodes: the peer has ended the stream with an error, and would not read them."""
        self.failed_by_peer = True
        self._outflow.stopped = True

    def refuse(self, error: ProtocolError) -> None:
        """The peer broke the rules in what its nodes say."""
        self._broken(error)

    def close(self, then: Callable[[], None] | None = None, *, flush: bool = True, keep: bool = False) -> None:
        """End the stream in good order: what waits goes out, then our closing tag; the peer's is waited for.

        Args:
            then: called when our closing tag went out, or when it is clear that none will.
            flush: False where the peer reads no more: what waits stays with us. keep: a session that may just have been
                resumed here is to be resumed again: then the stream is not closed, but cut.
        """
        if self._close_sent or self._state is State.ENDED:
            if then is not None:
                then()
            return
        if then is not None:
            self._before_close.append(then)
        if self._state is State.CLOSING:
            if not flush:
                self._send_close()
            return
        negotiating = self._state is not State.READY
        self._closing()
        self.resume_reading()  # else the peer's close would not be seen
        self._set_timer(self._loop.time() + self._config.close_timeout)
        if negotiating:
            self._end_negotiation()
            if keep and self._resuming:
                self._reset()
            self._send_close()
            self._drop()
        elif not flush:
            self._send_close()
        else:
            self._outflow.closing = True
            self._outflow.flush_now()  # a flush that is under way does it

    def abort(self) -> None:
        """Cut the connection now, without a word to the peer or the owner."""
        self._owner = None
        self._end_negotiation()
        self._state = State.ENDED
        self._before_close.clear()
        self._cancel_timer()
        self._stop()
        if self._wire is not None:
            self._wire.abort()

    def _closing(self) -> None:
        """From now on the end is waited for, and nothing is asked any more: no ping goes behind our closing tag."""
        self._state = State.CLOSING
        self._watch.end()

    def _stop(self) -> None:
        """No more timers."""
        self._clock.cancel()
        self._outflow.end()
        if self._patience is not None:
            self._patience.cancel()
        self._watch.end()

    # ---- bytes in

    def _read(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            if (negotiation := self._negotiation) is not None:
                negotiation.receive(data)
            return
        owner = self._owner
        nodes = parser.feed(data)
        self._unfinished += len(data)
        if parser.unusual or self._clock.since is not None:
            self._clock.look(parser.begun, bool(nodes))
        if nodes and owner is not None:
            outflow = self._outflow
            outflow.dispatching = True
            try:
                size, self._unfinished = self._unfinished, 0
                owner.receive(nodes, size)
            finally:
                outflow.dispatching = False
            outflow.flush()
        if parser.failure is not None:
            self._broken(parser.failure)
        elif parser.closed and not self._peer_closed:
            self._peer_ended()

    def _too_slow(self) -> None:
        """The peer began a stanza and did not complete it in time; it may not have been silent."""
        parser = self._parser
        if self._state is not State.READY or parser is None:
            return
        self._broken(too_slow(parser.begun, self._config.stanza_timeout))

    def _peer_ended(self) -> None:
        """The peer closed: its stream, TLS, or the connection. What we owe it is our own closing tag (RFC 6120 4.4)."""
        if self._peer_closed or self._state is State.ENDED:
            return
        self._peer_closed = True
        clean = self._parser is not None and self._parser.closed
        if (negotiation := self._negotiation) is not None:
            try:
                if self._wire is not None:
                    self._wire.receive_eof()
            except ProtocolError as error:
                negotiation.fail(error)
                return
            negotiation.receive_eof()
            return
        if self._state is State.READY:
            if not clean:
                self._error = ConnectionResetError("the server closed the connection without closing the stream")
                self._outflow.stopped = True
                self._socket_error = self._error
                self._closing()
                self._close_sent = True  # nothing can be sent any more
                self._drop()
                return
            self._closing()
            self._send_close()
        elif clean:
            self._send_close()  # what still waits the peer would not read
        self._drop()

    def _broken(self, error: ProtocolError) -> None:
        """The peer broke the rules of TLS or of the stream."""
        if (negotiation := self._negotiation) is not None:
            negotiation.fail(error)
        elif self._state is State.READY:
            self._error = error
            self._closing()
            if isinstance(error, TlsError):
                self._socket_error = error
                self._close_sent = True  # there is nothing left to send it in
            else:
                self._fire(Event.STREAM_ERROR, error=error, detail={"phase": str(Phase.READY)})
                self._send_close(error.answer, error.application)
            self._drop()
        else:
            self._drop()

    # ---- bytes out (outflow.Writer)

    def transmit(self, data: bytes) -> bool:
        """Write; False where it can no longer be done."""
        self._watch.sent()
        return self._wire is not None and self._wire.send(data)

    def unwritable(self) -> None:
        """A write failed."""
        if self._wire is not None and self._wire.fault is not None:
            self._broken(self._wire.fault)

    def emptied(self) -> None:
        """All that waited is out: then our closing tag may go."""
        if self._state is State.CLOSING and not self._close_sent and not self._waits_for_proof():
            self._send_close()

    def _waits_for_proof(self) -> bool:
        """Whether our closing tag waits until the server has shown what it has; it could cross the server's own."""
        if self._patience is None:
            if self.failed_by_peer or not self._outflow.ask():
                return False
            self._patience = self._loop.call_later(self._config.close_timeout / 2, self._send_close)
        return len(self._ledger) > 0

    def wants(self, event: str) -> bool:
        """Whether anybody hears of an event."""
        return self._owner is not None and self._owner.wants(event)

    def written(self, entry: Entry) -> None:
        """A node is out."""
        if self._owner is not None:
            self._owner.written(entry)

    def _send_close(self, condition: str | None = None, application: bytes = b"") -> None:
        """Our closing tag, behind a stream error if one is due; never before a header of ours, never twice."""
        if self._close_sent:
            return
        self._close_sent = True
        self._outflow.stopped = True
        self._outflow.prover = None
        if self._patience is not None:
            self._patience.cancel()
        before = stream_error(condition, application) if condition is not None else b""
        if self.farewell is not None and condition is None:
            before = self.farewell(for_good=True)
        due = self._header_sent and not (self._wire is not None and self._wire.handshaking)
        if due and self._wire is not None and not self._wire.closing:
            # Handed over, whatever the network makes of it: the order of events does not hang on its timing (C3).
            self.transmit(before + STREAM_CLOSE)
            self._fire(Event.PCJ_STREAMEND)
        self._settle_close()
        if self._peer_closed or not due:
            self._drop()
        elif self._state is not State.ENDED:
            self._set_timer(self._loop.time() + self._config.close_timeout)

    def _drop(self) -> None:
        """Close the socket behind what is written; it may not take longer than the close may."""
        if self._wire is None or self._wire.closing:
            return
        self._wire.close()
        if self._timer is None and self._state is not State.ENDED:
            self._set_timer(self._loop.time() + self._config.close_timeout)

    # ---- the negotiation, and what it tells (establishment.Told)

    @property
    def _negotiation(self) -> Establishment | None:
        """The negotiation, while there is one."""
        establishment = self._establishment
        return establishment if establishment is not None and not establishment.over else None

    def _end_negotiation(self) -> None:
        if self._establishment is not None:
            self._establishment.cancel()

    @property
    def _header_sent(self) -> bool:
        return self._establishment is not None and self._establishment.header_sent

    def fire(self, action: Fire) -> None:
        """An event of the negotiation."""
        if action.event == Event.SM_RESUMING:
            self._resuming = True
        elif action.event in (Event.SM_RESUMED, Event.SM_RESUMEFAILED):
            self._resuming = False
        self._fire(action.event, action.node, action.error, action.detail)

    def together(self, callback: Callable[[], None]) -> None:
        """Call back at once; all that it fires is told before any handler can change what follows."""
        if self._owner is not None:
            self._owner.together(callback)

    def failed(self, action: Failed) -> None:
        """The negotiation is over."""
        self._error = action.error
        self._closing()
        owner = self._owner
        again = owner.negotiation_failed(action.error, action.phase) if owner is not None else False
        if not again:
            self._before_close.append(lambda: self._fire(Event.PCJ_SHUTDOWN_START, detail={"by": "failure"}))
        if self._resuming and not self._close_sent:
            self._reset()
        self._send_close(action.error.answer)
        self._drop()

    def _reset(self) -> None:
        """The server may have resumed our session by now: the end of this stream would be the end of that (A7)."""
        self._close_sent = True
        self._settle_close()
        if self._wire is not None:
            self._wire.abort()

    def established(self, action: Established) -> None:
        """The negotiation is done: the other gear, and stanzas."""
        config = self._config
        content = (config.xmlns if config.xmlns is not None else self._dialect.xmlns) if self._dialect.canonical else ""
        limits = limits_of(config)
        self._parser = ReadyParser(action.namespaces, content, limits)
        self._state = State.READY
        owner = self._owner
        if owner is not None:
            outflow = self._outflow
            outflow.dispatching = True  # what is sent here goes out when all have heard of READY
            try:
                owner.connection_ready(action.session)
                if action.early and self._owner is not None:
                    owner.receive_early(list(action.early))
            finally:
                outflow.dispatching = False
        if action.leftover and self._state in (State.READY, State.CLOSING):
            self._read(action.leftover)
        self._outflow.schedule()

    # ---- time and the end

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() == when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._timed_out)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        self._timer = None
        if self._wire is not None:
            # The close took too long: what the network has not taken by now it will not take.
            self._close_sent = True
            self._settle_close()
            self._wire.abort()

    def _settle_close(self) -> None:
        """Our closing tag went out, or will not: tell those who wait for that."""
        waiting, self._before_close = self._before_close, []
        for then in waiting:
            then()

    def give_up(self) -> None:
        """Wait no longer for the peer's close."""
        if self._state is State.CLOSING:
            self._timed_out()

    def withdraw(self, receipt: Receipt) -> Entry | None:
        """Take back a node that still waits here; None if it does not."""
        return self._outflow.withdraw(receipt)

    def take_unsent(self) -> list[Entry]:
        """The nodes that never reached the network, in order; they are the owner's again."""
        return self._outflow.take_all()

    def _fire(
        self,
        event: str,
        node: Node | None = None,
        error: BaseException | None = None,
        detail: Mapping[str, object] = NO_DETAIL,
    ) -> None:
        if self._owner is not None:
            self._owner.fire(event, node, error, detail)
