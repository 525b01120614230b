"""Changes of users, projects, assignments and tokens: each is done when its transaction is, nothing runs afterwards.

A change that must end a user's tokens raises its `generation`, which every token carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from cluster.errors import ConflictError, NotFoundError
from cluster.identity import queries
from cluster.identity.records import Project, RevokedToken, RoleAssignment, User
from cluster.identity.roles import ADMIN
from cluster.store.insert_once import insert_once
from cluster.store.seam import hold

ADMIN_NAME = "admin"


def create_user(db: Connection, values: Mapping[str, Any]) -> None:
    """Add a user. Raises ConflictError when the name is taken, NotFoundError for an unknown default project."""
    _project_exists(db, values.get("default_project_id"))
    _insert(db, User, values, "user")


def update_user(db: Connection, user_id: str, values: Mapping[str, Any]) -> None:
    """Change a user. A new password and disabling end its tokens. Raises NotFoundError, ConflictError."""
    _project_exists(db, values.get("default_project_id"))
    changes = dict(values)
    if "password_hash" in changes or changes.get("enabled") is False:
        changes["generation"] = User.generation + 1
    _update(db, User, user_id, changes, "user")


def delete_user(db: Connection, user_id: str) -> None:
    """Remove a user and its assignments. Raises NotFoundError."""
    db.execute(delete(RoleAssignment).where(col(RoleAssignment.user_id) == user_id))
    _delete(db, User, user_id, "user")


def create_project(db: Connection, values: Mapping[str, Any]) -> None:
    """Add a project. Raises ConflictError when the name is taken."""
    _insert(db, Project, values, "project")


def update_project(db: Connection, project_id: str, values: Mapping[str, Any]) -> None:
    """Change a project. Raises NotFoundError, ConflictError."""
    _update(db, Project, project_id, values, "project")


def delete_project(db: Connection, project_id: str) -> None:
    """Remove a project and its assignments; its volumes stay, for an administrator to see. Raises NotFoundError."""
    db.execute(delete(RoleAssignment).where(col(RoleAssignment.project_id) == project_id))
    db.execute(update(User).where(col(User.default_project_id) == project_id).values(default_project_id=None))
    _delete(db, Project, project_id, "project")


def grant(db: Connection, user_id: str, project_id: str, role: str) -> None:
    """Give the user the role in the project; nothing if it has it. Raises NotFoundError."""
    if queries.user(db, user_id) is None:
        raise NotFoundError(f"Could not find user: {user_id}.")
    _project_exists(db, project_id)
    insert_once(db, RoleAssignment, {"user_id": user_id, "project_id": project_id, "role": role})


def withdraw(db: Connection, user_id: str, project_id: str, role: str) -> None:
    """Take the role away. Raises NotFoundError when the user does not have it."""
    removed = db.execute(
        delete(RoleAssignment).where(
            col(RoleAssignment.user_id) == user_id,
            col(RoleAssignment.project_id) == project_id,
            col(RoleAssignment.role) == role,
        )
    )
    if removed.rowcount == 0:
        raise NotFoundError(f"Could not find role assignment of {role} for user {user_id} in project {project_id}.")


def has(db: Connection, user_id: str, project_id: str, role: str) -> bool:
    """Whether the role is assigned (not merely implied)."""
    return bool(queries.assignments(db, user_id, project_id, role))


def revoke(db: Connection, audit_id: str, expires_at: float, now: float) -> None:
    """Make a token worthless, and forget revoked tokens that have ended by themselves."""
    db.execute(delete(RevokedToken).where(col(RevokedToken.expires_at) < now))
    insert_once(db, RevokedToken, {"audit_id": audit_id, "expires_at": expires_at})


def ensure_admin(db: Connection, project_id: str, user_id: str, password_hash: str, renew: bool) -> bool:
    """Make sure that project, user and role `admin` are there; with `renew`, give the user this password and enable
    it. Returns whether the password is now the given one. The ids are used for what has to be made."""
    hold(db, "identity-bootstrap")
    project = queries.project_named(db, ADMIN_NAME)
    if project is None:
        create_project(db, {"id": project_id, "name": ADMIN_NAME, "description": "Made at first start."})
    else:
        project_id = project["id"]
    user = queries.user_named(db, ADMIN_NAME)
    if user is None:
        create_user(
            db,
            {"id": user_id, "name": ADMIN_NAME, "password_hash": password_hash, "default_project_id": project_id},
        )
    else:
        user_id = user["id"]
        if renew:
            update_user(db, user_id, {"password_hash": password_hash, "enabled": True})
            update_project(db, project_id, {"enabled": True})
    grant(db, user_id, project_id, ADMIN)
    return user is None or renew


def _project_exists(db: Connection, project_id: str | None) -> None:
    if project_id is not None and queries.project(db, project_id) is None:
        raise NotFoundError(f"Could not find project: {project_id}.")


def _insert(db: Connection, table: type[User] | type[Project], values: Mapping[str, Any], kind: str) -> None:
    defaults: dict[str, Any] = {"description": "", "enabled": True}
    if table is User:
        defaults["generation"] = 0
    try:
        with db.begin_nested():
            db.execute(insert(table).values(**{**defaults, **values}))
    except IntegrityError as error:
        raise _taken(kind, values) from error


def _update(
    db: Connection, table: type[User] | type[Project], item_id: str, values: Mapping[str, Any], kind: str
) -> None:
    if not values:
        return
    try:
        with db.begin_nested():
            changed = db.execute(update(table).where(col(table.id) == item_id).values(**values))
    except IntegrityError as error:
        raise _taken(kind, values) from error
    if changed.rowcount == 0:
        raise NotFoundError(f"Could not find {kind}: {item_id}.")


def _delete(db: Connection, table: type[User] | type[Project], item_id: str, kind: str) -> None:
    if db.execute(delete(table).where(col(table.id) == item_id)).rowcount == 0:
        raise NotFoundError(f"Could not find {kind}: {item_id}.")


def _taken(kind: str, values: Mapping[str, Any]) -> ConflictError:
    return ConflictError(
        f"Conflict occurred attempting to store {kind} - it is not permitted to have two of name {values.get('name')}."
    )
