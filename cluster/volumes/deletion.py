"""The one transaction behind a volume's delete: guards, the volume and its snapshots `deleting`, the operation.

The rows themselves are removed by the flow, after the bytes. The exception is a volume that was never placed and that
nothing works on any more: it has no bytes, and its row goes at once.

Sources: state_machine §1 (delete, delete with no host, force delete). Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, select, update

from cluster.attachments.queries import CONNECTION
from cluster.caller import Caller
from cluster.journal.intents import live_among, open_operation, refuse_while_live
from cluster.outside import Outside
from cluster.snapshots import queries as snapshots
from cluster.snapshots.queries import SNAPSHOT, SnapshotRow
from cluster.snapshots.records import SnapshotStatus
from cluster.volumes import queries
from cluster.volumes.intents import change_status
from cluster.volumes.queries import VOLUME, VolumeRow
from cluster.volumes.records import AttachStatus, VolumeStatus
from cluster.volumes.refusals import invalid_volume

_DELETABLE: Final = (
    VolumeStatus.AVAILABLE,
    VolumeStatus.ERROR,
    VolumeStatus.ERROR_RESTORING,
    VolumeStatus.ERROR_EXTENDING,
    VolumeStatus.ERROR_MANAGING,
)
_NOT_MIGRATING: Final = (None, "deleting", "error", "success")
_SNAPSHOT_DELETABLE: Final = (SnapshotStatus.AVAILABLE, SnapshotStatus.ERROR)


def delete_volume(
    db: Connection, outside: Outside, caller: Caller, volume_id: str, *, cascade: bool = False, force: bool = False
) -> bool:
    """Set the volume (with `cascade` its snapshots too) `deleting` and open `volume.delete`; whether there is now an
    operation to run. `force` ignores the statuses.

    Raises NotFoundError and InvalidStateError: the status, attached, migrating, in a group, snapshots in the way,
    being copied from, or worked on by an earlier request.
    """
    row = queries.get(db, caller, volume_id, lock=True)
    owned = snapshots.locked_of_volume(db, volume_id)
    if row["host"] is None and not owned and not live_among(db, [volume_id]):
        db.execute(delete(VOLUME).where(VOLUME.c.id == volume_id))
        return False
    if not (_volume_allows(row, force) and _snapshots_allow(caller, owned, cascade, force)):
        statuses = "" if force else f"status must be {' or '.join(_DELETABLE)} and "
        raise invalid_volume(
            f"Volume {statuses}must not be migrating, attached, belong to a group, have snapshots, awaiting a "
            "transfer, or be disassociated from snapshots after volume transfer."
        )
    ids = [snapshot["id"] for snapshot in owned]
    copies = snapshots.copies_under_way(db, volume_id=volume_id, snapshots=ids)
    if copies:
        raise invalid_volume(
            f"Volume {volume_id} is being copied to volume {', '.join(copies)}; delete it when that has settled."
        )
    refuse_while_live(db, "volume", ids)
    connections = list(db.scalars(select(CONNECTION.c.id).where(CONNECTION.c.volume_id == volume_id)))
    refuse_while_live(db, "connection", connections)
    status = row["status"]
    managing = status == VolumeStatus.ERROR_MANAGING
    now = VolumeStatus.ERROR_MANAGING_DELETING if managing else VolumeStatus.DELETING
    change_status(db, outside, row, {"status": now.value, "previous_status": status})
    if ids:
        gone = {"status": SnapshotStatus.DELETING.value, "updated_at": outside.now()}
        db.execute(update(SNAPSHOT).where(SNAPSHOT.c.volume_id == volume_id).values(gone))
    open_operation(db, outside, caller, "volume.delete", volume_id, {"snapshots": ids})
    return True


def _volume_allows(row: VolumeRow, force: bool) -> bool:
    return (
        (force or row["status"] in _DELETABLE)
        and row["attach_status"] != AttachStatus.ATTACHED
        and row["migration_status"] in _NOT_MIGRATING
        and row["group_id"] is None
    )


def _snapshots_allow(caller: Caller, owned: Sequence[SnapshotRow], cascade: bool, force: bool) -> bool:
    if not cascade:
        return not owned
    return all(
        snapshot["group_snapshot_id"] is None
        and (force or snapshot["status"] in _SNAPSHOT_DELETABLE)
        and (caller.is_admin or snapshot["project_id"] == caller.project_id)
        for snapshot in owned
    )
