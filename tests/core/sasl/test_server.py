"""Our client against our own answering side, in memory."""

from __future__ import annotations

import pytest

from pcj.errors import SaslError
from pcj.sasl import MECHANISMS, Challenge, Credentials, Mechanism, Success
from pcj.sasl.plain import PLAIN
from pcj.sasl.server import Answer, answer
from tests.core.sasl.exchanges import authenticate, client

ACCOUNTS = {
    "romeo": "neither, fair maid",
    "rené": "Zürich-Ωmega",
    "łukasz": "zażółć gęślą jaźń \U0001f511",
    "a,b=c": "x=1,y=2",
    'quo"te\\': 'pass"word\\',
}

each_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)


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
    )


def login(mechanism: Mechanism, credentials: Credentials, *, proof_in_success: bool = True, utf8: bool = True) -> str:
    user = client(mechanism, credentials, "client-nonce")
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
    digest_md5 = MECHANISMS[3]
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
    user = client(mechanism, Credentials("romeo", ACCOUNTS["romeo"], host="verona.example"), "client-nonce")
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
    user = client(MECHANISMS[0], Credentials("romeo", ACCOUNTS["romeo"]), "client-nonce")
    server = serve(MECHANISMS[0], user.start(), proof_in_success=False)
    step = next(server)
    step = server.send(user.challenge(step.data or b""))
    with pytest.raises(SaslError, match="empty response"):
        server.send(b"something")


def test_plain_succeeds_without_data() -> None:
    server = serve(PLAIN, b"\0romeo\0neither, fair maid")
    assert next(server) == Success(None)
