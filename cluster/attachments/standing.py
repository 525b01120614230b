"""What a volume's status and attach status are for the attachments it has, and writing them.

Only statuses that consumers govern are written: a volume that is being extended, that is broken or that an operator
holds keeps its status, and what it goes back to afterwards (`previous_status`) is changed instead.
Source: state_machine §2; Cinder too overlooks attachments that failed to attach, for nobody can have used them.
One that failed to detach counts as attached here: its consumer may still reach the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, select, update

from cluster.attachments.queries import ATTACHMENT
from cluster.outside import Outside
from cluster.volumes.queries import VOLUME
from cluster.volumes.records import AttachStatus, VolumeStatus

GOVERNED: Final = frozenset(
    {
        VolumeStatus.AVAILABLE.value,
        VolumeStatus.RESERVED.value,
        VolumeStatus.ATTACHING.value,
        VolumeStatus.DETACHING.value,
        VolumeStatus.IN_USE.value,
    }
)


def standing(attach_statuses: Iterable[str]) -> tuple[VolumeStatus, AttachStatus]:
    """The volume's status and attach status when these are the statuses of its attachments."""
    there = set(attach_statuses)
    if there & {AttachStatus.ATTACHED, AttachStatus.ERROR_DETACHING}:
        return VolumeStatus.IN_USE, AttachStatus.ATTACHED
    if AttachStatus.ATTACHING in there:
        return VolumeStatus.ATTACHING, AttachStatus.ATTACHING
    if AttachStatus.RESERVED in there:
        return VolumeStatus.RESERVED, AttachStatus.RESERVED
    return VolumeStatus.AVAILABLE, AttachStatus.DETACHED


def hold_volume(db: Connection, volume_id: str) -> None:
    """Lock the volume's row until the transaction ends: what decides by the volume's attachments or connections takes
    this first, or two that end at once would each find the other still there."""
    db.execute(select(VOLUME.c.id).where(VOLUME.c.id == volume_id).with_for_update())


def settle(db: Connection, outside: Outside, volume_id: str) -> None:
    """Make the volume's statuses and its `attached_mode` those that its attachments say. Locks the volume's row; a
    volume that is gone is left."""
    hold_volume(db, volume_id)
    attachments = db.execute(
        select(ATTACHMENT.c.attach_status, ATTACHMENT.c.attach_mode)
        .where(ATTACHMENT.c.volume_id == volume_id)
        .order_by(ATTACHMENT.c.created_at, ATTACHMENT.c.id)
    ).all()
    status, attach_status = standing(row.attach_status for row in attachments)
    modes = [row.attach_mode for row in attachments if row.attach_status == AttachStatus.ATTACHED]
    _write(db, outside, volume_id, status, attach_status, mode=modes[0] if modes else None)


def show(db: Connection, outside: Outside, volume_id: str, status: VolumeStatus) -> None:
    """Make the volume say `reserved` or `attaching` for the newest of its attachments, whatever the others say; its
    attach status is that of all. The volume's row is locked by whoever calls."""
    statuses = db.scalars(select(ATTACHMENT.c.attach_status).where(ATTACHMENT.c.volume_id == volume_id)).all()
    _write(db, outside, volume_id, status, standing(statuses)[1])


def _write(
    db: Connection,
    outside: Outside,
    volume_id: str,
    status: VolumeStatus,
    attach_status: AttachStatus,
    **attached: str | None,
) -> None:
    row = db.execute(
        select(VOLUME.c.status, VOLUME.c.previous_status, VOLUME.c.admin_metadata).where(VOLUME.c.id == volume_id)
    ).first()
    if row is None:
        return
    values: dict[str, Any] = {"attach_status": attach_status.value, "updated_at": outside.now()}
    if row.status in GOVERNED:
        values["status"] = status.value
    elif row.previous_status in GOVERNED:
        values["previous_status"] = status.value
    known = row.admin_metadata.get("attached_mode")
    if attached and known is not None and attached["mode"] != known:
        left = {key: value for key, value in row.admin_metadata.items() if key != "attached_mode"}
        values["admin_metadata"] = left | ({"attached_mode": attached["mode"]} if attached["mode"] else {})
    db.execute(update(VOLUME).where(VOLUME.c.id == volume_id).values(**values))
