"""Real servers for tests: see `RealServer`, and conftest.py for the fixtures."""

from tests.interop.servers.base import RealServer, ServerFailed, greet, is_free, processes_of
from tests.interop.servers.ejabberd import Ejabberd
from tests.interop.servers.jabberd2 import Jabberd2
from tests.interop.servers.prosody import Prosody
from tests.interop.servers.workspace import Workspace

__all__ = [
    "Ejabberd",
    "Jabberd2",
    "Prosody",
    "RealServer",
    "ServerFailed",
    "Workspace",
    "greet",
    "is_free",
    "processes_of",
]
