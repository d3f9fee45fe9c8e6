"""What goes wrong, one row per case: events, phase, whether trying again helps, the stream error to answer."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from pcj.errors import Phase, SaslError, StreamErrorReceived
from pcj.events import Event
from pcj.namespaces import CLIENT, COMPONENT_ACCEPT, COMPONENT_CONNECT, JABBERD_COMPONENT, SERVER
from pcj.protocol.actions import BeginTls
from pcj.protocol.retry import classify
from tests.core.protocol.play import (
    BIND,
    PROCEED,
    SESSION,
    STARTTLS,
    TLS_FAILURE,
    authentication,
    bind_result,
    config,
    each_byte,
    features,
    mechanisms,
    perform,
    play,
    sasl,
    server_header,
    server_lines,
    stanza_error,
    stream_error,
)

COMPONENT = "jabber:component:accept"
ROUTER = "http://jabberd.jabberstudio.org/ns/component/1.0"
SCRAM = server_lines(authentication())
CHALLENGE, SUCCESS = SCRAM
ROUTER_SCRAM = server_lines(authentication(user="jabberd", host="bot.example.org"))
ROUTED = server_header(from_="router", xmlns=ROUTER)


@dataclass(frozen=True)
class Stage:
    """A place in a negotiation: how to get there, what was fired on the way, and what is waited for."""

    name: str
    phase: str
    script: tuple[str, ...]
    events: str
    expected: str
    connection_type: str = "XMPP"
    jid: str = "romeo@example.org"
    loopback: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def fail(self) -> str:
        return {
            "stream": "STREAM_ERROR",
            "tls": "SSLFAIL",
            "authenticate": "AUTHFAIL",
            "bind": "BINDFAIL",
            "session": "SESSIONFAIL",
        }[self.phase]

    @property
    def began(self) -> bool:
        """Whether the server's header has come."""
        return self.expected != "<stream:stream>"


def _stages(
    connection_type: str, jid: str, rows: list[tuple[str, str, list[str], str, str]], **more: Any
) -> list[Stage]:
    stages = []
    script: list[str] = []
    events = ""
    for name, phase, lines, fired, expected in rows:
        script = [*script, *lines]
        events = f"{events} {fired}".strip()
        label = f"{connection_type}-{name}"
        stages.append(Stage(label, phase, tuple(script), events, expected, connection_type, jid, **more))
    return stages


AUTH = "AUTHNEGOTIATE NODESENT(auth)"
OPENING = f"S: {server_header()}{features(STARTTLS)}"

XMPP_STAGES = _stages(
    "XMPP",
    "romeo@example.org",
    [
        ("header", "stream", [], "S", "<stream:stream>"),
        ("features", "stream", [f"S: {server_header()}"], "", "<stream:features>"),
        ("starttls", "tls", [f"S: {features(STARTTLS)}"], "SSLNEGOTIATE NODESENT(starttls)", "<proceed>"),
        ("header-in-tls", "stream", [PROCEED, "T: ok"], "SSLSUCCESS S", "<stream:stream>"),
        ("auth", "authenticate", [f"S: {server_header()}{features(mechanisms('SCRAM-SHA-256'))}"], AUTH, "<challenge>"),
        ("response", "authenticate", [CHALLENGE], "NODESENT(response)", "<challenge>"),
        ("header-after-auth", "stream", [SUCCESS], "AUTHSUCCESS S", "<stream:stream>"),
        (
            "bind",
            "bind",
            [f"S: {server_header()}{features(BIND, SESSION)}"],
            "BINDNEGOTIATE RTS_START(iq bind) NODESENT(iq bind)",
            "the reply to an <iq>",
        ),
        (
            "session",
            "session",
            [f"S: {bind_result('token-2', 'romeo@example.org/x')}"],
            "BINDSUCCESS SESSIONNEGOTIATE RTS_START(iq session) NODESENT(iq session)",
            "the reply to an <iq>",
        ),
    ],
)
LEGACY_AUTH = "AUTHNEGOTIATE NODESENT(iq query)"
LEGACY_STAGES = _stages(
    "LEGACY",
    "romeo@example.org",
    [
        ("header", "stream", [], "S", "<stream:stream>"),
        ("auth", "authenticate", [f"S: {server_header(version=None)}"], LEGACY_AUTH, "the reply to the authentication"),
    ],
)
LEGACY_TLS_STAGES = _stages(
    "LEGACY",
    "romeo@example.org",
    [
        ("tls-features", "stream", [f"S: {server_header()}"], "S", "<stream:features>"),
        ("tls-starttls", "tls", [f"S: {features(STARTTLS)}"], "SSLNEGOTIATE NODESENT(starttls)", "<proceed>"),
        ("tls-header", "stream", [PROCEED, "T: ok"], "SSLSUCCESS S", "<stream:stream>"),
        (
            "tls-auth",
            "authenticate",
            [f"S: {server_header(version=None)}"],
            LEGACY_AUTH,
            "the reply to the authentication",
        ),
    ],
    loopback=False,
)
C14_AUTH = "AUTHNEGOTIATE NODESENT(handshake)"
C14_STAGES = _stages(
    "JABBERD14_COMPONENT",
    "bot.example.org",
    [
        ("header", "stream", [], "S", "<stream:stream>"),
        (
            "handshake",
            "authenticate",
            [f"S: {server_header(version=None, xmlns=COMPONENT)}"],
            C14_AUTH,
            "<handshake/>",
        ),
    ],
)
C20_STAGES = _stages(
    "JABBERD20_COMPONENT",
    "bot.example.org",
    [
        ("header", "stream", [], "S", "<stream:stream>"),
        ("features", "stream", [f"S: {ROUTED}"], "", "<stream:features>"),
        ("starttls", "tls", [f"S: {features(STARTTLS)}"], "SSLNEGOTIATE NODESENT(starttls)", "<proceed>"),
        ("header-in-tls", "stream", [PROCEED, "T: ok"], "SSLSUCCESS S", "<stream:stream>"),
        ("auth", "authenticate", [f"S: {ROUTED}{features(mechanisms('SCRAM-SHA-256'))}"], AUTH, "<challenge>"),
        (
            "header-after-auth",
            "stream",
            ROUTER_SCRAM,
            "NODESENT(response) AUTHSUCCESS S",
            "<stream:stream>",
        ),
        ("bind", "bind", [f"S: {ROUTED}{features()}"], "BINDNEGOTIATE RTS_START(bind) NODESENT(bind)", "<bind/>"),
    ],
    options={"username": "jabberd"},
)
STAGES = [*XMPP_STAGES, *LEGACY_STAGES, *LEGACY_TLS_STAGES, *C14_STAGES, *C20_STAGES]
AT = {stage.name: stage for stage in STAGES}

