"""What one broker remembers of its log-ins, from one connection to the next; never of another broker's."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from pcj.sasl.steps import Compute, Guard

__all__ = ["Memory"]

#: How many results are kept; a server has one salt for an account and a hash.
MAX_KEPT: Final = 8
_Key = tuple[object, ...]


class Memory:
    """Results of slow computations, and what protected the password when it last was accepted.

    Attributes:
        floor, floor_type: the best guard an authentication succeeded with, and its type of channel binding; nothing
            less is used after it (XEP-0474). secured: whether TLS stood then, which is required after it.
        stream_id: of the last stream whose id salted a digest (XEP-0114, XEP-0078), or "". secrets: forms of a password
            that the options do not hold, for which what the server says is searched.
    """

    def __init__(self) -> None:
        self.floor = Guard.NONE
        self.floor_type = ""
        self.secured = False
        self.stream_id = ""
        self.secrets: set[str] = set()
        self._kept: OrderedDict[_Key, object] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Memory floor={self.floor.name} kept={len(self._kept)}>"  # what is kept is as good as the password

    def recall(self, work: Compute) -> object:
        """The result of `work`, if it is known, or None."""
        key = _key(work)
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def keep(self, work: Compute, result: object) -> None:
        """Remember a result, so that a reconnect costs nothing; the oldest goes where there are too many."""
        self._kept[_key(work)] = result
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def accepted(self, guard: Guard, kind: str = "", *, secured: bool = False) -> None:
        """An authentication succeeded; `kind` is its type of channel binding, `secured` whether it was inside TLS."""
        self.floor = max(self.floor, guard)
        self.floor_type = kind or self.floor_type
        self.secured = self.secured or secured

    def supplied(self, forms: set[str]) -> None:
        """A function gave the password, in `forms`. If it is another, what was computed of the last one goes."""
        if forms != self.secrets:
            self.forget()
            self.secrets = forms

    def forget(self) -> None:
        """Let go of all that could stand for the password; after a refusal, and at the end."""
        self._kept.clear()
        self.secrets = set()


def _key(work: Compute) -> _Key:
    """PBKDF2's hash, salt and count. The password is not in it: what is kept belongs to one, and goes with it."""
    return tuple(argument for index, argument in enumerate(work.arguments) if index != 1)
