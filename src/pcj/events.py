"""The vocabulary of what a connection does, and the one record that carries it.

The first 28 events are those of POE::Component::Jabber 3.00, by their documented names; the second group says what it
could not. Each of the 28 is also a constant of this module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final

from pcj.errors import NodeError
from pcj.serialize import to_bytes
from pcj.stanza import Node

__all__ = [
    "PCJ_AUTHFAIL",
    "PCJ_AUTHNEGOTIATE",
    "PCJ_AUTHSUCCESS",
    "PCJ_BINDFAIL",
    "PCJ_BINDNEGOTIATE",
    "PCJ_BINDSUCCESS",
    "PCJ_CONNECT",
    "PCJ_CONNECTED",
    "PCJ_CONNECTFAIL",
    "PCJ_CONNECTING",
    "PCJ_EVENTS",
    "PCJ_NODEQUEUED",
    "PCJ_NODERECEIVED",
    "PCJ_NODESENT",
    "PCJ_READY",
    "PCJ_RTS_FINISH",
    "PCJ_RTS_START",
    "PCJ_SESSIONFAIL",
    "PCJ_SESSIONNEGOTIATE",
    "PCJ_SESSIONSUCCESS",
    "PCJ_SHUTDOWN_FINISH",
    "PCJ_SHUTDOWN_START",
    "PCJ_SOCKETDISCONNECT",
    "PCJ_SOCKETFAIL",
    "PCJ_SSLFAIL",
    "PCJ_SSLNEGOTIATE",
    "PCJ_SSLSUCCESS",
    "PCJ_STREAMEND",
    "PCJ_STREAMSTART",
    "Event",
    "Status",
]


class Event(StrEnum):
    """What can happen to a connection. `PCJ_*` are the original's 28; the others are ours."""

    PCJ_CONNECT = "PCJ_CONNECT"
    """`connect` or `reconnect` was asked for by the user."""
    PCJ_CONNECTING = "PCJ_CONNECTING"
    """An attempt is under way."""
    PCJ_CONNECTED = "PCJ_CONNECTED"
    """The TCP connection stands; detail: address, local."""
    PCJ_CONNECTFAIL = "PCJ_CONNECTFAIL"
    """It could not be made; carries the error."""
    PCJ_STREAMSTART = "PCJ_STREAMSTART"
    """Our stream opening tag went out; carries it."""
    PCJ_STREAMEND = "PCJ_STREAMEND"
    """Our stream closing tag went out."""
    PCJ_NODESENT = "PCJ_NODESENT"
    """A node was handed to the transport; carries it, credentials redacted."""
    PCJ_NODERECEIVED = "PCJ_NODERECEIVED"
    """A node came in that was no reply to `return_to_sender`."""
    PCJ_NODEQUEUED = "PCJ_NODEQUEUED"
    """A node was given for output while the link was not ready; it is held."""
    PCJ_SSLNEGOTIATE = "PCJ_SSLNEGOTIATE"
    """TLS negotiation began."""
    PCJ_SSLSUCCESS = "PCJ_SSLSUCCESS"
    """TLS stands and the certificate was accepted; detail: version, cipher."""
    PCJ_SSLFAIL = "PCJ_SSLFAIL"
    """TLS could not be had; carries the error."""
    PCJ_AUTHNEGOTIATE = "PCJ_AUTHNEGOTIATE"
    """Authentication began; detail: mechanism, binding (to the TLS session, where it is)."""
    PCJ_AUTHSUCCESS = "PCJ_AUTHSUCCESS"
    """It succeeded, the server's proof included."""
    PCJ_AUTHFAIL = "PCJ_AUTHFAIL"
    """It failed, finally; carries the error."""
    PCJ_BINDNEGOTIATE = "PCJ_BINDNEGOTIATE"
    """Binding of a resource (XMPP) or a domain (JABBERD20_COMPONENT) began."""
    PCJ_BINDSUCCESS = "PCJ_BINDSUCCESS"
    """It succeeded; detail: jid."""
    PCJ_BINDFAIL = "PCJ_BINDFAIL"
    """It failed; carries the error."""
    PCJ_SESSIONNEGOTIATE = "PCJ_SESSIONNEGOTIATE"
    """Establishing a session (RFC 3921) began."""
    PCJ_SESSIONSUCCESS = "PCJ_SESSIONSUCCESS"
    """It succeeded."""
    PCJ_SESSIONFAIL = "PCJ_SESSIONFAIL"
    """It failed; carries the error."""
    PCJ_RTS_START = "PCJ_RTS_START"
    """`return_to_sender` was given a node; carries it."""
    PCJ_RTS_FINISH = "PCJ_RTS_FINISH"
    """Its reply came; carries it."""
    PCJ_READY = "PCJ_READY"
    """The link is fully initialised; detail: jid, resumed."""
    PCJ_SHUTDOWN_START = "PCJ_SHUTDOWN_START"
    """An end that will not be retried began; detail: by ("user" or "failure")."""
    PCJ_SHUTDOWN_FINISH = "PCJ_SHUTDOWN_FINISH"
    """It is complete."""
    PCJ_SOCKETFAIL = "PCJ_SOCKETFAIL"
    """An error at the level of the socket; carries it."""
    PCJ_SOCKETDISCONNECT = "PCJ_SOCKETDISCONNECT"
    """The socket has disconnected, normally or in error."""
    RESOLVED = "RESOLVED"
    """The addresses to try are known; detail: addresses."""
    ATTEMPT = "ATTEMPT"
    """One address was tried; detail: address, outcome."""
    STREAM_ERROR = "STREAM_ERROR"
    """The peer sent <stream:error/>, or broke the stream's rules; carries the node, if any, and the error."""
    AUTHRETRY = "AUTHRETRY"
    """The server refused a mechanism, and another is tried; detail: condition, mechanism, next."""
    REDIRECT = "REDIRECT"
    """The server sends us on to another host (see-other-host), which is tried next; detail: n, target."""
    RECONNECT_DELAY = "RECONNECT_DELAY"
    """The next attempt waits; detail: delay (seconds), reason, retry."""
    SESSION_LOST = "SESSION_LOST"
    """What bind (or handshake, iq:auth) created is gone: requests in flight fail here; detail: reason."""
    JID_CHANGED = "JID_CHANGED"
    """The server gave another address than the one asked for; detail: asked, given."""
    RTS_FAIL = "RTS_FAIL"
    """A request ended without a reply; detail: reason, id."""
    NODE_DROPPED = "NODE_DROPPED"
    """A node was given up; detail: reason ("expired", "oversized", "abandoned", "poison", "withdrawn", "drop" or
    "halt")."""
    NODE_ACKED = "NODE_ACKED"
    """The server has a node; carries it; detail: by ("sm" or "barrier")."""
    NODE_UNCERTAIN = "NODE_UNCERTAIN"
    """The link ended while a node was written and unproved; carries it; detail: next ("resume", "resend", "hold" or
    "drop": what happens with it), doubts."""
    HIGH_WATER = "HIGH_WATER"
    """Much waits to be sent: `drain` waits from now on; detail: nodes, bytes."""
    LOW_WATER = "LOW_WATER"
    """It has gone out; detail: nodes, bytes."""
    READING_PAUSED = "READING_PAUSED"
    """Coroutine handlers do not keep up: until READING_RESUMED, or the end of the session, no more is read than awaited
    replies need, and one read a second; detail: statuses, bytes."""
    READING_RESUMED = "READING_RESUMED"
    """Half of either bound is free again: everything is read; detail: statuses, bytes."""
    PROBE = "PROBE"
    """The peer was silent for long, and is asked whether it lives; detail: silence (seconds), by ("sm", "ping" or
    "whitespace")."""
    IQ_ANSWERED = "IQ_ANSWERED"
    """The broker answered an IQ itself; carries the answer; detail: condition."""
    NODE_IGNORED = "NODE_IGNORED"
    """An element came that has no place after READY (RFC 6120 4.9.3.24) or no sense; detail: reason."""
    HANDLER_FAILED = "HANDLER_FAILED"
    """A handler or a filter raised; carries the error; detail: handler, dropped."""
    BACKLOG_GAP = "BACKLOG_GAP"
    """A slow reader of `events()` missed some; detail: missed."""
    WARNING = "WARNING"
    """Something a person should know that does not stop the link; detail: what."""
    SM_ENABLED = "SM_ENABLED"
    """Stream management (XEP-0198) was enabled."""
    SM_RESUMING = "SM_RESUMING"
    """The resumption of the last session began."""
    SM_RESUMED = "SM_RESUMED"
    """It succeeded: the session goes on; detail: h."""
    SM_RESUMEFAILED = "SM_RESUMEFAILED"
    """It was refused: SESSION_LOST follows; detail: condition, h."""


