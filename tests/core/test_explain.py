"""A sentence for each state of a broker."""

from __future__ import annotations

import pytest

from pcj.errors import Failure, Phase, Retry
from pcj.explain import State, clause, explain

JID = "romeo@example.org"
WHERE = "example.org (192.0.2.1, port 5222)"
REFUSED = Failure(Phase.CONNECT, "example.org refused the connection")


def said(
    state: State,
    *,
    where: str = "",
    doing: str = "",
    failure: Failure | None = None,
    held: int = 0,
    retry_in: float | None = None,
    shut: bool = False,
    waiting: int = 0,
) -> str:
    return explain(
        state,
        jid=JID,
        where=where,
        doing=doing,
        failure=failure,
        held=held,
        retry_in=retry_in,
        shut=shut,
        waiting=waiting,
    )


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (said(State.IDLE), f"Not connected as {JID}: nobody asked for it."),
        (
            said(State.READY, waiting=7),
            f"Connected as {JID}. Nothing is read, because 7 statuses wait for coroutine handlers.",
        ),
        (
            said(State.IDLE, failure=REFUSED),
            f"Not connected as {JID}: example.org refused the connection. Trying again can help.",
        ),
        (said(State.IDLE, shut=True), f"Not connected as {JID}: it was shut down."),
        (
            said(State.IDLE, failure=REFUSED, shut=True),
            f"Not connected as {JID}: example.org refused the connection. Trying again can help.",
        ),
        (
            said(State.IDLE, failure=Failure(Phase.READY, "the server closed the connection")),
            f"Not connected as {JID} any more: the server closed the connection. Trying again can help.",
        ),
        (said(State.CONNECTING), f"Connecting as {JID}: looking for the server."),
        (
            said(State.CONNECTING, failure=REFUSED),
            f"Connecting as {JID}: looking for the server. example.org refused the connection.",
        ),
        (
            said(State.NEGOTIATING, where=WHERE, doing="authenticate"),
            f"Connected at {WHERE}, but not ready as {JID} yet: in the phase 'authenticate'.",
        ),
        (said(State.READY, where=WHERE), f"Connected as {JID} at {WHERE}."),
        (said(State.READY, where=WHERE, failure=REFUSED), f"Connected as {JID} at {WHERE}."),
        (said(State.CLOSING, where=WHERE), f"The connection of {JID} at {WHERE} is being closed."),
        (said(State.HALTED), f"The broker of {JID} was halted; it will not connect again."),
        (
            said(State.WAITING, failure=REFUSED, retry_in=2.34),
            f"Not connected as {JID}; the next attempt comes in 2.3 s. example.org refused the connection.",
        ),
        (said(State.WAITING), f"Not connected as {JID}; the next attempt comes in 0.0 s."),
    ],
)
def test_each_state_has_its_sentence(sentences: str, expected: str) -> None:
    assert sentences == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("the certificate has expired", "The certificate has expired."),
        ("example.org refused the connection", "example.org refused the connection."),
        ("require_tls=False was said", "require_tls=False was said."),
        ("the server said 'bye.'", "The server said 'bye.'"),
        ("is this an XMPP port?", "Is this an XMPP port?"),
        ("none of 3 servers could be reached: ...", "None of 3 servers could be reached: ..."),
        ("b has no SRV records and no address", "b has no SRV records and no address."),
        ("localhost refused the connection", "localhost refused the connection."),
        ("no refused the connection", "no refused the connection."),
        ("bücher.example did not answer", "bücher.example did not answer."),
        ("::1 refused the connection", "::1 refused the connection."),
    ],
)
def test_a_failure_is_a_sentence_whose_names_keep_their_letters(message: str, expected: str) -> None:
    assert said(State.HALTED, failure=Failure(Phase.TLS, message)).endswith(f" {expected}")


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        (Retry.FATAL, "Trying again will not help until that is changed."),
        (Retry.SLOW, "Trying again may help, but not soon."),
        (Retry.FAST, "Trying again can help."),
    ],
)
def test_where_it_rests_it_says_whether_trying_again_helps(retry: Retry, expected: str) -> None:
    failure = Failure(Phase.TLS, "the certificate has expired.", retry=retry)
    assert said(State.IDLE, failure=failure).endswith(f": the certificate has expired. {expected}")


@pytest.mark.parametrize(
    ("state", "held", "expected"),
    [
        (State.READY, 0, f"Connected as {JID}."),
        (State.READY, 1, f"Connected as {JID}. 1 node waits in the queue; purge_queue() sends them."),
        (State.READY, 7, f"Connected as {JID}. 7 nodes wait in the queue; purge_queue() sends them."),
        (State.IDLE, 1, f"Not connected as {JID}: nobody asked for it. 1 node waits in the queue."),
        (State.IDLE, 2, f"Not connected as {JID}: nobody asked for it. 2 nodes wait in the queue."),
    ],
)
def test_what_waits_in_the_queue_is_said(state: State, held: int, expected: str) -> None:
    assert said(state, held=held) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("None of 3 servers answered.", "none of 3 servers answered"),
        ("No connection: no file is left.", "no connection: no file is left"),
        ("example.org refused the connection.", "example.org refused the connection"),
        ("DNS names nobody.", "DNS names nobody"),
        ("it says 'wait...'", "it says 'wait...'"),
        ("wait...", "wait..."),
        ("Is this an XMPP port?", "is this an XMPP port?"),
        ("", ""),
    ],
)
def test_a_sentence_inside_another_leaves_its_end_and_its_capital_behind(text: str, expected: str) -> None:
    assert clause(text) == expected


@pytest.mark.parametrize("state", State)
def test_whatever_there_is_to_say_of_a_link_takes_two_sentences_at_most(state: State) -> None:
    for failure in (None, REFUSED, Failure(Phase.READY, "the server closed the stream")):
        ends = [end for end in ". ".join((said(state, failure=failure), "")).split(". ") if end]
        assert len(ends) <= 2, ends


@pytest.mark.parametrize("state", State)
def test_every_state_says_who_and_ends_in_a_full_stop(state: State) -> None:
    for failure in (None, REFUSED, Failure(Phase.STREAM, "")):
        sentences = said(state, failure=failure, held=3, doing="bind")
        assert JID in sentences
        assert sentences.endswith(".")
        assert ".." not in sentences
        assert " ." not in sentences
