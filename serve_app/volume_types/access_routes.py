"""Who may use a private volume type."""

from __future__ import annotations

from sqlalchemy import Connection

from cluster.errors import NotFoundError
from cluster.volume_types import access, queries
from serve_app.volume_types import schemas
from serve_app.wire.route import Action, Call, Reply, Route


async def index(call: Call) -> Reply:
    """GET /types/{type_id}/os-volume-type-access."""
    type_id = call.path["type_id"]

    def work(db: Connection) -> list[str]:
        if queries.fetch(db, call.caller, type_id)["is_public"]:
            raise NotFoundError("Access list not available for public volume types.")
        return queries.projects_of(db, type_id)

    projects = await call.room.store.read(work)
    return Reply(body={"volume_type_access": [{"volume_type_id": type_id, "project_id": each} for each in projects]})


async def add(call: Call) -> Reply:
    """Action addProjectAccess."""
    body: schemas.ProjectAccess = call.body
    await call.room.store.write(lambda db: access.grant(db, call.caller, call.path["type_id"], body.project))
    return Reply(status=202)


async def remove(call: Call) -> Reply:
    """Action removeProjectAccess."""
    body: schemas.ProjectAccess = call.body
    await call.room.store.write(lambda db: access.revoke(db, call.caller, call.path["type_id"], body.project))
    return Reply(status=202)


_RULE = "volume_extension:volume_type_access:"

ROUTES = (
    Route(
        "GET",
        "/types/{type_id}/os-volume-type-access",
        index,
        f"{_RULE}get_all_for_type",
        "List projects that may use a volume type",
        reply=schemas.AccessReply,
    ),
)
ACTIONS = (
    Action(
        "/types/{type_id}",
        "addProjectAccess",
        add,
        f"{_RULE}addProjectAccess",
        "Let a project use a private volume type",
        body=schemas.ProjectAccess,
    ),
    Action(
        "/types/{type_id}",
        "removeProjectAccess",
        remove,
        f"{_RULE}removeProjectAccess",
        "Take a private volume type from a project",
        body=schemas.ProjectAccess,
    ),
)
