"""Requests, their replies, and who we are (P01 to P08)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

from pcj import Event, Node, iq, message, ping
from pcj.namespaces import PING, STANZA_ERRORS
from tests.attacks.attack import Attack, Play
from tests.attacks.foe import DOMAIN, USER, Foe
from tests.attacks.stage import CLIENT_KIND, COMPONENT_KIND, PASSWORD, ROUTER_KIND, Kind, Session, Stage, bound

JULIET: Final = f"juliet@{DOMAIN}/balcony"
SELF: Final = f"{USER}@{DOMAIN}"


async def asks(session: Session, to: str | None) -> tuple[asyncio.Future[Node], str]:
    """A request of the user's, and its id as the server sees it."""
    future = session.broker.return_to_sender(ping(to=to))
    return future, await session.foe.asked()


def result(identity: str, sender: str | None, kind: str = "result", to: str = CLIENT_KIND.jid) -> str:
    """A reply, perhaps."""
    said = "" if sender is None else f" from='{sender}'"
    return f"<iq type='{kind}' id='{identity}'{said} to='{to}'/>"


def forged(to: str | None, *senders: str | None, true: str | None, kind: Kind = CLIENT_KIND) -> Play:
    """None of these answers a request to `to`; the one from `true` does."""
    asked = to

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            future, identity = await asks(session, asked)
            for sender in senders:
                session.say(result(identity, sender, to=kind.jid))
                session.say(result(identity, sender, "error", to=kind.jid))
            await session.barrier()
            assert not future.done(), "somebody else's word was taken for the reply"
            assert session.broker.pending == 1
            session.say(result(identity, true, to=kind.jid))
            reply = await future
            assert reply.get("from") == true
            assert session.record.names.count("RTS_FINISH") == 1

    return play


P01 = Attack(
    id="P01",
    what="A reply with the right id from somebody who was not asked: another user, another resource, the server, a "
    "component, from nobody, from our own address",
    see="CVE-2014-0364 and the audit of 2014",
    unprotected="anybody who guesses an id answers for anybody: rosters, vCards, files",
    pcj="only the address that was asked answers (RFC 6120 8.1.2.1); for requests to our own account that is no "
    "`from`, our bare and full address, and our domain",
    plays={
        "to a peer": forged(
            JULIET,
            None,
            f"nurse@{DOMAIN}/x",
            f"juliet@{DOMAIN}",
            f"juliet@{DOMAIN}/garden",
            DOMAIN,
            SELF,
            CLIENT_KIND.jid,
            f"juliet@{DOMAIN}.evil.example/balcony",
            true=JULIET,
        ),
        "to a bare address": forged(f"juliet@{DOMAIN}", JULIET, None, DOMAIN, SELF, true=f"juliet@{DOMAIN}"),
        "to the server": forged(DOMAIN, JULIET, f"x@{DOMAIN}", f"sub.{DOMAIN}", SELF, true=DOMAIN),
        "to nobody": forged(None, JULIET, f"x@{DOMAIN}", f"{SELF}/other", f"sub.{DOMAIN}", "", true=None),
        "to nobody, bare": forged(None, JULIET, true=SELF),
        "to ourselves": forged(SELF, JULIET, f"{SELF}/other", true=None),
        **{
            f"component, {kind}": forged(
                JULIET, f"nurse@{DOMAIN}/x", DOMAIN, kind.jid, f"x@{kind.jid}", true=JULIET, kind=kind
            )
            for kind in (COMPONENT_KIND, ROUTER_KIND)
        },
    },
)


