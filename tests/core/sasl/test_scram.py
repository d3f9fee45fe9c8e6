"""SCRAM: the vectors of the RFCs, and every bad message of a server, one row each."""

from __future__ import annotations

import base64
import hashlib
import traceback

import pytest

from pcj.errors import ConfigError, SaslError
from pcj.sasl import Channel, Credentials, Limits, Success
from pcj.sasl.scram import SCRAM_SHA_1, SCRAM_SHA_256, SCRAM_SHA_512, client_proof, exchange
from pcj.sasl.steps import Challenge, Compute, Mechanism
from tests.core.sasl.exchanges import Client, client

PENCIL = Credentials("user", "pencil")

# RFC 5802 5 and RFC 7677 3.
VECTORS = [
    pytest.param(
        SCRAM_SHA_1,
        "fyko+d2lbbFgONRv9qkxdawL",
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        id="RFC5802",
    ),
    pytest.param(
        SCRAM_SHA_256,
        "rOprNGfwEbeRWgbNEkqO",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        id="RFC7677",
    ),
]

OURS = "fyko+d2lbbFgONRv9qkxdawL"
FIRST = b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
FINAL = b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="


def started(mechanism: Mechanism = SCRAM_SHA_1, limits: Limits | None = None) -> Client:
    user = client(mechanism, PENCIL, OURS, limits)
    user.start()
    return user


def server_first(*, r: str = OURS + "theirs", s: str = "QSXCR+Q6sek8bf92", i: str = "4096") -> bytes:
    return f"r={r},s={s},i={i}".encode()


@pytest.mark.parametrize(("mechanism", "nonce", "first", "challenge", "response", "final"), VECTORS)
def test_the_example_of_the_rfc_is_reproduced(
    mechanism: Mechanism, nonce: str, first: bytes, challenge: bytes, response: bytes, final: bytes
) -> None:
    user = client(mechanism, PENCIL, nonce)
    assert user.start() == first
    assert user.challenge(challenge) == response
    user.success(final)
    assert user.done


@pytest.mark.parametrize(("mechanism", "nonce", "first", "challenge", "response", "final"), VECTORS)
def test_the_proof_may_come_in_a_challenge_before_a_bare_success(
    mechanism: Mechanism, nonce: str, first: bytes, challenge: bytes, response: bytes, final: bytes
) -> None:
    user = client(mechanism, PENCIL, nonce)
    assert user.start() == first
    assert user.challenge(challenge) == response
    assert user.challenge(final) == b""
    user.success(None)


BAD_FIRST = [
    pytest.param(server_first(r="another-nonce"), "nonce", id="S05-another"),
    pytest.param(server_first(r=OURS), "nonce", id="S05-nothing-added"),
    pytest.param(server_first(r=OURS[:-1]), "nonce", id="S05-shorter"),
    pytest.param(server_first(r=OURS + ",x"), "malformed", id="S05-comma"),
    pytest.param(server_first(r=OURS + "\x07"), "nonce", id="S05-control"),
    pytest.param(server_first(r=OURS + " x"), "nonce", id="S05-space"),
    pytest.param(server_first(r=OURS + "é"), "nonce", id="S05-not-ascii"),
    pytest.param(server_first(i="1"), "fewer than 4096", id="S06-1"),
    pytest.param(server_first(i="0"), "no positive number", id="S06-0"),
    pytest.param(server_first(i="-1"), "no positive number", id="S06-negative"),
    pytest.param(server_first(i="4095"), "fewer than 4096", id="S06-4095"),
    pytest.param(server_first(i="1000001"), "at most 1000000", id="S06-ceiling"),
    pytest.param(server_first(i="1000000000"), "at most 1000000", id="S06-1e9"),
    pytest.param(server_first(i="1e9"), "no positive number", id="S06-exponent"),
    pytest.param(server_first(i="99999999999999999999"), "no positive number", id="S06-20-digits"),
    pytest.param(server_first(i="9" * 5000), "no positive number", id="S06-5000-digits"),
    pytest.param(server_first(i="٤٠٩٦"), "no positive number", id="S06-arabic"),
    pytest.param(server_first(i="+5000"), "no positive number", id="S06-plus"),
    pytest.param(server_first(i=" 5000"), "no positive number", id="S06-space"),
    pytest.param(server_first(i="5_000"), "no positive number", id="S06-underscore"),
    pytest.param(server_first(i="05000"), "no positive number", id="S06-leading-zero"),
    pytest.param(server_first(s=""), "malformed", id="S07-empty"),
    pytest.param(server_first(s="===="), "salt", id="S07-padding-only"),
    pytest.param(server_first(s="QSXCR-Q6"), "salt", id="S07-not-base64"),
    pytest.param(server_first(s="QSXC R+Q6"), "salt", id="S07-space"),
    pytest.param(server_first(s="QSXCR+Q6s"), "salt", id="S07-bad-padding"),
    pytest.param(server_first(s=base64.b64encode(bytes(1025)).decode()), "salt", id="S07-1025-octets"),
    pytest.param(server_first(s=base64.b64encode(bytes(10_000_000)).decode()), "octets", id="S07-10-MB"),
    pytest.param(b"m=x," + server_first(), "demands", id="S08-first"),
    pytest.param(server_first() + b",m=x", "demands", id="S08-last"),
    pytest.param(server_first() + b",x", "malformed", id="S09-extension-without-value"),
    pytest.param(server_first() + b",x=", "malformed", id="S09-extension-of-nothing"),
    pytest.param(server_first() + b",1=x", "malformed", id="S09-extension-not-a-letter"),
    pytest.param(server_first() + b",x=\0", "malformed", id="S09-extension-with-NUL"),
    pytest.param(server_first() + b",", "malformed", id="S09-comma-at-the-end"),
    pytest.param(server_first() + b",s=QSXCR+Q6", "order", id="S10-salt-again"),
    pytest.param(server_first() + b",r=x", "order", id="S10-nonce-again"),
    pytest.param(server_first() + b",x=1,x=2", "order", id="S10-extension-twice"),
    pytest.param(server_first() + b",v=abcd", "order", id="S10-v-here"),
    pytest.param(b"i=4096," + server_first()[:-7], "order", id="S10-i-first"),
    pytest.param(b"x=1," + server_first(), "order", id="S10-extension-first"),
    pytest.param(server_first()[:-7], "order", id="S10-i-missing"),
    pytest.param(b"e=unknown-user", '"unknown-user"', id="S11-at-once"),
    pytest.param(b"", "malformed", id="S22-empty"),
    pytest.param(b"\xff\xfe", "UTF-8", id="S22-not-utf-8"),
]


