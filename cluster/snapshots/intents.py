"""The one transaction behind a snapshot's create and delete, and its changes that no flow follows.

Each function runs inside `store.write`; whoever calls it rings the conductor after the commit where an operation was
opened. Sources: state_machine §4, Cinder's sentences. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from sqlalchemy import Connection, insert, update

from cluster.caller import Caller
from cluster.errors import InvalidInputError, NotFoundError
from cluster.journal.intents import open_beside, open_operation, refuse_while_live
from cluster.outside import Outside
from cluster.quotas.usage import Claim, check
from cluster.settings import Settings
from cluster.snapshots import queries
from cluster.snapshots.queries import SNAPSHOT, SnapshotRow
from cluster.snapshots.records import SnapshotStatus
from cluster.volumes import queries as volumes
from cluster.volumes.records import VolumeStatus
from cluster.volumes.refusals import invalid_snapshot, invalid_volume

_DELETABLE: Final = (SnapshotStatus.AVAILABLE, SnapshotStatus.ERROR)
_NOT_MIGRATING: Final = (None, "deleting", "error", "success")
# What Nova may report of a snapshot that it makes itself.
_REPORTS: Final[dict[str, tuple[SnapshotStatus, ...]]] = {
    SnapshotStatus.CREATING: (SnapshotStatus.CREATING, SnapshotStatus.AVAILABLE, SnapshotStatus.ERROR),
    SnapshotStatus.DELETING: (SnapshotStatus.DELETING, SnapshotStatus.ERROR_DELETING),
}


def create(
    db: Connection,
    settings: Settings,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    metadata: Mapping[str, str] | None = None,
    in_use: bool = False,
) -> SnapshotRow:
    """Write the snapshot as `creating` and open `snapshot.create`; return its row. `in_use`: the volume may be
    attached.

    Raises NotFoundError (volume), InvalidStateError, OverQuotaError.
    """
    volume = volumes.get(db, caller, volume_id, lock=True)
    status = volume["status"]
    if volume["host"] is None:
        raise invalid_volume("The snapshot cannot be created because volume has not been scheduled to any host.")
    if status == VolumeStatus.MAINTENANCE:
        raise invalid_volume("The snapshot cannot be created when the volume is in maintenance mode.")
    if volume["migration_status"] not in _NOT_MIGRATING:
        raise invalid_volume("Snapshot cannot be created while volume is migrating.")
    if status == VolumeStatus.ERROR:
        raise invalid_volume("The snapshot cannot be created when the volume is in error status.")
    valid = (VolumeStatus.AVAILABLE, VolumeStatus.IN_USE) if in_use else (VolumeStatus.AVAILABLE,)
    if status not in valid:
        raise invalid_volume(f"Volume {volume_id} status must be {', '.join(valid)}, but current status is: {status}.")
    refuse_while_live(db, "volume", [volume_id])
    size_gib, type_id = volume["size_gib"], volume["volume_type_id"]
    check(db, settings.quotas, caller.project_id, Claim(snapshots=1, gigabytes=size_gib, volume_type_id=type_id))
    snapshot_id = outside.new_id()
    values: dict[str, Any] = {
        "id": snapshot_id,
        "volume_id": volume_id,
        "project_id": caller.project_id,
        "user_id": caller.user_id,
        "name": name,
        "description": description,
        "size_gib": size_gib,
        "status": SnapshotStatus.CREATING.value,
        "progress": "0%",
        "volume_type_id": type_id,
        "user_metadata": dict(metadata or {}),
        "consumes_quota": True,
        "created_at": outside.now(),
    }
    db.execute(insert(SNAPSHOT).values(values))
    open_operation(db, outside, caller, "snapshot.create", snapshot_id)
    absent: dict[str, Any] = dict.fromkeys(SnapshotRow.__annotations__)
    return cast(SnapshotRow, absent | values)


def delete(db: Connection, outside: Outside, caller: Caller, snapshot_id: str, *, force: bool = False) -> None:
    """Set the snapshot `deleting` and open `snapshot.delete`; the flow removes the row. `force` ignores the status.

    Raises NotFoundError and InvalidStateError: the status, in a group, being copied from, or worked on by an earlier
    request.
    """
    row = queries.get(db, caller, snapshot_id, lock=True)
    if row["group_snapshot_id"] is not None or not (force or row["status"] in _DELETABLE):
        statuses = "" if force else f"status must be {' or '.join(_DELETABLE)} and "
        raise invalid_snapshot(f"Snapshot {statuses}must not be part of a group.")
    copies = queries.copies_under_way(db, snapshots=[snapshot_id])
    if copies:
        raise invalid_snapshot(
            f"Snapshot {snapshot_id} is being copied to volume {', '.join(copies)}; delete it when that has settled."
        )
    _write(db, row, {"status": SnapshotStatus.DELETING.value, "updated_at": outside.now()})
    open_operation(db, outside, caller, "snapshot.delete", snapshot_id)


def edit(
    db: Connection, outside: Outside, caller: Caller, snapshot_id: str, changes: Mapping[str, object]
) -> SnapshotRow:
    """Set columns (`name`, `description`, `status`) of a snapshot; return the row as it is now. Raises
    NotFoundError."""
    row = queries.get(db, caller, snapshot_id, lock=True)
    return _write(db, row, {**changes, "updated_at": outside.now()})


def reset_status(db: Connection, outside: Outside, caller: Caller, snapshot_id: str, status: str) -> None:
    """Write the status an operator asks for; nothing else is touched, and an operation under way goes on. Opens
    `snapshot.examine`, which tells the snapshot's project what is true. Raises NotFoundError."""
    edit(db, outside, caller, snapshot_id, {"status": status})
    open_beside(db, outside, caller, "snapshot.examine", {"id": snapshot_id, "said": {"status": status}})


