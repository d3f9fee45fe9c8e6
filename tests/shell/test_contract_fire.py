"""The contract of the events' order under fire: a scripted server that no other test contains, and users at random.

Each example is a broker of one of the four types in memory (tests/shell/fire.py): servers that are good for a while
and then do anything, networks that refuse, stall and break, DNS that names several servers, and a user who calls
anything at any time, from handlers too. Nothing in the product can know these servers. Whatever happens, the order of
events holds, every attempt, session, request and shutdown that began ends once, and nothing is left running.

    PCJ_FIRE=5000 python -m pytest tests/shell/test_contract_fire.py

makes that many examples of each type, other ones each time. Without it there are few, and always the same; what a
long run finds is mended, and kept below as FOUND.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import ssl
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pcj.dialling
import pcj.link
import pcj.route
from pcj import Broker, ConnectionFailed, Event, Failure, Node, Phase, State, Status, UsageError, message, ping
from pcj.config import Config
from pcj.protocol import Dialect
from pcj.protocol.order import Order
from pcj.queue import Receipt, ReceiptState
from pcj.testing.certificates import make_certificate
from pcj.transport.resolve import Endpoint
from tests.core.protocol.play import BIND, SESSION, STARTTLS, bind_result, features, mechanisms, sasl, stream_error
from tests.shell.fire import DOMAIN, SECRET, USER, Memory, MemoryTransport, Move, Peer, Script
from tests.shell.instant import EAGER, Loop, eager_task, run

LONG = os.environ.get("PCJ_FIRE", "")
#: Examples of each type.
EXAMPLES = int(LONG or "150")
#: More events than any example has: past that it would go on for ever.
MANY = 10_000
TYPES = ("XMPP", "LEGACY", "JABBERD14_COMPONENT", "JABBERD20_COMPONENT")


# ---- what may happen

CLOSE = "</stream:stream>"
#: What says of our stanzas what need not be so; a close of the server's own may look like the answer to ours.
LIES = [
    *(f"<a xmlns='urn:xmpp:sm:3' h='{h}'/>" for h in ("0", "1", "3", "99", "4294967295", "4294967296", "-1", "")),
    "<a xmlns='urn:xmpp:sm:3'/>",
    "<enabled xmlns='urn:xmpp:sm:3' id='other' resume='true'/>",
    "<enabled xmlns='urn:xmpp:sm:3' id='other' resume='true' max='1' location='b.localhost:1'/>",
    "<resumed xmlns='urn:xmpp:sm:3' previd='session-0' h='2'/>",
    "<resumed xmlns='urn:xmpp:sm:3' previd='other' h='0'/>",
    "<failed xmlns='urn:xmpp:sm:3' h='2'/>",
    "<failed xmlns='urn:xmpp:sm:3'/>",
]
SAID = [
    "<message from='juliet@localhost'><body>&lt;success/&gt;</body></message>",
    "<presence from='juliet@localhost'/>",
    "<iq type='get' id='p1' from='localhost'><ping xmlns='urn:xmpp:ping'/></iq>",
    "<iq type='get' id='u1' from='juliet@localhost/x'><query xmlns='urn:x'/></iq>",
    "<iq type='result' id='nobody' from='localhost'/>",
    "<iq type='result' id='ask-1' from='localhost'/>",
    "<message type='error' id='ask-1' from='localhost'/>",
    stream_error("host-unknown"),
    stream_error("conflict"),
    stream_error("system-shutdown") + CLOSE,
    stream_error("see-other-host"),
    stream_error("see-other-host").replace("/>", ">b.localhost</see-other-host>"),
    stream_error("see-other-host").replace("/>", ">[::1]:1</see-other-host>") + CLOSE,
    stream_error("see-other-host").replace("/>", ">192.0.2.9</see-other-host>"),
    "<stream:error/>",
    CLOSE,
    CLOSE + "<message/>",
    features(),
    features(BIND, SESSION),
    features("<x xmlns='urn:x'><required/></x>", BIND),
    features(mechanisms("X-UNKNOWN")),
    features(mechanisms("PLAIN", "SCRAM-SHA-1"), STARTTLS),
    "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    sasl("success"),
    sasl("challenge"),
    sasl("challenge", "cj14"),
    sasl("failure", "<not-authorized/>"),
    sasl("failure", "<temporary-auth-failure/>"),
    "<handshake/>",
    "<bind error='409'/>",
    "<bind error='403'/>",
    bind_result("token"),
    "<iq/>",
    "<route from='sm'/>",
    "<stream:stream>",
    "<!-- -->",
    "<!DOCTYPE x>",
    "<r xmlns='urn:xmpp:sm:3'/>",
    "<r xmlns='urn:xmpp:sm:3'/>" * 3,
    *LIES,
    "<a></b>",
    "<a><b>",
    " \n ",
    "text",
    "\0",
    "&bogus;",
]
FRACTIONS = st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99])
TEXTS = st.sampled_from(SAID)
MOVES = st.one_of(
    st.just(Move("answer")),
    st.just(Move("answer")),
    TEXTS.map(lambda text: Move("say", text)),
    TEXTS.map(lambda text: Move("say", text)),
    TEXTS.map(lambda text: Move("answer, and", text)),
    st.sampled_from(["answer twice", "forget", "keep", "answer with what was kept", "again"]).map(Move),
    st.sampled_from(["end", "reset", "vanish", "break", "stall", "stall", "go on"]).map(Move),
    FRACTIONS.map(lambda part: Move("cut short", "", part)),
    st.builds(Move, st.just("garble"), st.sampled_from(["", "<", "'", ">", "x", "\0"]), FRACTIONS),
    st.builds(Move, st.just("raw"), st.sampled_from(["<x>", "\x16\x03\x01", "HTTP/1.1 400 Bad Request\r\n\r\n"])),
    st.sampled_from([0.0, 0.0, 0.5, 3.0, 40.0]).map(lambda seconds: Move("wait", "", seconds)),
)
SCRIPTS = st.builds(
    lambda dial, good, moves, cuts: Script(dial, (*[Move("answer")] * good, *moves), tuple(cuts)),
    st.sampled_from(["connects"] * 5 + ["slow", "second", "refused", "hangs"]),
    st.integers(0, 9),
    st.lists(MOVES, min_size=1, max_size=6),
    st.lists(st.integers(1, 60), max_size=6),
)


class Deed(NamedTuple):
    """What the user does: `what`, after so many seconds, or at the n-th time that an event comes, in a handler.

    A handler begins what is a coroutine as a task; "eager": at once, as asyncio.eager_task_factory does; "coroutine":
    it is a coroutine function itself, and awaits it.
    """

    what: str
    event: str = ""
    number: float = 0
    how: str = ""


OUTPUTS = ["output", "output", "output much", "output briefly", "output to drop", "output to hold", "output to resend"]
WHATS = st.sampled_from(
    [*OUTPUTS, "withdraw", "drain", "purge", "ask", "ask and give up", "raise", "filter"]
) | st.sampled_from(["connect", "connect briefly", "reconnect", "reconnect", "shutdown", "shutdown", "halt", "cancel"])
#: What comes in most runs, so that most deeds are done.
_COMMON = re.compile("CONNECT|STREAM|SSL.*E$|SENT|AUTH.*E$|BIND.*E$|READY|LOST|SHUT|SM_|ACKED|UNCERTAIN|WATER")
_OF_NODES = re.compile("READY|NODE_(UN|ACK|DROP)|SESSION_LOST|SM_RE|NODEQUEUED|NODESENT|RECONNECT")
LIKELY = [str(event) for event in Event if _COMMON.search(event)]
HOW = st.sampled_from(["", "eager", "coroutine"])
DEEDS = st.one_of(
    st.builds(Deed, WHATS, st.just(""), st.sampled_from([0.0, 0.0, 0.1, 1.0, 6.0])),
    st.builds(Deed, WHATS, st.sampled_from(LIKELY), st.sampled_from([1, 1, 1, 2, 3]), HOW),
    st.builds(Deed, WHATS, st.sampled_from([str(event) for event in Event]), st.sampled_from([1, 1, 2]), HOW),
    st.builds(Deed, WHATS, st.just("*"), st.integers(1, 40), HOW),
)


class Plan(NamedTuple):
    """One example."""

    options: dict[str, Any]
    tls: str
    mechanism: str
    slowness: float
    found: tuple[int, ...] | None
    scripts: list[Script]
    deeds: list[Deed]
    manages: str = ""


def plans(connection_type: str) -> st.SearchStrategy[Plan]:
    """Plans for a type, or for the types that have them: TLS, servers from DNS."""
    component = "COMPONENT" in connection_type
    options = st.fixed_dictionaries(
        {
            "auto_reconnect": st.booleans(),
            "on_ready": st.sampled_from(["hold", "send"]),
            "require_tls": st.sampled_from([None, False]),
            "write_high_water": st.sampled_from([300, 1 << 20]),
            "session": st.sampled_from(["auto", "always"]),
            "on_doubt": st.sampled_from([None, None, "hold", "resend", "drop"]),
            "acks": st.sampled_from(["auto", "auto", "auto", "off"]),
            "stream_management": st.sampled_from([True, True, True, False]),
            "ack_on": st.sampled_from(["handled", "received"]),
            "resume_seconds": st.sampled_from([600.0, 3.0]),
            "ack_every_nodes": st.sampled_from([100, 1, 3]),
            "max_unacked_nodes": st.sampled_from([2_000, 2]),
            "max_unacked_bytes": st.sampled_from([1 << 20, 100]),
            "max_doubts": st.sampled_from([1, 2]),
            "high_water_nodes": st.sampled_from([1_000, 2]),
            "silence_timeout": st.sampled_from([60.0, 4.0]),
        }
    )
    return st.builds(
        Plan,
        options,
        st.sampled_from(["", "", "starttls", "direct"]),
        st.sampled_from(["PLAIN", "PLAIN", "SCRAM-SHA-1", "DIGEST-MD5"]),
        st.sampled_from([0.0, 0.0, 3.0, 10.0]),
        # How many servers each look-up finds: 0, that it fails; a negative number, that it takes too long.
        st.none() if component else st.none() | st.lists(st.integers(-1, 3), min_size=1, max_size=3).map(tuple),
        st.lists(SCRIPTS, min_size=1, max_size=4),
        st.lists(DEEDS, min_size=1, max_size=8),
        st.sampled_from(["keeps", "keeps", "forgets", "counts", "refuses", ""]),
    )


#: How a session ends, or what comes in its course.
ENDS = st.one_of(
    st.sampled_from(["reset", "vanish", "end", "stall", "break", "forget", "answer", "answer"]).map(Move),
    st.sampled_from(
        [
            stream_error("system-shutdown") + CLOSE,
            stream_error("policy-violation"),
            stream_error("not-well-formed"),
            "<r xmlns='urn:xmpp:sm:3'/>",
            CLOSE,
            *LIES[:6],
        ]
    ).map(lambda text: Move("say", text)),
    st.sampled_from([0.0, 0.3, 1.5, 5.0]).map(lambda seconds: Move("wait", "", seconds)),
    FRACTIONS.map(lambda part: Move("cut short", "", part)),
)
#: Deeds of somebody who sends, mostly.
SENDING = st.one_of(
    st.builds(Deed, st.sampled_from(OUTPUTS), st.just(""), st.sampled_from([0.0, 0.0, 0.1, 0.7, 2.0])),
    st.builds(Deed, st.sampled_from([*OUTPUTS, "ask"]), st.sampled_from(LIKELY), st.sampled_from([1, 1, 2, 3]), HOW),
    st.builds(
        Deed,
        st.sampled_from(["purge", "withdraw", "reconnect", "shutdown", "halt", "connect"]),
        st.sampled_from([str(event) for event in Event if _OF_NODES.search(event)]),
        st.sampled_from([1, 1, 2]),
        HOW,
    ),
)


def sessions(connection_type: str) -> st.SearchStrategy[Plan]:
    """Plans in which most links become READY, and break: what becomes of the nodes."""
    good = {"XMPP": st.sampled_from([6, 6, 7, 8, 4, 5]), "JABBERD20_COMPONENT": st.integers(4, 6)}
    scripts = st.builds(
        lambda good, moves: Script("connects", (*[Move("answer")] * good, *moves)),
        good.get(connection_type, st.integers(2, 4)),
        st.lists(ENDS, min_size=1, max_size=5),
    )
    return st.builds(
        lambda plan, often, scripts, deeds: plan._replace(
            options={
                **plan.options,
                "auto_reconnect": often,
                "require_tls": False,
                "session": "auto",
                "stream_management": True,
            },
            tls="",
            mechanism="PLAIN",
            slowness=0.0,
            found=None,
            scripts=scripts,
            deeds=deeds,
        ),
        plans(connection_type),
        st.sampled_from([True, True, True, False]),
        st.lists(scripts, min_size=2, max_size=5),
        st.lists(SENDING, min_size=2, max_size=8),
    )


# ---- one run


class _Log(logging.Handler):
    """Keeps what the product calls its own fault."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "fault of pcj" in record.getMessage():
            self.faults.append(f"{record.getMessage()}: {record.exc_info}")


