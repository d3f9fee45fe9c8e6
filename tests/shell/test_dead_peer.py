"""A peer that is gone, on real sockets: it is noticed, its link is reset, and nothing of it is heard any more (B5)."""

from __future__ import annotations

import asyncio

import pytest

from pcj import Event, Retry
from tests.core.protocol.play import stream_error
from tests.shell.links import Record, Wire, component, run, scripted, turns

CONFLICT = stream_error("conflict") + "</stream:stream>"


async def how_it_ends(wire: Wire) -> str:
    try:
        while await wire.reader.read(1 << 16):
            pass
    except ConnectionResetError:
        return "reset"
    return "end"


def test_a_peer_that_is_silent_and_does_not_answer_is_left_with_a_reset_and_connected_anew() -> None:
    ends: list[str] = []

    async def main() -> None:
        async def silent(wire: Wire) -> None:
            await wire.component()
            ends.append(await how_it_ends(wire))

        async def lives(wire: Wire) -> None:
            await wire.component()
            await wire.close()

        async with scripted(silent, lives) as at:
            broker = component(
                at.port, silence_timeout=0.03, probe_timeout=0.03, auto_reconnect=True, reconnect_delay=0.01
            )
            record = Record(broker)
            delays, ready = broker.events(Event.RECONNECT_DELAY), broker.events(Event.PCJ_READY)
            await broker.connect()
            delay = await anext(delays)
            for _ in range(2):
                await anext(ready)
            await broker.shutdown()
            record.check()
            probe = record.of(Event.PROBE)[0]
            assert probe.detail["by"] == "ping"
            assert 0.02 < float(str(probe.detail["silence"])) < 1.0
            assert delay.detail["retry"] == Retry.FAST
            assert "did not answer a ping (XEP-0199) within 0.03 s" in str(delay.detail["reason"])
            names = record.names[record.names.index("PROBE") :]
            assert names.index("SOCKETFAIL") < names.index("SOCKETDISCONNECT") < names.index("SESSION_LOST")
            assert "STREAMEND" not in names[: names.index("SOCKETDISCONNECT")]

    run(main)
    assert ends == ["reset"]


def test_a_peer_that_answers_is_asked_again_and_again_and_kept() -> None:
    async def main() -> None:
        async def answers(wire: Wire) -> None:
            await wire.component()
            while True:
                identity = await wire.request()
                wire.send(f"<iq type='result' id='{identity}' from='echo.localhost' to='echo.localhost'/>")

        async with scripted(answers) as at:
            broker = component(at.port, silence_timeout=0.02, probe_timeout=2.0, auto_reconnect=True)
            record = Record(broker)
            probes = broker.events(Event.PROBE)
            await broker.connect()
            for _ in range(3):
                await anext(probes)
            assert "SOCKETFAIL" not in record.names
            assert record.names.count("READY") == 1
            broker.halt()

    run(main)


@pytest.mark.parametrize("how", ["halt", "abort"])
def test_a_conflict_on_an_abandoned_socket_never_reaches_the_classifier(how: str) -> None:
    """The twin of a component that we were ourselves: what the server says to it is not said to us."""
    ends: list[str] = []

    async def main() -> None:
        said = asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            await said.wait()
            wire.send(CONFLICT)
            ends.append(await how_it_ends(wire))

        async with scripted(script) as at:
            broker = component(at.port, auto_reconnect=True)
            await broker.connect()
            link = broker._link
            connection = link.connection
            assert connection is not None
            assert connection.pause_reading()
            said.set()
            await asyncio.sleep(0.02)  # it is in our kernel now
            if how == "halt":
                broker.halt()
            else:
                connection.abort()
            record = Record(broker)
            await turns(10)
            connection.data_received(CONFLICT.encode())  # what asyncio had read already
            connection.eof_received()
            connection.connection_lost(ConnectionResetError("reset"))
            await turns(10)
            assert link.failure is None
            assert record.names == []
            broker.halt()

    run(main)
    assert ends == ["reset"]
