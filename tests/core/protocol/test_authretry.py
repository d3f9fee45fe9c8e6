"""A mechanism that the server does not know after all is followed by the next (RFC 6120 6.4.5, event-order C4)."""

from __future__ import annotations

from typing import Any

import pytest

from pcj.config import Config
from pcj.events import Event
from tests.core.protocol.play import (
    BIND,
    authentication,
    bind_result,
    config,
    features,
    mechanisms,
    perform,
    play,
    sasl,
    server_header,
    server_lines,
)

REFUSED = f"S: {sasl('failure', '<invalid-mechanism/>')}"


def offering(*names: str) -> list[str]:
    """Direct TLS, up to the features."""
    return ["T: ok", f"S: {server_header()}{features(mechanisms(*names))}"]


def bound(token: str) -> list[str]:
    return [
        f"S: {server_header(id='sid-2')}{features(BIND)}",
        f"S: {bind_result(token, 'romeo@example.org/given')}",
    ]


def direct(**options: Any) -> Config:
    return config(direct_tls=True, **options)


TO_AUTH = "SSLNEGOTIATE SSLSUCCESS S AUTHNEGOTIATE NODESENT(auth)"
BOUND = "AUTHSUCCESS S BINDNEGOTIATE RTS_START(iq bind) NODESENT(iq bind) BINDSUCCESS"


def test_the_next_mechanism_is_tried_on_the_same_stream_with_a_nonce_of_its_own() -> None:
    lines = [
        *offering("SCRAM-SHA-256", "SCRAM-SHA-512"),
        REFUSED,
        *server_lines(authentication("SCRAM-SHA-256", nonce="token-2")),
        *bound("token-3"),
    ]
    done = perform(
        direct(),
        lines,
        f"{TO_AUTH} AUTHRETRY AUTHNEGOTIATE NODESENT(auth) NODESENT(response) {BOUND}",
    )
    (retry,) = (fire for fire in done.fired if fire.event == Event.AUTHRETRY)
    assert retry.detail == {"condition": "invalid-mechanism", "mechanism": "SCRAM-SHA-512", "next": "SCRAM-SHA-256"}
    named = [fire.detail["mechanism"] for fire in done.fired if fire.event == Event.PCJ_AUTHNEGOTIATE]
    assert named == ["SCRAM-SHA-512", "SCRAM-SHA-256"]
    assert done.established.session.jid == "romeo@example.org/given"


def test_when_all_are_refused_there_is_one_authfail_and_no_mechanism_was_tried_twice() -> None:
    names = ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "SCRAM-SHA-512")
    done = perform(
        direct(),
        [*offering(*names), REFUSED, REFUSED, REFUSED],
        f"{TO_AUTH} AUTHRETRY AUTHNEGOTIATE NODESENT(auth) AUTHRETRY AUTHNEGOTIATE NODESENT(auth) AUTHFAIL",
    )
    assert done.failed.error.condition == "invalid-mechanism"
    named = [fire.detail["mechanism"] for fire in done.fired if fire.event == Event.PCJ_AUTHNEGOTIATE]
    assert named == ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"]


@pytest.mark.parametrize(
    "condition", ["not-authorized", "malformed-request", "mechanism-too-weak", "temporary-auth-failure", "aborted"]
)
def test_any_other_refusal_is_final_for_a_second_proof_could_do_no_better(condition: str) -> None:
    lines = [*offering("SCRAM-SHA-1", "SCRAM-SHA-512"), f"S: {sasl('failure', f'<{condition}/>')}"]
    perform(direct(), lines, f"{TO_AUTH} AUTHFAIL")


def test_what_never_showed_the_password_is_not_followed_by_what_does() -> None:
    perform(direct(), [*offering("PLAIN", "SCRAM-SHA-512"), REFUSED], f"{TO_AUTH} AUTHFAIL")


def test_only_mechanisms_that_the_user_allows_are_tried() -> None:
    options = direct(sasl_mechanisms=("SCRAM-SHA-512",))
    perform(options, [*offering("SCRAM-SHA-1", "SCRAM-SHA-512"), REFUSED], f"{TO_AUTH} AUTHFAIL")


def test_a_refusal_in_the_middle_of_the_exchange_is_final_for_a_proof_may_be_out() -> None:
    first, *_ = server_lines(authentication("SCRAM-SHA-512"))
    lines = [*offering("SCRAM-SHA-1", "SCRAM-SHA-512"), first, REFUSED]
    perform(direct(), lines, f"{TO_AUTH} NODESENT(response) AUTHFAIL")


def test_silence_behind_a_retry_ends_at_the_deadline_of_authentication() -> None:
    done = play(direct(authenticate_timeout=7), [*offering("SCRAM-SHA-1", "SCRAM-SHA-512"), REFUSED, "SILENCE"])
    assert "no answer within 7 s" in str(done.failed.error)
