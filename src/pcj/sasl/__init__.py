"""SASL (RFC 4422): mechanisms as generators, without input and output.

`choose` picks a `Mechanism` and the channel to run it over; its `exchange` makes a generator that yields `Respond` and
`Compute` and is sent `Challenge`, `Success` or the computation's result (`pcj.sasl.steps` has the rules). `Memory` is
what one broker keeps from one log-in to the next. The answering side is in `pcj.sasl.server`.
"""

from pcj.sasl.choose import MECHANISMS, Choice, Terms, choose, refusal
from pcj.sasl.memory import Memory
from pcj.sasl.steps import (
    Challenge,
    Channel,
    Compute,
    Credentials,
    Exchange,
    Guard,
    Limits,
    Mechanism,
    Need,
    Respond,
    Success,
    decode_data,
    decode_success,
    encode_data,
)

__all__ = [
    "MECHANISMS",
    "Challenge",
    "Channel",
    "Choice",
    "Compute",
    "Credentials",
    "Exchange",
    "Guard",
    "Limits",
    "Mechanism",
    "Memory",
    "Need",
    "Respond",
    "Success",
    "Terms",
    "choose",
    "decode_data",
    "decode_success",
    "encode_data",
    "refusal",
]
