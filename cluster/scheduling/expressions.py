"""The language of filter_function and goodness_function (scheduler facts §7). Knows names, not pools; never `eval`.

From loosest to tightest: `or` `||`; `and` `&&`; `c ? a : b`; comparisons (chained: `1 < x < 5`); `!` `not`; `+ -`;
`* /`; sign; `^` (to the right); `abs() min() max()`, parentheses. So `!a < b` is `(!a) < b`, as in Cinder. A word
without a dot is text. Numbers in text and truth values (1, 0) count as numbers when they come from a variable.
Unlike Cinder, a third operand of `and`/`or` counts, and an operand that cannot change the result is not worked out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cluster.scheduling.errors import ExpressionError
from cluster.scheduling.expression_tokens import tokens

Value = float | int | bool | str
# Gives the value of `namespace.name`; raises KeyError when there is none.
Resolve = Callable[[str, str], object]
Node = Callable[[Resolve], Value]

NAMESPACES: Final = frozenset({"stats", "capabilities", "volume", "extra", "qos"})
_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {"abs": abs, "min": min, "max": max}
_COMPARE: Final[dict[str, Callable[..., bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_BINDS: Final = {"||": 1, "&&": 2, "?": 3, **dict.fromkeys(_COMPARE, 4), "+": 6, "-": 6, "*": 7, "/": 7, "^": 9}
_COMPARES, _NOT, _SIGN = 4, 5, 8
_MAX_DEPTH: Final = 40


def evaluate(expression: str, resolve: Resolve) -> Value:
    """The value of `expression`. Raises ExpressionError for anything that cannot be read, found or worked out."""
    compiled = _compiled(expression)
    if isinstance(compiled, str):
        raise ExpressionError(compiled)
    try:
        return compiled(resolve)
    except ZeroDivisionError:
        raise ExpressionError(f"{expression!r} divides by zero") from None
    except OverflowError:
        raise ExpressionError(f"{expression!r} grows too large") from None


@lru_cache(maxsize=512)
def _compiled(expression: str) -> Node | str:
    """The compiled expression, or why there is none: a refusal is worth remembering too (one a pool otherwise)."""
    try:
        return _Parser(expression).whole()
    except ExpressionError as error:
        return str(error)


def _number(value: Value) -> float:
    if isinstance(value, str):
        raise ExpressionError(f"{value!r} is not a number")
    return value


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = tokens(source)
        self.at = self.depth = 0

    def whole(self) -> Node:
        node = self.expression(0)
        return node if self.tokens[self.at][0] == "end" else self.unexpected()

    def unexpected(self) -> Node:
        raise ExpressionError(f"{self.source[:80]!r}: {self.tokens[self.at][1]!r} does not belong there")

    def sign(self) -> str:
        kind, text = self.tokens[self.at]
        return text if kind == "sign" else ""

    def take(self, sign: str) -> bool:
        taken = self.sign() == sign
        self.at += taken
        return taken

    def need(self, sign: str) -> None:
        if not self.take(sign):
            self.unexpected()

    def expression(self, binds: int) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ExpressionError(f"{self.source[:80]!r} is nested deeper than {_MAX_DEPTH}")
        left = self.operand()
        while (sign := self.sign()) in _BINDS and _BINDS[sign] > binds:
            self.at += 1
            left = self.comparison(left, sign) if sign in _COMPARE else self.infix(left, sign)
        self.depth -= 1
        return left

    def operand(self) -> Node:
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            number = float(text) if "." in text or len(text) > 15 else int(text)
            return lambda resolve: number
        if kind == "text":
            return lambda resolve: text[1:-1]
        if kind == "word":
            return self.call(text) if text in _FUNCTIONS else _variable(text)
        if kind == "sign" and text == "(":
            inner = self.expression(0)
            self.need(")")
            return inner
        if kind == "sign" and text in "+-!":
            operand = self.expression(_NOT if text == "!" else _SIGN)
            if text == "!":
                return lambda resolve: not operand(resolve)
            factor = -1 if text == "-" else 1
            return lambda resolve: factor * _number(operand(resolve))
        self.at -= 1
        return self.unexpected()

    def call(self, name: str) -> Node:
        self.need("(")
        arguments = [self.expression(0)]
        while self.take(","):
            arguments.append(self.expression(0))
        self.need(")")
        if (name == "abs") is (len(arguments) > 1):
            raise ExpressionError(f"{self.source[:80]!r}: {name} takes {'one value' if name == 'abs' else 'several'}")
        function = _FUNCTIONS[name]
        return lambda resolve: function(*[_number(argument(resolve)) for argument in arguments])

    def comparison(self, first: Node, sign: str) -> Node:
        rest = [(sign, self.expression(_COMPARES))]
        while (sign := self.sign()) in _COMPARE:
            self.at += 1
            rest.append((sign, self.expression(_COMPARES)))

        def compare(resolve: Resolve) -> bool:
            left = first(resolve)
            for sign, node in rest:
                right = node(resolve)
                try:
                    if not _COMPARE[sign](left, right):
                        return False
                except TypeError:
                    raise ExpressionError(f"{left!r} {sign} {right!r} compares a number with text") from None
                left = right
            return True

        return compare

    def infix(self, left: Node, sign: str) -> Node:
        if sign == "?":
            then = self.expression(0)
            self.need(":")
            other = self.expression(_BINDS["?"] - 1)
            return lambda resolve: then(resolve) if left(resolve) else other(resolve)
        # A power's exponent may carry a sign and another power.
        right = self.expression(_SIGN if sign == "^" else _BINDS[sign])
        if sign == "||":
            return lambda resolve: left(resolve) or right(resolve)
        if sign == "&&":
            return lambda resolve: left(resolve) and right(resolve)
        if sign == "^":
            return lambda resolve: _power(_number(left(resolve)), _number(right(resolve)))
        work: Callable[[float, float], float] = _ARITHMETIC[sign]
        return lambda resolve: work(_number(left(resolve)), _number(right(resolve)))


_ARITHMETIC: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def _power(base: float, exponent: float) -> float:
    # Floats only: whole numbers would grow without end.
    result: object = float(base) ** float(exponent)
    if not isinstance(result, float):
        raise ExpressionError(f"{base:g} ^ {exponent:g} is not a real number")
    return result


def _variable(word: str) -> Node:
    if "." not in word:
        return lambda resolve: word
    namespace, _, name = word.partition(".")
    if namespace not in NAMESPACES or not name or "." in name:
        raise ExpressionError(f"{word!r} is no variable: write one of {', '.join(sorted(NAMESPACES))}, a dot, a name")

    def look_up(resolve: Resolve) -> Value:
        try:
            value = resolve(namespace, name)
        except KeyError:
            raise ExpressionError(f"{word} is not known here") from None
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                return value
        if not isinstance(value, (int, float)):
            raise ExpressionError(f"{word} is {'not set' if value is None else 'neither a number nor text'}")
        return int(value) if isinstance(value, bool) else value

    return look_up
