"""What becomes of nodes that were written and never proved: held, sent again, dropped, or found to be poison (A12)."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from pcj import Broker, DeliveryError, Event, Node, Receipt, ReceiptState, Status, message
from pcj.namespaces import CLIENT
from tests.shell.links import BARRIER, Record, Wire, component, run, scripted, texts, turns

TO = "a@localhost"
ELEMENT = re.compile(r"<message\b.*?</message>|<iq\b.*?</iq>|</stream:stream>")
HOLD, RESEND, DROP = "hold", "resend", "drop"


def said(body: str) -> Node:
    return message(to=TO, body=body)


def bodies(came: str) -> list[str]:
    return re.findall("<body>([^<]*)</body>", came)


def swallows(came: list[str], until: str) -> Any:
    """A server that reads up to a node, answers no barrier, and breaks the connection."""

    async def script(wire: Wire) -> None:
        await wire.component()
        came.append(BARRIER.sub("", await wire.until(f"<body>{until}</body></message>")))
        wire.reset()

    return script


def proves(came: list[str]) -> Any:
    """A server as it should be."""

    async def script(wire: Wire) -> None:
        await wire.component()
        came.append(await wire.proving())

    return script


@pytest.mark.parametrize(
    ("options", "own", "policy"),
    [
        ({}, None, HOLD),
        ({"on_ready": "send"}, None, RESEND),
        ({"on_doubt": HOLD}, None, HOLD),
        ({"on_doubt": RESEND}, None, RESEND),
        ({"on_doubt": DROP}, None, DROP),
        ({"on_ready": "send", "on_doubt": HOLD}, None, HOLD),
        ({"on_ready": "send", "on_doubt": DROP}, None, DROP),
        ({"on_doubt": DROP}, RESEND, RESEND),
        ({"on_doubt": DROP}, HOLD, HOLD),
        ({"on_doubt": RESEND}, DROP, DROP),
        ({"on_ready": "send"}, HOLD, HOLD),
        ({}, RESEND, RESEND),
    ],
)
def test_each_node_in_doubt_is_named_and_goes_the_way_its_policy_says(
    options: dict[str, Any], own: str | None, policy: str
) -> None:
    async def main() -> None:
        came: list[str] = []
        async with scripted(swallows(came, "1"), proves(came)) as at:
            broker = component(at.port, **options)
            record = Record(broker)
            lost = broker.events(Event.SESSION_LOST)
            await broker.connect()
            receipts = [broker.output(said(str(n)), on_doubt=own) for n in range(2)]
            await anext(lost)
            await turns()

            named = record.of(Event.NODE_UNCERTAIN)
            assert texts(status.node for status in named) == ["0", "1"]
            assert [(s.detail["next"], s.detail["doubts"]) for s in named] == [(policy, 0)] * 2
            # All heard of the end before; and of each that is not given up, that it waits again.
            again = [] if policy == DROP else ["NODEQUEUED"]
            assert record.since("SESSION_LOST") == ["NODE_UNCERTAIN", *again] * 2
            assert {receipt.state for receipt in receipts} == {ReceiptState.UNCERTAIN}
            assert all("its session ended before" in receipt.reason for receipt in receipts)
            assert {receipt.final for receipt in receipts} == {policy == DROP}
            assert broker.queue == (0 if policy == DROP else 2)

            await broker.connect()
            await turns()
            assert broker.queue == (2 if policy == HOLD else 0)
            assert broker.purge_queue() == (2 if policy == HOLD else 0)
            await broker.shutdown()
            record.check()
            if policy == DROP:
                assert bodies(came[1]) == []
                with pytest.raises(DeliveryError) as caught:
                    await receipts[0].acked()
                assert caught.value.state is ReceiptState.UNCERTAIN
                return
            assert bodies(came[1]) == ["0", "1"]
            for receipt in receipts:
                await receipt.acked(1.0)
            # The same id, by which a repeat can be told (B8).
            ids = [re.findall(' id="([^"]+)"', text) for text in came]
            assert ids[0] == ids[1]
            assert len(set(ids[0])) == 2
            resent = [bool(status.detail.get("resend")) for status in record.of(Event.PCJ_NODESENT)]
            assert resent[-2:] == [True, True]

    run(main)


@pytest.mark.parametrize("on_ready", ["send", "hold"])
def test_what_is_in_doubt_goes_first_then_what_was_held_then_what_is_new(on_ready: str) -> None:
    async def main() -> None:
        came: list[str] = []
        async with scripted(swallows(came, "doubt 1"), proves(came)) as at:
            broker = component(at.port, on_ready=on_ready, on_doubt=RESEND)
            lost = broker.events(Event.SESSION_LOST)
            await broker.connect()
            for number in range(2):
                broker.output(said(f"doubt {number}"))
            await anext(lost)
            broker.output(said("held 0"))
            broker.output(said("held 1"))
            broker.subscribe(Event.PCJ_READY, lambda status: broker.output(said("new")))
            await broker.connect()
            assert broker.purge_queue() == (2 if on_ready == "hold" else 0)
            await broker.shutdown()
        held = ["held 0", "held 1"]
        expected = [*held, "new"] if on_ready == "send" else ["new", *held]
        assert bodies(came[1]) == ["doubt 0", "doubt 1", *expected]

    run(main)


def test_what_was_proved_before_the_drop_is_neither_named_nor_sent_again() -> None:
    async def main() -> None:
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await wire.component()
            wire.prove(await wire.until("/></iq>"))
            await wire.until("<body>2</body>")
            wire.reset()

        async with scripted(script, proves(came)) as at:
            broker = component(at.port, on_doubt=RESEND, ack_every_nodes=2, ack_every_seconds=60.0)
            record = Record(broker)
            lost = broker.events(Event.SESSION_LOST)
            await broker.connect()
            proved = [broker.output(said(str(n))) for n in range(2)]
            await proved[1].acked(5.0)
            late = broker.output(said("2"))
            await anext(lost)
            await turns()
            assert texts(status.node for status in record.of(Event.NODE_ACKED)) == ["0", "1"]
            assert [status.detail["by"] for status in record.of(Event.NODE_ACKED)] == ["barrier"] * 2
            assert texts([record.one(Event.NODE_UNCERTAIN).node]) == ["2"]
            await broker.connect()
            await broker.shutdown()
            assert late.state is ReceiptState.ACKED
        assert bodies(came[0]) == ["2"]

    run(main)


def test_a_node_in_doubt_is_given_up_when_its_time_is_over() -> None:
    async def main() -> None:
        came: list[str] = []
        async with scripted(swallows(came, "0")) as at:
            broker = component(at.port)
            record = Record(broker)
            await broker.connect()
            receipt = broker.output(said("0"), ttl=0.1)
            with pytest.raises(DeliveryError, match="waited longer than its ttl"):
                await receipt.acked(5.0)
            assert record.one(Event.NODE_DROPPED).detail["reason"] == "expired"
            assert record.names.index("NODE_UNCERTAIN") < record.names.index("NODE_DROPPED")
            assert (receipt.state, receipt.final) == (ReceiptState.EXPIRED, True)
            assert receipt.reason == "waited longer than its ttl (0.1 s), in doubt"
            assert broker.queue == 0
            await broker.shutdown()

    run(main)


# ---- the one node that the server ends the stream for


class Allergic:
    """A server that ends the stream, with an error, whenever it reads one certain body."""

    def __init__(self, poison: str, condition: str = "not-well-formed") -> None:
        self.poison = poison
        self.condition = condition
        self.read: list[str] = []
        self.links = 0

    async def __call__(self, wire: Wire) -> None:
        await wire.component()
        self.links += 1
        text = ""
        while data := await wire.reader.read(1 << 16):
            text += data.decode()
            while (found := ELEMENT.search(text)) is not None:
                text = text[found.end() :]
                wire.prove(found[0])
                if found[0].startswith("</"):
                    wire.send("</stream:stream>")
                    return
                for body in bodies(found[0]):
                    self.read.append(body)
                    if body == self.poison:
                        said = f"<{self.condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
                        wire.send(f"<stream:error>{said}</stream:error></stream:stream>")
                        await wire.rest()
                        return


@pytest.mark.parametrize(("max_doubts", "at"), [(1, 0), (2, 7), (3, 7), (2, 49)])
def test_one_poisoned_node_among_fifty_is_found_and_named_and_the_others_arrive(max_doubts: int, at: int) -> None:
    async def main() -> None:
        allergic = Allergic(str(at))
        async with scripted(allergic) as server:
            broker = component(
                server.port,
                on_ready="send",
                auto_reconnect=True,
                reconnect_delay=0.005,
                reconnect_delay_max=0.01,
                max_doubts=max_doubts,
            )
            record = Record(broker)
            await broker.connect()
            receipts = [broker.output(said(str(n))) for n in range(50)]
            for number, receipt in enumerate(receipts):
                if number != at:
                    await receipt.acked(10.0)
            poisoned = receipts[at]
            with pytest.raises(DeliveryError, match="the server ended the stream for it"):
                await poisoned.acked(10.0)
            assert poisoned.state is ReceiptState.DROPPED
            dropped = record.one(Event.NODE_DROPPED)
            assert texts([dropped.node]) == [str(at)]
            assert (dropped.detail["reason"], dropped.detail["doubts"]) == ("poison", allergic.read.count(str(at)))
            assert dropped.detail["doubts"] == max(2, max_doubts), "together, then alone"
            await broker.shutdown()
            record.check()
        seen = {n: allergic.read.count(str(n)) for n in range(50) if n != at}
        # What was read before it and not proved comes once more, alone; what is behind it comes once.
        assert {n for n, count in seen.items() if count > 2} == set()
        assert {n: count for n, count in seen.items() if n > at} == dict.fromkeys(range(at + 1, 50), 1)
        first = [read for read in allergic.read if int(read) > at]
        assert first == sorted(first, key=int), "in order"

    run(main)


@pytest.mark.parametrize("condition", ["system-shutdown", "conflict", "reset", "resource-constraint"])
def test_a_stream_error_that_no_node_can_cause_puts_none_under_suspicion(condition: str) -> None:
    async def main() -> None:
        allergic = Allergic("3", condition)
        async with scripted(allergic) as server:
            broker = component(server.port, max_doubts=1)
            record = Record(broker)
            lost = broker.events(Event.SESSION_LOST)
            await broker.connect()
            receipts = [broker.output(said(str(n))) for n in range(5)]
            await anext(lost)
            await turns()
            assert [status.detail["doubts"] for status in record.of(Event.NODE_UNCERTAIN)] == [0] * 5
            assert {receipt.state for receipt in receipts} == {ReceiptState.UNCERTAIN}
            assert broker.queue == 5
            await broker.shutdown()

    run(main)


# ---- taken back


def test_what_still_waits_can_be_taken_back_and_what_is_written_cannot() -> None:
    async def main() -> None:
        came: list[str] = []
        go = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            first = await wire.until("<body>written</body></message>")
            await go.wait()
            came.append(first)
            wire.prove(first)
            came.append(await wire.proving())

        async with scripted(script) as at:
            broker = component(at.port, max_unacked_nodes=1, ack_every_seconds=0.02)
            record = Record(broker)
            held, kept = broker.output(said("held")), broker.output(said("kept"))
            assert broker.withdraw(held)
            await broker.connect()
            written = broker.output(said("written"))
            await turns()
            waits = broker.output(said("waits"))
            await turns()
            assert (written.state, waits.state) == (ReceiptState.WRITTEN, ReceiptState.QUEUED)
            assert broker.queue == 2
            assert not broker.withdraw(written)
            assert broker.withdraw(waits)
            assert not broker.withdraw(waits)
            assert not broker.withdraw(Receipt())
            for receipt in (held, waits):
                assert (receipt.state, receipt.reason) == (ReceiptState.DROPPED, "it was withdrawn")
                with pytest.raises(DeliveryError, match="it was withdrawn"):
                    await receipt.acked()
            dropped = record.of(Event.NODE_DROPPED)
            assert [(*texts([s.node]), s.detail["reason"]) for s in dropped] == [
                ("held", "withdrawn"),
                ("waits", "withdrawn"),
            ]
            assert broker.purge_queue() == 1
            go.set()
            await kept.acked(5.0)
            await broker.shutdown()
        assert bodies("".join(came)) == ["written", "kept"]

    run(main)


def test_a_halt_among_the_events_of_the_ledger_keeps_none_of_the_others_back() -> None:
    async def main() -> None:
        for event in (Event.NODE_ACKED, Event.NODE_UNCERTAIN):
            came: list[str] = []
            script = proves(came) if event == Event.NODE_ACKED else swallows(came, "2")
            async with scripted(script) as at:
                broker = component(at.port, ack_every_nodes=3)
                heard: list[str | None] = []

                def hear(status: Status, broker: Broker = broker, heard: list[str | None] = heard) -> None:
                    assert status.node is not None
                    heard.append(status.node.findtext(f"{{{CLIENT}}}body"))
                    broker.halt()

                broker.subscribe(event, hear)
                await broker.connect()
                receipts = [broker.output(said(str(n))) for n in range(3)]
                await asyncio.gather(*(receipt.acked(5.0) for receipt in receipts), return_exceptions=True)
                await turns()
                assert {receipt.final for receipt in receipts} == {True}
                assert heard == ["0", "1", "2"], event

    run(main)
