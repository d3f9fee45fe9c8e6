"""TLS by pyOpenSSL, which can do two things that Python's `ssl` cannot: export keying material, for the channel binding
tls-exporter, and check certificates that name a service (SRV-ID).

Everything else is meant to be the same, and is taken from a context of Python's `ssl`: the cipher suites, the places of
the system's authorities, the words of errors. Needs pcj[binding]; imported late.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from pcj.errors import ConfigError
from pcj.transport.certificate import Certificate
from pcj.transport.identity import is_for
from pcj.transport.tls_library import EXPORTER_BYTES, EXPORTER_LABEL, RECORD_BYTES, Library
from pcj.transport.tls_ssl import SslContext

__all__ = ["OpenSslContext", "make_context"]

#: How many contexts are kept.
KEPT_CONTEXTS: Final = 8
#: How much is taken from OpenSSL's buffer in one call, in bytes.
_TAKEN_BYTES: Final = 65_536
_OTHER_NAME: Final = 62  # X509_V_ERR_HOSTNAME_MISMATCH
_OTHER_ADDRESS: Final = 64  # X509_V_ERR_IP_ADDRESS_MISMATCH

#: The kinds of private key that it can use.
_KEYS: Final = (
    *(rsa.RSAPrivateKey, dsa.DSAPrivateKey, ec.EllipticCurvePrivateKey),
    *(ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey),
)

#: OpenSSL's words for X509_V_ERR_*, which pyOpenSSL does not hand out.
_MESSAGES: Final = {
    2: "unable to get issuer certificate",
    7: "certificate signature failure",
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in certificate chain",
    20: "unable to get local issuer certificate",
    21: "unable to verify the first certificate",
    22: "certificate chain too long",
    23: "certificate revoked",
    24: "invalid CA certificate",
    25: "path length constraint exceeded",
    26: "unsuitable certificate purpose",
    27: "certificate not trusted",
    28: "certificate rejected",
    34: "unhandled critical extension",
    47: "permitted subtree violation",
    48: "excluded subtree violation",
    66: "EE certificate key too weak",
    67: "CA certificate key too weak",
    68: "CA signature digest algorithm too weak",
    79: "invalid CA certificate",
}


class OpenSslContext:
    """A `LibraryContext` of pyOpenSSL, with the rules of `model`."""

    checks_services = True

    def __init__(self, model: SslContext, ca_file: str | None, client_certificate: str | None) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        suites = [str(suite["name"]) for suite in model.get_ciphers() if suite["protocol"] != "TLSv1.3"]
        level = getattr(model, "security_level", 2)
        context.set_cipher_list(f"{':'.join(suites)}:@SECLEVEL={level}".encode("ascii"))
        if client_certificate is not None:
            _load_certificate(context, client_certificate)
        self._context = context
        self.verifies = model.verifies
        self.own_addresses = model.own_addresses
        self.offered: tuple[str, ...] = ()
        if model.offered:
            self.set_alpn_protocols(list(model.offered))
            self.offered = model.offered
        if self.verifies:
            _load_authorities(context, ca_file)
            if (store := context.get_cert_store()) is not None:
                # A file that holds an intermediate authority, or the server's certificate itself, is trust enough.
                store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
            context.set_verify(SSL.VERIFY_PEER, _passes)

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        """Offer application protocols, as `ssl.SSLContext` does."""
        self._context.set_alpn_protos([protocol.encode("ascii") for protocol in protocols])

    def session(self, name: str, *, address: bool, service: str | None) -> Library:
        return _Session(self._context, _Verdict(name, address, service) if self.verifies else None, name, address)


@lru_cache(maxsize=KEPT_CONTEXTS)
def make_context(
    model: SslContext,
    ca_file: str | None,
    client_certificate: str | None,
    stamp: Hashable,  # part of the key only: what changes when a file does
) -> OpenSslContext:
    """The context that has the rules of `model`, which was made from the same files.

    Raises:
        ConfigError: the client certificate's key is of a kind that only Python's ssl takes.
    """
    return OpenSslContext(model, ca_file, client_certificate)


def _load_authorities(context: SSL.Context, ca_file: str | None) -> None:
    if ca_file is not None:
        context.load_verify_locations(ca_file)
        return
    # Where Python's ssl looks. pyOpenSSL's own default is where cryptography was built, and then a list of guesses.
    paths = ssl.get_default_verify_paths()
    file = os.environ.get(paths.openssl_cafile_env) or paths.openssl_cafile
    folders = os.environ.get(paths.openssl_capath_env) or paths.openssl_capath
    for places in ((file, None), (None, folders)):
        try:
            context.load_verify_locations(*places)
        except SSL.Error:
            pass  # as OpenSSL: a default place may be empty, or not there


def _load_certificate(context: SSL.Context, path: str) -> None:
    """Load what `ssl` has loaded before us, and found good."""
    pem = Path(path).read_bytes()
    try:
        leaf, *others = x509.load_pem_x509_certificates(pem)
        key = load_pem_private_key(pem, None)
        if not isinstance(key, _KEYS):
            raise TypeError(f"a key of type {type(key).__name__}")
        context.use_certificate(leaf)
        for other in others:
            context.add_extra_chain_cert(other)
        context.use_privatekey(key)
    except (ValueError, TypeError, UnsupportedAlgorithm, SSL.Error) as error:
        raise ConfigError(
            f"client_certificate {path!r} cannot be used with pyOpenSSL ({str(error) or type(error).__name__}): "
            "say tls_engine='ssl'"
        ) from None


class _Verdict:
    """What is looked for, and what came of it."""

    def __init__(self, name: str, address: bool, service: str | None) -> None:
        self.name = name
        self.address = address
        self.service = service
        self.code = 0
        self.passed = False
        self.authorities: list[crypto.X509] = []


def _passes(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    """Called by OpenSSL for every certificate of the chain, from the root down, and for every fault.

    The name is checked here, not after the handshake: the server hears of it, and does not see our certificate.
    """
    verdict = connection.get_app_data()
    if not isinstance(verdict, _Verdict):  # pragma: no cover - whoever made the connection did not want it checked
        return False
    if not ok:
        verdict.code = verdict.code or code
        return False
    if depth > 0:
        verdict.authorities.append(certificate)
        return True
    try:
        leaf = Certificate.parse(_der(certificate))
        verdict.passed = is_for(leaf, verdict.name, address=verdict.address) or (
            verdict.service is not None
            and is_for(leaf, verdict.name, service=verdict.service)
            # OpenSSL holds an SRV-ID against no constraint (RFC 4985 4): whoever may vouch for some names only could
            # name the services of any other.
            and not any(Certificate.parse(_der(authority)).name_constraints for authority in verdict.authorities)
        )
    except ValueError:
        pass  # not to be read, so not for us
    if not verdict.passed:
        verdict.code = _OTHER_ADDRESS if verdict.address else _OTHER_NAME
    return verdict.passed


def _der(certificate: crypto.X509) -> bytes:
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)


class _Session:
    """`SSL.Connection` without a socket."""

    def __init__(self, context: SSL.Context, verdict: _Verdict | None, name: str, address: bool) -> None:
        self._connection = SSL.Connection(context, None)
        self._connection.set_connect_state()
        self._connection.set_app_data(verdict)
        if not address:
            self._connection.set_tlsext_host_name(name.encode("ascii"))
        self._verdict = verdict
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._may_have_more = False  # OpenSSL may have written since we looked

    def handshake(self) -> bool:
        self._may_have_more = True
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            if self._verdict is not None and self._verdict.code:
                raise self._unverified(self._verdict) from error
            raise _translated(error) from error
        if self._verdict is not None and not self._verdict.passed:
            # The handshake cannot end without a call that set it; if it ever can, it is no session.
            raise self._unverified(self._verdict)
        if self._verdict is not None:
            self._verdict.authorities.clear()
        return True

    @staticmethod
    def _unverified(verdict: _Verdict) -> ssl.SSLCertVerificationError:
        """The error that Python's ssl raises for the same."""
        code = verdict.code or _OTHER_NAME
        if code == _OTHER_NAME:
            message = f"Hostname mismatch, certificate is not valid for '{verdict.name}'."
        elif code == _OTHER_ADDRESS:
            message = f"IP address mismatch, certificate is not valid for '{verdict.name}'."
        else:
            message = _MESSAGES.get(code, f"X509_V_ERR {code}")
        made = ssl.SSLCertVerificationError(1, f"certificate verify failed: {message}")
        made.reason = "CERTIFICATE_VERIFY_FAILED"
        made.verify_code = code
        made.verify_message = message
        return made

    def feed(self, data: bytes, /) -> None:
        if data:  # OpenSSL takes no piece of nothing
            self._connection.bio_write(data)

    def decrypt(self, parts: list[bytes], /) -> bool:
        self._may_have_more = True
        read = self._connection.recv
        try:
            while True:
                parts.append(read(RECORD_BYTES))
        except SSL.WantReadError:
            return False
        except SSL.ZeroReturnError:
            return True
        except SSL.Error as error:
            raise _translated(error) from error

    def write(self, plaintext: bytes | memoryview, /) -> int:
        self._may_have_more = True
        try:
            return self._connection.send(plaintext)
        except SSL.Error as error:
            raise _translated(error) from error

    @property
    def pending(self) -> int:
        if self._may_have_more:
            self._fetch()
        return self._waiting_bytes

    def take(self) -> bytes:
        if self._may_have_more:
            self._fetch()
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return waiting[0] if len(waiting) == 1 else b"".join(waiting)

    def _fetch(self) -> None:
        self._may_have_more = False
        try:
            while True:
                piece = self._connection.bio_read(_TAKEN_BYTES)
                self._waiting.append(piece)
                self._waiting_bytes += len(piece)
                if len(piece) < _TAKEN_BYTES:
                    break
        except SSL.WantReadError:
            pass

    def say_goodbye(self) -> None:
        self._may_have_more = True
        try:
            self._connection.shutdown()
        except SSL.Error:
            pass  # there is no session to close

    def chain(self) -> list[bytes]:
        try:
            return [_der(certificate) for certificate in self._connection.get_peer_cert_chain() or ()]
        except (SSL.Error, crypto.Error):
            return []  # only the wording of an error depends on it

    def certificate(self) -> bytes | None:
        certificate = self._connection.get_peer_certificate()
        return _der(certificate) if certificate is not None else None

    def version(self) -> str:
        return self._connection.get_protocol_version_name()

    def cipher(self) -> str:
        return self._connection.get_cipher_name() or ""

    def alpn(self) -> str | None:
        return self._connection.get_alpn_proto_negotiated().decode("ascii", "backslashreplace") or None

    def finished(self) -> bytes | None:
        return self._connection.get_finished()

    def export(self) -> bytes | None:
        try:
            return self._connection.export_keying_material(EXPORTER_LABEL, EXPORTER_BYTES, b"")
        except SSL.Error:
            return None  # a suite whose hash this OpenSSL is not allowed to use


def _translated(error: SSL.Error) -> ssl.SSLError:
    """The error that Python's ssl raises for the same; pyOpenSSL has OpenSSL's queue: (library, function, reason)."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = next((str(entry[-1]) for entry in queue if entry and entry[-1]), "") or type(error).__name__
    made = ssl.SSLError(1, words)
    made.reason = "_".join(words.upper().replace("/", " ").split())
    return made
