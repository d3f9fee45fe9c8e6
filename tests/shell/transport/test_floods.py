"""What a server may make us do after the handshake is bounded, in both engines."""

from __future__ import annotations

import random
import ssl
from pathlib import Path

import pytest

from pcj.errors import Retry
from pcj.transport import tls
from pcj.transport.tls import TlsEngine, TlsError
from tests.shell.transport.pair import Server, engine_for, good, server_context, talk
from tests.shell.transport.records import SUITE_1_2, SUITE_1_3, Tls12, Tls13, logged


def session_1_3(tmp_path: Path, ca_file: str, library: str) -> tuple[TlsEngine, Tls13]:
    context = server_context(good("example.org"), tmp_path)
    log = logged(context, tmp_path)
    context.num_tickets = 0  # so that the server has sent no record with the keys of the session yet
    engine = engine_for(ca_file, library)
    talk(engine, Server(context))
    assert engine.facts is not None
    if engine.facts.cipher != SUITE_1_3:
        pytest.skip(f"the records are made for another suite than {engine.facts.cipher}")
    return engine, Tls13(log)


def session_1_2(tmp_path: Path, ca_file: str, library: str) -> tuple[TlsEngine, Server, Tls12]:
    context = server_context(good("example.org"), tmp_path, maximum=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(SUITE_1_2)
    log = logged(context, tmp_path)
    engine, server = engine_for(ca_file, library), Server(context)
    hello = engine.data_to_send()
    server.feed(hello)
    answer = server.outgoing.read()
    engine.receive_data(answer)
    talk(engine, server)
    assert engine.facts is not None
    # Both hellos: record header (5), handshake header (4), version (2), random (32).
    return engine, server, Tls12(log, hello[11:43], answer[11:43])


def test_key_updates_without_end_are_bounded(tmp_path: Path, ca_file: str, library: str) -> None:
    engine, server = session_1_3(tmp_path, ca_file, library)
    with pytest.raises(TlsError, match="made us send more than 65536 bytes") as raised:
        for _ in range(100_000):
            assert engine.receive_data(server.key_update()) == b""
            engine.data_to_send()
    assert raised.value.phase is None


def test_key_updates_between_data_are_harmless(tmp_path: Path, ca_file: str, library: str) -> None:
    engine, server = session_1_3(tmp_path, ca_file, library)
    answered = b""
    for _ in range(5_000):
        assert engine.receive_data(server.key_update() + server.seal(b"x", 0x17)) == b"x"
        answered += engine.data_to_send()
    assert len(answered) > tls.MAX_ANSWER_BYTES, "each came with data, so none of it counts"


def test_a_thousand_session_tickets_are_taken_without_an_answer(tmp_path: Path, ca_file: str, library: str) -> None:
    engine, server = session_1_3(tmp_path, ca_file, library)
    for _ in range(1_000):
        assert engine.receive_data(server.ticket(32)) == b""
        assert engine.data_to_send() == b""
    assert engine.receive_data(server.seal(b"at last", 0x17)) == b"at last"


@pytest.mark.parametrize("size", [32, 1_000])
def test_session_tickets_without_end_are_bounded(tmp_path: Path, ca_file: str, library: str, size: int) -> None:
    engine, server = session_1_3(tmp_path, ca_file, library)
    taken = 0
    with pytest.raises(TlsError, match="sent more than 262144 bytes of TLS messages and no data") as raised:
        while True:
            record = server.ticket(size)
            engine.receive_data(record)
            taken += len(record)
    assert tls.MAX_DATALESS_BYTES - len(record) < taken <= tls.MAX_DATALESS_BYTES
    assert (raised.value.phase, raised.value.retry) == (None, Retry.SLOW)


def test_a_request_to_renegotiate_is_declined_and_the_session_goes_on(
    tmp_path: Path, ca_file: str, library: str
) -> None:
    engine, _, server = session_1_2(tmp_path, ca_file, library)
    assert engine.receive_data(server.hello_request()) == b""
    answer = engine.data_to_send()
    assert answer[:1] == b"\x15", "no_renegotiation is an alert; a ClientHello would be 0x16"
    assert engine.receive_data(server.seal(b"data", 0x17)) == b"data"


def test_requests_to_renegotiate_without_end_are_bounded(tmp_path: Path, ca_file: str, library: str) -> None:
    engine, _, server = session_1_2(tmp_path, ca_file, library)
    answered = 0
    with pytest.raises(TlsError, match=r"made us send more than 65536 bytes|broke \("):
        for _ in range(10_000):
            engine.receive_data(server.hello_request())
            answered += len(engine.data_to_send())
    assert answered <= tls.MAX_ANSWER_BYTES


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_damaged_bytes_raise_nothing_but_tls_error(
    tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion
) -> None:
    context = server_context(good("example.org"), tmp_path, maximum=version)
    chance = random.Random(11)  # noqa: S311  the same damage each time
    refused = 0
    for _ in range(150):
        server, engine = Server(context), engine_for(ca_file, library)
        try:
            for _ in range(4):
                server.feed(engine.data_to_send())
                if server.done:
                    server.say(b"data")
                flight = bytearray(server.outgoing.read())
                if flight and chance.random() < 0.7:
                    for _ in range(chance.randint(1, 3)):
                        flight[chance.randrange(len(flight))] = chance.randrange(256)
                assert engine.receive_data(bytes(flight)) in (b"", b"data")
            engine.receive_eof()
        except TlsError:
            refused += 1
    assert refused > 100
