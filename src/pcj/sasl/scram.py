"""SCRAM (RFC 5802, RFC 7677): the password is never sent, and the server proves that it knows it too.

The five messages, as the RFC names them::

    client-first   n,,n=user,r=ours
    server-first   r=ours+theirs,s=salt,i=iterations   (and h=hash of what was offered: XEP-0474)
    client-final   c=biws,r=ours+theirs,p=proof
    server-final   v=signature                         (or e=error)

With -PLUS the first begins with p=type, and c= carries what ties the exchange to the TLS session below it. A false
server learns the proof, from which the password can be guessed offline: hence the floor of iterations.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import b2a_base64
from collections.abc import Sequence
from functools import partial
from typing import Final

from pcj.errors import ConfigError, SaslError
from pcj.sasl.saslprep import check_authzid, prepare_identity, prepare_password
from pcj.sasl.steps import (
    NO_CHANNEL,
    Channel,
    Compute,
    Credentials,
    Exchange,
    Guard,
    Limits,
    Mechanism,
    Respond,
    await_proof,
    challenge_of,
    decode_base64,
    quote,
)

__all__ = [
    "PLUS",
    "SCRAM_SHA_1",
    "SCRAM_SHA_1_PLUS",
    "SCRAM_SHA_256",
    "SCRAM_SHA_256_PLUS",
    "SCRAM_SHA_512",
    "SCRAM_SHA_512_PLUS",
    "exchange",
    "offer_hash",
]

PLUS: Final = "-PLUS"
"""How the names of the mechanisms end that are bound to the TLS session (RFC 5802 4)."""

MAX_MESSAGE_BYTES = 8192
"""The longest message taken from a server."""

MAX_SALT_BYTES = 1024
"""The longest salt taken from a server; usual are 16."""

# RFC 5802 7: printable = %x21-2B / %x2D-7E.
NONCE = re.compile(r"[!-+\--~]+")
# RFC 5802 7: posit-number = %x31-39 *DIGIT. Ten digits are beyond every ceiling.
_ITERATIONS = re.compile(r"[1-9][0-9]{0,9}")
# RFC 5802 7: attr-val = ALPHA "=" value; value is at least one character, neither NUL nor comma.
_ATTRIBUTE = re.compile(r"([A-Za-z])=([^\0,]+)")
# RFC 5802 5.1 gives each a place of its own; none may stand among the extensions at a message's end.
_RESERVED = frozenset("anmrcsipve")

# server-error-value (RFC 5802 7) -> the condition of RFC 6120 6.5 that says the same; any other is "not-authorized".
_CONDITIONS = {"no-resources": "temporary-auth-failure", "invalid-encoding": "malformed-request"}


def exchange(
    hash_name: str, credentials: Credentials, nonce: str, limits: Limits, channel: Channel = NO_CHANNEL
) -> Exchange:
    """One SCRAM authentication.

    Args:
        hash_name: the mechanism's hash: "SHA-1", "SHA-256" or "SHA-512".
        credentials: username, password and authzid are used.
        nonce: ours; printable ASCII without comma (RFC 5802 5.1), fresh, at least 128 random bits.
        limits: how many iterations are too few or too many.
        channel: how to bind, and what the server offered. A flag "p=" belongs to the -PLUS mechanism.

    Returns:
        The generator: see `pcj.sasl.steps`. Its one `Compute` is PBKDF2.

    Raises:
        ConfigError: (from the first step) the credentials or the nonce cannot be used.
        SaslError: the server broke a rule, refused, or could not prove that it knows the password.
    """
    mechanism = f"SCRAM-{hash_name}" + ("-PLUS" if channel.flag.startswith("p=") else "")
    algorithm = hash_name.replace("-", "").lower()
    if not NONCE.fullmatch(nonce):
        raise ConfigError("The client nonce of SCRAM must be printable ASCII without comma (RFC 5802 5.1).")
    password = prepare_password(credentials.password)
    header = gs2_header(channel.flag, credentials.authzid)
    client_first_bare = f"n={escape_name(prepare_identity(credentials.username))},r={nonce}"

    reply = yield Respond((header + client_first_bare).encode("utf-8"))
    server_first = message_text(challenge_of(reply, mechanism, "server-first-message"), mechanism)
    full_nonce, salt, iterations = read_server_first(server_first, nonce, limits, mechanism)
    _check_offer(read_attributes(server_first, mechanism), algorithm, channel, mechanism)

    salted_password = yield Compute(hashlib.pbkdf2_hmac, (algorithm, password, salt, iterations))
    if not isinstance(salted_password, bytes):
        raise TypeError("the result of a Compute step was not sent back to the SASL exchange")
    client_final = f"c={base64_text(header.encode('utf-8') + channel.data)},r={full_nonce}"
    signed = f"{client_first_bare},{server_first},{client_final}".encode()
    proof = client_proof(algorithm, salted_password, signed)
    signature = server_signature(algorithm, salted_password, signed)

    def verify(server_final: bytes) -> None:
        if not hmac.compare_digest(read_server_final(server_final, mechanism), signature):
            raise SaslError(
                f"The server's signature in {mechanism} is wrong: it does not know the password, or the messages were "
                "altered on the way.",
                expected="the server's signature",
                came="another",
            )

    reply = yield Respond(f"{client_final},p={base64_text(proof)}".encode())
    yield from await_proof(reply, verify, mechanism)


def gs2_header(flag: str, authzid: str) -> str:
    """The header that says how we bind and as whom we act (RFC 5802 7, gs2-header).

    Raises:
        ConfigError: the authorization identity cannot be written.
    """
    if not authzid:
        return f"{flag},,"
    return f"{flag},a={escape_name(check_authzid(authzid))},"


def escape_name(name: str) -> str:
    """RFC 5802 5.1: the characters ',' or '=' in usernames are sent as '=2C' and '=3D'."""
    return name.replace("=", "=3D").replace(",", "=2C")


def read_server_first(message: str, nonce: str, limits: Limits, mechanism: str) -> tuple[str, bytes, int]:
    """Take the server-first-message apart: r, s, i in this order, each once, extensions after them.

    Args:
        message: the message. nonce: ours. limits: bounds of the iteration count. mechanism: its name, for messages.

    Returns:
        The whole nonce, the salt and the iteration count.

    Raises:
        SaslError: any rule of RFC 5802 5.1 is broken, or a bound passed.
    """
    attributes = read_attributes(message, mechanism)
    if attributes[0][0] == "e":
        raise _reported(attributes[0][1], mechanism)
    keys = [key for key, _ in attributes]
    if "m" in keys:
        # RFC 5802 5.1: its presence MUST cause authentication failure when the receiver does not support it.
        raise SaslError(f"The server demands a {mechanism} extension that we do not have: {quote(message)}.")
    if keys[:3] != ["r", "s", "i"] or not _RESERVED.isdisjoint(keys[3:]) or len(set(keys)) != len(keys):
        raise SaslError(
            f"The server's first {mechanism} message has its attributes repeated, missing or out of order.",
            expected="r=, s=, i=, then extensions",
            came=quote(",".join(keys)),
        )
    full_nonce, salt_text, count_text = (value for _, value in attributes[:3])
    # RFC 5802 5.1: the client MUST verify that the initial part of the nonce is the one it specified; a nonce to which
    # nothing is added would let one recorded exchange be played again.
    if not full_nonce.startswith(nonce) or len(full_nonce) == len(nonce) or not NONCE.fullmatch(full_nonce):
        raise SaslError(
            f"The server's nonce in {mechanism} is not ours with printable characters added.",
            expected="our nonce and more",
            came=quote(full_nonce),
        )
    salt = decode_base64(salt_text)
    if not salt or len(salt) > MAX_SALT_BYTES:
        raise SaslError(
            f"The server's salt in {mechanism} is not base64 of 1 to {MAX_SALT_BYTES} octets.", came=quote(salt_text)
        )
    return full_nonce, salt, _read_iterations(count_text, limits, mechanism)


def offer_hash(algorithm: str, mechanisms: Sequence[str], binding_types: Sequence[str] | None) -> str:
    """The hash of what a server offers, as it vouches for it (XEP-0474 0.5.0, 5.1).

    Args:
        algorithm: hashlib's name of the mechanism's hash. mechanisms: all names offered.
        binding_types: those of XEP-0440, or None where the server has none.

    Returns:
        Base64.
    """
    text = "\x1e".join(sorted(mechanisms))  # by octets (RFC 4790 9.3): of UTF-8, which is the order of code points
    if binding_types is not None:
        text += "\x1f" + "\x1e".join(sorted(binding_types))
    return base64_text(hashlib.new(algorithm, text.encode("utf-8", "surrogatepass")).digest())


def _check_offer(attributes: list[tuple[str, str]], algorithm: str, channel: Channel, mechanism: str) -> None:
    """XEP-0474: what the server says it offered must be what came here; the proofs to come cover what it says."""
    said = dict(attributes).get("h")
    if said is None:
        if channel.vouched:
            raise SaslError(
                "The server offers no channel binding that we can do, as it did before, and does not prove that this "
                "is its own doing (XEP-0474); somebody between may have altered the list.",
                expected="the hash of the lists it sent",
                came="none",
            )
        return
    if channel.mechanisms is None:
        return
    expected = offer_hash(algorithm, channel.mechanisms, channel.binding_types)
    if not hmac.compare_digest(said.encode(), expected.encode()):
        raise SaslError(
            f"The list of log-in methods was altered on the way: by its hash in {mechanism} the server sent another "
            "(XEP-0474).",
            expected="the hash of the lists that came",
            came="another",
        )


def _read_iterations(text: str, limits: Limits, mechanism: str) -> int:
    # Not int() alone: it takes "+5000", " 5000", "5_000" and the digits of every script.
    expected = f"{limits.min_iterations} to {limits.max_iterations} iterations"
    if not _ITERATIONS.fullmatch(text):
        raise SaslError(
            f"The server's iteration count in {mechanism} is no positive number of at most ten digits: {quote(text)}.",
            expected=expected,
            came=quote(text),
        )
    count = int(text)
    if count < limits.min_iterations:
        raise SaslError(
            f"The server asks for {count} iterations in {mechanism}; fewer than {limits.min_iterations} make the "
            "password cheap to guess for a false server (RFC 7677 4).",
            expected=expected,
            came=text,
        )
    if count > limits.max_iterations:
        raise SaslError(
            f"The server asks for {count} iterations in {mechanism}; we compute at most {limits.max_iterations}.",
            expected=expected,
            came=text,
        )
    return count


def read_server_final(data: bytes, mechanism: str) -> bytes:
    """The server's signature out of a server-final-message.

    Raises:
        SaslError: the server reports an error, or there is no signature.
    """
    attributes = read_attributes(message_text(data, mechanism), mechanism)
    key, value = attributes[0]
    if key == "e":
        raise _reported(value, mechanism)
    keys = [key for key, _ in attributes]
    signature = decode_base64(value) if key == "v" else None
    if signature is None or not _RESERVED.isdisjoint(keys[1:]) or len(set(keys)) != len(keys):
        raise SaslError(
            f"The server's last {mechanism} message has no signature of its own.",
            expected="v= and base64",
            came=quote(",".join(keys)),
        )
    return signature


def message_text(data: bytes, mechanism: str) -> str:
    """A message as text: bounded, UTF-8.

    Raises:
        SaslError: it is neither.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise SaslError(f"A {mechanism} message has {len(data)} octets; we take {MAX_MESSAGE_BYTES}.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError(f"A {mechanism} message is not UTF-8 (RFC 5802 5).", condition="malformed-request") from None


def read_attributes(message: str, mechanism: str) -> list[tuple[str, str]]:
    """Split a message at its commas into (attribute, value) pairs; there is at least one.

    Raises:
        SaslError: a part is not `letter=value`.
    """
    attributes = []
    for part in message.split(","):
        match = _ATTRIBUTE.fullmatch(part)
        if match is None:
            raise SaslError(
                f"A {mechanism} message is malformed.",
                condition="malformed-request",
                expected="letter=value, separated by commas",
                came=quote(part),
            )
        attributes.append((match[1], match[2]))
    return attributes


def client_proof(algorithm: str, salted_password: bytes, signed: bytes) -> bytes:
    """RFC 5802 3: ClientProof := ClientKey XOR HMAC(H(ClientKey), AuthMessage)."""
    client_key = hmac.digest(salted_password, b"Client Key", algorithm)
    stored_key = hashlib.new(algorithm, client_key).digest()
    client_signature = hmac.digest(stored_key, signed, algorithm)
    return bytes(a ^ b for a, b in zip(client_key, client_signature, strict=True))


def server_signature(algorithm: str, salted_password: bytes, signed: bytes) -> bytes:
    """RFC 5802 3: ServerSignature := HMAC(HMAC(SaltedPassword, "Server Key"), AuthMessage)."""
    server_key = hmac.digest(salted_password, b"Server Key", algorithm)
    return hmac.digest(server_key, signed, algorithm)


def base64_text(data: bytes) -> str:
    """Base64 in one line."""
    return b2a_base64(data, newline=False).decode("ascii")


def _reported(value: str, mechanism: str) -> SaslError:
    return SaslError(
        f"The server ended {mechanism} with the error {quote(value)}.",
        condition=_CONDITIONS.get(value, "not-authorized"),
        came=quote(f"e={value}"),
    )


def _mechanism(hash_name: str, guard: Guard) -> Mechanism:
    suffix = PLUS if guard is Guard.BOUND else ""
    return Mechanism(f"SCRAM-{hash_name}{suffix}", partial(exchange, hash_name), guard)


SCRAM_SHA_512_PLUS = _mechanism("SHA-512", Guard.BOUND)
SCRAM_SHA_256_PLUS = _mechanism("SHA-256", Guard.BOUND)
SCRAM_SHA_1_PLUS = _mechanism("SHA-1", Guard.BOUND)
SCRAM_SHA_512 = _mechanism("SHA-512", Guard.PROVED)
SCRAM_SHA_256 = _mechanism("SHA-256", Guard.PROVED)
SCRAM_SHA_1 = _mechanism("SHA-1", Guard.PROVED)
