"""Stream management in the negotiation (XEP-0198 3, 5), as plays: a session is managed, resumed, or refused that."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from pcj.config import Config
from pcj.errors import Phase, Retry
from pcj.events import Event, Status
from pcj.explain import State
from pcj.protocol import Negotiator, dialect_of
from pcj.protocol.actions import Action, BeginTls, Compute, Established, Fire
from pcj.protocol.management import WRAP, Management, binding_of
from pcj.protocol.order import Order
from pcj.xmlstream.framing import stream_error as stream_error_of
from tests.core.protocol.play import (
    BIND,
    CLIENT_STARTTLS,
    PROCEED,
    SESSION,
    SESSION_REQUEST,
    STARTTLS,
    Facts,
    Play,
    Tokens,
    authentication,
    bind_request,
    bind_result,
    client_header,
    everything_shown,
    features,
    mechanisms,
    perform,
    play,
    server_header,
    stream_error,
)
from tests.core.protocol.play import config as play_config

SM = "<sm xmlns='urn:xmpp:sm:3'/>"
SM_2 = "<sm xmlns='urn:xmpp:sm:2'/>"
SM_REQUIRED = "<sm xmlns='urn:xmpp:sm:3'><required/></sm>"
SM_ID = "sm-id-9f8e7d6c"
JID = "romeo@example.org/given"
STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"

OPENED = f"C: {client_header()}"
REOPENED = f"C: {client_header(from_='romeo@example.org')}"
TO_TLS = [OPENED, f"S: {server_header()}{features(STARTTLS, mechanisms('PLAIN'))}", CLIENT_STARTTLS, PROCEED, "T: ok"]
TO_AUTH = [REOPENED, f"S: {server_header(id='sid-2')}{features(mechanisms('SCRAM-SHA-256'))}", *authentication()]
TO_AUTH_EVENTS = "S AUTHNEGOTIATE NODESENT(auth) NODESENT(response) AUTHSUCCESS S"
AUTH_EVENTS = f"S SSLNEGOTIATE NODESENT(starttls) SSLSUCCESS {TO_AUTH_EVENTS}"
BIND_EVENTS = "BINDNEGOTIATE RTS_START(iq bind) NODESENT(iq bind) BINDSUCCESS"
SESSION_EVENTS = "SESSIONNEGOTIATE RTS_START(iq session) NODESENT(iq session) SESSIONSUCCESS"
BOUND = [f"C: {bind_request('token-2')}", f"S: {bind_result('token-2', JID)}"]
IN_SESSION = [f"C: {SESSION_REQUEST.format('token-3')}", "S: <iq type='result' id='token-3'/>"]
ENABLE = 'C: <enable xmlns="urn:xmpp:sm:3" resume="true" max="600"/>'
MESSAGE = "<message from='juliet@example.org/balcony'><body>wherefore</body></message>"
PUSH = "<iq type='set' id='push-1'><query xmlns='jabber:iq:roster'/></iq>"


def config(connection_type: str = "XMPP", **options: Any) -> Config:
    """Of a broker that comes back, for which alone there is something to resume."""
    return play_config(connection_type, **{"auto_reconnect": True, **options})


def authenticated(*offered: str) -> list[str]:
    return [*TO_TLS, *TO_AUTH, REOPENED, f"S: {server_header(id='sid-3')}{features(*offered)}"]


def enabled(**attributes: str) -> str:
    return _element("enabled", attributes)


def _element(name: str, attributes: dict[str, str]) -> str:
    return f"<{name} xmlns='urn:xmpp:sm:3'{''.join(f' {key}={value!r}' for key, value in attributes.items())}/>"


def failed(content: str = "", **attributes: str) -> str:
    return _element("failed", attributes).replace("/>", f">{content}</failed>")


def condition(name: str) -> str:
    return f"<{name} xmlns='{STANZA_ERRORS}'/>"


def managed(made_by: Config | None = None, **options: Any) -> Management:
    """A session of before, of the account of `config()`."""
    binding = binding_of(made_by if made_by is not None else config())
    given = {"jid": JID, "sid": "sid-0", "max_seconds": 600.0, "secured": True, "handled": 4, "proved": 10}
    return Management(SM_ID, binding=binding, **{**given, **options})


def fired(run: Play, event: Event) -> list[dict[str, object]]:
    return [dict(fire.detail) for fire in run.fired if fire.event == event]


def warnings(run: Play) -> list[str]:
    return [str(detail["what"]) for detail in fired(run, Event.WARNING)]


def hides_the_id(run: Play, *ids: str) -> None:
    for text in everything_shown(run):
        for identity in ids or (SM_ID,):
            assert identity not in text


# ---- a new session is managed


def enable(answer: str, *, said: str) -> Play:
    """What comes of an answer to <enable/>; `said`: the events behind the bind's."""
    run = play(config(), [*authenticated(BIND, SM), *BOUND, ENABLE, f"S: {answer}"])
    assert run.events == f"{AUTH_EVENTS} {BIND_EVENTS} {said}"
    hides_the_id(run)
    return run


