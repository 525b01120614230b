"""What flows read and write of the resources they work on.

GoneError   the resource's row is not there any more; its operation has nothing left to do
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update
from sqlmodel import col

from cluster.flows.run import Failure, Run
from cluster.messages.catalogue import Action, Detail, ResourceType
from cluster.messages.intents import tell
from cluster.snapshots.records import Snapshot
from cluster.volume_types.records import VolumeType
from cluster.volumes.records import Volume
from drivers.vocabulary import SnapshotSpec, VolumeSpec


class GoneError(Exception):
    """The resource's row is not there any more."""


def volume_row(db: Connection, volume_id: str) -> Mapping[str, Any]:
    """The volume with its type's `extra_specs` and `type_name`. Raises GoneError."""
    row: Any = db.execute(
        select(Volume.__table__, col(VolumeType.extra_specs), col(VolumeType.name).label("type_name"))  # type: ignore[attr-defined]
        .outerjoin(VolumeType, col(VolumeType.id) == col(Volume.volume_type_id))
        .where(col(Volume.id) == volume_id)
    ).first()
    if row is None:
        raise GoneError(f"volume {volume_id} has no row")
    return dict(row._mapping)  # plain: a row of SQLAlchemy also answers to `volume_id` for volume.id


def snapshot_row(db: Connection, snapshot_id: str) -> Mapping[str, Any]:
    """The snapshot with the `host` of its volume. Raises GoneError."""
    row: Any = db.execute(
        select(Snapshot.__table__, col(Volume.host))  # type: ignore[attr-defined]
        .join(Volume, col(Volume.id) == col(Snapshot.volume_id))
        .where(col(Snapshot.id) == snapshot_id)
    ).first()
    if row is None:
        raise GoneError(f"snapshot {snapshot_id} has no row")
    return dict(row._mapping)  # plain: a row of SQLAlchemy also answers to `volume_id` for volume.id


def hosts_of(db: Connection, volume_ids: list[str], project_id: str | None) -> dict[str, str]:
    """Where those of the volumes live that are placed; with `project_id` only that project's: a hint must not tell
    where, or whether, a stranger's volume is."""
    placed = select(col(Volume.id), col(Volume.host)).where(
        col(Volume.id).in_(volume_ids), col(Volume.host).is_not(None)
    )
    rows = db.execute(placed if project_id is None else placed.where(col(Volume.project_id) == project_id))
    return {row.id: row.host for row in rows}


def set_volume(db: Connection, run: Run, **values: Any) -> None:
    """Change the run's volume."""
    db.execute(
        update(Volume)
        .where(col(Volume.id) == run.entry.resource_id)
        .values(updated_at=run.context.outside.now(), **values)
    )


def set_snapshot(db: Connection, run: Run, **values: Any) -> None:
    """Change the run's snapshot."""
    db.execute(
        update(Snapshot)
        .where(col(Snapshot.id) == run.entry.resource_id)
        .values(updated_at=run.context.outside.now(), **values)
    )


def volume_spec(row: Mapping[str, Any]) -> VolumeSpec:
    """The volume as the driver is to have it."""
    return VolumeSpec(id=row["id"], size_gib=row["size_gib"])


def snapshot_spec(row: Mapping[str, Any]) -> SnapshotSpec:
    """The snapshot as the driver is to have it."""
    return SnapshotSpec(id=row["id"], volume_id=row["volume_id"], size_gib=row["size_gib"])


_DETAILS = {
    "NoPlacementError": Detail.NO_BACKEND_AVAILABLE,
    "BackendUnavailableError": Detail.DRIVER_NOT_INITIALIZED,
}


def explain(
    db: Connection,
    run: Run,
    failure: Failure,
    action: Action,
    detail: Detail,
    kind: ResourceType = ResourceType.VOLUME,
    resource_id: str | None = None,
) -> None:
    """Leave the user a message: what failed, and why in words. `resource_id` None: the run's resource."""
    tell(
        db,
        run.context.outside,
        run.context.settings.timing.message_life,
        project_id=run.entry.project_id,
        request_id=run.entry.request_id,
        action=Action.SCHEDULE_ALLOCATE_VOLUME if failure.error == "NoPlacementError" else action,
        detail=_DETAILS.get(failure.error, detail),
        resource_type=kind,
        resource_id=resource_id or run.entry.resource_id,
        reason=failure.message,
    )
