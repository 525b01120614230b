"""`volume.delete`: end connections that are left, remove the snapshots that go with it, the volume, the rows.

Args: `snapshots`, the ids that a cascade takes along (their rows are `deleting` since the request).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlmodel import col

from cluster.attachments.records import Attachment, VolumeConnection
from cluster.flows import subjects
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.messages.catalogue import Action, Detail
from cluster.snapshots.records import Snapshot, SnapshotStatus
from cluster.volumes.records import Volume, VolumeStatus
from drivers.vocabulary import SnapshotSpec

KIND = "volume.delete"


async def forward(run: Run) -> None:
    """Remove the bytes, then the rows: a crash between leaves rows that still say `deleting`."""
    volume = await run.read(lambda db: subjects.volume_row(db, run.entry.resource_id))
    connections = await run.read(lambda db: _connections(db, run.entry.resource_id))
    snapshots: list[str] = list(run.entry.args.get("snapshots") or [])

    def rows(db: Connection, _result: Result) -> None:
        db.execute(delete(Snapshot).where(col(Snapshot.id).in_(snapshots)))
        db.execute(delete(VolumeConnection).where(col(VolumeConnection.volume_id) == run.entry.resource_id))
        db.execute(delete(Attachment).where(col(Attachment.volume_id) == run.entry.resource_id))
        db.execute(delete(Volume).where(col(Volume.id) == run.entry.resource_id))

    if connections:
        await run.step("disconnect", lambda: _disconnect(run, volume, connections))
    if snapshots:
        await run.step("remove-snapshots", lambda: _remove_snapshots(run, volume, snapshots))
    await run.last_step("remove", lambda: _remove(run, volume), rows)
    await run.context.ports.scheduler.release(run.entry.resource_id)


async def undo(run: Run, failure: Failure) -> None:
    """Nothing is taken back: the volume is busy and stays available, or says `error_deleting`."""
    snapshots: list[str] = list(run.entry.args.get("snapshots") or [])
    busy = failure.error == "InUseError"

    def record(db: Connection) -> None:
        before = subjects.volume_row(db, run.entry.resource_id)["previous_status"]
        status = (before or VolumeStatus.AVAILABLE) if busy else VolumeStatus.ERROR_DELETING
        subjects.set_volume(db, run, status=status, previous_status=None)
        db.execute(
            update(Snapshot)
            .where(col(Snapshot.id).in_(snapshots))
            .values(status=SnapshotStatus.ERROR_DELETING, updated_at=run.context.outside.now())
        )
        subjects.explain(db, run, failure, Action.DELETE_VOLUME, Detail.UNKNOWN_ERROR)

    await run.fail(failure, record)


def _connections(db: Connection, volume_id: str) -> list[str]:
    return list(db.scalars(select(col(VolumeConnection.id)).where(col(VolumeConnection.volume_id) == volume_id)))


async def _disconnect(run: Run, volume: Mapping[str, Any], connections: list[str]) -> Result:
    if volume["host"]:
        backend = run.backend(volume["host"])
        for connection_id in connections:
            await backend.ensure_connection_absent(connection_id, volume["id"])
    return {}


async def _remove_snapshots(run: Run, volume: Mapping[str, Any], snapshots: list[str]) -> Result:
    if volume["host"]:
        backend = run.backend(volume["host"])
        for snapshot_id in snapshots:
            await backend.ensure_snapshot_absent(SnapshotSpec(snapshot_id, volume["id"], volume["size_gib"]))
    return {}


async def _remove(run: Run, volume: Mapping[str, Any]) -> Result:
    if volume["host"]:
        await run.backend(volume["host"]).ensure_volume_absent(volume["id"])
    return {}


FLOW = Flow(KIND, ("disconnect", "remove-snapshots", "remove"), ("fail",), forward, undo)
