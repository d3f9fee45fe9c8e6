"""The answering side of the mechanisms, for tests: pcj's embedded server, and pairs of client and server in memory.

It is correct, but it is no server for the world: passwords are kept as they are, PBKDF2 runs where it is called, and
the time it takes tells whether a user exists.

An answer is a generator as a client's exchange is, the other way round: it yields `Challenge` and at last `Success`,
is sent the client's responses, and returns the name of the user. It may raise `SaslError` at any step, whose
`condition` is the one of RFC 6120 6.5 to put into `<failure/>`::

    exchange = answer("SCRAM-SHA-256", initial, password_of=accounts.get, nonce=..., salt=...)
    step = next(exchange)                   # Challenge or Success: send it
    step = exchange.send(response)          # until it was Success;
    next(exchange)                          # then StopIteration.value is the user
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import pbkdf2_hmac
from types import MappingProxyType
from typing import TypeAlias

from pcj.errors import ConfigError, SaslError
from pcj.sasl import digest_md5, scram
from pcj.sasl.saslprep import prepare_identity, prepare_password
from pcj.sasl.steps import Challenge, Success, decode_base64

__all__ = ["Answer", "answer"]

Answer: TypeAlias = Generator[Challenge | Success, bytes | None, str]
PasswordOf: TypeAlias = Callable[[str], str | None]

_SCRAM: Mapping[str, str] = MappingProxyType(
    {
        f"SCRAM-{hash_name}{suffix}": hash_name
        for hash_name in ("SHA-1", "SHA-256", "SHA-512")
        for suffix in ("", scram.PLUS)
    }
)


def answer(
    mechanism_name: str,
    initial: bytes | None,
    *,
    password_of: PasswordOf,
    nonce: str,
    salt: bytes = b"salt for tests",
    iterations: int = 4096,
    realm: str = "",
    utf8: bool = True,
    proof_in_success: bool = True,
    offered: Sequence[str] = (),
    bindings: Mapping[str, bytes] | None = None,
    vouch: bool = False,
    certified: str | None = None,
    anonymous: str = "",
) -> Answer:
    """Answer one authentication.

    Args:
        mechanism_name: one of `pcj.sasl.MECHANISMS`.
        initial: the initial response, or None where `<auth/>` had none.
        password_of: the password of a prepared user name, or None where there is no such user.
        nonce: the server's part; printable ASCII without comma.
        salt: SCRAM's salt, not empty. iterations: SCRAM's count of PBKDF2 rounds.
        realm: DIGEST-MD5's realm, and the domain that an authorization identity may add to the name.
        utf8: whether DIGEST-MD5 offers charset=utf-8.
        proof_in_success: True sends the proof with the success; False in a challenge before it, as some servers do.
        offered: the mechanisms that this server lists: whether "y" is right hangs on it, and what SCRAM vouches for.
        bindings: the TLS session's channel bindings, by the types that this server lists; None: it lists none.
        vouch: whether SCRAM sends the hash of both lists (XEP-0474).
        certified: EXTERNAL: the name that the client's certificate bears; None: it has shown none.
        anonymous: ANONYMOUS: the name that is given to whoever asks.

    Returns:
        The generator; see the module. It returns the user's name.

    Raises:
        SaslError: condition "not-authorized", "malformed-request", "invalid-authzid" or "invalid-mechanism".
    """
    types = None if bindings is None else tuple(bindings)
    if mechanism_name in _SCRAM:
        first = initial if initial is not None else (yield Challenge(b""))
        hashed = f",h={scram.offer_hash(_algorithm(mechanism_name), offered, types)}" if vouch else ""
        lines = _Lines(mechanism_name, nonce, f",s={scram.base64_text(salt)},i={iterations}{hashed}")
        expects_plus = any(name.endswith(scram.PLUS) for name in offered)
        user, proof = yield from _scram(
            lines, _some(first), password_of, salt, iterations, realm, bindings or {}, expects_plus=expects_plus
        )
    elif mechanism_name == "DIGEST-MD5":
        if initial is not None:
            raise _malformed("DIGEST-MD5 has no initial response")
        user, proof = yield from _digest_md5(password_of, realm, nonce, utf8=utf8)
    elif mechanism_name == "PLAIN":
        first = initial if initial is not None else (yield Challenge(b""))
        user, proof = _plain(_some(first), password_of, realm), None
    elif mechanism_name == "EXTERNAL":
        first = initial if initial is not None else (yield Challenge(b""))
        user, proof = _external(_some(first), certified, realm), None
    elif mechanism_name == "ANONYMOUS":
        if initial is None:
            yield Challenge(b"")  # RFC 4505 2: the trace information, whatever it is
        if not anonymous:
            raise _not_authorized()
        user, proof = anonymous, None
    else:
        raise SaslError("There is no such mechanism here.", condition="invalid-mechanism")
    if proof is not None and not proof_in_success:
        if (yield Challenge(proof)):
            raise _malformed("the proof is answered by an empty response")
        proof = None
    yield Success(proof)
    return user


def _algorithm(mechanism_name: str) -> str:
    return _SCRAM[mechanism_name].replace("-", "").lower()


@dataclass(frozen=True, slots=True)
class _Lines:
    """What the server says in SCRAM: the mechanism, its part of the nonce, and what follows that."""

    name: str
    nonce: str
    rest: str


def _scram(
    lines: _Lines,
    first: bytes,
    password_of: PasswordOf,
    salt: bytes,
    iterations: int,
    realm: str,
    bindings: Mapping[str, bytes],
    *,
    expects_plus: bool,
) -> Generator[Challenge | Success, bytes | None, tuple[str, bytes]]:
    name, nonce = lines.name, lines.nonce
    algorithm = _algorithm(name)
    # client-first: gs2-cbind-flag "," [authzid] "," client-first-message-bare
    parts = scram.message_text(first, name).split(",", 2)
    if len(parts) != 3 or (parts[1] and not parts[1].startswith("a=")):
        raise _malformed("the gs2 header is not one this server takes")
    binding = _binding_of(parts[0], bindings, plus=name.endswith(scram.PLUS), expects_plus=expects_plus)
    flag, authzid, bare = parts
    attributes = scram.read_attributes(bare, name)
    if [key for key, _ in attributes] != ["n", "r"]:
        raise _malformed("the first message has n= and r=")
    user = _prepared_name(_unescape(attributes[0][1]))
    client_nonce = attributes[1][1]
    if not scram.NONCE.fullmatch(client_nonce):
        raise _malformed("the nonce is not printable")
    _check_authzid(_unescape(authzid[2:]), user, realm)

    server_first = f"r={client_nonce}{nonce}{lines.rest}"
    final = scram.message_text(_some((yield Challenge(server_first.encode()))), name)
    without_proof, separator, proof_text = final.rpartition(",p=")
    proof = decode_base64(proof_text)
    if not separator or proof is None:
        raise _malformed("the last message ends with p=")
    # RFC 5802 7: channel-binding and nonce come first; c= repeats the gs2 header.
    header = f"{flag},{authzid},".encode() + binding
    if without_proof != f"c={scram.base64_text(header)},r={client_nonce}{nonce}":
        raise SaslError("The client's nonce or channel binding is another.", condition="not-authorized")

    password = _password(password_of, user)
    salted_password = pbkdf2_hmac(algorithm, password, salt, iterations)
    signed = f"{bare},{server_first},{without_proof}".encode()
    if not hmac.compare_digest(scram.client_proof(algorithm, salted_password, signed), proof):
        raise _not_authorized()
    return user, b"v=" + scram.base64_text(scram.server_signature(algorithm, salted_password, signed)).encode()


def _binding_of(flag: str, bindings: Mapping[str, bytes], *, plus: bool, expects_plus: bool) -> bytes:
    """RFC 5802 6: what the client's gs2-cbind-flag says of channel binding, held against what this server offered."""
    kind = flag.removeprefix("p=")
    if plus != (kind != flag) or (kind == flag and flag not in ("n", "y")):
        raise _malformed("the channel binding flag is not the mechanism's")
    if flag == "y" and expects_plus:
        # RFC 5802 6: "y", though the server offers -PLUS: its list was altered on the way.
        raise SaslError("The client did not see the mechanisms with channel binding.", condition="not-authorized")
    if plus and kind not in bindings:
        raise _malformed("the channel binding is of a type that is not offered")
    return bindings[kind] if plus else b""


