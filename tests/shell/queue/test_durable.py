"""The durable queue: what is on the disk when, and in which order."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
import time
from pathlib import Path

import pytest

from pcj.errors import QueueError, QueueFull, UsageError
from pcj.queue.durable import DurableQueue, Stored
from pcj.queue.file import Changes, QueueFile, read
from tests.shell.queue.disk import ACCOUNT, TIMEOUT, entries, entry, failing, fill, queue, run, stanzas


def reopened(path: Path) -> list[Stored]:
    async def main() -> list[Stored]:
        made = queue(path)
        found = made.open()
        made.close()
        return found

    return asyncio.run(main())


def test_what_is_put_is_found_by_the_next_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    fill(path, [b"<a/>", b"<b/>", b"<c/>"])
    fill(path, [b"<d/>"])
    found = reopened(path)
    assert [each.stanza for each in found] == [b"<a/>", b"<b/>", b"<c/>", b"<d/>"]
    assert [each.key for each in found] == sorted(each.key for each in found)


def test_a_receipt_is_stored_once_a_reader_of_the_file_finds_the_node(tmp_path: Path) -> None:
    async def play(made: DurableQueue) -> None:
        one = entry(b"<one/>")
        made.put(one, ttl=None)
        assert not one.receipt.stored
        await one.receipt.on_disk(TIMEOUT)
        assert stanzas(tmp_path / "q.db") == [b"<one/>"]

    run(tmp_path / "q.db", play)


def test_many_nodes_are_stored_in_few_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    commit = QueueFile.commit

    def counting(file: QueueFile, changes: Changes) -> None:
        commits.append(len(changes.puts))
        commit(file, changes)

    monkeypatch.setattr(QueueFile, "commit", counting)

    async def play(made: DurableQueue) -> None:
        for each in entries(1000):
            made.put(each, ttl=None)
        await made.flush(TIMEOUT)

    run(tmp_path / "q.db", play)
    assert commits == [1000]
    assert len(stanzas(tmp_path / "q.db")) == 1000


def test_what_is_forgotten_before_the_commit_never_touches_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[object] = []
    monkeypatch.setattr(QueueFile, "commit", lambda file, changes: commits.append(changes))

    async def play(made: DurableQueue) -> None:
        all_of_them = entries(10)
        for each in all_of_them:
            made.put(each, ttl=None)
        made.mark(all_of_them, written=True)
        flushed = asyncio.ensure_future(made.flush(TIMEOUT))
        made.forget(all_of_them)
        await flushed
        await asyncio.sleep(0.02)
        assert (len(made), made.size) == (0, 0)

    run(tmp_path / "q.db", play)
    assert commits == []


def test_what_is_forgotten_is_gone_and_its_key_is_not_used_again(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    keys = []

    async def play(made: DurableQueue) -> None:
        several = entries(5)
        for each in several:
            made.put(each, ttl=None)
            keys.append(each.key)
        await made.flush(TIMEOUT)
        made.forget(several[1:])
        made.forget(several[1:])  # twice is once
        await made.flush(TIMEOUT)
        assert stanzas(path) == [several[0].stanza]
        assert len(made) == 1

    run(path, play)

    async def play_again(made: DurableQueue) -> None:
        assert len(made) == 1
        one = entry()
        made.put(one, ttl=None)
        assert one.key is not None
        assert one.key > max(key for key in keys if key is not None)

    run(path, play_again)


def test_the_state_of_a_node_is_that_of_the_last_mark_whenever_it_came(tmp_path: Path) -> None:
    path = tmp_path / "q.db"

    async def play(made: DurableQueue) -> None:
        several = entries(6)
        for number, each in enumerate(several):
            made.put(each, ttl=None, written=number == 5)
        several[0].number = 0xFFFF_FFFF
        made.mark(several[:1], written=True)  # before the commit of its put
        await made.flush(TIMEOUT)
        several[1].number, several[2].number = 0, 1
        made.mark(several[1:3], written=True)
        several[3].doubts = 2
        made.mark(several[2:4], written=False)
        made.mark([entry()], written=True)  # one that is not for the disk

    run(path, play)
    assert [(each.written, each.number, each.doubts) for each in reopened(path)] == [
        (True, 0xFFFF_FFFF, 0),
        (True, 0, 0),
        (False, 1, 0),
        (False, None, 2),
        (False, None, 0),
        (True, None, 0),
    ]


def test_a_node_keeps_its_age_its_time_to_live_and_its_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "q.db"
    wall = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: wall)

    async def play(made: DurableQueue) -> None:
        made.put(entry(on_doubt="resend"), ttl=100.0)
        made.put(entry(on_doubt="drop"), ttl=None)

    run(path, play)
    for later, age, ttl in ((30.0, 30.0, 70.0), (200.0, 200.0, 0.0), (-50.0, 0.0, 100.0)):
        monkeypatch.setattr(time, "time", lambda at=wall + later: at)
        one, other = reopened(path)
        assert (one.age, one.ttl, one.on_doubt) == (age, ttl, "resend")
        assert (other.age, other.ttl, other.on_doubt) == (age, None, "drop")


def test_the_session_is_saved_together_with_the_nodes_of_the_same_turn(tmp_path: Path) -> None:
    path = tmp_path / "q.db"

    async def play(made: DurableQueue) -> None:
        assert made.session is None
        one = entry(number=7)
        made.put(one, ttl=None)
        made.save_session({"id": "old", "h": 1})
        made.save_session({"id": "some-id", "h": 2, "resource": "ü"})
        await one.receipt.on_disk(TIMEOUT)
        assert read(str(path)).session == {"id": "some-id", "h": 2, "resource": "ü"}

    run(path, play)

    async def play_again(made: DurableQueue) -> None:
        assert made.session == {"id": "some-id", "h": 2, "resource": "ü"}
        made.save_session(None)

    run(path, play_again)
    assert read(str(path)).session is None


def test_a_session_that_changes_all_the_time_is_written_ten_times_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str | None] = []
    monkeypatch.setattr(QueueFile, "commit", lambda file, changes: written.append(changes.session))

    async def play(made: DurableQueue) -> None:
        loop = asyncio.get_running_loop()
        until, h = loop.time() + 0.09, 0
        while loop.time() < until:
            h += 1
            made.save_session({"h": h})
            await asyncio.sleep(0)
        assert len(written) <= 1
        await made.flush(TIMEOUT)
        assert written[-1] == f'{{"h": {h}}}'

    run(tmp_path / "q.db", play)


def test_closing_commits_all_and_it_can_be_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "q.db"

    async def main() -> None:
        made = queue(path)
        for close_in_the_loop in (True, False):
            before = made.open()
            states = [made.is_open]
            several = entries(100)
            for each in several:
                made.put(each, ttl=None)
            if close_in_the_loop:
                await asyncio.sleep(0)  # a group is under way
                made.close()
            else:
                await made.aclose(TIMEOUT)
            assert all(each.receipt.stored for each in several)
            assert [*states, made.is_open] == [True, False]
            assert len(stanzas(path)) == len(before) + 100
            made.close()
            await made.aclose(TIMEOUT)
            await made.flush(TIMEOUT)

    asyncio.run(main())


def test_a_clean_end_leaves_the_file_alone(tmp_path: Path) -> None:
    fill(tmp_path / "q.db", [b"<a/>"])
    assert [file.name for file in tmp_path.iterdir()] == ["q.db"]


def test_what_is_closed_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "q.db"

    async def main() -> None:
        made = queue(path)
        with pytest.raises(UsageError, match="not open"):
            made.put(entry(), ttl=None)
        made.open()
        with pytest.raises(UsageError, match="open already"):
            made.open()
        one = entry()
        made.put(one, ttl=None)
        made.close()
        made.mark([one], written=True)
        made.save_session({"h": 1})
        assert [(each.stanza, each.written) for each in made.open()] == [(one.stanza, False)]
        assert made.session is None
        made.close()

    asyncio.run(main())


def test_what_is_forgotten_while_it_is_closed_is_gone_at_the_next_open_and_nobody_else_s_node_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "q.db"

    async def main() -> None:
        made = queue(path)
        made.open()
        one, never = entry(b"<one/>"), entry(b"<never/>")
        made.put(one, ttl=None)
        await made.flush(TIMEOUT)
        made.put(never, ttl=None)
        key = never.key
        with failing(monkeypatch), pytest.raises(QueueError, match="the disk is full"):
            await made.aclose(TIMEOUT)
        assert (never.key, never.tried, never.unstored) == (None, key, True)
        made.forget([one, never])
        assert (one.key, never.tried) == (None, None)

        other = queue(path)
        assert len(other.open()) == 1
        theirs = entry(b"<theirs/>")
        other.put(theirs, ttl=None)
        assert theirs.key == key
        other.close()

        assert [each.stanza for each in made.open()] == [b"<theirs/>"]
        assert (len(made), made.size) == (1, len(b"<theirs/>"))
        made.close()

    asyncio.run(main())
    assert stanzas(path) == [b"<theirs/>"]


def test_closing_leaves_alone_what_the_thread_is_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "q.db"
    commit = QueueFile.commit
    begun, goes_on = threading.Event(), threading.Event()
    touched: list[bool] = []

    def watching(file: QueueFile, changes: Changes) -> None:
        before = copy.deepcopy(changes)
        begun.set()
        goes_on.wait(TIMEOUT)
        touched.append(changes != before)
        commit(file, changes)

    async def main() -> None:
        made = queue(path)
        made.open()
        several = entries(3)
        for each in several:
            made.put(each, ttl=None)
        await made.flush(TIMEOUT)
        monkeypatch.setattr(QueueFile, "commit", watching)
        made.mark(several, written=True)
        assert await asyncio.to_thread(begun.wait, TIMEOUT)
        made.forget(several[:2])
        made.put(entry(b"<late/>"), ttl=None)
        closing = asyncio.ensure_future(made.aclose(TIMEOUT))
        await asyncio.sleep(0)
        goes_on.set()
        await closing

    asyncio.run(main())
    assert touched == [False, False]
    assert stanzas(path) == [b"<message id='2'/>", b"<late/>"]


@pytest.mark.parametrize(("max_nodes", "max_bytes"), [(3, 1000), (1000, 30)])
def test_it_holds_no_more_than_it_may(tmp_path: Path, max_nodes: int, max_bytes: int) -> None:
    async def main() -> None:
        made = queue(tmp_path / "q.db", max_nodes=max_nodes, max_bytes=max_bytes)
        made.open()
        several = [entry(b"<presence/>"[:10]) for _ in range(4)]
        for each in several[:3]:
            made.put(each, ttl=None)
        with pytest.raises(QueueFull, match=f"holds 3 nodes of 30 bytes, and may hold no more than {max_nodes} of"):
            made.put(several[3], ttl=None)
        assert several[3].key is None
        made.forget(several[:1])
        made.put(several[3], ttl=None)
        made.close()
        assert len(made.open()) == 3  # what is there counts
        with pytest.raises(QueueFull):
            made.put(entry(b"<presence/>"), ttl=None)
        made.close()

    asyncio.run(main())


def test_a_disk_that_fails_is_told_once_and_nothing_is_lost_when_it_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "q.db"
    failures: list[QueueError] = []
    works = threading.Event()
    tries: list[int] = []
    commit = QueueFile.commit

    def failing(file: QueueFile, changes: Changes) -> None:
        tries.append(1)
        if not works.is_set():
            raise QueueError(f"the disk fails, try {len(tries)}")
        commit(file, changes)

    monkeypatch.setattr(QueueFile, "commit", failing)

    async def main() -> None:
        made = queue(path, on_failed=failures.append)
        made.open()
        several = entries(6)
        for each in several[:4]:
            made.put(each, ttl=None)
        with pytest.raises(QueueError, match="the disk fails, try 1"):
            await made.flush(TIMEOUT)
        made.forget(several[:1])
        made.mark(several[1:2], written=True)
        made.put(several[4], ttl=None)
        made.save_session({"h": 3})
        with pytest.raises(QueueError, match="the disk fails"):
            await made.flush(TIMEOUT)
        async with asyncio.timeout(TIMEOUT):
            while len(tries) < 5:  # noqa: ASYNC110 - it tries by itself, in its thread
                await asyncio.sleep(0.005)
        assert str(made.failed).startswith("the disk fails")
        assert not any(each.receipt.stored for each in several)
        with pytest.raises(TimeoutError):
            await several[1].receipt.on_disk(0.001)
        works.set()
        async with asyncio.timeout(TIMEOUT):
            await several[4].receipt.on_disk()
        assert made.failed is None
        assert [str(failure) for failure in failures] == ["the disk fails, try 1"]
        assert not several[0].receipt.stored

        works.clear()  # another spell
        made.put(several[5], ttl=None)
        with pytest.raises(QueueError):
            await made.flush(TIMEOUT)
        assert len(failures) == 2
        works.set()
        made.close()
        assert several[5].receipt.stored

    asyncio.run(main())
    assert stanzas(path) == [b"<message id='%d'/>" % number for number in (1, 2, 3, 4, 5)]
    assert read(str(path)).session == {"h": 3}
    assert [row[6] for row in read(str(path)).rows] == [1, 0, 0, 0, 0]


def test_a_commit_that_failed_but_came_to_the_disk_brings_back_nothing_that_was_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "q.db"
    commit = QueueFile.commit
    lies = [True]

    def lying(file: QueueFile, changes: Changes) -> None:
        commit(file, changes)
        if lies:
            lies.clear()
            raise QueueError("the disk says that it failed")

    monkeypatch.setattr(QueueFile, "commit", lying)

    async def play(made: DurableQueue) -> None:
        several = entries(2)
        for each in several:
            made.put(each, ttl=None)
        with pytest.raises(QueueError):
            await made.flush(TIMEOUT)
        assert len(stanzas(path)) == 2
        made.forget(several[:1])
        await made.flush(TIMEOUT)

    run(path, play)
    assert stanzas(path) == [b"<message id='1'/>"]


@pytest.mark.parametrize("in_the_loop", [True, False])
def test_closing_says_what_could_not_be_written_and_lets_go_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_the_loop: bool
) -> None:
    path = tmp_path / "q.db"

    async def main() -> None:
        made = queue(path)
        made.open()
        one = entry()
        made.put(one, ttl=None)
        with failing(monkeypatch), pytest.raises(QueueError, match="the disk is full"):
            if in_the_loop:
                made.close()
            else:
                await made.aclose(TIMEOUT)
        assert not one.receipt.stored
        assert made.open() == []
        made.close()

    asyncio.run(main())


def test_a_disk_that_hangs_holds_up_neither_flush_nor_close_past_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    commit = QueueFile.commit

    def hanging(file: QueueFile, changes: Changes) -> None:
        goes_on.wait(TIMEOUT)
        commit(file, changes)

    monkeypatch.setattr(QueueFile, "commit", hanging)
    monkeypatch.setattr("pcj.queue.durable.CLOSE_SECONDS", 0.01)

    async def main() -> None:
        made = queue(tmp_path / "0.db")
        for number in range(2):
            made = queue(tmp_path / f"{number}.db")
            made.open()
            one = entry()
            made.put(one, ttl=None)
            with pytest.raises(QueueError, match=r"the disk took longer than 0\.01 s"):
                await made.flush(0.01)
            with pytest.raises(QueueError, match=r"is not closed: the disk took longer than 0\.01 s"):
                await made.aclose(0.01) if number else made.close()
            assert not one.receipt.stored
        with pytest.raises(QueueError, match="still in use: its disk has not answered"):  # until the disk comes back
            made.open()
        goes_on.set()
        async with asyncio.timeout(TIMEOUT):
            while True:
                try:
                    assert len(made.open()) == 1
                    break
                except QueueError:
                    await asyncio.sleep(0.005)
        made.close()

    asyncio.run(main())


def test_a_queue_that_nobody_holds_any_more_is_written_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "q.db"

    async def main() -> None:
        for number in range(2):
            made = queue(path)
            made.open()
            if number:
                made.put(entry(), ttl=None)
                await asyncio.sleep(0.01)
            del made
            gc.collect()
            async with asyncio.timeout(TIMEOUT):
                while True:
                    try:
                        QueueFile(str(path), account=ACCOUNT).close()
                        break
                    except QueueError:
                        await asyncio.sleep(0.005)

    asyncio.run(main())
    assert stanzas(path) == [b"<message/>"]


def test_a_loop_that_ended_before_the_disk_did_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "q.db"

    async def main() -> DurableQueue:
        made = queue(path)
        made.open()
        made.put(entry(), ttl=None)
        await asyncio.sleep(0)
        return made

    asyncio.run(main()).close()
    assert stanzas(path) == [b"<message/>"]


def test_a_file_that_was_moved_away_in_use_is_noticed_and_may_come_back(tmp_path: Path) -> None:
    path = tmp_path / "q.db"

    async def play(made: DurableQueue) -> None:
        path.rename(tmp_path / "other.db")
        one = entry()
        made.put(one, ttl=None)
        with pytest.raises(QueueError, match="was moved, deleted or replaced while in use"):
            await made.flush(TIMEOUT)
        (tmp_path / "other.db").rename(path)
        await made.flush(TIMEOUT)
        assert one.receipt.stored

    run(path, play)
    assert stanzas(path) == [b"<message/>"]
