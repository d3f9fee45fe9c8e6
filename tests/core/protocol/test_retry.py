"""Whether trying again can help: the table of protocol-notes A7, one row per case."""

from __future__ import annotations

import pytest

from pcj.errors import Phase, ProtocolError, Retry, SaslError, StreamErrorReceived
from pcj.protocol.retry import classify

FATAL, SLOW, FAST = Retry.FATAL, Retry.SLOW, Retry.FAST


def stream(condition: str) -> ProtocolError:
    return StreamErrorReceived("", condition=condition)


def sasl(condition: str) -> ProtocolError:
    return SaslError("", condition=condition)


def stanza(condition: str) -> ProtocolError:
    return ProtocolError("", condition=condition)


@pytest.mark.parametrize("was_ready", [False, True])
@pytest.mark.parametrize("component", [False, True])
@pytest.mark.parametrize(
    ("error", "phase", "expected"),
    [
        # Fatal: a person must change something first.
        (sasl("not-authorized"), Phase.AUTHENTICATE, FATAL),
        (sasl("account-disabled"), Phase.AUTHENTICATE, FATAL),
        (sasl("credentials-expired"), Phase.AUTHENTICATE, FATAL),
        (sasl("invalid-authzid"), Phase.AUTHENTICATE, FATAL),
        (sasl("invalid-mechanism"), Phase.AUTHENTICATE, FATAL),
        (sasl("mechanism-too-weak"), Phase.AUTHENTICATE, FATAL),
        (sasl("malformed-request"), Phase.AUTHENTICATE, FATAL),
        (sasl("incorrect-encoding"), Phase.AUTHENTICATE, FATAL),
        (sasl("encryption-required"), Phase.AUTHENTICATE, FATAL),
        (sasl(""), Phase.AUTHENTICATE, FATAL),  # it broke the mechanism, or has no proof
        (stream("not-authorized"), Phase.AUTHENTICATE, FATAL),  # a wrong handshake
        (stream("invalid-namespace"), Phase.STREAM, FATAL),
        (stream("unsupported-version"), Phase.STREAM, FATAL),
        (stream("unsupported-encoding"), Phase.STREAM, FATAL),
        (stream("unsupported-stanza-type"), Phase.READY, FATAL),
        (stream("improper-addressing"), Phase.READY, FATAL),
        (stanza("forbidden"), Phase.BIND, FATAL),
        (stanza("bad-request"), Phase.BIND, FATAL),
        (stanza("not-acceptable"), Phase.BIND, FATAL),
        (stanza("403"), Phase.BIND, FATAL),
        # Slow: it usually passes, but hardly at once.
        (stream("conflict"), Phase.AUTHENTICATE, SLOW),  # a component's own half-open past
        (stream("conflict"), Phase.STREAM, SLOW),
        (stanza("conflict"), Phase.BIND, SLOW),
        (stanza("409"), Phase.BIND, SLOW),
        (stanza("not-allowed"), Phase.BIND, SLOW),
        (stream("policy-violation"), Phase.STREAM, SLOW),
        (stream("policy-violation"), Phase.READY, SLOW),
        (stream("host-gone"), Phase.READY, SLOW),
        # Fast: the rest.
        (sasl("temporary-auth-failure"), Phase.AUTHENTICATE, FAST),
        (sasl("made-up"), Phase.AUTHENTICATE, FAST),
        (stream("system-shutdown"), Phase.READY, FAST),
        (stream("reset"), Phase.READY, FAST),
        (stream("resource-constraint"), Phase.STREAM, FAST),
        (stream("connection-timeout"), Phase.READY, FAST),
        (stream("remote-connection-failed"), Phase.STREAM, FAST),
        (stream("internal-server-error"), Phase.READY, FAST),
        (stream("undefined-condition"), Phase.READY, FAST),
        (stream("made-up"), Phase.STREAM, FAST),
        (stream(""), Phase.STREAM, FAST),
        (stanza("resource-constraint"), Phase.BIND, FAST),
        (stanza("not-authorized"), Phase.SESSION, FAST),
        (ProtocolError("silence"), Phase.AUTHENTICATE, FAST),
        (ProtocolError("the end"), Phase.TLS, FAST),
    ],
    ids=lambda value: f"{type(value).__name__}:{value.condition}" if isinstance(value, ProtocolError) else str(value),
)
def test_each_failure_has_its_class(
    error: ProtocolError, phase: Phase, expected: Retry, component: bool, was_ready: bool
) -> None:
    assert classify(error, phase, component=component, was_ready=was_ready) is expected


@pytest.mark.parametrize(
    ("component", "was_ready", "expected"),
    [(False, False, FATAL), (True, False, FATAL), (False, True, SLOW), (True, True, SLOW)],
)
def test_an_unknown_host_is_a_mistake_at_first_and_a_server_still_loading_where_it_worked_before(
    component: bool, was_ready: bool, expected: Retry
) -> None:
    assert classify(stream("host-unknown"), Phase.STREAM, component=component, was_ready=was_ready) is expected


@pytest.mark.parametrize(("component", "expected"), [(False, FATAL), (True, SLOW)])
def test_a_client_that_was_replaced_stays_away_and_a_component_comes_back_slowly(
    component: bool, expected: Retry
) -> None:
    assert classify(stream("conflict"), Phase.READY, component=component, was_ready=True) is expected


@pytest.mark.parametrize("retry", Retry)
def test_whoever_raised_the_error_may_know_better(retry: Retry) -> None:
    error = SaslError("", condition="not-authorized")
    error.retry = retry
    assert classify(error, Phase.AUTHENTICATE, component=False, was_ready=False) is retry