def _external(authzid: bytes, certified: str | None, realm: str) -> str:
    """RFC 4422 A.1: whom the certificate names, who may name himself."""
    if certified is None:
        raise _not_authorized()
    try:
        _check_authzid(authzid.decode("utf-8"), certified, realm)
    except UnicodeDecodeError:
        raise _malformed("the authorization identity is not UTF-8") from None
    return certified


def _digest_md5(
    password_of: PasswordOf, realm: str, nonce: str, *, utf8: bool
) -> Generator[Challenge | Success, bytes | None, tuple[str, bytes]]:
    offer = {"realm": realm, "nonce": nonce, "qop": "auth", "algorithm": "md5-sess"}
    if utf8:
        offer["charset"] = "utf-8"
    reply = _some((yield Challenge(digest_md5.write_directives(offer, utf8=utf8))))
    came = digest_md5.read_directives(reply, digest_md5.MAX_RESPONSE_BYTES)
    if any(name not in came for name in ("username", "nonce", "cnonce", "nc", "digest-uri", "response")):
        raise _malformed("a directive is missing")
    directives = {name: values[0] for name, values in came.items()}
    directives.setdefault("realm", "")
    directives.setdefault("qop", "auth")
    if directives["nonce"] != nonce or directives["nc"] != "00000001" or directives["realm"] != realm:
        raise _not_authorized()
    charset = directives.get("charset") == "utf-8"
    user = _prepared_name(directives["username"])
    _check_authzid(directives.get("authzid", ""), user, realm)
    password = _password(password_of, user).decode("utf-8")
    secret = digest_md5.hash_of_secret(directives["username"], realm, password, utf8=charset)
    expected = digest_md5.digest(secret, directives, "AUTHENTICATE", utf8=charset)
    if not hmac.compare_digest(expected.encode(), directives["response"].encode()):
        raise _not_authorized()
    return user, b"rspauth=" + digest_md5.digest(secret, directives, "", utf8=charset).encode()


