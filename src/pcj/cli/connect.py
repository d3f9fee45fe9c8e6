"""`pcj connect`: the timeline of a connection to any server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import click

from pcj.broker import Broker
from pcj.cli.brief import is_failure
from pcj.cli.escape import shown
from pcj.cli.password import VARIABLE, password_for
from pcj.cli.run import FAILED, Interrupted, complain, run, watch_signals
from pcj.cli.timeline import Display, JsonLines, Timeline, make_console
from pcj.cli.wording import with_options
from pcj.config import XMPP, Config
from pcj.errors import ConfigError, ConnectionFailed, UsageError
from pcj.events import Event, Status
from pcj.explain import State, clause, sentence
from pcj.protocol import dialect_of
from pcj.transport.tls import make_context

__all__ = ["connect"]

_PASSWORD_REFUSED: Final = (
    "a password on the command line can be read by every user of this machine (ps) and stays in the shell's history; "
    f"set {VARIABLE}, give --password-command, or be asked for it"
)
#: An event that does not happen.
_NEVER: Final = "pcj connect: never"


def _refuse_password(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(_PASSWORD_REFUSED)


def _connection_type(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """A registered connection type; its case does not matter."""
    try:
        return dialect_of(value).name
    except ConfigError as unknown:
        try:
            return dialect_of(value.upper()).name
        except ConfigError:
            raise click.BadParameter(shown(str(unknown))) from None


def _host(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A host alone: what would be looked up in vain as a name is said to be none."""
    if value is None or value.startswith("/"):  # a Unix socket
        return value
    if "://" in value:
        raise click.BadParameter(f"{shown(value)!r} is a URL; give the host alone, and its port with --port")
    host, colon, _ = value.rpartition(":")
    if colon and (":" not in host or host.endswith("]")):  # more colons: an IPv6 address
        raise click.BadParameter(f"{shown(value)!r}: give the host alone, and its port with --port")
    return value


def _is_password_needed(config: Callable[..., Config]) -> bool:
    """Whether there is nothing else to log in with."""
    try:
        Broker.from_config(config(password=None))
    except ConfigError:
        return True
    return False


