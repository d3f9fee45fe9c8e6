"""A name server on loopback that says what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

#: What is said to a query of a name: SRV records as text, "NXDOMAIN", "SERVFAIL", None for silence, "CNAME <name>";
#: "NXDOMAIN <zone>" with the SOA record of the zone that lacks it.
#: "<name> A" and "<name> AAAA" have these records. A name that has only other records answers with none.
Zone = Mapping[str, list[str] | str | None]
Forge = Callable[[dns.message.Message], None]


class _Server(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone, forge: Forge | None) -> None:
        self.zone = zone
        self.forge = forge
        self.asked: list[str] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self.reply(dns.message.from_wire(data))
        if reply is None or self.transport is None:
            return
        if self.forge is not None:
            forged = dns.message.from_wire(reply.to_wire())
            forged.answer.clear()
            self.forge(forged)
            self.transport.sendto(forged.to_wire(), addr)
        wire = reply.to_wire(max_size=65535)
        if len(wire) > 1232:  # the rest is to be asked for by TCP
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            wire = reply.to_wire()
        self.transport.sendto(wire, addr)

    async def by_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        reply = self.reply(dns.message.from_wire(await reader.readexactly(length)))
        if reply is not None:
            wire = reply.to_wire(max_size=65535)
            writer.write(len(wire).to_bytes(2, "big") + wire)
        await reader.read()
        writer.close()

    def say(self, name: str, kind: str) -> list[str] | str | None:
        """What is said of a name, asked for records of a kind."""
        if f"{name} {kind}" in self.zone:
            return self.zone[f"{name} {kind}"]
        if name in self.zone:
            own = self.zone[name]
            return [] if isinstance(own, list) and kind != "SRV" else own
        return [] if any(key.startswith(f"{name} ") for key in self.zone) else "NXDOMAIN"

    def reply(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append(name)
        kind = dns.rdatatype.to_text(question.rdtype)
        said = self.say(name, kind)
        if said is None:
            return None
        reply = dns.message.make_response(query, recursion_available=True)  # or an empty answer is taken for none
        owner = question.name
        for _ in range(20):  # a name server follows aliases itself, as long as it likes
            if not isinstance(said, str) or not said.startswith("CNAME "):
                break
            alias = said.removeprefix("CNAME ")
            reply.answer.append(dns.rrset.from_text(owner, 0, "IN", "CNAME", alias))
            owner, said = dns.name.from_text(alias), self.say(alias.rstrip("."), kind)
        if isinstance(said, list):
            if said:
                reply.answer.append(dns.rrset.from_text_list(owner, 0, "IN", kind, said))
        elif said is not None and not said.startswith("CNAME "):
            code, _, zone = said.partition(" ")
            reply.set_rcode(dns.rcode.from_text(code))
            if zone:
                zone = f"{zone}."
                reply.authority.append(
                    dns.rrset.from_text(zone, 0, "IN", "SOA", f"ns.{zone} root.{zone} 1 60 60 60 60")
                )
        return reply


async def _listen(made: _Server, port: int) -> tuple[asyncio.Server, asyncio.DatagramTransport, tuple[str, int]]:
    """TCP and UDP on one port; now and then somebody else has a free one's UDP side."""
    for _ in range(20):
        stream = await asyncio.start_server(made.by_tcp, "127.0.0.1", port)
        address: tuple[str, int] = stream.sockets[0].getsockname()
        try:
            transport, _made = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: made, local_addr=address
            )
        except OSError:
            stream.close()
        else:
            return stream, transport, address
    raise OSError("no port is free for both TCP and UDP")


@asynccontextmanager
async def name_server(
    zone: Zone, *, port: int = 0, forge: Forge | None = None
) -> AsyncIterator[tuple[tuple[str, int], list[str]]]:
    """Start one; on a free port unless told otherwise. Gives its address and the names asked for, growing.

    With `forge` each answer by UDP comes behind another one, which has no records and is what that makes of it.
    """
    made = _Server(zone, forge)
    stream, transport, address = await _listen(made, port)
    try:
        yield address, made.asked
    finally:
        stream.close()
        transport.close()
