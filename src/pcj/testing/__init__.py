"""For the tests of whoever uses pcj: an XMPP server inside the process, and one that says what the test says.

Needs `pcj[testing]` for TLS.
"""

from pcj.testing.options import ServerOptions
from pcj.testing.scripted import ScriptedServer
from pcj.testing.server import Server
from pcj.testing.session import SessionInfo

__all__ = ["ScriptedServer", "Server", "ServerOptions", "SessionInfo"]
