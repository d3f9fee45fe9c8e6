"""Which mechanism to use, and how to bind it to TLS: our order decides, never the server's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice
from types import MappingProxyType
from typing import Final

from pcj.sasl.anonymous import ANONYMOUS
from pcj.sasl.digest_md5 import DIGEST_MD5
from pcj.sasl.external import EXTERNAL
from pcj.sasl.plain import PLAIN
from pcj.sasl.scram import (
    PLUS,
    SCRAM_SHA_1,
    SCRAM_SHA_1_PLUS,
    SCRAM_SHA_256,
    SCRAM_SHA_256_PLUS,
    SCRAM_SHA_512,
    SCRAM_SHA_512_PLUS,
)
from pcj.sasl.steps import Channel, Guard, Mechanism, Need, quote

__all__ = ["MECHANISMS", "Choice", "Terms", "choose", "refusal"]

MECHANISMS: tuple[Mechanism, ...] = (
    EXTERNAL,
    SCRAM_SHA_512_PLUS,
    SCRAM_SHA_256_PLUS,
    SCRAM_SHA_1_PLUS,
    SCRAM_SHA_512,
    SCRAM_SHA_256,
    SCRAM_SHA_1,
    DIGEST_MD5,
    PLAIN,
    ANONYMOUS,
)
"""All that we do, best first."""

MAX_SHOWN_NAMES = 8
"""How many of the server's names one sentence repeats."""

# RFC 4422 3.1: 1 to 20 of A-Z, 0-9, hyphen, underscore. Such a name is shown bare, any other is quoted.
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_BY_NAME: Final[Mapping[str, Mechanism]] = MappingProxyType({mechanism.name: mechanism for mechanism in MECHANISMS})
_NO_BINDINGS: Final[Mapping[str, bytes]] = MappingProxyType({})

# Where a server offers -PLUS and does not say for which types, each had one that every server must do: tls-unique
# (RFC 5802 6.1) below TLS 1.3, tls-exporter (RFC 9266 4.2) from there on. A TLS session has but one of the two first.
_USUAL_TYPES: Final = ("tls-unique", "tls-exporter")

