"""Choosing a mechanism, and saying why none was chosen."""

from __future__ import annotations

import pytest

from pcj.sasl import MECHANISMS, choose, refusal

ALL = [mechanism.name for mechanism in MECHANISMS]


def chosen(
    offered: list[str], *, secure: bool = True, allow_plain: bool = False, allowed: list[str] | None = None
) -> str | None:
    mechanism = choose(offered, secure=secure, allow_plain=allow_plain, allowed=allowed)
    return mechanism.name if mechanism else None


def test_the_mechanisms_are_in_order_of_strength() -> None:
    assert ALL == ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "PLAIN"]
    assert [mechanism.name for mechanism in MECHANISMS if mechanism.needs_tls] == ["PLAIN"]


def test_our_order_decides_and_not_the_servers() -> None:
    for first in range(len(ALL)):
        assert chosen(ALL[first:]) == ALL[first]
        assert chosen(ALL[first:][::-1]) == ALL[first]


def test_plain_needs_tls_or_leave() -> None:  # S18
    assert chosen(["PLAIN"], secure=True) == "PLAIN"
    assert chosen(["PLAIN"], secure=False) is None
    assert chosen(["PLAIN"], secure=False, allow_plain=True) == "PLAIN"
    assert chosen(["PLAIN", "DIGEST-MD5"], secure=False) == "DIGEST-MD5"


def test_only_allowed_mechanisms_are_chosen() -> None:  # S20
    assert chosen(["SCRAM-SHA-1"], allowed=["SCRAM-SHA-256"]) is None
    assert chosen(ALL, allowed=["PLAIN", "SCRAM-SHA-1"]) == "SCRAM-SHA-1"
    assert chosen(ALL, allowed=[]) is None
    assert chosen(["X-MADE-UP"], allowed=["X-MADE-UP"]) is None


@pytest.mark.parametrize(
    "offered",
    [
        [],
        [""],
        ["plain", "scram-sha-1"],
        [" PLAIN", "PLAIN\n", "PL\0AIN"],
        ["SCRAM-SHA-1-PLUS", "EXTERNAL", "ANONYMOUS"],
        ["\x1b[31mPLAIN"],
        ["A" * 1_000_000],
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_names_that_are_not_exactly_ours_are_not_chosen(offered: list[str]) -> None:  # S19
    assert chosen(offered) is None
    sentence = refusal(offered, secure=True)
    assert sentence.isprintable()
    assert len(sentence) < 1000


def test_ten_thousand_names_and_duplicates_are_no_trouble() -> None:  # S19
    many = [f"X-{number}" for number in range(10_000)]
    assert chosen([*many, "PLAIN", "PLAIN"]) == "PLAIN"
    sentence = refusal(many, secure=True)
    assert "X-7 and 9992 more" in sentence
    assert "X-8" not in sentence


def test_the_refusal_says_what_was_offered_what_is_allowed_and_what_would_help() -> None:
    assert refusal(["PLAIN", "X-OAUTH2"], secure=False) == (
        "The server offers PLAIN and X-OAUTH2; we allow SCRAM-SHA-512, SCRAM-SHA-256, SCRAM-SHA-1 and DIGEST-MD5. "
        "PLAIN without TLS needs allow_plain."
    )
    assert refusal(["SCRAM-SHA-1"], secure=True, allowed=["SCRAM-SHA-256"]) == (
        "The server offers SCRAM-SHA-1; we allow SCRAM-SHA-256. SCRAM-SHA-1 is not among the mechanisms you allow."
    )
    assert refusal([], secure=True, allowed=["PLAIN"]) == "The server offers no SASL mechanism; we allow PLAIN."
    assert "none that pcj knows" in refusal(["PLAIN"], secure=True, allowed=["X-MADE-UP"])
    assert '"\\x1b[31mX"' in refusal(["\x1b[31mX"], secure=True)
