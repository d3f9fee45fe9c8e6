"""Stream management (XEP-0198): counts, answers and places of a server that lies (M01 to M09)."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from pcj import XMPP, Event, QueueFull, Receipt, message
from pcj.namespaces import BIND, CLIENT, STREAM_MANAGEMENT, STREAM_MANAGEMENT_2, TLS
from tests.attacks.attack import Attack, Play
from tests.attacks.certificates import presents, tls
from tests.attacks.foe import DOMAIN, Foe, mechanisms
from tests.attacks.memory import flat, steady
from tests.attacks.stage import AGAIN, CLIENT_KIND, COMPONENT_KIND, DONE, PASSWORD, Kind, Script, Session, Stage, bound
from tests.shell.links import Record
from tests.shell.transport.pair import good

SM: Final = f"xmlns='{STREAM_MANAGEMENT}'"
OFFER: Final = f"<bind xmlns='{BIND}'/><sm {SM}/>"
#: The id of a session is the key to it: it may be in no event.
KEY: Final = "k3y-of-the-session"
NOT_FOUND: Final = "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
ENABLED: Final = f"<enabled {SM} resume='true' id='{KEY}' max='300'/>"


async def _enabling(foe: Foe) -> None:
    """A server with stream management, up to the client's <enable/>."""
    await foe.log_in(PASSWORD, OFFER)
    foe.send(bound(await foe.asked()))
    await foe.until("<enable ")
    await foe.until(">")


async def _managed(foe: Foe) -> str:
    await _enabling(foe)
    return ENABLED


MANAGED: Final = Kind(XMPP, CLIENT_KIND.jid, CLIENT, _managed)


def note(body: str) -> Any:
    """A message of ours."""
    return message(to=f"juliet@{DOMAIN}", body=body)


async def handled(session: Session) -> int:
    """What the client answers to <r/>."""
    session.foe.send(f"<r {SM}/>")
    return int(re.findall(r'h="(\d+)"', await session.foe.until("<a ") + await session.foe.until("/>"))[0])


def secret(record: Record) -> None:
    """The session's id was told to nobody."""
    for status in record.statuses:
        assert KEY not in status.to_json() + repr(status) + repr(status.detail), status


# ---- M01: counts


def miscounts(said: str, *, count: bool = False) -> Play:
    """Of three messages it had one, it said; and then this."""

    async def play(stage: Stage) -> None:
        async with stage.session(MANAGED) as session:
            receipts = [session.broker.output(note(str(number))) for number in range(3)]
            await session.foe.until("<body>2</body>")
            session.foe.send(f"<a {SM} h='1'/>")
            await session.barrier()
            assert [receipt.state for receipt in receipts] == ["acked", "written", "written"]
            session.foe.send(f"<a {SM} {said}/>")
            names = await session.refused("undefined-condition")
            assert ("<handled-count-too-high " in session.foe.text) == count
            assert [receipt.state for receipt in receipts] == ["acked", "uncertain", "uncertain"]
            assert names.count("NODE_UNCERTAIN") == 2, names
            assert names.count("SESSION_LOST") == 1, names
            secret(session.record)

    return play


async def never_resumed_after_that(stage: Stage) -> None:
    """Whose counts contradict each other is not asked for the session again."""

    async def lies(foe: Foe) -> None:
        foe.send(await _managed(foe))
        await foe.until("<body>ours</body>")
        foe.send(f"<a {SM} h='99'/>")

    receipt, record = await _twice(stage, lies, _honest)
    assert "SM_RESUMING" not in record.names
    assert all(b"<resume" not in foe.came for foe in stage.foes)
    assert receipt.state != "acked"


async def _honest(foe: Foe) -> None:
    """A server that knows nothing of a session before, if it is asked, and makes a new one."""
    await foe.log_in(PASSWORD, OFFER)
    asked = await foe.until(">")
    if asked.startswith("<resume "):
        foe.send(f"<failed {SM}>{NOT_FOUND}</failed>")
        asked = await foe.until(">")
    foe.send(bound(asked.partition('id="')[2].partition('"')[0]))
    await foe.until("<enable ")
    foe.send(f"<enabled {SM} id='another' resume='true'/>")
    await foe.farewell()


