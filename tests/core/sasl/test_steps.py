"""The data of SASL elements: strict base64, and the two kinds of nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcj.errors import SaslError
from pcj.sasl import Success, decode_data, decode_success, encode_data
from pcj.sasl.steps import MAX_DATA_CHARACTERS, quote


def test_no_data_and_empty_data_are_written_differently_in_an_initial_response() -> None:
    assert encode_data(None, initial=True) == ""
    assert encode_data(b"", initial=True) == "="
    assert encode_data(b"") == ""
    assert encode_data(b"\0tim\0tanstaaftanstaaf", initial=True) == "AHRpbQB0YW5zdGFhZnRhbnN0YWFm"


def test_long_data_is_written_without_line_breaks() -> None:
    assert "\n" not in encode_data(bytes(1000))


def test_absent_and_empty_data_are_read_as_empty() -> None:
    assert decode_data(None) == b""
    assert decode_data("") == b""
    assert decode_data("=") == b""
    assert decode_success(None) == Success(None)
    assert decode_success("") == Success(None)
    assert decode_success("=") == Success(b"")
    assert decode_success("dj1h") == Success(b"v=a")


@pytest.mark.parametrize(
    "text",
    ["dj1", "dj1h=", "dj1h dj1h", "dj1h\n", " dj1h", "dj1h====", "d-1h", "d_1h", "djéh", "==", "\x1b[31m", "dj1=dj1="],
    ids=ascii,
)
def test_what_is_not_base64_is_refused_as_incorrect_encoding(text: str) -> None:  # S22
    for decode in (decode_data, decode_success):
        with pytest.raises(SaslError, match="base64") as caught:
            decode(text)
        assert caught.value.condition == "incorrect-encoding"
        assert "\x1b" not in str(caught.value)


def test_data_beyond_the_bound_is_refused() -> None:
    assert decode_data("A" * MAX_DATA_CHARACTERS)
    with pytest.raises(SaslError, match="characters"):
        decode_data("A" * (MAX_DATA_CHARACTERS + 4))


@given(st.binary(max_size=100))
def test_what_is_written_is_read_again(data: bytes) -> None:
    assert decode_data(encode_data(data, initial=True)) == data


@given(st.text(max_size=200))
def test_quoted_remote_text_is_bounded_and_printable(text: str) -> None:
    shown = quote(text)
    assert shown.isprintable()
    assert len(shown) <= 64 * 10 + 5
