"""Nothing remote moves the cursor, changes colours or turns the writing round."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest

from pcj.cli.escape import shown, shown_json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, and Ünïcödé 漢字", "plain text, and Ünïcödé 漢字"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b31m", "\\x9b31m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\u202etxt.exe\u2066", "\\u202etxt.exe\\u2066"),
        ("\u2028\u200b\ufeff", "\\u2028\\u200b\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("a\u3164b\ufe0f\u034f\U000e0101", "a\\u3164b\\ufe0f\\u034f\\U000e0101"),
        ("\u00a0\u3000\u2800", "\\xa0\\u3000\\u2800"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("[bold red]no markup[/]", "[bold red]no markup[/]"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_no_control_and_no_direction_gets_through() -> None:
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    for plane in range(0, 0x110000, 0x10000):
        left = set(shown("".join(map(chr, range(plane, plane + 0x10000)))))
        assert not set(map(unicodedata.category, left)) & hidden
        # Nor what is there without being seen: no letter of these names has a shape.
        named = "\n".join(unicodedata.name(it, "") for it in left)
        assert not re.search("HANGUL[A-Z ]*FILLER|VARIATION SELECTOR|PATTERN BLANK|GRAPHEME JOINER", named)


@pytest.mark.parametrize("text", ["\x1b[31m", "\x9b\u202e\U000e0041\x7f", "漢字", 'say "hi"\\'])
def test_escaped_json_says_the_same(text: str) -> None:
    line = shown_json(json.dumps({"text": text}, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == {"text": text}