each_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
each_stage_of_a_stream = pytest.mark.parametrize(
    "stage", [stage for stage in STAGES if stage.began], ids=lambda stage: stage.name
)


def fail(stage: Stage, *lines: str, events: str, **options: Any) -> Any:
    """Run `lines` behind a stage, whole, in bytes and with a tail; `events` are those behind the stage's own."""
    made = config(stage.connection_type, stage.jid, **{**stage.options, **options})
    done = perform(made, [*stage.script, *lines], f"{stage.events} {events}", loopback=stage.loopback)
    failed = done.failed
    return failed.error, str(failed.phase), str(done.retry(made)), failed.error.answer


# ---- the same four ends in each phase


@each_stage
def test_silence_ends_the_phase_at_its_deadline_and_says_what_was_waited_for(stage: Stage) -> None:
    error, phase, retry, answer = fail(stage, "SILENCE", events=stage.fail)
    assert (phase, retry, answer) == (stage.phase, "fast", "connection-timeout")
    seconds = "15 s" if stage.phase == "tls" else "30 s"
    assert f"no answer within {seconds} in the phase '{stage.phase}'" in str(error)
    assert f"we waited for {stage.expected}" in str(error)
    assert error.expected.startswith(stage.expected)


@each_stage
def test_the_deadline_of_each_phase_is_its_own_option(stage: Stage) -> None:
    option = f"{stage.phase}_timeout"
    error, _, _, _ = fail(stage, "SILENCE", events=stage.fail, **{option: 0.25})
    assert "no answer within 0.25 s" in str(error)


@each_stage
def test_the_end_of_the_connection_fails_the_phase(stage: Stage) -> None:
    error, phase, retry, answer = fail(stage, "EOF", events=stage.fail)
    assert (phase, retry, answer) == (stage.phase, "fast", None)
    assert f"the server closed the connection while we waited for {stage.expected}" in str(error)


@each_stage_of_a_stream
def test_a_closing_tag_fails_the_phase_and_is_no_new_header(stage: Stage) -> None:
    # The fifth fault of the original: a second AUTHNEGOTIATE, and a bogus node queued.
    error, phase, retry, answer = fail(stage, "S: </stream:stream>", events=stage.fail)
    assert (phase, retry, answer) == (stage.phase, "fast", None)
    assert error.came == "</stream:stream>"


@each_stage_of_a_stream
def test_a_stream_error_is_fired_once_and_fails_the_phase(stage: Stage) -> None:
    events = "STREAM_ERROR" if stage.phase == "stream" else f"STREAM_ERROR {stage.fail}"
    error, phase, retry, answer = fail(stage, f"S: {stream_error('system-shutdown', 'bye')}", events=events)
    assert (phase, retry, answer) == (stage.phase, "fast", None)  # RFC 6120 4.9.1.1: never answered with another
    assert isinstance(error, StreamErrorReceived)
    assert (error.condition, error.text) == ("system-shutdown", "bye")


@each_stage_of_a_stream
def test_malformed_xml_fails_the_phase(stage: Stage) -> None:
    error, phase, retry, answer = fail(stage, "S: <a></b>", events=stage.fail)
    assert (phase, retry, answer) == (stage.phase, "fast", "not-well-formed")
    assert "not well-formed" in str(error)


@each_stage_of_a_stream
def test_an_element_out_of_place_fails_the_phase(stage: Stage) -> None:
    error, phase, _, answer = fail(stage, "S: <x xmlns='urn:example:odd'/>", events=stage.fail)
    assert phase == stage.phase
    assert answer == (None if stage.phase == "tls" else "undefined-condition")
    assert error.came == "<x>"


@each_stage_of_a_stream
def test_a_message_out_of_place_is_held_while_we_bind_and_an_error_before(stage: Stage) -> None:
    if "JABBERD" not in stage.name and stage.phase in ("bind", "session"):
        made = config(stage.connection_type, stage.jid)
        assert play(made, [*stage.script, "S: <message/>"]).events == stage.events
    else:
        assert fail(stage, "S: <message/>", events=stage.fail)[1] == stage.phase


# ---- before and in the header


