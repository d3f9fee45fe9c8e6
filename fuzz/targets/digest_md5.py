"""DIGEST-MD5's messages (RFC 2831): `pcj.sasl.digest_md5`, the client's side.

Invariant. Whatever a server says, the exchange goes on, ends or raises `SaslError`, whose sentence is bounded, safe to
print and without the password. It ends well only if the server sent the rspauth that the password and our response lead
to. The response is within RFC 2831's bound, bears the server's nonce and ours, and nothing of it shows the password.

Input, line by line: the first says how ("l": the user's name is not ASCII, "z": nor is the password, "r": the realm is
given, "a": an authorization identity); then what the server says: "C" a challenge, "S" a success with data, "N" one
without, "P" what is due, with an edit if more letters follow ("X": in a challenge, where it would come with success).
"""

from __future__ import annotations

from fuzz import witness
from fuzz.common import shown_safely, splice
from fuzz.good_server import PASSWORD, USER
from pcj.errors import SaslError
from pcj.sasl import MECHANISMS, Challenge, Compute, Credentials, Limits, Success
from pcj.sasl.steps import NO_CHANNEL, Respond

__all__ = ["ALLOWED", "DICTIONARY", "MAX_BYTES", "one_input"]

ALLOWED = (SaslError,)
MAX_BYTES = 1024
DICTIONARY: tuple[bytes, ...] = (
    b"\nC",
    b"\nS",
    b"\nN",
    b"\nP",
    b"\nX",
    b'realm="example.org"',
    b'nonce="server"',
    b'qop="auth"',
    b'qop="auth-int,auth-conf"',
    b"charset=utf-8",
    b"algorithm=md5-sess",
    b"maxbuf=65536",
    b'cipher="rc4"',
    b"stale=true",
    b"rspauth=",
    b",",
    b'"',
    b"\\",
    b"=",
    "é".encode(),
    b"\xe9",
    "\u0142".encode(),
)
NONCE = "ournonce"
MECHANISM = next(each for each in MECHANISMS if each.name == "DIGEST-MD5")
MAX_RESPONSE = 4096


def one_input(data: bytes) -> None:
    head, *lines = data.split(b"\n")
    Exchange(head).play(lines)


class Exchange:
    """One, and what was said in it."""

    def __init__(self, head: bytes) -> None:
        self.password = "Zürich-\u0142" if b"z" in head else PASSWORD
        credentials = Credentials(
            "rené" if b"l" in head else USER,
            self.password,
            authzid="romeo" if b"a" in head else "",
            host="example.org",
            realm='quo"te\\d' if b"r" in head else None,
        )
        self.exchange = MECHANISM.exchange(credentials, NONCE, Limits(), NO_CHANNEL)
        self.sent: list[bytes | None] = []
        self.came: list[bytes] = []

    def play(self, lines: list[bytes]) -> None:
        """Let the server say all this."""
        try:
            self._take(next(self.exchange))
            for line in lines:
                said = self._said(line)
                if isinstance(said, Challenge) or said.data:
                    self.came.append(said.data or b"")
                self._take(self.exchange.send(said))
        except ALLOWED as error:
            shown_safely(error, [self.password])
        except StopIteration:
            self._check_proof()
        assert len(self.sent) <= 3

    def _said(self, line: bytes) -> Challenge | Success:
        kind, rest = line[:1], line[1:]
        if kind == b"C":
            return Challenge(rest)
        if kind == b"S":
            return Success(rest)
        if kind not in (b"P", b"X"):
            return Success(None)
        if len(self.sent) == 1:
            return Challenge(splice(witness.digest_challenge(), rest))
        if len(self.sent) != 2:
            return Success(None)
        said = splice(b"rspauth=" + self._proof(), rest)
        return Challenge(said) if kind == b"X" else Success(said)

    def _proof(self) -> bytes:
        response = self.sent[1]
        assert response is not None
        return witness.digest_proof(response, self.password)

    def _take(self, step: Respond | Compute) -> None:
        assert isinstance(step, Respond)
        self.sent.append(step.data)
        if len(self.sent) == 1:
            assert step.data is None
            return
        assert step.data is not None
        assert self.password.encode() not in step.data
        assert self.password not in repr(step)
        if len(self.sent) == 2:
            assert len(step.data) < MAX_RESPONSE
            assert b'cnonce="ournonce",nc=00000001,qop=auth' in step.data
            assert b"response=" in step.data
        else:
            assert not step.data

    def _check_proof(self) -> None:
        assert len(self.sent) >= 2, "success without any response"
        expected = self._proof()
        assert len(self.came) >= 2, "success without a proof of the server"
        for data in self.came[1:]:
            assert expected in data, "success with a wrong proof"