@pytest.mark.parametrize(("message", "reason"), BAD_FIRST)
def test_a_bad_first_message_of_the_server_ends_the_exchange(message: bytes, reason: str) -> None:
    user = started()
    with pytest.raises(SaslError, match=reason) as caught:
        user.challenge(message)
    assert len(user.sent) == 1  # no proof was given away
    assert len(str(caught.value)) < 500


BAD_FINAL = [
    pytest.param(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "signature .* is wrong", id="S02-wrong"),
    pytest.param(b"v=rmF9pqV8S7suAoZWja4dJRkFsA==", "is wrong", id="S02-shorter"),
    pytest.param(b"v=rmF9", "is wrong", id="S02-much-shorter"),
    pytest.param(b"v=====", "no signature", id="S02-not-base64"),
    pytest.param(b"v=", "malformed", id="S02-empty"),
    pytest.param(b"x=1", "no signature", id="S01-only-an-extension"),
    pytest.param(b"x=1," + FINAL, "no signature", id="S10-extension-first"),
    pytest.param(FINAL + b"," + FINAL, "no signature", id="S10-twice"),
    pytest.param(FINAL + b",e=other-error", "no signature", id="S10-error-too"),
    pytest.param(FIRST, "no signature", id="S10-first-message-again"),
    pytest.param(b"e=other-error", 'error "other-error"', id="S11"),
    pytest.param(b"e=\x1b[31mred", r'error "\\x1b\[31mred"', id="S11-escaped"),
    pytest.param(b"e=" + b"x" * 5000, r'x"\.\.\.', id="S11-bounded"),
    pytest.param(b"v=" + b"A" * 10_000, "octets", id="S23-10-KB"),
    pytest.param(b"\xff", "UTF-8", id="S22-not-utf-8"),
]


@pytest.mark.parametrize(("message", "reason"), BAD_FINAL)
@pytest.mark.parametrize("in_success", [True, False], ids=["success", "challenge"])
def test_a_bad_last_message_of_the_server_ends_the_exchange(message: bytes, reason: str, in_success: bool) -> None:
    user = started()
    user.challenge(FIRST)
    with pytest.raises(SaslError, match=reason):
        user.success(message) if in_success else user.challenge(message)
    assert len(user.sent) == 2


def test_success_without_signature_is_refused() -> None:  # S01
    for nothing in (None, b""):
        user = started()
        user.challenge(FIRST)
        with pytest.raises(SaslError, match="without proving"):
            user.success(nothing)


def test_success_before_any_challenge_is_refused_whatever_it_carries() -> None:  # S04
    for data in (None, b"", FINAL):
        with pytest.raises(SaslError, match="before proving"):
            started().success(data)


def test_an_empty_challenge_is_no_proof() -> None:  # S03
    user = started()
    user.challenge(FIRST)
    with pytest.raises(SaslError, match="malformed"):
        user.challenge(b"")


