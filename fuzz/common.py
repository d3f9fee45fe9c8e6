"""What the targets share, and how they are found.

A target is a module of `fuzz.targets`. Its docstring states the invariant; `ALLOWED` are the only exceptions that the
code under test may raise; `one_input` is given any bytes and raises, whatever it raises, only if the invariant broke.
It has no memory, so that an input does the same when it is replayed by itself, without atheris.
"""

from __future__ import annotations

import importlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fuzz.targets import TARGETS

__all__ = [
    "CORPUS",
    "TARGETS",
    "Target",
    "corpus_of",
    "cut",
    "digits",
    "head_and_body",
    "load",
    "shape",
    "shown_safely",
    "target_in",
]

#: Seeds and found cases, one folder for each target; `./check` replays them.
CORPUS: Final = Path(__file__).parent / "corpus"
#: Bytes of the longest input that the fuzzer makes, where a target does not say `MAX_BYTES`.
USUAL_BYTES: Final = 2048
#: Characters of the longest sentence that an error may have: it quotes what the peer sent, but not all of it.
MAX_SENTENCE: Final = 4096

Shape = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    Attributes:
        name: of its module, and of its folder in the corpus. invariant: its docstring. allowed: its `ALLOWED`.
        one_input: what an input is handed to. dictionary: words that the fuzzer puts in. max_bytes: of an input.
    """

    name: str
    invariant: str
    allowed: tuple[type[Exception], ...]
    one_input: Callable[[bytes], None]
    dictionary: tuple[bytes, ...] = ()
    max_bytes: int = USUAL_BYTES


def load(name: str) -> Target:
    """Import a target.

    Raises:
        KeyError: there is none of that name.
    """
    if name not in TARGETS:
        raise KeyError(name)
    return target_in(f"fuzz.targets.{name}")


def target_in(module_name: str) -> Target:
    """The target that a module is."""
    module = importlib.import_module(module_name)
    return Target(
        module_name.rpartition(".")[2],
        module.__doc__ or "",
        module.ALLOWED,
        module.one_input,
        getattr(module, "DICTIONARY", ()),
        getattr(module, "MAX_BYTES", USUAL_BYTES),
    )


def corpus_of(name: str) -> list[Path]:
    """The inputs that are kept of a target, in a fixed order."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())


# ---- inputs


def head_and_body(data: bytes) -> tuple[bytes, bytes]:
    """The first line, which says how, and the rest, which says what."""
    head, _, body = data.partition(b"\n")
    return head, body


def digits(text: bytes) -> list[int]:
    """The sizes that a line names: of each digit its value, of each other byte its own."""
    return [byte - 48 if 48 < byte < 58 else byte for byte in text if byte > 32 and byte != 48]


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, over and over; without sizes whole."""
    if not sizes:
        if data:
            yield data
        return
    at = turn = 0
    while at < len(data):
        size = max(1, sizes[turn % len(sizes)])
        yield data[at : at + size]
        at += size
        turn += 1


def splice(text: bytes, how: bytes) -> bytes:
    """`text` with an edit: how[0] says where (of 256 parts), how[1] how many bytes go, the rest is what comes there."""
    if not how:
        return text
    at = how[0] * len(text) // 256
    gone = how[1] if len(how) > 1 else 0
    return text[:at] + how[2:] + text[at + gone :]


# ---- what comes out


def shape(node: ET.Element, *, tail: bool = True) -> Shape:
    """All that a node holds, to be compared. ElementTree has two ways to say that there is no text."""
    # Not recursive: how deep nodes are is the peer's to say.
    flat: list[object] = []
    waiting: list[tuple[ET.Element, int]] = [(node, 0)]
    while waiting:
        element, depth = waiting.pop()
        behind = (element.tail or "") if depth or tail else ""
        flat.append((depth, element.tag, tuple(sorted(element.attrib.items())), element.text or "", behind))
        waiting += [(child, depth + 1) for child in reversed(element)]
    return tuple(flat)


def depth_of(node: ET.Element) -> int:
    """Levels of elements in `node`, itself the first."""
    deepest = 0
    waiting = [(node, 1)]
    while waiting:
        element, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in element]
    return deepest


@dataclass(slots=True)
class Witnessed:
    """What ElementTree's own parser makes of a stream.

    Attributes:
        root: its start. children: the complete ones. before_text: how many of them came before any text between them.
        ended: the root's end was seen. broken: what came then is no XML.
    """

    root: ET.Element | None = None
    children: list[Shape] = field(default_factory=list)
    before_text: int = 0
    ended: bool = False
    broken: bool = False


def top_level(document: bytes) -> Witnessed:
    """Another way through the same grammar, without any of our bounds and boundaries."""
    parser: Any = ET.XMLPullParser(("start", "end"))
    seen = Witnessed()
    previous: ET.Element | None = None
    depth = 0
    try:
        parser.feed(document)
        for event, element in parser.read_events():
            depth += 1 if event == "start" else -1
            if event == "start" and seen.root is None:
                seen.root = element
            elif event == "end" and depth == 1 and seen.root is not None:
                between = seen.root.text if previous is None else previous.tail
                if seen.before_text == len(seen.children) and not (between or "").strip(" \t\r\n"):
                    seen.before_text += 1
                seen.children.append(shape(element, tail=False))
                previous = element
            elif event == "end" and depth == 0:
                seen.ended = True
                break
    except (ET.ParseError, ValueError, LookupError):  # the last two for encodings that Python does not know
        seen.broken = True
    return seen


def shown_safely(error: BaseException, secrets: Iterable[str] = ()) -> None:
    """An error's sentence is bounded, cannot steer a terminal, and tells none of `secrets`."""
    text = str(error)
    assert len(text) <= MAX_SENTENCE, f"a sentence of {len(text)} characters"
    assert text.isprintable(), f"it would steer a terminal: {text!a}"
    for secret in secrets:
        assert secret not in text, f"{secret!r} is told in {text!r}"
