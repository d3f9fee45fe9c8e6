"""Our client against our own answering side, in memory."""

from __future__ import annotations

import pytest

from pcj.errors import SaslError
from pcj.sasl import MECHANISMS, Challenge, Channel, Credentials, Guard, Mechanism, Need, Success
from pcj.sasl.anonymous import ANONYMOUS
from pcj.sasl.external import EXTERNAL
from pcj.sasl.plain import PLAIN
from pcj.sasl.scram import SCRAM_SHA_1, SCRAM_SHA_256_PLUS, SCRAM_SHA_512
from pcj.sasl.server import Answer, answer
from tests.core.sasl.exchanges import authenticate, client

ACCOUNTS = {
    "romeo": "neither, fair maid",
    "rené": "Zürich-Ωmega",
    "łukasz": "zażółć gęślą jaźń \U0001f511",
    "a,b=c": "x=1,y=2",
    'quo"te\\': 'pass"word\\',
}

BINDINGS = {"tls-exporter": b"octets of the session"}
WITH_PASSWORD = [mechanism for mechanism in MECHANISMS if mechanism.need is Need.PASSWORD]
OFFERED = [mechanism.name for mechanism in MECHANISMS]

each_mechanism = pytest.mark.parametrize("mechanism", WITH_PASSWORD, ids=lambda mechanism: mechanism.name)


def channel_for(mechanism: Mechanism) -> Channel:
    """What suits the mechanism, at a server that offers all and vouches for it."""
    bound = mechanism.guard is Guard.BOUND
    flag, data = ("p=tls-exporter", BINDINGS["tls-exporter"]) if bound else ("n", b"")
    return Channel(flag, data, tuple(OFFERED), tuple(BINDINGS), vouched=True)


def serve(mechanism: Mechanism, initial: bytes | None, *, proof_in_success: bool = True, utf8: bool = True) -> Answer:
    return answer(
        mechanism.name,
        initial,
        password_of=ACCOUNTS.get,
        realm="verona.example",
        nonce="server-nonce",
        salt=b"salty",
        utf8=utf8,
        proof_in_success=proof_in_success,
        offered=OFFERED,
        bindings=BINDINGS,
        vouch=True,
    )


def login(mechanism: Mechanism, credentials: Credentials, *, proof_in_success: bool = True, utf8: bool = True) -> str:
    user = client(mechanism, credentials, "client-nonce", channel=channel_for(mechanism))
    initial = user.start()
    server = serve(mechanism, initial, proof_in_success=proof_in_success, utf8=utf8)
    return authenticate(user, server, initial)


@each_mechanism
@pytest.mark.parametrize("username", ACCOUNTS, ids=ascii)
@pytest.mark.parametrize("proof_in_success", [True, False], ids=["in-success", "in-challenge"])
def test_a_client_with_the_right_password_gets_in(mechanism: Mechanism, username: str, proof_in_success: bool) -> None:
    credentials = Credentials(username, ACCOUNTS[username], host="verona.example")
    assert login(mechanism, credentials, proof_in_success=proof_in_success) == username


@each_mechanism
def test_other_spellings_of_the_same_name_and_password_get_in(mechanism: Mechanism) -> None:
    credentials = Credentials("rene\u0301", "Zu\u0308rich-\u2126mega", host="verona.example")
    assert login(mechanism, credentials) == "rené"


@each_mechanism
@pytest.mark.parametrize("authzid", ["romeo", "romeo@verona.example"])
def test_a_user_may_name_himself_as_the_one_to_act_as(mechanism: Mechanism, authzid: str) -> None:
    credentials = Credentials("romeo", ACCOUNTS["romeo"], authzid=authzid, host="verona.example")
    assert login(mechanism, credentials) == "romeo"


@each_mechanism
@pytest.mark.parametrize(
    ("credentials", "condition"),
    [
        (Credentials("romeo", "wrong", host="verona.example"), "not-authorized"),
        (Credentials("nobody", "neither, fair maid", host="verona.example"), "not-authorized"),
        (Credentials("romeo", "neither, fair maid", authzid="juliet", host="verona.example"), "invalid-authzid"),
    ],
    ids=["wrong-password", "no-such-user", "another-identity"],
)
def test_others_stay_out(mechanism: Mechanism, credentials: Credentials, condition: str) -> None:
    with pytest.raises(SaslError) as caught:
        login(mechanism, credentials)
    assert caught.value.condition == condition


