"""What we need of an X.509 certificate, read from its DER: what to pin, what to bind to, names and dates to speak of.

Verification is OpenSSL's. This reads the leaf of a handshake that failed too, of which the `ssl` module tells nothing.
A small strict walk over DER (ITU-T X.690): definite lengths in their shortest form, every element inside its parent.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

__all__ = ["Certificate", "first_in_pem"]

_BOOLEAN: Final = 0x01
_INTEGER: Final = 0x02
_BITS: Final = 0x03
_OCTETS: Final = 0x04
_OID: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_BMP_STRING: Final = 0x1E
_SEQUENCE: Final = 0x30
_CONTEXT_0: Final = 0xA0
_CONTEXT_1: Final = 0xA1
_CONTEXT_3: Final = 0xA3
_DNS_NAME: Final = 0x82
_IP_ADDRESS: Final = 0x87

# commonName, organizationName, organizationalUnitName (RFC 5280 4.1.2.4), in the order in which a name is told by them.
_NAME_OIDS: Final = (b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x04\x0b")
_SUBJECT_ALT_NAME: Final = b"\x55\x1d\x11"
_NAME_CONSTRAINTS: Final = b"\x55\x1d\x1e"
_XMPP_ADDR: Final = b"\x2b\x06\x01\x05\x05\x07\x08\x05"  # id-on-xmppAddr, RFC 6120 13.7.1.4
_DNS_SRV: Final = b"\x2b\x06\x01\x05\x05\x07\x08\x07"  # id-on-dnsSRV, RFC 4985 2

_RSA: Final = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01"  # pkcs-1
_RSASSA_PSS: Final = _RSA + b"\x0a"
_MGF1: Final = _RSA + b"\x08"
_ECDSA: Final = b"\x2a\x86\x48\xce\x3d\x04"
_NIST: Final = b"\x60\x86\x48\x01\x65\x03\x04"  # nistAlgorithms: 2 are hashes, 3 are signatures

#: By its algorithm, the one hash that a signature uses (RFC 8017 A.2.4, RFC 5758 3, RFC 9688). Not in it: Ed25519 and
#: Ed448, which use none by that name, and what is too rare or too old to be met.
_HASH_OF_SIGNATURE: Final = {
    _RSA + b"\x04": "md5",
    _RSA + b"\x05": "sha1",
    _RSA + b"\x0b": "sha256",
    _RSA + b"\x0c": "sha384",
    _RSA + b"\x0d": "sha512",
    _RSA + b"\x0e": "sha224",
    _ECDSA + b"\x01": "sha1",
    _ECDSA + b"\x03\x01": "sha224",
    _ECDSA + b"\x03\x02": "sha256",
    _ECDSA + b"\x03\x03": "sha384",
    _ECDSA + b"\x03\x04": "sha512",
    b"\x2a\x86\x48\xce\x38\x04\x03": "sha1",  # DSA, RFC 3279 2.2.2
    _NIST + b"\x03\x01": "sha224",  # DSA, RFC 5758 3.1
    _NIST + b"\x03\x02": "sha256",
    _NIST + b"\x03\x09": "sha3_224",  # ECDSA
    _NIST + b"\x03\x0a": "sha3_256",
    _NIST + b"\x03\x0b": "sha3_384",
    _NIST + b"\x03\x0c": "sha3_512",
    _NIST + b"\x03\x0d": "sha3_224",  # RSASSA-PKCS1-v1_5
    _NIST + b"\x03\x0e": "sha3_256",
    _NIST + b"\x03\x0f": "sha3_384",
    _NIST + b"\x03\x10": "sha3_512",
}
_HASHES: Final = {
    b"\x2b\x0e\x03\x02\x1a": "sha1",
    _NIST + b"\x02\x01": "sha256",
    _NIST + b"\x02\x02": "sha384",
    _NIST + b"\x02\x03": "sha512",
    _NIST + b"\x02\x04": "sha224",
    _NIST + b"\x02\x07": "sha3_224",
    _NIST + b"\x02\x08": "sha3_256",
    _NIST + b"\x02\x09": "sha3_384",
    _NIST + b"\x02\x0a": "sha3_512",
}

_PEM: Final = re.compile(r"-----BEGIN (?:X509 )?CERTIFICATE-----(.+?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL)

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
        der: all of it, as received. public_key: its SubjectPublicKeyInfo, likewise.
        signature_hash: the hash that its signature uses, as `hashlib` names it, or None if that is not exactly one.
        subject, issuer: the common name, else the organisation, else "".
        self_issued: subject and issuer are the same name.
        not_before, not_after: its validity, UTC.
        dns_names, ip_addresses: what it may be verified against.
        srv_names: services it is for ("_xmpp-client.example.org", RFC 4985), which Python's ssl cannot verify against.
        xmpp_addresses: JIDs it is of (XmppAddr, RFC 6120 13.7.1.4).
        name_constraints: it is an authority's that may vouch for some names only (RFC 5280 4.2.1.10).
    """

    der: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    signature_hash: str | None
    subject: str
    issuer: str
    self_issued: bool
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    srv_names: tuple[str, ...]
    xmpp_addresses: tuple[str, ...]
    name_constraints: bool

    @property
    def pins(self) -> tuple[str, str]:
        """What it may be pinned by: "sha256:" and the SHA-256 of the key, "cert-sha256:" and that of the whole."""
        return f"sha256:{sha256(self.public_key).hexdigest()}", f"cert-sha256:{sha256(self.der).hexdigest()}"

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that it says it is for."""
        return self.dns_names + self.ip_addresses + self.srv_names + self.xmpp_addresses

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
        parts = _elements(der, at, end)
        _, _, at, end = _next(parts, _SEQUENCE)
        _, _, signed_at, signed_end = _next(parts, _SEQUENCE)
        _next(parts, _BITS)
        fields = _elements(der, at, end)
        if _next(fields, _CONTEXT_0, _INTEGER)[0] == _CONTEXT_0:  # the version, absent in version 1
            _next(fields, _INTEGER)  # the serial number
        _next(fields, _SEQUENCE)  # the signature algorithm
        _, issuer_at, issuer_inside, issuer_end = _next(fields, _SEQUENCE)
        _, _, validity_at, validity_end = _next(fields, _SEQUENCE)
        _, subject_at, subject_inside, subject_end = _next(fields, _SEQUENCE)
        _, key_at, _, key_end = _next(fields, _SEQUENCE)
        validity = _elements(der, validity_at, validity_end)
        extensions = _Extensions()
        for tag, _, at, end in fields:
            if tag == _CONTEXT_3:
                extensions.read(der, at, end)
        return cls(
            der=der,
            public_key=der[key_at:key_end],
            signature_hash=_read_hash(der, signed_at, signed_end),
            subject=_read_name(der, subject_inside, subject_end),
            issuer=_read_name(der, issuer_inside, issuer_end),
            self_issued=der[subject_at:subject_end] == der[issuer_at:issuer_end],
            not_before=_read_time(der, _next(validity, _UTC_TIME, _GENERALIZED_TIME)),
            not_after=_read_time(der, _next(validity, _UTC_TIME, _GENERALIZED_TIME)),
            dns_names=tuple(extensions.dns),
            ip_addresses=tuple(extensions.ips),
            srv_names=tuple(extensions.services),
            xmpp_addresses=tuple(extensions.addresses),
            name_constraints=extensions.constraints,
        )


def first_in_pem(text: str) -> Certificate:
    """The first certificate of a PEM file (RFC 7468 5): the one that is its owner's.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    if (found := _PEM.search(text)) is None:
        raise ValueError("there is no certificate in PEM form")
    return Certificate.parse(base64.b64decode("".join(found[1].split()), validate=True))


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


