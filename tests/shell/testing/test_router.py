"""jabberd2's router protocol at the embedded server."""

from __future__ import annotations

import pytest

from pcj.testing import Server, ServerOptions
from tests.shell.testing.peer import ROUTER, Peer, run

QUIET = ServerOptions(router_news=False)


def server_with(options: ServerOptions | None = None) -> Server:
    return Server(
        accounts={"romeo": "secret"},
        components={"comp.localhost": "secret", "other.localhost": "secret", "third.localhost": "secret"},
        router_users={"jabberd": "secret"},
        options=options,
    )


def test_a_component_logs_in_with_digest_md5_over_starttls_and_binds() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.router_port) as peer:
            await peer.open(ROUTER, "jabberd-router")
            assert "<starttls" in await peer.features()
            await peer.start_tls(server)
            await peer.login_router(server)
            session = await server.wait_for_session("comp.localhost")
            assert (session.connection_type, session.secure) == ("JABBERD20_COMPONENT", True)
            assert session.mechanism == "DIGEST-MD5"

    run(main)


def test_other_mechanisms_are_possible_where_told() -> None:
    async def main() -> None:
        options = ServerOptions(router_mechanisms=("SCRAM-SHA-256",))
        async with server_with(options) as server, Peer(server.router_port) as peer:
            await peer.open(ROUTER, "jabberd-router")
            await peer.features()
            assert await peer.sasl("jabberd", "secret", "SCRAM-SHA-256") == "success"

    run(main)


def test_a_wrong_password_is_not_authorized_and_a_stream_without_version_refused() -> None:
    async def main() -> None:
        async with server_with() as server:
            async with Peer(server.router_port) as peer:
                await peer.open(ROUTER, "jabberd-router")
                await peer.features()
                assert await peer.sasl("jabberd", "wrong", "DIGEST-MD5") == "not-authorized"
                peer.send("<bind name='comp.localhost'/>")
                assert "<not-authorized " in await peer.end()
            async with Peer(server.router_port) as peer:
                await peer.open(ROUTER, "jabberd-router", None)
                assert "<unsupported-version " in await peer.end()

    run(main)


def test_after_a_bind_come_the_news_and_the_question_of_the_session_manager() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.router_port) as first, Peer(server.router_port) as second:
            await first.login_router(server)
            news = await first.until("</route>")
            assert '<presence from="sm"/>' in news
            assert '<presence from="localhost"/>' in news
            assert '<route to="comp.localhost" from="sm"><iq xmlns="jabber:client"' in news
            assert "disco#info" in news
            await second.login_router(server, "other.localhost")
            assert '<presence from="comp.localhost"/>' in await second.until("</route>")
            assert await first.until("/>") == '<presence from="other.localhost"/>'
            await server.drop("other.localhost")
            assert await first.until("/>") == '<presence from="other.localhost" type="unavailable"/>'

    run(main)


@pytest.mark.parametrize(
    ("bind", "error"),
    [
        ("<bind name='unknown.localhost'/>", "403"),
        ("<bind name='comp.localhost'/>", "409"),
        ("<bind name='third.localhost'><default/></bind>", "409"),
        ("<bind/>", "400"),
    ],
)
def test_a_bind_that_is_not_allowed_says_why(bind: str, error: str) -> None:
    async def main() -> None:
        async with server_with(QUIET) as server, Peer(server.router_port) as first, Peer(server.router_port) as second:
            await first.login_router(server, option="<default/>")
            await second.login_router(server, "other.localhost")
            second.send(bind)
            assert f'error="{error}"' in await second.until(">")
            assert [session.jid for session in server.sessions] == ["comp.localhost", "other.localhost"]

    run(main)


def test_one_link_may_bind_several_domains_and_unbind_them() -> None:
    async def main() -> None:
        async with server_with(QUIET) as server, Peer(server.router_port) as peer:
            await peer.login_router(server)
            peer.send("<bind name='other.localhost' id='2'/>")
            assert await peer.until(">") == '<bind id="2"/>'
            assert [session.jid for session in server.sessions] == ["comp.localhost", "other.localhost"]
            peer.send("<unbind name='comp.localhost'/>")
            assert await peer.until(">") == "<unbind/>"
            assert [session.jid for session in server.sessions] == ["other.localhost"]

    run(main)


