"""Servers that are found by DNS and are dead, slow or not to be reached, on a network where that is really so.

The kernel, the system's resolver, the name server on port 53 and the embedded server are what they are; nothing is
replaced. It takes namespaces of Linux; where they are not permitted (in many a container) these tests are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.shell import island
from tests.shell.island import DOMAIN, LIVE4, LIVE6, REFUSES4, SILENT4, SILENT6, Island, Told, Unable
from tests.shell.transport.nameserver import Zone

PLAIN, DIRECT = f"_xmpp-client._tcp.{DOMAIN}", f"_xmpps-client._tcp.{DOMAIN}"
#: How soon one address that is dead must be got over: the stagger of RFC 8305 and what a loaded machine adds to it.
SOON = 1.0


@pytest.fixture(scope="module")
def network() -> Iterator[Island]:
    yield from _island(ipv6=True)


@pytest.fixture(scope="module")
def network_without_ipv6() -> Iterator[Island]:
    yield from _island(ipv6=False)


def _island(*, ipv6: bool) -> Iterator[Island]:
    try:
        made = Island(ipv6=ipv6)
    except Unable as error:
        pytest.skip(f"no network of our own here, and CI need not have one: {error}")
    yield made
    made.close()


def host(name: str, *addresses: str) -> Zone:
    """The A and AAAA records of a name."""
    zone: dict[str, list[str] | str | None] = {}
    for kind, mark in (("A", "."), ("AAAA", ":")):
        zone[f"{name} {kind}"] = [address for address in addresses if mark in address]
    return zone


def at(address: str, port: int = 5222) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def connected(told: Told) -> Told:
    """It was, and in good order."""
    assert told.failure is None
    assert told.violations == []
    assert told.names.index("RESOLVED") < told.names.index("ATTEMPT")
    assert "ATTEMPT" not in told.names[told.names.index("CONNECTED") :]
    assert told.attempts[-1][1] == "connected"
    assert "READY" in told.names
    return told


def test_a_dead_ipv6_address_costs_a_fraction_of_a_second_and_is_told_of(network: Island) -> None:
    told = connected(
        network.run({PLAIN: ["0 0 5222 xmpp.montague.example."], **host("xmpp.montague.example", SILENT6, LIVE4)})
    )
    assert told.resolved == ["xmpp.montague.example:5222"]
    assert [address for address, _ in told.attempts] == [at(SILENT6), at(LIVE4)]
    assert re.fullmatch(r"overtaken after 0\.\d\d s", told.attempts[0][1])
    assert 0.2 < told.seconds < SOON


def test_ipv4_is_tried_second_however_many_ipv6_addresses_are_dead(network: Island) -> None:
    silent = [f"2001:db8::{number}" for number in range(7, 12)]
    told = connected(network.run({PLAIN: ["0 0 5222 a.example."], **host("a.example", *silent, LIVE4)}))
    assert told.attempts[1:] == [(at(LIVE4), "connected")]
    assert told.seconds < SOON


def test_two_dead_addresses_cost_two_fractions(network: Island) -> None:
    told = connected(
        network.run({PLAIN: ["0 0 5222 a.example."], **host("a.example", SILENT4, "192.0.2.8", island.SLOW4)})
    )
    assert {address for address, outcome in told.attempts[:2] if outcome.startswith("overtaken")} == {
        at(SILENT4),
        at("192.0.2.8"),
    }
    assert told.attempts[2:] == [(at(island.SLOW4), "connected")]
    assert 0.5 < told.seconds < SOON + 0.5


def test_a_slow_address_is_overtaken_by_a_quick_one(network: Island) -> None:
    told = connected(network.run({PLAIN: ["0 0 5222 a.example."], **host("a.example", island.SLOW6, LIVE4)}))
    assert [address for address, _ in told.attempts] == [at(island.SLOW6), at(LIVE4)]
    assert told.attempts[0][1].startswith("overtaken")
    assert told.seconds < island.SLOWNESS[island.SLOW6]


def test_a_refusal_leads_to_the_next_address_at_once(network: Island) -> None:
    zone = {PLAIN: ["0 0 5222 a.example."], **host("a.example", island.REFUSES6, LIVE4)}
    told = connected(network.run(zone))
    assert told.attempts == [(at(island.REFUSES6), "connection refused"), (at(LIVE4), "connected")]
    assert told.seconds < SOON


def test_priorities_are_never_raced(network: Island) -> None:
    zone = {
        PLAIN: ["20 0 5222 spare.example.", "10 0 5222 first.example."],
        **host("first.example", SILENT6, SILENT4),
        **host("spare.example", LIVE4),
    }
    told = connected(network.run(zone, connect_timeout=0.8))
    assert told.resolved == ["first.example:5222", "spare.example:5222"]
    no_answer = "no answer in 0.8 s"
    assert told.attempts == [(at(SILENT6), no_answer), (at(SILENT4), no_answer), (at(LIVE4), "connected")]
    assert told.seconds > 0.8


def test_both_services_are_one_set_of_servers(network: Island) -> None:
    zone = {
        PLAIN: ["5 0 5222 dead.example.", "20 0 5222 live.example."],
        DIRECT: ["10 0 5223 live.example.", "1 0 5223 dead.example."],
        **host("dead.example", REFUSES4),
        **host("live.example", LIVE6),
    }
    told = connected(network.run(zone))
    assert told.resolved == ["dead.example:5223", "dead.example:5222", "live.example:5223", "live.example:5222"]
    assert told.attempts == [
        (at(REFUSES4, 5223), "connection refused"),
        (at(REFUSES4), "connection refused"),
        (at(LIVE6, 5223), "connected"),
    ]
    assert told.names.index("SSLNEGOTIATE") < told.names.index("STREAMSTART"), "TLS from the first byte"


def test_a_server_without_an_address_is_told_of_and_passed_over(network: Island) -> None:
    zone = {
        PLAIN: ["0 0 5222 gone.example.", "1 0 5222 live.example."],
        "gone.example": "NXDOMAIN",
        **host("live.example", LIVE4),
    }
    told = connected(network.run(zone))
    assert told.attempts == [
        ("gone.example:5222", "DNS names gone.example:5222 as the server, but that name has no address."),
        (at(LIVE4), "connected"),
    ]


def test_what_is_soonest_mended_decides_when_to_try_again(network: Island) -> None:
    zone = {
        PLAIN: ["0 0 5222 gone.example.", "1 0 5222 refuses.example."],
        "gone.example": "NXDOMAIN",
        **host("refuses.example", REFUSES4),
    }
    told = network.run(zone)
    assert told.failure is not None
    assert (told.failure["phase"], told.failure["retry"]) == ("connect", "fast")


def test_all_that_are_dead_are_named_each_with_its_error_within_the_bound(network: Island) -> None:
    zone = {
        PLAIN: ["0 0 5222 a.example.", "1 0 5222 b.example.", "2 0 5222 c.example."],
        **host("a.example", SILENT6, SILENT4, REFUSES4),
        **host("b.example", island.UNREACHABLE4, island.FORBIDDEN4, island.SWALLOWED4),
        **host("c.example", island.NOWHERE6),
    }
    told = network.run(zone, connect_timeout=1.0)
    expected = {
        at(REFUSES4): ("connection refused", "refused"),
        at(SILENT6): ("no answer in 1 s", "no answer in 1 s"),
        at(SILENT4): ("no answer in 1 s", "no answer in 1 s"),
        at(island.UNREACHABLE4): ("no route to host", "no route"),
        at(island.FORBIDDEN4): ("permission denied", "not permitted"),
        at(island.SWALLOWED4): ("invalid argument", "no route"),
    }
    assert told.violations == []
    assert told.names.count("CONNECTFAIL") == 1
    assert told.failure is not None
    assert told.failure["phase"] == "connect"
    assert dict(told.attempts) == {
        **{address: outcome for address, (outcome, _) in expected.items()},
        at(island.NOWHERE6): "network is unreachable",
    }
    for address, (_, reason) in expected.items():
        assert f"{address} {reason}" in told.failure["message"]
    assert f"this machine has no route to c.example ({island.NOWHERE6}, port 5222)" in told.failure["message"]
    assert sorted(map(tuple, told.failure["tried"])) == sorted(told.attempts)
    assert 1.0 < told.seconds < 1.0 + 2 * SOON  # one deadline for what is silent, nothing for the rest


def test_an_address_of_a_family_without_a_route_costs_nothing(network: Island) -> None:
    zone = {PLAIN: ["0 0 5222 a.example."], **host("a.example", island.NOWHERE6)}
    told = network.run(zone)
    assert told.attempts == [(at(island.NOWHERE6), "network is unreachable")]
    assert told.failure is not None
    assert told.failure["message"].startswith(f"This machine has no route to a.example ({island.NOWHERE6}, port 5222)")
    assert told.seconds < SOON


def test_a_domain_without_records_is_itself_the_server(network: Island) -> None:
    told = connected(network.run(host(DOMAIN, SILENT6, LIVE4)))
    assert told.resolved == [f"{DOMAIN}:5222"]
    assert told.attempts[-1] == (at(LIVE4), "connected")
    assert {PLAIN, DIRECT, DOMAIN} <= set(told.asked)
    assert told.seconds < SOON


def test_a_domain_with_dead_servers_is_not_itself_the_server(network: Island) -> None:
    told = network.run({PLAIN: ["0 0 5222 a.example."], **host("a.example", REFUSES4), **host(DOMAIN, LIVE4)})
    assert told.failure is not None
    assert told.attempts == [(at(REFUSES4), "connection refused")]
    assert DOMAIN not in told.asked


def test_a_server_may_be_an_alias(network: Island) -> None:
    zone: Zone = {PLAIN: ["0 0 5222 a.example."], "a.example": "CNAME b.example.", **host("b.example", LIVE4)}
    told = connected(network.run(zone))
    assert told.resolved == ["a.example:5222"]
    assert told.attempts == [(at(LIVE4), "connected")]


@pytest.mark.parametrize(("silent", "address"), [("AAAA", LIVE4), ("A", LIVE6)])
def test_a_name_server_that_is_silent_about_one_family_does_not_hold_up_the_other(
    network: Island, silent: str, address: str
) -> None:
    zone = {PLAIN: ["0 0 5222 a.example."], **host("a.example", address), f"a.example {silent}": None}
    told = connected(network.run(zone))
    assert told.attempts == [(at(address), "connected")]
    assert told.seconds < 2 * SOON


def test_a_name_server_that_is_silent_ends_with_the_deadlines(network: Island) -> None:
    told = network.run({PLAIN: None, DIRECT: None, DOMAIN: None}, resolve_timeout=0.5, connect_timeout=0.8)
    assert told.failure is not None
    assert told.failure["message"] == f"No answer from the name server within 0.8 s while looking up {DOMAIN}."
    assert told.attempts == [(f"{DOMAIN}:5222", told.failure["message"])]
    assert 1.3 < told.seconds < 1.3 + SOON


def test_a_machine_without_ipv6_is_not_held_up_by_it(network_without_ipv6: Island) -> None:
    record = {PLAIN: ["0 0 5222 a.example."]}
    told = connected(network_without_ipv6.run({**record, **host("a.example", LIVE6, SILENT6, LIVE4)}))
    assert told.attempts[-1] == (at(LIVE4), "connected")
    assert told.seconds < SOON
    told = network_without_ipv6.run({**record, **host("a.example", LIVE6)})
    assert told.failure is not None
    assert told.failure["message"].startswith(f"This machine has no route to a.example ({LIVE6}, port 5222)")
    assert told.seconds < SOON
