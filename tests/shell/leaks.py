"""Looks for secrets in whatever a program can see, in every form in which they could stand there."""

from __future__ import annotations

import base64
import logging
import reprlib
import traceback
from collections.abc import Iterable, Iterator, Mapping, Set
from enum import Enum
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from pcj import Node, PcjError

__all__ = ["Secrets", "Walk"]

#: Bytes of a secret; in a shorter one nothing could be told from chance.
SHORTEST: Final = 8
#: Levels of containers and attributes; all that there is has fewer.
MAX_DEPTH: Final = 30


class Secrets:
    """What is looked for: names, and for each the forms in which it could be shown."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}  # form -> whose it is
        self.names: set[str] = set()

    def add(self, name: str, secret: str | bytes) -> None:
        """Look for a secret, too."""
        data = secret.encode() if isinstance(secret, str) else secret
        assert len(data) >= SHORTEST, f"{name} is too short to be found"
        self.names.add(name)
        for how, form in _forms_of(data):
            self._forms.setdefault(form, f"{name} ({how})")

    def within(self, text: str) -> set[str]:
        """Which of them a text shows."""
        return {name for form, name in self._forms.items() if form in text}


def _forms_of(data: bytes) -> Iterator[tuple[str, str]]:
    # Without what asyncio leaves out: it shows what a future holds, cut down by reprlib.
    shown = {"as Python writes it": repr(data)[2:-1], "cut short": reprlib.repr(data)}
    shown |= {"as Latin-1": data.decode("latin-1"), "as a string of Latin-1": repr(data.decode("latin-1"))[1:-1]}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        pass  # a key, and no text
    else:
        shown |= {
            "as it is": text,
            "as a string": repr(text)[1:-1],
            "in ASCII": ascii(text)[1:-1],
            "cut short as a string": reprlib.repr(text)[1:-1],
            "in XML": escape(text, {"'": "&apos;", '"': "&quot;"}),
            "in a URI": quote(text, safe=""),
        }
    shown |= {"in hexadecimal": data.hex(), "in capital hexadecimal": data.hex().upper()}
    shown["as numbers"] = ", ".join(map(str, data))
    # Wherever it stands in something longer: base64 at three places, less the characters that neighbours take part in.
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data).decode()
        inner = whole[(0, 2, 3)[before] :].rstrip("=")
        if (before + len(data)) % 3:
            inner = inner[:-1]
        shown[f"in base64 at {before}"] = inner
        shown[f"in base64 for URIs at {before}"] = inner.replace("+", "-").replace("/", "_")
    yield from shown.items()


class Walk:
    """Goes through objects as a program can: their texts, and whatever their public attributes lead to.

    Args:
        secrets: what to look for. exempt: attributes that are not followed, as (class, name), for they are the secret's
            own place.

    Attributes:
        found: each place where something is shown, and what. kinds: the classes that were seen.
    """

    def __init__(self, secrets: Secrets, exempt: Set[tuple[type, str]] = frozenset()) -> None:
        self._secrets = secrets
        self._exempt = exempt
        self._done: dict[int, object] = {}  # kept, or another object might get its id
        self._texts: set[str] = set()
        self.found: list[str] = []
        self.kinds: set[type] = set()

    def look(self, where: str, value: object, depth: int = 0) -> None:
        """Go through a value and all that it leads to."""
        if value is None or isinstance(value, (bool, int, float)):
            return
        if isinstance(value, str):
            self._text(where, str.__str__(value))
            return
        if isinstance(value, (bytes, bytearray, memoryview)):
            self._text(where, repr(bytes(value)))
            self._text(where, bytes(value).decode("latin-1"))
            self._text(where, bytes(value).decode("utf-8", "replace"))
            self._text(where, bytes(value).hex())
            return
        if id(value) in self._done or isinstance(value, (type, Enum, TracebackType)):
            return
        assert depth < MAX_DEPTH, f"{where} is deeper than can be looked into"
        self._done[id(value)] = value
        self.kinds.add(type(value))
        for how, shown in (("repr", repr(value)), ("str", str(value)), ("format", format(value))):
            self._text(f"{how} of {where}", shown)
        for name, inner in self._inside(value):
            self.look(f"{where}{name}", inner, depth + 1)

    def _text(self, where: str, text: str) -> None:
        if text in self._texts:
            return
        self._texts.add(text)
        for name in sorted(self._secrets.within(text)):
            self.found.append(f"{name} in {where}: {text[:200]!r}")

    def _inside(self, value: object) -> Iterable[tuple[str, object]]:
        if isinstance(value, Node):
            for element in value.iter():
                yield f" <{element.tag}>", [element.tag, element.text, element.tail, *element.items()]
            return
        if isinstance(value, Mapping):
            yield from ((f"[{key!r}]", pair) for key, pair in ((key, (key, item)) for key, item in value.items()))
            return
        if isinstance(value, (list, tuple, set, frozenset)):
            yield from ((f"[{place}]", item) for place, item in enumerate(value))
            if not hasattr(value, "_fields"):
                return
        if isinstance(value, logging.LogRecord):
            yield " as logged", logging.Formatter("%(name)s %(message)s").format(value)
        if isinstance(value, BaseException):
            yield " args", value.args
            yield " as printed", "".join(traceback.format_exception(value))
            yield " cause", value.__cause__
            yield " context", value.__context__
            if isinstance(value, PcjError):
                yield " pickled", value.__reduce__()[1:]
        if callable(getattr(value, "to_json", None)):
            yield ".to_json()", value.to_json()  # type: ignore[attr-defined]
        if callable(getattr(value, "explain", None)):
            yield ".explain()", value.explain()  # type: ignore[attr-defined]
        for name in _public(value):
            if not any(isinstance(value, kind) and name == exempt for kind, exempt in self._exempt):
                yield f".{name}", _read(value, name)


def _public(value: object) -> Iterator[str]:
    """The attributes that are no methods, and no matter of its own."""
    for name in dir(value):
        if not name.startswith("_") and not callable(getattr(type(value), name, None)):
            yield name


def _read(value: object, name: str) -> Any:
    """An attribute, or what is said where it cannot be read (a property may refuse)."""
    try:
        found = getattr(value, name)
    except Exception as error:
        return error
    # A function, a task and the like are no data of their own; but what they are written as can show what they hold.
    ours = type(found).__module__.partition(".")[0] in ("pcj", "builtins", "xml", "tests") or isinstance(found, Mapping)
    return found if ours and not callable(found) else repr(found)
