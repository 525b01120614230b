"""Reading snapshots: one, a page, their number, and which of them stand in the way of something.

Rows are plain dicts (`SnapshotRow`), read as volumes are (`cluster.volumes.queries`). Must not know HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypedDict, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Select,
    Text,
    bindparam,
    exists,
    func,
    select,
    type_coerce,
)

from cluster.caller import Caller
from cluster.errors import NotFoundError
from cluster.snapshots.records import Snapshot
from cluster.volumes import filters
from cluster.volumes.queries import VOLUME, is_id
from cluster.volumes.records import VolumeStatus

SNAPSHOT: Final = Snapshot.metadata.tables["snapshot"]


class SnapshotRow(TypedDict):
    """A snapshot as read: the columns of its table."""

    id: str
    volume_id: str
    project_id: str
    user_id: str
    name: str | None
    description: str | None
    size_gib: int
    status: str
    progress: str | None
    volume_type_id: str | None
    group_snapshot_id: str | None
    user_metadata: dict[str, str]
    consumes_quota: bool
    created_at: str
    updated_at: str | None


_KEYS: Final = tuple(SNAPSHOT.c.keys())
_SELECT: Final = select(
    *(type_coerce(column, Text).label(column.key) if column.key == "user_metadata" else column for column in SNAPSHOT.c)
)
_ONE: Final = _SELECT.where(SNAPSHOT.c.id == bindparam("id"))
_ONE_LOCKED: Final = _ONE.with_for_update()
_OF_VOLUME: Final = _SELECT.where(SNAPSHOT.c.volume_id == bindparam("volume")).order_by(SNAPSHOT.c.id).with_for_update()

# What a page may be sorted by: the wire's name and the column. `name` counts from microversion 3.30.
SORTABLE: Final[dict[str, ColumnElement[Any]]] = {
    "display_name": SNAPSHOT.c.name,
    "display_description": SNAPSHOT.c.description,
    "size": SNAPSHOT.c.size_gib,
    "volume_size": SNAPSHOT.c.size_gib,
} | {
    name: SNAPSHOT.c[name]
    for name in (
        *("id", "name", "description", "status", "created_at", "updated_at", "volume_id", "progress", "user_id"),
        *("project_id", "volume_type_id", "consumes_quota"),
    )
}
_SORT_VALUES: Final = select(*(column.label(name) for name, column in SORTABLE.items())).where(
    SNAPSHOT.c.id == bindparam("id")
)
_OF_VOLUMES_PLACE: Final = frozenset({"host", "cluster_name", "availability_zone"})


def get(db: Connection, caller: Caller, snapshot_id: str, *, lock: bool = False) -> SnapshotRow:
    """The snapshot, if the caller may see it; with `lock`, no other writer changes it until the transaction ends.

    Raises NotFoundError, for another project's snapshot too.
    """
    found = rows(db.execute(_ONE_LOCKED if lock else _ONE, {"id": snapshot_id})) if is_id(snapshot_id) else []
    if not found or not (caller.is_admin or found[0]["project_id"] == caller.project_id):
        raise NotFoundError.of("Snapshot", snapshot_id)
    return found[0]


def locked_of_volume(db: Connection, volume_id: str) -> list[SnapshotRow]:
    """The snapshots of a volume, held against other writers until the transaction ends."""
    return rows(db.execute(_OF_VOLUME, {"volume": volume_id}))


def listing(
    caller: Caller, conditions: Iterable[ColumnElement[bool]] = (), *, all_projects: bool = False
) -> Select[Any]:
    """The statement of the snapshots the caller sees and that meet the conditions. Only an administrator sees all
    projects."""
    statement = _SELECT.where(*conditions)
    if all_projects and caller.is_admin:
        return statement
    return statement.where(SNAPSHOT.c.project_id == caller.project_id)


def conditions(asked: Mapping[str, object]) -> list[ColumnElement[bool]]:
    """The filters as conditions on the snapshot table; places are those of the volume. Raises
    `cluster.volumes.filters.NothingMatchesError`."""
    own = [filters.condition(SNAPSHOT, name, value) for name, value in asked.items() if name not in _OF_VOLUMES_PLACE]
    places = {name: value for name, value in asked.items() if name in _OF_VOLUMES_PLACE}
    if places:
        own.append(exists().where(VOLUME.c.id == SNAPSHOT.c.volume_id, *filters.conditions(places)))
    return own


def rows(result: CursorResult[Any]) -> list[SnapshotRow]:
    """The rows of a statement made here."""
    answer = [dict(zip(_KEYS, values, strict=True)) for values in result.all()]
    for row in answer:
        if isinstance(text := row["user_metadata"], str):
            row["user_metadata"] = {} if text == "{}" else json.loads(text)
    return cast(list[SnapshotRow], answer)


def count(db: Connection, statement: Select[Any]) -> int:
    """How many rows a statement of `listing` would give without its page."""
    return int(db.execute(statement.with_only_columns(func.count()).order_by(None)).scalar_one())


def sort_values(db: Connection, caller: Caller, snapshot_id: str) -> dict[str, Any]:
    """What the snapshot has for every sortable name: where a page that starts after it starts. Raises
    NotFoundError."""
    found = db.execute(_SORT_VALUES, {"id": snapshot_id}).mappings().first() if is_id(snapshot_id) else None
    if found is None or not (caller.is_admin or found["project_id"] == caller.project_id):
        raise NotFoundError.of("Snapshot", snapshot_id)
    return dict(found)


def copies_under_way(db: Connection, *, volume_id: str | None = None, snapshots: Iterable[str] = ()) -> list[str]:
    """Ids of volumes that are being copied right now from the volume or from one of the snapshots."""
    copied: ColumnElement[bool] = VOLUME.c.snapshot_id.in_(list(snapshots))
    if volume_id is not None:
        copied = copied | (VOLUME.c.source_volid == volume_id)
    statement = select(VOLUME.c.id).where(VOLUME.c.status == VolumeStatus.CREATING, copied)
    return list(db.execute(statement.order_by(VOLUME.c.id)).scalars())
