"""XMPP: a client link of RFC 6120."""

from __future__ import annotations

from pcj.config import XMPP as NAME
from pcj.namespaces import CLIENT
from pcj.protocol.dialect import Dialect, register_dialect
from pcj.protocol.features import negotiate_features
from pcj.protocol.features.bind import BIND
from pcj.protocol.features.management import ENABLE, RESUME
from pcj.protocol.features.sasl import SASL, check_credentials
from pcj.protocol.features.session import SESSION
from pcj.protocol.features.starttls import STARTTLS
from pcj.protocol.steps import Negotiation, Program, Session

__all__ = ["XMPP_DIALECT"]

#: The order in which features are negotiated, whatever order the server offers them in.
FEATURES = (STARTTLS, SASL, RESUME, BIND, SESSION, ENABLE)


def negotiate(negotiation: Negotiation) -> Program:
    """RFC 6120 4.3, 5, 6, 7, and XEP-0198."""
    progress = yield from negotiate_features(negotiation, FEATURES)
    management, resumed = progress.management, progress.resumed
    # A session that goes on is known by the stream that it began with.
    sid = management.sid if management is not None and resumed is not None else progress.header.id
    return Session(jid=progress.jid, sid=sid, limits=progress.limits, management=management, resumed=resumed)


XMPP_DIALECT = Dialect(NAME, negotiate, CLIENT, check=check_credentials)
register_dialect(XMPP_DIALECT)
