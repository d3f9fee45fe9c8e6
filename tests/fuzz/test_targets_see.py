"""Each target sees a fault of the kind that it is there for: with the fault in place, its corpus does not pass."""

from __future__ import annotations

import hmac
import importlib
import re
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from fuzz.common import TARGETS, corpus_of, load
from pcj import jid

#: Believes every proof.
CREDULOUS = SimpleNamespace(compare_digest=lambda a, b: True, digest=hmac.digest)


def no_salt(*_: object) -> Iterator[object]:
    yield from ()


#: (target, where the fault is put, what is there in place of what ought to be)
FAULTS: list[tuple[str, str, Any]] = [
    ("negotiating", "pcj.xmlstream.negotiating.NegotiatingParser._check_between", lambda self: None),
    ("negotiating", "pcj.xmlstream.negotiating.printable", str),
    ("ready", "pcj.xmlstream.ready.ReadyParser._close", lambda self, previous: None),
    ("ready", "pcj.xmlstream.ready.too_deep", lambda node, bound: False),
    ("xmpp", "pcj.sasl.scram.hmac", CREDULOUS),
    ("xmpp", "pcj.protocol.negotiator.repeated", lambda secrets, heard: ()),
    ("xmpp", "pcj.protocol.negotiator.Negotiator._refuse_leftover", lambda self, what: None),
    ("xmpp", "pcj.sasl.memory.Memory.accepted", lambda self, guard: None),
    ("legacy", "pcj.protocol.negotiator.redacted", lambda node, secret=False: node),
    ("jabberd14", "pcj.protocol.jabberd14.require_id", no_salt),
    ("jabberd20", "pcj.sasl.digest_md5.hmac", CREDULOUS),
    ("scram", "pcj.sasl.scram._read_iterations", lambda text, limits, mechanism: abs(int(text)) % 10**6 or 1),
    ("scram", "pcj.sasl.scram.hmac", CREDULOUS),
    ("digest_md5", "pcj.sasl.digest_md5.hmac", CREDULOUS),
    ("jid", "pcj.jid._prepare_local", str),
    ("tls", "pcj.transport.tls.channel_bindings", lambda library, leaf, first: {"tls-server-end-point": b"another's"}),
    ("server_hello", "fuzz.targets.server_hello.has_extended_master_secret", lambda first: True),
    ("certificate", "pcj.transport.certificate._read_time", lambda der, element: datetime(2026, 1, 1)),  # noqa: DTZ001
    ("document", "pcj.serialize._escape", lambda text, table, where: text),
    ("filters", "pcj.filters._index.Index.candidates", lambda self, node: []),
    ("redirect", "pcj.route._NAME", re.compile(r"(?s:.*)")),
    ("envelope", "pcj.protocol.jabberd20.RouteEnvelope.unwrap", lambda self, node: node),
]


@pytest.mark.parametrize(("name", "place", "fault"), FAULTS, ids=[f"{name}-{place}" for name, place, _ in FAULTS])
def test_a_planted_fault_does_not_pass(name: str, place: str, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load(name)
    jid._parse.cache_clear()
    monkeypatch.setattr(place, fault)
    try:
        assert any(_fails(target.one_input, path.read_bytes()) for path in corpus_of(name))
    finally:
        jid._parse.cache_clear()


def _fails(one_input: Any, data: bytes) -> bool:
    try:
        one_input(data)
    except Exception:
        return True
    return False


def test_no_target_is_left_out() -> None:
    assert {name for name, _, _ in FAULTS} == set(TARGETS)
    for _, place, _ in FAULTS:
        module, _, attribute = place.rpartition(".")
        try:
            owner: Any = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, kind = module.rpartition(".")
            owner = getattr(importlib.import_module(module), kind)
        assert hasattr(owner, attribute)
