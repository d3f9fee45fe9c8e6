"""Why no connection was made, in sentences for people."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from pcj.errors import Failure, Phase, Retry
from pcj.protocol.retry import words_of
from pcj.transport.names import both_names, ip_literal
from pcj.transport.resolve import Endpoint

__all__ = ["Attempt", "Overtaken", "no_look_up", "none_connected", "too_many_files", "unknown_name"]

_NO_ROUTE = (
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EADDRNOTAVAIL,
    errno.EINVAL,  # Linux: a route of the kind "blackhole", or a link-local IPv6 address that says no interface
)
#: The family is not there at all (IPv6 switched off): to the reader the same.
_NO_FAMILY = (errno.EAFNOSUPPORT,)
_FILES = (errno.EMFILE, errno.ENFILE)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
#: The name exists, and has no address. Not every system has these; where it has not, EAI_NONAME means them too.
_EXISTS = tuple(getattr(socket, name) for name in ("EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name))
_NO_ADDRESS = (socket.EAI_NONAME, *_EXISTS)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One address that did not answer: the address with its port, and why."""

    address: str
    error: BaseException


class Overtaken(Exception):
    """Why an attempt was cut short: another address of the host has connected, `seconds` after this one was begun."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"overtaken after {seconds:.2f} s")


def no_look_up(endpoint: Endpoint, seconds: float) -> Failure:
    """The addresses of the host were not known within `seconds`."""
    name = both_names(endpoint.typed, endpoint.host)
    message = endpoint.told(f"No answer from the name server within {seconds:g} s while looking up {name}.")
    return Failure(phase=Phase.RESOLVE, message=message, expected="an address", came="no answer")


def unknown_name(endpoint: Endpoint, error: OSError) -> Failure:
    """The host has no address (EAI_*). Who said that it is the host decides what is to be done."""
    host = both_names(endpoint.typed, endpoint.host)
    fallback = endpoint.source == "fallback"
    expected, came, retry = "an address", words_of(error), Retry.FAST
    if error.errno not in _NO_ADDRESS:
        if error.errno == socket.EAI_AGAIN:
            message = f"No answer from the name server while looking up the address of {host}."
        else:
            message = f"The address of {host} could not be looked up ({came})."
    elif endpoint.unanswered:
        # Whether it has SRV records is not known: an outage of DNS is no mistake in the domain.
        message, expected, came = endpoint.unanswered, "SRV records", "no answer"
    elif endpoint.source == "srv":
        message, retry = f"DNS names {endpoint} as the server, but that name has no address.", Retry.SLOW
    else:
        exists = endpoint.exists or error.errno in _EXISTS
        if exists:
            message = f"{host} has {'neither SRV records nor an address' if fallback else 'no address'}."
        else:
            lacks = "no SRV records and no address" if fallback else "no address"
            message = f"{host} has {lacks}: the name does not exist in DNS."
        # What the user named is a mistake of his, at first (see `settled`); what a server named is one of its own.
        retry = Retry.SLOW
        if not endpoint.sent_by:
            message += f" Check the {'domain of the JID' if fallback else 'host'}."
            retry = Retry.FATAL
    return Failure(phase=Phase.RESOLVE, message=endpoint.told(message), expected=expected, came=came, retry=retry)


def too_many_files(error: OSError) -> Failure:
    """No file descriptor is left, for a socket or for a question to the name server."""
    message = "No connection: this machine has no file descriptor left."
    if error.errno == errno.EMFILE:
        message = f"No connection: {_open_files()}. Raise the limit (ulimit -n), or find what leaks."
    return Failure(phase=Phase.CONNECT, message=message, expected="a socket", came=words_of(error), retry=Retry.FAST)


def _open_files() -> str:
    try:
        import resource  # not on every system

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except (ImportError, OSError):
        return "this process has too many files open"
    return f"this process has {limit:,} of {limit:,} files open"


def none_connected(endpoint: Endpoint, attempts: Sequence[Attempt], *, untried: int, seconds: float) -> Failure:
    """Every address failed, or the time was up.

    Args:
        attempts: those that ended, in that order. untried: how many others there were. seconds: the deadline.
    """
    errors = [attempt.error for attempt in attempts]
    for error in errors:
        if isinstance(error, OSError) and error.errno in _FILES:
            return too_many_files(error)
    lone = attempts[0] if len(attempts) == 1 and not untried else None
    if endpoint.host.startswith("/"):
        message = _unix_sentence(endpoint.host, errors[0] if errors else TimeoutError(), seconds)
    elif lone is not None:
        message = _sentence(endpoint, lone, seconds)
    else:
        listed = [f"{attempt.address} {_reason(attempt.error, seconds)}" for attempt in attempts]
        if untried:
            listed.append(f"{untried} not tried in {seconds:g} s")
        count = len(attempts) + untried
        of = "" if ip_literal(endpoint.host) else f" of {both_names(endpoint.typed, endpoint.host)}"
        message = f"None of {count} addresses{of} could be reached: {'; '.join(listed)}."
    # A firewall, a sandbox or a missing family may pass as well as the rest; only a forbidden one is known to last.
    lasting = bool(errors) and all(isinstance(e, OSError) and e.errno in _FORBIDDEN for e in errors)
    return Failure(
        phase=Phase.CONNECT,
        message=endpoint.told(message),
        address=endpoint.at(lone.address) if lone else str(endpoint),
        expected="a connection",
        came="; ".join(dict.fromkeys(_reason(error, seconds) for error in errors)),
        retry=Retry.SLOW if lasting else Retry.FAST,
    )


def _reason(error: BaseException, seconds: float) -> str:
    """A few words, to follow an address."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ECONNREFUSED:
        return "refused"
    if number == errno.ETIMEDOUT:
        return "no answer"
    if isinstance(error, TimeoutError):
        return f"no answer in {seconds:g} s"
    if number in _NO_ROUTE or number in _NO_FAMILY:
        return "no route"
    if number in _FORBIDDEN:
        return "not permitted"
    if number is not None:
        return os.strerror(number).lower()
    return str(error) or type(error).__name__


def _sentence(endpoint: Endpoint, attempt: Attempt, seconds: float) -> str:
    where, reason = endpoint.at(attempt.address), _reason(attempt.error, seconds)
    if reason == "refused":
        return f"{where} refused the connection: nothing listens there."
    if reason.startswith("no answer"):
        return f"No answer from {where}{reason.removeprefix('no answer')}: host down, or a firewall drops the packets."
    if reason == "no route":
        return f"This machine has no route to {where} (and no other address was left)."
    if reason == "not permitted":
        return f"This machine does not permit a connection to {where}: a firewall or a sandbox forbids it."
    return f"No connection to {where}: {reason}."


def _unix_sentence(path: str, error: BaseException, seconds: float) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT:
        return f"There is no socket {path}: the server does not run, or has it elsewhere."
    if number == errno.ECONNREFUSED:
        return f"The socket {path} is there, but nothing listens on it."
    if number in _FORBIDDEN:
        return f"This process may not connect to the socket {path} (permission denied)."
    if number is None and not isinstance(error, TimeoutError):
        return f"No connection to {path}: {error}."  # "AF_UNIX path too long" has no number
    return f"No connection to {path}: {_reason(error, seconds)}."
