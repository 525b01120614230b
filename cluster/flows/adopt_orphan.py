"""`orphan.adopt`: see that the object is there and as large as its new row says, then call it available. No args."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete
from sqlmodel import col

from cluster.flows import orphan_subject, subjects
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.snapshots.records import Snapshot, SnapshotStatus
from cluster.volumes.records import Volume, VolumeStatus
from drivers.vocabulary import ObjectKind, SnapshotSpec

KIND = "orphan.adopt"


async def forward(run: Run) -> None:
    """One look at the backend, then both rows change together."""
    orphan = await run.read(lambda db: orphan_subject.orphan_row(db, run.entry.resource_id))
    is_volume = orphan["kind"] == ObjectKind.VOLUME

    def record(db: Connection, _result: Result) -> None:
        if is_volume:
            subjects.set_volume(db, run, status=VolumeStatus.AVAILABLE)
        else:
            subjects.set_snapshot(db, run, status=SnapshotStatus.AVAILABLE, progress="100%")
        orphan_subject.forget(db, run.entry.resource_id)

    await run.last_step("look", lambda: _look(run, orphan), record)


async def undo(run: Run, failure: Failure) -> None:
    """The row goes again; the object was not touched and stays an orphan."""

    def record(db: Connection) -> None:
        for table in (Snapshot, Volume):
            db.execute(delete(table).where(col(table.id) == run.entry.resource_id))

    await run.fail(failure, record)


async def _look(run: Run, orphan: Mapping[str, Any]) -> Result:
    backend = run.backend(orphan["host"])
    if orphan["kind"] == ObjectKind.VOLUME:
        volume = await run.read(lambda db: subjects.volume_row(db, orphan["id"]))
        return asdict(await backend.ensure_size(orphan["id"], volume["size_gib"]))
    snapshot = await run.read(lambda db: subjects.snapshot_row(db, orphan["id"]))
    spec = SnapshotSpec(orphan["id"], snapshot["volume_id"], snapshot["size_gib"])
    return asdict(await backend.ensure_snapshot(spec))


FLOW = Flow(KIND, ("look",), ("fail",), forward, undo)
