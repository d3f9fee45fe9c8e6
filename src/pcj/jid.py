"""XMPP addresses (RFC 7622): `local@domain/resource`, prepared, so that equal addresses are equal values.

Plain ASCII, which is nearly all of them, is prepared here; the tables of PRECIS and IDNA are imported by the first
address that needs them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from pcj.errors import JidError

__all__ = ["JID", "same_address"]

MAX_PART_OCTETS = 1023
"""The longest part, in octets of UTF-8 (RFC 7622 3.1)."""

MAX_LABEL_OCTETS = 63
"""The longest label of a domain name, as A-label (RFC 1035 2.3.4)."""

MAX_TEXT_CHARACTERS = 4096
"""The longest text looked at. Three parts of 1023 octets fit, with room for what preparation makes shorter."""

# RFC 7622 3.3.1 leaves these out of the local part, beyond what UsernameCaseMapped refuses (spaces and controls).
_LOCAL_EXCLUDED = "\"&'/:<>@"
_LOCAL_ASCII = re.compile(r"[!#-%(-.0-9;=?A-~]+")
_RESOURCE_ASCII = re.compile(r"[ -~]+")
# Letters, digits and hyphens, no hyphen at an end (RFC 952, RFC 1123 2.1); underscores occur in local names.
_LABEL_ASCII = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class JID:
    """One address, prepared. Equal, and of equal hash, are those that RFC 7622 holds for equal.

    The parts are prepared whether it is parsed or made from parts: `JID("Romeo", "EXAMPLE.org")` is
    `romeo@example.org`. `str(jid)` is the address as text; parsing that gives the same JID.

    Attributes:
        local: the part before "@", or None. 1 to 1023 octets, lower case (UsernameCaseMapped, RFC 7622 3.3).
        domain: the domain: a name in U-label form ("bücher.example"), an IPv4 address or an IPv6 address in brackets.
        resource: the part behind the first "/", or None. 1 to 1023 octets, case kept (OpaqueString, RFC 7622 3.4).

    Raises:
        JidError: a part is not allowed; the message says which, and what is.
    """

    local: str | None
    domain: str
    resource: str | None = None

    def __post_init__(self) -> None:
        # The dataclass is frozen for its users; here it gets its only values.
        if self.local is not None:
            object.__setattr__(self, "local", _prepare_local(self.local))
        object.__setattr__(self, "domain", _prepare_domain(self.domain))
        if self.resource is not None:
            object.__setattr__(self, "resource", _prepare_resource(self.resource))

    @classmethod
    def parse(cls, text: str) -> JID:
        """Read an address. The last 1024 different ones are remembered.

        Args:
            text: `[local@]domain[/resource]`, at most 4096 characters. It is split at the first "/", and what stands
                before that at the first "@" (RFC 7622 3.1), so both may occur in a resource.

        Returns:
            The JID.

        Raises:
            JidError: it is not an address.
        """
        if not isinstance(text, str):
            raise JidError(f"a JID is parsed from a str, not from {type(text).__name__}")
        if len(text) > MAX_TEXT_CHARACTERS:
            raise JidError(f"a JID has at most {MAX_PART_OCTETS} octets in each part; this has {len(text)} characters")
        return _parse(text)

    @property
    def bare(self) -> JID:
        """The address without its resource."""
        return self if self.resource is None else JID(self.local, self.domain)

    @property
    def is_bare(self) -> bool:
        """Whether it has no resource."""
        return self.resource is None

    @property
    def full(self) -> str:
        """The whole address as text; the same as `str(jid)`."""
        return str(self)

    @property
    def ascii_domain(self) -> str:
        """The domain for DNS, TLS and SNI: A-labels ("xn--bcher-kva.example"); an IPv6 address without brackets."""
        if self.domain.isascii():
            return self.domain.strip("[]")
        return ".".join(_to_ascii(label) for label in self.domain.split("."))

    def with_resource(self, resource: str | None) -> JID:
        """The address with another resource, or with none.

        Raises:
            JidError: the resource is not allowed.
        """
        return JID(self.local, self.domain, resource)

    def __str__(self) -> str:
        text = self.domain if self.local is None else f"{self.local}@{self.domain}"
        return text if self.resource is None else f"{text}/{self.resource}"


def same_address(a: str, b: str) -> bool:
    """Whether two texts are one address.

    Args:
        a, b: addresses as they stand in stanzas.

    Returns:
        Whether their prepared forms are equal: servers fold case and others do not, or not everywhere. Where one is no
        valid address, whether the texts are equal.
    """
    if a == b:
        return True
    try:
        return JID.parse(a) == JID.parse(b)
    except JidError:
        return False


@lru_cache(maxsize=1024)
def _parse(text: str) -> JID:
    address, slash, resource = text.partition("/")
    local, at, domain = address.partition("@")
    if not at:
        return JID(None, address, resource if slash else None)
    return JID(local, domain, resource if slash else None)


def _prepare_local(text: str) -> str:
    if _LOCAL_ASCII.fullmatch(text):
        # For ASCII, UsernameCaseMapped (RFC 8265 3.3) is lower case and nothing else.
        return _bounded(text.lower(), "local part")
    prepared = _enforce("UsernameCaseMapped", text, "local part")
    # Looked for in the result: width mapping turns U+FF20 into "@".
    for char in prepared:
        if char in _LOCAL_EXCLUDED:
            raise _refusal("local part", text, f"{_not_allowed(char, text)} (RFC 7622 3.3.1)")
    return _bounded(prepared, "local part")


def _prepare_resource(text: str) -> str:
    # A leading space is kept: OpaqueString allows it and nicknames in chat rooms have it, though example 18 of RFC 7622
    # 3.5 takes it for an error.
    if not _RESOURCE_ASCII.fullmatch(text):
        text = _enforce("OpaqueString", text, "resource")
    return _bounded(text, "resource")


def _prepare_domain(text: str) -> str:
    if not text:
        raise _empty("domain")
    if text.startswith("["):
        return _prepare_ipv6(text)
    if not text.isascii() or "xn--" in text.lower():
        return _prepare_idn(text)
    # RFC 7622 3.2: a final dot MUST be stripped before anything else is done.
    domain = text.lower().removesuffix(".")
    for label in domain.split("."):
        _check_label(label, text)
    return _bounded(domain, "domain")


def _prepare_ipv6(text: str) -> str:
    from ipaddress import AddressValueError, IPv6Address

    # IP-literal of RFC 3986 3.2.2; the compressed form (RFC 5952), so that equal addresses are equal.
    try:
        if not text.endswith("]") or "%" in text:
            raise AddressValueError
        return f"[{IPv6Address(text[1:-1]).compressed}]"
    except AddressValueError:
        raise _refusal("domain", text, 'it begins like an IPv6 address, as in "[::1]", and is none') from None


def _prepare_idn(text: str) -> str:
    import idna

    try:
        # RFC 7622 3.2.1 asks for U-labels: lower case, full width and composition as RFC 5895 maps them.
        mapped = idna.uts46_remap(text, std3_rules=False, transitional=False)
        domain = ".".join(map(_to_unicode, mapped.removesuffix(".").split(".")))
        stable = idna.uts46_remap(domain, std3_rules=False, transitional=False) == domain
    except UnicodeError as error:  # idna.IDNAError is one; its text repeats the label, which is remote text.
        reason = "it is not allowed by IDNA2008 (RFC 5891)"
        code = _code_point_in(str(error))
        raise _refusal("domain", text, reason + (f": {code}" if code else "")) from None
    if not stable:  # No such name is known; but that equal addresses are equal values rests on it.
        raise _refusal("domain", text, "it has two spellings")
    for label in domain.split("."):
        _check_label(label, text)
    return _bounded(domain, "domain")


def _to_unicode(label: str) -> str:
    import idna

    if label.isascii() and not label.startswith("xn--"):
        return label
    unicode_label = idna.ulabel(label)
    if label.isascii() and _to_ascii(unicode_label) != label:  # RFC 5891 5.3; older releases of idna do not look.
        raise UnicodeError("not the A-label of any U-label")
    idna.alabel(unicode_label)  # Raises where the A-label is longer than DNS allows.
    return unicode_label


def _to_ascii(label: str) -> str:
    import idna

    return label if label.isascii() else idna.alabel(label).decode("ascii")


def _check_label(label: str, text: str) -> None:
    if label.isascii() and not _LABEL_ASCII.fullmatch(label):
        what = f"the label {_quote(label)}" if label else "an empty label"
        raise _refusal("domain", text, f"it has {what}; a label has letters, digits and hyphens, no hyphen at its ends")
    if label.isascii() and len(label) > MAX_LABEL_OCTETS:
        raise _refusal("domain", text, f"it has a label of {len(label)} octets; {MAX_LABEL_OCTETS} is the most")


def _enforce(profile: str, text: str, what: str) -> str:
    if not text:
        raise _empty(what)
    from precis_i18n import get_profile

    try:
        return get_profile(profile).enforce(text)
    except UnicodeEncodeError as error:
        if error.end - error.start == 1:
            reason = _not_allowed(error.object[error.start], text)
        else:
            reason = "it mixes right-to-left characters with others" if "bidi" in error.reason else "it is not stable"
    raise _refusal(what, text, f"{reason} ({profile}, RFC 8265)")


def _bounded(prepared: str, what: str) -> str:
    octets = len(prepared.encode("utf-8"))
    if not 1 <= octets <= MAX_PART_OCTETS:
        raise JidError(f"the {what} of a JID has 1 to {MAX_PART_OCTETS} octets; this has {octets}")
    return prepared


def _refusal(what: str, text: str, reason: str) -> JidError:
    return JidError(f"the {what} {_quote(text)} of a JID cannot be used: {reason}")


def _empty(what: str) -> JidError:
    advice = "every address has one" if what == "domain" else 'leave it out together with its "@" or "/"'
    return JidError(f"the {what} of a JID is empty; {advice}")


def _not_allowed(char: str, text: str) -> str:
    # Where the user wrote it; preparation may have made it out of another character, and then it has no place there.
    place = text.find(char)
    where = f"character {place + 1}" if place >= 0 else "after preparation"
    return f"U+{ord(char):04X} ({where}) is not allowed there"


def _quote(text: str) -> str:
    # Addresses come from the peer too: bounded, and with everything escaped that could move a cursor.
    shown = text[:64].encode("unicode_escape").decode("ascii") if not text[:64].isprintable() else text[:64]
    return f'"{shown}"' + ("..." if len(text) > 64 else "")


def _code_point_in(message: str) -> str:
    match = re.search(r"U\+[0-9A-F]{4,6}", message)
    return match[0] if match else ""
