"""What a broker remembers of its log-ins."""

from __future__ import annotations

from hashlib import pbkdf2_hmac

from pcj.sasl import Compute, Guard, Memory


def work(password: bytes = b"correct horse", salt: bytes = b"salt", count: int = 4096, name: str = "sha1") -> Compute:
    return Compute(pbkdf2_hmac, (name, password, salt, count))


def test_a_result_is_recalled_for_the_same_salt_count_and_hash_only() -> None:
    memory = Memory()
    memory.keep(work(), b"result")
    assert memory.recall(work()) == b"result"
    for other in (work(salt=b"other"), work(count=4097), work(name="sha256")):
        assert memory.recall(other) is None


def test_another_password_has_none_of_the_results_of_the_last_one() -> None:
    memory = Memory()
    memory.supplied({"correct horse"})
    memory.keep(work(), b"result")
    memory.supplied({"correct horse"})
    assert memory.recall(work()) == b"result"
    memory.supplied({"battery staple"})
    assert memory.recall(work(b"battery staple")) is None
    assert memory.secrets == {"battery staple"}


def test_no_more_than_eight_results_are_kept_and_the_oldest_goes_first() -> None:
    memory = Memory()
    for number in range(9):
        memory.keep(work(salt=bytes([number])), number)
    assert memory.recall(work(salt=b"\0")) is None
    assert [memory.recall(work(salt=bytes([number]))) for number in range(1, 9)] == list(range(1, 9))
    memory.recall(work(salt=b"\1"))
    memory.keep(work(salt=b"x"), b"new")
    assert memory.recall(work(salt=b"\1")) == 1
    assert memory.recall(work(salt=b"\2")) is None


def test_forgetting_lets_go_of_all_that_stands_for_the_password_and_keeps_the_floor() -> None:
    memory = Memory()
    memory.keep(work(), b"result")
    memory.secrets = {"correct horse"}
    memory.accepted(Guard.PROVED)
    memory.forget()
    assert memory.recall(work()) is None
    assert memory.secrets == set()
    assert memory.floor is Guard.PROVED


def test_the_floor_never_sinks() -> None:
    memory = Memory()
    memory.accepted(Guard.BOUND, "tls-exporter", secured=True)
    memory.accepted(Guard.SHOWN)
    assert (memory.floor, memory.floor_type, memory.secured) == (Guard.BOUND, "tls-exporter", True)


def test_neither_the_password_nor_a_result_is_in_what_it_shows() -> None:
    memory = Memory()
    memory.keep(work(), b"salted")
    assert repr(memory) == "<Memory floor=NONE kept=1>"
    assert b"correct horse" not in [argument for key in memory._kept for argument in key]
