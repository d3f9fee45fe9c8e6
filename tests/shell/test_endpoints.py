"""Without a host the server is found in DNS: each server it names is tried, and the certificate is the domain's."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from pcj import XMPP, Broker, ConfigError, ConnectionFailed, Event, Phase, Retry
from pcj.config import JABBERD14_COMPONENT, LEGACY, Config
from pcj.endpoints import find_endpoints, given_endpoint
from pcj.protocol import dialect_of
from pcj.testing import ScriptedServer, Server, ServerOptions, certificates
from pcj.transport.resolve import resolve
from pcj.transport.tls_context import make_context
from tests.shell.links import Record, Wire, closed_port, run, scripted
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


def test_a_password_that_was_refused_is_shown_to_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with server() as at, ScriptedServer(hear) as other:
            zone: Zone = {PLAIN: [f"0 0 {at.client_port} localhost.", f"1 0 {other.port} localhost."]}
            async with served(monkeypatch, zone):
                broker = Broker(
                    XMPP, f"romeo@{DOMAIN}", password="wrong", ca_file=at.ca_file, stream_timeout=0.3, tls_timeout=0.3
                )
                record = Record(broker)
                with pytest.raises(ConnectionFailed, match="not-authorized"):
                    await broker.connect()
                assert len(record.one(Event.RESOLVED).detail["addresses"]) == 2  # type: ignore[arg-type]
                assert record.names.count("CONNECTING") == 1
                assert other.connections == 0

    run(main)


def test_dns_that_points_to_this_machine_does_not_take_tls_away(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    async def thief(wire: Wire) -> None:
        await wire.header("jabber:client")
        heard.append(await wire.rest())

    async def main() -> None:
        async with scripted(thief) as at, served(monkeypatch, {PLAIN: [f"0 0 {at.port} localhost."]}):
            broker = Broker(LEGACY, f"romeo@{DOMAIN}/x", password="hunter2-secret", plaintext=True)
            with pytest.raises(ConnectionFailed) as caught:
                await broker.connect()
            assert caught.value.failure.phase is Phase.TLS
        assert "jabber:iq:auth" not in "".join(heard)

    run(main)


# ---- names beyond ASCII


IDN, IDN_ASCII = "bücher.example", "xn--bcher-kva.example"


@pytest.mark.parametrize("domain", [IDN, "BÜCHER.example", IDN_ASCII])
@pytest.mark.parametrize("direct", [False, True])
def test_an_internationalised_domain_is_reached_from_dns_to_ready(
    monkeypatch: pytest.MonkeyPatch, domain: str, direct: bool
) -> None:
    async def main() -> None:
        async with Server(domain=IDN, accounts={"romeo": "secret"}) as at:
            port = at.direct_tls_port if direct else at.client_port
            zone: Zone = {f"_xmpp{'s' if direct else ''}-client._tcp.{IDN_ASCII}": [f"0 0 {port} localhost."]}
            async with name_server(zone) as (address, asked):
                monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
                broker = Broker(XMPP, f"romeo@{domain}", password="secret", ca_file=at.ca_file)
                record = Record(broker)
                await broker.connect()
                assert sorted(asked) == [f"_xmpp-client._tcp.{IDN_ASCII}", f"_xmpps-client._tcp.{IDN_ASCII}"]
                # Certificates have A-labels (RFC 9525 6.3), streams and addresses U-labels (RFC 7622 3.2).
                secured = record.one(Event.PCJ_SSLSUCCESS).detail
                assert (secured["name"], secured["verified"]) == (IDN_ASCII, True)
                header = record.of(Event.PCJ_STREAMSTART)[0].node
                assert header is not None
                assert header.get("to") == IDN
                assert broker.jid.startswith(f"romeo@{IDN}/")
                await broker.shutdown()
                record.check()

    run(main)


def test_an_internationalised_domain_is_not_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        options = ServerOptions(certificate_names=("bucher.example", "localhost"))
        async with Server(domain=IDN, accounts={"romeo": "secret"}, options=options) as at:
            zone: Zone = {f"_xmpp-client._tcp.{IDN_ASCII}": [f"0 0 {at.client_port} localhost."]}
            async with served(monkeypatch, zone):
                broker = Broker(XMPP, f"romeo@{IDN}", password="secret", ca_file=at.ca_file)
                with pytest.raises(ConnectionFailed, match=rf"not for {IDN} \({IDN_ASCII}\)") as caught:
                    await broker.connect()
                assert caught.value.failure.phase is Phase.TLS

    run(main)


def test_what_fails_for_an_internationalised_domain_names_it_as_the_user_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with served(monkeypatch, {f"_xmpp-client._tcp.{IDN_ASCII}": ["0 0 0 ."]}):
            broker = Broker(XMPP, f"romeo@{IDN}", password="secret")
            with pytest.raises(ConnectionFailed, match=rf"^{IDN} \({IDN_ASCII}\) says in DNS"):
                await broker.connect()
        endpoint = given_endpoint(
            Config(connection_type=XMPP, jid=f"romeo@{IDN}", password="x", port=5555), dialect_of(XMPP), None, None
        )
        assert endpoint is not None
        assert endpoint.at("192.0.2.7:5555") == f"{IDN} ({IDN_ASCII}, 192.0.2.7, port 5555)"

    run(main)


def test_an_outage_of_dns_is_not_taken_for_a_domain_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    # With direct_tls too, where the port of the domain itself is another.
    async def nobody(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nobody, raising=False)
        async with served(monkeypatch, {PLAIN: "SERVFAIL", DIRECT: "SERVFAIL"}):
            for direct_tls in (False, True):
                broker = Broker(XMPP, f"romeo@{DOMAIN}", password="secret", direct_tls=direct_tls)
                with pytest.raises(ConnectionFailed, match="could not answer what it was asked") as caught:
                    await broker.connect()
                assert caught.value.failure.retry is Retry.FAST

    run(main)


def test_what_cannot_be_tried_at_all_is_told_of_when_the_others_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        ports = [closed_port(), closed_port()]
        records = ["0 0 5222 10.0.0.1.", *(f"{rank} 0 {port} localhost." for rank, port in enumerate(ports))]
        async with served(monkeypatch, {PLAIN: records}):
            broker = Broker(XMPP, f"romeo@{DOMAIN}", password="secret")
            with pytest.raises(ConnectionFailed) as caught:
                await broker.connect()
            failure = caught.value.failure
            assert ("'10.0.0.1'", "is an address, not a name") in failure.tried
            assert failure.message.endswith(
                "; DNS also names what cannot be used: '10.0.0.1' is an address, not a name."
            )
            assert failure.message.startswith("none of 2 servers could be reached: ")
            assert ".;" not in failure.message + broker.explain()

    run(main)


# ---- direct TLS (XEP-0368)


def test_direct_tls_names_the_protocol_and_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    hello: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.append(await reader.read(65536))

    async def main() -> None:
        async with ScriptedServer(hear) as at, served(monkeypatch, {DIRECT: [f"0 0 {at.port} localhost."]}):
            broker = Broker(XMPP, f"romeo@{DOMAIN}", password="secret", auto_reconnect=False)
            with pytest.raises(ConnectionFailed):
                await broker.connect()
        # RFC 7301 3.1: the list of names, each behind its length; RFC 6066 3: the server's name behind its length.
        assert b"\x00\x0c\x0bxmpp-client" in hello[0]
        assert len(DOMAIN).to_bytes(2, "big") + DOMAIN.encode() in hello[0]

    run(main)


def server_that_selects(monkeypatch: pytest.MonkeyPatch, *protocols: str) -> None:
    """Make the embedded server know these application protocols only."""
    make = certificates.make_certificate

    def made(*arguments: Any) -> ssl.SSLContext:
        context = make(*arguments)
        context.set_alpn_protocols(list(protocols))
        return context

    monkeypatch.setattr("pcj.testing.server.make_certificate", made)


def test_a_server_that_knows_of_no_application_protocol_is_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    server_that_selects(monkeypatch)

    async def main() -> None:
        async with server() as at:
            zone: Zone = {DIRECT: [f"0 0 {at.direct_tls_port} localhost."]}
            async with served(monkeypatch, zone), romeo(at) as broker:
                assert broker.sid

    run(main)


def test_a_server_that_selects_another_application_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server_that_selects(monkeypatch, "h2")

    def careless(**options: Any) -> Any:
        # A server of the standard library selects only what was offered: so this is, but not by the rules.
        context = make_context(**options)
        context.set_alpn_protocols(["xmpp-client", "h2"])
        return context

    monkeypatch.setattr("pcj.transport.wire.make_context", careless)

    async def main() -> None:
        async with server() as at, served(monkeypatch, {DIRECT: [f"0 0 {at.direct_tls_port} localhost."]}):
            broker = romeo(at)
            record = Record(broker)
            with pytest.raises(ConnectionFailed, match="'h2'") as caught:
                await broker.connect()
            assert caught.value.failure.phase is Phase.TLS
            assert "SSLFAIL" in record.names
            assert "STREAMSTART" not in record.names, "not a byte of ours for another service"

    run(main)


def test_a_record_for_direct_tls_that_leads_to_a_port_without_it_leads_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with server() as at:
            zone: Zone = {DIRECT: [f"0 0 {at.client_port} localhost."], PLAIN: [f"1 0 {at.client_port} localhost."]}
            async with served(monkeypatch, zone), romeo(at) as broker:
                assert broker.sid

    run(main)


def test_what_is_no_xmpp_at_all_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b">")
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        async with server() as at, ScriptedServer(web) as other:
            zone: Zone = {PLAIN: [f"0 0 {other.port} localhost.", f"1 0 {at.client_port} localhost."]}
            async with served(monkeypatch, zone), romeo(at) as broker:
                assert broker.sid
                assert other.connections == 1

    run(main)


# ---- what is given


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
