"""XMPP: a client link of RFC 6120."""

from __future__ import annotations

from pcj.config import XMPP as NAME
from pcj.namespaces import CLIENT
from pcj.protocol.dialect import Dialect, register_dialect
from pcj.protocol.features import negotiate_features
from pcj.protocol.features.bind import BIND
from pcj.protocol.features.sasl import SASL, check_credentials
from pcj.protocol.features.session import SESSION
from pcj.protocol.features.starttls import STARTTLS
from pcj.protocol.steps import Negotiation, Program, Session

__all__ = ["XMPP_DIALECT"]

#: The order in which features are negotiated, whatever order the server offers them in.
FEATURES = (STARTTLS, SASL, BIND, SESSION)


def negotiate(negotiation: Negotiation) -> Program:
    """RFC 6120 4.3, 5, 6, 7."""
    progress = yield from negotiate_features(negotiation, FEATURES)
    return Session(jid=progress.jid, sid=progress.header.id, limits=progress.limits)


XMPP_DIALECT = Dialect(NAME, negotiate, CLIENT, check=check_credentials)
register_dialect(XMPP_DIALECT)
