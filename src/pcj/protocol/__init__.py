"""The connection types, and the driver that negotiates them: the sans-IO core.

To add a connection type, write its `negotiate` as a generator of `pcj.protocol.steps` and register a `Dialect`.
"""

from pcj.protocol import jabberd14, jabberd20, legacy, xmpp  # each registers its dialect
from pcj.protocol.dialect import Dialect, dialect_of, register_dialect
from pcj.protocol.negotiator import Negotiator

__all__ = ["Dialect", "Negotiator", "dialect_of", "jabberd14", "jabberd20", "legacy", "register_dialect", "xmpp"]
