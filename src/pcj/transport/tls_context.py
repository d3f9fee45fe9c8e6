"""TLS contexts for the client's side, made from what a `Config` says about trust."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from pcj.errors import ConfigError
from pcj.transport.certificate import first_in_pem
from pcj.transport.tls_ssl import SslContext

if TYPE_CHECKING:
    from pcj.transport.tls_openssl import OpenSslContext

__all__ = ["make_context"]

#: How many contexts are kept for each library, one for each way of making them.
KEPT_CONTEXTS = 8

_Stamp = tuple[int, int, int] | None


@overload
def make_context(
    *,
    verify: bool,
    ca_file: str | None,
    client_certificate: str | None,
    alpn: tuple[str, ...] = (),
    engine: Literal["ssl"] = "ssl",
) -> SslContext: ...
@overload
def make_context(
    *,
    verify: bool,
    ca_file: str | None,
    client_certificate: str | None,
    alpn: tuple[str, ...] = (),
    engine: str | None,
) -> SslContext | OpenSslContext: ...
def make_context(
    *,
    verify: bool,
    ca_file: str | None,
    client_certificate: str | None,
    alpn: tuple[str, ...] = (),
    engine: str | None = "ssl",
) -> SslContext | OpenSslContext:
    """A context for links to servers: TLS 1.2 or newer, no renegotiation, no compression.

    Making one costs 18 ms (pyOpenSSL: 14 ms more), so the last 8 are kept; one whose files have changed on disk is
    made anew.

    Args:
        verify: check the chain and the name. ca_file: PEM file of the authorities to trust, in place of the system's.
        client_certificate: PEM file with our certificate and its key, not encrypted.
        alpn: the application protocols to offer, best first (RFC 7301).
        engine: "ssl" (Python's), "openssl" (pyOpenSSL), or None: the second where it is installed, else the first.

    Raises:
        ConfigError: a file cannot be used, or the engine is not installed; the message says what and why.
    """
    stamps = _stamp("ca_file", ca_file), _stamp("client_certificate", client_certificate)
    system = None if ca_file is not None else (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    # The standard library's is made in any case: what is wrong with a file is said in the same words.
    context = _make_context(verify, ca_file, client_certificate, tuple(alpn), stamps, system)
    if engine == "ssl":
        return context
    try:
        from pcj.transport import tls_openssl  # late: its import costs 100 ms, and it may not be installed
    except (ImportError, AttributeError) as error:  # AttributeError: a pyOpenSSL too old for its cryptography
        if engine is None:
            return context
        raise ConfigError(
            f"tls_engine {engine!r} needs pyOpenSSL and service-identity ({error}): install 'pcj[binding]'"
        ) from error
    return tls_openssl.make_context(context, ca_file, client_certificate, (stamps, system))


def _stamp(option: str, path: str | None) -> _Stamp:
    """What changes when a file does."""
    if path is None:
        return None
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option} {path!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=KEPT_CONTEXTS)
def _make_context(
    verify: bool,
    ca_file: str | None,
    client_certificate: str | None,
    alpn: tuple[str, ...],
    stamps: tuple[_Stamp, _Stamp],  # part of the key only
    system: tuple[str | None, str | None] | None,  # likewise: where OpenSSL looks for the system's authorities
) -> SslContext:
    context = SslContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.hostname_checks_common_name = False  # RFC 9525 2: the common name does not count
    # A file that holds an intermediate authority, or the server's certificate itself, is trust enough.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except ssl.SSLError as error:
            raise ConfigError(
                f"ca_file {ca_file!r} holds no certificate in PEM form ({error.reason or error})"
            ) from None
        except OSError as error:
            raise ConfigError(f"ca_file {ca_file!r} cannot be read: {error.strerror or error}") from None
    elif verify:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if client_certificate is not None:
        _load_certificate(context, client_certificate)
        context.own_addresses = _own_addresses(client_certificate)
    if alpn:
        try:
            context.set_alpn_protocols(list(alpn))
        except (ssl.SSLError, UnicodeError) as error:
            raise ConfigError(f"alpn {alpn!r} cannot be offered: {error}") from None
        context.offered = alpn
    return context


class _EncryptedKey(Exception):
    """OpenSSL asked for the password of a key; without this it would ask on the terminal, and wait."""


def _load_certificate(context: ssl.SSLContext, path: str) -> None:
    def refuse() -> str:
        raise _EncryptedKey

    try:
        context.load_cert_chain(path, password=refuse)
    except _EncryptedKey:
        raise ConfigError(f"client_certificate {path!r}: its key is encrypted; give one without a password") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = "its key is not the certificate's"
        else:
            why = "it must hold our certificate and its private key in PEM form"
        raise ConfigError(f"client_certificate {path!r}: {why} ({error.reason or error})") from None
    except OSError as error:
        raise ConfigError(f"client_certificate {path!r} cannot be read: {error.strerror or error}") from None


def _own_addresses(path: str) -> tuple[str, ...]:
    """The JIDs in our certificate; none where it cannot be read, though OpenSSL could: they are a convenience."""
    try:
        return first_in_pem(Path(path).read_text("latin-1")).xmpp_addresses
    except (OSError, ValueError):
        return ()