def test_digest_md5_works_in_latin_1_where_the_server_has_no_utf_8() -> None:
    (digest_md5,) = (each for each in MECHANISMS if each.name == "DIGEST-MD5")
    credentials = Credentials("rené", "Zürich", host="verona.example")
    user = client(digest_md5, credentials, "client-nonce")
    server = answer(
        "DIGEST-MD5",
        user.start(),
        password_of={"rené": "Zürich"}.get,
        realm="verona.example",
        nonce="server-nonce",
        utf8=False,
    )
    assert authenticate(user, server, None) == "rené"


@each_mechanism
def test_a_client_that_sends_its_first_message_late_is_asked_for_it(mechanism: Mechanism) -> None:
    user = client(
        mechanism,
        Credentials("romeo", ACCOUNTS["romeo"], host="verona.example"),
        "client-nonce",
        channel=channel_for(mechanism),
    )
    initial = user.start()
    server = serve(mechanism, None)
    step = next(server)
    assert isinstance(step, Challenge)
    if initial is not None:
        assert step.data == b""
        step = server.send(initial)
    while isinstance(step, Challenge):
        step = server.send(user.challenge(step.data))
    user.success(step.data)


def play(server: Answer, responses: list[bytes | None]) -> None:
    next(server)
    for response in responses:
        server.send(response)


@pytest.mark.parametrize(
    ("name", "responses", "condition"),
    [
        ("X-MADE-UP", [b""], "invalid-mechanism"),
        ("PLAIN", [b"romeo"], "malformed-request"),
        ("PLAIN", [b"\0romeo\0"], "malformed-request"),
        ("PLAIN", [b"\0\xff\0x"], "malformed-request"),
        ("PLAIN", [b"\0a\0b\0c"], "malformed-request"),
        ("PLAIN", [None, None], "malformed-request"),
        ("SCRAM-SHA-1", [b""], "malformed-request"),
        ("SCRAM-SHA-1", [b"p=tls-exporter,,n=romeo,r=abc"], "malformed-request"),
        ("SCRAM-SHA-1-PLUS", [b"p=x-made-up,,n=romeo,r=abc"], "malformed-request"),
        ("SCRAM-SHA-1-PLUS", [b"n,,n=romeo,r=abc"], "malformed-request"),
        ("SCRAM-SHA-1-PLUS", [b"y,,n=romeo,r=abc"], "malformed-request"),
        ("EXTERNAL", [b""], "not-authorized"),
        ("ANONYMOUS", [b""], "not-authorized"),
        ("SCRAM-SHA-1", [b"n,,n=romeo"], "malformed-request"),
        ("SCRAM-SHA-1", [b"n,,n=ro=me,r=abc"], "malformed-request"),
        ("SCRAM-SHA-1", [b"n,,n=romeo,r=a b"], "malformed-request"),
        ("SCRAM-SHA-1", [b"n,,n=ro\x07meo,r=ab"], "malformed-request"),
        ("SCRAM-SHA-1", [b"n,,n=romeo,r=abc", b"c=biws,r=abcserver-nonce"], "malformed-request"),
        ("SCRAM-SHA-1", [b"n,,n=romeo,r=abc", b"c=biws,r=other,p=AAAA"], "not-authorized"),
        ("SCRAM-SHA-1", [b"n,,n=romeo,r=abc", b"c=eSws,r=abcserver-nonce,p=AAAA"], "not-authorized"),
        ("SCRAM-SHA-1", [b"y,,n=romeo,r=abc", b"c=eSws,r=abcserver-nonce,p=AAAA"], "not-authorized"),
        ("DIGEST-MD5", [b"early"], "malformed-request"),
        ("DIGEST-MD5", [None, b"username=romeo"], "malformed-request"),
        (
            "DIGEST-MD5",
            [None, b"username=romeo,nonce=old,cnonce=x,nc=00000001,digest-uri=x,response=x"],
            "not-authorized",
        ),
    ],
)
def test_a_bad_response_is_refused_with_its_condition(name: str, responses: list[bytes | None], condition: str) -> None:
    server = answer(name, responses[0], password_of=ACCOUNTS.get, nonce="server-nonce")
    with pytest.raises(SaslError) as caught:
        play(server, responses[1:])
    assert caught.value.condition == condition


def test_the_proof_in_a_challenge_wants_an_empty_response() -> None:
    user = client(SCRAM_SHA_512, Credentials("romeo", ACCOUNTS["romeo"]), "client-nonce")
    server = serve(SCRAM_SHA_512, user.start(), proof_in_success=False)
    step = next(server)
    step = server.send(user.challenge(step.data or b""))
    with pytest.raises(SaslError, match="empty response"):
        server.send(b"something")


def test_plain_succeeds_without_data() -> None:
    server = serve(PLAIN, b"\0romeo\0neither, fair maid")
    assert next(server) == Success(None)


