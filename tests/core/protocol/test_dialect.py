"""A connection type of one's own: written as a generator of steps, registered, and run by the negotiator."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from pcj.errors import ConfigError, Phase, ProtocolError, Retry
from pcj.events import Event
from pcj.protocol import Dialect, Negotiator, dialect_of, register_dialect
from pcj.protocol import dialect as registry
from pcj.protocol.actions import Failed
from pcj.protocol.common import open_stream, receive
from pcj.protocol.steps import AskPassword, Compute, Enter, Hold, Negotiation, Program, Publish, Send, Session
from tests.core.protocol.play import Tokens, client_header, config, perform, play, server_header

KNOCK = "urn:example:knock"


def negotiate(negotiation: Negotiation) -> Program:
    """A made-up protocol: knock, say who is there, prove that one can count, be let in."""
    header = yield from open_stream(negotiation, None)
    yield Publish(Event.PCJ_AUTHNEGOTIATE, detail={"mechanism": "knocking"})
    yield Send(ET.Element(f"{{{KNOCK}}}knock"))
    question = yield from receive("<who/>")
    while question.tag != f"{{{KNOCK}}}who":
        yield Hold(question)
        question = yield from receive("<who/>")
    product = yield Compute(int.__mul__, (int(question.get("a", "")), int(question.get("b", ""))))
    answer = ET.Element(f"{{{KNOCK}}}me", {"name": str(negotiation.config.account), "product": str(product)})
    answer.text = yield AskPassword()
    yield Send(answer, secret=True)
    yield Enter(Phase.SESSION)
    reply = yield from receive("<come-in/>")
    if reply.tag != f"{{{KNOCK}}}come-in":
        raise ProtocolError("nobody at home", condition="not-at-home", phase=Phase.BIND, retry=Retry.SLOW)
    yield Publish(Event.PCJ_AUTHSUCCESS)
    yield Publish("KNOCKED", detail={"times": 1})
    return Session(jid=str(negotiation.config.account), sid=header.id)


DIALECT = Dialect("KNOCKING", negotiate, KNOCK, tls_on_loopback=False, default_port=7000)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    register_dialect(DIALECT)


OPTIONS: dict[str, Any] = {"connection_type": "KNOCKING", "require_tls": False}
HEADER = f"S: {server_header(version=None, xmlns=KNOCK)}"
KNOCKED = "S AUTHNEGOTIATE NODESENT(knock) NODESENT(me)"


def test_a_dialect_from_outside_is_run_like_one_of_ours() -> None:
    lines = [
        f"C: {client_header(xmlns=KNOCK, version=None)}",
        HEADER,
        "C: <knock/>",
        "S: <who a='6' b='7'/>",
        'C: <me name="romeo@example.org" product="42">s3cr3t &amp; Pa55word</me>',
        "S: <come-in/>",
    ]
    done = perform(config(**OPTIONS), lines, f"{KNOCKED} AUTHSUCCESS KNOCKED")
    assert done.established.session.jid == "romeo@example.org"
    shown = next(fire.node for fire in done.fired if fire.node is not None and fire.node.tag == f"{{{KNOCK}}}me")
    assert set(shown.attrib.values()) | {shown.text} == {"[redacted]"}


def test_its_errors_fail_the_phase_that_they_name() -> None:
    made = config(**OPTIONS)
    done = perform(made, [HEADER, "S: <who a='6' b='7'/>", "S: <go-away/>"], f"{KNOCKED} BINDFAIL")
    assert (done.failed.phase, done.retry(made)) == (Phase.BIND, Retry.SLOW)


def test_its_phases_have_their_deadlines() -> None:
    done = perform(config(**OPTIONS), [HEADER, "S: <who a='6' b='7'/>", "SILENCE"], f"{KNOCKED} SESSIONFAIL")
    assert "we waited for <come-in/>" in str(done.failed.error)


def test_what_it_holds_is_kept() -> None:
    lines = [HEADER, "S: <x/>", "S: <who a='6' b='7'/><come-in/>"]
    assert [node.tag for node in play(config(**OPTIONS), lines).established.early] == [f"{{{KNOCK}}}x"]


def test_bytes_that_come_while_it_computes_wait() -> None:
    lines = [HEADER, "S: <who a='6' b='7'/><come-in/>"]
    assert play(config(**OPTIONS), lines).events == f"{KNOCKED} AUTHSUCCESS KNOCKED"


def test_a_phase_or_a_failure_outside_the_negotiations_own_does_not_break_the_driver() -> None:
    def odd(negotiation: Negotiation) -> Program:
        yield Enter(Phase.CLOSE)
        yield from open_stream(negotiation, None)
        raise ProtocolError("odd", phase=Phase.RESOLVE)

    dialect = dataclasses.replace(DIALECT, negotiate=odd)
    made = config(**OPTIONS)
    assert play(made, [HEADER], dialect=dialect).events == "S STREAM_ERROR"
    assert play(made, ["SILENCE"], dialect=dialect).events == "S STREAM_ERROR"


def faulty(where: str) -> Dialect:
    """A dialect with a fault at a step."""

    def negotiate(negotiation: Negotiation) -> Any:
        secret = negotiation.config.password
        if where == "first":
            raise KeyError(secret)
        yield from open_stream(negotiation, None)
        if where == "later":
            yield Publish(Event.PCJ_AUTHNEGOTIATE)
            raise KeyError(secret)
        if where == "step":
            yield "a step"
        elif where == "node":
            yield Send("a node")  # type: ignore[arg-type]  # what is tested
        return secret

    return dataclasses.replace(DIALECT, negotiate=negotiate)


@pytest.mark.parametrize(
    ("where", "fault", "events"),
    [
        ("first", "KeyError", "STREAM_ERROR"),
        ("later", "KeyError", "S AUTHNEGOTIATE AUTHFAIL"),
        ("step", "TypeError", "S STREAM_ERROR"),
        ("node", "NodeError", "S STREAM_ERROR"),
        ("end", "it returned no Session", "S STREAM_ERROR"),
    ],
)
def test_a_fault_in_a_dialect_ends_the_negotiation_for_good_and_never_shows_its_text(
    where: str, fault: str, events: str
) -> None:
    made = config(**OPTIONS)
    done = play(made, [HEADER] if where != "first" else [], dialect=faulty(where))
    assert done.events == events
    assert done.retry(made) is Retry.FATAL
    if where != "node":  # that is an error of ours, with a sentence of ours
        # Where, but not what: its text may quote a secret.
        assert re.fullmatch(rf"a fault in the dialect: {fault}( at \w+\.py:\d+)?", str(done.failed.error))
    assert str(made.password) not in str(done.failed.error)
    assert done.failed.error.__cause__ is None
    assert done.failed.error.__context__ is None


def driver(negotiate: Any) -> Negotiator:
    """The negotiator alone, for what a play would stumble over itself."""
    dialect = dataclasses.replace(DIALECT, negotiate=negotiate)
    return Negotiator(config(**OPTIONS), dialect, token=Tokens(), loopback=False)


def test_a_dialect_that_is_no_generator_is_a_fault_in_it() -> None:
    end = driver(lambda negotiation: None).start(1.0)[-1]
    assert isinstance(end, Failed)
    assert re.fullmatch(r"a fault in the dialect: TypeError at \w+\.py:\d+", str(end.error))


def test_an_interrupt_in_a_dialect_goes_on() -> None:
    def interrupted(negotiation: Negotiation) -> Program:
        yield Enter(Phase.STREAM)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driver(interrupted).start(1.0)


def test_a_dialect_that_raises_while_it_is_ended_does_not_hide_why_it_was() -> None:
    def stubborn(negotiation: Negotiation) -> Program:
        try:
            return (yield from negotiate(negotiation))
        finally:
            raise KeyError("in the end")

    negotiator = driver(stubborn)
    negotiator.start(1.0)
    end = negotiator.receive_eof(2.0)[-1]
    assert isinstance(end, Failed)
    assert "we waited for <stream:stream>" in str(end.error)


def test_the_same_dialect_may_be_registered_twice_and_another_of_its_name_may_not() -> None:
    register_dialect(DIALECT)
    register_dialect(dataclasses.replace(DIALECT))
    with pytest.raises(ConfigError, match="a dialect named 'KNOCKING' is registered already"):
        register_dialect(dataclasses.replace(DIALECT, default_port=1))
    assert dialect_of("KNOCKING") == DIALECT


@pytest.mark.parametrize(
    ("name", "options", "loopback", "required"),
    [
        ("XMPP", {}, True, True),
        ("XMPP", {}, False, True),
        ("XMPP", {"require_tls": False}, False, False),
        ("LEGACY", {}, True, False),
        ("LEGACY", {}, False, True),
        ("LEGACY", {"require_tls": True}, True, True),
        ("JABBERD14_COMPONENT", {}, True, False),
        ("JABBERD14_COMPONENT", {}, False, True),
        ("JABBERD20_COMPONENT", {}, True, True),
        ("JABBERD20_COMPONENT", {"require_tls": False}, True, False),
    ],
)
def test_tls_is_required_unless_told_otherwise_or_where_old_links_stay_on_the_machine(
    name: str, options: dict[str, Any], loopback: bool, required: bool
) -> None:
    assert dialect_of(name).tls_required(config(name, "example.org", **options), loopback=loopback) is required


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("XMPP", {}, "example.org"),
        ("XMPP", {"host": "127.0.0.1"}, "example.org"),
        ("LEGACY", {"host": "xmpp1.example.org"}, "example.org"),
        ("XMPP", {"tls_name": "other.example"}, "other.example"),
        ("JABBERD14_COMPONENT", {"host": "xmpp1.example.org"}, "xmpp1.example.org"),
        ("JABBERD20_COMPONENT", {}, "localhost"),
        ("JABBERD20_COMPONENT", {"host": "/run/router.sock"}, "localhost"),
        ("JABBERD20_COMPONENT", {"host": "a.example", "tls_name": "b.example"}, "b.example"),
    ],
)
def test_the_certificate_must_bear_the_name_that_the_user_set_out_to_reach(
    name: str, options: dict[str, Any], expected: str
) -> None:
    assert dialect_of(name).tls_name(config(name, "example.org", **options), "localhost") == expected
