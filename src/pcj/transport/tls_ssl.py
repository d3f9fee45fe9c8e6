"""TLS by Python's own `ssl`: what is always there."""

from __future__ import annotations

import ssl

from pcj.transport.tls_library import RECORD_BYTES, Library

__all__ = ["SslContext"]


class SslContext(ssl.SSLContext):
    """An `ssl.SSLContext` that is a `LibraryContext`."""

    offered: tuple[str, ...] = ()
    own_addresses: tuple[str, ...] = ()
    checks_services = False

    @property
    def verifies(self) -> bool:
        return self.verify_mode == ssl.CERT_REQUIRED

    def session(self, name: str, *, address: bool, service: str | None) -> Library:
        return _Session(self, name)


class _Session:
    """`ssl.SSLObject` between two `ssl.MemoryBIO`."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.feed = self._incoming.write
        self.take = self._outgoing.read
        self.write = self._tls.write

    @property
    def pending(self) -> int:
        return self._outgoing.pending

    def handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, parts: list[bytes], /) -> bool:
        incoming, read = self._incoming, self._tls.read
        try:
            while incoming.pending:  # what is left inside OpenSSL is less than a record
                if part := read(RECORD_BYTES):
                    parts.append(part)
                else:
                    return True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return True
        return False

    def say_goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # SSLWantRead: ours is out, the peer's is not here. Others: there is no session to close.
            pass

    def chain(self) -> list[bytes]:
        # Public from Python 3.13 on. Before, `getpeercert` refuses after a failure and only the object beneath has it.
        try:
            if public := getattr(self._tls, "get_unverified_chain", None):
                return list(public())
            beneath = getattr(self._tls, "_sslobj", None)
            chain = beneath.get_unverified_chain() if beneath is not None else None
            return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain or ()]
        except (AttributeError, TypeError, ValueError, ssl.SSLError):
            return []  # only the wording of an error depends on it

    def certificate(self) -> bytes | None:
        return self._tls.getpeercert(binary_form=True)

    def version(self) -> str:
        return self._tls.version() or ""

    def cipher(self) -> str:
        cipher = self._tls.cipher()
        return cipher[0] if cipher is not None else ""

    def alpn(self) -> str | None:
        return self._tls.selected_alpn_protocol()

    def finished(self) -> bytes | None:
        return self._tls.get_channel_binding("tls-unique")

    def export(self) -> bytes | None:
        return None  # Python's ssl has no keying material exporters (RFC 5705)
