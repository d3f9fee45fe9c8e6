"""The XML stream: what comes out of turn (X21 on)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pcj import Event, Status
from pcj.namespaces import BIND, STREAM_ERRORS
from pcj.xmlstream.limits import MAX_NAMESPACES
from tests.attacks.attack import Attack, Play, only
from tests.attacks.foe import DOMAIN, Foe, header, mechanisms, stream_error
from tests.attacks.memory import flat
from tests.attacks.phases import (
    at_auth,
    at_bind,
    at_features,
    at_handshake,
    at_iq_auth,
    at_proceed,
    at_router,
    at_router_bind,
)
from tests.attacks.stage import (
    AGAIN,
    CLIENT_KIND,
    COMPONENT_KIND,
    KINDS,
    LEGACY_KIND,
    PASSWORD,
    ROUTER_KIND,
    Kind,
    Stage,
    bound,
)

# ---- X21, X22: the end of the stream


def after_the_end(kind: Kind) -> Play:
    """What comes behind the closing tag is nobody's."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            session.say("<message from='a@b'><body>before</body></message>")
            session.foe.send("</stream:stream>")
            session.say("<message from='a@b'><body>behind</body></message>")
            session.foe.send(header(kind.xmlns) + "<stream:features/>")
            session.say("<message from='a@b'><body>anew</body></message>")
            names = await session.lost()
            assert session.bodies() == ["before"]
            assert names == ["NODERECEIVED", "STREAMEND", "SOCKETDISCONNECT", "SESSION_LOST"]
            assert session.foe.text.endswith("</stream:stream>")

    return play


X21 = Attack(
    id="X21",
    what="Stanzas, and a new header, behind `</stream:stream>`",
    unprotected="what no server would vouch for is dispatched in a session that is over",
    pcj="nothing is dispatched behind the closing tag; ours is sent, and the link ends",
    plays={str(kind): after_the_end(kind) for kind in KINDS},
)


def closes(script: Callable[[Foe], Awaitable[object]], event: str, kind: Kind = CLIENT_KIND) -> Play:
    """The server closes its stream in this phase."""

    async def play(stage: Stage) -> None:
        async def closing(foe: Foe) -> None:
            await script(foe)
            foe.send("</stream:stream>")

        refused = await stage.refused(closing, kind=kind)
        refused.failed(event, "closed the stream")
        assert refused.names.count("AUTHNEGOTIATE") <= 1
        assert refused.names[-1] == "SHUTDOWN_FINISH"

    return play


PHASES: Final = {
    "header": (at_features, "STREAM_ERROR", CLIENT_KIND),
    "proceed": (at_proceed, "SSLFAIL", CLIENT_KIND),
    "authentication": (at_auth, "AUTHFAIL", CLIENT_KIND),
    "bind": (at_bind, "BINDFAIL", CLIENT_KIND),
    "handshake": (at_handshake, "AUTHFAIL", COMPONENT_KIND),
    "iq:auth": (at_iq_auth, "AUTHFAIL", LEGACY_KIND),
    "router, features": (at_router, "STREAM_ERROR", ROUTER_KIND),
    "router, bind": (at_router_bind, "BINDFAIL", ROUTER_KIND),
}

X22 = Attack(
    id="X22",
    what="`</stream:stream>` in each phase of the negotiation",
    unprotected="the negotiation begins anew on a stream that is over, or waits for ever",
    pcj="the event of the phase fails, once; nothing is negotiated a second time",
    plays={name: closes(*phase) for name, phase in PHASES.items()},
)


# ---- X23: stream errors


