"""`snapshot.delete`: remove the snapshot, then its row. No args."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete
from sqlmodel import col

from cluster.flows import subjects
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.messages.catalogue import Action, Detail, ResourceType
from cluster.snapshots.records import Snapshot, SnapshotStatus

KIND = "snapshot.delete"


async def forward(run: Run) -> None:
    """Bytes first, row last."""
    snapshot = await run.read(lambda db: subjects.snapshot_row(db, run.entry.resource_id))

    def record(db: Connection, _result: Result) -> None:
        db.execute(delete(Snapshot).where(col(Snapshot.id) == run.entry.resource_id))

    await run.last_step("remove", lambda: _remove(run, snapshot), record)


async def undo(run: Run, failure: Failure) -> None:
    """A busy snapshot stays available; any other failure says `error_deleting`."""
    busy = failure.error == "InUseError"

    def record(db: Connection) -> None:
        subjects.set_snapshot(db, run, status=SnapshotStatus.AVAILABLE if busy else SnapshotStatus.ERROR_DELETING)
        detail = Detail.SNAPSHOT_IS_BUSY if busy else Detail.SNAPSHOT_DELETE_ERROR
        subjects.explain(db, run, failure, Action.SNAPSHOT_DELETE, detail, ResourceType.SNAPSHOT)

    await run.fail(failure, record)


async def _remove(run: Run, snapshot: Mapping[str, Any]) -> Result:
    if snapshot["host"]:
        await run.backend(snapshot["host"]).ensure_snapshot_absent(subjects.snapshot_spec(snapshot))
    return {}


FLOW = Flow(KIND, ("remove",), ("fail",), forward, undo)
