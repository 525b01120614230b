"""What a person decides about an orphan: adopt it as a volume or snapshot, or delete it. Both run as operations."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection, Table, insert, select

from cluster.caller import Caller
from cluster.errors import ConflictError, InvalidStateError, NotFoundError
from cluster.journal.intents import open_operation
from cluster.outside import Outside
from cluster.reconcile.records import Orphan
from cluster.reconcile.standing import standing_of
from cluster.scheduling.host_name import service_of
from cluster.services.queries import living
from cluster.settings import Settings
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


def delete(db: Connection, settings: Settings, outside: Outside, caller: Caller, orphan_id: str) -> str:
    """Open `orphan.delete`; return the operation's id. Raises NotFoundError, InvalidStateError (already under way; a
    stray while a request works on the volume or snapshot of its id, or while its service is down), ConflictError (its
    row says that it is there, so it is no orphan)."""
    orphan = _get(db, orphan_id)
    standing = standing_of(db, orphan_id)
    if standing is not None:
        if standing.kind != orphan["kind"] or standing.host == orphan["host"]:
            raise ConflictError(f"{orphan_id} has a row: it is no orphan. Delete it as what it is.")
        # No request on the volume is allowed until the stray is gone, so this must not wait for a host.
        if service_of(orphan["host"]) not in living(db, outside.seconds() - settings.timing.service_down):
            raise InvalidStateError(f"{orphan['host']} does not answer; delete orphan {orphan_id} when it is back.")
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
    standing = standing_of(db, orphan_id)
    if standing is not None:
        if standing.host == orphan["host"]:
            raise ConflictError(f"{orphan['kind']} {orphan_id} has a row already.")
        raise ConflictError(
            f"{standing.kind} {orphan_id} has a row already, which says that it is {standing.place}; the object in "
            f"{orphan['host']} is left over from an earlier try and cannot be adopted under the same id. Delete the "
            "orphan, or first the row."
        )
    size_gib = max(1, -(-orphan["size_bytes"] // GIB))
    table = _VOLUME if orphan["kind"] == ObjectKind.VOLUME else _SNAPSHOT
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