def error_of(inside: str, *words: str, kind: Kind = CLIENT_KIND) -> Play:
    """A stream error while READY: one event, whose words are bounded and fit for a terminal."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            session.foe.send(f"<stream:error>{inside}</stream:error></stream:stream>")
            names = await session.lost()
            assert names.count("STREAM_ERROR") == 1
            error = session.record.one(Event.STREAM_ERROR).error
            assert len(str(error)) < 2_000
            assert str(error).isprintable()
            for word in words:
                assert word in str(error), error
            assert session.foe.said == "", "an error is never answered with one"

    return play


def early_error(condition: str) -> Play:
    """Before TLS anybody can say it: it ends a broker that has never worked at the most, and never one that has."""

    async def play(stage: Stage) -> None:
        async def session(foe: Foe) -> None:
            foe.send(await CLIENT_KIND.ready(foe))
            await foe.settle()
            foe.raw(b"</stream:stream>")

        async def error(foe: Foe) -> None:
            await foe.header()
            foe.send(stream_error(condition) + "</stream:stream>")

        async with stage.server(session, error) as at:
            broker = stage.broker(CLIENT_KIND, at.port, **AGAIN)
            record = stage.record(broker)
            await broker.connect()
            for _ in range(2):
                status = await broker.wait_for(Event.STREAM_ERROR, timeout=5)
                assert status.detail["retry"] != "fatal"
            await broker.wait_for(Event.PCJ_CONNECTING, timeout=5)
            assert "SHUTDOWN_START" not in record.names
            await broker.shutdown()

    return play


async def headless_error(stage: Stage) -> None:
    """A stream error in the place of the header."""

    async def script(foe: Foe) -> None:
        await foe.greeting()
        foe.send(f"<stream:error xmlns:stream='http://etherx.jabber.org/streams'><conflict xmlns='{STREAM_ERRORS}'/>")
        foe.send("</stream:error>")

    refused = await stage.refused(script)
    refused.failed("STREAM_ERROR")
    refused.nothing_shown()


def condition(name: str, inside: str = "") -> str:
    return f"<{name} xmlns='{STREAM_ERRORS}'>{inside}</{name}>"


X23 = Attack(
    id="X23",
    what="Stream errors of every shape: two conditions, none, an unknown one, another namespace, markup in it, a "
    "megabyte of text, escape sequences; before the header, before TLS",
    unprotected="the terminal is the attacker's, memory is, or the client gives up for good at the word of somebody "
    "on the way",
    pcj="one event with the first condition, cut to 1,000 characters and escaped; before TLS it cannot end a broker "
    "that has been READY",
    plays={
        "two conditions": error_of(condition("conflict") + condition("host-gone"), "conflict"),
        "unknown": error_of(condition("out-of-tea"), "out-of-tea"),
        "another namespace": error_of("<conflict xmlns='urn:example:x'/>", "no condition given"),
        "none": error_of("", "no condition given"),
        "markup": error_of(condition("conflict", "<a><b/></a>"), "conflict"),
        "a long name": error_of(condition("c" * 100_000), "ccc"),
        "a megabyte": error_of(condition("text", "m" * 900_000) + condition("host-gone"), "host-gone", "mmm"),
        "escapes": error_of(condition("text", "\u202egood\u0085\u200b") + condition("host-gone"), "\\u202e", "\\x85"),
        "router": error_of(condition("conflict"), "conflict", kind=ROUTER_KIND),
        "before the header": headless_error,
        **{
            f"before TLS, {name}": early_error(name)
            for name in ("host-unknown", "not-authorized", "unsupported-version", "conflict", "policy-violation")
        },
    },
)


# ---- X24 to X27: the opening


def version(said: str | None, kind: Kind, *, accepted: bool) -> Play:
    """A header with this version."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header(kind.xmlns, version=said)
            foe.features(mechanisms("SCRAM-SHA-256"))
            if accepted:
                await foe.until("<auth" if kind is CLIENT_KIND else "</handshake>")
                foe.send("</stream:stream>")

        refused = await stage.refused(script, kind=kind)
        if accepted:
            refused.failed("AUTHFAIL")
            assert refused.foe.shown
        else:
            refused.failed("STREAM_ERROR", "1.0 is needed")
            assert refused.foe.said == "unsupported-version"
            refused.nothing_shown()

    return play


