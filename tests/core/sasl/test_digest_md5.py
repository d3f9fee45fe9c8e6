"""DIGEST-MD5: the examples of RFC 2831 section 4, and every bad message of a server, one row each."""

from __future__ import annotations

import traceback

import pytest

from pcj.errors import ConfigError, SaslError
from pcj.sasl import Credentials
from pcj.sasl.digest_md5 import DIGEST_MD5, read_directives
from tests.core.sasl.exchanges import Client, client

CHALLENGE = b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8'
RSPAUTH = b"rspauth=ea40f60335c427b5527b84dbabcdfffd"


def chris(*, service: str = "imap", cnonce: str = "OA6MHXh6VqTrRk", realm: str | None = None) -> Client:
    credentials = Credentials("chris", "secret", host="elwood.innosoft.com", service=service, realm=realm)
    user = client(DIGEST_MD5, credentials, cnonce)
    assert user.start() is None
    return user


def response_of(user: Client, challenge: bytes) -> dict[str, list[str]]:
    response = user.challenge(challenge)
    assert response is not None
    return read_directives(response, 4096)


def test_the_imap_example_of_the_rfc_is_reproduced() -> None:
    user = chris()
    assert response_of(user, CHALLENGE) == {
        "charset": ["utf-8"],
        "username": ["chris"],
        "realm": ["elwood.innosoft.com"],
        "nonce": ["OA6MG9tEQGm2hh"],
        "nc": ["00000001"],
        "cnonce": ["OA6MHXh6VqTrRk"],
        "digest-uri": ["imap/elwood.innosoft.com"],
        "response": ["d388dad90d4bbd760a152321f2143af7"],
        "qop": ["auth"],
    }
    assert user.challenge(RSPAUTH) == b""
    user.success(None)


def test_the_acap_example_of_the_rfc_is_reproduced() -> None:
    user = chris(service="acap", cnonce="OA9BSuZWMSpW8m")
    directives = response_of(user, CHALLENGE.replace(b"OA6MG9tEQGm2hh", b"OA9BSXrbuRhWay"))
    assert directives["response"] == ["6084c6db3fede7352c551284490fd0fc"]
    user.success(b"rspauth=2f0b3d7c3c2e486600ef710726aa2eae")


def test_the_proof_may_come_with_the_success() -> None:
    user = chris()
    user.challenge(CHALLENGE)
    user.success(RSPAUTH)


GOOD_CHALLENGES = [
    pytest.param(CHALLENGE.replace(b'qop="auth"', b'qop="auth-int, auth"'), id="auth-among-others"),
    pytest.param(CHALLENGE.replace(b',qop="auth"', b""), id="no-qop-means-auth"),
    pytest.param(CHALLENGE.replace(b'qop="auth"', b"qop=auth"), id="unquoted"),
    pytest.param(CHALLENGE.replace(b",", b" ,\r\n\t,, ") + b" , ", id="white-space-and-empty-elements"),
    pytest.param(CHALLENGE.replace(b"realm", b"REALM").replace(b"md5-sess", b"MD5-Sess"), id="upper-case"),
    pytest.param(CHALLENGE + b',unheard="of, \\"this\\"",unheard=of', id="unknown-directives"),
    pytest.param(CHALLENGE + b',realm="second.example"', id="S21-two-realms"),
    pytest.param(CHALLENGE.replace(b"elwood", b"\\elw\\ood"), id="needless-backslashes"),
    pytest.param(CHALLENGE.replace(b",charset=utf-8", b""), id="no-charset"),
    pytest.param(CHALLENGE + b",x=" + b"x" * (2048 - len(CHALLENGE) - 3), id="2048-octets"),
]


@pytest.mark.parametrize("challenge", GOOD_CHALLENGES)
def test_a_challenge_written_in_another_way_gets_the_same_answer(challenge: bytes) -> None:
    user = chris()
    assert response_of(user, challenge)["response"] == ["d388dad90d4bbd760a152321f2143af7"]
    user.success(RSPAUTH)


BAD_CHALLENGES = [
    pytest.param(b"", "no directive", id="S22-empty"),
    pytest.param(b" , ,", "no directive", id="S22-commas"),
    pytest.param(b"rubbish", "malformed", id="S22-rubbish"),
    pytest.param(CHALLENGE + b',x="open', "malformed", id="S22-open-quote"),
    pytest.param(CHALLENGE + b',x="open\\', "malformed", id="S22-open-escape"),
    pytest.param(CHALLENGE + b',x="a"b', "malformed", id="S22-behind-the-quote"),
    pytest.param(CHALLENGE.replace(b"OA6MG9tEQGm2hh", b""), "no nonce", id="S21-empty-nonce"),
    pytest.param(CHALLENGE.replace(b"nonce=", b"x="), "no nonce", id="S21-no-nonce"),
    pytest.param(CHALLENGE + b',nonce="x"', '"nonce" twice', id="S21-nonce-twice"),
    pytest.param(CHALLENGE + b",qop=auth", '"qop" twice', id="S21-qop-twice"),
    pytest.param(CHALLENGE + b",Algorithm=md5-sess", '"algorithm" twice', id="S21-algorithm-twice"),
    pytest.param(CHALLENGE.replace(b'"auth"', b'"auth-conf"'), 'only the protection "auth-conf"', id="S21-auth-conf"),
    pytest.param(CHALLENGE.replace(b"algorithm=md5-sess,", b""), "algorithm", id="S21-no-algorithm"),
    pytest.param(CHALLENGE.replace(b"md5-sess", b"md5"), "algorithm", id="S21-http-algorithm"),
    pytest.param(CHALLENGE.replace(b"utf-8", b"iso-8859-1"), "character set", id="S21-charset-iso"),
    pytest.param(CHALLENGE + b',x="\xff"', "not", id="S21-says-utf-8-and-is-not"),
    pytest.param(CHALLENGE + b",x=" + b"x" * (2049 - len(CHALLENGE) - 3), "2049 octets", id="S21-2049-octets"),
]


