"""XEP-0478 kept: what the server does not take is refused at `output`, or given up, and never ends the stream."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pcj import JABBERD20_COMPONENT, Broker, Event, Node, NodeError, ReceiptState, RequestError, message, ping
from pcj.serialize import serialize
from pcj.testing import ServerOptions
from tests.shell.links import SECRET, Record, client, run, server, turns

TO = "romeo@localhost/x"
BOUND = 12_000


def announcing(max_bytes: int | None) -> ServerOptions:
    return ServerOptions(
        starttls="none", direct_tls_port=None, announced_max_bytes=max_bytes, max_stanza_bytes=max_bytes or 1_048_576
    )


def of_bytes(size: int) -> Node:
    """A message to ourselves that has exactly so many bytes on the wire; with an id, or it would be given one."""
    empty = len(serialize(message(to=TO, id="m", body="x"), "jabber:client")) - 1
    node = message(to=TO, id="m", body="x" * (size - empty))
    assert len(serialize(node, "jabber:client")) == size
    return node


@pytest.mark.parametrize(
    ("announced", "own", "bound", "says"),
    [
        (BOUND, 262_144, BOUND, f"the node has {BOUND + 1} bytes; this server takes {BOUND} at most (XEP-0478)"),
        (BOUND, 5000, 5000, "the node has 5001 bytes; max_outbound_bytes allows 5000"),
        (None, 5000, 5000, "the node has 5001 bytes; max_outbound_bytes allows 5000"),
    ],
)
def test_the_smaller_bound_counts_and_nothing_ends(announced: int | None, own: int, bound: int, says: str) -> None:
    async def main() -> None:
        async with server(options=announcing(announced)) as at:
            broker = client(at.client_port, max_outbound_bytes=own)
            record = Record(broker)
            async with broker:
                assert record.one(Event.PCJ_READY).detail.get("max_bytes") == announced
                received = broker.events(Event.PCJ_NODERECEIVED)
                with pytest.raises(NodeError) as caught:
                    broker.output(of_bytes(bound + 1))
                assert str(caught.value) == says
                with pytest.raises(NodeError):
                    broker.return_to_sender(of_bytes(bound + 1))
                assert broker.output(of_bytes(bound)).state is ReceiptState.QUEUED
                status = await anext(received)
                assert status.node is not None
                assert status.node.tag.endswith("message")
            assert not record.of(Event.STREAM_ERROR)
        record.check()

    run(main)


@pytest.mark.parametrize("on_ready", ["send", "hold"])
def test_what_was_held_from_before_and_is_too_large_is_dropped_and_the_rest_goes_out(on_ready: str) -> None:
    async def main() -> None:
        async with server(options=announcing(BOUND)) as at:
            broker = client(at.client_port, on_ready=on_ready)
            record = Record(broker)
            small, large, last = (broker.output(of_bytes(size)) for size in (500, BOUND + 1, 501))
            request = ping(to="localhost")
            request.set("id", "x" * BOUND)
            asked = broker.return_to_sender(request)
            async with broker:
                if on_ready == "hold":
                    assert broker.purge_queue() == 2
                assert await broker.return_to_sender(ping(to="localhost")) is not None
                assert broker.queue == 0
                assert [small.state, large.state, last.state] == [
                    ReceiptState.WRITTEN,
                    ReceiptState.DROPPED,
                    ReceiptState.WRITTEN,
                ]
                assert large.reason == f"it has {BOUND + 1} bytes; this server takes {BOUND} at most (XEP-0478)"
                failure = asked.exception()
                assert isinstance(failure, RequestError)
                assert failure.reason == "oversized"
                assert "more bytes than the server takes" in str(failure)
            dropped = record.of(Event.NODE_DROPPED)
            assert [status.detail["reason"] for status in dropped] == ["oversized"] * 2
            assert record.one(Event.RTS_FAIL).detail["reason"] == "oversized"
            assert not record.of(Event.STREAM_ERROR)
        record.check()

    run(main)


def test_what_one_server_takes_says_nothing_of_the_next() -> None:
    async def main() -> None:
        options = announcing(BOUND)
        async with server(options=options) as small, server(options=announcing(None)) as other:
            broker = client(small.client_port)
            async with broker:
                with pytest.raises(NodeError):
                    broker.output(of_bytes(BOUND + 1))
            held = broker.output(of_bytes(BOUND + 1))  # there is no server now
            await broker.reconnect("127.0.0.1", other.client_port)
            assert broker.purge_queue() == 1
            await broker.return_to_sender(ping(to="localhost"))
            assert held.state is ReceiptState.WRITTEN
            await broker.shutdown()

    run(main)


def test_on_a_routers_link_the_envelope_counts_too() -> None:
    async def main() -> None:
        async with server(options=announcing(BOUND)) as at:
            where: dict[str, Any] = {"host": "127.0.0.1", "port": at.router_port, "require_tls": False}
            broker = Broker(JABBERD20_COMPONENT, "echo.localhost", password=SECRET, username="jabberd", **where)
            async with broker:
                with pytest.raises(NodeError, match=f"this server takes {BOUND} at most"):
                    broker.output(of_bytes(BOUND - 20))
                broker.output(of_bytes(BOUND - 500))
                await turns()
                await broker.return_to_sender(ping(to="localhost"))

    run(main)


def test_a_limit_below_what_the_rfc_allows_is_warned_of() -> None:
    async def main() -> None:
        async with server(options=ServerOptions(starttls="none", direct_tls_port=None, announced_max_bytes=800)) as at:
            broker = client(at.client_port)
            record = Record(broker)
            async with broker:
                with pytest.raises(NodeError, match="takes 800 at most"):
                    broker.output(of_bytes(801))
                await asyncio.sleep(0)
            assert "800 bytes at most" in str(record.one(Event.WARNING).detail["what"])

    run(main)
