"""TLS: what the server presents (T08 to T15)."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pcj import Event
from tests.attacks.attack import Attack, Play
from tests.attacks.certificates import Present, by_engine, foreign, presents, refused, tls
from tests.attacks.foe import DOMAIN, Foe, mechanisms
from tests.attacks.stage import AGAIN, CLIENT_KIND, COMPONENT_KIND, LEGACY_KIND, ROUTER_KIND, Stage
from tests.shell.transport.pair import (
    certificate_pin_of,
    dns,
    good,
    intermediate,
    ip,
    issued,
    pin_of,
    srv_id,
    xmpp_address,
)

# ---- T08 to T15: certificates

T08 = Attack(
    id="T08",
    what="A valid certificate for another name",
    see="CVE-2022-24968 and its kind",
    unprotected="anybody with a certificate for a name of his own is the server",
    pcj="SSLFAIL that names the name looked for and those of the certificate; no byte of XML is sent",
    plays={
        **refused("another", presents(lambda: good("evil.example")), "evil.example", DOMAIN),
        **refused("another, direct", presents(lambda: good("evil.example")), "evil.example", DOMAIN, direct=True),
        **refused("a subdomain", presents(lambda: good(f"xmpp.{DOMAIN}")), f"xmpp.{DOMAIN}"),
        **refused("the domain above", presents(lambda: good("org"))),
        **refused("as a suffix", presents(lambda: good(f"{DOMAIN}.evil.example"))),
        **refused("as a prefix", presents(lambda: good(f"evil{DOMAIN}"))),
        **refused("none", presents(lambda: issued(names=()))),
        **refused("component", presents(lambda: good(DOMAIN)), "127.0.0.1", direct=True, kind=COMPONENT_KIND),
        **refused(
            "component, tls_name",
            presents(lambda: good("evil.example")),
            "router.example",
            kind=ROUTER_KIND,
            tls_name="router.example",
        ),
        **refused("legacy", presents(lambda: good("evil.example")), "evil.example", kind=LEGACY_KIND),
    },
)

T10 = Attack(
    id="T10",
    what="The right name in the wrong place: in the subject's common name alone, with a NUL and more behind it, as "
    "an e-mail address or a URI",
    unprotected="authorities check other fields less; a NUL ends the name for one reader and not for the next",
    pcj="only DNS names of the certificate count (RFC 9525); SSLFAIL for each",
    plays={
        **refused("common name", presents(lambda: issued(names=(), common_name=DOMAIN))),
        **refused(
            "common name beside another", presents(lambda: issued(names=dns("evil.example"), common_name=DOMAIN))
        ),
        **refused("NUL", presents(lambda: issued(names=dns(f"{DOMAIN}\0.evil.example")))),
        **refused("URI", presents(lambda: issued(names=[x509.UniformResourceIdentifier(f"xmpp:{DOMAIN}")]))),
        **refused("e-mail", presents(lambda: issued(names=[x509.RFC822Name(f"romeo@{DOMAIN}")]))),
        **refused("as an XmppAddr", presents(lambda: issued(names=xmpp_address(DOMAIN)))),
    },
)


def wildcard(pattern: str, domain: str = DOMAIN) -> Any:
    """A certificate for a pattern, which is none for this domain."""
    return refused(
        f"{pattern} for {domain}", presents(lambda: issued(names=dns(pattern))), jid=f"romeo@{domain}/orchard"
    )


def accepted(name: str, present: Present, domain: str, engines: tuple[str, ...] = ("ssl", "openssl")) -> Any:
    """The control: what is right is accepted, and the log-in begins."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            context = present(stage)

            async def script(foe: Foe) -> None:
                await foe.upgrade(context)
                await foe.greet(mechanisms("SCRAM-SHA-256"))
                await foe.take_auth()
                foe.send("</stream:stream>")

            outcome = await stage.refused(script, **tls(stage, engine, jid=f"romeo@{domain}/orchard"))
            outcome.failed("AUTHFAIL", "closed the stream")
            assert "SSLSUCCESS" in outcome.names

        return play

    return {label: play for label, play in by_engine(name, make).items() if label.rpartition(", ")[2] in engines}


T11 = Attack(
    id="T11",
    what="Wildcards: of a top-level domain, of everything, of a part of a label, two in one name, over two labels, "
    "in an SRV-ID",
    unprotected="one certificate is good for half of the network",
    pcj="a `*` stands for one whole left-most label and nothing else; SSLFAIL for each other",
    plays={
        **wildcard("*.org"),
        **wildcard("*"),
        **wildcard("*.*"),
        **wildcard("f*.example.org", "foo.example.org"),
        **wildcard("*o.example.org", "foo.example.org"),
        **wildcard("*.*.example.org", "a.b.example.org"),
        **wildcard("*.example.org", "a.b.example.org"),
        **wildcard("*.example.org", "example.org"),
        **wildcard("foo.*.org", "foo.example.org"),
        **wildcard("xn--*.example.org", "xn--bcher-kva.example.org"),
        **refused("in an SRV-ID", presents(lambda: issued(names=srv_id(f"_xmpp-client.*.{DOMAIN}")))),
        **refused("SRV-ID of everything", presents(lambda: issued(names=srv_id("_xmpp-client.*")))),
        **accepted(
            "*.example.org is good for foo.example.org", presents(lambda: good("*.example.org")), "foo.example.org"
        ),
    },
)


def constrained() -> Any:
    """A certificate of an authority that may vouch for another domain only."""
    above = intermediate("evil.example")
    made = issued(above=above)
    return made._replace(certificates=made.certificates + above.certificates)


