"""One element from bytes of its own, as strict as a stream."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import NoReturn

from pcj.errors import ParseError, ProtocolError
from pcj.stanza import Node
from pcj.xmlstream.limits import (
    WHITE_BYTES,
    check_prolog,
    long_namespace,
    not_well_formed,
    restricted,
    too_long_namespace,
    without_braces,
)

__all__ = ["from_bytes"]


def from_bytes(data: bytes | str) -> Node:
    """The one element that `data` holds; the inverse of `to_bytes`.

    Args:
        data: UTF-8 bytes, or a str: an XML document without DOCTYPE, comments or processing instructions.

    Raises:
        ParseError: it is not that.
    """
    encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    document = start = encoded.lstrip(WHITE_BYTES)
    try:
        if start.startswith(b"<?"):
            end = start.find(b"?>") + 2
            check_prolog(start[:end])
            start = start[end:].lstrip(WHITE_BYTES)
        if not start:
            raise ParseError("there is no element in these bytes")
        check_prolog(start)
        if long_namespace(start) >= 0:
            raise too_long_namespace()
        # The factories are called only for what would be inserted.
        builder = ET.TreeBuilder(
            comment_factory=_comment, insert_comments=True, pi_factory=_instruction, insert_pis=True
        )
        parser = ET.XMLParser(target=builder)
        parser.feed(without_braces(document))  # with its declaration: expat looks at all of that
        root: Node = parser.close()
    except SyntaxError as error:
        raise ParseError(str(not_well_formed(error, encoded)).replace("the peer sent", "this is", 1)) from error
    except ProtocolError as error:
        raise ParseError(str(error).replace("the peer sent", "the bytes hold", 1)) from error
    return root


def _comment(text: str | None) -> NoReturn:
    raise restricted("a comment")


def _instruction(target: str, text: str | None = None) -> NoReturn:
    raise restricted("a processing instruction")
