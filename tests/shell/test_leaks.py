"""The search for secrets finds them: in each kind of object, and in every form."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

import pytest

from pcj import (
    JABBERD14_COMPONENT,
    XMPP,
    Broker,
    Config,
    ConnectionFailed,
    Failure,
    Phase,
    ProtocolError,
    Receipt,
    Status,
)
from pcj.protocol.actions import Fire
from pcj.testing import SessionInfo
from tests.shell.leaks import Secrets, Walk

PASSWORD: Final = "Zr7'kelp&Moor=\u017ec"


def _raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """An error that has been raised: it has a traceback."""
    try:
        raise error from cause
    except type(error) as raised:
        return raised


def _with_note() -> BaseException:
    error = ValueError("no secret")
    error.add_note(PASSWORD)
    return error


def _while(first: str) -> BaseException:
    try:
        try:
            raise KeyError(first)
        except KeyError:
            raise ValueError("no secret")  # noqa: B904 - the context alone is what is tested
    except ValueError as error:
        return error


def _node(**where: str) -> Element:
    node = Element(where.get("tag", "{urn:example}a"), {where.get("name", "name"): where.get("value", "value")})
    child = SubElement(SubElement(node, "b"), "c")
    child.text, child.tail = where.get("text"), where.get("tail")
    return node


def _status(node: Element | None = None, error: BaseException | None = None, **detail: object) -> Status:
    return Status("EVENT", 1.0, 1, node, error, MappingProxyType(detail))


def _record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    raised = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord("name", logging.INFO, "path", 1, message, arguments, raised)


def _receipt() -> Receipt:
    receipt = Receipt()
    receipt.reason = PASSWORD
    return receipt


def _failure(**fields: Any) -> Failure:
    return Failure(Phase.TLS, **{"message": "no secret", **fields})


_PLANTED: Final[dict[str, Callable[[], object]]] = {
    "the name of an event": lambda: Status(PASSWORD, 1.0, 1),
    "the text of a node": lambda: _status(_node(text=f"so {PASSWORD}!")),
    "the tail of a node": lambda: _status(_node(tail=PASSWORD)),
    "an attribute's value": lambda: _status(_node(value=PASSWORD)),
    "an attribute's name": lambda: _node(name=PASSWORD),
    "the name of an element": lambda: _node(tag=PASSWORD),
    "a detail": lambda: _status(came=PASSWORD),
    "a key of a detail": lambda: Status("EVENT", 1.0, 1, detail={PASSWORD: 1}),
    "a detail's list": lambda: _status(tried=(("here", ["there", PASSWORD]),)),
    "a detail's bytes": lambda: _status(data=b"xx" + PASSWORD.encode()),
    "a node in a detail": lambda: _status(selected=[_node(text=PASSWORD)]),
    "behind what a repr shows": lambda: _status(came=" " * 1000 + PASSWORD),
    "the message of an error": lambda: _status(error=ProtocolError(PASSWORD)),
    "a field of an error": lambda: ProtocolError("no secret", came=PASSWORD),
    "an argument of an error": lambda: ValueError("no secret", {"a": PASSWORD}),
    "the cause of an error": lambda: _raised(ValueError("no secret"), KeyError(PASSWORD)),
    "the context of an error": lambda: _while(PASSWORD),
    "a note of an error": _with_note,
    "an attribute of a foreign error": lambda: FileNotFoundError(2, "no secret", PASSWORD),
    "one of a group of errors": lambda: ExceptionGroup("no secret", [ValueError(PASSWORD)]),
    "a failure": lambda: ConnectionFailed(_failure(text=PASSWORD)),
    "a failure's addresses": lambda: _failure(tried=(("here", PASSWORD),)),
    "a log's message": lambda: _record(PASSWORD),
    "a log's argument": lambda: _record("%s", PASSWORD),
    "an argument in a log": lambda: _record("%s", _status(came=PASSWORD)),
    "a traceback in a log": lambda: _record("no secret", error=_raised(ValueError(PASSWORD))),
    "a receipt": _receipt,
    "a broker's own name": lambda: Broker(JABBERD14_COMPONENT, "a.localhost", password="another", alias=PASSWORD),
    "an option": lambda: Config(connection_type=XMPP, jid="a@b", password="another", resource=PASSWORD),
    "an action": lambda: Fire("EVENT", detail={"a": PASSWORD}),
    "the account of an embedded server's session": lambda: SessionInfo(PASSWORD, XMPP, False, ""),
}


@pytest.mark.parametrize("plant", _PLANTED.values(), ids=_PLANTED.keys())
def test_the_search_finds_a_secret_in_one_object_of_each_kind(plant: Callable[[], object]) -> None:
    secrets = Secrets()
    secrets.add("the password", PASSWORD)
    walk = Walk(secrets, {(Config, "password")})
    walk.look("it", [plant()])
    assert walk.found
    assert all(place.startswith("the password (") for place in walk.found)


@pytest.mark.parametrize("secret", [PASSWORD.encode(), hashlib.sha256(b"a key").digest()], ids=["password", "key"])
@pytest.mark.parametrize(
    "write",
    [
        lambda it: repr(it),
        lambda it: f"<Task finished result={it!r}>",
        lambda it: repr(it.decode(errors="replace") if it.isascii() else it.decode("latin-1")),
        lambda it: it.hex(),
        lambda it: it.hex().upper(),
        lambda it: base64.b64encode(it).decode(),
        lambda it: base64.b64encode(b"\0romeo\0" + it).decode(),
        lambda it: base64.b64encode(b"\0romeos\0" + it + b"\0").decode(),
        lambda it: base64.b64encode(b"\0juliets\0" + it + b"more").decode(),
        lambda it: base64.urlsafe_b64encode(b"1" + it + b"3").decode(),
        lambda it: str(list(it)),
        lambda it: asyncio.Future.__repr__(_done(it)),
    ],
)
def test_the_search_finds_every_form(secret: bytes, write: Callable[[bytes], str]) -> None:
    secrets = Secrets()
    secrets.add("it", secret)
    assert secrets.within(f"... {write(secret)} ...")
    assert not secrets.within(write(hashlib.sha256(secret).digest()))


def _done(result: object) -> asyncio.Future[object]:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[object] = loop.create_future()
    future.set_result(result)
    loop.close()
    return future
