"""A list of mechanisms that was altered, a channel that is another (S12 to S17)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pcj import Event
from pcj.namespaces import BIND, SASL, SASL_BINDING
from pcj.sasl.scram import base64_text, offer_hash
from tests.attacks.attack import Attack, Play
from tests.attacks.certificates import by_engine, presents, tls
from tests.attacks.foe import DOMAIN, Foe, mechanisms
from tests.attacks.rows_scram import PLUS, SCRAM, untrue, works
from tests.attacks.scram import answered, begun, honest, signed
from tests.attacks.stage import AGAIN, CLIENT_KIND, Refused, Stage, bound
from tests.shell.transport.pair import good

# ---- S12 to S16: what was offered


def types(*names: str) -> str:
    """The channel bindings that the server says it can do (XEP-0440)."""
    listed = "".join(f"<channel-binding type='{name}'/>" for name in names)
    return f"<sasl-channel-binding xmlns='{SASL_BINDING}'>{listed}</sasl-channel-binding>"


def in_tls(
    script: Callable[[Foe], Awaitable[None]], check: Callable[[Refused], None], *words: str, **options: Any
) -> Mapping[str, Play]:
    """Inside TLS, behind both headers; AUTHFAIL by these words."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            context = presents(lambda: good(DOMAIN))(stage)

            async def secured(foe: Foe) -> None:
                await foe.upgrade(context)
                await foe.header()
                await script(foe)

            outcome = await stage.refused(secured, **tls(stage, engine, **options))
            outcome.before_bind()
            for word in words:
                assert word in str(outcome.failure), str(outcome.failure)
            check(outcome)

        return play

    return by_engine("", make)


def named(name: str, plays: Mapping[str, Play]) -> dict[str, Play]:
    return {f"{name}, {engine}": play for engine, play in plays.items()}


async def stripped(foe: Foe) -> None:
    """The server had -PLUS; the client says that it could have done it, and the server knows better."""
    foe.features(mechanisms(SCRAM))
    exchange, _ = await begun(foe)
    assert exchange.header == "y,,", exchange.header
    foe.send(f"<failure xmlns='{SASL}'><not-authorized/></failure></stream:stream>")


def vouching(
    offered: tuple[str, ...], listed: tuple[str, ...], bindings: tuple[str, ...] | None = None, seen: str = ""
) -> Any:
    """The server vouches for what it offered (XEP-0474); what came is `listed`."""

    async def script(foe: Foe) -> None:
        foe.features(seen + mechanisms(*listed))
        exchange, _ = await begun(foe)
        foe.challenge(f"{honest(exchange.nonce)},h={offer_hash('sha256', offered, bindings)}")
        await foe.take_response()
        raise AssertionError("a proof was sent")

    return script


def no_proof(outcome: Refused) -> None:
    assert b"<response" not in outcome.foe.came
    assert outcome.foe.came.count(b"<auth ") == 1


def one_try(outcome: Refused) -> None:
    assert outcome.foe.came.count(b"<auth ") == 1


def nothing(outcome: Refused) -> None:
    outcome.nothing_shown()


S12 = Attack(
    id="S12",
    what="The mechanisms in -PLUS taken out of the list on the way",
    unprotected="the log-in is not bound to TLS, and goes through whoever stands between",
    pcj="the flag `y` says that we could have: the server, which had offered them, refuses (RFC 5802 6); where it "
    "vouches for its list (XEP-0474) we do, before any proof",
    plays={
        **named("the server sees it", in_tls(stripped, one_try, "rejected user")),
        **named("we see it", in_tls(vouching((SCRAM, PLUS), (SCRAM,)), no_proof, "altered")),
    },
)


def unbound(header: str, offered: str) -> Callable[[Foe], Awaitable[None]]:
    """The client's flag is this; the log-in then ends."""

    async def script(foe: Foe) -> None:
        foe.features(offered)
        exchange, _ = await begun(foe)
        assert exchange.header == header, exchange.header
        foe.send("</stream:stream>")

    return script


async def offers(foe: Foe, features: str) -> None:
    foe.features(features)


S13 = Attack(
    id="S13",
    what="The types of channel binding (XEP-0440) replaced by unknown ones, or by none",
    unprotected="the client says that the server cannot bind, which is what the attacker wants to hear",
    pcj='never `y` where -PLUS is offered: `n`, with a `WARNING`; `channel_binding="require"` ends it; where the '
    "server vouches for its lists the change is seen",
    plays={
        **named("unknown", in_tls(unbound("n,,", types("evil") + mechanisms(SCRAM, PLUS)), one_try)),
        **named("none", in_tls(unbound("n,,", types() + mechanisms(SCRAM, PLUS)), one_try)),
        **named(
            "required",
            in_tls(
                lambda foe: offers(foe, types("evil") + mechanisms(SCRAM, PLUS)), nothing, channel_binding="require"
            ),
        ),
        **named(
            "vouched for",
            in_tls(vouching((SCRAM, PLUS), (SCRAM, PLUS), ("tls-exporter",), types("evil")), no_proof, "altered"),
        ),
    },
)


S14 = Attack(
    id="S14",
    what="Types of channel binding offered, and every mechanism in -PLUS struck out",
    unprotected="as S12, with a server that does not look at the flag; or what is left to choose is PLAIN",
    pcj="AUTHFAIL before anything is sent (XEP-0440 3)",
    plays=named("", in_tls(lambda foe: offers(foe, types("tls-exporter") + mechanisms(SCRAM)), nothing, "XEP-0440"))
    | named(
        "PLAIN left in the list",
        in_tls(lambda foe: offers(foe, types("tls-exporter") + mechanisms(SCRAM, "PLAIN")), nothing, "XEP-0440"),
    )
    | named("required", in_tls(lambda foe: offers(foe, mechanisms(SCRAM)), nothing, channel_binding="require")),
)


