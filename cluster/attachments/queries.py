"""Reading attachments: one, a page, those of some volumes. Rows are plain dicts (`AttachmentRow`), read as volumes
are (`cluster.volumes.queries`). Must not know HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypedDict, cast

from sqlalchemy import ColumnElement, Connection, CursorResult, Select, bindparam, func, select

from cluster.attachments.records import Attachment, VolumeConnection
from cluster.caller import Caller
from cluster.errors import NotFoundError
from cluster.volumes import filters
from cluster.volumes.queries import is_id

ATTACHMENT: Final = Attachment.metadata.tables["attachment"]
CONNECTION: Final = VolumeConnection.metadata.tables["volume_connection"]


class AttachmentRow(TypedDict):
    """An attachment as read: the columns of its table."""

    id: str
    volume_id: str
    project_id: str
    user_id: str
    instance_id: str | None
    attached_host: str | None
    mountpoint: str | None
    attach_mode: str | None
    attach_status: str
    connector: dict[str, Any] | None
    connection_info: dict[str, Any] | None
    attached_at: str | None
    created_at: str
    updated_at: str | None


_KEYS: Final = tuple(ATTACHMENT.c.keys())
_SELECT: Final = select(ATTACHMENT)
_ONE: Final = _SELECT.where(ATTACHMENT.c.id == bindparam("id"))
_OF_VOLUMES: Final = _SELECT.where(ATTACHMENT.c.volume_id.in_(bindparam("volumes", expanding=True))).order_by(
    ATTACHMENT.c.created_at, ATTACHMENT.c.id
)

# What a page may be sorted by: the wire's name and the column.
SORTABLE: Final[dict[str, ColumnElement[Any]]] = {
    "status": ATTACHMENT.c.attach_status,
    "instance_uuid": ATTACHMENT.c.instance_id,
} | {
    name: ATTACHMENT.c[name]
    for name in (
        *("id", "volume_id", "created_at", "updated_at", "attach_status", "attached_host", "mountpoint"),
        *("attach_mode", "instance_id", "project_id", "user_id"),
    )
}
_SORT_VALUES: Final = select(*(column.label(name) for name, column in SORTABLE.items())).where(
    ATTACHMENT.c.id == bindparam("id")
)
# The wire's names of filters that are not those of the columns.
_FILTER_COLUMNS: Final = {"status": "attach_status", "instance_uuid": "instance_id"}


def get(db: Connection, caller: Caller, attachment_id: str) -> AttachmentRow:
    """The attachment, if the caller may see it. Raises NotFoundError, for another project's attachment too."""
    found = rows(db.execute(_ONE, {"id": attachment_id})) if is_id(attachment_id) else []
    if not found or not (caller.is_admin or found[0]["project_id"] == caller.project_id):
        raise NotFoundError(f"Volume attachment could not be found with filter: attachment_id = {attachment_id}.")
    return found[0]


def listing(
    caller: Caller, conditions: Iterable[ColumnElement[bool]] = (), *, all_projects: bool = False
) -> Select[Any]:
    """The statement of the attachments the caller sees and that meet the conditions (neither sorted nor cut: the
    wire's paging does that, with `SORTABLE`). Only an administrator sees all projects."""
    statement = _SELECT.where(*conditions)
    if all_projects and caller.is_admin:
        return statement
    return statement.where(ATTACHMENT.c.project_id == caller.project_id)


def conditions(asked: Mapping[str, object]) -> list[ColumnElement[bool]]:
    """The filters (`volume_id`, `status`, `attach_status`, `instance_id`, …; a value of `like` as for volumes) as
    conditions. Raises `cluster.volumes.filters.NothingMatchesError`."""
    return [filters.condition(ATTACHMENT, _named(name), value) for name, value in asked.items()]


def rows(result: CursorResult[Any]) -> list[AttachmentRow]:
    """The rows of a statement made here."""
    return [cast(AttachmentRow, dict(zip(_KEYS, values, strict=True))) for values in result.all()]


def count(db: Connection, statement: Select[Any]) -> int:
    """How many rows a statement of `listing` would give without its page."""
    return int(db.execute(statement.with_only_columns(func.count()).order_by(None)).scalar_one())


def sort_values(db: Connection, caller: Caller, attachment_id: str) -> dict[str, Any]:
    """What the attachment has for every sortable name: where a page that starts after it starts. Raises
    NotFoundError."""
    get(db, caller, attachment_id)
    return dict(db.execute(_SORT_VALUES, {"id": attachment_id}).mappings().one())


def of_volumes(db: Connection, volume_ids: Iterable[str]) -> dict[str, list[AttachmentRow]]:
    """All attachments, whatever their status, of each of the volumes that has any, oldest first: for the views of
    volumes the caller has read already."""
    found: dict[str, list[AttachmentRow]] = {}
    for row in rows(db.execute(_OF_VOLUMES, {"volumes": list(volume_ids)})):
        found.setdefault(row["volume_id"], []).append(row)
    return found


def connection_info(db: Connection, connection_id: str) -> dict[str, Any] | None:
    """What `os-initialize_connection` answers: `{"driver_volume_type": str, "data": {…}}`; None while the connection
    is not made or gone."""
    info: dict[str, Any] | None = db.execute(
        select(CONNECTION.c.info).where(CONNECTION.c.id == connection_id)
    ).scalar_one_or_none()
    return info


def _named(name: str) -> str:
    inexact = name.endswith("~")
    bare = name.removesuffix("~")
    return _FILTER_COLUMNS.get(bare, bare) + ("~" if inexact else "")
