"""SCRAM: a server that does not know the password, or says what it must not (S01 to S11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from pcj import Event
from pcj.namespaces import BIND, SASL
from pcj.sasl.scram import base64_text
from tests.attacks.attack import Attack, Play
from tests.attacks.certificates import presents, tls
from tests.attacks.foe import DOMAIN, Foe, mechanisms
from tests.attacks.scram import OURS, SALT, answered, begun, honest, signed
from tests.attacks.stage import CLIENT_KIND, ROUTER_KIND, Kind, Stage, bound
from tests.shell.transport.pair import good

SCRAM: Final = "SCRAM-SHA-256"
PLUS: Final = "SCRAM-SHA-256-PLUS"


# ---- what fails, and what works


def untrue(
    script: Callable[[Foe], Awaitable[None]],
    *words: str,
    kind: Kind = CLIENT_KIND,
    offered: tuple[str, ...] = (SCRAM,),
    **options: Any,
) -> Play:
    """The server proves nothing: AUTHFAIL, and nothing of a session."""

    async def play(stage: Stage) -> None:
        async def lying(foe: Foe) -> None:
            await foe.header(kind.xmlns)
            foe.features(mechanisms(*offered))
            await script(foe)
            await foe.header(kind.xmlns)
            foe.features(f"<bind xmlns='{BIND}'/>")

        refused = await stage.refused(lying, kind=kind, **options)
        refused.before_bind()
        for word in words:
            assert word in str(refused.failure), str(refused.failure)
        assert str(refused.failure).isprintable()
        assert len(str(refused.failure)) < 1_500
        assert refused.foe.came.count(b"<stream:stream") == 1

    return play


def first_message(say: Callable[[str], str | bytes], *words: str) -> Play:
    """The server's first message is this: no proof is sent."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            exchange, _ = await begun(foe)
            foe.challenge(say(exchange.nonce))
            await foe.take_response()
            raise AssertionError("a proof was sent")

        await untrue(script, *words)(stage)
        assert b"<response" not in stage.foes[0].came

    return play


def works(script: Callable[[Foe], Awaitable[None]], *, warns: str = "", secured: bool = False, **options: Any) -> Play:
    """The control: it is READY."""

    async def play(stage: Stage) -> None:
        context = presents(lambda: good(DOMAIN))(stage) if secured else None

        async def honestly(foe: Foe) -> None:
            if context is not None:
                await foe.upgrade(context)
            await script(foe)
            await foe.greet(f"<bind xmlns='{BIND}'/>")
            foe.send(bound(await foe.asked()))
            await foe.farewell()

        async with stage.server(honestly) as at:
            broker = stage.broker(CLIENT_KIND, at.port, **options, **(tls(stage, "ssl") if secured else {}))
            record = stage.record(broker)
            await broker.connect()
            assert record.names.count("AUTHSUCCESS") == 1
            told = [str(status.detail["what"]) for status in record.of(Event.WARNING)]
            assert any(warns in what for what in told) if warns else not told, told
            await broker.shutdown()

    return play


# ---- S01 to S04: a server that proves nothing


def ends(say: Callable[[Foe, str], None]) -> Callable[[Foe], Awaitable[None]]:
    """A whole exchange, and this end of it, given the right signature."""

    async def script(foe: Foe) -> None:
        exchange = await answered(foe)
        say(foe, exchange.signature)

    return script


S01 = Attack(
    id="S01",
    what="`<success/>` behind the client's proof, without the server's own",
    unprotected="any server is the right one: the session is with whoever answered",
    pcj="AUTHFAIL, nothing is bound",
    plays={
        str(kind): untrue(ends(lambda foe, signature: foe.success()), kind=kind) for kind in (CLIENT_KIND, ROUTER_KIND)
    }
    | {"an empty one": untrue(ends(lambda foe, signature: foe.success("")))},
)


async def echoes(foe: Foe) -> None:
    """The client's proof comes back as the server's."""
    exchange = await answered(foe)
    foe.success("v=" + exchange.final.rpartition(",p=")[2])


S02 = Attack(
    id="S02",
    what="A server's proof that is wrong, another's, cut, or no base64",
    unprotected="as S01",
    pcj="AUTHFAIL: the proof is compared in whole",
    plays={
        "wrong": untrue(ends(lambda foe, signature: foe.success(f"v={base64_text(bytes(32))}")), "signature"),
        "one bit": untrue(
            ends(lambda foe, signature: foe.success("v=" + ("B" if signature[0] == "A" else "A") + signature[1:]))
        ),
        "cut": untrue(ends(lambda foe, signature: foe.success(f"v={signature[:8]}"))),
        "empty": untrue(ends(lambda foe, signature: foe.success("v="))),
        "no base64": untrue(ends(lambda foe, signature: foe.success("v=!!!!"))),
        "not first": untrue(ends(lambda foe, signature: foe.success(f"x=1,v={signature}"))),
        "twice": untrue(ends(lambda foe, signature: foe.success(f"v={signature},v={signature}"))),
        "the client's own proof": untrue(echoes),
    },
)


