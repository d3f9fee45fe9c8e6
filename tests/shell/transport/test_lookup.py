"""Look-ups that hang hold up nothing but themselves."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pcj.transport.addresses import address_text, find_addresses
from pcj.transport.lookup import LookUps
from pcj.transport.resolve import Endpoint
from tests.shell.links import client, run, server, turns

SECONDS = 10


class System:
    """The system's resolver: it says nothing about names that begin with "dead", until `answer` is called."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.came = threading.Semaphore(0)
        self._real: Callable[..., Any] = socket.getaddrinfo
        self._answer = threading.Event()

    def getaddrinfo(self, host: Any, *arguments: Any) -> Any:
        if not str(host).startswith("dead"):
            return self._real(host, *arguments)
        self.asked.append(host)
        self.came.release()
        self._answer.wait(SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "said so")

    def answer(self) -> None:
        self._answer.set()

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self.came.acquire(timeout=SECONDS)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.answer()


def test_names_that_nobody_answers_for_take_no_thread_from_the_proof_of_a_password(system: System) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        searches = [asyncio.create_task(find_addresses(Endpoint(f"dead{n}.example", 5222))) for n in range(3)]
        await asyncio.to_thread(system.wait, 3)
        async with server() as at, client(at.client_port, sasl_mechanisms=("SCRAM-SHA-1",)):
            assert not any(search.done() for search in searches)
        for search in searches:
            search.cancel()
        await asyncio.gather(*searches, return_exceptions=True)

    run(main)


def test_who_asks_what_is_being_asked_waits_for_that_answer(system: System) -> None:
    look_ups = LookUps(5, 1)
    first = look_ups.ask("dead.example", 1, 0)
    system.wait(1)
    assert first.cancel()
    others = [look_ups.ask("dead.example", 1, 0) for _ in range(2)]
    elsewhere = look_ups.ask("dead.example", 2, 0)
    system.wait(1)
    system.answer()
    for other in (*others, elsewhere):
        assert isinstance(other.exception(SECONDS), socket.gaierror)
    assert len(system.asked) == 2


def test_a_question_that_hangs_is_asked_again_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hang, came, asked = threading.Event(), threading.Semaphore(0), []

    def getaddrinfo(host: Any, *_: Any) -> Any:
        asked.append(host)
        came.release()
        if len(asked) == 1:
            hang.wait(SECONDS)
            raise socket.gaierror(socket.EAI_AGAIN, "said so")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 1))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    look_ups = LookUps(5, 2)
    first = look_ups.ask("a.example", 1, 0)
    assert came.acquire(timeout=SECONDS)
    second = look_ups.ask("a.example", 1, 0)
    assert first.result(SECONDS) == second.result(SECONDS)
    assert first.result()[0][4] == ("a.example", 1)
    hang.set()


def test_a_failure_is_no_answer_while_the_same_is_still_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    events, came = [threading.Event(), threading.Event()], threading.Semaphore(0)
    threads: list[threading.Thread] = []

    def getaddrinfo(*_: Any) -> Any:
        turn = len(threads)
        threads.append(threading.current_thread())
        came.release()
        events[turn].wait(SECONDS)
        if turn == 0:
            raise socket.gaierror(socket.EAI_AGAIN, "said so")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    look_ups = LookUps(5, 2)
    askers = []
    for _ in events:
        askers.append(look_ups.ask("a.example", 1, 0))
        assert came.acquire(timeout=SECONDS)
    events[0].set()
    threads[0].join(SECONDS)
    assert not any(asker.done() for asker in askers)
    events[1].set()
    assert [asker.result(SECONDS) for asker in askers] == [[], []]


def test_a_dead_name_takes_a_bounded_number_of_threads(system: System) -> None:
    look_ups = LookUps(5, 2)
    askers = [look_ups.ask("dead.example", 1, 0) for _ in range(10)]
    system.wait(2)
    assert look_ups._threads == 2
    system.answer()
    assert all(isinstance(asker.exception(SECONDS), socket.gaierror) for asker in askers)
    assert len(system.asked) == 2


def test_no_more_than_so_many_run_and_what_waits_is_asked_next_unless_nobody_wants_it(system: System) -> None:
    look_ups = LookUps(1, 1)
    look_ups.ask("dead1.example", 1, 0)
    system.wait(1)
    unwanted, wanted, twice = (look_ups.ask(name, 1, 0) for name in ("dead2.example", "dead3.example", "dead3.example"))
    assert unwanted.cancel()
    assert wanted.cancel()
    system.answer()
    assert isinstance(twice.exception(SECONDS), socket.gaierror)
    assert system.asked == ["dead1.example", "dead3.example"]


def test_questions_that_nobody_waits_for_are_not_kept(system: System) -> None:
    look_ups = LookUps(1, 1)
    for name in ("dead1.example", "dead2.example"):
        for _ in range(100):
            look_ups.ask(name, 1, 0).cancel()
    assert [len(question.waiters) for question in look_ups._running.values()] == [0]
    assert not look_ups._waiting


def test_a_cancelled_search_is_done_at_once_though_the_system_is_not(system: System) -> None:
    async def main() -> None:
        search = asyncio.create_task(find_addresses(Endpoint("dead.example", 5222)))
        await asyncio.to_thread(system.wait, 1)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
        await turns()

    run(main)


def test_several_loops_in_several_threads_get_their_answers() -> None:
    def search() -> str:
        return address_text(asyncio.run(find_addresses(Endpoint("localhost", 5222))).addresses[0])

    with ThreadPoolExecutor(4) as threads:
        assert {found.result(SECONDS) for found in [threads.submit(search) for _ in range(8)]} <= {
            "127.0.0.1:5222",
            "[::1]:5222",
        }


def test_the_process_ends_without_waiting_for_a_look_up() -> None:
    program = """
import asyncio, socket, threading
from pcj.transport.addresses import find_addresses
from pcj.transport.resolve import Endpoint
asked = threading.Event()
def hang(*_):
    asked.set()
    threading.Event().wait()
socket.getaddrinfo = hang
async def main():
    search = asyncio.create_task(find_addresses(Endpoint("dead.example", 5222)))
    await asyncio.to_thread(asked.wait)
    search.cancel()
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], timeout=SECONDS, check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_does_not_wait_for_its_parents_threads() -> None:
    program = """
import os, sys
from pcj.transport import lookup
parents = lookup._look_ups
child = os.fork()
if not child:
    os._exit(0 if lookup._look_ups is not parents else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=SECONDS).returncode == 0
