"""PLAIN: the message of RFC 4616."""

from __future__ import annotations

import pytest

from pcj.errors import ConfigError, SaslError
from pcj.sasl import Channel, Credentials, Limits
from pcj.sasl.plain import PLAIN
from tests.core.sasl.exchanges import client


def test_the_message_is_the_three_parts_divided_by_nul() -> None:
    # RFC 4616 4, without and with an authorization identity.
    assert client(PLAIN, Credentials("tim", "tanstaaftanstaaf"), "x").start() == b"\0tim\0tanstaaftanstaaf"
    credentials = Credentials("Kurt", "xipj3plmq", authzid="Ursel")
    assert client(PLAIN, credentials, "x").start() == b"Ursel\0Kurt\0xipj3plmq"


def test_success_ends_it() -> None:
    user = client(PLAIN, Credentials("tim", "secret"), "x")
    user.start()
    user.success(None)
    assert user.done


def test_names_and_passwords_are_prepared_and_encoded() -> None:
    assert client(PLAIN, Credentials("rene\u0301", "\u2168\u00a0x"), "x").start() == "\0rené\0IX x".encode()


def test_a_long_password_stays_in_one_line() -> None:
    message = client(PLAIN, Credentials("tim", "p" * 500), "x").start()
    assert message == b"\0tim\0" + b"p" * 500


@pytest.mark.parametrize("char", ["\0", "\n", "\r", "\u2028", "\x7f"])
@pytest.mark.parametrize("part", ["username", "password", "authzid"])
def test_nul_and_line_breaks_are_refused_in_every_part(char: str, part: str) -> None:
    parts = {"username": "tim", "password": "secret", "authzid": "boss"}
    parts[part] = f"hush{char}hush"
    with pytest.raises(ConfigError, match=f"U\\+{ord(char):04X} \\(character 5\\)") as caught:
        client(PLAIN, Credentials(**parts), "x").start()
    assert "hush" not in str(caught.value)


def test_a_challenge_is_refused() -> None:
    user = client(PLAIN, Credentials("tim", "secret"), "x")
    user.start()
    with pytest.raises(SaslError, match="PLAIN has none"):
        user.challenge(b"")


def test_a_driver_that_sends_something_else_is_told_so() -> None:
    steps = PLAIN.exchange(Credentials("tim", "secret"), "x", Limits(), Channel())
    next(steps)
    with pytest.raises(TypeError, match="was sent NoneType"):
        steps.send(None)
