"""From a domain to its servers, asked of a name server on loopback."""

from __future__ import annotations

import asyncio
import logging
import random as chance
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import dns.message
import dns.name
import pytest

from pcj.errors import ConnectionFailed, Failure, Phase, Retry
from pcj.transport.resolve import Endpoint, resolve
from tests.shell.transport.nameserver import Zone, name_server

PLAIN, DIRECT = "_xmpp-client._tcp.example.org", "_xmpps-client._tcp.example.org"


class Found(NamedTuple):
    endpoints: list[Endpoint]
    asked: list[str]


def find(
    zone: Zone,
    domain: str = "example.org",
    *,
    direct_tls_too: bool = True,
    timeout: float = 5.0,
    random: Callable[[], float] = lambda: 0.0,
    default_port: int = 5222,
) -> Found:
    async def run() -> Found:
        async with name_server(zone) as (address, asked):
            endpoints = await resolve(
                domain,
                direct_tls_too=direct_tls_too,
                timeout=timeout,
                random=random,
                nameservers=[address],
                default_port=default_port,
            )
            return Found(endpoints, asked)

    return asyncio.run(run())


def failure_of(zone: Zone, domain: str = "example.org", **options: float) -> Failure:
    with pytest.raises(ConnectionFailed) as raised:
        find(zone, domain, **options)  # type: ignore[arg-type]  # only timeout= is given
    assert raised.value.failure.phase is Phase.RESOLVE
    return raised.value.failure


def texts(endpoints: list[Endpoint]) -> list[str]:
    return [f"{endpoint}{' direct' if endpoint.direct_tls else ''} {endpoint.source}" for endpoint in endpoints]


ROWS: list[tuple[str, Zone, list[str]]] = [
    ("one", {PLAIN: ["0 5 5222 xmpp.example.org."]}, ["xmpp.example.org:5222 srv"]),
    (
        "by priority, whatever the weight",
        {PLAIN: ["20 99 5222 c.example.org.", "5 0 5222 a.example.org.", "10 50 5222 b.example.org."]},
        ["a.example.org:5222 srv", "b.example.org:5222 srv", "c.example.org:5222 srv"],
    ),
    (
        "both kinds as one set",
        {PLAIN: ["10 0 5222 a.example.org."], DIRECT: ["5 0 5223 a.example.org.", "20 0 443 b.example.org."]},
        ["a.example.org:5223 direct srv", "a.example.org:5222 srv", "b.example.org:443 direct srv"],
    ),
    ("neither", {}, ["example.org:5222 fallback"]),
    ("no data", {PLAIN: [], DIRECT: []}, ["example.org:5222 fallback"]),
    ("server failure", {PLAIN: "SERVFAIL", DIRECT: "SERVFAIL"}, ["example.org:5222 fallback"]),
    ("a refusal", {PLAIN: "REFUSED", DIRECT: "NXDOMAIN"}, ["example.org:5222 fallback"]),
    ("direct TLS denied", {PLAIN: ["0 0 5222 a.example.org."], DIRECT: ["0 0 0 ."]}, ["a.example.org:5222 srv"]),
    ("STARTTLS denied", {PLAIN: ["0 0 0 ."], DIRECT: ["0 0 443 a.example.org."]}, ["a.example.org:443 direct srv"]),
    ("a dot among others", {PLAIN: ["0 0 0 .", "1 0 5222 a.example.org."]}, ["a.example.org:5222 srv"]),
    ("port 0", {PLAIN: ["0 0 0 a.example.org.", "1 0 5222 b.example.org."]}, ["b.example.org:5222 srv"]),
    ("an address", {PLAIN: ["0 0 5222 192.0.2.7.", "1 0 5222 b.example.org."]}, ["b.example.org:5222 srv"]),
    ("a number", {PLAIN: ["0 0 5222 0x7f000001.", "1 0 5222 b.example.org."]}, ["b.example.org:5222 srv"]),
    ("control characters", {PLAIN: ["0 0 22 a\\027b.org.", "1 0 5222 b.example.org."]}, ["b.example.org:5222 srv"]),
    ("capitals", {PLAIN: ["0 0 5222 XMPP.Example.org."]}, ["xmpp.example.org:5222 srv"]),
    (
        "an alias",
        {PLAIN: "CNAME _xmpp-client._tcp.real.example.", "_xmpp-client._tcp.real.example": ["0 0 5222 r.example."]},
        ["r.example:5222 srv"],
    ),
    ("an alias that leads nowhere", {PLAIN: "CNAME gone.example."}, ["example.org:5222 fallback"]),
    ("one unknown, one failed", {PLAIN: "NXDOMAIN", DIRECT: "SERVFAIL"}, ["example.org:5222 fallback"]),
    ("one failed, one known", {PLAIN: "SERVFAIL", DIRECT: ["0 0 443 a.example."]}, ["a.example:443 direct srv"]),
    ("the same twice", {PLAIN: ["0 0 5222 a.example.", "1 0 5222 A.example."]}, ["a.example:5222 srv"]),
    ("an alias of itself", {PLAIN: f"CNAME {PLAIN}."}, ["example.org:5222 fallback"]),
]


