"""What waits to be sent: the marks while the link is away, and the room for the broker's own answers."""

from __future__ import annotations

import asyncio

import pytest

from pcj import Event, Node, QueueFull, Status, message
from tests.shell.links import BARRIER, DOMAIN, Record, Wire, component, run, scripted, turns

TO = "a@localhost"


def said(body: str) -> Node:
    return message(to=TO, body=body)


def test_drain_waits_for_what_a_broken_link_has_put_back_into_the_queue() -> None:
    """20 nodes are out and 10 wait, which is not much; when the link is gone, all 30 wait."""

    async def main() -> None:
        go = asyncio.Event()

        async def breaks(wire: Wire) -> None:
            await wire.component()
            await wire.until("<body>19</body></message>")
            await go.wait()
            wire.reset()

        async def proves(wire: Wire) -> None:
            await wire.component()
            await wire.proving()

        async with scripted(breaks, proves) as at:
            broker = component(
                at.port,
                high_water_nodes=10,
                max_unacked_nodes=20,
                ack_every_seconds=0.02,
                on_ready="hold",
                on_doubt="hold",
                auto_reconnect=True,
                reconnect_delay=0.01,
            )
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            lost = broker.events(Event.SESSION_LOST)
            async with broker:
                await anext(ready)
                for number in range(30):
                    broker.output(said(str(number)))
                    if number == 19:
                        await turns()
                assert broker.queue == 10
                assert not record.of(Event.HIGH_WATER)
                go.set()
                await anext(lost)
                assert broker.queue == 30
                assert record.one(Event.HIGH_WATER).detail["nodes"] == 30
                draining = asyncio.ensure_future(broker.drain())
                await anext(ready)
                await turns(10)
                assert not draining.done()
                assert broker.purge_queue() == 30
                await draining
                assert len(record.of(Event.HIGH_WATER)) == len(record.of(Event.LOW_WATER)) == 1
            record.check()

    run(main)


@pytest.mark.parametrize("held", [3, 4], ids=["there is room", "the queue is full"])
def test_a_ping_is_answered_though_window_and_queue_are_full(held: int) -> None:
    """The answer waits its turn, since the server counts it, and goes as soon as the server proves what it has."""

    async def main() -> None:
        go = asyncio.Event()
        answers: list[bool] = []

        async def script(wire: Wire) -> None:
            await wire.component()
            came = await wire.until("</iq>")
            await go.wait()
            wire.send(f"<iq type='get' id='alive' from='localhost' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>")
            wire.send(f"<message from='{TO}' to='{DOMAIN}' id='seen'/>")
            await seen.wait()
            wire.prove(came)
            whole = await wire.proving()
            answers.append('id="alive"' in BARRIER.sub("", whole))

        async with scripted(script) as at:
            seen = asyncio.Event()
            broker = component(
                at.port,
                max_unacked_nodes=2,
                queue_max_nodes=4,
                high_water_nodes=4,
                ack_every_nodes=2,
                max_auto_replies=1,
            )
            record = Record(broker)

            @broker.on(Event.PCJ_NODERECEIVED)
            def hears(status: Status) -> None:
                seen.set()

            async with broker:
                receipts = []
                for number in range(2 + held):
                    receipts.append(broker.output(said(str(number))))
                    await turns()
                assert broker.queue == held
                if held == 4:
                    with pytest.raises(QueueFull):
                        broker.output(said("one more"))
                go.set()
                await receipts[-1].acked(5.0)
            assert answers == [True]
            assert not record.of(Event.WARNING)
            record.check()

    run(main)
