"""User messages, from 3.3 on: list, show, delete."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection

from cluster.messages import intents, queries
from serve_app.messages import schemas, views
from serve_app.wire.filters import filters_of
from serve_app.wire.paging import Page, apply_page, next_links, page_of
from serve_app.wire.route import Call, Reply, Route

_SINCE = 3
_PAGING_FROM = 5
_KNOWN = frozenset(queries.COLUMNS)


def _conditions(given: dict[str, str]) -> list[ColumnElement[Any]] | None:
    """The filters as SQL; None when one of them can match nothing."""
    found: list[ColumnElement[Any]] = []
    for key, value in given.items():
        column = queries.COLUMNS.get(key.removesuffix("~"))
        if column is None:
            return None
        found.append(column.icontains(value, autoescape=True) if key.endswith("~") else column == value)
    return found


async def index(call: Call) -> Reply:
    """GET /messages."""
    if call.minor < _PAGING_FROM:
        page = Page(call.room.settings.max_limit, None, 0, (("created_at", "desc"), ("id", "desc")))
        conditions: list[ColumnElement[Any]] | None = []
    else:
        page = page_of(call, _KNOWN)
        conditions = _conditions(filters_of(call, "message", _KNOWN))

    def work(db: Connection) -> list[dict[str, Any]]:
        marker = queries.fetch(db, call.caller, page.marker) if page.marker is not None else None
        if conditions is None or page.limit == 0:
            return []
        statement = queries.listing(call.caller).where(*conditions)
        return [row._asdict() for row in db.execute(apply_page(statement, queries.COLUMNS, page, marker))]

    rows = await call.room.store.read(work)
    links = next_links(call, "messages", page, rows, rows[-1]["id"] if rows else None)
    return Reply(body={"messages": [views.message(call, row) for row in rows]} | links)


async def show(call: Call) -> Reply:
    """GET /messages/{message_id}."""
    row = await call.room.store.read(lambda db: queries.fetch(db, call.caller, call.path["message_id"]))
    return Reply(body={"message": views.message(call, row)})


async def delete(call: Call) -> Reply:
    """DELETE /messages/{message_id}."""
    await call.room.store.write(lambda db: intents.remove(db, call.caller, call.path["message_id"]))
    return Reply(status=204)


_LIST_QUERY = (
    "resource_uuid",
    "resource_type",
    "event_id",
    "request_id",
    "message_level",
    "limit",
    "marker",
    "offset",
    "sort",
    "sort_key",
    "sort_dir",
)
_ONE = "/messages/{message_id}"

ROUTES = (
    Route(
        "GET",
        "/messages",
        index,
        "message:get_all",
        "List user messages",
        since=_SINCE,
        reply=schemas.MessagesReply,
        query=_LIST_QUERY,
    ),
    Route("GET", _ONE, show, "message:get", "Show a user message", since=_SINCE, reply=schemas.MessageReply),
    Route("DELETE", _ONE, delete, "message:delete", "Delete a user message", status=204, since=_SINCE),
)
