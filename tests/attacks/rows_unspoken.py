"""The router's envelopes, extensions that pcj does not speak, and the end of a link (M10 to M14)."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import pytest

from pcj import Event, NodeError, message, ping
from pcj.namespaces import BIND, CLIENT, JABBERD_COMPONENT
from tests.attacks.attack import Attack, Play, only
from tests.attacks.foe import DOMAIN, Foe, mechanisms
from tests.attacks.stage import CLIENT_KIND, KINDS, PASSWORD, ROUTER_KIND, Kind, Stage, bound

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

ROWS: Final = [M10, M11, M12, M13, M14]
