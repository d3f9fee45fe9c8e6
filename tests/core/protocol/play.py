"""Negotiations as plays: what the client must send, what the server sends, what is fired. No loop, socket or clock.

A script is a list of lines:

    C: <text>    the client must have sent exactly this since the last such line (scripts without any do not look)
    S: <text>    the server sends this
    T: ok        the TLS handshake succeeds         T: fails      it does not
    EOF          the server ends the connection     SILENCE       nothing comes until the deadline
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from pcj.config import Config
from pcj.errors import Phase, ProtocolError, Retry
from pcj.protocol import Dialect, Negotiator, dialect_of
from pcj.protocol.actions import Action, BeginTls, Compute, Established, Failed, Fire, Write
from pcj.protocol.management import Management
from pcj.protocol.retry import classify
from pcj.protocol.steps import Program, Session, Step
from pcj.sasl import MECHANISMS, Challenge, Channel, Credentials, Limits, Memory, Respond, Success
from pcj.sasl.server import answer
from pcj.stanza import Node

PASSWORD = "s3cr3t & Pa55word"
TAIL = "<message from='juliet@example.org'><body>early</body></message>"
STREAMS = "http://etherx.jabber.org/streams"


@dataclass(frozen=True)
class Facts:
    version: str = "TLSv1.3"
    cipher: str = "TLS_AES_256_GCM_SHA384"
    name: str = "example.org"
    verified: bool = True
    bindings: Mapping[str, bytes] = field(default_factory=dict)
    own_addresses: tuple[str, ...] = ()


class Tokens:
    """Tokens that anybody can guess: token-1, token-2, ..."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self) -> str:
        self.given += 1
        return f"token-{self.given}"


def config(connection_type: str = "XMPP", jid: str = "romeo@example.org", **options: Any) -> Config:
    return Config(**{"connection_type": connection_type, "jid": jid, "password": PASSWORD, **options})


# ---- how it ended


@dataclass
class Play:
    """What came of one run."""

    actions: list[Action] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    sent: str = ""

    @property
    def fired(self) -> list[Fire]:
        return [action for action in self.actions if isinstance(action, Fire)]

    @property
    def events(self) -> str:
        """The events in the words of the reference: S is STREAMSTART with its NODESENT, and PCJ_ is left out."""
        names = " ".join(_name(fire) for fire in self.fired)
        return names.replace("STREAMSTART NODESENT(stream)", "S")

    @property
    def ends(self) -> list[Established | Failed]:
        return [action for action in self.actions if isinstance(action, (Established, Failed))]

    @property
    def established(self) -> Established:
        (end,) = self.ends
        assert isinstance(end, Established), end
        return end

    @property
    def failed(self) -> Failed:
        (end,) = self.ends
        assert isinstance(end, Failed), end
        return end

    def retry(self, config: Config, *, was_ready: bool = False) -> Retry:
        """What the shell makes of the failure."""
        component = dialect_of(config.connection_type).component
        return classify(self.failed.error, self.failed.phase, component=component, was_ready=was_ready)

    def outcome(self) -> object:
        """What must be the same however the bytes are cut."""
        end = self.ends[0] if self.ends else None
        if isinstance(end, Failed):
            return str(end.error), end.error.answer, end.phase, end.header_sent
        return None if end is None else (end.session.jid, end.session.sid, end.namespaces)


def _name(fire: Fire) -> str:
    name = str(fire.event).removeprefix("PCJ_")
    if fire.node is None or name not in ("NODESENT", "RTS_START"):
        return name
    said = _local(fire.node)
    if said == "iq":
        said += f" {_local(fire.node[0])}"
    return f"{name}({said})"


def _local(node: Node) -> str:
    return node.tag.rpartition("}")[2]


# ---- the run


