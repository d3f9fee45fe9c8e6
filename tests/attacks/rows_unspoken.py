"""Extensions that pcj does not speak, the router's envelopes, and the end of a link (M01 on)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import pytest

from pcj import Event, NodeError, QueueFull, message, ping
from pcj.namespaces import BIND, CLIENT, JABBERD_COMPONENT, STREAM_MANAGEMENT, STREAM_MANAGEMENT_2
from tests.attacks.attack import Attack, Play, only
from tests.attacks.foe import DOMAIN, Foe, mechanisms
from tests.attacks.memory import flat, steady
from tests.attacks.stage import CLIENT_KIND, COMPONENT_KIND, KINDS, PASSWORD, ROUTER_KIND, Kind, Stage, bound

SM: Final = f"xmlns='{STREAM_MANAGEMENT}'"
NEVER_ASKED: Final = "pcj does not speak stream management (XEP-0198) and never asks for it"


def inert(element: str, kind: Kind = CLIENT_KIND) -> Play:
    """While READY it is told of as ignored, nothing is sent, and what was written is as it was."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            receipt = session.broker.output(message(to=f"juliet@{DOMAIN}", from_=None, body="ours"))
            await session.foe.until("</message>")
            before, state = len(session.foe.came), receipt.state
            session.foe.send(element)
            await session.barrier()
            assert session.record.names.count("NODE_IGNORED") == 1
            assert session.foe.came[before:].count(b"<") <= 6, "nothing but the answer to the ping"
            assert receipt.state == state
            assert session.broker.sid == "s1"
            assert "SM_" not in " ".join(session.record.names)

    return play


def inert_each(elements: Mapping[str, str]) -> dict[str, Play]:
    """Each of them, to a client; the first to a component, too."""
    plays = {name: inert(element) for name, element in elements.items()}
    name, element = next(iter(elements.items()))
    return plays | {f"{name}, {COMPONENT_KIND}": inert(element, COMPONENT_KIND)}


