"""Faults 1 to 7 of POE::Component::Jabber 3.00, one test for each: it fails on what the original did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pcj import (
    JABBERD14_COMPONENT,
    JABBERD20_COMPONENT,
    XMPP,
    Broker,
    ConnectionFailed,
    Event,
    Node,
    Status,
    Subscription,
    UsageError,
    iq,
    message,
    ping,
)
from pcj.namespaces import BIND, CLIENT
from pcj.testing import ServerOptions
from tests.faults.links import KINDS, SHUTDOWN, Kind, failure_of, kind_of
from tests.shell.links import DOMAIN, SECRET, Record, Wire, run, scripted, server, texts, turns

NOBODY = "juliet@localhost"


def test_fault_01_a_jabberd20_component_hears_after_tls_as_before() -> None:
    """Fault 1: "JABBERD20_COMPONENT is deaf after TLS: no NODERECEIVED, no filter, no RTS_FINISH, no end of
    shutdown"."""

    async def main() -> None:
        async with server(options=ServerOptions(router_news=False)) as at:
            broker = Broker(
                JABBERD20_COMPONENT,
                DOMAIN,
                password=SECRET,
                username="jabberd",
                host=at.host,
                port=at.router_port,
                ca_file=at.ca_file,
                tls_name="localhost",
                close_timeout=600.0,  # the end of shutdown comes from the server's close, or not at all
            )
            record = Record(broker)
            broker.add_filter("HAIL", "/message[body='hail']")
            received = broker.events(Event.PCJ_NODERECEIVED)
            await broker.connect()
            assert record.names.index("SSLSUCCESS") < record.names.index("READY")
            assert at.sessions[0].secure

            at.route(message(to=DOMAIN, from_="localhost", body="hail"))
            assert texts([(await anext(received)).node]) == ["hail"]
            assert record.since("READY") == ["HAIL", "NODERECEIVED"]

            reply = await broker.return_to_sender(ping(to="localhost"))
            assert reply.get("type") == "result"
            assert record.one(Event.PCJ_RTS_FINISH).node is reply

            await broker.shutdown()
            assert [
                name for name in record.since("RTS_FINISH") if name not in ("SESSION_LOST", "NODE_ACKED")
            ] == SHUTDOWN
            record.check()

    run(main)


@pytest.mark.parametrize("asked_in", ["a task", "a handler", "a coroutine handler"])
def test_fault_02_a_reply_reaches_its_asker_wherever_it_asked_and_whatever_the_alias(asked_in: str) -> None:
    """Fault 2: "A reply to return_to_sender posted through the documented alias never reaches the asker"."""

    async def main() -> None:
        async with server() as at:
            kind = kind_of(XMPP)
            broker = kind.broker(at.client_port, alias="the-alias")
            record = Record(broker)
            answers = broker.events("ANSWER")
            asked: asyncio.Future[asyncio.Future[Node]] = asyncio.get_running_loop().create_future()

            def ask() -> None:
                asked.set_result(broker.return_to_sender(ping(to="localhost", id="p1"), event="ANSWER"))

            async def ask_in_a_coroutine(status: Status) -> None:
                ask()

            if asked_in == "a handler":
                broker.subscribe(Event.PCJ_READY, lambda status: ask())
            elif asked_in == "a coroutine handler":
                broker.subscribe(Event.PCJ_READY, ask_in_a_coroutine)
            await broker.connect()
            if asked_in == "a task":
                ask()
            reply = await (await asked)
            assert (reply.get("id"), reply.get("type"), reply.get("from")) == ("p1", "result", "localhost")
            # The original's way, too: under the name that the asker gave.
            assert (await anext(answers)).node is reply
            assert "NODERECEIVED" not in record.names
            await broker.shutdown()
            record.check()

    run(main)


