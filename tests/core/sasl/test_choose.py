"""Choosing a mechanism and how to bind it, and saying why none was chosen."""

from __future__ import annotations

from typing import Any

import pytest

from pcj.sasl import MECHANISMS, Choice, Guard, Need, Terms, choose, refusal

ALL = [mechanism.name for mechanism in MECHANISMS]
SCRAM = ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"]
PLUS = [f"{name}-PLUS" for name in SCRAM]
END_POINT = {"tls-server-end-point": b"hash of the certificate"}
EXPORTER = {"tls-exporter": b"exported", **END_POINT}
UNIQUE = {"tls-unique": b"finished", **END_POINT}


def choice_of(offered: list[str], **terms: Any) -> Choice | None:
    return choose(offered, Terms(**{"secure": True, **terms}))


def chosen(offered: list[str], **terms: Any) -> str | None:
    choice = choice_of(offered, **terms)
    return choice.mechanism.name if choice else None


def flag(offered: list[str], **terms: Any) -> str:
    choice = choice_of(offered, **terms)
    assert choice is not None
    return choice.channel.flag


def refused(offered: list[str], **terms: Any) -> str:
    assert choice_of(offered, **terms) is None
    return refusal(offered, Terms(**{"secure": True, **terms}))


def test_the_mechanisms_are_in_order_of_strength() -> None:
    assert ["EXTERNAL", *PLUS, *SCRAM, "DIGEST-MD5", "PLAIN", "ANONYMOUS"] == ALL
    with_password = [mechanism.guard for mechanism in MECHANISMS if mechanism.need is Need.PASSWORD]
    assert with_password == sorted(with_password, reverse=True)
    assert [m.name for m in MECHANISMS if m.guard is Guard.SHOWN] == ["PLAIN"]


def test_our_order_decides_and_not_the_servers() -> None:
    known = ALL[:-1]
    for first in range(len(known)):
        for offered in (known[first:], known[first:][::-1]):
            assert chosen(offered, certificate=True, bindings=EXPORTER, binding_types=("tls-exporter",)) == known[
                first
            ] or (
                not any(name in PLUS for name in offered)  # types without -PLUS: below
            )
            assert chosen(offered, certificate=True, bindings=EXPORTER) in (known[first], None)


def test_the_users_order_decides_before_ours() -> None:
    assert chosen(ALL, allowed=["PLAIN", "SCRAM-SHA-1"]) == "PLAIN"
    assert chosen(ALL, allowed=["SCRAM-SHA-1", "SCRAM-SHA-512"]) == "SCRAM-SHA-1"


def test_plain_and_digest_md5_need_tls_or_leave() -> None:  # S18
    assert chosen(["PLAIN"]) == "PLAIN"
    assert chosen(["PLAIN", "DIGEST-MD5"], secure=False) is None
    assert chosen(["PLAIN"], secure=False, allow_plain=True) == "PLAIN"
    assert chosen(["PLAIN", "DIGEST-MD5"], secure=False, allow_plain=True) == "DIGEST-MD5"
    assert chosen(["PLAIN", "DIGEST-MD5"], secure=False, router=True) == "DIGEST-MD5"  # all that jabberd2's router has
    assert chosen(["PLAIN"], secure=False, router=True) is None


def test_digest_md5_is_used_only_where_nothing_better_is_offered() -> None:
    for better in SCRAM:
        assert chosen(["DIGEST-MD5", better]) == better


def test_only_allowed_mechanisms_are_chosen() -> None:  # S20
    assert chosen(["SCRAM-SHA-1"], allowed=["SCRAM-SHA-256"]) is None
    assert chosen(ALL, allowed=[]) is None
    assert chosen(["X-MADE-UP"], allowed=["X-MADE-UP"]) is None


def test_anonymous_is_used_only_where_it_was_asked_for() -> None:
    assert "sasl_mechanisms names it" in refused(["ANONYMOUS"], password=False)
    assert chosen(["ANONYMOUS"], password=False, allowed=["ANONYMOUS"]) == "ANONYMOUS"


def test_external_needs_a_certificate_and_tls() -> None:  # S33
    assert chosen(["EXTERNAL", "SCRAM-SHA-1"]) == "SCRAM-SHA-1"
    assert chosen(["EXTERNAL", "SCRAM-SHA-1"], certificate=True) == "EXTERNAL"
    assert "EXTERNAL needs TLS and a client_certificate" in refused(["EXTERNAL"])
    assert chosen(["EXTERNAL"], certificate=True, secure=False) is None


def test_without_a_password_nothing_that_needs_one_is_chosen() -> None:
    assert "SCRAM-SHA-1 needs a name and a password" in refused(["SCRAM-SHA-1", "PLAIN"], password=False)