def in_challenge(
    say: Callable[[Foe, str], None], proof: Callable[[str], str] = signed
) -> Callable[[Foe], Awaitable[None]]:
    """The proof in a challenge of its own, which is answered by nothing, and then this."""

    async def script(foe: Foe) -> None:
        exchange = await answered(foe)
        foe.challenge(proof(exchange.signature))
        assert await foe.take_response() == b""
        say(foe, exchange.signature)

    return script


async def greets(foe: Foe, script: Callable[[Foe], Awaitable[None]]) -> None:
    await foe.greet(mechanisms(SCRAM))
    await script(foe)


S03 = Attack(
    id="S03",
    what="The server's proof in a last challenge, and an empty `<success/>`; or a wrong one there, or success before "
    "our answer",
    unprotected="a client that looks at the success alone has verified nothing",
    pcj="accepted if it was verified there; AUTHSUCCESS once, at `<success/>`",
    plays={
        "right": works(lambda foe: greets(foe, in_challenge(lambda foe, signature: foe.success()))),
        "wrong": untrue(in_challenge(lambda foe, signature: None, lambda signature: f"v={base64_text(bytes(32))}")),
        "another challenge behind it": untrue(in_challenge(lambda foe, signature: foe.challenge(f"v={signature}"))),
        "another in the success": untrue(in_challenge(lambda foe, signature: foe.success("v=AAAA"))),
    },
)


async def at_once(foe: Foe) -> None:
    await foe.take_auth()
    foe.success()


async def at_once_signed(foe: Foe) -> None:
    await foe.take_auth()
    foe.success(f"v={base64_text(bytes(32))}")


async def half_way(foe: Foe) -> None:
    exchange, _ = await begun(foe)
    foe.challenge(honest(exchange.nonce))
    foe.send(f"<success xmlns='{SASL}'/>")


S04 = Attack(
    id="S04",
    what="`<success/>` at once, without any challenge, or in one piece with it",
    unprotected="the client is let in by a server that never looked at the password, and tells it everything",
    pcj="AUTHFAIL: SCRAM is complete with the server's proof only",
    plays={
        "at once": untrue(at_once, "before proving"),
        "with a signature": untrue(at_once_signed),
        "behind a challenge": untrue(half_way),
        "router": untrue(at_once, kind=ROUTER_KIND),
    },
)


# ---- S05 to S11: the server's messages

S05 = Attack(
    id="S05",
    what="A nonce that does not begin with ours, adds nothing to it, has a comma, a space, or what is not printable",
    unprotected="a recorded exchange is played again",
    pcj="AUTHFAIL, no proof is sent",
    plays={
        "another": first_message(lambda nonce: f"r=another{OURS},s={SALT},i=4096", "nonce"),
        "nothing added": first_message(lambda nonce: f"r={nonce},s={SALT},i=4096", "nonce"),
        "in front": first_message(lambda nonce: f"r={OURS}{nonce},s={SALT},i=4096", "nonce"),
        "in capitals": first_message(lambda nonce: f"r={nonce.swapcase()}{OURS},s={SALT},i=4096", "nonce"),
        "empty": first_message(lambda nonce: f"r=,s={SALT},i=4096"),
        "a comma": first_message(lambda nonce: f"r={nonce}a,b,s={SALT},i=4096"),
        "a space": first_message(lambda nonce: f"r={nonce}a b,s={SALT},i=4096", "nonce"),
        "a NUL": first_message(lambda nonce: f"r={nonce}a\0,s={SALT},i=4096"),
        "not ASCII": first_message(lambda nonce: f"r={nonce}\u00e9,s={SALT},i=4096", "nonce"),
        "not UTF-8": first_message(lambda nonce: f"r={nonce}".encode() + b"\xff,s=QQ==,i=4096"),
    },
)


def iterations(text: str) -> Callable[[str], str]:
    return lambda nonce: f"r={nonce}{OURS},s={SALT},i={text}"


async def asked_for(foe: Foe, count: int) -> None:
    exchange, _ = await begun(foe)
    foe.challenge(iterations(str(count))(exchange.nonce))
    await foe.take_response()


S06 = Attack(
    id="S06",
    what="An iteration count of 1, 0, -1, 4095, 10^9, 10^20, in digits of another script, with a sign, with a space",
    unprotected="few: the password is guessed from one proof; many: the client computes for hours, for each connection",
    pcj="only plain digits between `min_scram_iterations` (4096) and `max_scram_iterations` count; else AUTHFAIL at "
    "once, no proof is sent",
    plays={
        f"i={text}": first_message(iterations(text), "iteration")
        for text in (
            "1",
            "0",
            "4095",
            "1000001",
            "1000000000",
            "99999999999999999999",
            "04096",
            "4096.0",
            "4_096",
            "0x1000",
            "1e4",
            "\u0661\u0662\u0663\u0664\u0665",
            "\uff14\uff10\uff19\uff16",
        )
    }
    | {f"i={text}": first_message(iterations(text)) for text in ("-1", "+5000", " 5000", "5000 ", "", "4096\0")}
    | {
        "i=4096": works(lambda foe: greets(foe, ends(lambda foe, signature: foe.success(signed(signature))))),
        "a floor of one's own": untrue(
            lambda foe: asked_for(foe, 4096), "4096 iterations", min_scram_iterations=10_000
        ),
    },
)


