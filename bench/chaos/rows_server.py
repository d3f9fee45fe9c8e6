"""Faults of the server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any, Final

from bench.chaos.proxy import Connection, Rule, Shape, hole, rst
from bench.chaos.rows import ALL, EXACT, MESSAGE_END, WINDOW, Outcome, Play, Row, Stage, play, times
from bench.chaos.run import Bench
from bench.chaos.servers import BARRIER, COMPONENT, SM, Mode
from pcj import Broker, ConnectionFailed

__all__ = ["ROWS"]

#: How long a server that ended stays away, in seconds.
_AWAY: Final = 3.0
_HOST_UNKNOWN: Final = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
    b"id='1' from='localhost' version='1.0'><stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
    b"</stream:error></stream:stream>"
)


def _cut_at(stage: Stage) -> Rule:
    return Rule("out", rst, pattern=MESSAGE_END, nth=stage.chance.randrange(40, 80))


def _delays(bench: Bench, retry: str) -> list[str]:
    found = {str(detail.get("retry")) for detail in bench.record.details("RECONNECT_DELAY")}
    return [] if retry in found else [f"no delay was of the class {retry!r}, only {sorted(found)}"]


def _ended(how: str) -> Iterator[Play]:
    """Plays in which the server's process ends in the middle of the traffic, and starts again after a while."""

    def of(mode: Mode) -> Play:
        async def run(stage: Stage) -> Outcome:
            at = stage.chance.randrange(40, 200)

            async def during(bench: Bench) -> None:
                await bench.until(lambda: len(bench.record.delivered_set) >= at, f"{at} have arrived")
                bench.record.server_died = True
                await (stage.site.kill() if how == "SIGKILL" else stage.site.terminate())
                await asyncio.sleep(_AWAY)
                await stage.site.start()
                await bench.until(lambda: bench.record.count("PCJ_READY") > 1, "READY at the new server", 30)

            def note(bench: Bench) -> str:
                refused = bench.record.details("SM_RESUMEFAILED")
                return f"resumption refused {len(refused)} times" if mode.managed else ""

            return await play(
                stage,
                mode,
                dataclasses.replace(WINDOW, in_repeated=None, reconnects=1),
                during=during,
                note=note,
                checks=lambda bench: _delays(bench, "fast"),
                options={"on_doubt": "resend"},
                spec={"rate": 150},
                count=500,
                timeout=90,
            )

        return Play(mode.name, run)

    for mode in ALL:
        yield of(mode)


async def _down_refusing(stage: Stage) -> Outcome:
    """The queue has room for a hundred; nobody listens to `drain`; the age bound is not reached."""

    async def during(bench: Bench) -> None:
        await bench.ready()
        await bench.gone()
        bench.order("limit 400")
        await bench.until(lambda: bench.record.refused, "the queue refuses")
        await asyncio.sleep(_AWAY)
        bench.proxy.mode = "pass"
        await bench.ready(2)

    def checks(bench: Bench) -> list[str]:
        delays = [float(str(detail.get("delay", 0))) for detail in bench.record.details("RECONNECT_DELAY")]
        wrong = [] if max(delays) <= 0.25 else [f"a delay of {max(delays)} s, past its bound of 0.25 s"]
        return wrong + ([] if len(set(delays)) > 2 else [f"the delays are not drawn at random: {delays}"])

    return await play(
        stage,
        COMPONENT,
        dataclasses.replace(WINDOW, max_queue=100, reconnects=1),
        during=during,
        checks=checks,
        options={"queue_max_nodes": 100, "high_water_nodes": 100},
        spec={"heedless": True, "limit": 50},
        count=400,
        count_in=20,
    )