# ---- channel binding (RFC 5802 6, XEP-0440 3, XEP-0474 6)


@pytest.mark.parametrize(
    ("bindings", "types", "expected"),
    [
        (EXPORTER, ("tls-server-end-point", "tls-exporter"), "p=tls-exporter"),
        (EXPORTER, ("tls-server-end-point",), "p=tls-server-end-point"),
        (END_POINT, ("tls-exporter", "tls-server-end-point"), "p=tls-server-end-point"),
        (UNIQUE, ("tls-unique", "tls-server-end-point"), "p=tls-unique"),
        (EXPORTER, None, "p=tls-exporter"),  # RFC 9266 4.2: every server of TLS 1.3 with -PLUS has it
        (UNIQUE, None, "p=tls-unique"),  # RFC 5802 6.1: every server with -PLUS has it
    ],
)
def test_the_best_common_type_is_bound_to(
    bindings: dict[str, bytes], types: tuple[str, ...] | None, expected: str
) -> None:
    choice = choice_of([*SCRAM, *PLUS], bindings=bindings, binding_types=types)
    assert choice is not None
    assert choice.mechanism.name == "SCRAM-SHA-512-PLUS"
    assert choice.channel.flag == expected
    assert choice.channel.data == bindings[expected.removeprefix("p=")]
    assert choice.channel.mechanisms == (*SCRAM, *PLUS)
    assert choice.channel.binding_types == types
    assert not choice.warning
    assert "exported" not in repr(choice)


def test_we_say_y_only_where_the_server_offers_neither_plus_nor_types() -> None:  # S12
    assert flag(SCRAM, bindings=EXPORTER) == "y"
    assert flag(SCRAM, bindings={}) == "n"  # we could not
    assert flag(SCRAM, bindings=EXPORTER, channel_binding="off") == "n"
    assert flag(SCRAM, bindings=EXPORTER, secure=False) == "n"
    assert flag(SCRAM, bindings=EXPORTER, allowed=SCRAM) == "n"  # the user does without


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (("tls-exporter",), "the server can use tls-exporter and we tls-server-end-point; with pcj[binding]"),  # A14
        (("x-made-up",), "the server can use x-made-up and we tls-server-end-point"),  # S13
        (("\x1b[31m",), r'the server can use "\x1b[31m" and we tls-server-end-point'),
        ((), "the server can use nothing and we tls-server-end-point"),
        (None, "for which we can use tls-server-end-point, and the server does not say what it can"),
    ],
)
def test_without_a_common_type_we_say_n_and_warn(types: tuple[str, ...] | None, said: str) -> None:
    choice = choice_of([*SCRAM, *PLUS], bindings=END_POINT, binding_types=types)
    assert choice is not None
    assert (choice.mechanism.name, choice.channel.flag, choice.channel.vouched) == ("SCRAM-SHA-512", "n", False)
    assert said in choice.warning
    assert choice.warning.isprintable()


def test_where_binding_is_required_nothing_else_is_used() -> None:
    assert chosen([*SCRAM, *PLUS], bindings=EXPORTER, channel_binding="require") == "SCRAM-SHA-512-PLUS"
    for offered, bindings in ((SCRAM, EXPORTER), ([*SCRAM, *PLUS], {}), (["PLAIN"], EXPORTER)):
        assert "channel_binding='require'" in refused(offered, bindings=bindings, channel_binding="require")
    assert chosen([*SCRAM, *PLUS], bindings=END_POINT, binding_types=("x",), channel_binding="require") is None
    assert (
        chosen(["EXTERNAL"], certificate=True, channel_binding="require") == "EXTERNAL"
    )  # it has no password to pass on


def test_types_without_plus_are_taken_for_a_list_that_was_altered() -> None:  # XEP-0440 3
    types = ("tls-server-end-point",)
    for offered in (SCRAM, [*SCRAM, "PLAIN"], ["DIGEST-MD5", "SCRAM-SHA-1", "PLAIN"]):
        assert "may have taken those out" in refused(offered, bindings=EXPORTER, binding_types=types)
    assert chosen(SCRAM, bindings=EXPORTER, binding_types=types, channel_binding="off") == "SCRAM-SHA-512"
    # A server whose accounts know PLAIN alone may list its types all the same.
    assert chosen(["PLAIN"], bindings=EXPORTER, binding_types=types) == "PLAIN"


# ---- what worked before (XEP-0474 6.1)


@pytest.mark.parametrize("weaker", ["PLAIN", "DIGEST-MD5"])
@pytest.mark.parametrize("floor", [Guard.PROVED, Guard.BOUND])
def test_what_shows_the_password_is_not_used_where_scram_worked_before(weaker: str, floor: Guard) -> None:  # S17
    assert "may be a false one" in refused([weaker], floor=floor)
    assert chosen([weaker], floor=Guard.SHOWN) is not None


