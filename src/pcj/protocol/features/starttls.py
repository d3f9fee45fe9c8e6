"""STARTTLS (RFC 6120 5)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Generator
from typing import Any

from pcj.errors import Phase, ProtocolError, Retry
from pcj.events import Event
from pcj.namespaces import TLS
from pcj.protocol.common import name_of, receive
from pcj.protocol.features.feature import Fact, Feature, Progress
from pcj.protocol.steps import Enter, Negotiation, Publish, Send, StartTls, Step, TlsFacts
from pcj.stanza import Node

__all__ = ["STARTTLS", "begin_tls", "starttls"]

_STARTTLS = f"{{{TLS}}}starttls"
_PROCEED = f"{{{TLS}}}proceed"


def begin_tls(negotiation: Negotiation) -> Generator[Step, Any, None]:
    """The TLS handshake itself; SSLSUCCESS only once the certificate was accepted."""
    facts: TlsFacts = yield StartTls()
    negotiation.tls = facts
    detail = {"version": facts.version, "cipher": facts.cipher, "name": facts.name, "verified": facts.verified}
    yield Publish(Event.PCJ_SSLSUCCESS, detail=detail)


def starttls(negotiation: Negotiation, features: Node) -> Generator[Step, Any, None]:
    """Ask for TLS and begin it.

    Where TLS is required it is asked for also if the server did not offer it, for the offer may have been stripped on
    the way (RFC 7590 3.1); SSLNEGOTIATE then waits for the server's <proceed/>.
    """
    offered = features.find(_STARTTLS) is not None
    if offered:
        yield Publish(Event.PCJ_SSLNEGOTIATE)
    else:
        yield Enter(Phase.TLS)
    yield Send(ET.Element(_STARTTLS))
    node = yield from receive("<proceed>")
    if node.tag != _PROCEED:
        if offered:
            message = f"the server refused to start TLS ({name_of(node)}); its certificate may not be loaded"
        else:
            message = "the server offers no encryption and TLS is required; if this is meant, say require_tls=False"
        raise ProtocolError(message, expected="<proceed>", came=name_of(node), retry=Retry.SLOW)
    if not offered:
        yield Publish(Event.PCJ_SSLNEGOTIATE)
    yield from begin_tls(negotiation)


def _wanted(negotiation: Negotiation, features: Node) -> bool:
    return negotiation.tls_required or features.find(_STARTTLS) is not None


def _negotiate(negotiation: Negotiation, progress: Progress, features: Node) -> Generator[Step, Any, None]:
    yield from starttls(negotiation, features)


# RFC 6120 5.3.4: TLS comes before SASL; who offers it behind that is not followed.
STARTTLS = Feature(
    _STARTTLS, Fact.SECURE, _negotiate, forbids=frozenset({Fact.AUTHENTICATED}), wanted=_wanted, restarts=True
)
