"""The public checker of the order of events, and `debug=True`, which logs what breaks it."""

from __future__ import annotations

import logging

import pytest

from pcj import JABBERD14_COMPONENT, Broker, Dialect, Event, Status, register_dialect
from pcj.broker import _log_event
from pcj.protocol import dialect, dialect_of
from pcj.protocol.order import Order
from pcj.testing import Contract, Server
from tests.shell.links import run


def component(at: Server, **options: bool) -> Broker:
    return Broker(
        JABBERD14_COMPONENT, "comp.localhost", password="secret", host=at.host, port=at.component_port, **options
    )


def server() -> Server:
    return Server(components={"comp.localhost": "secret"})


def test_a_run_that_keeps_the_contract_is_let_pass() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at)
            contract = Contract(broker)
            async with broker:
                later = Contract(broker)  # one that begins at READY
            contract.check()
            later.check()

    run(main)


def test_an_event_out_of_place_is_named_with_what_could_have_come() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at)
            contract = Contract(broker)
            for event in (Event.PCJ_CONNECT, Event.PCJ_CONNECTING, Event.PCJ_READY):
                contract._hear(Status(event, 0.0, 1))
            with pytest.raises(AssertionError, match=r"PCJ_READY .* 'connecting'; there may come .*PCJ_CONNECTED"):
                contract.check()

    run(main)


def test_in_the_middle_of_something_it_cannot_begin() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at)
            refused: list[str] = []

            def begin(status: object) -> None:
                with pytest.raises(ValueError, match="negotiating"):
                    Contract(broker)
                refused.append("refused")

            broker.subscribe(Event.PCJ_AUTHNEGOTIATE, begin)
            async with broker:
                assert refused

    run(main)


def test_debug_logs_every_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pcj")

    async def main() -> None:
        async with server() as at:
            broker = component(at, debug=True)
            async with broker:
                pass
            assert [record.levelname for record in caplog.records if record.levelname != "DEBUG"] == []
            assert "comp.localhost Status(PCJ_READY" in caplog.text
            assert "<handshake" in caplog.text  # a node is shown as it is, but for what is secret
            assert "[redacted]" in caplog.text
            assert "<Element" not in caplog.text

    run(main)


def test_debug_logs_an_event_that_breaks_the_contract(caplog: pytest.LogCaptureFixture) -> None:
    _log_event("romeo", Order(JABBERD14_COMPONENT), Status(Event.PCJ_READY, 0.0, 1))
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "romeo: the order of events is broken" in error.getMessage()


def test_what_has_not_come_where_the_broker_rests_is_said() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at)
            contract = Contract(broker)
            async with broker:
                contract.check()
            contract._order.place = "closing, ending"  # as if SOCKETDISCONNECT and all behind it had not been told
            with pytest.raises(AssertionError, match="the broker is idle, and its events ended in the place 'closing"):
                contract.check()

    run(main)


def test_of_a_connection_type_from_outside_nothing_is_known_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "_registry", dict(dialect._registry))
    register_dialect(Dialect("KNOCK", dialect_of("XMPP").negotiate, "jabber:client"))
    with pytest.raises(ValueError, match="'KNOCK'"):
        Contract(Broker("KNOCK", "romeo@example.org", password="x"))
