"""Certificates that clients log in with: an authority of our own, and XmppAddr (RFC 6120 13.7.1.4) in what it signs."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

__all__ = ["ClientAuthority"]

#: id-on-xmppAddr, RFC 6120 13.7.1.4.
_XMPP_ADDR = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5")
_UTF8_STRING = 0x0C
_DAY = datetime.timedelta(days=1)


class ClientAuthority:
    """Signs certificates for clients.

    Args:
        name: Its own.

    Attributes:
        pem: Its certificate.
    """

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = (
            self._begin(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = made.public_bytes(serialization.Encoding.PEM)

    def issue(self, path: Path, *addresses: str) -> Path:
        """Write a certificate for these addresses, and its key, to `path` (PEM)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a client")])
        names: list[x509.GeneralName] = [x509.OtherName(_XMPP_ADDR, _utf8(address)) for address in addresses]
        made = (
            self._begin(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names or [x509.DNSName("client.example")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
        return path

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
        )


def _utf8(text: str) -> bytes:
    """A UTF8String in DER; short ones only, whose length is one octet."""
    data = text.encode()
    assert len(data) < 128
    return bytes((_UTF8_STRING, len(data))) + data
