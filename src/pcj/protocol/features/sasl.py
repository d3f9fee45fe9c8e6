"""SASL (RFC 6120 6): the mechanisms are in `pcj.sasl`, this is their way over the stream."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Generator
from typing import Any

from pcj.config import Config
from pcj.errors import ConfigError, Phase, ProtocolError, Retry, SaslError
from pcj.events import Event
from pcj.namespaces import SASL as NS
from pcj.protocol.common import name_of, receive
from pcj.protocol.features.feature import Fact, Feature, Progress
from pcj.protocol.steps import Compute, Negotiation, Publish, Send, Step
from pcj.sasl import (
    MECHANISMS,
    Challenge,
    Credentials,
    Limits,
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
    "account-disabled": "the account {user!r} is disabled (account-disabled)",
    "credentials-expired": "the password of {user!r} has expired (credentials-expired)",
    "temporary-auth-failure": "the server cannot check passwords just now (temporary-auth-failure); "
    "this does not mean a wrong password",
    "encryption-required": "the server wants TLS before authentication (encryption-required)",
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
    return SaslError(sentence.format(user=user) + said, condition=condition, expected="<success>", came="<failure>")


def _negotiate(negotiation: Negotiation, progress: Progress, features: Node) -> Generator[Step, Any, None]:
    config = negotiation.config
    mechanisms = features.find(_MECHANISMS)
    offered = [] if mechanisms is None else [child.text or "" for child in mechanisms][:_MAX_OFFERED]
    secure, allow_plain, allowed = negotiation.tls is not None, config.allow_plain, config.sasl_mechanisms
    mechanism = choose(offered, secure=secure, allow_plain=allow_plain, allowed=allowed)
    if mechanism is None:
        raise ProtocolError(
            refusal(offered, secure=secure, allow_plain=allow_plain, allowed=allowed),
            expected="a mechanism that is allowed",
            came=", ".join(offered)[:200] or "none",
            phase=Phase.AUTHENTICATE,
            retry=Retry.FATAL,
        )
    yield Publish(Event.PCJ_AUTHNEGOTIATE, detail={"mechanism": mechanism.name})
    user = config.login
    credentials = Credentials(username=user, password=config.password, host=config.account.ascii_domain)
    limits = Limits(config.min_scram_iterations, config.max_scram_iterations)
    exchange = mechanism.exchange(credentials, negotiation.token(), limits)
    wanted = next(exchange)
    first = True
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
            wanted = exchange.send(Challenge(decode_data(answer.text)))
        elif name == "success":
            try:
                exchange.send(decode_success(answer.text))
            except StopIteration:
                break
            raise SaslError("the server ended the authentication before it was complete", expected="<challenge>")
        elif name == "failure":
            raise _failure(answer, user)
        else:
            raise SaslError(
                f"the server sent {name_of(answer)} in the middle of the authentication",
                answer="undefined-condition",
                expected="<challenge> or <success>",
                came=name_of(answer),
            )
    yield Publish(Event.PCJ_AUTHSUCCESS, detail={"mechanism": mechanism.name})


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
