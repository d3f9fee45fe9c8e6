"""TLS contexts for the client's side, made from what a `Config` says about trust."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache

from pcj.errors import ConfigError

__all__ = ["make_context"]

#: How many contexts are kept, one for each way of making them.
KEPT_CONTEXTS = 8


class _ClientContext(ssl.SSLContext):
    """Remembers what was offered: OpenSSL 3.0 lets a server select a protocol that was not."""

    offered: tuple[str, ...] = ()


_Stamp = tuple[int, int, int] | None


def make_context(
    *, verify: bool, ca_file: str | None, client_certificate: str | None, alpn: tuple[str, ...] = ()
) -> ssl.SSLContext:
    """A context for links to servers: TLS 1.2 or newer, no renegotiation, no compression.

    Making one costs 18 ms, so the last 8 are kept; one whose files have changed on disk is made anew.

    Args:
        verify: check the chain and the name. ca_file: PEM file of the authorities to trust, in place of the system's.
        client_certificate: PEM file with our certificate and its key, not encrypted.
        alpn: the application protocols to offer, best first (RFC 7301).

    Raises:
        ConfigError: a file cannot be used; the message names it and says why.
    """
    stamps = _stamp("ca_file", ca_file), _stamp("client_certificate", client_certificate)
    system = None if ca_file is not None else (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    return _make_context(verify, ca_file, client_certificate, tuple(alpn), stamps, system)


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
) -> ssl.SSLContext:
    context = _ClientContext(ssl.PROTOCOL_TLS_CLIENT)
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
