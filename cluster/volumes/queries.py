"""Reading volumes: one, a page, their number, their sum.

Rows come joined with the name of their type, as plain dicts (`VolumeRow`): a page is the hottest read there is, so
statements are built once, JSON is handed over as the database holds it and decoded here, and no ORM object is made.
Must not know HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypedDict, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Select,
    Text,
    bindparam,
    func,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy import cast as sql_cast

from cluster.caller import Caller
from cluster.errors import NotFoundError
from cluster.volume_types.records import VolumeType
from cluster.volumes.records import Volume

VOLUME: Final = Volume.metadata.tables["volume"]
TYPE: Final = VolumeType.metadata.tables["volume_type"]


class VolumeRow(TypedDict):
    """A volume as read: the columns of its table and the name of its type."""

    id: str
    project_id: str
    user_id: str
    name: str | None
    description: str | None
    size_gib: int
    target_size_gib: int | None
    status: str
    previous_status: str | None
    attach_status: str
    migration_status: str | None
    availability_zone: str | None
    host: str | None
    volume_type_id: str | None
    snapshot_id: str | None
    source_volid: str | None
    group_id: str | None
    bootable: bool
    encrypted: bool
    multiattach: bool
    user_metadata: dict[str, str]
    admin_metadata: dict[str, str]
    image_metadata: dict[str, str] | None
    replication_status: str | None
    provider_id: str | None
    shared_targets: bool | None
    service_uuid: str | None
    cluster_name: str | None
    encryption_key_id: str | None
    consumes_quota: bool
    created_at: str
    updated_at: str | None
    volume_type_name: str | None


_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_JSON: Final = ("user_metadata", "admin_metadata", "image_metadata")
_KEYS: Final = (*VOLUME.c.keys(), "volume_type_name")
_SELECT: Final = select(
    *(type_coerce(column, Text).label(column.key) if column.key in _JSON else column for column in VOLUME.c),
    TYPE.c.name.label("volume_type_name"),
).select_from(VOLUME.outerjoin(TYPE, VOLUME.c.volume_type_id == TYPE.c.id))
ONE: Final = _SELECT.where(VOLUME.c.id == bindparam("id"))
_ONE_LOCKED: Final = ONE.with_for_update(of=VOLUME)
_OF_PROJECT: Final = _SELECT.where(VOLUME.c.project_id == bindparam("project"))

# What a page may be sorted by: the wire's name and the column.
SORTABLE: Final[dict[str, ColumnElement[Any]]] = {
    "display_name": VOLUME.c.name,
    "display_description": VOLUME.c.description,
    "size": VOLUME.c.size_gib,
} | {
    name: VOLUME.c[name]
    for name in (
        *("id", "name", "description", "status", "created_at", "updated_at", "availability_zone", "bootable"),
        *("attach_status", "migration_status", "replication_status", "host", "user_id", "project_id"),
        *("volume_type_id", "snapshot_id", "source_volid", "group_id", "multiattach", "consumes_quota"),
    )
}
_SORT_VALUES: Final = select(*(column.label(name) for name, column in SORTABLE.items())).where(
    VOLUME.c.id == bindparam("id")
)


def is_id(text: str) -> bool:
    """Whether `text` can be the id of a resource; other text is not worth a look, and may hold what a database
    refuses."""
    return _UUID.fullmatch(text) is not None


def get(db: Connection, caller: Caller, volume_id: str, *, lock: bool = False) -> VolumeRow:
    """The volume, if the caller may see it; with `lock`, no other writer changes it until the transaction ends.

    Raises NotFoundError, for another project's volume too.
    """
    found = rows(db.execute(_ONE_LOCKED if lock else ONE, {"id": volume_id})) if is_id(volume_id) else []
    if not found or not (caller.is_admin or found[0]["project_id"] == caller.project_id):
        raise NotFoundError.of("Volume", volume_id)
    return found[0]


def listing(
    caller: Caller, conditions: Iterable[ColumnElement[bool]] = (), *, all_projects: bool = False
) -> tuple[Select[Any], dict[str, str]]:
    """The statement of the volumes the caller sees and that meet the conditions, and its parameters.

    Only an administrator sees all projects, and the half-made targets of migrations.
    """
    everything = all_projects and caller.is_admin
    statement = (_SELECT if everything else _OF_PROJECT).where(*conditions)
    if not caller.is_admin:
        hidden = VOLUME.c.migration_status
        statement = statement.where(or_(hidden.is_(None), hidden.not_like("target:%")))
    return statement, {} if everything else {"project": caller.project_id}


def rows(result: CursorResult[Any]) -> list[VolumeRow]:
    """The rows of a statement made here."""
    answer = [dict(zip(_KEYS, values, strict=True)) for values in result.all()]
    for row in answer:
        for key in _JSON:
            if isinstance(text := row[key], str):
                row[key] = {} if text == "{}" else json.loads(text)
    return cast(list[VolumeRow], answer)


def count(db: Connection, statement: Select[Any], parameters: dict[str, str]) -> int:
    """How many rows a statement of `listing` would give without its page."""
    narrow = statement.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
    return int(db.execute(narrow, parameters).scalar_one())


def sort_values(db: Connection, caller: Caller, volume_id: str) -> dict[str, Any]:
    """What the volume has for every sortable name: where a page that starts after it starts. Raises NotFoundError."""
    found = db.execute(_SORT_VALUES, {"id": volume_id}).mappings().first() if is_id(volume_id) else None
    if found is None or not (caller.is_admin or found["project_id"] == caller.project_id):
        raise NotFoundError.of("Volume", volume_id)
    return dict(found)


def summary(db: Connection, caller: Caller, *, all_projects: bool = False) -> tuple[int, int, dict[str, list[str]]]:
    """The number of volumes, the sum of their sizes in GiB, and for each metadata key the values that occur."""
    condition = true() if all_projects and caller.is_admin else VOLUME.c.project_id == caller.project_id
    total = select(func.count(), func.coalesce(func.sum(VOLUME.c.size_gib), 0)).where(condition)
    number, size = db.execute(total).one()
    # JSON as text: PostgreSQL can't compare its json values.
    texts = db.execute(select(sql_cast(VOLUME.c.user_metadata, Text)).where(condition).distinct()).scalars().all()
    return int(number), int(size), _values(texts)


def _values(texts: Sequence[str]) -> dict[str, list[str]]:
    values: dict[str, dict[str, None]] = {}
    for text in sorted(texts):
        for key, value in json.loads(text).items():
            values.setdefault(key, {})[value] = None
    return {key: list(seen) for key, seen in values.items()}