@pytest.mark.parametrize("when", ["before the event", "in the handler itself", "behind the event"])
def test_fault_03_who_unsubscribes_hears_no_more_and_nothing_crashes_nor_does_taking_back_a_filter(when: str) -> None:
    """Fault 3: "Unsubscribing, and taking back a published event, crash"."""

    async def main() -> None:
        async with server() as at:
            broker = kind_of(JABBERD14_COMPONENT).broker(at.component_port)
            record = Record(broker)
            events = ("HAIL", Event.PCJ_NODERECEIVED, "*")
            heard: list[str] = []
            left: list[str] = []
            subscriptions: list[Subscription] = []

            def take_back() -> None:
                for subscription in subscriptions:
                    subscription.cancel()
                    subscription.cancel()  # twice does nothing
                broker.remove_filter("HAIL")

            def hear(status: Status) -> None:
                if status.node is not None and status.event in events:
                    heard.append(status.event)
                    if when == "in the handler itself":
                        take_back()

            await broker.connect()
            broker.add_filter("HAIL", "/message")
            subscriptions += [broker.subscribe(event, hear) for event in events]
            for event in events[:2]:
                broker.subscribe(event, lambda status: left.append(status.event))
            received = broker.events(Event.PCJ_NODERECEIVED)
            if when == "before the event":
                take_back()
            at.route(message(to=DOMAIN, from_=NOBODY, body="1"))
            await anext(received)
            first = {
                "before the event": ([], ["NODERECEIVED"]),
                "in the handler itself": (["HAIL"], ["HAIL", "NODERECEIVED"]),
                "behind the event": (["HAIL", "HAIL", "NODERECEIVED", "NODERECEIVED"], ["HAIL", "NODERECEIVED"]),
            }[when]
            assert [name.removeprefix("PCJ_") for name in heard] == first[0]
            assert [name.removeprefix("PCJ_") for name in left] == first[1]

            if when == "behind the event":
                take_back()
            heard.clear()
            left.clear()
            at.route(message(to=DOMAIN, from_=NOBODY, body="2"))
            await anext(received)
            assert heard == []
            assert left == [Event.PCJ_NODERECEIVED]  # the others hear on
            assert broker.remove_filter("HAIL") is False
            assert "HANDLER_FAILED" not in record.names
            await broker.shutdown()
            record.check()

    run(main)


@pytest.mark.parametrize("connection_type", [XMPP, JABBERD14_COMPONENT])
def test_fault_04_a_shutdown_leaves_nothing_behind_that_what_is_sent_later_would_fire(connection_type: str) -> None:
    """Fault 4: "After one shutdown, every later flush fires SOCKETDISCONNECT SHUTDOWN_FINISH: a flag is never
    reset"."""

    async def main() -> None:
        async with server() as at:
            port = at.client_port if connection_type == XMPP else at.component_port
            broker = kind_of(connection_type).broker(port)
            record = Record(broker)
            await broker.connect()
            await broker.shutdown()
            assert [name for name in record.since("READY") if name != "SESSION_LOST"] == SHUTDOWN

            broker.output(message(to=NOBODY, body="held"))
            assert record.since("SHUTDOWN_FINISH") == ["NODEQUEUED"]
            await broker.connect()
            broker.purge_queue()
            await turns()
            for body in "123":
                broker.output(message(to=NOBODY, body=body))
                await turns()  # each is a write of its own
            await broker.return_to_sender(ping(to="localhost"))
            names = [name for name in record.since("READY") if name != "NODERECEIVED"]  # what the server bounces
            assert names == ["NODESENT"] * 4 + ["RTS_START", "NODESENT", "RTS_FINISH"]
            await broker.shutdown()
            assert [
                name for name in record.since("RTS_FINISH") if name not in ("SESSION_LOST", "NODE_ACKED")
            ] == SHUTDOWN
            record.check()

    run(main)


@pytest.mark.parametrize("when", ["for an answer", "behind the header"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.connection_type != XMPP], ids=str)
def test_fault_05_a_closing_tag_in_the_set_up_is_the_end_of_it_and_no_second_header(kind: Kind, when: str) -> None:
    """Fault 5: "A closing stream tag during LEGACY or component set-up is read as a new header: a second AUTHNEGOTIATE,
    a bogus node queued"."""

    async def main() -> None:
        came: list[str] = []

        async def script(wire: Wire) -> None:
            if when == "for an answer":
                await kind.request(wire)
            else:
                await kind.header(wire)
            wire.send("</stream:stream>")
            came.append(await wire.rest())

        async with scripted(script) as at:
            broker = kind.broker(at.port)
            failure, record = await failure_of(broker)
            assert failure.came == "</stream:stream>"
            names = record.names
            # At the router the features come between the header and the authentication.
            routed = kind.connection_type == JABBERD20_COMPONENT
            assert names.count("AUTHNEGOTIATE") == (0 if routed and when == "behind the header" else 1)
            assert names.count("STREAMSTART") == (2 if routed and when == "for an answer" else 1)
            assert "NODEQUEUED" not in names
            assert broker.queue == 0
            assert "READY" not in names
            assert names[-4:] == SHUTDOWN
        # Behind what it had asked for the broker sent its closing tag, and nothing else.
        (said,) = came
        assert said.endswith("</stream:stream>")
        assert said.count("<stream:stream") == 0
        assert said.count("<iq") + said.count("<handshake") <= (when == "behind the header")

    run(main)


