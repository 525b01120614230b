"""Lists in pages: what the query asks for, the SQL for it, and the link to the next page.

A page starts behind its marker row by comparing sort columns ("keyset"), so that a deep page costs what the first
does. Null sorts below every value (first upwards, last downwards), on SQLite and PostgreSQL alike. Errors and
defaults are Cinder's (json_shapes, "Lists and paging").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, Select, and_, false, literal, or_, tuple_

from serve_app.wire.faults import BadRequest
from serve_app.wire.fields import MAX_INTEGER
from serve_app.wire.route import Call

_YES = {"1", "t", "true", "on", "y", "yes"}
_NO = {"0", "f", "false", "off", "n", "no"}
Sort = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Page:
    """What part of a list is wanted. `sort` is pairs (key, "asc" or "desc"), the last of them on `id`. A `limit` of 0
    is an empty list."""

    limit: int
    marker: str | None
    offset: int
    sort: Sort


def page_of(call: Call, sort_keys: frozenset[str], default: Sort = (("created_at", "desc"),)) -> Page:
    """The page that the query asks for, at most `settings.max_limit` rows. Raises BadRequest."""
    query = call.query
    limit, cap = query.get("limit"), call.room.settings.max_limit
    rows = cap if limit is None else _integer(limit, "limit param must be an integer")
    if rows < 0:
        raise BadRequest("limit param must be positive")
    offset = _integer(query.get("offset", "0"), "offset must be an integer.")
    if offset < 0:
        raise BadRequest("offset must be >= 0")
    if offset > MAX_INTEGER:
        raise BadRequest(f"offset must be <= {MAX_INTEGER}")
    return Page(min(rows, cap), query.get("marker"), offset, _sort(call, sort_keys, default))


def apply_page(
    statement: Select[Any],
    columns: Mapping[str, ColumnElement[Any]],
    page: Page,
    marker_row: Mapping[str, Any] | None,
) -> Select[Any]:
    """`statement` in the page's order, behind `marker_row` (which has a value for every sort key), cut to the page."""
    order = [(columns[key], direction == "asc", key) for key, direction in page.sort]
    if marker_row is not None:
        statement = statement.where(_behind(order, marker_row))
    for column, upwards, _ in order:
        term = column.asc() if upwards else column.desc()
        if _nullable(column):  # said only where it matters: said on other columns it hides an index from PostgreSQL
            term = term.nulls_first() if upwards else term.nulls_last()
        statement = statement.order_by(term)
    if page.offset:
        statement = statement.offset(page.offset)
    return statement.limit(page.limit)


def next_links(
    call: Call, collection: str, page: Page, rows: Sequence[Any], last_id: str | None, key: str | None = None
) -> dict[str, Any]:
    """`{"volumes_links": [next]}` when the page is full, else nothing. `collection` is the path below the prefix
    (`volumes/detail`). The offset is not repeated: behind a marker it would skip rows again."""
    if not rows or last_id is None or len(rows) < page.limit:
        return {}
    query = [(name, value) for name, value in call.query.multi_items() if name not in ("marker", "offset")]
    href = f"{call.prefix}/{collection}?{urlencode([*query, ('marker', last_id)])}"
    return {key or f"{collection.partition('/')[0]}_links": [{"rel": "next", "href": href}]}


def boolean_of(call: Call, name: str) -> bool:
    """The query parameter `name` (absent: false). Raises BadRequest if it is not a boolean word."""
    value = call.query.get(name)
    if value is None:
        return False
    word = value.lower()
    if word not in _YES and word not in _NO:
        raise BadRequest(f"Value '{value[:255]}' for '{name}' is not a boolean.")
    return word in _YES


def all_tenants(call: Call) -> bool:
    """Whether rows of every project are wanted and the caller may see them."""
    return boolean_of(call, "all_tenants") and call.caller.is_admin


def with_count(call: Call) -> bool:
    """Whether the reply is to hold the number of all matching rows (from 3.45)."""
    return call.minor >= 45 and boolean_of(call, "with_count")


def _integer(text: str, complaint: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadRequest(complaint) from None


def _sort(call: Call, sort_keys: frozenset[str], default: Sort) -> Sort:
    query = call.query
    key, direction = default[0]
    text = query.get("sort")
    if text is not None:
        if "sort_key" in query or "sort_dir" in query:
            raise BadRequest(
                "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter."
            )
        pairs = [item.partition(":") for item in text.strip().split(",")]
        asked = [(name.strip(), way.strip() or direction) for name, _, way in pairs]
    elif "sort_key" in query or "sort_dir" in query:
        asked = [(query.get("sort_key", key).strip(), query.get("sort_dir", direction).strip())]
    else:
        asked = list(default)
    chosen: dict[str, str] = {}
    for name, way in asked:
        if name not in sort_keys and name != "id" and (name, way) not in default:
            raise BadRequest("Invalid input received: Invalid sort key")
        if way not in ("asc", "desc"):
            raise BadRequest("Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.")
        chosen.setdefault(name, way)
    chosen.setdefault("id", asked[0][1])
    return tuple(chosen.items())


def _nullable(column: ColumnElement[Any]) -> bool:
    return bool(getattr(column, "nullable", True))


def _behind(order: list[tuple[ColumnElement[Any], bool, str]], row: Mapping[str, Any]) -> ColumnElement[bool]:
    """Rows behind `row`: greater in the first column that differs."""
    columns = [column for column, _, _ in order]
    if len({upwards for _, upwards, _ in order}) == 1 and not any(map(_nullable, columns)):
        here = tuple_(*[row[key] for _, _, key in order], types=[column.type for column in columns])
        there = tuple_(*columns)
        return there > here if order[0][1] else there < here
    choices: list[ColumnElement[bool]] = []
    for position, (column, upwards, key) in enumerate(order):
        same = [_same(other, row[name]) for other, _, name in order[:position]]
        choices.append(and_(*same, _past(column, upwards, row[key])))
    return or_(*choices)


def _same(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    return column.is_(None) if value is None else column == value


def _past(column: ColumnElement[Any], upwards: bool, value: Any) -> ColumnElement[bool]:
    if value is None:
        return column.is_not(None) if upwards else false()
    bound = literal(value, column.type)  # said as a parameter: SQLAlchemy compares no column with a bare boolean
    if upwards:
        return column > bound
    return or_(column < bound, column.is_(None)) if _nullable(column) else column < bound
