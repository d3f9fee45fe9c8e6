"""Where the command begins."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from pcj.cli.run import run
from pcj.errors import ConfigError, ConnectionFailed, Failure, Phase


def pcj(
    *arguments: str, before: str = "pass", stdout: int | None = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {before}; from pcj.cli.main import main; main()", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    done = pcj("demo", before=f"sys.modules[{missing!r}] = None")
    assert done.returncode == 2
    assert done.stderr == "pcj: the command line needs pcj[cli]: pip install 'pcj[cli]'\n"


def test_without_what_makes_certificates_the_demonstration_says_so() -> None:
    done = pcj("demo", before="sys.modules['trustme'] = None")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "trustme" in done.stderr


def test_it_knows_its_version() -> None:
    done = pcj("--version")
    assert done.returncode == 0
    assert version("pcj") in done.stdout


def test_a_full_disk_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = pcj("demo", stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("pcj: the output cannot be written: ")


def test_a_terminal_that_knows_only_ascii_is_good_enough() -> None:
    done = pcj("demo", before="sys.stdout.reconfigure(encoding='ascii')")
    assert done.returncode == 0
    assert done.stdout.isascii()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("port must be\x1b[2J"), 2, "pcj: port must be\\x1b[2J\n"),
        (ConnectionFailed(Failure(Phase.TLS, "no TLS")), 1, "pcj: no TLS\n"),
        (TimeoutError(), 1, "pcj: it took longer than it may\n"),
        (FileNotFoundError(2, "No such file", "x.pem"), 1, "pcj: No such file: x.pem\n"),
        (ZeroDivisionError("oh"), 1, "pcj: a fault of pcj's own, please report it: ZeroDivisionError: oh\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_error_is_one_sentence_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> int:
        raise error

    with pytest.raises(SystemExit) as exit:
        run(main)
    assert exit.value.code == code
    assert capsys.readouterr().err == said
