"""Whether trying again can help: one function, by tables (protocol-notes A7)."""

from __future__ import annotations

from typing import Final

from pcj.errors import Failure, Phase, ProtocolError, Retry, SaslError
from pcj.explain import inside

__all__ = ["OPEN_STREAM", "NotOffered", "OtherName", "classify", "failure_of", "settled", "words_of"]

#: What is expected while READY, in the parts of a failure.
OPEN_STREAM: Final = "an open stream"

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
        "unsupported-version",
        "unsupported-encoding",
        "unsupported-stanza-type",
        "improper-addressing",
    }
)
# A mistake in the options at first: this server or this port is not the one for us.
_WRONG_PLACE = frozenset({"host-unknown", "invalid-namespace"})
# What usually passes, but not in a second: our own half-open past, a server still loading its hosts, a ban.
_SLOW = frozenset({"conflict", "host-gone", "policy-violation", "not-allowed", "409"})
# At a bind these are no passing trouble of the server's: a router's rules, or as many sessions as an account may have.
_FATAL_BIND = frozenset({"403", "forbidden", "bad-request", "not-acceptable"})
_SLOW_BIND = frozenset({"resource-constraint"})

# Until then nothing has proved who the peer is.
_UNPROVED = (Phase.RESOLVE, Phase.TLS, Phase.STREAM)


class NotOffered(ProtocolError):
    """Nothing is offered that both sides do: at first a mistake in the options, later a server that is half started."""


class OtherName(ProtocolError):
    """The certificate is good, but for another name. A component's user has named the host, a client's only the JID."""


def classify(error: ProtocolError, phase: Phase, *, component: bool, was_ready: bool) -> Retry:
    """FATAL, SLOW or FAST.

    What ends a broker for good must not be had for nothing. Up to authentication nothing has proved who the peer is:
    before TLS anybody on the way can have written what came, and a TLS handshake that failed proves nothing. But what
    comes there at the first attempt (another service on the port, TLS where none is spoken or the reverse, a domain
    that is not hosted, a pin that does not fit) nearly always is a mistake in the options, which no waiting mends and
    which whoever starts the broker is there to read. So it is FATAL until this broker has been READY, and SLOW after:
    somebody on the way can prevent a connection, which he can anyway, but cannot end a broker that has worked.

    Args:
        error: what the peer did. phase: where. component: whether we are a component, whose `conflict` is usually its
            own half-open past. was_ready: whether this broker has been READY before with these options: what worked
            once may work again.
    """
    retry = _class_of(error, phase, component=component, was_ready=was_ready)
    return settled(retry, error.phase if error.phase is not None else phase, was_ready=was_ready)


def settled(retry: Retry, phase: Phase, *, was_ready: bool) -> Retry:
    """A class as it holds for this broker: what only a false peer may have caused is not FATAL once it was READY."""
    return Retry.SLOW if retry is Retry.FATAL and was_ready and phase in _UNPROVED else retry


def _class_of(error: ProtocolError, phase: Phase, *, component: bool, was_ready: bool) -> Retry:
    if isinstance(error, NotOffered):
        return Retry.SLOW if was_ready else Retry.FATAL
    if isinstance(error, OtherName):
        return Retry.FATAL if component else Retry.SLOW
    if error.retry is not None:
        return error.retry
    condition = error.condition
    if condition == "conflict" and phase is Phase.READY:
        # Somebody else took our resource ("Replaced"): to take it back would start a ping-pong.
        return Retry.SLOW if component else Retry.FATAL
    if condition in _WRONG_PLACE:  # in whatever phase: a server may look at its hosts after our credentials only
        return Retry.SLOW if was_ready else Retry.FATAL
    if condition in _SLOW:
        return Retry.SLOW
    if phase is Phase.AUTHENTICATE and condition in _FATAL_SASL:
        return Retry.FATAL
    if isinstance(error, SaslError) and not condition:
        # It broke the mechanism, or could not prove itself: each further attempt would show it another of our proofs.
        return Retry.FATAL
    if condition in _FATAL_STREAM:
        # In the phase TLS it answers a STARTTLS that was not offered: the server has no encryption, for now.
        return Retry.SLOW if phase is Phase.TLS else Retry.FATAL
    if phase is Phase.BIND and condition in _FATAL_BIND:
        return Retry.FATAL
    if phase is Phase.BIND and condition in _SLOW_BIND:
        return Retry.SLOW
    return Retry.FAST


#: How our sentences begin, and what takes the place of that where the address of the server is known.
_PLACES: Final = (
    ("the server ", "the server at {} "),
    ("the router ", "the router at {} "),
    ("the peer ", "the server at {} "),
    ("no answer ", "no answer from {} "),
    ("the connection ", "the connection to {} "),
)


def located(message: str, address: str) -> str:
    """A sentence that says where: `address` put in, or before it."""
    if not address or address in message:
        return message
    for opening, replacement in _PLACES:
        for begins, puts in ((opening, replacement), (opening.capitalize(), replacement.capitalize())):
            if message.startswith(begins):
                return puts.replace("{}", address) + message.removeprefix(begins)
    return f"{address}: {inside(message)}"


def words_of(error: BaseException) -> str:
    """What an error of the network says, without its number."""
    return str(getattr(error, "strerror", None) or error)


def failure_of(error: BaseException | None, phase: Phase, *, address: str, component: bool, was_ready: bool) -> Failure:
    """What the end of a connection means.

    Args:
        error: what ended it, or None where the server closed its stream. phase: where. address: of the connection; its
            sentence then says it.
        component, was_ready: as for `classify`.
    """
    if error is None:
        message = located("the server closed the stream", address)
        return Failure(phase, message, address=address, expected=OPEN_STREAM, came="</stream:stream>", retry=Retry.FAST)
    if not isinstance(error, ProtocolError):
        message = f"the connection broke: {words_of(error)}"
        message = located(message, address)
        return Failure(phase, message, address=address, expected=OPEN_STREAM, came=words_of(error), retry=Retry.FAST)
    return Failure(
        error.phase if error.phase is not None else phase,
        located(str(error), address),
        address=address,
        expected=error.expected,
        came=error.came,
        condition=error.condition,
        text=error.text,
        retry=classify(error, phase, component=component, was_ready=was_ready),
    )
