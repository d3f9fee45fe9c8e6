"""The negotiation of any link with any server: what the four targets of connection types share.

Input, line by line; the first letter says what happens, the rest of the line how:

    A  the options: "n" TLS is not required, "l" the link stays on this machine, "p" PLAIN may be shown, "d" TLS from
       the first byte, "t" the old plaintext log-in, "s" the session always, "w" the password is asked for, "c" channel
       binding is required, "o" it is off, "b" TLS gives no channel binding, "z" computing is slow, "m" only SCRAM is
       allowed, "e" there is a client certificate, "y" only ANONYMOUS is allowed; a digit: what the server offers (only
       as the first line)
    C  how the server's bytes are cut from here on: the sizes of the pieces
    P  what is due: the right answer, TLS that stands, or the result of a computation; with more letters an edit of it
       (where it begins, how many bytes go, what comes in their place)
    R  the server repeats in the text of an error what secret it was sent last; of a stream error, or with more letters
       of SASL's <failure/>
    T  TLS stands      F  TLS fails       K  the slow computation is done      W  so many seconds pass
    E  the server's bytes end             B  the connection breaks             N  a line break, and the rest, is said
    Q  the same broker connects once more

Any other line is said as it is.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from fuzz import witness
from fuzz.common import cut, digits, shown_safely, splice
from fuzz.good_server import NAMES, PASSWORD, USER, GoodServer
from fuzz.xmlwords import CONDITIONS, DICTIONARY
from pcj.config import Config
from pcj.errors import Phase, ProtocolError, Retry
from pcj.events import Event, Status
from pcj.namespaces import IQ_AUTH, SASL
from pcj.protocol import Dialect, Negotiator, dialect_of
from pcj.protocol.actions import Action, BeginTls, Compute, Established, Failed, Fire, Write
from pcj.protocol.order import START, Order
from pcj.protocol.steps import AskPassword, OpenStream, Program, Receive, Send, Session, StartTls, Step
from pcj.sasl.memory import Memory
from pcj.serialize import escape_text
from pcj.stanza import Node

__all__ = ["ALLOWED", "WORDS", "Conversation", "negotiate"]

#: In an action `Failed`; nothing is raised.
ALLOWED = (ProtocolError,)
#: Seconds; the longest that any phase may take here.
LONGEST = 30.0
#: What a whole negotiation may make us send, in bytes: a server's nonce of 8 KiB comes back, in base64.
MAX_WRITTEN = 65_536
#: Characters; what is shorter stands in a sentence by chance.
SHORTEST_SECRET = 8
MAX_MOVES = 60
PINNED = ("SCRAM-SHA-256", "SCRAM-SHA-1")
#: In the sentence of the failure that what is ahead of its time leads to.
AHEAD = "the server sent more before"
#: Sizes of small pieces; every fourth input comes byte by byte, which takes its time.
SMALL = ((1,), (1, 2, 11, 3, 7), (3,), (40, 1, 1))

WORDS: tuple[bytes, ...] = (
    *DICTIONARY,
    b"\nP",
    b"\nP\nP\nP\nP",
    b"\nR",
    b"\nT",
    b"\nW9",
    b"\nE",
    b"\nQ\nP\nP",
    b"A5\n",
    b"An5\n",
    b"<mechanism>PLAIN</mechanism>",
    b"<mechanism>SCRAM-SHA-1-PLUS</mechanism>",
    b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><invalid-mechanism/></failure>",
    b"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>",
    b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>",
    b"<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-unique'/></sasl-channel-binding>",
    b"<iq type='result' id='token-2'/>",
    b"<iq type='error' id='token-2'>",
    b"<error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
    b"<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>",
    b"<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0'>",
    b"<handshake/>",
    b"jabber:iq:auth",
    b"token-1",
)

FAILS = {Event.PCJ_SSLFAIL, Event.PCJ_AUTHFAIL, Event.PCJ_BINDFAIL, Event.PCJ_SESSIONFAIL}
FAILED = (Event.PCJ_STREAMEND, Event.PCJ_SHUTDOWN_START, Event.PCJ_SOCKETDISCONNECT, Event.PCJ_SHUTDOWN_FINISH)
READY = (Event.PCJ_READY, Event.PCJ_NODERECEIVED, Event.PCJ_STREAMEND, Event.PCJ_SOCKETDISCONNECT, Event.SESSION_LOST)
BEFORE = (Event.PCJ_CONNECT, Event.PCJ_CONNECTING, Event.PCJ_CONNECTED)


@dataclass(frozen=True)
class Facts:
    """A TLS session that stands."""

    bindings: Mapping[str, bytes] = field(default_factory=lambda: {"tls-exporter": bytes(range(32))})
    version: str = "TLSv1.3"
    cipher: str = "TLS_AES_256_GCM_SHA384"
    name: str = "example.org"
    verified: bool = True
    own_addresses: tuple[str, ...] = ()


@cache
def options_of(connection_type: str, letters: bytes) -> Config:
    """The options that the letters stand for."""
    given: dict[str, Any] = {
        "connection_type": connection_type,
        "jid": "romeo@example.org" if connection_type in ("XMPP", "LEGACY") else "bot.example.org",
        "password": (lambda: PASSWORD) if b"w" in letters else PASSWORD,
        "min_scram_iterations": 2,
        "max_scram_iterations": 16,
        "authenticate_timeout": 20.0,
        "max_stanza_bytes": 65_536,
    }
    if connection_type == "JABBERD20_COMPONENT":
        given["username"] = USER
    if b"n" in letters:
        given["require_tls"] = False
    if b"c" in letters:
        given["channel_binding"] = "require"
    if b"o" in letters:
        given["channel_binding"] = "off"
    if b"s" in letters:
        given["session"] = "always"
    if b"m" in letters:
        given["sasl_mechanisms"] = PINNED
    if b"e" in letters:
        given["client_certificate"] = "/the/file.pem"
    if b"y" in letters:
        given |= {"sasl_mechanisms": ("ANONYMOUS",), "jid": "example.org", "password": None}
    given |= {"allow_plain": b"p" in letters, "direct_tls": b"d" in letters, "plaintext": b"t" in letters}
    return Config(**given)


class _Recorded:
    """A dialect whose steps, and what came of each, are written down."""

    def __init__(self, dialect: Dialect) -> None:
        self.steps: list[Step] = []
        self.trace: list[tuple[Step, object]] = []
        self.dialect = dataclasses.replace(dialect, negotiate=lambda negotiation: self._run(dialect, negotiation))

    def _run(self, dialect: Dialect, negotiation: Any) -> Program:
        program = dialect.negotiate(negotiation)
        value: object = None
        try:
            while True:
                step = program.send(value)
                self.steps.append(step)
                value = yield step
                self.trace.append((step, value))
        except StopIteration as end:
            session: Session = end.value
            return session


class _Tokens:
    """Tokens that anybody can guess, so that an input does the same every time."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self) -> str:
        self.given += 1
        return f"token-{self.given}-of-the-fuzzer"