def at_odds(mechanism: Mechanism, channel: Channel) -> SaslError:
    """What becomes of an exchange whose two sides see different things."""
    user = client(mechanism, Credentials("romeo", ACCOUNTS["romeo"]), "client-nonce", channel=channel)
    initial = user.start()
    with pytest.raises(SaslError) as caught:
        authenticate(user, serve(mechanism, initial), initial)
    return caught.value


def test_a_client_in_another_tls_session_stays_out() -> None:  # S15
    error = at_odds(SCRAM_SHA_256_PLUS, Channel("p=tls-exporter", b"octets of another session"))
    assert error.condition == "not-authorized"


def test_a_client_that_did_not_see_plus_is_told_so() -> None:  # S12
    assert "did not see" in str(at_odds(SCRAM_SHA_1, Channel("y")))


@pytest.mark.parametrize(
    ("mechanisms", "types"),
    [
        (OFFERED[1:], tuple(BINDINGS)),
        ([*OFFERED, "X-MORE"], tuple(BINDINGS)),
        (OFFERED, ("tls-unique",)),
        (OFFERED, ()),
        (OFFERED, None),
    ],
    ids=["one-less", "one-more", "other-types", "no-types", "without-types"],
)
def test_a_list_that_was_altered_on_the_way_is_seen_before_any_proof_is_sent(
    mechanisms: list[str], types: tuple[str, ...] | None
) -> None:  # S16
    user = client(
        SCRAM_SHA_1,
        Credentials("romeo", ACCOUNTS["romeo"]),
        "client-nonce",
        channel=Channel("n", b"", tuple(mechanisms), types),
    )
    server = serve(SCRAM_SHA_1, user.start())
    challenge = next(server)
    with pytest.raises(SaslError, match="altered on the way"):
        user.challenge(challenge.data or b"")
    assert len(user.sent) == 1


def test_the_order_of_a_list_does_not_matter() -> None:
    channel = Channel("n", b"", tuple(reversed(OFFERED)), tuple(BINDINGS), vouched=True)
    user = client(SCRAM_SHA_1, Credentials("romeo", ACCOUNTS["romeo"]), "client-nonce", channel=channel)
    initial = user.start()
    assert authenticate(user, serve(SCRAM_SHA_1, initial), initial) == "romeo"


def test_where_the_server_must_vouch_and_does_not_no_proof_is_sent() -> None:
    user = client(SCRAM_SHA_1, Credentials("romeo", "x"), "client-nonce", channel=Channel(vouched=True))
    server = answer("SCRAM-SHA-1", user.start(), password_of=ACCOUNTS.get, nonce="server-nonce")
    with pytest.raises(SaslError, match="does not prove"):
        user.challenge(next(server).data or b"")


@pytest.mark.parametrize("late", [False, True], ids=["at-once", "when-asked"])
def test_external_is_who_the_certificate_says(late: bool) -> None:
    for authzid in ("", "romeo", "romeo@verona.example"):
        user = client(EXTERNAL, Credentials("", authzid=authzid), "unused")
        initial = user.start()
        server = answer(
            "EXTERNAL",
            None if late else initial,
            password_of=ACCOUNTS.get,
            nonce="",
            realm="verona.example",
            certified="romeo",
        )
        step = next(server)
        if late:
            assert step == Challenge(b"")
            step = server.send(initial)
        assert step == Success(None)
        user.success()
        assert user.done


def test_external_takes_nobody_elses_place() -> None:
    for authzid, condition in ((b"juliet", "invalid-authzid"), (b"\xff", "malformed-request")):
        with pytest.raises(SaslError) as caught:
            next(answer("EXTERNAL", authzid, password_of=ACCOUNTS.get, nonce="", certified="romeo"))
        assert caught.value.condition == condition


def test_anonymous_says_nothing_of_the_user() -> None:
    user = client(ANONYMOUS, Credentials("romeo", ACCOUNTS["romeo"]), "unused")
    initial = user.start()
    assert initial is None
    server = answer("ANONYMOUS", initial, password_of=ACCOUNTS.get, nonce="", anonymous="guest-7")
    assert authenticate(user, server, None) == "guest-7"
    assert user.sent == [None, b""]


@pytest.mark.parametrize("mechanism", [EXTERNAL, ANONYMOUS], ids=lambda mechanism: mechanism.name)
def test_a_challenge_too_many_is_refused(mechanism: Mechanism) -> None:
    user = client(mechanism, Credentials("romeo"), "unused")
    user.start()
    with pytest.raises(SaslError, match="challenge"):
        user.challenge(b"")
        user.challenge(b"")
