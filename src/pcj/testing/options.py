"""What an embedded server is told: its options, and the site that it makes of them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pcj.errors import ConfigError, JidError
from pcj.jid import JID
from pcj.sasl import MECHANISMS
from pcj.testing.certificates import ServerContext

__all__ = ["ServerOptions", "SilentAt", "Site"]

SilentAt = Literal["accept", "header", "tls", "auth", "bind", "session"]

_MECHANISM_NAMES = frozenset(mechanism.name for mechanism in MECHANISMS)
_CHOICES: Mapping[str, tuple[str | None, ...]] = {
    "starttls": ("optional", "required", "none"),
    "session": (None, "optional", "required"),
    "resource_conflict": ("kick_old", "kick_new"),
    "component_conflict": ("kick_old", "kick_new"),
    "silent_at": (None, "accept", "header", "tls", "auth", "bind", "session"),
}
_MORE_THAN_0 = (
    "scram_iterations",
    "max_unacked",
    "max_received",
    "max_stanza_bytes",
    "max_outbound_bytes",
    "close_timeout",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How an embedded server behaves. Times are in seconds, sizes in bytes.

    Listeners (a port; 0: a free one; None: no such listener)
        client_port: XMPP and LEGACY clients. direct_tls_port: clients with TLS from the first byte (XEP-0368).
        component_port: XEP-0114. router_port: jabberd2's router protocol.

    TLS
        starttls: "optional", "required" (nothing else is offered before it) or "none"; of clients and of the router.
        certificate_names: the names in the certificate; None: the domain, localhost and 127.0.0.1.

    Authentication
        mechanisms: SASL mechanisms for clients, in the order in which they are listed; router_mechanisms: at the router
            (jabberd2's own knows DIGEST-MD5 alone). plain_without_tls: offer PLAIN outside TLS too.
            Those in -PLUS are offered inside TLS, EXTERNAL to whoever has shown a certificate there.
        binding_types: the channel bindings listed (XEP-0440) with -PLUS; "tls-server-end-point" is all there is. None:
            none are listed. downgrade_protection: SCRAM vouches for what was offered (XEP-0474).
        client_ca_file: the authorities of clients' certificates (PEM), for EXTERNAL: their XmppAddr says who they are.
        scram_iterations: of SCRAM. proof_in_success: send the server's proof within <success/>; otherwise in a last
            challenge before it.
        legacy: what jabber:iq:auth (XEP-0078) takes, of "digest" and "plain"; empty: it is not there.
        legacy_fields_as_result: answer a digest where none is taken as Prosody does, with the list of fields, in a
            stanza of type "result". legacy_features: send features also to a client whose header has no version.

    Clients
        session: <session/> (RFC 3921 3) in the features: "required": unmarked; "optional": marked so; None: absent.
        resource_conflict: at a second session of one resource: "kick_old" ends the older one with the stream error
            "conflict"; "kick_new" refuses the newcomer.
        bound_resource: bind this resource whatever was asked for (RFC 6120 7.7).
        bind_error, session_error: refuse with this stanza error ("not-allowed").

    Stream management (XEP-0198), of XMPP clients
        stream_management: offer it. enable_error: refuse <enable/> with this condition ("internal-server-error").
        resume_seconds: how long a session is kept for a client whose connection was lost, if that asked for it (and
            for no shorter time); 0: no session can be resumed. announced_resume_seconds: what the client is told
            instead of that, as whole seconds. resume_location: where it is told to come back ("host:port").
        resume_error: refuse every <resume/> with this condition. failed_handled: a refusal says how much of a session
            that is over was handled, where it is known. failed_nested: the condition is inside an <error/>, as Prosody
            has it, and not a child of <failed/>, as ejabberd has it.
        request_ack_every: ask a client with <r/> after so many stanzas; 0: never.
        answer_ack_requests: answer <r/>, and say at the end how much was handled. handled_offset: added to every `h`
            that we tell: a lie. (It is never below 0.)
        max_unacked: stanzas that a client has not acknowledged (and `max_outbound_bytes` of them); past it the stream
            ends with "policy-violation", and what is for a client that is away is bounced.

    Components
        component_conflict: "kick_new" refuses a second XEP-0114 connection of one domain with the stream error
            "conflict", "kick_old" ends the first.
        component_version: the version of our header to XEP-0114 components; None: none. With a version, components
            whose header has one too get features, and STARTTLS in them (as at jabberd2).
        router_news: after a bind, send what jabberd2 sends: who else is bound, as <presence/> of the component
            namespace, and the session manager's disco#info request.

    Faults
        silent_at: say nothing more from here on, on every connection; for tests of deadlines. "accept": not a byte.
            "header": nothing after our stream header. "tls": <proceed/>, but no handshake (nor with direct TLS).
            "auth": no answer to credentials. "bind", "session": none to these requests.

    Bounds
        announced_max_bytes, announced_idle_seconds: what clients and the router's components are told in the features
            (XEP-0478); None: nothing. What is kept is `max_stanza_bytes`.
        max_received: how many stanzas `Server.received` remembers. max_stanza_bytes: of one element from a peer.
        max_outbound_bytes: waiting for one peer; past it the stream ends with "policy-violation". (Before that, whoever
            sends to a slow reader is not read from.) close_timeout: for a peer to close when we do.

    Raises:
        ConfigError: an option has a value that it cannot have.
    """

    client_port: int | None = 0
    direct_tls_port: int | None = 0
    component_port: int | None = 0
    router_port: int | None = 0
    starttls: Literal["optional", "required", "none"] = "optional"
    certificate_names: tuple[str, ...] | None = None
    mechanisms: tuple[str, ...] = (
        "SCRAM-SHA-512-PLUS",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-512",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "PLAIN",
    )
    router_mechanisms: tuple[str, ...] = ("DIGEST-MD5",)
    plain_without_tls: bool = False
    binding_types: tuple[str, ...] | None = ("tls-server-end-point",)
    downgrade_protection: bool = True
    client_ca_file: str | None = None
    scram_iterations: int = 4096
    proof_in_success: bool = True
    legacy: tuple[str, ...] = ("digest", "plain")
    legacy_fields_as_result: bool = False
    legacy_features: bool = False
    session: Literal["optional", "required"] | None = "optional"
    resource_conflict: Literal["kick_old", "kick_new"] = "kick_old"
    bound_resource: str | None = None
    bind_error: str | None = None
    session_error: str | None = None
    stream_management: bool = True
    enable_error: str | None = None
    resume_seconds: float = 300.0
    announced_resume_seconds: int | None = None
    resume_location: str | None = None
    resume_error: str | None = None
    failed_handled: bool = True
    failed_nested: bool = False
    request_ack_every: int = 5
    answer_ack_requests: bool = True
    handled_offset: int = 0
    max_unacked: int = 10_000
    component_conflict: Literal["kick_old", "kick_new"] = "kick_new"
    component_version: str | None = None
    router_news: bool = True
    silent_at: SilentAt | None = None
    announced_max_bytes: int | None = None
    announced_idle_seconds: int | None = None
    max_received: int = 1000
    max_stanza_bytes: int = 1_048_576
    max_outbound_bytes: int = 16_777_216
    close_timeout: float = 1.0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is one of {allowed}, not {getattr(self, name)!r}")
        for name in ("mechanisms", "router_mechanisms"):
            unknown = set(getattr(self, name)) - _MECHANISM_NAMES
            if unknown:
                raise ConfigError(f"{name} may have {sorted(_MECHANISM_NAMES)}, not {sorted(unknown)}")
        if set(self.binding_types or ()) - {"tls-server-end-point"}:
            raise ConfigError(f"binding_types may have 'tls-server-end-point', not {self.binding_types!r}")
        if set(self.legacy) - {"digest", "plain"}:
            raise ConfigError(f"legacy may have 'digest' and 'plain', not {self.legacy!r}")
        for name in _MORE_THAN_0:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be more than 0, not {getattr(self, name)!r}")
        for name in ("resume_seconds", "request_ack_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more, not {getattr(self, name)!r}")

    @property
    def needs_certificate(self) -> bool:
        """Whether any listener of these offers TLS."""
        return self.starttls != "none" or self.direct_tls_port is not None


@dataclass(frozen=True, slots=True)
class Site:
    """Who is served: names in prepared form, passwords as they are, the server's certificate, and SCRAM's salt."""

    domain: str
    accounts: Mapping[str, str] = field(repr=False)
    components: Mapping[str, str] = field(repr=False)
    router_users: Mapping[str, str] = field(repr=False)
    options: ServerOptions
    tls: ServerContext | None
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)

    def password_of(self, name: str) -> str | None:
        """The password of the account that a login name means, or None."""
        local = self.local_part(name)
        return None if local is None else self.accounts.get(local)

    def local_part(self, name: str) -> str | None:
        """A login name as the local part of an address: "Romeo" and "romeo" are one account."""
        try:
            return JID(name, self.domain).local
        except JidError:
            return None
