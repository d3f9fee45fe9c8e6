"""A server that repeats our password once the link is READY shows it to nobody by that."""

from __future__ import annotations

import asyncio
import base64

import pytest

from pcj import Event, Status
from tests.shell.links import SECRET, Wire, component, run, scripted

SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
ENCODED = base64.b64encode(f"\0romeo\0{SECRET}".encode()).decode()
SAID = [
    (f"<{SECRET}:x/>", Event.STREAM_ERROR),
    (f"<?{SECRET}?>", Event.STREAM_ERROR),
    (f"<message><a></{SECRET}></message>", Event.STREAM_ERROR),
    (f"<auth xmlns='{SASL}'>{ENCODED}</auth>", Event.NODE_IGNORED),
    (f"<challenge xmlns='{SASL}' a='{SECRET}'>{SECRET}</challenge>", Event.NODE_IGNORED),
    (
        f"<stream:error><text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{SECRET}</text></stream:error>",
        Event.STREAM_ERROR,
    ),
]


@pytest.mark.parametrize(("said", "event"), SAID)
@pytest.mark.parametrize("supplied", [False, True], ids=["in-the-options", "supplied"])
def test_what_repeats_the_password_is_told_without_it(
    said: str, event: Event, supplied: bool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Status] = []

    async def script(wire: Wire) -> None:
        await wire.component(said)
        await wire.rest()

    async def main() -> None:
        async with scripted(script) as at:
            broker = component(at.port, debug=True)
            if supplied:
                broker = type(broker)(
                    broker.config.connection_type,
                    broker.config.jid,
                    password=lambda: SECRET,
                    host="127.0.0.1",
                    port=at.port,
                    debug=True,
                )
            told = asyncio.Event()
            broker.subscribe(event, seen.append)
            broker.subscribe(event, lambda status: told.set())
            await broker.connect()
            await asyncio.wait_for(told.wait(), 5)
            await broker.shutdown()
            assert SECRET not in broker.explain()

    with caplog.at_level("DEBUG"):
        run(main)
    assert seen
    for status in seen:
        shown = f"{status!r} {status.to_json()} {status.error!s}"
        assert SECRET not in shown
        assert ENCODED not in shown
    assert SECRET not in caplog.text
