"""Writing who may use a private volume type, and which type a project gets by default."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, insert, select
from sqlmodel import col

from cluster.caller import Caller
from cluster.errors import ConflictError, InvalidInputError, NotFoundError
from cluster.store.seam import hold
from cluster.volume_types import queries
from cluster.volume_types.intents import ALL_TYPES
from cluster.volume_types.records import DefaultType, VolumeTypeAccess


def grant(db: Connection, caller: Caller, type_id: str, project_id: str) -> None:
    """Let the project use a private type. Raises NotFoundError, InvalidInputError (a public type), ConflictError."""
    _private(db, caller, type_id)
    statement = select(VolumeTypeAccess).where(*_pair(type_id, project_id))
    if db.execute(statement).first() is not None:
        raise ConflictError(f"Volume type access for {type_id} / {project_id} combination already exists.")
    db.execute(insert(VolumeTypeAccess).values(volume_type_id=type_id, project_id=project_id))


def revoke(db: Connection, caller: Caller, type_id: str, project_id: str) -> None:
    """Take a private type from the project; its volumes of that type stay. Raises NotFoundError, InvalidInputError (a
    public type)."""
    _private(db, caller, type_id)
    if db.execute(delete(VolumeTypeAccess).where(*_pair(type_id, project_id))).rowcount == 0:
        raise NotFoundError(f"Volume type access not found for {type_id} / {project_id} combination.")


def set_default(db: Connection, caller: Caller, project_id: str, type_name_or_id: str) -> str:
    """Make a type the project's default; return the type's id. Raises InvalidInputError when there is no such type."""
    hold(db, ALL_TYPES)
    try:
        type_id = str(queries.by_name_or_id(db, caller, type_name_or_id)["id"])
    except NotFoundError as error:
        raise InvalidInputError(str(error)) from error
    unset_default(db, project_id)
    db.execute(insert(DefaultType).values(project_id=project_id, volume_type_id=type_id))
    return type_id


def unset_default(db: Connection, project_id: str) -> None:
    """Take the project's own default away, if it has one."""
    db.execute(delete(DefaultType).where(col(DefaultType.project_id) == project_id))


def _private(db: Connection, caller: Caller, type_id: str) -> None:
    hold(db, ALL_TYPES)
    if queries.fetch(db, caller, type_id)["is_public"]:
        raise InvalidInputError(
            "Invalid volume type: Type access modification is not applicable to public volume type."
        )


def _pair(type_id: str, project_id: str) -> tuple[ColumnElement[bool], ...]:
    return (col(VolumeTypeAccess.volume_type_id) == type_id, col(VolumeTypeAccess.project_id) == project_id)
