"""XMPP clients at the embedded server: RFC 6120, over real sockets and hand-written text."""

from __future__ import annotations

import pytest

from pcj.testing import Server, ServerOptions
from tests.shell.testing.peer import BIND, SASL, TLS, Peer, run, trust

ACCOUNTS = {"romeo": "secret", "juliet": "secret"}


def server_with(**options: object) -> Server:
    return Server(accounts=ACCOUNTS, options=ServerOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "PLAIN"])
@pytest.mark.parametrize("proof_in_success", [True, False])
def test_every_mechanism_logs_in_over_verified_starttls(mechanism: str, proof_in_success: bool) -> None:
    async def main() -> None:
        async with (
            server_with(mechanisms=(mechanism,), proof_in_success=proof_in_success) as server,
            Peer(server.client_port) as peer,
        ):
            await peer.open()
            assert "<starttls" in await peer.features()
            await peer.start_tls(server)
            await peer.open()
            assert f"<mechanism>{mechanism}</mechanism>" in await peer.features()
            assert await peer.sasl("romeo", "secret", mechanism) == "success"
            await peer.open()
            assert BIND in await peer.features()
            assert "<jid>romeo@localhost/orchard</jid>" in await peer.bind("orchard")
            session = await server.wait_for_session("romeo@localhost")
            assert (session.jid, session.connection_type) == ("romeo@localhost/orchard", "XMPP")
            assert (session.secure, session.mechanism) == (True, mechanism)

    run(main)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "PLAIN"])
@pytest.mark.parametrize(("user", "password"), [("romeo", "wrong"), ("nobody", "secret")])
def test_wrong_credentials_are_not_authorized(mechanism: str, user: str, password: str) -> None:
    async def main() -> None:
        options = {"mechanisms": (mechanism,), "plain_without_tls": True}
        async with server_with(**options) as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            assert await peer.sasl(user, password, mechanism) == "not-authorized"
            assert server.sessions == []

    run(main)


def test_a_client_may_try_again_but_not_for_ever() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            for _ in range(3):
                assert await peer.sasl("romeo", "wrong", "SCRAM-SHA-1") == "not-authorized"
            assert "<policy-violation" in await peer.end()
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            assert await peer.sasl("romeo", "wrong", "SCRAM-SHA-1") == "not-authorized"
            assert await peer.sasl("romeo", "secret", "SCRAM-SHA-256") == "success"

    run(main)


def test_direct_tls_needs_no_starttls_and_its_certificate_is_good() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.direct_tls_port, tls=trust(server)) as peer:
            await peer.open()
            features = await peer.features()
            assert "starttls" not in features
            assert "PLAIN" in features
            assert await peer.sasl("romeo", "secret", "PLAIN") == "success"

    run(main)


def test_the_name_in_the_certificate_can_be_a_wrong_one() -> None:
    async def main() -> None:
        async with server_with(certificate_names=("elsewhere.example",)) as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            with pytest.raises(OSError, match="localhost"):
                await peer.start_tls(server)

    run(main)


def test_starttls_required_means_nothing_else_before_it() -> None:
    async def main() -> None:
        async with server_with(starttls="required") as server, Peer(server.client_port) as peer:
            await peer.open()
            features = await peer.features()
            assert "<required/>" in features
            assert "mechanism" not in features
            assert "iq-auth" not in features
            assert await peer.sasl("romeo", "secret", "SCRAM-SHA-1") == "encryption-required"
            peer.send("<iq type='get' id='a'><query xmlns='jabber:iq:auth'/></iq>")
            assert "<policy-violation" in await peer.end()

    run(main)


def test_plain_is_not_offered_outside_tls_unless_told() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            assert "PLAIN" not in await peer.features()
            assert await peer.sasl("romeo", "secret", "PLAIN") == "encryption-required"
        options = {"plain_without_tls": True, "starttls": "none", "direct_tls_port": None}
        async with server_with(**options) as server, Peer(server.client_port) as peer:
            await peer.open()
            features = await peer.features()
            assert "PLAIN" in features
            assert TLS not in features
            assert await peer.sasl("romeo", "secret", "PLAIN") == "success"

    run(main)


def test_what_is_smuggled_behind_starttls_is_refused() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            peer.send(f"<starttls xmlns='{TLS}'/><auth xmlns='{SASL}' mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>")
            came = await peer.end()
            assert "<failure" in came
            assert "proceed" not in came
            assert "success" not in came

    run(main)


