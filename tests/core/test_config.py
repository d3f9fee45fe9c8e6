"""Every check of the options, one row each; and the password is never shown."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pcj import config
from pcj.config import JABBERD14_COMPONENT, XMPP, Config
from pcj.errors import ConfigError, JidError

GIVEN: dict[str, Any] = {"connection_type": XMPP, "jid": "romeo@example.org/orchard", "password": "the-secret"}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"connection_type": ""}, "connection_type is empty: say XMPP, LEGACY, JABBERD14_COMPONENT or JABBERD20_COMPONENT"),
    ({"connection_type": 1}, "connection_type must be a str, not int"),
    ({"jid": 5}, "jid must be a str, not int"),
    ({"password": 7}, "password must be a str, not int"),
    ({"password": b"the-secret"}, "password must be a str, not bytes"),
    ({"port": 0}, "port must be between 1 and 65535, not 0"),
    ({"port": -1}, "port must be between 1 and 65535, not -1"),
    ({"port": 65536}, "port must be between 1 and 65535, not 65536"),
    ({"port": "5222"}, "port must be a whole number, not str"),
    ({"port": True}, "port must be a whole number, not bool"),
    ({"host": ""}, "host must be a name or an address, not ''"),
    ({"host": "a b"}, "host must be a name or an address, not 'a b'"),
    ({"host": "a\n"}, "host must be a name or an address, not 'a\\n'"),
    ({"on_ready": "resend"}, "on_ready must be 'hold' or 'send', not 'resend'"),
    ({"unhandled_iq": "drop"}, "unhandled_iq must be 'error' or 'ignore', not 'drop'"),
    ({"session": "never"}, "session must be 'auto' or 'always', not 'never'"),
    ({"bind_option": "all"}, "bind_option must be 'log' or 'default', not 'all'"),
    ({"queue": ""}, "queue must be 'memory' or the path of a file, not ''"),
    ({"queue": "a\0b"}, "queue must be 'memory' or the path of a file, not 'a\\x00b'"),
    ({"on_doubt": "send"}, "on_doubt must be 'hold' or 'resend' or 'drop', not 'send'"),
    ({"acks": "on"}, "acks must be 'auto' or 'off', not 'on'"),
    ({"ack_on": "read"}, "ack_on must be 'handled' or 'received', not 'read'"),
    ({"pins": ("sha1:00",)}, "a pin is 'sha256:' or 'cert-sha256:' and 64 hexadecimal digits, not 'sha1:00'"),
    (
        {"pins": ("sha256:" + "g" * 64,)},
        f"a pin is 'sha256:' or 'cert-sha256:' and 64 hexadecimal digits, not 'sha256:{'g' * 64}'",
    ),
    ({"pins": "sha256:" + "0" * 64}, "pins must be a tuple of str, not str"),
    ({"pins": (1,)}, "pins must be a tuple of str"),
    ({"sasl_mechanisms": "PLAIN"}, "sasl_mechanisms must be a tuple of str, not str"),
    *(
        ({name: ""}, f"{name} must not be empty; leave it out, or say None")
        for name in ("username", "alias", "version", "xmlns", "stream", "bind_domain", "tls_name")
    ),
    ({"sasl_mechanisms": ()}, "sasl_mechanisms must not be empty; leave it out, or say None"),
    ({"sasl_mechanisms": []}, "sasl_mechanisms must not be empty; leave it out, or say None"),
    ({"version": "1"}, "version must be two numbers with a dot between them, not '1'"),
    ({"version": "1.0\n"}, "version must be two numbers with a dot between them, not '1.0\\n'"),
    ({"version": "\u0661.0"}, "version must be two numbers with a dot between them, not '\u0661.0'"),
    ({"bind_domain": "a@example.org"}, "bind_domain must be a domain, not 'a@example.org'"),
    ({"bind_domain": "example.org/a"}, "bind_domain must be a domain, not 'example.org/a'"),
    ({"require_tls": "yes"}, "require_tls must be True or False, not str"),
    ({"verify_tls": 0}, "verify_tls must be True or False, not int"),
    ({"connect_timeout": 0}, "connect_timeout must be greater than 0, not 0"),
    ({"connect_timeout": -1.5}, "connect_timeout must be greater than 0, not -1.5"),
    ({"connect_timeout": float("nan")}, "connect_timeout must be greater than 0, not nan"),
    ({"connect_timeout": float("inf")}, "connect_timeout must be greater than 0, not inf"),
    ({"connect_timeout": "5"}, "connect_timeout must be a number, not str"),
    ({"connect_timeout": None}, "connect_timeout must be a number, not NoneType"),
    ({"max_stanza_bytes": 0}, "max_stanza_bytes must be greater than 0, not 0"),
    ({"max_stanza_bytes": 1e6}, "max_stanza_bytes must be a whole number, not float"),
    ({"max_scram_iterations": 4095}, "min_scram_iterations must not be greater than max_scram_iterations: 4096 > 4095"),
    ({"reconnect_delay": 301}, "reconnect_delay must not be greater than reconnect_delay_max: 301 > 300.0"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[str(options)[:60] for options, _ in REFUSED])
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**GIVEN | options)
    assert str(caught.value) == message
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"jid": ""}, {"jid": "@example.org"}, {"resource": ""}, {"resource": "a\x00b"}, {"bind_domain": "a b"}]
)
def test_an_address_that_is_none(options: dict[str, Any]) -> None:
    with pytest.raises(JidError):
        Config(**GIVEN | options)


def test_the_password_is_not_shown() -> None:
    options = Config(**GIVEN)
    assert "the-secret" not in repr(options)
    assert "the-secret" not in str(options)
    assert options.password == "the-secret"


def test_frozen() -> None:
    options = Config(**GIVEN)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        Config(XMPP, "a@b", "c")  # type: ignore[call-arg]


def test_equal_options_are_one_key() -> None:
    pins = ["sha256:" + "0f" * 32]
    given_list, given_tuple = (Config(**GIVEN | {"pins": kind(pins)}) for kind in (list, tuple))
    assert given_list == given_tuple
    assert hash(given_list) == hash(given_tuple)


def test_every_option_has_a_checked_type_and_is_documented() -> None:
    documentation = Config.__doc__ or ""
    for option in dataclasses.fields(Config):
        annotation = str(option.type).removesuffix(" | None").replace("str | PasswordSource", "str")
        assert annotation in config._TYPES
        assert option.name in documentation, option.name


@pytest.mark.parametrize(
    ("options", "resource", "login"),
    [
        ({}, "orchard", "romeo"),
        ({"resource": "balcony"}, "balcony", "romeo"),
        ({"jid": "romeo@example.org"}, None, "romeo"),
        ({"username": "jabberd"}, "orchard", "jabberd"),
        ({"connection_type": JABBERD14_COMPONENT, "jid": "bot.example.org"}, None, "bot.example.org"),
    ],
)
def test_what_follows_from_the_options(options: dict[str, Any], resource: str | None, login: str) -> None:
    made = Config(**GIVEN | options)
    assert (made.wanted_resource, made.login) == (resource, login)
    assert str(made.account) == made.jid


def test_a_dialect_of_ones_own_is_named_by_its_name() -> None:
    assert Config(**GIVEN | {"connection_type": "MY_DIALECT"}).connection_type == "MY_DIALECT"