async def _twice(stage: Stage, *scripts: Script, **options: Any) -> tuple[Receipt, Record]:
    """A broker that connects again: one message is output in the first session; ends when it is READY again."""
    async with stage.server(*scripts) as at:
        broker = stage.broker(MANAGED, at.port, **AGAIN, **options)
        record = stage.record(broker)
        async with asyncio.timeout(DONE):
            ready = broker.events(Event.PCJ_READY)
            await broker.connect()
            await anext(ready)
            receipt = broker.output(note("ours"))
            await anext(ready)
        await broker.shutdown()
    secret(record)
    return receipt, record


M01 = Attack(
    id="M01",
    what="`<a/>` with h above what was sent, below the last, no number, negative, 2^32, absent, of 100,000 digits",
    unprotected="stanzas count as delivered that never were, or the count breaks the client",
    pcj="the stream ends with `undefined-condition` (and `handled-count-too-high`); no receipt changes by it, what was "
    "unproved is named as uncertain, and that session is never resumed",
    plays={
        "h above": miscounts("h='99'", count=True),
        "h one above": miscounts("h='5'", count=True),
        "h below": miscounts("h='0'", count=True),
        "h far below": miscounts("h='4294967295'", count=True),
        "no number": miscounts("h='abc'"),
        "negative": miscounts("h='-1'"),
        "another script": miscounts("h='\u0661'"),
        "2^32": miscounts("h='4294967296'"),
        "absent": miscounts(""),
        "long": miscounts(f"h='{'9' * 100_000}'"),
        "not resumed after that": never_resumed_after_that,
    },
)


# ---- M02: the answer to <resume/>


def resumes_with(answer: str, *, said: str = "undefined-condition") -> Play:
    """The link breaks with one message acknowledged and one not; the request to resume is answered by this."""

    async def play(stage: Stage) -> None:
        async def first(foe: Foe) -> None:
            foe.send(await _managed(foe))
            await foe.until("<body>ours</body>")
            foe.send(f"<a {SM} h='1'/>")
            await foe.until("<body>doubted</body>")
            foe.cut()

        async def second(foe: Foe) -> None:
            await foe.log_in(PASSWORD, OFFER)
            assert f'previd="{KEY}"' in await foe.until("<resume ") + await foe.until("/>")
            foe.send(answer)
            await foe.rest()

        async with stage.server(first, second, _honest) as at:
            broker = stage.broker(MANAGED, at.port, **AGAIN)
            record = stage.record(broker)
            async with asyncio.timeout(DONE):
                ready = broker.events(Event.PCJ_READY)
                await broker.connect()
                await anext(ready)
                known = broker.output(note("ours"))
                await known.acked(DONE)
                doubted = broker.output(note("doubted"))
                await anext(ready)
            await broker.shutdown()
        names = record.names
        assert names.count("SM_RESUMING") == names.count("SM_RESUMEFAILED") == 1, names
        assert "SM_RESUMED" not in names
        assert names.index("SM_RESUMEFAILED") < names.index("SESSION_LOST") < len(names) - names[::-1].index("READY")
        assert stage.foes[1].said == said
        assert (known.state, doubted.state) == ("acked", "uncertain"), "what is in doubt is held, by default"
        assert not any(b"doubted" in foe.came for foe in stage.foes[1:])
        secret(record)

    return play


async def resumes_truly(stage: Stage) -> None:
    """For comparison: the answer that is right, and what it leads to."""

    async def first(foe: Foe) -> None:
        foe.send(await _managed(foe))
        await foe.until("<body>ours</body>")
        foe.cut()

    async def second(foe: Foe) -> None:
        await foe.log_in(PASSWORD, OFFER)
        await foe.until("<resume ")
        foe.send(f"<resumed {SM} previd='{KEY}' h='1'/>")
        await foe.farewell()

    receipt, record = await _twice(stage, first, second)
    assert receipt.state == "acked"
    assert record.names.count("SM_RESUMED") == 1
    assert record.names.index("SM_RESUMED") < record.names.index("SESSION_LOST"), "lost at the shutdown alone"
    assert b"ours" not in stage.foes[1].came


