"""The one transaction behind each of the older attachment actions of a volume (`os-reserve` … `os-force_detach`).

As `intents`: each runs inside `store.write`; a `Work` is to be waited for with `cluster.journal.outcome.carry_out`.
Here an attachment has no connection of its own: `initialize` makes one for a consumer, `terminate` ends it.
Sources: state_machine §1, Cinder's sentences. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, update

from cluster.attachments import connections, queries
from cluster.attachments.guards import is_readonly, refuse_unmade
from cluster.attachments.letting_go import let_go
from cluster.attachments.queries import ATTACHMENT, AttachmentRow
from cluster.attachments.standing import GOVERNED, settle
from cluster.caller import Caller
from cluster.errors import InvalidInputError
from cluster.journal.outcome import Work
from cluster.outside import Outside
from cluster.volumes import queries as volumes
from cluster.volumes.intents import change_status
from cluster.volumes.queries import VOLUME
from cluster.volumes.records import AttachStatus, VolumeStatus
from cluster.volumes.refusals import invalid_input, invalid_volume
from drivers.vocabulary import AccessMode

_NOT_MIGRATING: Final = (None, "deleting", "error", "success")
_HOLDING: Final = (AttachStatus.ATTACHED, AttachStatus.ATTACHING, AttachStatus.RESERVED, AttachStatus.ERROR_DETACHING)


@dataclass(frozen=True, slots=True)
class Initialized:
    """The connection that `work` makes; its info is read with `queries.connection_info(db, connection_id)` after."""

    connection_id: str
    work: Work


def reserve_volume(db: Connection, outside: Outside, caller: Caller, volume_id: str) -> None:
    """os-reserve: available (multiattach: also in-use) becomes `attaching`. Raises NotFoundError, InvalidStateError."""
    volume = volumes.get(db, caller, volume_id, lock=True)
    free = [VolumeStatus.AVAILABLE, VolumeStatus.IN_USE] if volume["multiattach"] else [VolumeStatus.AVAILABLE]
    if volume["status"] not in free:
        raise invalid_volume(
            f"Volume status must be {' or '.join(free)} to reserve, but the status is {volume['status']}."
        )
    refuse_unmade(db, volume)
    change_status(db, outside, volume, {"status": VolumeStatus.ATTACHING.value})


def unreserve(db: Connection, outside: Outside, caller: Caller, volume_id: str) -> None:
    """os-unreserve: `attaching` becomes what the volume's attachments say (in-use or available); any other status
    stays. Raises NotFoundError."""
    volume = volumes.get(db, caller, volume_id, lock=True)
    if volume["status"] == VolumeStatus.ATTACHING:
        settle(db, outside, volume_id)


def begin_detaching(db: Connection, outside: Outside, caller: Caller, volume_id: str) -> None:
    """os-begin_detaching: in-use and attached becomes `detaching`; while the volume migrates, nothing is changed.
    Raises NotFoundError, InvalidStateError."""
    volume = volumes.get(db, caller, volume_id, lock=True)
    if volume["migration_status"] not in _NOT_MIGRATING:
        return
    if volume["status"] != VolumeStatus.IN_USE or volume["attach_status"] != AttachStatus.ATTACHED:
        raise invalid_volume(
            "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach."
        )
    change_status(db, outside, volume, {"status": VolumeStatus.DETACHING.value})


def roll_detaching(db: Connection, outside: Outside, caller: Caller, volume_id: str) -> None:
    """os-roll_detaching: `detaching` becomes in-use; any other status stays. Raises NotFoundError."""
    volume = volumes.get(db, caller, volume_id, lock=True)
    if volume["status"] == VolumeStatus.DETACHING:
        change_status(db, outside, volume, {"status": VolumeStatus.IN_USE.value})


def attach(
    db: Connection,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    *,
    instance_id: str | None,
    host_name: str | None,
    mountpoint: str,
    mode: str = "rw",
) -> None:
    """os-attach: a row that says `attached`, and the volume in-use. The same instance or host again changes nothing.

    Raises NotFoundError, InvalidStateError (400: maintenance or another status that allows no attachment, attached
    already), InvalidInputError (400: read-write of a read-only volume).
    """
    volume = volumes.get(db, caller, volume_id, lock=True)
    if volume["status"] == VolumeStatus.MAINTENANCE:
        raise invalid_volume("The volume cannot be attached in maintenance mode.")
    metadata = {"readonly": "False"} | volume["admin_metadata"]
    if metadata["readonly"] == "True" and mode != AccessMode.READ_ONLY:
        raise InvalidInputError(f"Invalid attaching mode '{mode}' for volume {volume_id}.")
    if volume["status"] == VolumeStatus.ATTACHING and metadata.get("attached_mode", mode) != mode:
        raise invalid_volume("being attached by different mode")
    refuse_unmade(db, volume)
    if volume["status"] not in GOVERNED:
        raise invalid_volume(
            f"Volume {volume_id} status must be available, attaching or in-use to attach, "
            f"but the current status is {volume['status']}."
        )
    there = queries.of_volumes(db, [volume_id]).get(volume_id, [])
    same = [each for each in there if _is_same(each, instance_id, host_name)]
    if not same:
        migrating = volume["migration_status"] is not None
        if not volume["multiattach"] and not migrating and any(each["attach_status"] in _HOLDING for each in there):
            raise invalid_volume("volume is already attached and multiple attachments are not enabled")
        now = outside.now()
        values: dict[str, Any] = {"id": outside.new_id(), "volume_id": volume_id, "project_id": volume["project_id"]}
        values |= {"user_id": caller.user_id, "instance_id": instance_id, "attached_host": host_name}
        values |= {"mountpoint": mountpoint, "attach_mode": mode, "attach_status": AttachStatus.ATTACHED.value}
        db.execute(insert(ATTACHMENT).values(**values, attached_at=now, created_at=now))
        metadata["attached_mode"] = mode
        db.execute(update(VOLUME).where(VOLUME.c.id == volume_id).values(admin_metadata=metadata))
    settle(db, outside, volume_id)


def detach(
    db: Connection, outside: Outside, caller: Caller, volume_id: str, *, attachment_id: str | None = None
) -> Work | None:
    """os-detach: the attachment goes (without an id: the only one) with its connection, and with the last one every
    connection that is left; without a connection at once (None). An attachment that is not there is no error.

    Raises NotFoundError (volume), InvalidStateError (maintenance; several, and no id), InvalidInputError (the
    attachment is another volume's).
    """
    volume = volumes.get(db, caller, volume_id, lock=True)
    if volume["status"] == VolumeStatus.MAINTENANCE:
        raise invalid_volume("The volume cannot be detached in maintenance mode.")
    return let_go(db, outside, caller, volume_id, _chosen(db, volume_id, attachment_id))


def force_detach(
    db: Connection,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    *,
    attachment_id: str | None = None,
    connector: Mapping[str, Any] | None = None,
) -> Work | None:
    """os-force_detach: as `detach`, whatever the status, and with the connection of the connector's consumer.

    Raises NotFoundError (volume), InvalidStateError (several, and no id), InvalidInputError (another volume's
    attachment; a connector that names nobody).
    """
    volumes.get(db, caller, volume_id, lock=True)
    also: tuple[str, ...] = ()
    if connector:
        connection_id = connections.connection_of(volume_id, connections.consumer_of(connector))
        also = (connection_id,) if connections.is_there(db, connection_id) else ()
    return let_go(db, outside, caller, volume_id, _chosen(db, volume_id, attachment_id), also=also)


def initialize(
    db: Connection, outside: Outside, caller: Caller, volume_id: str, connector: Mapping[str, Any]
) -> Initialized:
    """os-initialize_connection: open `connection.open` for the connector's consumer. A repeat gives the same
    connection. The volume's status stays; the mode is that of `os-attach` before, else `ro` for a read-only volume,
    else `rw`.

    Raises NotFoundError, InvalidStateError (400: maintenance, being made or deleted), InvalidInputError (a connector
    that names nobody).
    """
    volume = volumes.get(db, caller, volume_id, lock=True)
    if volume["status"] == VolumeStatus.MAINTENANCE:
        raise invalid_volume("The volume connection cannot be initialized in maintenance mode.")
    refuse_unmade(db, volume)
    consumer = connections.consumer_of(connector)
    connection_id = connections.connection_of(volume_id, consumer)
    otherwise = AccessMode.READ_ONLY if is_readonly(volume) else AccessMode.READ_WRITE
    mode = volume["admin_metadata"].get("attached_mode") or otherwise.value
    work = connections.open_connection(
        db,
        outside,
        caller,
        connection_id=connection_id,
        volume_id=volume_id,
        consumer=consumer,
        connector=connector,
        mode=mode,
    )
    return Initialized(connection_id, work)


def terminate(
    db: Connection,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    connector: Mapping[str, Any] | None,
) -> Work | None:
    """os-terminate_connection: open `connection.close` for the connector's consumer (None: for all consumers of the
    older flow); None when there is no such connection. A volume that says `attaching` is unreserved, as by
    `unreserve`; any other status stays. Raises NotFoundError, InvalidInputError (a connector that names nobody)."""
    volumes.get(db, caller, volume_id, lock=True)
    ending = connections.unattached(db, volume_id)
    if connector is not None:
        connection_id = connections.connection_of(volume_id, connections.consumer_of(connector))
        ending = [each for each in ending if each == connection_id]
    unreserve(db, outside, caller, volume_id)
    if not ending:
        return None
    return connections.close_connections(db, outside, caller, volume_id, ending, settles=False)


def _is_same(attachment: AttachmentRow, instance_id: str | None, host_name: str | None) -> bool:
    if instance_id:
        return attachment["instance_id"] == instance_id
    return attachment["attached_host"] == host_name


def _chosen(db: Connection, volume_id: str, attachment_id: str | None) -> str | None:
    """The attachment that is meant: the one named if it is there, else the only one, else None."""
    there = queries.of_volumes(db, [volume_id]).get(volume_id, [])
    if attachment_id is None:
        if len(there) > 1:
            raise invalid_volume("Detach volume failed: More than one attachment, but no attachment_id provided.")
        return there[0]["id"] if there else None
    if any(each["id"] == attachment_id for each in there):
        return attachment_id
    if db.execute(ATTACHMENT.select().where(ATTACHMENT.c.id == attachment_id)).first() is not None:
        raise invalid_input("Mismatched volume and attachment")
    return None
