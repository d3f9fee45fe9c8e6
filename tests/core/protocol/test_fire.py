"""Servers that do as they like: the negotiator never raises, ends once, and keeps the order of events.

What it fires is held against the table (`pcj.protocol.order`), with the end that the shell would add. PCJ_FIRE=5000 in
the environment makes that many examples of each link.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pcj.events import Event, Status
from pcj.protocol import Negotiator, dialect_of
from pcj.protocol.actions import Action, BeginTls, Compute, Established, Failed, Fire, Write
from pcj.protocol.order import START, Order
from tests.core.protocol.play import (
    BIND,
    PROCEED,
    SESSION,
    STARTTLS,
    TLS_FAILURE,
    Facts,
    Play,
    Tokens,
    authentication,
    bind_result,
    check_dead,
    check_secrets,
    config,
    features,
    mechanisms,
    sasl,
    server_header,
    server_lines,
    stanza_error,
    stream_error,
)

EXAMPLES = int(os.environ.get("PCJ_FIRE", "150"))
COMPONENT = "jabber:component:accept"
ROUTER = "http://jabberd.jabberstudio.org/ns/component/1.0"
SCRAM = server_lines(authentication())
ROUTER_SCRAM = server_lines(authentication(user="jabberd", host="bot.example.org"))


def _happy(header: str, lines: list[str], last: list[str]) -> list[str]:
    offered = features(mechanisms("SCRAM-SHA-256"))
    return [
        f"S: {header}",
        f"S: {features(STARTTLS)}",
        PROCEED,
        "T: ok",
        f"S: {header}",
        f"S: {offered}",
        *lines,
        f"S: {header}",
        *last,
    ]


XMPP_LAST = [
    f"S: {features(BIND, SESSION)}",
    f"S: {bind_result('token-2', 'romeo@example.org/x')}",
    "S: <iq type='result' id='token-3'/>",
]
ROUTED = server_header(xmlns=ROUTER)
OLD = f"S: {server_header(version=None)}"
#: (options, what a good server says)
LINKS = {
    "XMPP": (config(), _happy(server_header(), SCRAM, XMPP_LAST)),
    "XMPP without TLS": (
        config(require_tls=False, allow_plain=True),
        [
            f"S: {server_header()}",
            f"S: {features(mechanisms('SCRAM-SHA-256'))}",
            *SCRAM,
            f"S: {server_header()}",
            *XMPP_LAST,
        ],
    ),
    "LEGACY": (config("LEGACY", require_tls=False), [OLD, "S: <iq type='result' id='token-2'/>"]),
    "LEGACY in TLS": (
        config("LEGACY"),
        [
            f"S: {server_header()}",
            f"S: {features(STARTTLS)}",
            PROCEED,
            "T: ok",
            OLD,
            "S: <iq type='result' id='token-2'/>",
        ],
    ),
    "JABBERD14_COMPONENT": (
        config("JABBERD14_COMPONENT", "bot.example.org", require_tls=False),
        [f"S: {server_header(version=None, xmlns=COMPONENT)}", "S: <handshake/>"],
    ),
    "JABBERD20_COMPONENT": (
        config("JABBERD20_COMPONENT", "bot.example.org", username="jabberd"),
        _happy(ROUTED, ROUTER_SCRAM, [f"S: {features()}", "S: <presence from='sm'/>", "S: <bind/>"]),
    ),
}
#: The only bytes that prove that a server knows the password.
PROOFS = {
    name: re.findall(r">([^<]+)</success>", "".join(lines))[0]
    for name, (_, lines) in LINKS.items()
    if "</success>" in "".join(lines)
}

ODD = st.sampled_from(
    [
        *(line.removeprefix("S: ") for _, lines in LINKS.values() for line in lines if line.startswith("S: ")),
        TLS_FAILURE.removeprefix("S: "),
        sasl("success"),
        sasl("success", "="),
        sasl("success", "dj1BQUFB"),
        sasl("challenge", "cj10b2tlbi0xeCxzPWMyRnNkQT09LGk9NDA5Ng=="),
        sasl("challenge"),
        sasl("challenge", "*"),
        sasl("failure", "<not-authorized/>"),
        sasl("failure"),
        features(),
        features(mechanisms("PLAIN", "DIGEST-MD5")),
        features(mechanisms("PLAIN"), BIND, SESSION, STARTTLS),
        features("<x xmlns='urn:x'><required/></x>", BIND),
        stanza_error("token-2", "conflict"),
        stanza_error("token-4", "conflict"),
        stanza_error("token-3", "forbidden"),
        bind_result("token-2"),
        bind_result("token-2", "juliet@example.org/x"),
        "<message from='juliet@example.org'><body>&lt;success/&gt;</body></message>",
        "<presence/>",
        "<iq type='get' id='x'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='result' id='token-2'/>",
        "<iq/>",
        "<route><message xmlns='jabber:client'/></route>",
        "<bind error='409'/>",
        "<handshake>x</handshake>",
        "<!-- -->",
        "<?pi?>",
        "<!DOCTYPE x>",
        "<a></b>",
        " \n ",
        "text",
        "\0",
        "\ud800",
        "<",
        "<x",
        "&bogus;",
    ]
)
#: What ends a stream; apart, so that it comes more often.
LAST = st.sampled_from(
    [
        stream_error("host-unknown", "who?"),
        stream_error("conflict") + "</stream:stream>",
        stream_error("see-other-host"),
        stream_error("see-other-host").replace("/>", ">b.example.org:5299</see-other-host>"),
        "<stream:error/>",
        "<error xmlns='http://etherx.jabber.org/streams'/>",
        "</stream:stream>",
    ]
)
MOVES = st.one_of(
    st.just("LEGAL"),
    st.just("LEGAL"),
    st.just("LEGAL"),
    ODD.map(lambda text: f"S: {text}"),
    LAST.map(lambda text: f"S: {text}"),
    st.sampled_from(["T: ok", "TIMER", "EOF", "LATE", "COMPUTED"]),
    # What a good server would say, but twice, not at all, too late, cut short, or with another byte in it.
    st.sampled_from(["AGAIN", "SKIP", "KEEP", "KEPT"]),
    st.builds(lambda part: f"SHORT {part}", st.floats(0, 1)),
    st.builds(lambda part, byte: f"GARBLED {part} {byte}", st.floats(0, 1), st.sampled_from("<>/'x \0")),
    st.binary(min_size=1, max_size=20),
)
PLAYS = st.tuples(
    st.integers(0, 12), st.lists(MOVES, max_size=12), st.lists(st.integers(1, 40), max_size=8), st.booleans()
)


def _pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        if data:
            yield data[:size]
            data = data[size:]
    if data:
        yield data


class _Server:
    """A server, and a shell in which slow functions are computed at once or, if it is `slow`, when there is time."""

    def __init__(self, name: str, sizes: list[int], *, slow: bool = False) -> None:
        options, self.lines = LINKS[name]
        self.negotiator = Negotiator(options, dialect_of(options.connection_type), token=Tokens(), loopback=False)
        self.sizes = sizes
        self.run = Play()
        self.said = b""
        self.now = 0.0
        self.lines = list(self.lines)
        self.kept: list[str] = []
        self.last = ""
        self.slow = slow
        self.computing: Compute | None = None

    def take(self, actions: Iterable[Action]) -> None:
        for action in actions:
            assert not self.run.ends, "something came after the end"
            self.run.actions.append(action)
            if isinstance(action, Write):
                self.run.sent += action.data.decode()
            elif isinstance(action, Compute):
                self.computing = action
                if not self.slow:
                    self.compute()

    def compute(self) -> None:
        action, self.computing = self.computing, None
        result = action.run() if action is not None else b"nothing asked for it"
        self.take(self.negotiator.computed(result, self.now))

    def say(self, data: bytes) -> None:
        self.said += data
        for piece in _pieces(data, self.sizes):
            self.take(self.negotiator.receive_data(piece, self.now))

    def move(self, move: str | bytes) -> None:
        self.now += 1
        if isinstance(move, bytes):
            self.say(move)
            return
        kind, *how = move.split(" ", 2)
        if kind in ("LEGAL", "SKIP", "KEEP", "SHORT", "GARBLED"):
            if not self.lines:
                return
            move = self.lines.pop(0)
            at = int(float(how[0]) * len(move)) if how else 0
            if kind == "SKIP":
                return
            if kind == "KEEP":
                self.kept.append(move)
                return
            if kind == "SHORT":
                move = move[: max(at, 3)]
            elif kind == "GARBLED" and at >= 3:
                move = move[:at] + how[1] + move[at + 1 :]
        elif kind == "AGAIN":
            move = self.last
        elif kind == "KEPT":
            move = self.kept.pop(0) if self.kept else ""
        if move.startswith("S: "):
            self.last = move
            self.say(move.removeprefix("S: ").encode("utf-8", "surrogatepass"))
        elif move == "T: ok":
            # Only what was asked for counts.
            before = len(self.run.actions)
            asked = bool(self.run.actions) and isinstance(self.run.actions[-1], BeginTls)
            self.take(self.negotiator.tls_started(Facts(), self.now))
            assert asked or len(self.run.actions) == before
        elif move == "TIMER":
            self.take(self.negotiator.handle_timer(self.now))
        elif move == "LATE":
            self.now += 1000
            self.take(self.negotiator.handle_timer(self.now))
        elif move == "COMPUTED":
            self.compute()
        elif move == "EOF":
            self.take(self.negotiator.receive_eof(self.now))


@pytest.mark.parametrize("name", LINKS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLAYS)
@example(
    plan=(5, ["S: <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"], [], False)
)
def test_whatever_a_server_does_the_rules_hold(name: str, plan: tuple[int, list[str | bytes], list[int], bool]) -> None:
    legal, moves, sizes, slow = plan
    server = _Server(name, sizes, slow=slow)
    server.take(server.negotiator.start(0.0))
    for move in [*["LEGAL"] * legal, *moves]:
        server.move(move)
        if server.computing is not None and move == "LEGAL":
            server.compute()
    run = server.run
    assert len(run.ends) <= 1
    if run.ends:
        check_dead(server.negotiator)
    else:
        assert server.negotiator.next_deadline() is not None, "it waits for ever"
    check_events(run, LINKS[name][0].connection_type)
    check_secrets(run, LINKS[name][0])
    succeeded = [fire.detail["mechanism"] for fire in run.fired if fire.event == Event.PCJ_AUTHSUCCESS and fire.detail]
    if succeeded == ["SCRAM-SHA-256"]:
        assert PROOFS[name].encode() in server.said, "authenticated without a proof"


@pytest.mark.parametrize("name", LINKS)
@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 50), max_size=40))
def test_a_good_server_is_ready_however_its_bytes_are_cut(name: str, sizes: list[int]) -> None:
    server = _Server(name, sizes)
    server.take(server.negotiator.start(0.0))
    for _ in list(server.lines):
        server.move("LEGAL")
    (end,) = server.run.ends
    assert isinstance(end, Established)
    check_events(server.run, LINKS[name][0].connection_type)


FAILS = {Event.PCJ_SSLFAIL, Event.PCJ_AUTHFAIL, Event.PCJ_BINDFAIL, Event.PCJ_SESSIONFAIL}
#: How the shell ends what has failed, or what the user ends, where a header of ours is out and where none is.
FAILED = (Event.PCJ_STREAMEND, Event.PCJ_SHUTDOWN_START, Event.PCJ_SOCKETDISCONNECT, Event.PCJ_SHUTDOWN_FINISH)
READY = (Event.PCJ_READY, Event.PCJ_NODERECEIVED, Event.PCJ_STREAMEND, Event.PCJ_SOCKETDISCONNECT, Event.SESSION_LOST)


def check_events(run: Play, connection_type: str) -> None:
    """The order of one attempt, from the connection to the end that the shell makes of it."""
    order = Order(connection_type)
    fired = [(fire.event, dict(fire.detail)) for fire in run.fired]
    before: list[str] = [Event.PCJ_CONNECT, Event.PCJ_CONNECTING, Event.PCJ_CONNECTED]
    end = run.ends[0] if run.ends else None
    opened = any(event == Event.PCJ_STREAMSTART for event, _ in fired)
    after: tuple[str, ...] = READY if isinstance(end, Established) else FAILED if opened else FAILED[1:]
    events = [*((event, {}) for event in before), *fired, *((event, {}) for event in after)]
    for seq, (event, detail) in enumerate(events, 1):
        wrong = order.follow(Status(event, 0.0, seq, detail=detail))
        assert wrong is None, (wrong, [event for event, _ in events])
    assert order.place in (START, "disconnected")
    # What the table does not say: a failure is told last of all, and with its error.
    names = [event for event, _ in fired]
    assert isinstance(end, Failed) == (names[-1] in FAILS or names[-1] == Event.STREAM_ERROR)
    assert not isinstance(end, Failed) or end.header_sent == opened
    for fire in run.fired:
        assert (fire.error is not None) == (fire.event in FAILS or fire.event == Event.STREAM_ERROR)


@pytest.mark.parametrize(
    "fires",
    [
        [Fire(Event.PCJ_AUTHSUCCESS)],
        [Fire(Event.PCJ_STREAMSTART), Fire(Event.PCJ_NODESENT), Fire(Event.PCJ_AUTHFAIL)],
        [Fire(Event.PCJ_STREAMSTART), Fire(Event.PCJ_NODESENT), Fire(Event.PCJ_AUTHNEGOTIATE), Fire(Event.WARNING)] * 2,
    ],
)
def test_what_breaks_the_order_is_seen(fires: list[Action]) -> None:
    with pytest.raises(AssertionError):
        check_events(Play(actions=fires), "XMPP")
