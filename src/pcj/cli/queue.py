"""`pcj queue`: what waits in a durable queue, and how to be rid of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click

from pcj.cli.escape import shown, shown_json
from pcj.cli.run import FAILED, fail
from pcj.errors import ParseError, PcjError
from pcj.queue.file import Changes, Contents, QueueFile, Row, read
from pcj.xmlstream.document import from_bytes

__all__ = ["queue"]

F = TypeVar("F", bound=Callable[..., Any])

#: The longest id or address that is shown whole, in characters.
_MAX_TEXT: Final = 60
_COLUMNS: Final = ("key", "age", "state", "doubts", "bytes", "kind", "to", "id")
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


@click.group()
def queue() -> None:
    """Show and tend a durable queue.

    It is the file that a broker's option queue="PATH" names.
    """


def _path(command: F) -> F:
    return click.argument("path", metavar="PATH")(command)


@queue.command("list")
@_path
@click.option("--full", is_flag=True, help="Show the nodes themselves, too: what people wrote to one another.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per node, and a last one with the total.")
def list_nodes(path: str, full: bool, as_json: bool) -> None:
    """Show what is in the queue PATH; a broker may be using it."""
    with _sentences():
        contents = read(path)
        described = [_described(row, time.time(), full) for row in contents.rows]
        if as_json:
            _print_json(contents, described)
        else:
            _print_table(contents, described)


@queue.command()
@_path
@click.argument("numbers", metavar="KEY...", type=click.IntRange(min=1), nargs=-1, required=True)
def drop(path: str, numbers: tuple[int, ...]) -> None:
    """Remove single nodes from the queue PATH, by their keys.

    "pcj queue list" shows the keys. No broker may be using the queue.
    """
    with _sentences(), _open(path) as (file, contents):
        wanted = dict.fromkeys(numbers)
        rows = [row for row in contents.rows if row[0] in wanted]
        missing = sorted(wanted.keys() - {row[0] for row in rows})
        if missing:
            shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            fail(f"the queue {file.place!r} has no node {shown}; nothing was removed", FAILED)
        _remove(file, rows)
        click.echo(f"removed {_total(rows)}")


@queue.command()
@_path
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(path: str, yes: bool) -> None:
    """Remove ALL nodes from the queue PATH. No broker may be using it."""
    with _sentences(), _open(path) as (file, contents):
        if contents.rows and not yes:
            _ask(f"Remove {_total(contents.rows)} of {shown(contents.account)} for good?")
        _remove(file, contents.rows)
        click.echo(f"removed {_total(contents.rows)}")


@contextmanager
def _sentences() -> Iterator[None]:
    """Whatever goes wrong is said in one."""
    try:
        yield
    except PcjError as error:
        fail(str(error), FAILED)
    except BrokenPipeError:
        raise  # whoever read our output has gone; click ends quietly
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python says it once more as it ends
        fail(f"the output cannot be written: {error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except click.ClickException:
        raise
    except Exception as error:
        fail(f"a fault of pcj's own, please report it: {type(error).__name__}: {error}", FAILED)


@contextmanager
def _open(path: str) -> Iterator[tuple[QueueFile, Contents]]:
    file = QueueFile(path, account=None, create=False)
    try:
        yield file, file.take_contents()
    finally:
        file.close()


def _ask(question: str) -> None:
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:  # Ctrl-C, or nobody is there to answer
        click.echo(err=True)
    fail("nothing was removed; --yes does it without a question", FAILED)


def _remove(file: QueueFile, rows: list[Row]) -> None:
    if rows:
        # The session's window had a place for each numbered node (XEP-0198 4): without one it cannot be resumed.
        breaks_session = any(number is not None for *_, number in rows)
        file.commit(Changes(forgets=dict.fromkeys(row[0] for row in rows), session="" if breaks_session else None))


def _described(row: Row, wall: float, full: bool) -> dict[str, object]:
    """A node as it is shown; the names are those of the JSON."""
    key, stanza, at, expires, on_doubt, doubts, written, _ = row
    described: dict[str, object] = {
        "key": key,
        "age": round(max(0.0, wall - at), 3),
        "state": "written" if written else "queued",
        "doubts": doubts,
        "bytes": len(stanza),
        **_addressed(stanza),
        "on_doubt": on_doubt,
    }
    if expires is not None:
        described["ttl"] = round(max(0.0, expires - wall), 3)
    if full:
        described["node"] = stanza.decode("utf-8", "backslashreplace")
    return described


def _addressed(stanza: bytes) -> dict[str, object]:
    try:
        node = from_bytes(stanza)
    except ParseError:
        return {"kind": "?", "to": "", "id": ""}
    name, kind = node.tag.rpartition("}")[2], node.get("type")
    return {"kind": f"{name} {kind}" if kind else name, "to": node.get("to", ""), "id": node.get("id", "")}


def _print_json(contents: Contents, described: list[dict[str, object]]) -> None:
    for each in described:
        click.echo(shown_json(json.dumps(each, ensure_ascii=False)))
    total = {"nodes": len(contents.rows), "bytes": _size(contents.rows), "account": contents.account}
    click.echo(shown_json(json.dumps({"total": total}, ensure_ascii=False)))


def _print_table(contents: Contents, described: list[dict[str, object]]) -> None:
    rows = [tuple(_cell(name, each[name]) for name in _COLUMNS) for each in described]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for number, row in enumerate((_COLUMNS, *rows) if rows else ()):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number and "node" in described[number - 1]:
            click.echo(f"    {shown(str(described[number - 1]['node']))}")
    whose = f" of {shown(contents.account)}" if contents.account else ""
    resumable = "; a session that may be resumed is saved with them" if contents.session is not None else ""
    click.echo(f"{_total(contents.rows)}{whose}{resumable}")


def _cell(name: str, value: object) -> str:
    if name == "age" and isinstance(value, float):
        return next((f"{value / size:.1f} {unit}" for size, unit in _UNITS if value >= size), f"{value:.1f} s")
    text = shown(str(value))
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _size(rows: list[Row]) -> int:
    return sum(len(row[1]) for row in rows)


def _total(rows: list[Row]) -> str:
    return f"{len(rows)} node{'' if len(rows) == 1 else 's'}, {_size(rows)} bytes"
