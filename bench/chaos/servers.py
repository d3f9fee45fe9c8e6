"""The real servers of the bench, as the interoperability tests start them, each with a port that offers no TLS.

Where a link must be looked into, it runs in plain text through that port; elsewhere in TLS from the first byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from pcj import JABBERD14_COMPONENT, LEGACY, XMPP
from tests.interop.servers import Ejabberd, Prosody, RealServer, Workspace

__all__ = [
    "BARRIER",
    "COMPONENT",
    "LEGACY_CLIENT",
    "MODES",
    "SM",
    "SM_TLS",
    "Mode",
    "Site",
    "forgetful",
    "open_site",
]

#: How long a server keeps a session whose link died, in seconds.
HIBERNATION: Final = 60


@dataclass(frozen=True)
class Mode:
    """A kind of link, and what proves its nodes.

    Attributes:
        name: in tables. connection_type, options: of the broker. tls: from the first byte. component: it is one.
    """

    name: str
    connection_type: str
    options: tuple[tuple[str, Any], ...] = ()
    tls: bool = False

    @property
    def component(self) -> bool:
        """Whether it is a component."""
        return self.connection_type == JABBERD14_COMPONENT

    @property
    def managed(self) -> bool:
        """Whether its session outlives its link (XEP-0198)."""
        return self.connection_type == XMPP and dict(self.options).get("stream_management", True)


_PLAIN = (("require_tls", False), ("allow_plain", True))
SM: Final = Mode("sm", XMPP, _PLAIN)
SM_TLS: Final = Mode("sm-tls", XMPP, (("direct_tls", True),), tls=True)
BARRIER: Final = Mode("barrier", XMPP, (*_PLAIN, ("stream_management", False)))
COMPONENT: Final = Mode("component", JABBERD14_COMPONENT)
LEGACY_CLIENT: Final = Mode("legacy", LEGACY, (*_PLAIN, ("plaintext", True)))
MODES: Final = {mode.name: mode for mode in (SM, SM_TLS, BARRIER, COMPONENT, LEGACY_CLIENT)}

_PROSODY: Final = """
modules_disabled = {{ "s2s", "tls" }}
smacks_hibernation_time = {hibernation}
smacks_max_queue_size = 5000
"""


#: Prosody 13.0.1 gives what comes after a resumption to the dead link's parser (the session keeps its function
#: `data`). If that link was cut inside a stanza, the server understands nothing more, and ends the session. So the
#: bench has Prosody mended by this, but for the row that shows the defect.
_MEND: Final = """\
module:set_global();
module:hook_global("c2s-session-updated", function (event)
    event.session.data = event.from_session.data;
end);
"""


class _Prosody(Prosody):
    """With the mend of resumption, if it is wanted."""

    mended = True

    def _configure(self) -> None:
        plugins = self.folder / "plugins"
        plugins.mkdir(exist_ok=True)
        (plugins / "mod_mend_resumption.lua").write_text(_MEND)
        super()._configure()
        path = self.folder / "prosody.cfg.lua"
        text = f'plugin_paths = {{ "{plugins}" }}\n' + path.read_text()
        if self.mended:
            text = text.replace('"legacyauth", "smacks",', '"legacyauth", "smacks", "mend_resumption",')
            assert "mend_resumption" in text
        path.write_text(text)


class _Ejabberd(Ejabberd):
    """With a plain port for clients that offers no TLS, and with passwords kept plain, for iq:auth."""

    hibernation = HIBERNATION

    def _configure(self) -> None:
        super()._configure()
        path = self.folder / "ejabberd.yml"
        text = path.read_text()
        offered = f'port: {self.c2s_port}, ip: "127.0.0.1", module: ejabberd_c2s, starttls: true'
        assert offered in text
        text = text.replace(offered, offered.replace("starttls: true", "starttls: false"))
        assert "resume_timeout: 60" in text
        path.write_text(text.replace("resume_timeout: 60", f"resume_timeout: {self.hibernation}"))


@dataclass
class Site:
    """A server that runs, and what to say to it.

    Attributes:
        server: as the tests know it.
    """

    server: RealServer

    @property
    def name(self) -> str:
        """Its name and version."""
        return f"{self.server.name} {self.server.version}"

    def port(self, mode: Mode) -> int:
        """Where links of this kind connect to."""
        if mode.component:
            return self.server.component_port
        port = self.server.direct_tls_port if mode.tls else self.server.c2s_port
        assert port is not None
        return port

    def jid(self, mode: Mode) -> str:
        """The address of the broker under test."""
        if mode.component:
            return self.server.component_domains[0]
        return f"{self.server.accounts[0][0]}@{self.server.domain}/chaos"

    def options(self, mode: Mode) -> dict[str, Any]:
        """The options of a broker of this kind; host and port are for who calls."""
        options: dict[str, Any] = {"connection_type": mode.connection_type, "jid": self.jid(mode), **dict(mode.options)}
        if mode.component:
            return options | {"password": self.server.component_secret}
        if mode.tls:
            options["ca_file"] = str(self.server.ca_file)
        return options | {"password": self.server.accounts[0][1]}

    async def kill(self) -> None:
        """SIGKILL."""
        await asyncio.to_thread(self.server.kill)

    async def terminate(self) -> None:
        """SIGTERM, and wait for the end."""
        await asyncio.to_thread(self.server.stop)

    async def start(self) -> None:
        """Start it again, with the same ports and data."""
        await asyncio.to_thread(self.server.start)


@asynccontextmanager
async def forgetful(site: Site, seconds: int) -> AsyncIterator[Site]:
    """Another server of the kind of `site`, that keeps no session longer than so many seconds."""
    async with open_site(site.server.name, hibernation=seconds) as another:
        yield another


@asynccontextmanager
async def open_site(name: str, *, hibernation: int = HIBERNATION, mended: bool = True) -> AsyncIterator[Site]:
    """A server of the bench, for as long as the context lasts.

    Args:
        name: "prosody" or "ejabberd". hibernation: how long it keeps a session whose link died, in seconds. mended:
            False for Prosody as it comes.

    Raises:
        SystemExit: this machine has no such server.
    """
    missing = _Prosody.missing() if name == "prosody" else _Ejabberd.missing()
    if missing is not None:
        raise SystemExit(missing)
    with Workspace.open() as workspace:
        server: RealServer
        if name == "prosody":
            server = prosody = _Prosody(workspace, settings=_PROSODY.format(hibernation=hibernation))
            prosody.mended = mended
        else:
            server = ejabberd = _Ejabberd(workspace, password_format="plain")
            ejabberd.hibernation = hibernation
        site = Site(server)
        await site.start()
        try:
            yield site
        finally:
            await asyncio.to_thread(server.stop)
