"""`pcj demo`: the life of a connection of each type, against a server of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import click
from rich import box
from rich.table import Table

from pcj.broker import Broker
from pcj.cli.play import Act, Companion, play
from pcj.cli.run import FAILED, Interrupted, complain, run, watch_signals
from pcj.cli.timeline import Display, JsonLines, Timeline, make_console
from pcj.config import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP, Config
from pcj.errors import PcjError
from pcj.testing import Server

__all__ = ["demo", "make_server"]

#: How long all of it may take, in seconds; it takes less than one.
DEADLINE: Final = 60.0
#: How long a server of our own may take to close its stream, in seconds.
_CLOSE_SECONDS: Final = 2.0

#: The four types: who connects, and what is worth saying of it.
_CAST: Final = (
    (XMPP, "romeo@localhost/orchard", "a client (RFC 6120)"),
    (LEGACY, "romeo@localhost/garden", "a client of old (XEP-0078), loopback, no TLS"),
    (JABBERD14_COMPONENT, "verona.localhost", "a component (XEP-0114), loopback, no TLS"),
    (JABBERD20_COMPONENT, "mantua.localhost", "a component at jabberd2's router"),
)
_CLIENT_COMPANION: Final = "juliet@localhost/tomb"
_COMPONENT_COMPANION: Final = "mirror.localhost"
_ROUTER_USER: Final = "jabberd"


def make_server(secret: str) -> Server:
    """The server that the demonstration talks with; everybody on it has the same password."""
    return Server(
        accounts={"romeo": secret, "juliet": secret},
        components={"mirror.localhost": secret, "verona.localhost": secret, "mantua.localhost": secret},
        router_users={_ROUTER_USER: secret},
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per event, and nothing else.")
def demo(as_json: bool) -> None:
    """Show the life of a connection of each of the four types.

    It starts a server of its own on loopback: no account and no network are needed. The exit code is 0 if everything
    that should happen did.
    """
    console = make_console()
    display: Display = JsonLines(console) if as_json else Timeline(console)
    say: Callable[[str], None] = partial(click.echo, err=as_json)
    run(lambda: _main(display, say))


async def _main(display: Display, say: Callable[[str], None]) -> int:
    task = asyncio.current_task()
    signals: list[int] = []

    def on_signal(number: int) -> None:
        signals.append(number)
        if task is not None:
            task.cancel()

    acts: list[Act] = []
    try:
        with watch_signals(on_signal):
            async with asyncio.timeout(DEADLINE):
                await _perform(display, acts)
    except TimeoutError:
        complain(f"the demonstration was not done within {DEADLINE:g} s")
    except asyncio.CancelledError:
        if not signals:
            raise
        raise Interrupted(signals[0]) from None
    return _judge(acts, say)


async def _perform(display: Display, acts: list[Act]) -> None:
    secret = secrets.token_urlsafe(12)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(make_server(secret))
        configs = {kind: _config(server, secret, kind, jid) for kind, jid, _ in _CAST}
        companions: dict[bool, Companion] = {}
        for kind, jid in ((JABBERD14_COMPONENT, _COMPONENT_COMPANION), (XMPP, _CLIENT_COMPANION)):
            companion = Companion(Broker.from_config(_config(server, secret, kind, jid)))
            try:
                await stack.enter_async_context(companion.broker)
            except PcjError as error:
                complain(f"the companion {jid} could not connect: {error}")
            companions[kind == XMPP] = companion
        for kind, jid, words in _CAST:
            act = Act(kind)
            acts.append(act)
            display.heading(kind, f"{jid}: {words}")
            # A client talks with a component, a component with a client.
            companion = companions[kind in (JABBERD14_COMPONENT, JABBERD20_COMPONENT)]
            await play(act, Broker.from_config(configs[kind]), companion, partial(display.show, kind))
        display.table(_summary(acts, list(companions.values())))


def _config(server: Server, secret: str, kind: str, jid: str) -> Config:
    where: dict[str, Any] = {"host": server.host, "close_timeout": _CLOSE_SECONDS}
    match kind:
        case "XMPP":
            where |= {"port": server.client_port, "ca_file": server.ca_file}
        case "LEGACY":
            where |= {"port": server.client_port}
        case "JABBERD14_COMPONENT":
            where |= {"port": server.component_port}
        case _:
            where |= {"port": server.router_port, "ca_file": server.ca_file, "username": _ROUTER_USER}
    return Config(connection_type=kind, jid=jid, password=secret, **where)


def _summary(acts: list[Act], companions: list[Companion]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("type", no_wrap=True)
    for name in ("READY after", "TLS", "events", "sent", "received"):
        table.add_column(name, justify="right")
    for act in acts:
        after = "never" if act.ready_after is None else f"{act.ready_after * 1000:.1f} ms"
        table.add_row(act.kind, after, act.tls or "-", str(act.events), str(act.sent), str(act.received))
    for companion in companions:
        jid = companion.broker.config.jid
        table.add_row(f"({jid})", "", "", "", str(companion.sent), str(companion.received), style="dim")
    return table


def _judge(acts: list[Act], say: Callable[[str], None]) -> int:
    """Say what is missing, and how it went; returns the exit code."""
    good = len(acts) == len(_CAST)
    for act in acts:
        if act.missing or act.error:
            good = False
            why = f" ({act.error})" if act.error else ""
            complain(f"demo: {act.kind}: missing: {', '.join(act.missing) or 'nothing, and yet it failed'}{why}")
    for kind, _, _ in _CAST[len(acts) :]:
        complain(f"demo: {kind}: it was not reached")
    ready = sum(act.ready_after is not None for act in acts)
    nodes = sum(act.sent + act.received for act in acts)
    say(f"demo: {ready} of {len(_CAST)} connection types reached PCJ_READY, {nodes} nodes exchanged")
    return 0 if good else FAILED