async def _down_expiring(stage: Stage) -> Outcome:
    async def during(bench: Bench) -> None:
        await bench.ready()
        await bench.gone()
        bench.order("limit 200")
        await bench.until(lambda: len(bench.record.given) == 200, "all are given")
        await asyncio.sleep(2.5)
        bench.order("limit 300")
        await bench.until(lambda: len(bench.record.given) == 300, "all are given")
        bench.proxy.mode = "pass"
        await bench.ready(2)

    def checks(bench: Bench) -> list[str]:
        expired = {number for number in bench.record.given if bench.record.state(number) == "expired"}
        late = expired & bench.record.delivered_set - bench.record.doubts.keys()
        wrong = [f"expired, and sent all the same: {sorted(late)[:5]}"] if late else []
        return wrong if len(expired) >= 100 else [*wrong, f"only {len(expired)} expired, about 150 expected"]

    return await play(
        stage,
        COMPONENT,
        dataclasses.replace(WINDOW, reconnects=1),
        during=during,
        checks=checks,
        options={"queue_max_age": 1.5},
        spec={"limit": 50},
        count=300,
        count_in=20,
    )


def _deaf(mode_of_proxy: Any, seconds: float, retry: str, options: dict[str, Any], modes: tuple[Mode, ...]) -> Any:
    """Plays in which the server, after a cut, answers with nothing, or with an error, for a while."""

    def of(mode: Mode) -> Play:
        async def run(stage: Stage) -> Outcome:
            async def during(bench: Bench) -> None:
                bench.proxy.answer = _HOST_UNKNOWN
                await bench.until(lambda: len(bench.record.delivered_set) >= 30, "30 have arrived")
                bench.proxy.mode = mode_of_proxy
                bench.proxy.last.cut("rst")
                tried = bench.proxy.accepted
                await asyncio.sleep(seconds)
                await bench.until(lambda: bench.proxy.accepted - tried >= 2, "a second attempt")
                bench.proxy.mode = "pass"
                await bench.ready(2)

            expect = EXACT if mode.managed else WINDOW
            return await play(
                stage,
                mode,
                dataclasses.replace(expect, reconnects=1),
                during=during,
                checks=lambda bench: _delays(bench, retry),
                note=lambda bench: f"{bench.proxy.accepted} connections",
                options={"on_doubt": "resend", **options},
                spec={"rate": 200},
            )

        return Play(mode.name, run)

    for mode in modes:
        yield of(mode)


async def _half_open(stage: Stage) -> Outcome:
    """The old link is dead for us and alive for the server, which takes no second one of the same name."""

    async def during(bench: Bench) -> None:
        await bench.until(lambda: bench.proxy.cuts, "the link is a hole")
        await bench.until(lambda: bench.record.count("RECONNECT_DELAY") >= 3, "it is refused", 10)
        bench.proxy.connections[0].cut("rst")
        await bench.ready(2)

    def checks(bench: Bench) -> list[str]:
        errors = [str(detail) for _, name, detail in bench.record.events if name == "STREAM_ERROR"]
        wrong = [] if any("conflict" in each for each in errors) else [f"no conflict was told of: {errors[:3]}"]
        return wrong + _delays(bench, "slow")

    return await play(
        stage,
        COMPONENT,
        dataclasses.replace(WINDOW, reconnects=1),
        plan=times(1, lambda _: [Rule("out", hole(), pattern=MESSAGE_END, nth=40)]),
        during=during,
        checks=checks,
        note=lambda bench: f"refused {bench.record.count('STREAM_ERROR')} times",
        options={"on_doubt": "resend"},
        spec={"rate": 150},
    )


async def _dead_twin(stage: Stage) -> Outcome:
    """The old link is dead for us and alive for the server, which gives it a part of what is for us."""

    async def during(bench: Bench) -> None:
        bench.in_rate = 200
        await bench.until(lambda: bench.proxy.cuts, "the link is a hole")
        await bench.ready(2)
        before = bench.record.sent_in
        await bench.until(lambda: bench.record.sent_in >= before + 100, "100 were sent beside the dead twin")
        bench.proxy.connections[0].cut("rst")

    return await play(
        stage,
        COMPONENT,
        dataclasses.replace(WINDOW, in_order=False, reconnects=1),
        plan=times(1, lambda _: [Rule("out", hole(), pattern=MESSAGE_END, nth=40)]),
        during=during,
        options={"on_doubt": "resend"},
        spec={"rate": 100},
        count=400,
        count_in=800,
        timeout=90,
    )