@pytest.mark.parametrize(
    ("came", "answer"),
    [
        ("SSH-2.0-OpenSSH_9.2p1\r\n", "not-well-formed"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "not-well-formed"),
        ("<html>", "bad-format"),
        ("<!DOCTYPE html>", "restricted-xml"),
        ("<stream xmlns='urn:example:other'>", "invalid-namespace"),
        ("<!DOCTYPE stream>", "restricted-xml"),
        (
            f"<stream:error xmlns:stream='{'http://etherx.jabber.org/streams'}'>",
            None,
        ),  # a stream error is never answered with one
    ],
)
@pytest.mark.parametrize("cut", [lambda data: [data], each_byte], ids=["whole", "bytes"])
def test_what_is_no_stream_is_refused_at_the_header(came: str, answer: str | None, cut: Any) -> None:
    failed = play(config(), [f"S: {came}"], cut=cut).failed
    assert (str(failed.phase), failed.error.answer) == ("stream", answer)
    assert failed.error.came


def test_silence_before_any_header_asks_whether_this_is_an_xmpp_port() -> None:
    assert "is this an XMPP port?" in str(fail(AT["XMPP-header"], "SILENCE", events="STREAM_ERROR")[0])
    assert "XMPP port" not in str(fail(AT["XMPP-features"], "SILENCE", events="STREAM_ERROR")[0])


@pytest.mark.parametrize("version", [None, "0.9", "2.0", "1.0abc", "99999999999", "1", "", "0.10", "-1.0"])
@pytest.mark.parametrize("name", ["XMPP-header", "JABBERD20_COMPONENT-header"])
def test_a_stream_that_is_not_of_version_1_is_refused_where_1_is_needed(name: str, version: str | None) -> None:
    xmlns = JABBERD_COMPONENT if name.startswith("JABBERD20") else CLIENT
    header = f"S: {server_header(version=version, xmlns=xmlns)}"
    error, phase, retry, answer = fail(AT[name], header, events="STREAM_ERROR")
    assert (phase, retry, answer) == ("stream", "fatal", "unsupported-version")
    assert f"version {version if version is not None else 'none'!r}" in str(error)


KINDS = {
    "XMPP": CLIENT,
    "LEGACY": CLIENT,
    "JABBERD14_COMPONENT": COMPONENT_ACCEPT,
    "JABBERD20_COMPONENT": JABBERD_COMPONENT,
}


@pytest.mark.parametrize("xmlns", [CLIENT, SERVER, COMPONENT_ACCEPT, COMPONENT_CONNECT, JABBERD_COMPONENT])
@pytest.mark.parametrize("name", KINDS)
def test_a_port_for_links_of_another_kind_is_left_before_any_credential(name: str, xmlns: str) -> None:
    if xmlns == KINDS[name]:
        return
    made = config(name, require_tls=False)
    # What the server finds wrong by itself comes in the same read, and is a consequence.
    gone = "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    done = perform(made, [f"S: {server_header(xmlns=xmlns)}{gone}"], "S STREAM_ERROR")
    assert (str(done.failed.phase), str(done.retry(made)), done.failed.error.answer) == (
        "stream",
        "fatal",
        "invalid-namespace",
    )
    assert (done.failed.error.expected, done.failed.error.came) == (KINDS[name], xmlns)
    assert f"speaks {xmlns} on this port, and we speak {KINDS[name]}" in str(done.failed.error)


@pytest.mark.parametrize("xmlns", ["", "urn:example:knock"])
def test_a_header_that_says_nothing_of_the_kind_of_its_port_is_let_pass(xmlns: str) -> None:
    made = config("LEGACY", require_tls=False)
    script = [f"S: {server_header(xmlns=xmlns)}", "S: </stream:stream>"]
    assert "closed the stream while we waited" in str(play(made, script).failed.error)


def test_the_content_namespace_of_the_options_is_the_one_that_must_come() -> None:
    made = config("LEGACY", require_tls=False, xmlns="urn:example:knock")
    done = perform(made, [f"S: {server_header(xmlns=CLIENT)}"], "S STREAM_ERROR")
    assert done.failed.error.expected == "urn:example:knock"


def test_inside_tls_a_wrong_version_is_the_servers_own_and_final() -> None:
    stage = AT["XMPP-header-in-tls"]
    assert fail(stage, f"S: {server_header(version='0.9')}", events="STREAM_ERROR")[2] == "fatal"


@pytest.mark.parametrize("version", [None, "0.9"])
def test_a_legacy_server_without_features_offers_no_tls(version: str | None) -> None:
    made = config("LEGACY")
    done = perform(made, [f"S: {server_header(version=version)}"], "S SSLFAIL")
    assert (str(done.failed.phase), str(done.retry(made))) == ("tls", "slow")
    assert "say require_tls=False" in str(done.failed.error)


@pytest.mark.parametrize(
    ("condition", "retry"),
    [
        ("host-unknown", "fatal"),
        ("invalid-namespace", "fatal"),
        ("unsupported-version", "fatal"),
        ("policy-violation", "slow"),
        ("conflict", "slow"),
        ("system-shutdown", "fast"),
        ("made-up-condition", "fast"),
    ],
)
def test_before_tls_no_stream_error_ends_a_broker_that_worked_for_anybody_can_send_it(
    condition: str, retry: str
) -> None:
    line = f"S: {server_header()}{stream_error(condition)}"  # in the same read as the header
    error, phase, classified, _ = fail(AT["XMPP-header"], line, events="STREAM_ERROR")
    assert (phase, classified, error.condition) == ("stream", retry, condition)
    later = classify(error, Phase.STREAM, component=False, was_ready=True)
    assert str(later) == ("slow" if retry == "fatal" else retry)


