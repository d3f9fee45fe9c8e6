"""Whether trying again can help: one function, by tables (protocol-notes A7)."""

from __future__ import annotations

from pcj.errors import Failure, Phase, ProtocolError, Retry, SaslError, StreamErrorReceived

__all__ = ["classify", "failure_of"]

# What a person must change first.
_FATAL_SASL = frozenset(
    {
        "not-authorized",
        "account-disabled",
        "credentials-expired",
        "invalid-authzid",
        "invalid-mechanism",
        "mechanism-too-weak",
        "encryption-required",
        "malformed-request",
        "incorrect-encoding",
    }
)
_FATAL_STREAM = frozenset(
    {
        "invalid-namespace",
        "unsupported-version",
        "unsupported-encoding",
        "unsupported-stanza-type",
        "improper-addressing",
    }
)
# What usually passes, but not in a second: our own half-open past, a server still loading its hosts, a ban.
_SLOW = frozenset({"conflict", "host-unknown", "host-gone", "policy-violation", "not-allowed", "409"})


def classify(error: ProtocolError, phase: Phase, *, component: bool, was_ready: bool) -> Retry:
    """FATAL, SLOW or FAST.

    Args:
        error: what the peer did. phase: where. component: whether we are a component, whose `conflict` is usually its
            own half-open past. was_ready: whether this broker has been READY before with these options: what worked
            once may work again.
    """
    if error.retry is not None:
        return error.retry
    condition = error.condition
    if condition == "conflict" and phase is Phase.READY:
        # Somebody else took our resource ("Replaced"): to take it back would start a ping-pong.
        return Retry.SLOW if component else Retry.FATAL
    if condition in _SLOW:
        return Retry.SLOW if was_ready or condition != "host-unknown" else Retry.FATAL
    if phase is Phase.AUTHENTICATE and condition in _FATAL_SASL:
        return Retry.FATAL
    if isinstance(error, SaslError) and not condition:
        # It broke the mechanism, or could not prove itself: each further attempt would show it another of our proofs.
        return Retry.FATAL
    if condition in _FATAL_STREAM:
        return Retry.FATAL
    if phase is Phase.BIND and condition in ("403", "forbidden", "bad-request", "not-acceptable"):
        return Retry.FATAL
    return Retry.FAST


def failure_of(error: BaseException | None, phase: Phase, *, address: str, component: bool, was_ready: bool) -> Failure:
    """What the end of a connection means.

    Args:
        error: what ended it, or None where the server closed its stream. phase: where. address: of the connection.
        component, was_ready: as for `classify`.
    """
    if error is None:
        return Failure(phase, "the server closed the stream", address=address, retry=Retry.FAST)
    if not isinstance(error, ProtocolError):
        return Failure(phase, f"the connection broke: {error}", address=address, retry=Retry.FAST)
    return Failure(
        error.phase if error.phase is not None else phase,
        str(error),
        address=address,
        expected=error.expected,
        came=error.came,
        condition=error.condition,
        text=error.text if isinstance(error, StreamErrorReceived) else "",
        retry=classify(error, phase, component=component, was_ready=was_ready),
    )
