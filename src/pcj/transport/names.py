"""Host names and addresses, as DNS, TLS and a reader of an error want them."""

from __future__ import annotations

import ipaddress

from pcj.errors import printable

__all__ = ["MAX_NAME_OCTETS", "ascii_name", "both_names", "ip_literal", "shown"]

#: The longest name in presentation form without the final dot (RFC 1035 2.3.4: 255 octets on the wire).
MAX_NAME_OCTETS = 253
#: The longest label (RFC 1035 2.3.4).
MAX_LABEL_OCTETS = 63
#: How much of a peer's text an error quotes, in characters.
SHOWN_CHARACTERS = 80


def shown(text: str) -> str:
    """Text of a peer in quotation marks, shortened, safe to show on a terminal."""
    return f"'{printable(text[:SHOWN_CHARACTERS])}{'...' if len(text) > SHOWN_CHARACTERS else ''}'"


def both_names(typed: str, name: str) -> str:
    """A name in ASCII behind the spelling that the user knows, "bücher.example (xn--bcher-kva.example)"."""
    return f"{typed} ({name})" if typed and typed != name else name


def ip_literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `host` is, with or without the brackets of an IPv6 address; None if it is a name."""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_local_name(name: str) -> bool:
    """Whether a name in ASCII, or an address, is this machine's own whatever DNS says (RFC 6761 6.3)."""
    if (address := ip_literal(name)) is not None:
        return address.is_loopback
    name = name.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def ascii_name(name: str) -> str:
    """A domain name as DNS and certificates know it: A-labels in lower case, no final dot (RFC 5890 2.3.2.1).

    Raises:
        ValueError: no name of DNS; the message says why.
    """
    bare = name[:-1] if name.endswith(".") else name
    if not bare.isascii():
        import idna  # only names beyond ASCII need its tables

        try:
            bare = idna.encode(bare, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise ValueError(f"{shown(name)} is no internationalised domain name ({error})") from None
    bare = bare.lower()
    if not bare or any(not label for label in bare.split(".")):
        raise ValueError(f"{shown(name)} has an empty label")
    if any(len(label) > MAX_LABEL_OCTETS for label in bare.split(".")) or len(bare) > MAX_NAME_OCTETS:
        raise ValueError(f"{shown(name)} is longer than DNS allows")
    if any(not "!" <= c <= "~" for c in bare):
        raise ValueError(f"{shown(name)} has a character that no host name has")
    return bare
