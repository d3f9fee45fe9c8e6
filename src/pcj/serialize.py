"""The only place that turns a node into bytes.

A walker of our own, because it must be quick, must not repeat a namespace that the stream already declares, must write
a stanza in the stream's content namespace whatever namespace it was built in (RFC 6120 4.8.3), and must refuse what
would end the stream: ElementTree's own writer does none of these.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final, NoReturn
from xml.parsers import expat

from pcj.errors import NodeError
from pcj.namespaces import CONTENT, XML, XMLNS
from pcj.stanza import Node

__all__ = ["serialize", "to_bytes"]

MAX_DEPTH: Final = 256
"""Levels of elements that are written, the top-level one the first; deeper ones (or a cycle) are refused."""

MAX_NAMES: Final = 4096
"""Distinct names remembered, in elements. Past it they are forgotten all at once: names may come from a peer."""

MAX_NAME_LENGTH: Final = 256
"""The longest name that is remembered, in characters."""

# XML 1.0 section 2.2: these code points cannot be written, not even as character references.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ASCII_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
# A reader normalises line ends everywhere (XML 1.0 section 2.11) and white space in attributes (3.3.3), unless it is
# written as a reference.
_TEXT = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("\r"): "&#13;"}
_VALUE = {**_TEXT, ord('"'): "&quot;", ord("\t"): "&#9;", ord("\n"): "&#10;"}
del _VALUE[ord(">")]  # it means nothing there (XML 1.0 section 2.3)

# What stands for itself nowhere: the illegal, and the white space that is changed in an attribute at least.
_CONTROLS: Final = bytes(range(0x20))

#: By tag: its namespace, the start of its start tag without and with a declaration, and its end tag.
_tags: dict[object, tuple[str, str, str, str]] = {}
#: By the name of an attribute that needs no declaration: what is written before its value.
_starts: dict[object, str] = {}


def escape_text(text: str) -> str:
    """`text` as it stands between tags; what XML cannot carry at all is left as it is."""
    return text.translate(_TEXT)


def escape_value(text: str) -> str:
    """`text` as it stands between the double quotes of an attribute."""
    return text.translate(_VALUE)


def _split(name: object, what: str) -> tuple[str, str]:
    """(namespace, local name) of a name in Clark notation ("{namespace}local").

    Raises:
        NodeError: XML has no such name.
    """
    if isinstance(name, ET.QName):
        name = name.text
    if not isinstance(name, str):
        kind = getattr(name, "__name__", type(name).__name__)  # the tag of a comment is the function ET.Comment
        raise NodeError(f"the name of {what} must be a str, not {kind}; RFC 6120 11.1 forbids comments and PIs")
    name = str.__str__(name)  # a member of an enumeration writes itself otherwise
    if name.startswith("{"):
        namespace, brace, local = name[1:].rpartition("}")
        # ElementTree tells namespace from name by the brace, and expat therefore refuses one in a namespace.
        if not namespace or not brace or "}" in namespace or namespace == XMLNS or _ILLEGAL.search(namespace):
            raise NodeError(f"{name!r:.200}, the name of {what}, does not say a namespace that XML allows")
    else:
        namespace, local = "", name
    if not (_ASCII_NAME.fullmatch(local) or _is_name(local)):
        raise NodeError(f"{name!r:.200} is no name that XML allows for {what}; write a qualified one {{namespace}}name")
    return namespace, local


def _is_name(local: str) -> bool:
    """Whether expat takes it for a name without a prefix: most servers parse with it, and so do we."""
    if local.isascii() or ":" in local or _ILLEGAL.search(local):
        return False
    found: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: None if attributes else found.append(name)
    try:
        parser.Parse(f"<{local}/>".encode(), True)
    except expat.ExpatError:
        return False
    return found == [local]


def _tag(tag: object) -> tuple[str, str, str, str]:
    """What `_tags` has of a tag; looked into once per distinct tag."""
    namespace, local = _split(tag, "an element")
    if namespace == XML:
        # Namespaces in XML 1.0, 3: it is bound to the prefix xml, and must not be the default namespace.
        known = namespace, f"<xml:{local}", f"<xml:{local}", f"</xml:{local}>"
    else:
        known = namespace, f"<{local}", f'<{local} xmlns="{escape_value(namespace)}"', f"</{local}>"
    if len(namespace) + len(local) <= MAX_NAME_LENGTH:
        if len(_tags) >= MAX_NAMES:
            _tags.clear()
        _tags[tag] = known
    return known


def _escape(text: object, table: dict[int, str], where: str) -> str:
    if not isinstance(text, str):
        raise NodeError(f"{where} must be a str, not {type(text).__name__}")
    illegal = _ILLEGAL.search(text)
    if illegal:
        code = ord(illegal.group())
        raise NodeError(f"{where} holds U+{code:04X} at position {illegal.start()}, which XML cannot carry")
    return text.translate(table)


def _attribute(name: object, value: object, prefixes: dict[str, str]) -> str:
    """An attribute that is not the common case; `prefixes` are those declared on its element so far."""
    namespace, local = _split(name, "an attribute")
    text = _escape(value, _VALUE, f"the attribute {name!r:.200}")
    if not namespace or namespace == XML:
        # "xmlns" declares; here the tag says the namespace, and a declaration twice is not well-formed.
        if local == "xmlns" and not namespace:
            raise NodeError("a namespace is said in the tag, as {namespace}name, not by an attribute 'xmlns'")
        start = f' xml:{local}="' if namespace else f' {local}="'
        if len(local) <= MAX_NAME_LENGTH:
            if len(_starts) >= MAX_NAMES:
                _starts.clear()
            _starts[name] = start
        return f'{start}{text}"'
    prefix = prefixes.get(namespace)
    if prefix is not None:
        return f' {prefix}:{local}="{text}"'
    prefix = prefixes[namespace] = f"ns{len(prefixes)}"
    return f' xmlns:{prefix}="{escape_value(namespace)}" {prefix}:{local}="{text}"'


def _write(node: Node, inherited: str, depth: int, defaults: Mapping[str, str] | None = None) -> str:
    """`node` as text; `inherited` is the default namespace in force around it."""
    namespace, written, declared, end = _tags.get(node.tag) or _tag(node.tag)
    if namespace != inherited:
        written = declared
        if namespace == XML:
            namespace = inherited
    prefixes: dict[str, str] | None = None
    for name, value in node.items():
        # The common case: a plain name known from before, a str with nothing in it to escape.
        start = _starts.get(name)
        if (
            start is not None
            and value.__class__ is str
            and value.isprintable()
            and not ("&" in value or "<" in value or '"' in value)
        ):
            written += f'{start}{value}"'
        else:
            if prefixes is None:
                prefixes = {}
            written += _attribute(name, value, prefixes)
    if defaults:
        for name, value in defaults.items():
            if node.get(name) is None:
                start = _starts.get(name)
                if start is not None and value.isprintable() and not ("&" in value or "<" in value or '"' in value):
                    written += f'{start}{value}"'
                else:
                    written += _attribute(name, value, {})
    text = node.text
    if text is not None and not (
        text.__class__ is str and text.isprintable() and not ("&" in text or "<" in text or ">" in text)
    ):
        text = _escape(text, _TEXT, f"the text of {end[2:-1]!r}")
    if not len(node):
        return f"{written}>{text}{end}" if text else written + "/>"
    if depth >= MAX_DEPTH:
        raise NodeError(f"elements are nested more than {MAX_DEPTH} deep (or the node contains itself)")
    written += f">{text}" if text else ">"
    for child in node:
        written += _write(child, namespace, depth + 1)
        tail = child.tail
        if tail is not None:
            written += _escape(tail, _TEXT, f"the text between the elements in {end[2:-1]!r}")
    return written + end


def _plain(
    node: Node,
    inherited: str,
    depth: int,
    tags: dict[object, tuple[str, str, str, str]],
    starts: dict[object, str],
    defaults: Mapping[str, str] | None = None,
) -> str:
    """The same for the common case, that every name is known from before and nothing has to be escaped; else "".

    Characters that XML does not have, and line ends, are left for the caller: once for the whole is cheaper.

    Raises:
        KeyError: a name is not known. TypeError, AttributeError: a text is no str, or the node is none.
    """
    namespace, written, declared, end = tags[node.tag]
    if namespace != inherited:
        if namespace == XML:
            return ""
        written = declared
    for name, value in node.items():
        if value.__class__ is not str or "&" in value or "<" in value or '"' in value:
            return ""
        written += f'{starts[name]}{value}"'
    if defaults:
        for name, value in defaults.items():
            if node.get(name) is None:
                if "&" in value or "<" in value or '"' in value:
                    return ""
                written += f'{starts[name]}{value}"'
    text = node.text
    if text is not None and (text.__class__ is not str or "&" in text or "<" in text or ">" in text):
        return ""
    if not len(node):
        return f"{written}>{text}{end}" if text else written + "/>"
    if depth >= MAX_DEPTH:
        return ""
    written += f">{text}" if text else ">"
    for child in node:
        inner = _plain(child, namespace, depth + 1, tags, starts)
        if not inner or child.tail is not None:
            return ""
        written += inner
    return written + end


def _plain_data(
    node: Node,
    inherited: str,
    tags: dict[object, tuple[str, str, str, str]],
    starts: dict[object, str],
    defaults: Mapping[str, str] | None,
) -> bytes | None:
    """The bytes of a node in the common case; None where the long way has to look.

    Args:
        node: the node. inherited: the default namespace around it. tags, starts: `_tags` and `_starts`. defaults: as
            for `serialize`.
    """
    try:
        text = _plain(node, inherited, 1, tags, starts, defaults)
        if not text:
            return None
        data = text.encode()
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError):
        return None  # the long way finds out, and says what is wrong
    size = len(data)
    # No character that XML lacks, or that a reader would change.
    if len(data.translate(None, _CONTROLS)) == size and (
        len(text) == size or not ("\ufffe" in text or "\uffff" in text)
    ):
        return data
    return None


def _quickest() -> Callable[..., bytes | None]:
    """The compiled form, where there is one."""
    if not os.environ.get("PCJ_PURE"):
        try:
            compiled: Callable[..., bytes | None] = import_module("pcj._speed").plain_data
        except ImportError:
            pass  # there was no compiler where it was installed
        else:
            return compiled
    return _plain_data


_quick: Final = _quickest()


def serialize(node: Node, stream_namespace: str, defaults: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a top-level node inside a stream whose default namespace is `stream_namespace`.

    A node in any content namespace (RFC 6120 4.8.2) or in none is written in the stream's, as are those of its
    descendants that are reached through that namespace alone: a stanza inside <forwarded/> keeps its own.

    Args:
        node: the node; it is not changed. stream_namespace: as declared by the stream's header.
        defaults: attributes to write where the node does not have them ("from", "id").

    Raises:
        NodeError: the node cannot be written as XML.
    """
    try:
        namespace = (_tags.get(node.tag) or _tag(node.tag))[0]
        # Without a stream's namespace (inside an envelope) a stanza has to declare its own.
        inherited = namespace if stream_namespace and (not namespace or namespace in CONTENT) else stream_namespace
        data = _quick(node, inherited, _tags, _starts, defaults)
        if data is not None:
            return data
        return _write(node, inherited, 1, defaults).encode()
    except (AttributeError, TypeError, RecursionError) as error:
        _refuse(node, error)


def to_bytes(node: Node) -> bytes:
    """The node as a UTF-8 document of its own, every namespace declared; `from_bytes` reads it back.

    Raises:
        NodeError: the node cannot be written as XML.
    """
    try:
        return _write(node, "", 1).encode()
    except (AttributeError, TypeError, RecursionError) as error:
        _refuse(node, error)


def _refuse(node: object, error: Exception) -> NoReturn:
    raise NodeError(f"expected an xml.etree.ElementTree.Element, got {type(node).__name__}: {error}") from error