class Conversation:
    """One negotiation, and what must hold after each move of it.

    Args:
        connection_type: of the link. letters: the options. sizes: of the pieces in which all bytes come, whatever the
            input says. before: the same broker's connection before this one.
    """

    def __init__(
        self,
        connection_type: str,
        letters: bytes = b"5",
        *,
        sizes: Sequence[int] = (),
        before: Conversation | None = None,
    ) -> None:
        # A client certificate and ANONYMOUS are for clients.
        known = bytes(sorted(set(letters) & set(b"nlpdtswcobzm" + b"ey" * (connection_type == "XMPP"))))
        self.letters = known
        self.config = options_of(connection_type, known)
        self.loopback = b"l" in known
        dialect = dialect_of(connection_type)
        self.tls_required = dialect.tls_required(self.config, loopback=self.loopback)
        self._recorded = _Recorded(dialect)
        self.memory: Memory = Memory() if before is None else before.memory
        # Whether the server has proved once that it knows the password: then nothing less will do any more.
        self.proved: bool = before is not None and before.proved
        self.negotiator = Negotiator(
            self.config, self._recorded.dialect, token=_Tokens(), loopback=self.loopback, memory=self.memory
        )
        names = next((NAMES[bytes([letter])] for letter in letters if bytes([letter]) in NAMES), NAMES[b"5"])
        self.server = GoodServer(connection_type, names)
        self._order = Order(connection_type)
        self._seq = 0
        self._always = list(sizes)
        self.sizes = self._always
        self.now = 0.0
        self.secure = False
        self.opened = False
        self.fired: list[Fire] = []
        self.end: Established | Failed | None = None
        self._pending: Compute | AskPassword | None = None
        self._written = 0  # bytes
        self._writes = 0
        self._secrets = {PASSWORD, base64.b64encode(PASSWORD.encode()).decode(), escape_text(PASSWORD)}
        self._sent: list[str] = []  # credentials, in the order in which they went out
        for event in BEFORE:
            self._follow(event, {})
        self._take(self.negotiator.start(self.now))
        self._rest()

    # ---- moves

    def move(self, line: bytes) -> None:
        """What one line of an input says; then all must hold."""
        if self.end is not None:
            return
        kind, rest = line[:1], line[1:]
        self.now += 0.01
        negotiator = self.negotiator
        if kind == b"C":
            self.sizes = self._always or digits(rest)
        elif kind == b"P":
            self.proceed(rest)
        elif kind == b"R":
            self.repeat(in_sasl=bool(rest))
        elif kind == b"T":
            self.begin_tls()
        elif kind == b"F":
            error = ProtocolError("the certificate is for another name", phase=Phase.TLS, retry=Retry.SLOW)
            if not self._wants_tls():  # a session of TLS breaks, or there is none
                error = ProtocolError("the TLS session broke", retry=Retry.FAST)
            self._take(negotiator.failed(error, self.now))
        elif kind == b"K":
            self.compute()
        elif kind == b"W":
            self.wait(sum(digits(rest)))
        elif kind == b"E":
            self._take(negotiator.receive_eof(self.now))
        elif kind == b"B":
            self._take(negotiator.receive_eof(self.now, ConnectionResetError(104, "Connection reset by peer")))
        elif kind != b"Q":
            self.say(b"\n" + rest if kind == b"N" else line)
        self._rest()

    def say(self, data: bytes) -> None:
        """The server's bytes, cut as was said."""
        for piece in cut(data, self.sizes):
            self._take(self.negotiator.receive_data(piece, self.now))

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self._take(self.negotiator.handle_timer(self.now))

    def begin_tls(self) -> None:
        """The TLS handshake is done; this counts only if it was asked for."""
        asked = self._wants_tls()
        before = len(self.fired)
        facts = Facts({}) if b"b" in self.letters else Facts()
        self.secure = self.server.secure = self.secure or asked
        self._take(self.negotiator.tls_started(facts, self.now))
        assert asked or len(self.fired) == before, "TLS that nobody asked for"
        # Nobody has said anything inside TLS yet.
        assert not asked or self.end is not None or isinstance(self._last_step(), OpenStream), "heard before TLS"

    def _wants_tls(self) -> bool:
        last = self._last_step()
        return self.config.direct_tls if last is None else isinstance(last, StartTls)

    def compute(self) -> None:
        """The slow computation is done, or the password is there; else something comes that nobody asked for."""
        pending, self._pending = self._pending, None
        if isinstance(pending, AskPassword):
            self._take(self.negotiator.password_given(PASSWORD, self.now))
        elif pending is not None:
            self._take(self.negotiator.computed(pending.run(), self.now))
        elif not isinstance(self._last_step(), Compute | AskPassword):
            assert self.negotiator.computed(b"nobody asked", self.now) == []
            assert self.negotiator.password_given("nobody asked", self.now) == []

    def proceed(self, edit: bytes = b"") -> None:
        """What is due."""
        if self._pending is not None:
            self.compute()
        elif isinstance(self._last_step(), OpenStream | Receive):
            self.say(splice(self.server.reply(self._recorded.steps), edit))
        else:
            self.begin_tls()

    def repeat(self, *, in_sasl: bool) -> None:
        """The server says back in an error what it was sent (some do, and so does whoever would have it in a log)."""
        text = escape_text(self._sent[-1] if self._sent else "nothing")
        namespace = "urn:ietf:params:xml:ns:xmpp-streams"
        error = f"<policy-violation xmlns='{namespace}'/><text xmlns='{namespace}'>{text}</text>"
        failure = f"<failure xmlns='{SASL}'><not-authorized/><text>{text}</text></failure>"
        self.say((failure if in_sasl else f"<stream:error>{error}</stream:error>").encode())

    def finish(self) -> None:
        """The shell's side of the end: the order of events must lead to it, and nothing may come any more."""
        if self.end is None:
            return
        _check_dead(self.negotiator)
        after = READY if isinstance(self.end, Established) else FAILED if self.opened else FAILED[1:]
        for event in after:
            self._follow(event, {})
        assert self._order.place in (START, "disconnected")

    def outcome(self) -> object:
        """What must be the same however the bytes were cut."""
        events = [str(fire.event) for fire in self.fired]
        if isinstance(self.end, Failed):
            return events, self.end.error.answer, self.end.phase, self.end.header_sent
        return events, None if self.end is None else self.end.session.jid

    def was_too_early(self) -> bool:
        """Whether the server said something before it could know that it was its turn."""
        return isinstance(self.end, Failed) and AHEAD in str(self.end.error)

    # ---- what comes of them

    def _last_step(self) -> Step | None:
        return self._recorded.steps[-1] if self._recorded.steps else None

    def _take(self, actions: list[Action]) -> None:
        for action in actions:
            assert self.end is None, f"{action} came after the end"
            self._check_shown(action)
            if isinstance(action, Write):
                self._write(action.data)
            elif isinstance(action, Fire):
                self._fire(action)
            elif isinstance(action, Compute | AskPassword):
                self._pending = action
                if b"z" not in self.letters:
                    self.compute()
            elif isinstance(action, Established | Failed):
                self.end = action
                self._check_end(action)
            else:
                assert isinstance(action, BeginTls)

    def _rest(self) -> None:
        """Between two moves a negotiation is over, or has a time at which it will be."""
        deadline = self.negotiator.next_deadline()
        if self.end is not None:
            assert deadline is None
        else:
            assert deadline is not None, "it waits for ever"
            assert self.now < deadline <= self.now + LONGEST, deadline

    def _fire(self, fire: Fire) -> None:
        self.fired.append(fire)
        self.opened = self.opened or fire.event == Event.PCJ_STREAMSTART
        self._follow(fire.event, dict(fire.detail))
        assert (fire.error is not None) == (fire.event in FAILS or fire.event == Event.STREAM_ERROR)
        mechanism = fire.detail.get("mechanism")
        if fire.event == Event.PCJ_AUTHNEGOTIATE and self.proved:
            assert mechanism not in ("PLAIN", "DIGEST-MD5", "ANONYMOUS"), "it does with less than before"
        if fire.event == Event.PCJ_AUTHSUCCESS:
            self._check_proof()
            self.proved = self.proved or self._mechanism().startswith("SCRAM-")

    def _follow(self, event: str, detail: Mapping[str, object]) -> None:
        self._seq += 1
        wrong = self._order.follow(Status(event, 0.0, self._seq, detail=detail))
        assert wrong is None, (wrong, [str(fire.event) for fire in self.fired])

    def _check_end(self, end: Established | Failed) -> None:
        last = self.fired[-1].event if self.fired else ""
        assert isinstance(end, Failed) == (last in FAILS or last == Event.STREAM_ERROR), last
        if isinstance(end, Failed):
            assert isinstance(end.error, ALLOWED)
            assert end.header_sent == self.opened
            assert end.error.answer is None or end.error.answer in CONDITIONS, end.error.answer
            assert "a fault in the dialect" not in str(end.error), end.error
            shown_safely(end.error)
            return
        assert any(fire.event == Event.PCJ_AUTHSUCCESS for fire in self.fired), "ready without authentication"
        assert self.secure or not self.tls_required, "ready without TLS"
        bare = end.session.jid.partition("/")[0]
        assert bare == self.config.jid or (b"y" in self.letters and bare.endswith("@example.org")), bare

    # ---- secrets and proofs

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        assert self._written <= MAX_WRITTEN, "it can be made to send without end"
        # Each is of one step; by the time it is looked at, the program may be at the next.
        step = [step for step in self._recorded.steps if isinstance(step, OpenStream | Send)][self._writes]
        self._writes += 1
        if not isinstance(step, Send):
            assert not any(secret in data.decode() for secret in self._long_secrets())
            return
        text = data.decode()
        parts = [text, *map(_decoded, re.findall(r">([A-Za-z0-9+/=]+)</", text))]
        bare = step.node.tag.rpartition("}")[2]
        bears = bare in ("auth", "response", "handshake") or step.node.find(f"{{{IQ_AUTH}}}query") is not None
        if bears:
            assert self.secure or not self.tls_required, "a credential without TLS"
            self._sent += [part for element in step.node.iter() if (part := element.text)]
            self._sent = [part for part in self._sent if part not in (USER, "x")]
            for element in step.node.iter():
                name = element.tag.rpartition("}")[2]
                if element.text and name in ("auth", "response", "handshake", "digest", "password"):
                    # SCRAM's proof, DIGEST-MD5's response: what the password can be guessed from.
                    self._secrets |= {element.text, *re.findall(r",(?:p|response)=([^,]+)", _decoded(element.text))}
        if any(PASSWORD in part or escape_text(PASSWORD) in part for part in parts):
            shown = self.config.plaintext and bare == "iq"
            plain = (self.secure or self.config.allow_plain) and step.node.get("mechanism") == "PLAIN"
            later = (self.secure or self.config.allow_plain) and bare == "response" and self._mechanism() == "PLAIN"
            assert shown or plain or later, "the password was sent"
        if bare == "handshake" or (step.node.find(f"{{{IQ_AUTH}}}query") is not None and not self.config.plaintext):
            self._check_salted(step.node)

    def _check_salted(self, node: Node) -> None:
        """A digest is of the stream's id, and there is one."""
        headers = [value for step, value in self._recorded.trace if isinstance(step, OpenStream)]
        identity = getattr(headers[-1], "id", "")
        assert identity, "a digest without salt"
        digest = hashlib.sha1((identity + PASSWORD).encode()).hexdigest()
        assert digest in [element.text for element in node.iter()]

    def _check_shown(self, action: Action) -> None:
        texts = list(_shown_by(action))
        for secret in self._long_secrets():
            for text in texts:
                assert secret not in text, f"{secret!r} is shown in {text!r}"

    def _long_secrets(self) -> list[str]:
        """Those that are no part of a sentence by chance, as the "=" of an empty response is."""
        return [secret for secret in self._secrets if len(secret) >= SHORTEST_SECRET]

    def _mechanism(self) -> str:
        return next(
            (
                step.node.get("mechanism", "")
                for step in reversed(self._recorded.steps)
                if isinstance(step, Send) and step.node.tag == f"{{{SASL}}}auth"
            ),
            "",
        )

    def _check_proof(self) -> None:
        """Success is believed from whoever proves that it knows the password, where the mechanism has such a proof."""
        sent, came = self._exchange()
        mechanism = self._mechanism()
        if mechanism.startswith("SCRAM-"):
            first, final = [data for data in sent if data][:2]
            (server_first,) = [data for data in came if data.startswith(b"r=")][:1]
            expected = witness.scram_proof(mechanism, PASSWORD, first, server_first, final)
            proofs = [part[2:] for data in came[1:] for part in data.split(b",") if part.startswith(b"v=")]
            assert any(_same_base64(proof, expected) for proof in proofs), "no proof in SCRAM"
            self._check_binding(mechanism, first, final)
        elif mechanism == "DIGEST-MD5":
            assert self.secure or self.config.allow_plain or self.config.connection_type == "JABBERD20_COMPONENT"
            response = next(data for data in sent if data.startswith(b"username="))
            expected = witness.digest_proof(response, PASSWORD)
            assert any(expected in data for data in came), "no proof in DIGEST-MD5"
        elif mechanism == "EXTERNAL":
            assert b"e" in self.letters
            assert self.secure
        else:
            assert mechanism in ("", "PLAIN", "ANONYMOUS")
            assert (mechanism == "ANONYMOUS") == (b"y" in self.letters), "nobody allowed it"
        assert not mechanism or self.config.sasl_mechanisms is None or mechanism in self.config.sasl_mechanisms
        if self.config.channel_binding == "require" and mechanism:
            assert mechanism.endswith("-PLUS") or mechanism in ("EXTERNAL", "ANONYMOUS")

    def _check_binding(self, mechanism: str, first: bytes, final: bytes) -> None:
        """RFC 5802 6: what is bound to is ours, and is named in the first message."""
        header = first[: first.index(b",", first.index(b",") + 1) + 1]
        bound = base64.b64decode(final.split(b",")[0].removeprefix(b"c="))
        assert bound.startswith(header)
        assert mechanism.endswith("-PLUS") == header.startswith(b"p=")
        data = b"" if b"b" in self.letters else Facts().bindings["tls-exporter"]
        assert bound[len(header) :] == (data if header.startswith(b"p=") else b"")

    def _exchange(self) -> tuple[list[bytes], list[bytes]]:
        """What was said in the last authentication, both ways, as octets."""
        sent: list[bytes] = []
        came: list[bytes] = []
        for step, value in self._recorded.trace:
            if isinstance(step, Send) and step.node.tag == f"{{{SASL}}}auth":
                sent, came = [], []
            node = step.node if isinstance(step, Send) else value if isinstance(value, Node) else None
            if node is not None and node.tag.startswith(f"{{{SASL}}}") and node.text and node.text != "=":
                (sent if isinstance(step, Send) else came).append(base64.b64decode(node.text))
        return sent, came


