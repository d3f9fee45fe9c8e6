"""DIGEST-MD5 (RFC 2831, made historic by RFC 6331): what jabberd2's router and other old servers still ask for.

Only qop "auth" is done, with a fresh nonce each time (nc=00000001). It is weaker than SCRAM: MD5, no iterations.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import md5

from pcj.errors import ConfigError, SaslError
from pcj.sasl.saslprep import check_authzid, prepare_identity, prepare_password
from pcj.sasl.steps import (
    NO_CHANNEL,
    Channel,
    Credentials,
    Exchange,
    Guard,
    Limits,
    Mechanism,
    Respond,
    await_proof,
    challenge_of,
    quote,
)

__all__ = ["DIGEST_MD5", "exchange"]

MAX_CHALLENGE_BYTES = 2048
"""RFC 2831 2.1.1 keeps a digest-challenge below it."""

MAX_RESPONSE_BYTES = 4096
"""RFC 2831 2.1.2 keeps a digest-response below it."""

_NAME = "DIGEST-MD5"
_NONCE_COUNT = "00000001"
# RFC 2831 7.1: token = 1*<any CHAR except CTLs or separators>; a quoted string escapes any character with "\".
_DIRECTIVE = re.compile(
    r"""[ \t\r\n]*([!#$%&'*+\-.0-9A-Z^_`a-z|~]+)[ \t\r\n]*=[ \t\r\n]*"""
    r"""(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+\-.0-9A-Z^_`a-z|~]+))[ \t\r\n]*(?:,|\Z)""",
    re.DOTALL,
)
# The list rule of RFC 2831 7.1 lets elements be empty.
_EMPTY = re.compile(r"[ \t\r\n]*(?:,|\Z)")
# "realm" alone may come more than once (RFC 2831 2.1.1).
_SINGLE = frozenset(
    {"nonce", "qop", "stale", "maxbuf", "charset", "algorithm", "cipher", "rspauth"}
    | {"username", "cnonce", "nc", "digest-uri", "response", "authzid"}
)


@dataclass(frozen=True, slots=True)
class Question:
    """The parts of a digest-challenge that matter here; texts are decoded."""

    nonce: str
    realms: tuple[str, ...]
    utf8: bool


def exchange(credentials: Credentials, nonce: str, limits: Limits, channel: Channel = NO_CHANNEL) -> Exchange:
    """One DIGEST-MD5 authentication.

    Args:
        credentials: all fields are used.
        nonce: ours (the cnonce); ASCII, fresh, at least 64 random bits (RFC 2831 2.1.2).
        limits, channel: not used.

    Returns:
        The generator: see `pcj.sasl.steps`. It starts without initial response.

    Raises:
        ConfigError: (from the first step) the credentials cannot be used.
        SaslError: the server broke a rule, offers only what we do not do, or did not prove that it knows the password.
    """
    # RFC 2831 names no preparation. What would have succeeded it (RFC 6331 2) names SASLprep, and servers use it.
    username = prepare_identity(credentials.username)
    password = prepare_password(credentials.password).decode("utf-8")
    authzid = check_authzid(credentials.authzid)
    if not (nonce.isascii() and nonce.isprintable() and nonce):
        raise ConfigError("The client nonce of DIGEST-MD5 must be printable ASCII.")

    reply = yield Respond(None)
    question = read_challenge(challenge_of(reply, _NAME, "digest-challenge"))
    realm = credentials.realm
    if realm is None:
        realm = question.realms[0] if question.realms else credentials.host
    uri = f"{credentials.service}/{credentials.host}"
    directives = {
        "username": username,
        "realm": realm,
        "nonce": question.nonce,
        "cnonce": nonce,
        "nc": _NONCE_COUNT,
        "qop": "auth",
        "digest-uri": uri,
        **({"authzid": authzid} if authzid else {}),
        **({"charset": "utf-8"} if question.utf8 else {}),
    }
    secret = hash_of_secret(username, realm, password, utf8=question.utf8)
    directives["response"] = digest(secret, directives, "AUTHENTICATE", utf8=question.utf8)
    expected = digest(secret, directives, "", utf8=question.utf8)

    def verify(data: bytes) -> None:
        came = read_directives(data).get("rspauth", [""])[0]
        # RFC 2831 2.1.3: the server proves by it that it knows the password (its H(user:realm:password)).
        if not hmac.compare_digest(came.encode("utf-8"), expected.encode("ascii")):
            raise SaslError(
                "The server did not prove in DIGEST-MD5 that it knows the password: its rspauth is "
                + ("wrong." if came else "missing."),
                expected="rspauth",
                came="another" if came else "none",
            )

    reply = yield Respond(write_directives(directives, utf8=question.utf8))
    yield from await_proof(reply, verify, _NAME)


def read_challenge(data: bytes) -> Question:
    """Take a digest-challenge apart and hold it against RFC 2831 2.1.1.

    Raises:
        SaslError: malformed, too long, or without what we can do (qop "auth", algorithm md5-sess, UTF-8 or Latin-1).
    """
    directives = read_directives(data)
    nonce = directives.get("nonce", [""])[0]
    if not nonce:
        raise SaslError("The server's DIGEST-MD5 challenge has no nonce.", expected="nonce")
    # RFC 2831 2.1.1: algorithm "is required and MUST appear exactly once; if it is not present ... the client should
    # abort"; an absent qop means "auth".
    algorithm = directives.get("algorithm", [""])[0]
    if algorithm.lower() != "md5-sess":
        raise SaslError("The server's DIGEST-MD5 algorithm is none we do.", expected="md5-sess", came=quote(algorithm))
    offered = directives.get("qop", ["auth"])[0]
    if "auth" not in [word.strip(" \t\r\n").lower() for word in offered.split(",")]:
        raise SaslError(
            f"The server's DIGEST-MD5 offers only the protection {quote(offered)}, which TLS has replaced.",
            expected="auth",
            came=quote(offered),
        )
    charset = directives.get("charset")
    if charset is not None and charset[0].lower() != "utf-8":
        raise SaslError(
            "The server's DIGEST-MD5 names a character set that RFC 2831 does not have.",
            expected="utf-8 or none",
            came=quote(charset[0]),
        )
    return Question(nonce, tuple(directives.get("realm", ())), charset is not None)


def read_directives(data: bytes, max_bytes: int = MAX_CHALLENGE_BYTES) -> dict[str, list[str]]:
    """Split a list of directives into name (lower case) -> values (unquoted).

    Args:
        data: as received. It is read as UTF-8 where a directive charset says so, else as ISO 8859-1 (RFC 2831 2.1.1).
        max_bytes: the most octets taken.

    Returns:
        One value for each name, except "realm", which can have more. Unknown directives are kept.

    Raises:
        SaslError: malformed, longer than allowed, or with a single directive twice.
    """
    if len(data) > max_bytes:
        raise SaslError(f"A DIGEST-MD5 message has {len(data)} octets; we take {max_bytes}.")
    # ISO 8859-1 first: it keeps every octet, and the directive that says otherwise may stand last.
    text = data.decode("iso-8859-1")
    directives: dict[str, list[str]] = {}
    position = 0
    while position < len(text):
        match = _DIRECTIVE.match(text, position)
        if match is not None:
            name = match[1].lower()
            value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2], flags=re.DOTALL)
            if name in directives and name in _SINGLE:
                raise SaslError(f"DIGEST-MD5 has the directive {quote(name)} twice.", condition="malformed-request")
            directives.setdefault(name, []).append(value)
        else:
            match = _EMPTY.match(text, position)
        if match is None:
            raise SaslError(
                f"DIGEST-MD5 is malformed at octet {position + 1}.",
                condition="malformed-request",
                expected="name=value, separated by commas",
                came=quote(text[position:]),
            )
        position = match.end()
    if not directives:
        raise SaslError("DIGEST-MD5 has no directive.", condition="malformed-request", expected="nonce")
    if directives.get("charset", [""])[0].lower() == "utf-8":
        try:
            return {
                name: [value.encode("iso-8859-1").decode("utf-8") for value in values]
                for name, values in directives.items()
            }
        except UnicodeDecodeError:
            raise SaslError("DIGEST-MD5 says UTF-8 and is not.", condition="malformed-request") from None
    return directives


