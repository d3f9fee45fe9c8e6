"""A name server on loopback that says what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset

#: What is said to one name's query: SRV records as text, "NXDOMAIN", "SERVFAIL", None for silence, "CNAME <name>".
Zone = Mapping[str, list[str] | str | None]


class _Server(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: list[str] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self.reply(dns.message.from_wire(data))
        if reply is None or self.transport is None:
            return
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

    def reply(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append(name)
        said = self.zone.get(name, "NXDOMAIN")
        if said is None:
            return None
        reply = dns.message.make_response(query)
        owner = question.name
        for _ in range(20):  # a name server follows aliases itself, as long as it likes
            if not isinstance(said, str) or not said.startswith("CNAME "):
                break
            alias = said.removeprefix("CNAME ")
            reply.answer.append(dns.rrset.from_text(owner, 0, "IN", "CNAME", alias))
            owner, said = dns.name.from_text(alias), self.zone.get(alias.rstrip("."), "NXDOMAIN")
        if isinstance(said, list):
            if said:
                reply.answer.append(dns.rrset.from_text_list(owner, 0, "IN", "SRV", said))
        elif said is not None and not said.startswith("CNAME "):
            reply.set_rcode(dns.rcode.from_text(said))
        return reply


async def _listen(made: _Server) -> tuple[asyncio.Server, asyncio.DatagramTransport, tuple[str, int]]:
    """TCP and UDP on one port; now and then somebody else has a free one's UDP side."""
    for _ in range(20):
        stream = await asyncio.start_server(made.by_tcp, "127.0.0.1", 0)
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
async def name_server(zone: Zone) -> AsyncIterator[tuple[tuple[str, int], list[str]]]:
    """Start one. Gives its address and the names that were asked for, growing."""
    made = _Server(zone)
    stream, transport, address = await _listen(made)
    try:
        yield address, made.asked
    finally:
        stream.close()
        transport.close()
