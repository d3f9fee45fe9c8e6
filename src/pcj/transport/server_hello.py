"""Whether the server agreed to the extended master secret, read from its first bytes.

Neither Python's ssl nor pyOpenSSL tells. Up to TLS 1.2 the ServerHello is in clear, and once the handshake is done its
Finished messages have proved that nobody changed it (RFC 5246 7.4.9).
"""

from __future__ import annotations

from typing import Final

__all__ = ["HELLO_BYTES", "has_extended_master_secret"]

#: How many of the server's first bytes are looked at. A ServerHello of TLS 1.2 has some 100.
HELLO_BYTES: Final = 1024

_ALERT: Final = 0x15
_HANDSHAKE: Final = 0x16
_SERVER_HELLO: Final = 2
_TLS_1_2: Final = b"\x03\x03"
_EXTENDED_MASTER_SECRET: Final = 0x0017  # RFC 7627 5.1


def has_extended_master_secret(first: bytes) -> bool:
    """Whether the ServerHello of a TLS 1.2 session has the extension extended_master_secret (RFC 7627).

    OpenSSL asks for it in every handshake, refuses an answer that it did not ask for, and must use what was agreed: so
    its presence is its use.

    Args:
        first: what the server sent first, at most `HELLO_BYTES` of it.

    Returns:
        False also where it cannot be told: what rests on it is then not done.
    """
    message = b""
    at = 0
    # The first handshake message, over as many records as it takes (RFC 5246 6.2.1). A warning may come before it.
    while at + 5 <= len(first) and first[at] in (_ALERT, _HANDSHAKE):
        length = int.from_bytes(first[at + 3 : at + 5], "big")
        if first[at] == _HANDSHAKE:
            message += first[at + 5 : at + 5 + length]
        at += 5 + length
    body = message[4 : 4 + int.from_bytes(message[1:4], "big")]
    # ServerHello (RFC 5246 7.4.1.3): version, random, session_id, cipher_suite, compression_method, extensions.
    if message[:1] != bytes([_SERVER_HELLO]) or body[:2] != _TLS_1_2 or len(body) < 35:
        return False
    at = 35 + body[34] + 3
    extensions = body[at + 2 : at + 2 + int.from_bytes(body[at : at + 2], "big")]
    at = 0
    while at + 4 <= len(extensions):
        if int.from_bytes(extensions[at : at + 2], "big") == _EXTENDED_MASTER_SECRET:
            return True
        at += 4 + int.from_bytes(extensions[at + 2 : at + 4], "big")
    return False
