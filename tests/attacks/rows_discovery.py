"""Where to connect to: DNS, redirects, and what else leads elsewhere (T09, T21 on)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import dns.message
import dns.rrset

from pcj import Event
from pcj.namespaces import CLIENT, STREAM_MANAGEMENT, TLS
from pcj.transport.resolve import resolve
from tests.attacks.attack import Attack, Play, only
from tests.attacks.certificates import by_engine, presents, tls
from tests.attacks.foe import DOMAIN, Foe, mechanisms
from tests.attacks.stage import AGAIN, CLIENT_KIND, COMPONENT_KIND, LEGACY_KIND, SOON, Led, Refused, Stage
from tests.shell.links import closed_port
from tests.shell.transport.nameserver import Forge, Zone, name_server
from tests.shell.transport.pair import good

PLAIN: Final = f"_xmpp-client._tcp.{DOMAIN}"
DIRECT: Final = f"_xmpps-client._tcp.{DOMAIN}"
STARTTLS: Final = f"<starttls xmlns='{TLS}'/>"


def every_host_is_here(stage: Stage) -> None:
    """The address of each name is that of this machine."""

    async def getaddrinfo(host: object, port: int, *, family: int = 0, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    stage.monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)


def dns_says(
    stage: Stage, zone: Callable[[int], Zone], asked: list[str] | None = None, forge: Forge | None = None
) -> Led:
    """The broker's name server says this, given the hostile server's port; each host has the address 127.0.0.1."""

    @asynccontextmanager
    async def led(port: int) -> AsyncIterator[None]:
        every_host_is_here(stage)
        async with name_server(zone(port), forge=forge) as (address, names):
            stage.monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
            yield
            if asked is not None:
                asked.extend(names)

    return led


def cheated(zone: Callable[[int], Zone], certificate: str, *words: str) -> dict[str, Play]:
    """DNS leads to a server with a valid certificate for this name."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            context = presents(lambda: good(certificate))(stage)

            async def script(foe: Foe) -> None:
                await foe.upgrade(context)
                await foe.greeting()
                raise AssertionError("the client went on")

            outcome = await stage.refused(script, led=dns_says(stage, zone), **tls(stage, engine))
            outcome.failed("SSLFAIL", certificate, DOMAIN, *words)
            outcome.nothing_shown()

        return play

    return dict(by_engine("", make))


T09 = Attack(
    id="T09",
    what="A valid certificate for the host that the SRV record names, not for the domain of the address",
    unprotected="DNS, which nobody has signed, says whose certificate will do",
    pcj="SSLFAIL: the domain of the address is what counts (RFC 6120 13.7.2)",
    plays=cheated(lambda port: {PLAIN: [f"0 0 {port} xmpp.hosting.example."]}, "xmpp.hosting.example"),
)