@pytest.mark.parametrize("resume", ["true", "1", " true "])
@pytest.mark.parametrize(
    ("attributes", "seconds", "location"),
    [
        ({}, 600.0, ""),
        ({"max": "300"}, 300.0, ""),
        ({"max": "600"}, 600.0, ""),
        ({"max": "86400"}, 600.0, ""),  # we do not come back after what we asked for
        ({"max": "99999999999999999999"}, 600.0, ""),
        ({"location": "example.net"}, 600.0, "example.net"),
        ({"max": "7", "location": "[2001:db8::1]:9222"}, 7.0, "[2001:db8::1]:9222"),
        ({"location": ""}, 600.0, ""),
    ],
)
def test_a_session_that_can_be_resumed(resume: str, attributes: dict[str, str], seconds: float, location: str) -> None:
    script = [*authenticated(BIND, SM), *BOUND, ENABLE, f"S: {enabled(id=SM_ID, resume=resume, **attributes)}"]
    run = perform(config(), script, f"{AUTH_EVENTS} {BIND_EVENTS} SM_ENABLED")
    hides_the_id(run)
    assert fired(run, Event.SM_ENABLED) == [{"resumable": True, "max": seconds, "location": location}]
    session = run.established.session
    assert (session.jid, session.sid, session.resumed) == (JID, "sid-3", None)
    management = session.management
    assert management is not None
    assert (management.id, management.jid, management.sid) == (SM_ID, JID, "sid-3")
    assert (management.max_seconds, management.location) == (seconds, location)
    assert (management.handled, management.proved, management.exact) == (0, 0, True)
    assert (management.binding, management.secured) == (binding_of(config()), True)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"id": SM_ID},
        {"id": SM_ID, "resume": "false"},
        {"id": SM_ID, "resume": "0"},
        {"id": SM_ID, "resume": "TRUE"},
    ],
)
def test_a_session_that_cannot_be_resumed_is_managed_all_the_same(attributes: dict[str, str]) -> None:
    run = enable(enabled(**attributes), said="SM_ENABLED")
    management = run.established.session.management
    assert management is not None
    assert not management.resumable
    assert fired(run, Event.SM_ENABLED) == [{"resumable": False, "max": 0.0, "location": ""}]


@pytest.mark.parametrize("identity", [None, "", "x" * 4001, "é" * 2001, "x" * 100_000])
def test_resuming_without_an_id_or_with_one_past_the_bound_is_done_without(identity: str | None) -> None:
    given = {} if identity is None else {"id": identity}
    run = enable(enabled(resume="true", **given), said="WARNING SM_ENABLED")
    management = run.established.session.management
    assert management is not None
    assert not management.resumable
    (warning,) = warnings(run)
    assert "xxxx" not in warning
    assert len(warning) < 250


def test_the_longest_id_is_kept() -> None:
    identity = "é" * 2000
    management = enable(enabled(resume="true", id=identity), said="SM_ENABLED").established.session.management
    assert management is not None
    assert management.id == identity


