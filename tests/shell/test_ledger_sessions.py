"""The ledger with stream management: what a resumed session has is not sent again, and what it has not is, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from pcj import XMPP, Broker, Event, ReceiptState, RequestError, message, ping
from pcj.testing import Server, ServerOptions
from tests.shell.links import SECRET, Record, client, run, server, turns

ME = "romeo@localhost/orchard"
TO = "nobody@localhost"


def managed(**options: Any) -> Server:
    return server(options=ServerOptions(starttls="none", direct_tls_port=None, **options))


def broker_of(at: Server, **options: Any) -> Broker:
    delays = {"reconnect_delay": 0.005, "reconnect_delay_max": 0.01}
    return client(at.client_port, auto_reconnect=True, **{**delays, **options})


def arrived(at: Server) -> Counter[str]:
    return Counter(str(node.get("id")) for _, node in at.received if node.tag.endswith("message"))


def test_over_many_drops_of_one_session_each_node_arrives_once_and_in_order() -> None:
    async def main() -> None:
        async with managed() as at:
            broker = broker_of(at, on_ready="send", ack_every_nodes=7, ack_every_seconds=0.02)
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            await anext(ready)
            receipts = []
            for drop in range(5):
                receipts += [broker.output(message(to=TO, id=f"{drop}-{n}", body="x")) for n in range(10)]
                await turns(drop)  # some are on their way, some are not
                await at.drop(ME)
                receipts += [broker.output(message(to=TO, id=f"{drop}-{n}", body="x")) for n in range(10, 13)]
                assert (await anext(ready)).detail["resumed"] is True
            for receipt in receipts:
                await receipt.acked(5.0)
            await broker.shutdown()
            record.check()
            ids = [f"{drop}-{n}" for drop in range(5) for n in range(13)]
            assert [str(node.get("id")) for _, node in at.received if node.tag.endswith("message")] == ids
            acked = [status.node.get("id") for status in record.of(Event.NODE_ACKED) if status.node is not None]
            assert acked == ids
            assert {status.detail["by"] for status in record.of(Event.NODE_ACKED)} == {"sm"}
            assert {status.detail["next"] for status in record.of(Event.NODE_UNCERTAIN)} == {"resume"}
            assert len(record.of(Event.SM_RESUMED)) == 5
            assert record.one(Event.SESSION_LOST).detail["reason"] == "shutdown"
            session = {status.detail["session"] for status in record.of(Event.PCJ_READY)}
            assert session == {1}, "it is one session"

    run(main)


@pytest.mark.parametrize("on_doubt", ["resend", "hold", "drop"])
@pytest.mark.parametrize("told", [True, False], ids=["the server says what it has", "it does not"])
def test_where_a_session_cannot_be_resumed_it_is_lost_once_and_only_what_is_unknown_is_in_doubt(
    told: bool, on_doubt: str
) -> None:
    async def main() -> None:
        async with managed(failed_handled=told) as at:
            broker = broker_of(at, on_doubt=on_doubt, ack_every_nodes=1000, ack_every_seconds=60.0)
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            await anext(ready)
            receipts = [broker.output(message(to=TO, id=str(n), body="x")) for n in range(5)]
            await at.wait_for_node(lambda jid, node: node.get("id") == "4")
            await at.drop(ME)
            at.expire(ME)
            assert (await anext(ready)).detail["resumed"] is False
            await turns()
            assert record.one(Event.SESSION_LOST).detail["reason"] == "resume failed"
            names = record.names
            refused, lost = names.index("SM_RESUMEFAILED"), names.index("SESSION_LOST")
            assert refused < lost
            again = [s.detail["next"] for s in record.of(Event.NODE_UNCERTAIN) if s.detail["next"] != "resume"]
            if told:
                assert [receipt.state for receipt in receipts] == [ReceiptState.ACKED] * 5
                assert names.index("NODE_ACKED") < lost, "what the server says is settled first (C6)"
                assert again == []
                repeats = 1
            else:
                assert again == [on_doubt] * 5
                assert names[lost + 1] == "NODE_UNCERTAIN"
                held = {"resend": 0, "hold": 5, "drop": 0}[on_doubt]
                assert broker.queue == held
                assert broker.purge_queue() == held
                repeats = 1 if on_doubt == "drop" else 2
            await broker.shutdown()
            assert arrived(at) == Counter({str(n): repeats for n in range(5)})
            final = ReceiptState.UNCERTAIN if on_doubt == "drop" and not told else ReceiptState.ACKED
            assert {receipt.state for receipt in receipts} == {final}
            assert len(record.of(Event.SESSION_LOST)) == 2  # and that of the second session, by the shutdown
            record.check()

    run(main)


def test_a_request_survives_a_resume_and_its_reply_comes() -> None:
    async def main() -> None:
        async with managed() as at:
            broker = broker_of(at)
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            await anext(ready)
            asked = broker.return_to_sender(ping(to="localhost"))  # it is written when its turn of the loop is over
            await at.drop(ME)
            reply = await asyncio.wait_for(asked, 5.0)
            assert reply.get("type") == "result"
            assert record.names.index("SM_RESUMED") < record.names.index("RTS_FINISH")
            assert broker.pending == 0
            await broker.shutdown()
            record.check()
            assert not record.of(Event.RTS_FAIL)

    run(main)


def test_a_request_fails_at_once_where_its_session_is_really_lost() -> None:
    async def main() -> None:
        async with managed() as at:
            broker = broker_of(at)
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            await anext(ready)
            other = Broker(
                XMPP,
                "juliet@localhost/balcony",
                password=SECRET,
                host="127.0.0.1",
                port=at.client_port,
                require_tls=False,
                allow_plain=True,
                unhandled_iq="ignore",
                answer_ping=False,
            )
            await other.connect()
            asked = broker.return_to_sender(ping(to="juliet@localhost/balcony"))
            await at.wait_for_node(lambda jid, node: jid == ME and node.tag.endswith("iq"))
            await at.drop(ME)
            await turns()
            assert not asked.done(), "the session may go on"
            at.expire(ME)
            with pytest.raises(RequestError, match="the session could not be resumed"):
                await asyncio.wait_for(asked, 5.0)
            assert record.names.index("SESSION_LOST") < record.names.index("RTS_FAIL")
            assert (await anext(ready)).detail["resumed"] is False
            assert broker.purge_queue() == 0, "it is asked no more"
            await other.shutdown()
            await broker.shutdown()
            record.check()

    run(main)


def test_a_server_that_was_killed_loses_the_session_and_every_node_it_may_have_lost_is_named() -> None:
    async def main() -> None:
        async with managed(answer_ack_requests=False) as at:
            broker = broker_of(at, on_doubt="resend", ack_every_seconds=60.0)
            record = Record(broker)
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            await anext(ready)
            receipts = [broker.output(message(to=TO, id=str(n), body="x")) for n in range(5)]
            await at.wait_for_node(lambda jid, node: node.get("id") == "4")
            await at.restart()
            assert (await anext(ready)).detail["resumed"] is False
            doubtful = [s for s in record.of(Event.NODE_UNCERTAIN) if s.detail["next"] == "resend"]
            assert [s.node.get("id") for s in doubtful if s.node is not None] == [str(n) for n in range(5)]
            await at.wait_for_node(lambda jid, node: arrived(at)["4"] == 2)
            assert {receipt.state for receipt in receipts} == {ReceiptState.WRITTEN}
            broker.halt()

    run(main)
