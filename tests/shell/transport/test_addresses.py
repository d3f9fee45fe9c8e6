"""The addresses of a host: their order, and what is done when the name server is slow about one family."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from pcj.errors import ConnectionFailed, Phase
from pcj.transport import addresses, tcp
from pcj.transport.addresses import Address, address_text, find_addresses
from pcj.transport.resolve import Endpoint
from pcj.transport.tcp import dial
from tests.shell.transport.dialling import closed_port, listen

FOUR, SIX, ANY = socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC
HOST = Endpoint("xmpp.example.org", 5222)

#: What the system says when asked for a family: addresses, an error's number, None: nothing, ever.
Said = list[str] | int | None


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(addresses, "RESOLUTION_DELAY_SECONDS", 0.02)


def system(said: dict[int, Said], wait: dict[int, asyncio.Event] | None = None) -> list[int]:
    """Make the system's resolver say this, by family. Gives the families it was asked for, growing."""
    asked: list[int] = []

    async def getaddrinfo(host: object, port: object, *, family: int = 0, **_: object) -> list[Any]:
        asked.append(family)
        if wait is not None and family in wait:
            await wait[family].wait()
        answer = said.get(family)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, int):
            raise socket.gaierror(answer, "said so")
        return [(SIX if ":" in ip else FOUR, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answer or []]

    loop: Any = asyncio.get_running_loop()
    loop.getaddrinfo = getaddrinfo
    return asked


def texts(found: list[Address]) -> list[str]:
    return [address_text(address).removesuffix(":5222") for address in found]


def run(main: Callable[[], Any]) -> None:
    """Nothing may be left behind."""

    async def checked() -> None:
        async with asyncio.timeout(10):
            await main()
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(checked())


def test_families_take_turns_beginning_with_the_first() -> None:
    given: list[Address] = [(SIX, "a"), (SIX, "b"), (SIX, "a"), (FOUR, "c"), (SIX, "d")]
    assert [where for _, where in addresses._interleaved(given)] == ["a", "c", "b", "d"]


def test_the_systems_own_order_is_kept_where_it_answers_in_time() -> None:
    async def main() -> None:
        asked = system({ANY: ["192.0.2.7", "2001:db8::7"]})
        found = await find_addresses(HOST)
        assert (texts(found.addresses), found.late, asked) == (["192.0.2.7", "[2001:db8::7]"], None, [ANY])

    run(main)


ROWS: list[tuple[str, dict[int, Said], list[str], bool]] = [
    ("no answer about IPv6", {FOUR: ["192.0.2.7"]}, ["192.0.2.7"], True),
    ("no answer about IPv4", {SIX: ["2001:db8::7"]}, ["[2001:db8::7]"], True),
    ("both, each by itself", {FOUR: ["192.0.2.7"], SIX: ["2001:db8::7"]}, ["[2001:db8::7]", "192.0.2.7"], False),
    ("no IPv6", {FOUR: ["192.0.2.7"], SIX: socket.EAI_NONAME}, ["192.0.2.7"], False),
    ("no IPv4", {FOUR: socket.EAI_NONAME, SIX: ["2001:db8::7"]}, ["[2001:db8::7]"], False),
]


@pytest.mark.parametrize(("said", "expected", "late"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_one_family_does_not_wait_for_the_other(said: dict[int, Said], expected: list[str], late: bool) -> None:
    async def main() -> None:
        system(said)
        found = await find_addresses(HOST)
        assert texts(found.addresses) == expected
        assert (found.late is not None) is late
        if found.late is not None:
            found.late.cancel()

    run(main)


def test_an_answer_to_the_question_for_both_still_counts_when_it_is_late() -> None:
    async def main() -> None:
        slow = asyncio.Event()
        asked = system({ANY: ["192.0.2.7", "2001:db8::7"]}, {ANY: slow})
        search = asyncio.create_task(find_addresses(HOST))
        while len(asked) < 3:  # noqa: ASYNC110  the code under test has no event to wait for
            await asyncio.sleep(0)
        slow.set()
        found = await search
        assert (texts(found.addresses), found.late) == (["192.0.2.7", "[2001:db8::7]"], None)

    run(main)


def test_a_family_without_addresses_is_no_end_while_the_other_may_have_some() -> None:
    async def main() -> None:
        known = asyncio.Event()
        asked = system({ANY: None, SIX: socket.EAI_NONAME, FOUR: ["192.0.2.7"]}, {FOUR: known})
        search = asyncio.create_task(find_addresses(HOST))
        while len(asked) < 3:  # noqa: ASYNC110  the code under test has no event to wait for
            await asyncio.sleep(0)
        known.set()
        assert texts((await search).addresses) == ["192.0.2.7"]

    run(main)


@pytest.mark.parametrize("slow", [False, True])
def test_a_name_that_has_no_address_is_told_of(slow: bool) -> None:
    async def main() -> None:
        late = asyncio.Event()
        asked = system(dict.fromkeys((ANY, FOUR, SIX), socket.EAI_AGAIN), {ANY: late} if slow else None)
        search = asyncio.create_task(find_addresses(HOST))
        while slow and len(asked) < 3:  # noqa: ASYNC110  as above
            await asyncio.sleep(0)
        late.set()
        with pytest.raises(ConnectionFailed, match="No answer from the name server") as raised:
            await search
        assert raised.value.failure.phase is Phase.RESOLVE

    run(main)


def test_a_cancelled_search_leaves_nothing_behind() -> None:
    async def main() -> None:
        asked = system({})
        search = asyncio.create_task(find_addresses(HOST))
        while len(asked) < 3:  # noqa: ASYNC110  the code under test has no event to wait for
            await asyncio.sleep(0)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search

    run(main)


def test_addresses_that_come_late_join_the_race() -> None:
    async def main() -> None:
        server, port = listen()
        dead = closed_port()
        loop: Any = asyncio.get_running_loop()
        slow = asyncio.Event()

        async def getaddrinfo(*_: object, family: int = 0, **__: object) -> list[Any]:
            if family == FOUR:
                return [(FOUR, socket.SOCK_STREAM, 6, "", ("127.0.0.1", dead))]
            if family == SIX:  # not of that family, but who looks
                await slow.wait()
                return [(FOUR, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
            return await asyncio.Future()

        loop.getaddrinfo = getaddrinfo
        attempts: list[tuple[str, str]] = []

        def attempted(where: str, error: BaseException | None) -> None:
            attempts.append((where, type(error).__name__))
            slow.set()

        transport, _ = await dial(Endpoint("xmpp.example.org", port), asyncio.Protocol, timeout=5, on_attempt=attempted)
        assert attempts == [(f"127.0.0.1:{dead}", "ConnectionRefusedError"), (f"127.0.0.1:{port}", "NoneType")]
        transport.close()
        server.close()

    run(main)


def test_addresses_that_come_late_are_bounded_too() -> None:
    async def main() -> None:
        many = [f"192.0.2.{number}" for number in range(addresses.MAX_ADDRESSES - 2)]
        loop: Any = asyncio.get_running_loop()
        system({FOUR: many, SIX: [f"2001:db8::{number}" for number in range(200)]}, {SIX: (slow := asyncio.Event())})

        async def refuse(*_: object) -> None:
            raise ConnectionRefusedError(111, "refused")

        loop.sock_connect = refuse
        tried: list[str] = []

        def attempted(where: str, error: BaseException | None) -> None:
            tried.append(where)
            slow.set()

        with pytest.raises(ConnectionFailed):
            await dial(HOST, asyncio.Protocol, timeout=5, on_attempt=attempted)
        assert len(tried) == addresses.MAX_ADDRESSES
        assert tried[-1].startswith("[2001:db8::1]")

    run(main)


def test_a_search_for_late_addresses_ends_with_the_race() -> None:
    async def main() -> None:
        server, port = listen()
        system({FOUR: ["127.0.0.1"]})
        transport, _ = await dial(Endpoint("xmpp.example.org", port), asyncio.Protocol, timeout=5)
        assert tcp.address_of(transport) == f"127.0.0.1:{port}"
        transport.close()
        server.close()

    run(main)