def resolves(zone: Callable[[int], Zone], check: Callable[[Refused], None], **options: Any) -> Play:
    """DNS says this; whatever is reached by it closes at once."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.greeting()
            foe.cut()

        outcome = await stage.refused(script, led=dns_says(stage, zone), **options)
        check(outcome)
        assert outcome.took < 3

    return play


def few_attempts(outcome: Refused) -> None:
    assert outcome.names.count("ATTEMPT") <= 32


def reached(outcome: Refused) -> None:
    """The one good record was used, and none of the others."""
    assert len(outcome.foes) == 1
    assert outcome.names.count("ATTEMPT") == 1


def not_reached(*words: str) -> Callable[[Refused], None]:
    def check(outcome: Refused) -> None:
        assert outcome.foes == []
        assert "ATTEMPT" not in outcome.names
        assert str(outcome.failure).isprintable()
        assert len(str(outcome.failure)) < 1_500
        for word in words:
            assert word in str(outcome.failure), outcome.failure

    return check


CLOSED: Final = closed_port()

T21 = Attack(
    id="T21",
    what="An SRV answer with thousands of records, a loop of aliases, port 0, the target `.` among others, or "
    "nothing within time",
    unprotected="thousands of connections to whoever the attacker names; a resolver that never comes back",
    pcj="at most 32 records count; port 0 and `.` are dropped; the rest meets `resolve_timeout`",
    plays={
        "thousands": resolves(
            lambda port: {PLAIN: [f"{n} 0 {CLOSED} h{n}.{DOMAIN}." for n in range(1_200)]}, few_attempts
        ),
        "a loop": resolves(
            lambda port: {
                PLAIN: f"CNAME a.{DOMAIN}.",
                f"a.{DOMAIN}": f"CNAME b.{DOMAIN}.",
                f"b.{DOMAIN}": f"CNAME a.{DOMAIN}.",
            },
            lambda outcome: None,
        ),
        "port 0": resolves(lambda port: {PLAIN: [f"0 0 0 a.{DOMAIN}.", f"1 0 {port} b.{DOMAIN}."]}, reached),
        "a dot among others": resolves(lambda port: {PLAIN: ["0 0 0 .", f"1 0 {port} b.{DOMAIN}."]}, reached),
        "a dot alone": resolves(lambda port: {PLAIN: ["0 0 0 ."], DIRECT: ["0 0 0 ."]}, not_reached("offers no XMPP")),
        "silence": resolves(lambda port: {PLAIN: None, DIRECT: None}, lambda outcome: None, resolve_timeout=SOON),
    },
    note="the hosts have addresses on loopback, and 1,200 records are what fits in one answer",
)

T22 = Attack(
    id="T22",
    what="An SRV target that is an address, has control characters, spaces or a slash, or is as long as DNS allows",
    unprotected="a name reaches the log, the terminal or the resolver that is none",
    pcj="dropped, and named in the failure, escaped; the longest name is looked up and no more",
    plays={
        "an address": resolves(lambda port: {PLAIN: [f"0 0 {port} 10.0.0.1."]}, not_reached("10.0.0.1")),
        "one number": resolves(lambda port: {PLAIN: [f"0 0 {port} 2130706433."]}, not_reached("2130706433")),
        "hexadecimal": resolves(lambda port: {PLAIN: [f"0 0 {port} 0x7f.1."]}, not_reached()),
        "escapes": resolves(lambda port: {PLAIN: [f"0 0 {port} a\\027[31m.example."]}, not_reached()),
        "a NUL": resolves(lambda port: {PLAIN: [f"0 0 {port} a\\000b.example."]}, not_reached()),
        "a space": resolves(lambda port: {PLAIN: [f"0 0 {port} a\\032b.example."]}, not_reached()),
        "a slash": resolves(lambda port: {PLAIN: [f"0 0 {port} /run/evil.sock."]}, not_reached()),
        "high bytes": resolves(lambda port: {PLAIN: [f"0 0 {port} \\228\\184\\173.example."]}, not_reached()),
        "long": resolves(
            lambda port: {PLAIN: [f"0 0 {port} {'.'.join(['l' * 63] * 3)}.{'e' * 61}."]}, lambda outcome: None
        ),
        "beside a good one": resolves(
            lambda port: {PLAIN: [f"0 0 {port} 10.0.0.1.", f"1 0 {port} b.{DOMAIN}."]}, reached
        ),
    },
)

T23 = Attack(
    id="T23",
    what="A forged SRV answer that leads to the attacker, who has a valid certificate for his own name",
    see="CVE-2022-24968 and its kind",
    unprotected="the certificate is checked against the name that the forged answer gave: the attacker's",
    pcj="SSLFAIL: checked against the domain of the address, whatever DNS said",
    plays={
        **cheated(lambda port: {PLAIN: [f"0 0 {port} evil.example."]}, "evil.example"),
        **{
            f"alias, {name}": play
            for name, play in cheated(
                lambda port: {
                    PLAIN: "CNAME _xmpp-client._tcp.evil.example.",
                    "_xmpp-client._tcp.evil.example": [f"0 0 {port} evil.example."],
                },
                "evil.example",
            ).items()
        },
    },
)


def _another_id(message: dns.message.Message) -> None:
    message.id ^= 1
    message.answer.append(dns.rrset.from_text(f"{PLAIN}.", 60, "IN", "SRV", f"0 0 {CLOSED} evil.example."))


def _another_question(message: dns.message.Message) -> None:
    message.question = [dns.rrset.from_text("evil.example.", 60, "IN", "SRV")]
    message.answer.append(dns.rrset.from_text("evil.example.", 60, "IN", "SRV", f"0 0 {CLOSED} evil.example."))


def forged(forge: Forge) -> Play:
    """A forged answer comes first, without what only the name server can know."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.greeting()
            foe.cut()

        led = dns_says(stage, lambda port: {PLAIN: [f"0 0 {port} honest.{DOMAIN}."]}, forge=forge)
        outcome = await stage.refused(script, led=led)
        reached(outcome)
        assert "evil" not in str(outcome.record.of(Event.RESOLVED)[0].detail)

    return play


