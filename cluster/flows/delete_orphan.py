"""`orphan.delete`: remove an object that no row stands for, because a person said so. No args."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from cluster.flows import orphan_subject
from cluster.flows.run import Failure, Flow, Result, Run
from drivers.vocabulary import GIB, InUseError, ObjectKind, SnapshotSpec

KIND = "orphan.delete"


async def forward(run: Run) -> None:
    """Bytes first, row last."""
    orphan = await run.read(lambda db: orphan_subject.orphan_row(db, run.entry.resource_id))

    def record(db: Connection, _result: Result) -> None:
        orphan_subject.forget(db, run.entry.resource_id)

    await run.last_step("remove", lambda: _remove(run, orphan), record)


async def undo(run: Run, failure: Failure) -> None:
    """The orphan stays listed; the operation says why it could not be removed."""
    await run.fail(failure, lambda _db: None)


async def _remove(run: Run, orphan: Mapping[str, Any]) -> Result:
    if await run.read(lambda db: orphan_subject.has_row(db, orphan["id"])):
        raise InUseError(f"{orphan['kind']} {orphan['id']} has a row by now: it is no orphan")
    backend = run.backend(orphan["host"])
    if orphan["kind"] == ObjectKind.VOLUME:
        await backend.ensure_volume_absent(orphan["id"])
    else:
        size_gib = max(1, orphan["size_bytes"] // GIB)
        await backend.ensure_snapshot_absent(SnapshotSpec(orphan["id"], orphan["parent_id"] or orphan["id"], size_gib))
    return {}


FLOW = Flow(KIND, ("remove",), ("fail",), forward, undo)
