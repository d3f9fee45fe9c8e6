"""What is acknowledged to a server with stream management while handlers are at work (protocol-notes A10, K39)."""

from __future__ import annotations

import asyncio
import re

import pytest

from pcj import Event, Status, ping
from tests.shell.links import Record, Wire, client, never, run, scripted

SM = "urn:xmpp:sm:3"
BIND = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
FROM = "from='juliet@localhost' to='romeo@localhost/orchard'"


async def managed(wire: Wire) -> None:
    """Up to READY with stream management."""
    await wire.login(f"{BIND}<sm xmlns='{SM}'/>")
    await wire.bind()
    await wire.until("<enable")
    wire.send(f"<enabled xmlns='{SM}'/>")


async def handled(wire: Wire) -> int:
    """How many it says that it has handled."""
    wire.send(f"<r xmlns='{SM}'/>")
    found = re.search(r"""<a [^>]*h=["']([0-9]+)""", await wire.until("<a ") + await wire.until(">"))
    assert found is not None
    return int(found[1])


def messages(first: int, last: int) -> str:
    return "".join(f"<message {FROM} id='{number}'/>" for number in range(first, last + 1))


@pytest.mark.parametrize(
    ("ack_on", "counts"), [("handled", [0, 0, 2, 7]), ("received", [3, 7, 7, 7])], ids=["handled", "received"]
)
def test_a_request_for_h_is_answered_at_once_with_what_every_handler_has_returned_from(
    ack_on: str, counts: list[int]
) -> None:
    """One raises on every other, one is stuck on the first and third, one awaits a reply on each."""

    async def main() -> None:
        first, third, came = asyncio.Event(), asyncio.Event(), [asyncio.Event() for _ in range(2)]
        said: list[int] = []
        over, ended = never(), asyncio.Event()

        async def script(wire: Wire) -> None:
            await managed(wire)
            wire.send(messages(1, 3))
            said.append(await handled(wire))
            for _ in range(3):
                identity = await wire.request()
                wire.send(f"<iq type='result' id='{identity}' from='romeo@localhost'/>")
            await came[0].wait()
            wire.send(f"<presence {FROM}/>")  # of which nobody has to do anything for long
            said.append(await handled(wire))
            first.set()
            await came[1].wait()
            said.append(await handled(wire))
            third.set()
            await over
            said.append(await handled(wire))
            ended.set()
            await wire.close()

        async with scripted(script) as at:
            broker = client(at.port, ack_on=ack_on)
            record = Record(broker)
            asked: list[str | None] = []
            stuck: list[str | None] = []

            @broker.on(Event.PCJ_NODERECEIVED)
            def raises(status: Status) -> None:
                if status.node is not None and status.node.get("id") in ("1", "3"):
                    raise ValueError(status.node.get("id"))

            @broker.on(Event.PCJ_NODERECEIVED)
            async def sleeps(status: Status) -> None:
                assert status.node is not None
                identity = status.node.get("id")
                stuck.append(identity)
                if identity == "1":
                    await first.wait()
                if identity == "3":
                    came[1].set()
                    await third.wait()
                if identity is None:
                    over.set_result(None)

            @broker.on(Event.PCJ_NODERECEIVED)
            async def asks(status: Status) -> None:
                assert status.node is not None
                if status.node.tag.endswith("message"):
                    await broker.return_to_sender(ping(to="romeo@localhost"))
                    asked.append(status.node.get("id"))
                    if len(asked) == 3:
                        came[0].set()

            async with broker:
                await ended.wait()
            assert asked == ["1", "2", "3"]
            assert stuck == ["1", "2", "3", None]
            assert said == counts
            assert len(record.of(Event.HANDLER_FAILED)) == 2
            record.check()

    run(main)
