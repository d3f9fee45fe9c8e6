"""pcj: an XMPP/Jabber connection broker.

It opens a connection, negotiates every layer of it, tells whoever subscribed what is happening at each step, and
carries XML nodes both ways.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pcj.config import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP, Config
from pcj.errors import (
    ConfigError,
    ConnectionFailed,
    DeliveryError,
    Failure,
    FilterError,
    JidError,
    NodeError,
    ParseError,
    PcjError,
    Phase,
    ProtocolError,
    QueueError,
    QueueFull,
    RequestError,
    RequestTimeout,
    Retry,
    SaslError,
    StreamErrorReceived,
    UsageError,
)
from pcj.events import Event, Status
from pcj.explain import State
from pcj.jid import JID
from pcj.protocol import Dialect, register_dialect
from pcj.queue import Receipt, ReceiptState
from pcj.serialize import to_bytes
from pcj.stanza import Node, error_reply, iq, message, ping, presence
from pcj.xmlstream import from_bytes

if TYPE_CHECKING:
    from pcj.broker import Broker
    from pcj.dispatch import Subscription
    from pcj.filters import xpath

__all__ = [
    "JABBERD14_COMPONENT",
    "JABBERD20_COMPONENT",
    "JID",
    "LEGACY",
    "XMPP",
    "Broker",
    "Config",
    "ConfigError",
    "ConnectionFailed",
    "DeliveryError",
    "Dialect",
    "Event",
    "Failure",
    "FilterError",
    "JidError",
    "Node",
    "NodeError",
    "ParseError",
    "PcjError",
    "Phase",
    "ProtocolError",
    "QueueError",
    "QueueFull",
    "Receipt",
    "ReceiptState",
    "RequestError",
    "RequestTimeout",
    "Retry",
    "SaslError",
    "State",
    "Status",
    "StreamErrorReceived",
    "Subscription",
    "UsageError",
    "error_reply",
    "from_bytes",
    "iq",
    "message",
    "ping",
    "presence",
    "register_dialect",
    "to_bytes",
    "xpath",
]

# Imported at first use: the floors that know asyncio, without which the core is usable, and what few need.
_LAZY = {"Broker": "pcj.broker", "Subscription": "pcj.dispatch", "xpath": "pcj.filters"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'pcj' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value
