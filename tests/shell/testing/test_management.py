"""Stream management (XEP-0198) at the embedded server, over real sockets and hand-written text."""

from __future__ import annotations

import asyncio
import re
import xml.etree.ElementTree as ET

import pytest

from pcj.errors import ConfigError, UsageError
from pcj.stanza import iq, message
from pcj.testing import Server, ServerOptions
from tests.shell.testing.peer import Peer, run

SM = "urn:xmpp:sm:3"
ROMEO = "romeo@localhost/orchard"
PING = "<iq type='get' id='{}'><ping xmlns='urn:xmpp:ping'/></iq>"


def server_with(**options: object) -> Server:
    return Server(
        accounts={"romeo": "secret", "juliet": "secret"},
        components={"comp.localhost": "secret"},
        options=ServerOptions(**options),  # type: ignore[arg-type]
    )


async def log_in(peer: Peer, user: str = "romeo") -> str:
    """Up to the features that come behind SASL, which are returned."""
    await peer.open()
    await peer.features()
    assert await peer.sasl(user, "secret", "SCRAM-SHA-1") == "success"
    await peer.open()
    return await peer.features()


async def enable(peer: Peer, attributes: str = "resume='true'") -> ET.Element:
    peer.send(f"<enable xmlns='{SM}' {attributes}/>")
    return await peer.element()


async def managed(peer: Peer, server: Server) -> str:
    """Log in with a session that can be resumed; its SM-ID."""
    await peer.login(server)
    return (await enable(peer)).get("id", "")


async def handled(peer: Peer) -> int:
    """What the server answers to <r/>."""
    peer.send(f"<r xmlns='{SM}'/>")
    answer = await peer.element()
    assert answer.tag == f"{{{SM}}}a"
    return int(answer.get("h", ""))


async def resume(peer: Peer, previd: str, h: int, user: str = "romeo") -> ET.Element:
    await log_in(peer, user)
    peer.send(f"<resume xmlns='{SM}' previd='{previd}' h='{h}'/>")
    return await peer.element()


def name_of(element: ET.Element) -> str:
    return element.tag.removeprefix(f"{{{SM}}}")


def note(id: str) -> ET.Element:
    return message(to=ROMEO, from_="x@elsewhere.example", id=id, body=id)


async def ids_until(peer: Peer, last: str) -> list[str]:
    """The ids of the messages up to and with `last`."""
    return re.findall(r'<message [^>]*id="([^"]+)"', await peer.until(f'id="{last}"') + ">")


# Turning it on


def test_it_is_offered_where_somebody_has_logged_in_and_nowhere_else() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            assert SM not in await peer.features()
            assert await peer.sasl("romeo", "secret", "SCRAM-SHA-1") == "success"
            await peer.open()
            assert f'<sm xmlns="{SM}"/>' in await peer.features()
        async with server_with(stream_management=False) as server, Peer(server.client_port) as peer:
            assert SM not in await log_in(peer)
            await peer.bind()
            peer.send(f"<enable xmlns='{SM}'/>")
            assert "<unsupported-stanza-type " in await peer.end()

    run(main)


@pytest.mark.parametrize(
    ("options", "asked", "told"),
    [
        ({}, "", {}),
        ({}, "resume='false'", {}),
        ({}, "resume='true'", {"resume": "true", "max": "300"}),
        ({}, "resume='1' max='7'", {"resume": "true", "max": "7"}),
        ({}, "resume='1' max='100000'", {"resume": "true", "max": "300"}),
        ({}, "resume='1' max='0'", {"resume": "true", "max": "300"}),
        ({}, "resume='1' max='soon'", {"resume": "true", "max": "300"}),
        ({"resume_seconds": 0}, "resume='true'", {}),
        ({"resume_seconds": 0.25}, "resume='true'", {"resume": "true", "max": "1"}),
        ({"announced_resume_seconds": 5}, "resume='true'", {"resume": "true", "max": "5"}),
        ({"resume_location": "[::1]:9"}, "resume='true'", {"resume": "true", "max": "300", "location": "[::1]:9"}),
    ],
)
def test_enabled_says_what_was_agreed(options: dict[str, object], asked: str, told: dict[str, str]) -> None:
    async def main() -> None:
        async with server_with(**options) as server, Peer(server.client_port) as peer:
            await peer.login(server)
            assert not server.sessions[0].managed
            answer = await enable(peer, asked)
            assert name_of(answer) == "enabled"
            assert bool(answer.attrib.pop("id", "")) == bool(told)
            assert answer.attrib == told
            assert server.sessions[0].managed

    run(main)


