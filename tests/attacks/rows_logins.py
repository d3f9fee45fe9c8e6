"""Log-ins: what is offered, other mechanisms, what comes out of turn (S18 to S28)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pcj import Event
from pcj.namespaces import BIND, SASL
from pcj.sasl import digest_md5
from tests.attacks.attack import Attack, Play, only
from tests.attacks.certificates import presents, tls
from tests.attacks.foe import DOMAIN, USER, Foe, mechanisms
from tests.attacks.memory import steady
from tests.attacks.rows_scram import untrue, works
from tests.attacks.scram import answered, begun, honest, signed
from tests.attacks.stage import (
    AGAIN,
    CLIENT_KIND,
    PASSWORD,
    ROUTER_KIND,
    Kind,
    Stage,
)
from tests.shell.transport.pair import good

SCRAM: Final = "SCRAM-SHA-256"


def offering(features: str, *words: str, secured: bool = False, kind: Kind = CLIENT_KIND, **options: Any) -> Play:
    """This is offered, and nothing of it is used: AUTHFAIL without AUTHNEGOTIATE, no credential is sent."""

    async def play(stage: Stage) -> None:
        context = presents(lambda: good(DOMAIN))(stage)

        async def script(foe: Foe) -> None:
            if secured:
                await foe.upgrade(context, xmlns=kind.xmlns)
            await foe.header(kind.xmlns)
            foe.features(features)

        with steady(32):
            refused = await stage.refused(script, kind=kind, **options, **(tls(stage, "ssl") if secured else {}))
        refused.failed("AUTHFAIL", *words)
        refused.nothing_shown()
        assert str(refused.failure).isprintable()
        assert len(str(refused.failure)) < 1_500

    return play


# ---- S18 to S20: what is offered

S18 = Attack(
    id="S18",
    what="Only PLAIN, or DIGEST-MD5, offered outside TLS",
    unprotected="everybody on the way has the password, or what it is guessed from in an hour",
    pcj="AUTHFAIL without AUTHNEGOTIATE, unless `allow_plain` says otherwise",
    plays={
        "PLAIN": offering(mechanisms("PLAIN"), "allow_plain"),
        "DIGEST-MD5": offering(mechanisms("DIGEST-MD5"), "allow_plain"),
        "both": offering(mechanisms("PLAIN", "DIGEST-MD5", "CRAM-MD5", "LOGIN"), "allow_plain"),
        "router, PLAIN": offering(mechanisms("PLAIN"), "allow_plain", kind=ROUTER_KIND),
    },
)

S19 = Attack(
    id="S19",
    what="A list of mechanisms that is empty, absent, of 10,000 names, with one of nearly a megabyte, control "
    "characters, lower case, white space, markup",
    unprotected="a name that only looks like one of ours is taken for it, or the list is the attacker's memory",
    pcj="names count only if they are exactly ours: AUTHFAIL without AUTHNEGOTIATE; sentences are escaped and cut",
    plays={
        "empty": offering(mechanisms(), "no SASL mechanism"),
        "absent": offering("<x xmlns='urn:x'/>", "no SASL mechanism"),
        "10,000": offering(mechanisms(*(f"X-{number}" for number in range(10_000))), "more"),
        "a megabyte": offering(mechanisms("X" * 900_000)),
        "controls": offering(mechanisms("PLAIN\u202e", "\u0085SCRAM-SHA-256"), "\\u202e"),
        "lower case": offering(mechanisms("plain", "scram-sha-256"), allow_plain=True),
        "white space": offering(mechanisms(" PLAIN", "SCRAM-SHA-256\n"), allow_plain=True),
        "empty names": offering(mechanisms("", ""), allow_plain=True),
        "markup": offering(mechanisms("<b>PLAIN</b>", "PL<b/>AIN"), allow_plain=True),
        "lookalike": offering(mechanisms("PLA\u0406N", "SCRAM-SHA-256\u200b"), allow_plain=True),
        "another namespace": offering(
            "<mechanisms xmlns='urn:example:x'><mechanism>PLAIN</mechanism></mechanisms>", allow_plain=True
        ),
        "names of another namespace": offering(
            f"<mechanisms xmlns='{SASL}'><mechanism xmlns='urn:example:x'>PLAIN</mechanism></mechanisms>",
            allow_plain=True,
        ),
        "unknown to us": offering(mechanisms("GSSAPI", "X-OAUTH2", "NTLM"), "GSSAPI"),
    },
)

S20 = Attack(
    id="S20",
    what="Only weaker mechanisms offered than those that `sasl_mechanisms` names",
    unprotected="the choice is the server's",
    pcj="AUTHFAIL that names what is offered and what is allowed",
    plays={
        "SHA-1": offering(mechanisms("SCRAM-SHA-1"), "SCRAM-SHA-1", sasl_mechanisms=("SCRAM-SHA-256",)),
        "inside TLS": offering(
            mechanisms("SCRAM-SHA-1", "PLAIN"), "not among", sasl_mechanisms=("SCRAM-SHA-256",), secured=True
        ),
        "not bound": offering(mechanisms(SCRAM), "channel_binding", channel_binding="require", secured=True),
    },
)


# ---- S21: DIGEST-MD5

CHALLENGE: Final = 'realm="example.org",nonce="n0nce",qop="auth",charset=utf-8,algorithm=md5-sess'


def digest(
    end: Callable[[Foe, str], Any], challenge: str | bytes = CHALLENGE, *words: str, response: bool = True
) -> Play:
    """DIGEST-MD5 with this challenge; the end is given the right proof."""

    async def script(foe: Foe) -> None:
        await foe.take_auth()
        foe.challenge(challenge)
        came = (await foe.take_response()).decode()
        if not response:
            raise AssertionError("it was answered")
        directives = {name: values[0] for name, values in digest_md5.read_directives(came.encode(), 4_096).items()}
        secret = digest_md5.hash_of_secret(USER, directives["realm"], PASSWORD, utf8=True)
        end(foe, "rspauth=" + digest_md5.digest(secret, directives, "", utf8=True))

    return untrue(script, *words, offered=("DIGEST-MD5",), allow_plain=True, sasl_mechanisms=("DIGEST-MD5",))


def unanswered(challenge: str | bytes, *words: str) -> Play:
    """A challenge that gets no answer."""
    return digest(lambda foe, proof: None, challenge, *words, response=False)


async def right_digest(foe: Foe) -> None:
    await foe.greet(mechanisms("DIGEST-MD5"))
    await foe.take_auth()
    foe.challenge(CHALLENGE)
    came = await foe.take_response()
    directives = {name: values[0] for name, values in digest_md5.read_directives(came, 4_096).items()}
    secret = digest_md5.hash_of_secret(USER, directives["realm"], PASSWORD, utf8=True)
    foe.success("rspauth=" + digest_md5.digest(secret, directives, "", utf8=True))


S21 = Attack(
    id="S21",
    what="DIGEST-MD5 without rspauth, with a wrong one, with no `auth` in qop, another algorithm, a directive twice, "
    "a challenge of more than 2,048 bytes",
    unprotected="as S01; and an answer that can be used elsewhere",
    pcj="AUTHFAIL; rspauth is verified, in `<success/>` as in a last challenge",
    plays={
        "no rspauth": digest(lambda foe, proof: foe.success()),
        "empty rspauth": digest(lambda foe, proof: foe.success("rspauth=")),
        "wrong rspauth": digest(lambda foe, proof: foe.success("rspauth=" + "0" * 32)),
        "wrong in a challenge": digest(lambda foe, proof: foe.challenge("rspauth=" + "0" * 32)),
        "rspauth twice": digest(lambda foe, proof: foe.success(f"{proof},{proof}")),
        "the client's own": digest(lambda foe, proof: foe.success("response=" + proof.partition("=")[2])),
        "no auth": unanswered(CHALLENGE.replace('"auth"', '"auth-conf"')),
        "another algorithm": unanswered(CHALLENGE.replace("md5-sess", "md5")),
        "no algorithm": unanswered(CHALLENGE.replace(",algorithm=md5-sess", "")),
        "no nonce": unanswered(CHALLENGE.replace('nonce="n0nce",', "")),
        "nonce twice": unanswered(CHALLENGE + ',nonce="another"'),
        "another charset": unanswered(CHALLENGE.replace("utf-8", "iso-8859-1")),
        "long": unanswered(CHALLENGE + f',x="{"x" * 2_048}"'),
        "not closed": unanswered(CHALLENGE + ',x="'),
        "empty": unanswered(""),
        "right": works(right_digest, allow_plain=True, sasl_mechanisms=("DIGEST-MD5",)),
    },
)


# ---- S22 to S24: shapes


def shaped(element: str, *words: str) -> Play:
    """In place of a challenge."""

    async def script(foe: Foe) -> None:
        await foe.take_auth()
        foe.send(element)
        await foe.until("<response")
        raise AssertionError("it was answered")

    return untrue(script, *words)


def challenge(text: str) -> str:
    return f"<challenge xmlns='{SASL}'>{text}</challenge>"


async def badly(foe: Foe) -> None:
    await answered(foe)
    foe.send(f"<success xmlns='{SASL}'>!!!!</success>")


S22 = Attack(
    id="S22",
    what="A challenge that is no base64, has white space in it, is `=` alone, is empty, has markup in it",
    unprotected="decoders that pass over what they do not know see another message than the one that was checked",
    pcj="AUTHFAIL: strict base64 (RFC 4648 3.3) only",
    plays={
        "no base64": shaped(challenge("!!!!"), "base64"),
        "white space": shaped(challenge("cj1h\nYg=="), "base64"),
        "no padding": shaped(challenge("cj1hYg"), "base64"),
        "padding inside": shaped(challenge("cj==1hYg"), "base64"),
        "URL alphabet": shaped(challenge("cj-_"), "base64"),
        "bits left over": shaped(challenge("cj1=")),
        "an equals sign": shaped(challenge("=")),
        "empty": shaped(challenge("")),
        "markup": shaped(challenge("<x/>")),
        "long": shaped(challenge("QUJD" * 200_000)),
        "in the success": untrue(badly, "base64"),
    },
)


def endless(first: Callable[[str], str]) -> Play:
    """A thousand challenges."""

    async def script(foe: Foe) -> None:
        exchange, _ = await begun(foe)
        for number in range(1_000):
            foe.challenge(first(exchange.nonce))
            if number > 3:
                raise AssertionError("a fourth challenge was answered")
            await foe.take_response()

    return untrue(script)


S23 = Attack(
    id="S23",
    what="Challenges without end",
    unprotected="a proof for each: material for guessing; a client that never comes to an end",
    pcj="a mechanism has its number of steps; one challenge more is AUTHFAIL",
    plays={"the first again": endless(honest), "empty": endless(lambda nonce: "")},
)


def failure(inside: str, *words: str) -> Play:
    """A failure of this shape in place of a challenge."""

    async def script(foe: Foe) -> None:
        await foe.take_auth()
        foe.send(f"<failure xmlns='{SASL}'>{inside}</failure>")

    return untrue(script, *words)


S24 = Attack(
    id="S24",
    what="`<failure/>` with an unknown condition, two, none, a text of nearly a megabyte, escape sequences, our own "
    "password",
    unprotected="the terminal, the log or the memory is the attacker's",
    pcj="AUTHFAIL with the first condition; texts are escaped and cut, what repeats the password is left out",
    plays={
        "unknown": failure("<out-of-tea/>", "out-of-tea"),
        "two": failure("<account-disabled/><not-authorized/>", "account-disabled"),
        "none": failure("", "no condition given"),
        "text alone": failure("<text>sorry</text>", "sorry"),
        "long": failure(f"<not-authorized/><text>{'x' * 900_000}</text>", "xxx"),
        "a long name": failure(f"<{'c' * 100_000}/>", "ccc"),
        "escapes": failure("<not-authorized/><text>\u202e\u0085\u200b</text>", "\\u202e"),
        "markup": failure("<not-authorized><a>b</a></not-authorized><text><b>c</b></text>"),
        "the password": failure(f"<not-authorized/><text>{PASSWORD}</text>"),
        "the password in references": failure(
            f"<not-authorized/><text>{''.join(f'&#{ord(c)};' for c in PASSWORD)}</text>"
        ),
    },
)


# ---- S25 to S28: for ever, out of turn


async def temporary(stage: Stage) -> None:
    """Each time it says that it cannot just now."""

    async def script(foe: Foe) -> None:
        await foe.greet(mechanisms(SCRAM))
        await foe.take_auth()
        foe.send(f"<failure xmlns='{SASL}'><temporary-auth-failure/></failure></stream:stream>")

    async def at_last(foe: Foe) -> None:
        foe.send(await CLIENT_KIND.ready(foe))
        await foe.farewell()

    async with stage.server(script, script, script, at_last) as at:
        broker = stage.broker(CLIENT_KIND, at.port, **AGAIN)
        record = stage.record(broker)
        await broker.connect()
        assert record.names.count("AUTHFAIL") == 3
        assert {status.detail["retry"] for status in record.of(Event.PCJ_AUTHFAIL)} == {"fast"}
        await broker.shutdown()


S25 = Attack(
    id="S25",
    what="`temporary-auth-failure`, time after time",
    unprotected="the client gives up for good, forgets the password, or asks as quickly as the network carries",
    pcj="never fatal: tried again after a growing delay, with the same password",
    plays=only(temporary),
)


async def interrupted(foe: Foe) -> None:
    exchange, _ = await begun(foe)
    foe.send(f"<message from='juliet@{DOMAIN}'><body>early</body></message>")
    foe.challenge(honest(exchange.nonce))


def in_between(element: str) -> Play:
    async def script(foe: Foe) -> None:
        exchange = await answered(foe)
        foe.send(element)
        foe.success(signed(exchange.signature))

    return untrue(script)


S26 = Attack(
    id="S26",
    what="Something else between challenge and success: a message, an IQ, `<proceed/>`, stream management's "
    "`<enabled/>`",
    unprotected="a stanza from before the log-in is taken for a peer's",
    pcj="AUTHFAIL with undefined-condition: nothing else has a place there",
    plays={
        "a message": in_between(f"<message from='juliet@{DOMAIN}'><body>early</body></message>"),
        "an IQ": in_between(f"<iq type='set' id='x' from='{DOMAIN}'><query xmlns='jabber:iq:roster'/></iq>"),
        "proceed": in_between("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        "enabled": in_between("<enabled xmlns='urn:xmpp:sm:3'/>"),
        "before the challenge": untrue(interrupted),
    },
)


def ahead(element: str) -> Play:
    """It stands in one read with the features."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header()
            foe.send(f"<stream:features>{mechanisms(SCRAM)}</stream:features>{element}")
            await foe.rest()

        refused = await stage.refused(script)
        refused.before_bind()

    return play


