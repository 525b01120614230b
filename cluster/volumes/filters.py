"""What a list request asks of a table's columns, as SQL conditions.

A filter is a column's wire name and an already read value: text, a number, a truth value, None, a list of these (any
of them), a mapping (for metadata), or time comparisons. A filter that no row can meet (no such column, text where a
number belongs) raises NothingMatchesError: the page is then empty, as Cinder's is. Must not know HTTP.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement, Integer, String, Table, TypeDecorator, and_, or_, true

from cluster.volumes.queries import VOLUME

_KEY: Final = re.compile(r"[a-zA-Z0-9\-_:. /]{1,255}")
_LARGEST: Final = 2**31 - 1
_DIGITS: Final = 255  # leading zeroes are digits too; Python converts up to 4,300
# Wire names of columns that the table names otherwise.
_COLUMNS: Final = {
    "size": "size_gib",
    "volume_size": "size_gib",
    "display_name": "name",
    "display_description": "description",
    "use_quota": "consumes_quota",
}
METADATA: Final = {"metadata": ("user_metadata", "admin_metadata"), "glance_metadata": ("image_metadata",)}
_HIDDEN: Final = frozenset(column for columns in METADATA.values() for column in columns)
_PLACES: Final = frozenset({"host", "cluster_name"})
_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
}


class NothingMatchesError(Exception):
    """No row can meet the filters."""


@dataclass(frozen=True, slots=True)
class Times:
    """Comparisons of a time: pairs of an operator (gt, gte, eq, neq, lt, lte) and a wire time."""

    comparisons: tuple[tuple[str, str], ...]


def conditions(filters: Mapping[str, object]) -> list[ColumnElement[bool]]:
    """The conditions on the volume table. Raises NothingMatchesError."""
    return [
        _place(VOLUME.c[name], value) if name in _PLACES else condition(VOLUME, name, value)
        for name, value in filters.items()
    ]


def condition(table: Table, name: str, value: object) -> ColumnElement[bool]:
    """The condition of one filter on `table`; `name~` asks for a part of the text. Raises NothingMatchesError."""
    if name in METADATA:
        columns = [table.c[column] for column in METADATA[name] if column in table.c]
        return _metadata(columns, value)
    alike, name = name.endswith("~"), name.removesuffix("~")
    column = table.c.get(_COLUMNS.get(name, name))
    if column is None or column.key in _HIDDEN:
        raise NothingMatchesError(name)
    if isinstance(value, Times):
        return and_(true(), *(_COMPARE[word](column, moment) for word, moment in value.comparisons))
    if alike:
        kind = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
        if not isinstance(kind, String):
            raise NothingMatchesError(name)
        return column.icontains(_text(value), autoescape=True)
    if isinstance(value, Sequence) and not isinstance(value, str):
        # One IN, not a chain of OR: SQLite's expressions are at most 1,000 deep.
        found = column.in_([_bound(column, item) for item in value if item is not None])
        return or_(found, column.is_(None)) if None in value else found
    bound = None if value is None else _bound(column, value)
    return column.is_(bound) if bound is None or isinstance(bound, bool) else column == bound


def _place(column: ColumnElement[Any], value: object) -> ColumnElement[bool]:
    """A host matches itself and, when it names no pool, all of its pools."""
    text = _text(value)
    return column == text if "#" in text else or_(column == text, column.startswith(f"{text}#", autoescape=True))


def _bound(column: ColumnElement[Any], value: object) -> object:
    """`value` as the column has it. Raises NothingMatchesError."""
    if isinstance(column.type, Boolean):
        if not isinstance(value, bool | int):
            raise NothingMatchesError(column.key)
        return bool(value)
    text = _text(value)
    if isinstance(column.type, Integer):
        if not text.isascii() or not text.isdecimal() or len(text) > _DIGITS or int(text) > _LARGEST:
            raise NothingMatchesError(column.key)
        return int(text)
    return text


def _text(value: object) -> str:
    text = str(value)
    if "\0" in text:
        raise NothingMatchesError(text)  # PostgreSQL has no such text
    return text


def _metadata(columns: Sequence[ColumnElement[Any]], value: object) -> ColumnElement[bool]:
    if not isinstance(value, Mapping):
        raise NothingMatchesError("metadata")
    tests: list[ColumnElement[bool]] = []
    for key, wanted in value.items():
        # Other keys can't have been stored, and would be read as a path.
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise NothingMatchesError("metadata")
        tests.append(or_(*(column[key].as_string() == _text(wanted) for column in columns)))
    return and_(true(), *tests)
