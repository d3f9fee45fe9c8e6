"""The orders of the reference (original-traces, section 1), for each connection type, however the bytes are cut."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import re

import pytest

from pcj.config import Config
from pcj.errors import ConfigError
from pcj.events import Event
from pcj.protocol.actions import BeginTls, Fire
from pcj.protocol.jabberd20 import RouteEnvelope
from tests.core.protocol.play import (
    BIND,
    CLIENT_STARTTLS,
    PASSWORD,
    PROCEED,
    SESSION,
    SESSION_OPTIONAL,
    SESSION_REQUEST,
    STARTTLS,
    authentication,
    bind_request,
    bind_result,
    client_header,
    config,
    features,
    mechanisms,
    perform,
    play,
    server_header,
    server_lines,
    stanza_error,
    stream_error,
)

OPENED = f"C: {client_header()}"
REOPENED = f"C: {client_header(from_='romeo@example.org')}"
ROUTER = "http://jabberd.jabberstudio.org/ns/component/1.0"
TO_TLS = [OPENED, f"S: {server_header()}{features(STARTTLS, mechanisms('PLAIN'))}", CLIENT_STARTTLS, PROCEED, "T: ok"]
TLS_EVENTS = "S SSLNEGOTIATE NODESENT(starttls) SSLSUCCESS"


def xmpp(*offered: str, mechanism: str = "SCRAM-SHA-256", proof_in_success: bool = True) -> list[str]:
    """The lines of XMPP up to the features after authentication."""
    return [
        *TO_TLS,
        REOPENED,
        f"S: {server_header(id='sid-2')}{features(mechanisms('PLAIN', mechanism))}",
        *authentication(mechanism, proof_in_success=proof_in_success),
        REOPENED,
        f"S: {server_header(id='sid-3')}{features(*offered)}",
    ]


XMPP_EVENTS = f"{TLS_EVENTS} S AUTHNEGOTIATE NODESENT(auth) NODESENT(response) AUTHSUCCESS S"
BIND_EVENTS = "BINDNEGOTIATE RTS_START(iq bind) NODESENT(iq bind) BINDSUCCESS"
SESSION_EVENTS = "SESSIONNEGOTIATE RTS_START(iq session) NODESENT(iq session) SESSIONSUCCESS"
BOUND = [f"C: {bind_request('token-2')}", f"S: {bind_result('token-2', 'romeo@example.org/given')}"]
IN_SESSION = [f"C: {SESSION_REQUEST.format('token-3')}", "S: <iq type='result' id='token-3'/>"]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_xmpp_with_starttls_and_scram(mechanism: str) -> None:
    done = perform(config(), [*xmpp(BIND, mechanism=mechanism), *BOUND], f"{XMPP_EVENTS} {BIND_EVENTS}")
    assert done.established.session.jid == "romeo@example.org/given"
    assert done.established.session.sid == "sid-3"
    assert done.established.session.envelope is None
    assert done.established.namespaces[""] == "jabber:client"


def test_xmpp_where_the_servers_proof_comes_in_a_challenge_of_its_own() -> None:
    events = XMPP_EVENTS.replace("NODESENT(response)", "NODESENT(response) NODESENT(response)")
    perform(config(), [*xmpp(BIND, proof_in_success=False), *BOUND], f"{events} {BIND_EVENTS}")


def test_plain_is_used_inside_tls_and_has_no_response() -> None:
    events = XMPP_EVENTS.replace("NODESENT(response) ", "")
    perform(config(), [*xmpp(BIND, mechanism="PLAIN"), *BOUND], f"{events} {BIND_EVENTS}")


@pytest.mark.parametrize("proof_in_success", [True, False])
def test_digest_md5_is_used_where_nothing_better_is_offered(proof_in_success: bool) -> None:
    responses = "NODESENT(response)" if proof_in_success else "NODESENT(response) NODESENT(response)"
    events = XMPP_EVENTS.replace("NODESENT(response)", responses)
    lines = xmpp(BIND, mechanism="DIGEST-MD5", proof_in_success=proof_in_success)
    perform(config(), [*lines, *BOUND], f"{events} {BIND_EVENTS}")


@pytest.mark.parametrize(
    ("offered", "session", "established"),
    [
        ("", "auto", False),
        ("", "always", False),
        (SESSION_OPTIONAL, "auto", False),
        (SESSION_OPTIONAL, "always", True),
        (SESSION, "auto", True),
        (SESSION, "always", True),
    ],
)
def test_a_session_is_established_where_the_server_requires_it_or_the_user_wants_it(
    offered: str, session: str, established: bool
) -> None:
    lines = [*xmpp(BIND, offered), *BOUND, *(IN_SESSION if established else [])]
    perform(config(session=session), lines, f"{XMPP_EVENTS} {BIND_EVENTS} {SESSION_EVENTS if established else ''}")


@pytest.mark.parametrize("offered", [f"{SESSION}{BIND}", f"{BIND}{SESSION}"])
def test_our_order_of_features_decides_and_never_the_servers(offered: str) -> None:
    perform(config(), [*xmpp(offered), *BOUND, *IN_SESSION], f"{XMPP_EVENTS} {BIND_EVENTS} {SESSION_EVENTS}")


@pytest.mark.parametrize("options", [{"resource": "orchard"}, {"jid": "romeo@example.org/orchard"}])
def test_the_resource_that_was_named_is_asked_for(options: dict[str, str]) -> None:
    lines = [
        *xmpp(BIND),
        f"C: {bind_request('token-2', 'orchard')}",
        f"S: {bind_result('token-2', 'romeo@example.org/orchard')}",
    ]
    perform(config(**options), lines, f"{XMPP_EVENTS} {BIND_EVENTS}")


def test_another_resource_than_the_one_asked_for_is_told() -> None:
    lines = [
        *xmpp(BIND),
        f"C: {bind_request('token-2', 'orchard')}",
        f"S: {bind_result('token-2', 'ROMEO@Example.ORG/orchard~1')}",
    ]
    done = perform(config(resource="orchard"), lines, f"{XMPP_EVENTS} {BIND_EVENTS} JID_CHANGED")
    assert done.established.session.jid == "romeo@example.org/orchard~1"
    assert done.fired[-1].detail == {"asked": "romeo@example.org/orchard", "given": "romeo@example.org/orchard~1"}


@pytest.mark.parametrize(
    "error", [stanza_error("token-2", "conflict"), stanza_error("token-2", "not-acceptable", "modify")]
)
def test_a_resource_that_is_taken_is_followed_by_one_of_our_own_making(error: str) -> None:
    lines = [
        *xmpp(BIND),
        f"C: {bind_request('token-2', 'orchard')}",
        f"S: {error}",
        f"C: {bind_request('token-4', 'pcj-token-3')}",
        f"S: {bind_result('token-4', 'romeo@example.org/pcj-token-3')}",
    ]
    twice = "BINDNEGOTIATE RTS_START(iq bind) NODESENT(iq bind) RTS_START(iq bind) NODESENT(iq bind) BINDSUCCESS"
    done = perform(config(resource="orchard"), lines, f"{XMPP_EVENTS} {twice} JID_CHANGED")
    assert done.established.session.jid == "romeo@example.org/pcj-token-3"


def test_without_tls_where_that_is_allowed_and_none_is_offered() -> None:
    lines = [
        OPENED,
        f"S: {server_header()}{features(mechanisms('SCRAM-SHA-256'))}",
        *authentication(),
        OPENED,
        f"S: {server_header(id='sid-2')}{features(BIND)}",
        *BOUND,
    ]
    events = "S AUTHNEGOTIATE NODESENT(auth) NODESENT(response) AUTHSUCCESS S"
    done = perform(config(require_tls=False), lines, f"{events} {BIND_EVENTS}")
    assert "from=" not in done.sent  # an eavesdropper need not know who we are (RFC 6120 4.7.1)


def test_tls_is_used_where_it_is_offered_even_if_it_is_not_required() -> None:
    perform(config(require_tls=False), [*xmpp(BIND), *BOUND], f"{XMPP_EVENTS} {BIND_EVENTS}")


def test_tls_is_asked_for_where_it_is_required_and_not_offered() -> None:
    lines = [
        OPENED,
        f"S: {server_header()}{features(mechanisms('SCRAM-SHA-256'))}",
        CLIENT_STARTTLS,
        PROCEED,
        "T: ok",
        *xmpp(BIND)[5:],
        *BOUND,
    ]
    events = XMPP_EVENTS.replace("SSLNEGOTIATE NODESENT(starttls)", "NODESENT(starttls) SSLNEGOTIATE")
    perform(config(), lines, f"{events} {BIND_EVENTS}")


@pytest.mark.parametrize("offer", ["", STARTTLS], ids=["no-starttls", "starttls-offered-again"])
def test_direct_tls_has_the_events_of_tls_and_is_never_followed_by_starttls(offer: str) -> None:
    lines = [
        "T: ok",
        REOPENED,
        f"S: {server_header(id='sid-2')}{features(offer, mechanisms('SCRAM-SHA-256'))}",
        *authentication(),
        REOPENED,
        f"S: {server_header(id='sid-3')}{features(offer, BIND)}",
        *BOUND,
    ]
    events = XMPP_EVENTS.replace("S SSLNEGOTIATE NODESENT(starttls) SSLSUCCESS", "SSLNEGOTIATE SSLSUCCESS")
    done = perform(config(direct_tls=True), lines, f"{events} {BIND_EVENTS}")
    assert sum(isinstance(action, BeginTls) for action in done.actions) == 1


def test_starttls_offered_again_inside_tls_is_ignored() -> None:
    lines = [line.replace("<stream:features>", f"<stream:features>{STARTTLS}") for line in xmpp(BIND)]
    done = perform(config(), [*lines, *BOUND], f"{XMPP_EVENTS} {BIND_EVENTS}")
    assert sum(isinstance(action, BeginTls) for action in done.actions) == 1


def test_sslsuccess_tells_what_tls_is() -> None:
    (success,) = (fire for fire in play(config(), [*TO_TLS, REOPENED]).fired if fire.event == Event.PCJ_SSLSUCCESS)
    assert success.detail == {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "name": "example.org",
        "verified": True,
    }


def test_sslsuccess_waits_for_the_handshake_and_nothing_is_sent_meanwhile() -> None:
    done = play(config(), TO_TLS[:-1])
    assert done.events == "S SSLNEGOTIATE NODESENT(starttls)"
    assert isinstance(done.actions[-1], BeginTls)


def test_our_order_of_mechanisms_decides_and_never_the_servers() -> None:
    names = ["X-UNKNOWN", "PLAIN", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    for count, best in enumerate(names[1:], 2):
        for offered in (names[:count], names[:count][::-1]):
            done = play(config(direct_tls=True), ["T: ok", f"S: {server_header()}{features(mechanisms(*offered))}"])
            (negotiate,) = (fire for fire in done.fired if fire.event == Event.PCJ_AUTHNEGOTIATE)
            assert negotiate.detail == {"mechanism": best}


def test_plain_has_no_line_breaks_however_long_the_password_and_works_at_the_router() -> None:
    password = "long " * 100 + "password"
    options = config("JABBERD20_COMPONENT", "bot.example.org", username="jabberd", password=password, direct_tls=True)
    opened = f"S: {server_header(xmlns=ROUTER)}"
    lines = [
        "T: ok",
        f"{opened}{features(mechanisms('PLAIN'))}",
        *server_lines(authentication("PLAIN", "jabberd", password=password, host="bot.example.org")),
        f"{opened}{features()}",
        "S: <bind/>",
    ]
    done = play(options, lines)
    assert done.established.session.jid == "bot.example.org"
    (initial,) = re.findall(r"<auth [^>]*>([^<]*)<", done.sent)
    assert base64.b64decode(initial, validate=True).split(b"\0") == [b"", b"jabberd", password.encode()]


def test_the_carrying_node_comes_right_after_its_event() -> None:
    carried: dict[str, str] = {}
    fired = play(config(), [*xmpp(BIND, SESSION), *BOUND, *IN_SESSION]).fired
    for first, second in itertools.pairwise(fired):
        if second.event == Event.PCJ_NODESENT and first.event != Event.PCJ_NODESENT and second.node is not None:
            carried[first.event] = second.node.tag.rpartition("}")[2]
    assert carried == {
        "PCJ_STREAMSTART": "stream",
        "PCJ_SSLNEGOTIATE": "starttls",
        "PCJ_AUTHNEGOTIATE": "auth",
        "PCJ_RTS_START": "iq",
    }


def test_internal_requests_are_marked() -> None:
    starts = [fire for fire in play(config(), [*xmpp(BIND), *BOUND]).fired if fire.event == Event.PCJ_RTS_START]
    assert [dict(fire.detail) for fire in starts] == [{"internal": True}]


def test_stanzas_before_the_answer_to_bind_are_kept_in_order() -> None:
    early = "<presence from='a@example.org'/><iq type='get' id='token-2' from='example.org'><x xmlns='y'/></iq>"
    lines = [*xmpp(BIND), f"S: {early}{bind_result('token-2', 'romeo@example.org/given')}"]
    done = perform(config(), [line for line in lines if line[0] != "C"], f"{XMPP_EVENTS} {BIND_EVENTS}")
    assert [node.tag for node in done.established.early] == ["{jabber:client}presence", "{jabber:client}iq"]


def test_a_reply_to_bind_that_comes_from_somebody_else_is_no_reply() -> None:
    forged = bind_result("token-2", "romeo@example.org/evil").replace("<iq", "<iq from='juliet@example.org/balcony'")
    lines = [*xmpp(BIND), f"S: {forged}{bind_result('token-2', 'romeo@example.org/given')}"]
    done = perform(config(), [line for line in lines if line[0] != "C"], f"{XMPP_EVENTS} {BIND_EVENTS}")
    assert done.established.session.jid == "romeo@example.org/given"
    assert len(done.established.early) == 1


@pytest.mark.parametrize("sender", ["romeo@example.org", "example.org", "ROMEO@example.org/given"])
def test_a_reply_to_bind_may_come_from_our_own_address_or_the_server(sender: str) -> None:
    answer = bind_result("token-2", "romeo@example.org/given").replace("<iq", f"<iq from='{sender}'")
    done = play(config(), [*xmpp(BIND), BOUND[0], f"S: {answer}"])
    assert done.established.session.jid == "romeo@example.org/given"


def test_a_header_from_another_domain_is_told_of_and_proves_nothing() -> None:
    lines = [
        "T: ok",
        f"S: {server_header(from_='example.com')}{features(mechanisms('SCRAM-SHA-256'))}",
        *authentication()[1::2],
        f"S: {server_header(from_='EXAMPLE.org')}{features(BIND)}",
        BOUND[1],
    ]
    events = "SSLNEGOTIATE SSLSUCCESS S WARNING AUTHNEGOTIATE NODESENT(auth) NODESENT(response) AUTHSUCCESS S"
    done = perform(config(direct_tls=True), lines, f"{events} {BIND_EVENTS}")
    warning = next(fire for fire in done.fired if fire.event == Event.WARNING)
    assert warning.detail == {"what": "the server's header is from 'example.com', not from 'example.org'"}


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.99"])
def test_every_version_1_will_do(version: str) -> None:
    lines = [line.replace("version='1.0'", f"version='{version}'") for line in xmpp(BIND) if line[0] != "C"]
    lines = [line.replace(f"<?xml version='{version}'?>", "<?xml version='1.0'?>") for line in lines]
    perform(config(), [*lines, BOUND[1]], f"{XMPP_EVENTS} {BIND_EVENTS}")


def test_pcjs_options_of_the_header_are_sent() -> None:
    options = config(version="1.1", xmlns="jabber:other", stream="urn:streams", require_tls=False)
    lines = [
        'C: <?xml version=\'1.0\'?><stream:stream xmlns="jabber:other" xmlns:stream="urn:streams" '
        'to="example.org" version="1.1">'
    ]
    play(options, lines)


# ---- LEGACY


def legacy(secret: str, *, identity: str = "token-2", resource: str = "pcj-token-1") -> str:
    fields = f"<username>romeo</username>{secret}<resource>{resource}</resource>"
    return f'C: <iq id="{identity}" type="set"><query xmlns="jabber:iq:auth">{fields}</query></iq>'


def digest(stream_id: str) -> str:
    return hashlib.sha1((stream_id + PASSWORD).encode(), usedforsecurity=False).hexdigest()


OLD = f"C: {client_header(version=None)}"
LEGACY_EVENTS = "S AUTHNEGOTIATE NODESENT(iq query) AUTHSUCCESS"
RESULT = "S: <iq type='result' id='token-2'/>"


@pytest.mark.parametrize("extra", ["", features(mechanisms("PLAIN"))], ids=["bare", "features-nobody-asked-for"])
def test_legacy_with_a_digest(extra: str) -> None:
    lines = [
        OLD,
        f"S: {server_header(version=None)}{extra}",
        legacy(f"<digest>{digest('sid-1')}</digest>"),
        RESULT,
    ]
    done = perform(config("LEGACY"), lines, LEGACY_EVENTS, loopback=True)
    assert done.established.session.jid == "romeo@example.org/pcj-token-1"
    assert done.established.session.sid == "sid-1"


def test_legacy_in_plain_text_where_the_user_wants_it() -> None:
    escaped = PASSWORD.replace("&", "&amp;")
    lines = [
        OLD,
        f"S: {server_header(version=None, id=None)}",  # no stream id is needed for it
        legacy(f"<password>{escaped}</password>", identity="token-1", resource="orchard"),
        "S: <iq type='result' id='token-1' from='example.org'/>",
    ]
    options = config("LEGACY", "romeo@example.org/orchard", plaintext=True)
    done = perform(options, lines, LEGACY_EVENTS, loopback=True)
    assert done.established.session.jid == "romeo@example.org/orchard"


def test_legacy_with_starttls_where_the_link_leaves_the_machine() -> None:
    lines = [
        *TO_TLS,
        f"C: {client_header(version=None, from_='romeo@example.org')}",
        f"S: {server_header(version=None, id='sid-2')}",
        legacy(f"<digest>{digest('sid-2')}</digest>"),
        RESULT,
    ]
    perform(config("LEGACY"), lines, f"{TLS_EVENTS} {LEGACY_EVENTS}")


def test_legacy_with_direct_tls() -> None:
    lines = [
        "T: ok",
        f"C: {client_header(version=None, from_='romeo@example.org')}",
        f"S: {server_header(version=None)}",
        legacy(f"<digest>{digest('sid-1')}</digest>"),
        RESULT,
    ]
    perform(config("LEGACY", direct_tls=True), lines, f"SSLNEGOTIATE SSLSUCCESS {LEGACY_EVENTS}")


@pytest.mark.parametrize(
    "other",
    [
        "<iq type='result' id='other'/>",
        "<iq type='error' id='other'/>",
        "<iq type='result' id='token-2' from='a@b.c'/>",
    ],
)
def test_legacy_ignores_replies_that_are_not_to_its_request(other: str) -> None:
    lines = [f"S: {server_header(version=None)}", f"S: {other}", RESULT]
    perform(config("LEGACY"), lines, LEGACY_EVENTS, loopback=True)


# ---- components

COMPONENT = "jabber:component:accept"
C14_EVENTS = "S AUTHNEGOTIATE NODESENT(handshake) AUTHSUCCESS"


def component_lines(answer: str = "<handshake/>") -> list[str]:
    return [
        f"C: {client_header(to='bot.example.org', xmlns=COMPONENT, version=None)}",
        f"S: {server_header(from_='bot.example.org', xmlns=COMPONENT, version=None)}",
        f"C: <handshake>{digest('sid-1')}</handshake>",
        f"S: {answer}",
    ]


@pytest.mark.parametrize("answer", ["<handshake/>", f"{features()}<handshake></handshake>"])
def test_jabberd14_component(answer: str) -> None:
    done = perform(config("JABBERD14_COMPONENT", "bot.example.org"), component_lines(answer), C14_EVENTS, loopback=True)
    assert done.established.session.jid == "bot.example.org"
    assert done.established.session.sid == "sid-1"


def test_a_handshake_with_content_is_taken_with_a_warning() -> None:
    lines = component_lines("<handshake>ok</handshake>")
    events = C14_EVENTS.replace("AUTHSUCCESS", "WARNING AUTHSUCCESS")
    perform(config("JABBERD14_COMPONENT", "bot.example.org"), lines, events, loopback=True)


def test_jabberd14_component_with_direct_tls() -> None:
    lines = ["T: ok", *component_lines()]
    options = config("JABBERD14_COMPONENT", "bot.example.org", direct_tls=True)
    perform(options, lines, f"SSLNEGOTIATE SSLSUCCESS {C14_EVENTS}")


def router(bind: str, *answers: str, mechanism: str = "DIGEST-MD5") -> list[str]:
    header = f"C: {client_header(to='bot.example.org', xmlns=ROUTER)}"
    opened = f"S: {server_header(from_='router', xmlns=ROUTER)}"
    return [
        header,
        f"{opened}{features(STARTTLS)}",
        CLIENT_STARTTLS,
        PROCEED,
        "T: ok",
        header,
        f"{opened}{features(mechanisms(mechanism))}",
        *authentication(mechanism, "jabberd", host="bot.example.org"),
        header,
        f"{opened}{features()}",
        f"C: {bind}",
        *(f"S: {answer}" for answer in answers),
    ]


C20_EVENTS = f"{XMPP_EVENTS} BINDNEGOTIATE RTS_START(bind) NODESENT(bind) BINDSUCCESS"


@pytest.mark.parametrize("mechanism", ["DIGEST-MD5", "SCRAM-SHA-256"])
def test_jabberd20_component(mechanism: str) -> None:
    options = config("JABBERD20_COMPONENT", "bot.example.org", username="jabberd")
    lines = router('<bind name="bot.example.org" id="token-2"/>', "<bind id='token-2'/>", mechanism=mechanism)
    done = perform(options, lines, C20_EVENTS)
    assert done.established.session.jid == "bot.example.org"
    assert isinstance(done.established.session.envelope, RouteEnvelope)


@pytest.mark.parametrize("option", ["log", "default"])
def test_jabberd20_binds_the_domain_and_the_option_that_were_named(option: str) -> None:
    options = config(
        "JABBERD20_COMPONENT",
        "bot.example.org",
        username="jabberd",
        bind_domain="chat.example.org",
        bind_option=option,
    )
    lines = router(f'<bind name="chat.example.org" id="token-2"><{option}/></bind>', "<bind id='token-2'/>")
    done = perform(options, lines, C20_EVENTS)
    assert done.established.session.jid == "chat.example.org"


def test_news_of_the_routing_table_before_the_answer_to_bind_are_passed_over_and_routes_are_kept() -> None:
    options = config("JABBERD20_COMPONENT", "bot.example.org", username="jabberd")
    route = "<route from='sm' to='bot.example.org'><message xmlns='jabber:client' to='bot.example.org'/></route>"
    lines = router('<bind name="bot.example.org" id="token-2"/>', f"<presence from='sm'/>{route}<bind id='token-2'/>")
    done = perform(options, lines, C20_EVENTS)
    envelope = done.established.session.envelope
    assert envelope is not None
    (held,) = done.established.early
    stanza = envelope.unwrap(held)
    assert stanza is not None
    assert stanza.tag == "{jabber:client}message"


# ---- what cannot go over the wire


@pytest.mark.parametrize(
    ("options", "header", "password"),
    [
        (
            config("JABBERD14_COMPONENT", "bot.example.org"),
            server_header(xmlns=COMPONENT, version=None),
            "quaint\udc80magpie",
        ),
        (config("LEGACY"), server_header(version=None), "quaint\udc80magpie"),
        (config("LEGACY", plaintext=True), server_header(version=None), "quaint\udc80magpie"),
        (config("LEGACY", plaintext=True), server_header(version=None), "quaint\0magpie"),
    ],
)
def test_a_password_that_cannot_be_sent_is_an_authfail_and_never_shown(
    options: Config, header: str, password: str
) -> None:
    made = dataclasses.replace(options, password=password)
    done = play(made, [f"S: {header}"], loopback=True)
    assert done.events == "S AUTHNEGOTIATE AUTHFAIL"
    assert done.retry(made) == "fatal"
    assert "magpie" not in str(done.failed.error)


def test_a_password_that_saslprep_refuses_is_an_authfail_before_anything_is_sent() -> None:
    lines = [f"S: {server_header()}{features(mechanisms('SCRAM-SHA-256'))}"]
    done = play(config(password="bad\x07password", require_tls=False), lines)
    assert done.events == "S AUTHNEGOTIATE AUTHFAIL"
    assert done.retry(config()) == "fatal"
    assert "<auth" not in done.sent


def test_an_unknown_connection_type_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no connection type; there are .*JABBERD14_COMPONENT.*XMPP"):
        play(config("MADE_UP"), [])


def test_stream_errors_are_fired_with_their_node() -> None:
    done = play(config(), [f"S: {server_header()}{stream_error('host-unknown')}"])
    (fire,) = (fire for fire in done.fired if fire.event == Event.STREAM_ERROR)
    assert isinstance(fire, Fire)
    assert fire.node is not None
    assert fire.node.tag == "{http://etherx.jabber.org/streams}error"
