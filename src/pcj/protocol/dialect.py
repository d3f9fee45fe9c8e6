"""A connection type is a value; new ones can be registered from outside the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pcj.config import Config
from pcj.errors import ConfigError
from pcj.protocol.steps import Negotiation, Program

__all__ = ["Dialect", "dialect_of", "register_dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One connection type.

    Attributes:
        name: what `Config.connection_type` says. negotiate: from the TCP connection to a `Session`, as a generator of
            steps.
        xmlns: the content namespace of its streams. component: whether the account is a domain whose stanzas bear their
            own `from` (XEP-0114 3). tls_on_loopback: whether TLS is required also where the link stays on this machine.
        default_port: where to connect without SRV records. canonical: read stanzas of `xmlns` as `jabber:client`.
        check: raises ConfigError if the options cannot work, before anything is connected.
    """

    name: str
    negotiate: Callable[[Negotiation], Program]
    xmlns: str
    component: bool = False
    tls_on_loopback: bool = True
    default_port: int = 5222
    canonical: bool = True
    check: Callable[[Config], None] | None = None

    def tls_required(self, config: Config, *, loopback: bool) -> bool:
        """Whether the link may not go on without TLS (design: required unless said otherwise; A33).

        Args:
            config: the options. loopback: whether the link stays on this machine, as the user (not DNS) wanted it.
        """
        if config.require_tls is not None:
            return config.require_tls
        return self.tls_on_loopback or not loopback or bool(config.pins)

    def tls_name(self, config: Config, host: str) -> str:
        """The name the certificate must bear: what the user set out to reach (RFC 6120 13.7.2), never what DNS said.

        Args:
            config: the options. host: where we connect to, for a component that was given no other.
        """
        if config.tls_name is not None:
            return config.tls_name
        if not self.component:
            return config.account.domain
        host = config.host if config.host is not None else host
        return "localhost" if host.startswith("/") else host


_registry: dict[str, Dialect] = {}


def register_dialect(dialect: Dialect) -> None:
    """Make a connection type known by its name.

    Raises:
        ConfigError: another dialect has that name.
    """
    if _registry.get(dialect.name, dialect) != dialect:
        raise ConfigError(f"a dialect named {dialect.name!r} is registered already")
    _registry[dialect.name] = dialect


def dialect_of(name: str) -> Dialect:
    """The dialect of a connection type.

    Raises:
        ConfigError: there is none of that name.
    """
    try:
        return _registry[name]
    except KeyError:
        raise ConfigError(f"{name!r} is no connection type; there are {', '.join(sorted(_registry))}") from None
