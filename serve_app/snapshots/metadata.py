"""The metadata of a snapshot."""

from __future__ import annotations

from typing import Final

from cluster.errors import NotFoundError
from cluster.snapshots import intents, queries
from serve_app.snapshots import schemas
from serve_app.wire.faults import BadRequest
from serve_app.wire.route import Call, Reply, Route


async def index(call: Call) -> Reply:
    """GET …/metadata."""
    return Reply(body={"metadata": await _metadata(call)})


async def create(call: Call) -> Reply:
    """POST …/metadata: add."""
    return await _put(call, replace=False)


async def replace(call: Call) -> Reply:
    """PUT …/metadata: replace all."""
    return await _put(call, replace=True)


async def show(call: Call) -> Reply:
    """GET …/metadata/{key}."""
    key, found = call.path["key"], await _metadata(call)
    if key not in found:
        raise NotFoundError(f"Snapshot {call.path['snapshot_id']} has no metadata with key {key}.")
    return Reply(body={"meta": {key: found[key]}})


async def put(call: Call) -> Reply:
    """PUT …/metadata/{key}."""
    body: schemas.MetaBody = call.body
    if call.path["key"] not in body.meta:
        raise BadRequest("Request body and URI mismatch")
    snapshot_id = call.path["snapshot_id"]
    await call.room.store.write(lambda db: intents.put_metadata(db, call.caller, snapshot_id, body.meta))
    return Reply(body={"meta": body.meta})


async def delete(call: Call) -> Reply:
    """DELETE …/metadata/{key}."""
    snapshot_id, key = call.path["snapshot_id"], call.path["key"]
    await call.room.store.write(lambda db: intents.drop_metadata(db, call.caller, snapshot_id, key))
    return Reply()


async def _metadata(call: Call) -> dict[str, str]:
    row = await call.room.store.read(lambda db: queries.get(db, call.caller, call.path["snapshot_id"]))
    return row["user_metadata"]


async def _put(call: Call, *, replace: bool) -> Reply:
    body: schemas.MetadataBody = call.body
    snapshot_id = call.path["snapshot_id"]
    left = await call.room.store.write(
        lambda db: intents.put_metadata(db, call.caller, snapshot_id, body.metadata, replace=replace)
    )
    return Reply(body={"metadata": left})


_ALL: Final = "/snapshots/{snapshot_id}/metadata"
_ONE: Final = f"{_ALL}/{{key}}"
_GET: Final = "volume:get_snapshot_metadata"
_UPDATE: Final = "volume:update_snapshot_metadata"

ROUTES: tuple[Route, ...] = (
    Route("GET", _ALL, index, _GET, "List the metadata of a snapshot", reply=schemas.MetadataReply),
    Route(
        "POST",
        _ALL,
        create,
        _UPDATE,
        "Add to the metadata of a snapshot",
        body=schemas.MetadataBody,
        reply=schemas.MetadataReply,
    ),
    Route(
        "PUT",
        _ALL,
        replace,
        _UPDATE,
        "Replace the metadata of a snapshot",
        body=schemas.MetadataBody,
        reply=schemas.MetadataReply,
    ),
    Route("GET", _ONE, show, _GET, "Show one item of a snapshot's metadata", reply=schemas.MetaReply),
    Route(
        "PUT",
        _ONE,
        put,
        _UPDATE,
        "Set one item of a snapshot's metadata",
        body=schemas.MetaBody,
        reply=schemas.MetaReply,
    ),
    Route("DELETE", _ONE, delete, "volume:delete_snapshot_metadata", "Delete one item of a snapshot's metadata"),
)