M02 = Attack(
    id="M02",
    what="`<resumed/>` with another previd, with h above and below, without h; something else in its place",
    unprotected="the client takes a session for its own that it never had, and drops what it should send again",
    pcj="the attempt and the session end, `SM_RESUMEFAILED` and `SESSION_LOST`; no receipt changes by it, and the "
    "session is never asked for again",
    plays={
        "another previd": resumes_with(f"<resumed {SM} previd='x' h='2'/>"),
        "no previd": resumes_with(f"<resumed {SM} h='2'/>"),
        "h above": resumes_with(f"<resumed {SM} previd='{KEY}' h='100'/>"),
        "h below": resumes_with(f"<resumed {SM} previd='{KEY}' h='0'/>"),
        "no h": resumes_with(f"<resumed {SM} previd='{KEY}'/>"),
        "no number": resumes_with(f"<resumed {SM} previd='{KEY}' h='many'/>"),
        "the truth": resumes_truly,
    },
)


# ---- M03: <enabled/>


def enabled_by(attributes: str, *, resumable: bool, seconds: float = 0.0, location: str = "", warned: bool) -> Play:
    """What is kept of an <enabled/>, and whether the user is told that something in it made no sense."""

    async def play(stage: Stage) -> None:
        async def ready(foe: Foe) -> str:
            await _enabling(foe)
            return f"<enabled {SM} {attributes}/>"

        # Who does not connect again does not ask for a session that can be resumed.
        async with stage.session(Kind(XMPP, MANAGED.jid, CLIENT, ready), **AGAIN) as session:
            await session.barrier()
            detail = session.record.one(Event.SM_ENABLED).detail
            assert (detail["resumable"], detail["max"], detail["location"]) == (resumable, seconds, location)
            warnings = session.record.of(Event.WARNING)
            assert len(warnings) == warned
            assert all(len(str(warning.detail)) < 1_000 for warning in warnings)
            secret(session.record)

    return play


RESUMABLE: Final = f"resume='true' id='{KEY}'"

M03 = Attack(
    id="M03",
    what="`<enabled/>` with `resume` and no id, an id of nearly a megabyte, `max` of -1, 0, 10^12, `abc`, a `location` "
    "that is no place",
    unprotected="a token of the attacker's is kept and shown to another server; a timer of a million years",
    pcj="without an id of at most 4,000 bytes it cannot be resumed; `max` counts where it is shorter than "
    "`resume_seconds`; what makes no sense is passed over with a `WARNING`",
    plays={
        "no id": enabled_by("resume='true'", resumable=False, warned=True),
        "empty id": enabled_by("resume='true' id=''", resumable=False, warned=True),
        "long id": enabled_by(f"resume='true' id='{'i' * 900_000}'", resumable=False, warned=True),
        "id, and not resumable": enabled_by(f"id='{KEY}'", resumable=False, warned=False),
        "max -1": enabled_by(f"{RESUMABLE} max='-1'", resumable=True, seconds=600, warned=True),
        "max 0": enabled_by(f"{RESUMABLE} max='0'", resumable=True, seconds=600, warned=True),
        "max 10^12": enabled_by(f"{RESUMABLE} max='1000000000000'", resumable=True, seconds=600, warned=False),
        "max long": enabled_by(f"{RESUMABLE} max='{'9' * 500_000}'", resumable=True, seconds=600, warned=True),
        "max abc": enabled_by(f"{RESUMABLE} max='abc'", resumable=True, seconds=600, warned=True),
        "max 7": enabled_by(f"{RESUMABLE} max='7'", resumable=True, seconds=7, warned=False),
        "long location": enabled_by(
            f"{RESUMABLE} location='{'x' * 500_000}'", resumable=True, seconds=600, warned=True
        ),
        "odd location": enabled_by(f"{RESUMABLE} location='a&#x202e;b'", resumable=True, seconds=600, warned=True),
    },
)


# ---- M04: unasked


def inert(element: str, kind: Kind) -> Play:
    """While READY it is told of as ignored, nothing is sent, and what was written is as it was."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            receipt = session.broker.output(message(to=f"juliet@{DOMAIN}", from_=None, body="ours"))
            await session.foe.until("</message>")
            before, state = len(session.foe.came), receipt.state
            session.foe.send(element)
            await session.barrier()
            assert session.record.names.count("NODE_IGNORED") == 1
            assert session.foe.came[before:].count(b"<") <= 6, "nothing but the answer to the ping"
            assert receipt.state == state == "written"
            assert session.broker.sid == "s1"
            assert "SM_" not in " ".join(session.record.since("READY"))

    return play


async def answers_nothing(stage: Stage) -> None:
    """`<r/>` is answered by nothing, where stream management was not agreed on."""
    async with stage.session() as session:
        before = len(session.foe.came)
        session.foe.send(f"<r {SM}/>" * 10)
        await session.barrier()
        assert b"<a" not in session.foe.came[before:]
        assert session.record.names.count("NODE_IGNORED") == 10


def while_binding(element: str) -> Play:
    """In place of the answer to our request to bind it is an error."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.log_in(PASSWORD, OFFER)
            request = await foe.asked()
            foe.send(element)
            foe.send(bound(request))

        refused = await stage.refused(script)
        refused.failed("BINDFAIL")
        assert refused.foe.said == "undefined-condition"
        assert b"<enable" not in refused.foe.came

    return play


