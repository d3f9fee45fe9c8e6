"""Whether a certificate is for whom we set out to reach (RFC 9525 6), where the library does not see to it.

The comparing is service-identity's; what is compared is what our own reading of the certificate shows in errors.
"""

from __future__ import annotations

from service_identity import CertificateError
from service_identity.hazmat import DNS_ID, SRV_ID, DNSPattern, SRVPattern

from pcj.transport.certificate import Certificate

__all__ = ["is_for"]


def is_for(leaf: Certificate, name: str, *, address: bool = False, service: str | None = None) -> bool:
    """Whether the certificate is for a name, an address, or a service at a name.

    The common name does not count (RFC 9525 2). A wildcard stands for one whole label, the left-most, above two others;
    it stands for no A-label, in which it is stricter than OpenSSL. In an SRV-ID there is none (RFC 9525 6.3).

    Args:
        name: A-labels in lower case, or an IP address as `ipaddress` writes it, with `address`.
        service: "_xmpp-client": only an SRV-ID of it counts (RFC 4985 2); None: only a DNS name or address does.
    """
    if address:
        return service is None and name in leaf.ip_addresses
    try:
        if service is not None:
            wanted_service = SRV_ID(f"{service}.{name}")
            return any(wanted_service.verify(found) for found in _services(leaf))
        wanted = DNS_ID(name)
    except ValueError:
        return False  # a name that no certificate has
    return any(wanted.verify(found) for found in _names(leaf))


def _names(leaf: Certificate) -> list[DNSPattern]:
    found = []
    for name in filter(_is_plain, leaf.dns_names):
        try:
            found.append(DNSPattern.from_bytes(name.encode("ascii")))
        except (CertificateError, ValueError):
            pass  # one bad name does not spoil the others
    return found


def _services(leaf: Certificate) -> list[SRVPattern]:
    found = []
    for name in filter(_is_plain, leaf.srv_names):
        try:
            found.append(SRVPattern.from_bytes(name.encode("ascii")))
        except (CertificateError, ValueError):
            pass
    return found


def _is_plain(name: str) -> bool:
    """Not empty, and without the spaces that service-identity would take away."""
    return bool(name) and name.isascii() and all("!" <= character <= "~" for character in name)
