"""Servers that do as they like: the negotiator never raises, ends once, and keeps the order of its events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcj.events import Event
from pcj.protocol import Negotiator, dialect_of
from pcj.protocol.actions import Action, BeginTls, Compute, Established, Failed, Fire, Write
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
        stream_error("host-unknown", "who?"),
        "<stream:error/>",
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
        "<error xmlns='http://etherx.jabber.org/streams'/>",
        "</stream:stream>",
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
MOVES = st.one_of(
    st.just("LEGAL"),
    st.just("LEGAL"),
    st.just("LEGAL"),
    ODD.map(lambda text: f"S: {text}"),
    st.sampled_from(["T: ok", "TIMER", "EOF", "LATE", "COMPUTED"]),
    st.binary(min_size=1, max_size=20),
)
PLAYS = st.tuples(st.integers(0, 12), st.lists(MOVES, max_size=12), st.lists(st.integers(1, 40), max_size=8))


def _pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        if data:
            yield data[:size]
            data = data[size:]
    if data:
        yield data


class _Server:
    def __init__(self, name: str, sizes: list[int]) -> None:
        options, self.lines = LINKS[name]
        self.negotiator = Negotiator(options, dialect_of(options.connection_type), token=Tokens(), loopback=False)
        self.sizes = sizes
        self.run = Play()
        self.said = b""
        self.now = 0.0
        self.next = 0

    def take(self, actions: Iterable[Action]) -> None:
        for action in actions:
            assert not self.run.ends, "something came after the end"
            self.run.actions.append(action)
            if isinstance(action, Write):
                self.run.sent += action.data.decode()
            elif isinstance(action, Compute):
                self.take(self.negotiator.computed(action.run(), self.now))

    def say(self, data: bytes) -> None:
        self.said += data
        for piece in _pieces(data, self.sizes):
            self.take(self.negotiator.receive_data(piece, self.now))

    def move(self, move: str | bytes) -> None:
        self.now += 1
        if move == "LEGAL":
            if self.next == len(self.lines):
                return
            move = self.lines[self.next]
            self.next += 1
        if isinstance(move, bytes):
            self.say(move)
        elif move.startswith("S: "):
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
            self.take(self.negotiator.computed(b"nothing asked for it", self.now))
        else:
            self.take(self.negotiator.receive_eof(self.now))


@pytest.mark.parametrize("name", LINKS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLAYS)
def test_whatever_a_server_does_the_rules_hold(name: str, plan: tuple[int, list[str | bytes], list[int]]) -> None:
    legal, moves, sizes = plan
    server = _Server(name, sizes)
    server.take(server.negotiator.start(0.0))
    for move in [*["LEGAL"] * legal, *moves]:
        server.move(move)
    run = server.run
    assert len(run.ends) <= 1
    if run.ends:
        check_dead(server.negotiator)
    else:
        assert server.negotiator.next_deadline() is not None, "it waits for ever"
    check_events(run)
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
    for _ in server.lines:
        server.move("LEGAL")
    (end,) = server.run.ends
    assert isinstance(end, Established)
    check_events(server.run)


BEGINNINGS = {
    Event.PCJ_SSLSUCCESS: Event.PCJ_SSLNEGOTIATE,
    Event.PCJ_AUTHSUCCESS: Event.PCJ_AUTHNEGOTIATE,
    Event.PCJ_BINDSUCCESS: Event.PCJ_BINDNEGOTIATE,
    Event.PCJ_SESSIONSUCCESS: Event.PCJ_SESSIONNEGOTIATE,
}
FAILS = {Event.PCJ_SSLFAIL, Event.PCJ_AUTHFAIL, Event.PCJ_BINDFAIL, Event.PCJ_SESSIONFAIL}


def check_events(run: Play) -> None:
    """The grammar of one attempt."""
    names = [fire.event for fire in run.fired]
    for success, beginning in BEGINNINGS.items():
        assert names.count(success) <= 1
        assert names.count(beginning) <= 1
        if success in names:
            assert names.index(beginning) < names.index(success)
    ends = [name for name in names if name in FAILS]
    assert len(ends) <= 1
    failed = bool(run.ends) and isinstance(run.ends[0], Failed)
    assert not ends or (failed and names[-1] in FAILS)
    assert failed == (names[-1] in FAILS or names[-1] == Event.STREAM_ERROR)
    for index, fire in enumerate(run.fired):
        if fire.event in (Event.PCJ_STREAMSTART, Event.PCJ_RTS_START):
            assert names[index + 1] in (Event.PCJ_NODESENT, *FAILS)
        if fire.event in FAILS:
            assert fire.error is not None
    if run.ends and isinstance(run.ends[0], Established):
        assert Event.PCJ_AUTHSUCCESS in names


def test_the_grammar_is_checked_by_a_checker_that_finds_what_is_wrong() -> None:
    run = Play(actions=[Fire(Event.PCJ_AUTHSUCCESS)])
    with pytest.raises(ValueError, match="not in list"):
        check_events(run)
