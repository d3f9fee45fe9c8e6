"""Why no connection was made, and its sentence."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from pcj.errors import ConnectionFailed, Failure, Phase, Retry
from pcj.transport import addresses, tcp
from pcj.transport.resolve import Endpoint
from pcj.transport.tcp import dial
from pcj.transport.tcp_errors import Attempt, none_connected, too_many_files, unknown_name
from tests.shell.transport.dialling import (
    both,
    closed_port,
    connecting,
    fail,
    names,
    never,
)


def test_a_refused_port_is_told_of() -> None:
    port = closed_port()
    failure, attempts = fail(Endpoint("127.0.0.1", port))
    assert str(failure) == f"127.0.0.1:{port} refused the connection: nothing listens there."
    assert (failure.phase, failure.retry, failure.came) == (Phase.CONNECT, Retry.FAST, "refused")
    assert failure.address == f"127.0.0.1:{port}"
    assert attempts == [(f"127.0.0.1:{port}", "ConnectionRefusedError")]


def test_a_refused_name_is_told_of_with_its_address() -> None:
    port = closed_port()
    failure, _ = fail(Endpoint("xmpp.example.org", port), loop_patch=names(("127.0.0.1", port)))
    where = f"xmpp.example.org (127.0.0.1, port {port})"
    assert str(failure) == f"{where} refused the connection: nothing listens there."
    assert failure.address == where


def test_a_silent_address_is_told_of() -> None:
    failure, attempts = fail(Endpoint("192.0.2.7", 5222), timeout=0.02, loop_patch=connecting(never))
    assert str(failure) == "No answer from 192.0.2.7:5222 in 0.02 s: host down, or a firewall drops the packets."
    assert failure.retry is Retry.FAST
    assert attempts == [("192.0.2.7:5222", "TimeoutError")]


def test_all_addresses_are_told_of_each_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "STAGGER_SECONDS", 0.001)

    async def outcome(address: Any) -> None:
        match address[0]:
            case "192.0.2.7":
                raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
            case "2001:db8::7":
                raise OSError(errno.ENETUNREACH, "unreachable")
            case "192.0.2.9":
                raise OSError(errno.ECONNRESET, "reset")
            case _:
                await never(address)

    failure, attempts = fail(
        Endpoint("example.org", 5222),
        timeout=0.1,
        loop_patch=both(
            names(("192.0.2.7", 5222), ("192.0.2.8", 5222), ("2001:db8::7", 5222), ("192.0.2.9", 5222)),
            connecting(outcome),
        ),
    )
    assert str(failure) == (
        "None of 4 addresses of example.org could be reached: 192.0.2.7:5222 refused; [2001:db8::7]:5222 no route; "
        "192.0.2.9:5222 connection reset by peer; 192.0.2.8:5222 no answer in 0.1 s."
    )
    assert sorted(where for where, _ in attempts) == sorted(
        ["192.0.2.7:5222", "192.0.2.8:5222", "[2001:db8::7]:5222", "192.0.2.9:5222"]
    )


def test_addresses_that_were_not_reached_in_time_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "STAGGER_SECONDS", 3600.0)
    failure, attempts = fail(
        Endpoint("example.org", 5222),
        timeout=0.02,
        loop_patch=both(names(("192.0.2.7", 5222), ("192.0.2.8", 5222)), connecting(never)),
    )
    assert str(failure).endswith("192.0.2.7:5222 no answer in 0.02 s; 1 not tried in 0.02 s.")
    assert len(attempts) == 1


def test_the_addresses_of_a_name_are_bounded() -> None:
    async def refuse(_: Any) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    many = [(f"192.0.2.{number}", 5222) for number in range(200)]
    _, attempts = fail(Endpoint("example.org", 5222), loop_patch=both(names(*many), connecting(refuse)))
    assert len(attempts) == addresses.MAX_ADDRESSES


ONE = [
    (errno.ENETUNREACH, "This machine has no route to 192.0.2.7:5222 (and no other address was left).", Retry.FAST),
    (errno.EACCES, "This machine does not permit a connection to 192.0.2.7:5222: a firewall or a sandbox", Retry.SLOW),
    (errno.ETIMEDOUT, "No answer from 192.0.2.7:5222: host down, or a firewall drops the packets.", Retry.FAST),
    (errno.EINVAL, "This machine has no route to 192.0.2.7:5222", Retry.FAST),  # a route of the kind "blackhole"
    (errno.ECONNRESET, "No connection to 192.0.2.7:5222: connection reset by peer.", Retry.FAST),
    (errno.ENFILE, "No connection: this machine has no file descriptor left.", Retry.FAST),
]


@pytest.mark.parametrize(("number", "sentence", "retry"), ONE)
def test_every_error_of_the_kernel_has_its_sentence(number: int, sentence: str, retry: Retry) -> None:
    async def outcome(_: Any) -> None:
        raise OSError(number, os.strerror(number))

    failure, _ = fail(Endpoint("192.0.2.7", 5222), loop_patch=connecting(outcome))
    assert str(failure).startswith(sentence)
    assert failure.retry is retry


def _said(source: str, number: int) -> Failure:
    return unknown_name(Endpoint("xmpp.example.org", 5222, source=source), socket.gaierror(number, "said so"))


def test_a_name_without_an_address_is_told_of_by_who_named_it() -> None:
    fallback = _said("fallback", socket.EAI_NONAME)
    assert str(fallback).startswith("xmpp.example.org has no SRV records and no address")
    assert (fallback.phase, fallback.retry) == (Phase.RESOLVE, Retry.FATAL)
    assert str(_said("srv", socket.EAI_NONAME)) == (
        "DNS names xmpp.example.org:5222 as the server, but that name has no address."
    )
    assert _said("srv", socket.EAI_NONAME).retry is Retry.SLOW  # not the user's mistake
    assert "Check the host." in str(_said("given", socket.EAI_NONAME))
    again = _said("given", socket.EAI_AGAIN)
    assert str(again) == "No answer from the name server while looking up the address of xmpp.example.org."
    assert again.retry is Retry.FAST
    assert "(said so)" in str(_said("given", socket.EAI_FAIL))


UNANSWERED = "The name server could not answer what it was asked about _xmpp-client._tcp.xmpp.example.org."


@pytest.mark.parametrize(
    ("number", "known", "sentence", "retry"),
    [
        (socket.EAI_NODATA, {}, "neither SRV records nor an address. Check the domain of the JID.", Retry.FATAL),
        (
            socket.EAI_NONAME,
            {"exists": True},
            "neither SRV records nor an address. Check the domain of the JID.",
            Retry.FATAL,
        ),
        (
            socket.EAI_NONAME,
            {},
            "no SRV records and no address: the name does not exist in DNS. Check the domain of the JID.",
            Retry.FATAL,
        ),
        (socket.EAI_NONAME, {"unanswered": UNANSWERED}, UNANSWERED, Retry.FAST),
        (socket.EAI_NODATA, {"unanswered": UNANSWERED}, UNANSWERED, Retry.FAST),
        (
            socket.EAI_NONAME,
            {"source": "given"},
            "no address: the name does not exist in DNS. Check the host.",
            Retry.FATAL,
        ),
        (socket.EAI_NODATA, {"source": "given"}, "no address. Check the host.", Retry.FATAL),
        (
            socket.EAI_NONAME,
            {"source": "redirect", "sent_by": "192.0.2.7:5222"},
            "no address: the name does not exist in DNS (the server at 192.0.2.7:5222 sent us on there).",
            Retry.SLOW,
        ),
    ],
)
def test_a_name_is_said_not_to_exist_only_where_that_is_known(
    number: int, known: dict[str, Any], sentence: str, retry: Retry
) -> None:
    endpoint = Endpoint("xmpp.example.org", 5222, **{"source": "fallback", **known})
    failure = unknown_name(endpoint, socket.gaierror(number, "said so"))
    assert str(failure) == (sentence if sentence == UNANSWERED else f"xmpp.example.org has {sentence}")
    assert failure.retry is retry


def test_a_name_that_does_not_resolve_fails_in_its_phase() -> None:
    def patch(loop: Any) -> None:
        async def getaddrinfo(*_: object, **__: object) -> list[Any]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        loop.getaddrinfo = getaddrinfo

    failure, attempts = fail(Endpoint("example.orf", 5222, source="fallback"), loop_patch=patch)
    assert failure.phase is Phase.RESOLVE
    assert attempts == [("example.orf:5222", "ConnectionFailed")]


def test_a_look_up_without_end_is_ended() -> None:
    def patch(loop: Any) -> None:
        async def getaddrinfo(*_: object, **__: object) -> list[Any]:
            await never(None)
            return []

        loop.getaddrinfo = getaddrinfo

    failure, attempts = fail(Endpoint("example.org", 5222), timeout=0.02, loop_patch=patch)
    assert attempts == [("example.org:5222", "ConnectionFailed")]
    assert str(failure) == "No answer from the name server within 0.02 s while looking up example.org."
    assert failure.phase is Phase.RESOLVE


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "a\x1bb"])
def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    failure, _ = fail(Endpoint(host, 5222))
    assert (failure.phase, failure.retry) == (Phase.RESOLVE, Retry.FATAL)
    assert str(failure).isprintable()


def test_unix_sockets_have_their_own_sentences(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    assert str(fail(Endpoint(str(path), 1))[0]) == (
        f"There is no socket {path}: the server does not run, or has it elsewhere."
    )
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        assert str(fail(Endpoint(str(path), 1))[0]) == f"The socket {path} is there, but nothing listens on it."
    long = "/" + "x" * 200
    assert str(fail(Endpoint(long, 1))[0]) == f"No connection to {long}: AF_UNIX path too long."
    assert "may not connect" in str(
        none_connected(Endpoint("/s", 1), [Attempt("/s", PermissionError(errno.EACCES, "no"))], untried=0, seconds=1)
    )


def test_exhausted_file_descriptors_are_told_of() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    failure = too_many_files(OSError(errno.EMFILE, "Too many open files"))
    assert f"this process has {limit:,} of {limit:,} files open" in str(failure)


def test_exhausted_file_descriptors_are_noticed_in_a_look_up_and_in_an_attempt() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def run() -> list[str]:
        said = []
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(ConnectionFailed) as raised:
                await dial(Endpoint(host, 1), asyncio.Protocol, timeout=5)
            said.append(str(raised.value))
        return said

    async def with_no_file_left() -> list[str]:
        loop: Any = asyncio.get_running_loop()

        async def getaddrinfo(*_: object, **__: object) -> list[Any]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        loop.getaddrinfo = getaddrinfo
        with socket.socket() as probe:  # the lowest free number: everything from there on is forbidden
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno(), hard))
        try:
            return await run()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    for sentence in asyncio.run(with_no_file_left()):
        assert "files open" in sentence