def test_it_can_be_refused_and_the_session_goes_on_without() -> None:
    async def main() -> None:
        async with server_with(enable_error="internal-server-error") as server, Peer(server.client_port) as peer:
            await peer.login(server)
            answer = await enable(peer)
            assert (name_of(answer), answer[0].tag.rpartition("}")[2]) == ("failed", "internal-server-error")
            assert not server.sessions[0].managed
            await server.drop(ROMEO)
            assert server.away == []

    run(main)


@pytest.mark.parametrize("element", ["enable", "resume previd='x' h='0'"])
def test_out_of_its_order_it_is_an_unexpected_request(element: str) -> None:
    async def main() -> None:
        refused = f'<failed xmlns="{SM}"><unexpected-request xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></failed>'
        asked = f"<{element} xmlns='{SM}'/>"
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open()
            await peer.features()
            peer.send(asked)
            assert await peer.until("</failed>") == refused
            assert await peer.sasl("romeo", "secret", "SCRAM-SHA-1") == "success"
            await peer.open()
            await peer.features()
            if element == "enable":
                peer.send(asked)
                assert await peer.until("</failed>") == refused
            await peer.bind()
            if element != "enable":
                peer.send(asked)
                assert await peer.until("</failed>") == refused
            assert name_of(await enable(peer)) == "enabled"

    run(main)


def test_a_second_enable_ends_the_stream() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await managed(peer, server)
            peer.send(f"<enable xmlns='{SM}'/>")
            assert "<policy-violation " in await peer.end()
            await server.wait_for_end("romeo@localhost")
            assert server.away == []

    run(main)


def test_a_legacy_client_has_none() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.open(version=None)
            peer.send(
                "<iq type='set' id='a'><query xmlns='jabber:iq:auth'><username>romeo</username>"
                "<resource>orchard</resource><password>secret</password></query></iq>"
            )
            assert 'type="result"' in await peer.until("/>")
            peer.send(f"<enable xmlns='{SM}'/>")
            assert "<unsupported-stanza-type " in await peer.end()

    run(main)


# Counting


def test_stanzas_count_from_enable_on_and_nothing_else_does() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await peer.login(server)
            peer.send("<presence/>")
            await enable(peer)
            assert await handled(peer) == 0
            peer.send("<presence/> <message to='x@elsewhere.example' type='error'/>" + f"<a xmlns='{SM}' h='0'/>")
            assert await handled(peer) == 2
            peer.send(PING.format("p"))
            assert 'id="p"' in await peer.until("/>")
            assert await handled(peer) == 3
            assert server.sessions[0].unacked == 1

    run(main)


def test_the_client_is_asked_after_every_so_many_stanzas_and_what_it_acknowledges_is_let_go_of() -> None:
    async def main() -> None:
        async with server_with(request_ack_every=2) as server, Peer(server.client_port) as peer:
            await managed(peer, server)
            for id in ("1", "2", "3"):
                server.route(note(id))
            came = await peer.until('id="3"')
            assert came.index('id="2"') < came.index(f'<r xmlns="{SM}"/>') < came.index('id="3"')
            await peer.until("</message>")
            assert server.sessions[0].unacked == 3
            peer.send(f"<a xmlns='{SM}' h='2'/>")
            assert await handled(peer) == 0
            assert server.sessions[0].unacked == 1
            await server.send(note("4"), to=ROMEO)  # written past the routing, and counted all the same
            assert "<r " in await peer.until("/>")
            assert server.sessions[0].unacked == 2

    run(main)


