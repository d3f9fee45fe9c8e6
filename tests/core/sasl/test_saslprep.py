"""SASLprep: the examples of RFC 4013 section 3 and the rules behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcj.errors import ConfigError
from pcj.sasl.saslprep import prepare, prepare_identity, prepare_password


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b\u3000c\u200bd", "a b c d"),
        ("e\u0301", "é"),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
        ("a\u0340", "à"),  # prohibited itself, but not what it is normalised to
        ("", ""),
    ],
)
def test_examples_are_prepared_as_the_rfc_says(text: str, prepared: str) -> None:
    assert prepare(text) == prepared


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\u0007", r"U\+0007 \(character 1\) is a control character"),
        ("ab\u0007", r"U\+0007 \(character 3\)"),
        ("\u00adé\u200e", r"U\+200E \(character 3\)"),
        ("é\x00", r"U\+0000"),
        ("\ue000", r"U\+E000 .* private-use"),
        ("\ufdd0", r"U\+FDD0 .* non-character"),
        ("\ud800", r"U\+D800 .* surrogate"),
        ("\ufffd", r"U\+FFFD .* plain text"),
        ("\u2ff0", r"U\+2FF0 .* canonical"),
        ("\U000e0041", r"U\+E0041 .* tagging"),
        ("\u0627\u0031", "right-to-left"),
        ("\u0627a\u0628", "right-to-left"),
    ],
)
def test_what_the_rfc_prohibits_is_named_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        prepare(text, "password")


def test_unassigned_code_points_pass_in_queries_only() -> None:
    assert prepare("\U0001f511") == "\U0001f511"
    with pytest.raises(ConfigError, match=r"U\+1F511 \(character 2\) is not assigned"):
        prepare("x\U0001f511", allow_unassigned=False)


def test_what_becomes_empty_is_refused() -> None:
    with pytest.raises(ConfigError, match="username is empty"):
        prepare_identity("\u00ad")
    with pytest.raises(ConfigError, match="password is empty"):
        prepare_password("")


def test_an_error_never_shows_the_text() -> None:
    with pytest.raises(ConfigError) as caught:
        prepare_password("hush-hush\u0007")
    assert "hush" not in str(caught.value)
    assert "password" in str(caught.value)


@given(st.text(max_size=20))
def test_preparing_gives_text_that_can_be_sent_or_a_config_error(text: str) -> None:
    try:
        prepared = prepare(text)
    except ConfigError:
        return
    assert prepared.encode("utf-8").decode("utf-8") == prepared
    assert "\0" not in prepared
    assert "\n" not in prepared


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_printable_ascii_stays_as_it_is(text: str) -> None:
    assert prepare(text) == text
