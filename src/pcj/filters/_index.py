"""Which filters can match a stanza at all, found by dict look-ups and not by asking each filter.

From each expression is drawn what a stanza must have for it to be true: the root's name, values of the root's
attributes, names of the root's children. What is not understood asks for nothing, and so is a candidate for every
stanza: to include wrongly is slow, to exclude wrongly would be a fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from pcj.filters._expression import COMPARISONS, Call, Expression, Operation, Path, Value, kind
from pcj.namespaces import CLIENT
from pcj.stanza import Node

#: Alternatives that "and" may multiply to, before one side of it is no longer looked at.
MAX_ALTERNATIVES: Final = 64

# False (as a predicate, too: 0 and NaN are no position, "" is false) when their node-set is empty.
_FALSE_IF_EMPTY: Final = frozenset(
    ("string", "count", "sum", "number", "string-length", "normalize-space", "name", "local-name", "namespace-uri")
)


@dataclass(frozen=True, slots=True)
class Need:
    """What a stanza must have, all of it, in ElementTree's notation; None and the empty sets ask for nothing."""

    root: str | None = None
    attributes: frozenset[tuple[str, str]] = frozenset()
    children: frozenset[str] = frozenset()


Needs = tuple[Need, ...]  # alternatives: one of them must hold; of none the expression can never be true
ANYTHING: Final[Needs] = (Need(),)


def _both(left: Needs, right: Needs) -> Needs:
    if len(left) * len(right) > MAX_ALTERNATIVES:
        return min(left, right, key=len)
    return tuple(
        dict.fromkeys(
            Need(a.root or b.root, a.attributes | b.attributes, a.children | b.children)
            for a in left
            for b in right
            if a.root is None or b.root is None or a.root == b.root
        )
    )


def needs(expression: Expression) -> Needs:
    """What must hold for an expression, evaluated at the root, to be true."""
    if isinstance(expression, Path):
        return _path_needs(expression)[0]
    if isinstance(expression, Call):
        return _call_needs(expression)
    if isinstance(expression, Operation):
        if expression.operator in ("or", "|"):
            return tuple(dict.fromkeys(need for operand in expression.operands for need in needs(operand)))
        if expression.operator == "and":
            found = ANYTHING
            for operand in expression.operands:
                found = _both(found, needs(operand))
            return found
        if expression.operator in COMPARISONS:
            return _comparison_needs(expression)
    return ANYTHING


def _call_needs(call: Call) -> Needs:
    first = call.arguments[0] if call.arguments else None
    if first is None:
        return ANYTHING
    if call.name == "boolean" or (call.name in _FALSE_IF_EMPTY and kind(first) == "node-set"):
        return needs(first)
    if call.name in ("contains", "starts-with") and kind(first) == "node-set":
        sought = call.arguments[1]
        # The string of an empty node-set is "", which contains nothing but "".
        return needs(first) if isinstance(sought, Value) and sought.value != "" else ANYTHING
    return ANYTHING


def _comparison_needs(comparison: Operation) -> Needs:
    left, right = comparison.operands
    # XPath 1.0, 3.4: a comparison of a node-set asks for a node in it for which it holds, except with a boolean:
    # that one compares whether the node-set is empty.
    if "boolean" in (kind(left), kind(right)):
        return ANYTHING
    found = ANYTHING
    for operand, other in ((left, right), (right, left)):
        if kind(operand) != "node-set":
            continue
        found = _both(found, needs(operand))
        if comparison.operator == "=" and isinstance(operand, Path) and isinstance(other, Value):
            name = _path_needs(operand)[1]
            if name is not None and isinstance(other.value, str):
                found = _both(found, (Need(attributes=frozenset({(name, other.value)})),))
    return found


