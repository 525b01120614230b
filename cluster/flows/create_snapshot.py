"""`snapshot.create`: take the snapshot in the pool of its volume. No args."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from cluster.flows import subjects
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.messages.catalogue import Action, Detail, ResourceType
from cluster.snapshots.records import SnapshotStatus

KIND = "snapshot.create"


async def forward(run: Run) -> None:
    """One step: the driver makes the copy, and the row says so."""
    snapshot = await run.read(lambda db: subjects.snapshot_row(db, run.entry.resource_id))

    def record(db: Connection, _result: Result) -> None:
        subjects.set_snapshot(db, run, status=SnapshotStatus.AVAILABLE, progress="100%")

    await run.last_step("take", lambda: _take(run, snapshot), record)


async def undo(run: Run, failure: Failure) -> None:
    """Take back what may have been made; the snapshot says `error`."""
    snapshot = await run.read(lambda db: subjects.snapshot_row(db, run.entry.resource_id))
    await run.step("retract", lambda: _retract(run, snapshot))

    def record(db: Connection) -> None:
        subjects.set_snapshot(db, run, status=SnapshotStatus.ERROR)
        subjects.explain(db, run, failure, Action.SNAPSHOT_CREATE, Detail.SNAPSHOT_CREATE_ERROR, ResourceType.SNAPSHOT)

    await run.fail(failure, record)


async def _take(run: Run, snapshot: Mapping[str, Any]) -> Result:
    return asdict(await run.backend(snapshot["host"]).ensure_snapshot(subjects.snapshot_spec(snapshot)))


async def _retract(run: Run, snapshot: Mapping[str, Any]) -> Result:
    await run.backend(snapshot["host"]).ensure_snapshot_absent(subjects.snapshot_spec(snapshot))
    return {}


FLOW = Flow(KIND, ("take",), ("retract", "fail"), forward, undo)
