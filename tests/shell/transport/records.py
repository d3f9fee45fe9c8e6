"""Records that no library's server sends, made with the keys of a session."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SUITE_1_3 = "TLS_AES_256_GCM_SHA384"
SUITE_1_2 = "ECDHE-ECDSA-AES256-GCM-SHA384"


def logged(context: ssl.SSLContext, folder: Path) -> Path:
    """Where the keys of a server's sessions are written."""
    log = folder / "keys"
    context.keylog_filename = str(log)
    return log


def secret_in(log: Path, label: str) -> bytes:
    """The secret on the first line of this label (NSS Key Log Format)."""
    line = next(line for line in log.read_text().splitlines() if line.startswith(label))
    return bytes.fromhex(line.split()[2])


class Tls13:
    """The server's side of a session of TLS 1.3 in which it has sent no record yet."""

    def __init__(self, log: Path) -> None:
        self._secret = secret_in(log, "SERVER_TRAFFIC_SECRET_0")
        self._sent = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        info = length.to_bytes(2, "big") + bytes([6 + len(label)]) + b"tls13 " + label + b"\x00"
        return hmac.digest(self._secret, info + b"\x01", "sha384")[:length]

    def seal(self, content: bytes, kind: int) -> bytes:
        """A record (RFC 8446 5.2)."""
        header = b"\x17\x03\x03" + (len(content) + 17).to_bytes(2, "big")
        iv = int.from_bytes(self._expand(b"iv", 12), "big") ^ self._sent
        sealed = AESGCM(self._expand(b"key", 32)).encrypt(iv.to_bytes(12, "big"), content + bytes([kind]), header)
        self._sent += 1
        return header + sealed

    def key_update(self) -> bytes:
        """KeyUpdate, update_requested (RFC 8446 4.6.3); what follows is under the next key."""
        record = self.seal(b"\x18\x00\x00\x01\x01", 0x16)
        self._secret = self._expand(b"traffic upd", 48)
        self._sent = 0
        return record

    def ticket(self, size: int) -> bytes:
        """NewSessionTicket (RFC 8446 4.6.1)."""
        body = bytes(4) + bytes(4) + b"\x01n" + size.to_bytes(2, "big") + bytes(size) + b"\x00\x00"
        return self.seal(b"\x04" + len(body).to_bytes(3, "big") + body, 0x16)


class Tls12:
    """The server's side of a session of TLS 1.2 in which it has sent its Finished and no more."""

    def __init__(self, log: Path, client_random: bytes, server_random: bytes) -> None:
        self._keys = _prf(secret_in(log, "CLIENT_RANDOM"), b"key expansion" + server_random + client_random)
        self._sent = 1

    def seal(self, content: bytes, kind: int) -> bytes:
        """A record (RFC 5288 3): client_write_key, server_write_key, client_write_IV, server_write_IV."""
        key, iv = self._keys[32:64], self._keys[68:72]
        number = self._sent.to_bytes(8, "big")
        header = bytes([kind]) + b"\x03\x03"
        sealed = AESGCM(key).encrypt(iv + number, content, number + header + len(content).to_bytes(2, "big"))
        self._sent += 1
        return header + (len(sealed) + 8).to_bytes(2, "big") + number + sealed

    def hello_request(self) -> bytes:
        """Please begin anew (RFC 5246 7.4.1.1)."""
        return self.seal(b"\x00\x00\x00\x00", 0x16)


def _prf(secret: bytes, seed: bytes) -> bytes:
    """P_SHA384 (RFC 5246 5), as much as two keys and IVs take."""

    def pieces() -> Iterator[bytes]:
        a = seed
        for _ in range(2):
            a = hmac.digest(secret, a, "sha384")
            yield hmac.digest(secret, a + seed, "sha384")

    return b"".join(pieces())
