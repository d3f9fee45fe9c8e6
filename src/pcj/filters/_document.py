"""A stanza as a document of its own, for lxml's XPath.

It is written and parsed anew, which is quicker than lxml's SubElement and takes what SubElement refuses. Three things
differ from an ordinary serialisation: elements of jabber:client have no namespace, the node's tail is left out, and
names are rationed: libxml2 keeps every name it has met until the process ends, and the names are a stranger's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Final, cast
from xml.etree.ElementTree import QName

from pcj.errors import FilterError
from pcj.filters._expression import NCNAME, may_select_document, parse
from pcj.filters._index import Needs, needs
from pcj.namespaces import CLIENT, XML
from pcj.stanza import Node

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from lxml import etree

    Words: TypeAlias = frozenset[str]
    Selected: TypeAlias = list[Node | str] | str | float | bool

#: Bytes (UTF-8, with an allowance for each) of distinct names that stanzas may leave behind in libxml2, in one
#: process. Past it a new name that no expression mentions is replaced: only name(), local-name() and namespace-uri()
#: could tell.
MAX_NAME_BYTES: Final = 4 * 1024 * 1024
_NAME_ALLOWANCE: Final = 64

_LOCAL = re.compile(rf"{NCNAME}\Z")
_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"}
_ESCAPES |= {ord(space): f"&#{ord(space)};" for space in "\t\n\r"}
# Namespaces that libxml2 surely takes. It refuses documents with others (spaces, IRIs), which expat passes.
_PLAIN = r"A-Za-z0-9_.~!$'()*+,;=@/-"
_PLAIN_URI = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]*:(?:(?!//)|//[A-Za-z0-9.-]+(?=[/?#]|\Z))[{_PLAIN}:]*|[A-Za-z0-9_.][{_PLAIN}]*)"
    rf"(?:\?[{_PLAIN}:?]*)?(?:#[{_PLAIN}:?]*)?\Z"
)
_OURS: Final = "urn:pcj:"
_XMLNS: Final = "http://www.w3.org/2000/xmlns/"  # reserved: no document may declare it
_OTHER: Final = "_pcj."


def _uri(namespace: str) -> str:
    """The namespace as libxml2 sees it: itself, or a spelling of it that libxml2 takes; one for each."""
    if _PLAIN_URI.match(namespace) and not namespace.startswith(_OURS) and namespace != _XMLNS:
        return namespace
    return f"{_OURS}uri:{namespace.encode().hex()}"


def _split(name: object) -> tuple[str, str, str]:
    """(name as a str, namespace or "", local name)."""
    if isinstance(name, QName):
        name = name.text
    if not isinstance(name, str):
        raise FilterError(f"a node has names that are str, not {type(name).__name__}")
    namespace, brace, local = name[1:].rpartition("}") if name.startswith("{") else ("", "", name)
    if not _LOCAL.match(local) or (brace and not namespace) or name == "xmlns":
        raise FilterError(f"{name!r} is not a name in ElementTree's notation that XML allows")
    return name, namespace, local


class Names:
    """The names of stanzas in the form they are written in, each remembered while there is room.

    There is one for the process, because libxml2's memory of names is the process's.
    """

    def __init__(self, room: int = MAX_NAME_BYTES) -> None:
        self._room = room
        self.elements: dict[str, tuple[str, str]] = {}  # (name to write, default namespace it needs)
        self.attributes: dict[str, str] = {}  # what goes before the value

    def element(self, tag: object, words: Words) -> tuple[str, str]:
        """What to write for an element that is not among `elements`. `words`: of the expressions; never replaced."""
        tag, namespace, local = _split(tag)
        if namespace == CLIENT:
            namespace = ""
        known = self._take(tag, local)
        if not known:
            local = local if local in words else f"{_OTHER}0"
        if namespace == XML:  # no default namespace can be that one: its prefix is written
            written = f"xml:{local}", XML
        elif not known and namespace and namespace not in words:
            written = local, f"{_OURS}other:0"
        else:
            written = local, _uri(namespace) if namespace else ""
        if known:
            self.elements[tag] = written
        return written

    def attribute(self, key: object, words: Words, position: int) -> str:
        """What to write for an attribute that is not among `attributes`, the `position`th of its element."""
        key, namespace, local = _split(key)
        if self._take(key, local):
            written = self._declared(namespace, local, f"n{len(self.attributes)}")
            self.attributes[key] = written
            return written
        # Numbered, since two attributes of one element must not become one.
        local = local if local in words else f"{_OTHER}{position}"
        if namespace and namespace != XML and namespace not in words:
            return f' xmlns:m{position}="{_OURS}other:{position}" m{position}:{local}="'
        return self._declared(namespace, local, f"m{position}")

    @staticmethod
    def _declared(namespace: str, local: str, prefix: str) -> str:
        if not namespace:
            return f' {local}="'
        if namespace == XML:
            return f' xml:{local}="'
        return f' xmlns:{prefix}="{_uri(namespace)}" {prefix}:{local}="'

    def _take(self, name: str, local: str) -> bool:
        cost = len(name.encode(errors="surrogatepass")) + _NAME_ALLOWANCE
        # A name of a stranger's that looks like our replacements is itself replaced: no two shall meet.
        if cost > self._room or local.startswith(_OTHER):
            return False
        self._room -= cost
        return True


_names = Names()


def _write(node: Node, inherited: str, parts: list[str], words: Words, names: Names) -> None:
    name, namespace = names.elements.get(node.tag) or names.element(node.tag, words)
    if namespace == inherited:
        parts.append(f"<{name}")
    elif namespace == XML:
        parts.append(f"<{name}")
        namespace = inherited
    else:
        parts.append(f'<{name} xmlns="{namespace}"')
    for position, (key, value) in enumerate(node.items()):
        opening = names.attributes.get(key) or names.attribute(key, words, position)
        # str.isprintable is the quickest test that rules out all that XML would not keep as it is.
        if value.isprintable() and "&" not in value and "<" not in value and '"' not in value:
            parts.append(f'{opening}{value}"')
        else:
            parts.append(f'{opening}{value.translate(_ESCAPES)}"')
    text = node.text
    if not text and not len(node):
        parts.append("/>")
        return
    parts.append(">")
    if text:
        parts.append(text if _is_plain(text) else text.translate(_ESCAPES))
    for child in node:
        if not callable(child.tag):  # a comment or PI, which no stanza has, and no document here
            _write(child, namespace, parts, words, names)
        tail = child.tail
        if tail:
            parts.append(tail if _is_plain(tail) else tail.translate(_ESCAPES))
    parts.append(f"</{name}>")


def _is_plain(text: str) -> bool:
    return text.isprintable() and "&" not in text and "<" not in text and ">" not in text


@cache
def _parse() -> Callable[[bytes], etree._Element]:
    from lxml import etree

    # huge_tree: the bounds are those of the stanza's own parser. Without IDs, since a node has no DTD to declare any.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, collect_ids=False)
    return partial(etree.fromstring, parser=parser)


def _lxml_error() -> type[Exception]:
    from lxml import etree

    return etree.LxmlError


class Document:
    """The copy of one stanza. Elements of it are mapped back to the stanza's own, by their place.

    Args:
        node: the stanza; it is not changed. Its tail, comments and PIs are not part of the copy.
        words: the names, namespaces and literals of the expressions that will be asked.

    Raises:
        FilterError: the node cannot be written as XML.
    """

    __slots__ = ("_originals", "node", "root")

    def __init__(self, node: Node, words: Words) -> None:
        parts: list[str] = []
        try:
            _write(node, "", parts, words, _names)
            # UTF-8: from a str lxml would first have to guess how it is stored.
            self.root = _parse()("".join(parts).encode())
        except RecursionError:
            raise FilterError("the node is nested too deeply to be copied (or contains itself)") from None
        except FilterError:
            raise
        except (ValueError, TypeError, AttributeError, _lxml_error()) as error:
            raise FilterError(f"the node cannot be written as XML: {error}") from error
        self.node = node
        self._originals: dict[etree._Element, Node] | None = None

    def original(self, element: etree._Element) -> Node:
        """The stanza's own element that `element` is the copy of."""
        if element is self.root:
            return self.node
        if self._originals is None:
            copies, originals = list(self.root.iter()), list(self.node.iter())
            if len(copies) != len(originals):
                originals = [each for each in originals if not callable(each.tag)]  # comments and PIs: not copied
            self._originals = dict(zip(copies, originals, strict=True))
        return self._originals[element]


