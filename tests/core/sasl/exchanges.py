"""Helpers: drive a client's exchange by hand, or against our own answering side."""

from __future__ import annotations

from dataclasses import dataclass, field

from pcj.sasl import Challenge, Channel, Compute, Credentials, Exchange, Limits, Mechanism, Respond, Success
from pcj.sasl.server import Answer


@dataclass
class Client:
    """A client's exchange whose computations are done at once."""

    exchange: Exchange
    sent: list[bytes | None] = field(default_factory=list)
    done: bool = False

    def start(self) -> bytes | None:
        """The initial response."""
        return self._take(next(self.exchange))

    def challenge(self, data: bytes) -> bytes | None:
        """What it responds to a challenge."""
        return self._take(self.exchange.send(Challenge(data)))

    def success(self, data: bytes | None = None) -> None:
        """It must end on this success."""
        try:
            step = self.exchange.send(Success(data))
        except StopIteration:
            self.done = True
        else:
            raise AssertionError(f"it went on after success: {step!r}")

    def _take(self, step: Respond | Compute) -> bytes | None:
        while isinstance(step, Compute):
            step = self.exchange.send(step.run())
        self.sent.append(step.data)
        return step.data


def client(
    mechanism: Mechanism,
    credentials: Credentials,
    nonce: str,
    limits: Limits | None = None,
    channel: Channel | None = None,
) -> Client:
    return Client(mechanism.exchange(credentials, nonce, limits or Limits(), channel or Channel()))


def authenticate(user: Client, server: Answer, initial: bytes | None) -> str:
    """Let both talk until the server names the user.

    `server` was made with `initial`, which is what `user.start()` gave.
    """
    assert user.sent == [initial]
    step = next(server)
    while isinstance(step, Challenge):
        step = server.send(user.challenge(step.data))
    user.success(step.data)
    try:
        next(server)
    except StopIteration as end:
        name = end.value
        assert isinstance(name, str)
        return name
    raise AssertionError("the server went on after success")
