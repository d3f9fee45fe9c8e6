"""Remote text on its way to a terminal: nothing in it may move the cursor, change colours or turn the writing round."""

from __future__ import annotations

__all__ = ["shown", "shown_json"]


def shown(text: str) -> str:
    """`text` on one line, with whatever is not printable written as an escape: controls (those of ANSI sequences among
    them), directions (bidi), line separators, invisible and private characters, lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def shown_json(line: str) -> str:
    """The same for one line of JSON, by JSON's own escapes: such characters stand only inside its strings."""
    if line.isprintable():
        return line
    return "".join(character if character.isprintable() else _json_escape(character) for character in line)


def _escape(character: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if named is not None:
        return named
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
