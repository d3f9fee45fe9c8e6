"""What the kernel says of a peer that is slow, and of a network that is gone: as Linux was seen to say it."""

from __future__ import annotations

import sys

import pytest

from pcj.transport.slowness import takes_slowly

if sys.platform != "linux":
    pytest.skip("only Linux tells", allow_module_level=True)

import fcntl


class Told:
    """A socket of which the kernel says this: bytes in its queue, and the first of `struct tcp_info`."""

    def __init__(self, retransmits: int, probes: int) -> None:
        self.info = bytes([1, 0, retransmits, probes])

    def fileno(self) -> int:
        return 7

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        return self.info[:buflen]


@pytest.mark.parametrize(
    ("waiting", "retransmits", "probes", "slowly"),
    [
        (0, 0, 0, False),  # all was taken: whoever does not answer now does not want to
        (5, 0, 0, True),
        (5, 1, 0, True),  # a packet was lost
        (2_500_000, 0, 1, True),  # a probe of the full window is on its way
        (5, 3, 0, False),  # a network that is gone: so many after 2 s ...
        (5, 6, 0, False),  # ... and after 20
        (5, 0, 2, False),
    ],
)
def test_bytes_that_wait_at_a_machine_that_answers_are_taken_slowly(
    monkeypatch: pytest.MonkeyPatch, waiting: int, retransmits: int, probes: int, slowly: bool
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: waiting.to_bytes(4, sys.byteorder))
    assert takes_slowly(Told(retransmits, probes)) is slowly


@pytest.mark.parametrize("number", [-1, 1_000_000])
def test_a_socket_that_is_closed_takes_nothing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(Told, "fileno", lambda _: number)
    assert not takes_slowly(Told(0, 0))
