"""Filter values that are written as Python literals, as Cinder's clients write them: `['error', 'available']`,
`{'key': 'value'}`, `None`, `'quoted'`.

What comes out is text that every database can hold: an escape inside quotes can spell what UTF-8 cannot (a lone
surrogate) and what PostgreSQL cannot (NUL); both are refused.
"""

from __future__ import annotations

import ast
import json
from typing import Final

from serve_app.wire.faults import BadRequest

MOST_ITEMS: Final = 256
_LONGEST: Final = 4096
_UNREADABLE: Final = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)

Leaf = str | bool | None
Literal = Leaf | list[Leaf] | dict[str, str]


def read_literal(text: str, *, or_json: bool = False) -> Literal:
    """The value that `text` is the literal of; `text` itself when it is none, or longer than 4,096 characters.

    Numbers become their digits; sets and tuples become lists; what lies deeper than one level becomes text. `or_json`
    reads JSON too. Raises BadRequest for NUL, for what is not text, and for more than 256 items.
    """
    if (text[:1] not in "[({'\"" and text != "None") or len(text) > _LONGEST:
        return text
    try:
        found = _plain(ast.literal_eval(text))
    except _UNREADABLE:
        found = _json(text) if or_json else text
    _check(found)
    return found


def _json(text: str) -> Literal:
    try:
        return _plain(json.loads(text))
    except _UNREADABLE:
        return text


def _plain(value: object) -> Literal:
    """`value` with texts for leaves. Raises ValueError for an integer of more digits than Python writes."""
    if isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_leaf(item) for item in value]
    return _leaf(value)


def _leaf(value: object) -> Leaf:
    return value if value is None or isinstance(value, bool) else str(value)


def _check(value: Literal) -> None:
    if isinstance(value, list | dict) and len(value) > MOST_ITEMS:
        raise BadRequest(f"Invalid input received: a filter has {len(value)} values; at most {MOST_ITEMS} are taken")
    leaves = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    for leaf in leaves if isinstance(leaves, list) else [leaves]:
        if isinstance(leaf, str) and not _is_text(leaf):
            raise BadRequest("Invalid input received: a filter holds NUL or something else that is not a character")


def _is_text(leaf: str) -> bool:
    try:
        leaf.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in leaf