def while_binding(element: str) -> Play:
    """In place of the answer to our request to bind it is an error."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.log_in(PASSWORD, f"<bind xmlns='{BIND}'/><sm {SM}/>")
            request = await foe.asked()
            foe.send(element)
            foe.send(bound(request))

        refused = await stage.refused(script)
        refused.failed("BINDFAIL")
        assert refused.foe.said == "undefined-condition"
        assert b"<enable" not in refused.foe.came
        assert b"<resume" not in refused.foe.came

    return play


M01 = Attack(
    id="M01",
    what="`<a/>` with h above what was sent, below the last, no number, negative, 2^32, absent, of 100,000 digits",
    unprotected="stanzas count as delivered that never were, or the count breaks the client",
    pcj=f"{NEVER_ASKED}: `NODE_IGNORED`, and no receipt changes",
    plays=inert_each(
        {
            f"h={name}": f"<a {SM} {h}/>"
            for name, h in {
                "99": "h='99'",
                "0": "h='0'",
                "abc": "h='abc'",
                "-1": "h='-1'",
                "2^32": "h='4294967296'",
                "none": "",
                "long": f"h='{'9' * 100_000}'",
            }.items()
        }
    ),
)

M02 = Attack(
    id="M02",
    what="`<resumed/>` with another previd, with h above and below, without h",
    unprotected="the client takes a session for its own that it never had, and drops what it should send again",
    pcj=f"{NEVER_ASKED}: `NODE_IGNORED` while READY; in place of an answer it ends the negotiation",
    plays=inert_each(
        {
            "another previd": f"<resumed {SM} previd='x' h='0'/>",
            "h above": f"<resumed {SM} previd='s1' h='100'/>",
            "no h": f"<resumed {SM} previd='s1'/>",
        }
    )
    | {"in place of bind": while_binding(f"<resumed {SM} previd='x' h='1'/>")},
)

M03 = Attack(
    id="M03",
    what="`<enabled/>` with `resume` and no id, an id of nearly a megabyte, `max` of -1, 0, 10^12, `abc`, a "
    "`location` elsewhere",
    unprotected="a token of the attacker's is kept and shown to another server; a timer of a million years",
    pcj=f"{NEVER_ASKED}: `NODE_IGNORED`",
    plays=inert_each(
        {
            "no id": f"<enabled {SM} resume='true'/>",
            "long id": f"<enabled {SM} resume='true' id='{'i' * 900_000}'/>",
            "max -1": f"<enabled {SM} resume='true' id='i' max='-1'/>",
            "max 10^12": f"<enabled {SM} resume='true' id='i' max='1000000000000'/>",
            "max abc": f"<enabled {SM} resume='true' id='i' max='abc'/>",
            "location": f"<enabled {SM} resume='true' id='i' location='evil.example:22'/>",
        }
    )
    | {"in place of bind": while_binding(f"<enabled {SM} resume='true' id='i'/>")},
)


async def answers_nothing(stage: Stage) -> None:
    """`<r/>` is answered by nothing."""
    async with stage.session() as session:
        before = len(session.foe.came)
        session.foe.send(f"<r {SM}/>" * 10)
        await session.barrier()
        assert b"<a" not in session.foe.came[before:]
        assert session.record.names.count("NODE_IGNORED") == 10


M04 = Attack(
    id="M04",
    what="`<enabled/>`, `<resumed/>`, `<r/>`, `<a/>` though stream management was never asked for, of its older "
    "namespace, too",
    unprotected="a server, or whoever gets a word in, switches on what the client did not want",
    pcj=f"{NEVER_ASKED}: `NODE_IGNORED` for each, no answer",
    plays={
        "r": answers_nothing,
        **{
            f"{name}, {version[-1]}": inert(f"<{name} xmlns='{version}' h='0' previd='x' id='x'/>")
            for name in ("enabled", "resumed", "a", "failed")
            for version in (STREAM_MANAGEMENT, STREAM_MANAGEMENT_2)
        },
    },
)


async def request_flood(stage: Stage) -> None:
    """A hundred thousand `<r/>`."""
    async with stage.session(watch=False) as session:
        block = f"<r {SM}/>" * 1_000
        before = len(session.foe.came)
        with steady(8):
            for _ in range(100):
                session.foe.send(block)
                await session.foe.drain()
            await session.barrier()
        assert len(session.foe.came) - before < 400, "one answer: to the ping"


M05 = Attack(
    id="M05",
    what="A hundred thousand `<r/>`",
    unprotected="an answer of forty bytes to each: the client is an amplifier, and chokes on its own queue",
    pcj=f"{NEVER_ASKED}: no answer, memory stays flat",
    plays=only(request_flood),
)


async def reads_nothing(stage: Stage) -> None:
    """The server takes nothing any more: what waits is bounded, and the user is told."""
    async with stage.session(queue_max_nodes=500, queue_max_bytes=2_000_000, watch=False) as session:
        session.foe.stop_reading()
        body = "x" * 10_000
        given = 0
        with flat(40):
            try:
                for _ in range(10_000):
                    session.broker.output(message(to=f"juliet@{DOMAIN}", body=body))
                    given += 1
                    if given % 20 == 0:
                        await asyncio.sleep(0)
            except QueueFull:
                pass
        assert given < 10_000, "100 MB were taken from the user"
        assert session.broker.queue <= 500
        began = time.monotonic()
        await session.broker.shutdown()
        session.foe.resume_reading()
        assert time.monotonic() - began < 4, "the close waits no longer than close_timeout, twice"


M06 = Attack(
    id="M06",
    what="A server that acknowledges nothing, or reads nothing any more, while we send",
    unprotected="all that the user sends waits in memory: in the buffer of the transport, where nobody counts it",
    pcj="there are no acknowledgements to wait for; past the network's own buffers nodes wait in the queue, whose "
    "bounds refuse more (`QueueFull`); shutdown waits `close_timeout` and no longer",
    plays={"reads nothing": reads_nothing},
)


async def sm_required(stage: Stage) -> None:
    async def script(foe: Foe) -> None:
        await foe.log_in(PASSWORD, f"<bind xmlns='{BIND}'/><sm {SM}><required/></sm>")
        foe.send(bound(await foe.asked()))

    refused = await stage.refused(script)
    refused.failed("STREAM_ERROR", "insists on the feature", STREAM_MANAGEMENT)


async def sm_behind(stage: Stage) -> None:
    async with stage.session(behind=f"<enabled {SM} id='x' resume='true'/>") as session:
        await session.barrier()
        assert session.record.since("READY")[0] == "NODE_IGNORED"


M07 = Attack(
    id="M07",
    what="Stream management offered as required, or an `<enabled/>` in one read with the answer to our request to bind",
    unprotected="the client counts from another stanza on than the server, and loses or repeats some",
    pcj=f"{NEVER_ASKED}: what is required and unknown is named in the failure; what comes unasked is `NODE_IGNORED`",
    plays={
        "required": sm_required,
        "behind the answer": sm_behind,
    },
)


M08 = Attack(
    id="M08",
    what="`<failed/>` with h, with a nested error, with nothing",
    unprotected="what was sent counts as lost, or as delivered, by the attacker's number",
    pcj=f"{NEVER_ASKED}: `NODE_IGNORED`",
    plays=inert_each(
        {
            "nothing": f"<failed {SM}/>",
            "h": f"<failed {SM} h='3'/>",
            "nested": f"<failed {SM}><error type='cancel'><unexpected-request/></error></failed>",
            "condition": f"<failed {SM}><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
        }
    ),
)

M09 = Attack(
    id="M09",
    what="The counters' wrap at 2^32, by acknowledgements on both sides of it",
    unprotected="compared without a window, everything is acknowledged at once, or nothing ever again",
    pcj=f"{NEVER_ASKED}: there is no counter; `NODE_IGNORED`",
    plays=inert_each({f"h={h}": f"<a {SM} h='{h}'/>" for h in (4_294_967_295, 4_294_967_296, 1, 2_147_483_648)}),
)


# ---- M10: the router's envelopes


def routed(inside: str, *, shown: int, attributes: str = "") -> Play:
    """An envelope of jabberd2's router: the link bears it, and the user gets so many nodes of it."""

    async def play(stage: Stage) -> None:
        async with stage.session(ROUTER_KIND) as session:
            route = f"<route xmlns='{JABBERD_COMPONENT}' from='{DOMAIN}' to='{ROUTER_KIND.jid}' {attributes}>"
            session.foe.send(f"{route}{inside}</route>")
            await session.barrier()
            assert session.record.names.count("NODERECEIVED") == shown
            assert session.broker.state == "ready"

    return play


