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
from tests.shell.fire import DOMAIN, SECRET, USER, MemoryTransport, Move, Peer, Script
from tests.shell.instant import EAGER, Loop, eager_task, run

LONG = os.environ.get("PCJ_FIRE", "")
#: Examples of each type.
EXAMPLES = int(LONG or "150")
#: More events than any example has: past that it would go on for ever.
MANY = 4000
TYPES = ("XMPP", "LEGACY", "JABBERD14_COMPONENT", "JABBERD20_COMPONENT")


# ---- what may happen

CLOSE = "</stream:stream>"
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


WHATS = st.sampled_from(
    ["output", "output much", "purge", "ask", "ask and give up", "raise", "filter"]
) | st.sampled_from(["connect", "connect briefly", "reconnect", "reconnect", "shutdown", "shutdown", "halt", "cancel"])
#: What comes in most runs, so that most deeds are done.
_COMMON = re.compile("CONNECT|STREAM|SSL.*E$|SENT|AUTH.*E$|BIND.*E$|READY|LOST|SHUT")
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
        st.lists(DEEDS, min_size=1, max_size=6),
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
        peer = Peer(self.type, script, tls, self.context, self.plan.mechanism)
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

    def output(self, body: str) -> None:
        identity = f"node-{next(self.numbers)}"
        self.receipts[identity] = self.broker.output(message(to="x@localhost", id=identity, body=body))

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
        pairs(events, {Event.PCJ_READY}, {Event.SESSION_LOST})
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
        # C12: a node is sent once, or held, or given up.
        sent = Counter(node_id(s) for s in self.statuses if s.event == Event.PCJ_NODESENT and not s.detail.get("again"))
        for identity, receipt in self.receipts.items():
            assert sent[identity] <= 1, identity
            assert receipt.state is ReceiptState.WRITTEN or not sent[identity], (identity, receipt)
        if not halted:
            held = sum(receipt.state is ReceiptState.QUEUED for receipt in self.receipts.values())
            assert broker.queue == held
            written = {key for key, receipt in self.receipts.items() if receipt.state is ReceiptState.WRITTEN}
            assert written == {key for key in sent if key.startswith("node-")}


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


def good(answers: int, *moves: Move) -> Script:
    return Script("connects", (*[Move("answer")] * answers, *moves))


#: What the fire has found, each once a fault of the product: (type, options, scripts, deeds).
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
        Plan({"require_tls": False, **options}, "", "PLAIN", 0.0, None, scripts, deeds),
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