X24 = Attack(
    id="X24",
    what="Headers of version 0.9, none, 1.1, 2.0, 10.0, `1.0abc`, a number without end, digits of another script",
    unprotected="versions compared as text: 10.0 is less than 2.0; one that is none fits by chance",
    pcj="compared as numbers: 1.x is accepted, all others end an XMPP stream with unsupported-version; XEP-0114 has "
    "none",
    plays={
        **{f"{said}": version(said, CLIENT_KIND, accepted=True) for said in ("1.0", "1.1", "1.99")},
        **{
            f"{said}": version(said, CLIENT_KIND, accepted=False)
            for said in (None, "0.9", "2.0", "10.0", "1", "1.0abc", "-1.0", " 1.0", "9" * 50 + ".0", "\u0661.\u0660")
        },
        "component, none": version(None, COMPONENT_KIND, accepted=True),
        "component, 1.0": version("1.0", COMPONENT_KIND, accepted=True),
    },
)


def sender(name: str, kind: Kind, *, warned: bool) -> Play:
    """A header that says it is from there."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.greeting()
            foe.send(header(kind.xmlns, sender=name, version=kind.version))
            if kind is COMPONENT_KIND:
                await foe.until("</handshake>")
                foe.send("<handshake/>")
            else:
                foe.features(mechanisms("SCRAM-SHA-256"))
                await foe.log_in(PASSWORD, greeted=True)
                foe.send(bound(await foe.asked()))
            await foe.farewell()

        async with stage.server(script) as at:
            broker = stage.broker(kind, at.port)
            record = stage.record(broker)
            await broker.connect()
            assert broker.jid == kind.jid
            told = [str(status.detail["what"]) for status in record.of(Event.WARNING)]
            assert any("header is from" in what for what in told) == warned, told
            assert all(what.isprintable() for what in told)
            await broker.shutdown()

    return play


X25 = Attack(
    id="X25",
    what="A header from another domain",
    unprotected="a client that goes by it authenticates with another name, or checks the certificate for that",
    pcj="a `WARNING`, and nothing else: what we connect to is what was configured (RFC 6120 4.7.1)",
    plays={
        "another": sender("evil.example.net", CLIENT_KIND, warned=True),
        "escapes in it": sender("e\u202evil", CLIENT_KIND, warned=True),
        "ours in capitals": sender(DOMAIN.upper(), CLIENT_KIND, warned=False),
        "a component's own name": sender(COMPONENT_KIND.jid, COMPONENT_KIND, warned=False),
    },
)


# ---- X26 on: stanzas before their time, features, floods


def early(where: str, kind: Kind = CLIENT_KIND) -> Play:
    """A message before the link is READY: refused, or held and delivered behind READY."""
    stanza = f"<message from='juliet@{DOMAIN}' to='{kind.jid}'><body>early</body></message>"

    async def play(stage: Stage) -> None:
        if where in ("before", "behind"):
            held = kind.wrapped(stanza)
            pieces = {"before": held, "behind": ""} if where == "before" else {"before": "", "behind": held}
            async with stage.session(kind, before=pieces["before"], behind=pieces["behind"]) as session:
                await session.barrier()
                assert session.bodies() == ["early"]
                assert session.record.names.index("READY") < session.record.names.index("NODERECEIVED")
            return

        async def script(foe: Foe) -> None:
            await foe.header()
            if where == "features":
                foe.send(stanza)
            foe.features(mechanisms("SCRAM-SHA-256"))
            if where == "authentication":
                await foe.take_auth()
                foe.send(stanza)
            await foe.rest()

        refused = await stage.refused(script, kind=kind)
        refused.failed("AUTHFAIL" if where == "authentication" else "STREAM_ERROR", "<message>")
        assert "NODERECEIVED" not in refused.names
        assert refused.foe.said == "undefined-condition"

    return play


X26 = Attack(
    id="X26",
    what="A stanza before the features, during authentication, between the request to bind and its answer, in one "
    "read with that answer",
    unprotected="a stanza from before authentication is taken for a peer's, or one behind the answer is lost",
    pcj="an error before authentication is done; held and delivered behind READY afterwards",
    plays={
        "before features": early("features"),
        "during authentication": early("authentication"),
        **{f"before the last answer, {kind}": early("before", kind) for kind in (CLIENT_KIND, ROUTER_KIND)},
        **{f"behind the last answer, {kind}": early("behind", kind) for kind in KINDS},
    },
)


def features_twice(*, at_once: bool) -> Play:
    """A second list, of what only shows the password: in one read with the first, or behind our choice."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header()
            foe.features(mechanisms("SCRAM-SHA-256"))
            if not at_once:
                name, _ = await foe.take_auth()
                assert name == "SCRAM-SHA-256"
            foe.features(mechanisms("PLAIN"))
            if not at_once:
                foe.send("</stream:stream>")

        refused = await stage.refused(script, allow_plain=True)
        refused.failed("AUTHFAIL")
        assert refused.foe.came.count(b"<auth ") == (not at_once)

    return play


