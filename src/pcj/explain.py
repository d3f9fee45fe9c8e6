"""Why a broker is, or is not, connected: in words for a person."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pcj.errors import Failure, Phase, Retry

__all__ = ["State", "clause", "explain", "inside", "sentence"]


class State(StrEnum):
    """What a broker is doing.

    IDLE: nothing; never connected, or the last connection has ended. CONNECTING: resolving and dialling. NEGOTIATING:
    connected, not yet READY. READY. CLOSING: an orderly end is under way. WAITING: for the next attempt. HALTED: for
    good.
    """

    IDLE = "idle"
    CONNECTING = "connecting"
    NEGOTIATING = "negotiating"
    READY = "ready"
    CLOSING = "closing"
    WAITING = "waiting"
    HALTED = "halted"


_RETRY = {
    Retry.FATAL: "Trying again will not help until that is changed.",
    Retry.SLOW: "Trying again may help, but not soon.",
    Retry.FAST: "Trying again can help.",
}


#: How a message begins whose first word is no name. Any plain word can be a host's, even "no" (Norway's domain).
_OPENINGS: Final = ("the ", "this ", "is this ", "none of ", "no answer ", "a fault ", "too many ", "could not ")


def sentence(text: str) -> str:
    """`text` with an end, and with a capital letter where it does not begin with what may be a name."""
    if text.startswith(_OPENINGS):
        text = text[0].upper() + text[1:]
    return text if text.rstrip(")'\"").endswith((".", "!", "?")) else f"{text}."


#: The same, as they begin a sentence.
_CAPITALS: Final = tuple(opening.capitalize() for opening in (*_OPENINGS, "no connection", "we ", "there is ", "a "))


def inside(text: str) -> str:
    """`text` as the end of another sentence: without a capital letter that is no name's."""
    return text[0].lower() + text[1:] if text.startswith(_CAPITALS) else text


def clause(text: str) -> str:
    """`text` as a part of another sentence: `inside`, and without its end."""
    text = inside(text)
    return text if text.endswith("..") else text.removesuffix(".")


def explain(
    state: State,
    *,
    jid: str,
    where: str,
    doing: str,
    failure: Failure | None,
    held: int,
    retry_in: float | None,
    shut: bool = False,
    waiting: int = 0,
    outward: int = 0,
    session_for: float | None = None,
) -> str:
    """Two sentences at most, where the failure's message is one; one more for what waits.

    Args:
        state: of the broker. jid: who it is. where: the address, or "". doing: the phase, while it negotiates.
        failure: the last one, or None. held: nodes that wait in the queue. retry_in: seconds to the next attempt.
        outward: nodes that wait because the network, or the server, takes no more. session_for: seconds for which the
            session can still be resumed, where it waits for that.
        waiting: statuses that wait for coroutine handlers, where nothing is read because of them; else 0.
        shut: the last link was shut down, and nothing was asked for since; a failure that there was explains more.
    """
    at = f" at {where}" if where else ""
    match state:
        case State.READY:
            said = f"Connected as {jid}{at}."
        case State.CONNECTING:
            said = f"Connecting as {jid}: looking for the server."
        case State.NEGOTIATING:
            said = f"Connected{at}, but not ready as {jid} yet: in the phase '{doing}'."
        case State.CLOSING:
            said = f"The connection of {jid}{at} is being closed."
        case State.HALTED:
            said = f"The broker of {jid} was halted; it will not connect again."
        case State.WAITING:
            said = f"Not connected as {jid}; the next attempt comes in {retry_in or 0.0:.1f} s."
        case _:
            lost = failure is not None and failure.phase is Phase.READY
            if failure is None:
                why = "it was shut down" if shut else "nobody asked for it"
            else:
                why = clause(failure.message) or "the last attempt failed"
            said = sentence(f"Not connected as {jid}{' any more' if lost else ''}: {why}")
    if waiting:
        said += f" Nothing is read, because {waiting} statuses wait for coroutine handlers."
    if failure is not None and state is State.IDLE:
        said += f" {_RETRY[failure.retry]}"
    elif failure is not None and failure.message and state is not State.READY:
        said += f" {sentence(failure.message)}"
    if session_for is not None:
        said += f" The session can be resumed for another {session_for:.0f} s."
    if outward:
        said += f" {outward} node{'s' if outward != 1 else ''} wait{'' if outward != 1 else 's'} to go out,"
        said += " because the network or the server takes no more for now."
    if held:
        said += f" {held} node{'s' if held != 1 else ''} wait{'' if held != 1 else 's'} in the queue"
        said += "; purge_queue() sends them." if state is State.READY else "."
    return said
