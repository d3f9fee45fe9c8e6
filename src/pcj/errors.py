"""Everything pcj raises, and the record of a failed connection.

::

    PcjError
    ├── ConfigError (ValueError)        what the caller gave cannot be used
    │   └── JidError                    an address that RFC 7622 does not allow
    ├── UsageError (RuntimeError)       a call that does not fit the broker's state
    ├── NodeError (ValueError)          a node that cannot be sent
    │   └── ParseError                  bytes that are no single well-formed element
    ├── FilterError (ValueError)        an XPath expression that cannot be used
    ├── QueueFull                       the outbound queue is at its bound
    ├── QueueError                      a durable queue cannot be used
    ├── DeliveryError                   a node was given up, or stays in doubt
    ├── RequestError                    a request ended without a reply
    │   └── RequestTimeout (TimeoutError)
    ├── ProtocolError                   the peer broke a rule, or refused
    │   ├── SaslError                   ... in authentication
    │   └── StreamErrorReceived         ... by sending <stream:error/>
    └── ConnectionFailed (ConnectionError)   a connection could not be made or kept; bears a Failure

Each says who erred, what was expected, what came and what to do. None ever carries a password.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "ConfigError",
    "ConnectionFailed",
    "DeliveryError",
    "Failure",
    "FilterError",
    "JidError",
    "NodeError",
    "ParseError",
    "PcjError",
    "Phase",
    "ProtocolError",
    "QueueError",
    "QueueFull",
    "RequestError",
    "RequestTimeout",
    "Retry",
    "SaslError",
    "StreamErrorReceived",
    "UsageError",
]


def printable(text: str) -> str:
    """`text` of a peer without what could steer a terminal or turn its direction: that is written as "\\x1b"."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Phase(StrEnum):
    """The part of a connection's life in which something happened; each has a deadline in `Config`."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    STREAM = "stream"
    AUTHENTICATE = "authenticate"
    BIND = "bind"
    SESSION = "session"
    READY = "ready"
    CLOSE = "close"


class Retry(StrEnum):
    """Whether trying again can help.

    FATAL: not without a change by a person. SLOW: perhaps, after the longest delay of the back-off (the fault is
    usually mended elsewhere). FAST: yes, with the ordinary back-off.
    """

    FATAL = "fatal"
    SLOW = "slow"
    FAST = "fast"


class PcjError(Exception):
    """The root of all errors of pcj."""

    def __reduce__(self) -> tuple[object, ...]:
        # Python's own would call the class with the message alone, which those with keyword arguments do not take.
        return _restored, (type(self), self.args), vars(self)


def _restored(kind: type[PcjError], args: tuple[object, ...]) -> PcjError:
    error = kind.__new__(kind)
    error.args = args
    return error


class ConfigError(PcjError, ValueError):
    """Something the caller gave cannot be used; nothing was changed."""


class JidError(ConfigError):
    """An address that RFC 7622 does not allow."""


class UsageError(PcjError, RuntimeError):
    """A call that does not fit the broker's state (connect while connected, output after halt); nothing was changed."""


class NodeError(PcjError, ValueError):
    """A node that cannot be sent: not serialisable, or known to make servers end the stream. Nothing was sent."""


class ParseError(NodeError):
    """Bytes given to `from_bytes` that are not one well-formed element."""


class FilterError(PcjError, ValueError):
    """An XPath expression that cannot be used as a filter; no filter was added."""


class QueueFull(PcjError):
    """The outbound queue is at its bound (nodes or bytes, see `Config`); the node was not taken."""


class QueueError(PcjError):
    """A durable queue cannot be used: damaged, of another program or account, in use, read-only, or its disk is full.

    Nothing in the file was changed.
    """


class DeliveryError(PcjError):
    """A node was given up, or it is in doubt whether the server has it.

    Attributes:
        state: of its receipt: "uncertain", "expired" or "dropped"; with a queue in memory any (`Receipt.on_disk`).
    """

    def __init__(self, message: str, *, state: str) -> None:
        super().__init__(message)
        self.state = state


class RequestError(PcjError):
    """A request of `return_to_sender` ended without a reply.

    Attributes:
        reason: "timeout", "drop", "shutdown", "halt", "expired" or "oversized"; RTS_FAIL says "cancelled" where the
            asker gave up.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class RequestTimeout(RequestError, TimeoutError):
    """No reply came within the time that was allowed."""

    def __init__(self, message: str, *, reason: str = "timeout") -> None:
        super().__init__(message, reason=reason)


class ProtocolError(PcjError):
    """The peer broke a rule or refused.

    Attributes:
        condition: the condition, in the words of the peer (a stream, SASL or stanza error) or "" if it gave none.
        text: what the peer said of it for people, or "".
        answer: the stream error (RFC 6120 4.9.3) to send before closing, or None to close without one. application: an
            element that goes into it beside the condition (RFC 6120 4.9.4), as bytes, or b"".
        expected: what was waited for. came: what was seen instead. Both may be "".
        phase: the phase that failed, where it is not the one the negotiation was in.
        retry: whether trying again can help, where the raiser knows better than the table of conditions.
    """

    def __init__(
        self,
        message: str,
        *,
        condition: str = "",
        answer: str | None = None,
        application: bytes = b"",
        expected: str = "",
        came: str = "",
        phase: Phase | None = None,
        retry: Retry | None = None,
        text: str = "",
    ) -> None:
        super().__init__(message)
        self.condition = condition
        self.text = text
        self.answer = answer
        self.application = application
        self.expected = expected
        self.came = came
        self.phase = phase
        self.retry = retry


class SaslError(ProtocolError):
    """The peer failed or broke the SASL exchange; no further credential is sent to it."""


class StreamErrorReceived(ProtocolError):
    """The peer sent <stream:error/> (RFC 6120 4.9). `condition` and `text` are the peer's.

    Attributes:
        see_other_host: where it sends us on to (4.9.3.19), as it said it; else "".
    """

    def __init__(
        self, message: str, *, condition: str, text: str = "", see_other_host: str = "", retry: Retry | None = None
    ) -> None:
        super().__init__(message, condition=condition, came=f"<stream:error> {condition}", retry=retry, text=text)
        self.see_other_host = see_other_host


_IN_DETAIL = ("phase", "retry", "address", "tried", "expected", "came", "condition", "text")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection could not be made or kept, for programs; `str(failure)` is the sentence for people.

    Attributes:
        phase: where it failed. message: one or two sentences: what failed, where, what was seen, what to do.
        address: "host (ip, port n)" of the attempt, or "" if none was reached.
        tried: (address, outcome) of each address that was tried before one connected, or in vain.
        expected, came: what was waited for, and what was seen instead.
        condition, text: the server's own condition and text, where it gave any.
        retry: whether trying again can help.
    """

    phase: Phase
    message: str
    address: str = ""
    tried: tuple[tuple[str, str], ...] = ()
    expected: str = ""
    came: str = ""
    condition: str = ""
    text: str = ""
    retry: Retry = Retry.FAST

    def __str__(self) -> str:
        return self.message

    @property
    def detail(self) -> dict[str, object]:
        """What an event that tells of it carries: every field but the message, which is its error's; none empty."""
        named = {name: getattr(self, name) for name in _IN_DETAIL}
        return {name: str(value) if isinstance(value, str) else value for name, value in named.items() if value}


class ConnectionFailed(PcjError, ConnectionError):
    """A connection could not be made or kept. `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