def _refused(kill: bool) -> Any:
    """The session is gone when we come to resume it: its time is over, or the server was killed."""

    async def run(stage: Stage) -> Outcome:
        async def during(bench: Bench) -> None:
            await bench.until(lambda: bench.proxy.cuts, "it is cut")
            bench.proxy.mode = "refuse"
            if kill:
                bench.record.server_died = True
                await stage.site.kill()
                await stage.site.start()
            else:
                await asyncio.sleep(3.5)
            bench.proxy.mode = "pass"
            await bench.ready(2, 30)

        cut = _cut_at(stage)

        def plan(connection: Connection) -> None:
            # Told the truth, the broker would not even try once the time is over.
            connection.rewrite = None if kill else (re.compile(rb"max='1'"), b"max='600'")
            if connection.number == 0:
                connection.rules.append(cut)

        def checks(bench: Bench) -> list[str]:
            failed = bench.record.details("SM_RESUMEFAILED")
            if not failed:
                return ["the resumption was not refused, so this shows nothing"]
            return []

        def note(bench: Bench) -> str:
            said = [
                f"{detail.get('condition')}, h={detail.get('h')}" for detail in bench.record.details("SM_RESUMEFAILED")
            ]
            return "; ".join(said)

        return await play(
            stage,
            SM,
            dataclasses.replace(WINDOW, in_repeated=None if kill else 0, reconnects=1),
            plan=plan,
            during=during,
            checks=checks,
            note=note,
            options={"on_doubt": "resend"},
            forgets=None if kill else 1,
            spec={"rate": 200},
        )

    return run


async def _replaced(stage: Stage) -> Outcome:
    """Another client takes our name. Coming back would be a match of ping-pong."""

    async def during(bench: Bench) -> None:
        await bench.until(lambda: len(bench.record.settled) >= 100, "100 are settled")
        options = stage.site.options(SM) | {"host": "127.0.0.1", "port": stage.site.port(SM)}
        twin = Broker(options.pop("connection_type"), options.pop("jid"), **options)
        with contextlib.suppress(ConnectionFailed):
            await twin.connect()
        await bench.until(lambda: bench.record.count("PCJ_SHUTDOWN_FINISH"), "it has ended for good")
        bench.order("limit 150")
        await bench.until(lambda: len(bench.record.given) == 150, "all are given")
        await asyncio.sleep(1.0)
        await twin.shutdown()
        await bench.leave()

    def checks(bench: Bench) -> list[str]:
        wrong = [] if bench.record.count("PCJ_READY") == 1 else ["it came back: ping-pong"]
        held = [number for number, state in bench.record.left.items() if state == "queued"]
        return wrong if len(held) >= 50 else [*wrong, f"only {len(held)} nodes are still queued, 50 expected"]

    return await play(
        stage,
        SM,
        dataclasses.replace(WINDOW, lost=None),
        during=during,
        checks=checks,
        finish=False,
        spec={"limit": 100},
        count=150,
        count_in=50,
    )


def _throttled() -> Iterator[Play]:
    def of(mode: Mode) -> Play:
        async def run(stage: Stage) -> Outcome:
            def plan(connection: Connection) -> None:
                connection.shapes = {"out": Shape(chunk=100, rate=1000, read_ahead=256), "in": Shape()}

            def checks(bench: Bench) -> list[str]:
                record = bench.record
                wrong = [] if record.count("HIGH_WATER") else ["there was no HIGH_WATER"]
                wrong += [] if record.longest_drain > 0.5 else [f"drain waited {record.longest_drain} s at most"]
                wrong += [] if record.count("PCJ_READY") == 1 else ["the link was dropped, though it lived"]
                return wrong

            return await play(
                stage,
                mode,
                EXACT,
                plan=plan,
                checks=checks,
                receive_buffer=2048,
                options={
                    "high_water_nodes": 10,
                    "write_high_water": 2048,
                    "max_unacked_nodes": 20,
                    "probe_timeout": 20.0,
                },
                spec={"body": 200},
                count=60,
                timeout=90,
                quiet=15,
            )

        return Play(mode.name, run)

    for mode in (SM, BARRIER):
        yield of(mode)


