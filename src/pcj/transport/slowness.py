"""What the kernel knows of a peer that takes what we write, but slowly."""

from __future__ import annotations

import socket
import sys
from typing import Final, Protocol

__all__ = ["takes_slowly"]

#: Where Linux's `struct tcp_info` has them: how often the oldest segment, and a probe of a full window, went out anew
#: without an answer.
_RETRANSMITS: Final = 2
_PROBES: Final = 3
#: One may be on its way; a network that is gone answers none, and there are six of them in the first 20 s.
_MOST_UNANSWERED: Final = 1


class _Socket(Protocol):
    def fileno(self) -> int: ...

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def takes_slowly(made: _Socket) -> bool:
    """Whether bytes of ours wait in the kernel although the peer's machine answers: it throttles us (or reads slowly).

    A shaper of a server may take 1 kB/s; what we ask of it then arrives late, and no time limit of ours applies to it.
    Where the kernel does not tell (anywhere but on Linux, or on a Unix socket) this is False.
    """
    if sys.platform != "linux":
        return False
    import fcntl
    import termios

    try:
        waiting = int.from_bytes(fcntl.ioctl(made.fileno(), termios.TIOCOUTQ, b"\0" * 4), sys.byteorder)
        if waiting == 0:
            return False
        info = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _PROBES + 1)
    except (OSError, ValueError):
        return False  # closed, or no TCP
    return len(info) > _PROBES and max(info[_RETRANSMITS], info[_PROBES]) <= _MOST_UNANSWERED