def _same_base64(a: bytes, b: bytes) -> bool:
    try:
        return base64.b64decode(a, validate=True) == base64.b64decode(b)
    except ValueError:
        return False


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "replace")
    except ValueError:
        return ""


def _shown_by(action: Action) -> Iterator[str]:
    """All that may come before somebody's eyes."""
    yield repr(action)
    error = action.error if isinstance(action, Fire | Failed) else None
    if isinstance(action, Fire):
        yield repr(dict(action.detail))
        if action.node is not None:
            for element in action.node.iter():
                yield from filter(None, (element.text, element.tail, *element.attrib.values()))
            yield "".join(action.node.itertext())
    cause: BaseException | None = error
    while cause is not None:
        yield from (str(cause), repr(cause.args), repr(vars(cause)))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _check_dead(negotiator: Negotiator) -> None:
    late = 1e9
    assert negotiator.next_deadline() is None
    assert negotiator.receive_data(b"<message/>", late) == []
    assert negotiator.computed(b"", late) == []
    assert negotiator.password_given("", late) == []
    assert negotiator.tls_started(Facts(), late) == []
    assert negotiator.failed(ProtocolError("late"), late) == []
    assert negotiator.receive_eof(late) == []
    assert negotiator.handle_timer(late) == []


def negotiate(connection_type: str, data: bytes) -> None:
    """Run an input twice, as it says and in small pieces: all must hold, and the outcome be the same.

    What comes ahead of its time is refused; in small pieces it comes later, and may be in time.
    """
    lines = data.split(b"\n")[:MAX_MOVES]
    letters = lines.pop(0)[1:] if lines[0][:1] == b"A" else b"5"
    runs: list[tuple[list[object], bool]] = []
    for sizes in ((), SMALL[len(data) % len(SMALL)]):
        conversation = Conversation(connection_type, letters, sizes=sizes)
        outcomes: list[object] = []
        early = False
        for line in (*lines, b"Q"):
            if line[:1] == b"Q":
                conversation.finish()
                outcomes.append(conversation.outcome())
                early = early or conversation.was_too_early()
                conversation = Conversation(connection_type, letters, sizes=sizes, before=conversation)
            conversation.move(line)
        runs.append((outcomes, early))
    (whole, early), (pieces, _) = runs
    assert whole == pieces or early, "the pieces tell"
