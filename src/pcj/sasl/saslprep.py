"""SASLprep (RFC 4013): one spelling for a user name or password, whatever keyboard it was typed on.

SCRAM (RFC 5802 5.1) and PLAIN (RFC 4616 2) ask for it; PRECIS's OpaqueString is another thing and gives other octets.
Stringprep is defined on Unicode 3.2, so the normalisation is that version's.
"""

from __future__ import annotations

import stringprep
from unicodedata import category, ucd_3_2_0

from pcj.errors import ConfigError

__all__ = ["check_authzid", "prepare", "prepare_identity", "prepare_password"]

# RFC 4013 2.3, in its order.
_PROHIBITED = (
    (stringprep.in_table_c12, "a non-ASCII space"),
    (stringprep.in_table_c21_c22, "a control character"),
    (stringprep.in_table_c3, "a private-use character"),
    (stringprep.in_table_c4, "a non-character"),
    (stringprep.in_table_c5, "a surrogate"),
    (stringprep.in_table_c6, "inappropriate for plain text"),
    (stringprep.in_table_c7, "inappropriate for canonical representation"),
    (stringprep.in_table_c8, "a character that changes the display or is deprecated"),
    (stringprep.in_table_c9, "a tagging character"),
)


def prepare(text: str, what: str = "text", *, allow_unassigned: bool = True) -> str:
    """Prepare a string by RFC 4013.

    Args:
        text: the string as the user gave it.
        what: how to call it in an error ("password").
        allow_unassigned: whether code points that Unicode 3.2 did not know may stay. True is the rule for queries
            (RFC 4013 2.5), False the one for stored strings.

    Returns:
        The prepared string; it can be empty.

    Raises:
        ConfigError: a character is prohibited, or the string breaks the rules for mixing directions. The message names
            the code point and its place (the first is 1) and never shows the string.
    """
    if text.isascii() and text.isprintable():
        return text  # Nothing in it is mapped, prohibited or without direction.
    # RFC 4013 2.1: spaces to U+0020; "commonly mapped to nothing" to nothing. U+200B is in both tables: a space here.
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else "" if stringprep.in_table_b1(char) else char for char in text
    )
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    for char in prepared:
        for is_in_table, reason in _PROHIBITED:
            if is_in_table(char):
                raise _refusal(text, prepared, char, what, reason)
        if not allow_unassigned and stringprep.in_table_a1(char):
            raise _refusal(text, prepared, char, what, "not assigned in Unicode 3.2")
    _check_directions(prepared, what)
    return prepared


def prepare_identity(text: str, what: str = "username") -> str:
    """Prepare a user name, which must not be empty.

    Raises:
        ConfigError: as `prepare`, or nothing is left of it.
    """
    prepared = prepare(text, what)
    if not prepared:
        raise ConfigError(f"The {what} is empty after preparation by SASLprep (RFC 4013).")
    return prepared


def prepare_password(text: str) -> bytes:
    """Prepare a password and encode it.

    RFC 5802 2.2 treats it as a stored string, in which code points unknown to Unicode 3.2 are prohibited. We let them
    pass: we are the side that asks, the server holds the stored one, and many accept an emoji there.

    Returns:
        The octets, UTF-8, not empty.

    Raises:
        ConfigError: as `prepare_identity`. The message never shows the password.
    """
    return prepare_identity(text, "password").encode("utf-8")


def check_authzid(authzid: str) -> str:
    """The authorization identity, if it can be sent: no control characters (NUL ends it in PLAIN), no surrogates.

    It is a JID and not prepared by SASLprep.

    Raises:
        ConfigError: it cannot.
    """
    for index, char in enumerate(authzid):
        if category(char) in ("Cc", "Cs", "Zl", "Zp"):
            raise ConfigError(
                f"The authorization identity cannot be used: U+{ord(char):04X} (character {index + 1}) is not allowed."
            )
    return authzid


def _refusal(text: str, prepared: str, char: str, what: str, reason: str) -> ConfigError:
    # The place in what the user typed; a character that only the normalisation made has its place in the result.
    place = text.find(char)
    where = f"character {place + 1}" if place >= 0 else f"character {prepared.index(char) + 1} after normalisation"
    return ConfigError(
        f"The {what} cannot be used: U+{ord(char):04X} ({where}) is {reason}, which SASLprep prohibits (RFC 4013 2.3)."
    )


def _check_directions(prepared: str, what: str) -> None:
    # RFC 3454 6: with any RandALCat character there must be no LCat one, and RandALCat at both ends.
    if not any(map(stringprep.in_table_d1, prepared)):
        return
    ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
    if not ends or any(map(stringprep.in_table_d2, prepared)):
        raise ConfigError(
            f"The {what} cannot be used: it mixes right-to-left characters with others in a way that SASLprep "
            "prohibits (RFC 4013 2.4): they must stand at both ends, with no left-to-right letter between."
        )
