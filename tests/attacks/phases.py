"""Servers that do as they should, up to one phase of a negotiation."""

from __future__ import annotations

from typing import Final

from pcj.namespaces import TLS
from tests.attacks.foe import Foe, header, mechanisms
from tests.attacks.stage import COMPONENT_KIND, PASSWORD, ROUTER_KIND

STARTTLS: Final = f"<starttls xmlns='{TLS}'/>"


async def at_features(foe: Foe) -> None:
    await foe.header()


async def at_auth(foe: Foe) -> None:
    await foe.greet(mechanisms("SCRAM-SHA-256"))
    await foe.take_auth()


async def at_bind(foe: Foe) -> None:
    await foe.log_in(PASSWORD)
    await foe.asked()


async def at_handshake(foe: Foe) -> None:
    await foe.header(COMPONENT_KIND.xmlns, version=None)
    await foe.until("</handshake>")


async def at_iq_auth(foe: Foe) -> None:
    await foe.header(version=None)
    await foe.asked()


async def at_proceed(foe: Foe) -> None:
    await foe.greet(STARTTLS)
    await foe.until("<starttls")


async def at_greeting(foe: Foe) -> None:
    await foe.greeting()
    foe.send(header()[:-1] + " ")


async def at_router(foe: Foe) -> None:
    await foe.header(ROUTER_KIND.xmlns)


async def at_router_bind(foe: Foe) -> None:
    await ROUTER_KIND.ready(foe)
