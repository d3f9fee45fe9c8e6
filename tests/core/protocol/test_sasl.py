"""SASL over the stream: what of it is bound to TLS, remembered, warned of, and refused before anything is shown."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from pcj.events import Event
from pcj.protocol import Negotiator, dialect_of
from pcj.protocol.actions import AskPassword, Failed, Fire
from pcj.sasl import Guard, Memory
from pcj.sasl.scram import offer_hash
from tests.core.protocol.play import Facts, Play, Tokens, config, features, mechanisms, play, sasl, server_header

NAMES = ("SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "PLAIN")
END_POINT = Facts(bindings={"tls-server-end-point": b"hash of the certificate"})
EXPORTER = Facts(bindings={"tls-exporter": b"exported", "tls-server-end-point": b"hash of the certificate"})


def types(*names: str) -> str:
    """The feature of XEP-0440."""
    listed = "".join(f"<channel-binding type='{name}'/>" for name in names)
    return f"<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>{listed}</sasl-channel-binding>"


def offering(*names: str, cb: str = "", answer: str = "") -> list[str]:
    return ["T: ok", f"S: {server_header()}{features(mechanisms(*names) + cb)}", *([f"S: {answer}"] if answer else [])]


def first_message(done: Play) -> bytes:
    """What <auth/> carried."""
    (text,) = re.findall(r"<auth [^>]*>([^<]*)</auth>", done.sent)
    return base64.b64decode(text) if text != "=" else b""


def warnings(done: Play) -> list[str]:
    return [str(fire.detail["what"]) for fire in done.fired if fire.event == Event.WARNING]


def run(facts: Facts, lines: list[str], *, memory: Memory | None = None, **options: Any) -> Play:
    return play(config(direct_tls=True, **options), lines, facts=facts, memory=memory)


def challenge(done: str, **said: str) -> str:
    """A server-first message to the nonce that this test's tokens make."""
    parts = {"r": f"{done}theirs", "s": base64.b64encode(b"salt").decode(), "i": "4096", **said}
    message = ",".join(f"{key}={value}" for key, value in parts.items())
    return sasl("challenge", base64.b64encode(message.encode()).decode())


# ---- channel binding


@pytest.mark.parametrize(
    ("facts", "offered", "said"),
    [
        (EXPORTER, types("tls-server-end-point", "tls-exporter"), b"p=tls-exporter,,"),
        (END_POINT, types("tls-exporter", "tls-server-end-point"), b"p=tls-server-end-point,,"),
        (EXPORTER, "", b"p=tls-exporter,,"),
        (END_POINT, types("tls-exporter"), b"n,,"),
        (Facts(), types("tls-exporter"), b"n,,"),
    ],
)
def test_the_first_message_says_how_it_is_bound(facts: Facts, offered: str, said: bytes) -> None:
    done = run(facts, offering(*NAMES, cb=offered))
    assert first_message(done).startswith(said + b"n=romeo,r=token-1")
    assert ('mechanism="SCRAM-SHA-1-PLUS"' in done.sent) == said.startswith(b"p=")
    assert len(warnings(done)) == (not said.startswith(b"p="))
    (begun,) = (fire for fire in done.fired if fire.event == Event.PCJ_AUTHNEGOTIATE)
    assert begun.detail.get("binding") == (said.decode()[2:-2] if said.startswith(b"p=") else None)


def test_a_list_that_was_altered_is_refused_before_a_proof_is_sent() -> None:  # S16
    true = offer_hash("sha1", NAMES, ["tls-server-end-point"])
    altered = ("SCRAM-SHA-1", "PLAIN")
    done = run(Facts(), offering(*altered, answer=challenge("token-1", h=true)))
    assert "altered on the way" in str(done.failed.error)
    assert done.failed.phase == "authenticate"
    assert "<response" not in done.sent


def test_a_list_that_came_as_it_was_sent_is_gone_on_with() -> None:
    offered = types("tls-server-end-point")
    true = offer_hash("sha1", NAMES, ["tls-server-end-point"])
    done = run(END_POINT, offering(*NAMES, cb=offered, answer=challenge("token-1", h=true)))
    assert not done.ends
    (response,) = re.findall(r"<response [^>]*>([^<]*)</response>", done.sent)
    header = b"p=tls-server-end-point,,hash of the certificate"
    assert base64.b64decode(response).startswith(b"c=" + base64.b64encode(header) + b",r=token-1theirs,p=")