@pytest.mark.parametrize(("zone", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_records_become_endpoints(zone: Zone, expected: list[str]) -> None:
    assert texts(find(zone, timeout=1.0).endpoints) == expected


def test_both_services_are_asked_for_once_and_nothing_else() -> None:
    assert sorted(find({}).asked) == [PLAIN, DIRECT]
    assert find({}, direct_tls_too=False).asked == [PLAIN]


def test_the_default_port_is_the_callers() -> None:
    assert texts(find({}, default_port=5269).endpoints) == ["example.org:5269 fallback"]


def test_a_final_dot_is_no_part_of_a_domain() -> None:
    found = find({PLAIN: ["0 0 5222 a.example."]}, "Example.ORG.", direct_tls_too=False)
    assert (texts(found.endpoints), found.asked) == (["a.example:5222 srv"], [PLAIN])


def test_an_answer_too_long_for_udp_is_asked_for_by_tcp() -> None:
    records = [f"{n} 0 5222 {'x' * 60}{n:02}.example." for n in range(20)]
    found = find({PLAIN: records}, direct_tls_too=False)
    assert found.asked == [PLAIN, PLAIN]
    assert len(found.endpoints) == 20


def test_a_domain_beyond_ascii_is_asked_for_as_a_labels() -> None:
    found = find({}, "Bücher.example", direct_tls_too=False)
    assert found.asked == ["_xmpp-client._tcp.xn--bcher-kva.example"]
    assert texts(found.endpoints) == ["xn--bcher-kva.example:5222 fallback"]


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("192.0.2.7", "192.0.2.7:5222 fallback"),
        ("[2001:db8::7]", "[2001:db8::7]:5222 fallback"),
        ("2001:db8::7", "[2001:db8::7]:5222 fallback"),
        ("localhost", "localhost:5222 fallback"),
        ("Conference.LOCALHOST.", "localhost:5222 fallback"),
    ],
)
def test_addresses_and_localhost_need_no_name_server(domain: str, expected: str) -> None:
    found = find({}, domain)
    assert (texts(found.endpoints), found.asked) == ([expected], [])


def test_ten_thousand_records_are_bounded_best_first() -> None:
    records = [f"{1000 - n} 0 5222 n{n}.example." for n in range(1000)]
    endpoints = find({PLAIN: records}).endpoints
    assert [endpoint.host for endpoint in endpoints] == [f"n{n}.example" for n in range(999, 967, -1)]


def test_the_first_of_one_priority_is_drawn_by_weight() -> None:
    zone: Zone = {PLAIN: ["0 10 5222 light.example.", "0 30 5222 heavy.example.", "0 0 5222 rare.example."]}
    source = chance.Random(1)  # noqa: S311  the same draw each time

    async def run() -> Counter[str]:
        async with name_server(zone) as (address, _):
            return Counter(
                [
                    (
                        await resolve(
                            "example.org",
                            direct_tls_too=False,
                            timeout=5,
                            random=source.random,
                            nameservers=[address],
                        )
                    )[0].host
                    for _ in range(400)
                ]
            )

    counted = asyncio.run(run())
    assert 260 < counted["heavy.example"] < 340
    assert 60 < counted["light.example"] < 140
    assert 0 < counted["rare.example"] < 40


def test_both_kinds_of_one_priority_are_drawn_from_by_weight_as_one_set() -> None:
    zone: Zone = {PLAIN: ["0 10 5222 a.example."], DIRECT: ["0 30 5223 a.example."]}
    source = chance.Random(1)  # noqa: S311  the same draw each time

    async def run() -> Counter[bool]:
        async with name_server(zone) as (address, _):
            options: dict[str, Any] = {"direct_tls_too": True, "timeout": 5, "nameservers": [address]}
            found = [await resolve("example.org", random=source.random, **options) for _ in range(200)]
            return Counter(endpoints[0].direct_tls for endpoints in found)

    assert 120 < asyncio.run(run())[True] < 180