def test_a_stream_error_in_the_read_of_the_header_fails_the_component_after_its_handshake_and_no_sooner() -> None:
    # Elements, not reads (event-order C3).
    line = f"S: {server_header(version=None, xmlns=COMPONENT)}{stream_error('host-unknown')}"
    stage = AT["JABBERD14_COMPONENT-header"]
    error, phase, retry, _ = fail(stage, line, events=f"{C14_AUTH} STREAM_ERROR AUTHFAIL")
    assert (phase, retry) == ("authenticate", "fatal")
    assert "does not host bot.example.org" in str(error)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>only text</text>",
        "<a xmlns='urn:x'/><b xmlns='urn:y'><c/></b>",
        "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'><a xmlns='urn:x'>1<b/>2</a></conflict>",
        "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>",
        f"<{'a' * 5000} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>",
        f"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{'x' * 100_000}</text>",
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>&#x9b;31m\u202e&#x85;</text>",
    ],
    ids=["empty", "text", "unknown", "nested", "two", "long-name", "long-text", "controls"],
)
def test_whatever_a_stream_error_holds_it_is_one_event_bounded_and_escaped(content: str) -> None:
    made = config()
    done = play(made, [*AT["XMPP-auth"].script, f"S: <stream:error>{content}</stream:error>"])
    assert done.events == f"{AT['XMPP-auth'].events} STREAM_ERROR AUTHFAIL"
    error = done.failed.error
    assert isinstance(error, StreamErrorReceived)
    for text in (str(error), error.text, error.came, error.condition):
        assert text.isprintable()
        assert len(text) < 3000


# ---- TLS


def test_a_refused_starttls_is_an_sslfail_and_nothing_more_is_sent() -> None:
    stage = AT["XMPP-starttls"]
    error, phase, retry, _ = fail(stage, TLS_FAILURE, events="SSLFAIL")
    assert (phase, retry) == ("tls", "slow")
    assert "refused to start TLS" in str(error)


@pytest.mark.parametrize(
    ("line", "fired"),
    [
        (TLS_FAILURE, ""),
        ("S: <failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>", ""),
        (f"S: {stream_error('unsupported-stanza-type')}", "STREAM_ERROR"),
        ("S: </stream:stream>", ""),
        ("SILENCE", ""),
        ("EOF", ""),
    ],
)
@pytest.mark.parametrize("name", ["XMPP-features", "LEGACY-tls-features", "JABBERD20_COMPONENT-features"])
def test_stripped_starttls_is_asked_for_all_the_same_and_its_failure_is_an_sslfail_without_sslnegotiate(
    name: str, line: str, fired: str
) -> None:
    stripped = f"S: {features(mechanisms('PLAIN', 'SCRAM-SHA-256'))}"
    _, phase, retry, _ = fail(AT[name], stripped, line, events=f"NODESENT(starttls) {fired} SSLFAIL")
    assert phase == "tls"
    assert retry in ("slow", "fast")


def test_no_credential_is_sent_where_tls_is_required_and_cannot_be_had() -> None:
    for ending in (TLS_FAILURE, "T: fails"):
        lines = [OPENING, *([PROCEED] if ending == "T: fails" else []), ending]
        done = play(config(), lines)
        assert "<auth" not in done.sent
        assert done.events == "S SSLNEGOTIATE NODESENT(starttls) SSLFAIL"


def test_a_failed_tls_handshake_is_an_sslfail_with_the_retry_class_of_the_transport() -> None:
    error, phase, retry, answer = fail(AT["XMPP-starttls"], PROCEED, "T: fails", events="SSLFAIL")
    assert (phase, retry, answer) == ("tls", "slow", None)
    assert "another name" in str(error)


def test_a_failed_direct_tls_handshake_owes_the_server_no_closing_tag() -> None:
    done = perform(config(direct_tls=True), ["T: fails"], "SSLNEGOTIATE SSLFAIL")
    assert not done.failed.header_sent


@pytest.mark.parametrize("line", ["SILENCE", "EOF"])
@pytest.mark.parametrize("direct", [False, True])
def test_silence_and_the_end_in_the_tls_handshake_are_sslfails(line: str, direct: bool) -> None:
    lines = [*([] if direct else [OPENING, PROCEED]), line]
    done = play(config(direct_tls=direct), lines)
    assert done.events.endswith("SSLFAIL")
    assert done.failed.error.expected == "the TLS handshake"


SMUGGLED = f"{server_header()}{features(mechanisms('PLAIN'))}"


def test_bytes_smuggled_behind_proceed_are_an_error_and_never_parsed() -> None:
    made = config()
    done = play(made, [OPENING, f"{PROCEED}{SMUGGLED}"])
    assert done.events == "S SSLNEGOTIATE NODESENT(starttls) SSLFAIL"
    assert done.failed.error.answer == "policy-violation"
    assert str(done.retry(made)) == "slow"
    assert not any(isinstance(action, BeginTls) for action in done.actions)


def test_bytes_in_the_clear_after_proceed_are_an_error_too() -> None:
    done = play(config(), [OPENING, PROCEED, f"S: {SMUGGLED}"])
    assert done.events == "S SSLNEGOTIATE NODESENT(starttls) SSLFAIL"


def test_bytes_smuggled_behind_success_are_an_error_and_never_parsed() -> None:
    smuggled = f"{SUCCESS}{server_header()}{features(BIND)}"
    done = play(config(), [*AT["XMPP-response"].script, smuggled])
    assert done.events == f"{AT['XMPP-response'].events} AUTHSUCCESS STREAM_ERROR"
    assert done.failed.error.answer == "policy-violation"


def test_white_space_behind_proceed_and_success_is_nothing() -> None:
    lines = [OPENING, f"{PROCEED}\n", "T: ok", XMPP_STAGES[4].script[-1], CHALLENGE, f"{SUCCESS} "]
    assert play(config(), lines).events == AT["XMPP-header-after-auth"].events