def test_without_requests_nothing_is_asked() -> None:
    async def main() -> None:
        async with server_with(request_ack_every=0) as server, Peer(server.client_port) as peer:
            await managed(peer, server)
            for number in range(20):
                server.route(note(str(number)))
            assert "<r " not in await peer.until('id="19"')

    run(main)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("h='3'", f'<handled-count-too-high xmlns="{SM}" h="3" send-count="2"/></stream:error></stream:stream>'),
        ("h='4294967295'", f'<handled-count-too-high xmlns="{SM}" h="4294967295" send-count="2"/>'),
        ("h='0'", f'<handled-count-too-high xmlns="{SM}" h="0" send-count="2"/>'),  # less than before
        ("h='4294967296'", "<bad-format "),
        ("h='-1'", "<bad-format "),
        ("h='one'", "<bad-format "),
        ("", "<bad-format "),
    ],
)
def test_a_count_that_cannot_be_ends_the_stream_and_the_session(said: str, expected: str) -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await managed(peer, server)
            for id in ("1", "2"):
                server.route(note(id))
            await peer.until('id="2"')
            peer.send(f"<a xmlns='{SM}' h='1'/><a xmlns='{SM}' {said}/>")
            assert expected in await peer.end()
            await server.wait_for_end("romeo@localhost")
            assert server.away == []

    run(main)


@pytest.mark.parametrize(("offset", "told"), [(0, 2), (5, 7), (-1, 1), (-9, 0)])
def test_what_is_told_can_be_a_lie(offset: int, told: int) -> None:
    async def main() -> None:
        async with server_with(handled_offset=offset) as server, Peer(server.client_port) as peer:
            id = await managed(peer, server)
            peer.send("<presence/><presence/>")
            assert await handled(peer) == told
            await server.drop(ROMEO)
            async with Peer(server.client_port) as again:
                assert (await resume(again, id, 0)).get("h") == str(told)

    run(main)


def test_a_server_can_be_deaf_to_requests() -> None:
    async def main() -> None:
        async with server_with(answer_ack_requests=False) as server, Peer(server.client_port) as peer:
            await managed(peer, server)
            peer.send(f"<r xmlns='{SM}'/>" + PING.format("p"))
            assert (await peer.until("/>")).startswith("<iq ")
            peer.send("</stream:stream>")
            assert await peer.end() == "</stream:stream>"

    run(main)


@pytest.mark.parametrize("by", ["client", "server", "error"])
def test_the_last_count_comes_before_the_end_of_the_stream(by: str) -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await managed(peer, server)
            peer.send("<presence/>")
            assert await handled(peer) == 1
            if by == "client":
                peer.send("</stream:stream>")
            elif by == "server":
                await server.close_stream(ROMEO)
                peer.send("</stream:stream>")
            else:
                await server.close_stream(ROMEO, "policy-violation")
            came = await peer.end()
            assert came.startswith(f'<a xmlns="{SM}" h="1"/><')
            assert came.endswith("</stream:stream>")
            await server.wait_for_end("romeo@localhost")
            assert server.away == []

    run(main)


def test_a_client_that_never_acknowledges_is_sent_away() -> None:
    async def main() -> None:
        async with server_with(max_unacked=3) as server, Peer(server.client_port) as peer:
            await managed(peer, server)
            for number in range(4):
                server.route(note(str(number)))
            assert "<policy-violation " in await peer.end()

    run(main)


# Resuming


