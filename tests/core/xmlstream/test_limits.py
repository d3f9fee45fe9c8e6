"""What both gears share: where a tag ends, what is quoted, what is mended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcj.xmlstream.limits import TagEnd, quoted, too_deep, without_braces
from tests.core.pieces import node

TAGS = [
    (b"<a>", 3),
    (b"<a/>x>", 4),
    (b"<a b='>'>", 9),
    (b"<a b=\">'>\" c='\">'/>", 19),
    (b"</a>", 4),
    (b"<a", -1),
    (b"<a b='>", -1),
    (b"<a b='<c>", 6),  # no tag has a "<" in it
    (b"<a <b>", 3),
    (b"<![CDATA[x]]>", 13),
    (b"<![CDATA[it's]]></a>", 16),
]


@pytest.mark.parametrize(("data", "end"), TAGS)
def test_the_end_of_a_tag(data: bytes, end: int) -> None:
    assert TagEnd().find(data, 1) == end
    assert TagEnd().find(bytearray(data), 1) == end


@given(st.text("<>'\"a= ").map(str.encode), st.integers(1, 5))
def test_the_end_of_a_tag_does_not_depend_on_the_parts(text: bytes, size: int) -> None:
    whole = TagEnd().find(text, 0)
    in_parts = TagEnd()
    for at in range(0, len(text), size):
        found = in_parts.find(text[at : at + size], 0)
        if found >= 0:
            assert at + found == whole
            return
    assert whole == -1


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", r"'SSH-2.0-OpenSSH_9.2\r\n'"),
        (b"\x1b[31m", r"'\x1b[31m'"),
        ("\u202eé".encode(), r"'\u202eé'"),
        (b"\xff\x00", r"'\\xff\x00'"),
        (b"x" * 81, "'" + "x" * 80 + "...'"),
    ],
)
def test_what_is_quoted_can_be_shown(data: bytes, shown: str) -> None:
    assert quoted(data).replace("\\\\", "\\") == shown.replace("\\\\", "\\")
    assert quoted(data).isprintable()


BRACES = [
    (b"<a>}</a>", b"<a>}</a>"),
    (b"<a xmlns='u}v'/>", b"<a xmlns='u%7Dv'/>"),
    (b'<a xmlns = "u}v}"/>', b'<a xmlns = "u%7Dv%7D"/>'),
    (b"<a\nxmlns:p='u}v' b='}' p:c='}'/>", b"<a\nxmlns:p='u%7Dv' b='}' p:c='}'/>"),
    (b"<a b=' xmlns=\"u}v\"'/>", b"<a b=' xmlns=\"u}v\"'/>"),
    (b"<a xmlnsx='u}v' y:xmlns='}'/>", b"<a xmlnsx='u}v' y:xmlns='}'/>"),
    (b"<a>&lt;b xmlns='u}v'/></a>", b"<a>&lt;b xmlns='u}v'/></a>"),
    (b"<a><![CDATA[<b xmlns='u}v'/>]]></a>", b"<a><![CDATA[<b xmlns='u}v'/>]]></a>"),
    (b"<a><![CDATA[<b xmlns='u}v'/>", b"<a><![CDATA[<b xmlns='u}v'/>"),
    (b"</a> xmlns='}' <b xmlns='}'><c>", b"</a> xmlns='}' <b xmlns='%7D'><c>"),
]


@pytest.mark.parametrize(("data", "mended"), BRACES)
def test_braces_are_mended_in_namespaces_only(data: bytes, mended: bytes) -> None:
    assert without_braces(data) == mended


def test_depth() -> None:
    assert not too_deep(node("<a/>"), 1)
    assert too_deep(node("<a><b/></a>"), 1)
    assert not too_deep(node("<a><b/><c/></a>"), 2)
    assert too_deep(node("<a><b><d/></b><c/></a>"), 2)