T24 = Attack(
    id="T24",
    what="A forged DNS answer in front of the true one, with another id or to another question",
    unprotected="whoever answers first says where we go",
    pcj="passed over; the true answer is waited for",
    plays={"another id": forged(_another_id), "another question": forged(_another_question)},
    note="against one who sees the question and answers with its id there is TLS alone (T23)",
)


# ---- redirects


def other_host(where: str) -> str:
    condition = f"<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{where}</see-other-host>"
    return f"<stream:error>{condition}</stream:error></stream:stream>"


def sends_on(where: Callable[[int], str], check: Callable[[Refused], None], *, hops: int, secured: bool = True) -> Play:
    """The server of the domain, inside TLS or before it, sends us on to there; `hops` of them are followed."""

    async def play(stage: Stage) -> None:
        context = presents(lambda: good(DOMAIN))(stage)
        ports: list[int] = []

        async def script(foe: Foe) -> None:
            if secured:
                await foe.upgrade(context)
            await foe.header()
            foe.send(other_host(where(ports[0])))

        @asynccontextmanager
        async def here(port: int) -> AsyncIterator[None]:
            ports.append(port)
            every_host_is_here(stage)
            async with name_server({PLAIN: [f"0 0 {port} {DOMAIN}."]}) as (address, _):
                stage.monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
                yield

        outcome = await stage.refused(script, led=here, max_redirects=3, **tls(stage, "ssl"))
        assert outcome.names.count("REDIRECT") == hops, outcome.names
        outcome.nothing_shown()
        assert str(outcome.failure).isprintable()
        assert len(str(outcome.failure)) < 1_500
        check(outcome)

    return play


def nowhere(outcome: Refused) -> None:
    """Nothing was connected to but the server that said it."""
    assert len(outcome.foes) == 1
    assert outcome.names.count("CONNECTED") == 1


def circled(outcome: Refused) -> None:
    assert len(outcome.foes) == 4
    assert "max_redirects" in str(outcome.failure)


def attacked(*, secured: bool, attacker_tls: bool) -> Play:
    """Sent on to an attacker: with a valid certificate for his own name, or without TLS."""

    async def play(stage: Stage) -> None:
        (stage.folder / "evil").mkdir()
        ours = presents(lambda: good(DOMAIN))(stage)
        theirs = presents(lambda: good("evil.example"))(stage)
        where: list[int] = []

        async def first(foe: Foe) -> None:
            if secured:
                await foe.upgrade(ours)
            await foe.header()
            foe.send(other_host(f"127.0.0.1:{where[0]}"))

        async def second(foe: Foe) -> None:
            if attacker_tls:
                await foe.upgrade(theirs)
                await foe.greeting()
                raise AssertionError("the attacker's certificate was taken")
            await foe.greet(mechanisms("PLAIN", "SCRAM-SHA-256"))
            await foe.until("<starttls")
            foe.send(f"<failure xmlns='{TLS}'/>")

        @asynccontextmanager
        async def here(port: int) -> AsyncIterator[None]:
            where.append(port)
            every_host_is_here(stage)
            async with name_server({PLAIN: [f"0 0 {port} {DOMAIN}."]}) as (address, _):
                stage.monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
                yield

        # Where TLS stood it is required from then on, even if the options did not say so.
        options = tls(stage, "ssl") | ({"require_tls": False} if secured else {})
        outcome = await stage.refused(first, second, led=here, **options)
        outcome.failed("SSLFAIL")
        assert outcome.names.count("REDIRECT") == 1
        outcome.nothing_shown()

    return play


