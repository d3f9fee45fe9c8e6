"""What `output` does to a node before anything else: it is checked, given what it lacks, and serialised, once."""

from __future__ import annotations

import asyncio
import sys
import xml.etree.ElementTree as ET
from typing import Final

from pcj.config import Config
from pcj.errors import ConfigError, NodeError, UsageError
from pcj.establishment import token
from pcj.namespaces import CLIENT, CONTENT
from pcj.outbound import check_addressed, check_node, check_own
from pcj.protocol import Dialect
from pcj.protocol.steps import Envelope, StreamLimits
from pcj.queue import Entry
from pcj.serialize import serialize
from pcj.stanza import Node

__all__ = ["IQS", "Intake"]

IQS, _PRESENCES, _MESSAGES = (
    frozenset({name, *(f"{{{namespace}}}{name}" for namespace in CONTENT)}) for name in ("iq", "presence", "message")
)
_STANZAS = IQS | _PRESENCES | _MESSAGES
_POLICIES: Final = ("hold", "resend", "drop")


class Intake:
    """Makes entries of nodes.

    Args:
        config, dialect: of the broker.

    Attributes:
        xmlns: the stream's content namespace, in which stanzas go out. domain: a component's own, else "".
        envelope: of the stream, or None. own: our address.
    """

    def __init__(self, config: Config, dialect: Dialect) -> None:
        self._config = config
        self.domain = (config.bind_domain or config.account.domain) if dialect.component else ""
        self._defaults = {"from": self.domain} if dialect.component else None
        xmlns = config.xmlns if config.xmlns is not None else dialect.xmlns
        self.xmlns = xmlns if dialect.canonical else CLIENT  # in an envelope a stanza's namespace is its own
        self.own = str(config.account.with_resource(config.wanted_resource))
        self.envelope: Envelope | None = None
        self.takes = sys.maxsize  # bytes of one element, as the server says (XEP-0478)
        # Of one stanza: the smaller of both bounds. Where there is an envelope each has to be looked at.
        self._max_bytes = config.max_outbound_bytes
        self._on_doubt = config.wanted_on_doubt
        self._max_age = config.queue_max_age
        self._checks = config.check_output
        # A repeat can be told by its id only (protocol-notes B8). Ids are unique over the lives of processes; those of
        # messages need not be unguessable, since nothing is matched on them.
        self._prefix = token()[:12]
        self._count = 0
        self._names = config.acks == "auto"

    def begin(self, envelope: Envelope | None, own: str, limits: StreamLimits | None) -> None:
        """A session begins; `own` is our address in it, `limits` what its server takes."""
        self.envelope = envelope
        self.own = own
        self.set_limits(limits)

    def set_limits(self, limits: StreamLimits | None) -> None:
        """What the server takes; None: nothing is known."""
        self.takes = limits.max_bytes if limits is not None and limits.max_bytes is not None else sys.maxsize
        self._max_bytes = min(self.takes, self._config.max_outbound_bytes) if self.envelope is None else -1

    def entry(self, node: Node, identity: str | None, ttl: float | None, on_doubt: str | None) -> Entry:
        """Check a node and take it as it is now.

        Args:
            node: the node; it is not changed. identity: the id to give it. ttl: seconds it may wait, where that is less
                than `queue_max_age`. on_doubt: as `Config.on_doubt`, for this node.

        Raises:
            UsageError, NodeError, ConfigError: as `Broker.output`.
        """
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:
            raise UsageError(
                "output outside the broker's event loop; from a thread: loop.call_soon_threadsafe"
            ) from None
        if not isinstance(node, Node):
            raise NodeError(f"expected an xml.etree.ElementTree.Element, got {type(node).__name__}")
        if ttl is not None and not (isinstance(ttl, (int, float)) and ttl > 0):
            raise ConfigError(f"ttl must be a number of seconds greater than 0, not {ttl!r}")
        if on_doubt is not None and on_doubt not in _POLICIES:
            raise ConfigError(f"on_doubt must be {' or '.join(map(repr, _POLICIES))}, not {on_doubt!r}")
        defaults = self._defaults
        counted = True
        if self._checks:
            check_node(node)
            if defaults is not None:
                check_addressed(node, self.domain)
            elif "from" in node.attrib:
                check_own(node, self.own)
        elif not (counted := node.tag in _STANZAS):
            defaults = None  # what it is only the user knows
        if identity is None and not node.get("id"):
            if node.tag in IQS:
                identity = token()
            elif self._names and node.tag in _MESSAGES:
                self._count += 1
                identity = f"{self._prefix}{self._count:x}"
        if identity is not None:
            if "id" in node.attrib:  # an empty one, which no reply could be told by
                node = _without_id(node)
            defaults = {"id": identity} if defaults is None else {**defaults, "id": identity}
        stanza = serialize(node, self.xmlns, defaults)
        data = stanza if self.envelope is None else self.envelope.wrap(stanza, node)
        if len(stanza) > self._max_bytes:
            self._check_size(stanza, data)
        age = self._max_age if ttl is None or ttl > self._max_age else ttl
        entry = Entry(stanza, data, now, now + age, on_doubt or self._on_doubt)
        if not counted:
            entry.counted = False
        return entry

    def _check_size(self, stanza: bytes, data: bytes) -> None:
        bound = self._config.max_outbound_bytes
        if len(stanza) > bound:
            raise NodeError(f"the node has {len(stanza)} bytes; max_outbound_bytes allows {bound}")
        if len(data) > self.takes:
            raise NodeError(f"the node has {len(data)} bytes; this server takes {self.takes} at most (XEP-0478)")

    def wrap(self, entry: Entry) -> None:
        """Put an entry that was made before this session, or in another, into this one's envelope."""
        entry.data = entry.stanza if self.envelope is None else self.envelope.wrap(entry.stanza, self.node_of(entry))

    def node_of(self, entry: Entry) -> Node:
        """The node as it was output; made anew, since only its bytes are kept."""
        # The bounds on what a peer may send are not meant for what we wrote ourselves.
        return ET.fromstring(b'<_ xmlns="%b">%b</_>' % (CLIENT.encode(), entry.stanza))[0]


def _without_id(node: Node) -> Node:
    """The same element without its id; `node` is not changed."""
    bare = ET.Element(node.tag, {name: value for name, value in node.items() if name != "id"})
    bare.text = node.text
    bare.extend(node)
    return bare