def test_types_without_plus_end_the_attempt_without_a_word() -> None:
    done = run(END_POINT, offering("SCRAM-SHA-1", cb=types("tls-server-end-point")))
    assert "XEP-0440" in str(done.failed.error)
    assert "<auth" not in done.sent


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1"])
def test_a_success_that_comes_before_our_log_in_is_no_answer_to_it(mechanism: str) -> None:  # S27
    done = run(Facts(), [*offering(mechanism)[:1], offering(mechanism)[1] + sasl("success", "")])
    assert "more before our log-in" in str(done.failed.error)
    assert "<auth" not in done.sent


# ---- what worked before


def remembering(guard: Guard) -> Memory:
    memory = Memory()
    memory.accepted(guard)
    return memory


def test_plain_is_refused_where_scram_worked_before() -> None:  # S17
    done = run(Facts(), offering("PLAIN"), memory=remembering(Guard.PROVED))
    assert "may be a false one" in str(done.failed.error)
    assert "<auth" not in done.sent


def test_where_plus_worked_before_a_server_without_a_common_type_must_vouch_for_that() -> None:  # S12, S13
    lines = offering(*NAMES, cb=types("x-made-up"), answer=challenge("token-1"))
    done = run(END_POINT, lines, memory=remembering(Guard.BOUND))
    assert "does not prove" in str(done.failed.error)
    assert "<response" not in done.sent
    vouched = challenge("token-1", h=offer_hash("sha1", NAMES, ["x-made-up"]))
    lines = offering(*NAMES, cb=types("x-made-up"), answer=vouched)
    done = run(END_POINT, lines, memory=remembering(Guard.BOUND))
    assert not done.ends
    assert "<response" in done.sent


def test_a_refused_plus_is_not_followed_by_the_same_without() -> None:  # S15
    lines = offering(*NAMES, cb=types("tls-server-end-point"), answer=sasl("failure", "<invalid-mechanism/>"))
    done = run(END_POINT, lines)
    assert done.failed.error.condition == "invalid-mechanism"
    assert done.sent.count("<auth") == 1


def test_behind_a_refused_mechanism_the_hash_is_still_that_of_the_whole_list() -> None:
    names = ("SCRAM-SHA-256", "SCRAM-SHA-1")
    said = challenge("token-2", h=offer_hash("sha1", names, None))
    refusal = sasl("failure", "<invalid-mechanism/>")
    done = run(Facts(), [*offering(*names, answer=refusal), f"S: {said}"])
    assert not done.ends
    assert "<response" in done.sent


def test_tls_that_stood_once_is_required_from_then_on() -> None:
    memory = Memory()
    assert "<starttls" not in play(config(require_tls=False), [f"S: {server_header()}{features()}"], memory=memory).sent
    memory.accepted(Guard.PROVED, secured=True)
    done = play(config(require_tls=False), [f"S: {server_header()}{features(mechanisms('PLAIN'))}"], memory=memory)
    assert "<starttls" in done.sent
    assert "<auth" not in done.sent


@pytest.mark.parametrize(
    ("facts", "cb", "mechanism", "said"),
    [
        (
            END_POINT,
            types("tls-server-end-point"),
            "SCRAM-SHA-1-PLUS",
            "or its TLS session is not ours (tls-server",
        ),
        (END_POINT, "", "SCRAM-SHA-1", "channel_binding='off' does without"),
        (Facts(), "", "SCRAM-SHA-1", "the server rejected user 'romeo' or the password (not-authorized)"),
    ],
)
def test_a_refusal_says_what_else_it_can_mean(facts: Facts, cb: str, mechanism: str, said: str) -> None:
    done = run(facts, offering(mechanism, cb=cb, answer=sasl("failure", "<not-authorized/>")))
    assert said in str(done.failed.error)


@pytest.mark.parametrize("mechanism", ["PLAIN", "DIGEST-MD5"])
def test_a_certificate_that_nobody_verified_is_warned_of_where_the_server_is_given_something(mechanism: str) -> None:
    unverified = Facts(verified=False)
    assert "not verified" in warnings(run(unverified, offering(mechanism)))[0]
    assert warnings(run(unverified, offering(mechanism), pins=("sha256:" + "0" * 64,))) == []
    assert warnings(run(Facts(), offering(mechanism))) == []


def test_a_session_that_is_confirmed_from_the_address_that_we_were_given_counts() -> None:
    session = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"
    bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{}</bind>"
    jid = "guest@example.org/r"
    lines = [
        *offering("ANONYMOUS", answer=sasl("success", "")),
        f"S: {server_header()}{features(bind.format('') + session)}",
        f"S: <iq type='result' id='token-2'>{bind.format(f'<jid>{jid}</jid>')}</iq>",
        "S: <iq type='result' id='token-3' from='guest@example.org'/>",
    ]
    done = run(Facts(), lines, jid="example.org", sasl_mechanisms=("ANONYMOUS",))
    assert done.established.session.jid == jid


