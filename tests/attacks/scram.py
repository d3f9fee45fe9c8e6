"""A SCRAM server that says what a play wants it to say, and knows the password all the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import pbkdf2_hmac
from typing import Final

from pcj.sasl.scram import base64_text, server_signature
from pcj.sasl.steps import decode_base64
from tests.attacks.foe import Foe
from tests.attacks.stage import PASSWORD

SALT: Final = base64_text(b"salt of the foe")
#: What the server adds to the client's nonce.
OURS: Final = "0f5e"

First = Callable[[str], str]
Final_ = Callable[[str], str]


def honest(nonce: str) -> str:
    """The first message as it should be, given the client's nonce."""
    return f"r={nonce}{OURS},s={SALT},i=4096"


def signed(signature: str) -> str:
    """The last message as it should be."""
    return f"v={signature}"


class Exchange:
    """What became of one.

    Attributes:
        mechanism: that the client chose. header: its gs2 header. nonce: its part. final: its last message.
        signature: what the server proves itself by, in base64.
    """

    def __init__(self, mechanism: str, header: str, nonce: str) -> None:
        self.mechanism = mechanism
        self.header = header
        self.nonce = nonce
        self.final = self.signature = ""


async def begun(foe: Foe) -> tuple[Exchange, str]:
    """The client's first message: the exchange, and its bare part."""
    mechanism, initial = await foe.take_auth()
    assert initial is not None
    flag, authzid, bare = initial.decode().split(",", 2)
    return Exchange(mechanism, f"{flag},{authzid},", bare.partition(",r=")[2]), bare


async def answered(foe: Foe, first: First = honest) -> Exchange:
    """Up to the client's proof; the signature is right for what was said."""
    exchange, bare = await begun(foe)
    said = first(exchange.nonce)
    foe.challenge(said)
    exchange.final = (await foe.take_response()).decode()
    algorithm = exchange.mechanism.removeprefix("SCRAM-").removesuffix("-PLUS").replace("-", "").lower()
    found = re.search(r"s=([^,]+),i=([0-9]+)", said)
    assert found is not None, said
    salt = decode_base64(found[1])
    assert salt is not None
    salted = pbkdf2_hmac(algorithm, PASSWORD.encode(), salt, int(found[2]))
    proved = f"{bare},{said},{exchange.final.rpartition(',p=')[0]}".encode()
    exchange.signature = base64_text(server_signature(algorithm, salted, proved))
    return exchange