M04 = Attack(
    id="M04",
    what="`<enabled/>`, `<resumed/>`, `<failed/>` unasked; `<r/>`, `<a/>` where stream management was not agreed on; "
    "all of them in its older namespace, and to a component",
    unprotected="a server, or whoever gets a word in, switches on what the client did not want, or changes its counts",
    pcj="`NODE_IGNORED` for each, no answer; in place of an awaited answer it ends the negotiation",
    plays={
        "r": answers_nothing,
        **{
            f"{name}, {version[-1]}": inert(f"<{name} xmlns='{version}' h='0' previd='x' id='x'/>", CLIENT_KIND)
            for name in ("enabled", "resumed", "a", "failed")
            for version in (STREAM_MANAGEMENT, STREAM_MANAGEMENT_2)
        },
        **{
            f"{name}, once more": inert(f"<{name} {SM} h='1' previd='{KEY}' id='x' resume='true'/>", MANAGED)
            for name in ("enabled", "resumed", "failed", "enable", "resume")
        },
        "a, 2, once more": inert(f"<a xmlns='{STREAM_MANAGEMENT_2}' h='1'/>", MANAGED),
        f"a, {COMPONENT_KIND}": inert(f"<a {SM} h='1'/>", COMPONENT_KIND),
        "resumed in place of bind": while_binding(f"<resumed {SM} previd='x' h='1'/>"),
        "enabled in place of bind": while_binding(f"<enabled {SM} resume='true' id='i'/>"),
    },
)


# ---- M05: <r/> without end


async def request_flood(stage: Stage) -> None:
    """A hundred thousand `<r/>`, and the answers are read."""
    async with stage.session(MANAGED, watch=False) as session:
        answers = 0
        with steady(8):
            for number in range(100):
                session.foe.send(f"<r {SM}/>" * 1_000)
                await session.barrier(f"b{number}")
                answers += session.foe.came.count(b'<a xmlns="urn:xmpp:sm:3" h="')
                session.foe.came.clear()
        assert 100 <= answers <= 100_000


async def unread_answers(stage: Stage) -> None:
    """The same, and the answers are not read: those that cannot go are owed once."""
    async with stage.session(MANAGED, watch=False, write_high_water=16_384) as session:
        session.foe.stop_reading()
        with steady(8):
            for _ in range(100):
                session.foe.send(f"<r {SM}/>" * 5_000)
                await session.foe.drain()
                await asyncio.sleep(0)
        began = time.monotonic()
        await session.broker.shutdown()
        session.foe.resume_reading()
        assert time.monotonic() - began < 4, "the close waits no longer than close_timeout, twice"


M05 = Attack(
    id="M05",
    what="`<r/>` a hundred thousand times, and half a million times by a server that does not read the answers",
    unprotected="an answer of forty bytes to each: the client chokes on its own queue",
    pcj="at most one answer to each; those that cannot go out are owed once: memory stays flat",
    plays={"read": request_flood, "not read": unread_answers},
)


# ---- M06: a server that acknowledges nothing


async def reads_nothing(stage: Stage) -> None:
    """The server takes nothing any more: what waits is bounded, and the user is told."""
    async with stage.session(queue_max_nodes=500, queue_max_bytes=2_000_000, watch=False) as session:
        session.foe.stop_reading()
        body = "x" * 10_000
        given = 0
        with flat(40):
            try:
                for _ in range(10_000):
                    session.broker.output(note(body))
                    given += 1
                    if given % 20 == 0:
                        await asyncio.sleep(0)
            except QueueFull:
                pass
        assert given < 10_000, "100 MB were taken from the user"
        assert session.broker.queue <= 500
        began = time.monotonic()
        await session.broker.shutdown()
        session.foe.resume_reading()
        assert time.monotonic() - began < 4, "the close waits no longer than close_timeout, twice"