async def _poison(stage: Stage) -> Outcome:
    """One node's answer is always the end of the stream: the proxy ends it with an error when it sees that node."""

    async def act(connection: Connection) -> None:
        await connection.close_stream("internal-server-error")

    marker = re.compile(rb"id=.o-60.[^>]*>")

    def checks(bench: Bench) -> list[str]:
        dropped = bench.record.dropped
        return [] if dropped == {60: "poison"} else [f"given up were {dropped}, only o-60 for poison was expected"]

    return await play(
        stage,
        COMPONENT,
        dataclasses.replace(WINDOW, reconnects=2),
        plan=times(100, lambda _: [Rule("out", act, pattern=marker, at="before")]),
        checks=checks,
        options={"on_doubt": "resend"},
        count=200,
    )


_ENDED = (
    "The window goes the way of its policy. What the server took over (acked) and lost is counted apart; nothing is "
)
_ENDED += "lost in silence, repeats only of nodes in doubt; class fast"

ROWS: Final = (
    Row("K21", "server", "SIGTERM, back in 3 s", _ENDED, tuple(_ended("SIGTERM"))),
    Row("K22", "server", "SIGKILL, back in 3 s", _ENDED, tuple(_ended("SIGKILL"))),
    Row(
        "K23",
        "server",
        "Down for long (bounds and times made small)",
        "Delays bounded and drawn at random; the queue refuses what is past its bound; what is too old expires, named",
        (Play("component, full", _down_refusing), Play("component, old", _down_expiring)),
    ),
    Row(
        "K24",
        "server",
        "Takes connections and says nothing, for a while",
        "Deadline of the stream, class fast, next attempt",
        tuple(_deaf("silent", 1.5, "fast", {"stream_timeout": 0.5, "authenticate_timeout": 0.5}, ALL)),
    ),
    Row(
        "K25",
        "server",
        "Answers host-unknown for a while",
        "Class slow, as READY was reached before; recovers alone",
        tuple(_deaf("answer", 1.0, "slow", {}, (SM, BARRIER))),
    ),
    Row(
        "K26",
        "server",
        "A component's old link is half-open at Prosody, which refuses the new one",
        "Class slow, one event per try, recovers alone",
        (Play("component", _half_open, only="prosody"),),
    ),
    Row(
        "K27",
        "server",
        "ejabberd still has the component's dead link, and gives it a part of what is for us",
        "Counted as never_reached_us; order in is the server's affair; out is not affected",
        (Play("component", _dead_twin, only="ejabberd"),),
    ),
    Row(
        "K28",
        "server",
        "The session's time is over: resumption refused",
        "Settled by h, where the server tells it; the rest goes the way of its policy",
        (Play("sm", _refused(kill=False)),),
    ),
    Row(
        "K29",
        "server",
        "The server knows nothing of the session (SIGKILL while we were away): refused without h",
        "All unacked are in doubt, and repeated at most once",
        (Play("sm", _refused(kill=True)),),
    ),
    Row(
        "K30",
        "server",
        "Another client takes our name while READY (conflict)",
        "Fatal, no ping-pong; what is queued stays queued",
        (Play("sm", _replaced),),
    ),
    Row(
        "K31",
        "server",
        "Reads 1 kB/s",
        "`drain` waits, HIGH_WATER is fired; no drop, no timer trips",
        tuple(_throttled()),
    ),
    Row(
        "K32",
        "server",
        "Ends the stream in error whenever it sees one certain node",
        "That node is given up by name (poison), no other is lost",
        (Play("component", _poison),),
    ),
)
