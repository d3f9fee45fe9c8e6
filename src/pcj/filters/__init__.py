"""XPath filters: which stanzas a user wants to hear of under a name of their own (PCJ's `xpath_filter`).

Expressions are XPath 1.0. Each stanza is a document of its own: `/message[@type='chat']/body` works on every stream
type. Elements of `jabber:client` bear no prefix in an expression, others need one, from `namespaces`. A relative
expression starts at the stanza's element. lxml evaluates, and is imported at the first expression; none of its
extensions, no variables and no other documents can be reached.

Names follow three rules that show only in name(), local-name() and namespace-uri(): elements have no prefix; a
namespace that is no plain URI reads as `urn:pcj:uri:` and its UTF-8 in hexadecimal; and once stanzas have brought
`MAX_NAME_BYTES` of distinct names, a new one that no expression mentions reads as a stand-in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pcj.errors import FilterError
from pcj.filters._document import MAX_NAME_BYTES, Compiled, Document, is_true
from pcj.filters._expression import MAX_EXPRESSION, MAX_NESTING
from pcj.filters._index import Entry, Index
from pcj.stanza import Node

__all__ = ["MAX_EXPRESSION", "MAX_NAME_BYTES", "MAX_NESTING", "Filters", "Match", "xpath"]

#: Expressions that `xpath` keeps compiled.
MAX_CACHED: Final = 256


@dataclass(frozen=True, slots=True)
class Match:
    """A filter that a stanza satisfied.

    Attributes:
        event, expression: as they were added.
        selected: the expression's value. Of a node-set: elements of the stanza itself (not copies), in document order,
            and attributes and texts as str; the stanza stands for the document (`/`) where only that was selected.
    """

    event: str
    expression: str
    selected: list[Node | str] | str | float | bool


class _Filter(Entry):
    __slots__ = ("compiled", "event")

    def __init__(self, order: int, event: str, compiled: Compiled) -> None:
        super().__init__(order)
        self.event = event
        self.compiled = compiled


class Filters:
    """Any number of filters, asked together, at next to no cost for those that a stanza cannot satisfy.

    Args:
        on_error: called with the event, the expression and the error, when evaluating a filter against a stanza
            fails; the filter then counts as not matching, and the others go on. What it raises comes out of `match`.
    """

    def __init__(self, on_error: Callable[[str, str, FilterError], None] | None = None) -> None:
        self._on_error = on_error
        self._filters: list[_Filter] = []
        self._added = 0
        self._reindex()

    def _reindex(self) -> None:
        self._index: Index[_Filter] = Index()
        self._words: frozenset[str] = frozenset()
        for each in self._filters:
            self._insert(each)

    def _insert(self, each: _Filter) -> None:
        self._index.add(each, each.compiled.needs)
        self._words |= each.compiled.words

    def add(self, event: str, expression: str, namespaces: Mapping[str, str] | None = None) -> None:
        """Add a filter. Several may share an event; a filter matches when XPath's boolean() of its value is true.

        Args:
            event: the name under which matches are published.
            expression: XPath 1.0, at most `MAX_EXPRESSION` characters, nested at most `MAX_NESTING` deep.
            namespaces: the namespace of each prefix in `expression`; "xml" needs none.

        Raises:
            FilterError: the expression is no XPath 1.0, or uses a prefix, function or variable that there is not, or
                a prefix for jabber:client. It says what was wrong and where. Nothing was added.

        Source: XPath 1.0; POE::Component::Jabber 3.00, `xpath_filter`.
        """
        added = _Filter(self._added, event, _compile(expression, namespaces))
        self._added += 1
        self._filters.append(added)
        self._insert(added)

    def remove(self, event: str) -> bool:
        """Remove every filter of an event.

        Returns:
            Whether there was one.
        """
        kept = [each for each in self._filters if each.event != event]
        if len(kept) == len(self._filters):
            return False
        self._filters = kept
        self._reindex()
        return True

    def __len__(self) -> int:
        return len(self._filters)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """The (event, expression) of each filter, in the order they were added."""
        return iter([(each.event, each.compiled.expression) for each in self._filters])

    def match(self, node: Node) -> list[Match]:
        """The filters that a stanza satisfies, in the order they were added.

        Args:
            node: the stanza; it is not changed, and what surrounds it (its tail, a parent) is out of reach.

        Returns:
            A match for each, with what its expression selected. Never raises for what is in `node`: see `on_error`.
        """
        if not self._filters:
            return []
        candidates = self._index.candidates(node)
        if not candidates:
            return []
        matches: list[Match] = []
        document: Document | FilterError
        try:
            document = Document(node, self._words)
        except FilterError as error:
            document = error
        for each in candidates:
            try:
                if isinstance(document, FilterError):
                    raise document
                selected = each.compiled.evaluate(document)
            except FilterError as error:
                if self._on_error is not None:
                    self._on_error(each.event, each.compiled.expression, error)
                continue
            if is_true(selected):
                matches.append(Match(each.event, each.compiled.expression, selected))
        return matches


@lru_cache(maxsize=MAX_CACHED)
def _compile_cached(expression: str, namespaces: tuple[tuple[str, str], ...]) -> Compiled:
    return Compiled(expression, dict(namespaces))


def _compile(expression: str, namespaces: Mapping[str, str] | None) -> Compiled:
    if not namespaces:
        return _compile_cached(expression, ())
    pairs: list[tuple[object, object]] = list(namespaces.items())  # object: a None for "default" is a common error
    for prefix, namespace in pairs:
        if not isinstance(prefix, str) or not isinstance(namespace, str):
            raise FilterError(f"`namespaces` maps a str to a str, not {prefix!r} to {namespace!r}")
    return _compile_cached(expression, tuple(sorted(namespaces.items())))


def xpath(
    node: Node, expression: str, namespaces: Mapping[str, str] | None = None
) -> list[Node | str] | str | float | bool:
    """The value of an expression for one node, by the rules of filters. The last `MAX_CACHED` stay compiled.

    Args:
        node: any node; it is not changed. Its tail, comments and PIs are not part of the document.
        expression, namespaces: see `Filters.add`.

    Returns:
        Elements of `node` itself and strings (attributes, texts) in a list, or a string, a number or a boolean.

    Raises:
        FilterError: the expression cannot be used (see `Filters.add`), or the node cannot be written as XML.
    """
    compiled = _compile(expression, namespaces)
    return compiled.evaluate(Document(node, compiled.words))
