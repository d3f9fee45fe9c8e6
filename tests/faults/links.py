"""Servers that follow a script, for a link of each type, and the brokers that talk to them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pcj import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP, Broker, ConnectionFailed, Event, Failure
from pcj.namespaces import BIND, CLIENT, COMPONENT_ACCEPT, JABBERD_COMPONENT, SASL, TLS
from tests.shell.links import SECRET, Record, Wire

#: What `shutdown` fires while READY, SESSION_LOST left out (original-traces, section 1).
SHUTDOWN = ["STREAMEND", "SHUTDOWN_START", "SOCKETDISCONNECT", "SHUTDOWN_FINISH"]
#: A deadline that passes at once, and one that no test lives to see.
SOON, NEVER = 0.05, 600.0


def mechanisms(*names: str) -> str:
    """The feature that lists them, in this order."""
    listed = "".join(f"<mechanism>{name}</mechanism>" for name in names)
    return f"<mechanisms xmlns='{SASL}'>{listed}</mechanisms>"


def success(data: str = "") -> str:
    return f"<success xmlns='{SASL}'>{data}</success>"


async def opening_in_tls(wire: Wire, proceed: str = f"<proceed xmlns='{TLS}'/>") -> None:
    """Up to the answer to <starttls/>, which is `proceed`."""
    await wire.header(CLIENT, version="1.0")
    wire.features(f"<starttls xmlns='{TLS}'/>" + mechanisms("SCRAM-SHA-256", "PLAIN"))
    await wire.until("<starttls")
    await wire.until(">")
    wire.send(proceed)


# ---- one script for each connection type: up to the request whose answer makes the link READY


async def _xmpp(wire: Wire) -> str:
    await wire.login()
    jid = "<jid>romeo@localhost/orchard</jid>"
    return f"<iq type='result' id='{await wire.request()}'><bind xmlns='{BIND}'>{jid}</bind></iq>"


async def _legacy(wire: Wire) -> str:
    await wire.header(CLIENT)
    return f"<iq type='result' id='{await wire.request()}'/>"


async def _jabberd14(wire: Wire) -> str:
    await wire.header(COMPONENT_ACCEPT)
    await wire.until("</handshake>")
    return "<handshake/>"


async def _jabberd20(wire: Wire) -> str:
    await wire.header(JABBERD_COMPONENT, version="1.0")
    wire.features(mechanisms("PLAIN"))
    await wire.until("</auth>")
    wire.send(success())
    await wire.header(JABBERD_COMPONENT, version="1.0")
    wire.features("")
    await wire.until("<bind")
    found = re.search(r'id="([^"]+)"', await wire.until("/>"))
    assert found is not None
    return f"<bind xmlns='{JABBERD_COMPONENT}' id='{found[1]}'/>"


@dataclass(frozen=True)
class Kind:
    """A connection type over loopback and without TLS, PLAIN allowed.

    Attributes:
        connection_type, jid, options: of its broker. xmlns, version: of the server's first header. request: the
            server's script up to the last request; it returns the answer that makes the link READY.
    """

    connection_type: str
    jid: str
    xmlns: str
    version: str
    request: Callable[[Wire], Awaitable[str]]
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.connection_type

    def broker(self, port: int, **options: Any) -> Broker:
        """Not connected yet. Without a word from the server it waits as long as the test may run."""
        usual = {"jid": self.jid, "password": SECRET, "host": "127.0.0.1", "port": port}
        usual |= {"require_tls": False, "allow_plain": True, "close_timeout": NEVER}
        usual |= {"acks": "off"}  # the scripts answer what they are about; no ping that asks what was read
        return Broker(self.connection_type, **{**usual, **dict(self.options), **options})

    async def header(self, wire: Wire) -> None:
        """The server's script up to its first header."""
        await wire.header(self.xmlns, version=self.version)

    async def ready(self, wire: Wire, *, before: str = "", behind: str = "") -> None:
        """The server's script up to READY; `before` and `behind` go out in one piece with the last answer."""
        answer = await self.request(wire)
        wire.send(before + answer + behind)

    def message(self, body: str) -> str:
        """A message that comes in, in the form of this type of link."""
        xmlns = f" xmlns='{CLIENT}'" if self.connection_type == JABBERD20_COMPONENT else ""
        stanza = f"<message{xmlns} from='juliet@localhost' to='{self.jid}'><body>{body}</body></message>"
        if not xmlns:
            return stanza
        return f"<route xmlns='{JABBERD_COMPONENT}' from='localhost' to='{self.jid}'>{stanza}</route>"


KINDS = [
    Kind(XMPP, "romeo@localhost/orchard", CLIENT, "1.0", _xmpp),
    Kind(LEGACY, "romeo@localhost/orchard", CLIENT, "", _legacy),
    Kind(JABBERD14_COMPONENT, "echo.localhost", COMPONENT_ACCEPT, "", _jabberd14),
    Kind(JABBERD20_COMPONENT, "echo.localhost", JABBERD_COMPONENT, "1.0", _jabberd20, (("username", "jabberd"),)),
]


def kind_of(connection_type: str) -> Kind:
    (found,) = [kind for kind in KINDS if kind.connection_type == connection_type]
    return found


# ---- what came of it


async def failure_of(broker: Broker) -> tuple[Failure, Record]:
    """Connects, which must fail; why, and all that was fired."""
    record = Record(broker)
    with pytest.raises(ConnectionFailed) as caught:
        await broker.connect()
    record.check()
    return caught.value.failure, record


def bodies(record: Record) -> list[str | None]:
    """What the messages said that PCJ_NODERECEIVED told of."""
    nodes = [status.node for status in record.of(Event.PCJ_NODERECEIVED)]
    return [node.findtext("{jabber:client}body") for node in nodes if node is not None]
