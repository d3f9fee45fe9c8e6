"""ANONYMOUS (RFC 4505): an account of the server's making, for as long as the link lasts."""

from __future__ import annotations

from pcj.errors import SaslError
from pcj.sasl.steps import (
    NO_CHANNEL,
    Challenge,
    Channel,
    Credentials,
    Exchange,
    Guard,
    Limits,
    Mechanism,
    Need,
    Respond,
    Success,
    misuse,
)

__all__ = ["ANONYMOUS", "exchange"]


def exchange(credentials: Credentials, nonce: str, limits: Limits, channel: Channel = NO_CHANNEL) -> Exchange:
    """One ANONYMOUS authentication, without trace information (XEP-0175 2): it would only tell who we are.

    Args:
        credentials, nonce, limits, channel: not used; they are there because every mechanism has them.

    Returns:
        The generator: see `pcj.sasl.steps`.

    Raises:
        SaslError: the server sent a second challenge.
    """
    reply = yield Respond(None)
    if isinstance(reply, Challenge):  # RFC 4422 3: a server asks so for an initial response that did not come
        reply = yield Respond(b"")
    if isinstance(reply, Challenge):
        raise SaslError("The server sent one challenge more than ANONYMOUS has.", expected="success", came="challenge")
    if not isinstance(reply, Success):
        raise misuse(reply)


ANONYMOUS = Mechanism("ANONYMOUS", exchange, Guard.NONE, Need.NOTHING)
