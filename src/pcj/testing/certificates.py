"""An authority and a certificate of our own, made when a server starts."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from pcj.errors import ConfigError

__all__ = ["ServerContext", "make_certificate"]


class ServerContext(ssl.SSLContext):
    """A server's TLS context that knows its own certificate, in DER, for tls-server-end-point (RFC 5929 4)."""

    certificate = b""


def make_certificate(names: Sequence[str], ca_file: Path, client_ca_file: str | None = None) -> ServerContext:
    """A server's TLS context with a fresh certificate for `names`; its authority's is written to `ca_file` (PEM).

    Args:
        names: what it is for. ca_file: where to write to. client_ca_file: the authorities of clients' certificates
            (PEM), for which clients are then asked; None: they are not.

    Raises:
        ConfigError: trustme, which makes them, is not installed; or `client_ca_file` cannot be used.
    """
    try:
        import trustme  # late: whoever imports pcj.testing without TLS does not need it
    except ImportError as error:
        raise ConfigError(
            "an embedded server makes its certificate with the package trustme, which is not installed: "
            "install 'pcj[testing]', or do without TLS (starttls='none', direct_tls_port=None)"
        ) from error
    authority = trustme.CA(organization_name="pcj.testing", organization_unit_name="for tests only")
    authority.cert_pem.write_to_path(str(ca_file))
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 3.1.1
    context.set_alpn_protocols(["xmpp-client"])  # XEP-0368 4
    if client_ca_file is not None:
        try:
            context.load_verify_locations(client_ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"client_ca_file {client_ca_file!r} cannot be used: {error}") from None
        context.verify_mode = ssl.CERT_OPTIONAL
    made = authority.issue_cert(*dict.fromkeys(names))
    made.configure_cert(context)
    context.certificate = ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode("ascii"))
    return context