T25 = Attack(
    id="T25",
    what="see-other-host inside TLS: to an attacker, to a port of this machine, to no port, to itself, in a ring, to "
    "a path, a URL, 2,000 bytes, control characters",
    unprotected="TLS is checked against the new name, or not at all; the client is led round inside the network, or "
    "for ever",
    pcj="followed `max_redirects` times, each with a `REDIRECT`, to a host and port only; the name to be verified "
    "stays, and TLS is required from then on",
    plays={
        "an attacker": attacked(secured=True, attacker_tls=True),
        "an attacker without TLS": attacked(secured=True, attacker_tls=False),
        "this machine": sends_on(lambda port: f"localhost:{CLOSED}", lambda outcome: None, hops=1),
        "this machine, IPv6": sends_on(lambda port: f"[::1]:{CLOSED}", lambda outcome: None, hops=1),
        "itself": sends_on(lambda port: f"127.0.0.1:{port}", circled, hops=3),
        "a ring": sends_on(lambda port: f"evil{port}.{DOMAIN}:{port}", circled, hops=3),
        "port 99999": sends_on(lambda port: "evil.example:99999", nowhere, hops=0),
        "port 0": sends_on(lambda port: "evil.example:0", nowhere, hops=0),
        "port in another script": sends_on(lambda port: "evil.example:\u0665\u0662\u0662\u0662", nowhere, hops=0),
        "a path": sends_on(lambda port: "/run/evil.sock", nowhere, hops=0),
        "a URL": sends_on(lambda port: "https://evil.example/", nowhere, hops=0),
        "an account": sends_on(lambda port: "romeo@evil.example", nowhere, hops=0),
        "2,000 bytes": sends_on(lambda port: "e" * 2_000, nowhere, hops=0),
        "controls": sends_on(lambda port: "evil\u202e.example\u0085", nowhere, hops=0),
        "empty": sends_on(lambda port: "", nowhere, hops=0),
        "spaces": sends_on(lambda port: "evil .example", nowhere, hops=0),
    },
)

T26 = Attack(
    id="T26",
    what="see-other-host before TLS, which anybody on the way can say",
    unprotected="the attacker moves the client to where he likes, and TLS with it",
    pcj="followed by the same rules: TLS is required there as here, for the same name; else SSLFAIL",
    plays={
        "an attacker": attacked(secured=False, attacker_tls=True),
        "an attacker without TLS": attacked(secured=False, attacker_tls=False),
        "itself": sends_on(lambda port: f"127.0.0.1:{port}", circled, hops=3, secured=False),
    },
)


# ---- T27 on: other ways of being led


async def location(stage: Stage) -> None:
    """A place to come back to, unasked; then the link ends, and the next one goes where it was to go."""
    elsewhere = closed_port()

    async def script(foe: Foe) -> None:
        foe.send(await CLIENT_KIND.ready(foe))
        enabled = f"<enabled xmlns='{STREAM_MANAGEMENT}' id='i' resume='true' location='127.0.0.1:{elsewhere}'/>"
        foe.send(enabled + "</stream:stream>")

    async with stage.server(script) as at:
        broker = stage.broker(CLIENT_KIND, at.port, **AGAIN)
        record = stage.record(broker)
        await broker.connect()
        for _ in range(2):
            await broker.wait_for(Event.PCJ_SOCKETDISCONNECT, timeout=3)
        await broker.shutdown()
    tried = {status.detail["address"] for status in record.of(Event.ATTEMPT)}
    assert tried == {f"127.0.0.1:{at.port}"}


T27 = Attack(
    id="T27",
    what="`location` of stream management, unasked: a place to come back to, the attacker's",
    unprotected="at the next reconnect the session, and the log-in, are elsewhere",
    pcj="passed over: the next link goes where it was configured to go; one that was asked for is M15",
    plays=only(location),
)


def never_asked(*records: tuple[str, list[str]]) -> Play:
    """DNS has other ways to offer; only SRV records and addresses are asked for."""

    async def play(stage: Stage) -> None:
        asked: list[str] = []

        async def script(foe: Foe) -> None:
            await foe.greet(STARTTLS)
            foe.cut()

        zone = dict(records)
        outcome = await stage.refused(
            script, led=dns_says(stage, lambda port: {**zone, PLAIN: [f"0 0 {port} {DOMAIN}."]}, asked)
        )
        assert set(asked) <= {PLAIN, DIRECT}, asked
        assert len(outcome.foes) == 1
        assert outcome.foe.came.startswith(b"<?xml version='1.0'?><stream:stream ")
        assert b"GET" not in outcome.foe.came

    return play


T28 = Attack(
    id="T28",
    what="`_xmppconnect` in DNS: a TXT record that names a BOSH or WebSocket endpoint of the attacker's",
    see="CVE-2022-26491",
    unprotected="unsigned DNS gives a URL with a name of its own, whose certificate then is the one that is checked",
    pcj="never asked for: XEP-0156 has withdrawn it",
    plays={
        "TXT": never_asked(
            (f"_xmppconnect.{DOMAIN} TXT", ['"_xmpp-client-xbosh=https://evil.example/bind"']),
        )
    },
)

