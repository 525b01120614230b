"""Volume types: list, show, create, change, delete."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from cluster.volume_types import intents, queries
from serve_app.volume_types import access_routes, schemas, spec_routes, views
from serve_app.volume_types.filters import wanted
from serve_app.wire.faults import BadRequest
from serve_app.wire.paging import apply_page, next_links, page_of
from serve_app.wire.route import Call, Reply, Route

_SORT_KEYS = frozenset(queries.COLUMNS)


async def index(call: Call) -> Reply:
    """GET /types."""
    page = page_of(call, _SORT_KEYS)
    chosen = wanted(call)

    def work(db: Connection) -> list[dict[str, Any]]:
        marker = queries.fetch(db, call.caller, page.marker) if page.marker is not None else None
        if chosen is None or page.limit == 0:
            return []
        statement = queries.listing(call.caller, is_public=chosen.is_public, specs=chosen.specs, equal=chosen.equal)
        return [row._asdict() for row in db.execute(apply_page(statement, queries.COLUMNS, page, marker))]

    rows = await call.room.store.read(work)
    last = rows[-1]["id"] if rows else None
    shown = [views.volume_type(call.caller, row) for row in rows]
    return Reply(body={"volume_types": shown} | next_links(call, "types", page, rows, last, "volume_type_links"))


async def show(call: Call) -> Reply:
    """GET /types/{type_id}; `default` is the type that the caller's project gets when it asks for none."""
    type_id = call.path["type_id"]
    if type_id == "default":
        name = call.room.settings.default_volume_type
        row = await call.room.store.read(lambda db: queries.default_of(db, call.caller.project_id, name))
        return Reply(body={"volume_type": views.volume_type(call.caller, row, with_access=False)})
    row = await call.room.store.read(lambda db: queries.fetch(db, call.caller, type_id))
    return Reply(body={"volume_type": views.volume_type(call.caller, row)})


async def create(call: Call) -> Reply:
    """POST /types."""
    body: schemas.CreateType = call.body
    asked = body.volume_type

    def work(db: Connection) -> dict[str, Any]:
        type_id = intents.create(
            db,
            call.room.outside,
            name=asked.name,
            description=asked.description,
            extra_specs=asked.extra_specs,
            is_public=asked.is_public,
        )
        return queries.fetch(db, call.caller, type_id)

    row = await call.room.store.write(work)
    return Reply(body={"volume_type": views.volume_type(call.caller, row)})


async def update(call: Call) -> Reply:
    """PUT /types/{type_id}."""
    body: schemas.UpdateType = call.body
    asked = body.volume_type
    if asked.name == "":
        raise BadRequest("Volume type name can not be empty.")
    if asked.name is None and asked.description is None and asked.is_public is None:
        raise BadRequest("Specify volume type name, description, is_public or a combination thereof.")
    row = await call.room.store.write(
        lambda db: intents.change(
            db,
            call.room.outside,
            call.caller,
            call.path["type_id"],
            name=asked.name,
            description=asked.description,
            is_public=asked.is_public,
            default_name=call.room.settings.default_volume_type,
        )
    )
    return Reply(body={"volume_type": views.volume_type(call.caller, row, with_access=False)})


async def delete(call: Call) -> Reply:
    """DELETE /types/{type_id}."""
    name = call.room.settings.default_volume_type
    await call.room.store.write(lambda db: intents.remove(db, call.caller, call.path["type_id"], name))
    return Reply(status=202)


_LIST_QUERY = ("is_public", "extra_specs", "limit", "marker", "offset", "sort", "sort_key", "sort_dir")
_RULE = "volume_extension:type_"

ROUTES = (
    Route(
        "GET",
        "/types",
        index,
        f"{_RULE}get_all",
        "List volume types",
        reply=schemas.TypesReply,
        query=_LIST_QUERY,
    ),
    Route(
        "POST",
        "/types",
        create,
        f"{_RULE}create",
        "Create a volume type",
        body=schemas.CreateType,
        reply=schemas.TypeReply,
    ),
    Route("GET", "/types/{type_id}", show, f"{_RULE}get", "Show a volume type", reply=schemas.TypeReply),
    Route(
        "PUT",
        "/types/{type_id}",
        update,
        f"{_RULE}update",
        "Change a volume type",
        body=schemas.UpdateType,
        reply=schemas.TypeReply,
    ),
    Route("DELETE", "/types/{type_id}", delete, f"{_RULE}delete", "Delete a volume type", status=202),
    *spec_routes.ROUTES,
    *access_routes.ROUTES,
)
ACTIONS = access_routes.ACTIONS
