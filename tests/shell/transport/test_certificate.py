"""The walk over a certificate's DER, against another library's reading of it."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization

from pcj.transport.certificate import Certificate
from tests.shell.transport.pair import authority, dns, good, ip, issued, leaf_of, srv_id

DER = serialization.Encoding.DER


def test_what_is_read_is_what_was_written() -> None:
    names = (
        dns("example.org", "*.example.org") + ip("192.0.2.7") + ip("2001:db8::7") + srv_id("_xmpp-client.example.org")
    )
    made = leaf_of(issued(names=names, common_name="Rosaline"))
    read = Certificate.parse(made.public_bytes(DER))
    assert read.public_key == made.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert (read.subject, read.issuer, read.self_issued) == ("Rosaline", "Example Test CA", False)
    assert (read.not_before, read.not_after) == (made.not_valid_before_utc, made.not_valid_after_utc)
    assert read.dns_names == ("example.org", "*.example.org")
    assert read.ip_addresses == ("192.0.2.7", "2001:db8::7")
    assert read.srv_names == ("_xmpp-client.example.org",)


def test_times_of_both_centuries_and_beyond_2049_are_read() -> None:
    made = leaf_of(issued(begins=timedelta(days=-365 * 40), ends=timedelta(days=365 * 60)))
    read = Certificate.parse(made.public_bytes(DER))
    assert (read.not_before, read.not_after) == (made.not_valid_before_utc, made.not_valid_after_utc)


def test_trustmes_and_self_signed_certificates_are_read() -> None:
    assert Certificate.parse(leaf_of(good("example.org")).public_bytes(DER)).dns_names == ("example.org",)
    assert Certificate.parse(leaf_of(issued(self_signed=True)).public_bytes(DER)).self_issued
    import ssl

    ca = Certificate.parse(ssl.PEM_cert_to_DER_cert(authority().cert_pem.bytes().decode()))
    assert ca.self_issued


def test_every_cut_and_every_tail_is_refused() -> None:
    der = leaf_of(issued()).public_bytes(DER)
    for end in range(len(der)):
        with pytest.raises(ValueError):
            Certificate.parse(der[:end])
    with pytest.raises(ValueError, match="behind"):
        Certificate.parse(der + b"\x30\x00")


def test_a_damaged_certificate_raises_nothing_but_value_error() -> None:
    der = leaf_of(issued(names=dns("example.org") + srv_id("_x.example.org") + ip("192.0.2.7"))).public_bytes(DER)
    chance = random.Random(7)  # noqa: S311  the same damage each time
    for _ in range(5_000):
        damaged = bytearray(der)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(der))] = chance.randrange(256)
        try:
            Certificate.parse(bytes(damaged))
        except ValueError:
            pass


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",  # an indefinite length
        b"\x30\x81\x01\x00",  # not the shortest form
        b"\x30\x82\x00\x81" + bytes(0x81),
        b"\x30\x85\x00\x00\x00\x00\x01\x00",
        b"\x3f\x81\x00",  # a tag of several octets
        b"\x31\x00",
    ],
)
def test_what_is_not_der_is_refused(der: bytes) -> None:
    with pytest.raises(ValueError):
        Certificate.parse(der)
