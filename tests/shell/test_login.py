"""Logging in, as a user sees it: passwords that are supplied, what is remembered, who the server says we are."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import patch

import pytest

from pcj import JABBERD14_COMPONENT, LEGACY, XMPP, Broker, ConfigError, ConnectionFailed, Event, Phase, Retry, Status
from pcj.testing import Server, ServerOptions
from tests.shell.links import run

PASSWORD = "s3cret-of-romeo"
COMPONENT = "comp.example.org"


def server(**options: Any) -> Server:
    return Server(
        domain="example.org",
        accounts={"romeo": PASSWORD},
        components={COMPONENT: PASSWORD},
        options=ServerOptions(**options),
    )


def broker(peer: Server, password: Any = PASSWORD, **options: Any) -> Broker:
    options = {"host": "127.0.0.1", "port": peer.client_port, "ca_file": str(peer.ca_file), **options}
    return Broker(XMPP, options.pop("jid", "romeo@example.org/orchard"), password=password, **options)


def join_threads() -> None:
    """Wait for the threads in which passwords are supplied."""
    for thread in threading.enumerate():
        if thread.name == "pcj password":
            thread.join(5)


# ---- a password that is supplied


async def _coroutine() -> str:
    await asyncio.sleep(0)
    return PASSWORD


class _Vault:
    async def __call__(self) -> str:
        return PASSWORD


@pytest.mark.parametrize(
    "source",
    [lambda: PASSWORD, _coroutine, lambda: _coroutine(), _Vault()],
    ids=["function", "coroutine-function", "function-that-gives-an-awaitable", "object"],
)
def test_a_function_can_supply_the_password(source: Callable[[], str | Awaitable[str]]) -> None:
    async def main() -> None:
        async with server() as peer, broker(peer, source) as link:
            assert link.jid == "romeo@example.org/orchard"

    run(main)


@pytest.mark.parametrize("connection_type", [LEGACY, JABBERD14_COMPONENT])
def test_every_connection_type_asks_for_it(connection_type: str) -> None:
    async def main() -> None:
        async with server() as peer:
            component = connection_type == JABBERD14_COMPONENT
            port = peer.component_port if component else peer.client_port
            jid = COMPONENT if component else "romeo@example.org/orchard"
            async with Broker(connection_type, jid, password=lambda: PASSWORD, host="127.0.0.1", port=port) as link:
                assert link.jid == jid

    run(main)


def test_an_ordinary_function_runs_in_a_thread_and_does_not_stop_the_loop() -> None:
    threads: list[str] = []

    def source() -> str:
        threads.append(threading.current_thread().name)
        return PASSWORD

    async def main() -> None:
        async with server() as peer, broker(peer, source):
            assert threads == ["pcj password"]

    run(main)


def test_it_is_asked_at_each_log_in_so_that_a_password_may_change() -> None:
    asked = 0

    def source() -> str:
        nonlocal asked
        asked += 1
        return PASSWORD

    async def main() -> None:
        async with server() as peer, broker(peer, source) as link:
            await link.reconnect()
            assert asked == 2

    run(main)


def test_it_is_not_asked_before_tls_stands_and_a_mechanism_was_chosen() -> None:
    def source() -> str:
        raise AssertionError("asked")

    async def main() -> None:
        async with server() as peer:
            link = broker(peer, source, tls_name="another.example.org")
            with pytest.raises(ConnectionFailed) as caught:
                await link.connect()
            assert caught.value.failure.phase is Phase.TLS

    run(main)


async def _fails() -> str:
    raise KeyError("the vault's own secret")


@pytest.mark.parametrize(
    ("source", "said", "retry"),
    [
        (_fails, "the function that supplies the password failed (KeyError)", Retry.SLOW),
        (lambda: None, "the function that supplies the password must give a str, not NoneType", Retry.FATAL),
        (lambda: b"bytes", "the function that supplies the password must give a str, not bytes", Retry.FATAL),
        (lambda: "", "password is empty after preparation by SASLprep", Retry.FATAL),
    ],
    ids=["raises", "none", "bytes", "empty"],
)
def test_what_is_wrong_with_the_function_is_said_and_not_what_it_quotes(source: Any, said: str, retry: Retry) -> None:
    async def main() -> None:
        async with server() as peer:
            link = broker(peer, source)
            seen: list[Status] = []
            link.subscribe(Event.PCJ_AUTHFAIL, seen.append)
            with pytest.raises(ConnectionFailed) as caught:
                await link.connect()
            failure = caught.value.failure
            assert said in failure.message
            assert "vault" not in f"{caught.value!s} {seen!r} {link.explain()}"
            assert (failure.phase, failure.retry) == (Phase.AUTHENTICATE, retry)
            assert len(seen) == 1

    run(main)


def test_a_function_that_does_not_return_meets_the_deadline_and_is_not_asked_twice_at_once() -> None:
    release = threading.Event()
    asked = 0

    def source() -> str:
        nonlocal asked
        asked += 1
        release.wait(10)
        return PASSWORD

    async def main() -> None:
        async with server() as peer:
            link = broker(peer, source, authenticate_timeout=0.1)
            for said in ("gave none within 0.1 s", "was asked before and has not returned since"):
                with pytest.raises(ConnectionFailed) as caught:
                    await link.connect()
                assert said in str(caught.value)
                assert caught.value.failure.phase is Phase.AUTHENTICATE
            assert asked == 1
            release.set()
            await asyncio.to_thread(join_threads)
            await link.connect()
            assert asked == 2
            await link.shutdown()

    run(main)


def test_what_the_function_says_too_late_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def source() -> str:
        release.wait(10)
        raise ValueError(PASSWORD)

    async def main() -> None:
        async with server() as peer:
            link = broker(peer, source, authenticate_timeout=0.05)
            with pytest.raises(ConnectionFailed):
                await link.connect()
            release.set()
            await asyncio.to_thread(join_threads)

    run(main)
    gc.collect()
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError, SystemExit, KeyboardInterrupt], ids=lambda error: error.__name__
)
def test_no_error_of_the_function_waits_for_the_deadline_or_ends_the_program(error: type[BaseException]) -> None:
    def source() -> str:
        raise error

    async def main() -> None:
        async with server() as peer:
            with pytest.raises(ConnectionFailed, match=f"supplies the password failed \\({error.__name__}\\)"):
                await broker(peer, source).connect()

    run(main)


def test_nothing_of_a_supplied_password_is_kept_behind_halt() -> None:
    async def main() -> None:
        async with server() as peer:
            link = broker(peer, lambda: PASSWORD)
            await link.connect()
            link.halt()
            login = link._link._login
            assert login._running is None
            assert login.memory.secrets == set()
            assert login.memory._kept == {}

    run(main)


def test_shutdown_while_the_function_is_asked_ends_at_once() -> None:
    async def source() -> str:
        await asyncio.sleep(60)
        return PASSWORD

    async def main() -> None:
        async with server() as peer:
            link = broker(peer, source)
            link.subscribe(Event.PCJ_AUTHNEGOTIATE, lambda status: asyncio.ensure_future(link.shutdown()))
            with pytest.raises(Exception, match="shut down"):
                await link.connect()

    run(main)


# ---- what is remembered


def test_a_reconnect_computes_nothing_again() -> None:
    async def main() -> None:
        async with server() as peer:
            with patch("hashlib.pbkdf2_hmac", wraps=hashlib.pbkdf2_hmac) as computed:
                link = broker(peer)
                await link.connect()
                await link.reconnect()
                await link.reconnect()
                assert computed.call_count == 1
                await link.shutdown()

    run(main)


def test_what_was_computed_is_forgotten_when_a_log_in_fails() -> None:
    passwords = [PASSWORD, "wrong", PASSWORD]

    async def main() -> None:
        async with server() as peer:
            with patch("hashlib.pbkdf2_hmac", wraps=hashlib.pbkdf2_hmac) as computed:
                link = broker(peer, lambda: passwords.pop(0))
                await link.connect()
                await link.shutdown()
                with pytest.raises(ConnectionFailed, match="rejected"):
                    await link.connect()
                await link.connect()
                assert computed.call_count == 3
                await link.shutdown()

    run(main)


def test_a_broker_that_used_scram_once_gives_the_password_to_nobody() -> None:  # S17
    async def main() -> None:
        async with server() as peer, server(mechanisms=("PLAIN",)) as false:
            link = broker(peer, verify_tls=False)
            await link.connect()
            await link.shutdown()
            with pytest.raises(ConnectionFailed, match="may be a false one"):
                await link.connect("127.0.0.1", false.client_port)
            assert not false.sessions

    run(main)


# ---- channel binding, through the whole broker


@pytest.mark.parametrize("engine", ["ssl", "openssl"])
@pytest.mark.parametrize("hash_name", ["SHA-1", "SHA-256", "SHA-512"])
def test_a_log_in_is_bound_to_the_servers_certificate(engine: str, hash_name: str) -> None:
    async def main() -> None:
        name = f"SCRAM-{hash_name}-PLUS"
        async with server(mechanisms=(name,)) as peer, broker(peer, tls_engine=engine) as link:
            assert link.config.tls_engine == engine
            (session,) = peer.sessions
            assert session.mechanism == name

    run(main)


def test_a_server_without_plus_is_told_that_we_could_and_says_nothing_of_it() -> None:
    async def main() -> None:
        async with server(mechanisms=("SCRAM-SHA-1",)) as peer:
            link = broker(peer)
            warnings: list[Status] = []
            link.subscribe(Event.WARNING, warnings.append)
            await link.connect()
            assert not warnings
            await link.shutdown()

    run(main)


def test_required_channel_binding_fails_where_there_is_none() -> None:
    async def main() -> None:
        async with server(mechanisms=("SCRAM-SHA-1",)) as peer:
            with pytest.raises(ConnectionFailed, match="which channel_binding='require' asks for"):
                await broker(peer, channel_binding="require").connect()

    run(main)


def test_with_pins_tls_is_required_on_this_machine_too() -> None:
    async def main() -> None:
        async with server() as peer:
            pins = ("sha256:" + "0" * 64,)
            link = Broker(
                LEGACY, "romeo@example.org/a", password=PASSWORD, host="127.0.0.1", port=peer.client_port, pins=pins
            )
            with pytest.raises(ConnectionFailed) as caught:
                await link.connect()
            assert caught.value.failure.phase is Phase.TLS

    run(main)


# ---- who we are


def test_anonymous_is_given_an_address_and_the_broker_follows() -> None:
    async def main() -> None:
        async with server(mechanisms=("ANONYMOUS",)) as peer:
            link = broker(peer, None, jid="example.org", sasl_mechanisms=("ANONYMOUS",))
            changed: list[Status] = []
            link.subscribe(Event.JID_CHANGED, changed.append)
            await link.connect()
            assert link.jid.partition("@")[2].startswith("example.org/")
            assert changed[0].detail["asked"] == "example.org"
            assert changed[0].detail["given"] == link.jid
            (session,) = peer.sessions
            assert (session.jid, session.mechanism) == (link.jid, "ANONYMOUS")
            await link.shutdown()

    run(main)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jid": "example.org"}, "the jid of an account is name@domain"),
        ({"password": None}, "there is nothing to log in with"),
        ({"password": None, "sasl_mechanisms": ("EXTERNAL",)}, "there is nothing to log in with"),
        ({"password": None, "connection_type": LEGACY}, "LEGACY needs a password"),
        ({"password": None, "connection_type": JABBERD14_COMPONENT, "jid": COMPONENT}, "JABBERD14_COMPONENT needs a"),
        ({"channel_binding": "require", "sasl_mechanisms": ("SCRAM-SHA-1",)}, "needs a mechanism in -PLUS"),
        ({"connection_type": LEGACY, "channel_binding": "require"}, "channel_binding='require' cannot be kept"),
        ({"connection_type": LEGACY, "sasl_mechanisms": ("PLAIN",)}, "sasl_mechanisms cannot be kept"),
        ({"channel_binding": "off", "sasl_mechanisms": ("SCRAM-SHA-1-PLUS",)}, "leaves nothing of sasl_mechanisms"),
        ({"password": None, "sasl_mechanisms": ("ANONYMOUS",)}, "give the domain alone (example.org)"),
        ({"pins": ("sha256:" + "0" * 64,), "require_tls": False}, "pins are of TLS"),
        ({"client_certificate": ""}, "client_certificate must not be empty"),
        ({"channel_binding": "yes"}, "channel_binding must be 'prefer' or 'require' or 'off', not 'yes'"),
        ({"sasl_mechanisms": ("X-MADE-UP",)}, "pcj does not know X-MADE-UP; sasl_mechanisms may name EXTERNAL"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_when_the_broker_is_made(options: dict[str, Any], said: str) -> None:
    given = {"connection_type": XMPP, "jid": "romeo@example.org", "password": PASSWORD, **options}
    with pytest.raises(ConfigError) as caught:
        Broker(given.pop("connection_type"), given.pop("jid"), **given)
    assert said in str(caught.value)
    assert PASSWORD not in str(caught.value)
