"""QoS specs: list, show, create, change, delete, and which volume types have them.

Three of Cinder's GETs change something; clients call them so, and the rule asks for an administrator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from cluster.qos_specs import intents, live, queries
from serve_app.qos_specs import schemas, views
from serve_app.wire.faults import BadRequest
from serve_app.wire.filters import filters_of
from serve_app.wire.links import links
from serve_app.wire.paging import apply_page, boolean_of, next_links, page_of
from serve_app.wire.route import Call, Reply, Route

_SORT_KEYS = frozenset(queries.COLUMNS)


async def index(call: Call) -> Reply:
    """GET /qos-specs."""
    page = page_of(call, _SORT_KEYS)
    equal = filters_of(call, "qos_specs", queries.FILTERS)

    def work(db: Connection) -> list[dict[str, Any]]:
        marker = queries.fetch(db, page.marker) if page.marker is not None else None
        if equal.keys() - queries.FILTERS:
            return []
        statement = apply_page(queries.listing(equal), queries.COLUMNS, page, marker)
        return [row._asdict() for row in db.execute(statement)]

    rows = await call.room.store.read(work)
    last = rows[-1]["id"] if rows else None
    shown = [views.qos_spec(row) for row in rows]
    return Reply(body={"qos_specs": shown} | next_links(call, "qos-specs", page, rows, last, "qos_specs_links"))


async def show(call: Call) -> Reply:
    """GET /qos-specs/{qos_id}."""
    row = await call.room.store.read(lambda db: queries.fetch(db, call.path["qos_id"]))
    return _one(call, row)


async def create(call: Call) -> Reply:
    """POST /qos-specs."""
    body: schemas.CreateSpec = call.body
    asked = body.qos_specs

    def work(db: Connection) -> dict[str, Any]:
        spec_id = intents.create(db, call.room.outside, name=asked.name, consumer=asked.consumer, specs=asked.specs())
        return queries.fetch(db, spec_id)

    return _one(call, await call.room.store.write(work))


async def update(call: Call) -> Reply:
    """PUT /qos-specs/{qos_id}: adds and overwrites; the answer is what was sent."""
    body: schemas.UpdateSpec = call.body
    await _changed(call, lambda db: intents.change(db, call.room.outside, call.path["qos_id"], body.qos_specs))
    return Reply(body={"qos_specs": body.qos_specs})


async def delete(call: Call) -> Reply:
    """DELETE /qos-specs/{qos_id}; with `force` also when volume types have them."""
    force = boolean_of(call, "force")
    await _changed(call, lambda db: intents.remove(db, call.path["qos_id"], force=force))
    return Reply(status=202)


async def delete_keys(call: Call) -> Reply:
    """PUT /qos-specs/{qos_id}/delete_keys."""
    body: schemas.DeleteKeys = call.body
    await _changed(call, lambda db: intents.drop_keys(db, call.room.outside, call.path["qos_id"], body.keys))
    return Reply(status=202)


async def associations(call: Call) -> Reply:
    """GET /qos-specs/{qos_id}/associations."""

    def work(db: Connection) -> list[dict[str, str]]:
        queries.fetch(db, call.path["qos_id"])
        return queries.associations(db, call.path["qos_id"])

    found = await call.room.store.read(work)
    return Reply(body={"qos_associations": [views.association(each) for each in found]})


async def associate(call: Call) -> Reply:
    """GET /qos-specs/{qos_id}/associate?vol_type_id=…"""
    type_id = _type_id(call)
    await _changed(call, lambda db: intents.associate(db, call.caller, call.path["qos_id"], type_id), type_id)
    return Reply(status=202)


async def disassociate(call: Call) -> Reply:
    """GET /qos-specs/{qos_id}/disassociate?vol_type_id=…"""
    type_id = _type_id(call)
    await _changed(call, lambda db: intents.disassociate(db, call.caller, call.path["qos_id"], type_id), type_id)
    return Reply(status=202)


async def disassociate_all(call: Call) -> Reply:
    """GET /qos-specs/{qos_id}/disassociate_all."""
    await _changed(call, lambda db: intents.disassociate_all(db, call.path["qos_id"]))
    return Reply(status=202)


async def _changed(call: Call, change: Callable[[Connection], None], type_id: str | None = None) -> None:
    """Make the change, and let it reach the attached volumes of the type, or of all types that have the specs."""

    def work(db: Connection) -> int:
        had = [each["id"] for each in queries.associations(db, call.path["qos_id"])] if type_id is None else [type_id]
        change(db)
        return live.renew(db, call.room.outside, had)

    if await call.room.store.write(work):
        call.room.ring()


def _type_id(call: Call) -> str:
    type_id = call.query.get("vol_type_id")
    if not type_id:
        raise BadRequest("Volume Type id must not be None.")
    return type_id


def _one(call: Call, row: dict[str, Any]) -> Reply:
    return Reply(body={"qos_specs": views.qos_spec(row), "links": links(call, "qos-specs", row["id"])})


_ALL = "/qos-specs"
_ONE = f"{_ALL}/{{qos_id}}"
_RULE = "volume_extension:qos_specs_manage:"
_QUERY = ("limit", "marker", "offset", "sort", "sort_key", "sort_dir", "id", "name", "consumer")

ROUTES = (
    Route("GET", _ALL, index, f"{_RULE}get_all", "List QoS specs", reply=schemas.SpecsReply, query=_QUERY),
    Route(
        "POST",
        _ALL,
        create,
        f"{_RULE}create",
        "Create QoS specs",
        body=schemas.CreateSpec,
        reply=schemas.SpecReply,
    ),
    Route("GET", _ONE, show, f"{_RULE}get", "Show QoS specs", reply=schemas.SpecReply),
    Route(
        "PUT",
        _ONE,
        update,
        f"{_RULE}update",
        "Add or change keys of QoS specs",
        body=schemas.UpdateSpec,
        reply=schemas.ChangedReply,
    ),
    Route("DELETE", _ONE, delete, f"{_RULE}delete", "Delete QoS specs", status=202, query=("force",)),
    Route(
        "PUT",
        f"{_ONE}/delete_keys",
        delete_keys,
        f"{_RULE}delete",
        "Remove keys of QoS specs",
        status=202,
        body=schemas.DeleteKeys,
    ),
    Route(
        "GET",
        f"{_ONE}/associations",
        associations,
        f"{_RULE}get_all",
        "List the volume types that have QoS specs",
        reply=schemas.AssociationsReply,
    ),
    Route(
        "GET",
        f"{_ONE}/associate",
        associate,
        f"{_RULE}update",
        "Give QoS specs to a volume type",
        status=202,
        query=("vol_type_id",),
    ),
    Route(
        "GET",
        f"{_ONE}/disassociate",
        disassociate,
        f"{_RULE}update",
        "Take QoS specs from a volume type",
        status=202,
        query=("vol_type_id",),
    ),
    Route(
        "GET",
        f"{_ONE}/disassociate_all",
        disassociate_all,
        f"{_RULE}update",
        "Take QoS specs from every volume type",
        status=202,
    ),
)
