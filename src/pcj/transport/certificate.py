"""What we need of an X.509 certificate, read from its DER: the key to pin, and the names and dates to speak of.

Verification is OpenSSL's. This reads the leaf of a handshake that failed too, of which the `ssl` module tells nothing.
A small strict walk over DER (ITU-T X.690): definite lengths in their shortest form, every element inside its parent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

__all__ = ["Certificate"]

_BOOLEAN: Final = 0x01
_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_OID: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_BMP_STRING: Final = 0x1E
_SEQUENCE: Final = 0x30
_CONTEXT_0: Final = 0xA0
_CONTEXT_3: Final = 0xA3
_DNS_NAME: Final = 0x82
_IP_ADDRESS: Final = 0x87

# commonName, organizationName, organizationalUnitName (RFC 5280 4.1.2.4), in the order in which a name is told by them.
_NAME_OIDS: Final = (b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x04\x0b")
_SUBJECT_ALT_NAME: Final = b"\x55\x1d\x11"
_XMPP_ADDR: Final = b"\x2b\x06\x01\x05\x05\x07\x08\x05"  # id-on-xmppAddr, RFC 6120 13.7.1.4
_DNS_SRV: Final = b"\x2b\x06\x01\x05\x05\x07\x08\x07"  # id-on-dnsSRV, RFC 4985 2

_Element = tuple[int, int, int, int]  # tag, where it begins, where its content begins, where it ends


def _elements(data: bytes, at: int, end: int) -> Iterator[_Element]:
    """The elements that fill data[at:end] exactly."""
    while at < end:
        begin, tag = at, data[at]
        if tag & 0x1F == 0x1F:
            raise ValueError("a tag of more than one octet, which X.509 does not use")
        if at + 2 > end:
            raise ValueError("an element is cut off")
        length, at = data[at + 1], at + 2
        if length >= 0x80:
            octets = length & 0x7F
            if not 1 <= octets <= 4 or at + octets > end:
                raise ValueError("a length that DER does not allow")
            length = int.from_bytes(data[at : at + octets], "big")
            at += octets
            if length < 0x80 or length >> (8 * (octets - 1)) == 0:
                raise ValueError("a length that is not in its shortest form")
        if at + length > end:
            raise ValueError("an element is longer than its parent")
        yield tag, begin, at, at + length
        at += length


def _next(elements: Iterator[_Element], *tags: int) -> _Element:
    """The next element, which must have one of `tags`."""
    element = next(elements, None)
    if element is None or element[0] not in tags:
        raise ValueError(f"expected tag {tags[0]:#04x}, found {'the end' if element is None else hex(element[0])}")
    return element


@dataclass(frozen=True, slots=True)
class Certificate:
    """The parts of a certificate that are spoken of.

    Attributes:
        public_key: its SubjectPublicKeyInfo, DER as received.
        subject, issuer: the common name, else the organisation, else "".
        self_issued: subject and issuer are the same name.
        not_before, not_after: its validity, UTC.
        dns_names, ip_addresses: what it may be verified against.
        service_names: SRV-ID and XmppAddr, which Python's ssl cannot verify against.
    """

    public_key: bytes
    subject: str
    issuer: str
    self_issued: bool
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    service_names: tuple[str, ...]

    @property
    def pin(self) -> str:
        """The key as a pin: "sha256:" and the hexadecimal SHA-256 of SubjectPublicKeyInfo."""
        return "sha256:" + sha256(self.public_key).hexdigest()

    @classmethod
    def parse(cls, der: bytes) -> Certificate:
        """Read a certificate (RFC 5280 4.1).

        Raises:
            ValueError: it is not one.
        """
        outer = _elements(der, 0, len(der))
        _, _, at, end = _next(outer, _SEQUENCE)
        if next(outer, None) is not None:
            raise ValueError("something stands behind the certificate")
        _, _, at, end = _next(_elements(der, at, end), _SEQUENCE)
        fields = _elements(der, at, end)
        if _next(fields, _CONTEXT_0, _INTEGER)[0] == _CONTEXT_0:  # the version, absent in version 1
            _next(fields, _INTEGER)  # the serial number
        _next(fields, _SEQUENCE)  # the signature algorithm
        _, issuer_at, issuer_inside, issuer_end = _next(fields, _SEQUENCE)
        _, _, validity_at, validity_end = _next(fields, _SEQUENCE)
        _, subject_at, subject_inside, subject_end = _next(fields, _SEQUENCE)
        _, key_at, _, key_end = _next(fields, _SEQUENCE)
        validity = _elements(der, validity_at, validity_end)
        dns: list[str] = []
        ips: list[str] = []
        services: list[str] = []
        for tag, _, at, end in fields:
            if tag == _CONTEXT_3:
                _read_alt_names(der, at, end, dns, ips, services)
        return cls(
            public_key=der[key_at:key_end],
            subject=_read_name(der, subject_inside, subject_end),
            issuer=_read_name(der, issuer_inside, issuer_end),
            self_issued=der[subject_at:subject_end] == der[issuer_at:issuer_end],
            not_before=_read_time(der, _next(validity, _UTC_TIME, _GENERALIZED_TIME)),
            not_after=_read_time(der, _next(validity, _UTC_TIME, _GENERALIZED_TIME)),
            dns_names=tuple(dns),
            ip_addresses=tuple(ips),
            service_names=tuple(services),
        )


def _read_name(der: bytes, at: int, end: int) -> str:
    found: dict[bytes, str] = {}
    for _, _, set_at, set_end in _elements(der, at, end):
        for _, _, pair_at, pair_end in _elements(der, set_at, set_end):
            pair = _elements(der, pair_at, pair_end)
            _, _, oid_at, oid_end = _next(pair, _OID)
            value = next(pair, None)
            if value is not None:
                encoding = "utf-16-be" if value[0] == _BMP_STRING else "utf-8"
                found[der[oid_at:oid_end]] = der[value[2] : value[3]].decode(encoding, "replace")
    return next((found[oid] for oid in _NAME_OIDS if oid in found), "")


def _read_time(der: bytes, element: _Element) -> datetime:
    tag, _, at, end = element
    text = der[at:end].decode("ascii", "replace")
    if tag == _UTC_TIME:  # RFC 5280 4.1.2.5.1: 50 and above are of the twentieth century
        text = ("19" if text[:2] >= "50" else "20") + text
    if len(text) != 15 or not text[:14].isdecimal() or text[14] != "Z":
        raise ValueError("a time that is not YYMMDDhhmmssZ")
    return datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _read_alt_names(der: bytes, at: int, end: int, dns: list[str], ips: list[str], services: list[str]) -> None:
    _, _, at, end = _next(_elements(der, at, end), _SEQUENCE)
    for _, _, extension_at, extension_end in _elements(der, at, end):
        extension = _elements(der, extension_at, extension_end)
        _, _, oid_at, oid_end = _next(extension, _OID)
        if der[oid_at:oid_end] != _SUBJECT_ALT_NAME:
            continue
        element = _next(extension, _OCTETS, _BOOLEAN)
        if element[0] == _BOOLEAN:  # "critical"
            element = _next(extension, _OCTETS)
        _, _, names_at, names_end = _next(_elements(der, element[2], element[3]), _SEQUENCE)
        for tag, _, name_at, name_end in _elements(der, names_at, names_end):
            value = der[name_at:name_end]
            if tag == _DNS_NAME:
                dns.append(value.decode("ascii", "backslashreplace"))
            elif tag == _IP_ADDRESS and len(value) in (4, 16):
                ips.append(str(ipaddress.ip_address(value)))
            elif tag == _CONTEXT_0:
                other = _elements(der, name_at, name_end)
                _, _, kind_at, kind_end = _next(other, _OID)
                _, _, box_at, box_end = _next(other, _CONTEXT_0)
                if der[kind_at:kind_end] in (_XMPP_ADDR, _DNS_SRV):
                    for _, _, text_at, text_end in _elements(der, box_at, box_end):
                        services.append(der[text_at:text_end].decode("utf-8", "backslashreplace"))