INNER: Final = f"<message xmlns='{CLIENT}' from='juliet@{DOMAIN}' to='{ROUTER_KIND.jid}'><body>b</body></message>"
RESULT: Final = f"<iq xmlns='{CLIENT}' type='result' id='r' from='juliet@{DOMAIN}' to='{ROUTER_KIND.jid}'/>"


def vouches(envelope: str, sender: str, *, answers: bool) -> Play:
    """Whose reply it is, the stanza says, and never the envelope."""

    async def play(stage: Stage) -> None:
        async with stage.session(ROUTER_KIND) as session:
            future = session.broker.return_to_sender(ping(to=f"juliet@{DOMAIN}"))
            identity = await session.foe.asked()
            stanza = f"<iq xmlns='{CLIENT}' type='result' id='{identity}' from='{sender}' to='{ROUTER_KIND.jid}'/>"
            route = f"<route xmlns='{JABBERD_COMPONENT}' from='{envelope}' to='{ROUTER_KIND.jid}'>"
            session.foe.send(f"{route}{stanza}</route>")
            await session.barrier()
            assert future.done() == answers
            future.cancel()

    return play


M10 = Attack(
    id="M10",
    what="The router's `<route/>` with two stanzas, none, text, one of another namespace, another route in it, "
    "addresses that disagree, an unknown error, an error around a reply",
    unprotected="a stanza in an envelope is taken for another's, or an odd one ends the link",
    pcj="what is not one stanza is given on as it came; an error becomes the addressee's; the envelope's addresses "
    "count for nothing",
    plays={
        "two": routed(INNER * 2, shown=1),
        "none": routed("", shown=1),
        "text": routed("hello", shown=1),
        "another namespace": routed("<message xmlns='urn:example:x'/>", shown=1),
        "nested": routed(f"<route xmlns='{JABBERD_COMPONENT}'>{INNER}</route>", shown=1),
        "unknown error": routed(INNER, shown=1, attributes="error='999'"),
        "long error": routed(INNER, shown=1, attributes=f"error='{'9' * 10_000}'"),
        "error around a result": routed(RESULT, shown=0, attributes="error='404'"),
        "a log's copy": routed(INNER, shown=1, attributes="type='log'"),
        "an envelope from whom was asked": vouches(f"juliet@{DOMAIN}", f"nurse@{DOMAIN}", answers=False),
        "an envelope from elsewhere": vouches("elsewhere.example", f"juliet@{DOMAIN}", answers=True),
    },
)


