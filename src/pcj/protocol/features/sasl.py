"""SASL (RFC 6120 6): the mechanisms are in `pcj.sasl`, this is their way over the stream."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Generator
from typing import Any

from pcj.config import Config
from pcj.errors import ConfigError, Phase, SaslError
from pcj.events import Event
from pcj.jid import same_address
from pcj.namespaces import SASL as NS
from pcj.namespaces import SASL_BINDING
from pcj.protocol.common import name_of, receive, warn_of_listeners
from pcj.protocol.features.feature import Fact, Feature, Progress
from pcj.protocol.retry import NotOffered
from pcj.protocol.steps import AskPassword, Compute, Negotiation, Publish, Send, Step
from pcj.sasl import (
    MECHANISMS,
    Challenge,
    Choice,
    Credentials,
    Guard,
    Limits,
    Need,
    Terms,
    choose,
    decode_data,
    decode_success,
    encode_data,
    refusal,
)
from pcj.sasl.anonymous import ANONYMOUS
from pcj.sasl.saslprep import prepare_identity, prepare_password
from pcj.stanza import Node

__all__ = ["SASL", "check_credentials"]

_MECHANISMS = f"{{{NS}}}mechanisms"
_MECHANISM = f"{{{NS}}}mechanism"
_BINDING_TYPES = f"{{{SASL_BINDING}}}sasl-channel-binding"  # XEP-0440 2
_BINDING_TYPE = f"{{{SASL_BINDING}}}channel-binding"
#: How many of the server's names an error repeats.
_MAX_SHOWN = 16

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


_OF_CERTIFICATES = {
    "not-authorized": "the server does not take our client certificate for {user!r} (not-authorized)",
    "invalid-authzid": "the server does not let our client certificate act for this account (invalid-authzid)",
}


def _element(name: str, text: str) -> Node:
    node = ET.Element(f"{{{NS}}}{name}")
    node.text = text or None
    return node


def _failure(node: Node, user: str, choice: Choice) -> SaslError:
    condition = text = ""
    for child in node:
        name = child.tag.rpartition("}")[2]
        if name == "text":
            text = (child.text or "")[:1000]
        elif not condition:
            condition = name[:64]
    known = {**_SENTENCES, **_OF_CERTIFICATES} if choice.mechanism.need is Need.CERTIFICATE else _SENTENCES
    sentence = known.get(condition, f"the server refused the authentication ({condition or 'no condition given'})")
    said = f": {text!r}" if text else ""
    return SaslError(
        sentence.format(user=user) + said + _about_binding(condition, choice),
        condition=condition,
        text=text,
        expected="<success>",
        came=f"<failure> {condition}".rstrip(),
    )


def _about_binding(condition: str, choice: Choice) -> str:
    """What else a refusal can mean, since servers have no condition of its own for it (RFC 5802 7)."""
    flag = choice.channel.flag
    if flag == "n" or condition not in ("not-authorized", "malformed-request"):
        return ""
    if flag == "y":
        return (
            "; or it knows log-ins that are bound to TLS, and they were not in the list that came: somebody between "
            "has taken them out, or its settings are at odds, and channel_binding='off' does without"
        )
    guessed = ""
    if choice.channel.binding_types is None:
        guessed = ", or because it cannot do this kind of binding (it does not say): channel_binding='off' does without"
    return f"; or its TLS session is not ours ({_binding(choice)}), since somebody stands between{guessed}"


def _negotiate(negotiation: Negotiation, progress: Progress, features: Node) -> Generator[Step, Any, None]:
    mechanisms = features.find(_MECHANISMS)
    # All of them, as they came: their hash must be right (XEP-0474). Their number is bounded with the stanza's size.
    offered = [] if mechanisms is None else [child.text or "" for child in mechanisms.iterfind(_MECHANISM)]
    terms = _terms(negotiation, features)
    choice = choose(offered, terms)
    if choice is None:
        raise NotOffered(
            refusal(offered, terms),
            expected="a mechanism that is allowed",
            came=", ".join(offered[:_MAX_SHOWN])[:200] or "none",
            phase=Phase.AUTHENTICATE,
        )
    while True:
        mechanism = choice.mechanism
        yield Publish(Event.PCJ_AUTHNEGOTIATE, detail=_detail(choice))
        if choice.warning:
            yield Publish(Event.WARNING, detail={"what": choice.warning})
        if mechanism.guard in (Guard.SHOWN, Guard.GUESSABLE):
            yield from warn_of_listeners(negotiation, mechanism.name, shown=mechanism.guard is Guard.SHOWN)
        failure = yield from _exchange(negotiation, choice)
        if failure is None:
            break
        # RFC 6120 6.4.5: the server lets us try again. Only where it does not know the mechanism after all (6.5.7):
        # another proof of the same password cannot do better, and a false server would collect them. And no mechanism
        # is followed by one that protects less: else whoever stands between need only refuse the better one.
        terms = dataclasses.replace(terms, refused=terms.refused | {mechanism.name})
        another = choose(offered, terms)
        if failure.condition != "invalid-mechanism" or another is None or another.mechanism.guard < mechanism.guard:
            raise failure
        detail = {"condition": failure.condition, "mechanism": mechanism.name, "next": another.mechanism.name}
        yield Publish(Event.AUTHRETRY, detail=detail)
        choice = another
    negotiation.memory.accepted(mechanism.guard, _binding(choice), secured=negotiation.tls is not None)
    yield Publish(Event.PCJ_AUTHSUCCESS, detail=_detail(choice))


def _terms(negotiation: Negotiation, features: Node) -> Terms:
    config, tls = negotiation.config, negotiation.tls
    account = config.account
    types = features.find(_BINDING_TYPES)
    return Terms(
        secure=tls is not None,
        allow_plain=config.allow_plain,
        router=negotiation.component,
        allowed=config.sasl_mechanisms,
        # A bare domain (EXTERNAL, ANONYMOUS) is no name to log in with.
        password=config.password is not None and bool(config.username or account.local or negotiation.component),
        certificate=config.client_certificate is not None,
        bindings=tls.bindings if tls is not None else {},
        binding_types=None if types is None else tuple(each.get("type", "") for each in types.iterfind(_BINDING_TYPE)),
        channel_binding=config.channel_binding,
        floor=negotiation.memory.floor,
        floor_type=negotiation.memory.floor_type,
    )


def _detail(choice: Choice) -> dict[str, object]:
    """What AUTHNEGOTIATE and AUTHSUCCESS say."""
    detail: dict[str, object] = {"mechanism": choice.mechanism.name}
    if binding := _binding(choice):
        detail["binding"] = binding
    return detail


def _binding(choice: Choice) -> str:
    """The type of channel binding, or ""."""
    return choice.channel.flag.removeprefix("p=") if choice.mechanism.guard is Guard.BOUND else ""


def _authzid(negotiation: Negotiation) -> str:
    """Whom we ask to act as (XEP-0178 2): our certificate's one address goes without saying."""
    account, tls = negotiation.config.account, negotiation.tls
    if account.local is None:
        return ""
    in_certificate = tls.own_addresses if tls is not None else ()
    alone = len(in_certificate) == 1 and same_address(in_certificate[0], str(account.bare))
    return "" if alone else str(account.bare)


