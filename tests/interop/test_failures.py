"""What a real server refuses, or cannot be: each failure by its own event, in its own words, and in good order."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from pcj import Broker, Event, Failure, Phase, Retry
from pcj.events import PCJ_EVENTS
from tests.interop.links import (
    PAIRS,
    SHUTDOWN,
    Pair,
    jabberd14,
    jabberd20,
    legacy,
    links,
    ready,
    run,
    settle,
    the_pair,
    words,
    xmpp,
)
from tests.interop.matrix import COLUMNS, Seen, behaviour
from tests.interop.servers import RealServer

CONNECTED = "CONNECT CONNECTING CONNECTED"
#: Where TLS was not made, no closing tag can be sent.
SHUTDOWN_WITHOUT_STREAM = SHUTDOWN.removeprefix("STREAMEND ")


def failure_of(broker: Broker, order: str, seen: Callable[[str], None] = lambda text: None) -> Failure:
    """Connects, which must fail in this order; what it failed for, by all who say it. `seen` is told in a word."""

    async def scenario() -> Failure:
        async with links(broker) as (link,):
            failure = await link.fails()
            assert link.words() == order
        (failed,) = [status for status in link.all(*PCJ_EVENTS) if status.event.endswith("FAIL")] or link.all(
            Event.STREAM_ERROR
        )
        assert failed.error is not None
        assert failed.detail["phase"] == failure.phase
        assert failed.detail["retry"] == failure.retry
        assert failed.detail.get("condition", "") == failure.condition
        told = broker.explain()
        assert str(failure)[1:].rstrip(".") in told
        assert "Not connected" in told
        if order.endswith("SHUTDOWN_FINISH"):
            assert [status.detail["by"] for status in link.all(Event.PCJ_SHUTDOWN_START)] == ["failure"]
        said = [f"`{failed.event.removeprefix('PCJ_')}`", failure.condition]
        seen(f"{' '.join(filter(None, said))}, {failure.retry}")
        return failure

    return run(scenario())


# ---- authentication


def refused(pair: Pair) -> str:
    """The order of a pair when the password is wrong."""
    until, _, _ = pair.order.partition(" AUTHSUCCESS")
    # The server's proof, which ejabberd's DIGEST-MD5 would show before it is done, does not come.
    until = until.replace(" NODESENT(response) NODESENT(response)", " NODESENT(response)")
    return f"{CONNECTED} {until} AUTHFAIL {SHUTDOWN}"


@behaviour("wrong password", PAIRS)
def test_a_wrong_password_is_refused_for_good_in_a_sentence(pair: Pair, server: RealServer, seen: Seen) -> None:
    failure = failure_of(pair.broker(server, password="not-the-password"), refused(pair), seen)
    assert failure.phase is Phase.AUTHENTICATE
    assert failure.retry is Retry.FATAL
    assert failure.address.startswith("127.0.0.1:")
    if pair.make is jabberd14:
        assert "rejected the secret" in str(failure)
    else:
        who = {"jabberd20": "comp"}.get(pair.make.__name__, "test01")
        assert f"user '{who}' or the password" in str(failure)
    assert "not-the-password" not in str(failure)
    if not (pair.make is legacy and pair.server == "jabberd2"):  # which gives no more than <error code='401'/>
        assert failure.condition == "not-authorized"


def test_a_digest_that_prosody_answers_with_a_list_of_fields_is_no_login(prosody: RealServer) -> None:
    failure = failure_of(legacy(prosody), refused(the_pair("legacy-prosody")))
    assert failure.phase is Phase.AUTHENTICATE
    assert failure.retry is Retry.FATAL
    assert "password, resource, username" in str(failure)
    assert "plaintext=True" in str(failure)


def test_hashed_passwords_on_ejabberd_cannot_serve_iq_auth_and_that_is_a_refusal(ejabberd: RealServer) -> None:
    failure = failure_of(legacy(ejabberd), f"{CONNECTED} S AUTHNEGOTIATE NODESENT(iq query) AUTHFAIL {SHUTDOWN}")
    assert failure.phase is Phase.AUTHENTICATE
    assert failure.retry is Retry.FATAL


# ---- domains


def test_a_client_of_a_domain_that_is_not_hosted_is_told_so(real_server: RealServer) -> None:
    broker = xmpp(real_server, jid="test01@elsewhere.example", direct_tls=True, tls_name="localhost")
    failure = failure_of(broker, f"{CONNECTED} SSLNEGOTIATE SSLSUCCESS S {SHUTDOWN}")
    assert failure.phase is Phase.STREAM
    assert failure.condition == "host-unknown"
    assert "does not host elsewhere.example" in str(failure)
    assert failure.retry is Retry.FATAL


@behaviour("unknown domain", [pair for pair in COLUMNS if pair.make is xmpp])
def test_a_client_of_a_domain_that_is_not_hosted_is_told_so_before_tls(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    broker = pair.broker(server, jid="test01@elsewhere.example", tls_name="localhost")
    failure = failure_of(broker, f"{CONNECTED} S {SHUTDOWN}", seen)
    assert failure.phase is Phase.STREAM
    assert failure.condition == "host-unknown"
    assert "does not host elsewhere.example" in str(failure)


@behaviour("unknown domain", [pair for pair in COLUMNS if pair.make is legacy])
def test_a_login_by_iq_auth_to_a_domain_that_is_not_hosted_is_told_so(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    broker = pair.broker(server, jid="test01@elsewhere.example")
    failure = failure_of(broker, f"{CONNECTED} S AUTHNEGOTIATE NODESENT(iq query) AUTHFAIL {SHUTDOWN}", seen)
    assert failure.condition == "host-unknown"
    assert "does not host elsewhere.example" in str(failure)


@behaviour("unknown domain", [the_pair("jabberd14-prosody")])
def test_a_component_that_prosody_does_not_know_is_told_so(pair: Pair, server: RealServer, seen: Seen) -> None:
    broker = pair.broker(server, jid="unknown.localhost")
    failure = failure_of(broker, f"{CONNECTED} S AUTHNEGOTIATE AUTHFAIL {SHUTDOWN}", seen)
    assert failure.condition == "host-unknown"
    assert "does not host unknown.localhost" in str(failure)


@behaviour("unknown domain", [the_pair("jabberd14-ejabberd")])
def test_a_component_that_ejabberd_does_not_know_is_told_that_it_may_be_the_name(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    broker = pair.broker(server, jid="unknown.localhost")
    failure = failure_of(broker, f"{CONNECTED} S AUTHNEGOTIATE NODESENT(handshake) AUTHFAIL {SHUTDOWN}", seen)
    assert failure.phase is Phase.AUTHENTICATE
    assert failure.condition == "not-authorized"
    assert "unknown.localhost" in str(failure)


# ---- binding at jabberd2's router

BOUND = f"{CONNECTED} {the_pair('jabberd20-jabberd2').order.removesuffix('BINDSUCCESS')}"


@behaviour("unknown domain", [the_pair("jabberd14-jabberd2"), the_pair("jabberd20-jabberd2")])
def test_jabberd2_takes_any_name_for_a_component_that_may_bind_it(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> str:
        async with ready(pair.broker(server, jid="unknown.localhost")) as (link,):
            assert link.jid == "unknown.localhost"
            return f"n/a: any is accepted (`{words(link.all(Event.PCJ_READY))}` as {link.jid})"

    told = [run(scenario())]
    if pair.make is jabberd20:
        failure_of(
            pair.broker(server, jid="unknown.localhost", user="stranger"), f"{BOUND}BINDFAIL {SHUTDOWN}", told.append
        )
    seen("; where the router does not allow it, ".join(told))


def test_who_may_not_bind_is_told_where_the_router_decides_it(jabberd2: RealServer) -> None:
    failure = failure_of(jabberd20(jabberd2, user="stranger"), f"{BOUND}BINDFAIL {SHUTDOWN}")
    assert failure.phase is Phase.BIND
    assert failure.condition == "403"
    assert failure.retry is Retry.FATAL
    assert "does not allow user 'stranger' to bind comp.localhost" in str(failure)
    assert "<aci> in router.xml" in str(failure)


@pytest.mark.parametrize("first", [jabberd20, jabberd14])
def test_a_domain_that_is_bound_already_can_be_tried_again_later(
    jabberd2: RealServer, first: Callable[[RealServer], Broker]
) -> None:
    async def scenario() -> None:
        async with ready(first(jabberd2)) as (holder,), links(jabberd20(jabberd2)) as (link,):
            failure = await link.fails()
            assert link.words() == f"{BOUND}BINDFAIL {SHUTDOWN}"
            assert failure.phase is Phase.BIND
            assert failure.condition == "409"
            assert failure.retry is Retry.SLOW
            assert "comp.localhost is bound by another link" in str(failure)
            await settle(holder)

    run(scenario())


def test_a_second_component_of_one_name_is_told_so_by_prosody_and_the_first_stays(prosody: RealServer) -> None:
    async def scenario() -> None:
        async with ready(jabberd14(prosody)) as (first,), links(jabberd14(prosody)) as (second,):
            failure = await second.fails()
            assert second.words() == f"{CONNECTED} S AUTHNEGOTIATE NODESENT(handshake) AUTHFAIL {SHUTDOWN}"
            assert failure.condition == "conflict"
            assert failure.retry is Retry.SLOW
            assert "comp.localhost is already connected" in str(failure)
            await settle(first)

    run(scenario())


# ---- the connection, and TLS


@behaviour("connection refused", PAIRS)
def test_a_port_where_nobody_listens_refuses_and_that_is_all(pair: Pair, server: RealServer, seen: Seen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
    failure = failure_of(pair.broker(server, port=port), "CONNECT CONNECTING CONNECTFAIL", seen)
    assert failure.phase is Phase.CONNECT
    assert failure.retry is Retry.FAST
    assert "refused" in str(failure)
    assert str(port) in str(failure)


SECURE = [pair for pair in PAIRS if pair.secure]


def until_tls(pair: Pair) -> str:
    """The order of a pair when TLS cannot be made."""
    before, _, _ = pair.order.partition(" SSLSUCCESS")
    return f"{CONNECTED} {before} SSLFAIL {SHUTDOWN_WITHOUT_STREAM}"


@pytest.mark.parametrize("pair", SECURE, ids=str)
def test_a_certificate_of_an_unknown_issuer_is_refused_by_name(pair: Pair, server: RealServer) -> None:
    failure = failure_of(pair.broker(server, ca_file=None), until_tls(pair))
    assert failure.phase is Phase.TLS
    assert failure.retry is Retry.SLOW
    assert "issued by 'trustme" in str(failure)
    assert "does not trust" in str(failure)
    assert "ca_file" in str(failure)


@pytest.mark.parametrize("pair", SECURE, ids=str)
def test_a_certificate_for_another_name_is_refused_with_both_names(pair: Pair, server: RealServer) -> None:
    # An address: it is not sent in the handshake, so the server cannot refuse it first.
    failure = failure_of(pair.broker(server, tls_name="192.0.2.7"), until_tls(pair))
    assert failure.phase is Phase.TLS
    # A component's user has named the host, a client's only the JID.
    assert failure.retry is (Retry.FATAL if pair.component else Retry.SLOW)
    assert "localhost and 127.0.0.1" in str(failure)
    assert "192.0.2.7" in str(failure)


@pytest.mark.parametrize("pair", SECURE, ids=str)
def test_a_name_that_the_server_does_not_have_is_named(pair: Pair, server: RealServer) -> None:
    failure = failure_of(pair.broker(server, tls_name="other.example"), until_tls(pair))
    assert failure.phase is Phase.TLS
    assert "other.example" in str(failure)
    # Prosody ends direct TLS for a name of which it knows nothing; the others show what they have.
    assert ("unrecognized_name" in str(failure)) is (str(pair) == "xmpp-direct-tls-prosody")
    assert ("localhost" in str(failure)) is (str(pair) != "xmpp-direct-tls-prosody")


# ---- the wrong port

NOT_HOSTED = "does not host"
ANOTHER_KIND = "5222 is for clients, 5347 for components"
SPEAKS_TO_COMPONENTS = f"speaks jabber:component:accept on this port, and we speak jabber:client .*{ANOTHER_KIND}"
SPEAKS_TO_CLIENTS = f"speaks jabber:client on this port, and we speak jabber:component:accept .*{ANOTHER_KIND}"


@pytest.mark.parametrize(
    ("name", "make", "options", "phase", "sentence"),
    [
        ("prosody", xmpp, {}, Phase.STREAM, SPEAKS_TO_COMPONENTS),
        ("prosody", legacy, {"plaintext": True}, Phase.STREAM, SPEAKS_TO_COMPONENTS),
        ("ejabberd", xmpp, {}, Phase.STREAM, SPEAKS_TO_COMPONENTS),
        ("ejabberd", legacy, {}, Phase.STREAM, SPEAKS_TO_COMPONENTS),
        # jabberd2 repeats whatever namespace we say, on all its ports, so its header shows nothing. Its router offers
        # TLS and SASL to everybody, and looks for the account among its own users;
        ("jabberd2", xmpp, {}, Phase.AUTHENTICATE, "or the password"),
        # an <iq/> it passes over in silence.
        ("jabberd2", legacy, {"authenticate_timeout": 0.5}, Phase.AUTHENTICATE, r"no answer .*within 0\.5 s"),
    ],
)
def test_a_client_at_a_port_for_components_is_told_in_a_sentence(
    name: str,
    make: Callable[..., Broker],
    options: dict[str, Any],
    phase: Phase,
    sentence: str,
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue(name)
    fails_in_good_order(make(server, port=server.component_port, **options), phase, sentence)


@pytest.mark.parametrize(
    ("name", "make", "phase", "sentence"),
    [
        ("prosody", jabberd14, Phase.STREAM, SPEAKS_TO_CLIENTS),
        ("ejabberd", jabberd14, Phase.STREAM, SPEAKS_TO_CLIENTS),
        ("jabberd2", jabberd14, Phase.AUTHENTICATE, f"{NOT_HOSTED} comp.localhost .*{ANOTHER_KIND}"),
        ("jabberd2", jabberd20, Phase.STREAM, f"{NOT_HOSTED} comp.localhost .*{ANOTHER_KIND}"),
    ],
)
def test_a_component_at_a_port_for_clients_is_told_in_a_sentence(
    name: str, make: Callable[..., Broker], phase: Phase, sentence: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(name)
    fails_in_good_order(make(server, port=server.c2s_port), phase, sentence)


def test_a_client_that_jabberd2s_router_lets_in_is_told_at_the_bind_that_it_is_at_the_wrong_port(
    jabberd2: RealServer,
) -> None:
    user, password = jabberd20(jabberd2).config.login, jabberd20(jabberd2).config.password
    broker = xmpp(jabberd2, port=jabberd2.component_port, username=user, password=password)

    async def scenario() -> None:
        async with links(broker) as (link,):
            failure = await link.fails()
        assert failure.phase is Phase.BIND
        assert "no resource binding" in str(failure)
        assert "is this a port for components?" in str(failure)
        assert link.words().endswith(f"BINDFAIL {SHUTDOWN}")

    run(scenario())


def fails_in_good_order(broker: Broker, phase: Phase, sentence: str) -> None:
    async def scenario() -> None:
        async with links(broker) as (link,):
            failure = await link.fails()
        assert failure.phase is phase
        assert re.search(sentence, str(failure))
        assert link.words().startswith(f"{CONNECTED} S ")
        assert link.words().endswith(SHUTDOWN)
        assert link.all(Event.PCJ_AUTHSUCCESS, Event.PCJ_READY) == []

    run(scenario())


def test_tls_from_the_first_byte_on_a_port_for_starttls_is_told_so(real_server: RealServer) -> None:
    broker = xmpp(real_server, direct_tls=True, port=real_server.c2s_port)
    failure = failure_of(broker, f"{CONNECTED} SSLNEGOTIATE SSLFAIL {SHUTDOWN_WITHOUT_STREAM}")
    assert failure.phase is Phase.TLS
    assert "direct" in str(failure) or "first byte" in str(failure)


def test_plain_text_on_a_port_for_direct_tls_fails(real_server: RealServer) -> None:
    async def scenario() -> None:
        async with links(xmpp(real_server, port=real_server.direct_tls_port)) as (link,):
            failure = await link.fails()
        assert link.words().startswith(f"{CONNECTED} S ")
        assert link.words().endswith("SOCKETDISCONNECT SHUTDOWN_FINISH")
        assert failure.phase is Phase.STREAM
        assert "the connection" in str(failure)

    run(scenario())
