"""An authority and a certificate of our own, made when a server starts."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from pcj.errors import ConfigError

__all__ = ["make_certificate"]


def make_certificate(names: Sequence[str], ca_file: Path) -> ssl.SSLContext:
    """A server's TLS context with a fresh certificate for `names`; its authority's is written to `ca_file` (PEM).

    Raises:
        ConfigError: trustme, which makes them, is not installed.
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 3.1.1
    context.set_alpn_protocols(["xmpp-client"])  # XEP-0368 4
    authority.issue_cert(*dict.fromkeys(names)).configure_cert(context)
    return context
