"""The XML stream (RFC 6120 4): bytes to elements in two gears, and elements to bytes."""

from pcj.xmlstream.document import from_bytes
from pcj.xmlstream.limits import Limits, limits_of
from pcj.xmlstream.negotiating import NegotiatingParser, StreamClosed, StreamHeader
from pcj.xmlstream.ready import ReadyParser

__all__ = ["Limits", "NegotiatingParser", "ReadyParser", "StreamClosed", "StreamHeader", "from_bytes", "limits_of"]
