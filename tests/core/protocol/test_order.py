"""The table of the events' order by itself: that it is a sound machine, and that it says what the rules say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from pcj.config import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP
from pcj.events import PCJ_EVENTS, Event, Status
from pcj.explain import State
from pcj.protocol.order import ANYWHERE, OWN_REQUEST, PAIRS, PLACE_OF, ROWS, START, Order, Pair, symbol_of

TYPES = (XMPP, LEGACY, JABBERD14_COMPONENT, JABBERD20_COMPONENT)
BINDING = (XMPP, JABBERD20_COMPONENT)
OLD = (LEGACY, JABBERD14_COMPONENT)


def rows_of(connection_type: str) -> list[tuple[str, str, str]]:
    return [(row.place, row.symbol, row.then) for row in ROWS if connection_type in row.types]


def reached(begin: set[str], steps: Iterable[tuple[str, str]]) -> set[str]:
    found, steps = set(begin), list(steps)
    while more := {then for place, then in steps if place in found} - found:
        found |= more
    return found


# ---- a sound machine


@pytest.mark.parametrize("connection_type", TYPES)
def test_what_follows_is_never_in_doubt(connection_type: str) -> None:
    counts = Counter((place, symbol) for place, symbol, _ in rows_of(connection_type))
    assert [pair for pair, count in counts.items() if count > 1] == []


def test_no_row_is_there_twice_and_none_is_for_nobody() -> None:
    assert len(ROWS) == len(set(ROWS))
    assert [row for row in ROWS if not row.types or not set(row.types) <= set(TYPES)] == []


@pytest.mark.parametrize("connection_type", TYPES)
def test_every_place_can_be_reached_and_every_one_has_a_way_to_the_end(connection_type: str) -> None:
    rows = rows_of(connection_type)
    places = {place for place, _, _ in rows} | {then for _, _, then in rows}
    assert places - reached({START}, ((place, then) for place, _, then in rows)) == set()
    # A halt is an end, too: nothing comes behind it.
    assert places - reached({START, "halted"}, ((then, place) for place, _, then in rows)) == set()
    assert set(PLACE_OF.values()) <= places


def test_every_symbol_is_an_event_and_every_event_has_its_place() -> None:
    symbols = {row.symbol for row in ROWS} | ANYWHERE
    # "(own)", "(inline)", "(failure)": an event and a circumstance that its detail tells.
    assert {symbol.partition(" (")[0] for symbol in symbols} == set(Event)


@pytest.mark.parametrize("connection_type", TYPES)
def test_every_one_of_the_28_can_come_to_the_types_that_have_it(connection_type: str) -> None:
    symbols = {symbol.partition(" (")[0] for _, symbol, _ in rows_of(connection_type)} | ANYWHERE
    missing = {event for event in PCJ_EVENTS if event not in symbols}
    session = {event for event in PCJ_EVENTS if event.startswith("PCJ_SESSION")}
    bind = {event for event in PCJ_EVENTS if event.startswith("PCJ_BIND")}
    expected: dict[str, set[Event]] = {XMPP: set(), JABBERD20_COMPONENT: session}
    assert missing == expected.get(connection_type, session | bind)


def test_a_broker_that_is_idle_ready_or_waiting_can_be_followed_from_there() -> None:
    for place in PLACE_OF.values():
        assert Order(XMPP, place).follow(Status(Event.PCJ_CONNECT, 0.0, 1)) is None


# ---- words: events without PCJ_; S is a header; own: a request of the negotiation's own; X*: any number of X


CIRCUMSTANCES: dict[str, dict[str, object]] = {"own": {"internal": True}, "failure": {"by": "failure"}}


def statuses(words: str) -> Iterator[Status]:
    for number, word in enumerate(words.replace(" own", " RTS_START(own) NODESENT").split(), 1):
        name, _, circumstance = word.rstrip(")").partition("(")
        detail = CIRCUMSTANCES.get(circumstance, {circumstance: True} if circumstance else {})
        for event in ("STREAMSTART", "NODESENT") if name == "S" else (name,):
            known = f"PCJ_{event}" if f"PCJ_{event}" in Event.__members__ else event
            yield Status(known, 0.0, number, detail=detail)


def follow(connection_type: str, words: str) -> tuple[Order, list[str]]:
    order = Order(connection_type)
    wrong = [said for status in statuses(words) if (said := order.follow(status)) is not None]
    return order, wrong


def test_the_words_are_read_right() -> None:
    assert [symbol_of(status) for status in statuses("CONNECT S own READY(resumed)")] == [
        "PCJ_CONNECT",
        "PCJ_STREAMSTART",
        "PCJ_NODESENT",
        OWN_REQUEST,
        "PCJ_NODESENT",
        "PCJ_READY (resumed)",
    ]


TCP = "CONNECT CONNECTING CONNECTED"
TLS = "S SSLNEGOTIATE NODESENT SSLSUCCESS"
SASL = "S AUTHNEGOTIATE NODESENT NODESENT AUTHSUCCESS"
BIND = "S BINDNEGOTIATE own BINDSUCCESS"
SESSION = "SESSIONNEGOTIATE own SESSIONSUCCESS"
GONE = "SOCKETDISCONNECT"
LOST = f"{GONE} SESSION_LOST"
SHUTDOWN = f"STREAMEND SHUTDOWN_START {LOST} SHUTDOWN_FINISH"
FAILED = "STREAMEND SHUTDOWN_START(failure) SOCKETDISCONNECT SHUTDOWN_FINISH"
TO_READY = {
    XMPP: f"{TCP} {TLS} {SASL} {BIND} {SESSION} READY",
    LEGACY: f"{TCP} S AUTHNEGOTIATE NODESENT AUTHSUCCESS READY",
    JABBERD14_COMPONENT: f"{TCP} S AUTHNEGOTIATE NODESENT AUTHSUCCESS READY",
    JABBERD20_COMPONENT: f"{TCP} {TLS} {SASL} {BIND} READY",
}
AUTHENTICATED = f"{TCP} {TLS} {SASL}"

#: (rule, sequence, whose): from the beginning to the end, or to a place that is named.
GOOD: list[tuple[str, str, tuple[str, ...]]] = [
    # What the original did, on real servers (original-traces 1).
    ("XMPP", f"{AUTHENTICATED} {BIND} {SESSION} READY {SHUTDOWN}", (XMPP,)),
    ("XMPP without TLS", f"{TCP} {SASL} {BIND} {SESSION} READY {SHUTDOWN}", (XMPP,)),
    ("a router", f"{AUTHENTICATED} {BIND} READY {SHUTDOWN}", (JABBERD20_COMPONENT,)),
    ("old types", f"{TCP} S AUTHNEGOTIATE NODESENT AUTHSUCCESS READY {SHUTDOWN}", OLD),
    ("refused", "CONNECT CONNECTING CONNECTFAIL", TYPES),
    ("wrong password", f"{TCP} S AUTHNEGOTIATE NODESENT AUTHFAIL {FAILED}", TYPES),
    ("no mechanism", f"{TCP} {TLS} S AUTHFAIL {FAILED}", BINDING),
    ("killed while READY", "{ready} SOCKETFAIL " + LOST, TYPES),
    ("SIGTERM to the server", "{ready} STREAM_ERROR NODERECEIVED STREAMEND " + LOST, TYPES),
    ("output with no connection", "NODEQUEUED {ready} NODESENT NODESENT " + SHUTDOWN, TYPES),
    ("bind conflict", f"{AUTHENTICATED} S BINDNEGOTIATE own own BINDSUCCESS READY {SHUTDOWN}", BINDING),
    ("bind refused", f"{AUTHENTICATED} S BINDNEGOTIATE own BINDFAIL {FAILED}", BINDING),
    ("session refused", f"{AUTHENTICATED} {BIND} SESSIONNEGOTIATE own SESSIONFAIL {FAILED}", (XMPP,)),
    # The rules, C0 and up.
    (
        "C0",
        f"CONNECT CONNECTING CONNECTFAIL RECONNECT_DELAY CONNECTING CONNECTED S STREAM_ERROR SOCKETFAIL {GONE}",
        TYPES,
    ),
    ("C1", "CONNECT CONNECTING RESOLVED ATTEMPT ATTEMPT CONNECTED STREAM_ERROR SOCKETDISCONNECT CONNECTING", TYPES),
    ("C2 direct", f"{TCP} SSLNEGOTIATE SSLSUCCESS S", TYPES),
    ("C2 refused", f"{TCP} S SSLNEGOTIATE NODESENT SSLFAIL {FAILED}", TYPES),
    ("C2 not offered", f"{TCP} S NODESENT SSLFAIL {FAILED}", TYPES),
    ("C3", f"{TCP} S AUTHNEGOTIATE NODESENT STREAM_ERROR AUTHFAIL {FAILED}", TYPES),
    ("C3 before", f"{TCP} S STREAM_ERROR {FAILED}", TYPES),
    ("C4", f"{TCP} {TLS} S AUTHNEGOTIATE NODESENT AUTHRETRY AUTHNEGOTIATE NODESENT AUTHSUCCESS {BIND} READY", BINDING),
    ("C5", f"{TCP} {TLS} S AUTHNEGOTIATE NODESENT AUTHSUCCESS BINDNEGOTIATE(inline) BINDSUCCESS READY", (XMPP,)),
    ("C5 managed", f"{AUTHENTICATED} BINDNEGOTIATE(inline) BINDSUCCESS SM_ENABLED READY", (XMPP,)),
    ("C5 not in the answer", f"{AUTHENTICATED} BINDNEGOTIATE own BINDSUCCESS READY", (XMPP,)),
    ("C6", f"{AUTHENTICATED} S SM_RESUMING NODESENT SM_RESUMED NODESENT NODESENT READY(resumed)", (XMPP,)),
    ("C6 inline", f"{AUTHENTICATED} SM_RESUMING SM_RESUMED READY(resumed)", (XMPP,)),
    (
        "C6 refused",
        "{ready} SM_ENABLED SOCKETFAIL SOCKETDISCONNECT RECONNECT_DELAY CONNECTING CONNECTED SSLNEGOTIATE SSLSUCCESS "
        f"{SASL} S SM_RESUMING NODESENT SM_RESUMEFAILED SESSION_LOST BINDNEGOTIATE own BINDSUCCESS READY",
        (XMPP,),
    ),
    (
        "C7",
        "{ready} SM_ENABLED SOCKETFAIL SOCKETDISCONNECT RECONNECT_DELAY SESSION_LOST CONNECTING CONNECTFAIL",
        (XMPP,),
    ),
    ("C8", "{ready} STREAM_ERROR NODERECEIVED SOCKETFAIL " + LOST, TYPES),
    ("C8 clean", "{ready} STREAMEND " + LOST + " RECONNECT_DELAY CONNECTING", TYPES),
    ("C9 nodes come in", "{ready} STREAMEND SHUTDOWN_START NODERECEIVED " + LOST + " SHUTDOWN_FINISH", TYPES),
    ("C9 before a connection", "SHUTDOWN_START SHUTDOWN_FINISH", TYPES),
    ("C9 in back-off", "CONNECT CONNECTING CONNECTFAIL RECONNECT_DELAY SHUTDOWN_START SHUTDOWN_FINISH", TYPES),
    ("C9 while connecting", "CONNECT CONNECTING SHUTDOWN_START CONNECTFAIL SHUTDOWN_FINISH", TYPES),
    ("C9 transient", f"{TCP} S AUTHNEGOTIATE NODESENT AUTHFAIL STREAMEND SOCKETDISCONNECT RECONNECT_DELAY", TYPES),
    ("C9 no header of ours", f"{TCP} SSLNEGOTIATE SSLFAIL {FAILED.removeprefix('STREAMEND ')}", TYPES),
    ("C9 the user", f"{TCP} S AUTHNEGOTIATE NODESENT STREAMEND SHUTDOWN_START {GONE} SHUTDOWN_FINISH", TYPES),
    ("C10 halt in a shutdown", "{ready} STREAMEND SHUTDOWN_START " + LOST + " SHUTDOWN_FINISH", TYPES),
    ("C10 halt early", f"{TCP} S AUTHNEGOTIATE NODESENT {GONE}", TYPES),
    ("C10 halt", "{ready} " + LOST + " NODE_DROPPED", TYPES),
    ("C11", "{ready} RTS_START NODESENT RTS_START NODESENT RTS_FINISH RTS_FAIL NODERECEIVED", TYPES),
    ("C11 lost", "{ready} RTS_START NODESENT " + LOST + " RTS_FAIL", TYPES),
    ("C12", "{ready} SOCKETFAIL " + LOST + " NODEQUEUED RECONNECT_DELAY", TYPES),
    ("C13", "{ready} CONNECT STREAMEND " + LOST + " CONNECTING", TYPES),
    ("C14", "{ready} STREAM_ERROR NODERECEIVED REDIRECT STREAMEND " + LOST + " CONNECTING", TYPES),
    ("C14 early", f"{TCP} S STREAM_ERROR REDIRECT STREAMEND SOCKETDISCONNECT CONNECTING", TYPES),
    ("C16", f"{AUTHENTICATED} {BIND} BINDNEGOTIATE own BINDSUCCESS READY", (JABBERD20_COMPONENT,)),
    ("C17", f"{AUTHENTICATED} {BIND} READY", (XMPP,)),
]
CASES = [(rule, words, each) for rule, words, types in GOOD for each in types]


@pytest.mark.parametrize(("rule", "words", "connection_type"), CASES, ids=[f"{rule}-{each}" for rule, _, each in CASES])
def test_a_sequence_of_the_rules_is_taken(rule: str, words: str, connection_type: str) -> None:
    _, wrong = follow(connection_type, words.replace("{ready}", TO_READY[connection_type]))
    assert wrong == [], rule


@pytest.mark.parametrize("connection_type", TYPES)
def test_a_whole_life_ends_where_it_began(connection_type: str) -> None:
    order, wrong = follow(connection_type, f"{TO_READY[connection_type]} {SHUTDOWN}")
    assert (order.place, wrong) == (START, [])


#: (rule, a sequence whose last event is the first that may not come, whose)
BAD: list[tuple[str, str, tuple[str, ...]]] = [
    ("C0 nobody asked", "CONNECTING", TYPES),
    ("C0 nothing to retry", "RECONNECT_DELAY", TYPES),
    ("C0 two ends", "CONNECT CONNECTING CONNECTFAIL SOCKETDISCONNECT", TYPES),
    ("C0 behind its end", "CONNECT CONNECTING CONNECTFAIL CONNECTED", TYPES),
    ("C0 two at a time", "CONNECT CONNECTING CONNECTING", TYPES),
    ("C0 no retry without a delay", "{ready} " + LOST + " CONNECTED", TYPES),
    ("C0 a retry without an end", "{ready} RECONNECT_DELAY", TYPES),
    ("C1 an address behind the connection", f"{TCP} ATTEMPT", TYPES),
    ("C1 no connection", f"{TCP} CONNECTFAIL", TYPES),
    ("C2 success of nothing", f"{TCP} S SSLSUCCESS", TYPES),
    ("C2 nothing asked for", f"{TCP} S SSLNEGOTIATE SSLSUCCESS", TYPES),
    ("C2 a node before TLS", f"{TCP} SSLNEGOTIATE NODESENT", TYPES),
    ("C2 twice", f"{TCP} {TLS} S SSLNEGOTIATE", TYPES),
    ("C2 no new stream", f"{TCP} {TLS} AUTHNEGOTIATE", TYPES),
    ("C3 another step's failure", f"{TCP} S AUTHNEGOTIATE NODESENT BINDFAIL", TYPES),
    ("C3 no failure", f"{TCP} S AUTHNEGOTIATE NODESENT STREAM_ERROR STREAMEND", TYPES),
    ("C3 a silent end", f"{TCP} S AUTHNEGOTIATE NODESENT STREAMEND SHUTDOWN_START(failure)", TYPES),
    ("C3 a silent break", f"{TCP} S AUTHNEGOTIATE NODESENT SOCKETFAIL", TYPES),
    ("C4 again without a reason", f"{TCP} S AUTHNEGOTIATE NODESENT AUTHNEGOTIATE", TYPES),
    ("C7 never", "{ready} SOCKETFAIL SOCKETDISCONNECT RECONNECT_DELAY", TYPES),
    ("C7 not at the end of all", "{ready} STREAMEND SHUTDOWN_START SOCKETDISCONNECT SHUTDOWN_FINISH", TYPES),
    ("C10 on behind a halt", f"{TCP} S SOCKETDISCONNECT CONNECTING", TYPES),
    ("C3 the error behind the failure", f"{TCP} S AUTHNEGOTIATE NODESENT AUTHFAIL STREAM_ERROR", TYPES),
    ("C4 two failures", f"{TCP} S AUTHNEGOTIATE NODESENT AUTHFAIL AUTHFAIL", TYPES),
    ("C4 on behind a failure", f"{TCP} S AUTHNEGOTIATE NODESENT AUTHFAIL AUTHSUCCESS", TYPES),
    ("C4 the node before its step", f"{AUTHENTICATED} NODESENT", TYPES),
    ("C4 success of nothing", f"{TCP} {TLS} S AUTHSUCCESS", TYPES),
    ("READY without authentication", f"{TCP} {TLS} S READY", TYPES),
    ("C5 a node between", f"{AUTHENTICATED} BINDNEGOTIATE(inline) NODESENT", (XMPP,)),
    ("C5 no inline form of the failure", f"{AUTHENTICATED} BINDNEGOTIATE(inline) BINDFAIL", (XMPP,)),
    ("C5 for nobody else", f"{AUTHENTICATED} BINDNEGOTIATE(inline)", (JABBERD20_COMPONENT,)),
    ("C6 a new resource", f"{AUTHENTICATED} S SM_RESUMING NODESENT SM_RESUMED BINDNEGOTIATE", (XMPP,)),
    ("C6 no resume", f"{AUTHENTICATED} {BIND} READY(resumed)", (XMPP,)),
    ("C6 for nobody else", f"{AUTHENTICATED} S SM_RESUMING", (JABBERD20_COMPONENT,)),
    ("C7 twice", "{ready} " + LOST + " SESSION_LOST", TYPES),
    ("C7 of none", "CONNECT CONNECTING CONNECTFAIL SESSION_LOST", TYPES),
    ("C7 while it is there", "{ready} SESSION_LOST", TYPES),
    ("C8 SOCKETFAIL alone", "{ready} SOCKETFAIL RECONNECT_DELAY", TYPES),
    ("C8 two SOCKETFAIL", "{ready} SOCKETFAIL SOCKETFAIL", TYPES),
    ("C8 the closing tag behind the break", "{ready} SOCKETFAIL STREAMEND", TYPES),
    ("C9 a node behind the closing tag", "{ready} STREAMEND NODESENT", TYPES),
    ("C9 a retry of what was shut down", "{ready} STREAMEND SHUTDOWN_START " + LOST + " RECONNECT_DELAY", TYPES),
    ("C9 a retry behind the end of all", "{ready} " + SHUTDOWN + " RECONNECT_DELAY", TYPES),
    ("C9 an attempt behind the end of all", "{ready} " + SHUTDOWN + " CONNECTING", TYPES),
    ("C9 twice", "{ready} STREAMEND SHUTDOWN_START SHUTDOWN_START", TYPES),
    ("C9 finish of nothing", "{ready} STREAMEND SHUTDOWN_FINISH", TYPES),
    ("C9 finish before the end", "{ready} STREAMEND SHUTDOWN_START SHUTDOWN_FINISH", TYPES),
    ("C9 a tag without a header", f"{TCP} STREAMEND", TYPES),
    ("C9 two tags", "{ready} STREAMEND STREAMEND", TYPES),
    ("C10 something behind a halt", "{ready} SOCKETDISCONNECT STREAMEND", TYPES),
    ("C11 a reply to nothing", "{ready} RTS_FINISH", TYPES),
    ("C11 two ends of one request", "{ready} RTS_START NODESENT RTS_FINISH RTS_FAIL", TYPES),
    ("C12 sent before READY", "CONNECT CONNECTING NODESENT", TYPES),
    ("C13 anew before the end", "{ready} CONNECT CONNECTING", TYPES),
    ("C14 sent on without an error", f"{TCP} S AUTHNEGOTIATE NODESENT AUTHFAIL REDIRECT", TYPES),
    ("C14 sent on by nobody", "{ready} REDIRECT", TYPES),
    ("C16 for others", f"{AUTHENTICATED} {BIND} BINDNEGOTIATE", (XMPP,)),
    ("C17 a session before the bind", f"{AUTHENTICATED} S SESSIONNEGOTIATE", (XMPP,)),
    ("C17 for others", f"{AUTHENTICATED} {BIND} SESSIONNEGOTIATE", (JABBERD20_COMPONENT,)),
    ("C18 an answer told", f"{TCP} S AUTHNEGOTIATE NODESENT NODERECEIVED", TYPES),
    ("C18 a reply of the negotiation's told", f"{AUTHENTICATED} S BINDNEGOTIATE own RTS_FINISH", BINDING),
    ("no stream behind it", f"{TCP} S AUTHNEGOTIATE NODESENT AUTHSUCCESS STREAMSTART", OLD),
    ("READY twice", "{ready} READY", TYPES),
    ("bound and no READY", f"{AUTHENTICATED} S READY", BINDING),
]
BAD_CASES = [(rule, words, each) for rule, words, types in BAD for each in types]


@pytest.mark.parametrize(
    ("rule", "words", "connection_type"), BAD_CASES, ids=[f"{rule}-{each}" for rule, _, each in BAD_CASES]
)
def test_a_sequence_that_breaks_a_rule_is_refused(rule: str, words: str, connection_type: str) -> None:
    words = words.replace("{ready}", TO_READY[connection_type])
    before, _, last = words.rpartition(" ")
    order, wrong = follow(connection_type, before)
    assert wrong == []
    place = order.place
    (status,) = statuses(last)
    assert order.follow(status) is not None, rule
    assert order.place == place, "what is wrong changes nothing"


# ---- what is missing


def left_out(words: str) -> Iterator[tuple[str, list[Status]]]:
    """Each run without one of its events, by that event's name."""
    whole = list(statuses(words))
    for index, status in enumerate(whole):
        yield status.event, whole[:index] + whole[index + 1 :]


