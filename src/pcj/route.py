"""Where one link is to be connected: what was given or what DNS says, and where a server sends us on to."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass

from pcj.config import Config
from pcj.endpoints import find_endpoints, given_endpoint, usual_port
from pcj.errors import ConnectionFailed, Failure, Phase, Retry
from pcj.protocol import Dialect
from pcj.transport.names import ascii_name, ip_literal, shown
from pcj.transport.resolve import Endpoint

__all__ = ["Candidate", "Elsewhere", "Route", "target_of"]

# RFC 6120 4.9.3.19: a domain or an address, an IPv6 one in brackets, and perhaps a port.
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
# What a host's name is made of (RFC 1123 2.1), and underscores, which occur; a peer's text is nothing else to us.
_NAME = re.compile(r"[a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint, and the rules by which it is to be connected to.

    Attributes:
        endpoint: where. config: the options, as they hold there. tls_name: the name its certificate must bear.
    """

    endpoint: Endpoint
    config: Config
    tls_name: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where a server sends us on to, and by what rules: those of the connection on which it said so.

    RFC 6120 4.9.3.19: the same policies, the same `to`, the same reference identity. TLS is required there if it stood
    here, or was required.

    Attributes:
        host, port: where; without a port DNS is asked, as for a domain. config, tls_name: as of a `Candidate`.
        sent_by: where the server is that says so, for the sentences.
    """

    host: str
    port: int | None
    config: Config
    tls_name: str
    sent_by: str = ""

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


class Route:
    """The endpoints of one round: what one CONNECT tries, or one retry, each of them once.

    Args:
        config, dialect: of the link. host, port: what the call gave. first: where a server sent us before this round.

    Attributes:
        tried: (address, what came of it) of all that was tried in vain so far, and of what DNS names that cannot be
            tried at all. unusable: the latter, in words.
    """

    def __init__(
        self, config: Config, dialect: Dialect, host: str | None, port: int | None, first: Elsewhere | None = None
    ) -> None:
        self._config = config
        self._dialect = dialect
        self._host = host
        self._port = port
        self._candidates: list[Candidate] | None = None
        self._next = first
        self._taken: Candidate | None = None
        self._hops: list[str] = []
        self.tried: list[tuple[str, str]] = []
        self.unusable: list[str] = []

    @property
    def more(self) -> bool:
        """Whether something is left to try."""
        return bool(self._candidates) or self._next is not None

    @property
    def target(self) -> dict[str, object]:
        """What is known of where the next attempt goes, for its CONNECTING."""
        if self._next is not None:
            return target_of(self._next.host, self._next.port)
        if self._candidates:
            return target_of(self._candidates[0].endpoint.host, self._candidates[0].endpoint.port)
        given = given_endpoint(self._config, self._dialect, self._host, self._port)
        return {} if given is None else target_of(given.host, given.port)

    async def find(self) -> list[Endpoint]:
        """Look up what is not known yet; returns what DNS said, best first.

        Raises:
            ConnectionFailed: there is no endpoint, or the name server does not answer.
        """
        config, dialect = self._config, self._dialect
        found: list[Endpoint] = []
        if self._candidates is None:
            ends: list[Endpoint] = []
            given = given_endpoint(config, dialect, self._host, self._port)
            if given is not None:
                ends = [given]
            else:
                try:
                    ends = found = await find_endpoints(config, dialect, on_dropped=self._dropped)
                except ConnectionFailed:
                    if self._next is None:
                        raise
            self._candidates = [self._candidate(end, config, dialect.tls_name(config, end.host)) for end in ends]
        if self._next is not None:
            there, self._next = self._next, None
            try:
                ends, looked_up = await self._ends_of(there)
            except ConnectionFailed as error:
                if not self._candidates:
                    message = Endpoint(there.host, 0, sent_by=there.sent_by).told(str(error))
                    raise ConnectionFailed(dataclasses.replace(error.failure, message=message)) from error
                self.tried.append((str(there), str(error)))
                return found
            found = ends + found if looked_up else found
            ends = [dataclasses.replace(end, sent_by=there.sent_by) for end in ends]
            self._candidates[:0] = [self._candidate(end, there.config, there.tls_name) for end in ends]
        return found

    async def _ends_of(self, there: Elsewhere) -> tuple[list[Endpoint], bool]:
        """The endpoints of where the server sends us on to, and whether DNS said them."""
        config, dialect = self._config, self._dialect
        if there.port is not None or ip_literal(there.host) is not None or dialect.component:
            port = there.port if there.port is not None else usual_port(there.config, dialect)
            return [Endpoint(there.host, port, there.config.direct_tls, "redirect")], False
        # Whether TLS comes first is DNS's to say there, unless the user said it.
        asked = dataclasses.replace(there.config, direct_tls=config.direct_tls)
        ends = await find_endpoints(asked, dialect, there.host, on_dropped=self._dropped)
        return [dataclasses.replace(end, source="redirect") for end in ends], True

    @property
    def redirected(self) -> bool:
        """Whether the one taken last is where a server sent us: what is wrong with it is no mistake in the options."""
        return self._taken is not None and self._taken.endpoint.source == "redirect"

    def take(self) -> Candidate | None:
        """The next to try; None if there is none."""
        if not self._candidates:
            return None
        self._taken = self._candidates.pop(0)
        return self._taken

    @property
    def endpoint(self) -> Endpoint | None:
        """What was taken last."""
        return self._taken.endpoint if self._taken is not None else None

    def attempted(self, address: str, error: BaseException | None) -> str:
        """One address was tried; returns what came of it, in words."""
        if error is None:
            return "connected"
        if isinstance(error, OSError) and error.errno is not None:
            outcome = os.strerror(error.errno).lower()  # asyncio's own words name the call, not the cause
        else:
            outcome = str(error) or type(error).__name__
        self.tried.append((address, outcome))
        return outcome

    def arrived(self) -> None:
        """A session was made: to be sent on from there begins anew."""
        self._hops.clear()

    def elsewhere(self, text: str, *, guarded: bool, sent_by: str = "") -> Elsewhere:
        """Where the server we were connected to sends us on to (<see-other-host/>).

        Args:
            text: what it says. guarded: whether TLS stood there, or would have had to. sent_by: where that server is.

        Raises:
            ConnectionFailed: that is no place to go to, or `Config.max_redirects` are used up.
        """
        there = self.place(text, guarded=guarded, sent_by=sent_by)
        if there is None:
            message = f"the server sends us on to {shown(text)}, which is neither a host nor an address"
        elif len(self._hops) >= self._config.max_redirects:
            hops = [*self._hops, str(there)]
            times, way = "once" if len(hops) == 1 else f"{len(hops)} times", " -> ".join(hops)
            message = f"the server sent us on {times} ({way}), which is more than max_redirects allows; giving up"
        else:
            return there
        raise ConnectionFailed(Failure(Phase.STREAM, f"{message} (see-other-host)", retry=Retry.SLOW))

    def go(self, there: Elsewhere) -> int:
        """Try `there` before all others; returns how often in a row we were sent on."""
        self._hops.append(str(there))
        self._next = there
        return len(self._hops)

    def place(self, text: str, *, guarded: bool, sent_by: str) -> Elsewhere | None:
        """A place that a server names, "host" or "host:port", with the same reference identity; None if it is none."""
        match = _HOST_PORT.fullmatch(text)
        if match is None or (self._taken is None and self._dialect.component):
            return None
        host, port = match["host"], int(match["port"]) if match["port"] else None
        if port is not None and not 1 <= port <= 65535:
            return None
        if ip_literal(host) is None:
            try:
                host = ascii_name(host)
            except ValueError:
                return None
            if _NAME.fullmatch(host) is None:
                return None
        taken = self._taken
        config = taken.config if taken is not None else self._config
        if guarded and not config.require_tls:
            config = dataclasses.replace(config, require_tls=True)
        # A client's reference identity is its domain, or an option: where it connects to does not matter.
        tls_name = taken.tls_name if taken is not None else self._dialect.tls_name(config, host)
        return Elsewhere(host, port, config, tls_name, sent_by)

    def _dropped(self, target: str, why: str) -> None:
        """DNS names a server that cannot be tried."""
        self.tried.append((target, why))
        self.unusable.append(f"{target} {why}")

    def _candidate(self, endpoint: Endpoint, config: Config, tls_name: str) -> Candidate:
        if endpoint.direct_tls != config.direct_tls:
            config = dataclasses.replace(config, direct_tls=endpoint.direct_tls)
        return Candidate(endpoint, config, tls_name)


def target_of(host: str | None, port: int | None) -> dict[str, object]:
    """What is known of where to connect to, for the detail of an event."""
    return {name: value for name, value in (("host", host), ("port", port)) if value is not None}
