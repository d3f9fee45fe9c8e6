"""What becomes of nodes that come in: which are answered, which are delivered, which are the stream's own."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from pcj import Event, Status, message
from pcj.errors import ConnectionFailed, QueueFull
from tests.shell.links import BARRIER, DOMAIN, Record, Wire, component, run, scripted, turns

FROM = f"from='romeo@localhost/x' to='{DOMAIN}'"
PING = "<ping xmlns='urn:xmpp:ping'/>"
PAYLOAD = "<query xmlns='urn:x'/>"


def exchange(
    text: str, *, prepare: Any = None, subscriber: bool = False, **options: Any
) -> tuple[Record, list[ET.Element]]:
    """What the broker fires for `text`, and what it sends: everything between READY and the end."""
    found: list[Any] = []

    async def script(wire: Wire) -> None:
        await wire.component()
        wire.send(text + "<message from='last@localhost' to='x'/></stream:stream>")
        came = (await wire.rest()).removesuffix("</stream:stream>")
        found.append(list(ET.fromstring(f"<all xmlns='jabber:client'>{came}</all>")))

    async def main() -> None:
        async with scripted(script) as at:
            broker = component(at.port, **options)
            record = Record(broker)
            found.append(record)
            if subscriber:
                broker.subscribe(Event.PCJ_NODERECEIVED, lambda status: None)
            if prepare is not None:
                prepare(broker)
            gone = broker.events(Event.SESSION_LOST)
            await broker.connect()
            await anext(gone)
            await turns()
            await broker.shutdown()

    run(main)
    record, sent = found
    record.check()
    return record, sent


def kinds(record: Record) -> list[str]:
    """The events of the inbound path, up to the last stanza."""
    names = record.since("READY")
    return [name for name in names[: names.index("STREAMEND")] if name != "NODESENT"][:-1]


def condition(answer: ET.Element) -> tuple[str | None, str]:
    error = answer.find("{jabber:client}error")
    assert error is not None
    return error.get("type"), error[0].tag.rpartition("}")[2]


# ---- answers


@pytest.mark.parametrize("type", ["get", "set"])
def test_a_request_that_nobody_handles_is_answered(type: str) -> None:
    record, (answer,) = exchange(f"<iq type='{type}' id='1' {FROM}>{PAYLOAD}</iq>")
    assert kinds(record) == ["NODERECEIVED", "IQ_ANSWERED"]
    assert answer.attrib == {"to": "romeo@localhost/x", "from": DOMAIN, "id": "1", "type": "error"}
    assert condition(answer) == ("cancel", "service-unavailable")
    assert record.one(Event.IQ_ANSWERED).detail["condition"] == "service-unavailable"


@pytest.mark.parametrize(
    "request_text",
    [
        f"<iq type='get' id='1' {FROM}/>",
        f"<iq type='set' id='1' {FROM}>{PAYLOAD}{PAYLOAD}</iq>",
        f"<iq type='get' id='1' {FROM}>{PING}{PING}</iq>",
    ],
)
def test_a_malformed_request_is_answered_with_bad_request(request_text: str) -> None:
    record, (answer,) = exchange(request_text)
    assert condition(answer) == ("modify", "bad-request")
    assert kinds(record) == ["NODERECEIVED", "IQ_ANSWERED"]


def test_a_request_without_id_cannot_be_answered_so_that_anybody_would_understand_and_is_refused() -> None:
    _, (answer,) = exchange(f"<iq type='get' {FROM}>{PAYLOAD}</iq>")
    assert condition(answer) == ("modify", "bad-request")


@pytest.mark.parametrize("type", ["result", "error", "strange"])
def test_a_result_or_an_error_is_never_answered(type: str) -> None:
    record, sent = exchange(f"<iq type='{type}' id='1' {FROM}>{PAYLOAD}</iq>")
    assert kinds(record) == ["NODERECEIVED"]
    assert sent == []


def test_who_subscribed_to_nodes_answers_for_them() -> None:
    record, sent = exchange(f"<iq type='get' id='1' {FROM}>{PAYLOAD}</iq>", subscriber=True)
    assert kinds(record) == ["NODERECEIVED"]
    assert sent == []


def test_a_filter_with_a_subscriber_answers_for_what_it_selects() -> None:
    def prepare(broker: Any) -> None:
        broker.add_filter("mine", "/iq/q:query", {"q": "urn:x"})
        broker.add_filter("unheard", "/iq/p:other", {"p": "urn:y"})
        broker.subscribe("mine", lambda status: None)

    record, (answer,) = exchange(
        f"<iq type='get' id='1' {FROM}>{PAYLOAD}</iq><iq type='get' id='2' {FROM}><other xmlns='urn:y'/></iq>",
        prepare=prepare,
    )
    assert kinds(record) == ["mine", "NODERECEIVED", "unheard", "NODERECEIVED", "IQ_ANSWERED"]
    assert answer.get("id") == "2"


def test_answers_to_the_unhandled_can_be_switched_off() -> None:
    record, sent = exchange(f"<iq type='get' id='1' {FROM}>{PAYLOAD}</iq>", unhandled_iq="ignore")
    assert (kinds(record), sent) == (["NODERECEIVED"], [])


@pytest.mark.parametrize("subscriber", [False, True])
def test_a_ping_is_answered_and_goes_no_further(subscriber: bool) -> None:
    record, (answer,) = exchange(f"<iq type='get' id='1' {FROM}>{PING}</iq>", subscriber=subscriber)
    assert kinds(record) == ["IQ_ANSWERED"]
    assert answer.attrib == {"to": "romeo@localhost/x", "from": DOMAIN, "id": "1", "type": "result"}
    assert record.one(Event.IQ_ANSWERED).detail["condition"] == "result"


def test_answers_to_pings_can_be_switched_off() -> None:
    record, (answer,) = exchange(f"<iq type='get' id='1' {FROM}>{PING}</iq>", answer_ping=False)
    assert kinds(record) == ["NODERECEIVED", "IQ_ANSWERED"]
    assert condition(answer) == ("cancel", "service-unavailable")


def test_a_request_without_a_sender_makes_a_warning_and_no_answer() -> None:
    record, sent = exchange(f"<iq type='get' id='1'>{PING}</iq>")
    assert (kinds(record), sent) == (["WARNING"], [])


def test_no_answer_is_kept_for_the_next_session() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()
            await wire.until("</stream:stream>")
            wire.send(f"<iq type='get' id='1' {FROM}>{PING}</iq><iq type='get' id='2' {FROM}>{PAYLOAD}</iq>")
            wire.send("</stream:stream>")

        async with scripted(script) as at:
            broker = component(at.port)
            record = Record(broker)
            await broker.connect()
            await broker.shutdown()
            assert broker.queue == 0
            assert record.since("SHUTDOWN_START") == [
                "NODERECEIVED",
                "SOCKETDISCONNECT",
                "SESSION_LOST",
                "SHUTDOWN_FINISH",
            ]
            record.check()

    run(main)


def test_a_handler_that_halts_ends_the_answering_too() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component(f"<iq type='get' id='1' {FROM}>{PAYLOAD}</iq>" * 3)
            assert await wire.rest() == ""

        async with scripted(script) as at:
            broker = component(at.port)
            record = Record(broker)

            def halting(status: Status) -> None:
                if status.event == Event.PCJ_NODERECEIVED:
                    broker.halt()

            broker.subscribe("*", halting)
            await broker.connect()
            await turns()
            assert record.since("READY") == ["NODERECEIVED", "SOCKETDISCONNECT", "SESSION_LOST"]

    run(main)


# ---- what is delivered


def test_every_kind_of_node_is_delivered_in_order_in_the_namespace_of_clients() -> None:
    text = (
        f"<message {FROM} id='1'/><presence {FROM} id='2'/><iq {FROM} id='3' type='result'/><x xmlns='urn:x' id='4'/>"
    )
    record, sent = exchange(text)
    nodes = [status.node for status in record.of(Event.PCJ_NODERECEIVED) if status.node is not None][:-1]
    assert [node.get("id") for node in nodes] == ["1", "2", "3", "4"]
    assert [node.tag for node in nodes] == [
        "{jabber:client}message",
        "{jabber:client}presence",
        "{jabber:client}iq",
        "{urn:x}x",
    ]
    assert sent == []


@pytest.mark.parametrize(
    "text",
    [
        "<stream:features/>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    ],
)
def test_what_has_its_place_before_ready_is_ignored_with_an_event(text: str) -> None:
    record, sent = exchange(text)
    assert (kinds(record), sent) == (["NODE_IGNORED"], [])


def test_stanzas_in_one_piece_with_the_last_answer_are_delivered_behind_ready() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component(f"<message {FROM} id='1'/><message {FROM} id='2'/>")
            await wire.close()

        async with scripted(script) as at:
            broker = component(at.port)
            record = Record(broker)
            async with broker:
                assert record.since("READY") == ["NODERECEIVED", "NODERECEIVED"]
            record.check()

    run(main)


def test_stanzas_that_come_before_ready_are_delivered_behind_it() -> None:
    from tests.shell.links import client

    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.login()
            wire.send("<message from='juliet@localhost' id='early'/>")
            await wire.bind()
            wire.send("<message from='juliet@localhost' id='late'/>")
            await wire.close()

        async with scripted(script) as at:
            broker = client(at.port)
            record = Record(broker)
            late = broker.events(Event.PCJ_NODERECEIVED)
            async with broker:
                ids = [
                    status.node.get("id")
                    for status in (await anext(late), await anext(late))
                    if status.node is not None
                ]
                assert ids == ["early", "late"]
            assert record.names.index("READY") < record.names.index("NODERECEIVED")

    run(main)


def test_a_stream_error_at_ready_is_told_of_and_delivered() -> None:
    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.component()
            wire.send(
                "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
                "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>replaced</text></stream:error></stream:stream>"
            )
            await wire.rest()

        async with scripted(script) as at:
            broker = component(at.port)
            record = Record(broker)
            await broker.connect()
            with pytest.raises(ConnectionFailed, match="replaced"):
                await broker.wait_for("never")
            assert record.since("READY") == [
                "STREAM_ERROR",
                "NODERECEIVED",
                "STREAMEND",
                "SOCKETDISCONNECT",
                "SESSION_LOST",
            ]
            error = record.one(Event.STREAM_ERROR)
            assert error.node is record.one(Event.PCJ_NODERECEIVED).node
            assert "conflict" in str(error.error)
            record.check()

    run(main)


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("element", ["r", "a", "enabled", "failed", "resumed"])
def test_the_streams_own_bookkeeping_is_no_node_of_the_users(element: str, version: str) -> None:
    record, sent = exchange(f"<{element} xmlns='urn:xmpp:sm:{version}' h='1'/>", subscriber=True)
    assert kinds(record) == ["NODE_IGNORED"]
    assert sent == []
    assert record.one(Event.NODE_IGNORED).detail["reason"] == "stream management was not agreed on"


# ---- answers of the broker's own are bounded (P10)


def pings(count: int, start: int = 0) -> str:
    return "".join(f"<iq type='get' id='p{number}' {FROM}>{PING}</iq>" for number in range(start, start + count))


def stalled(count: int, **options: Any) -> tuple[Record, str, list[int]]:
    """A peer that asks `count` times while the network takes nothing, and then says <go/>; the user outputs before."""
    came: list[str] = []
    waiting: list[int] = []
    records: list[Record] = []

    async def main() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def script(wire: Wire) -> None:
            await wire.component()
            await asked.wait()
            wire.send(pings(count) + "<message from='a@localhost' to='x'/>")
            await go.wait()
            wire.send(pings(1, start=count))
            came.append(await wire.close())

        async with scripted(script) as at:
            broker = component(at.port, **options)
            record = Record(broker)
            records.append(record)
            came_in = broker.events(Event.PCJ_NODERECEIVED)
            async with broker:
                connection = broker._link.connection
                assert connection is not None
                connection.pause_writing()
                asked.set()
                await anext(came_in)
                waiting.append(broker.queue)
                broker.output(message(to="a@localhost", body="the user's"))
                connection.resume_writing()
                await turns()
                go.set()
                await broker.wait_for(Event.IQ_ANSWERED)
        record.check()
        waiting.append(len(record.of(Event.WARNING)))

    run(main)
    return records[0], came[0], waiting


@pytest.mark.parametrize(
    ("asked", "options", "answered"),
    [
        (5, {"max_auto_replies": 5}, 5),
        (6, {"max_auto_replies": 5}, 5),
        (1000, {"max_auto_replies": 5}, 5),
        (100, {}, 100),
        (101, {}, 100),
        (60, {"queue_max_nodes": 100}, 50),  # half of the room is always left to the user
    ],
)
def test_no_more_answers_of_ours_wait_than_may_and_the_first_and_the_rest_are_warned_of(
    asked: int, options: dict[str, Any], answered: int
) -> None:
    record, came, (waiting, warnings) = stalled(asked, **options)
    assert waiting == answered
    came = BARRIER.sub("", came)
    assert came.count("<iq ") == answered + 1
    assert came.index("the user's") < came.index(f'id="p{asked}"')
    assert warnings == min(2, asked - answered)  # at once, and at the end of the session
    for warning in record.of(Event.WARNING):
        assert "of ours could not be sent" in str(warning.detail["what"])
        assert f"{answered} answers of the broker's own wait; max_auto_replies allows no more" in str(warning.error)


def test_a_burst_that_the_network_takes_is_answered_whole() -> None:
    """The bound is of what waits, not of what is asked."""
    record, sent = exchange(pings(50), max_auto_replies=3)
    assert [node.get("id") for node in sent] == [f"p{number}" for number in range(50)]
    assert not record.of(Event.WARNING)


def test_a_flood_that_stays_unanswered_is_told_once_a_time_and_to_its_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcj.inbound._WARN_EVERY", 0.02)
    warned: list[str] = []

    async def main() -> None:
        async with scripted(lambda wire: wire.component()) as at:
            broker = component(at.port)
            inbound = broker._inbound
            told = asyncio.Event()

            def tell(status: Status) -> None:
                warned.append(str(status.detail["what"]))
                told.set()

            broker.subscribe(Event.WARNING, tell)
            for count in (4, 2):
                for _ in range(count):
                    inbound._leave_unanswered(ET.Element("iq"), QueueFull("full"))
                told.clear()
                await asyncio.wait_for(told.wait(), 5)
            inbound._leave_unanswered(ET.Element("iq"), QueueFull("full"))
            inbound.end()

    run(main)
    said = "answers, this the last of them, of ours could not be sent"
    assert warned == [
        "an answer of ours could not be sent",
        f"3 {said}",
        f"2 {said}",
        "an answer of ours could not be sent",
    ]


@pytest.mark.parametrize(("size", "answered"), [(1000, True), (16_000, True), (17_000, False), (200_000, False)])
def test_an_answer_that_would_repeat_a_huge_id_is_not_sent(size: int, answered: bool) -> None:
    """P06: a peer chooses the id, and would choose how much we send."""
    identity = "i" * size
    record, sent = exchange(f"<iq type='get' id='{identity}' {FROM}>{PING}</iq>")
    assert [node.get("id") for node in sent] == [identity] * answered
    assert len(record.of(Event.IQ_ANSWERED)) == answered
    assert len(record.of(Event.WARNING)) == (not answered)


def test_a_bounced_answer_of_ours_is_not_answered() -> None:
    """P11."""
    error = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    record, sent = exchange(f"<iq type='error' id='p1' {FROM}>{error}</iq><iq type='result' id='p2' {FROM}/>")
    assert sent == []
    assert not record.of(Event.IQ_ANSWERED)
