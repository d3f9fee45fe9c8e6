"""The order of events as a contract: which event may follow which, for each connection type.

One table, a state machine whose alphabet is the events. A missing row is the error. The tables and the diagram of
docs/events.md are made from it (`tools/draw_order.py`), and `Order` holds a running broker against it.

A place is named after what has happened last. Events of the user's own doing that can come at any time (a node that is
queued, a request that fails, a warning) are in `ANYWHERE`; they change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pcj.config import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP
from pcj.events import Event, Status
from pcj.explain import State

__all__ = ["ANYWHERE", "PLACE_OF", "ROWS", "START", "Order", "Row", "symbol_of"]

#: A request of the negotiation's own (bind, session), which is told apart from the user's.
OWN_REQUEST = f"{Event.PCJ_RTS_START} (own)"

#: What can come in any place: it belongs to the queue, to a request or to a handler, not to the connection.
ANYWHERE = frozenset(
    {
        Event.PCJ_NODEQUEUED,
        Event.PCJ_RTS_START,
        Event.RTS_FAIL,
        Event.NODE_DROPPED,
        Event.WARNING,
        Event.HANDLER_FAILED,
        Event.BACKLOG_GAP,
    }
)

START = "idle"
#: Where a broker is that has not been followed from the beginning.
PLACE_OF: Mapping[str, str] = {
    State.IDLE: START,
    State.READY: "ready",
    State.WAITING: "waiting",
}
_EVERY = (XMPP, LEGACY, JABBERD14_COMPONENT, JABBERD20_COMPONENT)
_BINDING = (XMPP, JABBERD20_COMPONENT)


@dataclass(frozen=True, slots=True)
class Row:
    """In `place`, `symbol` may come, and leads to `then`; for these connection types."""

    place: str
    symbol: str
    then: str
    types: tuple[str, ...] = _EVERY


def _rows() -> Iterator[Row]:
    yield from _link()
    yield from _negotiation()
    yield from _failures()
    yield from _ready()
    yield from _ends()


def _link() -> Iterator[Row]:
    """Attempts, one after the other (C0, C1). CONNECT only when the user asked."""
    yield Row("idle", Event.PCJ_CONNECT, "asked")
    yield Row("idle", Event.PCJ_SHUTDOWN_START, "ending")
    yield Row("asked", Event.PCJ_CONNECTING, "connecting")
    yield Row("asked", Event.PCJ_SHUTDOWN_START, "ending")
    yield Row("asked", Event.PCJ_CONNECT, "asked")
    yield Row("ending", Event.PCJ_CONNECT, "ending, asked")
    yield Row("ending, asked", Event.PCJ_CONNECT, "ending, asked")
    yield Row("ending", Event.PCJ_SHUTDOWN_FINISH, "idle")
    yield Row("ending, asked", Event.PCJ_SHUTDOWN_FINISH, "asked")
    for place in _WISHES.values():
        yield Row(place, Event.SESSION_LOST, place)
    yield Row("connecting", Event.PCJ_CONNECTED, "connected")
    yield from _wishes("connecting")
    for wish, then in _WISHES.items():
        for event in (Event.RESOLVED, Event.ATTEMPT):
            yield Row(f"connecting{wish}", event, f"connecting{wish}")
        yield Row(f"connecting{wish}", Event.PCJ_CONNECTFAIL, then)
    # A retry is RECONNECT_DELAY and then CONNECTING, without CONNECT; the next server in DNS comes without a delay.
    yield Row("idle", Event.RECONNECT_DELAY, "waiting")
    yield Row("waiting", Event.PCJ_CONNECTING, "connecting")
    yield Row("waiting", Event.PCJ_CONNECT, "asked")
    yield Row("waiting", Event.PCJ_SHUTDOWN_START, "ending")
    yield Row("idle", Event.PCJ_CONNECTING, "connecting")


def _negotiation() -> Iterator[Row]:
    """From TCP to READY; the node that carries a step comes behind the step's event."""
    # A stream: STREAMSTART, then NODESENT of the header.
    for place, header, stream, types in (
        ("connected", "header", "stream", _EVERY),
        ("secured", "header inside TLS", "stream inside TLS", _EVERY),
        ("authenticated", "header of the session", "stream of the session", _BINDING),
    ):
        yield Row(place, Event.PCJ_STREAMSTART, header, types)
        yield Row(header, Event.PCJ_NODESENT, stream, types)
    # TLS: asked for on the stream, or first of all (C2).
    yield Row("stream", Event.PCJ_SSLNEGOTIATE, "TLS offered")
    yield Row("TLS offered", Event.PCJ_NODESENT, "TLS asked for")
    yield Row("stream", Event.PCJ_NODESENT, "TLS asked for unoffered")
    yield Row("TLS asked for unoffered", Event.PCJ_SSLNEGOTIATE, "TLS asked for")
    yield Row("TLS asked for", Event.PCJ_SSLSUCCESS, "secured")
    yield Row("connected", Event.PCJ_SSLNEGOTIATE, "TLS first")
    yield Row("TLS first", Event.PCJ_SSLSUCCESS, "secured")
    # Authentication, by whatever method.
    for place in ("stream", "stream inside TLS"):
        yield Row(place, Event.PCJ_AUTHNEGOTIATE, "authenticating")
    yield Row("authenticating", Event.PCJ_NODESENT, "authenticating")
    yield Row("authenticating", Event.PCJ_AUTHSUCCESS, "authenticated")
    yield Row("authenticated", Event.PCJ_READY, "ready", (LEGACY, JABBERD14_COMPONENT))
    # Binding, and a session where the server insists on one.
    yield Row("stream of the session", Event.PCJ_BINDNEGOTIATE, "binding", _BINDING)
    yield Row("binding", OWN_REQUEST, "bind asked for", _BINDING)
    yield Row("bind asked for", Event.PCJ_NODESENT, "bind sent", _BINDING)
    yield Row("bind sent", OWN_REQUEST, "bind asked for", _BINDING)
    yield Row("bind sent", Event.PCJ_BINDSUCCESS, "bound", _BINDING)
    yield Row("bound", Event.JID_CHANGED, "bound", (XMPP,))
    yield Row("bound", Event.PCJ_READY, "ready", _BINDING)
    yield Row("bound", Event.PCJ_SESSIONNEGOTIATE, "session begun", (XMPP,))
    yield Row("session begun", OWN_REQUEST, "session asked for", (XMPP,))
    yield Row("session asked for", Event.PCJ_NODESENT, "session sent", (XMPP,))
    yield Row("session sent", Event.PCJ_SESSIONSUCCESS, "session", (XMPP,))
    yield Row("session", Event.PCJ_READY, "ready", (XMPP,))


