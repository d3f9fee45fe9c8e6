"""PLAIN (RFC 4616): the password itself. For use inside TLS, with a server whose name was verified."""

from __future__ import annotations

from pcj.errors import SaslError
from pcj.sasl.saslprep import check_authzid, prepare_identity, prepare_password
from pcj.sasl.steps import (
    NO_CHANNEL,
    Challenge,
    Channel,
    Credentials,
    Exchange,
    Guard,
    Limits,
    Mechanism,
    Respond,
    Success,
    misuse,
)

__all__ = ["PLAIN", "exchange"]


def exchange(credentials: Credentials, nonce: str, limits: Limits, channel: Channel = NO_CHANNEL) -> Exchange:
    """One PLAIN authentication: `[authzid] NUL authcid NUL passwd` (RFC 4616 2), in one message.

    Args:
        credentials: username, password and authzid are used.
        nonce, limits, channel: not used; they are there because every mechanism has them.

    Returns:
        The generator: see `pcj.sasl.steps`.

    Raises:
        ConfigError: (from the first step) the credentials cannot be sent: a NUL or another control character, a line
            break among them, or nothing at all.
        SaslError: the server sent a challenge.
    """
    # SASLprep prohibits NUL, of which RFC 4616 allows none but the two that separate.
    username = prepare_identity(credentials.username).encode("utf-8")
    password = prepare_password(credentials.password)
    authzid = check_authzid(credentials.authzid).encode("utf-8")
    reply = yield Respond(b"\0".join((authzid, username, password)))
    if isinstance(reply, Challenge):
        raise SaslError("The server sent a challenge, and PLAIN has none.", expected="success", came="challenge")
    if not isinstance(reply, Success):
        raise misuse(reply)


PLAIN = Mechanism("PLAIN", exchange, Guard.SHOWN)
