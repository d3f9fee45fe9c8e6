"""Remote text on its way to a terminal: nothing in it may move the cursor, change colours or turn the writing round."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["shown", "shown_json"]

# Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties) where Python counts it as printable, and the blank of
# Braille: a name with one of these looks like another's.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def shown(text: str) -> str:
    """`text` on one line, with whatever cannot be seen written as an escape: controls (those of ANSI sequences among
    them), directions (bidi), line separators, blanks but the usual one, invisible and private characters, lone
    surrogates.
    """
    if _is_plain(text):
        return text
    return "".join(character if _is_plain(character) else _escape(character) for character in text)


def shown_json(line: str) -> str:
    """The same for one line of JSON, by JSON's own escapes: such characters stand only inside its strings."""
    if _is_plain(line):
        return line
    return "".join(character if _is_plain(character) else _json_escape(character) for character in line)


def _is_plain(text: str) -> bool:
    return text.isprintable() and (text.isascii() or _UNSEEN.search(text) is None)


def _escape(character: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if named is not None:
        return named
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
