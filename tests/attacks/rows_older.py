"""Log-ins of other kinds: SASL2, tokens, components, LEGACY; and what was found on the way (S29 on)."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pcj import Event
from pcj.namespaces import BIND, CLIENT, COMPONENT_ACCEPT, IQ_AUTH, SASL, SASL2, STANZA_ERRORS
from pcj.sasl.steps import decode_base64
from tests.attacks.attack import Attack, Play, only
from tests.attacks.certificates import presents, tls
from tests.attacks.foe import DOMAIN, Foe, mechanisms
from tests.attacks.rows_logins import SCRAM, failure, offering, shaped
from tests.attacks.rows_scram import works
from tests.attacks.scram import answered, begun, honest, signed
from tests.attacks.stage import (
    AGAIN,
    CLIENT_KIND,
    COMPONENT_KIND,
    LEGACY_KIND,
    PASSWORD,
    SOON,
    Kind,
    Refused,
    Stage,
    bound,
)
from tests.shell.transport.pair import good

# ---- S29 to S33: SASL2, tokens, other mechanisms

SASL2_OFFER: Final = f"<authentication xmlns='{SASL2}'><mechanism>SCRAM-SHA-256</mechanism><mechanism>PLAIN</mechanism>"

S29 = Attack(
    id="S29",
    what="Only SASL2 (XEP-0388) offered, or mechanisms there that RFC 6120's list does not have",
    unprotected="what one list must not have is taken from the other",
    pcj="pcj does not speak SASL2: the list of RFC 6120 alone counts; AUTHFAIL without AUTHNEGOTIATE",
    plays={
        "alone": offering(f"{SASL2_OFFER}</authentication>", "no SASL mechanism", allow_plain=True),
        "beside": offering(mechanisms("X-NONE") + f"{SASL2_OFFER}</authentication>", "X-NONE", allow_plain=True),
    },
)


def in_place(element: str) -> Play:
    return shaped(element, "in the middle of")


S30 = Attack(
    id="S30",
    what="SASL2's `<continue/>` in place of a challenge: a thousand tasks, an unknown one; SASL2's challenge and "
    "success",
    unprotected="a loop of tasks, or a success without the checks of the list that was negotiated",
    pcj="pcj does not speak SASL2: AUTHFAIL with undefined-condition, the password is not tried otherwise",
    plays={
        "continue": in_place(f"<continue xmlns='{SASL2}'><tasks><task>TEA</task></tasks></continue>"),
        "a thousand tasks": in_place(f"<continue xmlns='{SASL2}'><tasks>{'<task>X</task>' * 1_000}</tasks></continue>"),
        "challenge": in_place(f"<challenge xmlns='{SASL2}'>cj1h</challenge>"),
        "success": in_place(
            f"<success xmlns='{SASL2}'><authorization-identifier>a@b</authorization-identifier></success>"
        ),
    },
)


def with_token(token: str) -> Play:
    """A token (FAST, XEP-0484) in the success: the log-in goes its way, and nothing of it is kept or told."""

    async def script(foe: Foe) -> None:
        await foe.greet(
            f"<fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-NONE</mechanism></fast>{mechanisms(SCRAM)}"
        )
        exchange = await answered(foe)
        foe.challenge(signed(exchange.signature))
        await foe.take_response()
        foe.send(f"<success xmlns='{SASL}'><token xmlns='urn:xmpp:fast:0' {token}/></success>")

    logged_in = works(script)

    async def play(stage: Stage) -> None:
        await logged_in(stage)
        told = "".join(status.to_json() for record in stage.records for status in record.statuses)
        assert "t0ken" not in told
        assert "ttttt" not in told

    return play


S31 = Attack(
    id="S31",
    what="Tokens for a quicker log-in (FAST, XEP-0484), unasked: expired, of nearly a megabyte, in a failure",
    unprotected="a token of the attacker's is kept, shown to the next server, or logged",
    pcj="pcj does not speak FAST: passed over, and neither kept nor told",
    plays={
        "expired": with_token("token='t0ken' expiry='1999-01-01T00:00:00Z'"),
        "a megabyte": with_token(f"token='{'t' * 900_000}' expiry='2999-01-01T00:00:00Z'"),
        "in a failure": failure("<not-authorized/><token xmlns='urn:xmpp:fast:0' token='t0ken'/>", "rejected user"),
    },
)

S32 = Attack(
    id="S32",
    what="Only ANONYMOUS offered to a broker with an account",
    unprotected="the log-in succeeds as somebody else, and what is sent is nobody's",
    pcj="AUTHFAIL: ANONYMOUS is used only where `sasl_mechanisms` names it",
    plays={
        "outside TLS": offering(mechanisms("ANONYMOUS"), "ANONYMOUS", allow_plain=True),
        "inside TLS": offering(mechanisms("ANONYMOUS"), "ANONYMOUS", secured=True),
    },
)

S33 = Attack(
    id="S33",
    what="Only EXTERNAL offered to a broker without a client certificate",
    unprotected="an empty log-in that tells who we want to be, to be believed or not",
    pcj="not chosen: AUTHFAIL that says what it would need",
    plays={
        "inside TLS": offering(mechanisms("EXTERNAL"), "client_certificate", secured=True),
        "outside TLS": offering(mechanisms("EXTERNAL"), "client_certificate"),
    },
)


# ---- S34 to S38: components and LEGACY


def without_id(kind: Kind, id: str | None) -> Play:
    """No stream id: nothing salts the digest."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header(kind.xmlns, version=None, id=id)
            foe.send("<presence/>")

        refused = await stage.refused(script, kind=kind, authenticate_timeout=1.0)
        refused.failed("AUTHFAIL", "no stream id")
        assert refused.foe.shown == []

    return play


