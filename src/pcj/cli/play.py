"""What `pcj demo` plays with each connection type, and what has to come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pcj.broker import Broker
from pcj.events import Event, Status
from pcj.stanza import MESSAGE, Node, message, ping

__all__ = ["FILTER", "Act", "Companion", "play"]

#: The event of the filter, a name of the user's own, and what it looks for.
FILTER: Final = "GREETING"
EXPRESSION: Final = "/message/body/text()"
#: How long each step may take, in seconds; on an idle machine it takes milliseconds.
STEP_SECONDS: Final = 5.0

_GREETING: Final = "hail"
_ANSWER: Final = "hello"


class Companion:
    """Whom a connection talks with: it answers every message, and (by itself, as every broker) pings."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.received = 0
        self.sent = 0
        self._heard: dict[str, asyncio.Event] = {}
        broker.subscribe(Event.PCJ_NODERECEIVED, self._on_received)
        broker.subscribe(Event.IQ_ANSWERED, self._on_answered)

    def heard_from(self, jid: str) -> asyncio.Event:
        """Set when a message of `jid` has come."""
        return self._heard.setdefault(jid, asyncio.Event())

    def _on_received(self, status: Status) -> None:
        node = status.node
        if node is None or node.tag != MESSAGE or node.get("type") != "chat":
            return
        self.received += 1
        sender = node.get("from", "")
        self.heard_from(sender).set()
        self.broker.output(message(to=sender, type="chat", body=_ANSWER))
        self.sent += 1

    def _on_answered(self, status: Status) -> None:
        self.received += 1
        self.sent += 1


@dataclass
class Act:
    """What came of one connection type.

    Attributes:
        kind: the connection type. events: how many statuses. sent, received: stanzas, after READY. ready_after: seconds
            from PCJ_CONNECT to PCJ_READY. tls: the version, or "". error: what ended it early. seen: what has happened
            of `EXPECTED`.
    """

    kind: str
    events: int = 0
    sent: int = 0
    received: int = 0
    ready_after: float | None = None
    tls: str = ""
    error: str = ""
    seen: set[str] = field(default_factory=set)
    _connect_at: float | None = None

    @property
    def missing(self) -> list[str]:
        """What should have happened and did not, in the order in which it should."""
        return [what for what in EXPECTED if what not in self.seen]

    def note(self, status: Status) -> None:
        """Count a status."""
        self.events += 1
        match status.event:
            case Event.PCJ_NODEQUEUED if self._connect_at is None:
                self.seen.add(QUEUED)
            case Event.PCJ_CONNECT:
                self._connect_at = status.at
            case Event.PCJ_SSLSUCCESS:
                self.tls = str(status.detail.get("version", ""))
            case Event.PCJ_READY:
                self.seen.add(READY)
                self.ready_after = status.at - (self._connect_at or status.at)
            case Event.PCJ_NODESENT if self.ready_after is not None:
                self.sent += 1
            case Event.PCJ_NODERECEIVED | Event.PCJ_RTS_FINISH:
                self.received += 1
                if status.node is not None and status.node.tag == MESSAGE and status.node.get("type") == "chat":
                    self.seen.add(MESSAGE_BACK)
            case Event.PCJ_SHUTDOWN_FINISH:
                self.seen.add(SHUT_DOWN)
        if status.event == FILTER and status.detail.get("selected"):
            self.seen.add(FILTERED)


QUEUED: Final = "a node queued before connect (PCJ_NODEQUEUED)"
READY: Final = "PCJ_READY"
PURGED: Final = "the queued node sent by purge_queue"
MESSAGE_THERE: Final = "its message at the companion"
MESSAGE_BACK: Final = "the companion's answer"
FILTERED: Final = f"the filter's event ({FILTER})"
PONG: Final = "the reply to its ping (PCJ_RTS_FINISH)"
SHUT_DOWN: Final = "PCJ_SHUTDOWN_FINISH"
EXPECTED: Final = (QUEUED, READY, PURGED, MESSAGE_THERE, MESSAGE_BACK, FILTERED, PONG, SHUT_DOWN)


async def play(act: Act, broker: Broker, companion: Companion, show: Callable[[Status], None]) -> None:
    """The life of one connection. What fails is said in `act`, and the rest of the connection's life is still shown.

    Args:
        act: takes down what happens. broker: not yet connected. companion: connected. show: gets every status.
    """
    came_back = asyncio.Event()

    def on_status(status: Status) -> None:
        act.note(status)
        if MESSAGE_BACK in act.seen:
            came_back.set()
        show(status)

    # Of everything, and not of PCJ_NODERECEIVED by name: so the broker itself answers the router's own questions.
    broker.subscribe("*", on_status)
    broker.add_filter(FILTER, EXPRESSION)
    there = companion.broker.jid
    try:
        receipt = broker.output(message(to=there, type="chat", body=_GREETING))
        async with asyncio.timeout(STEP_SECONDS):
            await broker.connect()
        heard = companion.heard_from(broker.jid)
        if broker.purge_queue() == 1:
            async with asyncio.timeout(STEP_SECONDS):
                await heard.wait()
            act.seen.add(MESSAGE_THERE)
            if receipt.state == "written":
                act.seen.add(PURGED)
            async with asyncio.timeout(STEP_SECONDS):
                await came_back.wait()
        reply: Node = await broker.return_to_sender(ping(to=there), timeout=STEP_SECONDS)
        if reply.get("type") == "result":
            act.seen.add(PONG)
    except TimeoutError as error:
        act.error = str(error) or f"no answer within {STEP_SECONDS:g} s"
    except Exception as error:
        act.error = str(error) or type(error).__name__
    finally:
        await broker.shutdown()
