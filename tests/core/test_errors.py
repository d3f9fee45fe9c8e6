"""The hierarchy is the one drawn at the top of the module, and each error says what it should."""

from __future__ import annotations

import builtins
import copy
import inspect
import re

import pytest

from pcj import errors
from pcj.errors import ConnectionFailed, Failure, PcjError, Phase, ProtocolError, RequestTimeout, StreamErrorReceived

LINE = re.compile(r"^ {4}(?P<branch>[│├└─ ]*)(?P<name>\w+)(?: \((?P<also>\w+)\))?")


def drawn() -> dict[str, set[str]]:
    """By error: the names of its direct bases, as the drawing has them."""
    bases: dict[str, set[str]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = LINE.match(line)
        if not found or not found["name"].startswith(found["name"][0].upper()):
            continue
        column, name = len(found["branch"]), found["name"]
        while above and above[-1][0] >= column:
            above.pop()
        bases[name] = {above[-1][1] if above else "Exception"} | ({found["also"]} if found["also"] else set())
        above.append((column, name))
    return bases


def test_the_hierarchy_is_the_drawing() -> None:
    real = {
        name: {base.__name__ for base in kind.__bases__}
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, Exception)
    }
    assert drawn() == real


def test_all_is_all() -> None:
    public = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}
    assert set(errors.__all__) == public


@pytest.mark.parametrize("name", sorted(drawn()))
def test_each_can_be_caught_as_what_it_is_also(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, PcjError)
    for base in drawn()[name]:
        assert issubclass(kind, getattr(errors, base, None) or getattr(builtins, base))


def test_a_timeout_is_both() -> None:
    error = RequestTimeout("no reply from juliet@example.org within 60 s")
    assert isinstance(error, TimeoutError)
    assert error.reason == "timeout"
    assert str(error) == "no reply from juliet@example.org within 60 s"


def test_a_protocol_error_says_who_what_and_the_answer() -> None:
    error = ProtocolError("a", condition="b", answer="not-authorized", expected="c", came="d", phase=Phase.BIND)
    assert (str(error), error.condition, error.answer, error.expected, error.came) == (
        "a",
        "b",
        "not-authorized",
        "c",
        "d",
    )
    assert error.phase == "bind"
    assert error.retry is None


def test_a_stream_error_has_the_peers_words() -> None:
    error = StreamErrorReceived("replaced", condition="conflict", text="Replaced by new connection")
    assert (error.condition, error.text, error.came) == (
        "conflict",
        "Replaced by new connection",
        "<stream:error> conflict",
    )
    assert error.answer is None  # RFC 6120 4.9.1.1: an error is never answered with one


def test_a_failure_is_a_sentence_and_a_record() -> None:
    failure = Failure(Phase.TLS, "the certificate of example.org has expired", address="example.org (::1, port 5222)")
    error = ConnectionFailed(failure)
    assert isinstance(error, ConnectionError)
    assert str(error) == str(failure) == failure.message
    assert error.failure is failure
    with pytest.raises(AttributeError):
        failure.phase = Phase.BIND  # type: ignore[misc]


@pytest.mark.parametrize(
    "error",
    [
        RequestTimeout("x"),
        errors.RequestError("x", reason="drop"),
        ProtocolError("x", answer="y"),
        StreamErrorReceived("x", condition="y", text="z"),
        ConnectionFailed(Failure(Phase.CONNECT, "x")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_can_be_copied(error: PcjError) -> None:
    copied = copy.copy(error)
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert vars(copied) == vars(error)
