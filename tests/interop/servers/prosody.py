"""Prosody, as Debian packages it (13 from backports of bookworm; 0.12 of bookworm itself works)."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from typing import ClassVar

from tests.interop.servers.base import NS_CLIENT, NS_COMPONENT_ACCEPT, RealServer, free_ports

# SASL2 and what belongs to it are community modules, in the package prosody-modules.
CONFIGURATION = """\
data_path = "{folder}/data"
pidfile = "{folder}/prosody.pid"
log = {{ {{ levels = {{ min = "info" }}, to = "file", filename = "{folder}/log/prosody.log" }} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {c2s_port} }}
c2s_direct_tls_ports = {{ {direct_tls_port} }}
component_ports = {{ {component_port} }}
component_interfaces = {{ "127.0.0.1" }}
http_ports = {{ {http_port} }}
http_interfaces = {{ "127.0.0.1" }}
https_ports = {{}}
modules_enabled = {{
    "roster", "saslauth", "tls", "disco", "ping", "version", "legacyauth", "smacks", "carbons", "csi",
    "sasl2", "sasl2_bind2", "sasl2_fast", "sasl2_sm", "websocket", "bosh",
}}
modules_disabled = {{ "s2s" }}
smacks_hibernation_time = 60
authentication = "internal_hashed"
storage = "internal"
-- Both for the old protocol (XEP-0078), which some tests speak without TLS.
allow_unencrypted_plain_auth = true
c2s_require_encryption = false
ssl = {{ key = "{key}", certificate = "{certificate}" }}
{settings}
VirtualHost "localhost"
"""

# Other ways to log in, each on a host of its own: as Prosody comes, but for what the host's name says.
HOSTS = """
VirtualHost "anonymous.localhost"
    authentication = "anonymous"
    ssl = {{ key = "{hosts}", certificate = "{hosts}" }}

VirtualHost "downgrade.localhost"
    modules_enabled = {{ "sasl_ssdp" }}
    ssl = {{ key = "{hosts}", certificate = "{hosts}" }}

VirtualHost "endpoint.localhost"
    tls_server_end_point_hash = "{hash}"
    ssl = {{ key = "{hosts}", certificate = "{hosts}" }}

VirtualHost "tls12.localhost"
    ssl = {{ key = "{hosts}", certificate = "{hosts}", protocol = "tlsv1_2" }}

VirtualHost "certificate.localhost"
    authentication = "ccert"
    ssl = {{ key = "{hosts}", certificate = "{hosts}", cafile = "{client_ca_file}", verify = {{ "peer" }} }}
"""
#: Of them, those with the accounts of localhost.
WITH_PASSWORDS = ("downgrade", "endpoint", "tls12")

COMPONENT = """
Component "{domain}"
    component_secret = "{secret}"
"""


@dataclass(eq=False)
class Prosody(RealServer):
    """Prosody: SCRAM-SHA-1, SASL2, iq:auth in plain text, stream management, components (XEP-0114), direct TLS.

    Below ``localhost``: "anonymous"; "certificate" (SASL EXTERNAL alone); with the accounts of ``localhost``
    "downgrade" (XEP-0474), "endpoint" (tls-server-end-point, which it does not offer by itself) and "tls12" (no 1.3).

    Attributes:
        settings: More lines (Lua) for the global part of the configuration; they win over ours.
    """

    name: ClassVar[str] = "prosody"
    package: ClassVar[str] = "prosody"
    programs: ClassVar[tuple[str, ...]] = ("prosody", "prosodyctl")

    settings: str = ""

    def _choose_ports(self) -> None:
        self.c2s_port, self.direct_tls_port, self.component_port, self.http_port = free_ports(4)

    def _configure(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        text = CONFIGURATION.format(
            folder=self.folder,
            c2s_port=self.c2s_port,
            direct_tls_port=self.direct_tls_port,
            component_port=self.component_port,
            http_port=self.http_port,
            key=self.workspace.key,
            certificate=self.workspace.certificate,
            settings=self.settings,
        )
        text += HOSTS.format(
            hosts=self.workspace.hosts,
            hash=self._certificate_hash(),
            client_ca_file=self.workspace.client_ca_file,
        )
        for domain in self.component_domains:
            text += COMPONENT.format(domain=domain, secret=self.component_secret)
        (self.folder / "prosody.cfg.lua").write_text(text)

    def _certificate_hash(self) -> str:
        # It could find that itself ("auto"), but 13.0.1 does so for the first connection only.
        _, begin, certificate = self.workspace.hosts.read_text().partition(ssl.PEM_HEADER)
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(begin + certificate)).hexdigest()

    def _launch(self) -> None:
        configuration = str(self.folder / "prosody.cfg.lua")
        if not (self.folder / "data/localhost").exists():
            for user, password in self.accounts:
                self._run(["prosodyctl", "--config", configuration, "register", user, self.domain, password])
            for name in WITH_PASSWORDS:  # what is kept of a password does not depend on the host
                self._run(["cp", "-R", "data/localhost", f"data/{name}%2elocalhost"])
        self._spawn("prosody", ["prosody", "-F", "--config", configuration])
        self._wait_for_header(self.c2s_port, self.domain, NS_CLIENT, version="1.0")
        for domain in self.component_domains:
            self._wait_for_header(self.component_port, domain, NS_COMPONENT_ACCEPT)
        for port in self.ports:
            self._wait_for_port(port)
