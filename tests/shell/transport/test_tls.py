"""The TLS engine against a server in memory."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pcj.errors import ConfigError, Retry, UsageError
from pcj.transport import tls
from pcj.transport.tls import TlsEngine, TlsError
from tests.shell.transport.pair import (
    Server,
    context_for,
    dns,
    engine_for,
    good,
    ip,
    issued,
    leaf_of,
    pin_of,
    server_context,
    talk,
)

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


# ---- what should happen


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 30])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_succeeds_in_pieces_of_any_size(
    tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion, size: int
) -> None:
    chain = good("example.org")
    server, engine = Server(server_context(chain, tmp_path, maximum=version)), engine_for(ca_file, library)
    assert talk(engine, server, size=size) == b""
    facts = engine.facts
    assert facts is not None
    assert facts.version == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert facts.name == "example.org"
    assert facts.verified
    assert facts.alpn is None
    assert facts.cipher == (server.tls.cipher() or ("",))[0]
    assert facts.certificate == leaf_of(chain).public_bytes(serialization.Encoding.DER)
    engine.write(b"<stream:stream>")
    server.say(b"<stream:features/>")
    assert talk(engine, server, size=size) == b"<stream:features/>"
    assert server.received == b"<stream:stream>"


@pytest.mark.parametrize("version", VERSIONS)
def test_data_in_the_piece_of_the_last_flight_is_returned(
    tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion
) -> None:
    server, engine = (
        Server(server_context(good("example.org"), tmp_path, maximum=version)),
        engine_for(ca_file, library),
    )
    last = b""
    while not server.done:
        if last:
            assert engine.receive_data(last) == b""
        server.feed(engine.data_to_send())
        last = server.outgoing.read()
    server.say(b"early")
    last += server.outgoing.read()
    assert engine.receive_data(last) == b"early"
    assert engine.facts is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_megabyte_goes_both_ways(tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion) -> None:
    server, engine = (
        Server(server_context(good("example.org"), tmp_path, maximum=version)),
        engine_for(ca_file, library),
    )
    talk(engine, server)
    data = bytes(range(256)) * 4096
    engine.write(data)
    server.say(data)
    assert talk(engine, server, size=100_000) == data
    assert server.received == data


def test_the_server_is_told_the_name_as_a_labels(tmp_path: Path, ca_file: str, library: str) -> None:
    context = server_context(issued(names=dns("xn--bcher-kva.example")), tmp_path)
    told: list[str | None] = []
    context.sni_callback = lambda _object, name, _context: told.append(name)
    engine = engine_for(ca_file, library, "Bücher.example.")
    talk(engine, Server(context))
    assert told == ["xn--bcher-kva.example"]
    assert engine.facts is not None
    assert engine.facts.name == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("given", "address"), [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("fe80::1%eth0", "fe80::1")]
)
def test_an_address_is_verified_and_not_sent_as_a_name(
    tmp_path: Path, ca_file: str, library: str, given: str, address: str
) -> None:
    context = server_context(issued(names=ip(address)), tmp_path)
    told: list[str | None] = []
    context.sni_callback = lambda _object, name, _context: told.append(name)
    engine = engine_for(ca_file, library, given)
    talk(engine, Server(context))
    assert told == [None]
    assert engine.facts is not None
    assert engine.facts.name == address


def test_without_verification_any_certificate_passes_and_the_facts_say_so(tmp_path: Path, library: str) -> None:
    engine = engine_for(None, library, verify=False)
    talk(engine, Server(server_context(issued(self_signed=True, names=dns("other.example")), tmp_path)))
    assert engine.facts is not None
    assert not engine.facts.verified


def test_a_protocol_that_was_offered_is_selected(tmp_path: Path, ca_file: str, library: str) -> None:
    context = server_context(good("example.org"), tmp_path)
    context.set_alpn_protocols(["xmpp-client"])
    engine = TlsEngine(context_for(ca_file, library, alpn=("xmpp-client",)), server_name="example.org")
    engine.start()
    talk(engine, Server(context))
    assert engine.facts is not None
    assert engine.facts.alpn == "xmpp-client"


def test_a_server_that_selects_no_protocol_is_taken(tmp_path: Path, ca_file: str, library: str) -> None:
    engine = TlsEngine(context_for(ca_file, library, alpn=("xmpp-client",)), server_name="example.org")
    engine.start()
    talk(engine, Server(server_context(good("example.org"), tmp_path)))
    assert engine.facts is not None
    assert engine.facts.alpn is None


def test_a_pinned_key_is_taken_in_any_case_of_its_digits(tmp_path: Path, ca_file: str, library: str) -> None:
    chain = good("example.org")
    pins = ("sha256:" + "0" * 64, "sha256:" + pin_of(chain).removeprefix("sha256:").upper())
    engine = engine_for(ca_file, library, pins=pins)
    talk(engine, Server(server_context(chain, tmp_path)))
    assert engine.facts is not None


# ---- the end


@pytest.mark.parametrize("version", VERSIONS)
def test_the_peers_close_notify_is_a_clean_end(
    tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion
) -> None:
    server, engine = (
        Server(server_context(good("example.org"), tmp_path, maximum=version)),
        engine_for(ca_file, library),
    )
    talk(engine, server)
    server.say(b"last")
    server.say_goodbye()
    assert engine.receive_data(server.outgoing.read()) == b"last"
    assert engine.peer_closed
    assert engine.receive_data(b"whatever") == b""
    assert engine.receive_eof()
    engine.write(b"we may still talk")
    engine.close()
    server.feed(engine.data_to_send())


def test_an_end_without_close_notify_is_not_clean(tmp_path: Path, ca_file: str, library: str) -> None:
    server, engine = Server(server_context(good("example.org"), tmp_path)), engine_for(ca_file, library)
    talk(engine, server)
    server.say(b"cut")
    assert talk(engine, server) == b"cut"
    assert not engine.receive_eof()


@pytest.mark.parametrize("version", VERSIONS)
def test_after_our_close_the_peer_can_still_be_heard(
    tmp_path: Path, ca_file: str, library: str, version: ssl.TLSVersion
) -> None:
    server, engine = (
        Server(server_context(good("example.org"), tmp_path, maximum=version)),
        engine_for(ca_file, library),
    )
    talk(engine, server)
    server.say(b"on its way")
    under_way = server.outgoing.read()
    engine.close()
    engine.close()
    server.feed(engine.data_to_send())
    assert server.closed
    assert engine.receive_data(under_way) == b"on its way"
    server.say_goodbye()
    assert engine.receive_data(server.outgoing.read()) == b""
    assert engine.peer_closed
    with pytest.raises(UsageError, match="closed"):
        engine.write(b"more")


def test_closing_before_the_handshake_is_done_is_harmless(ca_file: str, library: str) -> None:
    engine = TlsEngine(context_for(ca_file, library), server_name="example.org")
    engine.close()
    begun = engine_for(ca_file, library)
    begun.close()


# ---- the session breaks


def test_a_damaged_record_is_a_lost_link_and_comes_after_the_data_before_it(
    tmp_path: Path, ca_file: str, library: str
) -> None:
    server, engine = Server(server_context(good("example.org"), tmp_path)), engine_for(ca_file, library)
    talk(engine, server)
    server.say(b"good")
    sound = server.outgoing.read()
    server.say(b"bad")
    damaged = bytearray(server.outgoing.read())
    damaged[-1] ^= 1
    assert engine.receive_data(sound + damaged) == b"good"
    with pytest.raises(TlsError, match=r"The TLS session with example\.org:5222 broke") as raised:
        engine.receive_eof()
    assert (raised.value.phase, raised.value.retry) == (None, Retry.FAST)
    with pytest.raises(TlsError):
        engine.write(b"x")


def test_what_waits_to_be_sent_is_bounded(
    tmp_path: Path, ca_file: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "MAX_UNSENT_BYTES", 10_000)
    server, engine = Server(server_context(good("example.org"), tmp_path)), engine_for(ca_file, library)
    talk(engine, server)
    engine.write(bytes(9_000))
    with pytest.raises(UsageError, match="data_to_send"):
        engine.write(bytes(2_000))
    server.feed(engine.data_to_send())
    engine.write(bytes(2_000))
    server.feed(engine.data_to_send())
    assert len(server.received) == 11_000


# ---- misuse


@pytest.mark.parametrize(
    "name", ["", "a..b", ".example.org", "x" * 64 + ".org", "exa mple.org", "a\x00b", "a." * 127 + "org"]
)
def test_a_name_that_no_certificate_bears_is_refused(ca_file: str, library: str, name: str) -> None:
    with pytest.raises(ConfigError, match="looked for under this name"):
        TlsEngine(context_for(ca_file, library), server_name=name)


def test_calls_out_of_order_are_refused(ca_file: str, library: str) -> None:
    engine = TlsEngine(context_for(ca_file, library), server_name="example.org")
    with pytest.raises(UsageError, match="before start"):
        engine.receive_data(b"x")
    with pytest.raises(UsageError, match="not made"):
        engine.write(b"x")
    engine.start()
    with pytest.raises(UsageError, match="before"):
        engine.start()
