"""One element from bytes of its own."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from pcj.errors import ParseError
from pcj.serialize import to_bytes
from pcj.xmlstream import from_bytes
from tests.core.pieces import element

ACCEPTED = [
    "<a/>",
    " \r\n\t<a/> \n",
    "<?xml version='1.0'?><a/>",
    "  <?xml version='1.0' encoding='utf-8' standalone='yes'?>\n<a/>",
    "<a b='x>y'>é&amp;<![CDATA[<&>]]></a>",
    "<p:a xmlns:p='urn:p'/>",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text: str) -> None:
    expected = element(ET.fromstring(text.lstrip()))
    assert element(from_bytes(text)) == expected
    assert element(from_bytes(text.encode())) == expected


REFUSED: list[tuple[bytes | str, str]] = [
    (b"", "there is no element"),
    (b" \n", "there is no element"),
    (b"<?xml version='1.0'?>", "there is no element"),
    (b"x", "this is not an XMPP stream"),
    (b"<a>", "no element found"),
    (b"<a/><b/>", "junk after document element"),
    (b"<a/>x", "junk after document element"),
    (b"<!DOCTYPE a><a/>", "a DOCTYPE, which RFC 6120 11.1 forbids"),
    (b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "a DOCTYPE, which RFC 6120 11.1 forbids"),
    (b"<!-- x --><a/>", "a declaration or a comment, which"),
    (b"<a><!-- x --></a>", "the bytes hold a comment"),
    (b"<a/><!-- x -->", "the bytes hold a comment"),
    (b"<a><?b c?></a>", "the bytes hold a processing instruction"),
    (b"<?b c?><a/>", "the bytes hold a processing instruction"),
    (b"<a>&b;</a>", "this is what is not well-formed XML"),
    (b"<p:a/>", "unbound prefix"),
    (b"<a>\xff</a>", "invalid token"),
    ("<a>\ud800</a>", "invalid token"),
    ("<a>\x00</a>", "invalid token"),
    (b"\xef\xbb\xbf<a/>", "this is not an XMPP stream"),
    ("<a/>".encode("utf-16"), "UTF-16"),
    (b"<?xml version='1.0' encoding='latin-1'?><a/>", "the encoding 'latin-1', not UTF-8"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(data: bytes | str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        from_bytes(data)


def test_a_brace_in_a_namespace_is_read() -> None:
    assert to_bytes(from_bytes("<a xmlns='u}v'>}</a>")) == b'<a xmlns="u%7Dv">}</a>'
