"""The ServerHello, read for one of its extensions: `pcj.transport.server_hello`.

Invariant. Any bytes are read without an error, into yes or no. It is yes only where a handshake record, a ServerHello
of TLS 1.2 and the extension stand in them, and what comes behind the extensions does not matter.

Input: the first bytes of a server.
"""

from __future__ import annotations

from pcj.transport.server_hello import HELLO_BYTES, has_extended_master_secret

__all__ = ["ALLOWED", "DICTIONARY", "MAX_BYTES", "one_input"]

ALLOWED = ()
MAX_BYTES = HELLO_BYTES
DICTIONARY: tuple[bytes, ...] = (
    b"\x16\x03\x03\x00\x5d",
    b"\x02\x00\x00\x59\x03\x03",
    b"\x00\x17\x00\x00",
    b"\xff\x01\x00\x01\x00",
    b"\x15\x03\x03\x00\x02\x01\x00",
)


def one_input(data: bytes) -> None:
    data = data[:HELLO_BYTES]
    if has_extended_master_secret(data):
        assert b"\x00\x17" in data
        assert b"\x16" in data
        assert b"\x03\x03" in data
        assert has_extended_master_secret(data + bytes(7))
