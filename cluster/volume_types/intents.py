"""Writing volume types and their extra specs. Each function is one transaction's work.

A type with volumes keeps its extra specs: what a volume was placed by must stay true (Cinder refuses it as well).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from cluster.caller import Caller
from cluster.errors import ConflictError, InvalidInputError, InvalidStateError, NotFoundError
from cluster.outside import Outside
from cluster.quotas.records import QuotaClassLimit, QuotaLimit
from cluster.quotas.usage import TYPED
from cluster.settings import Settings
from cluster.store.seam import Store, hold
from cluster.volume_types import queries
from cluster.volume_types.records import DefaultType, VolumeType, VolumeTypeAccess

_TRUE = "<is> True"
# What writers of types, of access to them and of defaults hold: names stay unique, the last type stays, and none goes
# while a project is given it.
ALL_TYPES = "volume_types"


async def ensure_default_type(store: Store, settings: Settings, outside: Outside) -> str:
    """Make sure that the type named `settings.default_volume_type` exists; return its id. Safe to repeat."""

    def work(db: Connection) -> str:
        hold(db, ALL_TYPES)
        name = settings.default_volume_type
        known = db.execute(select(col(VolumeType.id)).where(col(VolumeType.name) == name)).scalar()
        return str(known) if known is not None else _insert(db, outside, name, "Default Volume Type", {}, True)

    return await store.write(work)


def create(
    db: Connection,
    outside: Outside,
    *,
    name: str,
    description: str | None,
    extra_specs: Mapping[str, str],
    is_public: bool,
) -> str:
    """Make a type; return its id. Raises ConflictError when the name is taken."""
    hold(db, ALL_TYPES)
    _refuse_taken(db, name, None)
    return _insert(db, outside, name, description, extra_specs, is_public)


def change(
    db: Connection,
    outside: Outside,
    caller: Caller,
    type_id: str,
    *,
    name: str | None,
    description: str | None,
    is_public: bool | None,
    default_name: str,
) -> dict[str, Any]:
    """Change what is not None; return the type as it is then. Quotas of the type follow a new name by themselves.
    Raises NotFoundError, ConflictError when the name is taken, InvalidStateError for a new name of the type that the
    settings name as the default (`default_name`): volumes that ask for no type could not be made any more."""
    hold(db, ALL_TYPES)
    row = queries.fetch(db, caller, type_id)
    if name is not None and name != row["name"] == default_name:
        raise InvalidStateError(
            f"The volume type {type_id} is the default volume type (default_volume_type) and cannot be renamed."
        )
    if name is not None:
        _refuse_taken(db, name, type_id)
    asked = {"name": name, "description": description, "is_public": is_public}
    values = {key: value for key, value in asked.items() if value is not None}
    db.execute(update(VolumeType).where(col(VolumeType.id) == type_id).values(**values, updated_at=outside.now()))
    return queries.fetch(db, caller, type_id)


def remove(db: Connection, caller: Caller, type_id: str, default_name: str) -> None:
    """Delete a type, the access to it and its quotas.

    Raises NotFoundError; InvalidStateError when it is the default of all or of a project, the only one, or in use.
    """
    hold(db, ALL_TYPES)
    row = queries.fetch(db, caller, type_id)
    as_default = select(col(DefaultType.project_id)).where(col(DefaultType.volume_type_id) == type_id).limit(1)
    if row["name"] == default_name or db.execute(as_default).first() is not None:
        raise InvalidStateError(f"The volume type {type_id} is a default volume type and cannot be deleted.")
    if db.execute(select(func.count()).select_from(VolumeType)).scalar_one() <= 1:
        raise InvalidStateError(
            f"The volume type {type_id} is the only currently defined volume type and cannot be deleted."
        )
    if queries.in_use(db, type_id):
        raise InvalidStateError("Target volume type is still in use.")
    stored = [f"{resource}:{type_id}" for resource in TYPED]
    db.execute(delete(QuotaLimit).where(col(QuotaLimit.resource).in_(stored)))
    db.execute(delete(QuotaClassLimit).where(col(QuotaClassLimit.resource).in_(stored)))
    db.execute(delete(VolumeTypeAccess).where(col(VolumeTypeAccess.volume_type_id) == type_id))
    try:
        with db.begin_nested():
            db.execute(delete(VolumeType).where(col(VolumeType.id) == type_id))
    except IntegrityError as error:  # a volume of the type was written after we looked
        raise InvalidStateError("Target volume type is still in use.") from error


def set_specs(db: Connection, outside: Outside, caller: Caller, type_id: str, specs: Mapping[str, str]) -> None:
    """Add or change extra specs. Raises NotFoundError, InvalidStateError (in use), InvalidInputError (multiattach
    together with cacheable)."""
    known = _specs_to_change(db, caller, type_id)
    known.update(specs)
    if known.get("multiattach") == _TRUE and known.get("cacheable") == _TRUE:
        raise InvalidInputError("cacheable cannot be set with multiattach.")
    _write_specs(db, outside, type_id, known)


def unset_spec(db: Connection, outside: Outside, caller: Caller, type_id: str, key: str) -> None:
    """Remove one extra spec. Raises NotFoundError (the type or the key), InvalidStateError (in use)."""
    known = _specs_to_change(db, caller, type_id)
    if known.pop(key, None) is None:
        raise NotFoundError(f"Volume Type {type_id} has no extra specs with key {key}.")
    _write_specs(db, outside, type_id, known)


def _specs_to_change(db: Connection, caller: Caller, type_id: str) -> dict[str, str]:
    hold(db, ALL_TYPES)
    row = queries.fetch(db, caller, type_id)
    if queries.in_use(db, type_id):
        raise InvalidStateError("Volume Type is currently in use.")
    return dict(row["extra_specs"])


def _write_specs(db: Connection, outside: Outside, type_id: str, specs: dict[str, str]) -> None:
    statement = update(VolumeType).where(col(VolumeType.id) == type_id)
    db.execute(statement.values(extra_specs=specs, updated_at=outside.now()))


def _refuse_taken(db: Connection, name: str, own_id: str | None) -> None:
    statement = select(col(VolumeType.id)).where(col(VolumeType.name) == name)
    if own_id is not None:
        statement = statement.where(col(VolumeType.id) != own_id)
    if db.execute(statement).first() is not None:
        raise ConflictError(f"Volume Type {name} already exists.")


def _insert(
    db: Connection,
    outside: Outside,
    name: str,
    description: str | None,
    extra_specs: Mapping[str, str],
    is_public: bool,
) -> str:
    type_id = outside.new_id()
    db.execute(
        insert(VolumeType).values(
            id=type_id,
            name=name,
            description=description,
            is_public=is_public,
            extra_specs=dict(extra_specs),
            created_at=outside.now(),
        )
    )
    return type_id