T12 = Attack(
    id="T12",
    what="A certificate for another service of the right name (SRV-ID), for an address, or for a lookalike in "
    "another script",
    unprotected="whoever runs the web server, or a name that looks the same, is the XMPP server as well",
    pcj="SSLFAIL; an SRV-ID counts for `_xmpp-client` only, where the engine can check it at all",
    plays={
        **refused("of servers", presents(lambda: issued(names=srv_id(f"_xmpp-server.{DOMAIN}")))),
        **refused("of mail", presents(lambda: issued(names=srv_id(f"_imaps.{DOMAIN}")))),
        **refused("of another domain", presents(lambda: issued(names=srv_id("_xmpp-client.evil.example")))),
        **refused("an address", presents(lambda: issued(names=ip("127.0.0.1")))),
        **refused("a lookalike", presents(lambda: good("xn--exmple-4nf.org")), "xn--exmple-4nf.org"),
        **refused("beyond its authority", presents(constrained)),
        **accepted("ours", presents(lambda: issued(names=srv_id(f"_xmpp-client.{DOMAIN}"))), DOMAIN, ("openssl",)),
    },
)


def days(begins: int, ends: int) -> Present:
    """Valid from then to then, as seen from now."""
    return presents(lambda: issued(begins=timedelta(days=begins), ends=timedelta(days=ends)))


def out_of_order() -> Any:
    """A chain whose second certificate has not made the first."""
    made = issued(above=intermediate())
    return made._replace(certificates=made.certificates + intermediate().certificates)


T13 = Attack(
    id="T13",
    what="A certificate that has expired, is not valid yet, is self-signed, of an unknown authority, for clients "
    "only, or whose chain is broken",
    see="CVE-2014-0363 and its kind",
    unprotected="anybody makes such a certificate, or has kept one",
    pcj="SSLFAIL whose sentence says which of these it is, with dates and issuer",
    plays={
        **refused("expired", days(-10, -3), "expired on", "dated "),
        **refused("not yet", days(3, 10), "valid from", "dated "),
        **refused("self-signed", presents(lambda: issued(self_signed=True)), "self-signed", "dated "),
        **refused("unknown authority", presents(foreign(DOMAIN)), "Foreign Test CA", "dated "),
        **refused(
            "for clients",
            presents(lambda: issued(purpose=ExtendedKeyUsageOID.CLIENT_AUTH)),
            "not made for servers",
            "dated ",
        ),
        **refused("broken chain", presents(out_of_order), "Middle CA", "dated "),
        **refused("incomplete chain", presents(lambda: issued(above=intermediate())), "Middle CA", "dated "),
    },
)


def pinned(*, whole: bool) -> Callable[[str], Play]:
    """A pin that fits at first; then the server has another key, and as good a certificate."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            first, second = good(DOMAIN), good(DOMAIN)
            contexts = [presents(lambda chain=chain: chain)(stage) for chain in (first, second)]  # type: ignore[misc]

            async def honest(foe: Foe) -> None:
                await foe.upgrade(contexts[0])
                foe.send(await CLIENT_KIND.ready(foe))
                foe.send("</stream:stream>")

            async def other(foe: Foe) -> None:
                await foe.upgrade(contexts[1])
                assert not foe.tls.session_reused
                await foe.greeting()
                raise AssertionError("another key was taken")

            async with stage.server(honest, other) as at:
                options = tls(stage, engine, pins=(certificate_pin_of(first) if whole else pin_of(first),))
                broker = stage.broker(CLIENT_KIND, at.port, **options, **AGAIN)
                record = stage.record(broker)
                await broker.connect()
                status = await broker.wait_for(Event.PCJ_SSLFAIL, timeout=5)
                assert "pinned" in str(status.error)
                await broker.shutdown()
            assert record.names.count("READY") == 1
            assert all(foe.shown == [] for foe in stage.foes[1:])

        return play

    return make


T14 = Attack(
    id="T14",
    what="A valid certificate with another key than the one pinned: at first, and at a reconnect",
    unprotected="an authority that errs, or is forced, is enough to be the server",
    pcj="SSLFAIL that says which key was seen; TLS sessions are never resumed, so each link is checked anew",
    plays={
        **refused("at first", presents(lambda: good(DOMAIN)), "pinned", pins=("sha256:" + "ab" * 32,)),
        **refused("whole certificate", presents(lambda: good(DOMAIN)), "pinned", pins=("cert-sha256:" + "ab" * 32,)),
        **refused(
            "without verification", presents(foreign(DOMAIN)), "pinned", pins=("sha256:" + "ab" * 32,), verify_tls=False
        ),
        **by_engine("at a reconnect", pinned(whole=False)),
        **by_engine("whole certificate, at a reconnect", pinned(whole=True)),
    },
)


def outdated(version: ssl.TLSVersion | None, ciphers: str) -> Present:
    """A server that speaks nothing better than this."""

    def make(stage: Stage) -> ssl.SSLContext:
        context = presents(lambda: good(DOMAIN))(stage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = version or ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        return context

    return make


T15 = Attack(
    id="T15",
    what="A server that speaks TLS 1.0 or 1.1 only, or suites without encryption or without a certificate",
    unprotected="the session can be read, or is with whoever answered",
    pcj="TLS 1.2 and OpenSSL's good suites are the least: SSLFAIL",
    plays={
        **refused("TLS 1.0", outdated(ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0")),
        **refused("TLS 1.1", outdated(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0")),
        **refused("no encryption", outdated(None, "eNULL:@SECLEVEL=0")),
        **refused("no certificate", outdated(None, "aNULL:!eNULL:@SECLEVEL=0")),
    },
)


ROWS: Final = [T08, T10, T11, T12, T13, T14, T15]
