"""Stanzas: what is in them, what is answered, what is shown (P09 on)."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from typing import Final

import pytest

from pcj import Event, QueueFull, RequestError, Status, from_bytes, message, ping
from pcj.namespaces import BIND, CLIENT, PING
from tests.attacks.attack import Attack, Play, only
from tests.attacks.foe import DOMAIN, Foe, header, mechanisms, stream_error
from tests.attacks.memory import steady
from tests.attacks.rows_requests import JULIET, SELF, no_reply, received, result
from tests.attacks.stage import CLIENT_KIND, COMPONENT_KIND, KINDS, PASSWORD, ROUTER_KIND, Kind, Stage, bound

# ---- P09: what is inside stanzas is nobody's word

ROSTER: Final = "<query xmlns='jabber:iq:roster'><item jid='evil@example.net' subscription='both'/></query>"
FORWARDED: Final = (
    f"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='{CLIENT}' from='{SELF}' to='{JULIET}'><body>forged</body>"
    "</message></forwarded>"
)


def as_it_came(stanza: str, kind: Kind = CLIENT_KIND) -> Play:
    """Delivered with the sender that the server stamped on it, once, as one node."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            matched: list[Status] = []
            session.broker.add_filter("FORGED", "/message[body='forged']")
            session.broker.subscribe("FORGED", matched.append)
            session.say(stanza)
            await session.barrier()
            (node,) = received(session)
            assert node.get("from") == f"evil@{DOMAIN}/x"
            assert matched == [], "what is inside was taken for a stanza"
            assert session.broker.jid == kind.jid

    return play


EVIL: Final = f"from='evil@{DOMAIN}/x'"
P09 = Attack(
    id="P09",
    what="A roster push, a carbon copy, an archive's result, forged by a peer in his own stanza",
    see="CVE-2015-8688, CVE-2017-5589, CVE-2019-16235, CVE-2020-26547",
    unprotected="the roster is the attacker's, and messages appear from whom he likes",
    pcj="never interpreted: the node comes with the sender that the server stamped on it, and what is inside is "
    "inside; who reads it must look at `from`",
    plays={
        "roster push": as_it_came(f"<iq type='set' id='r' {EVIL}>{ROSTER}</iq>"),
        "carbon": as_it_came(f"<message {EVIL}><sent xmlns='urn:xmpp:carbons:2'>{FORWARDED}</sent></message>"),
        "archive": as_it_came(f"<message {EVIL}><result xmlns='urn:xmpp:mam:2' id='1'>{FORWARDED}</result></message>"),
        "carbon, component": as_it_came(
            f"<message {EVIL}><received xmlns='urn:xmpp:carbons:2'>{FORWARDED}</received></message>", COMPONENT_KIND
        ),
    },
)


# ---- P10, P11: answers of our own


def unanswerable(payload: str) -> Play:
    """Requests to a broker whose answers nobody takes; then the user sends something, and it gets through."""

    async def play(stage: Stage) -> None:
        block = f"<iq type='get' id='{'q' * 500}' from='evil@{DOMAIN}/x'>{payload}</iq>" * 100
        async with stage.session(watch=False, max_auto_replies=50) as session:
            foe, warned = session.foe, list[Status]()
            session.broker.subscribe(Event.WARNING, warned.append)
            foe.stop_reading()
            with steady(24):
                for _ in range(200):
                    foe.send(block)
                    await foe.drain()
                    await foe.settle()
                assert session.broker.queue <= 50
                session.broker.output(message(to=JULIET, body="user's own"))
                assert session.broker.queue <= 51
            assert len(warned) <= 10, "a warning for each is a flood of its own"
            assert "answer" in str(warned[0].detail["what"])
            foe.resume_reading()
            await foe.until("user's own")
            assert foe.text.count("<iq ") < 15_000, "answers to all"

    return play


P10 = Attack(
    id="P10",
    what="Tens of thousands of requests in a second that nobody handles, and pings, each of which is to be answered",
    unprotected="answers wait without bound, and the user's own stanzas behind them",
    pcj="at most `max_auto_replies` answers of ours wait to be sent, further requests go unanswered, with a "
    "`WARNING` now and then; the user's stanzas get through",
    plays={
        "requests": unanswerable("<x xmlns='urn:example:x'/>"),
        "pings": unanswerable(f"<ping xmlns='{PING}'/>"),
    },
)


def never_answered(stanza: str) -> Play:
    """No word of ours comes back."""

    async def play(stage: Stage) -> None:
        async with stage.session() as session:
            before = len(session.foe.came)
            session.foe.send(stanza)
            await session.barrier()
            assert session.foe.came[before:].count(b"<iq") == 1, "the answer to the barrier, and nothing else"
            assert "IQ_ANSWERED" not in [
                status.event
                for status in session.record.statuses
                if status.node is not None and status.node.get("id") == "b1"
            ]

    return play