@pytest.mark.parametrize("seconds", ["", "0", "-1", "soon", "1.5", "9" * 33, "\u0663"])
def test_a_time_to_resume_that_is_none_is_passed_over(seconds: str) -> None:
    run = enable(enabled(id=SM_ID, resume="true", max=seconds), said="WARNING SM_ENABLED")
    management = run.established.session.management
    assert management is not None
    assert management.resumable
    assert management.max_seconds == 600.0


@pytest.mark.parametrize("location", ["x" * 261, "exa mple.net", "example.net\u202e", "a&#10;b"])
def test_a_location_that_is_none_is_passed_over(location: str) -> None:
    answer = f"<enabled xmlns='urn:xmpp:sm:3' id='{SM_ID}' resume='1' location='{location}'/>"
    run = enable(answer, said="WARNING SM_ENABLED")
    management = run.established.session.management
    assert management is not None
    assert (management.resumable, management.location) == (True, "")
    (warning,) = warnings(run)
    assert warning.isascii()
    assert warning.isprintable()


@pytest.mark.parametrize(
    "made",
    [
        # Config takes no 0, but a part of a second: the whole seconds of that are none.
        config(resume_seconds=0.5),
        config(auto_reconnect=False),
    ],
    ids=["no time", "nobody who comes back"],
)
def test_where_nothing_will_be_resumed_only_acks_are_asked_for(made: Config) -> None:
    script = [
        *authenticated(BIND, SM),
        *BOUND,
        'C: <enable xmlns="urn:xmpp:sm:3"/>',
        f"S: {enabled(id=SM_ID, resume='1')}",
    ]
    management = play(made, script).established.session.management
    assert management is not None
    assert not management.resumable


def test_the_time_to_resume_is_told_in_whole_seconds() -> None:
    asked = ENABLE.replace("600", "90")
    script = [*authenticated(BIND, SM), *BOUND, asked, f"S: {enabled(id=SM_ID, resume='1', max='100')}"]
    management = play(config(resume_seconds=90.9), script).established.session.management
    assert management is not None
    assert management.max_seconds == 90.0


def test_it_comes_after_the_session_of_old_servers() -> None:
    script = [*authenticated(SM, SESSION, BIND), *BOUND, *IN_SESSION, ENABLE, f"S: {enabled()}"]
    perform(config(), script, f"{AUTH_EVENTS} {BIND_EVENTS} {SESSION_EVENTS} SM_ENABLED")


FAILED = [
    (failed(), ""),
    (failed(condition("unexpected-request")), "unexpected-request"),
    (failed(f"<error type='cancel'>{condition('unexpected-request')}</error>"), "unexpected-request"),
    (failed(f"<text xmlns='{STANZA_ERRORS}'>no</text>{condition('item-not-found')}"), "item-not-found"),
    (failed(condition("item-not-found") + f"<text xmlns='{STANZA_ERRORS}'>no</text>"), "item-not-found"),
    (failed(f"<x xmlns='urn:x'/><error>{condition('feature-not-implemented')}</error>"), "feature-not-implemented"),
    (failed(f"<error type='cancel'><text xmlns='{STANZA_ERRORS}'>no</text></error>"), ""),
    (failed(f"<e><e><e>{condition('too-deep')}</e></e></e>"), ""),
    (failed("item-not-found"), ""),
    (failed(condition("x" * 5000)), "x" * 64),
]


@pytest.mark.parametrize(("answer", "named"), FAILED)
def test_where_it_is_refused_the_link_does_without(answer: str, named: str) -> None:
    run = enable(answer, said="WARNING")
    assert run.established.session.management is None
    (warning,) = warnings(run)
    assert f"({named or 'no condition given'})" in warning


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        ({}, ()),
        ({}, (SM_2,)),
        ({"stream_management": False}, (SM,)),
        ({"acks": "off"}, (SM,)),
    ],
)
def test_it_is_not_asked_for_where_it_is_not_offered_or_not_wanted(
    options: dict[str, Any], offered: tuple[str, ...]
) -> None:
    run = perform(config(**options), [*authenticated(BIND, *offered), *BOUND], f"{AUTH_EVENTS} {BIND_EVENTS}")
    assert run.established.session.management is None


