"""jabberd2, as Debian packages it: a router with a session manager and a client port, each a process of its own."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tests.interop.servers.base import NS_CLIENT, NS_COMPONENT_ACCEPT, RealServer, free_ports

SCHEMA = Path("/usr/share/doc/jabberd2/db-setup.sqlite.gz")

# The component protocol's secret and the router's users are two doors of one port.
ROUTER = """\
<router>
  <id>router</id>
  <log type='file'><file>{log}/router.log</file></log>
  <local>
    <ip>127.0.0.1</ip>
    <port>{router_port}</port>
    <users>{folder}/router-users.xml</users>
    <secret>{component_secret}</secret>
    <pemfile>{pemfile}</pemfile>
  </local>
  <io><max_fds>1024</max_fds></io>
  <aci>
    <acl type='all'><user>jabberd</user></acl>
    <acl type='bind'><user>comp</user></acl>
    <filter>{folder}/router-filter.xml</filter>
  </aci>
</router>
"""

SM = """\
<sm>
  <id>sm</id>
  <router><ip>127.0.0.1</ip><port>{router_port}</port><user>jabberd</user><pass>secret</pass></router>
  <log type='file'><file>{log}/sm.log</file></log>
  <local><id>{domain}</id></local>
  <storage><path>{libraries}</path><driver>sqlite</driver><sqlite><dbname>{folder}/sqlite.db</dbname></sqlite></storage>
  <user><auto-create/></user>
  <modules>
    <path>{libraries}</path>
    <chain id='in-sess'>
      <module>validate</module><module>roster</module><module>iq-ping</module><module>disco</module>
      <module>presence</module><module>deliver</module>
    </chain>
    <chain id='in-router'><module>session</module><module>validate</module><module>presence</module></chain>
    <chain id='pkt-sm'><module>iq-ping</module><module>iq-version</module><module>disco</module></chain>
    <chain id='pkt-user'>
      <module>roster</module><module>presence</module><module>disco</module><module>deliver</module>
    </chain>
    <chain id='pkt-router'><module>session</module><module>disco</module></chain>
    <chain id='user-load'><module>active</module><module>roster</module></chain>
    <chain id='user-create'><module>active</module></chain>
  </modules>
</sm>
"""

C2S = """\
<c2s>
  <id>c2s</id>
  <router><ip>127.0.0.1</ip><port>{router_port}</port><user>jabberd</user><pass>secret</pass></router>
  <log type='file'><file>{log}/c2s.log</file></log>
  <local>
    <id pemfile='{pemfile}' realm='{domain}'>{domain}</id>
    <ip>127.0.0.1</ip>
    <port>{c2s_port}</port>
    <ssl-port>{direct_tls_port}</ssl-port>
    <pemfile>{pemfile}</pemfile>
  </local>
  <io><max_fds>1024</max_fds></io>
  <authreg>
    <path>{libraries}</path>
    <module>sqlite</module>
    <mechanisms><traditional><plain/><digest/></traditional><sasl><digest-md5/></sasl></mechanisms>
    <ssl-mechanisms><traditional><plain/><digest/></traditional><sasl><digest-md5/></sasl></ssl-mechanisms>
    <sqlite><dbname>{folder}/sqlite.db</dbname></sqlite>
  </authreg>
</c2s>
"""


@dataclass(eq=False)
class Jabberd2(RealServer):
    """jabberd2: DIGEST-MD5, iq:auth plain and digest, components (XEP-0114) and its own router protocol on one port.

    `processes` are "router", "sm" and "c2s".

    Attributes:
        router_users: Name and password of those who may log in to the router. "jabberd" may do everything, "comp" may
            bind any name, "stranger" none but its own (others: error 403).
    """

    name: ClassVar[str] = "jabberd2"
    package: ClassVar[str] = "jabberd2"
    programs: ClassVar[tuple[str, ...]] = ("jabberd2-router", "jabberd2-sm", "jabberd2-c2s")

    router_users: tuple[tuple[str, str], ...] = field(
        default=(("jabberd", "secret"), ("comp", "compsecret"), ("stranger", "strangersecret")), init=False
    )

    @classmethod
    def missing(cls) -> str | None:
        if reason := super().missing():
            return reason
        if not SCHEMA.exists():
            return f"jabberd2: its package was installed without {SCHEMA} (documentation left out); install it again"
        return None if _libraries() else "jabberd2: no SQLite storage; reinstall Debian's package jabberd2"

    def _choose_ports(self) -> None:
        self.c2s_port, self.direct_tls_port, self.router_port = free_ports(3)
        self.component_port = self.router_port

    def _configure(self) -> None:
        values = {
            "folder": self.folder,
            "log": self.log_folder,
            "libraries": _libraries(),
            "pemfile": self.workspace.key_and_certificate,
            "domain": self.domain,
            "router_port": self.router_port,
            "c2s_port": self.c2s_port,
            "direct_tls_port": self.direct_tls_port,
            "component_secret": self.component_secret,
        }
        for name, text in (("router", ROUTER), ("sm", SM), ("c2s", C2S)):
            (self.folder / f"{name}.xml").write_text(text.format(**values))
        users = "".join(
            f"<user><name>{name}</name><secret>{secret}</secret></user>" for name, secret in self.router_users
        )
        (self.folder / "router-users.xml").write_text(f"<users>{users}</users>")
        (self.folder / "router-filter.xml").write_text("<rules></rules>")  # not the machine's own
        database = self.folder / "sqlite.db"
        if not database.exists():
            with closing(sqlite3.connect(database)) as connection:
                connection.executescript(gzip.decompress(SCHEMA.read_bytes()).decode())
                connection.executemany(
                    "INSERT INTO authreg (username, realm, password) VALUES (?, ?, ?)",
                    [(user, self.domain, password) for user, password in self.accounts],
                )
                connection.commit()

    def _launch(self) -> None:
        routed = self._log_size("router.log")
        self._start_part("router")
        self._wait_for_port(self.component_port)
        # Each before the next: the client port opens when c2s has found the router, whether or not the domain's
        # session manager is there.
        self._start_part("sm")
        self._wait_for_line("router.log", f"[{self.domain}] online", routed)
        self._start_part("c2s")
        self._wait_for_line("router.log", "[c2s] online", routed)
        self._wait_for_header(self.c2s_port, self.domain, NS_CLIENT, version="1.0")
        for domain in self.component_domains:
            self._wait_for_header(self.component_port, domain, NS_COMPONENT_ACCEPT)
        for port in self.ports:
            self._wait_for_port(port)

    def _start_part(self, part: str) -> None:
        self._spawn(part, [f"jabberd2-{part}", "-c", str(self.folder / f"{part}.xml")])


def _libraries() -> Path | None:
    """The folder with jabberd2's modules; Debian has it by architecture."""
    for found in Path("/usr/lib").glob("*/jabberd2/authreg_sqlite.so"):
        return found.parent
    return None