def test_the_features_before_tls_are_forgotten() -> None:
    # T05: mechanisms before TLS, none behind it.
    lines = [f"S: {server_header()}{features(STARTTLS, mechanisms('PLAIN'))}", PROCEED, "T: ok"]
    made = config()
    done = perform(made, [*lines, f"S: {server_header()}{features()}"], f"{AT['XMPP-header-in-tls'].events} AUTHFAIL")
    assert "offers no SASL mechanism" in str(done.failed.error)
    assert str(done.retry(made)) == "fatal"


# ---- SASL


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def first_message(**changes: str) -> str:
    """A server-first-message for token-1, with attributes changed."""
    attributes = {"r": "token-1server", "s": b64("salt"), "i": "4096", **changes}
    return b64(",".join(f"{name}={value}" for name, value in attributes.items()))


def challenge(text: str) -> str:
    return f"S: {sasl('challenge', text)}"


SERVER_PROOF = base64.b64decode(re.findall(r">([^<]+)<", SUCCESS)[0]).decode()
WRONG_PROOF = "v=" + b64("0123456789abcdef0123456789abcdef")

OFFERS = [
    ("nothing at all", ()),
    ("empty names", ("", "")),
    ("lower case", ("scram-sha-256", "plain")),
    ("spaces", (" PLAIN", "PLAIN ")),
    ("unknown", ("X-OAUTH2", "GSSAPI", "EXTERNAL", "ANONYMOUS")),
    ("controls", ("&#x9b;31mPLAIN", "PLA\u202eIN")),
    ("a very long name", ("P" * 100_000,)),
    ("very many", tuple(f"M{number}" for number in range(10_000))),
]


@pytest.mark.parametrize("names", [names for _, names in OFFERS], ids=[name for name, _ in OFFERS])
def test_without_a_usable_mechanism_there_is_an_authfail_without_authnegotiate(names: tuple[str, ...]) -> None:
    made = config()
    done = play(made, [*AT["XMPP-header-in-tls"].script, f"S: {server_header()}{features(mechanisms(*names))}"])
    assert done.events == f"{AT['XMPP-header-in-tls'].events} AUTHFAIL"
    error = done.failed.error
    assert (str(done.failed.phase), str(done.retry(made))) == ("authenticate", "fatal")
    assert len(str(error)) < 1000
    assert str(error).isprintable()
    assert error.came.isprintable()
    assert len(error.came) <= 1000


@pytest.mark.parametrize(
    ("options", "offered", "said"),
    [
        ({"require_tls": False}, "PLAIN", "PLAIN without TLS needs allow_plain"),
        ({"sasl_mechanisms": ("SCRAM-SHA-256",), "require_tls": False}, "SCRAM-SHA-1", "not among the mechanisms you"),
        ({"sasl_mechanisms": ("X-NONE",), "require_tls": False}, "SCRAM-SHA-1", "we allow none that can be used here"),
    ],
)
def test_a_mechanism_that_is_not_allowed_is_not_used(options: dict[str, Any], offered: str, said: str) -> None:
    line = f"S: {server_header()}{features(mechanisms(offered))}"
    error, phase, retry, _ = fail(AT["XMPP-header"], line, events="AUTHFAIL", **options)
    assert (phase, retry) == ("authenticate", "fatal")
    assert said in str(error)


def test_plain_without_tls_is_used_where_the_user_said_so() -> None:
    line = f"S: {server_header()}{features(mechanisms('PLAIN'))}"
    done = play(config(require_tls=False, allow_plain=True), [line])
    assert done.events == "S AUTHNEGOTIATE WARNING NODESENT(auth)"
    (warning,) = (fire for fire in done.fired if fire.event == Event.WARNING)
    assert "shows the password itself to whoever listens" in str(warning.detail["what"])


def test_flags_of_the_last_stream_give_nothing_to_the_next() -> None:
    # S28: the original was READY without authentication where a server then offered bind and no mechanism.
    line = f"S: {server_header()}{features(BIND, SESSION)}"
    assert fail(AT["XMPP-header-in-tls"], line, events="AUTHFAIL")[1] == "authenticate"


BAD_SCRAM = [
    ("S01: success without a proof", [CHALLENGE, f"S: {sasl('success')}"], "NODESENT(response)"),
    ("S01: an empty proof", [CHALLENGE, f"S: {sasl('success', '=')}"], "NODESENT(response)"),
    ("S02: a wrong proof", [CHALLENGE, f"S: {sasl('success', b64(WRONG_PROOF))}"], "NODESENT(response)"),
    ("S02: a wrong proof in a challenge", [CHALLENGE, challenge(b64(WRONG_PROOF))], "NODESENT(response)"),
    (
        "S03: a right proof, and a wrong one with success",
        [CHALLENGE, challenge(b64(SERVER_PROOF)), f"S: {sasl('success', b64(WRONG_PROOF))}"],
        "NODESENT(response) NODESENT(response)",
    ),
    ("S04: success at once", [f"S: {sasl('success')}"], ""),
    ("S04: success at once with data", [f"S: {sasl('success', b64(SERVER_PROOF))}"], ""),
    ("S05: a nonce that is not ours", [challenge(first_message(r="tokem-1server"))], ""),
    ("S05: a nonce with nothing added", [challenge(first_message(r="token-1"))], ""),
    ("S06: one iteration", [challenge(first_message(i="1"))], ""),
    ("S06: too many iterations", [challenge(first_message(i="1000001"))], ""),
    ("S06: Arabic digits", [challenge(first_message(i="٤٠٩٦"))], ""),
    ("S08: a mandatory extension", [challenge(b64("m=x,r=token-1server,s=c2FsdA==,i=4096"))], ""),
    ("S11: an error", [CHALLENGE, f"S: {sasl('success', b64('e=other-error'))}"], "NODESENT(response)"),
    ("S22: no base64", [challenge("§§§")], ""),
    ("S22: white space", [challenge(first_message().replace("c", "c ", 1))], ""),
    ("S22: lone padding", [challenge("=")], ""),
    ("S22: an empty challenge", [challenge("")], ""),
    (
        "S23: challenge after challenge",
        [CHALLENGE, challenge(b64(SERVER_PROOF)), challenge(b64(SERVER_PROOF))],
        "NODESENT(response) NODESENT(response)",
    ),
    ("S26: a message", [CHALLENGE, "S: <message/>"], "NODESENT(response)"),
    ("S26: auth of the server's own", ["S: <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"], ""),
    ("success of another namespace", [CHALLENGE, "S: <success xmlns='urn:xmpp:sasl:2'/>"], "NODESENT(response)"),
]


