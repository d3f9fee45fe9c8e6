"""`pcj queue`: what it shows of a durable queue, and what it takes out of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pcj import iq, message, to_bytes
from pcj.cli.group import pcj
from pcj.queue.file import Changes, QueueFile, Row, read
from tests.shell.cli.test_main import pcj as process
from tests.shell.queue.disk import ACCOUNT, trace

SM_ID = "this-is-the-id-to-resume-with"
EVIL = "\x9b2J\u202eevil\u2028"
BODY = "what only Juliet is to read"


def rows(wall: float) -> list[Row]:
    stanzas = [
        to_bytes(message(to="juliet@example.org/balcony", id="m1", type="chat", body=BODY)),
        to_bytes(message(to=f"{EVIL}@example.org", id=EVIL * 20, type=EVIL, body=EVIL)),
        to_bytes(iq(to="example.org", id="i1", type="get")),
        b"<message><<",
    ]
    return [
        (
            key,
            stanza,
            wall - 90.0,
            None if key > 1 else wall + 500.0,
            "hold",
            key - 1,
            key % 2,
            40 if key == 3 else None,
        )
        for key, stanza in enumerate(stanzas, 1)
    ]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue of four nodes."""
    path = tmp_path / "q.db"
    wall = 1_700_000_000.0
    monkeypatch.setattr("pcj.cli.queue.time.time", lambda: wall)
    file = QueueFile(str(path), account=ACCOUNT)
    file.commit(Changes(puts={row[0]: row for row in rows(wall)}, session=json.dumps({"id": SM_ID, "h": 3})))
    file.close()
    return path


def run(*arguments: object, input: str | None = None) -> Result:
    result = CliRunner().invoke(pcj, ["queue", *map(str, arguments)], input=input)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def keys(path: Path) -> list[int]:
    return [row[0] for row in read(str(path)).rows]


def test_it_lists_the_nodes_without_what_people_wrote(path: Path) -> None:
    result = run("list", path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["key", "age", "state", "doubts", "bytes", "kind", "to", "id"]
    size = len(rows(0.0)[0][1])
    assert lines[1].split() == f"1 1.5 min written 0 {size} message chat juliet@example.org/balcony m1".split()
    assert "queued" in lines[2]
    assert lines[4].endswith(" ?")
    total = sum(len(row[1]) for row in rows(0.0))
    assert lines[5] == f"4 nodes, {total} bytes of {ACCOUNT}; a session that may be resumed is saved with them"
    assert BODY not in result.stdout


@pytest.mark.parametrize("options", [[], ["--full"], ["--json"], ["--json", "--full"]])
def test_nothing_of_a_node_can_steer_the_terminal_and_the_id_of_the_session_stays_secret(
    path: Path, options: list[str]
) -> None:
    result = run("list", path, *options)
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.stdout.split("\n"))
    assert "evil" in result.stdout
    assert SM_ID not in result.output
    assert (BODY in result.stdout) == ("--full" in options)


def test_json_is_one_object_for_each_node_and_one_for_all(path: Path) -> None:
    *nodes, last = [json.loads(line) for line in run("list", path, "--json").stdout.splitlines()]
    expected = rows(0.0)
    assert nodes[0] == {
        "key": 1,
        "age": 90.0,
        "state": "written",
        "doubts": 0,
        "bytes": len(expected[0][1]),
        "kind": "message chat",
        "to": "juliet@example.org/balcony",
        "id": "m1",
        "on_doubt": "hold",
        "ttl": 500.0,
    }
    assert [node["doubts"] for node in nodes] == [0, 1, 2, 3]
    assert nodes[1]["to"] == f"{EVIL}@example.org"
    assert last == {"total": {"nodes": 4, "bytes": sum(len(row[1]) for row in expected), "account": ACCOUNT}}
    full = json.loads(run("list", path, "--json", "--full").stdout.splitlines()[0])
    assert full["node"] == expected[0][1].decode()


def test_while_a_broker_has_it_open_it_is_shown_and_not_changed(path: Path) -> None:
    file = QueueFile(str(path), account=ACCOUNT)
    try:
        assert run("list", path).stdout.count("\n") == 6
        for arguments in (("drop", path, 1), ("purge", path, "--yes")):
            result = run(*arguments)
            assert result.exit_code == 1
            assert f"in use by another broker of this process (process {os.getpid()})" in result.stderr
        file.commit(Changes(forgets={2: None}))  # the broker is undisturbed
    finally:
        file.close()
    assert keys(path) == [1, 3, 4]