def test_what_was_not_acknowledged_comes_again_in_its_order_and_what_came_meanwhile_behind_it() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            id = await managed(peer, server)
            peer.send("<presence><priority>3</priority></presence>" + PING.format("p"))
            await peer.until('id="p"')  # 1
            for number in ("2", "3", "4"):
                server.route(note(number))
            await peer.until('id="4"')
            await server.drop(ROMEO)
            assert (server.sessions, [s.jid for s in server.away]) == ([], [ROMEO])
            await server.wait_for_end("romeo@localhost")
            server.route(note("5"))
            server.route(iq(to=ROMEO, from_="x@elsewhere.example", id="6", payload=ET.Element("{urn:x}x")))
            async with Peer(server.client_port) as again:
                answer = await resume(again, id, 2)
                assert (name_of(answer), answer.attrib) == ("resumed", {"previd": id, "h": "2"})
                came = await again.until("<r ")
                assert re.findall(r' id="(\d)"', came) == ["3", "4", "5", "6"]
                assert came.count('<delay xmlns="urn:xmpp:delay" from="localhost" stamp="2') == 3  # not in the request
                await again.until(">")
                again.send(f"<a xmlns='{SM}' h='6'/>" + PING.format("q"))
                await again.until('id="q"')
                await again.until(">")
                assert await handled(again) == 3  # it goes on counting
                assert server.away == []
                session = server.sessions[0]
                assert (session.jid, session.resumptions, session.unacked) == (ROMEO, 1, 1)
                server.route(note("8"))
                await again.until('id="8"')
                # and once more
                await server.drop(ROMEO)
                async with Peer(server.client_port) as third:
                    assert name_of(await resume(third, id, 8)) == "resumed"
                    assert server.sessions[0].resumptions == 2
                    assert server.sessions[0].unacked == 0

    run(main)


def test_it_is_resumed_while_the_old_connection_stands_and_that_one_is_told_of_a_conflict() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer, Peer(server.client_port) as again:
            id = await managed(peer, server)
            assert name_of(await resume(again, id, 0)) == "resumed"
            assert "<conflict " in await peer.end()
            assert [s.jid for s in server.sessions] == [ROMEO]
            server.route(note("1"))
            assert await ids_until(again, "1") == ["1"]

    run(main)


@pytest.mark.parametrize("way", ["reset", "eof", "error"])
def test_every_end_without_a_closed_stream_leaves_the_session_and_no_other_does(way: str) -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            id = await managed(peer, server)
            if way == "reset":
                await server.drop(ROMEO)
            elif way == "eof":
                peer.close_writing()
                await peer.end()
            else:
                await server.close_stream(ROMEO, "connection-timeout", resumable=True)
                assert "<connection-timeout " in await peer.end()
            await server.wait_for_end("romeo@localhost")
            assert [s.jid for s in server.away] == [ROMEO]
            async with Peer(server.client_port) as again:
                assert name_of(await resume(again, id, 0)) == "resumed"
                again.send("</stream:stream>")
                await again.end()
                await server.wait_for_end("romeo@localhost")
                assert server.away == []

    run(main)


@pytest.mark.parametrize(
    ("case", "options", "expected"),
    [
        ("unknown", {}, ("item-not-found", None)),
        ("expired", {}, ("item-not-found", "1")),
        ("expired", {"failed_handled": False}, ("item-not-found", None)),
        ("restarted", {}, ("item-not-found", None)),
        ("another's", {}, ("item-not-found", None)),
        ("refused", {"resume_error": "feature-not-implemented"}, ("feature-not-implemented", "1")),
        ("refused", {"resume_error": "item-not-found", "failed_handled": False}, ("item-not-found", None)),
    ],
)
def test_who_cannot_resume_is_told_so_and_may_bind(
    case: str, options: dict[str, object], expected: tuple[str, str | None]
) -> None:
    async def main() -> None:
        async with server_with(**options) as server, Peer(server.client_port) as peer:
            id = await managed(peer, server)
            peer.send("<presence/>")
            assert await handled(peer) == 1
            if case == "restarted":
                await server.restart()
                assert await peer.reset()
            else:
                await server.drop(ROMEO)
            if case == "expired":
                server.expire(ROMEO)
            async with Peer(server.client_port) as again:
                answer = await resume(
                    again, "x" if case == "unknown" else id, 0, "juliet" if case == "another's" else "romeo"
                )
                assert name_of(answer) == "failed"
                assert (answer[0].tag.rpartition("}")[2], answer.get("h")) == expected
                assert "<jid>" in await again.bind("balcony")
                assert name_of(await enable(again)) == "enabled"

    run(main)