# ---- EXTERNAL


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ((), b"romeo@example.org"),
        (("romeo@example.org",), b""),
        (("ROMEO@example.org",), b""),
        (("juliet@example.org",), b"romeo@example.org"),
        (("romeo@example.org", "juliet@example.org"), b"romeo@example.org"),
    ],
)
def test_external_says_who_we_are_unless_the_certificate_does(addresses: tuple[str, ...], said: bytes) -> None:
    done = run(Facts(own_addresses=addresses), offering("EXTERNAL"), client_certificate="client.pem")
    assert first_message(done) == said
    assert not warnings(done)


def test_a_refused_certificate_is_no_wrong_password() -> None:
    lines = offering("EXTERNAL", answer=sasl("failure", "<not-authorized/>"))
    done = run(Facts(), lines, client_certificate="client.pem")
    assert "does not take our client certificate" in str(done.failed.error)


def test_without_a_name_nothing_is_tried_that_needs_one() -> None:
    done = run(Facts(), offering("SCRAM-SHA-1", "PLAIN"), client_certificate="client.pem", jid="example.org")
    assert "needs a name and a password" in str(done.failed.error)
    assert "<auth" not in done.sent


def test_external_leaves_it_to_the_server_who_we_are_where_the_jid_does_not_say_it() -> None:
    done = run(Facts(), offering("EXTERNAL"), client_certificate="client.pem", jid="example.org")
    assert first_message(done) == b""


# ---- what leaves the machine in the clear


COMPONENT_HEADER = (
    "S: <?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
    "xmlns:stream='http://etherx.jabber.org/streams' from='comp.example.org' id='{}'>"
)
IN_THE_CLEAR = [
    ("JABBERD14_COMPONENT", {"jid": "comp.example.org"}, "handshake", "what the password can be guessed from"),
    ("LEGACY", {}, "digest", "what the password can be guessed from"),
    ("LEGACY", {"plaintext": True}, "plaintext", "the password itself"),
    ("XMPP", {"allow_plain": True}, "PLAIN", "the password itself"),
    ("XMPP", {"allow_plain": True}, "DIGEST-MD5", "what the password can be guessed from"),
]


@pytest.mark.parametrize(("connection_type", "options", "mechanism", "shows"), IN_THE_CLEAR)
@pytest.mark.parametrize("loopback", [False, True])
def test_a_secret_that_leaves_the_machine_in_the_clear_is_warned_of(
    connection_type: str, options: dict[str, Any], mechanism: str, shows: str, loopback: bool
) -> None:
    made = config(connection_type, require_tls=False, **options)
    if connection_type == "JABBERD14_COMPONENT":
        line = COMPONENT_HEADER.format("sid-1")
    else:
        line = f"S: {server_header()}{features(mechanisms(mechanism)) if connection_type == 'XMPP' else ''}"
    done = play(made, [line], loopback=loopback)
    if loopback:
        assert not warnings(done)
    else:
        assert warnings(done) == [
            f"the log-in ({mechanism}) shows {shows} to whoever listens on the way: there is no TLS on this link"
        ]
        assert done.events.index("WARNING") < done.events.rindex("NODESENT")


def test_a_stream_id_that_comes_twice_is_warned_of() -> None:  # S35
    made = config("JABBERD14_COMPONENT", jid="comp.example.org", require_tls=False)
    memory = Memory()
    for sid, again in (("one", False), ("one", True), ("two", False), ("one", False)):
        done = play(made, [COMPONENT_HEADER.format(sid)], loopback=True, memory=memory)
        assert any("stream id of the last connection again" in said for said in warnings(done)) == again


@pytest.mark.parametrize("over", [False, True])
def test_what_a_server_sends_while_the_password_is_asked_for_is_bounded(over: bool) -> None:
    made = config(require_tls=False, allow_plain=True, max_stanza_bytes=10_000, password=lambda: "never asked here")
    negotiator = Negotiator(made, dialect_of("XMPP"), token=Tokens(), loopback=True)
    negotiator.start(0.0)
    actions = negotiator.receive_data(f"{server_header()}{features(mechanisms('PLAIN'))}".encode(), 1.0)
    assert isinstance(actions[-1], AskPassword)
    actions = negotiator.receive_data(b" " * (10_001 if over else 10_000), 2.0)
    assert [type(action) for action in actions] == ([Fire, Failed] if over else [])
    if over:
        assert isinstance(actions[0], Fire)
        assert "too much out of turn" in str(actions[0].error)
