"""What a broker logs in with is shown nowhere: a full run of each connection type is searched for it.

That the search finds what there is, test_leaks.py shows.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import dataclasses
import hashlib
import hmac
import logging
import pickle
import re
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Final
from xml.etree.ElementTree import Element

import pytest

import pcj
import pcj.testing
from pcj import (
    JABBERD14_COMPONENT,
    JABBERD20_COMPONENT,
    LEGACY,
    XMPP,
    Broker,
    Config,
    ConfigError,
    ConnectionFailed,
    DeliveryError,
    Event,
    PcjError,
    QueueError,
    QueueFull,
    SaslError,
    Status,
    UsageError,
    message,
    ping,
)
from pcj.login import Supplied
from pcj.protocol import Negotiator, dialect_of
from pcj.protocol.actions import Action, Established, Write
from pcj.protocol.steps import Compute, Send, Session
from pcj.sasl.steps import Challenge, Credentials, Respond, Success
from pcj.testing import Contract, Server, ServerOptions
from tests.shell.echoes import echoes, send_on
from tests.shell.leaks import Secrets, Walk
from tests.shell.links import TIMEOUT, scripted

# No words of ours, short enough that nothing shortens them, with what is written differently in XML, reprs and URIs.
PASSWORD: Final = "Zr7'kelp&Moor=\u017ec"
WRONG: Final = "Vx4<not>this,one\\"

#: Where a password stands because the user put it there.
OWN_PLACES: Final = frozenset({(Config, "password")})

#: Elements of ours whose text is a credential or the proof of one.
_SAID = re.compile(r"<(?:\w+:)?(auth|response|handshake|password|digest)\b[^>]*>([^<]+)</")
#: In what is said, and in what is heard: the decisive part. "p=" at the very beginning names a channel binding.
_PROOF = re.compile(r"(?:^(?!p=)|,)(p|v|response|rspauth)=\"?([^,\"]+)")
_HEARD = re.compile(r"<(?:\w+:)?(challenge|success)\b[^>]*>([^<]+)</")


class Run:
    """A run that is searched when it is over: what it showed, and what it must not have shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.secrets = Secrets()
        self.shown: list[tuple[str, object]] = []
        self._wire = ""
        self._tap_keys(monkeypatch)
        self._tap_wire(monkeypatch)

    def keep(self, what: str, value: object) -> None:
        """Search a value, too, when the run is over."""
        self.shown.append((what, value))

    def watch(self, broker: Broker) -> Broker:
        """Keep a broker, all its statuses, and what it says of itself at each of them."""
        self.keep(f"the broker {broker!r}", broker)
        self.keep("a subscription", broker.subscribe("*", self._hear))
        broker.subscribe("*", lambda status: self.keep("explain()", broker.explain()))
        self.keep("its contract", Contract(broker))
        return broker

    def _hear(self, status: Status) -> None:
        self.keep(f"the status of {status.event}", status)
        self.keep("pickled", pickle.dumps(status.error))
        # What a debugger or a watchdog shows of a program: its tasks, with their results.
        self.keep("the tasks", [repr(task) for task in asyncio.all_tasks()])

    async def fails(self, broker: Broker) -> None:
        """Connect in vain."""
        with pytest.raises(ConnectionFailed) as caught:
            await broker.connect()
        self.keep("what connect() raised", caught.value)
        self.keep("explain()", broker.explain())

    def walk(self) -> Walk:
        """Search all of it."""
        self._learn_from_the_wire()
        walk = Walk(self.secrets, OWN_PLACES)
        for what, value in self.shown:
            walk.look(what, value)
        return walk

    def _tap_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """RFC 5802 3: whoever has one of these can log in as we do, or guess the password at leisure."""
        derive = hashlib.pbkdf2_hmac

        def derived(algorithm: str, password: bytes, salt: bytes, iterations: int, dklen: int | None = None) -> bytes:
            salted = derive(algorithm, password, salt, iterations, dklen)
            client_key = hmac.digest(salted, b"Client Key", algorithm)
            self.secrets.add("SaltedPassword", salted)
            self.secrets.add("ClientKey", client_key)
            self.secrets.add("StoredKey", hashlib.new(algorithm, client_key).digest())
            self.secrets.add("ServerKey", hmac.digest(salted, b"Server Key", algorithm))
            return salted

        monkeypatch.setattr(hashlib, "pbkdf2_hmac", derived)

    def _tap_wire(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Read along inside TLS."""

        def tapped(name: str) -> Callable[..., list[Action]]:
            original = getattr(Negotiator, name)

            def method(negotiator: Negotiator, *arguments: Any) -> list[Action]:
                if name == "receive_data":
                    self._wire += arguments[0].decode(errors="replace")
                actions: list[Action] = original(negotiator, *arguments)
                self.keep(f"actions of {name}", [repr(action) for action in actions])
                self._wire += "".join(action.data.decode() for action in actions if isinstance(action, Write))
                return actions

            return method

        for name in ("start", "receive_data", "tls_started", "computed", "password_given", "failed"):
            monkeypatch.setattr(Negotiator, name, tapped(name))

    def _learn_from_the_wire(self) -> None:
        for element, text in _SAID.findall(self._wire) + _HEARD.findall(self._wire):
            if element in ("handshake", "digest"):
                self.secrets.add(f"<{element}>", text)
                self.secrets.add(f"<{element}>", bytes.fromhex(text))
            elif element != "password":  # that is the password, in XML
                self._learn_from_sasl(element, text)

    def _learn_from_sasl(self, element: str, text: str) -> None:
        try:
            said = base64.b64decode(text, validate=True).decode()
        except ValueError:
            return  # "=", or what a hostile server said
        proofs = _PROOF.findall(said)
        for name, proof in proofs:
            self.secrets.add(f"{name}= of <{element}>", proof)
            if name in "pv":
                self.secrets.add(f"{name}= of <{element}>", base64.b64decode(proof))
        if proofs or "\0" in said:
            self.secrets.add(f"<{element}>", text)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


def debugged(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine with asyncio's debug mode telling all it can: each callback, with its arguments."""

    async def bounded() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.0
        async with asyncio.timeout(2 * TIMEOUT):
            await main()

    asyncio.run(bounded(), debug=True)


# ---- the cast


def make_server(**options: Any) -> Server:
    """It knows everybody, by the one password."""
    return Server(
        accounts={"romeo": PASSWORD},
        components={"comp.localhost": PASSWORD},
        router_users={"jabberd": PASSWORD},
        options=ServerOptions(**options),
    )


JIDS: Final = {
    XMPP: "romeo@localhost/orchard",
    LEGACY: "romeo@localhost/orchard",
    JABBERD14_COMPONENT: "comp.localhost",
    JABBERD20_COMPONENT: "comp.localhost",
}
_LISTENERS: Final = {
    XMPP: "client_port",
    LEGACY: "client_port",
    JABBERD14_COMPONENT: "component_port",
    JABBERD20_COMPONENT: "router_port",
}


def options_for(kind: str, server: Server) -> dict[str, Any]:
    """Those with which a broker of this type reaches the server."""
    options: dict[str, Any] = {
        "host": server.host,
        "port": getattr(server, _LISTENERS[kind]),
        "ca_file": server.ca_file,
    }
    if kind == JABBERD20_COMPONENT:
        options["username"] = "jabberd"
    return {**options, "tls_name": "localhost", "close_timeout": 2.0, "debug": True, "reconnect_delay": 0.01}


def make_broker(kind: str, server: Server, password: Any = PASSWORD, **options: Any) -> Broker:
    return Broker(kind, JIDS[kind], password=password, **{**options_for(kind, server), **options})


# ---- what happens in a full run


async def live(run: Run, broker: Broker, server: Server) -> None:
    """Nodes before READY and after, a request, a broken link and its reconnect, a reconnect that was asked for, the
    end; and what can be called in vain.
    """
    run.watch(broker)
    broker.add_filter("HAIL", "//body")
    run.keep("a receipt", broker.output(message(to=broker.jid, body="before READY")))
    early = broker.return_to_sender(message(to=broker.jid), timeout=0.001)
    run.keep("a reply that does not come", (await asyncio.gather(early, return_exceptions=True))[0])
    await broker.connect()
    broker.purge_queue()
    run.keep("a reply", await broker.return_to_sender(ping(to=broker.jid)))
    run.keep("sessions", server.sessions)
    for call in (
        lambda: broker.output(Element("{urn:example}no-stanza")),
        lambda: broker.add_filter("BAD", "//["),
        lambda: broker.subscribe("PCJ_NO_EVENT", print),
        lambda: broker.output(message(to="@", body="x" * 300_000)),
        lambda: broker.return_to_sender(ping(to=broker.jid), timeout=-1),
        lambda: pcj.from_bytes(b"<a>"),
        lambda: dataclasses.replace(broker.config, jid="@"),
    ):
        try:
            run.keep("a result", call())
        except PcjError as error:
            run.keep("an error", error)
    ready = asyncio.ensure_future(_next_ready(broker))
    await asyncio.sleep(0)
    await server.drop(broker.jid)
    await ready
    await broker.reconnect()
    await broker.shutdown()
    lost = broker.return_to_sender(message(to=broker.jid))
    with pytest.raises(QueueFull) as full:
        for _ in range(20):
            broker.output(message(to=broker.jid, body="after the end"))
    run.keep("a full queue", full.value)
    broker.halt()
    run.keep("a request's end", (await asyncio.gather(lost, return_exceptions=True))[0])
    for again in (broker.connect(), broker.wait_for(Event.PCJ_READY)):
        with pytest.raises(UsageError) as caught:
            await again
        run.keep("what a halted broker raises", caught.value)


async def _next_ready(broker: Broker) -> None:
    await broker.wait_for(Event.PCJ_SOCKETDISCONNECT)
    await broker.wait_for(Event.PCJ_READY)


def as_it_is(password: str) -> object:
    return password


def by_a_function(password: str) -> object:
    return lambda: password


def by_a_coroutine(password: str) -> object:
    async def from_a_vault() -> str:
        await asyncio.sleep(0)
        return password

    return from_a_vault


async def full_run(run: Run, kind: str, give: Callable[[str], object], **options: Any) -> None:
    """Everything that can happen to a connection of this type.

    Args:
        give: how the broker is given its password.
    """
    async with make_server() as server:
        run.keep("the server", [server, ServerOptions(), dialect_of(kind)])
        await live(
            run, make_broker(kind, server, give(PASSWORD), auto_reconnect=True, queue_max_nodes=9, **options), server
        )
        await run.fails(run.watch(make_broker(kind, server, give(WRONG), **options)))
        async with send_on(kind, f"{server.host}:{getattr(server, _LISTENERS[kind])}") as first:
            run.keep("the scripted server", first)
            # The target is not of the user's choice, so TLS would be required there.
            sent_on = {"port": first.port, "require_tls": kind in (XMPP, JABBERD20_COMPONENT)}
            broker = run.watch(make_broker(kind, server, give(PASSWORD), **{**options, **sent_on}))
            await broker.connect()
            await broker.shutdown()
        in_the_clear = {"require_tls": False, "allow_plain": True, "max_redirects": 0}
        mechanisms = options.get("sasl_mechanisms", ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-512"))
        for script in echoes(kind, PASSWORD, mechanisms):
            async with scripted(script) as at:
                at_last = {**options, **in_the_clear, "port": at.port}
                await run.fails(run.watch(make_broker(kind, server, give(PASSWORD), **at_last)))


_SCRAM: Final = {"SaltedPassword", "ClientKey", "StoredKey", "ServerKey", "p= of <response>"}
_PLAIN: Final = {"sasl_mechanisms": ("PLAIN",)}
#: Each type with all its ways to log in; and what must have been seen of each, or nothing was proved.
_RUNS: Final[dict[str, tuple[str, Callable[[str], object], dict[str, Any], set[str]]]] = {
    "XMPP, SCRAM": (XMPP, as_it_is, {}, _SCRAM),
    "XMPP, SCRAM without binding": (XMPP, by_a_function, {"channel_binding": "off"}, _SCRAM),
    "XMPP, PLAIN": (XMPP, by_a_coroutine, _PLAIN, {"<auth>"}),
    "LEGACY, digest": (LEGACY, by_a_function, {}, {"<digest>"}),
    "LEGACY, plaintext": (LEGACY, by_a_coroutine, {"plaintext": True}, set()),
    "JABBERD14_COMPONENT": (JABBERD14_COMPONENT, by_a_coroutine, {}, {"<handshake>"}),
    "JABBERD20_COMPONENT": (JABBERD20_COMPONENT, as_it_is, {}, {"response= of <response>"}),
}


@pytest.mark.parametrize(("kind", "give", "options", "proofs"), _RUNS.values(), ids=_RUNS.keys())
def test_nothing_that_a_program_can_see_shows_a_secret(
    run: Run,
    kind: str,
    give: Callable[[str], object],
    options: dict[str, Any],
    proofs: set[str],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run.secrets.add("the password", PASSWORD)
    run.secrets.add("the wrong password", WRONG)
    with caplog.at_level(logging.DEBUG):
        debugged(lambda: full_run(run, kind, give, **options))
    for record in caplog.records:
        run.keep("a log record", record)
    run.keep("stdout and stderr", capfd.readouterr())
    walk = run.walk()
    assert walk.found == []
    assert run.secrets.names >= proofs
    # Both were on, or their silence would prove nothing.
    loggers = {record.name for record in caplog.records}
    assert loggers >= {"pcj", "asyncio"}
    assert "Executing <Handle" in caplog.text
    assert "[redacted]" in caplog.text

    assert _public_classes() - walk.kinds == {QueueError, DeliveryError} | _ELSEWHERE.get(kind, set())


def _public_classes() -> set[type]:
    """What a program can have an instance of."""
    public = {getattr(module, name) for module in (pcj, pcj.testing) for name in module.__all__}
    return {it for it in public if isinstance(it, type) and not issubclass(it, Enum)} - {PcjError}  # the root alone


#: Of a type: what its run has no instance of, for it has no SASL. (QueueError speaks of files and DeliveryError of a
#: receipt: neither is made where there is anything of a log-in.)
_ELSEWHERE: Final[dict[str, set[type]]] = {LEGACY: {SaslError}, JABBERD14_COMPONENT: {SaslError}}


# ---- what no run shows: values that are handed about inside, copies, and passwords that cannot be used


@pytest.mark.parametrize(
    "value",
    [
        Config(connection_type=XMPP, jid="romeo@localhost", password=PASSWORD),
        copy.copy(Config(connection_type=XMPP, jid="romeo@localhost", password=PASSWORD)),
        pickle.loads(pickle.dumps(Config(connection_type=XMPP, jid="romeo@localhost", password=PASSWORD))),  # noqa: S301
        dataclasses.replace(Config(connection_type=XMPP, jid="romeo@localhost", password=PASSWORD), port=1),
        Credentials("romeo", PASSWORD),
        Supplied(PASSWORD),
        Compute(hashlib.pbkdf2_hmac, ("sha1", PASSWORD.encode(), b"salt", 1)),
        Respond(PASSWORD.encode()),
        Challenge(PASSWORD.encode()),
        Success(PASSWORD.encode()),
        Send(Element("knock", {"word": PASSWORD}), secret=True),
        Write(PASSWORD.encode()),
        Established(Session("romeo@localhost", "s1"), {}, (), PASSWORD.encode()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_repr_shows_what_it_holds(value: object) -> None:
    secrets = Secrets()
    secrets.add("the password", PASSWORD)
    assert not secrets.within(f"{value!r} {value} {[value]!r}")


#: What RFC 4013 does not allow, and what no UTF-8 can be written of; each with a secret that must not be quoted.
_UNUSABLE: Final = (
    f"{PASSWORD}\0",
    f"{PASSWORD}\ue000",
    f"{PASSWORD}\ud800",
    f"\u0627{PASSWORD}",
    f"{PASSWORD}\U000e0001",
)


@pytest.mark.parametrize("kind", JIDS)
@pytest.mark.parametrize("password", _UNUSABLE, ids=ascii)
def test_a_password_that_cannot_be_used_is_not_quoted(kind: str, password: str, run: Run) -> None:
    run.secrets.add("the password", PASSWORD)

    async def main() -> None:
        async with make_server() as server:
            for options in ({"sasl_mechanisms": ("PLAIN",)}, {"plaintext": True}, {}):
                try:
                    broker = run.watch(make_broker(kind, server, password, **options))
                    await broker.connect()
                except (ConnectionFailed, ConfigError) as error:
                    run.keep("what was raised", error)
                else:
                    await broker.shutdown()
                    pytest.fail("nobody has such a password")

    asyncio.run(main())
    assert run.walk().found == []


@pytest.mark.parametrize(
    "password", [PASSWORD.encode(), [PASSWORD], {PASSWORD: PASSWORD}], ids=lambda it: type(it).__name__
)
def test_a_password_of_another_type_is_not_quoted(password: object) -> None:
    secrets = Secrets()
    secrets.add("the password", PASSWORD)
    with pytest.raises(ConfigError) as caught:
        Broker(XMPP, "romeo@localhost", password=password)  # type: ignore[arg-type]
    walk = Walk(secrets)
    walk.look("the error", caught.value)
    assert walk.found == []