#: It binds to the server's certificate alone: whoever has stolen its key can be in between.
_LEAST_TYPE: Final = "tls-server-end-point"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a mechanism is chosen by.

    Attributes:
        secure: whether the link is inside TLS.
        allow_plain: whether a mechanism that gives the password away, or what it can be guessed from, may be used
            without TLS.
        router: whether it is jabberd2's router that we log in to, which knows DIGEST-MD5 alone.
        allowed: only these names, best first; None: all but ANONYMOUS, in the order of `MECHANISMS`.
        password, certificate: whether there is one to log in with.
        bindings: the channel bindings of the TLS session, best first.
        binding_types: those that the server offers (XEP-0440), or None if it says nothing of them.
        channel_binding: "prefer", "require" or "off".
        floor: what protected the account when it was logged in to before; nothing less is used. floor_type: the type of
            channel binding then, or "".
        refused: the names that the server offers, and has refused to know.
    """

    secure: bool
    allow_plain: bool = False
    router: bool = False
    allowed: Sequence[str] | None = None
    password: bool = True
    certificate: bool = False
    bindings: Mapping[str, bytes] = field(default_factory=lambda: _NO_BINDINGS, repr=False)
    binding_types: tuple[str, ...] | None = None
    channel_binding: str = "prefer"
    floor: Guard = Guard.NONE
    floor_type: str = ""
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Choice:
    """The mechanism that both sides do, and the channel to run it over.

    Attributes:
        mechanism, channel: for `Mechanism.exchange`. warning: what a user should know of it, or "".
    """

    mechanism: Mechanism
    channel: Channel
    warning: str = ""


def choose(offered: Sequence[str], terms: Terms) -> Choice | None:
    """Choose the best mechanism that both sides do.

    Args:
        offered: the names the server lists, as received. Names count only when they are exactly ours: "plain" and
            " PLAIN" are other mechanisms, which we do not have.
        terms: what holds here.

    Returns:
        The choice, or None; then `refusal` says why.
    """
    names = set(offered) - terms.refused  # linear in a list of any length
    outlook = _outlook(offered, terms)
    for mechanism in _ordered(terms.allowed):
        if mechanism.name in names and not _objection(mechanism, terms, outlook):
            return _with_channel(mechanism, offered, terms, outlook)
    return None


def refusal(offered: Sequence[str], terms: Terms) -> str:
    """Say why `choose` returned None, in words for the person who must mend it.

    Args:
        offered, terms: as given to `choose`.

    Returns:
        Sentences of bounded length; what the server wrote is escaped.
    """
    names = list(dict.fromkeys(offered))
    outlook = _outlook(offered, terms)
    ours = [each.name for each in _ordered(terms.allowed) if not _objection(each, terms, outlook)]
    what = f"offers {_list_remote(names)}" if names else "offers no SASL mechanism"
    sentences = [f"The server {what}; we allow {_join(ours) or 'none that can be used here'}."]
    for mechanism in MECHANISMS:
        if mechanism.name not in names:
            continue
        if terms.allowed is not None and mechanism.name not in terms.allowed:
            sentences.append(f"{mechanism.name} is not among the mechanisms you allow.")
        elif terms.allowed is None and mechanism is ANONYMOUS:
            sentences.append("ANONYMOUS is used only where sasl_mechanisms names it.")
        elif objection := _objection(mechanism, terms, outlook):
            sentences.append(objection)
    return " ".join(sentences)


def _ordered(allowed: Sequence[str] | None) -> Iterator[Mechanism]:
    if allowed is None:
        return (mechanism for mechanism in MECHANISMS if mechanism is not ANONYMOUS)
    return (_BY_NAME[name] for name in dict.fromkeys(allowed) if name in _BY_NAME)


class _Prospect(Enum):
    """What can be had of channel binding, given what we can and what the server says that it can."""

    COMMON = auto()  #: there is a type that both sides do
    APART = auto()  #: the server binds, and there is none
    SILENT = auto()  #: we could, and the server says of nothing that it could
    STRIPPED = auto()  #: it lists types for mechanisms that are not in its list
    NONE = auto()  #: we cannot, or are told not to


@dataclass(frozen=True, slots=True)
class _Outlook:
    prospect: _Prospect
    kind: str = ""  #: the best common type


def _outlook(offered: Sequence[str], terms: Terms) -> _Outlook:
    """Look at the server's lists once, for all that hangs on them (RFC 5802 6, XEP-0440 3)."""
    pinned = terms.allowed is not None and not any(name.endswith(PLUS) for name in terms.allowed)
    if terms.channel_binding == "off" or not terms.secure or pinned:
        return _Outlook(_Prospect.NONE)
    types = terms.binding_types
    if not any(name.endswith(PLUS) for name in offered):
        # A server whose accounts know no SCRAM may list its types in vain; one that knows it has -PLUS as well.
        if types is not None and any(name.startswith("SCRAM-") for name in offered):
            return _Outlook(_Prospect.STRIPPED)
        return _Outlook(_Prospect.SILENT if terms.bindings else _Prospect.NONE)
    common = [kind for kind in (terms.bindings if types is not None else _USUAL_TYPES) if kind in terms.bindings]
    common = [kind for kind in common if types is None or kind in types]
    return _Outlook(_Prospect.COMMON, common[0]) if common else _Outlook(_Prospect.APART)


