"""The words in which a SASL mechanism and its driver talk, and the rules that all mechanisms share.

A mechanism is a generator. It yields what it wants done (`Respond`, `Compute`) and is sent what came of it
(`Challenge`, `Success`, or the result of the computation). It ends (returns) when a `Success` was accepted, and raises
`SaslError` when the server breaks the mechanism or fails to prove what the mechanism promises. It reads no clock and
draws no lots: nonces are handed in. No step shows its data in a `repr`: passwords are in some, and what a password can
be guessed from is in the others.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import Final, TypeAlias

from pcj.errors import SaslError

__all__ = [
    "MAX_DATA_CHARACTERS",
    "NO_CHANNEL",
    "Challenge",
    "Channel",
    "Compute",
    "Credentials",
    "Exchange",
    "Guard",
    "Limits",
    "Mechanism",
    "Need",
    "Respond",
    "Success",
    "decode_data",
    "decode_success",
    "encode_data",
]

MAX_DATA_CHARACTERS = 65_536
"""The most base64 characters taken from one element of the server. No mechanism here needs more than 12 KiB."""

MAX_SHOWN_CHARACTERS = 64
"""The most characters of remote text that one error message repeats."""

# RFC 4648 4: groups of four characters, of which the last may end in padding.
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


@dataclass(frozen=True, slots=True)
class Compute:
    """A slow pure function, for the shell to run off the event loop; its result is sent back into the generator.

    Attributes:
        function: what to call; it may run in another thread.
        arguments: its positional arguments. They carry the password, so `repr` leaves them out.
    """

    function: Callable[..., object]
    arguments: tuple[object, ...] = field(repr=False)

    def run(self) -> object:
        """Call the function here and now (tests, and shells without an event loop)."""
        return self.function(*self.arguments)


@dataclass(frozen=True, slots=True)
class Respond:
    """Data for the server: the initial response if it is a mechanism's first, else the answer to a challenge.

    Attributes:
        data: the octets before base64. None: no initial response at all; b"": an empty one (see `encode_data`).
    """

    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge of the server; `data` is what its base64 stood for."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Success:
    """The server says that authentication succeeded, which is to be believed only after its proof.

    Attributes:
        data: the additional data with success (RFC 6120 6.3.10), or None.
    """

    data: bytes | None = field(default=None, repr=False)


# `Challenge | Success | object` says what comes; for a type checker it is the same as `object`.
Exchange: TypeAlias = Generator[Respond | Compute, Challenge | Success | object, None]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who to log in as.

    Attributes:
        username: the authentication identity: a JID's local part, or a router's account.
        password: the secret; `repr` leaves it out. "" for a mechanism that needs none.
        authzid: the identity to act as; "" (the usual) lets the server derive it from the username.
        host: the host of DIGEST-MD5's digest-uri: the domain logged in to.
        service: the service of DIGEST-MD5's digest-uri.
        realm: DIGEST-MD5's realm; None takes the first one the server offers, else `host`.
    """

    username: str
    password: str = field(default="", repr=False)
    authzid: str = ""
    host: str = ""
    service: str = "xmpp"
    realm: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may ask of us.

    Attributes:
        min_iterations: the least count of PBKDF2 rounds taken (RFC 7677 4: at least 4096); fewer would let a false
            server make the password cheap to guess.
        max_iterations: the most rounds taken; more would let it keep our processor busy.
    """

    min_iterations: int = 4096
    max_iterations: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Channel:
    """What an exchange runs over, for the mechanisms that look at it (SCRAM).

    Attributes:
        flag: the gs2-cbind-flag (RFC 5802 6): "n" (we do not bind), "y" (we could, the server says it cannot), or "p="
            and the name of the binding's type. data: the binding's octets with "p=", else empty.
        mechanisms: the names that the server offered, as received; None: not known, so that nobody can say whether they
            were altered. binding_types: the types that it offered (XEP-0440); None: it said nothing of them.
        vouched: whether the server must prove that it sent these lists (XEP-0474).
    """

    flag: str = "n"
    data: bytes = field(default=b"", repr=False)
    mechanisms: tuple[str, ...] | None = None
    binding_types: tuple[str, ...] | None = None
    vouched: bool = False


NO_CHANNEL: Final = Channel()


class Guard(IntEnum):
    """How far a mechanism protects the password, and the link, from who is at the other end; more is better."""

    NONE = auto()  #: no password is in it, and nothing is proved (ANONYMOUS)
    SHOWN = auto()  #: the server, or whoever is in its place, is given the password
    GUESSABLE = auto()  #: it is given what the password can soon be guessed from
    CERTIFIED = auto()  #: there is no password to give (EXTERNAL); the server proves nothing beyond its TLS certificate
    PROVED = auto()  #: it is given nothing of use, and proves that it knows the password
    BOUND = auto()  #: and it proves that nobody stands between


class Need(Enum):
    """What a mechanism authenticates with."""

    NOTHING = auto()
    PASSWORD = auto()
    CERTIFICATE = auto()


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One SASL mechanism, as a value.

    Attributes:
        name: as registered with IANA, and as sent on the wire.
        exchange: makes the generator for one attempt out of credentials, a fresh client nonce (printable ASCII without
            comma; at least 128 random bits), limits and the channel. Its first step raises `ConfigError` when the
            credentials cannot be used, before anything is sent.
        guard: what it protects. need: what it authenticates with.
    """

    name: str
    exchange: Callable[[Credentials, str, Limits, Channel], Exchange] = field(repr=False)
    guard: Guard
    need: Need = Need.PASSWORD


