"""The embedded server's routing and what it answers itself."""

from __future__ import annotations

import pytest

from pcj.stanza import message
from pcj.testing import Server
from tests.shell.testing.peer import Peer, run


def server() -> Server:
    return Server(accounts={"romeo": "secret", "juliet": "secret"}, components={"comp.localhost": "secret"})


@pytest.mark.parametrize("to", ["", "to='localhost'", "to='LOCALHOST'", "to='romeo@localhost'"])
def test_a_ping_is_answered(to: str) -> None:
    async def main() -> None:
        async with server() as s, Peer(s.client_port) as peer:
            await peer.login(s)
            peer.send(f"<iq type='get' id='p' {to}><ping xmlns='urn:xmpp:ping'/></iq>")
            assert 'type="result"' in await peer.until("/>")

    run(main)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("<query xmlns='jabber:iq:version'/>", "<name>pcj.testing</name>"),
        ("<query xmlns='http://jabber.org/protocol/disco#info'/>", 'category="server"'),
        ("<query xmlns='http://jabber.org/protocol/disco#items'/>", '<item jid="comp.localhost"/>'),
        ("<query xmlns='jabber:iq:private'/>", "<service-unavailable "),
        ("<ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/>", "<bad-request "),
    ],
)
def test_the_domain_answers_what_a_server_answers(payload: str, expected: str) -> None:
    async def main() -> None:
        async with server() as s, Peer(s.client_port) as peer, Peer(s.component_port) as component:
            await peer.login(s)
            await component.login_component()
            peer.send(f"<iq type='get' id='q' to='localhost'>{payload}</iq>")
            came = await peer.until("</iq>")
            assert expected in came
            assert 'from="localhost"' in came
            component.send(f"<iq type='get' id='q' to='localhost' from='x@comp.localhost'>{payload}</iq>")
            assert 'to="x@comp.localhost"' in await component.until("</iq>")

    run(main)


def test_a_client_has_an_empty_roster() -> None:
    async def main() -> None:
        async with server() as s, Peer(s.client_port) as peer:
            await peer.login(s)
            peer.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
            assert '<query xmlns="jabber:iq:roster"/>' in await peer.until("</iq>")

    run(main)


@pytest.mark.parametrize(
    ("stanza", "condition"),
    [
        ("<message to='x@elsewhere.example'/>", "remote-server-not-found"),
        ("<message to='juliet@localhost'/>", "service-unavailable"),
        ("<message to='nobody@localhost'/>", "service-unavailable"),
        ("<message to='comp.localhost'/>", "service-unavailable"),
        ("<message to='localhost'/>", "service-unavailable"),
        ("<message to='a@@b'/>", "jid-malformed"),
        ("<iq type='get' id='1' to='juliet@localhost'><x xmlns='urn:x'/></iq>", "service-unavailable"),
        ("<iq type='get' id='1' to='juliet@localhost'><ping xmlns='urn:xmpp:ping'/></iq>", "service-unavailable"),
        ("<iq type='set' id='1' to='juliet@localhost/x'><x xmlns='urn:x'/></iq>", "service-unavailable"),
        ("<presence to='elsewhere.example'/>", "remote-server-not-found"),
    ],
)
def test_what_cannot_be_delivered_is_bounced(stanza: str, condition: str) -> None:
    async def main() -> None:
        async with server() as s, Peer(s.client_port) as peer:
            await peer.login(s)
            peer.send(stanza)
            came = await peer.until("</error>")
            assert 'type="error"' in came
            assert 'to="romeo@localhost/orchard"' in came
            assert f"<{condition} " in came

    run(main)


@pytest.mark.parametrize(
    "stanza",
    [
        "<message type='error' to='x@elsewhere.example'/>",
        "<message type='error' to='nobody@localhost'/>",
        "<message type='error'/>",
        "<iq type='result' id='1' to='x@elsewhere.example'/>",
        "<iq type='error' id='1' to='nobody@localhost/x'/>",
        "<iq type='result' id='1' to='localhost'/>",
        "<presence type='unavailable' to='elsewhere.example'/>",
        "<presence to='nobody@localhost'/>",
        "<presence/>",
    ],
)
def test_nothing_answers_an_error_a_result_or_presence_for_nobody(stanza: str) -> None:
    async def main() -> None:
        async with server() as s, Peer(s.client_port) as peer:
            await peer.login(s)
            peer.send(stanza + "<iq type='get' id='after'><ping xmlns='urn:xmpp:ping'/></iq>")
            assert await peer.until("/>") == '<iq to="romeo@localhost/orchard" id="after" type="result"/>'

    run(main)


def test_a_bare_address_means_the_available_resource_and_the_most_recent_one() -> None:
    async def main() -> None:
        async with (
            server() as s,
            Peer(s.client_port) as romeo,
            Peer(s.client_port) as first,
            Peer(s.client_port) as second,
        ):
            await romeo.login(s)
            await first.login(s, "juliet", "first")
            await second.login(s, "juliet", "second")
            romeo.send("<message to='juliet@localhost' id='recent'/>")
            await second.until('id="recent"')
            first.send("<presence/><iq type='get' id='done'><ping xmlns='urn:xmpp:ping'/></iq>")
            await first.until('id="done"')
            romeo.send("<message to='Juliet@LOCALHOST' id='available'/>")
            await first.until('id="available"')
            romeo.send("<message to='juliet@localhost/gone' id='elsewhere'/>")
            await first.until('id="elsewhere"')
            romeo.send("<message to='juliet@localhost/second' id='exact'/>")
            await second.until('id="exact"')

    run(main)


def test_directed_presence_is_routed() -> None:
    async def main() -> None:
        async with server() as s, Peer(s.client_port) as romeo, Peer(s.client_port) as juliet:
            await romeo.login(s)
            await juliet.login(s, "juliet")
            romeo.send("<presence to='juliet@localhost'><show>away</show></presence>")
            assert "<show>away</show>" in await juliet.until("</presence>")

    run(main)


def test_a_test_can_let_stanzas_in_and_see_what_came() -> None:
    async def main() -> None:
        async with server() as s, Peer(s.client_port) as romeo:
            await romeo.login(s)
            s.route(message(to="romeo@localhost", from_="x@elsewhere.example", body="routed"))
            assert "<body>routed</body>" in await romeo.until("</message>")
            await s.send(message(to="someone.else", body="sent"), to="romeo@localhost/orchard")
            assert "<body>sent</body>" in await romeo.until("</message>")
            s.route(message(to="nobody@localhost", from_="x@elsewhere.example"))  # bounced to nobody
            romeo.send("<message to='romeo@localhost' id='1'/><message to='romeo@localhost' id='2'/>")
            node = await s.wait_for_node(lambda jid, node: node.get("id") == "2")
            assert node.get("from") == "romeo@localhost/orchard"
            assert [(jid, node.get("id")) for jid, node in s.received] == [
                ("romeo@localhost/orchard", "1"),
                ("romeo@localhost/orchard", "2"),
            ]

    run(main)
