"""The command `pcj` and its subcommands."""

from __future__ import annotations

from importlib.metadata import version

import click

from pcj.cli.connect import connect
from pcj.cli.demo import demo
from pcj.cli.queue import queue

__all__ = ["pcj"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("pcj"), prog_name="pcj")
def pcj() -> None:
    """An XMPP connection broker: watch connections being made, step by step, and tend what waits to be sent."""


pcj.add_command(demo)
pcj.add_command(connect)
pcj.add_command(queue)
