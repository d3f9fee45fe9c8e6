"""Certificates as received: `pcj.transport.certificate`.

Invariant. Any bytes are read, or `ValueError` says why not. What was read is in the bytes: the key as it stands there,
no more text than they hold, dates with a zone, and a hash that exists. The same is read out of a PEM file.

Input: a certificate in DER.
"""

from __future__ import annotations

import base64
import hashlib
import re

from pcj.transport.certificate import Certificate, first_in_pem

__all__ = ["ALLOWED", "DICTIONARY", "one_input"]

ALLOWED = (ValueError,)
DICTIONARY: tuple[bytes, ...] = (
    b"\x30\x82",
    b"\x30\x80",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x06\x03\x55\x04\x03",
    b"\x06\x03\x55\x04\x0a",
    b"\x06\x03\x55\x1d\x11",
    b"\x06\x08\x2b\x06\x01\x05\x05\x07\x08\x05",
    b"\x06\x08\x2b\x06\x01\x05\x05\x07\x08\x07",
    b"\x17\x0d250101000000Z",
    b"\x18\x0f99991231235959Z",
    b"\x82\x0bexample.org",
    b"\x87\x04\x7f\x00\x00\x01",
    b"\xa0\x03\x02\x01\x02",
    b"\xa3",
    b"\x1e\x02\x00a",
    b"\x01\x01\xff",
)
#: Characters of text that one octet may become: "\\xff" where it is no ASCII.
SPREAD = 4


def one_input(data: bytes) -> None:
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(data).decode()}-----END CERTIFICATE-----\n"
    try:
        read = Certificate.parse(data)
    except ALLOWED as error:
        assert type(error) in (ValueError, UnicodeDecodeError), type(error)
        try:
            first_in_pem(pem)
        except ALLOWED:
            return
        raise AssertionError("as PEM it can be read") from error
    assert read.der == data
    assert read.public_key in data
    key, whole = read.pins
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", key)
    assert whole == "cert-sha256:" + hashlib.sha256(data).hexdigest()
    assert read.signature_hash is None or read.signature_hash in hashlib.algorithms_available
    assert read.not_before.tzinfo is not None
    assert read.not_after.tzinfo is not None
    texts = [read.subject, read.issuer, *read.names]
    assert sum(map(len, texts)) <= SPREAD * len(data) + 40 * len(read.ip_addresses)
    assert first_in_pem(pem) == read
