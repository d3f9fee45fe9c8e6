"""How a dialect older than STARTTLS opens its stream: inside TLS where TLS is required."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pcj.errors import Phase, ProtocolError, Retry
from pcj.protocol.common import open_stream, receive_features
from pcj.protocol.features.starttls import starttls
from pcj.protocol.steps import Negotiation, Step
from pcj.xmlstream import StreamHeader

__all__ = ["open_secured"]


def open_secured(negotiation: Negotiation) -> Generator[Step, Any, StreamHeader]:
    """Open the stream without a version, as XEP-0078 and XEP-0114 show it (protocol-notes A15).

    Where TLS is required and does not stand yet, a stream of version 1.0 comes first, for its STARTTLS (A33).
    """
    if negotiation.tls is None and negotiation.tls_required:
        header = yield from open_stream(negotiation, "1.0")
        if header.version < (1, 0):
            raise ProtocolError(
                "the server offers no encryption on this link and TLS is required; "
                "use a port with TLS (direct_tls=True), or say require_tls=False",
                expected="a stream of version 1.0 with STARTTLS",
                came="a stream without features",
                phase=Phase.TLS,
                retry=Retry.SLOW,
            )
        features = yield from receive_features()
        yield from starttls(negotiation, features)
    return (yield from open_stream(negotiation, None))