def _objection(mechanism: Mechanism, terms: Terms, outlook: _Outlook) -> str:
    """Why a mechanism is not used, be it offered or not; or ""."""
    name, guard, need = mechanism.name, mechanism.guard, mechanism.need
    if need is Need.CERTIFICATE and not (terms.certificate and terms.secure):
        return f"{name} needs TLS and a client_certificate."
    if need is Need.PASSWORD and not terms.password:
        return f"{name} needs a name and a password."
    if guard is Guard.BOUND and not terms.secure:
        return f"{name} is bound to the TLS session, and there is none."
    if guard is Guard.BOUND and outlook.prospect not in (_Prospect.COMMON, _Prospect.STRIPPED):
        return f"{name} is bound to the TLS session, {_why_unbound(terms)}."
    if need is Need.PASSWORD and outlook.prospect is _Prospect.STRIPPED:
        # XEP-0440 3: SHOULD abort; and what shows the password above all.
        return (
            f"{name} is not used, for the server lists types of channel binding and no mechanism in {PLUS}: somebody "
            "between may have taken those out of the list (XEP-0440). channel_binding='off' does without."
        )
    if need is Need.PASSWORD and guard < Guard.BOUND and terms.channel_binding == "require":
        return f"{name} is not bound to the TLS session, which channel_binding='require' asks for."
    weak = guard is Guard.SHOWN or (guard is Guard.GUESSABLE and not terms.router)
    if weak and not terms.secure and not terms.allow_plain:
        return f"{name} without TLS needs allow_plain."
    if guard < min(terms.floor, Guard.PROVED):
        # XEP-0474 6.1: a client that has used SCRAM once MUST NOT fall back to PLAIN.
        return (
            f"{name} protects the account less than what this broker has logged in with before: a server that no "
            "longer offers that may be a false one. If it is right, make a new broker."
        )
    return ""


def _why_unbound(terms: Terms) -> str:
    """Why nothing is bound, to follow "bound to the TLS session, "."""
    if terms.channel_binding == "off":
        return "which channel_binding='off' does without"
    if not terms.bindings:
        return "of which nothing can be had that both sides could bind to"
    can = _join(list(terms.bindings))
    if terms.binding_types is None:
        return f"for which we can use {can}, and the server does not say what it can"
    missing = "tls-exporter" in terms.binding_types and "tls-exporter" not in terms.bindings
    hint = "; with pcj[binding] and TLS 1.3 we could use tls-exporter" if missing else ""
    return f"for which the server can use {_list_remote(terms.binding_types) or 'nothing'} and we {can}{hint}"


def _with_channel(mechanism: Mechanism, offered: Sequence[str], terms: Terms, outlook: _Outlook) -> Choice:
    """How to run a mechanism, and what to warn of (RFC 5802 6, XEP-0474 6)."""
    scram = mechanism.name.startswith("SCRAM-")
    flag, data, kind, warning = "n", b"", "", ""
    if mechanism.guard is Guard.BOUND:
        kind = outlook.kind
        flag, data = f"p={kind}", terms.bindings[kind]
    elif scram and outlook.prospect is _Prospect.SILENT:
        # RFC 5802 6: we could, and think that the server cannot. If it can, its list was altered, and it will know.
        flag = "y"
    elif scram and outlook.prospect is _Prospect.APART:
        # No "y": the server would take it for an attack. XEP-0474: go on, and look at the hash it may send.
        warning = f"the log-in is not bound to the TLS session, {_why_unbound(terms)}"
    elif scram and outlook.prospect is _Prospect.COMMON:
        warning = (
            "the log-in is not bound to the TLS session: the server binds by mechanisms only that are not used here"
        )
    # Where more was had before, the server must see that its list was altered ("y"), or prove that it was not.
    less = terms.floor is Guard.BOUND and flag == "n"
    less = less or (kind == _LEAST_TYPE and terms.floor_type not in ("", _LEAST_TYPE))
    channel = Channel(flag, data, tuple(offered), terms.binding_types, vouched=scram and less)
    return Choice(mechanism, channel, warning)


def _list_remote(names: Sequence[str]) -> str:
    shown = [
        name if 0 < len(name) <= 40 and _NAME_CHARACTERS.issuperset(name) else quote(name, 40)
        for name in islice(names, MAX_SHOWN_NAMES)
    ]
    if len(names) > MAX_SHOWN_NAMES:
        shown.append(f"{len(names) - MAX_SHOWN_NAMES} more")
    return _join(shown)


def _join(words: Sequence[str]) -> str:
    return ", ".join(words) if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"
