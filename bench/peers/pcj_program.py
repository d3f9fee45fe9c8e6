"""pcj's part in the benchmarks, as a user would write it: ``python pcj_program.py ROLE``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pcj import JABBERD14_COMPONENT, Broker, Event, Status, message


async def echo_component(options: dict[str, Any]) -> None:
    """Answer each message with its body, until the stream ends."""
    extra = options.get("options", {})
    broker = Broker(
        JABBERD14_COMPONENT, options["domain"], password="secret", host="127.0.0.1", port=options["port"], **extra
    )

    @broker.on(Event.PCJ_NODERECEIVED)
    def reply(status: Status) -> None:
        node = status.node
        assert node is not None
        broker.output(
            message(
                to=node.get("from"),
                from_=node.get("to"),
                id=node.get("id"),
                type="chat",
                body=node.findtext("{jabber:client}body"),
            )
        )

    ended = asyncio.ensure_future(broker.wait_for(Event.PCJ_SOCKETDISCONNECT))
    await broker.connect()
    await ended
    await broker.shutdown()


ROLES = {"echo-component": echo_component}


def main() -> None:
    """One role."""
    options = json.loads(sys.stdin.readline())
    asyncio.run(ROLES[sys.argv[1]](options))


if __name__ == "__main__":
    main()
