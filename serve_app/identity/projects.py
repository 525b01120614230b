"""Projects: `/projects`."""

from __future__ import annotations

from typing import Any

from cluster.identity import intents, queries
from cluster.identity.queries import Row
from serve_app.identity import schemas, views
from serve_app.identity.operation import Access, IdentityCall, Operation, forbidden, not_found
from serve_app.identity.query import boolean
from serve_app.wire.route import Reply


async def index(call: IdentityCall) -> Reply:
    """`GET /projects`."""
    name, enabled = call.query.get("name"), boolean(call.query, "enabled")
    rows = await call.room.store.read(lambda db: queries.projects(db, name, enabled))
    elsewhere = call.query.get("domain_id", "default") != "default" or boolean(call.query, "is_domain")
    wanted = [] if elsewhere else rows
    return Reply(200, views.collection(call, "projects", [views.project(call, row) for row in wanted]))


async def show(call: IdentityCall) -> Reply:
    """`GET /projects/{project_id}`: administrators, and the project of the token."""
    project_id = call.path["project_id"]
    if project_id != call.session.standing.project_id and not call.is_admin:
        raise forbidden("get_project")
    return Reply(200, {"project": views.project(call, await _read(call, project_id))})


async def create(call: IdentityCall) -> Reply:
    """`POST /projects`."""
    asked: schemas.ProjectCreate = call.body.project
    if asked.domain_id not in (None, "default"):
        raise not_found("domain", str(asked.domain_id))
    values = {
        "id": call.room.outside.new_id().replace("-", ""),
        "name": asked.name,
        "description": asked.description or "",
        "enabled": asked.enabled,
    }
    await call.room.store.write(lambda db: intents.create_project(db, values))
    return Reply(201, {"project": views.project(call, await _read(call, str(values["id"])))})


async def update(call: IdentityCall) -> Reply:
    """`PATCH /projects/{project_id}`."""
    asked: schemas.ProjectUpdate = call.body.project
    given: dict[str, Any] = asked.model_dump(exclude_unset=True)
    values = {key: value for key, value in given.items() if value is not None}
    project_id = call.path["project_id"]
    await call.room.store.write(lambda db: intents.update_project(db, project_id, values))
    call.authenticator.forget()
    return Reply(200, {"project": views.project(call, await _read(call, project_id))})


async def delete(call: IdentityCall) -> Reply:
    """`DELETE /projects/{project_id}`."""
    project_id = call.path["project_id"]
    await call.room.store.write(lambda db: intents.delete_project(db, project_id))
    call.authenticator.forget()
    return Reply(204)


async def _read(call: IdentityCall, project_id: str) -> Row:
    row = await call.room.store.read(lambda db: queries.project(db, project_id))
    if row is None:
        raise not_found("project", project_id)
    return row


OPERATIONS = (
    Operation("GET", "/projects", index),
    Operation("POST", "/projects", create, body=schemas.ProjectCreateBody),
    Operation("GET", "/projects/{project_id}", show, Access.TOKEN),
    Operation("PATCH", "/projects/{project_id}", update, body=schemas.ProjectUpdateBody),
    Operation("DELETE", "/projects/{project_id}", delete),
)