def _path_needs(path: Path) -> tuple[Needs, str | None]:
    """What must hold for a path to select something; and the name of the root's attribute, if it selects just that."""
    if path.base is not None:
        return needs(path.base), None
    found = ANYTHING
    at_document = path.absolute
    for position, step in enumerate(path.steps):
        named = not step.test.endswith(("*", ")"))
        if at_document:
            # The document has one child, the root. Its other axes are not followed.
            if step.axis != "child":
                break
            at_document = False
        elif step.axis == "child":
            # Its predicates speak of the child: not followed.
            return _both(found, (Need(children=frozenset({step.test})),)) if named else found, None
        elif step.axis == "attribute":
            return found, step.test if named and position == len(path.steps) - 1 else None
        elif step.axis != "self":
            break
        if named:
            found = _both(found, (Need(root=step.test),))
        for predicate in step.predicates:
            found = _both(found, needs(predicate))
    return found, None


class Entry:
    """What is indexed: its place in the order of adding."""

    __slots__ = ("order",)

    def __init__(self, order: int) -> None:
        self.order = order


E = TypeVar("E", bound=Entry)


class _Leaf(Generic[E]):
    __slots__ = ("always", "by_child")

    def __init__(self) -> None:
        self.always: list[E] = []
        self.by_child: dict[str, list[E]] = {}

    def collect(self, node: Node, found: list[E]) -> None:
        found += self.always
        by_child = self.by_child
        if by_child:
            for child in node:
                entries = by_child.get(child.tag)
                if entries is not None:
                    found += entries


class _Level(Generic[E]):
    """The entries of one root name: by the value of one attribute, then by one child."""

    __slots__ = ("by_attribute", "plain")

    def __init__(self) -> None:
        self.plain: _Leaf[E] | None = None
        self.by_attribute: dict[str, dict[str, _Leaf[E]]] = {}

    def collect(self, node: Node, found: list[E]) -> None:
        for name, leaves in self.by_attribute.items():
            value = node.get(name)
            if value is not None:
                leaf = leaves.get(value)
                if leaf is not None:
                    leaf.collect(node, found)
        if self.plain is not None:
            self.plain.collect(node, found)


class Index(Generic[E]):
    """Entries by what they need."""

    def __init__(self) -> None:
        self._by_root: dict[str, _Level[E]] = {}
        self._any_root: _Level[E] | None = None

    def add(self, entry: E, alternatives: Needs) -> None:
        """Index one entry under each of its alternatives."""
        for need in alternatives:
            for leaf in self._leaves(need):
                if not need.children:
                    leaf.always.append(entry)
                    continue
                # One child decides, best one with a namespace: bodies are everywhere.
                for tag in _tags(max(need.children, key=lambda name: (name.startswith("{"), name))):
                    leaf.by_child.setdefault(tag, []).append(entry)

    def _leaves(self, need: Need) -> Iterable[_Leaf[E]]:
        levels: list[_Level[E]] = []
        if need.root is None:
            if self._any_root is None:
                self._any_root = _Level()
            levels.append(self._any_root)
        else:
            levels.extend(self._by_root.setdefault(tag, _Level()) for tag in _tags(need.root))
        for level in levels:
            if need.attributes:
                # One attribute decides, best another than "type", which has few values.
                name, value = max(need.attributes, key=lambda pair: (pair[0] != "type", pair))
                yield level.by_attribute.setdefault(name, {}).setdefault(value, _Leaf())
            else:
                if level.plain is None:
                    level.plain = _Leaf()
                yield level.plain

    def candidates(self, node: Node) -> list[E]:
        """The entries that `node` may satisfy, each once, in the order they were added."""
        found: list[E] = []
        level = self._by_root.get(node.tag)
        if level is not None:
            level.collect(node, found)
        if self._any_root is not None:
            self._any_root.collect(node, found)
        if len(found) > 1:
            by_order = {entry.order: entry for entry in found}
            found = [by_order[order] for order in sorted(by_order)]
        return found


def _tags(name: str) -> tuple[str, ...]:
    """The ElementTree tags of a name test: jabber:client and no namespace are one to a filter."""
    return (name,) if name.startswith("{") else (f"{{{CLIENT}}}{name}", name)
