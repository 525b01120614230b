"""The one transaction behind a volume's create and extend (delete: `deletion`): checks, status, operation.

Each function runs inside `store.write`. It locks the rows it depends on, checks them, and changes them only on the
condition that they are still as checked; on SQLite there is one writer at a time anyway. Whoever calls it rings the
conductor after the commit. A crash after the commit and before the ring is found by the conductor's poll.

Sources: state_machine §1 (states), Cinder's sentences. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from sqlalchemy import Connection, insert, update

from cluster.caller import Caller
from cluster.errors import ForbiddenError, InvalidStateError
from cluster.journal.intents import open_operation, refuse_while_live
from cluster.outside import Outside
from cluster.quotas.usage import Claim, check
from cluster.settings import Settings
from cluster.snapshots import queries as snapshots
from cluster.snapshots.records import SnapshotStatus
from cluster.volumes import choices, queries
from cluster.volumes.queries import VOLUME, VolumeRow
from cluster.volumes.records import AttachStatus, VolumeStatus
from cluster.volumes.refusals import invalid_input, invalid_snapshot, invalid_volume

_COPYABLE: Final = (VolumeStatus.AVAILABLE, VolumeStatus.IN_USE)


@dataclass(frozen=True, slots=True)
class NewVolume:
    """What a create asks for. `size_gib` and `volume_type` (id or name) None: taken from the source or the default.
    `multiattach_permitted`: whether the caller may have a volume of a multiattach type."""

    size_gib: int | None = None
    name: str | None = None
    description: str | None = None
    volume_type: str | None = None
    availability_zone: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    snapshot_id: str | None = None
    source_volid: str | None = None
    hints: Mapping[str, object] = field(default_factory=dict)
    multiattach_permitted: bool = True


@dataclass(frozen=True, slots=True)
class _Source:
    """What a volume is copied from: `origin` is the volume itself or the volume the snapshot is of."""

    kind: str
    size_gib: int
    volume_type_id: str | None
    origin: VolumeRow
    argument: dict[str, str]


def create(db: Connection, settings: Settings, outside: Outside, caller: Caller, wanted: NewVolume) -> VolumeRow:
    """Write the volume as `creating` and open `volume.create`; return its row.

    Raises NotFoundError (type, source), InvalidInputError (size, zone), InvalidStateError (source), OverQuotaError,
    ForbiddenError (multiattach), DefaultTypeMissingError.
    """
    asked = choices.asked_type(db, caller, wanted.volume_type) if wanted.volume_type else None
    source = _source(db, caller, wanted)
    size_gib = _size(wanted, source)
    if asked and source and (origin_type := choices.type_of(db, source.volume_type_id)):
        choices.check_compatible(asked, origin_type, source.kind)
    choice = asked or (choices.type_of(db, source.volume_type_id) if source else None)
    choice = choice or choices.default_type(db, settings, caller)
    choice.check_size(size_gib)
    if choice.multiattach and not wanted.multiattach_permitted:
        raise ForbiddenError("Policy doesn't allow volume:multiattach to be performed.")
    of_source = (source.kind, source.origin["availability_zone"]) if source else None
    zone = choices.zone_of(db, settings, wanted.availability_zone, of_source, choice)
    claim = Claim(volumes=1, gigabytes=size_gib, volume_type_id=choice.id, size_gib=size_gib)
    check(db, settings.quotas, caller.project_id, claim)
    volume_id = outside.new_id()
    values: dict[str, Any] = {
        "id": volume_id,
        "project_id": caller.project_id,
        "user_id": caller.user_id,
        "name": wanted.name,
        "description": wanted.description,
        "size_gib": size_gib,
        "status": VolumeStatus.CREATING.value,
        "attach_status": AttachStatus.DETACHED.value,
        "availability_zone": zone,
        "volume_type_id": choice.id,
        "snapshot_id": wanted.snapshot_id,
        "source_volid": wanted.source_volid,
        "bootable": bool(source and source.origin["bootable"]),
        "encrypted": False,
        "multiattach": choice.multiattach,
        "user_metadata": dict(wanted.metadata),
        "admin_metadata": {},
        "image_metadata": source.origin["image_metadata"] if source else None,
        "consumes_quota": True,
        "created_at": outside.now(),
    }
    db.execute(insert(VOLUME).values(values))
    arguments: dict[str, Any] = {"source": source.argument if source else None, "hints": dict(wanted.hints)}
    if wanted.hints and caller.is_admin:
        arguments["is_admin"] = True
    open_operation(db, outside, caller, "volume.create", volume_id, arguments)
    absent: dict[str, Any] = dict.fromkeys(VolumeRow.__annotations__)
    return cast(VolumeRow, absent | values | {"volume_type_name": choice.name})


def extend(
    db: Connection,
    settings: Settings,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    size_gib: int,
    *,
    in_use: bool = False,
    in_use_permitted: bool = True,
) -> None:
    """Set the volume `extending` to `size_gib` and open `volume.extend`. `in_use`: the request may extend an attached
    volume; `in_use_permitted`: the caller may.

    Raises NotFoundError, InvalidInputError (size), InvalidStateError, ForbiddenError, OverQuotaError.
    """
    row = queries.get(db, caller, volume_id, lock=True)
    status, old_gib = row["status"], row["size_gib"]
    if size_gib <= old_gib:
        raise invalid_input(
            f"New size for extend must be greater than current size. (current: {old_gib}, extended: {size_gib})."
        )
    choice = choices.type_of(db, row["volume_type_id"])
    if choice is not None:
        choice.check_size(size_gib)
    expected = VolumeStatus.IN_USE if in_use and status == VolumeStatus.IN_USE else VolumeStatus.AVAILABLE
    if status != expected:
        raise invalid_volume(f"Volume {volume_id} status must be '{expected}' to extend, currently {status}.")
    if expected is VolumeStatus.IN_USE and not in_use_permitted:
        raise ForbiddenError("Policy doesn't allow volume:extend_attached_volume to be performed.")
    if row["consumes_quota"]:
        claim = Claim(gigabytes=size_gib - old_gib, volume_type_id=row["volume_type_id"], size_gib=size_gib)
        check(db, settings.quotas, row["project_id"], claim)
    changes = {"status": VolumeStatus.EXTENDING.value, "previous_status": status, "target_size_gib": size_gib}
    change_status(db, outside, row, changes)
    open_operation(db, outside, caller, "volume.extend", volume_id, {"size_gib": size_gib, "from_gib": old_gib})


def change_status(db: Connection, outside: Outside, row: VolumeRow, changes: Mapping[str, object]) -> None:
    """Make the changes if the volume still has the status it was read with. Raises InvalidStateError."""
    statement = update(VOLUME).where(VOLUME.c.id == row["id"], VOLUME.c.status == row["status"])
    if db.execute(statement.values(**changes, updated_at=outside.now())).rowcount != 1:
        raise InvalidStateError(f"Invalid volume: Volume {row['id']} has just changed; look again and retry.")


def _source(db: Connection, caller: Caller, wanted: NewVolume) -> _Source | None:
    if wanted.snapshot_id is not None:
        snapshot = snapshots.get(db, caller, wanted.snapshot_id, lock=True)
        if wanted.source_volid is not None:
            queries.get(db, caller, wanted.source_volid)
            raise invalid_input("May specify only one of backup, imageRef, snapshot, source volume")
        if snapshot["status"] != SnapshotStatus.AVAILABLE:
            raise invalid_snapshot("Originating snapshot status must be one of 'available' values")
        # A cascade removes snapshots under the operation of their volume.
        refuse_while_live(db, "snapshot", [snapshot["id"]])
        refuse_while_live(db, "snapshot", [snapshot["volume_id"]], "volume.delete")
        origin = queries.rows(db.execute(queries.ONE, {"id": snapshot["volume_id"]}))[0]
        argument = {"snapshot_id": snapshot["id"], "volume_id": snapshot["volume_id"]}
        return _Source("snapshot", snapshot["size_gib"], snapshot["volume_type_id"], origin, argument)
    if wanted.source_volid is not None:
        origin = queries.get(db, caller, wanted.source_volid, lock=True)
        if origin["status"] not in _COPYABLE:
            raise invalid_volume("Originating source volume status must be one of 'available, in-use' values")
        refuse_while_live(db, "volume", [origin["id"]])
        argument = {"volume_id": origin["id"]}
        return _Source("source volume", origin["size_gib"], origin["volume_type_id"], origin, argument)
    return None


def _size(wanted: NewVolume, source: _Source | None) -> int:
    size_gib = wanted.size_gib if wanted.size_gib is not None else (source.size_gib if source else None)
    if size_gib is None or size_gib <= 0:
        raise invalid_input(f"Volume size '{size_gib}' must be an integer and greater than 0")
    if source is not None and size_gib < source.size_gib:
        if source.kind == "snapshot":
            raise invalid_input(
                f"Volume size '{size_gib}'GB cannot be smaller than the snapshot size {source.size_gib}GB. "
                "They must be >= original snapshot size."
            )
        raise invalid_input(
            f"Volume size '{size_gib}'GB cannot be smaller than original volume size {source.size_gib}GB. "
            "They must be >= original volume size."
        )
    return size_gib