# ---- M11: compression, and other features

COMPRESS: Final = "<compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>"


async def compression(stage: Stage) -> None:
    """Offered before and behind authentication: never asked for."""

    async def script(foe: Foe) -> None:
        await foe.header()
        foe.features(COMPRESS + mechanisms("SCRAM-SHA-256"))
        await foe.log_in(PASSWORD, COMPRESS + f"<bind xmlns='{BIND}'/>", greeted=True)
        foe.send(bound(await foe.asked()))
        await foe.farewell()

    async with stage.server(script) as at:
        broker = stage.broker(CLIENT_KIND, at.port)
        await broker.connect()
        await broker.shutdown()
    assert b"compress" not in stage.foes[0].came


async def compressed(stage: Stage) -> None:
    async with stage.session() as session:
        session.foe.send("<compressed xmlns='http://jabber.org/protocol/compress'/>")
        await session.barrier()
        session.foe.send(b"x\x9c\xb3\xb1\x01<presence/>")
        await session.lost()
        assert session.record.names.count("STREAM_ERROR") == 1


M11 = Attack(
    id="M11",
    what="Stream compression: offered before authentication and behind it, and `<compressed/>` unasked",
    see="CVE-2014-2741",
    unprotected="a kilobyte unpacks to a gigabyte; what is compressed before it is encrypted can be guessed by its "
    "length",
    pcj="never asked for; `<compressed/>` is a node that means nothing, and the bytes behind it are read as XML",
    plays={"offered": compression, "unasked": compressed},
)


# ---- M12 on: the end