def test_to_another_process_it_names_the_one_that_uses_it(path: Path) -> None:
    file = QueueFile(str(path), account=ACCOUNT)
    try:
        assert process("queue", "list", str(path)).returncode == 0
        done = process("queue", "purge", "--yes", str(path))
        assert (done.returncode, done.stdout) == (1, "")
        assert f"is in use by process {os.getpid()}; one queue serves one broker" in done.stderr
        assert done.stderr.count("\n") == 1
    finally:
        file.close()
    assert keys(path) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("dropped", "left", "session_left"), [((1,), [2, 3, 4], True), ((4, 2, 4), [1, 3], True), ((3,), [1, 2, 4], False)]
)
def test_single_nodes_are_dropped_and_a_session_that_counted_one_of_them_with_it(
    dropped: tuple[int, ...], left: list[int], session_left: bool, path: Path
) -> None:
    result = run("drop", path, *dropped)
    assert result.exit_code == 0
    assert result.stdout.startswith("removed 2 nodes, " if len(dropped) > 1 else "removed 1 node, ")
    assert keys(path) == left
    assert (read(str(path)).session is not None) == session_left


def test_a_key_that_is_not_there_removes_nothing(path: Path) -> None:
    result = run("drop", path, 1, 9, 7)
    assert result.exit_code == 1
    assert result.stderr == f"pcj: the queue {str(path)!r} has no node 7, 9; nothing was removed\n"
    assert keys(path) == [1, 2, 3, 4]


@pytest.mark.parametrize(("answer", "is_purged"), [("y\n", True), ("n\n", False), ("", False)])
def test_all_are_removed_only_on_a_yes(answer: str, is_purged: bool, path: Path) -> None:
    result = run("purge", path, input=answer)
    assert "Remove 4 nodes, " in result.stderr
    assert result.exit_code == (0 if is_purged else 1)
    assert keys(path) == ([] if is_purged else [1, 2, 3, 4])
    assert (read(str(path)).session is None) == is_purged


def test_yes_is_not_asked_and_what_is_empty_is_neither(path: Path) -> None:
    first, second = run("purge", path, "--yes"), run("purge", path)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert (first.stderr, second.stderr) == ("", "")
    assert second.stdout == "removed 0 nodes, 0 bytes\n"
    assert run("list", path).stdout == f"0 nodes, 0 bytes of {ACCOUNT}\n"


def test_what_was_removed_is_not_to_be_found_in_the_file(path: Path) -> None:
    assert BODY.encode() in path.read_bytes()
    assert run("purge", path, "--yes").exit_code == 0
    assert BODY.encode() not in b"".join(file.read_bytes() for file in path.parent.iterdir())


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "there is no such file"),
    "a folder": (lambda path: path.mkdir(), "this is a folder"),
    "a text": (lambda path: path.write_text("Dear Juliet,\n" * 50), "this is no database"),
    "no bytes of a database": (lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000), "another program"),
    "a pipe": (os.mkfifo, "this is no ordinary file"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("command", [("list",), ("drop", 1), ("purge", "--yes")])
def test_a_wrong_path_is_one_line(kind: str, command: tuple[object, ...], tmp_path: Path) -> None:
    make, said = WRONG[kind]
    path = tmp_path / "\x9b2Jq.db"
    make(path)
    before = trace(tmp_path)
    result = run(command[0], path, *command[1:])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("pcj: the queue ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr[:-1].isprintable()
    assert trace(tmp_path) == before


@pytest.mark.parametrize("command", [("list",), ("drop", 1), ("purge", "--yes")])
def test_a_damaged_queue_is_one_line(command: tuple[object, ...], path: Path) -> None:
    os.truncate(path, 8192)
    before = trace(path.parent)
    result = run(command[0], path, *command[1:])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "is damaged" in result.stderr
    after = trace(path.parent)
    assert {name: after[name] for name in before} == before


def test_an_empty_file_is_an_empty_queue(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.touch()
    assert run("list", path).stdout == "0 nodes, 0 bytes\n"
    assert path.stat().st_size == 0


def test_output_that_cannot_be_written_is_a_sentence(path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = process("queue", "list", str(path), stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr == "pcj: the output cannot be written: No space left on device\n"


def test_whoever_stops_reading_gets_no_traceback(path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done: subprocess.CompletedProcess[str] = process("queue", "list", str(path), stdout=writing)
    finally:
        os.close(writing)
    assert done.stderr == ""


def test_misuse_is_a_code_of_its_own(path: Path) -> None:
    for arguments in (("drop", path), ("drop", path, "x"), ("drop", path, 0), ("list",), ("sell", path)):
        assert run(*arguments).exit_code == 2
