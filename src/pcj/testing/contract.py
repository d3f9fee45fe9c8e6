"""Hold a broker's events against the contract, in users' own tests."""

from __future__ import annotations

from pcj.broker import Broker
from pcj.events import Status
from pcj.explain import State
from pcj.protocol.order import PLACE_OF, TYPES, Order

__all__ = ["Contract"]


class Contract:
    """Hears every event of a broker and notes each that breaks the order of docs/events.md.

    Make it before `connect`, or while the broker is idle, READY or waiting; not in a handler::

        contract = Contract(broker)
        ...
        contract.check()

    Args:
        broker: whose events. It may be of any of the four connection types.

    Attributes:
        violations: what was wrong, one sentence each.

    Raises:
        ValueError: the broker is in the middle of something, so that what may come next is not known; or it is of a
            connection type that was registered from outside, of which nothing is known.
    """

    def __init__(self, broker: Broker) -> None:
        if broker.config.connection_type not in TYPES:
            raise ValueError(f"the order of events is not known of {broker.config.connection_type!r}")
        place = PLACE_OF.get(broker.state)
        if place is None or broker._dispatcher.telling or broker._link.unsettled:
            raise ValueError(f"a broker that is {State(broker.state)}, and in the middle of it, cannot be followed")
        self._broker = broker
        self._order = Order(broker.config.connection_type, place, broker.pending)
        self.violations: list[str] = []
        broker.subscribe("*", self._hear)

    def _hear(self, status: Status) -> None:
        wrong = self._order.follow(status)
        if wrong is not None:
            self.violations.append(wrong)

    def check(self) -> None:
        """Raise AssertionError if any event came where it may not, or has not come where the broker rests now."""
        broker = self._broker
        telling = broker._dispatcher.telling or broker._link.unsettled
        missing = None if telling else self._order.finish(broker.state, broker.pending)
        wrong = self.violations if missing is None else [*self.violations, missing]
        if wrong:
            raise AssertionError("the order of events was broken: " + "; ".join(wrong))
