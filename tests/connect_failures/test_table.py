"""Each way to fail is played: its sentence, its event, its class, and what the event carries."""

from __future__ import annotations

import asyncio
import re
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from pcj import ConfigError, ConnectionFailed, Event, Failure, Phase, ProtocolError, Retry
from pcj.explain import clause, sentence
from pcj.protocol.retry import failure_of, settled
from pcj.testing import ScriptedServer
from tests.connect_failures.page import COMMAND, PAGE, draw
from tests.connect_failures.row import Row
from tests.connect_failures.table import NOT_YET, ROWS
from tests.connect_failures.ways import PASSWORD, Scene, say_addresses
from tests.shell.links import Record, Wire, closed_port, component, run, scripted

FAILURES = {event for event in Event if event.endswith("FAIL") and event != Event.RTS_FAIL} | {Event.STREAM_ERROR}
PARTS = ("phase", "retry", "address", "tried", "expected", "came", "condition", "text")
#: Two ends of a sentence, or an end within one; "..." is none.
GLUED = re.compile(r"\.[;:,]|(?<!\.)\.\.(?!\.)|\. ?\)\.")
WORDS = {
    Retry.FATAL: "Trying again will not help until that is changed.",
    Retry.SLOW: "Trying again may help, but not soon.",
    Retry.FAST: "Trying again can help.",
}


def filled(template: str, values: Mapping[str, str | re.Pattern[str]]) -> re.Pattern[str]:
    """What a template of the table stands for in this run."""
    marked = template.format_map({name: f"\0{name}\0" for name in values})
    parts = [values[part] if place % 2 else part for place, part in enumerate(marked.split("\0"))]
    return re.compile("".join(part.pattern if isinstance(part, re.Pattern) else re.escape(part) for part in parts))


def check(failure: Failure, row: Row, scene: Scene) -> None:
    """The failure is the row's."""

    def is_as(said: str, template: str) -> bool:
        return filled(template, scene.values).fullmatch(said) is not None

    assert is_as(str(failure), row.sentence), str(failure)
    assert (failure.phase, failure.retry) == (row.phase, row.retry)
    for name in ("expected", "came", "condition", "text", "address"):
        assert is_as(getattr(failure, name), getattr(row, name)), (name, getattr(failure, name))
    assert len(failure.tried) == len(row.tried)
    for (address, outcome), (at, came) in zip(failure.tried, row.tried, strict=True):
        assert is_as(address, at), address
        assert is_as(outcome, came), outcome


def class_later(error: BaseException | None, failure: Failure, *, is_component: bool) -> Retry:
    """The class of the same once the broker has been READY."""
    if isinstance(error, ProtocolError) and failure.condition != "see-other-host":
        return failure_of(error, failure.phase, address="", component=is_component, was_ready=True).retry
    return settled(failure.retry, failure.phase, was_ready=True)


@pytest.mark.parametrize("row", [row for row in ROWS if row.event], ids=lambda row: row.number)
def test_the_user_is_told_why(row: Row, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scene = Scene(monkeypatch, tmp_path)

    async def main() -> None:
        async with row.way(scene) as broker:
            record = Record(broker)
            with pytest.raises(ConnectionFailed) as raised:
                await broker.connect()
            failure, said = raised.value.failure, broker.explain()
            assert str(raised.value) == str(failure)
            check(failure, row, scene)
            record.check()

            # The event that tells of it carries all of it.
            status = record.of(row.event)[-1]
            detail = dict(status.detail)
            detail.pop("attempt")
            parts = {name: getattr(failure, name) for name in PARTS}
            assert detail == {name: part for name, part in parts.items() if part}
            assert status.error is not None
            for told in record.statuses:
                if told.event in FAILURES:
                    assert {"phase", "retry"} <= told.detail.keys(), told
            assert "READY" not in record.names

            # explain() says it, and ends with whether trying again can help.
            assert said == f"{sentence(f'Not connected as {broker.jid}: {clause(str(failure))}')} {WORDS[row.retry]}"

            later = class_later(status.error, failure, is_component="@" not in broker.jid)
            assert later is (row.later if row.later is not None else row.retry)

            # Programs are told both sides of it.
            assert failure.expected
            assert failure.came
            # A sentence that is put into another leaves its full stop behind.
            for text in (said, str(failure), *(outcome for _, outcome in failure.tried)):
                assert GLUED.search(text) is None, text

            everything = f"{said} {raised.value!r} {failure!r} {detail!r} {status.error!r} {status.to_json()}"
            assert PASSWORD not in everything
            assert said.isprintable()

    run(main)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.event], ids=lambda row: row.number)
