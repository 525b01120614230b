"""Reads of users, projects and assignments. All are functions of one connection (`cluster.store.seam`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, exists, select
from sqlmodel import col

from cluster.identity.records import Project, RevokedToken, RoleAssignment, User
from cluster.identity.roles import effective

_USER = User.__table__  # type: ignore[attr-defined]
_PROJECT = Project.__table__  # type: ignore[attr-defined]
_ASSIGNMENT = RoleAssignment.__table__  # type: ignore[attr-defined]
Row = RowMapping


@dataclass(frozen=True, slots=True)
class Standing:
    """What a user is at this moment, alone or in a project. `roles` are the assigned ones with those they imply."""

    user_id: str
    user_name: str
    generation: int
    default_project_id: str | None
    project_id: str | None = None
    project_name: str | None = None
    roles: frozenset[str] = frozenset()


def standing(db: Connection, user_id: str, project_id: str | None, audit_id: str | None = None) -> Standing | None:
    """What the user is in the project (None: in none). None when the user or the project is not there or not enabled,
    when it has no role in it, or when the token `audit_id` was revoked. One query."""
    revoked = exists().where(col(RevokedToken.audit_id) == (audit_id or ""))
    statement = (
        select(
            _USER.c.name,
            _USER.c.generation,
            _USER.c.default_project_id,
            _PROJECT.c.name.label("project_name"),
            _ASSIGNMENT.c.role,
        )
        .select_from(_USER)
        .outerjoin(_PROJECT, and_(_PROJECT.c.id == project_id, _PROJECT.c.enabled.is_(True)))
        .outerjoin(_ASSIGNMENT, and_(_ASSIGNMENT.c.user_id == _USER.c.id, _ASSIGNMENT.c.project_id == _PROJECT.c.id))
        .where(_USER.c.id == user_id, _USER.c.enabled.is_(True), ~revoked)
    )
    rows = db.execute(statement).all()
    if not rows:
        return None
    first = rows[0]
    roles = effective(frozenset(row.role for row in rows if row.role is not None))
    if project_id is not None and (first.project_name is None or not roles):
        return None
    return Standing(
        user_id, first.name, first.generation, first.default_project_id, project_id, first.project_name, roles
    )


def user(db: Connection, user_id: str) -> Row | None:
    """The user of that id."""
    return db.execute(select(_USER).where(_USER.c.id == user_id)).mappings().first()


def user_named(db: Connection, name: str) -> Row | None:
    """The user of that name."""
    return db.execute(select(_USER).where(_USER.c.name == name)).mappings().first()


def users(db: Connection, name: str | None = None, enabled: bool | None = None) -> list[Row]:
    """Users by name."""
    return _listed(db, _USER, name, enabled)


def project(db: Connection, project_id: str) -> Row | None:
    """The project of that id."""
    return db.execute(select(_PROJECT).where(_PROJECT.c.id == project_id)).mappings().first()


def project_named(db: Connection, name: str) -> Row | None:
    """The project of that name."""
    return db.execute(select(_PROJECT).where(_PROJECT.c.name == name)).mappings().first()


def projects(db: Connection, name: str | None = None, enabled: bool | None = None) -> list[Row]:
    """Projects by name."""
    return _listed(db, _PROJECT, name, enabled)


def projects_of(db: Connection, user_id: str) -> list[Row]:
    """The enabled projects in which the user has a role."""
    mine = select(_ASSIGNMENT.c.project_id).where(_ASSIGNMENT.c.user_id == user_id)
    statement = select(_PROJECT).where(_PROJECT.c.id.in_(mine), _PROJECT.c.enabled.is_(True)).order_by(_PROJECT.c.name)
    return list(db.execute(statement).mappings())


def assignments(
    db: Connection, user_id: str | None = None, project_id: str | None = None, role: str | None = None
) -> list[Row]:
    """Assignments with the names of their user and project."""
    wanted = {"user_id": user_id, "project_id": project_id, "role": role}
    statement = (
        select(_ASSIGNMENT, _USER.c.name.label("user_name"), _PROJECT.c.name.label("project_name"))
        .join(_USER, _USER.c.id == _ASSIGNMENT.c.user_id)
        .join(_PROJECT, _PROJECT.c.id == _ASSIGNMENT.c.project_id)
        .where(*[_ASSIGNMENT.c[key] == value for key, value in wanted.items() if value is not None])
        .order_by(_PROJECT.c.name, _USER.c.name, _ASSIGNMENT.c.role)
    )
    return list(db.execute(statement).mappings())


def _listed(db: Connection, table: Any, name: str | None, enabled: bool | None) -> list[Row]:
    wanted: list[ColumnElement[bool]] = []
    if name is not None:
        wanted.append(table.c.name == name)
    if enabled is not None:
        wanted.append(table.c.enabled.is_(enabled))
    return list(db.execute(select(table).where(*wanted).order_by(table.c.name)).mappings())