def between(*, condition: str) -> Callable[[Foe], Awaitable[None]]:
    """A proof that is bound to the attacker's TLS: the true server refuses it, and the attacker asks for another."""

    async def script(foe: Foe) -> None:
        foe.features(types("tls-exporter", "tls-server-end-point") + mechanisms(PLUS, SCRAM, "PLAIN"))
        exchange, _ = await begun(foe)
        assert exchange.mechanism == PLUS
        assert exchange.header.startswith("p=tls-")
        if condition == "not-authorized":
            foe.challenge(honest(exchange.nonce))
            await foe.take_response()
        foe.send(f"<failure xmlns='{SASL}'><{condition}/></failure>")
        await foe.until("<auth")
        raise AssertionError("another mechanism was tried")

    return script


S15 = Attack(
    id="S15",
    what="Somebody between with a certificate that was accepted (a forced authority, `verify_tls=False`), who passes "
    "a -PLUS log-in on, or refuses it to be tried without",
    unprotected="TLS ends at the attacker, and the log-in with it",
    pcj="the proof is bound to the session that we see, and is worth nothing in another; after a refusal nothing "
    "that is not bound is tried",
    plays={
        **named("refused", in_tls(between(condition="not-authorized"), one_try)),
        **named("not known after all", in_tls(between(condition="invalid-mechanism"), one_try)),
        **named("not verified", in_tls(between(condition="not-authorized"), one_try, verify_tls=False)),
        **named("too weak", in_tls(between(condition="mechanism-too-weak"), one_try)),
    },
)


#: What is offered where the server vouches for its list.
TWO: Final = (SCRAM, "SCRAM-SHA-1")


def wrong_hash(said: str) -> Callable[[Foe], Awaitable[None]]:
    async def script(foe: Foe) -> None:
        exchange, _ = await begun(foe)
        foe.challenge(f"{honest(exchange.nonce)},h={said}")
        await foe.take_response()
        raise AssertionError("a proof was sent")

    return script


async def vouched(foe: Foe) -> None:
    """As an honest server does it."""
    await foe.greet(mechanisms(SCRAM, "PLAIN", "SCRAM-SHA-1"))
    said = offer_hash("sha256", ("PLAIN", "SCRAM-SHA-1", SCRAM), None)
    exchange = await answered(foe, lambda nonce: f"{honest(nonce)},h={said}")
    foe.success(signed(exchange.signature))


def digest_of(text: str) -> str:
    return base64_text(hashlib.sha256(text.encode()).digest())


S16 = Attack(
    id="S16",
    what="The hash of the server's lists (XEP-0474) wrong: of another list, of SASL2's, of the unsorted one, no base64",
    unprotected="mechanisms are taken out of the list, or put in, and nobody notices",
    pcj='AUTHFAIL, "the list of log-in methods was altered", no proof is sent',
    plays={
        "another list": untrue(wrong_hash(offer_hash("sha256", ("PLAIN", SCRAM), None)), "altered", offered=TWO),
        "of SASL2's": untrue(
            wrong_hash(offer_hash("sha256", (SCRAM, "SCRAM-SHA-1", "HT-SHA-256-NONE"), None)), "altered"
        ),
        "with types": untrue(
            wrong_hash(offer_hash("sha256", (SCRAM, "SCRAM-SHA-1"), ("tls-exporter",))), "altered", offered=TWO
        ),
        "unsorted": untrue(wrong_hash(digest_of(f"{SCRAM}\x1eSCRAM-SHA-1")), "altered", offered=TWO),
        "no base64": untrue(wrong_hash("!!"), "altered", offered=TWO),
        "right": works(vouched),
    },
)


# ---- S17: what worked before


def weaker(offered: str, *, at_first: tuple[str, ...] = (SCRAM,)) -> Mapping[str, Play]:
    """A log-in by SCRAM inside TLS; at the next connection only this is offered."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            context = presents(lambda: good(DOMAIN))(stage)

            async def honestly(foe: Foe) -> None:
                await foe.upgrade(context)
                await foe.greet(mechanisms(*at_first))
                exchange = await answered(foe)
                foe.success(signed(exchange.signature))
                await foe.greet(f"<bind xmlns='{BIND}'/>")
                foe.send(bound(await foe.asked()) + "</stream:stream>")

            async def falsely(foe: Foe) -> None:
                await foe.upgrade(context)
                await foe.greet(offered)

            async with stage.server(honestly, falsely) as at:
                broker = stage.broker(CLIENT_KIND, at.port, **tls(stage, engine, **AGAIN))
                record = stage.record(broker)
                await broker.connect()
                for _ in range(2):
                    failed = await broker.wait_for(Event.PCJ_AUTHFAIL, timeout=3)
                    assert failed.detail["retry"] == "slow"
                await broker.shutdown()
            assert record.names.count("AUTHNEGOTIATE") == 1
            assert all(foe.shown == [] for foe in stage.foes[1:])

        return play

    return by_engine("", make)


S17 = Attack(
    id="S17",
    what="Only PLAIN, or DIGEST-MD5, offered inside TLS, though SCRAM worked before in this broker",
    unprotected="a false server with a good certificate is handed the password",
    pcj="refused: nothing is used that protects less than what has worked (XEP-0474); tried again slowly, and never "
    "fatal",
    plays={
        **named("PLAIN", weaker(mechanisms("PLAIN"))),
        **named("DIGEST-MD5", weaker(mechanisms("DIGEST-MD5", "PLAIN"))),
        **named("nothing", weaker("")),
    },
)


ROWS: Final = [S12, S13, S14, S15, S16, S17]