def _read_hash(der: bytes, at: int, end: int) -> str | None:
    """The one hash of a signature's AlgorithmIdentifier."""
    fields = _elements(der, at, end)
    _, _, oid_at, oid_end = _next(fields, _OID)
    oid = der[oid_at:oid_end]
    if oid != _RSASSA_PSS:
        return _HASH_OF_SIGNATURE.get(oid)
    # RFC 4055 3.1: RSASSA-PSS-params; what is left out is SHA-1. It has two hashes, and "the" one if they are the same.
    signed = masked = "sha1"
    _, _, params_at, params_end = _next(fields, _SEQUENCE)
    for tag, _, at, end in _elements(der, params_at, params_end):
        if tag not in (_CONTEXT_0, _CONTEXT_1):
            continue
        algorithm = _next(_elements(der, at, end), _SEQUENCE)
        if tag == _CONTEXT_1:
            inner = _elements(der, algorithm[2], algorithm[3])
            _, _, oid_at, oid_end = _next(inner, _OID)
            if der[oid_at:oid_end] != _MGF1:
                return None
            algorithm = _next(inner, _SEQUENCE)
        _, _, oid_at, oid_end = _next(_elements(der, algorithm[2], algorithm[3]), _OID)
        found = _HASHES.get(der[oid_at:oid_end], "")
        if tag == _CONTEXT_0:
            signed = found
        else:
            masked = found
    return signed if signed == masked and signed else None


class _Extensions:
    """What of the extensions is kept."""

    def __init__(self) -> None:
        self.dns: list[str] = []
        self.ips: list[str] = []
        self.services: list[str] = []
        self.addresses: list[str] = []
        self.constraints = False

    def read(self, der: bytes, at: int, end: int) -> None:
        _, _, at, end = _next(_elements(der, at, end), _SEQUENCE)
        for _, _, extension_at, extension_end in _elements(der, at, end):
            extension = _elements(der, extension_at, extension_end)
            _, _, oid_at, oid_end = _next(extension, _OID)
            oid = der[oid_at:oid_end]
            if oid == _NAME_CONSTRAINTS:
                self.constraints = True
            if oid != _SUBJECT_ALT_NAME:
                continue
            element = _next(extension, _OCTETS, _BOOLEAN)
            if element[0] == _BOOLEAN:  # "critical"
                element = _next(extension, _OCTETS)
            self._read_names(der, element)

    def _read_names(self, der: bytes, element: _Element) -> None:
        _, _, names_at, names_end = _next(_elements(der, element[2], element[3]), _SEQUENCE)
        for tag, _, at, end in _elements(der, names_at, names_end):
            value = der[at:end]
            if tag == _DNS_NAME:
                self.dns.append(value.decode("ascii", "backslashreplace"))
            elif tag == _IP_ADDRESS and len(value) in (4, 16):
                self.ips.append(str(ipaddress.ip_address(value)))
            elif tag == _CONTEXT_0:
                other = _elements(der, at, end)
                _, _, kind_at, kind_end = _next(other, _OID)
                _, _, box_at, box_end = _next(other, _CONTEXT_0)
                kept = {_XMPP_ADDR: self.addresses, _DNS_SRV: self.services}.get(der[kind_at:kind_end])
                if kept is not None:
                    for _, _, text_at, text_end in _elements(der, box_at, box_end):
                        kept.append(der[text_at:text_end].decode("utf-8", "backslashreplace"))