def encode_data(data: bytes | None, *, initial: bool = False) -> str:
    """Write data as the text of `<auth/>` or `<response/>`.

    Args:
        data: the octets, or None for none.
        initial: whether this is the initial response in `<auth/>`, where an empty one is "=" (RFC 6120 6.4.2).

    Returns:
        Base64 without line breaks (RFC 6120 6.4.2, RFC 4648 3.1), "=", or "".
    """
    if data is None:
        return ""
    if not data and initial:
        return "="
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_data(text: str | None) -> bytes:
    """Read the text of `<challenge/>` or `<success/>`.

    Args:
        text: the element's text; None, "" and "=" are the empty string of octets (RFC 6120 6.4.2, 6.4.6).

    Returns:
        The octets.

    Raises:
        SaslError: not base64 of RFC 4648 section 4, whose 3.3 forbids to skip other characters, white space too; or
            longer than `MAX_DATA_CHARACTERS`. Its `condition` is "incorrect-encoding".
    """
    if not text or text == "=":
        return b""
    if len(text) > MAX_DATA_CHARACTERS:
        raise SaslError(
            f"The server's SASL data has {len(text)} characters; we take {MAX_DATA_CHARACTERS}.",
            condition="incorrect-encoding",
        )
    data = decode_base64(text)
    if data is None:
        raise SaslError(
            f"The server's SASL data is not base64 (RFC 4648): {quote(text)}.", condition="incorrect-encoding"
        )
    return data


def decode_success(text: str | None) -> Success:
    """Read the text of `<success/>`: absent text is no data, "=" is empty data (RFC 6120 6.4.6).

    Raises:
        SaslError: as `decode_data`.
    """
    return Success(decode_data(text) if text else None)


def decode_base64(text: str) -> bytes | None:
    """The octets of strict, padded base64, or None."""
    # binascii alone will not do: even its strict mode takes superfluous padding ("dj1h=").
    return binascii.a2b_base64(text) if _BASE64.fullmatch(text) else None


def quote(text: str, limit: int = MAX_SHOWN_CHARACTERS) -> str:
    """Quote remote text for an error message: bounded, and with every unprintable character escaped.

    `str.isprintable` is false for control, bidirectional and private characters and for line breaks, so that nothing
    a server writes can move a cursor or turn a line round.
    """
    shown = "".join(map(_shown, text[:limit]))
    return f'"{shown}"' + ("..." if len(text) > limit else "")


def _shown(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def challenge_of(reply: object, mechanism: str, expected: str) -> bytes:
    """The data of the challenge that must come now.

    Raises:
        SaslError: it was a success, which the server has not earned yet.
        TypeError: the driver sent something else.
    """
    if isinstance(reply, Challenge):
        return reply.data
    if isinstance(reply, Success):
        raise SaslError(
            f"The server reported success in {mechanism} before proving that it knows the password; "
            "a false server could do the same.",
            expected=expected,
            came="success",
        )
    raise misuse(reply)


def await_proof(reply: object, verify: Callable[[bytes], None], mechanism: str) -> Exchange:
    """The end of a mechanism in which the server proves itself.

    The proof is in a last challenge, answered by an empty response and followed by a bare success, or comes with the
    success (RFC 6120 6.3.10 and RFC 4422 3.6 allow both; jabberd2 does the second for DIGEST-MD5). What comes with a
    success after a proof is verified like the proof, never passed over.

    Args:
        reply: what the server sent after our last response.
        verify: raises `SaslError` unless the octets are the proof.
        mechanism: its name, for messages.

    Raises:
        SaslError: no proof, a wrong one, or one more challenge.
    """
    proved = False
    if isinstance(reply, Challenge):
        verify(reply.data)
        proved = True
        reply = yield Respond(b"")
    if isinstance(reply, Challenge):
        # This, and that mechanisms are straight lines, is the bound of rounds.
        raise SaslError(
            f"The server sent one challenge more than {mechanism} has.", expected="success", came="challenge"
        )
    if not isinstance(reply, Success):
        raise misuse(reply)
    if reply.data:
        verify(reply.data)
    elif not proved:
        raise SaslError(
            f"The server reported success in {mechanism} without proving that it knows the password; "
            "a false server could do the same.",
            expected="the server's proof",
            came="a bare success",
        )


def misuse(reply: object) -> TypeError:
    """What to raise when a driver sends what no driver should."""
    return TypeError(f"a SASL exchange was sent {type(reply).__name__}, expected Challenge or Success")