@pytest.mark.parametrize("row", BAD_SCRAM, ids=[row[0] for row in BAD_SCRAM])
def test_a_server_that_breaks_scram_or_cannot_prove_itself_is_an_authfail_and_final(
    row: tuple[str, list[str], str],
) -> None:
    _, lines, fired = row
    error, phase, retry, _ = fail(AT["XMPP-auth"], *lines, events=f"{fired} AUTHFAIL")
    assert isinstance(error, SaslError)
    assert (phase, retry) == ("authenticate", "fatal")
    assert str(error).isprintable()


def test_a_right_proof_in_a_challenge_counts_and_the_bare_success_behind_it_is_the_end() -> None:
    lines = [*AT["XMPP-auth"].script, CHALLENGE, challenge(b64(SERVER_PROOF)), f"S: {sasl('success')}"]
    events = play(config(), lines).events
    assert events == f"{AT['XMPP-auth'].events} NODESENT(response) NODESENT(response) AUTHSUCCESS S"


def test_success_in_place_of_features_is_an_error() -> None:
    line = f"S: {server_header()}{sasl('success')}"
    assert fail(AT["XMPP-header"], line, events="STREAM_ERROR")[3] == "undefined-condition"


@pytest.mark.parametrize("name", ["DIGEST-MD5", "PLAIN"])
def test_a_challenge_too_many_is_an_authfail(name: str) -> None:
    line = f"S: {server_header()}{features(mechanisms(name))}"
    done = play(config(), [*AT["XMPP-header-in-tls"].script, line, *([challenge(b64("x=y"))] * 3)])
    assert done.events.endswith("AUTHFAIL")


def test_a_router_that_does_not_prove_itself_in_digest_md5_is_refused() -> None:
    line = f"S: {ROUTED}{features(mechanisms('DIGEST-MD5'))}"
    lines = server_lines(authentication("DIGEST-MD5", "jabberd", host="bot.example.org"))
    bare = [lines[0], f"S: {sasl('success')}"]
    stage = AT["JABBERD20_COMPONENT-header-in-tls"]
    events = "AUTHNEGOTIATE NODESENT(auth) NODESENT(response) AUTHFAIL"
    assert fail(stage, line, *bare, events=events)[2] == "fatal"


@pytest.mark.parametrize(
    ("content", "condition", "retry", "said"),
    [
        ("<not-authorized/>", "not-authorized", "fatal", "rejected user 'romeo' or the password"),
        ("<account-disabled/>", "account-disabled", "fatal", "is disabled"),
        ("<credentials-expired/>", "credentials-expired", "fatal", "has expired"),
        ("<invalid-authzid/>", "invalid-authzid", "fatal", "invalid-authzid"),
        ("<invalid-mechanism/>", "invalid-mechanism", "fatal", "invalid-mechanism"),
        ("<malformed-request/>", "malformed-request", "fatal", "malformed-request"),
        ("<encryption-required/>", "encryption-required", "fatal", "wants TLS"),
        ("<temporary-auth-failure/>", "temporary-auth-failure", "fast", "does not mean a wrong password"),
        ("<made-up/>", "made-up", "fast", "made-up"),
        ("<aborted/><not-authorized/>", "aborted", "fast", "aborted"),
        ("", "", "fatal", "no condition given"),
        ("<not-authorized/><text>Wrong!</text>", "not-authorized", "fatal", "Wrong!"),
        (f"<not-authorized/><text>{'x' * 1_000_000}</text>", "not-authorized", "fatal", "xxx"),
        ("<not-authorized/><text>&#x9b;2J\u202e</text>", "not-authorized", "fatal", r"\x9b2J\u202e"),
        (f"<{'a' * 5000}/>", "a" * 64, "fast", "aaa"),
    ],
)
def test_a_failure_of_sasl_is_an_authfail_with_its_condition(
    content: str, condition: str, retry: str, said: str
) -> None:
    stage = AT["XMPP-response"]
    made = config()
    done = play(made, [*stage.script, f"S: {sasl('failure', content)}"])
    assert done.events == f"{stage.events} AUTHFAIL"
    error = done.failed.error
    assert (error.condition, str(done.retry(made)), error.answer) == (condition, retry, None)
    assert said in str(error)
    assert len(str(error)) < 1500
    assert str(error).isprintable()


# ---- LEGACY


FIELDS = "<query xmlns='jabber:iq:auth'><username/><password/><resource/></query>"


