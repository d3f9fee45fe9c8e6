"""The contract of the events' order is on in every test: whatever a broker fires is held against its table."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from pcj import Broker, Config
from pcj.events import Status
from pcj.protocol.order import Order
from pcj.transport import lookup


@pytest.fixture(autouse=True)
def _order_of_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    violations: list[str] = []
    followed_ones: list[tuple[weakref.ref[Broker], Order]] = []
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
        followed_ones.append((weakref.ref(broker), order))

    monkeypatch.setattr(Broker, "_setup", followed)
    yield
    for reference, order in followed_ones:
        broker = reference()
        missing = order.finish(broker.state, broker.pending) if broker is not None else None
        if missing is not None:
            violations.append(missing)
    assert violations == []


@pytest.fixture(autouse=True)
def _look_ups_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may give its loop a `getaddrinfo` of its own, which is then asked in place of the system."""
    system = lookup.getaddrinfo

    async def getaddrinfo(name: str, port: int, *, family: int) -> Any:
        replaced = vars(asyncio.get_running_loop()).get("getaddrinfo")
        return await (replaced or system)(name, port, family=family)

    monkeypatch.setattr(lookup, "getaddrinfo", getaddrinfo)
