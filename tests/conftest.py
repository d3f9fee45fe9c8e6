"""The contract of the events' order is on in every test: whatever a broker fires is held against its table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pcj import Broker, Config
from pcj.events import Status
from pcj.protocol.order import Order


@pytest.fixture(autouse=True)
def _order_of_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    violations: list[str] = []
    setup = Broker._setup

    def followed(broker: Broker, config: Config) -> None:
        setup(broker, config)
        order = Order(config.connection_type)

        logged = broker._dispatcher.follower

        def follow(status: Status) -> None:
            if logged is not None:
                logged(status)
            wrong = order.follow(status)
            if wrong is not None:
                violations.append(wrong)

        broker._dispatcher.follower = follow

    monkeypatch.setattr(Broker, "_setup", followed)
    yield
    assert violations == []