PCJ_CONNECT: Final = Event.PCJ_CONNECT
PCJ_CONNECTING: Final = Event.PCJ_CONNECTING
PCJ_CONNECTED: Final = Event.PCJ_CONNECTED
PCJ_CONNECTFAIL: Final = Event.PCJ_CONNECTFAIL
PCJ_STREAMSTART: Final = Event.PCJ_STREAMSTART
PCJ_STREAMEND: Final = Event.PCJ_STREAMEND
PCJ_NODESENT: Final = Event.PCJ_NODESENT
PCJ_NODERECEIVED: Final = Event.PCJ_NODERECEIVED
PCJ_NODEQUEUED: Final = Event.PCJ_NODEQUEUED
PCJ_SSLNEGOTIATE: Final = Event.PCJ_SSLNEGOTIATE
PCJ_SSLSUCCESS: Final = Event.PCJ_SSLSUCCESS
PCJ_SSLFAIL: Final = Event.PCJ_SSLFAIL
PCJ_AUTHNEGOTIATE: Final = Event.PCJ_AUTHNEGOTIATE
PCJ_AUTHSUCCESS: Final = Event.PCJ_AUTHSUCCESS
PCJ_AUTHFAIL: Final = Event.PCJ_AUTHFAIL
PCJ_BINDNEGOTIATE: Final = Event.PCJ_BINDNEGOTIATE
PCJ_BINDSUCCESS: Final = Event.PCJ_BINDSUCCESS
PCJ_BINDFAIL: Final = Event.PCJ_BINDFAIL
PCJ_SESSIONNEGOTIATE: Final = Event.PCJ_SESSIONNEGOTIATE
PCJ_SESSIONSUCCESS: Final = Event.PCJ_SESSIONSUCCESS
PCJ_SESSIONFAIL: Final = Event.PCJ_SESSIONFAIL
PCJ_RTS_START: Final = Event.PCJ_RTS_START
PCJ_RTS_FINISH: Final = Event.PCJ_RTS_FINISH
PCJ_READY: Final = Event.PCJ_READY
PCJ_SHUTDOWN_START: Final = Event.PCJ_SHUTDOWN_START
PCJ_SHUTDOWN_FINISH: Final = Event.PCJ_SHUTDOWN_FINISH
PCJ_SOCKETFAIL: Final = Event.PCJ_SOCKETFAIL
PCJ_SOCKETDISCONNECT: Final = Event.PCJ_SOCKETDISCONNECT

