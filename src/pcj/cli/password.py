"""Where `pcj connect` has the password from: never from the command line, which every user of the machine can read."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from typing import Final

import click

__all__ = ["VARIABLE", "password_for"]

VARIABLE: Final = "PCJ_PASSWORD"
#: How long a password command may take, in seconds; it may have to ask a person.
COMMAND_SECONDS: Final = 300.0


def password_for(jid: str, command: str | None, *, needed: bool = True) -> str | None:
    """The password: of the command if one is given, else of the environment, else asked for at the terminal.

    Args:
        jid: for the question. command: its words. needed: whether to ask; otherwise None will do.

    Raises:
        click.UsageError: there is none.
    """
    if command is not None:
        return _from_command(command)
    if given := os.environ.get(VARIABLE):  # an empty one is none
        return given
    if not needed:
        return None
    if not _at_terminal():
        raise click.UsageError(
            f"there is no password: set {VARIABLE}, give --password-command, or run it at a terminal to be asked"
        )
    try:
        password: str = click.prompt(f"Password of {jid}", hide_input=True, err=True)
    except click.Abort:
        click.echo(err=True)
        raise SystemExit(128 + signal.SIGINT) from None
    return password


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def _from_command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise click.UsageError(f"--password-command cannot be split into words: {error}") from None
    if not words:
        raise click.UsageError("--password-command is empty")
    try:
        # Its own words, no shell; it may ask at the terminal, so only its output is taken.
        done = subprocess.run(words, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS, check=False)  # noqa: S603
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except OSError as error:
        raise click.UsageError(f"--password-command: {words[0]}: {error.strerror or error}") from None
    except subprocess.TimeoutExpired:
        raise click.UsageError(f"--password-command: {words[0]} took longer than {COMMAND_SECONDS:g} s") from None
    if done.returncode:
        raise click.UsageError(f"--password-command: {words[0]} failed with exit code {done.returncode}")
    first, _, _ = done.stdout.partition(b"\n")
    try:
        password = first.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"--password-command: the output of {words[0]} is not UTF-8") from None
    if not password:
        raise click.UsageError(f"--password-command: {words[0]} printed no password")
    return password