S34 = Attack(
    id="S34",
    what="A header without an id, or with an empty one, to a component or a LEGACY link",
    unprotected="the digest has no salt: it is the same for ever, and logs in whoever has heard it once",
    pcj="AUTHFAIL, no digest is sent",
    plays={
        f"{name}, {kind}": without_id(kind, id)
        for name, id in (("missing", None), ("empty", ""))
        for kind in (COMPONENT_KIND, LEGACY_KIND)
    },
)


def same_id(kind: Kind) -> Play:
    """The same id at each connection."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            foe.send(await kind.ready(foe))
            foe.send("</stream:stream>")

        async with stage.server(script) as at:
            broker = stage.broker(kind, at.port, **AGAIN)
            record = stage.record(broker)
            await broker.connect()
            status = await broker.wait_for(Event.WARNING, timeout=3)
            assert "stream id of the last connection" in str(status.detail["what"])
            assert [state for state in record.names if state == "READY"]
            await broker.shutdown()

    return play


S35 = Attack(
    id="S35",
    what="The same stream id at every connection, to a component or a LEGACY link",
    unprotected="the digest is the same each time: whoever heard one logs in with it",
    pcj="a `WARNING` each time: to look out for it is the server's; outside this machine each such log-in without "
    "TLS is warned of, too",
    note="the second warning is not played: here all links stay on this machine",
    plays={str(kind): same_id(kind) for kind in (COMPONENT_KIND, LEGACY_KIND)},
)


def legacy(reply: Callable[[str], str], check: Callable[[Refused], None], *words: str, **options: Any) -> Play:
    """An answer to jabber:iq:auth that is no success."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header(version=None)
            foe.send(reply(await foe.asked()))

        waits = SOON if "no answer" in words else 5.0
        refused = await stage.refused(script, kind=LEGACY_KIND, authenticate_timeout=waits, **options)
        refused.failed("AUTHFAIL", *words)
        check(refused)

    return play


def silent(outcome: Refused) -> None:
    """Nothing is to be looked at."""


S36 = Attack(
    id="S36",
    what="An answer to `jabber:iq:auth` that is a list of fields of type result, from somebody else, with another "
    "id, of type set; an error that repeats the password",
    unprotected="a log-in that was refused passes for one that succeeded",
    pcj="a list of fields is no success; others are no answer; the password is left out of what is told",
    plays={
        "fields": legacy(
            lambda i: f"<iq type='result' id='{i}'><query xmlns='{IQ_AUTH}'><username/><password/></query></iq>",
            silent,
            "listed the fields",
        ),
        "somebody else": legacy(lambda i: f"<iq type='result' id='{i}' from='juliet@{DOMAIN}'/>", silent, "no answer"),
        "another domain": legacy(lambda i: f"<iq type='result' id='{i}' from='evil.example'/>", silent, "no answer"),
        "another id": legacy(lambda i: f"<iq type='result' id='{i}x'/>", silent, "no answer"),
        "no id": legacy(lambda i: "<iq type='result'/>", silent, "no answer"),
        "a request": legacy(lambda i: f"<iq type='set' id='{i}'><query xmlns='{IQ_AUTH}'/></iq>", silent),
        "a message": legacy(lambda i: f"<message id='{i}'/>", silent),
        "the password in an error": legacy(
            lambda i: (
                f"<iq type='error' id='{i}'><error type='auth'><not-authorized xmlns='{STANZA_ERRORS}'/>"
                f"<text xmlns='{STANZA_ERRORS}'>{PASSWORD} is wrong</text></error></iq>"
            ),
            silent,
            "refused user",
        ),
    },
)