async def features_empty(stage: Stage) -> None:
    """Nothing is offered."""

    async def script(foe: Foe) -> None:
        await foe.greet("")

    refused = await stage.refused(script)
    refused.failed("AUTHFAIL", "offers no SASL mechanism")
    refused.nothing_shown()


async def features_required(stage: Stage) -> None:
    """Something is required that nobody knows."""

    async def script(foe: Foe) -> None:
        await foe.log_in(PASSWORD, f"<bind xmlns='{BIND}'/><tea xmlns='urn:example:tea'><required/></tea>")
        foe.send(bound(await foe.asked()))

    refused = await stage.refused(script)
    refused.failed("STREAM_ERROR", "{urn:example:tea}tea")
    assert refused.foe.said == "unsupported-feature"


async def features_many(stage: Stage) -> None:
    """Ten thousand that nobody knows."""

    async def script(foe: Foe) -> None:
        many = "".join(f"<f{number} xmlns='urn:example:{number}'/>" for number in range(10_000))
        await foe.greet(many + mechanisms("SCRAM-SHA-256"))
        await foe.take_auth()
        foe.send("</stream:stream>")

    refused = await stage.refused(script)
    refused.failed("AUTHFAIL", "closed the stream")


X27 = Attack(
    id="X27",
    what="Features twice, without children, ten thousand of them, `<required/>` on one that is unknown",
    unprotected="a second list, put in on the way, replaces the first with something weaker",
    pcj="the list that was waited for counts: a second one in one read with it is an error, one behind our choice is "
    "passed over; an unknown feature that is required is named in the failure",
    plays={
        "twice at once": features_twice(at_once=True),
        "twice": features_twice(at_once=False),
        "empty": features_empty,
        "required": features_required,
        "ten thousand": features_many,
    },
)


async def flood(stage: Stage) -> None:
    """More than fits while a handler sleeps: reading stops, and goes on behind it with nothing lost."""
    awake = asyncio.Event()
    heard = 0

    async def slow(status: Status) -> None:
        nonlocal heard
        await awake.wait()
        heard += 1

    block = (f"<message from='juliet@{DOMAIN}'><body>{'x' * 900}</body></message>" * 100).encode()
    sent = 0
    async with stage.session(watch=False, inbound_backlog=200, max_pending_requests=10) as session:
        session.broker.subscribe(Event.PCJ_NODERECEIVED, slow)
        paused: list[Status] = []
        session.broker.subscribe(Event.READING_PAUSED, paused.append)
        with flat(24):
            try:
                while sent < 1_000_000:
                    session.foe.send(block)
                    sent += 100
                    async with asyncio.timeout(0.2):
                        await session.foe.drain()
            except TimeoutError:
                pass  # the network takes no more, and neither do we
            assert sent < 100_000, "the whole of a gigabyte was read"
            assert len(paused) == 1
        awake.set()
        await session.barrier()
        for _ in range(100):
            if heard == sent:
                break
            await asyncio.sleep(0.01)
        assert heard == sent


X28 = Attack(
    id="X28",
    what="A gigabyte of stanzas while the handler of the first sleeps",
    unprotected="what is not handled yet waits in memory: all of it",
    pcj="at `inbound_backlog` reading stops, with a `READING_PAUSED`, but for one read a second, up to "
    "twice `inbound_max_bytes`: the rest waits at the server; behind the handler it goes on, and nothing is lost",
    plays=only(flood),
    note="the one read a second is for the server's pings behind what waits; past twice `inbound_max_bytes` they wait, "
    "too: the bound is on memory, and the handler is our own",
)


