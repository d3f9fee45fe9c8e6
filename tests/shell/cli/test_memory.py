"""A password is in no command line, in no core file, and not for other programs of the same user to read."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pcj.cli.group import pcj as command
from tests.shell.cli.background import TIMEOUT

PASSWORD = "Zr7-kelp=Moor/of-a-core"
MAIN = "from pcj.cli.main import main; main()"
#: The same without what is tested: so a test shows that it would see the difference.
UNPROTECTED = f"import pcj.cli.main; pcj.cli.main.keep_private = lambda: None; {MAIN}"

linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")


@pytest.fixture
def silent() -> Iterator[list[str]]:
    """The arguments of a `pcj connect` that is connected, has its password, and waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield ["connect", "romeo@localhost", "--host", "127.0.0.1", "--port", str(listener.getsockname()[1]), "--json"]


def start(code: str, arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """A command at work, with cores allowed: it has said its first word."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import resource as r; r.setrlimit(r.RLIMIT_CORE, ({_hard()},) * 2); {code}",
            *arguments,
        ],
        cwd=folder,
        env={"PCJ_PASSWORD": PASSWORD},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    while b"CONNECTED" not in (line := process.stdout.readline()):
        assert line, "it ended before it was connected"
    return process


def _hard() -> int:
    return resource.getrlimit(resource.RLIMIT_CORE)[1]


def abort(process: subprocess.Popen[bytes]) -> None:
    """As a fault in a library of C would end it."""
    process.send_signal(signal.SIGABRT)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == -signal.SIGABRT


def cores(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith("core")]


def why_no_core() -> str | None:
    """Why this machine would leave no core file in a process's folder."""
    pattern = Path("/proc/sys/kernel/core_pattern")
    if not pattern.exists():
        return "core files of this system are found elsewhere"
    text = pattern.read_text().strip()
    if not text.startswith("core"):
        return f"core files go to {text!r} on this machine, not into the process's folder"
    return "the hard limit of core files is 0 here" if _hard() == 0 else None


@linux
def test_no_core_file_is_left_and_without_the_protection_one_with_the_password_would_be(
    silent: list[str], tmp_path: Path
) -> None:
    reason = why_no_core()
    if reason is not None:
        pytest.skip(reason)
    abort(start(UNPROTECTED, silent, tmp_path))
    (core,) = cores(tmp_path)
    held = core.read_bytes()
    core.unlink()
    assert PASSWORD.encode() in held
    for arguments in (silent, ["demo", "--json"]):
        abort(start(MAIN, arguments, tmp_path))
        assert cores(tmp_path) == []


@linux
@pytest.mark.parametrize("arguments", [["--version"], ["demo"]], ids=" ".join)
def test_every_command_is_closed_to_other_processes_and_to_core_files(arguments: list[str]) -> None:
    # Both by their own: the limit counts for nothing where cores are piped to a program, and only the second closes
    # /proc/PID/environ, with PCJ_PASSWORD in it.
    look = (
        "import atexit, ctypes, resource; ask = ctypes.CDLL(None).prctl; PR_GET_DUMPABLE = 3; "
        "tell = lambda: print(ask(PR_GET_DUMPABLE, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0]); "
        "atexit.register(tell); "
    )
    for code, seen in ((UNPROTECTED, f"1 {_hard()}"), (MAIN, "0 0")):
        limits = f"resource.setrlimit(resource.RLIMIT_CORE, ({_hard()},) * 2); "
        done = subprocess.run(
            [sys.executable, "-c", look + limits + code, *arguments], capture_output=True, text=True, timeout=TIMEOUT
        )
        assert done.stdout.splitlines()[-1] == seen


@linux
def test_what_the_system_shows_of_a_running_command_has_no_password(silent: list[str], tmp_path: Path) -> None:
    process = start(MAIN, silent, tmp_path)
    try:
        shown = Path(f"/proc/{process.pid}")
        assert PASSWORD.encode() not in (shown / "cmdline").read_bytes()
        assert PASSWORD.encode() not in (shown / "comm").read_bytes()
        (line,) = [it for it in (shown / "limits").read_text().splitlines() if it.startswith("Max core file size")]
        assert line.split()[4] == "0"
        environment = shown / "environ"
        # The kernel gives it to root, whoever runs the command; and checks that again when it is read.
        assert environment.stat().st_uid == 0
        if os.geteuid() != 0:
            with pytest.raises(PermissionError):
                environment.read_bytes()
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT)


def test_a_system_that_refuses_is_no_reason_to_fail() -> None:
    before = (
        "import ctypes, resource\n"
        "def refuse(*args, **kw): raise OSError(1, 'no')\n"
        "resource.setrlimit = ctypes.CDLL = refuse\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", before + MAIN, "--version"], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert (done.returncode, done.stderr) == (0, "")


def _commands(group: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    if isinstance(group, click.Group):
        for name, inner in group.commands.items():
            yield from _commands(inner, *path, name)


@pytest.mark.parametrize(
    ("path", "one"), [pytest.param(*it, id=" ".join(("pcj", *it[0]))) for it in _commands(command)]
)
def test_no_command_takes_a_password_on_its_command_line(path: tuple[str, ...], one: click.Command) -> None:
    words = ("pass", "secret", "token", "credential", "key")
    for parameter in one.params:
        for name in parameter.opts:
            if not any(word in name for word in words) or name == "--password-command":  # a command that says it
                continue
            assert isinstance(parameter, click.Option), f"{name} is an argument"
            needed = ["it"] * sum(isinstance(other, click.Argument) for other in one.params)
            result = CliRunner().invoke(command, [*path, *needed, name, PASSWORD])
            assert result.exit_code == 2, f"{name} takes a value"
            assert "can be read by every user" in result.output
            assert PASSWORD not in result.output


def test_a_password_on_the_command_line_is_looked_for_where_commands_are_made() -> None:
    assert {path for path, _ in _commands(command)} >= {(), ("connect",), ("demo",)}