def test_stanzas_travel_in_routes_both_ways() -> None:
    async def main() -> None:
        async with server_with(QUIET) as server, Peer(server.client_port) as romeo, Peer(server.router_port) as comp:
            await romeo.login(server)
            await comp.login_router(server)
            romeo.send("<message to='nurse@comp.localhost' id='1'><body>hi</body></message>")
            assert await comp.until("</route>") == (
                '<route to="comp.localhost" from="localhost"><message xmlns="jabber:client" to="nurse@comp.localhost"'
                ' id="1" from="romeo@localhost/orchard"><body>hi</body></message></route>'
            )
            comp.send(
                "<route to='localhost' from='comp.localhost'><message xmlns='jabber:client' to='romeo@localhost' "
                "from='nurse@comp.localhost'><body>back</body></message></route>"
            )
            assert "<body>back</body>" in await romeo.until("</message>")

    run(main)


def test_a_stanza_that_the_session_manager_cannot_deliver_comes_back_as_a_stanza_error() -> None:
    async def main() -> None:
        async with server_with(QUIET) as server, Peer(server.router_port) as comp:
            await comp.login_router(server)
            comp.send(
                "<route to='localhost' from='comp.localhost'><message xmlns='jabber:client' to='nobody@localhost' "
                "from='nurse@comp.localhost' id='9'/></route>"
            )
            came = await comp.until("</route>")
            assert 'to="nurse@comp.localhost"' in came
            assert "<service-unavailable " in came

    run(main)


@pytest.mark.parametrize(
    ("addresses", "error"),
    [
        ("to='nowhere.example' from='comp.localhost'", "404"),
        ("to='localhost' from='other.localhost'", "401"),
        ("from='comp.localhost'", "400"),
        ("to='localhost'", "400"),
    ],
)
def test_a_route_that_leads_nowhere_comes_back_with_its_stanza(addresses: str, error: str) -> None:
    async def main() -> None:
        async with server_with(QUIET) as server, Peer(server.router_port) as comp:
            await comp.login_router(server)
            comp.send(f"<route {addresses}><message xmlns='jabber:client' id='7' to='x@nowhere.example'/></route>")
            came = await comp.until("</route>")
            assert f'error="{error}"' in came
            assert '<message xmlns="jabber:client" id="7" to="x@nowhere.example"/>' in came

    run(main)


def test_a_stanza_outside_a_route_and_a_route_error_are_dropped_in_silence() -> None:
    async def main() -> None:
        async with server_with(QUIET) as server, Peer(server.router_port) as comp:
            await comp.login_router(server)
            comp.send("<message xmlns='jabber:client' to='nobody@localhost' from='comp.localhost'/>")
            comp.send("<route to='nowhere.example' from='comp.localhost' error='404'/>")
            comp.send("<route to='nowhere.example' from='comp.localhost' id='last'/>")
            assert 'id="last"' in await comp.until("/>")

    run(main)


def test_components_reach_each_other_and_the_default_route_gets_the_rest() -> None:
    async def main() -> None:
        async with (
            server_with(QUIET) as server,
            Peer(server.router_port) as comp,
            Peer(server.router_port) as other,
            Peer(server.component_port) as third,
            Peer(server.client_port) as romeo,
        ):
            await comp.login_router(server, option="<default/>")
            await other.login_router(server, "other.localhost")
            await third.login_component("third.localhost")
            await romeo.login(server)
            other.send("<route to='comp.localhost' from='other.localhost'><iq xmlns='jabber:client' id='1'/></route>")
            assert 'from="other.localhost"' in await comp.until("</route>")
            romeo.send("<message to='x@nowhere.example'/>")
            assert 'to="x@nowhere.example"' in await comp.until("</route>")
            other.send("<route to='far.example' from='other.localhost'><iq xmlns='jabber:client' id='2'/></route>")
            assert 'to="far.example"' in await comp.until("</route>")
            third.send("<message to='a@other.localhost' from='b@third.localhost'/>")
            assert 'from="third.localhost"' in await other.until("</route>")

    run(main)


def test_a_log_sink_gets_a_copy_of_every_route() -> None:
    async def main() -> None:
        async with (
            server_with(QUIET) as server,
            Peer(server.router_port) as sink,
            Peer(server.router_port) as comp,
            Peer(server.client_port) as romeo,
        ):
            await sink.login_router(server, "other.localhost", "<log/>")
            await comp.login_router(server)
            await romeo.login(server)
            romeo.send("<message to='comp.localhost' id='1'/>")
            assert 'type="log"' in await sink.until("</route>")
            assert "type" not in await comp.until("</route>")

    run(main)


def test_the_news_tell_of_other_components_too() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.router_port) as router, Peer(server.component_port) as other:
            await router.login_router(server)
            await router.until("</route>")
            await other.login_component("other.localhost")
            assert await router.until("/>") == '<presence from="other.localhost"/>'
            other.send("</stream:stream>")
            assert await router.until("/>") == '<presence from="other.localhost" type="unavailable"/>'

    run(main)
