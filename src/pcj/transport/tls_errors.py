"""What went wrong in TLS, in sentences for people: who failed, what was seen, what to do."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto

from pcj.errors import Phase, ProtocolError, Retry
from pcj.protocol.retry import OtherName
from pcj.transport.certificate import Certificate
from pcj.transport.names import shown

__all__ = ["Begun", "LookedFor", "TlsError"]

#: How many names of a certificate a sentence lists.
LISTED_NAMES = 5


class Begun(Enum):
    """Why TLS was begun: whose mistake it is where the peer speaks none.

    STARTTLS: the server agreed to it (<proceed/>). ASKED: from the first byte, since the user said so (direct_tls).
    NAMED: from the first byte, since DNS names the port for it (_xmpps-client). SENT_ON: since it was so on the server
    that sent us on.
    """

    STARTTLS = auto()
    ASKED = auto()
    NAMED = auto()
    SENT_ON = auto()


class TlsError(ProtocolError):
    """TLS with the peer could not be made, or broke.

    `phase` is Phase.TLS where it was never made, None where a session that was made broke, be it that the peer refused
    our certificate then; where it had carried data, that is a lost link, not a fault of the certificate. `retry` is
    always set; FATAL holds until READY was reached once (`classify`).
    """

    def __init__(
        self, message: str, *, retry: Retry, expected: str = "", came: str = "", phase: Phase | None = Phase.TLS
    ) -> None:
        super().__init__(message, expected=expected, came=came, phase=phase, retry=retry)


class OtherNameError(TlsError, OtherName):
    """The certificate is good, but for another name."""


def _server(peer: str) -> str:
    return f"The server at {peer}" if peer else "The server"


_WANTS_STARTTLS = {
    Begun.ASKED: "that port wants STARTTLS (direct_tls=False); direct TLS is usually 5223.",
    Begun.NAMED: "that port wants STARTTLS, and the _xmpps-client record that names it in DNS is wrong.",
    Begun.SENT_ON: "that port wants STARTTLS.",
}


def not_tls(first: bytes, peer: str, begun: Begun = Begun.ASKED) -> TlsError:
    """The peer answers our ClientHello with something else."""
    retry = Retry.FATAL
    line = first.splitlines()[0] if first.splitlines() else first
    came = shown(line.decode("utf-8", "backslashreplace"))
    if begun is Begun.STARTTLS:
        retry = Retry.SLOW  # a fault of the server's, or somebody on the way: there is no other port to choose
        sent = "went on in plain XML" if first.lstrip().startswith(b"<") else f"sent {came}, which is none"
        message = f"{_server(peer)} agreed to TLS (<proceed/>) and then {sent}."
    elif first.startswith(b"HTTP/"):
        message = f"{_server(peer)} speaks HTTP ({came}), not TLS: this is not an XMPP port."
    elif first.lstrip().startswith(b"<"):
        message = (
            f"We began TLS{f' at {peer}' if peer else ''}, but the server answered in plain XML: "
            + _WANTS_STARTTLS[begun]
        )
        if begun is not Begun.ASKED:
            retry = Retry.SLOW  # no mistake in the options
    else:
        message = f"{_server(peer)} sent {came}, not TLS: this is not an XMPP port."
    return TlsError(message, retry=retry, expected="a TLS handshake", came=came)


def closed(first: bytes, peer: str, begun: Begun = Begun.ASKED) -> TlsError:
    """The peer closed before the handshake was done."""
    hint = "" if first else ": it sent nothing, so it may have no certificate"
    if not first and begun is not Begun.STARTTLS:
        hint += ", or not want TLS from the first byte here"
    return TlsError(
        f"{_server(peer)} closed the connection during the TLS handshake{hint}.",
        retry=Retry.FAST,
        expected="the TLS handshake",
        came="the end of the connection",
    )


def too_long(bound: int, peer: str) -> TlsError:
    """The peer's handshake does not end."""
    return TlsError(
        f"{_server(peer)} sent more than {bound} bytes of TLS handshake and was not done.",
        retry=Retry.SLOW,
        expected="the end of the TLS handshake",
        came=f"> {bound} bytes",
    )


