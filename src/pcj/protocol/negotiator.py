"""The driver of a dialect: bytes and the time in; actions, events and one deadline out.

It knows no socket, clock or chance, and is usable without asyncio: call `start`, do the actions, hand in what comes by
`receive_data`, and call `handle_timer` when `next_deadline` has passed, until an action is `Established` or `Failed`.
"""

from __future__ import annotations

from collections.abc import Callable

from pcj.config import Config
from pcj.errors import ConfigError, NodeError, Phase, ProtocolError, Retry, StreamErrorReceived
from pcj.events import Event
from pcj.jid import JID, same_address
from pcj.namespaces import STREAMS
from pcj.protocol.actions import Action, BeginTls, Established, Failed, Fire, Write
from pcj.protocol.dialect import Dialect
from pcj.protocol.features.starttls import begin_tls
from pcj.protocol.management import Management
from pcj.protocol.redact import credentials, forms_of, redacted, repeated, scrub, scrubbed, secrets_of, shown
from pcj.protocol.retry import OPEN_STREAM, words_of
from pcj.protocol.steps import (
    AskPassword,
    Compute,
    Enter,
    Hold,
    Negotiation,
    OpenStream,
    Program,
    Publish,
    Receive,
    Send,
    Session,
    StartTls,
    Step,
    TlsFacts,
)
from pcj.protocol.wrong_port import not_xmpp, other_kind
from pcj.sasl.memory import Memory
from pcj.serialize import serialize
from pcj.stanza import Node
from pcj.xmlstream import NegotiatingParser, StreamClosed, StreamHeader, limits_of
from pcj.xmlstream.framing import STREAM_ERROR_TAG, stream_error_condition, stream_header, stream_header_node

__all__ = ["Negotiator"]

#: Bytes that are remembered, to see what of ours a server repeated.
MAX_HEARD = 65_536
#: Stanzas that may come before READY.
MAX_EARLY = 256
#: Characters of a "see other host" that are looked at: the longest name, a colon, a port and some.
MAX_ELSEWHERE = 260
#: Characters of a stream error's condition that are shown; the longest of RFC 6120 has 24.
MAX_CONDITION = 64

# The phase an event begins; a *SUCCESS goes back to the stream, where the next feature is chosen.
_PHASES = {
    Event.PCJ_SSLNEGOTIATE: Phase.TLS,
    Event.PCJ_SSLSUCCESS: Phase.STREAM,
    Event.PCJ_AUTHNEGOTIATE: Phase.AUTHENTICATE,
    Event.PCJ_AUTHSUCCESS: Phase.STREAM,
    Event.PCJ_BINDNEGOTIATE: Phase.BIND,
    Event.PCJ_BINDSUCCESS: Phase.STREAM,
    Event.PCJ_SESSIONNEGOTIATE: Phase.SESSION,
    Event.PCJ_SESSIONSUCCESS: Phase.STREAM,
}

# The event that says that a phase failed.
_FAILURES = {
    Phase.TLS: Event.PCJ_SSLFAIL,
    Phase.STREAM: Event.STREAM_ERROR,
    Phase.AUTHENTICATE: Event.PCJ_AUTHFAIL,
    Phase.BIND: Event.PCJ_BINDFAIL,
    Phase.SESSION: Event.PCJ_SESSIONFAIL,
}

_STREAM_ERRORS = {
    "host-unknown": "the server does not host {domain} (host-unknown)",
    "conflict": "the server gave our place to another link of {account} with the same resource (conflict)",
    "invalid-namespace": "the server refuses a {kind} link on this port (invalid-namespace): usually 5222 is for "
    "clients, 5347 for components",
    "policy-violation": "the server refuses us for now (policy-violation)",
    "resource-constraint": "the server has no room for us just now (resource-constraint)",
    "system-shutdown": "the server is shutting down (system-shutdown)",
}
_TO_COMPONENTS = {
    "host-unknown": "the server does not host {domain} (host-unknown): it does not know this component, or the port is "
    "for clients (usually 5222 is for clients, 5347 for components)",
    "not-authorized": "the server rejected the secret, or does not know the component {domain} (not-authorized); "
    "some servers do not say which",
    "conflict": "the server says that {domain} is already connected (conflict): by our own lost link, which it will "
    "notice in a while, or by another process",
}


