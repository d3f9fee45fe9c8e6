"""Addresses: the examples of RFC 7622, and what text of any kind becomes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from precis_i18n import get_profile

from pcj.errors import ConfigError, JidError
from pcj.jid import JID, same_address

VALID = [
    # RFC 7622 3.5, table 1
    ("juliet@example.com", ("juliet", "example.com", None)),
    ("juliet@example.com/foo", ("juliet", "example.com", "foo")),
    ("juliet@example.com/foo bar", ("juliet", "example.com", "foo bar")),
    ("juliet@example.com/foo@bar", ("juliet", "example.com", "foo@bar")),
    ("foo\\20bar@example.com", ("foo\\20bar", "example.com", None)),
    ("fussball@example.com", ("fussball", "example.com", None)),
    ("fu\u00dfball@example.com", ("fu\u00dfball", "example.com", None)),
    ("\u03c0@example.com", ("\u03c0", "example.com", None)),
    ("\u03a3@example.com/foo", ("\u03c3", "example.com", "foo")),
    ("\u03c3@example.com/foo", ("\u03c3", "example.com", "foo")),
    ("\u03c2@example.com/foo", ("\u03c2", "example.com", "foo")),
    ("king@example.com/\u265a", ("king", "example.com", "\u265a")),
    ("example.com", (None, "example.com", None)),
    ("example.com/foobar", (None, "example.com", "foobar")),
    ("a.example.com/b@example.net", (None, "a.example.com", "b@example.net")),
    # ours
    ("ROMEO@EXAMPLE.Org/Orchard", ("romeo", "example.org", "Orchard")),
    ("rené@bücher.example/Büro", ("rené", "bücher.example", "Büro")),
    ("RENÉ@BÜCHER.example/BÜRO", ("rené", "bücher.example", "BÜRO")),
    ("rene\u0301@bu\u0308cher.example/Bu\u0308ro", ("rené", "bücher.example", "Büro")),
    ("x@xn--bcher-kva.example", ("x", "bücher.example", None)),
    ("x@XN--BCHER-KVA.example", ("x", "bücher.example", None)),
    ("faß.example", (None, "faß.example", None)),
    ("a@\uff42.c", ("a", "b.c", None)),
    ("a@b\u3002c", ("a", "b.c", None)),
    ("a@example.org.", ("a", "example.org", None)),
    ("a@bücher.example.", ("a", "bücher.example", None)),
    ("localhost", (None, "localhost", None)),
    ("my_host.local", (None, "my_host.local", None)),
    ("_xmpp.bücher.example", (None, "_xmpp.bücher.example", None)),
    ("r3---sn.example", (None, "r3---sn.example", None)),
    ("127.0.0.1", (None, "127.0.0.1", None)),
    ("a@[::1]/x", ("a", "[::1]", "x")),
    ("a@[2001:DB8:0::1]", ("a", "[2001:db8::1]", None)),
    ("orchard@example.org/orchard~6/r5rMZunv92", ("orchard", "example.org", "orchard~6/r5rMZunv92")),
    ("a/b/c@d", (None, "a", "b/c@d")),
    ("room@muc.example/ nick", ("room", "muc.example", " nick")),  # RFC 7622's table 2 thinks otherwise
    ("a@b/\u00a0x", ("a", "b", " x")),
    ("a" * 1023 + "@b/" + "c" * 1023, ("a" * 1023, "b", "c" * 1023)),
    ("a" * 63 + ".b", (None, "a" * 63 + ".b", None)),
]


@pytest.mark.parametrize(("text", "parts"), VALID, ids=lambda value: ascii(value)[:40])
def test_an_address_is_split_and_prepared(text: str, parts: tuple[str | None, str, str | None]) -> None:
    jid = JID.parse(text)
    assert (jid.local, jid.domain, jid.resource) == parts
    assert JID.parse(str(jid)) == jid


INVALID = [
    # RFC 7622 3.5, table 2
    ('"juliet"@example.com', r"local part .* U\+0022 \(character 1\)"),
    ("foo bar@example.com", r"local part .* U\+0020 \(character 4\)"),
    ("@example.com/", "is empty"),
    ("henry\u2163@example.com", r"local part .* U\+2173 \(after preparation\)"),
    ("\u265a@example.com", r"local part .* U\+265A"),
    ("juliet@", "domain of a JID is empty"),
    ("/foobar", "domain of a JID is empty"),
    # ours
    ("", "domain of a JID is empty"),
    ("@", "is empty"),
    ("juliet@example.com/", "resource of a JID is empty"),
    ("@example.com", "local part of a JID is empty"),
    ("a@b@c", 'label "b@c"'),
    ("a@b:5222", 'label "b:5222"'),
    ("a&b@c", r"U\+0026"),
    ("o'neill@c", r"U\+0027"),
    ("a:b@c", r"U\+003A"),
    ("a<b>@c", r"U\+003C"),
    ("a\uff20b@c", r"U\+0040 \(after preparation\)"),
    ("\ud800@c", r"U\+D800"),
    ("a@\ud800", "domain"),
    ("a@c/\ud800", r"resource .* U\+D800"),
    ("a@c/x\ny", r"resource .* U\+000A"),
    ("a@c/x\0y", r"resource .* U\+0000"),
    ("א1a@c", "right-to-left"),
    ("a@b c", "label"),
    ("a@b..c", "empty label"),
    ("a@.b", "empty label"),
    ("a@b..", "empty label"),
    ("a@-b", "hyphen"),
    ("a@b-", "hyphen"),
    ("a@b\n", "label"),
    ("a@\u2100.c", 'label "a/c"'),
    ("a@b\uff0fc", 'label "b/c"'),
    ("a@xn--abc-.c", "IDNA2008"),
    ("a@xn--a.c", "IDNA2008"),
    ("a@\U0001f4a9.la", "IDNA2008"),
    ("a@[::1", "IPv6"),
    ("a@[::1%eth0]", "IPv6"),
    ("a@[127.0.0.1]", "IPv6"),
    ("a@[]", "IPv6"),
    ("a@::1", "label"),
    ("a" * 1024 + "@b", "1 to 1023 octets; this has 1024"),
    ("é" * 512 + "@b", "1 to 1023 octets; this has 1024"),
    ("b/" + "c" * 1024, "1 to 1023 octets"),
    ("a" * 64 + ".b", "64 octets"),
    ("ü" * 63 + ".b", "IDNA2008"),
    (".".join(["a" * 63] * 17), "1 to 1023 octets"),
    ("a" * 10_000_000, "10000000 characters"),
]


@pytest.mark.parametrize(("text", "reason"), INVALID, ids=lambda value: ascii(value)[:40])
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(JidError, match=reason) as caught:
        JID.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


def test_a_refusal_is_a_config_error_and_a_value_error() -> None:
    with pytest.raises(ConfigError):
        JID.parse("@")
    with pytest.raises(ValueError):
        JID.parse("@")


def test_remote_text_in_a_refusal_is_escaped() -> None:
    with pytest.raises(JidError) as caught:
        JID.parse("\x1b[31m@example.org")
    assert "\x1b" not in str(caught.value)


def test_a_jid_made_from_parts_is_prepared_too() -> None:
    assert JID("Romeo", "EXAMPLE.org", "Orchard") == JID.parse("romeo@example.org/Orchard")
    assert JID(None, "localhost") == JID.parse("localhost")
    for local, domain, resource in (("", "b", None), ("a@b", "c", None), ("a", "b/c", None), ("a", "b", "")):
        with pytest.raises(JidError):
            JID(local, domain, resource)


def test_equal_addresses_are_equal_values() -> None:
    jids = {JID.parse(text) for text in ("A@B.c", "a@b.C", "a@B.c.", "a@b.c")}
    assert jids == {JID("a", "b.c")}
    assert JID.parse("a@b/R") != JID.parse("a@b/r")


def test_a_jid_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        JID.parse("a@b").local = "c"  # type: ignore[misc]


def test_bare_full_and_other_resources() -> None:
    jid = JID.parse("a@b/c")
    assert not jid.is_bare
    assert jid.bare == JID("a", "b")
    assert jid.bare.is_bare
    assert jid.bare.bare is jid.bare or jid.bare.bare == jid.bare
    assert jid.full == str(jid) == "a@b/c"
    assert str(jid.bare) == "a@b"
    assert jid.with_resource("d/e") == JID("a", "b", "d/e")
    assert jid.with_resource(None) == jid.bare
    with pytest.raises(JidError):
        jid.with_resource("")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a@bücher.example", "xn--bcher-kva.example"),
        ("a@xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a@例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("a@example.org/x", "example.org"),
        ("x_y.bücher.example", "x_y.xn--bcher-kva.example"),
        ("a@[::1]", "::1"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_domain_has_a_form_for_dns(text: str, name: str) -> None:
    assert JID.parse(text).ascii_domain == name


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("test01@LOCALHOST", "test01@localhost", True),
        ("A@b/R", "a@B/R", True),
        ("a@b/R", "a@b/r", False),
        ("a@bücher.example", "a@xn--bcher-kva.example", True),
        ("a@b", "a@b/c", False),
        ("not an@address", "not an@address", True),
        ("not an@address", "Not an@address", False),
        ("a@b", "not an@address", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_addresses_are_compared_in_prepared_form(a: str, b: str, same: bool) -> None:
    assert same_address(a, b) is same
    assert same_address(b, a) is same


def test_parsing_the_same_text_again_is_remembered() -> None:
    assert JID.parse("remembered@example.org") is JID.parse("remembered@example.org")


def test_only_text_is_parsed() -> None:
    with pytest.raises(JidError, match="not from bytes"):
        JID.parse(b"a@b")  # type: ignore[arg-type]


def test_plain_ascii_needs_no_tables() -> None:
    program = (
        "import sys; from pcj.jid import JID; JID.parse('Romeo@Example.org/Or chard');"
        "print(sorted({'precis_i18n', 'idna', 'ipaddress'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


addresses = st.one_of(
    st.text(max_size=20),
    st.text(alphabet=st.sampled_from("aZ09-_.@/[]: éßσςİ\u3002\uff20\u00a0\u0301אx"), max_size=12),
    st.tuples(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8)).map(lambda p: f"{p[0]}@{p[1]}/{p[2]}"),
)


@given(addresses)
def test_preparing_a_prepared_address_changes_nothing(text: str) -> None:
    try:
        jid = JID.parse(text)
    except JidError:
        return
    assert JID.parse(str(jid)) == jid
    assert JID(jid.local, jid.domain, jid.resource) == jid
    assert jid.ascii_domain.isascii()
    if not jid.domain.startswith("["):
        assert JID(None, jid.ascii_domain).domain == jid.domain


@given(st.text(alphabet=st.characters(max_codepoint=127), min_size=1, max_size=12))
def test_the_short_way_for_ascii_gives_what_precis_gives(text: str) -> None:
    assume(not any(char in "\"&'/:<>@" for char in text))
    for profile, parts in (("UsernameCaseMapped", (text, None)), ("OpaqueString", (None, text))):
        try:
            expected = get_profile(profile).enforce(text)
        except UnicodeEncodeError:
            with pytest.raises(JidError):
                JID(parts[0], "x", parts[1])
        else:
            jid = JID(parts[0], "x", parts[1])
            assert (jid.resource if parts[0] is None else jid.local) == expected
