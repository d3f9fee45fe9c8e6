"""Which mechanism to use: our order decides, never the server's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from pcj.sasl.digest_md5 import DIGEST_MD5
from pcj.sasl.plain import PLAIN
from pcj.sasl.scram import SCRAM_SHA_1, SCRAM_SHA_256, SCRAM_SHA_512
from pcj.sasl.steps import Mechanism, quote

__all__ = ["MECHANISMS", "choose", "refusal"]

MECHANISMS: tuple[Mechanism, ...] = (SCRAM_SHA_512, SCRAM_SHA_256, SCRAM_SHA_1, DIGEST_MD5, PLAIN)
"""All that we do, best first."""

MAX_SHOWN_NAMES = 8
"""How many of the server's names one sentence repeats."""

# RFC 4422 3.1: 1 to 20 of A-Z, 0-9, hyphen, underscore. Such a name is shown bare, any other is quoted.
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def choose(
    offered: Sequence[str], *, secure: bool, allow_plain: bool = False, allowed: Sequence[str] | None = None
) -> Mechanism | None:
    """Choose the best mechanism that both sides do.

    Args:
        offered: the names the server lists, as received. Names count only when they are exactly ours: "plain" and
            " PLAIN" are other mechanisms, which we do not have.
        secure: whether the link is inside TLS (or need not be: a Unix socket).
        allow_plain: whether a mechanism that shows the password to whoever listens may be used without TLS.
        allowed: only these names; None allows all of `MECHANISMS`.

    Returns:
        The mechanism, or None; then `refusal` says why.
    """
    names = set(offered)  # Linear in a list of any length.
    for mechanism in _usable(secure=secure, allow_plain=allow_plain, allowed=allowed):
        if mechanism.name in names:
            return mechanism
    return None


def refusal(
    offered: Sequence[str], *, secure: bool, allow_plain: bool = False, allowed: Sequence[str] | None = None
) -> str:
    """Say why `choose` returned None, in words for the person who must mend it.

    Args:
        offered, secure, allow_plain, allowed: as given to `choose`.

    Returns:
        Sentences of bounded length; what the server wrote is escaped.
    """
    names = list(dict.fromkeys(offered))
    ours = [mechanism.name for mechanism in _usable(secure=secure, allow_plain=allow_plain, allowed=allowed)]
    sentences = [
        f"The server offers {_list_remote(names)}; we allow {_join(ours) or 'none that pcj knows'}."
        if names
        else f"The server offers no SASL mechanism; we allow {_join(ours) or 'none that pcj knows'}."
    ]
    for mechanism in MECHANISMS:
        if mechanism.name not in names or mechanism.name in ours:
            continue
        if allowed is not None and mechanism.name not in allowed:
            sentences.append(f"{mechanism.name} is not among the mechanisms you allow.")
        else:
            sentences.append(f"{mechanism.name} without TLS needs allow_plain.")
    if names and all(name.endswith("-PLUS") for name in names):
        sentences.append("Those in -PLUS are bound to the TLS channel (RFC 5802 6), which pcj cannot do.")
    return " ".join(sentences)


def _usable(*, secure: bool, allow_plain: bool, allowed: Sequence[str] | None) -> Iterable[Mechanism]:
    for mechanism in MECHANISMS:
        may_be_heard = secure or allow_plain or not mechanism.needs_tls
        if may_be_heard and (allowed is None or mechanism.name in allowed):
            yield mechanism


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
