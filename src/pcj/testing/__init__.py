"""For the tests of whoever uses pcj: an XMPP server of its own, one that says what the test says, and a check of the
order of events.

Needs `pcj[testing]` for TLS.
"""

from pcj.testing.contract import Contract
from pcj.testing.options import ServerOptions
from pcj.testing.scripted import ScriptedServer
from pcj.testing.server import Server
from pcj.testing.session import SessionInfo

__all__ = ["Contract", "ScriptedServer", "Server", "ServerOptions", "SessionInfo"]