def test_of_two_versions_the_newer_is_asked_for() -> None:
    script = [*authenticated(SM_2, BIND, SM), *BOUND, ENABLE, f"S: {enabled()}"]
    perform(config(), script, f"{AUTH_EVENTS} {BIND_EVENTS} SM_ENABLED")


def test_a_server_that_insists_on_it_is_left_where_it_is_not_wanted() -> None:
    run = play(config(stream_management=False), [*authenticated(BIND, SM_REQUIRED), *BOUND])
    assert run.failed.error.answer == "unsupported-feature"
    assert run.retry(config()) is Retry.FATAL
    run = play(config(), [*authenticated(BIND, SM_REQUIRED), *BOUND, ENABLE, f"S: {enabled()}"])
    assert run.established.session.management is not None


def test_stanzas_before_the_answer_are_kept_and_those_behind_it_are_left_for_the_next_gear() -> None:
    script = [*authenticated(BIND, SM), *BOUND, ENABLE, f"S: {PUSH}{MESSAGE}", f"S: {enabled(id=SM_ID, resume='1')}"]
    run = perform(config(), script, f"{AUTH_EVENTS} {BIND_EVENTS} SM_ENABLED")
    assert [node.tag.rpartition("}")[2] for node in run.established.early] == ["iq", "message"]
    management = run.established.session.management
    assert management is not None
    assert management.handled == 0  # XEP-0198 4: the count starts behind <enabled/>


