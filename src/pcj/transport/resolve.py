"""A domain's servers by DNS: SRV records, RFC 6120 3.2.1, XEP-0368, RFC 2782."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pcj.errors import ConnectionFailed, Failure, Phase, Retry
from pcj.transport.names import MAX_NAME_OCTETS, ascii_name, both_names, ip_literal, shown

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

__all__ = ["Endpoint", "resolve"]

#: How many SRV records are considered, those of the best priority first.
MAX_RECORDS = 32
#: How long one name server may take before the next is asked, in seconds.
ATTEMPT_SECONDS = 2.0

_PLAIN, _DIRECT = "_xmpp-client._tcp", "_xmpps-client._tcp"
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
# What inet_aton takes for the last part of an address; no top-level domain is such (RFC 3696 2).
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")

_logger = logging.getLogger("pcj.transport")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect.

    Attributes:
        host: a name, an IP address, or the path of a Unix socket (it begins with "/").
        port: 1 to 65535; of no meaning for a Unix socket.
        direct_tls: TLS from the first byte (XEP-0368).
        source: "given" by the user, from an "srv" record, the domain itself as a "fallback", or of a "redirect".
        typed: the host as the user wrote it, where that is not ASCII. It is for the sentences, as are the others:
        unanswered: why it is not known whether the domain has SRV records. exists: DNS is known to have the name.
        sent_by: where the server is that sent us on to it.
    """

    host: str
    port: int
    direct_tls: bool = False
    source: str = "given"
    typed: str = field(default="", compare=False)
    unanswered: str = field(default="", compare=False)
    exists: bool = field(default=False, compare=False)
    sent_by: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host and self.host[0] != "[" else f"{self.host}:{self.port}"

    def at(self, address: str) -> str:
        """This and an address of it: "xmpp.example.org (192.0.2.7, port 5222)"; the address alone where it is that."""
        if self.host.startswith("/") or ip_literal(self.host) is not None:
            return address
        ip, _, port = address.rpartition(":")
        ascii_too = f"{self.host}, " if self.typed else ""
        return f"{self.typed or self.host} ({ascii_too}{ip.strip('[]')}, port {port})"

    def told(self, message: str) -> str:
        """A sentence about it, with who sent us there: the user has never seen such an address."""
        if not self.sent_by:
            return message
        stop = "." if message.endswith(".") else ""
        return f"{message.removesuffix('.')} (the server at {self.sent_by} sent us on there){stop}"