@pytest.mark.parametrize(
    ("answer", "retry", "said"),
    [
        # Fault 12: Prosody answers a digest with its fields, of type result.
        (f"<iq type='result' id='token-2'>{FIELDS}</iq>", "fatal", "lists? the fields|listed the fields"),
        ("<iq type='result' id='token-2'><query xmlns='jabber:iq:auth'/></iq>", "fatal", "listed the fields"),
        (stanza_error("token-2", "not-authorized", "auth", code="401"), "fatal", "'romeo' or the password"),
        (stanza_error("token-2", "not-acceptable", "modify", code="406"), "fatal", "not-acceptable"),
        (stanza_error("token-2", "conflict", code="409"), "slow", "conflict"),
        (stanza_error("token-2", "", "auth", code="401"), "fatal", "auth"),
        (stanza_error("token-2", "service-unavailable"), "fatal", "service-unavailable"),
        (stanza_error("token-2", "internal-server-error", "wait"), "fast", "internal-server-error"),
        ("<iq type='error' id='token-2'/>", "fatal", "no condition given"),
        ("<handshake/>", "fast", "<handshake>"),
        ("<message/>", "fast", "<message>"),
        ("<iq type='get' id='token-2'/>", "fast", "<iq>"),
    ],
)
def test_a_legacy_server_that_does_not_let_us_in_is_an_authfail(answer: str, retry: str, said: str) -> None:
    error, phase, classified, _ = fail(AT["LEGACY-auth"], f"S: {answer}", events="AUTHFAIL")
    assert (phase, classified) == ("authenticate", retry)
    assert re.search(said, str(error))


NO_ID = [("LEGACY-header", "jabber:client"), ("JABBERD14_COMPONENT-header", COMPONENT)]


@pytest.mark.parametrize("id", [None, ""])
@pytest.mark.parametrize("behind", ["<message/>", features(), "<handshake/>", "<iq type='result' id='token-2'/>"])
@pytest.mark.parametrize(("name", "xmlns"), NO_ID)
def test_without_a_stream_id_no_digest_is_made(name: str, xmlns: str, behind: str, id: str | None) -> None:
    # S34: it would be a static hash, good for ever.
    lines = [f"S: {server_header(version=None, id=id, xmlns=xmlns)}", f"S: {behind}"]
    error, phase, retry, _ = fail(AT[name], *lines, events="AUTHNEGOTIATE AUTHFAIL")
    assert (phase, retry) == ("authenticate", "fatal")
    assert "no stream id" in str(error)


@pytest.mark.parametrize(("name", "xmlns"), NO_ID)
def test_a_server_without_a_stream_id_may_say_why(name: str, xmlns: str) -> None:
    # Prosody does, for a component that it does not know.
    header = f"S: {server_header(version=None, id=None, xmlns=xmlns)}"
    line = f"{header}{stream_error('host-unknown')}"
    error, phase, _, _ = fail(AT[name], line, events="AUTHNEGOTIATE STREAM_ERROR AUTHFAIL")
    assert (phase, error.condition) == ("authenticate", "host-unknown")
    for end in ("SILENCE", "EOF"):
        error, phase, _, _ = fail(AT[name], header, end, events="AUTHNEGOTIATE AUTHFAIL")
        assert "we waited for a stream id" in str(error)


def test_without_tls_a_legacy_password_leaves_the_machine_only_if_that_was_said() -> None:
    # S37: TLS is asked for first, whatever the server offers.
    done = play(config("LEGACY", plaintext=True), [f"S: {server_header()}{features()}", TLS_FAILURE])
    assert done.events == "S NODESENT(starttls) SSLFAIL"
    assert "query" not in done.sent


# ---- JABBERD14_COMPONENT


@pytest.mark.parametrize(
    "answer",
    [
        "<handshake xmlns='urn:example:other'/>",
        "<message/>",
        "<iq type='result' id='x'/>",
        sasl("success"),
    ],
)
def test_only_a_handshake_of_the_streams_namespace_lets_a_component_in(answer: str) -> None:
    _, phase, _, answered = fail(AT["JABBERD14_COMPONENT-handshake"], f"S: {answer}", events="AUTHFAIL")
    assert (phase, answered) == ("authenticate", "undefined-condition")


@pytest.mark.parametrize(
    ("condition", "retry"), [("not-authorized", "fatal"), ("conflict", "slow"), ("host-unknown", "fatal")]
)
def test_a_component_is_refused_by_a_stream_error(condition: str, retry: str) -> None:
    line = f"S: {stream_error(condition)}"
    error, phase, classified, _ = fail(AT["JABBERD14_COMPONENT-handshake"], line, events="STREAM_ERROR AUTHFAIL")
    assert (phase, classified, error.condition) == ("authenticate", retry, condition)


# ---- bind and session


def test_bind_that_is_not_offered_is_a_bindfail_without_bindnegotiate() -> None:
    line = f"S: {server_header()}{features(SESSION)}"
    error, phase, _, _ = fail(AT["XMPP-header-after-auth"], line, events="BINDFAIL")
    assert phase == "bind"
    assert "no resource binding" in str(error)


@pytest.mark.parametrize(
    ("answer", "said", "retry"),
    [
        (bind_result("token-2"), "no addresses", "fast"),
        ("<iq type='result' id='token-2'/>", "no addresses", "fast"),
        (bind_result("token-2", "romeo@example.org/a", "romeo@example.org/b"), "2 addresses", "fast"),
        (bind_result("token-2", ""), "no address", "fast"),
        (bind_result("token-2", "@"), "no address", "fast"),
        (bind_result("token-2", "romeo@example.org/"), "no address", "fast"),
        (bind_result("token-2", "/".join(["a" * 1024] * 3)), "no address", "fast"),
        (bind_result("token-2", f"{'a' * 1024}@{'b' * 1024}/{'c' * 1024}"), "no address", "fast"),
        (bind_result("token-2", "juliet@example.org/balcony"), "not an address of romeo@example.org", "fatal"),
        (bind_result("token-2", "romeo@example.com/x"), "not an address of romeo@example.org", "fatal"),
        (bind_result("token-2", "example.org/x"), "not an address of romeo@example.org", "fatal"),
        (bind_result("token-2", "romeo@example.org"), "not an address of romeo@example.org", "fatal"),
        (stanza_error("token-2", "not-allowed"), "not-allowed", "slow"),
        (stanza_error("token-2", "forbidden", "auth"), "forbidden", "fatal"),
        (stanza_error("token-2", "resource-constraint", "wait"), "no further session for romeo@example.org", "slow"),
        (stanza_error("token-2", "made-up", "unheard-of"), "made-up", "fast"),
        ("<iq type='error' id='token-2'/>", "no condition given", "fast"),
    ],
)
def test_what_is_no_good_answer_to_bind_is_a_bindfail_and_never_hangs(answer: str, said: str, retry: str) -> None:
    # P07, and fault 11 of the original.
    error, phase, classified, _ = fail(AT["XMPP-bind"], f"S: {answer}", events="BINDFAIL")
    assert (phase, classified) == ("bind", retry)
    assert said in str(error)
    assert len(str(error)) < 600


