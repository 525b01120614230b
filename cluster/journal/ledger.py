"""Reading and writing operations and their steps. Every write is fenced by the conductor's epoch.

FencedError   another conductor holds the lease now, or the operation is closed: stop at once, write nothing
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from cluster.journal.records import Lease, Operation, OperationState, OperationStep

CONDUCTOR = "conductor"


class FencedError(Exception):
    """Another conductor took over."""


@dataclass(frozen=True)
class Entry:
    """A live operation as the runner needs it. `steps` maps the names of finished steps to their results."""

    id: str
    kind: str
    resource_id: str
    project_id: str
    user_id: str
    request_id: str
    args: Mapping[str, Any]
    attempts: int
    refusals: int
    uncertain: bool
    not_before: float
    failing: Mapping[str, str] | None
    steps: Mapping[str, Mapping[str, Any]]


_OP = cast(Table, Operation.__table__)  # type: ignore[attr-defined]
_STEP = cast(Table, OperationStep.__table__)  # type: ignore[attr-defined]
_LEASE = cast(Table, Lease.__table__)  # type: ignore[attr-defined]
_COLUMNS = tuple(
    _OP.c[name]
    for name in (
        *("id", "kind", "resource_id", "project_id", "user_id", "request_id"),
        *("args", "attempts", "refusals", "uncertain", "not_before", "failing"),
    )
)
# Built once: these run more often than any other, and to build a statement costs more than to run it.
_DUE = (
    select(_OP.c.id)
    .where(_OP.c.state == OperationState.LIVE, _OP.c.not_before <= bindparam("now"))
    .order_by(_OP.c.created_at, _OP.c.id)
)
_EPOCH = select(_LEASE.c.epoch).where(_LEASE.c.name == CONDUCTOR).with_for_update(read=True)


def due(db: Connection, now: float) -> list[str]:
    """The ids of all live operations whose time has come (`now` in seconds since the epoch), oldest first."""
    return list(db.scalars(_DUE, {"now": now}))


def load(db: Connection, ids: Sequence[str]) -> list[Entry]:
    """Those of the operations that are live, oldest first, with their finished steps."""
    rows = db.execute(
        select(*_COLUMNS)
        .where(_OP.c.id.in_(ids), _OP.c.state == OperationState.LIVE)
        .order_by(_OP.c.created_at, _OP.c.id)
    ).all()
    steps: dict[str, dict[str, Mapping[str, Any]]] = {}
    for operation_id, name, result in db.execute(
        select(_STEP.c.operation_id, _STEP.c.name, _STEP.c.result).where(_STEP.c.operation_id.in_(ids))
    ):
        steps.setdefault(operation_id, {})[name] = result or {}
    return [Entry(**row._mapping, steps=steps.get(row.id, {})) for row in rows]


def check_epoch(db: Connection, epoch: int) -> None:
    """Raise FencedError unless the conductor's lease has this epoch, and keep it so until the transaction ends."""
    if db.execute(_EPOCH).scalar() != epoch:
        raise FencedError(f"epoch {epoch} no longer holds the conductor's lease")


def _fenced(db: Connection, operation_id: str, epoch: int, **values: Any) -> None:
    check_epoch(db, epoch)
    changed = db.execute(
        update(_OP)
        .where(_OP.c.id == operation_id, _OP.c.state == OperationState.LIVE, _OP.c.epoch <= epoch)
        .values(epoch=epoch, **values)
    )
    if changed.rowcount != 1:
        raise FencedError(f"operation {operation_id} is closed, or driven under a later epoch than {epoch}")


def write_step(
    db: Connection, operation_id: str, epoch: int, seq: int, name: str, result: Mapping[str, Any], now: str
) -> None:
    """The step is finished. Raises FencedError."""
    _fenced(db, operation_id, epoch)
    db.execute(
        insert(OperationStep).values(
            operation_id=operation_id, name=name, seq=seq, result=json.loads(json.dumps(result)), finished_at=now
        )
    )


def write_later(db: Connection, entry: Entry, epoch: int, not_before: float, error: str, *, uncertain: bool) -> None:
    """Try again after `not_before` (seconds since the epoch); `uncertain`: what failed may have happened all the same.
    Raises FencedError."""
    _fenced(
        db,
        entry.id,
        epoch,
        attempts=entry.attempts + 1,
        refusals=entry.refusals + (not uncertain),
        uncertain=entry.uncertain or uncertain,
        not_before=not_before,
        error=error[:2048],
    )


def hurry(db: Connection, now: float) -> int:
    """What waits for its next try because nobody answered is tried at once: somebody came back for whom it may have
    waited. Return how many.

    Not fenced, because it decides nothing: at worst a try is made that fails again. Those that were refused are left to
    their own time, since their refusals are counted.
    """
    waiting = (_OP.c.state == OperationState.LIVE, _OP.c.not_before > now, _OP.c.uncertain.is_(True))
    return db.execute(update(_OP).where(*waiting).values(not_before=now)).rowcount


def write_failing(db: Connection, operation_id: str, epoch: int, failing: Mapping[str, str]) -> None:
    """From now on only the undo runs. Raises FencedError."""
    _fenced(db, operation_id, epoch, failing=dict(failing), attempts=0, refusals=0, not_before=0.0)


def close(db: Connection, operation_id: str, epoch: int, now: str, error: str | None = None) -> None:
    """The intent is closed: done, or failed with `error`. Raises FencedError."""
    state = OperationState.DONE if error is None else OperationState.FAILED
    _fenced(db, operation_id, epoch, state=state, error=error and error[:2048], finished_at=now)


def forget(db: Connection, before: str) -> None:
    """Remove closed operations that finished before the wire time `before`."""
    old = select(_OP.c.id).where(_OP.c.state != OperationState.LIVE, _OP.c.finished_at < before)
    db.execute(delete(OperationStep).where(_STEP.c.operation_id.in_(old)))
    db.execute(delete(Operation).where(_OP.c.state != OperationState.LIVE, _OP.c.finished_at < before))


def last_end(db: Connection, resource_id: str, before: str) -> OperationState | None:
    """How the last operation on the resource that has ended, other than `before`, ended; None when there is none."""
    state = db.scalar(
        select(_OP.c.state)
        .where(_OP.c.resource_id == resource_id, _OP.c.state != OperationState.LIVE, _OP.c.id != before)
        .order_by(_OP.c.finished_at.desc())
        .limit(1)
    )
    return None if state is None else OperationState(state)