def breaches(connection_type: str, run: Iterable[Status], state: str) -> list[str]:
    order = Order(connection_type)
    said = [order.follow(status) for status in run] + [order.finish(state)]
    return [wrong for wrong in said if wrong is not None]


#: What may be there or not: told by the user's own doing, or by what the server does.
OPTIONAL = {
    "PCJ_STREAMEND",  # where the network takes no closing tag
    "PCJ_NODESENT",  # any number of them
    "PCJ_NODERECEIVED",
    "STREAM_ERROR",
    "PCJ_SOCKETFAIL",
    "ATTEMPT",
    "RESOLVED",
}


@pytest.mark.parametrize("connection_type", TYPES)
@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("{ready} RTS_START RTS_FINISH " + SHUTDOWN, State.IDLE),
        ("{ready} RTS_START STREAMEND SHUTDOWN_START " + LOST + " RTS_FAIL SHUTDOWN_FINISH", State.IDLE),
        ("{ready} SOCKETFAIL " + LOST, State.IDLE),
        ("{ready} STREAM_ERROR NODERECEIVED STREAMEND " + LOST + " RECONNECT_DELAY", State.WAITING),
        ("{ready}", State.READY),
        ("{ready} " + LOST, State.HALTED),
        (f"{TCP} S AUTHNEGOTIATE NODESENT AUTHFAIL {FAILED}", State.IDLE),
        (f"{TCP} S AUTHNEGOTIATE NODESENT STREAM_ERROR AUTHFAIL {FAILED}", State.IDLE),
        ("CONNECT CONNECTING CONNECTFAIL", State.IDLE),
        ("CONNECT CONNECTING CONNECTFAIL RECONNECT_DELAY", State.WAITING),
        ("SHUTDOWN_START SHUTDOWN_FINISH", State.IDLE),
    ],
)
def test_an_event_that_is_left_out_is_seen(words: str, state: str, connection_type: str) -> None:
    words = words.replace("{ready}", TO_READY[connection_type])
    assert breaches(connection_type, statuses(words), state) == []
    unseen = {event for event, run in left_out(words) if not breaches(connection_type, run, state)}
    assert unseen <= OPTIONAL