async def guessed(stage: Stage) -> None:
    """Ids say nothing of the next one, and a reply to one that was never used is none."""
    async with stage.session() as session:
        futures = [session.broker.return_to_sender(ping(to=JULIET)) for _ in range(20)]
        ids = [await session.foe.asked() for _ in futures]
        assert len(set(ids)) == 20
        assert all(len(identity) >= 22 for identity in ids), "128 bits and more"
        shared = [len(set(column)) for column in zip(*ids, strict=False)]
        assert min(shared) > 1, "a part of the id is the same in all"
        for identity in ids:
            for guess in (identity[:-1] + chr(ord(identity[-1]) ^ 1), identity.lower(), identity + "1"):
                if guess not in ids:
                    session.foe.send(result(guess.replace("&", "x").replace("<", "y"), JULIET))
        await session.barrier()
        assert not any(future.done() for future in futures)


async def held_request(stage: Stage) -> None:
    """A reply to a request that has not been written yet, under the id that its user chose."""
    async with stage.session(on_ready="hold") as session:
        session.foe.send(result("chosen", JULIET))
        await session.barrier()
        future = session.broker.return_to_sender(iq(type="get", to=JULIET, id="chosen", payload=ping_payload()))
        await session.barrier("second")
        assert not future.done()
        session.foe.send(result("chosen", JULIET))
        assert (await future).get("id") == "chosen"


async def unwritten(stage: Stage) -> None:
    """A reply to a request that still waits with us, since the network takes no more."""
    async with stage.session(write_high_water=10_000, queue_max_bytes=100_000_000) as session:
        session.foe.stop_reading()
        while session.broker.queue < 2:
            session.broker.output(message(to=JULIET, body="x" * 100_000))
            await asyncio.sleep(0)
        future = session.broker.return_to_sender(iq(type="get", to=JULIET, id="chosen", payload=ping_payload()))
        session.foe.send(result("chosen", JULIET))
        await session.broker.wait_for(Event.PCJ_NODERECEIVED, timeout=2)
        assert not future.done()
        session.foe.resume_reading()
        await session.foe.until('id="chosen"')
        session.foe.send(result("chosen", JULIET))
        assert (await future).get("id") == "chosen"


def ping_payload() -> Node:
    return ping()[0]


P02 = Attack(
    id="P02",
    what="A reply before the request was written; one with an id guessed from those seen before",
    unprotected="counters as ids: a reply can be there before the question",
    pcj="ids are 192 random bits; what came before counts for nothing",
    plays={"guessed": guessed, "too early": held_request, "not written": unwritten},
)


def twice(first: str, second: str) -> Play:
    """Two replies to one request."""

    async def play(stage: Stage) -> None:
        async with stage.session() as session:
            future, identity = await asks(session, JULIET)
            session.foe.send(result(identity, JULIET, first) + result(identity, JULIET, second))
            assert (await future).get("type") == first
            await session.barrier()
            names = session.record.since("READY")
            assert names.count("RTS_FINISH") == 1
            assert [node.get("type") for node in received(session)] == [second]

    return play


def received(session: Session) -> list[Node]:
    """The nodes of PCJ_NODERECEIVED."""
    return [status.node for status in session.record.of(Event.PCJ_NODERECEIVED) if status.node is not None]


P03 = Attack(
    id="P03",
    what="Two replies to one request: result and error, twice the same",
    unprotected="the second one overwrites the first, or ends a request that was made since",
    pcj="the first counts; the second is a node like any other",
    plays={
        "result, error": twice("result", "error"),
        "error, result": twice("error", "result"),
        "twice": twice("result", "result"),
    },
)


def no_reply(stanza: Callable[[str], str], shown: int = 1) -> Play:
    """Something from the address that was asked, with the right id, that is no reply."""

    async def play(stage: Stage) -> None:
        async with stage.session() as session:
            future, identity = await asks(session, JULIET)
            session.foe.send(stanza(identity))
            await session.barrier()
            assert not future.done(), future
            assert len(received(session)) == shown
            session.foe.send(result(identity, JULIET))
            assert (await future).get("type") == "result"

    return play