@pytest.mark.parametrize(("challenge", "reason"), BAD_CHALLENGES)
def test_a_bad_challenge_ends_the_exchange(challenge: bytes, reason: str) -> None:
    user = chris()
    with pytest.raises(SaslError, match=reason):
        user.challenge(challenge)
    assert user.sent == [None]


BAD_PROOFS = [
    pytest.param(b"rspauth=ea40f60335c427b5527b84dbabcdfffe", "wrong", id="S21-wrong-rspauth"),
    pytest.param(b"rspauth=ea40", "wrong", id="S21-short-rspauth"),
    pytest.param(b'rspauth="\xc3\xa9"', "wrong", id="S21-not-ascii"),
    pytest.param(b"x=y", "missing", id="S21-no-rspauth"),
    pytest.param(RSPAUTH + b"," + RSPAUTH, "twice", id="S21-rspauth-twice"),
    pytest.param(CHALLENGE.replace(b"algo", b"stale=true,algo"), "missing", id="S21-stale-nonce"),
]


@pytest.mark.parametrize(("proof", "reason"), BAD_PROOFS)
@pytest.mark.parametrize("in_success", [True, False], ids=["success", "challenge"])
def test_a_server_that_does_not_prove_itself_is_refused(proof: bytes, reason: str, in_success: bool) -> None:
    user = chris()
    user.challenge(CHALLENGE)
    with pytest.raises(SaslError, match=reason):
        user.success(proof) if in_success else user.challenge(proof)
    assert len(user.sent) == 2


def test_success_without_rspauth_is_refused() -> None:  # S21
    for nothing in (None, b""):
        user = chris()
        user.challenge(CHALLENGE)
        with pytest.raises(SaslError, match="without proving"):
            user.success(nothing)


def test_success_before_any_challenge_is_refused() -> None:  # S04
    with pytest.raises(SaslError, match="before proving"):
        chris().success(RSPAUTH)


def test_a_third_challenge_is_refused() -> None:  # S23
    user = chris()
    user.challenge(CHALLENGE)
    user.challenge(RSPAUTH)
    with pytest.raises(SaslError, match="one challenge more"):
        user.challenge(RSPAUTH)


def test_the_realm_is_the_given_one_then_the_first_offered_then_the_host() -> None:
    router = CHALLENGE.replace(b"elwood.innosoft.com", b"jabberd-router")
    without = CHALLENGE.replace(b'realm="elwood.innosoft.com",', b"")
    assert response_of(chris(realm="given"), router)["realm"] == ["given"]
    assert response_of(chris(), router + b',realm="second"')["realm"] == ["jabberd-router"]
    assert response_of(chris(), without)["realm"] == ["elwood.innosoft.com"]


def test_an_authorization_identity_is_sent_and_quotes_are_escaped() -> None:
    user = client(DIGEST_MD5, Credentials('a"b\\c', "secret", authzid="boss@x", host="x"), "cnonce")
    user.start()
    response = user.challenge(CHALLENGE)
    assert response is not None
    assert rb'username="a\"b\\c"' in response
    assert read_directives(response, 4096)["authzid"] == ["boss@x"]


def test_names_beyond_latin_1_need_a_server_that_knows_utf_8() -> None:
    for username, password in (("łukasz", "secret"), ("lukasz", "hush-łł")):
        user = client(DIGEST_MD5, Credentials(username, password, host="x"), "cnonce")
        user.start()
        with pytest.raises(SaslError, match="ISO 8859-1") as caught:
            user.challenge(CHALLENGE.replace(b",charset=utf-8", b""))
        assert "hush" not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None


def test_a_response_longer_than_the_rfc_allows_is_not_sent() -> None:
    user = client(DIGEST_MD5, Credentials("u" * 4000, "secret", host="x"), "cnonce")
    user.start()
    with pytest.raises(SaslError, match="allows 4096"):
        user.challenge(CHALLENGE)


def test_a_nonce_that_cannot_be_written_is_refused() -> None:
    for nonce in ("", "é", "a\nb"):
        with pytest.raises(ConfigError, match="nonce"):
            client(DIGEST_MD5, Credentials("chris", "secret"), nonce).start()
