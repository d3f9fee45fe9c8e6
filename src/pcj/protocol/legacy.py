"""LEGACY: a client link that authenticates with jabber:iq:auth (XEP-0078)."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from pcj.config import LEGACY as NAME
from pcj.errors import ProtocolError, Retry
from pcj.events import Event
from pcj.namespaces import CLIENT, IQ_AUTH
from pcj.protocol.common import (
    check_password,
    is_reply,
    receive,
    refusal,
    require_id,
    salted_digest,
    unexpected,
    warn_of_listeners,
)
from pcj.protocol.dialect import Dialect, register_dialect
from pcj.protocol.opening import open_secured
from pcj.protocol.steps import AskPassword, Negotiation, Program, Publish, Send, Session
from pcj.stanza import IQ, error_condition, iq

__all__ = ["LEGACY_DIALECT"]

_QUERY = f"{{{IQ_AUTH}}}query"


def negotiate(negotiation: Negotiation) -> Program:
    """XEP-0078 3, without the round trip that asks for the fields: what the server accepts is configured.

    SASL is not looked for either, though XEP-0078 2 prefers it: whoever wants it says XMPP.
    """
    config = negotiation.config
    account = config.account
    header = yield from open_secured(negotiation)
    mechanism = "plaintext" if config.plaintext else "digest"
    yield Publish(Event.PCJ_AUTHNEGOTIATE, detail={"mechanism": mechanism})
    yield from warn_of_listeners(negotiation, mechanism, shown=config.plaintext)
    resource = config.wanted_resource or f"pcj-{negotiation.token()[:10]}"
    query = ET.Element(_QUERY)
    fields = {"username": config.login}
    if config.plaintext:
        fields["password"] = yield AskPassword()
    else:
        yield from require_id(negotiation, header, "digest")
        fields["digest"] = salted_digest(header.id, (yield AskPassword()))
    fields["resource"] = resource
    for name, text in fields.items():
        ET.SubElement(query, f"{{{IQ_AUTH}}}{name}").text = text
    identity = negotiation.token()
    yield Send(iq(type="set", id=identity, payload=query))
    expected = "the reply to the authentication"
    while True:
        reply = yield from receive(expected)
        if is_reply(reply, identity, account):
            break
        if reply.tag != IQ or reply.get("type") not in ("result", "error"):
            raise unexpected(reply, expected)
        # A reply to something else, or from somebody else: not ours, and no reason to fail.
    if reply.get("type") == "error":
        error = refusal(reply, f"user {config.login!r} or the password")
        error.retry = _retry(*error_condition(reply)[:2])
        raise error
    listed = reply.find(_QUERY)
    if listed is not None:
        # Prosody answers a digest it cannot check with the fields it would accept, as a result: this is no success.
        fields_wanted = sorted(child.tag.rpartition("}")[2] for child in listed)
        raise ProtocolError(
            f"the server did not authenticate us but listed the fields it accepts ({', '.join(fields_wanted)[:100]})"
            + ("" if config.plaintext else "; it may want plaintext=True"),
            expected="an empty result",
            came="a list of fields",
            retry=Retry.FATAL,
        )
    yield Publish(Event.PCJ_AUTHSUCCESS)
    return Session(jid=str(account.with_resource(resource)), sid=header.id)


def _retry(kind: str, condition: str) -> Retry:
    """XEP-0078 3.3: 401 and 406 are for good, 409 often is our own half-open past; others may be passing troubles."""
    if condition == "conflict":
        return Retry.SLOW
    passing = kind == "wait" or condition in ("internal-server-error", "resource-constraint", "remote-server-timeout")
    return Retry.FAST if passing else Retry.FATAL


LEGACY_DIALECT = Dialect(NAME, negotiate, CLIENT, tls_on_loopback=False, check=check_password)
register_dialect(LEGACY_DIALECT)
