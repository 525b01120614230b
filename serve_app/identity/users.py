"""Users: `/users`."""

from __future__ import annotations

from typing import Any

from cluster.identity import intents, queries
from cluster.identity.queries import Row
from serve_app.identity import schemas, views
from serve_app.identity.operation import (
    Access,
    IdentityCall,
    IdentityFault,
    Operation,
    forbidden,
    not_found,
    unauthorized,
)
from serve_app.identity.passwords import NO_PASSWORD
from serve_app.identity.query import boolean
from serve_app.wire.route import Reply


async def index(call: IdentityCall) -> Reply:
    """`GET /users`."""
    name, enabled = call.query.get("name"), boolean(call.query, "enabled")
    rows = await call.room.store.read(lambda db: queries.users(db, name, enabled))
    wanted = [] if call.query.get("domain_id", "default") != "default" else rows
    return Reply(200, views.collection(call, "users", [views.user(call, row) for row in wanted]))


async def show(call: IdentityCall) -> Reply:
    """`GET /users/{user_id}`: administrators, and everybody for themselves."""
    if not _is_me(call) and not call.is_admin:
        raise forbidden("get_user")
    return Reply(200, {"user": views.user(call, await _row(call))})


async def create(call: IdentityCall) -> Reply:
    """`POST /users`. Without a password the user cannot log in."""
    asked: schemas.UserCreate = call.body.user
    if asked.domain_id not in (None, "default"):
        raise not_found("domain", str(asked.domain_id))
    password_hash = await call.passwords.hashed(asked.password) if asked.password is not None else NO_PASSWORD
    values = {
        "id": call.room.outside.new_id().replace("-", ""),
        "name": asked.name,
        "password_hash": password_hash,
        "default_project_id": asked.default_project_id,
        "description": asked.description or "",
        "enabled": asked.enabled,
    }
    await call.room.store.write(lambda db: intents.create_user(db, values))
    row = await _read(call, str(values["id"]))
    return Reply(201, {"user": views.user(call, row)})


async def update(call: IdentityCall) -> Reply:
    """`PATCH /users/{user_id}`."""
    asked: schemas.UserUpdate = call.body.user
    given: dict[str, Any] = asked.model_dump(exclude_unset=True)
    password = given.pop("password", None)
    values = {key: value for key, value in given.items() if value is not None or key == "default_project_id"}
    if password is not None:
        values["password_hash"] = await call.passwords.hashed(password)
    user_id = call.path["user_id"]
    await call.room.store.write(lambda db: intents.update_user(db, user_id, values))
    call.authenticator.forget()
    return Reply(200, {"user": views.user(call, await _row(call))})


async def delete(call: IdentityCall) -> Reply:
    """`DELETE /users/{user_id}`."""
    user_id = call.path["user_id"]
    await call.room.store.write(lambda db: intents.delete_user(db, user_id))
    call.authenticator.forget()
    return Reply(204)


async def change_password(call: IdentityCall) -> Reply:
    """`POST /users/{user_id}/password`: the old password is what allows it. Ends the user's tokens."""
    asked: schemas.PasswordChange = call.body.user
    user_id = call.path["user_id"]
    row = await call.room.store.read(lambda db: queries.user(db, user_id))
    kept = row["password_hash"] if row is not None else None
    right = await call.passwords.verify(row["name"] if row is not None else user_id, kept, asked.original_password)
    if not right or row is None or not row["enabled"]:
        raise unauthorized()
    if asked.password == asked.original_password:
        raise IdentityFault(400, "The new password must differ from the old one.")
    password_hash = await call.passwords.hashed(asked.password)
    await call.room.store.write(lambda db: intents.update_user(db, user_id, {"password_hash": password_hash}))
    call.authenticator.forget()
    return Reply(204)


async def projects(call: IdentityCall) -> Reply:
    """`GET /users/{user_id}/projects`."""
    if not _is_me(call) and not call.is_admin:
        raise forbidden("list_user_projects")
    user_id = call.path["user_id"]
    rows = await call.room.store.read(lambda db: queries.projects_of(db, user_id))
    return Reply(200, views.collection(call, "projects", [views.project(call, row) for row in rows]))


def _is_me(call: IdentityCall) -> bool:
    return call.path["user_id"] == call.session.standing.user_id


async def _row(call: IdentityCall) -> Row:
    return await _read(call, call.path["user_id"])


async def _read(call: IdentityCall, user_id: str) -> Row:
    row = await call.room.store.read(lambda db: queries.user(db, user_id))
    if row is None:
        raise not_found("user", user_id)
    return row


OPERATIONS = (
    Operation("GET", "/users", index),
    Operation("POST", "/users", create, body=schemas.UserCreateBody),
    Operation("GET", "/users/{user_id}", show, Access.TOKEN),
    Operation("PATCH", "/users/{user_id}", update, body=schemas.UserUpdateBody),
    Operation("DELETE", "/users/{user_id}", delete),
    Operation("POST", "/users/{user_id}/password", change_password, Access.ANYONE, schemas.PasswordChangeBody),
    Operation("GET", "/users/{user_id}/projects", projects, Access.TOKEN),
)