P04 = Attack(
    id="P04",
    what="A stanza that is no reply, with the id of a request that waits: an IQ of type get, of no type, of type "
    "`foo`; a message, a presence",
    see="the kind of CVE-2024-46957",
    unprotected="whoever was asked for one thing has another taken for the answer, past all that would have looked "
    "at it",
    pcj="not a reply: it goes the way of any node, and the request waits on",
    plays={
        "get": no_reply(lambda i: f"<iq type='get' id='{i}' from='{JULIET}'><query xmlns='urn:example:q'/></iq>"),
        "set": no_reply(lambda i: f"<iq type='set' id='{i}' from='{JULIET}'><query xmlns='urn:example:q'/></iq>"),
        "ping": no_reply(lambda i: f"<iq type='get' id='{i}' from='{JULIET}'><ping xmlns='{PING}'/></iq>", shown=0),
        "no type": no_reply(lambda i: f"<iq id='{i}' from='{JULIET}'/>"),
        "another type": no_reply(lambda i: f"<iq type='foo' id='{i}' from='{JULIET}'/>"),
        "a message": no_reply(lambda i: f"<message type='chat' id='{i}' from='{JULIET}'/>"),
        "a presence": no_reply(lambda i: f"<presence id='{i}' from='{JULIET}'/>"),
        "another namespace": no_reply(lambda i: f"<iq xmlns='urn:example:x' type='result' id='{i}' from='{JULIET}'/>"),
        "nested": no_reply(
            lambda i: f"<message from='{JULIET}'><iq type='result' id='{i}' from='{JULIET}'/></message>"
        ),
    },
)


def folded(to: str, sender: str, *, same: bool) -> Play:
    """Whether the address that answers is the one that was asked."""

    async def play(stage: Stage) -> None:
        async with stage.session() as session:
            future, identity = await asks(session, to)
            session.foe.send(result(identity, sender))
            await session.barrier()
            assert future.done() == same
            if not same:
                session.foe.send(result(identity, to))
            assert (await future).get("type") == "result"

    return play


P05 = Attack(
    id="P05",
    what="A reply from the address that was asked, written in another way: capitals, A-labels, a final dot; from one "
    "that only looks like it",
    unprotected="a request waits for ever, or a lookalike answers",
    pcj="prepared forms are compared (RFC 7622): capitals, A-labels, full width and the dot are folded, resources "
    "and lookalikes are not",
    plays={
        "capitals": folded(JULIET, f"JULIET@{DOMAIN.upper()}/balcony", same=True),
        "resource in capitals": folded(JULIET, f"juliet@{DOMAIN}/BALCONY", same=False),
        "A-label": folded("juliet@b\u00fccher.example", "juliet@xn--bcher-kva.example", same=True),
        "U-label": folded("juliet@xn--bcher-kva.example", "juliet@b\u00fccher.example", same=True),
        "final dot": folded(f"juliet@{DOMAIN}", f"juliet@{DOMAIN}.", same=True),
        "lookalike": folded(f"juliet@{DOMAIN}", f"jul\u0456et@{DOMAIN}", same=False),
        "lookalike domain": folded("juliet@example.org", "juliet@ex\u0430mple.org", same=False),
        "full width": folded(f"juliet@{DOMAIN}", f"\uff4auliet@{DOMAIN}", same=True),
        "no address": folded(f"juliet@{DOMAIN}", f"juliet@@{DOMAIN}", same=False),
    },
)


def odd_ids(made: str) -> Play:
    """Replies without an id that fits."""

    async def play(stage: Stage) -> None:
        async with stage.session() as session:
            future, _ = await asks(session, JULIET)
            session.foe.send(f"<iq type='result'{made} from='{JULIET}'/>" * 3)
            await session.barrier()
            assert not future.done()
            assert len(received(session)) == 3
            future.cancel()

    return play


P06 = Attack(
    id="P06",
    what="Replies without an id, with an empty one, with one of 300,000 characters",
    unprotected="a table of requests that is asked for what it does not hold, or that keeps what it is asked for",
    pcj="replies to nothing: nodes like any other",
    plays={"none": odd_ids(""), "empty": odd_ids(" id=''"), "long": odd_ids(f" id='{'x' * 300_000}'")},
)


