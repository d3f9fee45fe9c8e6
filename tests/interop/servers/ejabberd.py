"""ejabberd, as Debian packages it (24 from backports of bookworm; 23 of bookworm itself works)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from tests.interop.servers.base import NS_CLIENT, NS_COMPONENT_ACCEPT, RealServer, free_ports

# JSON is YAML: braces keep a listener on one line. With global routes, its default, ejabberd would give each component
# a part of what is for all the others of the same listener.
CONFIGURATION = """\
hosts: [localhost, anonymous.localhost, sha256.localhost, sha512.localhost]
host_config:
  anonymous.localhost: {{ auth_method: [anonymous], anonymous_protocol: sasl_anon }}
  sha256.localhost: {{ auth_scram_hash: sha256 }}
  sha512.localhost: {{ auth_scram_hash: sha512 }}
loglevel: info
certfiles: ["{key_and_certificate}", "{hosts}"]
auth_method: [internal]
auth_password_format: {password_format}
listen:
  - {{ port: {c2s_port}, ip: "127.0.0.1", module: ejabberd_c2s, starttls: true, access: all }}
  - {{ port: {direct_tls_port}, ip: "127.0.0.1", module: ejabberd_c2s, tls: true, access: all }}
  - port: {certificate_port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls: true
    tls_verify: true
    cafile: "{client_ca_file}"
    access: all
  - port: {tls12_port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls: true
    protocol_options: [no_sslv3, no_tlsv1, no_tlsv1_1, no_tlsv1_3]
    access: all
  - port: {component_tls_port}
    ip: "127.0.0.1"
    module: ejabberd_service
    tls: true
    certfile: "{key_and_certificate}"
    access: all
    hosts: {{ {components} }}
    global_routes: false
  - port: {http_port}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: {{ /xmpp-websocket: ejabberd_http_ws, /http-bind: mod_bosh }}
  - port: {component_port}
    ip: "127.0.0.1"
    module: ejabberd_service
    access: all
    hosts: {{ {components} }}
    global_routes: false
modules:
  mod_bosh: {{}}
  mod_stream_mgmt: {{ resume_timeout: 60 }}
  mod_auth_fast: {{}}
  mod_disco: {{}}
  mod_legacy_auth: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_version: {{}}
{settings}
"""

READY = "the accounts are registered"


@dataclass(eq=False)
class Ejabberd(RealServer):
    """ejabberd: SCRAM-SHA-1, SASL2, iq:auth, stream management, components (XEP-0114), direct TLS.

    Below ``localhost``: "anonymous"; and with the accounts of ``localhost`` "sha256" and "sha512", by those hashes.
    On ports of their own: clients whose certificates are asked for (SASL EXTERNAL), TLS without 1.3, and components
    inside TLS.

    Attributes:
        password_format: How it keeps passwords. "plain" brings DIGEST-MD5, and iq:auth with a digest (XEP-0078),
            which "scram" cannot do: the digest is made of the password itself.
        settings: More lines (YAML) at the top level of the configuration.
    """

    name: ClassVar[str] = "ejabberd"
    package: ClassVar[str] = "ejabberd"
    programs: ClassVar[tuple[str, ...]] = ("erl",)

    password_format: Literal["scram", "plain"] = "scram"
    settings: str = ""

    certificate_port: int = field(default=0, init=False)
    tls12_port: int = field(default=0, init=False)
    component_tls_port: int = field(default=0, init=False)

    @classmethod
    def missing(cls) -> str | None:
        if reason := super().missing():
            return reason
        return None if _libraries() else "ejabberd: not installed; Debian's package ejabberd (tools/install-servers)"

    def _choose_ports(self) -> None:
        self.c2s_port, self.direct_tls_port, self.component_port, self.http_port, *others = free_ports(7)
        self.certificate_port, self.tls12_port, self.component_tls_port = others

    @property
    def ports(self) -> list[int]:
        others = (self.certificate_port, self.tls12_port, self.component_tls_port)
        return sorted((*super().ports, *filter(None, others)))

    def _configure(self) -> None:
        (self.folder / "spool").mkdir(exist_ok=True)
        text = CONFIGURATION.format(
            key_and_certificate=self.workspace.key_and_certificate,
            hosts=self.workspace.hosts,
            password_format=self.password_format,
            c2s_port=self.c2s_port,
            direct_tls_port=self.direct_tls_port,
            component_port=self.component_port,
            http_port=self.http_port,
            certificate_port=self.certificate_port,
            tls12_port=self.tls12_port,
            component_tls_port=self.component_tls_port,
            client_ca_file=self.workspace.client_ca_file,
            components=", ".join(
                f'"{domain}": {{ password: {self.component_secret} }}' for domain in self.component_domains
            ),
            settings=self.settings,
        )
        (self.folder / "ejabberd.yml").write_text(text)

    def _launch(self) -> None:
        # Without ejabberdctl and without a node name: no epmd, no cookie, nothing outside our folder.
        accounts = ", ".join(f'{{<<"{user}"/utf8>>, <<"{password}"/utf8>>}}' for user, password in self.accounts)
        hosts = ", ".join(f'<<"{host}">>' for host in (self.domain, "sha256.localhost", "sha512.localhost"))
        register = f"[ejabberd_auth:try_register(U, H, P) || H <- [{hosts}], {{U, P}} <- [{accounts}]]"
        announce = f'io:format("{READY}~n")'
        # Schedulers that spin while idle are for servers with the machine to themselves.
        idle = ["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]
        database = ["-mnesia", "dir", f'"{self.folder}/spool"']
        said = self._log_size("ejabberd.out")
        self._spawn(
            "ejabberd",
            ["erl", *idle, "-noinput", *database, "-s", "ejabberd", "-eval", f"{register}, {announce}."],
            {
                "EJABBERD_CONFIG_PATH": str(self.folder / "ejabberd.yml"),
                "EJABBERD_LOG_PATH": str(self.log_folder / "ejabberd.log"),
                "ERL_LIBS": str(_libraries()),
                "ERL_CRASH_DUMP": "/dev/null",
            },
        )
        self._wait_for_line("ejabberd.out", READY, said)
        self._wait_for_header(self.c2s_port, self.domain, NS_CLIENT, version="1.0")
        for domain in self.component_domains:
            self._wait_for_header(self.component_port, domain, NS_COMPONENT_ACCEPT)
        for port in self.ports:
            self._wait_for_port(port)


def _libraries() -> Path | None:
    """The folder with ejabberd and the Erlang libraries it needs; Debian has it by architecture."""
    for found in Path("/usr/lib").glob("*/ejabberd-*/ebin/ejabberd.app"):
        return found.parents[2]
    return None
