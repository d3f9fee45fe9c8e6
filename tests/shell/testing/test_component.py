"""Components (XEP-0114) at the embedded server."""

from __future__ import annotations

import pytest

from pcj.testing import Server, ServerOptions
from tests.shell.testing.peer import COMPONENT, Peer, handshake, run


def server_with(**options: object) -> Server:
    return Server(
        accounts={"romeo": "secret"},
        components={"comp.localhost": "secret", "other.localhost": "secret"},
        options=ServerOptions(**options),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("version", [None, "0.9", "1.0"])
def test_a_component_logs_in_with_or_without_version(version: str | None) -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.component_port) as peer:
            stream_id = await peer.open(COMPONENT, "comp.localhost", version)
            peer.send(handshake(stream_id))
            assert await peer.until(">") == "<handshake/>"
            session = await server.wait_for_session("comp.localhost")
            assert (session.connection_type, session.secure) == ("JABBERD14_COMPONENT", False)

    run(main)


def test_a_wrong_secret_is_not_authorized() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.component_port) as peer:
            stream_id = await peer.open(COMPONENT, "comp.localhost", None)
            peer.send(handshake(stream_id, "wrong"))
            came = await peer.end()
            assert "<not-authorized " in came
            assert came.endswith("</stream:stream>")
            assert server.sessions == []

    run(main)


def test_an_unknown_domain_is_host_unknown_and_a_client_stream_an_invalid_namespace() -> None:
    async def main() -> None:
        async with server_with() as server:
            async with Peer(server.component_port) as peer:
                await peer.open(COMPONENT, "unknown.localhost", None)
                assert "<host-unknown " in await peer.end()
            async with Peer(server.component_port) as peer:
                await peer.open("jabber:client", "comp.localhost", None)
                assert "<invalid-namespace " in await peer.end()

    run(main)


def test_starttls_is_possible_where_both_sides_say_version_1() -> None:
    async def main() -> None:
        async with server_with(component_version="1.0") as server, Peer(server.component_port) as peer:
            await peer.open(COMPONENT, "comp.localhost", "1.0")
            assert "<starttls" in await peer.features()
            await peer.start_tls(server)
            stream_id = await peer.open(COMPONENT, "comp.localhost", "1.0")
            await peer.features()
            peer.send(handshake(stream_id))
            assert await peer.until(">") == "<handshake/>"
            assert server.sessions[0].secure

    run(main)


def test_a_second_connection_of_a_domain_follows_the_policy() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.component_port) as old, Peer(server.component_port) as new:
            await old.login_component()
            stream_id = await new.open(COMPONENT, "comp.localhost", None)
            new.send(handshake(stream_id))
            assert "<conflict " in await new.end()
        async with (
            server_with(component_conflict="kick_old") as server,
            Peer(server.component_port) as old,
            Peer(server.component_port) as new,
        ):
            await old.login_component()
            await new.login_component()
            assert "<conflict " in await old.end()
            assert len(server.sessions) == 1

    run(main)


@pytest.mark.parametrize(
    ("stanza", "condition"),
    [
        ("<message from='x@elsewhere.example' to='romeo@localhost'/>", "invalid-from"),
        ("<message to='romeo@localhost'/>", "invalid-from"),
        ("<message from='x@comp.localhost'/>", "improper-addressing"),
        ("<other from='comp.localhost' to='romeo@localhost'/>", "unsupported-stanza-type"),
    ],
)
def test_a_component_must_address_its_stanzas(stanza: str, condition: str) -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.component_port) as peer:
            await peer.login_component()
            peer.send(stanza)
            assert f"<{condition} " in await peer.end()

    run(main)


def test_stanzas_go_between_clients_and_components_each_in_its_own_namespace() -> None:
    async def main() -> None:
        async with (
            server_with() as server,
            Peer(server.client_port) as romeo,
            Peer(server.component_port) as comp,
            Peer(server.component_port) as other,
        ):
            await romeo.login(server)
            await comp.login_component()
            await other.login_component("other.localhost")
            romeo.send("<message to='nurse@comp.localhost/x' id='1'><body>from a client</body></message>")
            came = await comp.until("</message>")
            assert "xmlns" not in came
            assert 'from="romeo@localhost/orchard"' in came
            comp.send("<message from='nurse@comp.localhost' to='romeo@localhost/orchard'><body>back</body></message>")
            came = await romeo.until("</message>")
            assert "xmlns" not in came
            assert 'from="nurse@comp.localhost"' in came
            comp.send("<iq type='get' id='p' from='comp.localhost' to='a@other.localhost'><x xmlns='urn:x'/></iq>")
            assert '<x xmlns="urn:x"/>' in await other.until("</iq>")

    run(main)
