"""Without a host the server is found in DNS: each server it names is tried, and the certificate is the domain's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from pcj import XMPP, Broker, ConfigError, ConnectionFailed, Event, Phase
from pcj.config import JABBERD14_COMPONENT, Config
from pcj.endpoints import find_endpoints, given_endpoint
from pcj.protocol import dialect_of
from pcj.testing import ScriptedServer, Server, ServerOptions
from pcj.transport.resolve import resolve
from tests.shell.links import Record, closed_port, run
from tests.shell.transport.nameserver import Zone, name_server

DOMAIN = "montague.example"
PLAIN = f"_xmpp-client._tcp.{DOMAIN}"
DIRECT = f"_xmpps-client._tcp.{DOMAIN}"


@asynccontextmanager
async def served(monkeypatch: pytest.MonkeyPatch, zone: Zone) -> AsyncIterator[None]:
    """A name server that knows `zone` in place of the system's."""
    async with name_server(zone) as (address, _):
        monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
        yield


@asynccontextmanager
async def server(**options: Any) -> AsyncIterator[Server]:
    """The domain's server."""
    made = Server(domain=DOMAIN, accounts={"romeo": "secret"}, options=ServerOptions(**options))
    async with made:
        yield made


def romeo(at: Server, **options: Any) -> Broker:
    """An account of the domain, with no host."""
    return Broker(XMPP, f"romeo@{DOMAIN}", password="secret", ca_file=at.ca_file, **options)


def test_the_server_is_found_by_its_srv_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with server() as at, served(monkeypatch, {PLAIN: [f"0 0 {at.client_port} localhost."]}):
            broker = romeo(at)
            record = Record(broker)
            await broker.connect()
            assert record.one(Event.RESOLVED).detail["addresses"] == [f"localhost:{at.client_port}"]
            # What DNS said is no reason to trust another name (RFC 6120 13.7.2).
            assert record.one(Event.PCJ_SSLSUCCESS).detail["name"] == DOMAIN
            await broker.shutdown()
            record.check()

    run(main)


def test_direct_tls_is_used_where_its_record_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with server() as at:
            zone: Zone = {
                DIRECT: [f"0 0 {at.direct_tls_port} localhost."],
                PLAIN: [f"1 0 {at.client_port} localhost."],
            }
            async with served(monkeypatch, zone), romeo(at) as broker:
                assert broker.sid
                record = Record(broker)
                await broker.reconnect()
                names = record.names
                assert names.index("SSLSUCCESS") < names.index("STREAMSTART")
                assert names.count("STREAMSTART") == 2

    run(main)


def test_a_server_that_refuses_is_passed_over_within_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with server() as at:
            zone: Zone = {PLAIN: [f"0 0 {closed_port()} localhost.", f"1 0 {at.client_port} localhost."]}
            async with served(monkeypatch, zone):
                broker = romeo(at)
                record = Record(broker)
                await broker.connect()
                assert record.names.count("CONNECTING") == 1
                assert "CONNECTFAIL" not in record.names
                outcomes = [
                    str(status.detail["outcome"]) for status in record.statuses if status.event == Event.ATTEMPT
                ]
                assert outcomes[-1] == "connected"
                assert len(outcomes) >= 2
                await broker.shutdown()
                record.check()

    run(main)


def test_a_server_that_is_silent_ends_its_attempt_and_the_next_one_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with server() as at, ScriptedServer(silence) as mute:
            zone: Zone = {PLAIN: [f"0 0 {mute.port} localhost.", f"1 0 {at.client_port} localhost."]}
            async with served(monkeypatch, zone):
                broker = romeo(at, stream_timeout=0.3)
                record = Record(broker)
                await broker.connect()
                assert [name for name in record.names if name.startswith(("CONNECT", "SOCKET", "SHUTDOWN"))] == [
                    "CONNECT",
                    "CONNECTING",
                    "CONNECTED",
                    "SOCKETDISCONNECT",
                    "CONNECTING",
                    "CONNECTED",
                ]
                await broker.shutdown()
                record.check()

    run(main)


def test_when_all_refuse_the_failure_names_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        ports = [closed_port(), closed_port()]
        zone: Zone = {PLAIN: [f"{rank} 0 {port} localhost." for rank, port in enumerate(ports)]}
        async with server() as at, served(monkeypatch, zone):
            broker = romeo(at)
            record = Record(broker)
            with pytest.raises(ConnectionFailed) as caught:
                await broker.connect()
            assert all(str(port) in str(caught.value) for port in ports)
            assert caught.value.failure.phase is Phase.CONNECT
            assert record.names.count("CONNECTFAIL") == 1
            record.check()

    run(main)


def test_a_domain_that_says_it_has_no_xmpp_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        zone: Zone = {PLAIN: ["0 0 0 ."], DIRECT: ["0 0 0 ."]}
        async with server() as at, served(monkeypatch, zone):
            broker = romeo(at)
            record = Record(broker)
            with pytest.raises(ConnectionFailed, match="offers no XMPP") as caught:
                await broker.connect()
            assert caught.value.failure.phase is Phase.RESOLVE
            assert record.names == ["CONNECT", "CONNECTING", "CONNECTFAIL"]

    run(main)


