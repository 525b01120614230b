"""The `query` scheduler hint: a JSON prefix list such as `[">=", "$free_capacity_gb", 10]` (scheduler facts §3).

Knows values and a way to look names up, not pools. As in Cinder, a name that is nowhere is left out of the arguments, a
comparison of fewer than two arguments is false, and `=`, `<`, ... compare the first argument with each other one.
Unlike there, `not` gives one truth value, so that it also means what it says inside `and`.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from typing import Final

from cluster.scheduling.errors import QueryError

# Gives the value of a name, None when there is none.
Lookup = Callable[[str], object]
Query = Callable[[Lookup], bool]


def _first_with_all(compare: Callable[..., bool]) -> Callable[[list[object]], bool]:
    return lambda values: len(values) > 1 and all(compare(values[0], other) for other in values[1:])


_TESTS: Final[dict[str, Callable[[list[object]], bool]]] = {
    "=": _first_with_all(operator.eq),
    "<": _first_with_all(operator.lt),
    ">": _first_with_all(operator.gt),
    "<=": _first_with_all(operator.le),
    ">=": _first_with_all(operator.ge),
    "in": lambda values: len(values) > 1 and values[0] in values[1:],
    "not": lambda values: any(not value for value in values),
    "or": any,
    "and": all,
}
_WORDS: Final = frozenset(_TESTS)
_MAX_DEPTH: Final = 32


def read(hint: str | list[object]) -> Query:
    """Read a hint given as JSON text or as the list itself into a test of a pool's names. Raises QueryError.

    The test itself raises QueryError when it compares what cannot be compared.
    """
    try:
        tree = json.loads(hint) if isinstance(hint, str) else hint
    except (ValueError, RecursionError) as error:
        raise QueryError(f"the query hint is not JSON: {error}") from error
    return _query(tree, _MAX_DEPTH)


def _query(tree: object, depth: int) -> Query:
    if depth == 0:
        raise QueryError(f"the query hint is nested deeper than {_MAX_DEPTH} lists")
    if tree == []:
        return lambda lookup: True
    if not isinstance(tree, list) or not isinstance(tree[0], str) or tree[0] not in _WORDS:
        raise QueryError(f"the query hint wants a list that begins with one of {' '.join(sorted(_WORDS))}")
    word, arguments = tree[0], [_argument(part, depth) for part in tree[1:]]

    def holds(lookup: Lookup) -> bool:
        values = [value for argument in arguments if (value := argument(lookup)) is not None]
        try:
            return _TESTS[word](values)
        except TypeError as error:
            raise QueryError(f"the query hint compares {values!r:.80} by {word!r}: they are not of one kind") from error

    return holds


def _argument(part: object, depth: int) -> Callable[[Lookup], object]:
    if isinstance(part, list):
        return _query(part, depth - 1)
    if isinstance(part, dict):
        raise QueryError("the query hint cannot compare objects")
    if not isinstance(part, str) or not part.startswith("$"):
        value = part if part != "" else None
        return lambda lookup: value
    whole = part[1:]
    head, _, rest = whole.partition(".")

    def look_up(lookup: Lookup) -> object:
        found = lookup(whole)
        return _dig(lookup(head), rest) if found is None and rest else found

    return look_up


def _dig(found: object, path: str) -> object:
    """What `path` leads to. A key may itself have dots, as those of node labels do."""
    if not isinstance(found, Mapping):
        return None
    if path in found:
        value: object = found[path]
        return value
    head, _, rest = path.partition(".")
    return _dig(found.get(head), rest) if rest else None
