"""How a command runs: its coroutine, the signals that end it, and the one sentence that says what went wrong."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click

from pcj.cli.escape import shown
from pcj.errors import ConfigError, PcjError

__all__ = ["FAILED", "MISUSE", "Interrupted", "complain", "run", "watch_signals"]

FAILED: Final = 1
MISUSE: Final = 2


class Interrupted(Exception):
    """A signal asked the command to end.

    Attributes:
        exit_code: what a shell expects then.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def complain(message: str) -> None:
    """One sentence on stderr."""
    click.echo(f"pcj: {shown(message)}", err=True)


def fail(message: str, code: int) -> NoReturn:
    """End the command with a sentence."""
    complain(message)
    raise SystemExit(code)


def run(main: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run a command's coroutine and exit with the code it returns. No error gets past it as a traceback."""
    try:
        code = asyncio.run(main())
    except ConfigError as error:
        fail(str(error), MISUSE)
    except PcjError as error:
        fail(str(error), FAILED)
    except Interrupted as error:
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:  # before the coroutine watched for it
        raise SystemExit(128 + signal.SIGINT) from None
    except TimeoutError as error:
        fail(str(error) or "it took longer than it may", FAILED)
    except OSError as error:
        fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", FAILED)
    except Exception as error:
        fail(f"a fault of pcj's own, please report it: {type(error).__name__}: {error}", FAILED)
    raise SystemExit(code)


@contextmanager
def watch_signals(on_signal: Callable[[int], None]) -> Iterator[None]:
    """Have `on_signal` called for each SIGINT and SIGTERM, in the running loop, in place of what they usually do."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
