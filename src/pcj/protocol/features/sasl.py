"""SASL (RFC 6120 6): the mechanisms are in `pcj.sasl`, this is their way over the stream."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Generator
from typing import Any

from pcj.config import Config
from pcj.errors import ConfigError, Phase, SaslError
from pcj.events import Event
from pcj.namespaces import SASL as NS
from pcj.protocol.common import name_of, receive
from pcj.protocol.features.feature import Fact, Feature, Progress
from pcj.protocol.retry import NotOffered
from pcj.protocol.steps import Compute, Negotiation, Publish, Send, Step
from pcj.sasl import (
    MECHANISMS,
    Challenge,
    Credentials,
    Limits,
    Mechanism,
    choose,
    decode_data,
    decode_success,
    encode_data,
    refusal,
)
from pcj.sasl.saslprep import prepare_identity, prepare_password
from pcj.stanza import Node

__all__ = ["SASL", "check_credentials"]

_MECHANISMS = f"{{{NS}}}mechanisms"
#: Names in a server's list that are looked at; no server has near as many.
_MAX_OFFERED = 256

_SENTENCES = {
    "not-authorized": "the server rejected user {user!r} or the password (not-authorized)",
    "account-disabled": "the server says that the account {user!r} is disabled (account-disabled)",
    "credentials-expired": "the server says that the password of {user!r} has expired (credentials-expired)",
    "temporary-auth-failure": "the server cannot check passwords just now (temporary-auth-failure); "
    "this does not mean a wrong password",
    "encryption-required": "the server wants TLS before authentication (encryption-required)",
    "invalid-mechanism": "the server does not know the log-in method that it offered (invalid-mechanism)",
    "mechanism-too-weak": "the server takes our log-in method for too weak (mechanism-too-weak)",
    "invalid-authzid": "the server does not let user {user!r} act for this account (invalid-authzid)",
    "malformed-request": "the server did not understand our log-in (malformed-request)",
    "incorrect-encoding": "the server could not decode our log-in (incorrect-encoding)",
    "policy-violation": "the server refuses us for now (policy-violation)",
    "aborted": "the server broke off the log-in (aborted)",
}


def _element(name: str, text: str) -> Node:
    node = ET.Element(f"{{{NS}}}{name}")
    node.text = text or None
    return node


def _failure(node: Node, user: str) -> SaslError:
    condition = text = ""
    for child in node:
        name = child.tag.rpartition("}")[2]
        if name == "text":
            text = (child.text or "")[:1000]
        elif not condition:
            condition = name[:64]
    sentence = _SENTENCES.get(condition, f"the server refused the authentication ({condition or 'no condition given'})")
    said = f": {text!r}" if text else ""
    return SaslError(
        sentence.format(user=user) + said,
        condition=condition,
        text=text,
        expected="<success>",
        came=f"<failure> {condition}".rstrip(),
    )


def _negotiate(negotiation: Negotiation, progress: Progress, features: Node) -> Generator[Step, Any, None]:
    config = negotiation.config
    mechanisms = features.find(_MECHANISMS)
    offered = [] if mechanisms is None else [child.text or "" for child in mechanisms][:_MAX_OFFERED]
    secure, allow_plain, allowed = negotiation.tls is not None, config.allow_plain, config.sasl_mechanisms
    mechanism = choose(offered, secure=secure, allow_plain=allow_plain, allowed=allowed)
    if mechanism is None:
        raise NotOffered(
            refusal(offered, secure=secure, allow_plain=allow_plain, allowed=allowed),
            expected="a mechanism that is allowed",
            came=", ".join(offered)[:200] or "none",
            phase=Phase.AUTHENTICATE,
        )
    while True:
        yield Publish(Event.PCJ_AUTHNEGOTIATE, detail={"mechanism": mechanism.name})
        failure = yield from _exchange(negotiation, mechanism)
        if failure is None:
            break
        # RFC 6120 6.4.5: the server lets us try again. Only where it does not know the mechanism after all (6.5.7):
        # another proof of the same password cannot do better, and a false server would collect them. And what never
        # showed the password is not followed by what does.
        offered = [name for name in offered if name != mechanism.name]
        another = choose(offered, secure=secure, allow_plain=allow_plain, allowed=allowed)
        if failure.condition != "invalid-mechanism" or another is None or another.needs_tls > mechanism.needs_tls:
            raise failure
        detail = {"condition": failure.condition, "mechanism": mechanism.name, "next": another.name}
        yield Publish(Event.AUTHRETRY, detail=detail)
        mechanism = another
    yield Publish(Event.PCJ_AUTHSUCCESS, detail={"mechanism": mechanism.name})


def _exchange(negotiation: Negotiation, mechanism: Mechanism) -> Generator[Step, Any, SaslError | None]:
    """One exchange, to its success; what the server says where it refuses the mechanism before any of it.

    Raises:
        SaslError: it refuses later, or breaks the mechanism.
    """
    config = negotiation.config
    user = config.login
    credentials = Credentials(username=user, password=config.password, host=config.account.ascii_domain)
    limits = Limits(config.min_scram_iterations, config.max_scram_iterations)
    exchange = mechanism.exchange(credentials, negotiation.token(), limits)
    wanted = next(exchange)
    first, challenged = True, False
    while True:
        if isinstance(wanted, Compute):
            wanted = exchange.send((yield wanted))
            continue
        if first:
            node = _element("auth", encode_data(wanted.data, initial=True))
            node.set("mechanism", mechanism.name)
            first = False
        else:
            node = _element("response", encode_data(wanted.data))
        yield Send(node)
        answer = yield from receive("<challenge> or <success>")
        name = answer.tag.removeprefix(f"{{{NS}}}")
        if name == "challenge":
            challenged = True
            wanted = exchange.send(Challenge(decode_data(answer.text)))
        elif name == "success":
            try:
                exchange.send(decode_success(answer.text))
            except StopIteration:
                return None
            raise SaslError(
                "the server ended the authentication before it was complete", expected="<challenge>", came="<success>"
            )
        elif name == "failure":
            if challenged:
                raise _failure(answer, user)  # it knew the mechanism, and may have had a proof of ours
            return _failure(answer, user)
        else:
            raise SaslError(
                f"the server sent {name_of(answer)} in the middle of the authentication",
                answer="undefined-condition",
                expected="<challenge> or <success>",
                came=name_of(answer),
            )


def check_credentials(config: Config) -> None:
    """Refuse what no mechanism could send, or what none of ours is called (RFC 4013, RFC 4422 3.1).

    Raises:
        ConfigError: the password or the name cannot be prepared, or a mechanism is unknown.
    """
    prepare_password(config.password)
    prepare_identity(config.login)
    known = [mechanism.name for mechanism in MECHANISMS]
    unknown = [name for name in config.sasl_mechanisms or () if name not in known]
    if unknown:
        raise ConfigError(f"pcj does not know {', '.join(unknown)}; sasl_mechanisms may name {', '.join(known)}")


SASL = Feature(
    _MECHANISMS,
    Fact.AUTHENTICATED,
    _negotiate,
    needs=frozenset({Fact.CLEARED}),
    forbids=frozenset({Fact.AUTHENTICATED}),
    restarts=True,
)
