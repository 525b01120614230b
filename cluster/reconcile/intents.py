"""What a person decides about an orphan: adopt it as a volume or snapshot, or delete it. Both run as operations."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection, Table, insert, select

from cluster.caller import Caller
from cluster.errors import ConflictError, InvalidStateError, NotFoundError
from cluster.journal.intents import open_operation
from cluster.outside import Outside
from cluster.reconcile.records import Orphan
from cluster.snapshots.records import Snapshot, SnapshotStatus
from cluster.volumes.records import AttachStatus, Volume, VolumeStatus
from drivers.vocabulary import GIB, ObjectKind

_ORPHAN = cast(Table, Orphan.__table__)  # type: ignore[attr-defined]
_VOLUME = cast(Table, Volume.__table__)  # type: ignore[attr-defined]
_SNAPSHOT = cast(Table, Snapshot.__table__)  # type: ignore[attr-defined]


def orphans(db: Connection) -> list[dict[str, Any]]:
    """All orphans, oldest first."""
    rows = db.execute(select(_ORPHAN).order_by(_ORPHAN.c.first_seen_at, _ORPHAN.c.id))
    return [dict(row._mapping) for row in rows]


def delete(db: Connection, outside: Outside, caller: Caller, orphan_id: str) -> str:
    """Open `orphan.delete`; return the operation's id. Raises NotFoundError, InvalidStateError (already under way),
    ConflictError (it has a row, so it is no orphan)."""
    _get(db, orphan_id)
    for table in (_VOLUME, _SNAPSHOT):
        if db.execute(select(table.c.id).where(table.c.id == orphan_id)).first() is not None:
            raise ConflictError(f"{orphan_id} has a row: it is no orphan. Delete it as what it is.")
    return open_operation(db, outside, caller, "orphan.delete", orphan_id)


def adopt(
    db: Connection, outside: Outside, caller: Caller, orphan_id: str, *, name: str | None, volume_type_id: str | None
) -> str:
    """Give the orphan a row in the caller's project and open `orphan.adopt`; return the operation's id.

    A size that is no whole number of GiB is rounded up, and the volume grown to it. Quotas are not asked: the room is
    taken already. Raises NotFoundError, ConflictError (a row of that id exists), InvalidStateError (the volume of a
    snapshot has no row: adopt that first).
    """
    orphan = _get(db, orphan_id)
    size_gib = max(1, -(-orphan["size_bytes"] // GIB))
    table = _VOLUME if orphan["kind"] == ObjectKind.VOLUME else _SNAPSHOT
    if db.execute(select(table.c.id).where(table.c.id == orphan_id)).first() is not None:
        raise ConflictError(f"{orphan['kind']} {orphan_id} has a row already.")
    common = {
        "id": orphan_id, "project_id": caller.project_id, "user_id": caller.user_id, "name": name,
        "size_gib": size_gib, "user_metadata": {}, "consumes_quota": True, "created_at": outside.now(),
    }  # fmt: skip
    if table is _VOLUME:
        values = common | {
            "status": VolumeStatus.MANAGING, "attach_status": AttachStatus.DETACHED, "host": orphan["host"],
            "volume_type_id": volume_type_id, "bootable": False, "encrypted": False, "multiattach": False,
            "admin_metadata": {},
        }  # fmt: skip
    else:
        parent = db.execute(select(_VOLUME.c.id).where(_VOLUME.c.id == orphan["parent_id"])).first()
        if parent is None:
            raise InvalidStateError(
                f"snapshot {orphan_id} is of volume {orphan['parent_id']}, which has no row; adopt that volume first."
            )
        values = common | {"status": SnapshotStatus.CREATING, "volume_id": orphan["parent_id"]}
    db.execute(insert(table).values(**values))
    return open_operation(db, outside, caller, "orphan.adopt", orphan_id)


def _get(db: Connection, orphan_id: str) -> dict[str, Any]:
    row = db.execute(select(_ORPHAN).where(_ORPHAN.c.id == orphan_id)).first()
    if row is None:
        raise NotFoundError(f"There is no orphan {orphan_id}; `pumice orphans list` shows those there are.")
    return dict(row._mapping)
