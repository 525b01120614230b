"""Default volume types of projects, from 3.62 on.

With embedded identity the project must exist; a Keystone's projects are not looked up, since the token that comes
with the request need not have the right to.
"""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlmodel import col

from cluster.errors import NotFoundError
from cluster.identity.records import Project
from cluster.settings import IdentityMode
from cluster.volume_types import access, queries
from serve_app.default_types import schemas
from serve_app.wire.route import Call, Reply, Route


def _require_project(db: Connection, call: Call) -> str:
    project_id = call.path["default_project_id"]
    known_here = call.room.settings.identity.mode is IdentityMode.EMBEDDED
    if known_here and db.execute(select(col(Project.id)).where(col(Project.id) == project_id)).first() is None:
        raise NotFoundError(f"Project with id {project_id} not found.")
    return project_id


async def index(call: Call) -> Reply:
    """GET /default-types."""
    rows = await call.room.store.read(queries.default_types)
    return Reply(body={"default_types": [dict(row) for row in rows]})


async def show(call: Call) -> Reply:
    """GET /default-types/{project_id}."""
    row = await call.room.store.read(lambda db: queries.default_type(db, _require_project(db, call)))
    return Reply(body={"default_type": dict(row)})


async def put(call: Call) -> Reply:
    """PUT /default-types/{project_id}."""
    body: schemas.SetDefaultType = call.body

    def work(db: Connection) -> dict[str, str]:
        project_id = _require_project(db, call)
        type_id = access.set_default(db, call.caller, project_id, body.default_type.volume_type)
        return {"project_id": project_id, "volume_type_id": type_id}

    return Reply(body={"default_type": await call.room.store.write(work)})


async def delete(call: Call) -> Reply:
    """DELETE /default-types/{project_id}; also for a project that is gone."""
    await call.room.store.write(lambda db: access.unset_default(db, call.path["default_project_id"]))
    return Reply(status=204)


_ALL = "/default-types"
_ONE = "/default-types/{default_project_id}"
_RULE = "volume_extension:default_"

ROUTES = (
    Route("GET", _ALL, index, f"{_RULE}get_all", "List default types", since=62, reply=schemas.DefaultTypesReply),
    Route("GET", _ONE, show, f"{_RULE}get", "Show a default type", since=62, reply=schemas.DefaultTypeReply),
    Route(
        "PUT",
        _ONE,
        put,
        f"{_RULE}set_or_update",
        "Set a default type",
        since=62,
        body=schemas.SetDefaultType,
        reply=schemas.DefaultTypeReply,
    ),
    Route("DELETE", _ONE, delete, f"{_RULE}unset", "Unset a default type", status=204, since=62),
)