S27 = Attack(
    id="S27",
    what="`<success/>`, or a challenge, in one read with the features: before we said anything",
    unprotected="the answer to a question that was not asked yet counts: the client is logged in without having been",
    pcj="AUTHFAIL; nothing is bound",
    plays={
        "success": ahead(f"<success xmlns='{SASL}'/>"),
        "success with a proof": ahead(f"<success xmlns='{SASL}'>dj1BQUFB</success>"),
        "challenge": ahead(challenge("cj1hLHM9UVE9PSxpPTQwOTY=")),
        "failure": ahead(f"<failure xmlns='{SASL}'><not-authorized/></failure>"),
        "success and features": ahead(
            f"<success xmlns='{SASL}'/><stream:features><bind xmlns='{BIND}'/></stream:features>"
        ),
    },
)


def straight_to_bind(kind: Kind) -> Play:
    """A session; then, at the next connection, no mechanisms but what comes behind them."""

    async def play(stage: Stage) -> None:
        async def honestly(foe: Foe) -> None:
            foe.send(await kind.ready(foe))
            foe.send("</stream:stream>")

        async def falsely(foe: Foe) -> None:
            await foe.header(kind.xmlns)
            foe.features(f"<bind xmlns='{BIND}'/><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>")

        async with stage.server(honestly, falsely) as at:
            broker = stage.broker(kind, at.port, **AGAIN)
            record = stage.record(broker)
            await broker.connect()
            await broker.wait_for(Event.PCJ_AUTHFAIL, timeout=3)
            await broker.shutdown()
        assert record.names.count("READY") == 1
        assert record.names.count("BINDNEGOTIATE") == 1
        assert b"<bind" not in stage.foes[1].came

    return play


S28 = Attack(
    id="S28",
    what="After a reconnect, no mechanisms but resource binding: the server wants no log-in any more",
    unprotected="what was true of the last link is taken for this one: the session is with whoever answered",
    pcj="each link begins with nothing: AUTHFAIL",
    plays={str(kind): straight_to_bind(kind) for kind in (CLIENT_KIND, ROUTER_KIND)},
)


ROWS: Final = [S18, S19, S20, S21, S22, S23, S24, S25, S26, S27, S28]