T29 = Attack(
    id="T29",
    what="host-meta (XEP-0156) over HTTP: redirects, 100 MB, XML with a DOCTYPE, endpoints without TLS",
    unprotected="a web page decides where the log-in goes, and is read by another parser with other rules",
    pcj="pcj speaks XMPP over TCP alone: host-meta is never asked for, and no HTTP request is ever sent",
    plays={"": never_asked((f"{DOMAIN} A", ["127.0.0.1"]))},
    note="there is nothing to refuse; what is played is a domain that offers it, and is not asked",
)


async def loopback_by_dns(stage: Stage) -> None:
    """DNS says that the server is on this machine: that is no reason to do without TLS."""

    async def script(foe: Foe) -> None:
        await foe.header(CLIENT, version=None)

    led = dns_says(stage, lambda port: {PLAIN: [f"0 0 {port} {DOMAIN}."]})
    outcome = await stage.refused(script, kind=LEGACY_KIND, led=led, require_tls=None)
    outcome.failed("SSLFAIL", "offers no encryption")
    outcome.nothing_shown()


async def loopback_by_redirect(stage: Stage) -> None:
    """A server sends a component on to this machine."""
    ports: list[int] = []
    context = presents(lambda: good("127.0.0.1"))(stage)

    async def first(foe: Foe) -> None:
        await foe.start_tls(context)
        await foe.header(COMPONENT_KIND.xmlns, version=None)
        foe.send(other_host(f"127.0.0.1:{ports[0]}"))

    async def second(foe: Foe) -> None:
        await foe.greeting()
        raise AssertionError("a header in the clear")

    async with stage.server(first, second) as at:
        ports.append(at.port)
        options = tls(stage, "ssl") | {"require_tls": None, "direct_tls": True, "close_timeout": 0.2}
        broker = stage.broker(COMPONENT_KIND, at.port, tls_timeout=SOON, **options)
        record = stage.record(broker)
        await asyncio.gather(broker.connect(), return_exceptions=True)
        assert record.names.count("REDIRECT") == 1, (record.names, broker.explain())
        await broker.shutdown()
    # The first one was the right server, inside TLS; the second was spoken to in TLS, or not at all.
    assert stage.foes[1].came[:1] == b"\x16"
    assert stage.foes[1].shown == []


T30 = Attack(
    id="T30",
    what="DNS, or a redirect, leads to this machine, where a LEGACY or component link need not have TLS",
    unprotected="an address of 127.0.0.1 in DNS, or a forwarded port, takes TLS away",
    pcj="TLS is left out only where the user named this machine; else SSLFAIL",
    plays={"DNS": loopback_by_dns, "redirect": loopback_by_redirect},
)


def handshake(first: bytes, piece: bytes) -> Play:
    """A handshake that never ends."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.greet(STARTTLS)
            await foe.until("<starttls")
            foe.send(f"<proceed xmlns='{TLS}'/>")
            await foe.until("\x16")
            foe.raw(first)
            while True:
                foe.raw(piece)
                await foe.drain()
                await asyncio.sleep(0.005)

        outcome = await stage.refused(script, **tls(stage, "ssl", tls_timeout=SOON))
        outcome.failed("SSLFAIL")
        outcome.nothing_shown()
        assert outcome.took < 4

    return play


T31 = Attack(
    id="T31",
    what="A TLS handshake that never ends: a byte at a time, records without end",
    unprotected="a client that waits for ever, or gathers for ever what it waits for",
    pcj="SSLFAIL at `tls_timeout`, or at the bound of bytes; a byte puts nothing off",
    plays={
        "a byte at a time": handshake(b"\x16\x03\x03\x10\x00\x02\x00\x0f\xfc\x03\x03", b"\0"),
        "empty records": handshake(b"", b"\x16\x03\x03\x00\x00" * 1_000),
        "warnings": handshake(b"", b"\x15\x03\x03\x00\x02\x01\x5a" * 1_000),
        "change of cipher": handshake(b"", b"\x14\x03\x03\x00\x01\x01" * 1_000),
    },
)

ROWS: Final = [T09, T21, T22, T23, T24, T25, T26, T27, T28, T29, T30, T31]