def play(
    config: Config,
    script: Sequence[str],
    *,
    cut: Callable[[bytes], Iterable[bytes]] = lambda data: [data],
    tail: str = "",
    loopback: bool = False,
    dialect: Dialect | None = None,
    memory: Memory | None = None,
    facts: Facts | None = None,
    management: Management | None = None,
    outstanding: int = 0,
) -> Play:
    """Run a script. `cut`: how the server's bytes come in. `tail`: what follows the server's last line at once.

    `management`, `outstanding`: a session to resume (a copy of it is used), and how many stanzas in it are unproved.
    """
    facts = facts if facts is not None else Facts()
    dialect = dialect if dialect is not None else dialect_of(config.connection_type)
    run = Play()
    recorded = dataclasses.replace(dialect, negotiate=lambda n: _recorded(dialect.negotiate(n), run.steps))
    negotiator = Negotiator(
        config,
        recorded,
        token=Tokens(),
        loopback=loopback,
        memory=memory,
        management=copy.copy(management),
        outstanding=outstanding,
    )
    unseen = ""
    looks = any(line.startswith("C: ") for line in script)

    def carry_out(actions: list[Action]) -> None:
        nonlocal unseen
        for action in actions:
            assert not run.ends, f"{action} came after the end"
            run.actions.append(action)
            if isinstance(action, Write):
                unseen += action.data.decode()
                run.sent += action.data.decode()
            elif isinstance(action, Compute):
                carry_out(negotiator.computed(action.run(), now))

    now = 100.0
    last = max((index for index, line in enumerate(script) if line.startswith("S: ")), default=-1)
    carry_out(negotiator.start(now))
    for index, line in enumerate(script):
        now += 1.0
        kind, _, text = line.partition(": ")
        if kind == "C":
            assert unseen == text, f"line {index}: the client sent\n{unseen}\nand not\n{text}"
            unseen = ""
        elif kind == "S":
            for piece in cut((text + (tail if index == last else "")).encode()):
                carry_out(negotiator.receive_data(piece, now))
        elif line == "T: ok":
            assert isinstance(run.actions[-1], BeginTls)
            carry_out(negotiator.tls_started(facts, now))
        elif line == "T: fails":
            assert isinstance(run.actions[-1], BeginTls)
            error = ProtocolError("the certificate is for another name", phase=Phase.TLS, retry=Retry.SLOW)
            carry_out(negotiator.failed(error, now))
        elif line == "EOF":
            carry_out(negotiator.receive_eof(now))
        elif line == "SILENCE":
            deadline = negotiator.next_deadline()
            assert deadline is not None
            carry_out(negotiator.handle_timer(deadline - 0.001))
            assert not run.ends
            carry_out(negotiator.handle_timer(deadline))
        else:
            raise AssertionError(f"no such line: {line}")
    assert not looks or not unseen, f"the client sent more: {unseen}"
    if run.ends:
        check_dead(negotiator)
    check_secrets(run, config)
    return run


def check_dead(negotiator: Negotiator) -> None:
    """Nothing comes of anything after the end."""
    assert negotiator.next_deadline() is None
    assert negotiator.receive_data(b"<message/>", 1e9) == []
    assert negotiator.computed(b"", 1e9) == []
    assert negotiator.tls_started(Facts(), 1e9) == []
    assert negotiator.failed(ProtocolError("late"), 1e9) == []
    assert negotiator.receive_eof(1e9) == []
    assert negotiator.handle_timer(1e9) == []


def _recorded(program: Program, steps: list[Step]) -> Generator[Step, Any, Session]:
    value: object = None
    try:
        while True:
            step = program.send(value)
            steps.append(step)
            value = yield step
    except StopIteration as end:
        session: Session = end.value
        return session


def each_byte(data: bytes) -> Iterator[bytes]:
    for index in range(len(data)):
        yield data[index : index + 1]


