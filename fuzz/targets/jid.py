"""Addresses: `pcj.jid`.

Invariant. Any text is an address or `JidError` says why not, in a bounded sentence that is safe to print. The text of
an address is an address that is equal, of equal hash, and reads the same again. Its parts make the same one, each of 1
to 1023 octets; its domain can be written for DNS in ASCII; and it is the same address as the text it was made of.

Input: the text, in UTF-8.
"""

from __future__ import annotations

from fuzz.common import shown_safely
from pcj.errors import JidError
from pcj.jid import JID, MAX_PART_OCTETS, same_address

__all__ = ["ALLOWED", "DICTIONARY", "MAX_BYTES", "one_input"]

ALLOWED = (JidError,)
MAX_BYTES = 512
DICTIONARY: tuple[bytes, ...] = (
    b"@",
    b"/",
    b"romeo@example.org/orchard",
    b"example.org",
    b".",
    b"xn--",
    b"xn--bcher-kva",
    b"[::1]",
    b"[fe80::1%eth0]",
    b"127.0.0.1",
    "ß".encode(),
    "ς".encode(),
    "ﬀ".encode(),
    "İ".encode(),
    "＠".encode(),
    "。".encode(),
    "ﾀ".encode(),
    "\u200d".encode(),
    "\u0660".encode(),
    "א".encode(),
    "e\u0301".encode(),
    "\u00ad".encode(),
    "\u1e9e".encode(),
    "\U0001f511".encode(),
    "\u0345".encode(),
    "\u3000".encode(),
    b"\x7f",
    b"\x00",
)


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        jid = JID.parse(text)
    except ALLOWED as error:
        shown_safely(error)
        return
    written = str(jid)
    again = JID.parse(written)
    assert again == jid, f"{jid!r} reads as {again!r}"
    assert hash(again) == hash(jid)
    assert str(again) == written
    assert JID(jid.local, jid.domain, jid.resource) == jid
    for part in (jid.local, jid.domain, jid.resource):
        assert part is None or 1 <= len(part.encode()) <= MAX_PART_OCTETS
    # Cherokee alone has capitals that folding leaves, and makes (Unicode 8).
    assert not any(each.isupper() and each.casefold() != each for each in jid.domain)
    assert "/" not in jid.domain
    assert "@" not in jid.domain
    assert jid.local is None or not set(jid.local) & set("\"&'/:<>@ ")
    assert jid.bare.with_resource(jid.resource) == jid
    assert jid.is_bare == (jid.resource is None)
    assert jid.full == written
    name = jid.ascii_domain
    assert name.isascii()
    assert name.isprintable()
    if ":" not in name:
        assert JID(None, name).domain == jid.domain, "the name for DNS is another's"
    assert same_address(text, written)
