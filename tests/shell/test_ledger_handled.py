"""What the server is told to be handled is what the next process would say too; and no resumption ends a session."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from pcj import Event, QueueError, State, presence
from pcj.queue.file import Changes, QueueFile, read
from tests.shell.links import Record, Wire, client, run, scripted, state_of, turns

SM = "urn:xmpp:sm:3"
OFFER = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='{SM}'/>"
MESSAGE = "<message from='a@localhost' id='{}'><body>x</body></message>"


async def managed(wire: Wire, location: str = "") -> None:
    """Up to a session that may be resumed."""
    await wire.login(OFFER)
    await wire.bind()
    await wire.until("<enable")
    where = f" location='{location}'" if location else ""
    wire.send(f"<enabled xmlns='{SM}' id='one' resume='true' max='60'{where}/>")


async def count(wire: Wire) -> int:
    """The h of the next <a/>."""
    found = re.search(r"<a [^>]*h=\"(\d+)\"", (await wire.until("<a ")) + (await wire.until("/>")))
    assert found is not None
    return int(found[1])


def on_disk(path: Path) -> int:
    """What a process that began now would say to be handled."""
    session = read(str(path)).session
    management = session["management"] if session is not None else {"handled": 0}
    assert isinstance(management, dict)
    return int(management["handled"])


def broker_of(port: int, **options: Any) -> Any:
    return client(port, auto_reconnect=True, reconnect_delay=0.005, reconnect_delay_max=0.01, **options)


def test_nothing_is_said_to_be_handled_that_a_killed_process_would_deny(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    told: list[tuple[int, int]] = []

    async def main() -> None:
        async def script(wire: Wire) -> None:
            await managed(wire)
            for n in range(4):
                wire.send(MESSAGE.format(n) + f"<r xmlns='{SM}'/>")
                h = 0
                while h <= n:  # an answer may tell of less, where handlers are at work
                    h = await count(wire)
                    told.append((h, await asyncio.to_thread(on_disk, path)))
                    if h <= n:
                        wire.send(f"<r xmlns='{SM}'/>")
            await wire.close()

        async with scripted(script) as at:
            broker = broker_of(at.port, queue=str(path))
            await broker.connect()
            while not told or told[-1][0] < 4:
                await turns()
            await broker.shutdown()

    run(main)
    assert told[-1][0] == 4
    assert [pair for pair in told if pair[0] > pair[1]] == []


def test_while_the_disk_is_slow_the_answer_waits_and_one_answers_all_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may, waits = threading.Event(), threading.Event()
    may.set()
    commit = QueueFile.commit

    def slow(self: QueueFile, changes: Changes) -> None:
        if not may.is_set():
            waits.set()
        assert may.wait(10.0)
        commit(self, changes)

    monkeypatch.setattr(QueueFile, "commit", slow)

    async def main() -> None:
        answered = asyncio.Event()

        async def script(wire: Wire) -> None:
            await managed(wire)
            wire.send(f"<r xmlns='{SM}'/>")
            assert await count(wire) == 0
            may.clear()
            wire.send((MESSAGE.format(1) + f"<r xmlns='{SM}'/>") * 3)
            assert await asyncio.to_thread(waits.wait, 10.0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await count(wire)
            may.set()
            assert await count(wire) == 3
            answered.set()
            assert (await wire.close()).count("<a ") == 1, "the farewell"

        async with scripted(script) as at:
            broker = broker_of(at.port, queue=str(tmp_path / "queue.db"))
            await broker.connect()
            await answered.wait()
            await broker.shutdown()

    run(main)


def test_where_the_disk_hangs_the_answer_says_in_time_what_is_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = threading.Event()
    commit = QueueFile.commit

    def hangs(self: QueueFile, changes: Changes) -> None:
        assert may.wait(10.0)
        commit(self, changes)

    async def main() -> None:
        answered = asyncio.Event()

        async def script(wire: Wire) -> None:
            await managed(wire)
            wire.send(f"<r xmlns='{SM}'/>")
            assert await count(wire) == 0
            monkeypatch.setattr(QueueFile, "commit", hangs)
            monkeypatch.setattr("pcj.shelf.ANSWER_SECONDS", 0.05)
            wire.send(MESSAGE.format(1) + f"<r xmlns='{SM}'/>")
            assert await count(wire) == 0
            may.set()
            answered.set()
            await wire.close()

        async with scripted(script) as at:
            broker = broker_of(at.port, queue=str(tmp_path / "queue.db"))
            await broker.connect()
            await answered.wait()
            await broker.shutdown()

    run(main)


def test_where_the_disk_fails_the_answer_says_at_once_what_is_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        answered = asyncio.Event()

        async def script(wire: Wire) -> None:
            await managed(wire)
            wire.send(f"<r xmlns='{SM}'/>")
            assert await count(wire) == 0

            def fails(self: QueueFile, changes: Changes) -> None:
                raise QueueError("the disk fails (a test)")

            monkeypatch.setattr(QueueFile, "commit", fails)
            for _ in range(2):
                wire.send(MESSAGE.format(1) + f"<r xmlns='{SM}'/>")
                assert await count(wire) == 0
            monkeypatch.undo()
            answered.set()
            await wire.close()

        async with scripted(script) as at:
            broker = broker_of(at.port, queue=str(tmp_path / "queue.db"))
            record = Record(broker)
            await broker.connect()
            await answered.wait()
            await broker.shutdown()
            assert "the disk fails" in str(record.one(Event.WARNING).detail["what"])

    run(main)


@pytest.mark.parametrize("ends", ["its time is over", "the server breaks the rules", "reconnect"])
def test_a_stream_on_which_a_session_may_just_have_been_resumed_is_cut_and_not_closed(ends: str) -> None:
    came: list[str] = []

    async def main() -> None:
        asked = asyncio.Event()

        async def first(wire: Wire) -> None:
            await managed(wire)
            wire.send(MESSAGE.format(1))
            await wire.until("<presence")
            wire.reset()

        async def second(wire: Wire) -> None:
            await wire.login(OFFER)
            await wire.until("<resume")
            asked.set()
            if ends == "the server breaks the rules":
                wire.send("<nonsense/>")
            came.append(await wire.rest())

        async def third(wire: Wire) -> None:
            await wire.login(OFFER)
            await wire.until("<resume")
            wire.send(f"<resumed xmlns='{SM}' previd='one' h='1'/>")
            await wire.close()

        async with scripted(first, second, third) as at:
            broker = broker_of(at.port, stream_timeout=0.2 if ends == "its time is over" else 5.0)
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            await anext(ready)
            broker.output(presence())
            if ends == "reconnect":
                await asked.wait()
                await broker.reconnect()
            assert (await anext(ready)).detail["resumed"] is True
            assert record.of(Event.SESSION_LOST) == []
            await broker.shutdown()

    run(main)
    assert "</stream:stream>" not in came[0]


def test_a_shutdown_while_a_kept_session_is_resumed_leaves_it_to_the_next_process(tmp_path: Path) -> None:
    came: list[str] = []

    async def main() -> None:
        asked = asyncio.Event()

        async def first(wire: Wire) -> None:
            await managed(wire)
            await wire.until("<presence")
            wire.reset()

        async def second(wire: Wire) -> None:
            await wire.login(OFFER)
            await wire.until("<resume")
            asked.set()
            came.append(await wire.rest())

        async with scripted(first, second) as at:
            broker = broker_of(at.port, queue=str(tmp_path / "queue.db"))
            await broker.connect()
            broker.output(presence())
            await asked.wait()
            await broker.shutdown()
            assert state_of(broker) is State.IDLE

    run(main)
    assert "</stream:stream>" not in came[0]
    session = read(str(tmp_path / "queue.db")).session
    assert session is not None
    assert isinstance(session["management"], dict)
    assert session["management"]["id"] == "one"


@pytest.mark.parametrize("who", ["the same process", "the next process"])
def test_a_session_is_resumed_where_the_server_would_have_it(who: str, tmp_path: Path) -> None:
    async def main() -> None:
        async def there(wire: Wire) -> None:
            await wire.login(OFFER)
            await wire.until("<resume")
            wire.send(f"<resumed xmlns='{SM}' previd='one' h='0'/>")
            await wire.close()

        async with scripted(there) as second:

            async def here(wire: Wire) -> None:
                await managed(wire, location=f"127.0.0.1:{second.port}")
                if who == "the same process":
                    await wire.until("<presence")
                    wire.reset()
                else:
                    await wire.rest()

            async with scripted(here) as first:
                options = {"queue": str(tmp_path / "queue.db")}
                broker = broker_of(first.port, **options)
                ready = broker.events(Event.PCJ_READY)
                await broker.connect()
                await anext(ready)
                if who == "the same process":
                    broker.output(presence())
                else:
                    await broker.suspend()
                    broker = broker_of(first.port, **options)
                    ready = broker.events(Event.PCJ_READY)
                    await broker.connect()
                assert (await anext(ready)).detail["resumed"] is True
                assert (first.connections, second.connections) == (1, 1)
                await broker.shutdown()

    run(main)
