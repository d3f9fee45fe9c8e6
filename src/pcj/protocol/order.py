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

__all__ = ["ANYWHERE", "PAIRS", "PLACE_OF", "RESTS", "ROWS", "START", "TYPES", "Order", "Pair", "Row", "symbol_of"]

#: A request of the negotiation's own (bind, session), which is told apart from the user's.
OWN_REQUEST = f"{Event.PCJ_RTS_START} (own)"
#: Binding that came with the answer to authentication (XEP-0386): no node carries it (C5).
INLINE_BIND = f"{Event.PCJ_BINDNEGOTIATE} (inline)"
#: READY of a session that goes on (XEP-0198), not of a new one (C6).
READY_AGAIN = f"{Event.PCJ_READY} (resumed)"
#: Another task of the same authentication (XEP-0388); after a refusal AUTHRETRY stands between (C4).
ANOTHER_TASK = f"{Event.PCJ_AUTHNEGOTIATE} (task)"
#: The end that a failure brings, not the user (C9).
FAILURE_ENDS = f"{Event.PCJ_SHUTDOWN_START} (failure)"

#: What can come in any place: it belongs to the queue, to a request or to a handler, not to the connection.
ANYWHERE = frozenset(
    {
        Event.PCJ_NODEQUEUED,
        Event.PCJ_RTS_START,
        Event.RTS_FAIL,
        Event.NODE_DROPPED,
        Event.NODE_ACKED,
        Event.NODE_UNCERTAIN,
        Event.HIGH_WATER,
        Event.LOW_WATER,
        Event.READING_PAUSED,
        Event.READING_RESUMED,
        Event.PROBE,
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
#: The connection types of which the table knows.
TYPES = (XMPP, LEGACY, JABBERD14_COMPONENT, JABBERD20_COMPONENT)
_BINDING = (XMPP, JABBERD20_COMPONENT)


@dataclass(frozen=True, slots=True)
class Row:
    """In `place`, `symbol` may come, and leads to `then`; for these connection types."""

    place: str
    symbol: str
    then: str
    types: tuple[str, ...] = TYPES


def _rows() -> Iterator[Row]:
    yield from _link()
    yield from _negotiation()
    yield from _later()
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
    yield Row("disconnected", Event.RECONNECT_DELAY, "waiting")
    yield Row("waiting", Event.PCJ_CONNECTING, "connecting")
    yield Row("waiting", Event.PCJ_CONNECT, "asked")
    yield Row("waiting", Event.PCJ_SHUTDOWN_START, "ending")
    yield Row("disconnected", Event.PCJ_CONNECTING, "connecting")
    yield Row("disconnected", Event.PCJ_CONNECT, "asked")
    yield Row("disconnected", Event.PCJ_SHUTDOWN_START, "ending")


def _negotiation() -> Iterator[Row]:
    """From TCP to READY; the node that carries a step comes behind the step's event."""
    # A stream: STREAMSTART, then NODESENT of the header.
    for place, header, stream, types in (
        ("connected", "header", "stream", TYPES),
        ("secured", "header inside TLS", "stream inside TLS", TYPES),
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
    # Authentication, by whatever method; where one is refused another may be tried, or asked for (C4).
    for place in ("stream", "stream inside TLS"):
        yield Row(place, Event.PCJ_AUTHNEGOTIATE, "authenticating")
    yield Row("authenticating", Event.PCJ_NODESENT, "authenticating")
    yield Row("authenticating", Event.AUTHRETRY, "method refused", _BINDING)
    yield Row("method refused", Event.PCJ_AUTHNEGOTIATE, "authenticating", _BINDING)
    yield Row("authenticating", Event.PCJ_AUTHSUCCESS, "authenticated")
    yield Row("authenticated", Event.PCJ_READY, "ready", (LEGACY, JABBERD14_COMPONENT))
    # Binding, and a session where the server insists on one.
    yield Row("stream of the session", Event.PCJ_BINDNEGOTIATE, "binding", _BINDING)
    yield Row("binding", OWN_REQUEST, "bind asked for", _BINDING)
    yield Row("bind asked for", Event.PCJ_NODESENT, "bind sent", _BINDING)
    yield Row("bind sent", OWN_REQUEST, "bind asked for", _BINDING)
    yield Row("bind sent", Event.PCJ_BINDSUCCESS, "bound", _BINDING)
    yield Row("bound", Event.JID_CHANGED, "bound", (XMPP,))
    yield Row("bound", Event.PCJ_BINDNEGOTIATE, "binding", (JABBERD20_COMPONENT,))  # one more domain (C16)
    yield Row("bound", Event.PCJ_READY, "ready", _BINDING)
    yield Row("bound", Event.PCJ_SESSIONNEGOTIATE, "session begun", (XMPP,))
    yield Row("session begun", OWN_REQUEST, "session asked for", (XMPP,))
    yield Row("session asked for", Event.PCJ_NODESENT, "session sent", (XMPP,))
    yield Row("session sent", Event.PCJ_SESSIONSUCCESS, "session", (XMPP,))
    yield Row("session", Event.PCJ_READY, "ready", (XMPP,))


def _later() -> Iterator[Row]:
    """What came after RFC 6120: SASL2 with Bind2 (C5), and stream management (C6, C7). Nothing of it is for others."""
    client = (XMPP,)
    yield Row("authenticating", ANOTHER_TASK, "authenticating", client)
    # Binding inside the answer to authentication; no new stream, and no node between.
    yield Row("authenticated", INLINE_BIND, "bound inline", client)
    yield Row("bound inline", Event.PCJ_BINDSUCCESS, "bound", client)
    yield Row("authenticated", Event.PCJ_BINDNEGOTIATE, "binding", client)  # not in the answer: asked for as ever
    for place in ("bound", "session"):
        yield Row(place, Event.SM_ENABLED, "managed", client)
    yield Row("ready", Event.SM_ENABLED, "ready", client)
    yield Row("managed", Event.PCJ_READY, "ready", client)
    # The session of before goes on: neither BIND* nor SESSION*, for they mean a new resource.
    for place in ("authenticated", "stream of the session"):
        yield Row(place, Event.SM_RESUMING, "resuming", client)
    for place in ("resuming", "resume asked for"):
        yield Row(place, Event.SM_RESUMED, "resumed", client)
        yield Row(place, Event.SM_RESUMEFAILED, "resume refused", client)
    yield Row("resuming", Event.PCJ_NODESENT, "resume asked for", client)
    yield Row("resumed", Event.PCJ_NODESENT, "resumed", client)  # once more what the server had not got
    yield Row("resumed", READY_AGAIN, "ready", client)
    # It is gone, and a new one is made.
    yield Row("resume refused", Event.SESSION_LOST, "session over", client)
    # One of a process before this one was never open here (C10).
    yield Row("resume refused", Event.PCJ_BINDNEGOTIATE, "binding", client)
    yield Row("resume refused", INLINE_BIND, "bound inline", client)
    yield Row("session over", Event.PCJ_BINDNEGOTIATE, "binding", client)
    yield Row("session over", INLINE_BIND, "bound inline", client)
    # A session that waits to be resumed ends when its time is over, wherever that finds us (C7).
    for place in ("waiting", "connecting"):
        yield Row(place, Event.SESSION_LOST, place, client)


#: Which *FAIL ends each place of the negotiation, and for whom (C3: after a *NEGOTIATE it is that step's).
_FAILS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "connected": ((), TYPES),
    "header": ((Event.PCJ_SSLFAIL,), TYPES),  # required, and the stream has no features that could offer it
    "stream": ((Event.PCJ_SSLFAIL, Event.PCJ_AUTHFAIL), TYPES),
    "TLS offered": ((Event.PCJ_SSLFAIL,), TYPES),
    "TLS asked for unoffered": ((Event.PCJ_SSLFAIL,), TYPES),
    "TLS asked for": ((Event.PCJ_SSLFAIL,), TYPES),
    "TLS first": ((Event.PCJ_SSLFAIL,), TYPES),
    "secured": ((), TYPES),
    "header inside TLS": ((), TYPES),
    "stream inside TLS": ((Event.PCJ_AUTHFAIL,), TYPES),
    "authenticating": ((Event.PCJ_AUTHFAIL,), TYPES),
    "method refused": ((Event.PCJ_AUTHFAIL,), _BINDING),
    "authenticated": ((), TYPES),
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
    "bound inline": ((), (XMPP,)),
    "managed": ((), (XMPP,)),
    "resuming": ((), (XMPP,)),
    "resume asked for": ((), (XMPP,)),
    "resumed": ((), (XMPP,)),
    "resume refused": ((), (XMPP,)),
    "session over": ((Event.PCJ_BINDFAIL,), (XMPP,)),
}
#: Places where no header of ours is out, so that no closing tag is due (C9).
_UNOPENED = frozenset({"connected", "TLS first"})
#: Places before the step that their *FAIL is about: there the peer's error is told alone (C3).
_BEFORE = frozenset({"header", "stream", "stream inside TLS", "stream of the session", "session over"})


def _failures() -> Iterator[Row]:
    """A negotiation ends with its own event, by the phase it was in, and then like every connection."""
    for place, (fails, types) in _FAILS.items():
        failed = "failed unopened" if place in _UNOPENED else "failed"
        for event in fails:
            yield Row(place, event, failed, types)
        # The peer's <stream:error/> is told first; within a step of its own that step's event must follow.
        if not fails or place in _BEFORE:
            yield Row(place, Event.STREAM_ERROR, "error, failed", types)
        else:
            yield Row(place, Event.STREAM_ERROR, f"error, {place}", types)
            for event in fails:
                yield Row(f"error, {place}", event, "error, failed" if failed == "failed" else failed, types)
        # Without any of these only the user ends it: by shutdown, by reconnect, or by halt.
        if place not in _UNOPENED:
            yield Row(place, Event.PCJ_STREAMEND, "cut off", types)
        yield Row(place, Event.PCJ_SHUTDOWN_START, "closing, ending", types)
        yield Row(place, Event.PCJ_CONNECT, "leaving", types)
        yield Row(place, Event.PCJ_SOCKETDISCONNECT, "halted", types)
    yield Row("cut off", Event.PCJ_SHUTDOWN_START, "closing, ending")
    yield Row("cut off", Event.PCJ_SOCKETDISCONNECT, "halted")
    # The server sends us on to another host, at any time (C14): there the next attempt goes.
    for place in ("error, failed", "refused"):
        yield Row(place, Event.REDIRECT, "sent on")
    for place in ("failed", "error, failed", "failed unopened", "sent on"):
        if place != "failed unopened":
            yield Row(place, Event.PCJ_STREAMEND, "closing")
        yield Row(place, Event.PCJ_SOCKETFAIL, "broken")
        for symbol in (Event.PCJ_SHUTDOWN_START, FAILURE_ENDS):
            yield Row(place, symbol, "closing, ending")
        yield Row(place, Event.PCJ_SOCKETDISCONNECT, "disconnected")
        yield Row(place, Event.PCJ_CONNECT, "leaving")


def _ready() -> Iterator[Row]:
    """While READY, and while what is under way still comes in."""
    traffic = (Event.PCJ_NODERECEIVED, Event.PCJ_RTS_FINISH, Event.NODE_IGNORED)
    for event in (*traffic, Event.PCJ_NODESENT, Event.IQ_ANSWERED):
        yield Row("ready", event, "ready")
    yield Row("ready", Event.STREAM_ERROR, "refused")
    yield Row("ready", Event.PCJ_STREAMEND, "closing")
    yield Row("ready", Event.PCJ_SHUTDOWN_START, "closing, ending")  # the network took our closing tag no more
    yield Row("ready", Event.PCJ_SOCKETFAIL, "broken")
    yield Row("ready", Event.PCJ_SOCKETDISCONNECT, "halted")
    yield Row("halted", Event.SESSION_LOST, "halted")
    yield Row("ready", Event.PCJ_CONNECT, "leaving")  # reconnect: the old link ends fully first (C13)
    yield Row("leaving", Event.PCJ_STREAMEND, "closing, asked")
    yield Row("leaving", Event.PCJ_SOCKETFAIL, "broken, asked")
    yield Row("leaving", Event.PCJ_SOCKETDISCONNECT, "asked")
    for event in (*traffic, Event.PCJ_NODESENT, Event.STREAM_ERROR):
        yield Row("leaving", event, "leaving")
    # The peer's error: its node, then the end.
    yield Row("refused", Event.PCJ_NODERECEIVED, "refused")
    yield Row("refused", Event.PCJ_STREAMEND, "closing")
    yield Row("refused", Event.PCJ_SOCKETFAIL, "broken")
    for symbol in (Event.PCJ_SHUTDOWN_START, FAILURE_ENDS):
        yield Row("refused", symbol, "closing, ending")
    yield Row("refused", Event.PCJ_SOCKETDISCONNECT, "disconnected")
    yield Row("refused", Event.PCJ_CONNECT, "leaving")
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
    for place in ("closing", "broken"):
        yield from _wishes(place)
        yield Row(place, FAILURE_ENDS, f"{place}, ending")
    yield Row("leaving", Event.PCJ_SHUTDOWN_START, "closing, ending")
    yield Row("leaving", Event.PCJ_CONNECT, "leaving")


#: What the user wants while something is being ended, and where that leads: nothing more, the end of it all, a new
#: connection, or that behind the end.
_WISHES = {"": "disconnected", ", ending": "ending", ", asked": "asked", ", ending, asked": "ending, asked"}


def _wishes(place: str) -> Iterator[Row]:
    """In `place` the user may come to want something else; a shutdown takes back what was asked for before it."""
    yield Row(place, Event.PCJ_SHUTDOWN_START, f"{place}, ending")
    yield Row(f"{place}, asked", Event.PCJ_SHUTDOWN_START, f"{place}, ending")
    for before in ("", ", asked"):
        yield Row(f"{place}{before}", Event.PCJ_CONNECT, f"{place}, asked")
    for before in (", ending", ", ending, asked"):
        yield Row(f"{place}{before}", Event.PCJ_CONNECT, f"{place}, ending, asked")


ROWS: tuple[Row, ...] = tuple(dict.fromkeys(_rows()))


@dataclass(frozen=True, slots=True)
class Pair:
    """What `begins` has exactly one end; of `most` at a time."""

    name: str
    begins: frozenset[str]
    ends: frozenset[str]
    most: int | None = None


#: What does not come while a session is open that cannot be resumed (C7).
_WITHOUT_SESSION = frozenset({Event.PCJ_CONNECTING, Event.RECONNECT_DELAY, Event.PCJ_SHUTDOWN_FINISH})
#: Where a broker rests, by its state: in these places nothing is missing.
RESTS: Mapping[str, frozenset[str]] = {
    State.IDLE: frozenset({"idle", "disconnected"}),
    State.READY: frozenset({"ready"}),
    State.WAITING: frozenset({"waiting"}),
    State.HALTED: frozenset({"idle", "disconnected", "waiting", "asked", "halted"}),
}

#: Beside the places: what is open over many of them (C7, C11).
PAIRS = (
    Pair("session", frozenset({Event.PCJ_READY}), frozenset({Event.SESSION_LOST}), most=1),
    Pair("request", frozenset({Event.PCJ_RTS_START}), frozenset({Event.PCJ_RTS_FINISH, Event.RTS_FAIL})),
)


def symbol_of(status: Status) -> str:
    """The letter of the alphabet that a status is."""
    if status.event == Event.PCJ_RTS_START and status.detail.get("internal"):
        return OWN_REQUEST
    if status.event == Event.PCJ_BINDNEGOTIATE and status.detail.get("inline"):
        return INLINE_BIND
    if status.event == Event.PCJ_READY and status.detail.get("resumed"):
        return READY_AGAIN
    if status.event == Event.PCJ_AUTHNEGOTIATE and status.detail.get("task"):
        return ANOTHER_TASK
    if status.event == Event.PCJ_SHUTDOWN_START and status.detail.get("by") == "failure":
        return FAILURE_ENDS
    return str(status.event)


class Order:
    """Holds the events of one broker against the table.

    Args:
        connection_type: one of the four; of another nothing is known, and all is let pass. place: where it is.
        requests: how many of the user's wait for a reply.

    Attributes:
        place: where it is now.
    """

    def __init__(self, connection_type: str, place: str = START, requests: int = 0) -> None:
        self._open = {"session": int(place == "ready"), "request": requests}
        self._resumable = False
        self._then = {(row.place, row.symbol): row.then for row in ROWS if connection_type in row.types}
        self._known = {row.symbol for row in ROWS} | set(ANYWHERE)
        self.place = place

    def follow(self, status: Status) -> str | None:
        """Take the next event; returns None, or what is wrong with it (the place is left as it was)."""
        symbol = symbol_of(status)
        if self._then and (wrong := self._pair(symbol, status.detail)) is not None:
            return f"{symbol} (seq {status.seq}) {wrong}"
        if symbol in ANYWHERE or symbol not in self._known or not self._then:
            return None  # names of the user's own are theirs to order
        then = self._then.get((self.place, symbol))
        if then is None:
            allowed = sorted(known for place, known in self._then if place == self.place)
            return f"{symbol} (seq {status.seq}) came in the place {self.place!r}; there may come {', '.join(allowed)}"
        self.place = then
        return None

    def finish(self, state: str, requests: int = 0) -> str | None:
        """Look at a broker that rests: returns None, or what has not come that must have.

        Args:
            state: of the broker; where that is in the middle of something nothing is said. requests: that wait.
        """
        rests = RESTS.get(state)
        if rests is None or not self._then:
            return None
        if self.place not in rests:
            return f"the broker is {state}, and its events ended in the place {self.place!r}"
        if self._open["session"] != (state == State.READY) and not self._resumable:
            return f"the broker is {state}, and {self._open['session']} sessions are open by its events"
        if self._open["request"] != requests:
            return f"{requests} requests wait for a reply, and {self._open['request']} by the events"
        return None

    def _pair(self, symbol: str, detail: Mapping[str, object]) -> str | None:
        if symbol in _WITHOUT_SESSION and self._open["session"] and not self._resumable:
            return "comes before the SESSION_LOST of the session that was"
        if symbol in (Event.SM_ENABLED, Event.SM_RESUMED):
            self._resumable = bool(detail.get("resumable", True))  # a server may manage without resuming (XEP-0198 3)
        elif symbol == Event.SESSION_LOST:
            self._resumable = False
        elif symbol == READY_AGAIN:
            self._open["session"] = 1  # also where another process made it (C10)
        for pair in PAIRS:
            count = self._open[pair.name]
            if symbol in pair.begins:
                if count == pair.most:
                    return f"begins a {pair.name} while one is open"
                self._open[pair.name] = count + 1
            elif symbol in pair.ends:
                if not count:
                    return f"ends a {pair.name}, and none is open"
                self._open[pair.name] = count - 1
        return None
