"""SASL (RFC 4422): mechanisms as generators, without input and output.

`choose` picks a `Mechanism`; its `exchange` makes a generator that yields `Respond` and `Compute` and is sent
`Challenge`, `Success` or the computation's result (`pcj.sasl.steps` has the rules). The answering side is in
`pcj.sasl.server`.
"""

from pcj.sasl.choose import MECHANISMS, choose, refusal
from pcj.sasl.steps import (
    Challenge,
    Compute,
    Credentials,
    Exchange,
    Limits,
    Mechanism,
    Respond,
    Success,
    decode_data,
    decode_success,
    encode_data,
)

__all__ = [
    "MECHANISMS",
    "Challenge",
    "Compute",
    "Credentials",
    "Exchange",
    "Limits",
    "Mechanism",
    "Respond",
    "Success",
    "choose",
    "decode_data",
    "decode_success",
    "encode_data",
    "refusal",
]
