"""see-other-host (RFC 6120 4.9.3.19, event-order C14): followed a bounded number of times, and never to less TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trustme

from pcj import XMPP, Broker, ConfigError, ConnectionFailed, Event, Phase, Retry, State
from pcj.config import Config
from pcj.errors import Failure
from pcj.protocol import dialect_of
from pcj.route import Route
from pcj.transport.resolve import resolve
from tests.shell.links import (
    SECRET,
    Record,
    Wire,
    client,
    closed_port,
    component,
    run,
    scripted,
    server,
    turns,
)
from tests.shell.transport.nameserver import name_server

Script = Callable[[Wire], Awaitable[None]]


def stream_error(to: str) -> str:
    namespace = "urn:ietf:params:xml:ns:xmpp-streams"
    return f"<stream:error><see-other-host xmlns='{namespace}'>{to}</see-other-host></stream:error></stream:stream>"


def sends_on(to: str, *, heard: list[str] | None = None) -> Script:
    """A server that answers the header with another place."""

    async def script(wire: Wire) -> None:
        await wire.header("jabber:client", version="1.0")
        wire.send(stream_error(to))
        rest = await wire.rest()
        if heard is not None:
            heard.append(rest)

    return script


async def fails(broker: Broker) -> Failure:
    with pytest.raises(ConnectionFailed) as caught:
        await broker.connect()
    return caught.value.failure


def test_a_server_that_sends_us_on_is_followed_within_the_same_connect() -> None:
    async def main() -> None:
        async with server() as at, scripted(sends_on(f"127.0.0.1:{at.client_port}")) as first:
            broker = client(first.port)
            record = Record(broker)
            async with broker:
                assert broker.jid == "romeo@localhost/orchard"
            redirect = record.one(Event.REDIRECT)
            assert dict(redirect.detail) == {"attempt": 1, "n": 1, "target": f"127.0.0.1:{at.client_port}"}
            told = record.names[: record.names.index("READY")]
            assert told[:10] == [
                *("CONNECT", "CONNECTING", "ATTEMPT", "CONNECTED", "STREAMSTART", "NODESENT"),
                *("STREAM_ERROR", "REDIRECT", "STREAMEND", "SOCKETDISCONNECT"),
            ]
            assert told.count("CONNECT") == 1
            assert told.count("CONNECTING") == 2
            assert record.of(Event.PCJ_CONNECTING)[1].detail["port"] == at.client_port
            record.check()

    run(main)


def test_once_authentication_began_the_phase_fails_first_and_then_we_are_sent_on() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.header("jabber:client", version="1.0")
            wire.features(
                "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
            )
            await wire.until("</auth>")
            wire.send(stream_error(f"localhost:{at.client_port}"))
            await wire.rest()

        async with server() as at, scripted(script) as first:
            broker = client(first.port)
            record = Record(broker)
            async with broker:
                pass
            place = record.names.index("AUTHFAIL")
            assert record.names[place - 1 : place + 4] == [
                *("STREAM_ERROR", "AUTHFAIL", "REDIRECT", "STREAMEND", "SOCKETDISCONNECT")
            ]

    run(main)


def test_two_servers_that_send_us_to_each_other_are_given_up_with_the_way_we_went() -> None:
    async def main() -> None:
        ports: list[int] = []

        def to(index: int) -> Script:
            async def script(wire: Wire) -> None:
                await sends_on(f"127.0.0.1:{ports[index]}")(wire)

            return script

        async with scripted(to(1)) as first, scripted(to(0)) as second:
            ports += [first.port, second.port]
            broker = client(first.port, max_redirects=3)
            record = Record(broker)
            failure = await fails(broker)
            assert failure.retry is Retry.SLOW
            a, b = (f"127.0.0.1:{port}" for port in ports)
            assert str(failure) == (
                f"the server sent us on 4 times ({b} -> {a} -> {b} -> {a}), which is more than max_redirects allows; "
                "giving up (see-other-host)"
            )
            assert [status.detail["n"] for status in record.of(Event.REDIRECT)] == [1, 2, 3]
            assert [status.detail["retry"] for status in record.of(Event.STREAM_ERROR)] == ["fast"] * 3 + ["slow"]
            assert (first.connections, second.connections) == (2, 2)
            assert record.since(Event.STREAM_ERROR) == [
                *("STREAMEND", "SHUTDOWN_START", "SOCKETDISCONNECT", "SHUTDOWN_FINISH")
            ]
            assert [address for address, _ in failure.tried] == [a, b, a]

    run(main)


@pytest.mark.parametrize(
    "place",
    [
        "",
        "/run/prosody.sock",
        "a b",
        "user@host",
        "host:0",
        "host:65536",
        "host:5222:1",
        "::1",
        "[::1",
        "a" * 300,
        "a..b",
    ],
)
def test_what_is_neither_a_host_nor_an_address_is_not_gone_to(place: str) -> None:
    async def main() -> None:
        async with scripted(sends_on(place)) as first:
            broker = client(first.port)
            record = Record(broker)
            failure = await fails(broker)
            assert first.connections == 1
            assert not record.of(Event.REDIRECT)
            assert failure.condition == "see-other-host"
            assert failure.phase is Phase.STREAM
            if place:
                assert "which is neither a host nor an address (see-other-host)" in str(failure)

    run(main)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.net", "example.net", None),
        ("EXAMPLE.net:5269", "example.net", 5269),
        ("bücher.example", "xn--bcher-kva.example", None),
        ("192.0.2.7:5222", "192.0.2.7", 5222),
        ("[2001:db8::7]", "[2001:db8::7]", None),
        ("[2001:db8::7]:5222", "[2001:db8::7]", 5222),
    ],
)
def test_a_place_is_a_name_or_an_address_and_perhaps_a_port(text: str, host: str, port: int | None) -> None:
    async def main() -> None:
        config = Config(connection_type=XMPP, jid="romeo@example.org", password="x", host="127.0.0.1", port=5222)
        route = Route(config, dialect_of(XMPP), None, None)
        await route.find()
        route.take()
        there = route.elsewhere(text, guarded=True)
        assert (there.host, there.port, there.tls_name) == (host, port, "example.org")
        assert there.config.require_tls

    run(main)


def test_where_tls_stood_it_must_stand_on_the_other_host_too_although_it_was_not_required(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    heard: list[str] = []

    async def without_tls(wire: Wire) -> None:
        await wire.header("jabber:client", version="1.0")
        wire.features("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>")
        heard.append(await wire.until("<starttls"))
        wire.send("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>")
        heard.append(await wire.rest())

    async def main() -> None:
        async with scripted(without_tls) as other:

            async def inside_tls(wire: Wire) -> None:
                await wire.header("jabber:client", version="1.0")
                wire.features("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
                await wire.until("<starttls")
                await wire.until("/>")
                wire.send("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
                await wire.writer.start_tls(context)
                await sends_on(f"127.0.0.1:{other.port}")(wire)

            async with scripted(inside_tls) as first:
                broker = client(first.port, ca_file=str(tmp_path / "ca.pem"), require_tls=False)
                record = Record(broker)
                failure = await fails(broker)
                assert record.of(Event.REDIRECT)
                assert failure.phase is Phase.TLS
                assert "<auth" not in "".join(heard)

    run(main)


def test_a_component_is_sent_on_as_well_and_its_link_stays_its_link() -> None:
    async def main() -> None:
        async with server() as at:

            async def script(wire: Wire) -> None:
                await wire.header()
                wire.send(stream_error(f"127.0.0.1:{at.component_port}"))
                await wire.rest()

            async with scripted(script) as first:
                broker = component(first.port, require_tls=False)
                record = Record(broker)
                async with broker:
                    assert record.one(Event.REDIRECT).detail["n"] == 1

    run(main)


def test_a_place_that_does_not_answer_ends_the_round_with_all_that_was_tried() -> None:
    async def main() -> None:
        nobody = closed_port()
        async with scripted(sends_on(f"127.0.0.1:{nobody}")) as first:
            broker = client(first.port)
            record = Record(broker)
            failure = await fails(broker)
            assert failure.phase is Phase.CONNECT
            (sent_on, why), refused = failure.tried
            assert sent_on == f"127.0.0.1:{first.port}"
            assert f"sends us on to '127.0.0.1:{nobody}' (see-other-host)" in why
            assert refused == (f"127.0.0.1:{nobody}", "connection refused")
            assert record.one(Event.PCJ_CONNECTFAIL).detail["tried"] == failure.tried

    run(main)


def test_a_server_that_sends_us_on_while_ready_is_followed_after_the_delay_of_a_reconnect() -> None:
    async def main() -> None:
        async with server() as at:

            async def script(wire: Wire) -> None:
                await wire.component()
                wire.send(stream_error(f"127.0.0.1:{at.component_port}"))
                await wire.rest()

            async with scripted(script) as first:
                broker = component(first.port, require_tls=False, auto_reconnect=True, reconnect_delay=0.01)
                record = Record(broker)
                await broker.connect()
                while len(record.of(Event.PCJ_READY)) < 2:
                    await turns()
                assert record.names[record.names.index("STREAM_ERROR") :][:7] == [
                    *("STREAM_ERROR", "NODERECEIVED", "REDIRECT", "STREAMEND", "SOCKETDISCONNECT"),
                    *("SESSION_LOST", "RECONNECT_DELAY"),
                ]
                assert first.connections == 1
                await broker.shutdown()

    run(main)


def test_without_auto_reconnect_a_session_that_was_ended_is_over_and_the_place_is_said() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()
            wire.send(stream_error("other.example:5347"))
            await wire.rest()

        async with scripted(script) as first:
            broker = component(first.port)
            record = Record(broker)
            await broker.connect()
            while broker.state is not State.IDLE:
                await turns()
            assert not record.of(Event.REDIRECT)
            assert "sends us on to 'other.example:5347'" in broker.explain()

    run(main)


def test_a_shutdown_in_the_handler_of_redirect_goes_nowhere() -> None:
    async def main() -> None:
        async with server() as at, scripted(sends_on(f"127.0.0.1:{at.client_port}")) as first:
            broker = client(first.port)
            record = Record(broker)
            tasks: list[asyncio.Task[None]] = []
            broker.subscribe(Event.REDIRECT, lambda status: tasks.append(asyncio.create_task(broker.shutdown())))
            with pytest.raises(Exception, match="shut down"):
                await broker.connect()
            await asyncio.gather(*tasks)
            assert len(record.of(Event.PCJ_CONNECTING)) <= 2
            assert not record.of(Event.PCJ_READY)

    run(main)


def test_a_place_that_was_named_before_a_shutdown_is_not_gone_to_by_the_next_connect() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()
            wire.send(stream_error("127.0.0.1:9"))
            await wire.rest()

        async with scripted(script) as first, server() as at:
            broker = component(first.port, auto_reconnect=True, reconnect_delay=60.0)
            record = Record(broker)
            await broker.connect()
            while not record.of(Event.RECONNECT_DELAY):
                await turns()
            assert record.of(Event.REDIRECT)
            await broker.shutdown()
            await broker.connect("127.0.0.1", at.component_port)
            second = record.statuses[len(record.statuses) - record.names[::-1].index("CONNECT") :]
            ports = [status.detail.get("port") for status in second if status.event == Event.PCJ_CONNECTING]
            assert ports == [at.component_port]
            await broker.shutdown()

    run(main)


def test_a_name_without_a_port_is_looked_up_like_any_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with server() as at, scripted(sends_on("other.example")) as first:
            zone = {"_xmpp-client._tcp.other.example": [f"0 0 {at.client_port} localhost."]}
            async with name_server(zone) as (address, _):
                monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
                broker = client(first.port)
                record = Record(broker)
                async with broker:
                    assert record.one(Event.RESOLVED).detail["addresses"] == [f"localhost:{at.client_port}"]
                    assert record.one(Event.REDIRECT).detail["target"] == "other.example"

    run(main)


def test_a_name_that_cannot_be_found_does_not_keep_us_from_the_servers_that_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with server(domain="montague.example") as at, scripted(sends_on("nowhere.example")) as first:
            zone = {
                "_xmpp-client._tcp.montague.example": [
                    f"0 0 {first.port} localhost.",
                    f"1 0 {at.client_port} localhost.",
                ],
                "_xmpp-client._tcp.nowhere.example": ["0 0 0 ."],
            }
            async with name_server(zone) as (address, _):
                monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
                options = {"require_tls": False, "allow_plain": True, "close_timeout": 2.0}
                broker = Broker(XMPP, "romeo@montague.example/orchard", password=SECRET, **options)
                record = Record(broker)
                async with broker:
                    assert len(record.of(Event.PCJ_CONNECTING)) == 2
                    assert record.of(Event.PCJ_CONNECTED)[-1].detail["address"] == f"127.0.0.1:{at.client_port}"

    run(main)


def test_with_max_redirects_0_nothing_is_followed_and_the_place_is_said() -> None:
    async def main() -> None:
        async with scripted(sends_on("other.example:5222")) as first:
            broker = client(first.port, max_redirects=0)
            record = Record(broker)
            failure = await fails(broker)
            assert str(failure) == (
                "the server sent us on once (other.example:5222), which is more than max_redirects allows; giving up "
                "(see-other-host)"
            )
            assert not record.of(Event.REDIRECT)
        with pytest.raises(ConfigError, match="max_redirects must not be less than 0"):
            client(5222, max_redirects=-1)

    run(main)


def test_what_is_wrong_where_a_server_sends_us_does_not_end_a_broker_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    async def web(wire: Wire) -> None:
        await wire.until("<stream:stream")
        wire.send("HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        async with scripted(web) as other, scripted(sends_on(f"127.0.0.1:{other.port}")) as first:
            failure = await fails(client(first.port))
            assert (failure.retry, failure.phase) == (Retry.SLOW, Phase.STREAM)
            assert "HTTP" in str(failure)
        async with scripted(sends_on("nosuch.invalid")) as first, name_server({}) as (address, _):
            monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
            failure = await fails(client(first.port))
            assert (failure.retry, failure.phase) == (Retry.SLOW, Phase.RESOLVE)
            assert "nosuch.invalid" in str(failure)
            assert "JID" not in str(failure)

    run(main)


@pytest.mark.parametrize(("direct_tls", "port"), [(True, 5223), (False, 5222)])
def test_an_address_without_a_port_has_the_usual_one(direct_tls: bool, port: int) -> None:
    async def main() -> None:
        config = Config(
            connection_type=XMPP, jid="romeo@example.org", password="x", host="example.org", direct_tls=direct_tls
        )
        route = Route(config, dialect_of(XMPP), None, None)
        await route.find()
        route.take()
        route.go(route.elsewhere("192.0.2.1", guarded=True))
        await route.find()
        candidate = route.take()
        assert candidate is not None
        assert (candidate.endpoint.port, candidate.endpoint.direct_tls) == (port, direct_tls)

    run(main)


def test_behind_the_place_that_a_session_was_sent_to_come_the_servers_of_before() -> None:
    async def main() -> None:
        nobody = closed_port()

        async def script(wire: Wire) -> None:
            await wire.component()
            wire.send(stream_error(f"127.0.0.1:{nobody}"))
            await wire.rest()

        async def good(wire: Wire) -> None:
            await wire.component()
            await wire.close()

        async with scripted(script, good) as first:
            broker = component(first.port, auto_reconnect=True, reconnect_delay=0.01)
            record = Record(broker)
            await broker.connect()
            while len(record.of(Event.PCJ_READY)) < 2:
                await turns()
            assert len(record.of(Event.RECONNECT_DELAY)) == 1
            assert [status.detail["outcome"] for status in record.of(Event.ATTEMPT)] == [
                *("connected", "connection refused", "connected")
            ]
            await broker.shutdown()

    run(main)


def test_to_be_sent_on_from_a_session_begins_the_count_anew() -> None:
    async def main() -> None:
        async with server() as at:

            async def ready(wire: Wire) -> None:
                await wire.component()
                wire.send(stream_error(f"127.0.0.1:{at.component_port}"))
                await wire.rest()

            async with scripted(ready) as second:

                async def before(wire: Wire) -> None:
                    await wire.header()
                    wire.send(stream_error(f"127.0.0.1:{second.port}"))
                    await wire.rest()

                async with scripted(before) as first:
                    options = {"require_tls": False, "auto_reconnect": True, "reconnect_delay": 0.01}
                    broker = component(first.port, max_redirects=1, **options)
                    record = Record(broker)
                    await broker.connect()
                    while len(record.of(Event.PCJ_READY)) < 2:
                        await turns()
                    assert [status.detail["n"] for status in record.of(Event.REDIRECT)] == [1, 1]
                    assert (first.connections, second.connections) == (1, 1)
                    await broker.shutdown()

    run(main)


def test_a_component_is_not_sent_on_within_this_machine_without_tls() -> None:
    async def main() -> None:
        heard: list[str] = []

        async def other(wire: Wire) -> None:
            await wire.header()
            heard.append(await wire.rest())

        async with scripted(other) as there:

            async def script(wire: Wire) -> None:
                await wire.header()
                wire.send(stream_error(f"127.0.0.1:{there.port}"))
                await wire.rest()

            async with scripted(script) as first:
                failure = await fails(component(first.port))
                assert failure.phase is Phase.TLS
                assert "<handshake" not in "".join(heard)

    run(main)


def test_whether_tls_comes_first_at_the_other_place_is_for_dns_to_say_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        zone = {
            "_xmpps-client._tcp.montague.example": ["0 0 5223 first.example."],
            "_xmpp-client._tcp.other.example": ["0 0 5222 second.example."],
        }
        async with name_server(zone) as (address, _):
            monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
            config = Config(connection_type=XMPP, jid="romeo@montague.example", password="x")
            route = Route(config, dialect_of(XMPP), None, None)
            await route.find()
            taken = route.take()
            assert taken is not None
            assert taken.config.direct_tls
            route.go(route.elsewhere("other.example", guarded=True))
            (found,) = await route.find()
            assert (str(found), found.direct_tls) == ("second.example:5222", False)
            taken = route.take()
            assert taken is not None
            assert not taken.config.direct_tls
            assert taken.config.require_tls

    run(main)