@dataclass(frozen=True, slots=True)
class _Record:
    priority: int
    weight: int
    port: int
    target: str
    direct_tls: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of one query.

    Attributes:
        records: that can be used. dropped: the targets of others, and why. refused: "." was said.
        unanswered: why there was no answer, or "". exists: the answer shows that DNS has the domain.
    """

    name: str
    records: tuple[_Record, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    refused: bool = False
    unanswered: str = ""
    exists: bool = False

    @property
    def service(self) -> str:
        """What was asked for: "_xmpp-client"."""
        return self.name.partition(".")[0]


async def resolve(
    domain: str,
    *,
    direct_tls_too: bool,
    timeout: float,
    random: Callable[[], float],
    nameservers: Sequence[tuple[str, int]] | None = None,
    default_port: int = 5222,
    on_dropped: Callable[[str, str], None] | None = None,
) -> list[Endpoint]:
    """Find where the clients of a domain connect to, in the order in which to try.

    An IP address, "localhost" and what is under it (RFC 6761 6.3) need no query.

    Args:
        domain: the domain of the JID, as U-labels or A-labels.
        direct_tls_too: ask for _xmpps-client records as well, and mix both as one set (XEP-0368 2).
        timeout: for all of it, in seconds. random: numbers in [0, 1), for the choice by weight.
        nameservers: (IP address, port) of those to ask, in place of the system's.
        default_port: for the domain itself, where it has no SRV records.
        on_dropped: called with the target of each SRV record that cannot be used, and why, where others can be.

    Returns:
        At least one endpoint.

    Raises:
        ConnectionFailed: in Phase.RESOLVE: no name of DNS, the service is not offered, or every record is unusable.
    """
    if (address := ip_literal(domain)) is not None:
        return [Endpoint(str(address), default_port, source="fallback")]
    try:
        name = ascii_name(domain)
    except ValueError as error:
        raise _failed(f"{error}: no server can be found for it. Check the domain of the JID.", Retry.FATAL) from None
    if name == "localhost" or name.endswith(".localhost"):
        return [Endpoint("localhost", default_port, source="fallback")]

    services = (_PLAIN, _DIRECT) if direct_tls_too else (_PLAIN,)
    answers = await _ask_all(services, name, timeout, nameservers)
    records = [record for answer in answers for record in answer.records]
    dropped = [pair for answer in answers for pair in answer.dropped][:MAX_RECORDS]
    if dropped:
        _logger.warning("SRV records of %s are not used: %s", name, _listed(dropped))
    if records:
        for target, why in dropped:
            if on_dropped is not None:
                on_dropped(target, why)
        records = sorted(records, key=lambda record: record.priority)[:MAX_RECORDS]
        chosen = (Endpoint(r.target, r.port, r.direct_tls, "srv") for r in _in_order(records, random))
        return list(dict.fromkeys(chosen))
    typed = "" if domain.isascii() else shown(domain)[1:-1]
    unanswered = next((answer.unanswered for answer in answers if answer.unanswered), "")
    if any(answer.refused for answer in answers):
        # XEP-0368 2: "." for one of the two leaves the other, and never the domain itself.
        if unanswered:
            raise _failed(unanswered, Retry.FAST, came="no answer")
        raise _failed(_refusal(both_names(typed, name), answers), Retry.SLOW, came="SRV target '.'")
    if dropped:
        # RFC 6120 3.2.1, 8: records were received, so the domain itself is not tried.
        message = (
            f"None of the servers that {both_names(typed, name)} names in DNS can be used: {_listed(dropped[:5])}."
        )
        raise _failed(message, Retry.SLOW, came=_listed(dropped[:5]))
    # RFC 6120 3.2.2: no records, or no answer to the query.
    exists = any(answer.exists for answer in answers)
    return [Endpoint(name, default_port, source="fallback", typed=typed, unanswered=unanswered, exists=exists)]


def _listed(dropped: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{target} {why}" for target, why in dropped)


def _refusal(domain: str, answers: Sequence[_Answer]) -> str:
    """The sentence for a domain that says "." for one service or both, and has nothing usable for the other."""
    services = " and ".join(answer.service for answer in answers if answer.refused)
    others = [answer for answer in answers if not answer.refused]
    what = "TLS from the first byte" if services == _DIRECT.partition(".")[0] else "XMPP"
    said = f"{domain} says in DNS that it offers no {what} to clients (SRV target '.'"
    if not others:
        return f"{said})."
    rest = "; ".join(
        f"the server it names for {answer.service} cannot be used: {_listed(answer.dropped[:5])}"
        if answer.dropped
        else f"it has no record for {answer.service}"
        for answer in others
    )
    return f"{said} for {services}), and {rest}."


def _in_order(records: Sequence[_Record], random: Callable[[], float]) -> Iterable[_Record]:
    """RFC 2782: by priority; within one, each next is drawn with a chance in proportion to its weight."""
    for priority in sorted({record.priority for record in records}):
        left = [record for record in records if record.priority == priority]
        # "Arrange all SRV RRs in any order, except that all those with weight 0 are placed at the beginning". A chance
        # order of those, lest the first of several weights of 0 get everything.
        left = [record for _, record in sorted(((random(), r) for r in left), key=lambda pair: pair[0])]
        left.sort(key=lambda record: record.weight != 0)
        while left:
            # "a uniform random number between 0 and the sum computed (inclusive)"
            number = int(random() * (sum(record.weight for record in left) + 1))
            running = 0
            for index, record in enumerate(left):
                running += record.weight
                if running >= number:
                    yield left.pop(index)
                    break


def _make_resolver(nameservers: Sequence[tuple[str, int]] | None, timeout: float) -> Resolver | None:
    """dnspython's resolver; None where this machine names no name server."""
    import dns.asyncresolver
    import dns.nameserver

    try:
        resolver = dns.asyncresolver.Resolver(configure=nameservers is None)
    except dns.resolver.NoResolverConfiguration:
        return None
    if nameservers is not None:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in nameservers]
    resolver.timeout = min(ATTEMPT_SECONDS, timeout)
    resolver.lifetime = timeout
    return resolver


