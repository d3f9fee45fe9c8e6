"""A stream-managed session (XEP-0198) as a value: what is counted both ways, and whether it can be resumed.

It outlives its connections, and may be saved and read by the next process (`to_state`). The counters here are totals;
only on the wire are they reduced modulo 2^32 (XEP-0198 4).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pcj.config import Config
from pcj.errors import JidError, ProtocolError
from pcj.jid import JID
from pcj.namespaces import STREAM_MANAGEMENT as NS
from pcj.xmlstream.limits import WHITE_SPACE

__all__ = [
    "ACK",
    "ACK_REQUEST",
    "MAX_ID",
    "MAX_LOCATION",
    "REQUEST",
    "WRAP",
    "Management",
    "binding_of",
    "read_number",
]

#: What asks the peer how many of our stanzas it has handled.
REQUEST: Final = f'<r xmlns="{NS}"/>'.encode()
#: The tags of that request, and of the answer to it.
ACK_REQUEST: Final = f"{{{NS}}}r"
ACK: Final = f"{{{NS}}}a"
#: Bytes of an SM-ID (XEP-0198 5: it SHOULD NOT be longer).
MAX_ID: Final = 4_000
#: Characters of a location: the longest name, a colon, a port and some.
MAX_LOCATION: Final = 260
#: XEP-0198 4: an 'h' is an xs:unsignedInt, and follows 2^32-1 with 0.
WRAP: Final = 2**32
#: What is further ahead than this is meant to be behind.
_WINDOW: Final = WRAP // 2
#: Digits of a number, with zeros in front.
_DIGITS: Final = 32
#: Bounds of a state that was read: of a counter, and of a text that has no bound of its own.
_MAX_COUNT: Final = 2**63
_MAX_TEXT: Final = 16_384


class Management:
    """One stream-managed session.

    Args:
        id: the server's name for it (SM-ID), a secret: whoever has it and the account may take the session over; ""
            where it cannot be resumed. jid: who we are in it. sid: the id of its first stream.
        max_seconds: how long it may be resumed after its link was lost. location: where the server would have us
            come back ("host:port", either with brackets for IPv6), or "".
        binding: what it belongs to, by `binding_of`; to anybody else it is never offered (protocol-notes B7).
        secured: whether it stood inside TLS; without that it is not offered again.

    Attributes:
        handled: stanzas of the peer's that count as ours so far. proved: of ours that the peer has handled, since
            <enable/>. Both are totals. exact: whether we know how many we sent. Of a state that was read, the process
            that wrote it may have sent more; the peer's next count makes it exact.
    """

    __slots__ = ("binding", "exact", "handled", "id", "jid", "location", "max_seconds", "proved", "secured", "sid")

    def __init__(
        self,
        id: str = "",
        *,
        jid: str,
        sid: str = "",
        max_seconds: float = 0.0,
        location: str = "",
        binding: str = "",
        secured: bool = False,
        handled: int = 0,
        proved: int = 0,
        exact: bool = True,
    ) -> None:
        self.id = id
        self.jid = jid
        self.sid = sid
        self.max_seconds = max_seconds
        self.location = location
        self.binding = binding
        self.secured = secured
        self.handled = handled
        self.proved = proved
        self.exact = exact

    def __repr__(self) -> str:
        may = "resumable" if self.resumable else "not resumable"
        return f"<Management {may} handled={self.handled} proved={self.proved}>"  # never the id: it is a secret

    @property
    def resumable(self) -> bool:
        """Whether the server would know it again."""
        return bool(self.id)

    def forget(self) -> None:
        """It cannot be resumed any more: the server said so, or its counts contradict ours."""
        self.id = ""

    @property
    def h(self) -> int:
        """`handled` as it goes onto the wire."""
        return self.handled % WRAP

    def answer(self) -> bytes:
        """The <a/> that says what is handled; MUST follow each <r/>, and may come at any time (XEP-0198 4)."""
        return f'<a xmlns="{NS}" h="{self.handled % WRAP}"/>'.encode()

    def proof(self, h: str | None, outstanding: int) -> int:
        """Take what the peer says of our stanzas: in <a/>, <resumed/> or <failed/>.

        Args:
            h: its attribute, or None where there was none. outstanding: how many of ours were sent and are unproved.

        Returns:
            How many more are proved, the oldest first; `proved` counts them already. Where the session was not exact
            this can be more than `outstanding`.

        Raises:
            ProtocolError: it is no number, more than was sent, or less than was said before (protocol-notes A26). Then
                nothing is proved by it, and the session is not to be resumed.
        """
        number = read_number(h)
        if number is None or number >= WRAP:
            self.forget()
            came = "nothing" if h is None else ascii(h[: _DIGITS + 1])
            raise ProtocolError(
                f"the server said {came} in place of how many of our stanzas it has handled (XEP-0198, 'h')",
                answer="undefined-condition",
                expected="a number below 2^32",
                came=came,
            )
        more = (number - self.proved) % WRAP
        if more > outstanding and (self.exact or more >= _WINDOW):
            self.forget()
            sent = (self.proved + outstanding) % WRAP
            if more >= _WINDOW:
                message = f"{number} of our stanzas, and {self.proved % WRAP} before"
                expected = f"no less than {self.proved % WRAP}"
            else:
                message = f"{number} of our stanzas, and we have sent it {sent}"
                expected = f"no more than {sent}"
            # XEP-0198 6. It has no element for a count that is too low; modulo 2^32 that is one that is too high.
            raise ProtocolError(
                f"the server says that it has handled {message}: nobody can say what it has",
                answer="undefined-condition",
                application=f'<handled-count-too-high xmlns="{NS}" h="{number}" send-count="{sent}"/>'.encode(),
                expected=expected,
                came=f"h='{number}'",
            )
        self.proved += more
        self.exact = True
        return more

    def to_state(self) -> dict[str, object]:
        """All of it, for JSON. The id is in it: whoever saves it, does so for nobody else to read."""
        return {
            "id": self.id,
            "jid": self.jid,
            "sid": self.sid,
            "max_seconds": self.max_seconds,
            "location": self.location,
            "binding": self.binding,
            "secured": self.secured,
            "handled": self.handled,
            "proved": self.proved,
        }

    @classmethod
    def from_state(cls, state: object) -> Management:
        """What `to_state` gave, not exact any more.

        Raises:
            ValueError: it gave no such thing. The message does not quote it.
        """
        if not isinstance(state, Mapping):
            raise ValueError("the state of a session must be an object")
        identity = _text(state, "id", MAX_ID)
        if not 0 < len(identity.encode()) <= MAX_ID:
            raise ValueError(f"the state's id must have 1 to {MAX_ID} bytes")
        jid = _text(state, "jid", _MAX_TEXT)
        try:
            if JID.parse(jid).resource is None:
                raise ValueError("the state's jid has no resource")
        except JidError:
            raise ValueError("the state's jid is no address") from None
        seconds = state.get("max_seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < WRAP:
            raise ValueError("the state's max_seconds must be a number of seconds")
        secured = state.get("secured")
        if not isinstance(secured, bool):
            raise ValueError("the state's secured must be true or false")
        return cls(
            identity,
            jid=jid,
            sid=_text(state, "sid", _MAX_TEXT),
            max_seconds=float(seconds),
            location=_text(state, "location", MAX_LOCATION),
            binding=_text(state, "binding", _MAX_TEXT),
            secured=secured,
            handled=_count(state, "handled"),
            proved=_count(state, "proved"),
            exact=False,
        )


def binding_of(config: Config) -> str:
    """What a session of this config belongs to: account, resource, log-in, server and policy of TLS.

    Another config may have the session only if this is the same (protocol-notes B7).
    """
    account = config.account
    parts = [
        config.connection_type,
        str(account.bare),
        config.wanted_resource,
        config.login,
        config.host,
        config.port,
        config.require_tls,
        config.verify_tls,
        config.tls_name,
        config.ca_file,
        config.client_certificate,
        config.pins,
    ]
    return json.dumps(parts)


def read_number(text: str | None) -> int | None:
    """A whole number as XML Schema writes one without a sign; None where it is none, or has too many digits."""
    text = (text or "").strip(WHITE_SPACE)
    if not (0 < len(text) <= _DIGITS and text.isascii() and text.isdigit()):
        return None
    return int(text)


def _text(state: Mapping[str, object], name: str, most: int) -> str:
    value = state.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"the state's {name} must be a text of {most} characters at most")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the state's {name} is no Unicode text") from None
    return value


def _count(state: Mapping[str, object], name: str) -> int:
    value = state.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_COUNT:
        raise ValueError(f"the state's {name} must be a count")
    return value