def stream_error_received(node: Node, account: JID, *, component: bool) -> StreamErrorReceived:
    """The error that a <stream:error/> from the peer means to a link of `account`."""
    condition, text, data = stream_error_condition(node)
    condition = condition[:MAX_CONDITION]
    sentence = _TO_COMPONENTS.get(condition, "") if component else ""
    sentence = sentence or _STREAM_ERRORS.get(condition, "the server ended the stream ({condition})")
    said = f": {text!r}" if text else ""
    sentence = sentence.format(
        domain=account.domain,
        account=account.bare,
        kind="component" if component else "client",
        condition=condition or "no condition given",
    )
    elsewhere = data.strip()[:MAX_ELSEWHERE] if condition == "see-other-host" else ""
    if elsewhere:
        sentence = f"the server sends us on to {elsewhere!r} (see-other-host)"
    error = StreamErrorReceived(sentence + said, condition=condition, text=text, see_other_host=elsewhere)
    error.expected = OPEN_STREAM
    return error


def _too_much_early() -> ProtocolError:
    return ProtocolError(
        "the server sent too much out of turn",
        answer="policy-violation",
        expected="nothing, until we have answered",
        came="more than one stanza may have",
    )


def _place_of(error: Exception) -> str:
    """Where it was raised, "file.py:12": for whoever mends it, in place of its text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace is not None else "?"


class Negotiator:
    """Drives one dialect over one connection.

    Args:
        config, dialect: what to negotiate. token: makes an unguessable ASCII token. loopback: whether the connection
            stays on this machine. memory: of the broker's log-ins before; a new one for a broker's first.
        management, outstanding: a session that is to be resumed (XEP-0198 5), and how many of our stanzas in it are
            unproved. Whatever ends the hope of that calls its `forget`.
    """

    def __init__(
        self,
        config: Config,
        dialect: Dialect,
        *,
        token: Callable[[], str],
        loopback: bool,
        memory: Memory | None = None,
        management: Management | None = None,
        outstanding: int = 0,
    ) -> None:
        memory = memory if memory is not None else Memory()
        self._config = config
        self._domain = config.account.domain
        self._parser = NegotiatingParser(limits_of(config))
        self._timeouts = {
            Phase.TLS: config.tls_timeout,
            Phase.STREAM: config.stream_timeout,
            Phase.AUTHENTICATE: config.authenticate_timeout,
            Phase.BIND: config.bind_timeout,
            Phase.SESSION: config.session_timeout,
        }
        self._negotiation = Negotiation(
            config=config,
            xmlns=config.xmlns if config.xmlns is not None else dialect.xmlns,
            component=dialect.component,
            # What TLS has guarded once is not given away without it, whoever took the offer out of the features.
            tls_required=dialect.tls_required(config, loopback=loopback) or memory.secured,
            token=token,
            loopback=loopback,
            memory=memory,
            management=management,
            outstanding=outstanding,
        )
        self._program: Program | None = self._whole(dialect)
        self._wanted: Step | None = None
        self._header: StreamHeader | None = None
        self._header_sent = False
        self._early: list[Node] = []
        # What a server may repeat and nobody else may see: the password, and each credential that was sent.
        self._secrets = secrets_of(config)
        if management is not None and management.id:
            self._secrets.add(management.id)
        self._heard = bytearray()  # the last that came, to see whether any of them was repeated
        self._actions: list[Action] = []
        self._now = 0.0
        self._deadline: float | None = None
        self.phase = Phase.STREAM

    def _whole(self, dialect: Dialect) -> Program:
        """Direct TLS (XEP-0368) goes before anything a dialect does, with the same events."""
        if self._config.direct_tls:
            yield Publish(Event.PCJ_SSLNEGOTIATE)
            yield from begin_tls(self._negotiation)
        return (yield from dialect.negotiate(self._negotiation))

    # ---- what the driver is told

    def start(self, now: float) -> list[Action]:
        """The connection stands. Called once, before all others."""
        self._now = now
        self._enter(Phase.STREAM)
        return self._advance(None)

    def receive_data(self, data: bytes, now: float) -> list[Action]:
        """Bytes came (decrypted, where TLS stands)."""
        if self._program is None:
            return []
        self._now = now
        self._parser.feed(data)
        self._heard += data
        del self._heard[:-MAX_HEARD]
        if isinstance(self._wanted, StartTls):
            return self._proceed(self._refuse_leftover, "TLS")
        if isinstance(self._wanted, Compute | AskPassword):
            if self._parser.leftover_bytes > self._config.max_stanza_bytes:
                return self._fail(_too_much_early())
            return []
        return self._proceed(self._next)

    def receive_eof(self, now: float, broken: Exception | None = None) -> list[Action]:
        """The peer ended the connection; or it broke, by an error of the network."""
        waiting = f"while we waited for {self._awaited()}"
        if broken is None:
            message, came = f"the server closed the connection {waiting}", "the end of the connection"
        else:
            came = words_of(broken)
            message = f"the connection broke {waiting} ({came})"
        return self.failed(ProtocolError(message + self._tls_hint(), expected=self._expected(), came=came), now)

    def tls_started(self, facts: TlsFacts, now: float) -> list[Action]:
        """The TLS handshake that `BeginTls` asked for is done and its certificate was accepted."""
        if self._program is None or not isinstance(self._wanted, StartTls):
            return []
        self._now = now
        return self._advance(facts)

    def computed(self, result: object, now: float) -> list[Action]:
        """The result of the `Compute` that was given out."""
        if self._program is None or not isinstance(self._wanted, Compute):
            return []
        self._now = now
        return self._advance(result)

    def password_given(self, password: object, now: float) -> list[Action]:
        """What `Config.password` supplied, after `AskPassword`."""
        if self._program is None or not isinstance(self._wanted, AskPassword):
            return []
        self._now = now
        if not isinstance(password, str):
            what = f"the function that supplies the password must give a str, not {type(password).__name__}"
            return self._fail(ProtocolError(what, expected="a str", came=type(password).__name__, retry=Retry.FATAL))
        forms = forms_of(password)
        self._negotiation.memory.supplied(forms)
        self._secrets |= forms
        return self._advance(password)

    def failed(self, error: ProtocolError, now: float) -> list[Action]:
        """The shell could not go on: TLS failed, the socket did."""
        if self._program is None:
            return []
        self._now = now
        return self._fail(error)

    def next_deadline(self) -> float | None:
        """When to call `handle_timer`, or None."""
        return self._deadline

    def handle_timer(self, now: float) -> list[Action]:
        """Time has passed; past the phase's deadline the negotiation has failed."""
        if self._deadline is None or now < self._deadline:
            return []
        seconds = self._timeout(self.phase)
        if isinstance(self._wanted, AskPassword):
            what = f"the function that supplies the password gave none within {seconds:g} s"
            return self.failed(ProtocolError(what, expected="the password", came="nothing", retry=Retry.SLOW), now)
        return self.failed(
            ProtocolError(
                f"no answer within {seconds:g} s in the phase '{self.phase}': we waited for {self._awaited()}"
                + ("" if self._header is not None else "; is this an XMPP port?"),
                answer="connection-timeout" if self._header_sent else None,
                expected=self._expected(),
                came="nothing",
                retry=Retry.FAST,
            ),
            now,
        )

    # ---- the driver itself

    def _expected(self) -> str:
        match self._wanted:
            case Receive(expected=expected):
                return expected
            case OpenStream():
                return "<stream:stream>"
            case StartTls():
                return "the TLS handshake"
            case Compute():
                return "our own computation"
            case AskPassword():
                return "the function that supplies the password"
            case _:
                return "the server"

    def _awaited(self) -> str:
        """The same for a sentence."""
        greeting = ", the server's greeting" if isinstance(self._wanted, OpenStream) else ""
        return self._expected() + greeting

    def _timeout(self, phase: Phase) -> float:
        return self._timeouts.get(phase, self._config.stream_timeout)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._deadline = self._now + self._timeout(phase)

    def _give(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def _advance(self, value: object) -> list[Action]:
        """Send `value` into the program and carry out its steps until it waits for something."""
        program = self._program
        if program is None:
            return self._give()
        try:
            while True:
                step = program.send(value)
                self._wanted = step
                value = None
                if isinstance(step, Publish):
                    self._publish(step)
                elif isinstance(step, Send):
                    if step.first:
                        self._refuse_leftover("our log-in")
                    data = serialize(step.node, self._negotiation.xmlns)
                    self._secrets.update(credentials(step.node, secret=step.secret))
                    self._actions.append(Write(data))
                    if not step.quiet:
                        self._actions.append(Fire(Event.PCJ_NODESENT, redacted(step.node, secret=step.secret)))
                elif isinstance(step, Receive):
                    item = self._next()
                    if item is None:
                        return self._give()
                    value = item
                elif isinstance(step, OpenStream):
                    self._open(step)
                    header = self._next()
                    if header is None:
                        return self._give()
                    value = header
                elif isinstance(step, Hold):
                    if len(self._early) >= MAX_EARLY:
                        raise ProtocolError(
                            f"the server sent more than {MAX_EARLY} stanzas before the link was ready",
                            answer="policy-violation",
                            expected=f"at most {MAX_EARLY} stanzas",
                            came="more",
                        )
                    self._early.append(step.node)
                elif isinstance(step, Enter):
                    self._enter(step.phase)
                elif isinstance(step, StartTls):
                    self._refuse_leftover("TLS")
                    self._actions.append(BeginTls())
                    return self._give()
                elif isinstance(step, AskPassword) and isinstance(self._config.password, str):
                    value = self._config.password
                elif isinstance(step, Compute | AskPassword):
                    self._actions.append(step)
                    return self._give()
                else:
                    raise TypeError("that is no step")
        except StopIteration as end:
            if not isinstance(end.value, Session):
                return self._fail(ProtocolError("a fault in the dialect: it returned no Session", retry=Retry.FATAL))
            return self._establish(end.value)
        except ProtocolError as error:
            return self._fail(error)
        except (ConfigError, NodeError) as error:
            # A password that cannot be used is found when the mechanism is known (SASLprep), or when it is written.
            return self._fail(ProtocolError(str(error), retry=Retry.FATAL))
        except Exception as error:
            # A dialect from outside (register_dialect) has a bug. Its text stays untold: it may quote a secret.
            what = f"a fault in the dialect: {type(error).__name__} at {_place_of(error)}"
            return self._fail(ProtocolError(what, retry=Retry.FATAL))

    def _proceed(self, look: Callable[..., object], *arguments: str) -> list[Action]:
        """Look at what came, and go on if there is an item for the program."""
        try:
            item = look(*arguments)
        except ProtocolError as error:
            return self._fail(error)
        return self._give() if item is None else self._advance(item)

    def _next(self) -> StreamHeader | Node | None:
        """The next item for the program; a stream error or the stream's end is a failure."""
        try:
            item = self._parser.next()
        except ProtocolError as wrong:
            if self._header is None:
                raise not_xmpp(bytes(self._heard), wrong) from None
            raise
        if isinstance(item, StreamHeader):
            self._header = item
            if (elsewhere := other_kind(item.content_namespace, self._negotiation.xmlns)) is not None:
                raise elsewhere
            self._check_origin(item)
            return item
        if isinstance(item, StreamClosed):
            raise ProtocolError(
                f"the server closed the stream while we waited for {self._expected()}",
                expected=self._expected(),
                came="</stream:stream>",
            )
        if item is not None and item.tag == STREAM_ERROR_TAG:
            error = stream_error_received(item, self._config.account, component=self._negotiation.component)
            error.expected = self._expected()
            self._look_at_resumption(error)
            scrub(error, repeated(self._secrets, self._heard))
            item = scrubbed(item, self._secrets)
            # After a *NEGOTIATE the phase's own event follows; before it this one stands alone (event-order C3).
            self._actions.append(Fire(Event.STREAM_ERROR, item, error, {"phase": str(self.phase)}))
            raise error
        return item

    def _look_at_resumption(self, error: StreamErrorReceived) -> None:
        """Our count in <resume/> was too high for the server; it would say so again each time (XEP-0198 6).

        It SHOULD say that in an element of its own; ejabberd says it in a text alone.
        """
        management = self._negotiation.management
        if management is not None and self._expected() == "<resumed>" and error.condition == "undefined-condition":
            management.forget()
            reason = "the server ended the stream over it"
            detail = {"condition": "undefined-condition", "h": None, "proved": None, "reason": reason}
            self._actions.append(Fire(Event.SM_RESUMEFAILED, detail=detail))

    def _tls_hint(self) -> str:
        """Whoever wants TLS from the first byte closes on our greeting; or, with TLS 1.3, on our certificate."""
        if self._config.client_certificate is not None and self.phase is Phase.STREAM and self._negotiation.tls:
            return "; it may have refused our client_certificate"
        if self._header is not None or self._config.direct_tls:
            return ""
        return "; if this port wants TLS from the first byte, say direct_tls=True"

    def _check_origin(self, header: StreamHeader) -> None:
        """RFC 6120 4.7.1: the server says who it is, which proves nothing. Components are told their own name."""
        sender = header.attributes.get("from")
        if sender is not None and not self._negotiation.component and not same_address(sender, self._domain):
            what = f"the server's header is from {sender!r:.100}, not from {self._domain!r}"
            self._actions.append(Fire(Event.WARNING, detail={"what": shown(what, self._secrets)}))

    def _publish(self, step: Publish) -> None:
        if step.event in _PHASES:
            self._enter(_PHASES[Event(step.event)])
        self._actions.append(Fire(step.event, step.node, detail=step.detail))

    def _open(self, step: OpenStream) -> None:
        if self._header is not None:
            self._refuse_leftover("the new stream")
            self._parser.restart()
        attributes = {
            name: value
            for name, value in (("from", step.from_), ("to", step.to), ("version", step.version))
            if value is not None
        }
        streams = self._config.stream if self._config.stream is not None else STREAMS
        node = stream_header_node(attributes)
        self._actions.append(Write(stream_header(attributes, step.xmlns, streams)))
        self._actions.append(Fire(Event.PCJ_STREAMSTART, node, detail={"xmlns": step.xmlns}))
        self._actions.append(Fire(Event.PCJ_NODESENT, node))
        self._header_sent = True

    def _refuse_leftover(self, what: str) -> None:
        """RFC 6120 5.4.3.3, 6.4.6: what came before TLS or the new stream is no part of it."""
        if self._parser.take_leftover().strip():
            raise ProtocolError(
                f"the server sent more before {what} began; somebody may have put it in on the way",
                answer="policy-violation",
                expected=f"nothing before {what}",
                came="more bytes",
                retry=Retry.SLOW,
            )

    def _establish(self, session: Session) -> list[Action]:
        self._program = None  # nothing is sent to a program that has ended
        self._deadline = None
        self.phase = Phase.READY
        namespaces = self._header.namespaces if self._header is not None else {}
        self._actions.append(Established(session, namespaces, tuple(self._early), self._parser.take_leftover()))
        return self._give()

    def _fail(self, error: ProtocolError) -> list[Action]:
        phase = error.phase if error.phase is not None else self.phase
        program, self._program = self._program, None
        if program is not None:
            try:
                program.close()
            except Exception:  # noqa: S110
                pass  # a fault of the dialect's while it ends; the failure that is told came first
        self._deadline = None
        if phase is Phase.AUTHENTICATE:
            self._negotiation.memory.forget()
        scrub(error, repeated(self._secrets, self._heard))
        if not (phase is Phase.STREAM and isinstance(error, StreamErrorReceived)):  # that was fired as it came
            self._actions.append(Fire(_FAILURES.get(phase, Event.STREAM_ERROR), None, error, {"phase": str(phase)}))
        # A stream error is never answered with one (RFC 6120 4.9.1.1).
        self._actions.append(Failed(error, phase, self._header_sent))
        return self._give()