async def _ask_all(
    services: Iterable[str], name: str, timeout: float, nameservers: Sequence[tuple[str, int]] | None
) -> list[_Answer]:
    """Query the records of each service; what has not come within `timeout` was not answered."""
    silence = "No answer from the name server within {:g} s while looking up {}."
    answers = {
        service: _Answer(query, unanswered=silence.format(timeout, query))
        for service in services
        for query in [f"{service}.{name}"]
    }

    async def ask(resolver: Resolver, service: str) -> None:
        answers[service] = await _ask(resolver, service, answers[service])

    try:
        async with asyncio.timeout(timeout):
            # The import takes over 100 ms, once: not on the loop. Threads may be busy, so this too has to end.
            resolver = await asyncio.to_thread(_make_resolver, nameservers, timeout)
            if resolver is None:
                nobody = "This machine names no name server that could be asked about {}."
                return [_Answer(answer.name, unanswered=nobody.format(answer.name)) for answer in answers.values()]
            async with asyncio.TaskGroup() as group:
                for service in services:
                    group.create_task(ask(resolver, service))
    except TimeoutError:
        pass  # silence is no records (RFC 6120 3.2.2)
    return list(answers.values())


async def _ask(resolver: Resolver, service: str, silence: _Answer) -> _Answer:
    """Query one service's records. Never raises about what came: that is in the answer; `silence`, if nothing did."""
    import dns.asyncbackend
    import dns.exception
    import dns.name
    import dns.resolver

    query = silence.name
    backend = dns.asyncbackend.get_backend("asyncio")
    try:
        found = await resolver.resolve(dns.name.from_text(query + "."), "SRV", search=False, backend=backend)
    except dns.resolver.NXDOMAIN as error:
        # RFC 2308 2.1: it comes with the SOA record of the zone that lacks the name. A zone at the domain, or in it,
        # shows that only the service is missing: so it is with a domain that takes nothing but mail.
        domain = dns.name.from_text(query.partition(service + ".")[2])
        replies = error.responses().values()  # type: ignore[no-untyped-call]  # dnspython has no annotation here
        authority = [rrset.name for reply in replies for rrset in reply.authority]
        return _Answer(query, exists=any(owner.is_subdomain(domain) for owner in authority))
    except dns.resolver.NoAnswer:
        return _Answer(query, exists=True)  # "_xmpp-client._tcp" is there, with other records: so is the domain
    except dns.name.NameTooLong:
        return _Answer(query)
    except dns.resolver.LifetimeTimeout:
        return silence
    except (dns.exception.DNSException, OSError):
        # SERVFAIL, REFUSED or nonsense, from all name servers.
        return _Answer(query, unanswered=f"The name server could not answer what it was asked about {query}.")
    records: list[_Record] = []
    dropped: list[tuple[str, str]] = []
    refused = False
    for entry in found:
        if entry.target == dns.name.root:
            refused = True  # RFC 2782: "the service is decidedly not available at this domain"
            continue
        target = b".".join(entry.target.labels).decode("latin-1").removesuffix(".")
        if (why := _unusable(target, entry.port)) is None:
            records.append(_Record(entry.priority, entry.weight, entry.port, target.lower(), service == _DIRECT))
        elif len(dropped) < MAX_RECORDS:
            dropped.append((shown(target), why))
    return _Answer(query, tuple(records), tuple(dropped), refused, exists=True)


def _unusable(target: str, port: int) -> str | None:
    """Why an SRV record cannot be used, or None."""
    labels = target.split(".")
    if port == 0:
        return "has port 0"
    if len(target) > MAX_NAME_OCTETS:
        return "is too long"
    if ip_literal(target) is not None or _NUMBER.fullmatch(labels[-1]):
        return "is an address, not a name"  # RFC 2782: "the domain name of the target host"
    if not all(map(_LABEL.fullmatch, labels)):
        return "is not a host name"
    return None


def _failed(message: str, retry: Retry, came: str = "") -> ConnectionFailed:
    return ConnectionFailed(
        Failure(phase=Phase.RESOLVE, message=message, expected="SRV records" if came else "", came=came, retry=retry)
    )
