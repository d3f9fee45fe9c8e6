"""SCRAM's messages (RFC 5802, 7677; XEP-0474): `pcj.sasl.scram`, the client's side.

Invariant. Whatever a server says, the exchange goes on, ends or raises `SaslError`, whose sentence is bounded, safe to
print and without the password. It ends well only if the server sent the signature that the password, and every message
as it was, lead to. It answers once with a proof, to a nonce that begins with ours and goes on, and computes no more
rounds than the bounds allow. Nothing of it shows the password.

Input, line by line: the first says how ("1", "2" or "5": SHA-1, SHA-256 or SHA-512; "y" or "p": the flag of channel
binding; "o": the server's offer is known, "v": it must vouch for it); then what the server says: "C" a challenge, "S" a
success with data, "N" one without, "P" what is due, with an edit if more letters follow ("X": in a challenge, where it
would come with the success).
"""

from __future__ import annotations

import base64
import re

from fuzz import witness
from fuzz.common import shown_safely, splice
from fuzz.good_server import PASSWORD, USER
from pcj.errors import SaslError
from pcj.sasl import MECHANISMS, Challenge, Compute, Credentials, Limits, Success
from pcj.sasl.steps import Channel, Respond

__all__ = ["ALLOWED", "DICTIONARY", "MAX_BYTES", "one_input"]

ALLOWED = (SaslError,)
MAX_BYTES = 1024
DICTIONARY: tuple[bytes, ...] = (
    b"\nC",
    b"\nS",
    b"\nN",
    b"\nP",
    b"\nX",
    b"r=ournonceserver",
    b",s=c2FsdA==",
    b",i=4",
    b",i=4096",
    b",i=0",
    b",m=x",
    b",h=",
    b",d=",
    b"v=",
    b"e=other-error",
    b"e=no-resources",
    b",",
    b"=",
    b"==",
)
NONCE = "ournonce"
LIMITS = Limits(min_iterations=2, max_iterations=16)
BOUND_TO = bytes(range(32))
OFFER = ("SCRAM-SHA-1", "SCRAM-SHA-1-PLUS")
#: Messages of a whole exchange: two of ours with data, and an empty one.
MOST_RESPONSES = 3


def one_input(data: bytes) -> None:
    head, *lines = data.split(b"\n")
    Exchange(head).play(lines)


class Exchange:
    """One, and what was said in it."""

    def __init__(self, head: bytes) -> None:
        hash_name = "SHA-1" if b"1" in head else "SHA-512" if b"5" in head else "SHA-256"
        binds = b"p" in head
        self.name = f"SCRAM-{hash_name}" + ("-PLUS" if binds else "")
        flag = "p=tls-exporter" if binds else "y" if b"y" in head else "n"
        known = b"o" in head or b"v" in head
        self.channel = Channel(
            flag,
            BOUND_TO if binds else b"",
            OFFER if known else None,
            ("tls-exporter",) if known else None,
            b"v" in head,
        )
        mechanism = next(each for each in MECHANISMS if each.name == self.name)
        self.exchange = mechanism.exchange(Credentials(USER, PASSWORD), NONCE, LIMITS, self.channel)
        self.sent: list[bytes] = []
        self.came: list[bytes] = []
        self.done = False

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
            shown_safely(error, [PASSWORD])
            assert isinstance(error.condition, str)
        except StopIteration:
            self.done = True
            self._check_proof()
        assert len(self.sent) <= MOST_RESPONSES

    def _said(self, line: bytes) -> Challenge | Success:
        kind, rest = line[:1], line[1:]
        if kind == b"C":
            return Challenge(rest)
        if kind == b"S":
            return Success(rest)
        if kind not in (b"P", b"X"):
            return Success(None)
        if len(self.sent) == 1:
            return Challenge(splice(witness.scram_first(self.sent[0]), rest))
        if len(self.sent) > MOST_RESPONSES - 1 or not self.came:
            return Success(None)
        final = splice(b"v=" + self._proof(), rest)
        return Challenge(final) if kind == b"X" else Success(final)

    def _proof(self) -> bytes:
        return witness.scram_proof(self.name, PASSWORD, self.sent[0], self.came[0], self.sent[1])

    def _take(self, step: Respond | Compute) -> None:
        while isinstance(step, Compute):
            assert PASSWORD not in repr(step)
            *_, salt, iterations = step.arguments
            assert isinstance(salt, bytes)
            assert isinstance(iterations, int)
            assert 1 <= len(salt) <= 1024
            assert LIMITS.min_iterations <= iterations <= LIMITS.max_iterations
            step = self.exchange.send(step.run())
        assert isinstance(step, Respond)
        data = step.data if step.data is not None else b""
        assert PASSWORD not in repr(step)
        assert PASSWORD.encode() not in data
        self.sent.append(data)
        if len(self.sent) == 1:
            assert data == f"{self.channel.flag},,n={USER},r={NONCE}".encode()
        elif len(self.sent) == 2:
            nonce = re.fullmatch(rb"c=[A-Za-z0-9+/=]+,r=([!-+\--~]+),p=[A-Za-z0-9+/=]+", data)
            assert nonce is not None, data
            assert nonce[1].startswith(NONCE.encode())
            assert len(nonce[1]) > len(NONCE), "it answers to our own nonce"
            bound = base64.b64decode(data[2 : data.index(b",")])
            assert bound == f"{self.channel.flag},,".encode() + self.channel.data
        else:
            assert not data

    def _check_proof(self) -> None:
        assert len(self.sent) >= 2, "success without any proof"
        expected = base64.b64decode(self._proof())
        proofs = [data.partition(b",")[0] for data in self.came[1:] if data]
        assert proofs, "success without a proof of the server"
        for proof in proofs:
            assert proof.startswith(b"v=")
            assert base64.b64decode(proof[2:]) == expected, "success with a wrong proof"
        vouched = re.search(rb",h=", self.came[0]) is not None
        assert vouched or not self.channel.vouched, "nobody vouched for the offer"
