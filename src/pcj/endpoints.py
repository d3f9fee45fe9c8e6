"""Where a link connects to: what was given, else what DNS says (RFC 6120 3.2)."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from pcj.config import Config, check_host_port
from pcj.errors import ConnectionFailed, Failure, Phase, Retry
from pcj.protocol import Dialect
from pcj.transport.resolve import Endpoint, resolve

__all__ = ["find_endpoints", "given_endpoint", "usual_port"]

#: Where servers usually take TLS from the first byte.
DIRECT_TLS_PORT = 5223


def given_endpoint(config: Config, dialect: Dialect, host: str | None, port: int | None) -> Endpoint | None:
    """The endpoint the user named, in the call or in `Config`; components have localhost by default; else None.

    Raises:
        ConfigError: the host or the port of the call is none.
    """
    check_host_port(host, port)
    host = host if host is not None else config.host
    port = port if port is not None else config.port
    if host is None and dialect.component:
        host = "localhost"
    if host is None and port is None:
        return None
    typed = "" if host is not None or config.account.domain.isascii() else config.account.domain
    host = host if host is not None else config.account.ascii_domain
    port = port if port is not None else usual_port(config, dialect)
    return Endpoint(host, port, config.direct_tls, "given", typed=typed)


def usual_port(config: Config, dialect: Dialect) -> int:
    """The port of a host that was named without one."""
    return DIRECT_TLS_PORT if config.direct_tls and not dialect.component else dialect.default_port


async def find_endpoints(
    config: Config,
    dialect: Dialect,
    domain: str | None = None,
    *,
    on_dropped: Callable[[str, str], None] | None = None,
) -> list[Endpoint]:
    """The endpoints of a domain, best first; with `direct_tls` only those (XEP-0368).

    Args:
        config, dialect: of the link. domain: by default the account's.
        on_dropped: called with the target of each SRV record that cannot be used, and why.

    Raises:
        ConnectionFailed: there are none, or the name server does not answer within `Config.resolve_timeout`.
    """
    if domain is None:
        domain = config.account.domain if not config.account.domain.isascii() else config.account.ascii_domain
    endpoints = await resolve(
        domain,
        direct_tls_too=True,
        timeout=config.resolve_timeout,
        random=random.random,
        default_port=dialect.default_port,
        on_dropped=on_dropped,
    )
    if not config.direct_tls:
        return endpoints
    direct = [endpoint for endpoint in endpoints if endpoint.direct_tls]
    if not direct and endpoints and endpoints[0].source == "srv":
        raise ConnectionFailed(
            Failure(
                Phase.RESOLVE,
                f"{domain} names no server for TLS from the first byte in DNS (_xmpps-client), and "
                "direct_tls=True asks for one; without it STARTTLS is used",
                expected="_xmpps-client records",
                came="none",
                retry=Retry.SLOW,
            )
        )
    return direct or [dataclasses.replace(endpoints[0], port=DIRECT_TLS_PORT, direct_tls=True)]