def test_every_record_of_one_priority_stays_in_the_list() -> None:
    zone: Zone = {PLAIN: [f"0 {n} 5222 n{n}.example." for n in range(8)]}
    for number in (0.0, 0.5, 0.999999999):
        assert len(find(zone, random=lambda number=number: number).endpoints) == 8  # type: ignore[misc]


DOT = ["0 0 0 ."]


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ({PLAIN: DOT, DIRECT: DOT}, "no XMPP to clients (SRV target '.')."),
        (
            {PLAIN: DOT},
            "no XMPP to clients (SRV target '.' for _xmpp-client), and it has no record for _xmpps-client.",
        ),
        (
            {DIRECT: DOT},
            "no TLS from the first byte to clients (SRV target '.' for _xmpps-client), and it has no record for "
            "_xmpp-client.",
        ),
        (
            {DIRECT: DOT, PLAIN: ["0 0 5222 192.0.2.7."]},
            "no TLS from the first byte to clients (SRV target '.' for _xmpps-client), and the server it names for "
            "_xmpp-client cannot be used: '192.0.2.7' is an address, not a name.",
        ),
    ],
)
def test_a_domain_that_offers_nothing_says_so_and_which_of_the_two_it_denies(zone: Zone, said: str) -> None:
    failure = failure_of(zone)
    assert str(failure) == f"example.org says in DNS that it offers {said}"
    assert (failure.retry, failure.came) == (Retry.SLOW, "SRV target '.'")


@pytest.mark.parametrize(
    ("said", "exists"),
    [
        ("NXDOMAIN", False),
        ("NXDOMAIN org", False),  # the zone above lacks it, and all that is in it
        ("NXDOMAIN example.org", True),  # the domain's own zone lacks the service
        ("NXDOMAIN _tcp.example.org", True),
        ([], True),
        ("SERVFAIL", False),
    ],
)
def test_whether_the_domain_is_in_dns_is_known_from_the_answer_about_its_service(
    said: list[str] | str, exists: bool
) -> None:
    (endpoint,) = find({PLAIN: said}).endpoints
    assert endpoint == Endpoint("example.org", 5222, source="fallback")
    assert endpoint.exists is exists
    assert endpoint.unanswered == (
        f"The name server could not answer what it was asked about {PLAIN}." if said == "SERVFAIL" else ""
    )


def test_a_machine_that_names_no_name_server_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcj.transport.resolve._make_resolver", lambda *_: None)
    (endpoint,) = find({}).endpoints
    assert endpoint.unanswered == f"This machine names no name server that could be asked about {PLAIN}."


def test_a_record_that_cannot_be_used_beside_others_is_told_of() -> None:
    dropped: list[tuple[str, str]] = []

    async def run() -> list[Endpoint]:
        async with name_server({PLAIN: ["0 0 5222 192.0.2.7.", "1 0 5222 a.example."]}) as (address, _):
            return await resolve(
                "example.org",
                direct_tls_too=True,
                timeout=5.0,
                random=lambda: 0.0,
                nameservers=[address],
                on_dropped=lambda target, why: dropped.append((target, why)),
            )

    assert texts(asyncio.run(run())) == ["a.example:5222 srv"]
    assert dropped == [("'192.0.2.7'", "is an address, not a name")]


def test_a_name_beyond_ascii_is_told_of_as_it_was_typed_too() -> None:
    (endpoint,) = find({}, "bücher.example").endpoints
    assert (endpoint.host, endpoint.typed) == ("xn--bcher-kva.example", "bücher.example")
    assert endpoint.at("192.0.2.7:5222") == "bücher.example (xn--bcher-kva.example, 192.0.2.7, port 5222)"
    failure = failure_of({"_xmpp-client._tcp.xn--bcher-kva.example": ["0 0 0 a.example."]}, "bücher.example")
    assert "that bücher.example (xn--bcher-kva.example) names in DNS" in str(failure)


