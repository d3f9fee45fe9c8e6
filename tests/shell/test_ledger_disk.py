"""A durable queue that is closed: while the disk takes its time, and where it fails."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from pathlib import Path

import pytest

from pcj import Event, QueueError, ReceiptState, message
from pcj.queue.file import Changes, QueueFile, read
from tests.shell.links import PLAIN, Record, client, closed_port, run, server, turns
from tests.shell.queue.disk import broker_of, closing, failing

TO = "juliet@localhost"


def on_disk(path: Path) -> list[bytes]:
    return [row[1] for row in read(str(path)).rows]


def test_a_node_that_comes_while_the_queue_is_closed_is_kept_and_is_on_disk_at_the_next_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.db"

    async def main() -> None:
        async with server() as at:
            broker = broker_of(at.client_port, path)
            await broker.connect()
            async with closing(broker, monkeypatch):
                receipt = broker.output(message(to=TO, body="late"))
                assert not receipt.stored
            connecting = asyncio.create_task(broker.connect())
            await receipt.on_disk(5.0)
            await connecting
            assert len(on_disk(path)) == 1
            assert broker.purge_queue() == 1
            await receipt.acked(5.0)
            await broker.shutdown()
            assert on_disk(path) == []

    run(main)


def test_connect_waits_for_a_shutdown_that_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with server() as at:
            broker = broker_of(at.client_port, tmp_path / "queue.db")
            await broker.connect()
            async with closing(broker, monkeypatch):
                connecting = asyncio.create_task(broker.connect())
                await turns()
                assert not connecting.done()
            await connecting
            await broker.shutdown()

    run(main)


def test_what_a_failed_close_left_off_the_disk_is_not_taken_for_another_process_s_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.db"

    async def main() -> None:
        async with server() as at:
            first = broker_of(at.client_port, path)
            await first.connect()
            await first.shutdown()
            with failing(monkeypatch):
                mine = first.output(message(to=TO, body="mine"))
                waiting = asyncio.create_task(mine.on_disk())
                await turns()
                with pytest.raises(QueueError, match="disk is full"):
                    await first.shutdown()
                with pytest.raises(QueueError, match="disk is full"):
                    await waiting
            second = broker_of(closed_port(), path)
            await second.output(message(to=TO, body="theirs")).on_disk(5.0)  # which gets the same key
            await second.shutdown()

            await first.connect()
            assert mine.state is ReceiptState.QUEUED
            await mine.on_disk(5.0)
            bodies = [stanza.partition(b"<body>")[2].partition(b"<")[0] for stanza in on_disk(path)]
            assert bodies == [b"theirs", b"mine"]
            assert first.purge_queue() == 2
            await mine.acked(5.0)
            await first.shutdown()
            assert on_disk(path) == []

    run(main)


def test_a_disk_that_hangs_at_the_close_wakes_who_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue.db"
    may = threading.Event()
    commit = QueueFile.commit

    def hangs(self: QueueFile, changes: Changes) -> None:
        assert may.wait(10.0)
        commit(self, changes)

    async def main() -> None:
        async with server() as at:
            broker = client(at.client_port, queue=str(path), close_timeout=0.1)
            with monkeypatch.context() as patched:
                patched.setattr(QueueFile, "commit", hangs)
                receipt = broker.output(message(to=TO, body="x"))
                waiting = asyncio.create_task(receipt.on_disk())
                await turns()
                with pytest.raises(QueueError, match="longer than"):
                    await broker.shutdown()
                with pytest.raises(QueueError, match="longer than"):
                    await waiting
                assert receipt.state is ReceiptState.QUEUED
                may.set()
            while True:  # the thread is done with the file in its own time
                try:
                    await broker.connect()
                    break
                except QueueError:
                    await turns()
            assert broker.queue == 1, "it came to the disk after all, and is no second node"
            assert receipt.stored
            await broker.shutdown()

    run(main)


def test_a_reconnect_while_a_shutdown_is_under_way_has_the_queue_open_and_sends_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"

    async def main() -> None:
        async with server() as at:
            broker = broker_of(at.client_port, path)
            await broker.connect()
            ending = asyncio.create_task(broker.shutdown())
            await turns(1)
            connecting = asyncio.create_task(broker.reconnect())
            receipt = broker.output(message(to=TO, id="x1", body="x"))
            await asyncio.gather(ending, connecting)
            broker.purge_queue()
            await receipt.acked(5.0)
            later = broker.output(message(to=TO, id="x2", body="x"))
            await later.acked(5.0)
            assert broker.queue == 0
            await broker.shutdown()
            assert on_disk(path) == []
            sent = [node.get("id") for _, node in at.received if node.tag.endswith("message")]
            assert sent == ["x1", "x2"]

    run(main)


def test_a_node_that_another_process_sent_and_handed_over_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"

    async def main() -> None:
        async with server(options=dataclasses.replace(PLAIN, answer_ack_requests=False)) as at:
            first = client(at.client_port, queue=str(path), on_ready="send")
            receipt = first.output(message(to=TO, id="x1", body="x"))
            await receipt.on_disk(5.0)
            await first.shutdown()

            second = client(at.client_port, queue=str(path), on_ready="send")
            await second.connect()
            await at.wait_for_node(lambda jid, node: node.get("id") == "x1")
            await second.suspend()

            record = Record(first)
            await first.connect()
            assert record.one(Event.SM_RESUMED).detail["proved"] == 1
            assert receipt.state is ReceiptState.ACKED
            await first.shutdown()
            assert on_disk(path) == []
            assert [node.get("id") for _, node in at.received if node.tag.endswith("message")] == ["x1"]

    run(main)
