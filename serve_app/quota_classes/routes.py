"""Quota class sets: show, change."""

from __future__ import annotations

from sqlalchemy import Connection

from cluster.quotas import intents, queries
from serve_app.quotas import schemas
from serve_app.wire.faults import BadRequest
from serve_app.wire.route import Call, Reply, Route


async def show(call: Call) -> Reply:
    """GET /os-quota-class-sets/{class}; a class nobody wrote shows the defaults."""
    name = call.path["class_name"]
    limits = await call.room.store.read(lambda db: queries.class_set(db, call.room.settings.quotas, name))
    return Reply(body={"quota_class_set": {**limits, "id": name}})


async def update(call: Call) -> Reply:
    """PUT /os-quota-class-sets/{class}."""
    body: schemas.UpdateClass = call.body
    name = call.path["class_name"]
    if len(name) > 255:
        raise BadRequest("Invalid input received: quota_class_name has more than 255 characters.")

    def work(db: Connection) -> dict[str, int]:
        intents.set_class_limits(db, name, body.quota_class_set)
        return queries.class_set(db, call.room.settings.quotas, name)

    return Reply(body={"quota_class_set": await call.room.store.write(work)})


_PATH = "/os-quota-class-sets/{class_name}"
_RULE = "volume_extension:quota_classes:"

ROUTES = (
    Route("GET", _PATH, show, f"{_RULE}get", "Show quotas of a class", reply=schemas.QuotaClassReply),
    Route(
        "PUT",
        _PATH,
        update,
        f"{_RULE}update",
        "Change quotas of a class",
        body=schemas.UpdateClass,
        reply=schemas.QuotaClassReply,
    ),
)