class Compiled:
    """An expression, ready for any number of documents.

    Attributes:
        needs: what a stanza must have for it to be true. words: see `Document`.

    Raises:
        FilterError: see `pcj.filters.Filters.add`.
    """

    __slots__ = ("_evaluate", "_is_true", "expression", "needs", "words")

    def __init__(self, expression: str, namespaces: Mapping[str, str] | None) -> None:
        parsed = parse(expression, namespaces)
        from lxml import etree

        uris = {prefix: _uri(uri) for prefix, uri in parsed.namespaces.items() if prefix != "xml"}
        self.expression = expression
        self.needs: Needs = needs(parsed.expression)
        self.words = parsed.words
        self._is_true: Callable[[etree._Element], object] | None = None
        try:
            self._evaluate = etree.XPath(expression, namespaces=uris, regexp=False, smart_strings=False)
            if may_select_document(parsed.expression):
                self._is_true = etree.XPath(f"boolean({expression})", namespaces=uris, regexp=False)
            self._evaluate(etree.Element("empty"))
        except (ValueError, etree.LxmlError) as error:
            raise FilterError(f"{error}, in {expression!r}") from error

    def evaluate(self, document: Document) -> Selected:
        """The value for one stanza: nodes of the stanza itself and strings, or a string, number or boolean.

        Raises:
            FilterError: the expression is right, and its evaluation failed all the same (libxml2 has limits).
        """
        try:
            value = self._evaluate(document.root)
            if not isinstance(value, list):
                return cast("str | float | bool", value)
            if not value and self._is_true is not None and self._is_true(document.root):
                return [document.node]  # the document, which lxml leaves out of a list; its stanza stands for it
        except _lxml_error() as error:
            raise FilterError(f"{error}, in evaluating {self.expression!r}") from error
        # Not among them: comments and PIs, which the copy has not, and namespaces, whose axis is refused.
        nodes = cast("list[etree._Element | str]", value)
        return [each if isinstance(each, str) else document.original(each) for each in nodes]


def is_true(value: Selected) -> bool:
    """XPath 1.0's boolean() of a value (section 4.3): not an empty node-set or string, not 0 and not NaN."""
    return bool(value) and value == value  # NaN alone differs from itself
