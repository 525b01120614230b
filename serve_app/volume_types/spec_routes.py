"""Extra specs of a volume type, and its encryption (of which there is none yet)."""

from __future__ import annotations

from cluster.errors import NotFoundError
from cluster.volume_types import intents, queries
from serve_app.volume_types import schemas, views
from serve_app.wire.faults import BadRequest
from serve_app.wire.route import Call, Reply, Route


def _key(call: Call) -> str:
    """The key in the path. Clients do not quote the slash of a label's key (`label:ray.io/zone`)."""
    rest = call.path.get("rest")
    return call.path["key"] if rest is None else f"{call.path['key']}/{rest}"


async def _seen(call: Call) -> dict[str, str]:
    row = await call.room.store.read(lambda db: queries.fetch(db, call.caller, call.path["type_id"]))
    return views.specs(call.caller, row)


async def _set(call: Call, specs: dict[str, str]) -> None:
    await call.room.store.write(
        lambda db: intents.set_specs(db, call.room.outside, call.caller, call.path["type_id"], specs)
    )


async def index(call: Call) -> Reply:
    """GET /types/{type_id}/extra_specs."""
    return Reply(body={"extra_specs": await _seen(call)})


async def show(call: Call) -> Reply:
    """GET /types/{type_id}/extra_specs/{key}."""
    key = _key(call)
    seen = await _seen(call)
    if key not in seen:
        raise NotFoundError(f"Volume Type {call.path['type_id']} has no extra specs with key {key}.")
    return Reply(body={key: seen[key]})


async def create(call: Call) -> Reply:
    """POST /types/{type_id}/extra_specs: adds and overwrites."""
    body: schemas.SetSpecs = call.body
    await _set(call, body.extra_specs)
    return Reply(body={"extra_specs": body.extra_specs})


async def update(call: Call) -> Reply:
    """PUT /types/{type_id}/extra_specs/{key}."""
    body: schemas.SetOneSpec = call.body
    if _key(call) not in body.root:
        raise BadRequest("Request body and URI mismatch")
    await _set(call, body.root)
    return Reply(body=body.root)


async def delete(call: Call) -> Reply:
    """DELETE /types/{type_id}/extra_specs/{key}."""
    await call.room.store.write(
        lambda db: intents.unset_spec(db, call.room.outside, call.caller, call.path["type_id"], _key(call))
    )
    return Reply(status=202)


async def encryption(call: Call) -> Reply:
    """GET /types/{type_id}/encryption: empty, as for any type without encryption."""
    await call.room.store.read(lambda db: queries.fetch(db, call.caller, call.path["type_id"]))
    return Reply(body={})


_SPECS = "/types/{type_id}/extra_specs"
_RULE = "volume_extension:types_extra_specs:"


def _of_one(path: str) -> tuple[Route, ...]:
    return (
        Route("GET", path, show, f"{_RULE}show", "Show an extra spec", reply=schemas.OneSpecReply),
        Route(
            "PUT",
            path,
            update,
            f"{_RULE}update",
            "Change an extra spec",
            body=schemas.SetOneSpec,
            reply=schemas.OneSpecReply,
        ),
        Route("DELETE", path, delete, f"{_RULE}delete", "Remove an extra spec", status=202),
    )


ROUTES = (
    Route("GET", _SPECS, index, f"{_RULE}index", "List extra specs", reply=schemas.SpecsReply),
    Route(
        "POST",
        _SPECS,
        create,
        f"{_RULE}create",
        "Add or change extra specs",
        body=schemas.SetSpecs,
        reply=schemas.SpecsReply,
    ),
    *_of_one(f"{_SPECS}/{{key}}"),
    *_of_one(f"{_SPECS}/{{key}}/{{rest}}"),
    Route(
        "GET",
        "/types/{type_id}/encryption",
        encryption,
        "volume_extension:volume_type_encryption:get",
        "Show the encryption of a volume type",
        reply=schemas.EncryptionReply,
    ),
)
