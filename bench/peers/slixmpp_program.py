"""slixmpp's part in the benchmarks: ``python slixmpp_program.py ROLE``."""

from __future__ import annotations

import asyncio
import json
import sys

from slixmpp.componentxmpp import ComponentXMPP


async def echo_component(options):
    component = ComponentXMPP(options["domain"], "secret", "127.0.0.1", options["port"])
    component.add_event_handler("message", lambda message: message.reply(message["body"]).send())
    ended = asyncio.get_running_loop().create_future()
    component.add_event_handler("disconnected", lambda reason: ended.done() or ended.set_result(None))
    component.connect()
    await ended


ROLES = {"echo-component": echo_component}

if __name__ == "__main__":
    asyncio.run(ROLES[sys.argv[1]](json.loads(sys.stdin.readline())))