async def acknowledges_nothing(stage: Stage) -> None:
    """Ten may be unproved: the others wait, and are refused past the bound of the queue; and then it speaks."""
    async with stage.session(MANAGED, max_unacked_nodes=10, queue_max_nodes=20) as session:
        given: list[Receipt] = []
        try:
            for number in range(100):
                given.append(session.broker.output(note(f"number {number}")))
                await asyncio.sleep(0)
        except QueueFull:
            pass
        await session.foe.until("number 9<")
        assert await handled(session) == 0, "stream management's own does not wait behind stanzas"
        assert [receipt.state for receipt in given[:10]] == ["written"] * 10
        assert {receipt.state for receipt in given[10:]} == {"queued"}
        assert len(given) <= 30
        assert b"number 10<" not in session.foe.came
        session.foe.send(f"<a {SM} h='10'/>")
        await session.foe.until("number 18<")
        assert {receipt.state for receipt in given[:10]} == {"acked"}


async def never_answers(stage: Stage) -> None:
    """`<r/>` is not answered: after `probe_timeout` the link is taken for dead."""
    async with stage.session(MANAGED, ack_every_seconds=0.05, probe_timeout=0.2) as session:
        receipt = session.broker.output(note("ours"))
        began = time.monotonic()
        names = await session.lost()
        assert time.monotonic() - began < 3
        assert "SOCKETFAIL" in names, names
        assert receipt.state == "uncertain"
        assert b"<r " in session.foe.came


M06 = Attack(
    id="M06",
    what="A server that acknowledges nothing, answers no `<r/>`, or reads nothing any more, while we send",
    unprotected="all that the user sends waits in memory: in a list of what is unproved, or in the buffer of the "
    "transport, where nobody counts it",
    pcj="no more than `max_unacked_nodes` and `max_unacked_bytes` are written and unproved, what follows waits in the "
    "queue, whose bounds refuse more (`QueueFull`); unanswered for `probe_timeout` the link is given up, and the nodes "
    "are named; shutdown waits `close_timeout` and no longer",
    plays={
        "acknowledges nothing": acknowledges_nothing,
        "answers no request": never_answers,
        "reads nothing": reads_nothing,
    },
)


# ---- M07: where counting begins


async def insisted_on(stage: Stage) -> None:
    """It is required, and the user does not want it."""

    async def script(foe: Foe) -> None:
        await foe.log_in(PASSWORD, f"<bind xmlns='{BIND}'/><sm {SM}><required/></sm>")
        foe.send(bound(await foe.asked()))
        await foe.rest()

    refused = await stage.refused(script, stream_management=False)
    refused.failed("STREAM_ERROR", "insists on stream management", "stream_management=False")
    assert b"<enable" not in refused.foe.came


async def ahead_of_the_answer(stage: Stage) -> None:
    """Stanzas between our <enable/> and its answer: delivered, and not counted (XEP-0198 4)."""

    async def ready(foe: Foe) -> str:
        await _enabling(foe)
        early = f"<message from='juliet@{DOMAIN}' id='early'><body>early</body></message>"
        return early * 3 + ENABLED

    async with stage.session(Kind(XMPP, MANAGED.jid, CLIENT, ready)) as session:
        assert await handled(session) == 0
        await session.barrier()
        assert session.bodies() == ["early"] * 3
        assert await handled(session) == 1


async def in_one_read(stage: Stage) -> None:
    """<enabled/> and stanzas in one piece: those behind it count."""
    stanza = f"<message from='juliet@{DOMAIN}'><body>late</body></message>"
    async with stage.session(MANAGED, behind=stanza * 3) as session:
        assert await handled(session) == 3
        assert session.bodies() == ["late"] * 3


async def ahead_of_our_request(stage: Stage) -> None:
    """An <enabled/> in one piece with the answer to our request to bind, and another when we have asked."""

    async def ready(foe: Foe) -> str:
        await foe.log_in(PASSWORD, OFFER)
        foe.send(bound(await foe.asked()) + f"<enabled {SM} id='first'/>")
        await foe.until("<enable ")
        await foe.until(">")
        return ENABLED

    async with stage.session(Kind(XMPP, MANAGED.jid, CLIENT, ready)) as session:
        await session.barrier()
        assert session.record.names.count("SM_ENABLED") == 1
        assert session.record.names.count("NODE_IGNORED") == 1
        assert session.foe.came.count(b"<enable ") == 1