def test_unusable_records_are_named_and_never_replaced_by_the_domain(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pcj.transport")
    failure = failure_of({PLAIN: ["0 0 5222 192.0.2.7.", "0 0 0 a.example.", "0 0 5222 \\027[31m.example."]})
    assert failure.retry is Retry.SLOW
    for part in (
        "'192.0.2.7' is an address, not a name",
        "'a.example' has port 0",
        r"'\x1b[31m.example' is not a host",
    ):
        assert part in str(failure)
        assert part in caplog.text


def test_a_silent_name_server_is_no_records() -> None:
    # RFC 6120 3.2.2: "If the initiating entity does not receive a response to its SRV query, it SHOULD attempt the
    # fallback process".
    assert texts(find({PLAIN: None, DIRECT: None}, timeout=0.05).endpoints) == ["example.org:5222 fallback"]


def test_threads_that_are_busy_do_not_lengthen_the_search() -> None:
    async def run() -> None:
        busy = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            loop = asyncio.get_running_loop()
            loop.set_default_executor(executor)
            try:
                loop.run_in_executor(None, busy.wait)
                async with asyncio.timeout(10):
                    endpoints = await resolve(
                        "example.org", direct_tls_too=True, timeout=0.05, random=lambda: 0.0, nameservers=[]
                    )
            finally:
                busy.set()
        # Nothing was asked, so nothing was answered: as for a silent name server.
        assert texts(endpoints) == ["example.org:5222 fallback"]

    asyncio.run(run())


def test_silence_about_one_service_does_not_hide_the_other() -> None:
    assert texts(find({PLAIN: None, DIRECT: ["0 0 443 a.example."]}, timeout=0.2).endpoints) == [
        "a.example:443 direct srv"
    ]


def test_silence_beside_a_refusal_is_told_of() -> None:
    failure = failure_of({PLAIN: None, DIRECT: ["0 0 0 ."]}, timeout=0.2)
    assert str(failure) == f"No answer from the name server within 0.2 s while looking up {PLAIN}."
    assert failure.retry is Retry.FAST


def test_a_failure_beside_a_refusal_is_told_of_as_what_it_is() -> None:
    failure = failure_of({PLAIN: "SERVFAIL", DIRECT: ["0 0 0 ."]})
    assert str(failure) == f"The name server could not answer what it was asked about {PLAIN}."
    assert failure.retry is Retry.FAST


def _other_id(reply: dns.message.Message) -> None:
    reply.id ^= 1


def _other_question(reply: dns.message.Message) -> None:
    reply.question[0].name = dns.name.from_text("_xmpp-client._tcp.example.com.")


@pytest.mark.parametrize("forge", [_other_id, _other_question])
def test_an_answer_to_what_was_not_asked_is_passed_over(forge: Callable[[dns.message.Message], None]) -> None:
    async def run() -> list[Endpoint]:
        async with name_server({PLAIN: ["0 0 5222 a.example."]}, forge=forge) as (address, _):
            return await resolve(
                "example.org", direct_tls_too=False, timeout=5, random=lambda: 0.0, nameservers=[address]
            )

    assert texts(asyncio.run(run())) == ["a.example:5222 srv"]


@pytest.mark.parametrize("domain", ["a..b", "x" * 64 + ".org", "exam\x1bple.org", "\u2028.org"])
def test_a_domain_that_dns_cannot_hold_is_refused(domain: str) -> None:
    failure = failure_of({}, domain)
    assert failure.retry is Retry.FATAL
    assert "Check the domain of the JID." in str(failure)
    assert str(failure).isprintable()


def test_a_domain_too_long_for_its_service_has_no_records() -> None:
    domain = ".".join(["x" * 60] * 4)
    assert texts(find({}, domain).endpoints) == [f"{domain}:5222 fallback"]


def test_a_cancelled_search_leaves_nothing_behind() -> None:
    async def run() -> None:
        async with name_server({PLAIN: None, DIRECT: None}) as (address, asked):
            search = asyncio.create_task(
                resolve("example.org", direct_tls_too=True, timeout=60, random=lambda: 0.0, nameservers=[address])
            )
            while len(asked) < 2:  # noqa: ASYNC110  the name server of a test has no event to wait for
                await asyncio.sleep(0)
            search.cancel()
            with pytest.raises(asyncio.CancelledError):
                await search
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_an_endpoint_reads_as_an_address() -> None:
    assert str(Endpoint("example.org", 5222)) == "example.org:5222"
    assert str(Endpoint("2001:db8::7", 5222)) == "[2001:db8::7]:5222"
    assert str(Endpoint("[::1]", 5222)) == "[::1]:5222"
    assert str(Endpoint("/run/xmpp.sock", 5347)) == "/run/xmpp.sock"