def wrong_pin(leaf: Certificate, pins: Sequence[str], peer: str) -> TlsError:
    """Neither the key nor the certificate is a pinned one."""
    seen = " and ".join(leaf.pins)
    kinds = {pin.partition(":")[0] for pin in pins}
    what = "key" if kinds == {"sha256"} else "certificate" if kinds == {"cert-sha256"} else "key or certificate"
    allowed = "the pinned one" if len(pins) == 1 else f"one of the {len(pins)} pinned ones"
    return TlsError(
        f"The {what} of {f'the server at {peer}' if peer else 'the server'} is not {allowed} (seen {seen}). "
        f"The server changed its {what}, or somebody is in between.",
        retry=Retry.FATAL,
        expected=" or ".join(pins),
        came=seen,
    )


def wrong_alpn(selected: str, offered: Sequence[str], peer: str) -> TlsError:
    """XEP-0368 with ALPN: the peer selected what we did not offer (it may be led astray to another service)."""
    ours = " or ".join(map(shown, offered)) or "none"
    return TlsError(
        f"{_server(peer)} selected the TLS application protocol {shown(selected)} instead of {ours}: "
        "another service answers there.",
        retry=Retry.FATAL,
        expected=ours,
        came=shown(selected),
    )


def unreadable_certificate(why: object, peer: str) -> TlsError:
    """The handshake succeeded, and we cannot read what is needed for a pin."""
    return TlsError(f"{_server(peer)} sent a certificate that cannot be read ({why}).", retry=Retry.SLOW)


def endless_answers(bound: int, peer: str) -> TlsError:
    """KeyUpdate requests (RFC 8446 4.6.3) without end: each makes us answer, none carries data."""
    return TlsError(
        f"{_server(peer)} made us send more than {bound} bytes of TLS messages and sent no data itself.",
        retry=Retry.SLOW,
        phase=None,
    )


def no_data(bound: int, peer: str) -> TlsError:
    """Session tickets (RFC 8446 4.6.1) or the like without end."""
    return TlsError(
        f"{_server(peer)} sent more than {bound} bytes of TLS messages and no data.",
        retry=Retry.SLOW,
        came=f"> {bound} bytes",
        phase=None,
    )


# ---- the certificate did not pass

# OpenSSL's X509_V_ERR_*, from openssl/x509_vfy.h; they are part of its ABI.
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = 18
_UNKNOWN_ISSUER = (2, 19, 20, 21, 27)
_REVOKED = 23
_WRONG_PURPOSE = (26, 79)
_OTHER_NAME = (62, 64)
_TOO_WEAK = (66, 67, 68)


@dataclass(frozen=True, slots=True)
class LookedFor:
    """Whom the certificate should have been for.

    Attributes:
        shown: the name as the user knows it. name: the same as A-labels.
        service: "_xmpp-client", where an SRV-ID would do. checks_services: and the library can check it.
    """

    shown: str
    name: str
    service: str | None = None
    checks_services: bool = False


def unverified(
    error: ssl.SSLCertVerificationError, looked_for: LookedFor, ders: Sequence[bytes], now: float
) -> TlsError:
    """OpenSSL refused the certificate.

    Args:
        ders: the peer's certificates, the leaf first; empty if they cannot be had.
        now: the machine's clock, seconds since 1970.
    """
    try:
        chain = [Certificate.parse(der) for der in ders]
    except ValueError:
        chain = []
    code, name = error.verify_code, looked_for.shown
    clock = datetime.fromtimestamp(now, UTC)
    expected, came = f"a valid certificate for {name}", error.verify_message or ""
    message = ""
    told = [_NAMES, _ISSUER]
    if chain and code in _OTHER_NAME:
        return _other_name(chain[0], looked_for, expected, came)
    if code == _EXPIRED:
        message = next((_expired(c, c is chain[0], name, clock) for c in chain if c.not_after < clock), "")
    elif code == _NOT_YET_VALID:
        message = next((_not_yet_valid(c, c is chain[0], name, clock) for c in chain if c.not_before > clock), "")
    elif chain and code == _SELF_SIGNED:
        message = (
            f"The certificate of {name} is self-signed (by {shown(chain[0].subject)}), and this machine does not "
            "trust it. Give ca_file= if it is yours."
        )
        told = [_NAMES]
    elif chain and code in _UNKNOWN_ISSUER:
        issuer, root = chain[0].issuer, chain[-1].issuer
        under = f" under {shown(root)}" if root != issuer else ""
        message = (
            f"The certificate of {name} was issued by {shown(issuer)}{under}, which this machine does not trust. "
            "Give ca_file= if it is yours."
        )
        if len(chain) == 1:
            message += " (Or the server does not send the certificates in between.)"
        told = [_NAMES]
    elif code in _WRONG_PURPOSE:
        message = f"The certificate of {name} is not made for servers (see its extended key usage)."
    elif code == _REVOKED:
        message = f"The certificate of {name} was revoked."
    elif code in _TOO_WEAK:
        message = f"The certificate of {name} is too weak ({error.verify_message}): it needs a longer key or SHA-256."
    if not message:
        message = f"The certificate of {name} did not pass: {error.verify_message or _reason(error)}"
        message = message.rstrip(".") + "."
    if chain:
        message += " " + _described(chain[0], *told)
    return TlsError(message, retry=Retry.SLOW, expected=expected, came=came)


