"""How nodes are proved where there is no stream management, how many may be unproved, and who waits for that."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from pcj import ConnectionFailed, DeliveryError, Event, Node, ReceiptState, UsageError, message
from tests.shell.links import BARRIER, Record, Wire, client, component, returned, run, scripted, turns

TO = "a@localhost"


def said(body: str) -> Node:
    return message(to=TO, body=body)


def bodies(came: str) -> list[str]:
    return re.findall("<body>([^<]*)</body>", came)


async def logged_in(wire: Wire) -> None:
    await wire.login()
    await wire.bind()


@pytest.mark.parametrize("kind", ["component", "client"])
def test_a_link_without_stream_management_proves_by_pings_of_its_own_that_nobody_sees(kind: str) -> None:
    async def main() -> None:
        asked: list[str] = []

        async def script(wire: Wire) -> None:
            await (wire.component() if kind == "component" else logged_in(wire))
            came = await wire.until("</iq>")
            asked.append(came)
            wire.prove(came)
            await wire.proving()

        async with scripted(script) as at:
            broker = (component if kind == "component" else client)(at.port, ack_every_nodes=3)
            record = Record(broker)
            async with broker:
                receipts = [broker.output(said(str(n))) for n in range(3)]
                for receipt in receipts:
                    await receipt.acked(5.0)
                names = record.since("READY")
            assert names == [*["NODESENT"] * 3, *["NODE_ACKED"] * 3]
            assert [status.detail["by"] for status in record.of(Event.NODE_ACKED)] == ["barrier"] * 3
        (ping,) = BARRIER.finditer(asked[0])
        own = "echo.localhost" if kind == "component" else None
        for address in ("to", "from"):
            found = re.search(rf' {address}="([^"]*)"', ping[0])
            assert (found[1] if found else None) == own
        assert asked[0].endswith(ping[0]), "behind what it proves"

    run(main)


Answers = Callable[[list["re.Match[str]"]], str]
#: What comes of three barriers, each behind two nodes: (answers, nodes proved).
ANSWERS: dict[str, tuple[Answers, int]] = {
    "all of them": (lambda asked: "".join(map(returned, asked)), 6),
    "none of them": (lambda asked: "", 0),
    "the first is lost": (lambda asked: returned(asked[1]), 4),
    "only the last": (lambda asked: returned(asked[2]), 6),
    "the last is lost": (lambda asked: returned(asked[0]) + returned(asked[1]), 4),
    "each twice": (lambda asked: "".join(returned(each) * 2 for each in asked), 6),
    "in the wrong order": (lambda asked: "".join(map(returned, reversed(asked))), 6),
    "an error is an answer": (lambda asked: f"<iq type='error' id='{asked[0][1]}' from='echo.localhost'/>", 2),
    "of another id": (lambda asked: f"<iq type='result' id='{asked[0][1]}9' from='echo.localhost'/>", 0),
    "of another's ping": (lambda asked: "<iq type='result' id='1' from='echo.localhost'/>", 0),
    "no iq": (lambda asked: f"<message id='{asked[2][1]}' type='error'/>", 0),
}


@pytest.mark.parametrize(("answers", "proved"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_barrier_that_comes_back_proves_all_before_it_and_one_that_is_lost_nothing(
    answers: Answers, proved: int
) -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()
            asked: list[re.Match[str]] = []
            while len(asked) < 3:
                asked += BARRIER.finditer(await wire.until("</iq>"))
            wire.send(answers(asked) + "<message from='a@localhost' to='echo.localhost'/>")
            await wire.close()

        async with scripted(script) as at:
            broker = component(at.port, ack_every_nodes=2, ack_every_seconds=60.0, close_timeout=0.1)
            record = Record(broker)
            heard = broker.events(Event.PCJ_NODERECEIVED)
            await broker.connect()
            receipts = []
            for number in range(6):
                receipts.append(broker.output(said(str(number))))
                if number % 2:
                    await turns()
            last = await anext(heard)
            while last.node is not None and last.node.get("from") is None:
                last = await anext(heard)  # what passes for an answer and is none is a stanza like any other
            states = [receipt.state for receipt in receipts]
            assert states == [ReceiptState.ACKED] * proved + [ReceiptState.WRITTEN] * (6 - proved)
            assert len(record.of(Event.NODE_ACKED)) == proved
            await broker.shutdown()
            assert [receipt.state for receipt in receipts[proved:]] == [ReceiptState.UNCERTAIN] * (6 - proved)
            assert len(record.of(Event.NODE_UNCERTAIN)) == 6 - proved
            record.check()

    run(main)


def test_a_single_node_is_proved_in_time_however_few_there_are() -> None:
    async def main() -> None:
        async with scripted(lambda wire: _proving(wire)) as at:
            broker = component(at.port, ack_every_nodes=100, ack_every_seconds=0.02)
            async with broker:
                await broker.output(said("x")).acked(5.0)

    run(main)


async def _proving(wire: Wire) -> None:
    await wire.component()
    await wire.proving()


@pytest.mark.parametrize(
    ("bounds", "body", "written"),
    [
        ({"max_unacked_nodes": 5}, "x", 5),
        ({"max_unacked_nodes": 1}, "x", 1),
        ({"max_unacked_bytes": 2_000}, "x" * 2_000, 1),  # each has more than 2,000 bytes
        ({"max_unacked_bytes": 3_000}, "x" * 2_000, 2),  # the one that goes past the bound is the last
        ({"max_unacked_bytes": 5_000}, "x" * 2_000, 3),
        ({"max_unacked_bytes": 5_000}, "x" * 20_000, 1),  # one that is larger than all goes alone
    ],
)
def test_no_more_is_written_than_may_be_unproved_and_the_rest_goes_as_proofs_come(
    bounds: dict[str, Any], body: str, written: int
) -> None:
    async def main() -> None:
        pieces: list[str] = []
        go = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            await go.wait()
            pieces.append(await wire.proving())

        async with scripted(script) as at:
            broker = component(at.port, ack_every_seconds=0.02, **bounds)
            record = Record(broker)
            async with broker:
                receipts = [broker.output(message(to=TO, id=str(n), body=body)) for n in range(20)]
                await turns(10)
                assert [r.state for r in receipts].count(ReceiptState.WRITTEN) == written
                assert broker.queue == 20 - written
                go.set()
                await receipts[-1].acked(5.0)
                assert {receipt.state for receipt in receipts} == {ReceiptState.ACKED}
            record.check()
        assert re.findall('<message [^>]*id="([0-9]+)"', pieces[0]) == [str(n) for n in range(20)]

    run(main)


def test_with_acks_off_there_are_no_pings_no_ids_and_no_promises() -> None:
    async def main() -> None:
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await wire.component()
            came.append(await wire.close())

        async with scripted(script) as at:
            broker = component(at.port, acks="off", ack_every_nodes=1, ack_every_seconds=0.001, max_unacked_nodes=1)
            record = Record(broker)
            async with broker:
                receipts = [broker.output(said(str(n))) for n in range(50)]
                await turns()
                await asyncio.sleep(0.01)
                assert {receipt.state for receipt in receipts} == {ReceiptState.WRITTEN}
                with pytest.raises(DeliveryError, match="nothing proves it on this link"):
                    await receipts[0].acked()
            assert not record.of(Event.NODE_ACKED)
            assert not record.of(Event.NODE_UNCERTAIN)
        assert bodies(came[0]) == [str(n) for n in range(50)]
        assert " id=" not in came[0]

    run(main)


def test_a_server_that_answers_no_ping_at_all_is_asked_no_more_and_that_is_said() -> None:
    async def main() -> None:
        came: list[str] = []

        async def deaf(wire: Wire) -> None:
            await wire.component()
            came.append(await wire.close())

        async with scripted(deaf) as at:
            broker = component(
                at.port,
                ack_every_nodes=1,
                on_doubt="drop",
                probe_timeout=0.02,
                auto_reconnect=True,
                reconnect_delay=0.005,
                reconnect_delay_max=0.01,
            )
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            for _ in range(2):
                await anext(ready)
                receipt = broker.output(said("x"))
                with pytest.raises(DeliveryError):
                    await receipt.acked(5.0)
                assert receipt.state is ReceiptState.UNCERTAIN
            await anext(ready)
            last = broker.output(said("x"))
            with pytest.raises(DeliveryError, match="nothing proves it on this link"):
                await last.acked(5.0)
            assert (last.state, last.final) == (ReceiptState.WRITTEN, True)
            said_so = [str(s.detail["what"]) for s in record.of(Event.WARNING) if "pings" in str(s.detail["what"])]
            assert len(said_so) == 1
            assert said_so[0].startswith("the server answers none of the pings")
            await broker.shutdown()
        assert [bool(BARRIER.search(text)) for text in came] == [True, True, False]

    run(main)


# ---- who waits


def flood_of(count: int) -> list[Node]:
    return [said(str(number)) for number in range(count)]


def test_drain_waits_while_much_waits_and_both_marks_are_told_once() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            await go.wait()
            await wire.proving()

        async with scripted(script) as at:
            broker = component(at.port, high_water_nodes=10, max_unacked_nodes=5, ack_every_seconds=0.02)
            record = Record(broker)
            async with broker:
                await asyncio.wait_for(broker.drain(), 1.0)  # nothing waits
                for node in flood_of(15):
                    broker.output(node)
                await turns()
                assert not record.of(Event.HIGH_WATER), "5 are out, and 10 may wait"
                receipts = [broker.output(node) for node in flood_of(5)]
                high = record.one(Event.HIGH_WATER)
                assert high.detail["nodes"] == 11
                waiting = [asyncio.ensure_future(broker.drain()) for _ in range(2)]
                await turns()
                assert not any(task.done() for task in waiting)
                go.set()
                await asyncio.gather(*waiting)
                low = record.one(Event.LOW_WATER)
                assert int(str(low.detail["nodes"])) <= 5
                await receipts[-1].acked(5.0)
                assert len(record.of(Event.HIGH_WATER)) == len(record.of(Event.LOW_WATER)) == 1
            record.check()

    run(main)


@pytest.mark.parametrize(
    ("end", "error"),
    [("shutdown", UsageError), ("halt", UsageError), ("drop", ConnectionFailed)],
)
def test_who_waits_for_the_flow_is_told_when_the_link_ends_for_good(end: str, error: type[Exception]) -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            await go.wait()
            wire.reset()

        async with scripted(script) as at:
            broker = component(at.port, high_water_nodes=10, max_unacked_nodes=5, close_timeout=0.05)
            await broker.connect()
            for node in flood_of(30):
                broker.output(node)
            waiting = asyncio.ensure_future(broker.drain())
            await turns()
            assert not waiting.done()
            connection = broker._link.connection
            assert connection is not None
            connection.pause_writing()  # else a shutdown would send what waits first
            if end == "shutdown":
                await broker.shutdown()
            elif end == "halt":
                broker.halt()
            else:
                go.set()
            with pytest.raises(error):
                await asyncio.wait_for(waiting, 5.0)
            with pytest.raises(error):
                await asyncio.wait_for(broker.drain(), 5.0)
            go.set()
            broker.halt()

    run(main)


@pytest.mark.parametrize("why", ["the network takes no more", "too much is unproved"])
def test_a_ttl_is_kept_by_nodes_that_wait_behind_a_ready_link(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcj.outflow._SWEEP", 0.02)

    async def main() -> None:
        go = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            await go.wait()
            await wire.proving()

        async with scripted(script) as at:
            bound = 1000 if why == "the network takes no more" else 1
            broker = component(at.port, max_unacked_nodes=bound, ack_every_seconds=0.02)
            record = Record(broker)
            async with broker:
                connection = broker._link.connection
                assert connection is not None
                first = broker.output(said("first"))
                await turns()
                if why == "the network takes no more":
                    connection.pause_writing()
                short, long = broker.output(said("short"), ttl=0.05), broker.output(said("long"), ttl=60.0)
                await turns()
                with pytest.raises(DeliveryError, match=r"waited longer than its ttl \(0.05 s\)"):
                    await short.acked(5.0)
                assert short.state is ReceiptState.EXPIRED
                assert record.one(Event.NODE_DROPPED).detail["reason"] == "expired"
                assert broker.queue == 1
                if why == "the network takes no more":
                    connection.resume_writing()
                go.set()
                await first.acked(5.0)
                await long.acked(5.0)
            record.check()

    run(main)