#: Which *FAIL ends each place of the negotiation, and for whom (C3: after a *NEGOTIATE it is that step's).
_FAILS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "connected": ((), _EVERY),
    "header": ((Event.PCJ_SSLFAIL,), _EVERY),  # required, and the stream has no features that could offer it
    "stream": ((Event.PCJ_SSLFAIL, Event.PCJ_AUTHFAIL), _EVERY),
    "TLS offered": ((Event.PCJ_SSLFAIL,), _EVERY),
    "TLS asked for unoffered": ((Event.PCJ_SSLFAIL,), _EVERY),
    "TLS asked for": ((Event.PCJ_SSLFAIL,), _EVERY),
    "TLS first": ((Event.PCJ_SSLFAIL,), _EVERY),
    "secured": ((), _EVERY),
    "header inside TLS": ((), _EVERY),
    "stream inside TLS": ((Event.PCJ_AUTHFAIL,), _EVERY),
    "authenticating": ((Event.PCJ_AUTHFAIL,), _EVERY),
    "authenticated": ((), _EVERY),
    "header of the session": ((), _BINDING),
    "stream of the session": ((Event.PCJ_BINDFAIL,), _BINDING),
    "binding": ((Event.PCJ_BINDFAIL,), _BINDING),
    "bind asked for": ((Event.PCJ_BINDFAIL,), _BINDING),
    "bind sent": ((Event.PCJ_BINDFAIL,), _BINDING),
    "bound": ((), _BINDING),
    "session begun": ((Event.PCJ_SESSIONFAIL,), (XMPP,)),
    "session asked for": ((Event.PCJ_SESSIONFAIL,), (XMPP,)),
    "session sent": ((Event.PCJ_SESSIONFAIL,), (XMPP,)),
    "session": ((), (XMPP,)),
}
#: Places where no header of ours is out, so that no closing tag is due.
_UNOPENED = frozenset({"connected", "TLS first", "secured"})


def _failures() -> Iterator[Row]:
    """A negotiation ends with its own event, by the phase it was in, and then like every connection."""
    for place, (fails, types) in _FAILS.items():
        # The peer's <stream:error/> is told first; within a phase of its own that phase's event follows.
        yield Row(place, Event.STREAM_ERROR, f"error, {place}" if fails else "failed", types)
        for event in fails:
            yield Row(place, event, "failed", types)
            yield Row(f"error, {place}", event, "failed", types)
        # Ended by us, or without a word.
        for before in (place, f"error, {place}") if fails else (place,):
            yield Row(before, Event.PCJ_STREAMEND, "closing", types)
            yield Row(before, Event.PCJ_SHUTDOWN_START, "closing, ending", types)
            yield Row(before, Event.PCJ_SOCKETFAIL, "broken", types)
            yield Row(before, Event.PCJ_SOCKETDISCONNECT, "idle", types)
            yield Row(before, Event.PCJ_CONNECT, "leaving", types)
    yield Row("failed", Event.PCJ_STREAMEND, "closing")
    yield Row("failed", Event.PCJ_SOCKETFAIL, "broken")
    yield Row("failed", Event.PCJ_SHUTDOWN_START, "closing, ending")
    yield Row("failed", Event.PCJ_SOCKETDISCONNECT, "idle")
    yield Row("failed", Event.PCJ_CONNECT, "leaving")