P11 = Attack(
    id="P11",
    what="Our own automatic answer sent back to us as an error, for ever; errors and results to nothing",
    unprotected="two programs answer each other's errors until somebody pulls the plug",
    pcj="only IQs of type get and set are ever answered (RFC 6120 8.3.1)",
    plays={
        "error": never_answered(f"<iq type='error' id='b1' from='{JULIET}'><error type='cancel'/></iq>"),
        "result": never_answered(f"<iq type='result' id='b1' from='{JULIET}'/>"),
        "no type": never_answered(f"<iq id='b1' from='{JULIET}'><x xmlns='urn:x'/></iq>"),
        "message": never_answered(f"<message type='error' id='b1' from='{JULIET}'/>"),
        "presence": never_answered(f"<presence type='subscribe' id='b1' from='{JULIET}'/>"),
    },
)


# ---- P12: the terminal

HOSTILE: Final = "&#x85;\u202e\u2066\u200b\u2028\U000e0041\u009b31m"
#: What may stand in the output of a command that is no terminal's.
ALLOWED: Final = re.compile(r"[\n -~\u00a1-\u00ac\u00ae-\u024f\u2013\u2026]*")


COMMAND: Final = "from pcj.cli.main import main; main()"


def on_a_terminal(*options: str) -> Play:
    """`pcj connect` to a server whose every text is made for terminals."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.greeting()
            foe.send(header(sender=f"evil{HOSTILE}").replace(" id='s1'", f" id='s{HOSTILE}' xml:lang='{HOSTILE}'"))
            foe.features(f"<x{UNUSUAL} xmlns='urn:{HOSTILE}'/>" + mechanisms("SCRAM-SHA-256", f"EVIL{HOSTILE}"))
            await foe.scram(PASSWORD)
            foe.success(foe.proof)
            await foe.greet(f"<bind xmlns='{BIND}'/>")
            hello = f"<message from='juliet{HOSTILE}@{DOMAIN}' id='{HOSTILE}'><body>{HOSTILE}</body>"
            hello += f"<y{UNUSUAL} xmlns='urn:{HOSTILE}' z{UNUSUAL}='{HOSTILE}'/></message>"
            foe.send(bound(await foe.asked()) + hello * 3 + stream_error(f"tea{UNUSUAL}", HOSTILE) + "</stream:stream>")

        async with stage.server(script) as at:
            command = [sys.executable, "-c", COMMAND, "connect", CLIENT_KIND.jid, "--host", "127.0.0.1", "--port"]
            done = await asyncio.to_thread(
                subprocess.run,
                [*command, str(at.port), "--no-require-tls", *options],
                env={**os.environ, "PCJ_PASSWORD": PASSWORD, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
                capture_output=True,
                timeout=10,
                check=False,
            )
        for stream in (done.stdout, done.stderr):
            said = stream.decode()
            assert ALLOWED.fullmatch(said), {c for c in said if not ALLOWED.fullmatch(c)}
            assert PASSWORD not in said
        assert b"READY" in done.stdout, done.stderr[-400:]
        assert b"x85" in done.stdout or b"u0085" in done.stdout, "nothing hostile was shown"

    return play


#: A letter that a name may have.
UNUSUAL: Final = "\u00e9"

P12 = Attack(
    id="P12",
    what="Texts, names, attributes, addresses with escape sequences, C1 controls, changes of direction, invisible "
    "characters, shown by `pcj connect`",
    unprotected="the terminal is the attacker's: a title, a colour, a line that says something else",
    pcj="all that is not printable is written as an escape, in text and in JSON",
    plays={"timeline": on_a_terminal(), "JSON": on_a_terminal("--json")},
)


# ---- P13 on

P13 = Attack(
    id="P13",
    what="An error of another kind of stanza, from the address that was asked and with the id of the request: a "
    "message or a presence of type `error` for an IQ",
    see="the kind of CVE-2024-46957",
    unprotected="what a peer can send in a room or as a bounce ends a request that it has nothing to do with",
    pcj="an IQ is answered by an IQ (RFC 6120 8.2.3): it is a node like any other, and the request waits on",
    plays={
        "a message": no_reply(lambda i: f"<message type='error' id='{i}' from='{JULIET}'/>"),
        "a presence": no_reply(lambda i: f"<presence type='error' id='{i}' from='{JULIET}'/>"),
    },
)


async def late(stage: Stage) -> None:
    """The reply comes when nobody waits any more, and again, and again."""
    async with stage.session() as session:
        future = session.broker.return_to_sender(ping(to=JULIET), timeout=0.02)
        identity = await session.foe.asked()
        with pytest.raises(RequestError):
            await future
        session.foe.send(result(identity, f"nurse@{DOMAIN}") + result(identity, JULIET) * 3)
        await session.barrier()
        marked = [status.detail.get("late") for status in session.record.of(Event.PCJ_NODERECEIVED)]
        assert marked == [None, True, None, None]
        assert session.record.names.count("RTS_FAIL") == 1
        assert "RTS_FINISH" not in session.record.names


async def never_replies(stage: Stage) -> None:
    """Nobody ever answers: what is remembered is bounded."""
    async with stage.session(watch=False, max_pending_requests=50, request_timeout=0.05) as session:
        refusals = 0
        for _ in range(200):
            try:
                session.broker.return_to_sender(ping(to=JULIET))
            except QueueFull:
                refusals += 1
        assert refusals == 150
        await asyncio.sleep(0.08)
        assert session.broker.pending == 0


P14 = Attack(
    id="P14",
    what="Replies that come too late, repeatedly, or never",
    unprotected="a table of requests that grows for ever; a late reply that is taken for that to the next request",
    pcj="each request ends by its deadline with `RTS_FAIL`; a late reply is a node marked `late`, once; at most "
    "`max_pending_requests` wait",
    plays={"late": late, "never": never_replies},
)


def from_nowhere(sender: str, kind: Kind = CLIENT_KIND) -> Play:
    """A request from what is no address: it is answered or not, and the link lives."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            session.say(f"<iq type='get' id='q' {sender} to='{kind.jid}'><x xmlns='urn:example:x'/></iq>")
            await session.barrier()
            assert session.broker.state == "ready"

    return play


