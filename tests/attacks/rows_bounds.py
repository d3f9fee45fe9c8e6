"""The XML stream: too much of it (X15 to X20)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pcj import Event, Status
from tests.attacks.attack import Attack, Play, only
from tests.attacks.foe import DOMAIN, Foe
from tests.attacks.memory import flat, resident, steady
from tests.attacks.phases import at_auth, at_bind, at_features, at_greeting, at_handshake, at_iq_auth, at_proceed
from tests.attacks.stage import (
    CLIENT_KIND,
    COMPONENT_KIND,
    LEGACY_KIND,
    SOON,
    Kind,
    Stage,
)

WHO: Final = "from='a@b'"


# ---- X15, X16: bytes and depth

BYTES: Final = 20_000


def by_text(size: int) -> str:
    frame = f"<message {WHO}><body></body></message>"
    return f"<message {WHO}><body>{'x' * (size - len(frame))}</body></message>"


def by_children(size: int) -> str:
    frame = f"<message {WHO}></message>"
    count, rest = divmod(size - len(frame), len("<x/>"))
    return f"<message {WHO}>{'<x/>' * count}{' ' * rest}</message>"


def by_attributes(size: int) -> str:
    frame = f"<message {WHO} long=''/>"
    listed = "".join(f" a{number:02}='{'v' * 100}'" for number in range(60))
    return f"<message {WHO}{listed} long='{'x' * (size - len(frame) - len(listed))}'/>"


def by_name(size: int) -> str:
    frame = f"<message {WHO}></message>"
    return f"<message {WHO}><{'n' * (size - len(frame) - 3)}/></message>"


def by_namespaces(size: int) -> str:
    frame = f"<message {WHO} xmlns:last=''/>"
    each = len(" xmlns:p00000=''") + 200
    count, rest = divmod(size - len(frame), each)
    listed = "".join(f" xmlns:p{number:05}='{'u' * 200}'" for number in range(count))
    return f"<message {WHO}{listed} xmlns:last='{'u' * rest}'/>"


def sized(make: Callable[[int], str], kind: Kind = CLIENT_KIND) -> Play:
    """At the bound it passes, one past it the stream ends."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind, max_stanza_bytes=BYTES) as session:
            assert len(make(BYTES)) == BYTES
            session.foe.send(make(BYTES))
            await session.barrier()
            assert session.record.names.count("NODERECEIVED") == 1
            session.foe.send(make(BYTES + 1))
            await session.refused("policy-violation")
            assert session.record.names.count("NODERECEIVED") == 1

    return play


