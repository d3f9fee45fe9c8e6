"""The class people use: one logical link, over as many physical connections as it takes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from pcj.backpressure import Backpressure
from pcj.config import XMPP, Config, PasswordSource
from pcj.dispatch import ANY, Dispatcher, Handler, Subscription
from pcj.errors import ConfigError, FilterError, NodeError, PcjError, QueueError, UsageError
from pcj.establishment import token
from pcj.events import Event, Status
from pcj.explain import State, explain
from pcj.filters import Filters
from pcj.inbound import Inbound
from pcj.link import Link
from pcj.outbox import Outbox
from pcj.owners import LinkOwner
from pcj.protocol import dialect_of
from pcj.protocol.order import Order
from pcj.protocol.steps import Session
from pcj.queue import Entry, Receipt
from pcj.requester import Requester
from pcj.stanza import Node

__all__ = ["Broker"]

log = logging.getLogger("pcj")


def _is_told(config: Config) -> bool:
    """Whether the server tells us which account of its domain we are."""
    by_certificate = config.client_certificate is not None and config.sasl_mechanisms is None
    names = config.sasl_mechanisms or ()
    return config.connection_type == XMPP and (by_certificate or bool({"EXTERNAL", "ANONYMOUS"}.intersection(names)))


#: Ends behind which held requests are not sent either.
_FOR_GOOD = ("shutdown", "halt")

HandlerT = TypeVar("HandlerT", bound=Callable[[Status], Any])


class Broker:
    """One logical XMPP link: connects it, negotiates it, says what happens, and carries nodes both ways.

    It belongs to the event loop it is used in; all of it is to be called from there. `async with` connects, waits for
    READY, and shuts down at the end::

        async with Broker(XMPP, "romeo@example.org/orchard", password="...") as broker:
            broker.output(message(to="juliet@example.org", body="hi"))

    Args:
        connection_type: XMPP, LEGACY, JABBERD14_COMPONENT, JABBERD20_COMPONENT, or a registered dialect's name.
        jid: the account, or the component's domain; where the server says who we are (EXTERNAL, ANONYMOUS), the
            account's domain will do.
        password: the account's password, or the component's secret, or a function that supplies it (`PasswordSource`).
            It is never shown again. None: for EXTERNAL and ANONYMOUS only.
        options: any other field of `Config`, by name.

    Raises:
        ConfigError: an option cannot be used.
    """

    def __init__(
        self, connection_type: str, jid: str, *, password: str | PasswordSource | None = None, **options: Any
    ) -> None:
        unknown = options.keys() - Config.__dataclass_fields__.keys()
        if unknown:
            raise ConfigError(f"there is no option {', '.join(sorted(map(repr, unknown)))}; see pcj.Config")
        self._setup(Config(connection_type=connection_type, jid=jid, password=password, **options))

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The broker of a `Config`."""
        broker = cls.__new__(cls)
        broker._setup(config)
        return broker

    def _setup(self, config: Config) -> None:
        self._config = config
        self._dialect = dialect_of(config.connection_type)
        self._account = config.account
        if self._dialect.component and self._account.local is not None:
            raise ConfigError(f"a component's jid is a domain, not {config.jid!r}")
        if not self._dialect.component and self._account.local is None and not _is_told(config):
            raise ConfigError(f"the jid of an account is name@domain, not {config.jid!r}")
        if self._dialect.check is not None:
            self._dialect.check(config)
        self._dispatcher = Dispatcher(
            time.monotonic,
            config.inbound_backlog,
            name=config.alias or str(self._account),
        )
        if config.debug:
            self._dispatcher.follower = partial(
                _log_event, config.alias or str(self._account), Order(self._dialect.name)
            )
        self._requester = Requester(self._dispatcher, config.max_pending_requests)
        self._backpressure = Backpressure(config, self._dispatcher, self._requester, lambda: self._link.connection)
        self._dispatcher.on_relief = self._backpressure.check
        self._filters = Filters(self._filter_failed)
        self._outbox = Outbox(config, self._dialect, self._dispatcher)
        self._outbox.on_given_up = self._requester.fail_given_up
        self._requester.on_abandoned = self._outbox.abandon
        self._backpressure.awaited = self._outbox.awaited
        self._backpressure.on_stuck = self._release
        self._waiters: set[asyncio.Future[Status]] = set()
        self._ends = 0  # counts the calls that end the link
        self._inbound = Inbound(config, self._dispatcher, self._requester, self._filters, self._outbox)
        owner = LinkOwner(
            session_begins=self._session_begins,
            receive=self._receive,
            receive_early=self._inbound.receive_early,
            written=self._outbox.written,
            unsent=self._unsent,
            session_suspended=self._session_suspended,
            proved=self._outbox.settle,
            management=self._outbox.management,
            resumption=self._outbox.resumption,
            prepare=self._outbox.open,
            closed=self._outbox.shelf.closed,
            session_ended=self._session_ended,
            link_ended=self._link_ended,
        )
        self._link = Link(config, self._dialect, self._dispatcher, owner, self._outbox.ledger)
        self._inbound.stream_error = self._link.stream_error
        self._inbound.secrets = self._link.secrets

    def __repr__(self) -> str:
        return f"<Broker {self._config.connection_type} {self._account} {self.state}>"

    # ---- to be read

    @property
    def config(self) -> Config:
        """Its options."""
        return self._config

    @property
    def jid(self) -> str:
        """Who we are: the address that the server gave us while READY, else the configured one."""
        return self._link.jid or str(self._account)

    @property
    def sid(self) -> str:
        """The id of the stream while READY, else ""."""
        return self._link.sid

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._link.state

    @property
    def pending(self) -> int:
        """Requests that wait for their replies."""
        return len(self._requester)

    @property
    def queue(self) -> int:
        """Nodes that wait to be sent: held until READY or `purge_queue`, or because the network takes no more."""
        return len(self._outbox)

    def explain(self) -> str:
        """Why it is, or is not, connected: in words for a person."""
        link = self._link
        retry_in = None
        if link.retry_at is not None:
            retry_in = max(0.0, link.retry_at - asyncio.get_running_loop().time())
        connection = link.connection
        return explain(
            link.state,
            jid=self.jid,
            where=connection.where if connection is not None else "",
            doing=connection.phase if connection is not None else "",
            failure=link.failure,
            held=self._outbox.held,
            shut=link.shut,
            waiting=self._dispatcher.backlog if self._backpressure.paused else 0,
            retry_in=retry_in,
            outward=connection.outbound[0] if connection is not None and connection.ready else 0,
            session_for=link.session_for,
        )

    # ---- the link

    async def connect(self, host: str | None = None, port: int | None = None) -> None:
        """Connect, and return when READY. What happens on the way is told by events.

        Args:
            host, port: where to; by default as configured. A cancelled call ends the attempt.

        Raises:
            UsageError: it is connected or connecting, or was halted; nothing was changed.
            ConnectionFailed: it failed and no further attempt will follow; `failure` says why.
        """
        await self._closed()
        await self._link.connect(host, port)

    async def reconnect(self, host: str | None = None, port: int | None = None) -> None:
        """End the link that there may be, in good order, and connect anew, perhaps elsewhere.

        Raises:
            As `connect`.
        """
        await self._closed()
        await self._link.reconnect(host, port)

    async def _closed(self) -> None:
        """Wait for a durable queue that is being closed; the latest call counts."""
        ends = self._ends
        await self._outbox.shelf.closed()
        if ends != self._ends:
            raise UsageError("another call of shutdown or suspend came meanwhile, and counts")

    async def shutdown(self) -> None:
        """Send what is under way, close the stream, wait for the server's close, disconnect. Held nodes stay queued.

        It takes at most twice `Config.close_timeout`. Without a link it only says so; twice does nothing. A durable
        queue is on disk then, and free for another process.

        Raises:
            QueueError: the link was shut down, and not all could be written to disk.
        """
        self._ends += 1
        await self._link.shutdown()
        if self._link.idle:
            await self._outbox.shelf.leave(self._config.close_timeout)

    async def suspend(self) -> None:
        """Leave without closing the stream, and let the next process go on with the session (XEP-0198 5).

        The state of the session and the nodes that the server is not known to have stay in the durable queue: a broker
        with the same options that connects within `resume_seconds` (or what the server allows) resumes the session, so
        that nothing is lost or repeated. Requests that wait for a reply fail.

        Raises:
            UsageError: there is no durable queue, or no session that could be resumed; nothing was changed.
            QueueError: the link was left, and not all could be written to disk.
        """
        if not self._outbox.shelf.opened:
            raise UsageError("a session can be handed over by a durable queue only: say queue='a path'")
        self._ends += 1
        await self._link.suspend()
        if self._link.idle:
            await self._outbox.shelf.hand_over(self._config.close_timeout)

    def halt(self) -> None:
        """Cut the connection now and for good; requests fail, nothing more can be output."""
        if self._link.state is State.HALTED:
            return  # from a handler of the halt's own events, whose last ones are still to be told
        self._outbox.refuse()
        self._link.halt()
        self._dispatcher.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    # ---- nodes out

    def output(self, node: Node, *, ttl: float | None = None, on_doubt: str | None = None) -> Receipt:
        """Send a node, or hold it while the link is not READY (`purge_queue`, `Config.on_ready`).

        It is taken as it is now; later changes to it do not show. A component's stanza without `from` goes out from the
        component itself, an IQ or a message without `id` gets one.

        Args:
            node: the node. ttl: seconds after which it is given up if it still waits; at most `queue_max_age`.
            on_doubt: what happens with this node if its session ends before the server is known to have it, in place of
                `Config.on_doubt`: "hold", "resend" (with the same id) or "drop".

        Returns:
            What becomes of it; `await receipt.acked()` waits until the server has it.

        Raises:
            NodeError: it cannot be sent, or would make the server end the link. QueueFull: too much waits.
            QueueError: the durable queue cannot be used. ConfigError: ttl or on_doubt make no sense. UsageError: the
            broker was halted. Nothing was sent or changed in any of these cases.
        """
        return self._outbox.give(self._outbox.entry(node, ttl=ttl, on_doubt=on_doubt))

    def withdraw(self, receipt: Receipt) -> bool:
        """Take back a node that still waits; its receipt is then "dropped".

        Returns:
            Whether it did; what was written cannot be taken back.
        """
        return self._outbox.withdraw(receipt, "it was withdrawn", "withdrawn")

    async def drain(self) -> None:
        """Wait while much waits to be sent (more than `high_water_nodes`): until half of that is out.

        Whoever sends without an end awaits this now and then, and so never goes faster than the network.

        Raises:
            ConnectionFailed, UsageError: the link has ended for good, or does meanwhile: nothing goes out any more.
            TimeoutError: nothing is read for so long that no room can come (`Config.inbound_max_bytes`).
        """
        await self._outbox.drain(lambda: self._link.ended)

    def purge_queue(self) -> int:
        """Send all held nodes, in order.

        Returns:
            How many; 0 while the link is not READY, and they stay held then.
        """
        return self._outbox.purge()

    def return_to_sender(
        self, node: Node, *, timeout: float | None = None, event: str | None = None
    ) -> asyncio.Future[Node]:
        """Send a request; its reply comes back to the caller alone, past the filters and PCJ_NODERECEIVED.

        A reply is matched on its id and its sender (RFC 6120 8.1.2.1), so nobody else can give it. It may be an error:
        look at its `type`.

        Args:
            node: an IQ of type get or set, or any stanza that will be answered with its id; without id it gets one.
            timeout: seconds, the time in the queue included; by default `Config.request_timeout`.
            event: a name under which the reply is fired, too (PCJ's way); then nobody need await the result.

        Returns:
            A future of the reply. It fails with RequestTimeout or RequestError; every asker is told when the link ends.

        Raises:
            As `output`; and UsageError for an id that waits for a reply from the same address already.
        """
        if event is not None:
            _check_own(event)
        seconds = self._config.request_timeout if timeout is None else timeout
        if not seconds > 0:
            raise ConfigError(f"timeout must be greater than 0, not {seconds!r}")
        made = None if isinstance(node, Node) and node.get("id") else token()
        # To ask once more what nobody waits for would be no use: its asker is told when the session ends.
        entry = self._outbox.entry(node, identity=made, on_doubt="drop", durable=False)
        if node.tag.endswith("iq") and node.get("type") in ("result", "error"):
            raise NodeError(f"an iq of type {node.get('type')!r} is itself a reply: nobody answers it (RFC 6120 8.2.3)")

        def start() -> None:
            self._outbox.tell(Event.PCJ_RTS_START, entry)
            self._outbox.give(entry, durable=False)

        def send() -> None:
            # A handler of RTS_START that outputs comes behind it, and cannot take the room that was found for it.
            self._dispatcher.together(start)

        identity = made or node.get("id") or ""
        kind = node.tag.rpartition("}")[2]
        future = self._requester.ask(identity, node.get("to"), kind, seconds, event, entry.receipt, send)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # RTS_FAIL tells of it anyhow
        self._backpressure.check()  # reading may have been paused; the reply must be read
        return future

    # ---- nodes in

    def add_filter(self, event: str, xpath: str, namespaces: Mapping[str, str] | None = None) -> None:
        """Fire `event` for each stanza that an XPath 1.0 expression selects (PCJ's xpath_filter).

        Elements of `jabber:client` have no prefix in it: "/message[@type='chat']/body". The status bears the stanza as
        `node`, and in its detail the `expression` and what was `selected`. PCJ_NODERECEIVED follows all the same.

        Args:
            event: a name of your own. xpath: the expression. namespaces: prefixes for other namespaces.

        Raises:
            FilterError: the expression cannot be used. ConfigError: the name is one of pcj's own.
        """
        _check_own(event)
        self._filters.add(event, xpath, namespaces)

    def remove_filter(self, event: str) -> bool:
        """Take back all filters of a name; whether there was one."""
        return self._filters.remove(event)

    def subscribe(self, event: str, handler: Handler) -> Subscription:
        """Call `handler` with each status of an event, of a filter's or a request's own name, or of all ("*").

        Who subscribes to PCJ_NODERECEIVED by that name is taken to answer the IQ requests it hears of
        (`Config.unhandled_iq`); "*" merely observes.

        Args:
            handler: a function, called at once, or a coroutine function, called one status after the other.

        Returns:
            The subscription; `cancel()` ends it.
        """
        _check_known(event)
        return self._dispatcher.subscribe(event, handler)

    def on(self, event: str) -> Callable[[HandlerT], HandlerT]:
        """`subscribe` as a decorator."""

        _check_known(event)

        def decorate(handler: HandlerT) -> HandlerT:
            self._dispatcher.subscribe(event, handler)
            return handler

        return decorate

    def events(self, *events: str) -> AsyncIterator[Status]:
        """Each status of these events (without any: of all) from now on, for `async for`.

        Who reads PCJ_NODERECEIVED by that name is taken to answer the IQ requests among them, as with `subscribe`.
        It ends when the link has ended for good; make a new one for the next `connect`. For a slow reader at most
        `Config.inbound_backlog` wait; past that a BACKLOG_GAP says how many it missed.
        """
        for event in events:
            _check_known(event)
        return self._dispatcher.iterate(events)

    async def wait_for(self, *events: str, timeout: float | None = None) -> Status:
        """The next status of any of these events; for PCJ_READY at once, if it is READY.

        Raises:
            TimeoutError: none came within `timeout` seconds. ConnectionFailed, UsageError: the link has ended for good,
                or does meanwhile.
        """
        if not events:
            raise ConfigError("wait_for needs an event to wait for")
        for event in events:
            _check_known(event)
        if self._link.state is State.HALTED:
            raise UsageError("the broker was halted: nothing will happen any more")
        if self._link.ended is not None:
            raise self._link.ended
        ready = self._link.ready_status
        if Event.PCJ_READY in events and ready is not None and self._link.state is State.READY:
            return ready
        future: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at, if we are cancelled

        def heard(status: Status) -> None:
            if not future.done():
                future.set_result(status)

        subscriptions: list[Subscription] = []
        self._waiters.add(future)
        try:
            for event in events:
                subscriptions.append(self._dispatcher.subscribe(event, heard, observes=True))
            async with asyncio.timeout(timeout):
                return await future
        finally:
            self._waiters.discard(future)
            for subscription in subscriptions:
                subscription.cancel()

    # ---- what the link tells

    def _session_begins(self, session: Session) -> None:
        connection = self._link.connection
        if connection is None:
            return
        self._inbound.begin(session.jid, session.envelope)
        self._outbox.begin(connection, session)
        self._backpressure.check()  # handlers may still be at work on what came before
        # Before READY is told, so that what its handlers output goes behind it; no byte leaves until then.
        self._outbox.send_at_ready(queued=self._config.on_ready == "send")

    def _receive(self, nodes: list[Node], size: int) -> None:
        dispatcher = self._dispatcher
        dispatcher.weigh(size, len(nodes))
        self._inbound.receive(nodes)
        dispatcher.weight = 0
        if dispatcher.backlog:
            self._backpressure.check()

    def _release(self, why: str) -> None:
        """What handlers wait for cannot be read before they return."""
        self._outbox.release(why)
        self._requester.release(why)

    def _unsent(self, entries: list[Entry], refused: bool) -> None:
        self._outbox.take_back(entries, refused=refused)
        if self._outbox.deafness():
            what = "the server answers none of the pings that would prove what it has: nothing is proved from now on"
            self._dispatcher.fire(Event.WARNING, detail={"what": f"{what} (acks='off' asks for none)"})

    def _session_suspended(self) -> None:
        self._backpressure.end()
        self._outbox.suspend()

    def _session_ended(self, reason: str, kept: bool) -> None:
        self._inbound.end()
        self._backpressure.end()
        if kept:
            self._outbox.hand_over()
        if reason == "halt":
            self._outbox.halt()
        if not kept:
            self._outbox.end(for_good=reason == "halt")
        if reason == "halt":
            try:
                self._outbox.shelf.close()
            except QueueError as error:  # the end of the link is told all the same
                self._dispatcher.fire(Event.WARNING, None, error, {"what": f"the durable queue was left: {error}"})
        self._requester.fail_all(reason, sent_only=reason not in _FOR_GOOD)

    def _link_ended(self, error: PcjError) -> None:
        if self._link.state is State.HALTED:
            self._dispatcher.close()

        self._outbox.link_ended(error)

        def tell() -> None:
            for waiter in list(self._waiters):
                if not waiter.done():
                    waiter.set_exception(error)
            self._dispatcher.end_iterators()

        self._dispatcher.after(tell)  # what was fired before the end is still waited for

    def _filter_failed(self, event: str, expression: str, error: FilterError) -> None:
        self._dispatcher.report(f"the filter {event!r} ({expression})", error)


def _check_known(event: str) -> None:
    """A name that looks like one of the original's 28 must be one of them, or its handler would wait for ever."""
    if isinstance(event, str) and event.startswith("PCJ_") and event not in Event.__members__:
        raise ConfigError(f"there is no event {event!r}; see pcj.Event")


def _check_own(event: str) -> None:
    """A filter's or a request's event must not pass for one of pcj's."""
    _check_known(event)
    if not isinstance(event, str) or not event or event in Event.__members__ or event == ANY:
        raise ConfigError(f"a filter or a request needs an event name of its own, not {event!r}")


def _log_event(name: str, order: Order, status: Status) -> None:
    """`Config.debug`: log each event, and any that comes where the contract of their order does not allow it."""
    log.debug("%s %s", name, status)
    wrong = order.follow(status)
    if wrong is not None:
        log.error("%s: the order of events is broken, which is a fault of pcj's: %s", name, wrong)
