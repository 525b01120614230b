"""`volume.examine`, `snapshot.examine`: after a status reset, tell the resource's project what is true on the storage.

Args: `id` of the volume or snapshot, and `said`, the states that the administrator wrote. An examination has a resource
id of its own, so that it keeps no request off the volume and works beside whatever is live there; it only reads, and
changes nothing but the list of messages. Of work that is live it says that this goes on. A resource that is gone by now
needs no message.

A backend that does not answer is asked again as for any refusal. To look does nothing, so that no outcome is uncertain:
after the last refusal the message says that nothing could be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, select
from sqlmodel import col

from cluster.flows import examination, subjects
from cluster.flows.examination import Verdict
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.journal.records import Operation, OperationState
from cluster.messages.catalogue import Action, Detail, Level, ResourceType
from cluster.messages.intents import tell
from cluster.scheduling.host_name import service_of
from drivers.vocabulary import BackendUnavailableError, ObjectKind, RetryableError, UncertainError

_RESOURCES = {ObjectKind.VOLUME: ResourceType.VOLUME, ObjectKind.SNAPSHOT: ResourceType.SNAPSHOT}


async def _forward(kind: ObjectKind, run: Run) -> None:
    """One look and one message, which is in the transaction that closes the operation."""
    # What is logged from here on is about the volume, not about this examination.
    structlog.contextvars.bind_contextvars(resource_id=run.entry.args["id"])

    def record(db: Connection, seen: Result) -> None:
        row = _row(db, run, kind)
        if row is None:
            return
        said, doing = run.entry.args["said"], _doing(db, row)
        if doing is not None:
            _tell(db, run, kind, row, examination.working(kind, said, row, doing))
            return
        if seen.get("changed") != _changed(row):
            raise RetryableError(f"{kind} {row['id']} has changed while it was looked at")
        found = [(place, size_bytes) for place, size_bytes in seen["found"]]
        _tell(db, run, kind, row, examination.judge(kind, said, row, found))

    await run.last_step("look", partial(_look, run, kind), record)


async def _undo(kind: ObjectKind, run: Run, failure: Failure) -> None:
    """Say that nothing could be seen."""

    def record(db: Connection) -> None:
        row = _row(db, run, kind)
        if row is not None:
            reason = f"{examination.opening(kind, run.entry.args['said'], row)} {failure.message}"
            _tell(db, run, kind, row, Verdict(Detail.STORAGE_UNSEEN, Level.WARNING, reason))

    await run.fail(failure, record)


async def _look(run: Run, kind: ObjectKind) -> Result:
    def read(db: Connection) -> Mapping[str, Any] | None:
        row = _row(db, run, kind)
        return None if row is None or _doing(db, row) is not None else row

    row = await run.read(read)
    if row is None:
        return {}  # gone, or worked on: the storage is not asked
    found = []
    if row["host"] is not None:
        service = service_of(row["host"])
        try:
            inventory = await run.context.ports.inventory(service, epoch=run.epoch)
        except UncertainError as error:
            raise BackendUnavailableError(f"{service} was not seen: {error}") from error
        found = [
            [f"{service}#{item.pool}", item.size_bytes]
            for item in inventory
            if (item.kind, item.id) == (kind, row["id"])
        ]
    return {"changed": _changed(row), "found": found}


def _row(db: Connection, run: Run, kind: ObjectKind) -> Mapping[str, Any] | None:
    """The resource with its `host`, unless it is gone."""
    read = subjects.volume_row if kind is ObjectKind.VOLUME else subjects.snapshot_row
    try:
        return read(db, run.entry.args["id"])
    except subjects.GoneError:
        return None


def _doing(db: Connection, row: Mapping[str, Any]) -> str | None:
    """The kind of the live operation on the resource. A cascade works on snapshots under that of their volume."""
    operations = select(col(Operation.kind)).where(col(Operation.state) == OperationState.LIVE)
    own: str | None = db.scalar(operations.where(col(Operation.resource_id) == row["id"]))
    if own is not None or "volume_id" not in row:
        return own
    of_volume = operations.where(col(Operation.resource_id) == row["volume_id"], col(Operation.kind) == "volume.delete")
    return db.scalar(of_volume)


def _changed(row: Mapping[str, Any]) -> list[Any]:
    """Differs when the row has changed in what a look is about."""
    return [row["host"], row["size_gib"], row["status"], row["updated_at"]]


def _tell(db: Connection, run: Run, kind: ObjectKind, row: Mapping[str, Any], verdict: Verdict) -> None:
    tell(
        db,
        run.context.outside,
        run.context.settings.timing.message_life,
        project_id=row["project_id"],
        request_id=run.entry.request_id,
        action=Action.RESET_STATUS,
        detail=verdict.detail,
        resource_type=_RESOURCES[kind],
        resource_id=row["id"],
        reason=verdict.reason,
        level=verdict.level,
    )


def _flow(kind: ObjectKind) -> Flow:
    return Flow(f"{kind}.examine", ("look",), ("fail",), partial(_forward, kind), partial(_undo, kind))


VOLUME_FLOW = _flow(ObjectKind.VOLUME)
SNAPSHOT_FLOW = _flow(ObjectKind.SNAPSHOT)
