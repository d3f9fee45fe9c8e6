"""Which of the peer's stanzas are handled: the `h` of stream management (XEP-0198 section 4).

A stanza counts when every handler of it has returned. What was only read when the process dies would be lost in
silence: the server forgets what we have acknowledged.
"""

from __future__ import annotations

__all__ = ["Handled"]


class Handled:
    """The stanzas of one session, each with those who still work on it.

    It holds as many entries as there are stanzas begun and not done; the dispatcher's bounds are theirs.

    Args:
        count: how many are done already, where a session is taken over.

    Attributes:
        count: how many are done, from the first one on without a gap. It is not taken modulo 2^32.
    """

    __slots__ = ("_begun", "_holds", "count")

    def __init__(self, count: int = 0) -> None:
        self.count = count
        self._begun = count
        self._holds: dict[int, int] = {}  # by number: how many work on it

    def __repr__(self) -> str:
        return f"<Handled {self.count} of {self._begun}>"

    @property
    def begun(self) -> int:
        """How many have begun."""
        return self._begun

    def __len__(self) -> int:
        """Stanzas that somebody works on."""
        return len(self._holds)

    def next(self) -> int:
        """A stanza begins. Whoever says so holds it, and is to `release` it when all have been told of it.

        Returns:
            Its number, from 1 on.
        """
        self._begun = number = self._begun + 1
        self._holds[number] = 1
        return number

    def hold(self, number: int) -> None:
        """One more works on a stanza that is held already.

        Raises:
            KeyError: nobody holds it: it is done, and may have been acknowledged.
        """
        self._holds[number] += 1

    def release(self, number: int) -> None:
        """One who held a stanza is done with it; with the last of them the stanza is done.

        Raises:
            KeyError: nobody holds it.
        """
        holds = self._holds
        left = holds[number] - 1
        if left:
            holds[number] = left
            return
        del holds[number]
        count = self.count
        if number == count + 1:
            count += 1
            begun = self._begun
            while count < begun and count + 1 not in holds:  # those behind it that were done before it
                count += 1
            self.count = count