def test_a_broker_in_the_middle_of_something_has_nothing_missing_yet() -> None:
    order, _ = follow(XMPP, TCP)
    assert order.finish(State.NEGOTIATING) is None
    assert order.finish(State.IDLE) == "the broker is idle, and its events ended in the place 'connected'"


def test_requests_that_wait_are_counted() -> None:
    order, _ = follow(LEGACY, f"{TO_READY[LEGACY]} RTS_START")
    assert order.finish(State.READY, requests=1) is None
    assert order.finish(State.READY) == "0 requests wait for a reply, and 1 by the events"


def test_what_is_wrong_is_said_with_what_could_have_come() -> None:
    _, (said,) = follow(XMPP, "CONNECT READY")
    assert said.startswith("PCJ_READY (seq 2) came in the place 'asked'; there may come ")
    assert "PCJ_CONNECTING" in said


def test_of_a_type_that_is_not_known_all_is_let_pass() -> None:
    _, wrong = follow("MADE_UP", "READY READY SHUTDOWN_FINISH")
    assert wrong == []


def test_names_of_the_users_own_are_theirs_to_order() -> None:
    order = Order(XMPP)
    assert order.follow(Status("mine", 0.0, 1)) is None
    assert order.place == START


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_pair_is_of_events_that_have_a_place(pair: Pair) -> None:
    assert pair.begins
    assert pair.ends
    assert pair.begins | pair.ends <= {row.symbol for row in ROWS} | ANYWHERE
