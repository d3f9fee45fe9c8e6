"""Reading an XPath 1.0 expression: what is wrong in it, where, and its shape for the index.

lxml would find an unknown prefix, function or variable only when evaluation gets there, which for a predicate may be
months after the filter was added. So an expression is read here first, whole; lxml then only evaluates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

from pcj.errors import FilterError
from pcj.namespaces import CLIENT, XML

#: Characters of one expression.
MAX_EXPRESSION: Final = 4096
#: Parentheses, predicates and arguments inside one another.
MAX_NESTING: Final = 32


@dataclass(frozen=True, slots=True)
class Value:
    """A literal or a number."""

    value: str | float


@dataclass(frozen=True, slots=True)
class Step:
    """A location step. `test`: a name in ElementTree's notation ("body", "{urn:q}x"), "*", "{urn:q}*" or "node()"."""

    axis: str
    test: str
    predicates: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Path:
    """A location path: from the document if `absolute`, from the nodes of `base` if there is one, else the root."""

    base: Expression | None
    absolute: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """Operands joined by one operator: any number for "or", "and" and "|", two for the others, one for a sign."""

    operator: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function call."""

    name: str
    arguments: tuple[Expression, ...]


Expression: TypeAlias = Value | Path | Operation | Call


@dataclass(frozen=True, slots=True)
class Parsed:
    """What reading gave. `namespaces`: of the prefixes in use; `words`: every name, namespace and literal in it."""

    expression: Expression
    namespaces: dict[str, str]
    words: frozenset[str]


# XPath 1.0, section 4: least and most arguments, and what comes back. A function of lxml's or of the user's own
# (lxml has registers for the whole process) is not among them.
_MANY: Final = 1_000_000
_FUNCTIONS: Final[dict[str, tuple[int, int, str]]] = {
    "last": (0, 0, "number"),
    "position": (0, 0, "number"),
    "count": (1, 1, "number"),
    "id": (1, 1, "node-set"),
    "local-name": (0, 1, "string"),
    "namespace-uri": (0, 1, "string"),
    "name": (0, 1, "string"),
    "string": (0, 1, "string"),
    "concat": (2, _MANY, "string"),
    "starts-with": (2, 2, "boolean"),
    "contains": (2, 2, "boolean"),
    "substring-before": (2, 2, "string"),
    "substring-after": (2, 2, "string"),
    "substring": (2, 3, "string"),
    "string-length": (0, 1, "number"),
    "normalize-space": (0, 1, "string"),
    "translate": (3, 3, "string"),
    "boolean": (1, 1, "boolean"),
    "not": (1, 1, "boolean"),
    "true": (0, 0, "boolean"),
    "false": (0, 0, "boolean"),
    "lang": (1, 1, "boolean"),
    "number": (0, 1, "number"),
    "sum": (1, 1, "number"),
    "floor": (1, 1, "number"),
    "ceiling": (1, 1, "number"),
    "round": (1, 1, "number"),
}
_NODE_SET_ONLY: Final = frozenset({"count", "sum", "local-name", "namespace-uri", "name"})
_NODE_TYPES: Final = frozenset({"node", "text", "comment", "processing-instruction"})
_AXES: Final = frozenset(
    {"self", "child", "descendant", "descendant-or-self", "parent", "ancestor", "ancestor-or-self"}
) | {"following", "following-sibling", "preceding", "preceding-sibling", "attribute"}
_OPERATOR_NAMES: Final = frozenset({"and", "or", "mod", "div"})
_PRECEDENCE: Final = {"or": 1, "and": 2, "=": 3, "!=": 3, "<": 4, "<=": 4, ">": 4, ">=": 4}
_PRECEDENCE.update({"+": 5, "-": 5, "*": 6, "div": 6, "mod": 6})
COMPARISONS: Final = frozenset({"=", "!=", "<", "<=", ">", ">="})

# Namespaces in XML 1.0, section 3, with XML 1.0 (fifth edition), section 2.3.
_START = (
    "A-Z_a-z\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
NCNAME: Final = f"[{_START}][{_START}0-9.\xb7\u0300-\u036f\u203f\u2040-]*"
_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(
    rf"""(?P<literal>"[^"]*"|'[^']*')|(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"""
    rf"""|(?P<name>{NCNAME}(?::(?!:)(?:{NCNAME}|\*))?)|(?P<symbol>::|//|\.\.|!=|<=|>=|[()\[\].@,/|+=<>*$-])"""
)
# XPath 1.0, 3.7: after any other token a "*" multiplies and a name is an operator's.
_BEFORE_OPERAND: Final = frozenset({"@", "::", "(", "[", ",", "/", "//", "|"} | _PRECEDENCE.keys() - {"*"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "literal", "number", "name", "symbol", "operator" (a name or "*" that is one) or "end"
    text: str
    at: int


class _Parser:
    """Recursive descent over XPath 1.0's grammar (sections 2 and 3)."""

    def __init__(self, source: str, namespaces: Mapping[str, str]) -> None:
        self._source = source
        self._namespaces = namespaces
        self._used: dict[str, str] = {}
        self._words: set[str] = set()
        self._depth = 0
        self._in_predicate = 0
        self._tokens = self._tokenize()
        self._next = 0

    def parse(self) -> Parsed:
        expression = self._expression()
        if self._peek().kind != "end":
            self._unexpected("an operator or the end")
        return Parsed(expression, self._used, frozenset(self._words))

    def _fail(self, what: str, at: int) -> NoReturn:
        raise FilterError(f"{what}, at character {at + 1} of {self._source!r}")

    def _unexpected(self, expected: str) -> NoReturn:
        token = self._peek()
        came = "the end" if token.kind == "end" else repr(token.text)
        self._fail(f"expected {expected}, got {came}", token.at)

    # Tokens

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        source, at = self._source, 0
        while True:
            space = _SPACE.match(source, at)
            at = space.end() if space else at
            if at == len(source):
                return [*tokens, _Token("end", "", at)]
            match = _TOKEN.match(source, at)
            if match is None:
                if source[at] in "'\"":
                    self._fail("a string that is not closed", at)
                self._fail(f"unexpected {source[at]!r}", at)
            kind, text = match.lastgroup or "", match.group()
            if text == "$":
                self._fail("a filter has no variables", at)
            last = tokens[-1] if tokens else None
            if last and last.kind != "operator" and (last.kind != "symbol" or last.text not in _BEFORE_OPERAND):
                if text == "*" or text in _OPERATOR_NAMES:
                    kind = "operator"
                elif kind == "name":
                    self._fail(f"expected an operator, got {text!r}", at)
            tokens.append(_Token(kind, text, at))
            at = match.end()

    def _peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self) -> _Token:
        token = self._peek()
        self._next += 1
        return token

    def _is(self, *symbols: str, ahead: int = 0) -> bool:
        token = self._peek(ahead)
        return token.kind == "symbol" and token.text in symbols

    def _expect(self, symbol: str) -> None:
        if not self._is(symbol):
            self._unexpected(repr(symbol))
        self._take()

    # Expressions (XPath 1.0, section 3)

    def _expression(self, least: int = 1) -> Expression:
        if least == 1:
            self._depth += 1
            if self._depth > MAX_NESTING:
                self._fail(f"nested more than {MAX_NESTING} deep", self._peek().at)
        left = self._unary()
        while True:
            token = self._peek()
            strength = _PRECEDENCE.get(token.text, 0) if token.kind in ("symbol", "operator") else 0
            if strength < least or not strength:
                break
            self._take()
            right = self._expression(strength + 1)
            # Flat, so that a long chain of these is not a deep tree.
            if token.text in ("or", "and") and isinstance(left, Operation) and left.operator == token.text:
                left = Operation(token.text, (*left.operands, right))
            else:
                left = Operation(token.text, (left, right))
        if least == 1:
            self._depth -= 1
        return left

    def _unary(self) -> Expression:
        signs = 0
        while self._is("-"):
            self._take()
            signs += 1
        first = self._peek()
        operands = [self._path()]
        while self._is("|"):
            self._need_node_set(operands[-1], "'|' joins node-sets only", first.at)
            self._take()
            first = self._peek()
            operands.append(self._path())
        if len(operands) > 1:
            self._need_node_set(operands[-1], "'|' joins node-sets only", first.at)
        union = operands[0] if len(operands) == 1 else Operation("|", tuple(operands))
        return Operation("-", (union,)) if signs else union

    def _need_node_set(self, expression: Expression, rule: str, at: int) -> None:
        if kind(expression) != "node-set":
            self._fail(f"{rule}, not a {kind(expression)}", at)

    def _path(self) -> Expression:
        token = self._peek()
        call = token.kind == "name" and self._is("(", ahead=1) and token.text not in _NODE_TYPES
        if token.kind in ("literal", "number") or call or self._is("("):
            base = self._primary()
            predicates = self._predicates()
            if not predicates and not self._is("/", "//"):
                return base
            self._need_node_set(base, "'[' and '/' can follow a node-set only", token.at)
            return Path(base, False, self._steps() if self._is("/", "//") else ())
        if self._is("/") and not self._starts_step(1):
            self._take()
            return Path(None, True, ())
        absolute = self._is("/", "//")
        return Path(None, absolute, self._steps() if absolute else (self._step(), *self._steps()))

    def _primary(self) -> Expression:
        token = self._take()
        if token.kind == "literal":
            self._words.add(token.text[1:-1])
            return Value(token.text[1:-1])
        if token.kind == "number":
            return Value(float(token.text))
        if token.kind == "name":
            return self._call(token)
        expression = self._expression()
        self._expect(")")
        return expression

    def _call(self, token: _Token) -> Call:
        if token.text not in _FUNCTIONS:
            self._fail(f"there is no function {token.text}() in XPath 1.0", token.at)
        if token.text in ("position", "last") and not self._in_predicate:
            # libxml2 has no answer outside of one, and says so only when evaluation gets there.
            self._fail(f"{token.text}() has a meaning in a predicate only", token.at)
        self._expect("(")
        arguments: list[Expression] = []
        if not self._is(")"):
            arguments.append(self._argument(token))
            while self._is(","):
                self._take()
                arguments.append(self._argument(token))
        self._expect(")")
        least, most, _ = _FUNCTIONS[token.text]
        if not least <= len(arguments) <= most:
            wanted = f"{least}" if least == most else f"{least} or more" if most == _MANY else f"{least} to {most}"
            self._fail(f"{token.text}() takes {wanted} arguments, got {len(arguments)}", token.at)
        return Call(token.text, tuple(arguments))

    def _argument(self, function: _Token) -> Expression:
        at = self._peek().at
        argument = self._expression()
        if function.text in _NODE_SET_ONLY:
            self._need_node_set(argument, f"{function.text}() takes a node-set", at)
        return argument

    # Location paths (XPath 1.0, section 2)

    def _starts_step(self, ahead: int) -> bool:
        return self._peek(ahead).kind == "name" or self._is(".", "..", "@", "*", ahead=ahead)

    def _steps(self) -> tuple[Step, ...]:
        steps: list[Step] = []
        while self._is("/", "//"):
            if self._take().text == "//":
                steps.append(Step("descendant-or-self", "node()"))
            steps.append(self._step())
        return tuple(steps)

    def _step(self) -> Step:
        if not self._starts_step(0):
            self._unexpected("a step")
        if self._is(".", ".."):
            return Step("self" if self._take().text == "." else "parent", "node()")
        axis = "child"
        if self._is("@"):
            self._take()
            axis = "attribute"
        elif self._is("::", ahead=1):
            token = self._take()
            axis = token.text
            if axis == "namespace":
                self._fail("a node keeps no prefixes: there is no namespace axis", token.at)
            if axis not in _AXES:
                self._fail(f"there is no axis {axis!r}", token.at)
            self._take()
        return Step(axis, self._node_test(), self._predicates())

    def _node_test(self) -> str:
        if self._is("*"):
            return self._take().text
        if self._peek().kind != "name":
            self._unexpected("a name")
        token = self._take()
        if self._is("("):
            if token.text not in _NODE_TYPES:
                self._fail("a function call cannot be a step", token.at)
            self._take()
            if token.text == "processing-instruction" and self._peek().kind == "literal":
                self._take()
            self._expect(")")
            return f"{token.text}()"
        prefix, colon, local = token.text.rpartition(":")
        self._words.add(local)
        return f"{{{self._namespace(prefix, token.at)}}}{local}" if colon else local

    def _predicates(self) -> tuple[Expression, ...]:
        predicates: list[Expression] = []
        while self._is("["):
            self._take()
            self._in_predicate += 1
            predicates.append(self._expression())
            self._in_predicate -= 1
            self._expect("]")
        return tuple(predicates)

    def _namespace(self, prefix: str, at: int) -> str:
        if prefix == "xml":  # Namespaces in XML 1.0, 3: bound by definition, and to nothing else
            return XML
        if prefix not in self._namespaces:
            self._fail(f"the prefix {prefix!r} is not in `namespaces`", at)
        namespace = self._namespaces[prefix]
        if not namespace:
            self._fail(f"the prefix {prefix!r} needs a namespace in `namespaces`, not {namespace!r}", at)
        if namespace == CLIENT:
            self._fail(f"elements of {CLIENT} bear no prefix in a filter: write the name without {prefix!r}", at)
        self._used[prefix] = namespace
        self._words.add(namespace)
        return namespace


def kind(expression: Expression) -> str:
    """What an expression's value is: "node-set", "string", "number" or "boolean" (XPath 1.0, section 1)."""
    if isinstance(expression, Path):
        return "node-set"
    if isinstance(expression, Value):
        return "string" if isinstance(expression.value, str) else "number"
    if isinstance(expression, Call):
        return _FUNCTIONS[expression.name][2]
    if expression.operator == "|":
        return "node-set"
    return "boolean" if expression.operator in COMPARISONS or expression.operator in ("or", "and") else "number"


def may_select_document(expression: Expression) -> bool:
    """Whether an expression can select the document itself, which lxml leaves out of its results."""
    if isinstance(expression, Path):
        if expression.steps:
            step = expression.steps[-1]
            return step.test == "node()" and step.axis not in ("child", "attribute", "descendant")
        return expression.absolute or (expression.base is not None and may_select_document(expression.base))
    if isinstance(expression, Operation) and expression.operator == "|":
        return any(may_select_document(operand) for operand in expression.operands)
    return False


def parse(expression: str, namespaces: Mapping[str, str] | None) -> Parsed:
    """Read an expression.

    Args:
        expression: XPath 1.0, at most `MAX_EXPRESSION` characters.
        namespaces: the namespace of each prefix in it.

    Raises:
        FilterError: it is no XPath 1.0, or uses a prefix, a function or a variable that there is not; says where.
    """
    if len(expression) > MAX_EXPRESSION:
        raise FilterError(f"an expression has at most {MAX_EXPRESSION} characters, this one has {len(expression)}")
    return _Parser(expression, namespaces or {}).parse()