async def early_flood(stage: Stage) -> None:
    """Stanzas in place of the answer to our request to bind."""

    async def script(foe: Foe) -> None:
        await foe.log_in(PASSWORD)
        await foe.asked()
        foe.send(f"<message from='a@{DOMAIN}'/>" * 1_000)

    with flat(8):
        refused = await stage.refused(script)
    refused.failed("BINDFAIL", "256 stanzas")
    assert refused.foe.said == "policy-violation"


X29 = Attack(
    id="X29",
    what="Stanzas without end in place of the answer to our request to bind, each of which is to be held until READY",
    unprotected="memory is the server's, before there is a session",
    pcj="at most 256 are held, then policy-violation",
    plays=only(early_flood),
)


def braces(kind: Kind) -> Play:
    """A brace in a namespace, which a peer may send and servers pass on."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            session.say(f"<message from='a@b' to='{kind.jid}'><x xmlns='urn:}}x'/><body>a}}b</body></message>")
            await session.barrier()
            assert session.bodies() == ["a}b"]

    return play


X30 = Attack(
    id="X30",
    what="A `}` in a namespace: legal XML that servers pass on, and that Python's ElementTree refuses",
    unprotected="any peer ends the link of a client built on ElementTree with one message, as often as he likes",
    pcj="read as `%7D`, and delivered: the link lives",
    plays={str(kind): braces(kind) for kind in KINDS},
)


def declared(count: int) -> str:
    return "".join(f" xmlns:p{number}='urn:example:{number}'" for number in range(count))


async def heavier_header(stage: Stage) -> None:
    """Ten thousand: nobody reads on."""

    async def script(foe: Foe) -> None:
        await foe.greeting()
        foe.send(header()[:-1] + declared(10_000) + ">")

    refused = await stage.refused(script)
    refused.failed("STREAM_ERROR", f"more than {MAX_NAMESPACES} namespaces")
    assert refused.foe.said == "policy-violation"


async def heavy_header(stage: Stage) -> None:
    """As many prefixes in the header as may be, which stay declared: stanzas cost no more for them."""
    prefixes = declared(MAX_NAMESPACES - 2)
    number = 3_000

    async def script(foe: Foe) -> None:
        await foe.greeting()
        foe.send(header()[:-1] + prefixes + ">")
        foe.features(mechanisms("SCRAM-SHA-256"))
        await foe.scram(PASSWORD)
        foe.success(foe.proof)
        await foe.greeting()
        foe.send(header()[:-1] + prefixes + ">")
        foe.features(f"<bind xmlns='{BIND}'/>")
        foe.send(bound(await foe.asked()))
        for _ in range(number // 10):
            foe.send(f"<message from='a@{DOMAIN}'><p7:x/></message>" * 10)
            await foe.settle()
        await foe.farewell()

    async with stage.server(script) as at:
        broker = stage.broker(CLIENT_KIND, at.port)
        nodes: list[Status] = []
        full = asyncio.Event()

        def hear(status: Status) -> None:
            nodes.append(status)
            if len(nodes) == number:
                full.set()

        broker.subscribe(Event.PCJ_NODERECEIVED, hear)
        await broker.connect()
        async with asyncio.timeout(3):
            await full.wait()
        first = nodes[0].node
        assert first is not None
        assert first[0].tag == "{urn:example:7}x"
        await broker.shutdown()


X31 = Attack(
    id="X31",
    what="A header that declares ten thousand prefixes",
    unprotected="what must be declared anew for each stanza or parser costs ten thousand times as much, for ever",
    pcj="up to 64 stay declared, of 512 bytes each, and stanzas go on at their pace; more is policy-violation",
    plays={"as many as may be": heavy_header, "ten thousand": heavier_header},
)

ROWS: Final = [X21, X22, X23, X24, X25, X26, X27, X28, X29, X30, X31]