_NAMES, _ISSUER = "names", "issuer"


def _described(leaf: Certificate, *what: str) -> str:
    """What else is worth knowing of the certificate: the names it has, its issuer, its dates (UTC)."""
    parts = []
    if _NAMES in what:
        parts.append(f"for {_listed(leaf.names)}" if leaf.names else "for no name")
    if _ISSUER in what:
        parts.append(f"issued by {shown(leaf.issuer)}")
    parts.append(f"dated {leaf.not_before:%Y-%m-%d} to {leaf.not_after:%Y-%m-%d}")
    return f"It is {', '.join(parts)}."


def _listed(names: Sequence[str]) -> str:
    """RFC 1, 2 and 3, shown as a peer's text."""
    bare = [shown(n)[1:-1] for n in names[:LISTED_NAMES]]
    if len(names) > LISTED_NAMES:
        bare.append(f"{len(names) - LISTED_NAMES} more")
    return bare[0] if len(bare) == 1 else ", ".join(bare[:-1]) + " and " + bare[-1]


def _other_name(leaf: Certificate, looked_for: LookedFor, expected: str, came: str) -> TlsError:
    name, kind, retry = looked_for.shown, TlsError, Retry.SLOW
    service = f"{looked_for.service}.{looked_for.name}"
    if looked_for.service is not None and service in (found.lower() for found in leaf.srv_names):
        message = f"The certificate is for {name} only as a service (SRV-ID {service})"
        if looked_for.checks_services:
            message += (
                ", by an authority that may vouch for some names only, and no library checks whether for this one"
            )
            message += f": it needs {name} as a DNS name too."
        else:
            message += ", which Python's ssl cannot check: install 'pcj[binding]', or have "
            message += f"{name} put into it as a DNS name too."
        retry = Retry.FATAL
    elif leaf.dns_names or leaf.ip_addresses:
        message = (
            f"The certificate is for {_listed(leaf.names)}, not for {name} (for an account the domain of the JID is "
            "what counts, for a component the host; tls_name= names another)."
        )
        kind = OtherNameError
    elif leaf.names:
        message = f"The certificate names only services or accounts ({_listed(leaf.names)}), and not {name}."
    else:
        # RFC 9525 2: the common name is not an identity of the service any more.
        subject = f", only the common name {shown(leaf.subject)}, which counts no more (RFC 9525)"
        message = f"The certificate has no name that could be {name}{subject if leaf.subject else ''}."
    return kind(f"{message} {_described(leaf, _ISSUER)}", retry=retry, expected=expected, came=came)


def _whose(certificate: Certificate, is_leaf: bool, name: str) -> str:
    return name if is_leaf else f"{shown(certificate.subject)}, which is to vouch for {name},"


def _expired(certificate: Certificate, is_leaf: bool, name: str, clock: datetime) -> str:
    days = (clock - certificate.not_after).days
    ago = "less than a day ago" if days == 0 else "1 day ago" if days == 1 else f"{days} days ago"
    return (
        f"The certificate of {_whose(certificate, is_leaf, name)} expired on {certificate.not_after:%Y-%m-%d} ({ago})."
    )