def never_ending(data: str, *, connecting: bool) -> Play:
    """One element that has no end: the stream ends at the bound, and no more is held than that."""

    async def play(stage: Stage) -> None:
        block = data.encode() * (65_536 // len(data))

        async def flood(foe: Foe) -> None:
            for _ in range(1_000):  # 64 MB
                foe.send(block)
                await foe.drain()

        with flat(6):
            if connecting:

                async def script(foe: Foe) -> None:
                    await foe.header()
                    foe.send("<stream:features><x>")
                    await flood(foe)

                refused = await stage.refused(script, max_stanza_bytes=BYTES)
                refused.failed("STREAM_ERROR", str(BYTES))
                refused.nothing_shown()
                return
            async with stage.session(max_stanza_bytes=BYTES, close_timeout=0.05) as session:
                session.foe.send("<message><body>")
                sending = asyncio.create_task(flood(session.foe))
                await session.broker.wait_for(Event.PCJ_SOCKETDISCONNECT, timeout=5)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                assert "STREAM_ERROR" in session.record.names

    return play


def attributes(number: int) -> str:
    return "".join(f" a{place}=''" for place in range(number))


async def attributes_at_the_bound(stage: Stage) -> None:
    """`max_attributes` of one element, and one more."""
    async with stage.session(max_attributes=20) as session:
        session.foe.send(f"<message {WHO}{attributes(19)}/>")
        await session.barrier()
        session.foe.send(f"<message {WHO}{attributes(20)}/>")
        await session.refused("policy-violation")
        assert session.record.names.count("NODERECEIVED") == 1


X15 = Attack(
    id="X15",
    what="A stanza at the bound of bytes and one past it: by one text, many children, attributes, one name, "
    "namespaces; one that never ends; one attribute more than may be",
    unprotected="memory is the attacker's: one stanza holds all of it",
    pcj="what reaches `max_stanza_bytes` or `max_attributes` is accepted, one more is policy-violation; of what "
    "never ends no more is held",
    plays={
        "text": sized(by_text),
        "children": sized(by_children),
        "attributes": sized(by_attributes),
        "name": sized(by_name),
        "namespaces": sized(by_namespaces),
        "text, component": sized(by_text, COMPONENT_KIND),
        "no end, text": never_ending("x" * 64, connecting=False),
        "no end, children": never_ending("<a>b</a>" * 8, connecting=False),
        "no end, negotiating": never_ending("x" * 64, connecting=True),
        "no end, children, negotiating": never_ending("<a>b</a>" * 8, connecting=True),
        "number of attributes": attributes_at_the_bound,
    },
)


def deep(levels: int, *, accepted: bool) -> Play:
    """A message of so many levels, itself the first."""

    async def play(stage: Stage) -> None:
        async with stage.session() as session:
            session.foe.send(f"<message {WHO}>{'<x>' * (levels - 1)}{'</x>' * (levels - 1)}</message>")
            if accepted:
                await session.barrier()
            else:
                await session.refused("policy-violation")
            assert session.record.names.count("NODERECEIVED") == accepted

    return play


async def abyss(stage: Stage) -> None:
    """A hundred thousand levels: neither the stack nor the memory is the attacker's."""
    async with stage.session() as session:
        session.foe.send(f"<message>{'<x>' * 100_000}")
        with flat(24):  # what one read of the network makes of it
            await session.refused("policy-violation")


async def abyss_negotiating(stage: Stage) -> None:
    """The same in place of the features."""

    async def script(foe: Foe) -> None:
        await foe.header()
        foe.send(f"<stream:features>{'<x>' * 100_000}")

    refused = await stage.refused(script)
    refused.failed("STREAM_ERROR", "256 levels")
    assert refused.foe.said == "policy-violation"
    refused.nothing_shown()


X16 = Attack(
    id="X16",
    what="Elements within elements: at `max_depth`, one past it, a hundred thousand",
    unprotected="code that walks the tree by recursion overflows its stack",
    pcj="at most `max_depth` levels (256), then policy-violation",
    plays={
        "255": deep(255, accepted=True),
        "256": deep(256, accepted=True),
        "257": deep(257, accepted=False),
        "100,000": abyss,
        "100,000, negotiating": abyss_negotiating,
    },
)


# ---- X17 to X19: much of what is allowed


def names(make: Callable[[int], str]) -> Play:
    """Forty names in each stanza, never one twice: what is kept of them is bounded."""

    async def play(stage: Stage) -> None:
        number, heard = 6_000, 0

        def count(status: Status) -> None:
            nonlocal heard
            heard += 1

        async with stage.session(watch=False, max_names=2_000) as session:
            session.broker.subscribe(Event.PCJ_NODERECEIVED, count)
            with steady(12):
                for first in range(0, number, 200):
                    session.foe.send("".join(map(make, range(first, first + 200))))
                    await session.foe.settle()
                await session.barrier()
        assert heard == number

    return play


X17 = Attack(
    id="X17",
    what="Hundreds of thousands of distinct names over the life of a stream: of elements, attributes, prefixes, "
    "namespaces",
    unprotected="a parser keeps each name it has ever seen: the process grows for as long as it runs",
    pcj="after `max_names` the parser is made anew at the next boundary between stanzas: memory stays flat, nothing "
    "is lost",
    plays={
        "elements": names(lambda n: "<message>" + "".join(f"<e{n}x{i}/>" for i in range(40)) + "</message>"),
        "attributes": names(lambda n: "<message>" + "".join(f"<x a{n}x{i}=''/>" for i in range(40)) + "</message>"),
        "prefixes": names(
            lambda n: "<message>" + "".join(f"<p{n}x{i}:e xmlns:p{n}x{i}='u'/>" for i in range(40)) + "</message>"
        ),
        "namespaces": names(
            lambda n: "<message>" + "".join(f"<e xmlns='u{n}x{i}'/>" for i in range(40)) + "</message>"
        ),
    },
    note="6,000 stanzas with 40 names each, and `max_names` 2,000 in place of its default",
)


async def vcards(stage: Stage) -> None:
    """The relative namespace that libxml2 warns of, each time, and for ever."""
    number = 200_000
    heard = 0

    def count(status: Status) -> None:
        nonlocal heard
        heard += 1

    block = (f"<iq type='result' id='v' from='juliet@{DOMAIN}'><vCard xmlns='vcard-temp'/></iq>" * 1_000).encode()
    async with stage.session(watch=False) as session:
        session.broker.subscribe(Event.PCJ_NODERECEIVED, count)
        grown = 0.0
        for turn in range(number // 1_000):
            session.foe.send(block)
            await session.foe.drain()
            if turn == 20:
                grown = -resident()
        await session.barrier()
        grown += resident()
    assert heard == number
    assert grown < 8, f"{grown:.1f} MB"


X18 = Attack(
    id="X18",
    what="200,000 stanzas in `vcard-temp`, the relative namespace that every vCard has",
    unprotected="libxml2 notes a warning for each, and older lxml keeps them all: 30 MB; a client that takes the "
    "warning for an error lets anybody cut its link",
    pcj="accepted, and memory stays flat",
    plays=only(vcards),
)


async def spaces(stage: Stage) -> None:
    """100 MB of white space between two messages."""
    async with stage.session() as session:
        block = b" " * 1_000_000
        began = time.process_time()
        with flat(8):
            for _ in range(100):
                session.foe.send(block)
                await session.foe.drain()
            await session.barrier()
        assert time.process_time() - began < 5


async def single_spaces(stage: Stage) -> None:
    """One at a time."""
    async with stage.session() as session:
        with flat(4):
            for _ in range(10_000):
                session.foe.send(b" ")
                await session.foe.settle()
            await session.barrier()


async def spaces_before(stage: Stage) -> None:
    """White space in place of the features, for ever: the deadline of the phase is the end of it."""

    async def script(foe: Foe) -> None:
        await foe.header()
        while True:
            foe.send(b" " * 65_536)
            await foe.drain()

    with flat(8):
        refused = await stage.refused(script, stream_timeout=SOON)
    refused.failed("STREAM_ERROR", "no answer")
    refused.nothing_shown()


X19 = Attack(
    id="X19",
    what="White space without end: 100 MB at once, a space at a time, in place of an answer",
    unprotected="a parser hangs it on the last node as text: all of it is kept; each read is put off by it",
    pcj="passed over at the cost of reading it, and nothing is kept; before READY the deadline of the phase ends it",
    plays={"100 MB": spaces, "10,000 single ones": single_spaces, "negotiating": spaces_before},
)


# ---- X20: slow


def trickle(first: str, kind: Kind = CLIENT_KIND) -> Play:
    """An element that was begun and goes on a byte at a time; white space before it counts for nothing."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind, stanza_timeout=SOON) as session:
            session.foe.send(" ")
            await asyncio.sleep(0.05)
            session.foe.send(first)

            async def drip() -> None:
                while not session.foe.gone:
                    session.foe.send("x")
                    await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            try:
                names = await session.lost()
            finally:
                dripping.cancel()
                await asyncio.gather(dripping, return_exceptions=True)
            assert names.count("STREAM_ERROR") == 1, names
            assert "NODERECEIVED" not in names
            error = session.record.one(Event.STREAM_ERROR).error
            assert f"{SOON:g} s" in str(error), error

    return play


def slow_phase(
    script: Callable[[Foe], Awaitable[object]],
    deadline: str,
    event: str,
    kind: Kind = CLIENT_KIND,
    begun: str = "<message><body>",
) -> Play:
    """One byte at a time in a phase of the negotiation: its deadline is not put off."""

    async def play(stage: Stage) -> None:
        async def slow(foe: Foe) -> None:
            await script(foe)
            foe.send(begun)
            while True:
                foe.send("x")
                await foe.drain()
                await asyncio.sleep(0.01)

        deadlines: dict[str, Any] = {deadline: SOON}
        refused = await stage.refused(slow, kind=kind, **deadlines)
        refused.failed(event, f"within {SOON:g} s")
        assert refused.took < 4

    return play


X20 = Attack(
    id="X20",
    what="An element that comes a byte at a time and never ends, while READY and in each phase before",
    unprotected="a timer that each byte winds up again never ends: the link looks alive and brings nothing",
    pcj="while READY `stanza_timeout` ends the stream; before, the deadline of the phase, which no byte puts off",
    plays={
        "while READY": trickle("<message><body>"),
        "while READY, in a tag": trickle("<message id='"),
        "while READY, component": trickle("<message><body>", COMPONENT_KIND),
        "features": slow_phase(at_features, "stream_timeout", "STREAM_ERROR"),
        "header": slow_phase(at_greeting, "stream_timeout", "STREAM_ERROR", begun="x='"),
        "proceed": slow_phase(at_proceed, "tls_timeout", "SSLFAIL"),
        "authentication": slow_phase(at_auth, "authenticate_timeout", "AUTHFAIL"),
        "bind": slow_phase(at_bind, "bind_timeout", "BINDFAIL"),
        "handshake": slow_phase(at_handshake, "authenticate_timeout", "AUTHFAIL", COMPONENT_KIND),
        "iq:auth": slow_phase(at_iq_auth, "authenticate_timeout", "AUTHFAIL", LEGACY_KIND),
    },
)

ROWS: Final = [X15, X16, X17, X18, X19, X20]