def test_a_wrong_signature_behind_a_right_one_is_refused() -> None:
    user = started()
    user.challenge(FIRST)
    user.challenge(FINAL)
    with pytest.raises(SaslError, match="is wrong"):
        user.success(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAA=")


def test_a_third_challenge_is_refused() -> None:  # S23
    user = started()
    user.challenge(FIRST)
    user.challenge(FINAL)
    with pytest.raises(SaslError, match="one challenge more"):
        user.challenge(FINAL)


def test_extensions_behind_the_iteration_count_are_ignored_and_signed() -> None:  # S09
    extended = FIRST + b",h=abc=,x=\xc3\xa9"
    user = started()
    response = user.challenge(extended)
    assert response is not None
    without_proof, _, proof = response.rpartition(b",p=")
    signed = b"n=user,r=" + OURS.encode() + b"," + extended + b"," + without_proof
    salted = hashlib.pbkdf2_hmac("sha1", b"pencil", base64.b64decode("QSXCR+Q6sek8bf92"), 4096)
    assert base64.b64decode(proof) == client_proof("sha1", salted, signed)


def test_the_bounds_of_iterations_are_those_handed_in() -> None:
    assert started(limits=Limits(min_iterations=1)).challenge(server_first(i="1"))
    with pytest.raises(SaslError, match="at most 5000"):
        started(limits=Limits(max_iterations=5000)).challenge(server_first(i="5001"))
    assert started(limits=Limits(max_iterations=5000)).challenge(server_first(i="5000"))


def test_an_error_of_the_server_has_a_condition_that_decides_about_retrying() -> None:
    conditions = {}
    for error in ("invalid-proof", "no-resources", "made-up"):
        with pytest.raises(SaslError) as caught:
            started().challenge(f"e={error}".encode())
        conditions[error] = caught.value.condition
    assert conditions == {
        "invalid-proof": "not-authorized",
        "no-resources": "temporary-auth-failure",
        "made-up": "not-authorized",
    }


def test_names_are_escaped_and_prepared() -> None:
    credentials = Credentials("a,b=c\u00ad\u00aa", "pencil", authzid="x,y=z@example.org")
    assert client(SCRAM_SHA_1, credentials, "abc").start() == b"n,a=x=2Cy=3Dz@example.org,n=a=2Cb=3Dca,r=abc"


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials("", "pencil"),
        Credentials("\u00ad", "pencil"),
        Credentials("us\0er", "pencil"),
        Credentials("user", ""),
        Credentials("user", "hush\u0007hush"),
        Credentials("user", "hush\ud800hush"),
        Credentials("user", "pencil", authzid="a\0b"),
        Credentials("user", "pencil", authzid="a\nb"),
        Credentials("user", "pencil", authzid="a\ud800b"),
    ],
    ids=lambda value: ascii((value.username, value.authzid)),
)
def test_credentials_that_cannot_be_sent_are_refused_before_anything_is_sent(credentials: Credentials) -> None:
    with pytest.raises(ConfigError) as caught:
        client(SCRAM_SHA_512, credentials, "abc").start()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("nonce", ["", "a,b", "a b", "é", "a\n"])
def test_a_nonce_that_the_grammar_forbids_is_refused(nonce: str) -> None:
    with pytest.raises(ConfigError, match="nonce"):
        client(SCRAM_SHA_1, PENCIL, nonce).start()


def test_a_channel_binding_is_in_the_header_and_under_the_proof() -> None:
    user = Client(exchange("SHA-1", PENCIL, OURS, Limits(), Channel("p=tls-exporter", b"\1\2\3")))
    assert user.start() == b"p=tls-exporter,,n=user,r=" + OURS.encode()
    response = user.challenge(FIRST)
    assert response is not None
    assert response.startswith(b"c=" + base64.b64encode(b"p=tls-exporter,,\1\2\3") + b",r=")


def test_the_slow_part_is_left_to_the_shell_and_shows_no_secret() -> None:
    steps = SCRAM_SHA_256.exchange(Credentials("user", "hush"), OURS, Limits(), Channel())
    first = next(steps)
    compute = steps.send(Challenge(FIRST))
    assert isinstance(compute, Compute)
    assert compute.function is hashlib.pbkdf2_hmac
    response = steps.send(compute.run())
    shown = f"{first!r} {compute!r} {response!r} {Credentials('user', 'hush')!r} {Success(b'v=hush')!r}"
    assert "hush" not in shown
    assert "p=" not in shown


def test_a_driver_that_sends_something_else_is_told_so() -> None:
    steps = SCRAM_SHA_1.exchange(PENCIL, OURS, Limits(), Channel())
    next(steps)
    with pytest.raises(TypeError, match="was sent str"):
        steps.send("challenge")
    steps = SCRAM_SHA_1.exchange(PENCIL, OURS, Limits(), Channel())
    next(steps)
    steps.send(Challenge(FIRST))
    with pytest.raises(TypeError, match="Compute"):
        steps.send(Challenge(FIRST))
    user = started()
    user.challenge(FIRST)
    with pytest.raises(TypeError, match="was sent bytes"):
        user.exchange.send(FINAL)


def test_no_error_of_the_exchange_repeats_the_password() -> None:
    user = client(SCRAM_SHA_1, Credentials("user", "hush-hush"), OURS)
    user.start()
    user.challenge(FIRST)
    with pytest.raises(SaslError) as caught:
        user.success(FINAL)
    assert "hush" not in "".join(traceback.format_exception(caught.value))