@pytest.mark.parametrize("by", ["itself", "connect", "reconnect"])
def test_fault_06_flags_do_not_outlive_a_reconnect_so_a_server_without_mechanisms_yields_no_ready(by: str) -> None:
    """Fault 6: "Flags outlive a reconnect: a server that then offers no mechanism yields READY without
    authentication"."""

    async def main() -> None:
        kind = kind_of(XMPP)
        drop = asyncio.Event()
        came: list[str] = []

        async def good(wire: Wire) -> None:
            await kind.ready(wire)
            if by == "reconnect":
                await wire.close()
            else:
                await drop.wait()

        async def without_mechanisms(wire: Wire) -> None:
            await wire.header(CLIENT, version="1.0")
            wire.features(f"<bind xmlns='{BIND}'/>")
            came.append(await wire.close())

        async with scripted(good, without_mechanisms) as at:
            broker = kind.broker(at.port, auto_reconnect=by == "itself", reconnect_delay=0.001)
            record = Record(broker)
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            outcome = broker.events(Event.PCJ_READY, Event.PCJ_AUTHFAIL)
            drop.set()
            if by == "itself":
                failed = await anext(outcome)
                assert (failed.event, failed.detail["retry"]) == (Event.PCJ_AUTHFAIL, "slow")  # it worked before
                await broker.wait_for(Event.RECONNECT_DELAY)
                await broker.shutdown()
            elif by == "connect":
                await anext(gone)
                with pytest.raises(ConnectionFailed, match="no SASL mechanism"):
                    await broker.connect()
            else:
                with pytest.raises(ConnectionFailed, match="no SASL mechanism"):
                    await broker.reconnect()
            retried = ["STREAMEND", "SOCKETDISCONNECT", "RECONNECT_DELAY", "SHUTDOWN_START", "SHUTDOWN_FINISH"]
            end = retried if by == "itself" else SHUTDOWN
            assert record.since("CONNECTED") == ["STREAMSTART", "NODESENT", "AUTHFAIL", *end]
            assert "no SASL mechanism" in str(record.one(Event.PCJ_AUTHFAIL).error)
            assert record.names.count("READY") == 1
            assert broker.sid == ""
            record.check()
        assert came == ["</stream:stream>"]

    run(main)


async def _two_askers_of_one_id(wire: Wire, broker: Broker, record: Record) -> None:
    one = broker.return_to_sender(ping(to="one@localhost", id="same"))
    two = broker.return_to_sender(ping(to="two@localhost", id="same"))
    await wire.until("</iq>")
    await wire.until("</iq>")
    for name in ("two", "one"):  # in the other order
        wire.send(f"<iq type='result' id='same' from='{name}@localhost' to='{broker.jid}'/>")
    assert [(await asker).get("from") for asker in (one, two)] == ["one@localhost", "two@localhost"]


async def _a_reply_from_somebody_else(wire: Wire, broker: Broker, record: Record) -> None:
    asker = broker.return_to_sender(ping(to="one@localhost", id="same"))
    await wire.until("</iq>")
    for name in ("mallory", "one"):
        wire.send(f"<iq type='result' id='same' from='{name}@localhost' to='{broker.jid}'/>")
    assert (await asker).get("from") == "one@localhost"
    stranger = record.one(Event.PCJ_NODERECEIVED).node
    assert stranger is not None
    assert stranger.get("from") == "mallory@localhost"


async def _one_id_twice_to_one_address(wire: Wire, broker: Broker, record: Record) -> None:
    asker = broker.return_to_sender(ping(to="one@localhost", id="same"))
    with pytest.raises(UsageError, match="waits for its reply already"):
        broker.return_to_sender(iq(type="set", to="one@localhost", id="same", payload=Node("{urn:x}other")))
    await wire.until("</iq>")
    wire.send(f"<iq type='result' id='same' from='one@localhost' to='{broker.jid}'/>")
    assert (await asker).get("from") == "one@localhost"
    assert record.names.count("RTS_START") == 1


@pytest.mark.parametrize(
    "clash",
    [_two_askers_of_one_id, _a_reply_from_somebody_else, _one_id_twice_to_one_address],
    ids=["two askers", "somebody else's reply", "one address"],
)
def test_fault_07_a_reply_is_matched_on_id_and_sender_so_it_reaches_no_wrong_asker(
    clash: Callable[[Wire, Broker, Record], Awaitable[None]],
) -> None:
    """Fault 7: "An id clash in return_to_sender sends the reply to the wrong asker. The match is on id alone"."""

    async def main() -> None:
        wires: asyncio.Queue[Wire] = asyncio.Queue()

        async def script(wire: Wire) -> None:
            await kind_of(JABBERD14_COMPONENT).ready(wire)
            wires.put_nowait(wire)
            await over.wait()
            await wire.close()

        over = asyncio.Event()
        async with scripted(script) as at:
            broker = kind_of(JABBERD14_COMPONENT).broker(at.port)
            record = Record(broker)
            await broker.connect()
            await clash(await wires.get(), broker, record)
            assert broker.pending == 0
            over.set()
            await broker.shutdown()
            record.check()

    run(main)
