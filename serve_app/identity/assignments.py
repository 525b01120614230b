"""Roles and who has them: `/roles`, `/role_assignments`, `/projects/{project_id}/users/{user_id}/roles`."""

from __future__ import annotations

from cluster.identity import intents, queries
from cluster.identity.roles import IDS, NAMES, effective
from serve_app.identity import views
from serve_app.identity.operation import Access, IdentityCall, IdentityFault, Operation, forbidden, not_found
from serve_app.identity.query import boolean
from serve_app.wire.route import Reply

_OTHER_SCOPES = ("group.id", "scope.domain.id", "scope.system", "scope.OS-INHERIT:inherited_to")
_ONE = "/projects/{project_id}/users/{user_id}/roles/{role_id}"


async def roles(call: IdentityCall) -> Reply:
    """`GET /roles`."""
    wanted = call.query.get("name")
    names = [] if "domain_id" in call.query else [name for name in IDS if wanted in (None, name)]
    return Reply(200, views.collection(call, "roles", [views.role(call, name) for name in names]))


async def role(call: IdentityCall) -> Reply:
    """`GET /roles/{role_id}`."""
    return Reply(200, {"role": views.role(call, _role(call))})


async def index(call: IdentityCall) -> Reply:
    """`GET /role_assignments`. `effective` lists what the roles imply as well."""
    query = call.query
    user_id, project_id, role_id = query.get("user.id"), query.get("scope.project.id"), query.get("role.id")
    mine = user_id == call.session.standing.user_id
    if not mine and not call.is_admin:
        raise forbidden("list_role_assignments")
    items = []
    if not any(name in query for name in _OTHER_SCOPES):
        rows = await call.room.store.read(lambda db: queries.assignments(db, user_id, project_id))
        expand, names = boolean(query, "effective"), bool(boolean(query, "include_names"))
        for row in rows:
            held = sorted(effective(frozenset((row["role"],)))) if expand else [row["role"]]
            items += [
                views.assignment(call, row, name, names) for name in held if role_id is None or role_id == IDS[name]
            ]
    return Reply(200, views.collection(call, "role_assignments", items))


async def of_user(call: IdentityCall) -> Reply:
    """`GET /projects/{project_id}/users/{user_id}/roles`."""
    user_id, project_id = call.path["user_id"], call.path["project_id"]
    rows = await call.room.store.read(lambda db: queries.assignments(db, user_id, project_id))
    return Reply(200, views.collection(call, "roles", [views.role(call, row["role"]) for row in rows]))


async def check(call: IdentityCall) -> Reply:
    """`GET` and `HEAD` of one assignment: 204 or 404."""
    name, user_id, project_id = _role(call), call.path["user_id"], call.path["project_id"]
    if not await call.room.store.read(lambda db: intents.has(db, user_id, project_id, name)):
        raise IdentityFault(404, "Could not find role assignment.")
    return Reply(204)


async def grant(call: IdentityCall) -> Reply:
    """`PUT` of one assignment."""
    name, user_id, project_id = _role(call), call.path["user_id"], call.path["project_id"]
    await call.room.store.write(lambda db: intents.grant(db, user_id, project_id, name))
    call.authenticator.forget()
    return Reply(204)


async def withdraw(call: IdentityCall) -> Reply:
    """`DELETE` of one assignment."""
    name, user_id, project_id = _role(call), call.path["user_id"], call.path["project_id"]
    await call.room.store.write(lambda db: intents.withdraw(db, user_id, project_id, name))
    call.authenticator.forget()
    return Reply(204)


def _role(call: IdentityCall) -> str:
    name = NAMES.get(call.path["role_id"])
    if name is None:
        raise not_found("role", call.path["role_id"])
    return name


OPERATIONS = (
    Operation("GET", "/roles", roles, Access.TOKEN),
    Operation("GET", "/roles/{role_id}", role, Access.TOKEN),
    Operation("GET", "/role_assignments", index, Access.TOKEN),
    Operation("GET", "/projects/{project_id}/users/{user_id}/roles", of_user),
    Operation("GET", _ONE, check),
    Operation("HEAD", _ONE, check),
    Operation("PUT", _ONE, grant),
    Operation("DELETE", _ONE, withdraw),
)