@pytest.mark.parametrize(
    "answer",
    [
        "<a xmlns='urn:xmpp:sm:3' h='0'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='x'/>",
        "<enabled xmlns='urn:xmpp:sm:2'/>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    ],
)
def test_what_is_no_answer_to_enable_ends_the_link(answer: str) -> None:
    run = enable(answer, said="STREAM_ERROR")
    assert run.failed.error.answer == "undefined-condition"
    assert run.failed.error.expected == "<enabled>"
    assert run.failed.phase is Phase.STREAM


def test_a_server_that_does_not_answer_is_not_waited_for_without_end() -> None:
    run = play(config(), [*authenticated(BIND, SM), *BOUND, ENABLE, "SILENCE"])
    assert run.failed.error.answer == "connection-timeout"


# ---- the session of before goes on


def resume(h: int = 4) -> str:
    return f'C: <resume xmlns="urn:xmpp:sm:3" h="{h}" previd="{SM_ID}"/>'


def resumed(h: object, previd: str = SM_ID) -> str:
    return f"<resumed xmlns='urn:xmpp:sm:3' h='{h}' previd='{previd}'/>"


@pytest.mark.parametrize(
    ("proved", "outstanding", "h", "more"),
    [
        (10, 0, "10", 0),
        (10, 5, "10", 0),
        (10, 5, "13", 3),
        (10, 5, "15", 5),
        (WRAP - 2, 5, "1", 3),
        (2 * WRAP - 1, 1, "0", 1),
    ],
)
def test_a_session_goes_on_with_what_the_server_has_of_it(proved: int, outstanding: int, h: str, more: int) -> None:
    script = [*authenticated(BIND, SESSION, SM), resume(), f"S: {resumed(h)}"]
    run = perform(
        config(),
        script,
        f"{AUTH_EVENTS} SM_RESUMING NODESENT(resume) SM_RESUMED",
        management=managed(proved=proved),
        outstanding=outstanding,
    )
    hides_the_id(run)
    assert fired(run, Event.SM_RESUMED) == [{"h": int(h), "proved": more}]
    session = run.established.session
    assert (session.jid, session.sid, session.resumed) == (JID, "sid-0", more)
    management = session.management
    assert management is not None
    assert (management.id, management.handled, management.proved) == (SM_ID, 4, proved + more)


def test_our_own_count_is_told_modulo_2_to_the_32() -> None:
    script = [*authenticated(BIND, SM), resume(1), f"S: {resumed(10)}"]
    run = play(config(), script, management=managed(handled=WRAP + 1))
    assert run.established.session.resumed == 0


def test_the_sent_node_shows_our_count_and_not_the_id() -> None:
    run = play(config(), [*authenticated(BIND, SM), resume(), f"S: {resumed(10)}"], management=managed())
    (node,) = [fire.node for fire in run.fired if fire.node is not None and fire.node.tag.endswith("}resume")]
    assert node.attrib == {"h": "4", "previd": "[redacted]"}


def test_what_comes_behind_the_answer_is_left_for_the_next_gear_to_the_byte() -> None:
    behind = f"{MESSAGE}<r xmlns='urn:xmpp:sm:3'/>{PUSH}"
    script = [*authenticated(BIND, SM), resume(), f"S: {resumed(10)}{behind}"]
    run = play(config(), script, management=managed())
    assert run.established.leftover == behind.encode()
    assert run.established.early == ()


def test_a_state_of_a_process_that_was_killed_is_taken_at_the_servers_word() -> None:
    management = Management.from_state(managed().to_state())
    run = play(
        config(), [*authenticated(BIND, SM), resume(), f"S: {resumed(17)}"], management=management, outstanding=3
    )
    assert run.established.session.resumed == 7
    assert run.established.session.management is not None
    assert run.established.session.management.exact


# ---- it does not


def refused(
    answer: str, *, management: Management, outstanding: int = 5, made: Config | None = None, offered: str = SM
) -> tuple[Play, dict[str, object]]:
    """A session that is refused, and a new one that is bound on the same stream; and the detail of the refusal."""
    made = made if made is not None else config()
    said = [resume(), f"S: {answer}"] if answer else []
    new = [ENABLE, f"S: {enabled(id='another-id', resume='1')}"]
    events = f"{AUTH_EVENTS} SM_RESUMING {'NODESENT(resume)' if answer else ''} SM_RESUMEFAILED {BIND_EVENTS}"
    if not (made.stream_management and made.acks == "auto" and offered == SM):
        new = []
    script = [*authenticated(BIND, offered), *said, *BOUND, *new]
    events += " SM_ENABLED" if new else ""
    run = perform(made, script, events, management=management, outstanding=outstanding)
    hides_the_id(run, SM_ID, "another-id")
    session = run.established.session
    assert (session.jid, session.sid, session.resumed) == (JID, "sid-3", None)
    assert (session.management.id if session.management is not None else None) == ("another-id" if new else None)
    (detail,) = fired(run, Event.SM_RESUMEFAILED)
    return run, detail


@pytest.mark.parametrize(("answer", "named"), FAILED)
def test_a_refusal_is_read_in_every_shape_and_a_new_session_is_bound(answer: str, named: str) -> None:
    _, detail = refused(answer, management=managed())
    assert detail == {"condition": named, "h": None, "proved": None}


@pytest.mark.parametrize(
    ("proved", "h", "more"),
    [(10, "10", 0), (10, "12", 2), (10, "15", 5), (WRAP - 1, "0", 1), (WRAP, "5", 5)],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_refusal_may_say_what_the_server_had_of_the_session(proved: int, h: str, more: int, nested: bool) -> None:
    inner = condition("item-not-found")
    answer = failed(f"<error type='cancel'>{inner}</error>" if nested else inner, h=h)
    _, detail = refused(answer, management=managed(proved=proved))
    assert detail == {"condition": "item-not-found", "h": int(h), "proved": more}


@pytest.mark.parametrize(
    ("management", "made", "offered", "reason"),
    [
        (managed(), config(), "", "the server offers no stream management"),
        (managed(), config(), SM_2, "the server offers no stream management"),
        (managed(), config(stream_management=False), SM, "stream management is switched off"),
        (managed(), config(acks="off"), SM, "stream management is switched off"),
        (managed(config(host="192.0.2.7")), config(), SM, "another account's"),
        (managed(config(jid="juliet@example.org")), config(), SM, "another account's"),
        (managed(config(verify_tls=False)), config(), SM, "another account's"),
    ],
)
def test_a_session_is_offered_to_nobody_but_whom_it_was_made_with(
    management: Management, made: Config, offered: str, reason: str
) -> None:
    _, detail = refused("", management=management, made=made, offered=offered)
    assert reason in str(detail.pop("reason"))
    assert detail == {"condition": "", "h": None, "proved": None}


def test_a_session_that_was_made_inside_tls_is_not_offered_outside() -> None:
    made = config(require_tls=False)
    script = [
        f"S: {server_header()}{features(mechanisms('SCRAM-SHA-256'))}",
        *[line for line in authentication() if line.startswith("S: ")],
        f"S: {server_header(id='sid-3')}{features(BIND, SM)}",
        f"S: {bind_result('token-2', JID)}",
        f"S: {enabled()}",
    ]
    run = play(made, script, loopback=True, management=managed(made))
    (detail,) = fired(run, Event.SM_RESUMEFAILED)
    assert "inside TLS" in str(detail["reason"])
    assert SM_ID not in run.sent
    assert run.established.session.resumed is None
    new = run.established.session.management
    assert new is not None
    assert not new.secured
    script[-2:] = [f"S: {resumed(10)}"]
    run = play(made, script, loopback=True, management=managed(made, secured=False))
    assert run.established.session.resumed == 0


def test_a_session_that_cannot_be_resumed_is_not_asked_for() -> None:
    management = managed()
    management.forget()
    script = [*authenticated(BIND, SM), *BOUND, ENABLE, f"S: {enabled()}"]
    perform(config(), script, f"{AUTH_EVENTS} {BIND_EVENTS} SM_ENABLED", management=management)


COUNTS = [
    ("16", b'h="16" send-count="15"'),
    ("9", b'h="9" send-count="15"'),
    ("0", b'h="0" send-count="15"'),
    (str(WRAP - 1), b'h="4294967295" send-count="15"'),
    (str(WRAP), b""),
    ("", b""),
    ("-1", b""),
    ("many", b""),
]


@pytest.mark.parametrize(("h", "application"), COUNTS)
@pytest.mark.parametrize("refusal", [True, False])
def test_a_count_that_contradicts_ours_ends_the_session_and_the_link(h: str, application: bytes, refusal: bool) -> None:
    answer = failed(condition("item-not-found"), h=h) if refusal else resumed(h)
    script = [*authenticated(BIND, SM), resume(), f"S: {answer}"]
    events = f"{AUTH_EVENTS} SM_RESUMING NODESENT(resume) SM_RESUMEFAILED STREAM_ERROR"
    run = perform(config(), script, events, management=managed(), outstanding=5)
    hides_the_id(run)
    error = run.failed.error
    assert error.answer == "undefined-condition"
    assert application in error.application
    assert bool(error.application) == bool(application)
    (detail,) = fired(run, Event.SM_RESUMEFAILED)
    assert detail.pop("reason") == "the server's count contradicts ours"
    assert detail == {"condition": "item-not-found" if refusal else "", "h": None, "proved": None}


def test_an_answer_without_a_count_ends_the_session_and_the_link() -> None:
    answer = f"<resumed xmlns='urn:xmpp:sm:3' previd='{SM_ID}'/>"
    run = play(config(), [*authenticated(BIND, SM), resume(), f"S: {answer}"], management=managed())
    assert "in place of how many" in str(run.failed.error)


@pytest.mark.parametrize("previd", ["another-id", "", None, SM_ID.upper(), f"{SM_ID} "])
def test_another_session_than_ours_is_not_taken_over(previd: str | None) -> None:
    given = "" if previd is None else f" previd='{previd}'"
    script = [*authenticated(BIND, SM), resume(), f"S: <resumed xmlns='urn:xmpp:sm:3' h='10'{given}/>"]
    events = f"{AUTH_EVENTS} SM_RESUMING NODESENT(resume) SM_RESUMEFAILED STREAM_ERROR"
    run = perform(config(), script, events, management=managed())
    hides_the_id(run, SM_ID, "another-id")
    assert run.failed.error.answer == "undefined-condition"


@pytest.mark.parametrize(
    "answer",
    [MESSAGE, PUSH, "<r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='10'/>", enabled(id="another-id")],
)
def test_nothing_may_come_before_the_answer(answer: str) -> None:
    script = [*authenticated(BIND, SM), resume(), f"S: {answer}"]
    events = f"{AUTH_EVENTS} SM_RESUMING NODESENT(resume) STREAM_ERROR"
    run = perform(config(), script, events, management=managed())
    assert run.failed.error.answer == "undefined-condition"
    assert run.failed.error.expected == "<resumed>"


# ---- what is left of it where the link ends without an answer


def drive(script: Sequence[str], management: Management, outstanding: int) -> tuple[list[Action], Negotiator]:
    """The same with the object itself, and not a copy."""
    dialect = dialect_of("XMPP")
    negotiator = Negotiator(
        config(), dialect, token=Tokens(), loopback=False, management=management, outstanding=outstanding
    )
    actions: list[Action] = []

    def carry_out(given: list[Action]) -> None:
        for action in given:
            actions.append(action)
            if isinstance(action, Compute):
                carry_out(negotiator.computed(action.run(), 0.0))
            elif isinstance(action, BeginTls):
                carry_out(negotiator.tls_started(Facts(), 0.0))

    carry_out(negotiator.start(0.0))
    for line in script:
        if line.startswith("S: "):
            carry_out(negotiator.receive_data(line.removeprefix("S: ").encode(), 0.0))
        elif line == "EOF":
            carry_out(negotiator.receive_eof(0.0))
    return actions, negotiator


TOO_HIGH = (
    "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
    "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='4' send-count='3'/></stream:error>"
)


@pytest.mark.parametrize(
    ("line", "resumable", "proved"),
    [
        ("EOF", True, 10),
        (f"S: {stream_error('system-shutdown')}", True, 10),
        (f"S: {stream_error('undefined-condition')}", False, 10),
        (f"S: {stream_error('internal-server-error')}", True, 10),
        (f"S: {MESSAGE}", True, 10),
        (f"S: {TOO_HIGH}", False, 10),
        (f"S: {failed(condition('item-not-found'))}", False, 10),
        (f"S: {failed(condition('item-not-found'), h='12')}", False, 12),
        (f"S: {resumed('99')}", False, 10),
        (f"S: {resumed('10', 'another-id')}", False, 10),
        (f"S: {resumed('12')}", True, 12),
    ],
)
def test_a_session_is_kept_for_the_next_link_until_the_server_has_ended_it(
    line: str, resumable: bool, proved: int
) -> None:
    management = managed()
    drive([*authenticated(BIND, SM), line], management, 5)
    assert (management.resumable, management.proved) == (resumable, proved)


@pytest.mark.parametrize("said", [TOO_HIGH, stream_error("undefined-condition", "you acknowledged more than was sent")])
def test_a_server_that_finds_our_count_too_high_has_ended_the_session(said: str) -> None:
    script = [*authenticated(BIND, SM), resume(), f"S: {said}"]
    events = f"{AUTH_EVENTS} SM_RESUMING NODESENT(resume) SM_RESUMEFAILED STREAM_ERROR"
    (detail,) = fired(perform(config(), script, events, management=managed()), Event.SM_RESUMEFAILED)
    assert detail.pop("reason") == "the server ended the stream over it"
    assert detail == {"condition": "undefined-condition", "h": None, "proved": None}
    # Elsewhere it is not about that session.
    early = play(config(), [*authenticated(BIND, SM), *BOUND, ENABLE, f"S: {said}"])
    assert fired(early, Event.SM_RESUMEFAILED) == []


def test_a_stream_error_that_quotes_the_id_does_not_show_it() -> None:
    quoting = stream_error("undefined-condition", f"no session {SM_ID} here")
    run = play(config(), [*authenticated(BIND, SM), resume(), f"S: {quoting}"], management=managed())
    assert "[redacted]" in str(run.failed.error)
    hides_the_id(run)
    early = play(config(), [OPENED, f"S: {server_header()}{quoting}"], management=managed())  # before we have sent it
    assert "[redacted]" in str(early.failed.error)
    hides_the_id(early)


def test_the_stream_error_of_a_wrong_count_has_the_element_of_xep_0198() -> None:
    run = play(
        config(), [*authenticated(BIND, SM), resume(), f"S: {resumed('16')}"], management=managed(), outstanding=5
    )
    error = run.failed.error
    assert error.answer is not None
    assert stream_error_of(error.answer, error.application).decode() == (
        '<stream:error><undefined-condition xmlns="urn:ietf:params:xml:ns:xmpp-streams"/>'
        '<handled-count-too-high xmlns="urn:xmpp:sm:3" h="16" send-count="15"/></stream:error>'
    )


# ---- the order of events


@pytest.mark.parametrize(
    "lines",
    [
        [resume(), f"S: {resumed(10)}"],
        [resume(), f"S: {failed()}", *BOUND, ENABLE, f"S: {enabled(id=SM_ID, resume='1')}"],
        [resume(), f"S: {failed()}", *BOUND, ENABLE, f"S: {enabled()}"],
        [resume(), f"S: {failed()}", *BOUND, ENABLE, f"S: {failed()}"],
        [resume(), f"S: {resumed(99)}"],
        [resume(), f"S: {failed(h='99')}"],
        [resume(), f"S: {stream_error('conflict')}"],
        [resume(), f"S: {TOO_HIGH}"],
        [resume(), f"S: {failed()}", *BOUND, ENABLE, f"S: {stream_error('conflict')}"],
        [resume(), f"S: {failed()}", *BOUND, ENABLE, "S: <r xmlns='urn:xmpp:sm:3'/>"],
    ],
)
def test_the_events_keep_to_the_table(lines: list[str]) -> None:
    run = play(config(), [*authenticated(BIND, SM), *lines], management=managed())
    order = Order("XMPP", "ready")
    events: list[tuple[str, dict[str, object]]] = [(Event.SM_ENABLED, {"resumable": True})]
    events += [(event, {}) for event in (Event.PCJ_SOCKETFAIL, Event.PCJ_SOCKETDISCONNECT, Event.RECONNECT_DELAY)]
    events += [(event, {}) for event in (Event.PCJ_CONNECTING, Event.PCJ_CONNECTED)]
    for action in run.actions:
        if isinstance(action, Fire):
            events.append((action.event, dict(action.detail)))
            if action.event == Event.SM_RESUMEFAILED:
                events.append((Event.SESSION_LOST, {}))  # the link's own
        elif isinstance(action, Established):
            events.append((Event.PCJ_READY, {"resumed": True} if action.session.resumed is not None else {}))
    for seq, (event, detail) in enumerate(events, 1):
        assert order.follow(Status(event, 0.0, seq, detail=detail)) is None
    if isinstance(run.ends[0], Established):
        assert order.finish(State.READY) is None


def test_a_session_that_is_managed_and_cannot_be_resumed_is_lost_with_its_link() -> None:
    for resumable in (True, False):
        order = Order("XMPP", "ready")
        order.follow(Status(Event.SM_ENABLED, 0.0, 1, detail={"resumable": resumable}))
        for event in (Event.PCJ_SOCKETFAIL, Event.PCJ_SOCKETDISCONNECT):
            assert order.follow(Status(event, 0.0, 2)) is None
        wrong = order.follow(Status(Event.RECONNECT_DELAY, 0.0, 3))
        assert (wrong is None) == resumable


def test_negotiations_steps_show_nothing_of_the_session() -> None:
    negotiator = drive([], managed(), 0)[1]
    assert SM_ID not in repr(vars(negotiator)["_negotiation"])
    assert SM_ID not in repr(dataclasses.replace(vars(negotiator)["_negotiation"], outstanding=3))
