"""SCRAM and DIGEST-MD5 a second time, straight from the RFCs: what a server that knows the password would say.

Our own mechanisms are held against it, so it shares no line with `pcj.sasl`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

__all__ = ["ITERATIONS", "decoded", "digest_challenge", "digest_proof", "scram_first", "scram_proof"]

#: PBKDF2's rounds: few, since every input makes some.
ITERATIONS: Final = 4
_SALT: Final = base64.b64encode(b"salt").decode()
# A directive of our own digest-response.
_DIRECTIVE = re.compile(rb'([a-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^,]*))(?:,|\Z)', re.DOTALL)


def scram_first(client_first: bytes) -> bytes:
    """The server-first-message (RFC 5802 3)."""
    _, _, nonce = client_first.rpartition(b",r=")
    return b"r=%sserver,s=%s,i=%d" % (nonce, _SALT.encode(), ITERATIONS)


def scram_proof(mechanism: str, password: str, client_first: bytes, server_first: bytes, client_final: bytes) -> bytes:
    """RFC 5802 3: the ServerSignature in base64, for messages that our side took for good."""
    algorithm = mechanism.removesuffix("-PLUS").removeprefix("SCRAM-").replace("-", "").lower()
    attributes = dict(part.split(b"=", 1) for part in server_first.split(b",")[:3])
    bare = client_first.split(b",", 2)[2]
    unproved = client_final[: client_final.rindex(b",p=")]
    salted = hashlib.pbkdf2_hmac(
        algorithm, password.encode(), base64.b64decode(attributes[b"s"]), int(attributes[b"i"])
    )
    key = hmac.digest(salted, b"Server Key", algorithm)
    return base64.b64encode(hmac.digest(key, b",".join((bare, server_first, unproved)), algorithm))


def digest_challenge(nonce: bytes = b"server") -> bytes:
    """A digest-challenge (RFC 2831 2.1.1)."""
    return b'realm="example.org",nonce="%s",qop="auth",charset=utf-8,algorithm=md5-sess' % nonce


def digest_proof(response: bytes, password: str) -> bytes:
    """The rspauth for a digest-response (RFC 2831 2.1.3)."""
    said: dict[bytes, bytes] = {}
    for name, quoted, bare in _DIRECTIVE.findall(response):
        said[name] = re.sub(rb"\\(.)", rb"\1", quoted, flags=re.DOTALL) or bare
    coded = "utf-8" if b"charset" in said else "iso-8859-1"
    secret = b":".join(
        _latin1(text) for text in (said[b"username"].decode(coded), said[b"realm"].decode(coded), password)
    )
    first = [hashlib.md5(secret).digest(), said[b"nonce"], said[b"cnonce"], *_some(said.get(b"authzid"))]
    middle = [said[name] for name in (b"nonce", b"nc", b"cnonce", b"qop")]
    second = hashlib.md5(b":" + said[b"digest-uri"]).hexdigest().encode()
    parts = [hashlib.md5(b":".join(first)).hexdigest().encode(), *middle, second]
    return hashlib.md5(b":".join(parts)).hexdigest().encode()


def _some(value: bytes | None) -> list[bytes]:
    return [] if value is None else [value]


def _latin1(text: str) -> bytes:
    """RFC 2831 2.1.2.1: what is entirely in ISO 8859-1 is hashed in it."""
    try:
        return text.encode("iso-8859-1")
    except UnicodeEncodeError:
        return text.encode()


def decoded(text: bytes) -> bytes:
    """What base64 stands for."""
    return base64.b64decode(text)