def test_a_fatal_failure_is_not_repeated_at_the_next_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with server() as at:
            zone: Zone = {PLAIN: [f"{rank} 0 {at.client_port} localhost." for rank in range(3)]}
            async with served(monkeypatch, zone):
                broker = Broker(XMPP, f"romeo@{DOMAIN}", password="wrong", ca_file=at.ca_file)
                record = Record(broker)
                with pytest.raises(ConnectionFailed, match="not-authorized"):
                    await broker.connect()
                assert record.names.count("CONNECTING") == 1

    run(main)


@pytest.mark.parametrize(
    ("kind", "jid", "options", "call", "expected"),
    [
        (XMPP, "romeo@example.org", {}, (None, None), None),
        (XMPP, "romeo@example.org", {"host": "a.example"}, (None, None), "a.example:5222"),
        (XMPP, "romeo@example.org", {"port": 5555}, (None, None), "example.org:5555"),
        (XMPP, "romeo@example.org", {"host": "a.example"}, ("b.example", 1), "b.example:1"),
        (XMPP, "romeo@bücher.example", {"port": 5555}, (None, None), "xn--bcher-kva.example:5555"),
        (JABBERD14_COMPONENT, "comp.example.org", {}, (None, None), "localhost:5347"),
        (JABBERD14_COMPONENT, "comp.example.org", {"port": 5555}, (None, None), "localhost:5555"),
    ],
)
def test_what_is_given_is_where_it_connects(
    kind: str, jid: str, options: dict[str, Any], call: tuple[str | None, int | None], expected: str | None
) -> None:
    config = Config(connection_type=kind, jid=jid, password="x", **options)
    endpoint = given_endpoint(config, dialect_of(kind), *call)
    assert (None if endpoint is None else str(endpoint)) == expected


WRONG: list[tuple[Any, Any, str]] = [
    ("a.example", 0, "port must be between 1 and 65535, not 0"),
    ("a.example", -1, "port must be between 1 and 65535, not -1"),
    ("a.example", 65536 + 5222, "port must be between 1 and 65535, not 70758"),
    (None, 99999, "port must be between 1 and 65535, not 99999"),
    ("a.example", "5222", "port must be a whole number, not str"),
    ("a.example", True, "port must be a whole number, not bool"),
    (b"a.example", 5222, "host must be a str, not bytes"),
    ("", 5222, "host must be a name or an address, not ''"),
    ("a b", 5222, "host must be a name or an address, not 'a b'"),
    ("a\0b", 5222, "host must be a name or an address, not 'a\\x00b'"),
    ("/run/a\0b", 5222, "host must be a name or an address, not '/run/a\\x00b'"),
    ("/run/a\nb", None, "host must be a name or an address, not '/run/a\\nb'"),
]


@pytest.mark.parametrize(("host", "port", "message"), WRONG, ids=[f"{host!r} {port!r}" for host, port, _ in WRONG])
def test_a_call_is_held_to_the_rules_of_the_options(host: Any, port: Any, message: str) -> None:
    given: dict[str, Any] = {"connection_type": XMPP, "jid": "romeo@example.org", "password": "x"}
    with pytest.raises(ConfigError) as caught:
        given_endpoint(Config(**given), dialect_of(XMPP), host, port)
    assert str(caught.value) == message
    with pytest.raises(ConfigError) as caught:
        Config(**given, host=host, port=port)
    assert str(caught.value) == message


def test_the_path_of_a_socket_may_hold_blanks() -> None:
    config = Config(connection_type=XMPP, jid="romeo@example.org", password="x", host="/run/my server/xmpp")
    endpoint = given_endpoint(config, dialect_of(XMPP), "/run/our server/xmpp", None)
    assert str(endpoint) == "/run/our server/xmpp"


def test_a_call_that_cannot_be_used_is_refused_before_anything_happens() -> None:
    async def main() -> None:
        broker = Broker(JABBERD14_COMPONENT, "echo.example.org", password="x")
        record = Record(broker)
        for call in (broker.connect, broker.reconnect):
            with pytest.raises(ConfigError, match="port must be between"):
                await call("localhost", 65536)
        assert record.names == []

    run(main)


@pytest.mark.parametrize("kind", [XMPP, JABBERD14_COMPONENT])
def test_direct_tls_has_a_port_of_its_own_for_clients(kind: str) -> None:
    jid = "romeo@example.org" if kind == XMPP else "comp.example.org"
    config = Config(connection_type=kind, jid=jid, password="x", host="a.example", direct_tls=True)
    endpoint = given_endpoint(config, dialect_of(kind), None, None)
    assert endpoint is not None
    assert (endpoint.port, endpoint.direct_tls) == (5223 if kind == XMPP else 5347, True)


def test_direct_tls_takes_only_the_servers_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(zone: Zone) -> list[str]:
        config = Config(connection_type=XMPP, jid=f"romeo@{DOMAIN}", password="x", direct_tls=True)
        async with served(monkeypatch, zone):
            return [f"{endpoint} {endpoint.direct_tls}" for endpoint in await find_endpoints(config, dialect_of(XMPP))]

    async def main() -> None:
        assert await found({PLAIN: ["0 0 1 a.example."], DIRECT: ["1 0 2 b.example."]}) == ["b.example:2 True"]
        assert await found({}) == [f"{DOMAIN}:5223 True"]
        with pytest.raises(ConnectionFailed, match="_xmpps-client"):
            await found({PLAIN: ["0 0 1 a.example."]})

    run(main)
