"""Where a link connects to: what was given, else what DNS says (RFC 6120 3.2)."""

from __future__ import annotations

import random

from pcj.config import Config
from pcj.protocol import Dialect
from pcj.transport.resolve import Endpoint, resolve

__all__ = ["find_endpoints", "given_endpoint"]


def given_endpoint(config: Config, dialect: Dialect, host: str | None, port: int | None) -> Endpoint | None:
    """The endpoint the user named, in the call or in `Config`; components have localhost by default; else None."""
    host = host if host is not None else config.host
    port = port if port is not None else config.port
    if host is None and dialect.component:
        host = "localhost"
    if host is None and port is None:
        return None
    host = host if host is not None else config.account.ascii_domain
    return Endpoint(host, port or dialect.default_port, config.direct_tls, "given")


async def find_endpoints(config: Config, dialect: Dialect) -> list[Endpoint]:
    """The endpoints of the account's domain, best first.

    Raises:
        ConnectionFailed: there are none, or the name server does not answer within `Config.resolve_timeout`.
    """
    return await resolve(
        config.account.ascii_domain,
        direct_tls_too=True,
        timeout=config.resolve_timeout,
        random=random.random,
        default_port=dialect.default_port,
    )
