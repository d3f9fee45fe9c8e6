"""Every event of a failure carries why: phase, addresses, what was expected, what came, whether to try again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from pcj import Broker, ConnectionFailed, Event, Status
from tests.shell.links import Record, Wire, client, closed_port, component, run, scripted, server, turns


def told(status: Status) -> Mapping[str, Any]:
    """What it carries, without what every status does."""
    return {name: value for name, value in status.detail.items() if name not in ("attempt", "session")}


async def fail(broker: Broker) -> ConnectionFailed:
    with pytest.raises(ConnectionFailed) as caught:
        await broker.connect()
    return caught.value


def test_connectfail_carries_each_address_with_its_error() -> None:
    async def main() -> None:
        port = closed_port()
        broker = component(port)
        record = Record(broker)
        error = await fail(broker)
        status = record.one(Event.PCJ_CONNECTFAIL)
        assert told(status) == {
            "phase": "connect",
            "retry": "fast",
            "address": f"127.0.0.1:{port}",
            "tried": ((f"127.0.0.1:{port}", "connection refused"),),
            "expected": "a connection",
            "came": "refused",
        }
        assert told(status) == error.failure.detail

    run(main)


async def _wrong_password(wire: Wire) -> None:
    await wire.header("jabber:client", version="1.0")
    wire.features("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>")
    await wire.until("</auth>")
    wire.send("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text>No.</text></failure>")
    await wire.close()


async def _host_unknown(wire: Wire) -> None:
    await wire.header("jabber:client", version="1.0")
    namespace = "urn:ietf:params:xml:ns:xmpp-streams"
    wire.send(
        f"<stream:error><host-unknown xmlns='{namespace}'/><text xmlns='{namespace}'>Not here.</text></stream:error>"
    )
    await wire.rest()


async def _no_bind(wire: Wire) -> None:
    await wire.login()
    identity = await wire.request()
    wire.send(
        f"<iq type='error' id='{identity}'><error type='cancel'>"
        "<not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
    await wire.close()


async def _no_tls(wire: Wire) -> None:
    await wire.header("jabber:client", version="1.0")
    wire.features("")
    await wire.until("<starttls")
    wire.send("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>")
    await wire.rest()


@pytest.mark.parametrize(
    ("script", "event", "options", "phase", "condition", "text", "expected"),
    [
        (_wrong_password, Event.PCJ_AUTHFAIL, {}, "authenticate", "not-authorized", "No.", "<success>"),
        (_host_unknown, Event.STREAM_ERROR, {}, "stream", "host-unknown", "Not here.", "<stream:features>"),
        (_no_bind, Event.PCJ_BINDFAIL, {}, "bind", "not-allowed", "", None),
        (_no_tls, Event.PCJ_SSLFAIL, {"require_tls": True}, "tls", "", "", None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_event_of_a_phase_carries_what_the_failure_says(
    script: Callable[[Wire], Awaitable[None]],
    event: Event,
    options: dict[str, Any],
    phase: str,
    condition: str,
    text: str,
    expected: str | None,
) -> None:
    async def main() -> None:
        async with scripted(script) as at:
            broker = client(at.port, **options)
            record = Record(broker)
            failure = (await fail(broker)).failure
            detail = told(record.one(event))
            assert detail["phase"] == phase
            assert detail["address"] == f"127.0.0.1:{at.port}"
            assert detail["retry"] in ("fatal", "slow", "fast")
            assert detail.get("condition", "") == condition
            assert detail.get("text", "") == text
            if expected is not None:
                assert detail.get("expected", "") == expected
            assert detail["came"]
            assert {name: value for name, value in failure.detail.items() if name != "tried"} == {
                name: value for name, value in detail.items() if name != "tried"
            }

    run(main)


def test_a_broken_socket_says_so_while_ready_and_names_the_phase_it_broke_off_before() -> None:
    async def main() -> None:
        async def breaks(wire: Wire) -> None:
            await wire.component()
            wire.reset()

        async def breaks_early(wire: Wire) -> None:
            await wire.header()
            await wire.until("</handshake>")
            wire.reset()

        async with scripted(breaks) as at:
            broker = component(at.port)
            record = Record(broker)
            try:
                await broker.connect()
            except ConnectionFailed:
                pass  # it may break in the very moment
            while not record.of(Event.PCJ_SOCKETDISCONNECT):
                await turns()
            detail = told(record.one(Event.PCJ_SOCKETFAIL))
            assert (detail["phase"], detail["retry"], detail["address"]) == ("ready", "fast", f"127.0.0.1:{at.port}")
            assert detail["expected"] == "an open stream"
            assert detail["came"]
            assert "Errno" not in str(detail["came"]) + broker.explain()
        async with scripted(breaks_early) as at:
            broker = component(at.port)
            record = Record(broker)
            await fail(broker)
            assert told(record.one(Event.PCJ_SOCKETFAIL)) == told(record.one(Event.PCJ_AUTHFAIL))
            assert told(record.one(Event.PCJ_SOCKETFAIL))["phase"] == "authenticate"

    run(main)


def test_what_is_no_xml_while_ready_is_quoted_from_where_it_goes_wrong() -> None:
    async def main() -> None:
        async def babbles(wire: Wire) -> None:
            await wire.component()
            wire.send("<message><body>a secret</body></message><iq>&nbsp;</iq>")
            await wire.rest()

        async with scripted(babbles) as at:
            broker = component(at.port)
            record = Record(broker)
            try:
                await broker.connect()
            except ConnectionFailed:
                pass  # it may be over in the very moment
            while not record.of(Event.PCJ_SOCKETDISCONNECT):
                await turns()
            detail = told(record.one(Event.STREAM_ERROR))
            assert (detail["expected"], detail["came"]) == ("well-formed XML", "'&nbsp;</iq>'")
            assert "(undefined entity), at '&nbsp;</iq>'" in broker.explain()
            assert "a secret" not in broker.explain()

    run(main)


def test_a_stream_error_while_ready_carries_the_servers_condition_and_text() -> None:
    async def main() -> None:
        async with server() as at:
            broker = component(at.component_port)
            record = Record(broker)
            async with broker:
                await at.close_stream(broker.jid, "system-shutdown", text="Back soon.")
                while not record.of(Event.PCJ_SOCKETDISCONNECT):
                    await turns()
            detail = told(record.one(Event.STREAM_ERROR))
            assert detail["phase"] == "ready"
            assert detail["condition"] == "system-shutdown"
            assert detail["text"] == "Back soon."
            assert (detail["expected"], detail["came"]) == ("an open stream", "<stream:error> system-shutdown")

    run(main)


def test_a_failure_as_json_has_it_all_in_one_line() -> None:
    async def main() -> None:
        port = closed_port()
        broker = component(port)
        record = Record(broker)
        await fail(broker)
        line = record.one(Event.PCJ_CONNECTFAIL).to_json()
        assert f'"tried": [["127.0.0.1:{port}", "connection refused"]]' in line

    run(main)
