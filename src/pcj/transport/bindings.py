"""Channel bindings: octets that both ends of one TLS session know, and nobody in between (RFC 5056).

Which can be had: with TLS 1.3, and with 1.2 and the extended master secret, `tls-exporter` (RFC 9266; pyOpenSSL only);
with 1.2 and that, `tls-unique` (RFC 5929 3); of nearly every certificate, `tls-server-end-point` (RFC 5929 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from pcj.transport.certificate import Certificate
from pcj.transport.server_hello import has_extended_master_secret
from pcj.transport.tls_library import Library

__all__ = ["channel_bindings", "server_end_point"]


def channel_bindings(library: Library, leaf: Certificate | None, first: bytes) -> Mapping[str, bytes]:
    """The bindings of a session whose handshake is done, the best first, by the names of IANA's registry.

    Args:
        leaf: the server's certificate, or None if it cannot be read. first: the server's first bytes.
    """
    found: dict[str, bytes | None] = {}
    version = library.version()
    # Without the extended master secret somebody in between can give two sessions the same master secret, and by that
    # the same keying material and Finished (RFC 7627 1, RFC 9266 3). TLS 1.3 cannot do without; it has no tls-unique.
    extended = version == "TLSv1.2" and has_extended_master_secret(first)
    if version == "TLSv1.3" or extended:
        found["tls-exporter"] = library.export()
    if extended:
        found["tls-unique"] = library.finished()
    found["tls-server-end-point"] = server_end_point(leaf) if leaf is not None else None
    return MappingProxyType({kind: octets for kind, octets in found.items() if octets})


def server_end_point(leaf: Certificate) -> bytes | None:
    """The hash of the server's certificate (RFC 5929 4.1); None where the RFC defines none."""
    algorithm = leaf.signature_hash
    if algorithm is None:
        return None
    try:
        return hashlib.new("sha256" if algorithm in ("md5", "sha1") else algorithm, leaf.der).digest()
    except ValueError:
        return None  # this Python's OpenSSL has no SHA-3