def report(
    db: Connection, outside: Outside, caller: Caller, snapshot_id: str, status: str, progress: str | None
) -> None:
    """Take down how far Nova is with a snapshot it makes or removes. Raises NotFoundError, InvalidInputError."""
    row = queries.get(db, caller, snapshot_id, lock=True)
    allowed = _REPORTS.get(row["status"])
    if allowed is None:
        raise InvalidInputError(f"Snapshot status {row['status']} not allowed for update_snapshot_status")
    if status not in allowed:
        raise InvalidInputError(
            f"Provided snapshot status {status} not allowed for snapshot with status {row['status']}."
        )
    _write(db, row, {"status": status, "progress": progress or row["progress"], "updated_at": outside.now()})


def put_metadata(
    db: Connection, caller: Caller, snapshot_id: str, values: Mapping[str, str], *, replace: bool = False
) -> dict[str, str]:
    """Add `values` to the metadata, or with `replace` make it these; return all of it. Raises NotFoundError."""
    row = queries.get(db, caller, snapshot_id, lock=True)
    changed = dict(values) if replace else row["user_metadata"] | dict(values)
    return _write(db, row, {"user_metadata": changed})["user_metadata"]


def drop_metadata(db: Connection, caller: Caller, snapshot_id: str, key: str) -> None:
    """Remove one key of the metadata. Raises NotFoundError (snapshot, key)."""
    row = queries.get(db, caller, snapshot_id, lock=True)
    if key not in row["user_metadata"]:
        raise NotFoundError(f"Snapshot {snapshot_id} has no metadata with key {key}.")
    _write(db, row, {"user_metadata": {k: v for k, v in row["user_metadata"].items() if k != key}})


def _write(db: Connection, row: SnapshotRow, changes: Mapping[str, object]) -> SnapshotRow:
    db.execute(update(SNAPSHOT).where(SNAPSHOT.c.id == row["id"]).values(**changes))
    merged: dict[str, Any] = {**row, **changes}
    return cast(SnapshotRow, merged)
