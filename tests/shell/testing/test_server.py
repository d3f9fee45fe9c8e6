"""The embedded server as a whole: its options, what a test can do to its sessions, and its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pcj.errors import ConfigError, JidError, UsageError
from pcj.testing import Server, ServerOptions
from tests.shell.testing.peer import COMPONENT, ROUTER, SASL, TLS, Peer, run, trust


def server_with(**options: object) -> Server:
    return Server(
        accounts={"romeo": "secret"},
        components={"comp.localhost": "secret"},
        router_users={"jabberd": "secret"},
        options=ServerOptions(**options),  # type: ignore[arg-type]
    )


def test_a_dropped_session_gets_a_reset_and_not_a_word() -> None:
    async def main() -> None:
        async with server_with() as server:
            for tls in (None, trust(server)):
                async with Peer(server.client_port if tls is None else server.direct_tls_port, tls) as peer:
                    await peer.login(server)
                    await server.drop("romeo@localhost")
                    assert server.sessions == []
                    assert await peer.reset()

    run(main)


def test_a_stream_closed_with_a_condition_ends_at_once() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.component_port) as peer:
            await peer.login_component()
            await server.close_stream("comp.localhost", "see-other-host", text="over there")
            assert await peer.end() == (
                '<stream:error><see-other-host xmlns="urn:ietf:params:xml:ns:xmpp-streams"/>'
                '<text xmlns="urn:ietf:params:xml:ns:xmpp-streams">over there</text></stream:error></stream:stream>'
            )

    run(main)


def test_a_stream_closed_without_condition_waits_for_the_peer_to_close_its_own() -> None:
    async def main() -> None:
        async with server_with(close_timeout=30.0) as server, Peer(server.client_port) as peer:
            await peer.login(server)
            await server.close_stream("romeo@localhost/orchard")
            assert await peer.until(">") == "</stream:stream>"
            peer.send("<message to='romeo@localhost' id='late'/>")
            await server.wait_for_node(lambda jid, node: node.get("id") == "late")
            peer.send("</stream:stream>")
            assert await peer.end() == ""

    run(main)


def test_a_peer_that_never_closes_is_closed_in_time() -> None:
    async def main() -> None:
        async with server_with(close_timeout=0.05) as server, Peer(server.client_port) as peer:
            await peer.login(server)
            await server.close_stream("romeo@localhost/orchard")
            assert await peer.end() == "</stream:stream>"

    run(main)


def test_stopping_says_system_shutdown_to_all_and_leaves_nothing_open() -> None:
    async def main() -> None:
        server = server_with()
        await server.start()
        async with (
            Peer(server.client_port) as client,
            Peer(server.component_port) as component,
            Peer(server.router_port) as router,
            Peer(server.direct_tls_port, trust(server)) as secure,
            Peer(server.client_port) as halfway,
            Peer(server.direct_tls_port) as mute,
        ):
            await client.login(server)
            await component.login_component()
            await secure.login(server, resource="balcony")
            await halfway.open()
            await router.open(ROUTER, "jabberd-router")
            ca_file = Path(server.ca_file)
            await server.stop()
            for peer in (client, component, secure):
                assert "<system-shutdown " in await peer.end()
            await mute.end()
            assert not ca_file.exists()  # noqa: ASYNC240  # a look at one file
            assert server.sessions == []
            await server.stop()  # once more does nothing
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await asyncio.open_connection("127.0.0.1", server.client_port)

    run(main)


def test_a_server_can_be_started_again() -> None:
    async def main() -> None:
        server = server_with()
        for _ in range(2):
            async with server, Peer(server.client_port) as peer:
                await peer.login(server)
                with pytest.raises(UsageError):
                    await server.start()

    run(main)


def test_without_a_session_or_a_server_there_is_nothing_to_act_on() -> None:
    async def main() -> None:
        idle = server_with()
        for attempt in (lambda: idle.client_port, lambda: idle.sessions, lambda: idle.ca_file):
            with pytest.raises(UsageError):
                attempt()
        async with server_with(router_port=None) as server:
            with pytest.raises(UsageError, match="router"):
                _ = server.router_port
            with pytest.raises(UsageError, match="romeo"):
                await server.drop("romeo@localhost")
            with pytest.raises(UsageError):
                await server.close_stream("comp.localhost")
            with pytest.raises(ConfigError):
                await server.drop("@")
            with pytest.raises(TimeoutError):
                await server.wait_for_session("romeo@localhost", timeout=0.01)

    run(main)


def test_waiting_for_a_session_ends_when_it_comes() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer, asyncio.TaskGroup() as group:
            waiting = group.create_task(server.wait_for_session("romeo@localhost"))
            await peer.login(server)
            assert (await waiting).jid == "romeo@localhost/orchard"

    run(main)


def test_impossible_options_are_refused_when_they_are_made() -> None:
    for wrong in (
        {"starttls": "perhaps"},
        {"session": "always"},
        {"mechanisms": ("X-OTHER",)},
        {"router_mechanisms": ("GSSAPI",)},
        {"legacy": ("md5",)},
        {"silent_at": "lunch"},
        {"max_received": 0},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ServerOptions(**wrong)
    with pytest.raises(JidError):
        Server(accounts={"no@good": "x"})


def test_no_password_shows_in_a_repr() -> None:
    async def main() -> None:
        async with Server(accounts={"romeo": "hush"}) as server:
            assert "hush" not in repr(server) + repr(vars(server)["_hub"].site)

    run(main)


def test_without_tls_no_certificate_is_needed() -> None:
    async def main() -> None:
        async with server_with(starttls="none", direct_tls_port=None) as server:
            with pytest.raises(UsageError):
                _ = server.ca_file

    run(main)


def test_trustme_missing_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trustme", None)

    async def main() -> None:
        with pytest.raises(ConfigError, match=r"pcj\[testing\]"):
            await server_with().start()

    run(main)


# silent_at: the last thing each kind of peer hears. What is sent after it stays unanswered.


async def _until_silence(peer: Peer, *texts: str) -> None:
    """Send texts, then the end of the stream; nothing at all may come back."""
    for text in texts:
        peer.send(text)
    await peer.drain()
    peer.close_writing()
    assert await peer.end() == ""


HEADER = "<stream:stream xmlns='{}' xmlns:stream='http://etherx.jabber.org/streams' to='{}' version='1.0'>"


@pytest.mark.parametrize("kind", ["client", "component", "router"])
def test_silent_at_accept_says_not_a_byte(kind: str) -> None:
    async def main() -> None:
        async with server_with(silent_at="accept") as server, Peer(getattr(server, f"{kind}_port")) as peer:
            await _until_silence(peer, HEADER.format("jabber:client", "localhost"))

    run(main)


@pytest.mark.parametrize(
    ("kind", "namespace", "to"),
    [
        ("client", "jabber:client", "localhost"),
        ("component", COMPONENT, "comp.localhost"),
        ("router", ROUTER, "jabberd-router"),
    ],
)
def test_silent_at_header_sends_the_header_and_no_more(kind: str, namespace: str, to: str) -> None:
    async def main() -> None:
        async with server_with(silent_at="header") as server, Peer(getattr(server, f"{kind}_port")) as peer:
            await peer.open(namespace, to)
            await _until_silence(peer, "<handshake>0</handshake>")

    run(main)


def test_silent_at_tls_proceeds_and_shakes_no_hands() -> None:
    async def main() -> None:
        async with server_with(silent_at="tls") as server:
            async with Peer(server.client_port) as peer:
                await peer.open()
                await peer.features()
                peer.send(f"<starttls xmlns='{TLS}'/>")
                assert "<proceed" in await peer.until("/>")
                await _until_silence(peer, "\x16\x03\x01")
            async with Peer(server.direct_tls_port) as peer:
                await _until_silence(peer, "\x16\x03\x01")

    run(main)


def test_silent_at_auth_does_not_answer_credentials() -> None:
    async def main() -> None:
        async with server_with(silent_at="auth") as server:
            async with Peer(server.client_port) as peer:
                await peer.open()
                await peer.features()
                await _until_silence(peer, f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1hLHI9Yg==</auth>")
            async with Peer(server.client_port) as peer:
                await peer.open(version=None)
                await _until_silence(peer, "<iq type='set' id='1'><query xmlns='jabber:iq:auth'/></iq>")
            async with Peer(server.component_port) as peer:
                await peer.open(COMPONENT, "comp.localhost", None)
                await _until_silence(peer, "<handshake>0</handshake>")
            async with Peer(server.router_port) as peer:
                await peer.open(ROUTER, "jabberd-router")
                await peer.features()
                await _until_silence(peer, f"<auth xmlns='{SASL}' mechanism='DIGEST-MD5'/>")

    run(main)


def test_silent_at_bind_does_not_answer_the_request() -> None:
    async def main() -> None:
        async with server_with(silent_at="bind") as server:
            async with Peer(server.client_port) as peer:
                await peer.open()
                await peer.features()
                assert await peer.sasl("romeo", "secret", "SCRAM-SHA-1") == "success"
                await peer.open()
                await peer.features()
                await _until_silence(
                    peer, "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
                )
            async with Peer(server.router_port) as peer:
                await peer.open(ROUTER, "jabberd-router")
                await peer.features()
                assert await peer.sasl("jabberd", "secret", "DIGEST-MD5") == "success"
                await peer.open(ROUTER, "jabberd-router")
                await peer.features()
                await _until_silence(peer, "<bind name='comp.localhost'/>")

    run(main)


def test_silent_at_session_does_not_answer_the_request() -> None:
    async def main() -> None:
        async with server_with(silent_at="session") as server, Peer(server.client_port) as peer:
            await peer.login(server)
            await _until_silence(
                peer, "<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>"
            )

    run(main)


def test_a_silent_server_stops_as_quickly_as_any() -> None:
    async def main() -> None:
        server = server_with(silent_at="accept", close_timeout=60.0)
        await server.start()
        async with Peer(server.client_port) as peer, Peer(server.direct_tls_port) as other:
            async with asyncio.timeout(5):
                await server.stop()
            await peer.gone()
            await other.gone()

    run(main)