def _not_yet_valid(certificate: Certificate, is_leaf: bool, name: str, clock: datetime) -> str:
    return (
        f"The certificate of {_whose(certificate, is_leaf, name)} is valid from "
        f"{certificate.not_before:%Y-%m-%d %H:%M} UTC; this machine's clock says {clock:%Y-%m-%d %H:%M} UTC. "
        "Is the clock right?"
    )


# ---- the handshake did not succeed

_OLD_VERSIONS = {0x0002: "SSL 2.0", 0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1"}
#: Alerts by which a server says that it does not like our certificate, or wants one (RFC 8446 6.2).
_ABOUT_OURS = (
    "CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE_",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
)


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason as a constant ("TLSV1_ALERT_INTERNAL_ERROR"), also where this Python has no constant for it."""
    if reason := getattr(error, "reason", None):
        return str(reason)
    words = re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$", "", str(error.args[-1] if error.args else ""))
    return re.sub(r"\W+", "_", words).upper() or type(error).__name__


def handshake(error: ssl.SSLError, name: str, first: bytes, peer: str) -> TlsError:
    """The handshake ended in an error that is not about the peer's certificate.

    OpenSSL's reasons are matched by their middle: the words around ("SSLV3_ALERT_", "TLSV1_ALERT_") differ by version.
    """
    reason = _reason(error)
    who = _server(peer)
    retry = Retry.SLOW
    if any(word in reason for word in ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "WRONG_SSL_VERSION")):
        # A ServerHello (type 2) in the first record tells the version: RFC 5246 6.2.1, 7.4.1.3.
        spoken = (
            _OLD_VERSIONS.get(int.from_bytes(first[9:11], "big")) if first[:1] + first[5:6] == b"\x16\x02" else None
        )
        at_most = f"speaks {spoken} at most" if spoken else "speaks neither TLS 1.2 nor 1.3"
        message = f"{who} {at_most}; pcj needs TLS 1.2 or newer."
    elif "UNRECOGNIZED_NAME" in reason:
        message = f"{who} has no certificate for {name} (TLS alert unrecognized_name)."
    elif "NO_APPLICATION_PROTOCOL" in reason:
        message = (
            f"{who} knows none of the application protocols we offered in TLS (ALPN): another service answers there."
        )
        retry = Retry.FATAL
    elif "HANDSHAKE_FAILURE" in reason:
        message = (
            f"{who} refused the TLS handshake (handshake_failure): no cipher suite in common, or it wants a client "
            "certificate."
        )
    elif any(word in reason for word in _ABOUT_OURS):
        return about_our_certificate(reason, peer)
    elif "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        message = f"{who} uses keys that are too weak for TLS today ({reason})."
    else:
        message = f"TLS with {name} failed: {'the server sent the alert ' if 'ALERT' in reason else ''}{reason}."
        retry = Retry.FAST
    return TlsError(message, retry=retry, expected="the TLS handshake", came=reason)


def about_our_certificate(reason: str, peer: str) -> TlsError:
    """The peer refuses what we are, not the other way round."""
    return TlsError(
        f"{_server(peer)} did not accept us in TLS ({reason}): it wants a client certificate, or another one. "
        "See client_certificate=.",
        retry=Retry.SLOW,
        expected="the TLS handshake",
        came=reason,
    )


def broken(error: ssl.SSLError, heard: bool, peer: str) -> TlsError:
    """A session that was made came to an end with an alert, a damaged record or nonsense.

    Args:
        heard: data came before. In TLS 1.3 the server's verdict on our certificate comes after our handshake is done
            (RFC 8446 4.4.2.4); once it has sent data, an alert is a lost link.
    """
    reason = _reason(error)
    if not heard and any(word in reason for word in _ABOUT_OURS):
        refused = about_our_certificate(reason, peer)
        refused.phase = None  # SSLSUCCESS has been told
        return refused
    return TlsError(
        f"The TLS session with {peer or 'the server'} broke ({reason}).", retry=Retry.FAST, came=reason, phase=None
    )