def plaintext_only(stage_options: Mapping[str, Any], *words: str) -> Play:
    """The server wants the password itself."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header(version=None)
            request = await foe.until("</iq>")
            assert "<digest>" in request
            identity = re.search(r'<iq [^>]*id="([^"]+)"', request)
            assert identity is not None
            fields = f"<query xmlns='{IQ_AUTH}'><username/><password/><resource/></query>"
            foe.send(f"<iq type='result' id='{identity[1]}'>{fields}</iq>")
            await foe.until("<password>")
            raise AssertionError("the password was sent")

        refused = await stage.refused(script, kind=LEGACY_KIND, **stage_options)
        refused.failed("AUTHFAIL", *words)

    return play


S37 = Attack(
    id="S37",
    what="A LEGACY server that takes the password itself only",
    unprotected="the client obliges, in the clear",
    pcj="AUTHFAIL that names `plaintext`: the password is sent only where the user said so",
    plays={"": plaintext_only({}, "plaintext=True")},
)


def handshake(answer: str, event: str = "AUTHFAIL", warns: bool = False) -> Play:
    """An answer to a component's handshake."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header(COMPONENT_ACCEPT, version=None)
            await foe.until("</handshake>")
            foe.send(answer)
            if not event:
                await foe.farewell()

        if event:
            refused = await stage.refused(script, kind=COMPONENT_KIND, authenticate_timeout=SOON)
            refused.failed(event)
            return
        async with stage.server(script) as at:
            broker = stage.broker(COMPONENT_KIND, at.port)
            record = stage.record(broker)
            await broker.connect()
            assert ("WARNING" in record.names) == warns
            await broker.shutdown()

    return play


S38 = Attack(
    id="S38",
    what="A component's handshake answered by one with text, of another namespace, by a message, an error, another "
    "element",
    unprotected="anything that comes is taken for success",
    pcj="only `<handshake/>` of the stream's namespace is success, with a `WARNING` where it is not empty; else "
    "AUTHFAIL",
    plays={
        "empty": handshake("<handshake/>", ""),
        "text": handshake("<handshake>welcome</handshake>", "", warns=True),
        "another namespace": handshake("<handshake xmlns='urn:example:x'/>"),
        "a client's": handshake(f"<handshake xmlns='{CLIENT}'/>"),
        "a message": handshake(f"<message from='{DOMAIN}' to='comp.{DOMAIN}'><body>hello</body></message>"),
        "success": handshake(f"<success xmlns='{SASL}'/>"),
        "silence": handshake(" "),
    },
)


# ---- S39 on: found on the way


async def fresh(stage: Stage) -> None:
    """Five log-ins: five nonces, none like another."""
    nonces: list[str] = []

    async def script(foe: Foe) -> None:
        await foe.greet(mechanisms(SCRAM))
        exchange, _ = await begun(foe)
        nonces.append(exchange.nonce)
        foe.send(f"<failure xmlns='{SASL}'><temporary-auth-failure/></failure></stream:stream>")

    for _ in range(5):
        await stage.refused(script)
    assert len(set(nonces)) == 5
    assert all(len(nonce) >= 22 for nonce in nonces), "128 bits and more"
    assert all(len(set(column)) > 1 for column in zip(*nonces, strict=False))


S39 = Attack(
    id="S39",
    what="A server that has us log in again and again, and waits for a nonce to come twice",
    unprotected="a recorded exchange is played again, or two proofs under one nonce give the key away",
    pcj="each nonce is 192 new random bits",
    plays=only(fresh),
)


async def tampered(stage: Stage) -> None:
    """What we say of ourselves at first is what we prove in the end."""

    async def script(foe: Foe) -> None:
        await foe.greet(mechanisms(SCRAM))
        exchange = await answered(foe)
        repeated = re.search(r"(?:^|,)c=([^,]+)", exchange.final)
        assert repeated is not None
        assert (decode_base64(repeated[1]) or b"").decode() == exchange.header
        # Somebody between has changed "n" to "y", or put in another identity: the server, which saw that, refuses.
        foe.send(f"<failure xmlns='{SASL}'><not-authorized/></failure></stream:stream>")

    refused = await stage.refused(script)
    refused.before_bind()
    assert refused.foe.came.count(b"<auth ") == 1


S40 = Attack(
    id="S40",
    what="The header of SCRAM's first message changed on the way: the flag of channel binding, the identity to act as",
    unprotected="client and server agree on something that neither of them said",
    pcj="the header is repeated in the proof, as it was sent: the server sees the change, and its refusal is final",
    plays=only(tampered),
)