def test_a_resource_that_is_always_taken_is_given_up_after_three_tries() -> None:
    taken = [f"S: {stanza_error(identity, 'conflict')}" for identity in ("token-2", "token-4", "token-6", "token-8")]
    again = "RTS_START(iq bind) NODESENT(iq bind)"
    _, phase, retry, _ = fail(AT["XMPP-bind"], *taken[:3], events=f"{again} {again} BINDFAIL", resource="orchard")
    assert (phase, retry) == ("bind", "slow")


def test_a_second_refusal_of_another_kind_is_a_bindfail() -> None:
    lines = [f"S: {stanza_error('token-2', 'conflict')}", f"S: {stanza_error('token-4', 'not-allowed')}"]
    events = "RTS_START(iq bind) NODESENT(iq bind) BINDFAIL"
    assert fail(AT["XMPP-bind"], *lines, events=events, resource="orchard")[0].condition == "not-allowed"


@pytest.mark.parametrize(
    ("condition", "retry"), [("forbidden", "fast"), ("internal-server-error", "fast"), ("conflict", "slow")]
)
def test_a_refused_session_is_a_sessionfail(condition: str, retry: str) -> None:
    line = f"S: {stanza_error('token-3', condition)}"
    error, phase, classified, _ = fail(AT["XMPP-session"], line, events="SESSIONFAIL")
    assert (phase, classified, error.condition) == ("session", retry, condition)


@pytest.mark.parametrize(
    ("error", "retry", "said"),
    [
        ("400", "fatal", "did not understand"),
        ("403", "fatal", "does not allow user 'jabberd' to bind bot.example.org"),
        ("409", "slow", "bound by another link"),
        ("999", "fatal", "999"),
        ("&#x9b;" + "9" * 5000, "fatal", "refused to bind"),
    ],
)
def test_a_router_that_refuses_to_bind_is_a_bindfail(error: str, retry: str, said: str) -> None:
    line = f"S: <bind id='token-2' error='{error}'/>"
    caught, phase, classified, _ = fail(AT["JABBERD20_COMPONENT-bind"], line, events="BINDFAIL")
    assert (phase, classified) == ("bind", retry)
    assert said in str(caught)
    assert str(caught).isprintable()
    assert len(str(caught)) < 200


def test_a_required_feature_that_is_unknown_is_named() -> None:
    unknown = "<dance xmlns='urn:example:dance'><required/></dance>"
    line = f"S: {server_header()}{features(unknown, BIND)}"
    bound = f"S: {bind_result('token-2', 'romeo@example.org/x')}"
    events = "BINDNEGOTIATE RTS_START(iq bind) NODESENT(iq bind) BINDSUCCESS STREAM_ERROR"
    error, phase, retry, answer = fail(AT["XMPP-header-after-auth"], line, bound, events=events)
    assert (phase, retry, answer) == ("stream", "fatal", "unsupported-feature")
    assert "urn:example:dance" in str(error)


def test_features_that_come_again_change_nothing() -> None:
    # X27: the last ones win only behind a restart.
    again = features(STARTTLS, mechanisms("PLAIN"))
    line = f"S: {server_header()}{features(STARTTLS, mechanisms('SCRAM-SHA-256'))}{again}{again}"
    assert play(config(), [line, PROCEED, "T: ok"]).events == AT["XMPP-header-in-tls"].events


# ---- bounds


def test_more_early_stanzas_than_the_bound_are_an_error() -> None:
    done = play(config(), [*AT["XMPP-bind"].script, "S: " + "<message/>" * 256])
    assert not done.ends
    error, phase, _, answer = fail(AT["XMPP-bind"], "S: " + "<message/>" * 257, events="BINDFAIL")
    assert (phase, answer) == ("bind", "policy-violation")
    assert "256" in str(error)


def test_an_element_over_the_bound_is_an_error() -> None:
    line = f"S: <message><body>{'x' * 20_000}</body></message>"
    _, phase, _, answer = fail(AT["XMPP-bind"], line, events="BINDFAIL", max_stanza_bytes=10_000)
    assert (phase, answer) == ("bind", "policy-violation")


def test_the_failed_action_says_whether_a_closing_tag_is_due() -> None:
    assert play(config(), ["EOF"]).failed.header_sent
    assert not play(config(direct_tls=True), ["EOF"]).failed.header_sent


def test_authfail_carries_the_error_and_its_phase() -> None:
    done = play(config(), [*AT["XMPP-auth"].script, f"S: {sasl('failure', '<not-authorized/>')}"])
    fire = done.fired[-1]
    assert fire.event == Event.PCJ_AUTHFAIL
    assert fire.error is done.failed.error
    assert dict(fire.detail) == {"phase": "authenticate"}
