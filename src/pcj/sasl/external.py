"""EXTERNAL (RFC 4422 A): TLS has seen our certificate, and the server takes the address from that."""

from __future__ import annotations

from pcj.errors import SaslError
from pcj.sasl.saslprep import check_authzid
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

__all__ = ["EXTERNAL", "exchange"]


def exchange(credentials: Credentials, nonce: str, limits: Limits, channel: Channel = NO_CHANNEL) -> Exchange:
    """One EXTERNAL authentication: the authorization identity, or nothing where the certificate says it.

    Args:
        credentials: only authzid is used.
        nonce, limits, channel: not used; they are there because every mechanism has them.

    Returns:
        The generator: see `pcj.sasl.steps`.

    Raises:
        ConfigError: (from the first step) the authorization identity cannot be sent.
        SaslError: the server sent a challenge.
    """
    reply = yield Respond(check_authzid(credentials.authzid).encode("utf-8"))
    if isinstance(reply, Challenge):
        raise SaslError("The server sent a challenge, and EXTERNAL has none.", expected="success", came="challenge")
    if not isinstance(reply, Success):
        raise misuse(reply)


EXTERNAL = Mechanism("EXTERNAL", exchange, Guard.CERTIFIED, Need.CERTIFICATE)
