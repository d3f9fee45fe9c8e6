"""A disk that fails while nodes are on their way: nothing is lost or repeated unnamed, and receipts say what is so."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcj import Broker, DeliveryError, Event, QueueError, Receipt, ReceiptState, State, UsageError, message
from pcj.queue.file import read
from tests.shell.links import Record, Wire, closed_port, run, scripted, server, state_of, turns
from tests.shell.queue.disk import broker_of, closing, failing

TO = "juliet@localhost"


def rows(path: Path) -> list[tuple[str, bool]]:
    """The bodies of what is on disk, and whether it is said to be written."""
    return [(row[1].partition(b"<body>")[2].partition(b"<")[0].decode(), bool(row[6])) for row in read(str(path)).rows]


def output(broker: Broker, body: str, **options: Any) -> Receipt:
    return broker.output(message(to=TO, body=body), **options)


def copy_of(path: Path, copy: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, f"{copy}{file.name.removeprefix(path.name)}")


async def failed_shutdown(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueueError, match="disk is full"):
        await broker.shutdown()


async def nothing(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    pass


@pytest.mark.parametrize("before", [failed_shutdown, nothing])
def test_a_halt_names_each_held_node_that_is_not_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Callable[..., Any]
) -> None:
    path = tmp_path / "queue.db"

    async def main() -> None:
        broker = broker_of(closed_port(), path)
        record = Record(broker)
        kept = output(broker, "kept")
        await kept.on_disk(5.0)
        with failing(monkeypatch):
            lost = output(broker, "lost")
            await before(broker, monkeypatch)
            broker.halt()
        node = record.one(Event.NODE_DROPPED).node
        assert node is not None
        assert node.findtext("{jabber:client}body") == "lost"
        assert (lost.state, lost.final) == (ReceiptState.DROPPED, True)
        assert (kept.state, kept.final) == (ReceiptState.QUEUED, True)
        assert "stays in the queue's file" in kept.reason

    run(main)
    assert rows(path) == [("kept", False)]


SM = "urn:xmpp:sm:3"
OFFER = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='{SM}'/>"


async def managed(wire: Wire) -> None:
    await wire.login(OFFER)
    await wire.bind()
    await wire.until("<enable")
    wire.send(f"<enabled xmlns='{SM}' id='one' resume='true' max='60'/>")


@pytest.mark.parametrize("disk", ["works", "fails"])
def test_what_a_suspend_could_not_put_on_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: str
) -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await managed(wire)
            await wire.rest()

        async with scripted(script) as at:
            broker = broker_of(at.port, tmp_path / "queue.db")
            record = Record(broker)
            await broker.connect()
            if disk == "works":
                receipt = output(broker, "x")
                await broker.suspend()
                assert receipt.stored
                assert "handed over" in receipt.reason
                assert record.of(Event.NODE_UNCERTAIN) == []
                return
            with failing(monkeypatch):
                receipt = output(broker, "x")
                with pytest.raises(QueueError, match="disk is full"):
                    await broker.suspend()
            assert record.one(Event.NODE_UNCERTAIN).detail["next"] == "drop"
            assert (receipt.state, receipt.final, receipt.stored) == (ReceiptState.UNCERTAIN, True, False)
            assert "handed over" not in receipt.reason

    run(main)


@pytest.mark.parametrize("how", ["withdrawn", "expired"])
def test_what_is_given_up_while_the_queue_is_closed_does_not_come_back(tmp_path: Path, how: str) -> None:
    path = tmp_path / "queue.db"

    async def main() -> None:
        broker = broker_of(closed_port(), path)
        record = Record(broker)
        gone = output(broker, "gone", ttl=0.05 if how == "expired" else None)
        stays = output(broker, "stays")
        await stays.on_disk(5.0)
        await broker.shutdown()
        if how == "withdrawn":
            assert broker.withdraw(gone)
        else:
            with pytest.raises(DeliveryError, match="waited longer than"):
                await gone.acked(5.0)
        output(broker, "opens")
        await broker.shutdown()
        assert broker.queue == 2
        assert len(record.of(Event.NODE_DROPPED)) == 1
        broker.halt()

    run(main)
    assert [body for body, _ in rows(path)] == ["stays", "opens"]


def test_a_node_in_doubt_that_came_late_to_the_disk_is_in_doubt_there_with_its_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.db"

    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.login("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>")
            await wire.bind()
            await wire.until("doubtful")
            wire.reset()

        async with scripted(script) as at:
            broker = broker_of(at.port, path)
            record = Record(broker)
            await broker.connect()
            with failing(monkeypatch):
                receipt = output(broker, "doubtful", ttl=1000)
                while not record.of(Event.NODE_UNCERTAIN):
                    await turns()
                with pytest.raises(QueueError):
                    await broker.shutdown()
            await asyncio.sleep(0.1)
            output(broker, "opens")
            await receipt.on_disk(5.0)
            broker.halt()

    run(main)
    assert ("doubtful", True) in rows(path)
    late, new = sorted(read(str(path)).rows, key=lambda row: b"doubtful" not in row[1])
    assert late[2] < new[2] - 0.09
    assert late[3] == pytest.approx(late[2] + 1000)


def test_a_shutdown_is_later_than_a_connect_that_still_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with server() as at:
            broker = broker_of(at.client_port, tmp_path / "queue.db")
            await broker.connect()
            async with closing(broker, monkeypatch):
                connecting = asyncio.create_task(broker.connect())
                await turns()
                ending = asyncio.create_task(broker.shutdown())
                await turns()
                assert not ending.done(), "the file is not free yet"
            with pytest.raises(UsageError, match="came meanwhile"):
                await connecting
            await ending
            assert state_of(broker) is State.IDLE

    run(main)


def test_what_was_acked_while_the_disk_failed_is_named_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = tmp_path / "queue.db", tmp_path / "copy.db"

    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.login(OFFER)
            await wire.bind()
            await wire.until("<enable")
            wire.send(f"<enabled xmlns='{SM}'/>")  # it cannot be resumed
            await wire.until("</message>")
            await disk_fails.wait()
            wire.send(f"<a xmlns='{SM}' h='1'/>")
            await wire.close()

        disk_fails = asyncio.Event()
        async with scripted(script) as at:
            broker = broker_of(at.port, path)
            receipt = output(broker, "twice")
            await receipt.on_disk(5.0)
            await broker.connect()
            broker.purge_queue()
            while rows(path) != [("twice", True)]:  # noqa: ASYNC110 - it comes there in its own time
                await asyncio.sleep(0.005)
            with failing(monkeypatch):
                disk_fails.set()
                await receipt.acked(5.0)
                await asyncio.sleep(0.02)
                copy_of(path, copy)  # what is there if the process is killed now
            await broker.shutdown()
        after = broker_of(closed_port(), copy)
        record = Record(after)
        output(after, "opens")
        assert [status.detail["next"] for status in record.of(Event.NODE_UNCERTAIN)] == ["hold"]
        after.halt()

    run(main)


def test_what_was_acked_while_the_disk_failed_is_not_sent_again_by_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.db"

    async def main() -> None:
        async with server() as at:
            broker = broker_of(at.client_port, path)
            await broker.connect()
            receipt = output(broker, "once")
            await receipt.on_disk(5.0)
            with failing(monkeypatch):
                await receipt.acked(5.0)
                with pytest.raises(QueueError):
                    await broker.shutdown()
            record = Record(broker)
            output(broker, "opens")
            assert broker.queue == 1
            assert record.of(Event.NODE_UNCERTAIN) == []
            await broker.shutdown()

    run(main)
    assert [body for body, _ in rows(path)] == ["opens"]
