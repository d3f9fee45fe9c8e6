"""The table as a page: docs/security.md."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.attacks.attack import SECTIONS, Attack
from tests.attacks.table import ATTACKS

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "security.md"
COMMAND: Final = ".venv/bin/python tools/draw_security.py"

_HEAD: Final = """\
# Security: the attacks that pcj is held against

<!-- Made by {command} from tests/attacks, where each row is played; do not edit it here. -->

A broker holds credentials and reads what strangers wrote. This page says against whom it stands, what it promises, what
it cannot promise, and which attacks it was held against: {attacks} of them, played in {plays} ways by a hostile server
through a real socket, in every run of the tests.

## Who may attack, and with what

- **Somebody on the way** (the network, a proxy, a false name server) reads, drops, changes and invents what is not
  inside TLS, before TLS stands and in DNS. He has a valid certificate for names of his own, not for ours.
- **A false server** to which we were led or sent speaks TLS, but has no certificate for our name.
- **The server itself** may be broken, badly set up, or taken over: it has the right certificate, and then says what it
  likes.
- **A peer** is another user of the network. The server stamps its address on what it sends; all else in it is its own.

## What pcj promises

- Without TLS that was verified for the right name nothing is authenticated, and nothing sent, unless the user said so
  (`require_tls=False`, `verify_tls=False`), or named a place on this machine to a component or a LEGACY link.
- A server that cannot prove that it knows the password gets no session, and learns nothing that it could log in with;
  but for one with the right certificate that offers PLAIN and nothing better, and never offered better to this broker.
  `sasl_mechanisms` without PLAIN, or `channel_binding="require"`, closes that too.
- What arrives is one well-formed XML stream in UTF-8 without DTDs, entities, comments and processing instructions, or
  the stream ends. What grows has a bound, most of them options of `Config`; past it the stream ends, or is read no
  further.
- A reply counts only if it comes from whom was asked. What is inside a stanza never counts as part of the stream.
- A session is offered for resumption (XEP-0198) only to its own account's server, with TLS as good as it was made with.
- Every wait has a deadline. Whatever a server does, `connect()` returns or raises.
- Passwords, and what they can be guessed from, are in no event, log, repr or error. Remote text is escaped and cut
  before it is part of a sentence.

## What it does not promise

- The server of the account sees every stanza and may invent, hold back or change any of them: end-to-end encryption is
  for a floor above this one.
- pcj gives stanzas on as they came. Whether a carbon copy, a roster push or a delayed message may be believed is for
  whoever reads them, by its `from` (P09).
- Somebody on the way can always prevent a connection. He cannot end a broker for good that has been READY before.
- A server that has logged us in once and turns against us can waste our bandwidth up to the bounds.
- DNS is not authenticated (no DNSSEC, no DANE): it can lead to a wrong place, where TLS then fails.
- A durable queue holds what people wrote, and the id of the session that may be resumed, as they are. The file is for
  its owner alone, and has no password in it; it is not encrypted.
- Without TLS there is no protection against somebody on the way, for any of the four connection types.

## How to read the tables

"Without protection" is what a client would lose that does not look; "pcj" is what the tests assert. The number in the
last column says in how many ways the attack is played. Where it says SSLFAIL, AUTHFAIL or BINDFAIL, that event tells of
the failure (`PCJ_SSLFAIL`, ...), once, and the socket is closed; where it names a condition (restricted-xml), the
server is told so in a stream error, and `STREAM_ERROR` tells the user.

After each play it is looked whether the password, a digest or a proof made of it is in any event, error or log line,
whether the password was sent where it must not be, whether the socket is closed, a task was left, and whether the
events came in an order that [events.md](events.md) allows.
"""


def draw() -> str:
    """The page."""
    plays = sum(len(attack.plays) for attack in ATTACKS)
    parts = [_HEAD.format(command=COMMAND, attacks=len(ATTACKS), plays=plays)]
    for letter, heading in SECTIONS.items():
        own = [attack for attack in ATTACKS if attack.id[0] == letter]
        number = sum(len(attack.plays) for attack in own)
        parts.append(f"\n## {heading}\n\n{len(own)} attacks, {number} plays.\n\n")
        parts.append("| | attack | without protection | pcj | plays |\n|---|---|---|---|---|\n")
        parts += map(_line, own)
        notes = [attack for attack in own if attack.note]
        if notes:
            parts.append("\n")
            parts += [f"- {attack.id}: {_cell(attack.note)}.\n" for attack in notes]
    return "".join(parts)


def _line(attack: Attack) -> str:
    what = _cell(attack.what) + (f" ({_cell(attack.see)})" if attack.see else "")
    cells = (attack.id, what, _cell(attack.unprotected), _cell(attack.pcj), str(len(attack.plays)))
    return f"| {' | '.join(cells)} |\n"


def _cell(text: str) -> str:
    """Text as Markdown shows it, in one cell of a table; what stands in backquotes is code."""
    pieces = text.split("`")
    for place, piece in enumerate(pieces):
        special = "|" if place % 2 else "\\*_<>|[]"
        for character in special:
            piece = piece.replace(character, f"\\{character}")
        pieces[place] = piece
    return "`".join(pieces)