def test_the_condition_can_be_inside_an_error() -> None:
    async def main() -> None:
        async with server_with(failed_nested=True) as server, Peer(server.client_port) as peer:
            answer = await resume(peer, "x", 0)
            assert [e.tag.rpartition("}")[2] for e in answer.iter()] == ["failed", "error", "item-not-found"]

    run(main)


def test_a_resumption_with_a_count_too_high_ends_the_newcomer_and_leaves_the_session() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            id = await managed(peer, server)
            await server.drop(ROMEO)
            async with Peer(server.client_port) as again:
                await log_in(again)
                again.send(f"<resume xmlns='{SM}' previd='{id}' h='1'/>")
                assert "<handled-count-too-high " in await again.end()
            async with Peer(server.client_port) as again:
                assert name_of(await resume(again, id, 0)) == "resumed"

    run(main)


def test_nobody_comes_back_after_the_time_and_what_waited_is_bounced() -> None:
    async def main() -> None:
        async with (
            server_with(resume_seconds=0.05) as server,
            Peer(server.client_port) as peer,
            Peer(server.client_port) as juliet,
        ):
            id = await managed(peer, server)
            await juliet.login(server, "juliet", "balcony")
            juliet.send(f"<message to='{ROMEO}' id='before'/>")
            await peer.until('id="before"')
            await server.drop(ROMEO)
            juliet.send(f"<message to='{ROMEO}' id='1'/><iq type='get' id='2' to='{ROMEO}'><x xmlns='urn:x'/></iq>")
            came = await juliet.until('id="2"') + await juliet.until("</iq>")
            assert re.findall(r'id="(\w+)" type="error"', came) == ["before", "1", "2"]
            assert came.count("<service-unavailable ") == 3
            assert server.away == []
            async with Peer(server.client_port) as again:
                assert name_of(await resume(again, id, 0)) == "failed"

    run(main)


def test_what_waited_goes_to_another_resource_or_to_the_one_that_takes_its_place() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer, Peer(server.client_port) as other:
            await managed(peer, server)
            await other.login(server, "romeo", "elsewhere")
            await server.drop(ROMEO)
            server.route(note("1"))
            server.expire(ROMEO)
            assert await ids_until(other, "1") == ["1"]
        for policy in ("kick_old", "kick_new"):  # who is away is in nobody's way
            async with server_with(resource_conflict=policy) as server, Peer(server.client_port) as peer:
                id = await managed(peer, server)
                await server.drop(ROMEO)
                server.route(note("1"))
                async with Peer(server.client_port) as again, Peer(server.client_port) as late:
                    await again.login(server)
                    assert await ids_until(again, "1") == ["1"]
                    assert server.away == []
                    assert name_of(await resume(late, id, 0)) == "failed"

    run(main)


def test_no_more_waits_for_one_that_is_away_than_the_bounds_allow() -> None:
    async def main() -> None:
        bounds: list[dict[str, object]] = [{"max_unacked": 2}, {"max_outbound_bytes": 5000}]
        for options, size in zip(bounds, (1, 2000), strict=True):
            async with (
                server_with(**options) as server,
                Peer(server.client_port) as peer,
                Peer(server.component_port) as component,
            ):
                id = await managed(peer, server)
                await component.login_component()
                await server.drop(ROMEO)
                for number in range(3):
                    body = f"<body>{'x' * size}</body>"
                    component.send(f"<message from='comp.localhost' to='{ROMEO}' id='{number}'>{body}</message>")
                came = await component.until("</message>")
                assert 'id="2" type="error"' in came
                assert '<error type="wait"><recipient-unavailable ' in came
                async with Peer(server.client_port) as again:
                    assert name_of(await resume(again, id, 0)) == "resumed"
                    assert await ids_until(again, "1") == ["0", "1"]

    run(main)


