"""A peer that sends a byte a second is never silent; the deadline of each phase is met all the same (X20)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pcj import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP, Config, Phase, Retry
from pcj.protocol import Negotiator, dialect_of
from pcj.protocol.actions import Action, BeginTls, Compute, Failed, Fire
from pcj.protocol.negotiator import _FAILURES
from pcj.protocol.steps import OpenStream
from tests.core.protocol.play import (
    BIND,
    PROCEED,
    SESSION,
    STARTTLS,
    Facts,
    Tokens,
    authentication,
    bind_result,
    config,
    features,
    mechanisms,
    server_header,
)

ROUTER = "http://jabberd.jabberstudio.org/ns/component/1.0"
ACCEPT = "jabber:component:accept"
#: Each phase has its own, so that none can be taken for another's.
TIMEOUTS: dict[str, float] = {
    "stream_timeout": 20.0,
    "tls_timeout": 25.0,
    "authenticate_timeout": 30.0,
    "bind_timeout": 35.0,
    "session_timeout": 40.0,
}

HEADER = f"S: {server_header()}"
OFFER = f"S: {features(mechanisms('SCRAM-SHA-256'))}"
LOGGED_IN = [line for line in authentication() if line.startswith("S: ")]
BOUND = f"S: {bind_result('token-2', 'romeo@example.org/orchard')}"
DOMAIN = "echo.example.org"
ROUTER_HEADER = f"S: {server_header(xmlns=ROUTER, from_=None)}"
ROUTER_LOGIN = [line for line in authentication("SCRAM-SHA-256", "romeo", host=DOMAIN) if line.startswith("S: ")]

#: (what was said before, in full; the phase that it ends in)
XMPP_ROWS: list[tuple[Sequence[str], Phase]] = [
    ([], Phase.STREAM),
    ([HEADER], Phase.STREAM),
    ([HEADER, f"S: {features(STARTTLS)}"], Phase.TLS),
    ([HEADER, f"S: {features(STARTTLS)}", PROCEED], Phase.TLS),
    ([HEADER, f"S: {features(STARTTLS)}", PROCEED, "T: ok"], Phase.STREAM),
    ([HEADER, OFFER], Phase.AUTHENTICATE),
    ([HEADER, OFFER, *LOGGED_IN[:1]], Phase.AUTHENTICATE),
    ([HEADER, OFFER, *LOGGED_IN], Phase.STREAM),
    ([HEADER, OFFER, *LOGGED_IN, HEADER], Phase.STREAM),
    ([HEADER, OFFER, *LOGGED_IN, HEADER, f"S: {features(BIND)}"], Phase.BIND),
    ([HEADER, OFFER, *LOGGED_IN, HEADER, f"S: {features(BIND, SESSION)}", BOUND], Phase.SESSION),
]
ROWS: list[tuple[str, Sequence[str], Phase]] = [
    *((XMPP, said, phase) for said, phase in XMPP_ROWS),
    (LEGACY, [], Phase.STREAM),
    (LEGACY, [HEADER], Phase.AUTHENTICATE),
    (JABBERD14_COMPONENT, [], Phase.STREAM),
    (JABBERD14_COMPONENT, [f"S: {server_header(xmlns=ACCEPT, version=None)}"], Phase.AUTHENTICATE),
    (JABBERD20_COMPONENT, [], Phase.STREAM),
    (JABBERD20_COMPONENT, [ROUTER_HEADER], Phase.STREAM),
    (JABBERD20_COMPONENT, [ROUTER_HEADER, OFFER], Phase.AUTHENTICATE),
    (JABBERD20_COMPONENT, [ROUTER_HEADER, OFFER, *ROUTER_LOGIN], Phase.STREAM),
    (JABBERD20_COMPONENT, [ROUTER_HEADER, OFFER, *ROUTER_LOGIN, ROUTER_HEADER, f"S: {features()}"], Phase.BIND),
]

#: What a byte of is sent each second, over and over; never an element that is complete and awaited.
DROPS = {
    "white space": b" ",
    "one name without an end": b"<a",
    "text in an element": b"<a>x",
    "an attribute without an end": b"<a b='",
}


def settings(kind: str, starttls: bool) -> Config:
    jid = "romeo@example.org/orchard" if kind in (XMPP, LEGACY) else DOMAIN
    username = "romeo" if kind == JABBERD20_COMPONENT else None
    return config(kind, jid, require_tls=starttls, username=username, **TIMEOUTS)


def until(negotiator: Negotiator, actions: list[Action], now: float) -> list[Action]:
    """All actions, those of slow computations too."""
    done = list(actions)
    for action in actions:
        if isinstance(action, Compute):
            done += until(negotiator, negotiator.computed(action.run(), now), now)
    return done


@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS.keys())
@pytest.mark.parametrize(("kind", "said", "phase"), ROWS, ids=range(len(ROWS)))
def test_a_byte_a_second_does_not_move_the_deadline(kind: str, said: Sequence[str], phase: Phase, drop: bytes) -> None:
    starttls = any("starttls" in line for line in said)
    dialect = dialect_of(kind)
    negotiator = Negotiator(settings(kind, starttls), dialect, token=Tokens(), loopback=True)
    now = 100.0
    done = until(negotiator, negotiator.start(now), now)
    for line in said:
        now += 1.0
        if line == "T: ok":
            done += until(negotiator, negotiator.tls_started(Facts(), now), now)
        else:
            done += until(negotiator, negotiator.receive_data(line[3:].encode(), now), now)
    assert not any(isinstance(action, Failed) for action in done), done[-1]
    assert negotiator.phase is phase
    # While TLS is being made the bytes are the engine's; here they would be those smuggled in before it.
    drips = not isinstance(done[-1], BeginTls)
    entered, seconds = now, TIMEOUTS["tls_timeout" if phase is Phase.TLS else f"{phase}_timeout"]
    if isinstance(negotiator._wanted, OpenStream) and drop.startswith(b"<a>"):
        drop = b"<?xml "  # before the header there is nothing that text could be in
    first, each = drop[:-1], drop[-1:]
    while True:
        now += 1.0
        actions = negotiator.receive_data(first + each, now) if drips else []
        assert not actions
        first = b""
        assert negotiator.next_deadline() is not None
        actions = negotiator.handle_timer(now)
        if actions:
            break
        assert now < entered + seconds + 1, "it waits for ever"
    assert now - entered <= seconds
    *_, failure = actions
    assert isinstance(failure, Failed)
    assert (failure.phase, failure.error.answer, failure.error.retry) == (phase, "connection-timeout", Retry.FAST)
    assert f"within {seconds:g} s in the phase '{phase}'" in str(failure.error)
    assert any(isinstance(action, Fire) and action.event == _FAILURES[phase] for action in actions)