def perform(
    config: Config,
    script: Sequence[str],
    events: str,
    *,
    loopback: bool = False,
    dialect: Dialect | None = None,
    management: Management | None = None,
    outstanding: int = 0,
) -> Play:
    """Run a script whole, byte by byte and with a tail: the events must be `events`, the outcome the same each time."""
    run = partial(
        play,
        config,
        script,
        loopback=loopback,
        dialect=dialect,
        management=management,
        outstanding=outstanding,
    )
    whole = run()
    assert whole.events == " ".join(events.split())
    pieces = run(cut=each_byte)
    assert pieces.events == whole.events
    assert pieces.outcome() == whole.outcome()
    if server_lines(script)[-1].startswith("S: "):
        tailed = run(tail=TAIL)
        trickled = run(tail=TAIL, cut=each_byte)
        assert tailed.events == trickled.events == whole.events
        assert tailed.outcome() == trickled.outcome() == whole.outcome()
        if isinstance(whole.ends[0], Established):
            # Trickling, it never comes here: the bytes behind the end go straight to the next gear.
            assert tailed.established.leftover == TAIL.encode(), "the tail was lost"
    return whole


def _text(node: Node) -> str:
    return ET.tostring(node, encoding="unicode")


# ---- secrets


def check_secrets(run: Play, config: Config) -> None:
    """No event, action, error or step shows the password, or anything that it could be guessed from."""
    shown = list(everything_shown(run))
    for secret in secrets_of(run, config):
        for text in shown:
            assert secret not in text, f"{secret!r} is shown in {text!r}"


def secrets_of(run: Play, config: Config) -> set[str]:
    """The password, each credential as it went over the wire, and what is in it; and the key to a session."""
    password = config.password
    assert isinstance(password, str)
    secrets = {password, base64.b64encode(password.encode("utf-8", "surrogatepass")).decode(), repr(password)[1:-1]}
    for name, said, text in re.findall(r"<(auth|response|password|digest|handshake)\b([^>]*)>([^<]+)</", run.sent):
        if "EXTERNAL" in said:
            continue  # the address that we ask for is no secret
        secrets.add(text)
        if name in ("auth", "response") and text != "=":
            message = base64.b64decode(text).decode()
            secrets.add(message)
            secrets.update(re.findall(r"(?:,p|response)=([^,]{8,})", message))
    secrets.update(re.findall(r' previd="([^"]+)"', run.sent))
    return {secret for secret in secrets if len(secret) >= 4}


def everything_shown(run: Play) -> Iterator[str]:
    errors: list[ProtocolError] = []
    for action in run.actions:
        yield repr(action)
        if isinstance(action, Fire):
            yield repr(dict(action.detail))
            if action.node is not None:
                yield from ("".join(element.itertext()) for element in [action.node])
                yield from (value for element in action.node.iter() for value in element.attrib.values())
                yield _text(action.node)
            if action.error is not None:
                errors.append(action.error)
        elif isinstance(action, Failed):
            errors.append(action.error)
    for error in errors:
        cause: BaseException | None = error
        while cause is not None:
            yield from (str(cause), repr(cause), repr(vars(cause)), repr(cause.args))
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for step in run.steps:
        yield repr(step)


# ---- wire texts


def client_header(
    *, to: str = "example.org", xmlns: str = "jabber:client", version: str | None = "1.0", from_: str | None = None
) -> str:
    attributes = "".join(
        f' {name}="{value}"' for name, value in (("from", from_), ("to", to), ("version", version)) if value is not None
    )
    return f'<?xml version=\'1.0\'?><stream:stream xmlns="{xmlns}" xmlns:stream="{STREAMS}"{attributes}>'


def server_header(
    *,
    id: str | None = "sid-1",
    from_: str | None = "example.org",
    xmlns: str = "jabber:client",
    version: str | None = "1.0",
) -> str:
    attributes = "".join(
        f" {name}='{value}'" for name, value in (("id", id), ("from", from_), ("version", version)) if value is not None
    )
    return f"<?xml version='1.0'?><stream:stream xmlns='{xmlns}' xmlns:stream='{STREAMS}'{attributes}>"