M07 = Attack(
    id="M07",
    what="Stream management required of a client that does not want it; `<enabled/>` before it was asked for; stanzas "
    "ahead of it and behind it in one read",
    unprotected="the client counts from another stanza on than the server, and loses or repeats some",
    pcj="what is required and switched off is named in the failure; one `<enabled/>` counts, another is "
    "`NODE_IGNORED`; our count begins behind it, to the stanza",
    plays={
        "required": insisted_on,
        "ahead of our request": ahead_of_our_request,
        "stanzas ahead of it": ahead_of_the_answer,
        "stanzas behind it": in_one_read,
    },
)


# ---- M08: <failed/>


def fails_to_resume(answer: str, condition: str, *, acked: bool) -> Play:
    """The link breaks with a message unproved; the request to resume is refused, and we bind on the same stream."""

    async def play(stage: Stage) -> None:
        async def first(foe: Foe) -> None:
            foe.send(await _managed(foe))
            await foe.until("<body>ours</body>")
            foe.cut()

        async def second(foe: Foe) -> None:
            await foe.log_in(PASSWORD, OFFER)
            await foe.until("<resume ")
            foe.send(answer)
            foe.send(bound(await foe.asked()))
            await foe.until("<enable ")
            foe.send(f"<enabled {SM}/>")
            await foe.farewell()

        receipt, record = await _twice(stage, first, second)
        assert record.one(Event.SM_RESUMEFAILED).detail["condition"] == condition
        assert record.names.index("SM_RESUMEFAILED") < record.names.index("SESSION_LOST")
        assert record.names.count("SESSION_LOST") == 2, "one at the loss, one at the shutdown"
        assert (receipt.state == "acked") == acked
        assert len(stage.foes) == 2

    return play


async def refuses_to_enable(stage: Stage) -> None:
    """The user is told, and pings prove what is written."""

    async def ready(foe: Foe) -> str:
        await _enabling(foe)
        return f"<failed {SM}><{'x' * 10_000} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"

    async with stage.session(Kind(XMPP, MANAGED.jid, CLIENT, ready), ack_every_seconds=0.02) as session:
        assert len(str(session.record.one(Event.WARNING).detail)) < 1_000
        assert "SM_ENABLED" not in session.record.names
        receipt = session.broker.output(note("ours"))
        await session.foe.until("<body>ours</body>")
        session.foe.send(f"<iq type='result' id='{await session.foe.asked()}'/>")
        await receipt.acked(DONE)


M08 = Attack(
    id="M08",
    what="`<failed/>` with h, with h above what was sent, with a nested error, with a condition of 10,000 characters, "
    "with nothing",
    unprotected="what was sent counts as lost, or as delivered, by the attacker's number",
    pcj="h settles what it can have settled; one that cannot be ends the attempt; the condition is found in both "
    "shapes, and cut",
    plays={
        "nothing": fails_to_resume(f"<failed {SM}/>", "", acked=False),
        "h": fails_to_resume(f"<failed {SM} h='1'>{NOT_FOUND}</failed>", "item-not-found", acked=True),
        "h of 0": fails_to_resume(f"<failed {SM} h='0'>{NOT_FOUND}</failed>", "item-not-found", acked=False),
        "nested": fails_to_resume(
            f"<failed {SM}><error type='cancel'>{NOT_FOUND}</error></failed>", "item-not-found", acked=False
        ),
        "long": fails_to_resume(
            f"<failed {SM}><{'x' * 10_000} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
            "x" * 64,
            acked=False,
        ),
        "another namespace": fails_to_resume(f"<failed {SM}><x xmlns='urn:example:x'/></failed>", "", acked=False),
        "h above": resumes_with(f"<failed {SM} h='100'>{NOT_FOUND}</failed>"),
        "h below": resumes_with(f"<failed {SM} h='0'>{NOT_FOUND}</failed>"),
        "of enable": refuses_to_enable,
    },
)


# ---- M09: 2^32


