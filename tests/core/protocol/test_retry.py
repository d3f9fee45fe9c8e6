"""Whether trying again can help: the table of protocol-notes A7, one row per case."""

from __future__ import annotations

import pytest

from pcj.errors import Phase, ProtocolError, Retry, SaslError, StreamErrorReceived
from pcj.protocol.management import Management
from pcj.protocol.retry import OtherName, classify, failure_of

FATAL, SLOW, FAST = Retry.FATAL, Retry.SLOW, Retry.FAST


def stream(condition: str) -> ProtocolError:
    return StreamErrorReceived("", condition=condition)


def sasl(condition: str) -> ProtocolError:
    return SaslError("", condition=condition)


def stanza(condition: str) -> ProtocolError:
    return ProtocolError("", condition=condition)


def counted_too_high() -> ProtocolError:
    """As stream management raises it (XEP-0198 6; protocol-notes A26)."""
    with pytest.raises(ProtocolError) as raised:
        Management(jid="romeo@localhost/orchard").proof("5", 4)
    return raised.value


def given_up(answer: str) -> ProtocolError:
    """As `Liveness` raises it: it says the phase and the class itself."""
    return ProtocolError("the peer has been silent", answer=answer, phase=Phase.READY, retry=FAST)


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
        (stanza("resource-constraint"), Phase.BIND, SLOW),  # as many sessions as the account may have
        (stream("unsupported-stanza-type"), Phase.TLS, SLOW),  # the answer to a STARTTLS that was not offered
        # Fast: the rest.
        (sasl("temporary-auth-failure"), Phase.AUTHENTICATE, FAST),
        (sasl("made-up"), Phase.AUTHENTICATE, FAST),
        (stream("system-shutdown"), Phase.READY, FAST),  # K21
        (counted_too_high(), Phase.READY, FAST),  # we told the server so; a new session counts anew
        (stream("undefined-condition"), Phase.BIND, FAST),  # the server told us: ejabberd, to a resume (A25)
        (given_up("connection-timeout"), Phase.READY, FAST),  # our probe was not answered (K06)
        (ProtocolError("no answer within 30 s"), Phase.STREAM, FAST),  # it accepts TCP and says nothing (K24)
        (stream("reset"), Phase.READY, FAST),
        (stream("resource-constraint"), Phase.STREAM, FAST),
        (stream("connection-timeout"), Phase.READY, FAST),
        (stream("remote-connection-failed"), Phase.STREAM, FAST),
        (stream("internal-server-error"), Phase.READY, FAST),
        (stream("undefined-condition"), Phase.READY, FAST),
        (stream("made-up"), Phase.STREAM, FAST),
        (stream(""), Phase.STREAM, FAST),
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


def raised(phase: Phase) -> ProtocolError:
    return ProtocolError("", phase=phase, retry=FATAL)


@pytest.mark.parametrize("component", [False, True])
@pytest.mark.parametrize(
    ("error", "phase"),
    [
        (stream("host-unknown"), Phase.STREAM),
        (stream("host-unknown"), Phase.AUTHENTICATE),  # Prosody says so after a component's handshake
        (stream("invalid-namespace"), Phase.STREAM),
        (stream("invalid-namespace"), Phase.AUTHENTICATE),
        (stream("unsupported-version"), Phase.STREAM),
        (stream("unsupported-encoding"), Phase.STREAM),
        (raised(Phase.STREAM), Phase.STREAM),  # another service on the port
        (raised(Phase.TLS), Phase.TLS),  # a pin that does not fit
        (raised(Phase.TLS), Phase.STREAM),  # the phase of the error counts
    ],
)
def test_before_anybody_has_proved_himself_it_is_a_mistake_at_first_and_may_pass_where_it_worked_before(
    error: ProtocolError, phase: Phase, component: bool
) -> None:
    # Else somebody on the way could end a broker that works, for good, with one segment.
    assert classify(error, phase, component=component, was_ready=False) is FATAL
    assert classify(error, phase, component=component, was_ready=True) is SLOW


@pytest.mark.parametrize("phase", [Phase.AUTHENTICATE, Phase.BIND, Phase.SESSION, Phase.READY])
def test_what_a_proved_server_says_is_final_also_where_it_worked_before(phase: Phase) -> None:
    assert classify(raised(phase), phase, component=False, was_ready=True) is FATAL


@pytest.mark.parametrize(
    ("component", "was_ready", "expected"),
    [(False, False, SLOW), (False, True, SLOW), (True, False, FATAL), (True, True, SLOW)],
)
def test_a_certificate_of_another_name_is_a_components_own_mistake_at_first(
    component: bool, was_ready: bool, expected: Retry
) -> None:
    error = OtherName("", phase=Phase.TLS)
    assert classify(error, Phase.TLS, component=component, was_ready=was_ready) is expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("the server is shutting down", "the server at 192.0.2.7:5222 is shutting down"),
        ("The server offers PLAIN.", "The server at 192.0.2.7:5222 offers PLAIN."),
        ("no answer within 5 s", "no answer from 192.0.2.7:5222 within 5 s"),
        ("the connection broke: x", "the connection to 192.0.2.7:5222 broke: x"),
        ("The certificate is for a.", "192.0.2.7:5222: the certificate is for a."),
        ("The server's nonce is short.", "192.0.2.7:5222: the server's nonce is short."),
        ("TLS with a failed", "192.0.2.7:5222: TLS with a failed"),
        ("SCRAM-SHA-1 is old", "192.0.2.7:5222: SCRAM-SHA-1 is old"),
        ("We began TLS at 192.0.2.7:5222.", "We began TLS at 192.0.2.7:5222."),
    ],
)
def test_a_sentence_says_where_once(message: str, expected: str) -> None:
    error = ProtocolError(message)
    failure = failure_of(error, Phase.TLS, address="192.0.2.7:5222", component=False, was_ready=False)
    assert str(failure) == expected
    assert failure.address == "192.0.2.7:5222"
    assert str(failure_of(error, Phase.TLS, address="", component=False, was_ready=False)) == message


def test_the_servers_text_is_kept_whatever_kind_of_error_brought_it() -> None:
    for error in (
        SaslError("", text="bye"),
        ProtocolError("", text="bye"),
        StreamErrorReceived("", condition="x", text="bye"),
    ):
        assert failure_of(error, Phase.BIND, address="", component=False, was_ready=False).text == "bye"


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
