"""The snapshot routes: lists, show, create, update, delete."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection

from cluster.errors import NotFoundError
from cluster.snapshots import intents, queries
from cluster.snapshots.queries import SnapshotRow
from cluster.volumes.filters import NothingMatchesError
from serve_app.snapshots import actions, metadata, schemas, views
from serve_app.volumes.filters import snapshot_filters
from serve_app.wire.faults import BadRequest
from serve_app.wire.paging import all_tenants, apply_page, next_links, page_of, with_count
from serve_app.wire.route import Action, Call, Reply, Route

_NAME_SORTS_FROM: Final = 30
_IN_USE_FROM: Final = 66
_SORT_KEYS: Final = frozenset(queries.SORTABLE)
_NO_FORCE: Final = (
    "Since microversion 3.66 the 'force' flag is invalid for this request. For backward compatibility, however, when "
    "the 'force' flag is passed with a value evaluating to True, it is silently ignored."
)


async def index(call: Call) -> Reply:
    """GET /snapshots."""
    return await _list(call, views.summary, "snapshots")


async def detail(call: Call) -> Reply:
    """GET /snapshots/detail."""
    return await _list(call, views.detail(call), "snapshots/detail")


async def show(call: Call) -> Reply:
    """GET /snapshots/{snapshot_id}."""
    row = await call.room.store.read(lambda db: queries.get(db, call.caller, call.path["snapshot_id"]))
    return Reply(body={"snapshot": views.detail(call)(row)})


async def create(call: Call) -> Reply:
    """POST /snapshots."""
    body: schemas.CreateBody = call.body
    wanted, room = body.snapshot, call.room
    if wanted.volume_id is None:
        raise NotFoundError.of("Volume", "None")
    if wanted.force is False and call.minor >= _IN_USE_FROM:
        raise BadRequest(_NO_FORCE)
    volume_id, in_use = wanted.volume_id, bool(wanted.force) or call.minor >= _IN_USE_FROM
    row = await room.store.write(
        lambda db: intents.create(
            db,
            room.settings,
            room.outside,
            call.caller,
            volume_id,
            name=wanted.title(),
            description=wanted.description,
            metadata=wanted.metadata,
            in_use=in_use,
        )
    )
    room.ring()
    return Reply(202, {"snapshot": views.detail(call, extended=False)(row)})


async def update(call: Call) -> Reply:
    """PUT /snapshots/{snapshot_id}."""
    body: schemas.UpdateBody = call.body
    room, changes = call.room, body.snapshot.changes()
    row = await room.store.write(
        lambda db: intents.edit(db, room.outside, call.caller, call.path["snapshot_id"], changes)
    )
    return Reply(body={"snapshot": views.detail(call, extended=False)(row)})


async def delete(call: Call) -> Reply:
    """DELETE /snapshots/{snapshot_id}."""
    room = call.room
    await room.store.write(lambda db: intents.delete(db, room.outside, call.caller, call.path["snapshot_id"]))
    room.ring()
    return Reply(202)


async def _list(call: Call, view: views.View, collection: str) -> Reply:
    keys = _SORT_KEYS if call.minor >= _NAME_SORTS_FROM else _SORT_KEYS - {"name"}
    page, asked, everyone, counted = page_of(call, keys), snapshot_filters(call), all_tenants(call), with_count(call)

    def work(db: Connection) -> tuple[list[SnapshotRow], int]:
        marker = queries.sort_values(db, call.caller, page.marker) if page.marker is not None else None
        try:
            conditions = queries.conditions(asked)
        except NothingMatchesError:
            return [], 0
        statement = queries.listing(call.caller, conditions, all_projects=everyone)
        total = queries.count(db, statement) if counted else 0
        return queries.rows(db.execute(apply_page(statement, queries.SORTABLE, page, marker))), total

    rows, total = await call.room.store.read(work)
    body: dict[str, Any] = {"snapshots": [view(row) for row in rows]}
    body |= next_links(call, collection, page, rows, rows[-1]["id"] if rows else None)
    return Reply(body=body | ({"count": total} if counted else {}))


_ONE: Final = "/snapshots/{snapshot_id}"
_PAGING: Final = ("limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count")
_QUERY: Final = (*_PAGING, "name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota")
_GET_ALL: Final = "volume:get_all_snapshots"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/snapshots", index, _GET_ALL, "List snapshots", reply=schemas.SnapshotsReply, query=_QUERY),
    Route(
        "GET",
        "/snapshots/detail",
        detail,
        _GET_ALL,
        "List snapshots with details",
        reply=schemas.SnapshotsDetailReply,
        query=_QUERY,
    ),
    Route(
        "POST",
        "/snapshots",
        create,
        "volume:create_snapshot",
        "Create a snapshot",
        status=202,
        body=schemas.CreateBody,
        reply=schemas.SnapshotReply,
    ),
    Route("GET", _ONE, show, "volume:get_snapshot", "Show a snapshot", reply=schemas.SnapshotReply),
    Route(
        "PUT",
        _ONE,
        update,
        "volume:update_snapshot",
        "Change name or description",
        body=schemas.UpdateBody,
        reply=schemas.SnapshotReply,
    ),
    Route("DELETE", _ONE, delete, "volume:delete_snapshot", "Delete a snapshot", status=202),
    *metadata.ROUTES,
)
ACTIONS: tuple[Action, ...] = actions.ACTIONS
