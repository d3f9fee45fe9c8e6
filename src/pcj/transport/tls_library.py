"""What the TLS engine asks of a library: one session over memory, without policy."""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["EXPORTER_BYTES", "EXPORTER_LABEL", "RECORD_BYTES", "Library", "LibraryContext"]

#: The most plaintext in one record (RFC 8446 5.1). A read of this size leaves nothing inside OpenSSL.
RECORD_BYTES: Final = 16_384
#: What tls-exporter is made with (RFC 9266 2); the context is empty, which is not the same as none (RFC 5705 4).
EXPORTER_LABEL: Final = b"EXPORTER-Channel-Binding"
EXPORTER_BYTES: Final = 32


class Library(Protocol):
    """The client's side of one session. Every error is one of Python's `ssl`, whichever library it comes from."""

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done.

        Raises:
            ssl.SSLCertVerificationError: the certificate did not pass, with `verify_code` and `verify_message`.
            ssl.SSLError: something else, with `reason`.
        """

    def feed(self, data: bytes, /) -> object:
        """Take what came from the peer."""

    def decrypt(self, parts: list[bytes], /) -> bool:
        """Add what plaintext there is to `parts`; True once the peer's close_notify was seen.

        Raises:
            ssl.SSLError: the session broke; what came before that is in `parts`.
        """

    def write(self, plaintext: bytes | memoryview, /) -> int:
        """Encrypt a record's worth; how many bytes were taken."""

    @property
    def pending(self) -> int:
        """How many bytes wait to be sent."""

    def take(self) -> bytes:
        """All that waits to be sent."""

    def say_goodbye(self) -> None:
        """Send close_notify, if there is a session to close."""

    def chain(self) -> list[bytes]:
        """The peer's certificates in DER, the leaf first, also after a failed handshake; [] if they cannot be had."""

    # What follows is asked once the handshake is done.

    def certificate(self) -> bytes | None:
        """The peer's leaf in DER."""

    def version(self) -> str:
        """ "TLSv1.3" or "TLSv1.2"."""

    def cipher(self) -> str:
        """OpenSSL's name of the suite."""

    def alpn(self) -> str | None:
        """The application protocol that the server selected."""

    def finished(self) -> bytes | None:
        """The first Finished message of the handshake (tls-unique, RFC 5929 3.1)."""

    def export(self) -> bytes | None:
        """`EXPORTER_BYTES` of keying material for `EXPORTER_LABEL` with an empty context; None: it cannot be had."""


class LibraryContext(Protocol):
    """What many sessions have in common: who is trusted, what is offered, who we are.

    Attributes:
        offered: the application protocols, best first. It is kept here since OpenSSL 3.0 lets a server select another.
        own_addresses: the JIDs in our certificate.
        verifies: chain and name are checked. checks_services: so are names of services (SRV-ID).
    """

    @property
    def offered(self) -> tuple[str, ...]: ...
    @property
    def own_addresses(self) -> tuple[str, ...]: ...
    @property
    def verifies(self) -> bool: ...
    @property
    def checks_services(self) -> bool: ...

    def session(self, name: str, *, address: bool, service: str | None) -> Library:
        """A session with whoever has a certificate for `name`, A-labels or an address, or for `service` there."""