S07 = Attack(
    id="S07",
    what="A salt that is empty, no base64, or of half a megabyte",
    unprotected="without a salt one table serves for all passwords",
    pcj="AUTHFAIL: 1 to 1,024 octets of strict base64, and no message longer than 8 kB is read",
    plays={
        "empty": first_message(lambda nonce: f"r={nonce}{OURS},s=,i=4096"),
        "no base64": first_message(lambda nonce: f"r={nonce}{OURS},s=!!!!,i=4096", "salt"),
        "white space": first_message(lambda nonce: f"r={nonce}{OURS},s=QU JD,i=4096", "salt"),
        "padding alone": first_message(lambda nonce: f"r={nonce}{OURS},s====,i=4096"),
        "2 kB": first_message(lambda nonce: f"r={nonce}{OURS},s={base64_text(bytes(2_000))},i=4096", "salt"),
        "500 kB": first_message(lambda nonce: f"r={nonce}{OURS},s={base64_text(bytes(500_000))},i=4096"),
    },
)

S08 = Attack(
    id="S08",
    what="A mandatory extension (`m=`), wherever in the message",
    unprotected="the client goes on without what the server says is needed",
    pcj="AUTHFAIL (RFC 5802 5.1)",
    plays={
        "first": first_message(lambda nonce: f"m=x,{honest(nonce)}", "extension"),
        "behind": first_message(lambda nonce: f"{honest(nonce)},m=x", "extension"),
        "instead": first_message(lambda nonce: f"m=x,s={SALT},i=4096", "extension"),
    },
)


def extended(more: str) -> Play:
    """An extension behind the iteration count, with the signature over it."""

    async def script(foe: Foe) -> None:
        await foe.greet(mechanisms(SCRAM))
        exchange = await answered(foe, lambda nonce: honest(nonce) + more)
        foe.success(signed(exchange.signature))

    return works(script)


S09 = Attack(
    id="S09",
    what="Attributes that nobody knows behind the iteration count; malformed ones",
    unprotected="a client that fails on them cannot log in to servers with extensions, and is configured to do "
    "without SCRAM",
    pcj="well-formed ones are passed over, and are part of what both sides prove; others are AUTHFAIL",
    plays={
        "x=": extended(",x=1"),
        "many": extended("".join(f",{letter}=1" for letter in "bdfgjklo")),
        "no letter": first_message(lambda nonce: f"{honest(nonce)},1=x", "malformed"),
        "no value": first_message(lambda nonce: f"{honest(nonce)},x=", "malformed"),
        "no equals sign": first_message(lambda nonce: f"{honest(nonce)},x", "malformed"),
        "a comma at the end": first_message(lambda nonce: f"{honest(nonce)},", "malformed"),
    },
)

S10 = Attack(
    id="S10",
    what="Attributes repeated, missing or out of order",
    unprotected="client and server read different salts, counts or nonces out of one message",
    pcj="AUTHFAIL, no proof is sent",
    plays={
        "salt twice": first_message(lambda nonce: f"r={nonce}{OURS},s={SALT},s={SALT},i=4096", "out of order"),
        "count twice": first_message(lambda nonce: f"{honest(nonce)},i=100000", "repeated"),
        "nonce twice": first_message(lambda nonce: f"{honest(nonce)},r={nonce}", "repeated"),
        "count first": first_message(lambda nonce: f"i=4096,r={nonce}{OURS},s={SALT}", "out of order"),
        "no salt": first_message(lambda nonce: f"r={nonce}{OURS},i=4096", "missing"),
        "no count": first_message(lambda nonce: f"r={nonce}{OURS},s={SALT}", "missing"),
        "a proof": first_message(lambda nonce: f"{honest(nonce)},p=AAAA", "repeated"),
        "an extension twice": first_message(lambda nonce: f"{honest(nonce)},x=1,x=2", "repeated"),
        "empty": first_message(lambda nonce: "", "malformed"),
    },
)

S11 = Attack(
    id="S11",
    what="`e=` in place of a message: an error's name, an unknown one, a long one, escape sequences",
    unprotected="the terminal is the attacker's, or an error passes for success",
    pcj="AUTHFAIL with that text, escaped and cut",
    plays={
        "first": first_message(lambda nonce: "e=other-error", "other-error"),
        "unknown": first_message(lambda nonce: "e=out-of-tea", "out-of-tea"),
        "escapes": first_message(lambda nonce: "e=\u202e\u0085\u200bevil", "\\u202e"),
        "long": first_message(lambda nonce: f"e={'x' * 8_000}", "xxx"),
        "last": untrue(ends(lambda foe, signature: foe.success("e=invalid-proof")), "invalid-proof"),
        "last, with a signature": untrue(ends(lambda foe, signature: foe.success(f"e=x,v={signature}"))),
    },
)


ROWS: Final = [S01, S02, S03, S04, S05, S06, S07, S08, S09, S10, S11]