# ---- P07, P08: who we are


def answers_bind(reply: Callable[[str], str], *words: str, answer: str = "", event: str = "BINDFAIL") -> Play:
    """An answer to our request to bind that is none."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.log_in(PASSWORD)
            foe.send(reply(await foe.asked()))

        refused = await stage.refused(script, bind_timeout=2.0)
        refused.failed(event, *words)
        assert str(refused.failure).isprintable()
        assert len(str(refused.failure)) < 1_500, len(str(refused.failure))
        assert "BINDSUCCESS" not in refused.names

    return play


def given(jid: str, *more: str) -> Callable[[str], str]:
    """The server's answer with these addresses."""
    return lambda identity: bound(identity, jid).replace("</jid>", "</jid>" + "".join(f"<jid>{j}</jid>" for j in more))


def refusal(inside: str) -> Callable[[str], str]:
    return lambda identity: f"<iq type='error' id='{identity}'>{inside}</iq>"


P07 = Attack(
    id="P07",
    what="An answer to our request to bind without an address, with two, with one that is malformed, another user's, "
    "another domain's, a bare one, one with escape sequences; an error that says nothing",
    unprotected="the client believes to be somebody else, and answers and stamps stanzas as that",
    pcj="BINDFAIL that names what came, escaped; it never waits for ever",
    plays={
        "no address": answers_bind(lambda i: f"<iq type='result' id='{i}'/>", "no addresses"),
        "empty": answers_bind(given(""), "no address"),
        "two": answers_bind(given(f"{SELF}/a", f"{SELF}/b"), "2 addresses"),
        "malformed": answers_bind(given("@@/"), "no address"),
        "another user's": answers_bind(given(f"juliet@{DOMAIN}/x"), "not an address of"),
        "another domain's": answers_bind(given(f"{USER}@example.net/x"), "not an address of"),
        "bare": answers_bind(given(SELF), "not an address of"),
        "a domain": answers_bind(given(DOMAIN), "not an address of"),
        "too long": answers_bind(given(f"{SELF}/{'r' * 1024}"), "no address"),
        "three parts too long": answers_bind(given(f"{'l' * 1024}@{'d' * 1024}/{'r' * 1024}"), "no address"),
        "direction": answers_bind(given(f"{SELF}\u202e/x"), "no address"),
        "error, unknown type": answers_bind(refusal("<error type='evil'><tea/></error>")),
        "error, empty": answers_bind(refusal("")),
        "error, long": answers_bind(refusal(f"<error><text xmlns='{STANZA_ERRORS}'>{'x' * 900_000}</text></error>")),
    },
)


def conflicts(answer: str) -> Play:
    """Each resource is taken, each time."""

    async def play(stage: Stage) -> None:
        asked: list[str] = []

        async def script(foe: Foe) -> None:
            await foe.log_in(PASSWORD)
            while True:
                asked.append(await foe.asked())
                foe.send(f"<iq type='error' id='{asked[-1]}'>{answer}</iq>")

        refused = await stage.refused(script)
        refused.failed("BINDFAIL")
        assert len(asked) == 3
        resources = re.findall(r"<resource>([^<]*)</resource>", refused.foe.text)
        assert len(set(resources)) == 3

    return play


P08 = Attack(
    id="P08",
    what="`conflict` for each resource that we ask for, for ever",
    unprotected="a loop as quick as the network, with a new session each time",
    pcj="three tries, each with another resource, then BINDFAIL",
    plays={
        "conflict": conflicts(f"<error type='modify'><conflict xmlns='{STANZA_ERRORS}'/></error>"),
        "modify": conflicts(f"<error type='modify'><bad-request xmlns='{STANZA_ERRORS}'/></error>"),
    },
)


ROWS: Final = [P01, P02, P03, P04, P05, P06, P07, P08]