def never_closes(kind: Kind, noise: str) -> Play:
    """Our close is answered by more of everything, and never by a close."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind, close_timeout=0.2) as session:
            foe = session.foe

            async def talk() -> None:
                while not foe.gone:
                    session.say(noise)
                    await asyncio.sleep(0.005)

            talking, reading = asyncio.create_task(talk()), asyncio.create_task(foe.rest())
            began = time.monotonic()
            await session.broker.shutdown()
            took = time.monotonic() - began
            await reading
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            assert 0.15 < took < 3.0, took
            assert session.record.names[-1] == "SHUTDOWN_FINISH"
            assert foe.text.count("</stream:stream>") == 1
            assert foe.text.endswith("</stream:stream>"), "something was written behind our closing tag"

    return play


M12 = Attack(
    id="M12",
    what="A server that never closes when we do, and goes on sending",
    unprotected="shutdown waits for ever: a program that cannot be ended",
    pcj="`close_timeout` after our closing tag the socket is cut; nothing is written behind that tag",
    plays={
        **{str(kind): never_closes(kind, f"<message from='a@{DOMAIN}'><body>x</body></message>") for kind in KINDS},
        "requests": never_closes(
            CLIENT_KIND, f"<iq type='get' id='q' from='a@{DOMAIN}'><x xmlns='urn:example:x'/></iq>"
        ),
    },
)


def limits(text: str) -> Play:
    """Limits of the server's (XEP-0478) that make no sense do no harm."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            said = f"<limits xmlns='urn:xmpp:stream-limits:0'>{text}</limits>"
            await foe.header()
            foe.features(said + mechanisms("SCRAM-SHA-256"))
            await foe.log_in(PASSWORD, said + f"<bind xmlns='{BIND}'/>", greeted=True)
            foe.send(bound(await foe.asked()))
            await foe.until("<body>hello</body>")
            await foe.farewell()

        async with stage.server(script) as at:
            broker = stage.broker(CLIENT_KIND, at.port)
            record = stage.record(broker)
            await broker.connect()
            broker.output(message(to=f"juliet@{DOMAIN}", body="hello"))
            await broker.shutdown()
            for status in record.of(Event.WARNING):
                assert len(str(status.detail)) < 1_000

    return play


M13 = Attack(
    id="M13",
    what="Limits of the server's (XEP-0478) that make no sense: zero, negative, no number, digits of another script, "
    "half a megabyte of digits, two of a kind",
    unprotected="a client that may send nothing, pings without a pause, or spends a minute on reading one number",
    pcj="only plain digits of bounded length count; any other is passed over",
    plays={
        "zero": limits("<max-bytes>0</max-bytes><idle-seconds>0</idle-seconds>"),
        "negative": limits("<max-bytes>-1</max-bytes><idle-seconds>-1</idle-seconds>"),
        "no number": limits("<max-bytes>many</max-bytes><idle-seconds/>"),
        "another script": limits("<max-bytes>\u0661\u0662\u0663</max-bytes>"),
        "signed": limits("<max-bytes>+10</max-bytes>"),
        "long": limits(f"<max-bytes>{'9' * 500_000}</max-bytes>"),
        "two": limits("<max-bytes>20000</max-bytes><max-bytes>1</max-bytes>"),
        "empty": limits(""),
    },
)


async def oversized(stage: Stage) -> None:
    """A stanza that is larger than the server takes is refused where it is output; the link lives."""

    async def script(foe: Foe) -> None:
        await foe.log_in(
            PASSWORD,
            f"<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>12000</max-bytes></limits><bind xmlns='{BIND}'/>",
        )
        foe.send(bound(await foe.asked()))
        await foe.until("<body>small</body>")
        await foe.farewell()

    async with stage.server(script) as at:
        broker = stage.broker(CLIENT_KIND, at.port, on_ready="send")
        record = stage.record(broker)
        held = broker.output(message(to=f"juliet@{DOMAIN}", body="held" * 5_000))
        await broker.connect()
        with pytest.raises(NodeError, match=r"12,?000"):
            broker.output(message(to=f"juliet@{DOMAIN}", body="large" * 5_000))
        broker.output(message(to=f"juliet@{DOMAIN}", body="small"))
        assert held.state == "dropped"
        assert record.names.count("NODE_DROPPED") == 1
        await broker.shutdown()
    assert b"large" not in stage.foes[0].came
    assert b"held" not in stage.foes[0].came


M14 = Attack(
    id="M14",
    what="A stanza of a peer's that, passed on, is larger than our server takes from us (a bridge's everyday life)",
    unprotected="the server ends the stream for it, and again each time it is sent anew: a loop",
    pcj="what the server says of its limits (XEP-0478) is kept: `output` refuses the stanza, one that waits is "
    "dropped by name",
    plays=only(oversized),
)

ROWS: Final = [M01, M02, M03, M04, M05, M06, M07, M08, M09, M10, M11, M12, M13, M14]