def test_another_scram_is_no_step_back() -> None:  # XEP-0474 6.1: SHOULD NOT pin one mechanism
    assert chosen(["SCRAM-SHA-1"], floor=Guard.PROVED) == "SCRAM-SHA-1"


def test_where_plus_worked_before_the_server_must_vouch_for_doing_without() -> None:  # S12, S15
    choice = choice_of([*SCRAM, *PLUS], bindings=END_POINT, binding_types=("x",), floor=Guard.BOUND)
    assert choice is not None
    assert choice.channel.vouched
    choice = choice_of(SCRAM, bindings={}, floor=Guard.BOUND)
    assert choice is not None
    assert choice.channel.vouched
    choice = choice_of(SCRAM, bindings=END_POINT, floor=Guard.BOUND)
    assert choice is not None
    assert choice.channel.flag == "y"


def test_what_has_a_proof_of_the_server_is_not_followed_by_what_has_none() -> None:
    for floor in (Guard.PROVED, Guard.BOUND):
        assert "may be a false one" in refused(["EXTERNAL"], certificate=True, floor=floor)
        assert chosen(["EXTERNAL", "SCRAM-SHA-1"], certificate=True, floor=floor) == "SCRAM-SHA-1"
    assert chosen(["EXTERNAL"], certificate=True, floor=Guard.CERTIFIED) == "EXTERNAL"
    assert chosen(["PLAIN"], floor=Guard.CERTIFIED) is None
    assert chosen(["SCRAM-SHA-1"], floor=Guard.CERTIFIED) == "SCRAM-SHA-1"


def test_where_plus_worked_before_the_server_must_vouch_without_tls_too() -> None:
    choice = choice_of(SCRAM, secure=False, floor=Guard.BOUND)
    assert choice is not None
    assert (choice.channel.flag, choice.channel.vouched) == ("n", True)


@pytest.mark.parametrize(
    ("before", "now", "vouched"),
    [
        ("tls-exporter", "tls-server-end-point", True),
        ("tls-unique", "tls-server-end-point", True),
        ("tls-server-end-point", "tls-server-end-point", False),
        ("tls-server-end-point", "tls-exporter", False),
        ("tls-exporter", "tls-exporter", False),
    ],
)
def test_a_type_that_a_stolen_key_defeats_must_be_vouched_for_where_a_better_one_worked(
    before: str, now: str, vouched: bool
) -> None:
    choice = choice_of(PLUS, bindings=EXPORTER, binding_types=(now,), floor=Guard.BOUND, floor_type=before)
    assert choice is not None
    assert (choice.channel.flag, choice.channel.vouched) == (f"p={now}", vouched)


def test_where_only_other_mechanisms_are_bound_we_say_n_and_warn() -> None:
    choice = choice_of(["SCRAM-SHA3-512-PLUS", "SCRAM-SHA-256"], bindings=EXPORTER, binding_types=("tls-exporter",))
    assert choice is not None
    assert (choice.mechanism.name, choice.channel.flag) == ("SCRAM-SHA-256", "n")
    assert "by mechanisms only that are not used here" in choice.warning


# ---- names, and sentences


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
    sentence = refused(offered)
    assert sentence.isprintable()
    assert len(sentence) < 1000


def test_ten_thousand_names_and_duplicates_are_no_trouble() -> None:  # S19
    many = [f"X-{number}" for number in range(10_000)]
    assert chosen([*many, "PLAIN", "PLAIN"]) == "PLAIN"
    sentence = refused(many)
    assert "X-7 and 9992 more" in sentence
    assert "X-8" not in sentence


def test_the_refusal_says_what_was_offered_what_is_allowed_and_what_would_help() -> None:
    assert refused(["PLAIN", "X-OAUTH2"], secure=False) == (
        "The server offers PLAIN and X-OAUTH2; we allow SCRAM-SHA-512, SCRAM-SHA-256 and SCRAM-SHA-1. "
        "PLAIN without TLS needs allow_plain."
    )
    assert refused(["SCRAM-SHA-1"], allowed=["SCRAM-SHA-256"]) == (
        "The server offers SCRAM-SHA-1; we allow SCRAM-SHA-256. SCRAM-SHA-1 is not among the mechanisms you allow."
    )
    assert refused([], allowed=["PLAIN"]) == "The server offers no SASL mechanism; we allow PLAIN."
    assert "none that can be used here" in refused(["PLAIN"], allowed=["X-MADE-UP"])
    assert '"\\x1b[31mX"' in refused(["\x1b[31mX"])
    assert "SCRAM-SHA-1-PLUS is bound to the TLS session, of which nothing can be had" in refused(["SCRAM-SHA-1-PLUS"])