def features(*children: str) -> str:
    return f"<stream:features>{''.join(children)}</stream:features>"


def mechanisms(*names: str) -> str:
    listed = "".join(f"<mechanism>{name}</mechanism>" for name in names)
    return f"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{listed}</mechanisms>"


def sasl(name: str, content: str = "") -> str:
    return f"<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{content}</{name}>"


def stream_error(condition: str, text: str = "") -> str:
    namespace = "urn:ietf:params:xml:ns:xmpp-streams"
    said = f"<text xmlns='{namespace}'>{text}</text>" if text else ""
    return f"<stream:error><{condition} xmlns='{namespace}'/>{said}</stream:error>"


def stanza_error(identity: str, condition: str, kind: str = "cancel", text: str = "", code: str = "") -> str:
    namespace = "urn:ietf:params:xml:ns:xmpp-stanzas"
    said = f"<text xmlns='{namespace}'>{text}</text>" if text else ""
    named = f"<{condition} xmlns='{namespace}'/>" if condition else ""
    numbered = f" code='{code}'" if code else ""
    return f"<iq type='error' id='{identity}'><error type='{kind}'{numbered}>{named}{said}</error></iq>"


def bind_request(identity: str, resource: str | None = None) -> str:
    child = "" if resource is None else f"<resource>{resource}</resource>"
    bind = f'<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"{f">{child}</bind>" if child else "/>"}'
    return f'<iq id="{identity}" type="set">{bind}</iq>'


def bind_result(identity: str, *jids: str) -> str:
    given = "".join(f"<jid>{jid}</jid>" for jid in jids)
    return f"<iq type='result' id='{identity}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{given}</bind></iq>"


STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
CLIENT_STARTTLS = 'C: <starttls xmlns="urn:ietf:params:xml:ns:xmpp-tls"/>'
PROCEED = "S: <proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
TLS_FAILURE = "S: <failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
BIND = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
SESSION = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"
SESSION_OPTIONAL = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>"
SESSION_REQUEST = '<iq id="{}" type="set"><session xmlns="urn:ietf:params:xml:ns:xmpp-session"/></iq>'


@cache
def authentication(
    mechanism: str = "SCRAM-SHA-256",
    user: str = "romeo",
    *,
    password: str = PASSWORD,
    nonce: str = "token-1",
    host: str = "example.org",
    proof_in_success: bool = True,
) -> list[str]:
    """The lines of a whole authentication, the server's by `pcj.sasl.server`."""
    (client,) = (each for each in MECHANISMS if each.name == mechanism)
    exchange = client.exchange(Credentials(user, password, host=host), nonce, Limits(), Channel())
    step = next(exchange)
    assert isinstance(step, Respond)
    first = "" if step.data is None else base64.b64encode(step.data).decode()
    tag = f'<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="{mechanism}"'
    lines = [f"C: {tag}>{first}</auth>" if first else f"C: {tag}/>"]
    server = answer(
        mechanism,
        step.data,
        password_of={user: password}.get,
        nonce="server",
        realm=host,
        proof_in_success=proof_in_success,
    )
    said = next(server)
    while True:
        text = "" if said.data is None else base64.b64encode(said.data).decode()
        if isinstance(said, Success):
            lines.append(f"S: {sasl('success', text)}")
            return lines
        lines.append(f"S: {sasl('challenge', text)}")
        step = exchange.send(Challenge(said.data))
        while isinstance(step, Compute):
            step = exchange.send(step.run())
        assert step.data is not None
        text = base64.b64encode(step.data).decode()
        tag = '<response xmlns="urn:ietf:params:xml:ns:xmpp-sasl"'
        lines.append(f"C: {tag}>{text}</response>" if text else f"C: {tag}/>")
        said = server.send(step.data)


def server_lines(script: Sequence[str]) -> list[str]:
    """A script without the client's lines."""
    return [line for line in script if not line.startswith("C: ")]