def _ready() -> Iterator[Row]:
    """While READY, and while what is under way still comes in."""
    traffic = (Event.PCJ_NODERECEIVED, Event.PCJ_RTS_FINISH, Event.NODE_IGNORED)
    for event in (*traffic, Event.PCJ_NODESENT, Event.IQ_ANSWERED):
        yield Row("ready", event, "ready")
    yield Row("ready", Event.STREAM_ERROR, "refused")
    yield Row("ready", Event.PCJ_STREAMEND, "closing")
    yield Row("ready", Event.PCJ_SHUTDOWN_START, "closing, ending")  # the network took our closing tag no more
    yield Row("ready", Event.PCJ_SOCKETFAIL, "broken")
    yield Row("ready", Event.PCJ_SOCKETDISCONNECT, "idle")
    yield Row("ready", Event.PCJ_CONNECT, "leaving")  # reconnect: the old link ends fully first (C13)
    yield Row("leaving", Event.PCJ_STREAMEND, "closing, asked")
    yield Row("leaving", Event.PCJ_SOCKETFAIL, "broken, asked")
    yield Row("leaving", Event.PCJ_SOCKETDISCONNECT, "asked")
    for event in (*traffic, Event.PCJ_NODESENT):
        yield Row("leaving", event, "leaving")
    # The peer's error: its node, then the end.
    yield Row("refused", Event.PCJ_NODERECEIVED, "refused")
    yield Row("refused", Event.PCJ_STREAMEND, "closing")
    yield Row("refused", Event.PCJ_SOCKETFAIL, "broken")
    yield Row("refused", Event.PCJ_SHUTDOWN_START, "closing, ending")
    yield Row("refused", Event.PCJ_SOCKETDISCONNECT, "idle")
    # Behind our closing tag nodes may still come in; none goes out.
    for wish in _WISHES:
        for event in (*traffic, Event.STREAM_ERROR):
            yield Row(f"closing{wish}", event, f"closing{wish}")


def _ends() -> Iterator[Row]:
    """C8, C9: SOCKETFAIL never stands alone; SHUTDOWN_* only for an end that will not be retried."""
    for wish, then in _WISHES.items():
        yield Row(f"closing{wish}", Event.PCJ_SOCKETFAIL, f"broken{wish}")
        for place in ("closing", "broken"):
            yield Row(f"{place}{wish}", Event.PCJ_SOCKETDISCONNECT, then)
    yield from _wishes("closing")
    yield from _wishes("broken")
    yield Row("leaving", Event.PCJ_SHUTDOWN_START, "closing, ending")
    yield Row("leaving", Event.PCJ_CONNECT, "leaving")


#: What the user wants while something is being ended, and where that leads: nothing more, the end of it all, a new
#: connection, or that behind the end.
_WISHES = {"": "idle", ", ending": "ending", ", asked": "asked", ", ending, asked": "ending, asked"}


def _wishes(place: str) -> Iterator[Row]:
    """In `place` the user may come to want something else; a shutdown takes back what was asked for before it."""
    yield Row(place, Event.PCJ_SHUTDOWN_START, f"{place}, ending")
    yield Row(f"{place}, asked", Event.PCJ_SHUTDOWN_START, f"{place}, ending")
    for before in ("", ", asked"):
        yield Row(f"{place}{before}", Event.PCJ_CONNECT, f"{place}, asked")
    for before in (", ending", ", ending, asked"):
        yield Row(f"{place}{before}", Event.PCJ_CONNECT, f"{place}, ending, asked")


ROWS: tuple[Row, ...] = tuple(dict.fromkeys(_rows()))


def symbol_of(status: Status) -> str:
    """The letter of the alphabet that a status is."""
    if status.event == Event.PCJ_RTS_START and status.detail.get("internal"):
        return OWN_REQUEST
    return str(status.event)


class Order:
    """Holds the events of one broker against the table.

    Args:
        connection_type: one of the four; of another nothing is known, and all is let pass. place: where it is.

    Attributes:
        place: where it is now.
    """

    def __init__(self, connection_type: str, place: str = START) -> None:
        self._then = {(row.place, row.symbol): row.then for row in ROWS if connection_type in row.types}
        self._known = {row.symbol for row in ROWS} | set(ANYWHERE)
        self.place = place

    def follow(self, status: Status) -> str | None:
        """Take the next event; returns None, or what is wrong with it (the place is left as it was)."""
        symbol = symbol_of(status)
        if symbol in ANYWHERE or symbol not in self._known or not self._then:
            return None  # names of the user's own are theirs to order
        then = self._then.get((self.place, symbol))
        if then is None:
            allowed = sorted(known for place, known in self._then if place == self.place)
            return f"{symbol} (seq {status.seq}) came in the place {self.place!r}; there may come {', '.join(allowed)}"
        self.place = then
        return None
