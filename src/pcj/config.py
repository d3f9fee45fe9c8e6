"""Every option of a broker: one frozen record, checked when it is made."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pcj.errors import ConfigError
from pcj.jid import JID

__all__ = [
    "JABBERD14_COMPONENT",
    "JABBERD20_COMPONENT",
    "LEGACY",
    "XMPP",
    "Config",
    "PasswordSource",
    "check_host_port",
]

PasswordSource: TypeAlias = Callable[[], "str | Awaitable[str]"]
"""Supplies the password when it is needed: a function, called in a thread, or a coroutine function."""

XMPP: Final = "XMPP"
LEGACY: Final = "LEGACY"
JABBERD14_COMPONENT: Final = "JABBERD14_COMPONENT"
JABBERD20_COMPONENT: Final = "JABBERD20_COMPONENT"

_CHOICES: Final = {
    "on_ready": ("hold", "send"),
    "unhandled_iq": ("error", "ignore"),
    "session": ("auto", "always"),
    "bind_option": ("log", "default"),
    "channel_binding": ("prefer", "require", "off"),
    "tls_engine": ("ssl", "openssl"),
    "on_doubt": ("hold", "resend", "drop"),
    "acks": ("auto", "off"),
    "ack_on": ("handled", "received"),
}
#: May be left out, but not empty.
_NOT_EMPTY: Final = (
    *("username", "alias", "version", "xmlns", "stream", "bind_domain"),
    *("tls_name", "ca_file", "client_certificate", "sasl_mechanisms"),
)
_MAY_BE_ZERO: Final = ("max_redirects",)
_ORDERED: Final = (
    ("min_scram_iterations", "max_scram_iterations"),
    ("reconnect_delay", "reconnect_delay_max"),
)
#: By annotation: what an option may be, and the words for it.
_TYPES: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "str": ((str,), "a str"),
    "bool": ((bool,), "True or False"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "tuple[str, ...]": ((tuple,), "a tuple of str"),
}
_SOURCE: Final = "str | PasswordSource"
#: By the name of the digest, how a pin begins.
_PINS: Final = ("sha256", "cert-sha256")


def check_host_port(host: str | None, port: int | None) -> None:
    """Hold where to connect to, in `Config` or in a call, against what it may be; None is always allowed.

    Args:
        host: a name, an IP address, or the path of a Unix socket (it begins with "/"). port: 1 to 65535.

    Raises:
        ConfigError: it cannot be connected to.
    """
    _check_type("host", host, "str | None")
    _check_type("port", port, "int | None")
    if port is not None and not 1 <= port <= 65535:
        raise ConfigError(f"port must be between 1 and 65535, not {port}")
    if host is not None:
        blanks = " " if host.startswith("/") else ""  # a path may hold them
        if not host or any((c.isspace() and c not in blanks) or c < " " for c in host):
            raise ConfigError(f"host must be a name or an address, not {host!r}")


def _check_type(name: str, value: object, annotation: str) -> None:
    """Hold a value against its annotation. It is not shown: one is the password."""
    if annotation.startswith(_SOURCE) and callable(value):
        return
    annotation = annotation.replace(_SOURCE, "str")
    if value is None and annotation.endswith(" | None"):
        return
    types, what = _TYPES[annotation.removesuffix(" | None")]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ConfigError(f"{name} must be {what}, not {type(value).__name__}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every option of a broker. Times are in seconds, sizes in bytes.

    Who and where
        connection_type: XMPP, LEGACY, JABBERD14_COMPONENT, JABBERD20_COMPONENT, or the name of a registered dialect.
        jid: the account, or the component's domain; with ANONYMOUS or EXTERNAL a domain will do.
        password: never shown again. A callable supplies it each time it is needed, within `authenticate_timeout`: a
            function (it is called in a thread) or a coroutine function. None: only EXTERNAL and ANONYMOUS can be used.
        host, port: where to connect. Without host: SRV records (client types) or localhost:5347 (components).
        resource: the resource to ask for; by default the one in `jid`, else the server's choice (RFC 6120 7.6).
        username: where it is not the local part of `jid` (the login at jabberd2's router).
        alias: a name for logs, by default the JID.

    The stream (PCJ's options; the defaults follow from the connection type)
        version, xmlns, stream: the version, content namespace and stream namespace of our header.
        plaintext: LEGACY sends the password itself, not a digest.
        bind_domain, bind_option: JABBERD20_COMPONENT: the domain to bind (by default `jid`), and "log" or "default".
        session: "auto" establishes a session (RFC 3921) only where the server requires it; "always" where it offers it.
        debug: log every event at level DEBUG on the logger "pcj".

    TLS
        require_tls: by default True for XMPP and JABBERD20_COMPONENT; for LEGACY and JABBERD14_COMPONENT True unless
            the link stays on loopback or a Unix socket, and the user named it: not where DNS or a redirect did.
        direct_tls: TLS from the first byte (XEP-0368). Without port: 5223 for clients; without host: only the
            `_xmpps-client` records.
        verify_tls: check the certificate.
        tls_name: the name it must bear; by default the JID's domain (clients), `host` (components).
        ca_file: PEM file of the authorities to trust, in place of the system's. client_certificate: PEM file with our
            certificate and key. pins: "sha256:<hex>" of the public keys (SubjectPublicKeyInfo) that are accepted, or
            "cert-sha256:<hex>" of whole certificates; one that fits is enough. With pins TLS is required.
        tls_engine: "ssl" (the standard library) or "openssl" (pyOpenSSL, with pcj[binding], which adds the channel
            binding tls-exporter and certificates with SRV-ID); None: the second, where it is installed.

    Authentication
        allow_plain: send the password itself, or what it can be guessed from (DIGEST-MD5), also outside TLS.
        sasl_mechanisms: only these, best first; None: all that pcj knows but ANONYMOUS.
        channel_binding: "prefer" binds the authentication to the TLS session where both sides can; "require" fails
            where they cannot; "off" does without.
        min_scram_iterations, max_scram_iterations: what the server may ask for.

    Behaviour
        auto_reconnect: connect again after a failure that can pass. reconnect_delay, reconnect_delay_max: the first and
            the longest delay; each is drawn at random between 0 and the current bound. reconnect_reset: how long READY
            must have lasted before the delay starts small again.
        on_ready: "hold" (queued nodes wait for `purge_queue`) or "send". on_doubt: what happens with a node that was
            written when its session ended without a proof that the server has it: "hold" (back to the queue, for
            `purge_queue`), "resend" (sent again at READY, with the same id) or "drop" (named and forgotten); None:
            "resend" where `on_ready` is "send", else "hold". queue: "memory", or the path of a durable queue.
        acks: "auto" has every node proved, by stream management (XEP-0198) where the server has it, else by barriers
            (a ping whose answer shows that all before it was read); "off" does without.
        stream_management: use XEP-0198 where the server has it. resume_seconds: how long a lost session is to wait for
            us (with `auto_reconnect` or a durable queue); the server may say less. ack_on: a stanza of the peer's is
            handled once every handler has returned ("handled") or at once ("received"). ack_every_nodes,
            ack_every_seconds: how many nodes may go out, and how much time may pass, before a proof is asked for.
        answer_ping: answer XEP-0199 pings. unhandled_iq: "error" answers an IQ get or set that nobody handles
            (RFC 6120 8.2.3), "ignore" does not. A subscriber of PCJ_NODERECEIVED by name counts as one who answers
            every one of them; of "*", or `wait_for`, does not.
        check_output: refuse at `output` what would end the link.

    Deadlines
        resolve_timeout, connect_timeout (per host, all its addresses), tls_timeout, stream_timeout,
        authenticate_timeout, bind_timeout, session_timeout: of each phase. close_timeout: for the peer to close after
        we did. request_timeout: the default of `return_to_sender`.
        silence_timeout: how long nothing may come from the peer before it is asked whether it lives (and how long we
            may be silent; where the server says less, XEP-0478, that counts). probe_timeout: how long the answer to
            that, or a proof that was asked for, may take.

    Bounds
        max_stanza_bytes, max_depth, max_elements: of one top-level element from the peer. max_attributes: of each of
        its elements. stanza_timeout: how long one may take from its first byte to its last. max_names: different names
        of elements and attributes, after which the stream's parser is made anew. max_outbound_bytes: of one
        of ours; the default is what common servers take from a client (they end the link for more); where a server
        says less (XEP-0478), that counts.
        queue_max_nodes, queue_max_bytes, queue_max_age: of the outbound queue. max_pending_requests: unanswered
        requests. max_redirects: how often in a row the server may send us on to another host; 0: never.
        max_unacked_nodes, max_unacked_bytes: of nodes that are written and not proved; past either the next wait.
        max_doubts: how often the server may end the stream in error while a node is unproved, before that node is given
            up as the cause. high_water_nodes: nodes that wait to be sent, from which on `drain` waits.
        inbound_backlog: statuses waiting for all coroutine handlers together, and for each iterator; each may hold a
        stanza of `max_stanza_bytes`, so that whoever serves strangers slowly should make one of them small.
        inbound_max_bytes: of the stanzas that wait for coroutine handlers; past it a read is let through for those who
        wait for a proof, a reply or `drain`, and once a second; from twice as many bytes on none, so that never more
        wait than that and what one read completes. If then no handler takes up another status for `probe_timeout`,
        those who wait are told that it is in vain for now (TimeoutError): a handler among them would wait for ever.
        max_auto_replies: answers of pcj's own (to pings, and to requests that nobody handles) that may wait because the
            network takes no more; past it requests stay unanswered.
        write_high_water: bytes handed to the transport and not yet taken by the network, past which nodes stay queued.
    """

    connection_type: str
    jid: str
    password: str | PasswordSource | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    resource: str | None = None
    username: str | None = None
    alias: str | None = None

    version: str | None = None
    xmlns: str | None = None
    stream: str | None = None
    plaintext: bool = False
    bind_domain: str | None = None
    bind_option: str | None = None
    session: str = "auto"
    debug: bool = False

    require_tls: bool | None = None
    direct_tls: bool = False
    verify_tls: bool = True
    tls_name: str | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    pins: tuple[str, ...] = ()
    tls_engine: str | None = None

    allow_plain: bool = False
    sasl_mechanisms: tuple[str, ...] | None = None
    channel_binding: str = "prefer"
    min_scram_iterations: int = 4096
    max_scram_iterations: int = 1_000_000

    auto_reconnect: bool = False
    reconnect_delay: float = 1.0
    reconnect_delay_max: float = 300.0
    reconnect_reset: float = 30.0
    on_ready: str = "hold"
    on_doubt: str | None = None
    queue: str = "memory"
    acks: str = "auto"
    stream_management: bool = True
    resume_seconds: float = 600.0
    ack_on: str = "handled"
    ack_every_nodes: int = 100
    ack_every_seconds: float = 1.0
    answer_ping: bool = True
    unhandled_iq: str = "error"
    check_output: bool = True

    resolve_timeout: float = 5.0
    connect_timeout: float = 10.0
    tls_timeout: float = 15.0
    stream_timeout: float = 30.0
    authenticate_timeout: float = 30.0
    bind_timeout: float = 30.0
    session_timeout: float = 30.0
    close_timeout: float = 5.0
    request_timeout: float = 60.0
    silence_timeout: float = 60.0
    probe_timeout: float = 20.0

    max_stanza_bytes: int = 1_048_576
    max_depth: int = 256
    max_elements: int = 65_536
    max_attributes: int = 256
    max_names: int = 262_144
    stanza_timeout: float = 60.0
    max_outbound_bytes: int = 262_144
    queue_max_nodes: int = 10_000
    queue_max_bytes: int = 67_108_864
    queue_max_age: float = 86_400.0
    max_pending_requests: int = 10_000
    max_redirects: int = 5
    max_unacked_nodes: int = 10_000
    max_unacked_bytes: int = 16_777_216
    max_doubts: int = 2
    high_water_nodes: int = 1_000
    inbound_backlog: int = 1_000
    inbound_max_bytes: int = 67_108_864
    max_auto_replies: int = 100
    write_high_water: int = 1_048_576

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            self._check_option(option.name, str(option.type))
        if not self.connection_type:
            raise ConfigError("connection_type is empty: say XMPP, LEGACY, JABBERD14_COMPONENT or JABBERD20_COMPONENT")
        account = JID.parse(self.jid)
        check_host_port(self.host, self.port)
        if self.resource is not None:
            account.with_resource(self.resource)
        for name in _NOT_EMPTY:
            if getattr(self, name) in ("", ()):
                raise ConfigError(f"{name} must not be empty; leave it out, or say None")
        if self.version is not None and re.fullmatch(r"[0-9]+\.[0-9]+", self.version) is None:
            raise ConfigError(f"version must be two numbers with a dot between them, not {self.version!r}")
        if self.bind_domain is not None:
            domain = JID.parse(self.bind_domain)
            if domain.local is not None or domain.resource is not None:
                raise ConfigError(f"bind_domain must be a domain, not {self.bind_domain!r}")
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ConfigError(f"{name} must be {' or '.join(map(repr, allowed))}, not {value!r}")
        if not self.queue or "\0" in self.queue:
            raise ConfigError(f"queue must be 'memory' or the path of a file, not {self.queue!r}")
        for pin in self.pins:
            kind, _, digest = pin.partition(":")
            if kind not in _PINS or len(digest) != 64 or not all(c in "0123456789abcdefABCDEF" for c in digest):
                raise ConfigError(f"a pin is 'sha256:' or 'cert-sha256:' and 64 hexadecimal digits, not {pin!r}")
        if self.pins and self.require_tls is False:
            raise ConfigError(
                "pins are of TLS; with require_tls=False there may be none, and nobody would look at them"
            )
        for low, high in _ORDERED:
            if getattr(self, low) > getattr(self, high):
                raise ConfigError(
                    f"{low} must not be greater than {high}: {getattr(self, low)} > {getattr(self, high)}"
                )

    def _check_option(self, name: str, annotation: str) -> None:
        """Hold an option against its annotation, and a number against 0."""
        value = getattr(self, name)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(self, name, value)  # frozen for its users; here it gets its only value
        _check_type(name, value, annotation)
        if isinstance(value, tuple) and not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{name} must be a tuple of str")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and name in _MAY_BE_ZERO and value < 0:
            raise ConfigError(f"{name} must not be less than 0, not {value!r}")
        if number and name not in _MAY_BE_ZERO and name != "port" and not 0 < value < float("inf"):
            raise ConfigError(f"{name} must be greater than 0, not {value!r}")

    @property
    def account(self) -> JID:
        """`jid`, parsed."""
        return JID.parse(self.jid)

    @property
    def wanted_resource(self) -> str | None:
        """The resource to ask for: `resource`, else the one in `jid`, else None."""
        return self.resource if self.resource is not None else self.account.resource

    @property
    def wanted_on_doubt(self) -> str:
        """`on_doubt`, or what follows from `on_ready`."""
        return self.on_doubt or ("resend" if self.on_ready == "send" else "hold")

    @property
    def resumes(self) -> bool:
        """Whether a session that lost its link can be wanted again: by this process, or by the next."""
        return self.auto_reconnect or self.queue != "memory"

    @property
    def login(self) -> str:
        """The name to authenticate as: `username`, else the local part of `jid`, else its domain."""
        return self.username or self.account.local or self.account.domain