# What a test can do


def test_a_restart_breaks_every_connection_and_loses_what_was_on_its_way() -> None:
    async def main() -> None:
        async with (
            server_with() as server,
            Peer(server.client_port) as away,
            Peer(server.client_port) as juliet,
            Peer(server.client_port) as halfway,
            Peer(server.component_port) as component,
        ):
            id, port = await managed(away, server), server.client_port
            await juliet.login(server, "juliet", "balcony")
            await halfway.open()
            await component.login_component()
            await server.drop(ROMEO)
            juliet.send(f"<message to='{ROMEO}' id='lost'/>" + PING.format("p"))
            await juliet.until('id="p"')
            async with asyncio.timeout(5):
                await server.restart()
            for peer in (juliet, halfway, component):
                assert await peer.reset()
            assert (server.sessions, server.away, server.client_port) == ([], [], port)
            async with Peer(port) as again, Peer(port) as back:
                assert name_of(await resume(again, id, 0)) == "failed"
                await back.login(server, "juliet", "balcony")
                back.send(PING.format("after"))
                assert "error" not in await back.until('id="after"')

    run(main)


def test_stopping_ends_the_sessions_of_those_that_are_away() -> None:
    async def main() -> None:
        server = server_with()
        async with server, Peer(server.client_port) as peer:
            id = await managed(peer, server)
            await server.drop(ROMEO)
        assert server.away == []
        async with server, Peer(server.client_port) as again:
            assert name_of(await resume(again, id, 0)) == "failed"

    run(main)


def test_only_who_is_there_can_be_acted_on_and_only_who_is_away_can_expire() -> None:
    async def main() -> None:
        async with server_with() as server, Peer(server.client_port) as peer:
            await managed(peer, server)
            with pytest.raises(UsageError, match="away"):
                server.expire(ROMEO)
            await server.drop(ROMEO)
            with pytest.raises(UsageError):
                await server.drop(ROMEO)
            with pytest.raises(UsageError):
                await server.send(note("1"), to=ROMEO)

    run(main)


@pytest.mark.parametrize("wrong", [{"resume_seconds": -1.0}, {"request_ack_every": -1}, {"max_unacked": 0}])
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        server_with(**wrong)


# What proves the rest where there is no stream management: pings that come back (protocol-notes A8)


def test_pings_come_back_behind_all_that_was_sent_before() -> None:
    async def main() -> None:
        async with (
            server_with() as server,
            Peer(server.client_port) as client,
            Peer(server.component_port) as component,
        ):
            await client.login(server)
            await component.login_component()
            many = "".join(f"<message to='comp.localhost' id='{number}'/>" for number in range(50))
            client.send(many + PING.format("barrier"))
            assert await client.until("/>") == f'<iq to="{ROMEO}" id="barrier" type="result"/>'
            assert [node.get("id") for _, node in server.received] == [*map(str, range(50)), "barrier"]
            own = "<iq type='get' id='{}' from='comp.localhost' to='comp.localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
            component.send(own.format("loop"))
            assert await ids_until(component, "49") == [*map(str, range(50))]
            came = await component.until("</iq>")
            assert '<ping xmlns="urn:xmpp:ping"/>' in came
            for attribute in ('type="get"', 'id="loop"', 'from="comp.localhost"', 'to="comp.localhost"'):
                assert attribute in came
            component.send("<iq type='result' id='loop' from='comp.localhost' to='comp.localhost'/>")
            assert 'type="result"' in await component.until("/>")

    run(main)