async def ours_wrap(stage: Stage) -> None:
    """Three of ours on both sides of 2^32."""
    async with stage.session(MANAGED) as session:
        management = session.broker._outbox.proofs.management
        assert management is not None
        management.proved = 2**32 - 2
        receipts = [session.broker.output(note(str(number))) for number in range(4)]
        await session.foe.until("<body>3</body>")
        for h, proved in ((2**32 - 2, 0), (2**32 - 1, 1), (0, 2), (1, 3)):
            session.foe.send(f"<a {SM} h='{h}'/>")
            await session.barrier(f"b{h}")
            assert [receipt.state for receipt in receipts] == ["acked"] * proved + ["written"] * (4 - proved)
        session.foe.send(f"<a {SM} h='{2**31}'/>")
        await session.refused("undefined-condition")
        assert receipts[3].state == "uncertain"


async def theirs_wrap(stage: Stage) -> None:
    """What the client has handled is told modulo 2^32."""
    async with stage.session(MANAGED) as session:
        counted = session.broker._outbox.proofs.handled
        assert counted is not None
        counted.count = counted._begun = 2**32 - 1
        assert await handled(session) == 2**32 - 1
        session.say(f"<message from='juliet@{DOMAIN}'><body>the last</body></message>")
        assert await handled(session) == 0
        session.say(f"<message from='juliet@{DOMAIN}'><body>the first</body></message>")
        assert await handled(session) == 1


M09 = Attack(
    id="M09",
    what="The counters' wrap at 2^32, both ways",
    unprotected="compared without a window, everything is acknowledged at once, or nothing ever again",
    pcj="exact on both sides of it; what is half the circle ahead is refused",
    plays={"ours": ours_wrap, "theirs": theirs_wrap},
    note="the counters are set to stand before 2^32: nobody waits for so many stanzas",
)


# ---- M15: the place to come back to


def sent_to(
    attacker: Callable[[Stage], ssl.SSLContext | None] | None, place: Callable[[int], str] = lambda port: ""
) -> Play:
    """<enabled/> names an attacker as the place to come back to; the link breaks."""

    async def play(stage: Stage) -> None:
        (stage.folder / "evil").mkdir()
        ours = presents(lambda: good(DOMAIN))(stage)
        theirs = attacker(stage) if attacker is not None else None
        seen: list[Foe] = []
        where: list[str] = []

        async def first(foe: Foe) -> None:
            await foe.upgrade(ours)
            await _enabling(foe)
            foe.send(f"<enabled {SM} resume='true' id='{KEY}' location='{where[0]}'/>")
            await foe.until("<body>ours</body>")
            foe.cut()

        async def evil(foe: Foe) -> None:
            seen.append(foe)
            if theirs is not None:
                await foe.upgrade(theirs)
            await foe.greet(mechanisms("PLAIN", "SCRAM-SHA-256") + OFFER)
            await foe.until("<starttls")
            foe.send(f"<failure xmlns='{TLS}'/>")
            await foe.rest()

        async def home(foe: Foe) -> None:
            await foe.upgrade(ours)
            await foe.log_in(PASSWORD, OFFER)
            await foe.until("<resume ")
            foe.send(f"<resumed {SM} previd='{KEY}' h='1'/>")
            await foe.farewell()

        async with stage.server(evil) as there:
            where.append(place(there.port) or f"127.0.0.1:{there.port}")
            receipt, record = await _twice(stage, first, home, **tls(stage, "ssl", require_tls=False))
        assert record.names.count("SM_RESUMED") == 1, record.names
        assert receipt.state == "acked"
        assert len(seen) == (0 if place(1) else 1)
        for foe in seen:
            assert foe.shown == []
            assert KEY.encode() not in foe.came
            assert b"romeo" not in foe.clear

    return play


def _for_another(stage: Stage) -> ssl.SSLContext:
    return presents(lambda: good("evil.example"))(stage)


M15 = Attack(
    id="M15",
    what="`<enabled/>` names an attacker as the `location` to come back to: without TLS, with a certificate for his "
    "own name, a port that nothing listens on, a place that is none",
    unprotected="the session's id, and the log-in, are shown to whoever the server names",
    pcj="the place is tried first, and only with TLS as good as before, verified for the same name; where that fails "
    "the server itself is asked, and the session goes on there",
    plays={
        "without TLS": sent_to(None),
        "another's certificate": sent_to(_for_another),
        "no listener": sent_to(None, lambda port: "127.0.0.1:1"),
        "a path": sent_to(None, lambda port: f"127.0.0.1:{port}/x"),
        "credentials in it": sent_to(None, lambda port: f"u:p@127.0.0.1:{port}"),
    },
)

ROWS: Final = [M01, M02, M03, M04, M05, M06, M07, M08, M09, M15]