def _exchange(negotiation: Negotiation, choice: Choice) -> Generator[Step, Any, SaslError | None]:
    """One exchange, to its success; what the server says where it refuses the mechanism before any of it.

    Raises:
        SaslError: it refuses later, or breaks the mechanism.
    """
    config, mechanism, memory = negotiation.config, choice.mechanism, negotiation.memory
    user = config.login
    password = (yield AskPassword()) if mechanism.need is Need.PASSWORD else ""
    authzid = _authzid(negotiation) if mechanism.need is Need.CERTIFICATE else ""
    credentials = Credentials(user, password, authzid=authzid, host=config.account.ascii_domain)
    limits = Limits(config.min_scram_iterations, config.max_scram_iterations)
    exchange = mechanism.exchange(credentials, negotiation.token(), limits, choice.channel)
    wanted = next(exchange)
    first, challenged = True, False
    while True:
        if isinstance(wanted, Compute):
            result = memory.recall(wanted)
            if result is None:
                result = yield wanted
                memory.keep(wanted, result)
            wanted = exchange.send(result)
            continue
        if first:
            node = _element("auth", encode_data(wanted.data, initial=True))
            node.set("mechanism", mechanism.name)
        else:
            node = _element("response", encode_data(wanted.data))
        yield Send(node, first=first)
        first = False
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
                raise _failure(answer, user, choice)  # it knew the mechanism, and may have had a proof of ours
            return _failure(answer, user, choice)
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
        ConfigError: the password or the name cannot be prepared, a mechanism is unknown, or there is nothing to log in
            with.
    """
    known = [mechanism.name for mechanism in MECHANISMS]
    allowed = config.sasl_mechanisms
    unknown = [name for name in allowed or () if name not in known]
    if unknown:
        raise ConfigError(f"pcj does not know {', '.join(unknown)}; sasl_mechanisms may name {', '.join(known)}")
    usable = [
        mechanism
        for mechanism in MECHANISMS
        if (mechanism is not ANONYMOUS if allowed is None else mechanism.name in allowed)
        and (mechanism.need is not Need.PASSWORD or config.password is not None)
        and (mechanism.need is not Need.CERTIFICATE or config.client_certificate is not None)
    ]
    if not usable:
        raise ConfigError(
            "there is nothing to log in with: give a password, or a client_certificate (for EXTERNAL), or "
            "sasl_mechanisms=('ANONYMOUS',)"
        )
    bound = [mechanism.guard is Guard.BOUND for mechanism in usable]
    if config.channel_binding == "off" and all(bound):
        raise ConfigError("channel_binding='off' leaves nothing of sasl_mechanisms, which are all in -PLUS")
    if config.account.local is not None and all(mechanism is ANONYMOUS for mechanism in usable):
        raise ConfigError(
            "with ANONYMOUS the server says who we are: give the domain alone "
            f"({config.account.domain}), not {config.jid!r}"
        )
    if config.channel_binding == "require" and all(
        mechanism.need is Need.PASSWORD and mechanism.guard is not Guard.BOUND for mechanism in usable
    ):
        raise ConfigError("channel_binding='require' needs a mechanism in -PLUS among sasl_mechanisms")
    prepare_identity(config.login)
    if isinstance(config.password, str):
        prepare_password(config.password)


SASL = Feature(
    _MECHANISMS,
    Fact.AUTHENTICATED,
    _negotiate,
    needs=frozenset({Fact.CLEARED}),
    forbids=frozenset({Fact.AUTHENTICATED}),
    restarts=True,
)
