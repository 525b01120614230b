"""Changes of a volume that no flow follows: names, metadata, flags, and the operator's reset of its states.

Each function runs inside `store.write`, locks the row, checks, writes, and returns what the reply shows. Sources:
state_machine §1, json_shapes §3. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from sqlalchemy import Connection, update

from cluster.attachments.letting_go import let_go_all
from cluster.caller import Caller
from cluster.errors import InvalidInputError, InvalidStateError, NotFoundError
from cluster.journal.intents import open_beside
from cluster.journal.outcome import Work
from cluster.outside import Outside
from cluster.volumes import queries
from cluster.volumes.queries import VOLUME, VolumeRow
from cluster.volumes.records import AttachStatus, VolumeStatus
from cluster.volumes.refusals import invalid_volume

_NO_METADATA: Final = (VolumeStatus.MAINTENANCE, VolumeStatus.UPLOADING)
Guard = Callable[[Mapping[str, str]], None]


def edit(db: Connection, outside: Outside, caller: Caller, volume_id: str, changes: Mapping[str, object]) -> VolumeRow:
    """Set columns (`name`, `description`, `user_metadata`, `bootable`) of a volume; return the row as it is now.

    Raises NotFoundError, and InvalidStateError during maintenance.
    """
    row = queries.get(db, caller, volume_id, lock=True)
    if row["status"] == VolumeStatus.MAINTENANCE:
        raise invalid_volume("The volume cannot be updated during maintenance.")
    return _write(db, row, {**changes, "updated_at": outside.now()})


def set_readonly(db: Connection, caller: Caller, volume_id: str, readonly: bool) -> None:
    """Say whether the volume may be attached read-write. Raises NotFoundError; InvalidStateError unless available."""
    row = queries.get(db, caller, volume_id, lock=True)
    if row["status"] != VolumeStatus.AVAILABLE:
        raise invalid_volume(
            f"Volume {volume_id} status must be available to update readonly flag, "
            f"but current status is: {row['status']}."
        )
    _write(db, row, {"admin_metadata": row["admin_metadata"] | {"readonly": str(readonly)}})


def put_metadata(
    db: Connection,
    caller: Caller,
    volume_id: str,
    values: Mapping[str, str],
    *,
    replace: bool = False,
    guard: Guard | None = None,
) -> dict[str, str]:
    """Add `values` to the user's metadata, or with `replace` make it these; return all of it. `guard` sees what is
    there before the change and may raise. Raises NotFoundError, InvalidStateError."""
    row = _open_metadata(db, caller, volume_id, "Updating")
    if guard is not None:
        guard(row["user_metadata"])
    changed = dict(values) if replace else row["user_metadata"] | dict(values)
    return _write(db, row, {"user_metadata": changed})["user_metadata"]


def drop_metadata(db: Connection, caller: Caller, volume_id: str, key: str) -> None:
    """Remove one key of the user's metadata. Raises NotFoundError (volume, key), InvalidStateError."""
    row = queries.get(db, caller, volume_id)
    if key not in row["user_metadata"]:
        raise NotFoundError(f"Volume {volume_id} has no metadata with key {key}.")
    row = _open_metadata(db, caller, volume_id, "Deleting")
    _write(db, row, {"user_metadata": {k: v for k, v in row["user_metadata"].items() if k != key}})


def put_image_metadata(db: Connection, caller: Caller, volume_id: str, values: Mapping[str, str]) -> dict[str, str]:
    """Add `values` to what the volume knows of its image; return all of it. Raises NotFoundError, InvalidStateError."""
    row = _open_metadata(db, caller, volume_id, "Updating")
    changed = (row["image_metadata"] or {}) | dict(values)
    _write(db, row, {"image_metadata": changed})
    return changed


def drop_image_metadata(db: Connection, caller: Caller, volume_id: str, key: str) -> None:
    """Remove one key of the image's metadata. Raises NotFoundError (volume, key), InvalidStateError."""
    if key not in (queries.get(db, caller, volume_id)["image_metadata"] or {}):
        raise NotFoundError(f"Glance metadata for volume/snapshot {volume_id} cannot be found.")
    row = _open_metadata(db, caller, volume_id, "Deleting")
    left = {k: v for k, v in (row["image_metadata"] or {}).items() if k != key}
    _write(db, row, {"image_metadata": left or None})


def reset_status(
    db: Connection,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    *,
    status: str | None = None,
    attach_status: str | None = None,
    migration_status: str | None = None,
) -> Work | None:
    """Write the states an operator asks for; an operation under way goes on. Opens `volume.examine`, which tells the
    volume's project what is true. With the attach status `detached` every attachment and connection of the volume is
    ended: what is returned sees to those that an export serves. Nothing else is touched.

    `migration_status` "none" clears it. Raises NotFoundError; InvalidInputError for `deleting`, and for `in-use`
    without an attachment. Cinder also means to refuse `error_deleting` and `detaching`, but does not.
    """
    row = queries.get(db, caller, volume_id, lock=True)
    changes: dict[str, object] = {"updated_at": outside.now()}
    if status:
        if status == VolumeStatus.DELETING:
            raise InvalidInputError(f"Cannot reset-state to {status}")
        if status == VolumeStatus.IN_USE and row["attach_status"] == AttachStatus.DETACHED:
            raise InvalidInputError("Cannot reset-state to in-use because volume does not have any attachments.")
        changes["status"] = status
    if attach_status:
        changes["attach_status"] = attach_status
        if attach_status == AttachStatus.DETACHED:
            changes["admin_metadata"] = {k: v for k, v in row["admin_metadata"].items() if k != "attached_mode"}
    if migration_status:
        changes["migration_status"] = None if migration_status == "none" else migration_status
    # The asked-for states are written last: they hold, whatever the end of an attachment makes of the volume.
    work = let_go_all(db, outside, caller, volume_id) if attach_status == AttachStatus.DETACHED else None
    if work is not None and work.again:
        # Nothing of this is done: what is being let in must be let in or refused before it can be ended.
        raise InvalidStateError(
            f"Invalid volume: Volume {volume_id} is being attached or detached just now; try again when that has ended."
        )
    _write(db, row, changes)
    said = {"status": status, "attach_status": attach_status, "migration_status": migration_status}
    open_beside(db, outside, caller, "volume.examine", {"id": volume_id, "said": said})
    return work


def _open_metadata(db: Connection, caller: Caller, volume_id: str, doing: str) -> VolumeRow:
    row = queries.get(db, caller, volume_id, lock=True)
    if row["status"] in _NO_METADATA:
        raise invalid_volume(f"{doing} volume metadata is not allowed for volumes in {row['status']} status.")
    return row


def _write(db: Connection, row: VolumeRow, changes: Mapping[str, object]) -> VolumeRow:
    db.execute(update(VOLUME).where(VOLUME.c.id == row["id"]).values(**changes))
    merged: dict[str, Any] = {**row, **changes}
    return cast(VolumeRow, merged)