class Fire:
    """Runs a plan and holds what came of it against the rules."""

    def __init__(self, connection_type: str, plan: Plan, certificate: tuple[ssl.SSLContext, str]) -> None:
        self.plan = plan
        self.context, ca_file = certificate
        self.type = connection_type
        options: dict[str, Any] = {
            **plan.options,
            "ca_file": ca_file,
            "direct_tls": plan.tls == "direct",
            "allow_plain": True,
            "request_timeout": 20.0,
            "reconnect_delay_max": 4.0,
            "close_timeout": 2.0,
            "probe_timeout": 3.0,
            "tls_name": "localhost",
            **{f"{phase}_timeout": 8.0 for phase in ("connect", "tls", "stream", "authenticate", "bind", "session")},
        }
        if plan.found is None:
            options["host"] = "127.0.0.1"
        if connection_type == "JABBERD20_COMPONENT":
            options["username"] = USER
        jid = DOMAIN if "COMPONENT" in connection_type else f"{USER}@localhost/orchard"
        self.broker = Broker(connection_type, jid, password=SECRET, **options)
        self.statuses: list[Status] = []
        self.order = Order(connection_type)
        self.violations: list[str] = []
        self.scripts = deque(plan.scripts)
        self.found = deque(plan.found or ())
        self.peers: list[Peer] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.futures: list[asyncio.Future[Node]] = []
        self.receipts: dict[str, Receipt] = {}
        self.memory = Memory(plan.manages)
        self.heard: Counter[str] = Counter()
        self.numbers = itertools.count(1)

    # what the link asks of the world

    async def find(
        self,
        config: Config,
        dialect: Dialect,
        domain: str | None = None,
        *,
        on_dropped: Callable[[str, str], None] | None = None,
    ) -> list[Endpoint]:
        found = self.found.popleft() if self.found else 1
        if found < 0:
            await asyncio.sleep(5.0)
        if found < 1:
            raise ConnectionFailed(Failure(Phase.RESOLVE, "no such name"))
        # The second takes TLS from the first byte, whatever the others do.
        return [Endpoint(f"192.0.2.{n}", 5222, config.direct_tls or n == 2, "srv") for n in range(1, found + 1)]

    async def dial(
        self, endpoint: Endpoint, factory: Callable[[], asyncio.Protocol], *, timeout: float, on_attempt: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        script = self.scripts.popleft() if self.scripts else Script()
        address = f"{endpoint.host}:{endpoint.port}"
        refused = ConnectionRefusedError(111, "Connection refused")
        await asyncio.sleep(0)
        match script.dial:
            case "slow":
                await asyncio.sleep(1.0)
            case "second":
                on_attempt(address, refused)
                await asyncio.sleep(0.25)
            case "refused":
                on_attempt(address, refused)
                raise ConnectionFailed(Failure(Phase.CONNECT, "refused")) from refused
            case "hangs":
                await asyncio.sleep(timeout)
                on_attempt(address, TimeoutError("no answer"))
                raise ConnectionFailed(Failure(Phase.CONNECT, "no answer"))
        on_attempt(address, None)
        loop = asyncio.get_running_loop()
        tls = "direct" if endpoint.direct_tls else self.plan.tls
        peer = Peer(self.type, script, tls, self.context, self.plan.mechanism, self.memory)
        self.peers.append(peer)
        protocol = factory()
        transport = MemoryTransport(protocol, endpoint.host, peer)
        made = loop.create_future()
        loop.call_soon(lambda: None if made.done() else made.set_result(None))
        try:
            await made
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    # what the user does

    def hear(self, status: Status) -> None:
        self.statuses.append(status)
        assert len(self.statuses) < MANY
        wrong = self.order.follow(status)
        if wrong is not None:
            self.violations.append(wrong)
        self.heard[status.event] += 1
        self.heard["*"] += 1
        for deed in self.plan.deeds:
            if deed.how != "coroutine" and deed.event in (status.event, "*") and self.heard[deed.event] == deed.number:
                self.act(deed.what, eager=deed.how == "eager")

    def subscribe(self) -> None:
        self.broker.subscribe("*", self.hear)
        for deed in self.plan.deeds:
            if deed.how == "coroutine" and deed.event:
                self.broker.subscribe(deed.event, self.handler(deed))

    def handler(self, deed: Deed) -> Callable[[Status], Any]:
        count = 0

        async def handle(status: Status) -> None:
            nonlocal count
            count += 1
            if count == deed.number:
                task = self.act(deed.what)
                if task is not None:
                    await asyncio.wait([task])

        return handle

    def act(self, what: str, *, eager: bool = False) -> asyncio.Task[None] | None:
        """Do it now, or begin it; whatever a user may be told for it, it may raise nothing else."""
        broker = self.broker
        try:
            match what:
                case "output":
                    self.output("little")
                case "output much":
                    for _ in range(20):
                        self.output("much " * 10)
                case "output briefly":
                    self.output("little", ttl=0.5)
                case "output to drop" | "output to hold" | "output to resend":
                    self.output("little", on_doubt=what.removeprefix("output to "))
                case "withdraw":
                    for receipt in list(self.receipts.values())[-2:]:
                        broker.withdraw(receipt)
                case "purge":
                    broker.purge_queue()
                case "ask" | "ask and give up":
                    future = broker.return_to_sender(ping(to="localhost", id=f"ask-{next(self.numbers)}"), timeout=5.0)
                    self.futures.append(future)
                    if what != "ask":
                        asyncio.get_running_loop().call_later(0.1, future.cancel)
                case "halt":
                    broker.halt()
                case "filter":
                    broker.add_filter("mine", "//body")
                case "cancel":
                    for task in self.tasks:
                        if task.get_name() != EAGER:  # it has begun, which its task does not know
                            task.cancel()
                case "raise":
                    raise RuntimeError("of the user's own")  # in a handler it is told of by HANDLER_FAILED
                case _:
                    begin = eager_task if eager else asyncio.create_task
                    self.tasks.append(begin(self.call(what)))
                    return self.tasks[-1]
        except UsageError:
            pass
        return None

    def output(self, body: str, **how: Any) -> None:
        identity = f"node-{next(self.numbers)}"
        node = message(to="x@localhost", id=identity, body=body)
        # Events of it may come before its receipt does.
        self.receipts[identity] = self.broker.output(node, **how)

    async def call(self, what: str) -> None:
        broker = self.broker
        try:
            match what:
                case "connect":
                    await broker.connect()
                case "connect briefly":
                    async with asyncio.timeout(0.5):
                        await broker.connect()
                case "reconnect":
                    await broker.reconnect()
                case "shutdown":
                    await broker.shutdown()
                case "drain":
                    async with asyncio.timeout(10.0):
                        await broker.drain()
                case _:
                    raise AssertionError(what)
        except (TimeoutError, UsageError, ConnectionFailed):
            pass

    async def main(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        loop.slowness = self.plan.slowness
        self.subscribe()
        self.act("connect")
        for deed in self.plan.deeds:
            if not deed.event and deed.what != "raise":
                await asyncio.sleep(deed.number)
                self.act(deed.what)
        await asyncio.sleep(12.0)
        await self.end()
        await asyncio.sleep(25.0)  # the time of what still waits in the queue; its handlers may begin something, too
        await self.end()
        self.check()

    async def end(self) -> None:
        """Shut down, until nothing is left of what handlers begin as the link ends."""
        for _ in range(10):
            async with asyncio.timeout(60.0):
                await self.broker.shutdown()
            await asyncio.sleep(0.1)
            running = [task for task in self.tasks if not task.done()]
            if not running and self.broker.state in (State.IDLE, State.HALTED):
                break

    # the rules

    def check(self) -> None:
        broker, events = self.broker, [status.event for status in self.statuses]
        halted = broker.state is State.HALTED
        assert not self.violations, (self.violations, events)
        assert broker.state in (State.IDLE, State.HALTED)
        # "asked": a shutdown overtook a reconnect that had been asked for.
        if self.order.place != "asked":  # a connect that another call overtook in its first moment
            assert self.order.finish(broker.state, broker.pending) is None, (self.order.finish(broker.state), events)
        assert broker._link.connection is None
        assert all(peer.transport is not None and peer.transport.lost for peer in self.peers), "a socket is open"
        numbers = [status.seq for status in self.statuses]
        assert numbers == sorted(set(numbers)), "one order (C15)"
        # C0: every attempt has one end, C7: every session one loss, C9: every shutdown one finish.
        pairs(events, {Event.PCJ_CONNECTING}, {Event.PCJ_CONNECTFAIL, Event.PCJ_SOCKETDISCONNECT})
        new = [s.event for s in self.statuses if s.event != Event.PCJ_READY or not s.detail["resumed"]]
        pairs(new, {Event.PCJ_READY}, {Event.SESSION_LOST})
        # A halt cuts short everything, a shutdown too.
        pairs(events, {Event.PCJ_SHUTDOWN_START}, {Event.PCJ_SHUTDOWN_FINISH})
        # C11: every request one end.
        begun, ended = Counter[str](), Counter[str]()
        for status in self.statuses:
            if status.event == Event.PCJ_RTS_START and not status.detail.get("internal"):
                begun[node_id(status)] += 1
            elif status.event == Event.PCJ_RTS_FINISH:
                ended[node_id(status)] += 1
            elif status.event == Event.RTS_FAIL:
                ended[str(status.detail["id"])] += 1
        assert begun == ended, (begun, ended, events)
        assert all(future.done() for future in self.futures)
        assert broker.pending == 0
        self.check_nodes(halted)

    def check_nodes(self, halted: bool) -> None:
        """C12, and the ledger: each node is followed by its events, and nothing ends without one."""
        broker, memory = self.broker, self.memory
        assert not memory.faults
        assert not broker._outbox.ledger.window
        paths = {identity: Way(identity) for identity in self.receipts}
        for status in self.statuses:
            if status.node is not None and status.event in NODE_EVENTS and node_id(status) in paths:
                paths[node_id(status)].follow(status)
        unproved = self.plan.options.get("acks") == "off" or not broker._outbox.ledger.enabled
        honest = not any(lies(move) for script in self.plan.scripts for move in script.moves)
        for identity, receipt in self.receipts.items():
            path = paths[identity]
            assert memory.received[identity] <= path.sent, (identity, path.came)
            match receipt.state:
                case ReceiptState.QUEUED:
                    assert not halted, (identity, path.came)
                    assert path.place == "queued", (identity, path.came)
                    assert not memory.received[identity]
                case ReceiptState.WRITTEN:
                    assert unproved, (identity, path.came)
                    assert path.place == "sent" or halted, (identity, path.came)
                case ReceiptState.ACKED:
                    assert path.place == "acked", (identity, path.came)
                    assert memory.received[identity] or not honest, (identity, path.came)
                case ReceiptState.UNCERTAIN:
                    assert path.place == ("in doubt" if receipt.final else "queued"), (identity, path.came)
                case ReceiptState.EXPIRED | ReceiptState.DROPPED:
                    assert path.place == "dropped", (identity, path.came)
                    assert receipt.reason
        if not halted:
            assert broker.queue == sum(not receipt.final for receipt in self.receipts.values())


NODE_EVENTS = (
    Event.PCJ_NODEQUEUED,
    Event.PCJ_NODESENT,
    Event.NODE_ACKED,
    Event.NODE_UNCERTAIN,
    Event.NODE_DROPPED,
)


class Way:
    """The way of one node by its events: new, queued, sent, suspended; acked, dropped or in doubt at last."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.place = "new"
        self.sent = 0
        self.came: list[str] = []

    def follow(self, status: Status) -> None:
        detail = status.detail
        self.came.append(f"{status.event} {dict(detail)}")
        match status.event:
            case Event.PCJ_NODEQUEUED:
                # Again, where it waited for the network as its link was lost, or where it is in doubt.
                allowed: tuple[str, ...] = ("new", "queued", "in doubt") if detail.get("again") else ("new",)
                goes = "queued"
            case Event.PCJ_NODESENT:
                allowed = ("queued", "suspended") if detail.get("resend") else ("new", "queued")
                assert bool(detail.get("resend")) is (self.sent > 0), self.came
                self.sent += 1
                goes = "sent"
            case Event.NODE_ACKED:
                allowed, goes = ("sent", "suspended"), "acked"
            case Event.NODE_UNCERTAIN:
                allowed = ("sent", "suspended")
                goes = "suspended" if detail["next"] == "resume" else "in doubt"
            case _:
                allowed, goes = ("new", "queued", "sent", "suspended"), "dropped"
        assert self.place in allowed, self.came
        self.place = goes


def lies(move: Move) -> bool:
    """Whether a server says by it, or may seem to say, that it has what it has not."""
    return move.text in LIES or CLOSE in move.text or move.kind == "raw"


def node_id(status: Status) -> str:
    assert status.node is not None
    return status.node.get("id", "")


def pairs(events: list[str], beginnings: set[Event], ends: set[Event]) -> None:
    """Each beginning has exactly one end before the next, and no end comes without one."""
    found = [event in beginnings for event in events if event in beginnings or event in ends]
    assert found == [True, False] * (len(found) // 2), (events, beginnings)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    ca_file: Path = tmp_path_factory.mktemp("fire") / "ca.pem"
    return make_certificate(["localhost"], ca_file), str(ca_file)


@pytest.fixture(scope="module")
def log() -> Iterator[_Log]:
    handler, logger = _Log(), logging.getLogger("pcj")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.mark.parametrize("connection_type", TYPES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not LONG)
@given(data=st.data())
def test_whatever_servers_networks_and_users_do_the_contract_holds(
    connection_type: str, certificate: tuple[ssl.SSLContext, str], log: _Log, data: st.DataObject
) -> None:
    play(connection_type, data.draw(plans(connection_type), "plan"), certificate, log)


@pytest.mark.parametrize("connection_type", TYPES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not LONG)
@given(data=st.data())
def test_however_sessions_break_no_node_is_lost_in_silence(
    connection_type: str, certificate: tuple[ssl.SSLContext, str], log: _Log, data: st.DataObject
) -> None:
    play(connection_type, data.draw(sessions(connection_type), "plan"), certificate, log)


def good(answers: int, *moves: Move) -> Script:
    return Script("connects", (*[Move("answer")] * answers, *moves))


#: What the fire has found, each once a fault of the product: (type, options, scripts, deeds). "manages" is the peer's.
FOUND: list[tuple[str, dict[str, Any], list[Script], list[Deed]]] = [
    # A halt in a handler of NODE_DROPPED kept the RTS_FAIL of the same request back.
    ("XMPP", {}, [], [Deed("ask"), Deed("halt", Event.NODE_DROPPED, 1), Deed("shutdown")]),
    # A halt in a handler of a halt's own events kept the others back.
    ("LEGACY", {}, [], [Deed("halt", Event.PCJ_SOCKETDISCONNECT, 1), Deed("halt", "", 0.1)]),
    # A second stream error, which can pass, made the link retry what a first, fatal one had ended with SHUTDOWN_START.
    (
        "XMPP",
        {"auto_reconnect": True},
        [good(5, Move("say", stream_error("conflict")), Move("say", stream_error("system-shutdown")))],
        [],
    ),
    # A shutdown begun in a handler of CONNECT was overridden by the connect that it took back.
    ("JABBERD20_COMPONENT", {}, [], [Deed("shutdown", Event.PCJ_CONNECT, 1, "eager")]),
    # A connect begun in a handler of RTS_FAIL, as the link ended, kept SHUTDOWN_FINISH back.
    (
        "XMPP",
        {},
        [],
        [Deed("ask", Event.SESSION_LOST, 1, "coroutine"), Deed("connect", Event.RTS_FAIL, 1, "eager")],
    ),
    # The same in a handler of SHUTDOWN_START, where there was no link.
    ("LEGACY", {}, [Script("refused")], [Deed("connect", Event.PCJ_SHUTDOWN_START, 1, "eager")]),
    # A reconnect behind a shutdown whose closing tag the network did not take yet was told before that shutdown.
    (
        "LEGACY",
        {"write_high_water": 300},
        [good(2, Move("stall"), Move("wait", "", 2.0), Move("go on"))],
        [Deed("output much", "", 1.0), Deed("shutdown", "", 0.1), Deed("reconnect", "", 0.1)],
    ),
    # A reconnect begun in a handler of STREAMEND was followed by the SHUTDOWN_START of the failure before it.
    (
        "XMPP",
        {},
        [good(0, Move("say", stream_error("host-unknown")))],
        [Deed("reconnect", Event.PCJ_STREAMEND, 1, "eager")],
    ),
    # Much output in a handler of STREAM_ERROR was still sent, to a server that reads no more.
    (
        "LEGACY",
        {"write_high_water": 300},
        [good(2, Move("say", stream_error("host-gone")))],
        [Deed("output much", Event.STREAM_ERROR, 1)],
    ),
    # A halt in a handler of NODE_ACKED kept the NODE_ACKED of the others back that the same proof was of.
    ("JABBERD14_COMPONENT", {}, [], [Deed("output much", "", 1.0), Deed("halt", Event.NODE_ACKED, 1)]),
    # The same of NODE_UNCERTAIN.
    (
        "JABBERD14_COMPONENT",
        {},
        [good(2, Move("wait", "", 1.0), Move("reset"))],
        [Deed("output much", "", 0.5), Deed("halt", Event.NODE_UNCERTAIN, 1)],
    ),
    # A halt in a handler of HIGH_WATER: the node that was being output was dropped without a word.
    ("LEGACY", {"high_water_nodes": 2}, [], [Deed("output much"), Deed("halt", Event.HIGH_WATER, 1)]),
    # A reconnect begun in a handler of SM_RESUMEFAILED was told before the SESSION_LOST of the session that was over.
    (
        "XMPP",
        {"auto_reconnect": True, "manages": "forgets"},
        [good(6, Move("reset")), good(6)],
        [Deed("output"), Deed("reconnect", Event.SM_RESUMEFAILED, 1, "eager")],
    ),
]


@pytest.mark.parametrize(("connection_type", "options", "scripts", "deeds"), FOUND, ids=range(len(FOUND)))
def test_what_the_fire_has_found_is_mended(
    connection_type: str,
    options: dict[str, Any],
    scripts: list[Script],
    deeds: list[Deed],
    certificate: tuple[ssl.SSLContext, str],
    log: _Log,
) -> None:
    play(
        connection_type,
        Plan(
            {"require_tls": False, **{name: value for name, value in options.items() if name != "manages"}},
            "",
            "PLAIN",
            0.0,
            None,
            scripts,
            deeds,
            options.get("manages", ""),
        ),
        certificate,
        log,
    )


#: (type, the events of a run in which nobody does anything odd, until the user shuts down)
SESSION_OF: dict[str, str] = {
    "XMPP": "S AUTHNEGOTIATE NODESENT AUTHSUCCESS S BINDNEGOTIATE RTS_START NODESENT BINDSUCCESS "
    "SESSIONNEGOTIATE RTS_START NODESENT SESSIONSUCCESS READY",
    "LEGACY": "S AUTHNEGOTIATE NODESENT AUTHSUCCESS READY",
    "JABBERD14_COMPONENT": "S AUTHNEGOTIATE NODESENT AUTHSUCCESS READY",
    "JABBERD20_COMPONENT": "S AUTHNEGOTIATE NODESENT AUTHSUCCESS S BINDNEGOTIATE RTS_START NODESENT BINDSUCCESS READY",
}


@pytest.mark.parametrize("connection_type", TYPES)
@pytest.mark.parametrize("tls", ["", "starttls", "direct"])
def test_where_nobody_does_anything_odd_the_fire_reaches_ready(
    connection_type: str, tls: str, certificate: tuple[ssl.SSLContext, str], log: _Log
) -> None:
    plan = Plan({"require_tls": bool(tls)}, tls, "PLAIN", 0.0, None, [], [])
    names = [status.event.removeprefix("PCJ_") for status in play(connection_type, plan, certificate, log).statuses]
    before = {"": "", "starttls": "S SSLNEGOTIATE NODESENT SSLSUCCESS", "direct": "SSLNEGOTIATE SSLSUCCESS"}[tls]
    end = "STREAMEND SHUTDOWN_START SOCKETDISCONNECT SESSION_LOST SHUTDOWN_FINISH"
    words = f"CONNECT CONNECTING ATTEMPT CONNECTED {before} {SESSION_OF[connection_type]} {end}"
    assert names == words.replace(" S ", " STREAMSTART NODESENT ").split()


def play(connection_type: str, plan: Plan, certificate: tuple[ssl.SSLContext, str], log: _Log) -> Fire:
    """Run a plan."""
    log.faults.clear()
    with pytest.MonkeyPatch.context() as patch:
        made: list[Fire] = []

        async def main() -> None:
            fire = Fire(connection_type, plan, certificate)
            made.append(fire)
            patch.setattr(pcj.dialling, "dial", fire.dial)
            patch.setattr(pcj.route, "find_endpoints", fire.find)
            await fire.main()

        run(main)
    assert not log.faults
    return made[0]