#: The 28 events of the original, in the order of its manual.
PCJ_EVENTS: Final = tuple(event for event in Event if event.startswith("PCJ_"))

NO_DETAIL: Final[Mapping[str, object]] = MappingProxyType({})


class Status:
    """One thing that happened. To be read, not changed: every subscriber of the event gets the same object.

    Attributes:
        event: which one; for a filter or a reply that was asked for by a name of the user's own, that name.
        at: when, in seconds of `time.monotonic`.
        seq: its place in the broker's one order of events, from 1.
        node: the node it is about, or None.
        error: the error it is about, or None.
        detail: what else there is to say: attempt, session, mechanism, version, cipher, address, phase, counts. Of a
            filter: expression and selected.
    """

    __slots__ = ("at", "detail", "error", "event", "node", "seq")

    def __init__(
        self,
        event: str,
        at: float,
        seq: int,
        node: Node | None = None,
        error: BaseException | None = None,
        detail: Mapping[str, object] = NO_DETAIL,
    ) -> None:
        self.event = event
        self.at = at
        self.seq = seq
        self.node = node
        self.error = error
        self.detail = detail

    def __repr__(self) -> str:
        """One line for a log: a node is shown as its XML, up to `MAX_SHOWN` characters, escaped for a terminal."""
        extra = "" if self.node is None else f", node={_shown(self.node)}"
        extra += "" if self.error is None else f", error={type(self.error).__name__}({_text(self.error)!r})"
        if self.detail:
            extra += f", detail={{{', '.join(f'{name!r}: {_shown(self.detail[name])}' for name in self.detail)}}}"
        return f"Status({self.event}, at={self.at:.3f}, seq={self.seq}{extra})"

    def to_json(self) -> str:
        """One line of JSON, in ASCII: it can be shown on a terminal whatever the peer sent.

        It has event, at and seq; node (as XML), error (kind and message) and detail where there is one. What JSON does
        not know is written as text.
        """
        record: dict[str, object] = {"event": str(self.event), "at": round(self.at, 6), "seq": self.seq}
        if self.node is not None:
            record["node"] = _plain(self.node)
        if self.error is not None:
            record["error"] = {"kind": type(self.error).__name__, "message": _text(self.error)}
        if self.detail:
            record["detail"] = _plain(self.detail)
        return json.dumps(record, allow_nan=False).replace("\x7f", "\\u007f")


MAX_SHOWN: Final = 500
"""Characters of a node, or of one value of a detail, in a status's repr."""

MAX_DETAIL_DEPTH: Final = 16
"""Levels of containers in a detail that are written; deeper ones (or a cycle) appear as text."""


def _plain(value: object, depth: int = 0) -> object:
    """`value` as something JSON has: nodes as XML, the rest of the unknown as text."""
    if value is None or value is True or value is False or type(value) is str:
        return value
    if isinstance(value, int) and not isinstance(value, Enum) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Node):
        try:
            return to_bytes(value).decode()
        except NodeError as error:
            return f"a node that cannot be written: {error}"
    if depth < MAX_DETAIL_DEPTH:
        if isinstance(value, Mapping):
            return {_text(name): _plain(item, depth + 1) for name, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_plain(item, depth + 1) for item in value]
        return _text(value)
    return f"a {type(value).__name__}, nested too deep"


def _shown(value: object) -> str:
    """A value as Python writes it, cut short; nodes in it are XML. Nothing in it can steer a terminal."""
    plain = _plain(value)
    if isinstance(plain, str):
        return repr(plain) if len(plain) <= MAX_SHOWN else f"{plain[:MAX_SHOWN]!r}... of {len(plain)} characters"
    text = repr(plain)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... of {len(text)} characters"


def _text(value: object) -> str:
    """`str(value)`, also of an object that fails at it: a trace must not fail for what it traces."""
    try:
        return str.__str__(str(value))
    except Exception as error:
        return f"a {type(value).__name__} whose text raises {type(error).__name__}"