def test_what_cannot_work_is_refused_before_anything_is_connected(
    row: Row, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scene = Scene(monkeypatch, tmp_path)

    async def main() -> None:
        with pytest.raises(ConfigError) as raised:
            async with row.way(scene):
                raise AssertionError("the broker was made")
        assert str(raised.value) == row.sentence

    run(main)


def test_the_log_and_the_events_of_a_retry_glue_no_sentence_to_another(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        delays = {"reconnect_delay": 0.001, "reconnect_delay_max": 0.01}
        broker = component(closed_port(), auto_reconnect=True, **delays)
        connecting = asyncio.create_task(broker.connect())
        await broker.wait_for(Event.RECONNECT_DELAY)
        said = broker.explain()
        await broker.shutdown()
        await asyncio.wait([connecting])
        assert connecting.exception() is not None
        (line, *_) = [record.getMessage() for record in caplog.records if "next attempt in" in record.getMessage()]
        assert "refused the connection: nothing listens there; next attempt in " in line
        assert GLUED.search(line + said) is None

    run(main)


def test_every_number_of_the_list_has_a_row_or_a_reason_why_not() -> None:
    numbered = {int(re.sub(r"\D", "", row.number)) for row in ROWS if row.number[0].isdigit()}
    not_yet = {number for number, _, _ in NOT_YET if number}
    assert numbered | not_yet == set(range(1, 41))
    assert not numbered & not_yet


def test_what_cannot_be_told_of_yet_stands_on_the_page_with_its_reason() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert "Not told of yet" in page
    for _, what, why in NOT_YET:
        assert f"{what}: {why}" in page


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.number for row in ROWS}) == len(ROWS)


def test_no_two_ways_read_the_same_to_a_user_but_for_where_they_happen() -> None:
    sentences: dict[str, Row] = {}
    for row in ROWS:
        other = sentences.setdefault(row.sentence, row)
        assert other is row or other.number.rstrip("bcd") == row.number.rstrip("bcd")


def test_every_part_of_a_failure_is_held_against_the_table() -> None:
    held = {field.name for field in fields(Row)}
    assert {field.name for field in fields(Failure)} - held == {"message"}


def test_a_broker_that_has_worked_is_not_ended_by_another_service_on_its_port() -> None:
    # Somebody on the way can answer in the server's place, before anything has proved who is who.
    async def session(wire: Wire) -> None:
        await wire.component()

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        wire = Wire(reader, writer)
        if server.connections == 1:
            await session(wire)
            writer.close()
        else:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            await wire.rest()

    server = ScriptedServer(handler)

    async def main() -> None:
        async with server:
            delays = {"reconnect_delay": 0.001, "reconnect_delay_max": 0.01}
            broker = component(server.port, auto_reconnect=True, **delays)
            record = Record(broker)
            await broker.connect()
            status = await broker.wait_for(Event.STREAM_ERROR)
            assert status.detail["retry"] == Retry.SLOW
            await broker.wait_for(Event.PCJ_CONNECTING)
            await broker.shutdown()
            assert record.of(Event.RECONNECT_DELAY)[-1].detail["retry"] == Retry.SLOW
            assert status.detail["phase"] == Phase.STREAM

    run(main)


def test_a_broker_that_has_worked_looks_again_for_a_host_that_has_vanished(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        leave = asyncio.Event()

        async def session(wire: Wire) -> None:
            await wire.component()
            await leave.wait()

        async with scripted(session) as at:
            say_addresses(monkeypatch, [("127.0.0.1", at.port)])
            delays = {"reconnect_delay": 0.001, "reconnect_delay_max": 0.01}
            broker = component(at.port, host="xmpp.example.org", auto_reconnect=True, **delays)
            await broker.connect()
            say_addresses(monkeypatch, socket.EAI_NONAME)
            leave.set()
            failed = await broker.wait_for(Event.PCJ_CONNECTFAIL)
            assert failed.detail["retry"] == Retry.SLOW
            assert isinstance(failed.error, ConnectionFailed)
            assert failed.error.failure.retry is Retry.SLOW
            await broker.wait_for(Event.PCJ_CONNECTING)
            await broker.shutdown()

    run(main)


def test_the_page_for_users_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == draw(), f"write it anew: {COMMAND}"
