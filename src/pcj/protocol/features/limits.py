"""What the server takes (XEP-0478): read in each <stream:features>, never asked for."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from pcj.events import Event
from pcj.namespaces import STREAM_LIMITS as NS
from pcj.protocol.steps import Publish, Step, StreamLimits
from pcj.stanza import Node
from pcj.xmlstream.limits import WHITE_SPACE

__all__ = ["read_limits"]

_LIMITS: Final = f"{{{NS}}}limits"
_MAX_BYTES: Final = f"{{{NS}}}max-bytes"
_IDLE_SECONDS: Final = f"{{{NS}}}idle-seconds"
#: RFC 6120 13.12: no server may take less.
LEAST_BYTES: Final = 10_000
#: XEP-0478, its schema: both are an xs:unsignedInt.
LARGEST: Final = 4_294_967_295
_DIGITS: Final = 10


def read_limits(features: Node, known: StreamLimits | None) -> Generator[Step, Any, StreamLimits | None]:
    """The limits in `features`; those known of this stream where they say nothing of it.

    A server may leave them out of later features (protocol-notes A29), and may change them there (XEP-0478 4). What
    makes no sense is passed over with a WARNING: a limit that we do not understand is none that we could keep.
    """
    offered = features.findall(_LIMITS)
    if not offered:
        return known
    if len(offered) > 1:
        yield from _warn(f"the server announces its limits {len(offered)} times: none of them is kept")
        return known
    max_bytes = yield from _read(offered[0], _MAX_BYTES, known.max_bytes if known is not None else None)
    idle_seconds = yield from _read(offered[0], _IDLE_SECONDS, known.idle_seconds if known is not None else None)
    limits = StreamLimits(max_bytes, idle_seconds)
    if limits.max_bytes is not None and limits.max_bytes < LEAST_BYTES and limits != known:
        yield from _warn(
            f"the server takes {limits.max_bytes} bytes at most in one stanza; RFC 6120 13.12 forbids less than "
            f"{LEAST_BYTES}. It is kept all the same: what is larger is refused at output"
        )
    return limits


def _read(limits: Node, tag: str, known: int | None) -> Generator[Step, Any, int | None]:
    """One of them, or what was known of it."""
    given = [element.text or "" for element in limits.findall(tag)]
    number = _number(given)
    if given and number is None:
        name = tag.rpartition("}")[2]
        said = ", ".join(ascii(text[: _DIGITS + 1]) for text in given[:2])
        yield from _warn(f"the server announces <{name}> as {said}, which is no limit: it is not kept")
    return known if number is None else number


def _number(given: list[str]) -> int | None:
    """The one number that was given: ASCII digits, more than 0; None if it is none, or none alone."""
    if len(given) != 1:
        return None
    text = given[0].strip(WHITE_SPACE)
    if not (0 < len(text) <= _DIGITS and text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if 0 < number <= LARGEST else None


def _warn(what: str) -> Generator[Step, Any, None]:
    yield Publish(Event.WARNING, detail={"what": what})
