"""The file of a durable queue: what is refused, and that it is left as it was; locks; damage."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pcj.errors import QueueError
from pcj.queue.file import APPLICATION, Changes, QueueFile, read
from tests.shell.queue.disk import ACCOUNT, fill, stanzas, trace

NODES = [b"<message id='%d'>%s</message>" % (number, b"x" * number * 40) for number in range(60)]


def opened(path: Path | str, *, account: str | None = ACCOUNT) -> QueueFile:
    return QueueFile(str(path), account=account)


def full(path: Path) -> None:
    fill(path, NODES, session={"id": "some-id", "h": 17})


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


# ---- what is refused


def text_file(path: Path) -> None:
    path.write_text("Dear Juliet,\n" * 100)


def short_file(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def of_another_program(path: Path) -> None:
    change(path, "CREATE TABLE bookmark (url)", "INSERT INTO bookmark VALUES ('x')")


def of_another_program_in_use(path: Path) -> None:
    """Its journal holds what is not in it yet: opening and closing it would write that back."""
    made = path.with_name("made")
    connection = sqlite3.connect(made, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE bookmark (url)")
    for name in ("", "-wal"):
        shutil.copyfile(f"{made}{name}", f"{path}{name}")
    connection.close()
    made.unlink()


def of_a_newer_version(path: Path) -> None:
    full(path)
    change(path, "PRAGMA user_version = 2")


def of_no_version(path: Path) -> None:
    full(path)
    change(path, "PRAGMA user_version = 0")


def of_another_journal(path: Path) -> None:
    full(path)
    change(path, "PRAGMA journal_mode = DELETE")


def with_another_table(path: Path) -> None:
    full(path)
    change(path, "CREATE TABLE bookmark (url)")


def with_a_trigger(path: Path) -> None:
    full(path)
    change(path, "CREATE TRIGGER t AFTER DELETE ON node BEGIN DELETE FROM node; END")


def without_an_account(path: Path) -> None:
    full(path)
    change(path, "DELETE FROM about WHERE id = 1")


def with_a_changed_stanza(path: Path) -> None:
    full(path)
    change(path, "UPDATE node SET stanza = x'3c612f3e' WHERE key = 7")


def with_a_strange_value(path: Path) -> None:
    full(path)
    change(path, "UPDATE node SET written = 'perhaps' WHERE key = 7")


def cut_short(path: Path) -> None:
    full(path)
    os.truncate(path, path.stat().st_size // 2)


def writable_by_others(path: Path) -> None:
    full(path)
    path.chmod(0o620)


def gone_but_for_its_journal(path: Path) -> None:
    """Somebody removed the file alone, while its last nodes were in the journal only."""
    queue = opened(path)
    queue.commit(Changes(puts={1: (1, b"<a/>", 0.0, None, "hold", 0, 0, None)}))
    shutil.copyfile(f"{path}-wal", path.with_name("kept"))
    queue.close()
    path.unlink()
    path.with_name("kept").rename(f"{path}-wal")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a text file": (text_file, "this is no database, and pcj writes over nothing"),
    "a file of a few bytes": (short_file, "this is no database"),
    "a folder": (folder, "this is a folder; say the path of a file"),
    "a pipe": (pipe, "this is no ordinary file"),
    "a database of another program": (of_another_program, "the database of another program"),
    "a database of another program, in use": (of_another_program_in_use, "the database of another program"),
    "a newer version": (of_a_newer_version, "written by a newer pcj (its schema is 2, this one knows 1)"),
    "no version": (of_no_version, "is damaged: its header"),
    "another kind of journal": (of_another_journal, "is damaged: its header"),
    "another table": (with_another_table, "is damaged: its tables are not those of schema 1"),
    "a trigger": (with_a_trigger, "is damaged: its tables"),
    "no account": (without_an_account, "is damaged: it does not say whose it is"),
    "a changed stanza": (with_a_changed_stanza, "is damaged: the checksum of node 7 is wrong"),
    "a strange value": (with_a_strange_value, "is damaged: the checksum of node 7 is wrong"),
    "cut short": (cut_short, "is damaged: "),
    "writable by others": (writable_by_others, "can be written by other users"),
    "gone but for its journal": (gone_but_for_its_journal, "is missing, but its journal"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_sound_queue_of_ours_is_refused_and_left_as_it_is(kind: str, tmp_path: Path) -> None:
    make, said = REFUSED[kind]
    path = tmp_path / "q.db"
    make(path)
    before = trace(tmp_path)
    with pytest.raises(QueueError) as refused:
        opened(path)
    assert said in str(refused.value)
    assert repr(str(path)) in str(refused.value)
    after = {name: digest for name, digest in trace(tmp_path).items() if name in before or not name.endswith("-wal")}
    assert after == before
    with pytest.raises(QueueError) as again:
        opened(path)
    assert str(again.value) == str(refused.value)  # it is not in use: the lock was given back


def test_the_nodes_of_one_account_are_not_sent_as_another(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    full(path)
    before = trace(tmp_path)
    with pytest.raises(QueueError, match=f"holds the nodes of '{ACCOUNT}', not of 'XMPP juliet@example.org'"):
        opened(path, account="XMPP juliet@example.org")
    assert trace(tmp_path) | {"q.db-wal": ""} == before | {"q.db-wal": ""}


def test_a_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(QueueError, match=r"there is no folder .*; make it first"):
        opened(tmp_path / "no" / "q.db")
    (tmp_path / "file").write_text("x")
    with pytest.raises(QueueError, match=r"cannot be looked at|is no folder"):
        opened(tmp_path / "file" / "q.db")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_what_is_no_path_is_a_sentence(path: str, tmp_path: Path) -> None:
    with pytest.raises(QueueError, match="the queue "):
        opened(f"{tmp_path}/{path}")


@pytest.mark.parametrize(("mode", "is_refused"), [(0o777, True), (0o1777, False), (0o775, False)])
def test_a_folder_in_which_everybody_may_replace_the_file_is_refused(
    mode: int, is_refused: bool, tmp_path: Path
) -> None:
    tmp_path.chmod(mode)
    if is_refused:
        with pytest.raises(QueueError, match="everybody may write in the folder"):
            opened(tmp_path / "q.db")
        assert list(tmp_path.iterdir()) == []
    else:
        opened(tmp_path / "q.db").close()


@pytest.mark.parametrize(("what", "said"), [("folder", "cannot be written in"), ("file", "is read-only")])
def test_what_is_read_only_is_refused(what: str, said: str) -> None:
    code = (
        "import os, sys; from pcj.errors import QueueError; from pcj.queue.file import QueueFile\n"
        "os.geteuid() or (os.setgid(65534), os.setuid(65534))\n"  # root may write everywhere
        "try: QueueFile(sys.argv[1], account='x')\n"
        "except QueueError as error: print(error)"
    )
    with tempfile.TemporaryDirectory() as name:  # pytest's own lies in one that is closed to others
        folder = Path(name)
        path = folder / "q.db"
        full(path)
        folder.chmod(0o500 if what == "folder" else 0o700)
        path.chmod(0o600 if what == "folder" else 0o400)
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
            os.chown(folder, 65534, 65534)
        before = trace(folder)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        folder.chmod(0o700)
        assert said in done.stdout, done
        assert trace(folder) == before


def test_an_empty_file_is_a_new_queue(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.touch(0o644)
    with pytest.raises(QueueError, match="is empty: no broker has used it yet"):
        opened(path, account=None)
    assert path.stat().st_size == 0
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(str(path)).account == ACCOUNT


def test_the_file_is_for_its_owner_alone_whatever_the_umask_and_before(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    before = os.umask(0)
    try:
        queue = opened(path)
        queue.commit(Changes(puts={1: (1, b"<a/>", 0.0, None, "hold", 0, 0, None)}))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        queue.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["q.db", "q.db-wal", "q.db-shm", "q.db-lock"], 0o600)
    path.chmod(0o644)
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_leads_to_the_queue_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "q.db")
    queue = opened(tmp_path / "link.db")
    try:
        with pytest.raises(QueueError, match="in use"):
            opened(tmp_path / "real" / "q.db")
    finally:
        queue.close()
    assert [file.name for file in (tmp_path / "real").iterdir()] == ["q.db"]


def test_what_was_left_of_making_one_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "q.db-new").write_bytes(b"half a database")
    (tmp_path / "q.db-new-journal").write_bytes(b"and its journal")
    opened(tmp_path / "q.db").close()
    assert [file.name for file in tmp_path.iterdir()] == ["q.db"]


def test_no_column_is_for_a_password(tmp_path: Path) -> None:
    full(tmp_path / "q.db")
    connection = sqlite3.connect(tmp_path / "q.db")
    columns = {row[1] for table in ("about", "node") for row in connection.execute(f"PRAGMA table_info({table})")}
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
    connection.close()
    assert columns == {
        *("id", "value", "checksum"),
        *("key", "stanza", "at", "expires", "on_doubt", "doubts", "written", "number", "state_checksum"),
    }


# ---- two at one file


def test_two_brokers_of_one_process_cannot_have_one_queue(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    one = opened(path)
    with pytest.raises(QueueError, match=rf"in use by another broker of this process \(process {os.getpid()}\)"):
        opened(path)
    one.commit(Changes(puts={1: (1, b"<a/>", 0.0, None, "hold", 0, 0, None)}))  # the first is undisturbed
    assert stanzas(path) == [b"<a/>"]
    one.close()
    opened(path).close()


def test_two_processes_cannot_have_one_queue_and_the_second_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    code = (
        "import sys; from pcj.queue.file import QueueFile, Changes\n"
        f"queue = QueueFile(sys.argv[1], account={ACCOUNT!r})\n"
        "queue.commit(Changes(puts={1: (1, b'<a/>', 0.0, None, 'hold', 0, 0, None)}))\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    with other:
        try:
            assert other.stdout.readline() == b"open\n"
            with pytest.raises(QueueError, match=f"in use by process {other.pid}; one queue serves one broker"):
                opened(path)
            assert stanzas(path) == [b"<a/>"]
        finally:
            other.kill()  # its lock dies with it
            other.wait()
    opened(path).close()
    assert stanzas(path) == [b"<a/>"]


def test_a_lock_that_cannot_be_had_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "q.db-lock").symlink_to(tmp_path / "of-somebody-else")
    with pytest.raises(QueueError, match="cannot be locked by"):
        opened(tmp_path / "q.db")
    assert [file.name for file in tmp_path.iterdir()] == ["q.db-lock"]


# ---- damage


def outcome(path: Path) -> list[object] | None:
    """What is read of a queue that was damaged; None if it is refused. What it promises is held up."""
    before = trace(path.parent)
    try:
        opened(path).close()
    except QueueError:
        after = trace(path.parent)
        # SQLite may leave an empty journal behind.
        assert {name: digest for name, digest in after.items() if name in before} == before
        return None
    contents = read(str(path))
    return [contents.rows, contents.session, contents.account, contents.next]


@pytest.mark.parametrize("seed", range(4))
def test_no_changed_byte_changes_what_is_read(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "made" / "q.db"
    path.parent.mkdir()
    full(path)
    sound = path.read_bytes()
    expected = outcome(path)
    assert expected is not None
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    # All of the header, and as much elsewhere.
    places = [*chance.sample(range(100), 25), *(chance.randrange(len(sound)) for _ in range(50))]
    refused = 0
    for number, place in enumerate(places):
        damaged = tmp_path / str(number) / "q.db"
        damaged.parent.mkdir()
        changed = bytearray(sound)
        changed[place] ^= 1 << chance.randrange(8)
        damaged.write_bytes(changed)
        damaged.chmod(0o600)
        found = outcome(damaged)
        assert found in (None, expected), f"seed {seed}: byte {place}"
        refused += found is None
    assert refused >= 25


def test_a_file_that_was_cut_at_any_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    full(path)
    sound = path.read_bytes()
    pages = len(sound) // 4096
    assert pages > 10
    for page in range(1, pages):
        for more in (0, 1, 2048):
            path.write_bytes(sound[: page * 4096 + more])
            assert outcome(path) is None, (page, more)
    path.write_bytes(sound)
    assert outcome(path) is not None


def test_a_journal_that_was_cut_at_any_frame_loses_whole_commits_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "made" / "q.db"
    path.parent.mkdir()
    queue = opened(path)
    for key in range(1, 21):
        queue.commit(Changes(puts={key: (key, NODES[key], 0.0, None, "hold", 0, 0, None)}))
    sound, journal = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    queue.close()
    counts = []
    for number, size in enumerate([*range(0, len(journal), 4096 + 24), len(journal)]):
        cut = tmp_path / str(number) / "q.db"
        cut.parent.mkdir()
        cut.write_bytes(sound)
        cut.chmod(0o600)
        Path(f"{cut}-wal").write_bytes(journal[:size])
        opened(cut).close()
        found = stanzas(cut)
        assert found == NODES[1 : len(found) + 1]
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[-1] == 20


def test_a_commit_that_fails_in_whatever_way_does_not_stop_the_next(tmp_path: Path) -> None:
    file = QueueFile(str(tmp_path / "q.db"), account=ACCOUNT)
    try:
        with pytest.raises(OverflowError):
            file.commit(Changes(forgets={1 << 70: None}))
        file.commit(Changes(puts={1: (1, b"<a/>", 0.0, None, "hold", 0, 0, None)}))
    finally:
        file.close()
    assert stanzas(tmp_path / "q.db") == [b"<a/>"]