def write_directives(directives: Mapping[str, str], *, utf8: bool) -> bytes:
    """Write a digest-response: quoted where RFC 2831 2.1.2 quotes.

    Raises:
        SaslError: the server has no UTF-8, and a name cannot be written without; or the result is too long.
    """
    bare = ("nc", "qop", "charset", "response", "algorithm")
    parts = []
    for name, value in directives.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f"{name}={value}" if name in bare else f'{name}="{escaped}"')
    data = _encode(",".join(parts), utf8=utf8)
    if len(data) >= MAX_RESPONSE_BYTES:
        raise SaslError(f"Our DIGEST-MD5 response has {len(data)} octets; RFC 2831 2.1.2 allows {MAX_RESPONSE_BYTES}.")
    return data


def hash_of_secret(username: str, realm: str, password: str, *, utf8: bool) -> bytes:
    """RFC 2831 2.1.2.1: H({ username-value, ":", realm-value, ":", passwd }).

    The RFC: with charset=utf-8, what is entirely in ISO 8859-1 is converted to it before it is hashed.

    Raises:
        SaslError: the server has no UTF-8, and one of them cannot be written without.
    """
    parts = []
    for text in (username, realm, password):
        octets = _latin1(text)
        parts.append(_encode(text, utf8=utf8) if octets is None else octets)
    return _md5(b":".join(parts))


def digest(secret: bytes, directives: Mapping[str, str], method: str, *, utf8: bool) -> str:
    """The response-value (method "AUTHENTICATE") or the rspauth (method ""), RFC 2831 2.1.2.1 and 2.1.3.

    Args:
        secret: of `hash_of_secret`. directives: of the digest-response. utf8: how its texts are encoded.

    Returns:
        32 lower-case hexadecimal digits.
    """

    def octets(*names: str) -> bytes:
        return _encode(":".join(directives[name] for name in names), utf8=utf8)

    identity = ("authzid",) if "authzid" in directives else ()
    first = secret + b":" + octets("nonce", "cnonce", *identity)
    second = method.encode("ascii") + b":" + octets("digest-uri")
    middle = octets("nonce", "nc", "cnonce", "qop")
    return _md5(b":".join((_md5(first).hex().encode(), middle, _md5(second).hex().encode()))).hex()


def _md5(data: bytes) -> bytes:
    return md5(data, usedforsecurity=False).digest()


def _latin1(text: str) -> bytes | None:
    try:
        return text.encode("iso-8859-1")
    except UnicodeEncodeError:
        return None


def _encode(text: str, *, utf8: bool) -> bytes:
    octets = text.encode("utf-8") if utf8 else _latin1(text)
    if octets is None:
        # Raised outside the except block: a UnicodeEncodeError as its context would carry the text, a password perhaps.
        raise SaslError(
            "The server's DIGEST-MD5 knows only ISO 8859-1 (it did not offer charset=utf-8), in which the username, "
            "realm or password cannot be written."
        )
    return octets


DIGEST_MD5 = Mechanism(_NAME, exchange, Guard.GUESSABLE)