@click.command()
@click.argument("jid")
@click.option(
    "--type",
    "connection_type",
    default=XMPP,
    callback=_connection_type,
    help="XMPP (the default), LEGACY, JABBERD14_COMPONENT, JABBERD20_COMPONENT, or a registered one; in any case.",
)
@click.option(
    "--host", callback=_host, help="Where to connect; by default what DNS says (clients) or localhost (components)."
)
@click.option("--port", type=click.IntRange(1, 65535), help="By default 5222 (clients) or 5347 (components).")
@click.option("--username", help="The login, where it is not the local part of the JID (jabberd2's router).")
@click.option("--password", hidden=True, expose_value=False, callback=_refuse_password)
@click.option("--password-command", help="A command whose first line of output is the password; run without a shell.")
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM file of the authorities to trust, in place of the system's.",
)
@click.option(
    "--client-certificate",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM file of our certificate and its key, to log in with (SASL EXTERNAL); then a password is not asked for.",
)
@click.option(
    "--pin",
    "pins",
    multiple=True,
    help="Accept only this key (sha256:HEX) or certificate (cert-sha256:HEX) of the server's; may be given again.",
)
@click.option("--tls-name", help="The name that the server's certificate must bear.")
@click.option("--direct-tls", is_flag=True, help="TLS from the first byte (XEP-0368).")
@click.option("--no-require-tls", is_flag=True, help="Go on without TLS if the server offers none.")
@click.option("--insecure", is_flag=True, help="Do not check the server's certificate.")
@click.option("--plaintext", is_flag=True, help="LEGACY: send the password itself, not a digest.")
@click.option("--allow-plain", is_flag=True, help="Send the password itself (SASL PLAIN) also outside TLS.")
@click.option(
    "--mechanism",
    "mechanisms",
    multiple=True,
    help="Log in by this SASL mechanism only (SCRAM-SHA-256, ANONYMOUS); may be given again, best first.",
)
@click.option(
    "--channel-binding",
    type=click.Choice(["prefer", "require", "off"]),
    default="prefer",
    help='Whether the log-in is bound to the TLS session; "prefer" does so where both sides can.',
)
@click.option("--stay", is_flag=True, help="Stay connected until Ctrl-C; reconnect after failures that can pass.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds that it may take to be READY.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per event on stdout, and nothing else.")
def connect(
    jid: str,
    connection_type: str,
    host: str | None,
    port: int | None,
    username: str | None,
    password_command: str | None,
    ca_file: str | None,
    client_certificate: str | None,
    pins: tuple[str, ...],
    tls_name: str | None,
    direct_tls: bool,
    no_require_tls: bool,
    insecure: bool,
    plaintext: bool,
    allow_plain: bool,
    mechanisms: tuple[str, ...],
    channel_binding: str,
    stay: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Connect to a server as JID and show each step.

    JID is the account (name@domain, or name@domain/resource), or a component's domain. The password is taken from
    --password-command, else from the environment variable PCJ_PASSWORD, else asked for. Without --stay it shuts down
    as soon as the connection is READY. The exit code is 0 if it was READY.
    """
    options: dict[str, Any] = {}
    if no_require_tls:
        options["require_tls"] = False
    config = partial(
        Config,
        connection_type=connection_type,
        jid=jid,
        host=host,
        port=port,
        username=username,
        ca_file=ca_file,
        client_certificate=client_certificate,
        pins=pins,
        tls_name=tls_name,
        direct_tls=direct_tls,
        verify_tls=not insecure,
        plaintext=plaintext,
        allow_plain=allow_plain,
        sasl_mechanisms=mechanisms or None,
        channel_binding=channel_binding,
        auto_reconnect=stay,
        **options,
    )

    try:
        # What is wrong with the options is said before a password is asked for; a name stands in for it.
        Broker.from_config(config(password=VARIABLE))
        if ca_file is not None or client_certificate is not None:  # what they hold is seen now, before the timeline
            make_context(verify=not insecure, ca_file=ca_file, client_certificate=client_certificate)
        made = config(password=password_for(shown(jid), password_command, needed=_is_password_needed(config)))
    except ConfigError as error:
        raise click.UsageError(shown(with_options(str(error)))) from None
    if insecure:
        complain("warning: --insecure: the server's certificate is not checked; anyone in between can read along")
    console = make_console()
    display: Display = JsonLines(console) if as_json else Timeline(console)

    async def main() -> int:
        return await _Session(Broker.from_config(made), display, stay=stay, as_json=as_json).run(timeout)

    run(main)


class _Session:
    """One run of the command."""

    def __init__(self, broker: Broker, display: Display, *, stay: bool, as_json: bool) -> None:
        self._broker = broker
        self._display = display
        self._stay = stay
        self._as_json = as_json
        self._stop = asyncio.Event()
        self._signals: list[int] = []
        self._asked_at = 0.0
        self._ready: tuple[str, float] | None = None  # the latest address, and the seconds it took to READY at first
        self._reason = ""  # why the next attempt was to wait
        self._last: Status | None = None

    async def run(self, timeout: float | None) -> int:
        """Connect, show, shut down; the exit code.

        Raises:
            Interrupted: a signal came; the link was shut down in good order before.
        """
        broker, config = self._broker, self._broker.config
        login = f", logging in as {config.username}" if config.username else ""
        self._display.heading(config.connection_type, f"{config.jid}{login}")
        broker.subscribe(Event.PCJ_CONNECT, self._on_connect)
        broker.subscribe(Event.PCJ_READY, self._on_ready)
        broker.subscribe(Event.RECONNECT_DELAY, self._on_delay)
        broker.subscribe("*", self._on_any)
        with watch_signals(self._on_signal):
            connecting = asyncio.create_task(broker.connect())
            await self._first(connecting, timeout=timeout)
            if ready := connecting.done() and connecting.exception() is None:
                ready = not self._stay or await self._hold()
            elif not connecting.done() and not self._signals:
                complain(f"not READY within {timeout:g} s")
            before, explained = broker.state, broker.explain()
            if before not in (State.IDLE, State.HALTED):
                await broker.shutdown()
            self._say(with_options(self._ended(before, explained)))
            try:
                await connecting
            except (ConnectionFailed, UsageError):
                pass  # explained above; UsageError where we shut it down before it was READY
        if self._signals:
            raise Interrupted(self._signals[0])
        return 0 if ready else FAILED

    def _ended(self, before: State, explained: str) -> str:
        """How it went, once all is over.

        Args:
            before: what the broker was doing when it was to end. explained: its words of then.
        """
        if before in (State.IDLE, State.HALTED, State.CLOSING):
            return self._unsaid(self._broker.explain())  # it ended by itself
        if self._ready is None:
            if before is State.WAITING:  # "the next attempt comes" is true no more
                return f"READY was not reached; then it was shut down. The last failure: {_stopped(self._reason)}"
            return f"READY was not reached; then it was shut down. Before that: {explained}"
        jid, seconds = self._ready
        said = f"READY was reached as {jid} after {seconds * 1000:.0f} ms; then "
        if before is State.READY:
            return f"{said}it was shut down."
        return f"{said}the connection was lost, and it was shut down. The reason: {_stopped(self._reason)}"

    def _unsaid(self, text: str) -> str:
        """`text` without the sentence that stands in the line right above."""
        last = self._last
        if self._as_json or last is None or last.error is None or not is_failure(last):
            return text
        return text.replace(sentence(f": {clause(str(last.error))}"), ".")

    def _on_any(self, status: Status) -> None:
        self._last = status
        self._display.show(self._broker.config.connection_type, status)

    def _on_connect(self, status: Status) -> None:
        self._asked_at = status.at

    def _on_ready(self, status: Status) -> None:
        seconds = status.at - self._asked_at if self._ready is None else self._ready[1]
        self._ready = str(status.detail.get("jid", "")), seconds

    def _on_delay(self, status: Status) -> None:
        self._reason = str(status.detail.get("reason", ""))

    async def _hold(self) -> bool:
        """Stay until a signal comes; False if the link ended for good before."""
        if self._broker.state is State.IDLE:
            return False
        ended = asyncio.create_task(self._broker.wait_for(_NEVER))  # fails when no attempt will follow
        await self._first(ended)
        if ended.done():
            ended.exception()  # looked at
            return False
        ended.cancel()
        return True

    async def _first(self, task: asyncio.Task[Any], timeout: float | None = None) -> None:
        """Wait for a task, a signal or the time, whichever comes first."""
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((task, stopped), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()

    def _on_signal(self, number: int) -> None:
        self._signals.append(number)
        if len(self._signals) == 1:
            self._stop.set()
        else:
            self._broker.halt()  # asked twice: at once

    def _say(self, text: str) -> None:
        if self._as_json:
            complain(text)
        else:
            self._display.note("")
            self._display.note(text)


def _stopped(text: str) -> str:
    """`text` with a full stop."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