def _plain(message: bytes, password_of: PasswordOf, realm: str) -> str:
    try:
        authzid, username, given = message.decode("utf-8").split("\0")
        user, password = _prepared_name(username), prepare_password(given)
    except (ValueError, ConfigError):
        # From None, and without the message: it is the password.
        raise _malformed("PLAIN is [authzid] NUL authcid NUL passwd in UTF-8") from None
    _check_authzid(authzid, user, realm)
    if not hmac.compare_digest(_password(password_of, user), password):
        raise _not_authorized()
    return user


def _unescape(name: str) -> str:
    # RFC 5802 5.1: a '=' not followed by 2C or 3D MUST fail the authentication.
    if name.count("=") != name.count("=2C") + name.count("=3D"):
        raise _malformed("the name has a bare =")
    return name.replace("=2C", ",").replace("=3D", "=")


def _prepared_name(name: str) -> str:
    try:
        return prepare_identity(name)
    except ConfigError:
        raise _malformed("the username breaks SASLprep") from None


def _password(password_of: PasswordOf, user: str) -> bytes:
    password = password_of(user)
    if password is None:
        raise _not_authorized()
    return prepare_password(password)


def _check_authzid(authzid: str, user: str, realm: str) -> None:
    if authzid not in ("", user, f"{user}@{realm}"):
        raise SaslError("The authorization identity is not the user's own.", condition="invalid-authzid")


def _some(response: bytes | None) -> bytes:
    if response is None:
        raise _malformed("a response is missing")
    return response


def _malformed(reason: str) -> SaslError:
    return SaslError(f"The client's SASL message is malformed: {reason}.", condition="malformed-request")


def _not_authorized() -> SaslError:
    return SaslError("The user does not exist or the password is wrong.", condition="not-authorized")
