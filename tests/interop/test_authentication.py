"""Every way to log in that real servers have, and what comes of it where somebody tampers with their offers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from pcj import XMPP, Broker, Event, Phase, Retry
from pcj.protocol import Negotiator
from pcj.protocol.actions import Action
from tests.interop.links import jabberd14, jabberd20, let_go, links, ready, run, settle, xmpp
from tests.interop.servers import Ejabberd, Prosody, RealServer, Workspace
from tests.interop.servers.clients import ClientAuthority

EXPORTER, END_POINT, UNIQUE = "tls-exporter", "tls-server-end-point", "tls-unique"
ENGINES = ("openssl", "ssl")


@dataclass(frozen=True)
class Way:
    """A log-in at a server's host, and what is used of all that both sides can do.

    Attributes:
        server: the fixture. host: below its domain, or "". port: the name of the attribute. mechanism, binding, tls: as
            AUTHSUCCESS and SSLSUCCESS tell. options: the broker's.
    """

    server: str
    mechanism: str
    binding: str = ""
    host: str = ""
    port: str = "c2s_port"
    tls: str = "TLSv1.3"
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = "-".join(str(value) for value in self.options.values())
        return "-".join(
            filter(None, (self.server, self.host, self.port.removesuffix("c2s_port"), options, self.binding))
        )

    def broker(self, server: RealServer, **options: Any) -> Broker:
        name, _ = server.accounts[0]
        jid = f"{name}@{_below(server, self.host)}/orchard"
        return xmpp(server, jid=jid, port=getattr(server, self.port), **{**self.options, **options})


def _below(server: RealServer, host: str) -> str:
    return f"{host}.{server.domain}" if host else server.domain


_OPENSSL, _SSL, _OFF = {"tls_engine": "openssl"}, {"tls_engine": "ssl"}, {"channel_binding": "off"}
_TLS12 = "TLSv1.2"

WAYS = [
    # As they come: SCRAM-SHA-1, bound to the TLS session.
    Way("prosody", "SCRAM-SHA-1-PLUS", EXPORTER, options=_OPENSSL),
    Way("ejabberd", "SCRAM-SHA-1-PLUS", EXPORTER, options=_OPENSSL),
    Way("ejabberd", "SCRAM-SHA-1-PLUS", END_POINT, options=_SSL),
    Way("prosody", "SCRAM-SHA-1-PLUS", END_POINT, host="endpoint", options=_SSL),
    Way("prosody", "SCRAM-SHA-1-PLUS", EXPORTER, host="endpoint", options=_OPENSSL),
    Way("prosody", "SCRAM-SHA-1", options=_OFF),
    Way("ejabberd", "SCRAM-SHA-1", options=_OFF),
    # With a hash of the mechanisms (XEP-0474), bound and unbound.
    Way("prosody", "SCRAM-SHA-1-PLUS", EXPORTER, host="downgrade", options=_OPENSSL),
    Way("prosody", "SCRAM-SHA-1", host="downgrade", options=_OPENSSL | _OFF),
    # Below TLS 1.3. Prosody has no tls-exporter there.
    Way("prosody", "SCRAM-SHA-1-PLUS", UNIQUE, host="tls12", tls=_TLS12, options=_OPENSSL),
    Way("prosody", "SCRAM-SHA-1-PLUS", UNIQUE, host="tls12", tls=_TLS12, options=_SSL),
    Way("ejabberd", "SCRAM-SHA-1-PLUS", EXPORTER, port="tls12_port", tls=_TLS12, options=_OPENSSL),
    Way("ejabberd", "SCRAM-SHA-1-PLUS", UNIQUE, port="tls12_port", tls=_TLS12, options=_SSL),
    # The other hashes.
    Way("ejabberd", "SCRAM-SHA-256-PLUS", EXPORTER, host="sha256", options=_OPENSSL),
    Way("ejabberd", "SCRAM-SHA-256-PLUS", END_POINT, host="sha256", options=_SSL),
    Way("ejabberd", "SCRAM-SHA-256", host="sha256", options=_OFF),
    Way("ejabberd", "SCRAM-SHA-512-PLUS", EXPORTER, host="sha512", options=_OPENSSL),
    Way("ejabberd", "SCRAM-SHA-512-PLUS", END_POINT, host="sha512", options=_SSL),
    Way("ejabberd", "SCRAM-SHA-512", host="sha512", options=_OFF),
    # What needs the password itself at the server; and what shows it, where that is all the user allows.
    Way("ejabberd_plain", "DIGEST-MD5", options={"sasl_mechanisms": ("DIGEST-MD5",)}),
    Way("prosody", "PLAIN", options={"sasl_mechanisms": ("PLAIN",)}),
    Way("ejabberd", "PLAIN", options={"sasl_mechanisms": ("PLAIN",)}),
    Way("jabberd2", "DIGEST-MD5", options=_OPENSSL),
    Way("jabberd2", "DIGEST-MD5", options=_SSL),
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_best_that_both_sides_can_do_is_used(way: Way, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(way.server)

    async def scenario() -> None:
        async with ready(way.broker(server)) as (link,):
            (tls,), (authenticated,) = link.all(Event.PCJ_SSLSUCCESS), link.all(Event.PCJ_AUTHSUCCESS)
            assert (tls.detail["version"], tls.detail["verified"]) == (way.tls, True)
            assert authenticated.detail["mechanism"] == way.mechanism
            assert authenticated.detail.get("binding", "") == way.binding
            assert link.all(Event.WARNING, Event.AUTHRETRY) == []
            assert link.jid == f"{server.accounts[0][0]}@{_below(server, way.host)}/orchard"
            await settle(link)

    run(scenario())


def test_without_a_binding_in_common_it_logs_in_with_a_warning(prosody: Prosody) -> None:
    # Prosody has tls-exporter alone, Python's ssl has not: no "y", which would be taken for an attack (XEP-0440).
    async def scenario() -> None:
        async with ready(xmpp(prosody, tls_engine="ssl")) as (link,):
            (authenticated,) = link.all(Event.PCJ_AUTHSUCCESS)
            assert authenticated.detail["mechanism"] == "SCRAM-SHA-1"
            (warning,) = link.all(Event.WARNING)
            assert "not bound to the TLS session" in str(warning.detail["what"])
            assert "pcj[binding]" in str(warning.detail["what"])

    run(scenario())


def test_without_a_binding_in_common_it_fails_where_one_is_required(prosody: Prosody) -> None:
    async def scenario() -> None:
        async with links(xmpp(prosody, tls_engine="ssl", channel_binding="require")) as (link,):
            failure = await link.fails()
            assert (failure.phase, failure.retry) == (Phase.AUTHENTICATE, Retry.FATAL)
            assert "for which the server can use tls-exporter and we tls-server-end-point" in failure.message
            assert "pcj[binding]" in failure.message
            assert link.all(Event.PCJ_AUTHNEGOTIATE) == []

    run(scenario())


# ---- offers that were tampered with


@dataclass
class Tampering:
    """Alters what a server says, inside TLS, before pcj sees it: what somebody between could do with a false key.

    Attributes:
        wanted: how often each replacement has to be made. heard: what came, unaltered.
    """

    replacements: tuple[tuple[bytes, bytes], ...]
    heard: bytes = b""
    made: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = Negotiator.receive_data

        def receive_data(negotiator: Negotiator, data: bytes, now: float) -> list[Action]:
            self.heard += data
            for pattern, replacement in self.replacements:
                data, count = re.subn(pattern, replacement, data)
                self.made += count
            return original(negotiator, data, now)

        monkeypatch.setattr(Negotiator, "receive_data", receive_data)

    @property
    def server_first(self) -> str:
        """The first message of SCRAM."""
        found = re.search(rb"<challenge[^>]*>([^<]+)</challenge>", self.heard)
        assert found is not None, "there was no SCRAM"
        return base64.b64decode(found[1]).decode()


_NO_PLUS = (rb"<mechanism>SCRAM-SHA-1-PLUS</mechanism>", b"")
_NO_PLAIN = (rb"<mechanism>PLAIN</mechanism>", b"")
_NO_TYPES = (rb"<sasl-channel-binding.*?</sasl-channel-binding>", b"")
_OTHER_TYPE = (rb"tls-exporter", b"tls-x-exporter")

# Where a server vouches for its list, in SCRAM itself (XEP-0474).
_VOUCHING = [("prosody", "downgrade"), ("ejabberd", "")]


@pytest.mark.parametrize(("name", "host"), _VOUCHING)
def test_the_server_vouches_for_what_it_offers(
    name: str, host: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Tampering(())
    heard.install(monkeypatch)
    server = request.getfixturevalue(name)

    async def scenario() -> None:
        async with ready(Way(name, "", host=host).broker(server)) as (link,):
            await settle(link)

    run(scenario())
    assert re.search(r",h=[A-Za-z0-9+/]{27}=", heard.server_first)


@pytest.mark.parametrize(("name", "host"), _VOUCHING)
@pytest.mark.parametrize("replacement", [_NO_PLAIN, _OTHER_TYPE], ids=["a mechanism", "a type of binding"])
def test_an_altered_list_is_noticed_where_the_server_vouches_for_it(
    name: str,
    host: str,
    replacement: tuple[bytes, bytes],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tampering = Tampering((replacement,))
    tampering.install(monkeypatch)
    server = request.getfixturevalue(name)

    async def scenario() -> None:
        async with links(Way(name, "", host=host, options=_SSL).broker(server)) as (link,):
            failure = await link.fails()
            assert failure.phase is Phase.AUTHENTICATE
            assert "list" in failure.message
            assert "XEP-0474" in failure.message
            assert link.all(Event.PCJ_AUTHSUCCESS) == []

    run(scenario())
    assert tampering.made


@pytest.mark.parametrize("name", ["prosody", "ejabberd"])
def test_mechanisms_with_binding_that_were_taken_out_are_noticed(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = request.getfixturevalue(name)

    async def scenario() -> None:
        # Their types are still there: we notice, and nothing of ours goes out.
        with monkeypatch.context() as patched:
            Tampering((_NO_PLUS,)).install(patched)
            async with links(xmpp(server)) as (link,):
                failure = await link.fails()
                assert "XEP-0440" in failure.message
                assert link.all(Event.PCJ_AUTHNEGOTIATE) == []
        # All is gone: we say "y", that we could bind and that it could not (RFC 5802 6), and the server knows better;
        # ejabberd's hash of its offers tells us so before that (XEP-0474).
        with monkeypatch.context() as patched:
            tampering = Tampering((_NO_PLUS, _NO_TYPES))
            tampering.install(patched)
            async with links(xmpp(server)) as (link,):
                failure = await link.fails()
                assert failure.phase is Phase.AUTHENTICATE
                assert failure.condition == "malformed-request" or "XEP-0474" in failure.message
                assert [status.detail["mechanism"] for status in link.all(Event.PCJ_AUTHNEGOTIATE)] == ["SCRAM-SHA-1"]
            assert tampering.made >= 2

    run(scenario())


# ---- SASL EXTERNAL: a certificate of our own

#: Each server with EXTERNAL: the fixture, the host below its domain, and the port.
_EXTERNAL = [("prosody", "certificate", "c2s_port"), ("ejabberd", "", "certificate_port")]
external = pytest.mark.parametrize(("name", "host", "port"), _EXTERNAL, ids=["prosody", "ejabberd"])


@external
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("alone", [True, False], ids=["one address", "two addresses"])
def test_a_certificate_with_our_address_logs_us_in(
    name: str,
    host: str,
    port: str,
    engine: str,
    alone: bool,
    request: pytest.FixtureRequest,
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    server = request.getfixturevalue(name)
    domain = _below(server, host)
    # Of two it has to be said which (XEP-0178 2); the other comes first.
    addresses = [f"test01@{domain}"] if alone else [f"test02@{domain}", f"test01@{domain}"]
    mine = workspace.clients.issue(tmp_path / "mine.pem", *addresses)

    async def scenario() -> None:
        broker = Way(name, "", host=host, port=port).broker(
            server, password=None, client_certificate=str(mine), tls_engine=engine
        )
        async with ready(broker) as (link,):
            assert [status.detail["mechanism"] for status in link.all(Event.PCJ_AUTHSUCCESS)] == ["EXTERNAL"]
            assert link.jid == f"test01@{domain}/orchard"
            await settle(link)

    run(scenario())


@external
@pytest.mark.parametrize("engine", ENGINES)
def test_a_certificate_of_another_authority_is_refused(
    name: str, host: str, port: str, engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server = request.getfixturevalue(name)
    theirs = ClientAuthority("another").issue(tmp_path / "theirs.pem", f"test01@{_below(server, host)}")

    async def scenario() -> None:
        broker = Way(name, "", host=host, port=port).broker(
            server, password=None, client_certificate=str(theirs), tls_engine=engine
        )
        async with links(broker) as (link,):
            failure = await link.fails()
            if name == "ejabberd":
                assert (failure.phase, failure.condition) == (Phase.AUTHENTICATE, "not-authorized")
                assert "certificate" in failure.text
            else:
                # Prosody ends TLS. With 1.3 our side is through by then (RFC 8446 4.4.2.4): its alert may be lost where
                # our first words meet a socket that is closed.
                assert failure.phase in (Phase.TLS, Phase.STREAM)
                assert "certificate" in failure.message or failure.came == "Connection reset by peer"
            assert link.all(Event.PCJ_AUTHSUCCESS) == []

    run(scenario())


@external
def test_a_certificate_for_somebody_else_is_refused(
    name: str, host: str, port: str, request: pytest.FixtureRequest, workspace: Workspace, tmp_path: Path
) -> None:
    server = request.getfixturevalue(name)
    theirs = workspace.clients.issue(tmp_path / "theirs.pem", f"test02@{_below(server, host)}")

    async def scenario() -> None:
        broker = Way(name, "", host=host, port=port).broker(server, password=None, client_certificate=str(theirs))
        async with links(broker) as (link,):
            failure = await link.fails()
            assert (failure.phase, failure.retry) == (Phase.AUTHENTICATE, Retry.FATAL)
            assert failure.condition in ("not-authorized", "invalid-authzid")

    run(scenario())


def test_without_a_certificate_external_is_not_chosen(prosody: Prosody, ejabberd: Ejabberd) -> None:
    async def scenario() -> None:
        # Prosody's host has nothing else.
        async with links(Way("prosody", "", host="certificate").broker(prosody)) as (link,):
            failure = await link.fails()
            assert "EXTERNAL needs TLS and a client_certificate" in failure.message
            assert link.all(Event.PCJ_AUTHNEGOTIATE) == []
        async with ready(Way("ejabberd", "", port="certificate_port").broker(ejabberd)) as (link,):
            assert [it.detail["mechanism"] for it in link.all(Event.PCJ_AUTHSUCCESS)] == ["SCRAM-SHA-1-PLUS"]

    run(scenario())


# ---- SASL ANONYMOUS


@pytest.mark.parametrize("name", ["prosody", "ejabberd"])
def test_an_anonymous_link_is_called_what_the_server_says(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)
    domain = _below(server, "anonymous")

    async def scenario() -> None:
        options = {"host": server.host, "port": server.c2s_port, "ca_file": str(server.ca_file)}
        first = Broker(XMPP, domain, sasl_mechanisms=("ANONYMOUS",), **options)
        second = Broker(XMPP, domain, sasl_mechanisms=("ANONYMOUS",), **options)
        assert first.jid == domain
        async with ready(first, second) as both:
            for link in both:
                assert [it.detail["mechanism"] for it in link.all(Event.PCJ_AUTHSUCCESS)] == ["ANONYMOUS"]
                assert link.jid.partition("/")[0].partition("@")[2] == domain
                assert [it.detail["given"] for it in link.all(Event.JID_CHANGED)] == [link.jid]
                await settle(link)
            assert both[0].jid.partition("@")[0] != both[1].jid.partition("@")[0]

    run(scenario())


# ---- passwords


@pytest.mark.parametrize("name", ["prosody", "ejabberd", "jabberd2"])
def test_a_function_supplies_the_password_anew_for_each_connection(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)
    asked = []

    def from_a_vault() -> str:
        asked.append(name)
        return str(server.accounts[0][1])

    async def scenario() -> None:
        async with ready(xmpp(server, password=from_a_vault)) as (link,):
            await settle(link)
            await link.broker.shutdown()
            await let_go(link)  # jabberd2 mistakes who comes at once for who left
            await link.broker.connect()
            await settle(link)

    run(scenario())
    assert asked == [name] * 2


@pytest.mark.parametrize("name", ["prosody", "ejabberd"])
def test_a_reconnect_costs_no_second_pbkdf2(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)

    async def scenario() -> None:
        with patch("hashlib.pbkdf2_hmac", wraps=hashlib.pbkdf2_hmac) as computed:
            async with ready(xmpp(server)) as (link,):
                for _ in range(2):
                    await settle(link)
                    await link.broker.reconnect()
                assert len(link.all(Event.PCJ_AUTHSUCCESS)) == 3
            assert computed.call_count == 1

    run(scenario())


# ---- components inside TLS


@asynccontextmanager
async def in_front_of(server: RealServer) -> AsyncIterator[int]:
    """A listener that takes TLS off, before a server's port for components, which does without; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.workspace.key_and_certificate)
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(reader: StreamReader, writer: StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(server.host, server.component_port)
        for ends in ((reader, inner_writer), (inner_reader, writer)):
            tasks.add(asyncio.create_task(pass_on(*ends)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context) as listener:
        yield listener.sockets[0].getsockname()[1]
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["prosody", "ejabberd", "jabberd2"])
def test_a_component_reaches_its_server_through_a_listener_that_takes_tls_off(
    name: str, engine: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(name)

    async def scenario() -> None:
        async with in_front_of(server) as port:
            broker = _secure_component(server, port, tls_engine=engine)
            async with ready(broker) as (link,):
                assert [status.detail["verified"] for status in link.all(Event.PCJ_SSLSUCCESS)] == [True]
                assert link.all(Event.WARNING) == []
                await settle(link)

    run(scenario())


def test_a_component_reaches_ejabberd_inside_its_own_tls(ejabberd: Ejabberd) -> None:
    async def scenario() -> None:
        async with ready(_secure_component(ejabberd, ejabberd.component_tls_port)) as (link,):
            await settle(link)
            assert [status.detail["name"] for status in link.all(Event.PCJ_SSLSUCCESS)] == ["localhost"]

    run(scenario())


def test_a_component_gives_nothing_to_a_listener_of_another_name(ejabberd: Ejabberd) -> None:
    async def scenario() -> None:
        broker = _secure_component(ejabberd, ejabberd.component_tls_port, tls_name="router.example.org")
        async with links(broker) as (link,):
            failure = await link.fails()
            assert failure.phase is Phase.TLS
            assert "router.example.org" in failure.message
            assert link.all(Event.PCJ_STREAMSTART) == []

    run(scenario())


def _secure_component(server: RealServer, port: int, **options: Any) -> Broker:
    usual = {"port": port, "direct_tls": True, "ca_file": str(server.ca_file), "tls_name": server.domain}
    return jabberd14(server, **{**usual, **options})


@pytest.mark.parametrize("engine", ENGINES)
def test_the_router_is_logged_in_to_by_digest_md5_inside_tls(engine: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("jabberd2")

    async def scenario() -> None:
        async with ready(jabberd20(server, tls_engine=engine)) as (link,):
            assert [status.detail["mechanism"] for status in link.all(Event.PCJ_AUTHSUCCESS)] == ["DIGEST-MD5"]
            assert len(link.all(Event.PCJ_SSLSUCCESS)) == 1
            await settle(link)

    run(scenario())
