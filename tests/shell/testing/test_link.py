"""Floods and slow readers at the embedded server."""

from __future__ import annotations

from pcj.testing import Server, ServerOptions
from tests.shell.testing.peer import Peer, run, trust


def test_a_flood_arrives_whole_and_in_order() -> None:
    async def main() -> None:
        count = 10_000
        async with (
            Server(accounts={"romeo": "secret"}, components={"comp.localhost": "secret"}) as server,
            Peer(server.direct_tls_port, trust(server)) as romeo,
            Peer(server.component_port) as component,
        ):
            await romeo.login(server)
            await component.login_component()
            for number in range(count):
                romeo.send(f"<message to='comp.localhost' id='{number}'><body>hello there</body></message>")
            for number in range(count):
                assert f' id="{number}" ' in await component.until("</message>")
            assert len(server.received) == 1000

    run(main)


def test_who_sends_to_a_slow_reader_is_not_read_from_and_nothing_is_lost() -> None:
    async def main() -> None:
        count, body = 300, "x" * 100_000
        async with (
            Server(
                accounts={"romeo": "secret", "juliet": "secret"},
                options=ServerOptions(max_outbound_bytes=4_000_000, max_received=count),
            ) as server,
            Peer(server.client_port) as romeo,
            Peer(server.client_port) as juliet,
        ):
            await romeo.login(server)
            await juliet.login(server, "juliet")
            for _ in range(count):
                romeo.send(f"<message to='juliet@localhost'><body>{body}</body></message>")
            # 30 MB are under way, the bound is 4 MB, and juliet has not read a byte.
            await server.wait_for_node()
            romeo.send("<message to='juliet@localhost' id='last'/>")
            for _ in range(count):
                await juliet.until("</message>")
            await juliet.until('id="last"')

    run(main)


def test_past_the_bound_the_stream_of_a_slow_reader_ends() -> None:
    async def main() -> None:
        from pcj.stanza import message

        options = ServerOptions(max_outbound_bytes=1_000_000)
        async with (
            Server(accounts={"romeo": "secret"}, options=options) as server,
            Peer(server.client_port) as peer,
        ):
            await peer.login(server)
            for _ in range(200):  # what the test itself lets in has nobody to hold back
                server.route(message(to="romeo@localhost", body="x" * 100_000))
            await server.wait_for_end("romeo@localhost")
            assert "<policy-violation " in await peer.end()

    run(main)


def test_a_stanza_past_the_bound_is_a_policy_violation() -> None:
    async def main() -> None:
        options = ServerOptions(max_stanza_bytes=10_000)
        async with Server(accounts={"romeo": "secret"}, options=options) as server, Peer(server.client_port) as peer:
            await peer.login(server)
            peer.send("<message><body>" + "x" * 1_000_000)
            await peer.gone()
            await server.wait_for_end("romeo@localhost")

    run(main)