def falls(condition: str, *, retried: bool) -> Play:
    """The first mechanism is refused; the next ones protect less."""

    async def play(stage: Stage) -> None:
        context = presents(lambda: good(DOMAIN))(stage)

        async def script(foe: Foe) -> None:
            await foe.upgrade(context)
            await foe.greet(mechanisms(SCRAM, "SCRAM-SHA-1", "DIGEST-MD5", "PLAIN"))
            await foe.take_auth()
            foe.send(f"<failure xmlns='{SASL}'><{condition}/></failure>")
            if retried:
                name, _ = await foe.take_auth()
                assert name == "SCRAM-SHA-1"
                foe.send(f"<failure xmlns='{SASL}'><{condition}/></failure>")
            await foe.until("<auth")
            raise AssertionError("something weaker was tried")

        refused = await stage.refused(script, **tls(stage, "ssl"))
        refused.before_bind()
        assert refused.names.count("AUTHRETRY") == retried

    return play


S41 = Attack(
    id="S41",
    what="SCRAM refused, as unknown, too weak or otherwise, by a server that offers PLAIN beside it",
    unprotected="the client falls from one mechanism to the next, down to the password itself",
    pcj="only what is refused as unknown is followed, and never by what protects less; every other refusal is final",
    plays={
        "invalid-mechanism": falls("invalid-mechanism", retried=True),
        "mechanism-too-weak": falls("mechanism-too-weak", retried=False),
        "not-authorized": falls("not-authorized", retried=False),
        "malformed-request": falls("malformed-request", retried=False),
        "encryption-required": falls("encryption-required", retried=False),
        "aborted": falls("aborted", retried=False),
    },
)


async def hammered(stage: Stage) -> None:
    """The password is refused: it is not tried a second time, even with auto_reconnect."""

    async def script(foe: Foe) -> None:
        await foe.greet(mechanisms(SCRAM))
        exchange, _ = await begun(foe)
        foe.challenge(honest(exchange.nonce))
        await foe.take_response()
        foe.send(f"<failure xmlns='{SASL}'><not-authorized/></failure></stream:stream>")

    refused = await stage.refused(script, **AGAIN)
    await asyncio.sleep(0.05)
    refused.before_bind()
    assert len(refused.foes) == 1
    assert refused.failure.retry == "fatal"


S42 = Attack(
    id="S42",
    what="`not-authorized` to each proof: a server that collects them, each under a salt of its own",
    unprotected="a proof at each reconnect: material for guessing, and an account that is locked",
    pcj="fatal: a password that was refused is not sent again until the user says so",
    plays=only(hammered),
)


async def bomb(stage: Stage) -> None:
    """As many iterations as are allowed: the loop goes on meanwhile, and the deadline holds."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def script(foe: Foe) -> None:
        await foe.greet(mechanisms(SCRAM))
        exchange, _ = await begun(foe)
        foe.challenge(honest(exchange.nonce).replace("i=4096", "i=1000000"))

    ticking = asyncio.create_task(tick())
    refused = await stage.refused(script, authenticate_timeout=SOON)
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    refused.failed("AUTHFAIL", f"within {SOON:g} s")
    assert ticks >= 3, "the loop stood still"


S43 = Attack(
    id="S43",
    what="As many iterations as `max_scram_iterations` allows, at each connection",
    unprotected="the whole program stands still while one server's number is computed",
    pcj="computed in a thread: the loop goes on, and `authenticate_timeout` holds",
    plays=only(bomb),
)


async def twice_the_same(stage: Stage) -> None:
    """The second log-in with the same salt and count computes nothing."""
    counted = 0
    real = hashlib.pbkdf2_hmac

    def counting(*arguments: Any) -> bytes:
        nonlocal counted
        counted += 1
        return real(*arguments)

    stage.monkeypatch.setattr("pcj.sasl.scram.hashlib.pbkdf2_hmac", counting)

    async def script(foe: Foe) -> None:
        await foe.greet(mechanisms(SCRAM))
        exchange = await answered(foe)
        foe.success(signed(exchange.signature))
        await foe.greet(f"<bind xmlns='{BIND}'/>")
        foe.send(bound(await foe.asked()) + "</stream:stream>")

    async with stage.server(script) as at:
        broker = stage.broker(CLIENT_KIND, at.port, **AGAIN)
        await broker.connect()
        for _ in range(3):
            await broker.wait_for(Event.PCJ_SOCKETDISCONNECT, timeout=3)
        await broker.shutdown()
    assert counted == 1


S44 = Attack(
    id="S44",
    what="A server that lets us in and throws us out, time after time, each log-in at the price of PBKDF2",
    unprotected="the client's processor is the server's",
    pcj="computed once for each salt and count, and kept in memory until the password is refused",
    plays=only(twice_the_same),
)


ROWS: Final = [S29, S30, S31, S32, S33, S34, S35, S36, S37, S38, S39, S40, S41, S42, S43, S44]
