"""LEGACY clients (XEP-0078) at the embedded server."""

from __future__ import annotations

import pytest

from pcj.testing import Server, ServerOptions
from tests.shell.testing.peer import Peer, digest, run


def server_with(**options: object) -> Server:
    return Server(accounts={"romeo": "secret"}, options=ServerOptions(**options))  # type: ignore[arg-type]


def login(stream_id: str, password: str = "secret", *, plain: bool = False, resource: str = "orchard") -> str:
    proof = f"<password>{password}</password>" if plain else f"<digest>{digest(stream_id, password)}</digest>"
    return (
        "<iq type='set' id='AUTH'><query xmlns='jabber:iq:auth'><username>romeo</username>"
        f"{proof}<resource>{resource}</resource></query></iq>"
    )


@pytest.mark.parametrize("version", [None, "0.9", "1.0"])
@pytest.mark.parametrize("plain", [False, True])
def test_a_client_logs_in_with_or_without_version(version: str | None, plain: bool) -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            stream_id = await peer.open(version=version)
            if version == "1.0":
                assert "http://jabber.org/features/iq-auth" in await peer.features()
            peer.send(login(stream_id, plain=plain))
            assert await peer.until(">") == '<iq id="AUTH" type="result"/>'
            session = await server.wait_for_session("romeo@localhost/orchard")
            assert session.connection_type == "LEGACY"
            assert session.mechanism == ("plain" if plain else "digest")
            peer.send("<message to='romeo@localhost' id='self'/>")
            assert 'from="romeo@localhost/orchard"' in await peer.until('id="self"') + await peer.until("/>")

    run(main)


def test_a_client_logs_in_inside_tls() -> None:
    async def main() -> None:
        async with server_with(starttls="required") as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            await peer.start_tls(server)
            stream_id = await peer.open()
            await peer.features()
            peer.send(login(stream_id))
            assert 'type="result"' in await peer.until("/>")
            assert server.sessions[0].secure

    run(main)


def test_before_required_tls_the_password_is_not_taken() -> None:
    async def main() -> None:
        async with server_with(starttls="required") as server, Peer(server.client_port) as peer:
            peer.send(login(await peer.open(version=None), plain=True))
            assert "<not-acceptable " in await peer.until("</iq>")

    run(main)


@pytest.mark.parametrize("plain", [False, True])
def test_a_wrong_password_is_not_authorized(plain: bool) -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            peer.send(login(await peer.open(version=None), "wrong", plain=plain))
            assert "<not-authorized " in await peer.until("</iq>")
            assert server.sessions == []

    run(main)


def test_the_fields_say_what_is_taken() -> None:
    async def main() -> None:
        for legacy, present, absent in ((("plain",), "password", "digest"), (("digest",), "digest", "password")):
            async with server_with(legacy=legacy) as server, Peer(server.client_port) as peer:
                await peer.open(version=None)
                peer.send("<iq type='get' id='f'><query xmlns='jabber:iq:auth'><username>romeo</username></query></iq>")
                fields = await peer.until("</iq>")
                assert "<username>romeo</username>" in fields
                assert f"<{present}/>" in fields
                assert f"<{absent}/>" not in fields

    run(main)


def test_a_digest_that_is_not_taken_is_refused_or_answered_with_fields_as_prosody_does() -> None:
    async def main() -> None:
        async with server_with(legacy=("plain",)) as server, Peer(server.client_port) as peer:
            peer.send(login(await peer.open(version=None)))
            assert "<not-acceptable " in await peer.until("</iq>")
        options = {"legacy": ("plain",), "legacy_fields_as_result": True}
        async with server_with(**options) as server, Peer(server.client_port) as peer:
            peer.send(login(await peer.open(version=None)))
            answer = await peer.until("</iq>")
            assert 'type="result"' in answer
            assert "<password/>" in answer
            assert server.sessions == []

    run(main)


def test_features_come_to_a_header_without_version_only_where_told() -> None:
    async def main() -> None:
        async with server_with(legacy_features=True) as server, Peer(server.client_port) as peer:
            await peer.open(version=None)
            assert "iq-auth" in await peer.features()

    run(main)


def test_iq_auth_after_a_failed_sasl_is_a_policy_violation() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            stream_id = await peer.open()
            await peer.features()
            assert await peer.sasl("romeo", "wrong", "SCRAM-SHA-1") == "not-authorized"
            peer.send(login(stream_id))
            assert "<policy-violation " in await peer.end()

    run(main)


def test_a_conflict_follows_the_policy() -> None:
    async def main() -> None:
        for policy in ("kick_old", "kick_new"):
            async with (
                server_with(resource_conflict=policy) as server,
                Peer(server.client_port) as old,
                Peer(server.client_port) as new,
            ):
                old.send(login(await old.open(version=None)))
                await old.until("/>")
                new.send(login(await new.open(version=None)))
                if policy == "kick_new":
                    assert "<conflict " in await new.until("</iq>")
                else:
                    assert 'type="result"' in await new.until("/>")
                    assert "<conflict " in await old.end()

    run(main)
