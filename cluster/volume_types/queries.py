"""Reading volume types, who may use them, and which one a project gets by default.

A caller sees the public types and the private ones its project was given; an administrator sees all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, false, or_, select, true
from sqlmodel import SQLModel, col

from cluster.caller import Caller
from cluster.errors import NotFoundError
from cluster.volume_types.records import DefaultType, VolumeType, VolumeTypeAccess
from cluster.volumes.records import Volume

ZONES_KEY = "RESKEY:availability_zones"
SPEC_KEY = re.compile(r"[a-zA-Z0-9_:. /-]{1,255}")

_TABLE = SQLModel.metadata.tables[str(VolumeType.__tablename__)]
COLUMNS: dict[str, ColumnElement[Any]] = {
    name: _TABLE.c[name] for name in ("id", "name", "description", "is_public", "created_at", "updated_at")
}


def usable_by(project_id: str) -> ColumnElement[bool]:
    """The public types and the private ones that the project was given."""
    given = exists().where(
        col(VolumeTypeAccess.volume_type_id) == col(VolumeType.id), col(VolumeTypeAccess.project_id) == project_id
    )
    return or_(col(VolumeType.is_public).is_(true()), given)


def listing(
    caller: Caller,
    *,
    is_public: bool | None = True,
    specs: Mapping[str, str] | None = None,
    equal: Mapping[str, str] | None = None,
) -> Select[Any]:
    """The types to list, unordered. Only an administrator's `is_public` counts: True gives those its project may use,
    False the private ones, None all. `specs` must all be there with these values (the zones' value: contain it);
    `equal` compares columns by name."""
    statement = select(VolumeType)
    if not caller.is_admin or is_public:
        statement = statement.where(usable_by(caller.project_id))
    elif is_public is False:
        statement = statement.where(col(VolumeType.is_public).is_(false()))
    for key, value in (specs or {}).items():
        statement = statement.where(_has_spec(key, value))
    for name, value in (equal or {}).items():
        statement = statement.where(COLUMNS[name] == value)
    return statement


def _has_spec(key: str, value: str) -> ColumnElement[bool]:
    if not SPEC_KEY.fullmatch(key):
        return false()  # no such key can be stored, and a JSON path would read its quotes as syntax
    stored: ColumnElement[str] = _TABLE.c.extra_specs[key].as_string()
    return stored.contains(value, autoescape=True) if key == ZONES_KEY else stored == value


def fetch(db: Connection, caller: Caller, type_id: str) -> dict[str, Any]:
    """The type by id. Raises NotFoundError when there is none that the caller may see."""
    row = _first(db, caller, col(VolumeType.id) == type_id)
    if row is None:
        raise NotFoundError.of("Volume type", type_id)
    return row


def by_name_or_id(db: Connection, caller: Caller, text: str) -> dict[str, Any]:
    """The type whose id is `text`, else the one named so (a name may look like an id). Raises NotFoundError."""
    row = _first(db, caller, col(VolumeType.id) == text) or _first(db, caller, col(VolumeType.name) == text)
    if row is None:
        raise NotFoundError(f"Volume type with name {text} could not be found.")
    return row


def default_of(db: Connection, project_id: str, default_name: str) -> dict[str, Any]:
    """The type that volumes of the project get when none is asked for: the project's own default, else the one named
    `default_name` (settings.default_volume_type). Raises NotFoundError when that one is missing."""
    own = select(VolumeType).join(
        DefaultType,
        and_(col(DefaultType.volume_type_id) == col(VolumeType.id), col(DefaultType.project_id) == project_id),
    )
    row = db.execute(own).first()
    if row is None:
        row = db.execute(select(VolumeType).where(col(VolumeType.name) == default_name)).first()
    if row is None:
        raise NotFoundError(
            f"The request cannot be fulfilled as the default volume type {default_name} cannot be found."
        )
    return row._asdict()


def projects_of(db: Connection, type_id: str) -> list[str]:
    """The projects that were given a private type, sorted."""
    statement = (
        select(col(VolumeTypeAccess.project_id))
        .where(col(VolumeTypeAccess.volume_type_id) == type_id)
        .order_by(col(VolumeTypeAccess.project_id))
    )
    return list(db.execute(statement).scalars())


def in_use(db: Connection, type_id: str) -> bool:
    """Whether any volume is of the type."""
    return db.execute(select(col(Volume.id)).where(col(Volume.volume_type_id) == type_id).limit(1)).first() is not None


def default_types(db: Connection) -> list[dict[str, Any]]:
    """The default type of every project that has one: `project_id`, `volume_type_id`."""
    return [row._asdict() for row in db.execute(select(DefaultType).order_by(col(DefaultType.project_id)))]


def default_type(db: Connection, project_id: str) -> dict[str, Any]:
    """The project's own default type. Raises NotFoundError when it has none."""
    statement = select(DefaultType).where(col(DefaultType.project_id) == project_id)
    row = db.execute(statement).first()
    if row is None:
        raise NotFoundError(f"Default type for project {project_id} not found.")
    return row._asdict()


def _first(db: Connection, caller: Caller, condition: ColumnElement[bool]) -> dict[str, Any] | None:
    statement = select(VolumeType).where(condition)
    if not caller.is_admin:
        statement = statement.where(usable_by(caller.project_id))
    row = db.execute(statement).first()
    return None if row is None else row._asdict()
