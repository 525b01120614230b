"""The one transaction behind an API write on attachments (the older actions: `actions`).

Each function runs inside `store.write`, locks the volume's row first, checks, writes. Where an export must act, it
opens `connection.open` or `connection.close` and returns a `Work`: whoever calls it rings the conductor after the
commit and waits (`cluster.journal.outcome.carry_out` does both). Sources: state_machine §1, §2, Cinder's sentences.
Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, update

from cluster.attachments import connections, queries
from cluster.attachments.connections import CLOSE
from cluster.attachments.guards import is_readonly, refuse_unmade
from cluster.attachments.letting_go import let_go
from cluster.attachments.queries import ATTACHMENT, AttachmentRow
from cluster.attachments.standing import settle, show
from cluster.caller import Caller
from cluster.errors import ConflictError, ForbiddenError
from cluster.journal.intents import live_operation
from cluster.journal.outcome import Work
from cluster.outside import Outside
from cluster.volumes import queries as volumes
from cluster.volumes.queries import VolumeRow
from cluster.volumes.records import AttachStatus, VolumeStatus
from cluster.volumes.refusals import invalid_volume
from drivers.vocabulary import AccessMode

# An instance that has the volume may have it a second time while it moves to another host.
_MOVABLE: Final = (VolumeStatus.IN_USE, VolumeStatus.RESERVED)
_CONNECTED: Final = (AttachStatus.ATTACHING, AttachStatus.ATTACHED, AttachStatus.ERROR_DETACHING)


@dataclass(frozen=True, slots=True)
class Reserved:
    """A new attachment, and with a connector the operation that makes its connection."""

    attachment: AttachmentRow
    work: Work | None


def reserve(
    db: Connection,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    *,
    instance_id: str | None = None,
    connector: Mapping[str, Any] | None = None,
    mode: str | None = None,
    bootable_permitted: bool = True,
) -> Reserved:
    """POST /attachments. The volume and the new attachment say `reserved`; with a connector both say `attaching` and
    `connection.open` is opened. `mode` is `rw`, `ro` or None (what the connector says then, else `rw`); a read-only
    volume is attached `ro` whatever was asked. `bootable_permitted`: the policy
    volume:multiattach_bootable_volume lets the caller pass.

    The attachment belongs to the project of the volume. Raises NotFoundError (volume), InvalidStateError (400),
    InvalidInputError (the connector's mode), ForbiddenError.
    """
    volume = volumes.get(db, caller, volume_id, lock=True)
    status = volume["status"]
    if "error" in status:
        raise invalid_volume(
            "Volume attachments can not be created if the volume is in an error state. "
            f"The Volume {volume_id} currently has a status of: {status} "
        )
    if volume["multiattach"] and status == VolumeStatus.IN_USE and volume["bootable"] and not bootable_permitted:
        raise ForbiddenError("Policy doesn't allow volume:multiattach_bootable_volume to be performed.")
    refuse_unmade(db, volume)
    free = [VolumeStatus.AVAILABLE, VolumeStatus.IN_USE] if volume["multiattach"] else [VolumeStatus.AVAILABLE]
    if status in free:
        taken = True
    elif status in _MOVABLE and instance_id and instance_id in _instances(db, volume_id):
        taken = False
    else:
        raise invalid_volume(
            f"Volume {volume_id} status must be {' or '.join(free)} to reserve, but the current status is {status}."
        )
    wanted = AccessMode.READ_ONLY.value if is_readonly(volume) else mode
    values: dict[str, Any] = dict.fromkeys(ATTACHMENT.c.keys()) | {
        "id": outside.new_id(),
        "volume_id": volume_id,
        "project_id": volume["project_id"],
        "user_id": caller.user_id,
        "instance_id": instance_id,
        "attach_mode": wanted,
        "attach_status": AttachStatus.RESERVED.value,
        "created_at": outside.now(),
    }
    db.execute(insert(ATTACHMENT).values(**values))
    if taken:
        show(db, outside, volume_id, VolumeStatus.RESERVED)
    work = None if not connector else _connect(db, outside, caller, volume, values["id"], wanted, connector)
    return Reserved(queries.get(db, caller, values["id"]), work)


def connect(db: Connection, outside: Outside, caller: Caller, attachment_id: str, connector: Mapping[str, Any]) -> Work:
    """PUT /attachments/{id}. Attachment and volume say `attaching`, `connection.open` is opened. A repeat with the
    same connector while that is under way gives its operation; with another connector, the operation to wait for
    before the same call is made again. The same connector once more on what is attached leaves it attached.

    Raises NotFoundError, ConflictError (409: volume in error, or another attachment is connected),
    InvalidInputError (the connector's mode), InvalidStateError (400: the volume is being deleted).
    """
    volume, attachment = _locked(db, caller, attachment_id)
    if "error" in volume["status"]:
        raise _conflict(
            "Volume attachments can not be updated if the volume is in an error state. "
            f"The Volume {volume['id']} currently has a status of: {volume['status']} "
        )
    refuse_unmade(db, volume)
    others = [each for each in _attachments(db, volume["id"]) if each["id"] != attachment_id]
    if not volume["multiattach"] and any(each["attach_status"] in _CONNECTED for each in others):
        raise _conflict(f"duplicate connectors detected on volume {volume['id']}")
    known = attachment["connector"] == dict(connector) and attachment["attach_status"] == AttachStatus.ATTACHED
    if known and live_operation(db, attachment_id) is None:
        mode = attachment["attach_mode"] or AccessMode.READ_WRITE.value
        return _open(db, outside, caller, volume["id"], attachment_id, mode, connector)
    return _connect(db, outside, caller, volume, attachment_id, attachment["attach_mode"], connector)


def complete(db: Connection, outside: Outside, caller: Caller, attachment_id: str) -> None:
    """POST /attachments/{id}/action os-complete. Attachment `attached`, volume `in-use`. Safe to repeat.

    Cinder asks nothing of the states; here an attachment whose connection failed, or is being made or ended right
    now, is refused: its consumer can have nothing in hand. Raises NotFoundError, InvalidStateError.
    """
    volume, attachment = _locked(db, caller, attachment_id)
    refuse_unmade(db, volume)
    if attachment["attach_status"] == AttachStatus.ERROR_ATTACHING:
        raise invalid_volume(f"attachment {attachment_id} could not be connected; update it or delete it.")
    live = live_operation(db, attachment_id)
    if live is not None and (live.kind == CLOSE or attachment["connection_info"] is None):
        raise invalid_volume(f"attachment {attachment_id} is being connected or disconnected; try again after that.")
    changes = {"attach_status": AttachStatus.ATTACHED.value, "updated_at": outside.now()}
    changes["attached_at"] = attachment["attached_at"] or changes["updated_at"]
    db.execute(update(ATTACHMENT).where(ATTACHMENT.c.id == attachment_id).values(**changes))
    settle(db, outside, volume["id"])


def disconnect(db: Connection, outside: Outside, caller: Caller, attachment_id: str) -> Work | None:
    """DELETE /attachments/{id}. Without a connection the attachment's row goes at once and None is returned; else
    `connection.close` is opened, whose end removes it. A repeat gives the operation that is under way.

    Whether the deletion is allowed by Nova's side (409 without a service token) is the wire's question.
    Raises NotFoundError.
    """
    volume, attachment = _locked(db, caller, attachment_id)
    return let_go(db, outside, caller, volume["id"], attachment["id"])


def _locked(db: Connection, caller: Caller, attachment_id: str) -> tuple[VolumeRow, AttachmentRow]:
    """The attachment and its volume, whose row is held: nobody else changes either until the transaction ends."""
    volume_id = queries.get(db, caller, attachment_id)["volume_id"]
    volume = volumes.get(db, caller, volume_id, lock=True)
    return volume, queries.get(db, caller, attachment_id)


def _attachments(db: Connection, volume_id: str) -> list[AttachmentRow]:
    return queries.of_volumes(db, [volume_id]).get(volume_id, [])


def _instances(db: Connection, volume_id: str) -> set[str | None]:
    return {each["instance_id"] for each in _attachments(db, volume_id)}


def _connect(
    db: Connection,
    outside: Outside,
    caller: Caller,
    volume: VolumeRow,
    attachment_id: str,
    wanted: str | None,
    connector: Mapping[str, Any],
) -> Work:
    """Open the connection and let attachment and volume say so, unless something else is to be waited for first."""
    asked = connections.access_mode(connector)
    mode = AccessMode.READ_ONLY.value if is_readonly(volume) else wanted or asked or AccessMode.READ_WRITE.value
    work = _open(db, outside, caller, volume["id"], attachment_id, mode, connector)
    if not work.again:
        changes: dict[str, Any] = {
            "attach_status": AttachStatus.ATTACHING.value,
            "attach_mode": mode,
            "connector": dict(connector),
            "attached_host": str(connector.get("host") or ""),
            "mountpoint": str(connector.get("mountpoint") or "na"),
            "updated_at": outside.now(),
        }
        if queries.connection_info(db, attachment_id) is None:
            changes["connection_info"] = None  # what it said before is true no more
        db.execute(update(ATTACHMENT).where(ATTACHMENT.c.id == attachment_id).values(**changes))
        show(db, outside, volume["id"], VolumeStatus.ATTACHING)
    return work


def _open(
    db: Connection,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    attachment_id: str,
    mode: str,
    connector: Mapping[str, Any],
) -> Work:
    return connections.open_connection(
        db,
        outside,
        caller,
        connection_id=attachment_id,
        volume_id=volume_id,
        consumer=f"attachment:{attachment_id}",
        connector=connector,
        mode=mode,
    )


def _conflict(reason: str) -> ConflictError:
    return ConflictError(f"Resource conflict: {reason}")
