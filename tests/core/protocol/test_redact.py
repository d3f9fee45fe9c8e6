"""Credentials are shown nowhere: not in what we send, not where a server repeats it, not in a `repr`.

`play` looks for them after every run of every script in these tests (`check_secrets`); here is what it looks with.
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from pcj.config import Config
from pcj.errors import ProtocolError, StreamErrorReceived
from pcj.events import Event
from pcj.protocol.actions import Fire
from pcj.protocol.redact import credentials, redacted, repeated, scrub, scrubbed
from pcj.protocol.steps import Negotiation, Send
from tests.core.protocol.play import (
    BIND,
    PASSWORD,
    Play,
    authentication,
    bind_result,
    check_secrets,
    config,
    everything_shown,
    features,
    mechanisms,
    play,
    sasl,
    secrets_of,
    server_header,
    server_lines,
    stanza_error,
    stream_error,
)

ESCAPED = PASSWORD.replace("&", "&amp;")
COMPONENT = "jabber:component:accept"
TO_AUTH = ["T: ok", f"S: {server_header()}{features(mechanisms('SCRAM-SHA-256'))}"]
TO_BIND = [
    *TO_AUTH,
    *server_lines(authentication()),
    f"S: {server_header()}{features(BIND)}",
]
XMPP = config(direct_tls=True)
LEGACY = config("LEGACY", direct_tls=True, plaintext=True)
C14 = config("JABBERD14_COMPONENT", "bot.example.org", direct_tls=True)
TO_LEGACY = ["T: ok", f"S: {server_header(version=None)}"]


@pytest.mark.parametrize(
    ("options", "script", "echo"),
    [
        (XMPP, TO_AUTH, lambda said: sasl("failure", f"<not-authorized/><text>{said}</text>")),
        (XMPP, TO_AUTH, lambda said: sasl("challenge", said)),
        (XMPP, TO_AUTH, lambda said: stream_error("not-authorized", said)),
        (XMPP, TO_AUTH, lambda said: f"<stream:error><x y='{said}'>a{said}b</x>{said}</stream:error>"),
        (XMPP, TO_AUTH, lambda said: f"{said}</x>"),
        (XMPP, TO_AUTH, lambda said: f"<a b='{said}'></c>"),
        (XMPP, TO_BIND, lambda said: bind_result("token-2", f"{said}@example.org")),
        (XMPP, TO_BIND, lambda said: stanza_error("token-2", "not-allowed", text=said)),
        (XMPP, ["T: ok"], lambda said: server_header(version=said)),
        (XMPP, ["T: ok"], lambda said: server_header(from_=said) + "<x/>"),
        (XMPP, ["T: ok"], lambda said: server_header() + features(mechanisms(said))),
        (LEGACY, TO_LEGACY, lambda said: stanza_error("token-2", "not-authorized", text=said)),
        (C14, ["T: ok", f"S: {server_header(xmlns=COMPONENT)}"], lambda said: stream_error("not-authorized", said)),
    ],
)
def test_a_server_that_repeats_our_credentials_does_not_get_them_into_an_event_or_error(
    options: Config, script: list[str], echo: Callable[[str], str]
) -> None:
    sent = [secret for secret in secrets_of(play(options, script), options) if secret.isascii() and "\0" not in secret]
    for secret in {PASSWORD, *sent}:
        escaped = secret.replace("&", "&amp;").replace("<", "&lt;")
        done = play(options, [*script, f"S: {echo(escaped)}"])  # which looks for them
        assert done.ends


def test_the_search_for_secrets_finds_one_in_every_place() -> None:
    node = ET.Element("a", {"b": "c"})
    for place in ("node", "attribute", "child", "detail", "error", "came", "step"):
        run = Play()
        shown = ET.fromstring("<a b='c'><d>e</d></a>")
        match place:
            case "node":
                shown.text = f"x{PASSWORD}"
            case "attribute":
                shown.set("b", PASSWORD)
            case "child":
                shown[0].tail = PASSWORD
        detail = {"x": PASSWORD} if place == "detail" else {}
        error = ProtocolError(PASSWORD if place == "error" else "", came=PASSWORD if place == "came" else "")
        run.actions.append(Fire("EVENT", shown, error, detail))
        run.steps.append(Send(node))
        if place == "step":
            run.steps.append(PASSWORD)  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="is shown in"):
            check_secrets(run, config())


def test_the_search_knows_each_form_of_a_credential() -> None:
    done = play(XMPP, [*TO_AUTH, server_lines(authentication())[0]])
    secrets = secrets_of(done, XMPP)
    assert PASSWORD in secrets
    assert any(secret.startswith("c=biws,r=token-1server,p=") for secret in secrets)
    assert len(secrets) >= 6
    assert any("Write()" in text for text in everything_shown(done))


@pytest.mark.parametrize(
    ("xml", "shown"),
    [
        ("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGE=</auth>", "[redacted]"),
        ("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>abc</response>", "[redacted]"),
        ("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", ""),
        ("<handshake xmlns='jabber:component:accept'>0a</handshake>", "[redacted]"),
        ("<handshake xmlns='jabber:client'>0a</handshake>", "[redacted]"),
        ("<handshake>0a</handshake>", "[redacted]"),
        ("<query xmlns='jabber:iq:auth'><username>u</username><password>p</password></query>", "u[redacted]"),
        ("<query xmlns='jabber:iq:auth'><username>u</username><digest>d</digest></query>", "u[redacted]"),
        ("<message xmlns='jabber:client'><body>hello</body></message>", "hello"),
    ],
)
def test_the_elements_that_carry_credentials_are_redacted_and_others_are_not(xml: str, shown: str) -> None:
    node = ET.fromstring(xml)
    before = ET.tostring(node)
    assert "".join(redacted(node).itertext()) == shown
    assert ET.tostring(node) == before  # a copy


def test_a_node_that_is_secret_altogether_shows_its_names_alone() -> None:
    node = ET.fromstring("<a b='one'>two<c d='three'>four</c>five</a>")
    assert (
        ET.tostring(redacted(node, secret=True)) == b'<a b="[redacted]">[redacted]<c d="[redacted]">[redacted]</c></a>'
    )
    assert sorted(credentials(node, secret=True)) == ["five", "four", "one", "three", "two"]
    assert list(credentials(node)) == []


@pytest.mark.parametrize("text", ["=", "no base64!", "a"])
def test_a_response_that_is_no_base64_is_a_credential_as_it_is(text: str) -> None:
    node = ET.fromstring(f"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{text}</response>")
    assert next(credentials(node)) == text
    assert redacted(node).text == "[redacted]"


def test_an_error_is_scrubbed_in_all_that_it_says() -> None:
    error = StreamErrorReceived(
        "it's said 'pass\\'word'", condition="x\x9b", text="pass'word\x1b[31m", see_other_host="pass'word\x1b[31m"
    )
    error.expected = "no pass'word"
    error.came = "pass'word"
    scrub(error, {"pass'word"})
    assert "pass" not in f"{error}{error.text}{error.expected}{error.came}"
    assert error.condition == r"x\x9b"
    assert error.text == error.see_other_host == r"[redacted]\x1b[31m"


@pytest.mark.parametrize(
    ("password", "written"),
    [
        ("it's-secret", "it&apos;s-secret"),
        ("it's-secret", "it's-secret"),
        ('say"friend', "say&quot;friend"),
        ("secret-word", "&#115;ecret-word"),
        ("secret-word", "secret-&#x00077;ord"),
        ("secret-word", "<![CDATA[secret-word]]>"),
        ("secret-word", "sec<![CDATA[ret]]>-w<![CDATA[or]]>&#x64;"),
        ("secret<word>", "secret<![CDATA[<]]>word&#x3E;"),
        ("a&b-secret", "&#97;&#38;b-secret"),
        ("a&b-secret", "a&amp;amp;b-secret"),
        ("it's-secret", "it&amp;#39;s-secret"),
        ("pässword", "p&#xE4;ssword"),
        ("pässword", "p&#xe4;ssword"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_server_may_write_our_password_as_it_likes_and_it_is_not_shown(
    password: str, written: str, whole: bool
) -> None:
    options = config(password=password, direct_tls=True, allow_plain=True)
    script = ["T: ok", f"S: {server_header()}{features(mechanisms('PLAIN'))}"]
    said = f"bad password {written}"
    if whole:
        done = play(options, [*script, f"S: {sasl('failure', f'<not-authorized/><text>{said}</text>')}"])
        assert done.failed.error.text == "bad password [redacted]"
    else:  # the error quotes the bytes as they came, the last of them
        done = play(options, [*script, f"S: {said}</b>"])
        assert "[redacted]" in str(done.failed.error) or "<![CDATA[" in written
    assert written not in "".join(everything_shown(done))


def test_a_password_that_is_a_word_of_ours_is_taken_out_of_our_sentences_only_if_the_server_said_it() -> None:
    for heard, expected in ((b"<failure/>", "the server refused"), (b"<server/>", "the [redacted] refused")):
        error = ProtocolError("the server refused")
        scrub(error, repeated({"server"}, heard))
        assert str(error) == expected


@pytest.mark.parametrize(
    ("heard", "found"),
    [(b"a secret", True), (b"a &#x73;ecret", True), (b"a &#x74;ecret", False), (b"a s ecret", False), (b"", False)],
)
def test_what_was_heard_repeats_a_secret_or_does_not(heard: bytes, found: bool) -> None:
    assert bool(repeated({"secret", ""}, heard)) is found


def test_secrets_of_three_characters_are_left_for_else_every_word_would_go() -> None:
    error = ProtocolError("the password is wrong")
    scrub(error, {"the", "a"})
    assert str(error) == "the password is wrong"


def test_a_node_is_scrubbed_as_a_copy() -> None:
    node = ET.fromstring("<a b='secret1'>secret1<c>x</c>secret1</a>")
    assert "secret1" not in ET.tostring(scrubbed(node, {"secret1"}), encoding="unicode")
    assert node.text == "secret1"


def test_what_a_dialect_is_given_does_not_show_the_password() -> None:
    options = config()
    negotiation = Negotiation(options, "jabber:client", component=False, tls_required=True, token=lambda: "t")
    assert PASSWORD not in repr(negotiation)
    assert PASSWORD not in repr(options)
    assert PASSWORD not in repr(dataclasses.replace(options, host="localhost"))


def test_the_username_is_no_secret_and_helps_the_diagnosis() -> None:
    line = f"S: {sasl('failure', '<not-authorized/>')}"
    done = play(XMPP, [*TO_AUTH, line])
    assert "'romeo'" in str(done.failed.error)
    assert done.fired[-1].event == Event.PCJ_AUTHFAIL


def test_what_is_too_short_to_be_a_secret_is_not_looked_for() -> None:
    assert repeated({"set", "password-of-somebody"}, b"<iq type='set'/>") == ()
