"""`orphan.delete`: remove an object that no row stands for, because a person said so. No args.

A stray has a row of its id, which places its own object elsewhere. It is removed only if that one is seen there now.
While this operation is live, no other on the volume or snapshot of that id is: what was seen stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from cluster.flows import orphan_subject
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.reconcile.standing import Standing, standing_of
from cluster.scheduling.host_name import service_of
from drivers.vocabulary import GIB, BackendUnavailableError, InUseError, ObjectKind, SnapshotSpec, UncertainError

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
    standing = await run.read(lambda db: standing_of(db, orphan["id"]))
    if standing is not None:
        await _see_that_it_is_a_stray(run, orphan, standing)
    backend = run.backend(orphan["host"])
    if orphan["kind"] == ObjectKind.VOLUME:
        await backend.ensure_volume_absent(orphan["id"])
    else:
        size_gib = max(1, orphan["size_bytes"] // GIB)
        await backend.ensure_snapshot_absent(SnapshotSpec(orphan["id"], orphan["parent_id"] or orphan["id"], size_gib))
    return {}


async def _see_that_it_is_a_stray(run: Run, orphan: Mapping[str, Any], standing: Standing) -> None:
    """Raise InUseError unless the row of this id has its own object in another pool, or none anywhere. Raises
    RetryableError while that cannot be seen."""
    what, elsewhere = f"{orphan['kind']} {orphan['id']}", standing.host
    if standing.kind != orphan["kind"] or elsewhere == orphan["host"]:
        raise InUseError(f"{what} has a row that says it is in {orphan['host']}: it is no orphan")
    if elsewhere is None:
        return
    try:
        inventory = await run.context.ports.inventory(service_of(elsewhere), epoch=run.epoch)
    except UncertainError as error:  # to look does nothing: a refusal, not an outcome that is not known
        raise BackendUnavailableError(f"{elsewhere} was not seen: {error}") from error
    if not standing.is_among(service_of(elsewhere), inventory):
        raise InUseError(
            f"{what} has a row that says it is in {elsewhere}, and it is not there: the object in {orphan['host']} may "
            "be the only one, and was left alone"
        )


FLOW = Flow(KIND, ("remove",), ("fail",), forward, undo)