def test_an_unknown_mechanism_is_refused_and_an_abort_is_answered() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            peer.send(f"<auth xmlns='{SASL}' mechanism='X-OTHER'/>")
            assert "<invalid-mechanism/>" in await peer.until("</failure>")
            peer.send(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1yb21lbyxyPWFiYw==</auth>")
            await peer.until("</challenge>")
            peer.send(f"<abort xmlns='{SASL}'/>")
            assert "<aborted/>" in await peer.until("</failure>")

    run(main)


@pytest.mark.parametrize(
    ("header", "condition"),
    [
        ("<stream:stream xmlns='jabber:client' {s} to='elsewhere.example' version='1.0'>", "host-unknown"),
        ("<stream:stream xmlns='jabber:client' {s} version='1.0'>", "improper-addressing"),
        ("<stream:stream xmlns='jabber:server' {s} to='localhost' version='1.0'>", "invalid-namespace"),
        ("<stream:stream xmlns='jabber:client' {s} to='localhost' version='one'>", "unsupported-version"),
        ("<stream:other xmlns='jabber:client' {s} to='localhost'>", "bad-format"),
        ("<!DOCTYPE x><stream:stream>", "restricted-xml"),
        ("GET / HTTP/1.1\r\n", "not-well-formed"),
    ],
)
def test_a_bad_header_is_answered_by_its_stream_error_inside_a_stream(header: str, condition: str) -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            peer.send(header.format(s="xmlns:stream='http://etherx.jabber.org/streams'"))
            came = await peer.end()
            assert "<stream:stream" in came
            assert f"<stream:error><{condition} xmlns=" in came
            assert came.endswith("</stream:error></stream:stream>")

    run(main)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("<message><</message>", "not-well-formed"),
        ("<!-- hello -->", "restricted-xml"),
        ("<other xmlns='urn:example:other'/>", "unsupported-stanza-type"),
        ("<message from='juliet@localhost' to='romeo@localhost'/>", "invalid-from"),
    ],
)
def test_what_a_client_may_not_send_ends_its_stream(text: str, condition: str) -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.login(server)
            peer.send(text)
            assert f"<{condition} " in await peer.end()
            await server.wait_for_end("romeo@localhost")

    run(main)


def test_no_stanza_passes_before_login_or_before_binding() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            peer.send("<message to='juliet@localhost'/>")
            assert "<not-authorized " in await peer.end()
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            assert await peer.sasl("romeo", "secret", "SCRAM-SHA-1") == "success"
            await peer.open()
            await peer.features()
            peer.send("<message to='juliet@localhost'/>")
            assert "<not-authorized " in await peer.end()

    run(main)


def test_a_resource_is_made_up_where_none_is_asked_for() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            await peer.sasl("romeo", "secret", "SCRAM-SHA-1")
            await peer.open()
            await peer.features()
            await peer.bind(None)
            assert len((await server.wait_for_session("romeo@localhost")).jid) > len("romeo@localhost/")

    run(main)


def test_the_server_may_bind_another_resource_or_refuse() -> None:
    async def main() -> None:
        for options, expected in (
            ({"bound_resource": "balcony"}, "<jid>romeo@localhost/balcony</jid>"),
            ({"bind_error": "not-allowed"}, "<not-allowed "),
        ):
            async with server_with(**options) as server, Peer(server.client_port) as peer:
                await peer.open()
                await peer.features()
                await peer.sasl("romeo", "secret", "SCRAM-SHA-1")
                await peer.open()
                await peer.features()
                assert expected in await peer.bind("orchard")

    run(main)


def test_at_a_conflict_the_older_session_goes_by_default() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as old, Peer(server.client_port) as new:
            await old.login(server)
            await new.login(server)
            assert "<conflict " in await old.end()
            new.send("<message to='romeo@localhost/orchard' id='mine'/>")
            assert 'id="mine"' in await new.until("/>")
            assert [session.jid for session in server.sessions] == ["romeo@localhost/orchard"]

    run(main)


def test_at_a_conflict_the_newcomer_is_refused_where_told_so_and_may_ask_again() -> None:
    async def main() -> None:
        async with (
            server_with(resource_conflict="kick_new") as server,
            Peer(server.client_port) as old,
            Peer(server.client_port) as new,
        ):
            await old.login(server)
            await new.open()
            await new.features()
            await new.sasl("romeo", "secret", "SCRAM-SHA-1")
            await new.open()
            await new.features()
            assert "<conflict " in await new.bind("orchard")
            assert "<jid>romeo@localhost/balcony</jid>" in await new.bind("balcony")
            assert len(server.sessions) == 2

    run(main)


@pytest.mark.parametrize(
    ("session", "feature"),
    [
        (None, '<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/><sm '),
        ("optional", '<session xmlns="urn:ietf:params:xml:ns:xmpp-session"><optional/></session>'),
        ("required", '<session xmlns="urn:ietf:params:xml:ns:xmpp-session"/>'),
    ],
)
def test_the_session_feature_is_offered_as_told_and_always_granted(session: str | None, feature: str) -> None:
    async def main() -> None:
        async with server_with(session=session) as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            await peer.sasl("romeo", "secret", "SCRAM-SHA-1")
            await peer.open()
            features = await peer.features()
            assert feature in features
            await peer.bind()
            peer.send("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
            assert await peer.until("/>") == '<iq to="romeo@localhost/orchard" id="s" type="result"/>'

    run(main)


def test_a_session_is_refused_where_told_so() -> None:
    async def main() -> None:
        async with server_with(session_error="forbidden") as server, Peer(server.client_port) as peer:
            await peer.login(server)
            peer.send("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
            assert "<forbidden " in await peer.until("</iq>")

    run(main)


def test_a_stanza_in_the_same_packet_as_the_bind_request_is_taken() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            await peer.sasl("romeo", "secret", "SCRAM-SHA-1")
            await peer.open()
            await peer.features()
            peer.send(f"<iq type='set' id='b'><bind xmlns='{BIND}'/></iq><message to='romeo@localhost' id='tail'/>")
            assert 'id="tail"' in await peer.until('id="tail"')

    run(main)


def test_a_closed_stream_is_closed_on_both_sides() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.login(server)
            peer.send("</stream:stream>")
            assert await peer.end() == "</stream:stream>"
            assert server.sessions == []

    run(main)
