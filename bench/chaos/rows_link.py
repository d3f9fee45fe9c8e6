"""Faults of the link."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import signal
import time
from collections.abc import Iterator
from typing import Any, Final

from bench.chaos.check import Expect
from bench.chaos.plan import cuts_of, planner
from bench.chaos.proxy import BOTH, Connection, Direction, Rule, Shape, fin, hole, rst
from bench.chaos.rows import (
    ALL,
    EXACT,
    IN_STANZA,
    MESSAGE_END,
    NAMED,
    UNMANAGED,
    WINDOW,
    Outcome,
    Play,
    Row,
    Stage,
    play,
    times,
)
from bench.chaos.run import Bench
from bench.chaos.servers import COMPONENT, SM, SM_TLS, Mode, open_site

__all__ = ["ROWS"]

_CUTS: Final = 5
#: Silence and probe of the bench's brokers, and what a busy machine may add, in seconds.
_SILENCE, _PROBE, _MARGIN = 2.0, 1.0, 3.0
#: Where other bytes come, one question that is not answered may be behind them: several must be.
_QUESTIONS: Final = 4


def _expected(mode: Mode, policy: str, reconnects: int, managed: Expect = EXACT) -> Expect:
    base = managed if mode.managed else (WINDOW if policy == "resend" else NAMED)
    return dataclasses.replace(base, reconnects=reconnects, max_window=10_000, max_queue=10_000)


def _cut(
    direction: Direction | None,
    pattern: re.Pattern[bytes],
    then: Any,
    *,
    inside: bool = False,
    modes: tuple[Mode, ...] = ALL,
    drop: bool = True,
    managed: Expect = EXACT,
) -> Iterator[Play]:
    """Plays in which each of the first connections is cut at a place by chance."""

    def of(mode: Mode, policy: str) -> Play:
        async def run(stage: Stage) -> Outcome:
            def rules(number: int) -> list[Rule]:
                way = stage.chance.choice(BOTH) if direction is None else direction
                at: Any = {"at": "inside", "offset": stage.chance.randrange(1, 150)} if inside else {}
                return [Rule(way, then, pattern=pattern, nth=stage.chance.randrange(1, 50), **at)]

            # A plan that is drawn as connections come would depend on their number: drawn beforehand.
            drawn = [rules(number) for number in range(_CUTS)]
            options = {"on_doubt": policy}
            return await play(
                stage,
                mode,
                _expected(mode, policy, _CUTS, managed),
                plan=times(_CUTS, lambda number: drawn[number]),
                options=options,
                spec={"rate": 400},
                count=600,
            )

        return Play(mode.name if policy == "resend" else f"{mode.name}, {policy}", run)

    for mode in modes:
        yield of(mode, "resend")
    if drop and COMPONENT in modes:
        yield of(COMPONENT, "drop")


def _clean_end(connection: Connection) -> Any:
    return connection.close_stream()


def _holes(*directions: Direction, modes: tuple[Mode, ...] = ALL) -> Iterator[Play]:
    """Plays in which the link becomes a black hole in the middle of the traffic."""

    def of(mode: Mode) -> Play:
        async def run(stage: Stage) -> Outcome:
            nth = stage.chance.randrange(20, 60)
            noticed: list[float] = []

            async def during(bench: Bench) -> None:
                bench.in_rate = 150
                await bench.until(lambda: bench.proxy.cuts, "the link is a hole")
                begun = time.monotonic()
                first = bench.proxy.connections[0]
                await bench.until(lambda: bench.record.count("PCJ_SOCKETDISCONNECT"), "the hole is noticed")
                noticed.append(time.monotonic() - begun)
                if mode.component:  # its server's own timer: see K26 and K27 for what comes before that
                    first.cut("rst")

            def checks(bench: Bench) -> list[str]:
                wrong = []
                limit = _SILENCE + _QUESTIONS * _PROBE + _MARGIN
                if not noticed or noticed[0] > limit:
                    wrong.append(f"the hole was noticed after {noticed} s, at most {limit} s expected")
                end = bench.proxy.connections[0].broker_end
                if not mode.component and end != "reset by the broker":
                    wrong.append(f"the dead socket was {end or 'kept open'}, a reset expected")
                return wrong

            return await play(
                stage,
                mode,
                _expected(mode, "resend", 1),
                plan=times(1, lambda _: [Rule("out", hole(*directions), pattern=MESSAGE_END, nth=nth)]),
                during=during,
                checks=checks,
                note=lambda _: f"noticed after {noticed[0]:.1f} s" if noticed else "",
                options={"on_doubt": "resend"},
                spec={"rate": 100},
                count=500,
                count_in=700,
            )

        return Play(mode.name, run)

    for mode in modes:
        yield of(mode)


def _no_reconnect(bench: Bench) -> list[str]:
    ready = bench.record.count("PCJ_READY")
    return [] if ready == 1 else [f"READY {ready} times: the link was dropped, though it lived"]


def _stalls() -> Iterator[Play]:
    def of(mode: Mode) -> Play:
        async def run(stage: Stage) -> Outcome:
            async def during(bench: Bench) -> None:
                await bench.ready()
                for _ in range(4):
                    bench.proxy.last.stall("out", "in")
                    await asyncio.sleep(0.9)
                    bench.proxy.last.resume()
                    await asyncio.sleep(0.15)

            return await play(
                stage,
                mode,
                dataclasses.replace(EXACT),
                during=during,
                checks=_no_reconnect,
                options={"silence_timeout": 1.0, "probe_timeout": 1.0},
                spec={"rate": 100},
            )

        return Play(mode.name, run)

    for mode in ALL:
        yield of(mode)


def _shaped(shape: Shape, count: int, options: dict[str, Any], modes: tuple[Mode, ...] = ALL) -> Iterator[Play]:
    def of(mode: Mode) -> Play:
        async def run(stage: Stage) -> Outcome:
            def plan(connection: Connection) -> None:
                connection.shapes = {"out": shape, "in": shape}

            return await play(
                stage, mode, EXACT, plan=plan, checks=_no_reconnect, options=options, count=count, timeout=90.0, quiet=8
            )

        return Play(mode.name, run)

    for mode in modes:
        yield of(mode)


async def _cut_before_enabled(stage: Stage) -> Outcome:
    plan = times(2, lambda _: [Rule("in", rst, pattern=re.compile(rb"<enabled"), at="before")])
    return await play(stage, SM, dataclasses.replace(WINDOW, reconnects=0), plan=plan)


async def _cut_before_resumed(stage: Stage) -> Outcome:
    def rules(number: int) -> list[Rule]:
        if number in (1, 2):
            return [Rule("in", rst, pattern=re.compile(rb"<resumed"), at="before")]
        return [Rule("out", rst, pattern=MESSAGE_END, nth=stage.chance.randrange(20, 60))]

    def checks(bench: Bench) -> list[str]:
        cut = [number for _, number, _ in bench.proxy.cuts]
        return [] if cut == [0, 1, 2] else [f"cut were the connections {cut}, meant were 0, 1 and 2"]

    return await play(stage, SM, dataclasses.replace(EXACT, reconnects=1), plan=times(3, rules), checks=checks)


async def _resumed_unheard(stage: Stage) -> Outcome:
    """The server resumes, and we never hear of it: whoever closes the stream then ends the session with it."""

    def rules(number: int) -> list[Rule]:
        if number == 1:
            return [Rule("in", hole("in"), pattern=re.compile(rb"<resumed"), at="before")]
        return [Rule("out", rst, pattern=MESSAGE_END, nth=nth)]

    nth = stage.chance.randrange(20, 60)
    return await play(
        stage,
        SM,
        dataclasses.replace(EXACT, reconnects=1),
        plan=times(2, rules),
        options={"stream_timeout": 0.5},
    )


async def _cut_in_retransmission(stage: Stage) -> Outcome:
    """What goes into the hole is unacked for sure, so that there is something to send again; that is cut, twice."""

    def rules(number: int) -> list[Rule]:
        if number == 0:
            return [Rule("out", hole("out"), pattern=MESSAGE_END, nth=30)]
        nth = stage.chance.randrange(2, 8)
        return [
            Rule("out", rst, pattern=IN_STANZA, nth=nth, at="inside", offset=stage.chance.randrange(1, 150)),
        ]

    async def during(bench: Bench) -> None:
        await bench.until(lambda: bench.proxy.connections and bench.proxy.connections[0].dropped["out"] > 6000, "lost")
        bench.proxy.connections[0].cut("rst")

    return await play(stage, SM, dataclasses.replace(EXACT, reconnects=3), plan=times(3, rules), during=during)


async def _ack_unread(stage: Stage) -> Outcome:
    """The process stands still while `<a/>` and the reset after it reach the kernel."""
    nth = stage.chance.randrange(2, 5)
    stopped: list[bool] = []
    holder: list[Bench] = []

    def stop(connection: Connection) -> None:
        process = holder[0].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        stopped.append(True)

    async def reset(connection: Connection) -> None:
        await asyncio.sleep(0.1)  # until it has stopped, and the kernel has it
        connection.cut("rst")

    async def during(bench: Bench) -> None:
        holder.append(bench)
        await bench.until(lambda: bench.proxy.cuts, "it is cut behind <a/>")
        await asyncio.sleep(0.2)
        assert bench.process is not None
        bench.process.send_signal(signal.SIGCONT)

    ack = rb"<a [^>]*h="
    plan = times(
        1,
        lambda _: [
            Rule("in", stop, pattern=re.compile(ack), nth=nth, at="before"),
            Rule("in", reset, pattern=re.compile(ack + rb"[^>]*>"), nth=nth),
        ],
    )
    spec = {"rate": 200}
    return await play(stage, SM, dataclasses.replace(EXACT, reconnects=1), plan=plan, during=during, spec=spec)


def _garbled() -> Iterator[Play]:
    def of(direction: Direction) -> Play:
        async def run(stage: Stage) -> Outcome:
            def act(connection: Connection) -> None:
                connection.garble(direction)

            after = [stage.chance.randrange(15_000, 40_000) for _ in range(2)]
            return await play(
                stage,
                SM_TLS,
                dataclasses.replace(EXACT, reconnects=2),
                plan=times(2, lambda number: [Rule(direction, act, after=after[number])]),
                count=600,
            )

        return Play(f"sm-tls, {'ours' if direction == 'out' else 'theirs'}", run)

    for direction in BOTH:
        yield of(direction)


def _everything() -> Iterator[Play]:
    """The long run in small: random bytes of TLS, in all the ways of the plan."""

    def of(mode: Mode) -> Play:
        async def run(stage: Stage) -> Outcome:
            cuts = cuts_of(stage.seed, 20, 20_000, holes=not mode.component)
            return await play(
                stage,
                mode,
                dataclasses.replace(EXACT if mode.managed else WINDOW),
                plan=planner(cuts),
                options={"on_doubt": "resend"},
                count=2000,
                timeout=120,
            )

        return Play(mode.name, run)

    for mode in (SM_TLS, *UNMANAGED):
        yield of(mode)


async def _as_prosody_comes(stage: Stage) -> Outcome:
    """The same cuts, and a server that reads on with the parser of the dead link: see servers.py."""
    rules = [
        [Rule("out", rst, pattern=IN_STANZA, nth=stage.chance.randrange(1, 50), at="inside", offset=60)]
        for _ in range(_CUTS)
    ]
    async with open_site("prosody", mended=False) as site:
        return await play(
            dataclasses.replace(stage, site=site),
            SM,
            WINDOW,
            plan=times(_CUTS, lambda number: rules[number]),
            note=lambda bench: f"{bench.record.count('SESSION_LOST') - 1} sessions lost by the server",
            options={"on_doubt": "resend"},
            spec={"rate": 400},
            count=400,
        )


_AS_K01 = "With stream management nothing lost and nothing repeated, both ways. With the barrier nothing of ours lost, "
_AS_K01 += "repeats only of nodes in doubt; with `drop` what is lost is named. What comes in: the server's loss"
_TEN_TIMES_FASTER: Final[dict[str, Any]] = {"silence_timeout": 6.0, "probe_timeout": 2.0}

ROWS: Final = (
    Row("K01", "link", "RST between two stanzas", _AS_K01, tuple(_cut(None, MESSAGE_END, rst))),
    Row(
        "K02",
        "link",
        "RST in the middle of a stanza of ours",
        "As K01; the half stanza is acted on by nobody",
        (*_cut("out", IN_STANZA, rst, inside=True), Play("sm, as Prosody comes", _as_prosody_comes, only="prosody")),
    ),
    Row(
        "K03",
        "link",
        "RST in the middle of a stanza of the server's",
        "As K01; half a node is given to nobody; with stream management it comes again whole",
        tuple(_cut("in", IN_STANZA, rst, inside=True, drop=False)),
    ),
    Row("K04", "link", "FIN without `</stream:stream>`", "As K01", tuple(_cut("in", MESSAGE_END, fin, drop=False))),
    Row(
        "K05",
        "link",
        "`</stream:stream>`, then FIN",
        "The server has ended the session: no resumption; what is unproved goes the way of its policy",
        tuple(_cut("in", MESSAGE_END, _clean_end, managed=WINDOW)),
    ),
    Row(
        "K06",
        "link",
        "Black hole both ways",
        "Noticed within silence and probe time, then as K01; the dead socket is reset",
        tuple(_holes("out", "in")),
    ),
    Row(
        "K07",
        "link",
        "Black hole inbound: what we write arrives",
        "As K06; the window was delivered: it is repeated at most once, and named",
        tuple(_holes("in")),
    ),
    Row(
        "K08",
        "link",
        "Black hole outbound: we hear the server, it does not hear us",
        "The unanswered request for a proof trips, though there is no silence",
        tuple(_holes("out")),
    ),
    Row("K09", "link", "Stalled for 90 % of the silence limit, again and again", "No reconnect", tuple(_stalls())),
    Row(
        "K10",
        "link",
        "One byte per write, both ways",
        "As if whole; no timer trips",
        tuple(_shaped(Shape(chunk=1), 60, {})),
    ),
    Row(
        "K11",
        "link",
        "Latency with jitter, 100 kbit/s (0.5 s, and silence and probe time at a tenth of their defaults)",
        "No false drop",
        tuple(_shaped(Shape(latency=0.5, jitter=0.1, rate=12_500), 150, _TEN_TIMES_FASTER)),
    ),
    Row(
        "K13",
        "link",
        "Cut between `<enable/>` and `<enabled/>`",
        "No session to resume: as without stream management",
        (Play("sm", _cut_before_enabled),),
    ),
    Row(
        "K14",
        "link",
        "Cut between `<resume/>` and `<resumed/>`, twice",
        "Resumed again with the same id and h; nothing repeated",
        (Play("sm", _cut_before_resumed),),
    ),
    Row(
        "K42",
        "link",
        "Black hole inbound between `<resume/>` and `<resumed/>`: the deadline of the negotiation ends the attempt",
        "The stream is not closed, which would end the session with it: resumed again, nothing lost, nothing repeated",
        (Play("sm", _resumed_unheard),),
    ),
    Row(
        "K15",
        "link",
        "Cut after `<resumed/>`, in the retransmission, twice",
        "It begins anew from the new h; nothing lost, nothing repeated",
        (Play("sm", _cut_in_retransmission),),
    ),
    Row(
        "K16",
        "link",
        "Cut when `<a/>` is in the kernel, and not read by us",
        "What is left is read first, or the h of the resumption counts",
        (Play("sm", _ack_unread),),
    ),
    Row(
        "K18",
        "link",
        "A bit of the TLS stream is flipped",
        "An unclean drop as K01, not a failure of the certificate",
        tuple(_garbled()),
    ),
    Row(
        "K19",
        "link",
        "The address changes: one interface goes, another comes",
        "As K01",
        elsewhere="pcj is not told of it by the system, and loopback does not change: to the link it is K06, which is "
        "how it is noticed",
    ),
    Row(
        "K40",
        "link",
        "The long run in small: 20 connections cut at random bytes, negotiation included, one in fifty in small pieces",
        "As K01",
        tuple(_everything()),
    ),
)