P15 = Attack(
    id="P15",
    what="Requests from what is no address: none, empty, `@@/`, 10,000 characters, a newline, markup",
    unprotected="an exception in the code that answers ends the link, or the process",
    pcj="answered to the address as it came, or not at all; the link lives",
    plays={
        f"{name}, {kind}": from_nowhere(sender, kind)
        for name, sender in {
            "none": "",
            "empty": "from=''",
            "malformed": "from='@@/'",
            "long": f"from='{'x' * 10_000}'",
            "newline": "from='a&#10;b@c'",
            "quotes": "from='&quot;&gt;&lt;message/&gt;'",
        }.items()
        for kind in (CLIENT_KIND, COMPONENT_KIND, ROUTER_KIND)
    },
)


def injected(kind: Kind) -> Play:
    """An id that is markup comes back as an id."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            evil = "x\"/><message to='nurse@example.org'><body>injected</body></message><iq a=\"'"
            written = evil.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").replace("'", "&apos;")
            before = len(session.foe.came)
            for request in (f"<ping xmlns='{PING}'/>", "<x xmlns='urn:example:x'/>"):
                session.say(f"<iq type='get' id='{written}' from='{JULIET}' to='{kind.jid}'>{request}</iq>")
            await session.barrier()
            sent = session.foe.came[before:].decode()
            answers = from_bytes(f"<all xmlns='{CLIENT}'>{sent}</all>")
            found = [node for node in answers.iter() if node.tag in (f"{{{CLIENT}}}iq", f"{{{kind.xmlns}}}iq")]
            assert [node.get("id") for node in found] == [evil, evil, "barrier"]
            assert "<message" not in sent

    return play


P16 = Attack(
    id="P16",
    what="Markup in what an automatic answer repeats: the id, the sender, the payload of a request",
    unprotected="an attacker writes stanzas into the client's own stream, with the client's own name on them",
    pcj="what is repeated is written anew, escaped: the answer is one stanza with that id",
    plays={str(kind): injected(kind) for kind in KINDS},
)


async def handlers_fail(stage: Stage) -> None:
    """Each message makes a handler raise: the others hear it, and the link lives."""
    async with stage.session() as session:
        heard: list[Status] = []

        def fragile(status: Status) -> None:
            node = status.node
            assert node is not None
            raise ValueError(int(node.findtext(f"{{{CLIENT}}}body") or "0") and "not reached")

        session.broker.subscribe(Event.PCJ_NODERECEIVED, fragile)
        session.broker.subscribe(Event.PCJ_NODERECEIVED, heard.append)
        session.foe.send(f"<message from='{JULIET}'><body>no number</body></message>" * 5)
        await session.barrier()
        assert len(heard) == 5
        assert session.record.names.count("HANDLER_FAILED") == 5
        assert session.broker.state == "ready"


P17 = Attack(
    id="P17",
    what="A message that makes the user's handler raise",
    unprotected="one stanza ends the program, or silently the reading of the stream",
    pcj="`HANDLER_FAILED` with the error; every other handler hears the node, and the link lives",
    plays=only(handlers_fail),
)


ROWS: Final = [P09, P10, P11, P12, P13, P14, P15, P16, P17]
