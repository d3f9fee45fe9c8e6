"""What a dialect can ask for. It yields one of these and is sent what came of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from pcj.config import Config
from pcj.errors import Phase
from pcj.protocol.management import Management
from pcj.sasl.memory import Memory
from pcj.sasl.steps import Compute
from pcj.stanza import Node

__all__ = [
    "AskPassword",
    "Compute",
    "Enter",
    "Envelope",
    "Hold",
    "Negotiation",
    "OpenStream",
    "Program",
    "Publish",
    "Receive",
    "Send",
    "Session",
    "StartTls",
    "Step",
    "StreamLimits",
    "TlsFacts",
]


class TlsFacts(Protocol):
    """What is known of a TLS session once its certificate was accepted.

    `bindings` are the channel bindings that can be had of it, by the name of their type, the best first;
    `own_addresses` the JIDs in our client certificate (XmppAddr, RFC 6120 13.7.1.4), if there is one.
    """

    @property
    def version(self) -> str: ...
    @property
    def cipher(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def verified(self) -> bool: ...
    @property
    def bindings(self) -> Mapping[str, bytes]: ...
    @property
    def own_addresses(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Send a stream header (RFC 6120 4.7); sent back: the peer's `StreamHeader`.

    An error if bytes of the peer's are left over from before: nothing may hide behind <proceed/> or <success/>.
    """

    to: str
    xmlns: str
    version: str | None = None
    from_: str | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send an element. With `secret` the event shows a copy without its texts; known credentials always do.

    With `first`, bytes of the peer's that are left over are an error, as for `OpenStream`: what it has said already is
    no answer to what we have not sent. With `quiet` no event tells of it (event-order C18).
    """

    node: Node
    secret: bool = False
    first: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the next element; sent back: the `Node`. `expected` names it, for the diagnosis."""

    expected: str


@dataclass(frozen=True, slots=True)
class StartTls:
    """Begin TLS on the connection; sent back: its `TlsFacts`. Bytes left over are an error, as for `OpenStream`."""


@dataclass(frozen=True, slots=True)
class AskPassword:
    """Ask for the account's password; sent back: the str. `Config.password` may be a function that supplies it."""


@dataclass(frozen=True, slots=True)
class Enter:
    """The negotiation is in another phase now, without an event (a *NEGOTIATE event says so by itself)."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Publish:
    """Fire an event."""

    event: str
    node: Node | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep a stanza that came early; it is delivered right after READY."""

    node: Node


Step: TypeAlias = OpenStream | Send | Receive | StartTls | AskPassword | Enter | Publish | Hold | Compute


class Envelope(Protocol):
    """How stanzas travel on streams that wrap each of them (jabberd2's <route/>)."""

    def wrap(self, stanza: bytes, node: Node) -> bytes:
        """The bytes to send for a serialised stanza; `node` is the same, to be read only."""

    def unwrap(self, node: Node) -> Node | None:
        """The stanza in a received top-level element, or None if it holds none for the user."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the server announced (XEP-0478), each None where it did not.

    Attributes:
        max_bytes: of one element that it takes, as it goes onto the wire. idle_seconds: how long it hears nothing from
            us before it looks whether we live, or ends the stream.
    """

    max_bytes: int | None = None
    idle_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What a dialect returns: the link is fully initialised.

    Attributes:
        jid: who we are now. sid: the stream's id. envelope: how stanzas are wrapped, or None. limits: what the server
            takes, or None where it did not say.
        management: the stream management of this session (XEP-0198), or None without it. It counts what comes behind
            <enabled/> or <resumed/>, so nothing that came early. resumed: None in a new session; in one that goes on,
            how many more of our stanzas the server said in <resumed/> to have.
    """

    jid: str
    sid: str
    envelope: Envelope | None = None
    limits: StreamLimits | None = None
    management: Management | None = None
    resumed: int | None = None


Program: TypeAlias = Generator[Step, Any, Session]


@dataclass(slots=True)
class Negotiation:
    """What a dialect may know.

    Attributes:
        config: the options. xmlns: the content namespace of the stream. component: whether we are a component.
        tls: the facts of the TLS session, or None without one. tls_required: whether it may not go on without.
        token: makes an unguessable ASCII token, for ids and nonces. loopback: whether the link stays on this machine.
        memory: what this broker remembers of its log-ins.
        management: a session that is to be resumed (XEP-0198 5), or None. outstanding: how many of our stanzas in it
            are unproved.
    """

    config: Config
    xmlns: str
    component: bool
    tls_required: bool
    token: Callable[[], str]
    tls: TlsFacts | None = None
    loopback: bool = False
    memory: Memory = field(default_factory=Memory)
    management: Management | None = None
    outstanding: int = 0
