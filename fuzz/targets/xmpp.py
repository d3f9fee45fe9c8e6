"""The negotiation of XMPP, the client link of RFC 6120, with any server.

Invariant. The negotiator never raises. It ends in `Established` or in `Failed`, once, with the events in the order of
`pcj.protocol.order`; until then it has a deadline. However the bytes are cut (but for what comes ahead of its time, and
is refused where that is seen), the same comes of them. The password is in nothing that is sent, but where PLAIN inside
TLS or an option shows it; no credential goes out where TLS is required and does not stand; nothing that is fired, and
no error, shows the password or a credential, not even when the server repeats it. AUTHSUCCESS is fired for nobody who
has not proved to know the password, where the mechanism has a proof.

Input: see `fuzz.negotiation`.
"""

from __future__ import annotations

from fuzz.negotiation import ALLOWED, WORDS, negotiate

__all__ = ["ALLOWED", "DICTIONARY", "one_input"]

DICTIONARY = WORDS


def one_input(data: bytes) -> None:
    negotiate("XMPP", data)
