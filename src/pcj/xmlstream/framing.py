"""The stream's own tags and its error, as bytes (RFC 6120 4.7, 4.4, 4.9)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from pcj.namespaces import STREAM_ERRORS, STREAMS
from pcj.serialize import escape_value
from pcj.stanza import Node
from pcj.xmlstream.limits import STREAM_TAG

__all__ = ["STREAM_CLOSE", "stream_error", "stream_error_condition", "stream_header", "stream_header_node"]

STREAM_CLOSE = b"</stream:stream>"
STREAM_ERROR_TAG = f"{{{STREAMS}}}error"


def stream_header(attributes: Mapping[str, str], xmlns: str, streams: str = STREAMS) -> bytes:
    """Our <stream:stream>, behind an XML declaration (RFC 6120 11.6).

    Args:
        attributes: to, from, version, ... as they go out. xmlns: the content namespace. streams: the stream namespace.
    """
    declared = {"xmlns": xmlns, "xmlns:stream": streams, **attributes}
    text = "".join(f' {name}="{escape_value(value)}"' for name, value in declared.items())
    return f"<?xml version='1.0'?><stream:stream{text}>".encode()


def stream_header_node(attributes: Mapping[str, str]) -> Node:
    """The same as a node, for events."""
    return ET.Element(STREAM_TAG, dict(attributes))


def stream_error(condition: str, application: bytes = b"") -> bytes:
    """A <stream:error/> with one of the conditions of RFC 6120 4.9.3.

    Args:
        condition: its name. application: an element of ours that says more (4.9.4), serialised.
    """
    return f'<stream:error><{condition} xmlns="{STREAM_ERRORS}"/>'.encode() + application + b"</stream:error>"


def stream_error_condition(node: Node) -> tuple[str, str, str]:
    """(condition, text, character data of the condition) of a received <stream:error/>; "" where there is none.

    The third is the address in <see-other-host/> (RFC 6120 4.9.3.19). Texts are cut at 1,000 characters.
    """
    condition = text = data = ""
    for child in node:
        namespace, _, name = child.tag[1:].partition("}")
        if namespace != STREAM_ERRORS:
            continue
        if name == "text":
            text = (child.text or "")[:1000]
        elif not condition:
            condition, data = name, (child.text or "")[:1000]
    return condition, text, data
