"""What is no XMPP is recognised by its first bytes, one row per service."""

from __future__ import annotations

import pytest

from pcj.errors import Phase, Retry
from pcj.protocol.retry import classify
from tests.core.protocol.play import config, features, play, server_header

NOT_XMPP = "this is not an XMPP port"
TLS_FIRST = "this port wants TLS from the first byte (direct_tls=True)"


@pytest.mark.parametrize(
    ("came", "sentence"),
    [
        (
            "HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n<html>",
            f"the server speaks HTTP ('HTTP/1.1 400 Bad Request'), not XMPP: {NOT_XMPP}",
        ),
        ("<!DOCTYPE html>\n<html>", f"the server speaks HTTP ('<!DOCTYPE html>'), not XMPP: {NOT_XMPP}"),
        ("<HTML><body>", f"the server speaks HTTP ('<HTML><body>'), not XMPP: {NOT_XMPP}"),
        ("SSH-2.0-OpenSSH_9.2\r\n", f"the server sent 'SSH-2.0-OpenSSH_9.2': {NOT_XMPP}"),
        ("220 mail.example.org ESMTP\r\n", f"the server sent '220 mail.example.org ESMTP': {NOT_XMPP}"),
        ("* OK IMAP4rev1\r\n", f"the server sent '* OK IMAP4rev1': {NOT_XMPP}"),
        ("+OK ready\r\n", f"the server sent '+OK ready': {NOT_XMPP}"),
        (":irc.example.org NOTICE *\r\n", f"the server sent ':irc.example.org NOTICE *': {NOT_XMPP}"),
        ("\x1b[2Jhello\u202e\n", f"the server sent '\\x1b[2Jhello\\u202e': {NOT_XMPP}"),
        ("x" * 1000, f"the server sent '{'x' * 80}...': {NOT_XMPP}"),
        (
            "\x15\x03\x01\x00\x02\x02\x46",
            f"the server answered our greeting in plain text with TLS (an alert): {TLS_FIRST}",
        ),
        ("\x16\x03\x03\x00\x7a", f"the server answered our greeting in plain text with TLS (a handshake): {TLS_FIRST}"),
        (
            "<policy xmlns='urn:example:other'>",
            "the peer began with <{urn:example:other}policy>, not with <stream:stream>: this is not an XMPP stream",
        ),
    ],
)
def test_what_is_no_stream_is_named_and_final_at_first(came: str, sentence: str) -> None:
    failed = play(config(), [f"S: {came}"]).failed
    error = failed.error
    assert str(error) == sentence
    assert error.expected == "<stream:stream>"
    assert error.came
    assert error.came.isprintable()
    assert error.answer is not None
    assert failed.phase is Phase.STREAM
    assert classify(error, failed.phase, component=False, was_ready=False) is Retry.FATAL
    assert classify(error, failed.phase, component=False, was_ready=True) is Retry.SLOW


@pytest.mark.parametrize(
    "came", ["<?xml version='1.0'?><stream:stream xmlns:stream='&", "<?xml version='1.0' encoding='x'?><a>"]
)
def test_a_stream_that_is_damaged_may_be_whole_the_next_time(came: str) -> None:
    failed = play(config(), [f"S: {came}<>", "EOF"]).failed  # where an expat of before 2.6 waits for more
    assert classify(failed.error, failed.phase, component=False, was_ready=False) is Retry.FAST


def test_behind_a_header_it_is_an_xmpp_server_whatever_it_sends() -> None:
    failed = play(config(), [f"S: {server_header()}", "S: HTTP/1.1 400 Bad Request<x>"]).failed
    assert "HTTP, not XMPP" not in str(failed.error)
    assert classify(failed.error, failed.phase, component=False, was_ready=False) is Retry.FAST
    failed = play(config(require_tls=False), [f"S: {server_header()}{features()}"]).failed
    assert "XMPP port" not in str(failed.error)


def test_inside_direct_tls_it_is_named_too() -> None:
    failed = play(config(direct_tls=True), ["T: ok", "S: HTTP/1.1 400 Bad Request\r\n"]).failed
    assert str(failed.error) == f"the server speaks HTTP ('HTTP/1.1 400 Bad Request'), not XMPP: {NOT_XMPP}"
