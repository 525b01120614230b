"""Opening an operation: the intent row that goes into the same transaction as the change of status it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from cluster.caller import Caller
from cluster.errors import InvalidStateError
from cluster.journal.records import Operation, OperationState
from cluster.outside import Outside


@dataclass(frozen=True, slots=True)
class LiveOperation:
    """An operation under way, as those see it who find it in their way."""

    id: str
    kind: str
    args: Mapping[str, Any]


def open_operation(
    db: Connection, outside: Outside, caller: Caller, kind: str, resource_id: str, args: dict[str, Any] | None = None
) -> str:
    """Write the intent to do `kind` (a flow's name, as `volume.create`) to the resource; return the operation's id.

    Raises InvalidStateError when another operation on that resource is still live.
    """
    operation_id = outside.new_id()
    try:
        with db.begin_nested():
            db.execute(
                insert(Operation).values(
                    id=operation_id,
                    kind=kind,
                    resource_id=resource_id,
                    project_id=caller.project_id,
                    user_id=caller.user_id,
                    request_id=caller.request_id,
                    args=args or {},
                    state=OperationState.LIVE,
                    epoch=0,
                    attempts=0,
                    refusals=0,
                    uncertain=False,
                    not_before=0.0,
                    created_at=outside.now(),
                )
            )
    except IntegrityError as error:
        raise InvalidStateError(
            f"{resource_id} is still being worked on by an earlier request; try again when it has settled."
        ) from error
    return operation_id


def open_beside(db: Connection, outside: Outside, caller: Caller, kind: str, args: dict[str, Any]) -> str:
    """Open an operation that only looks, and return its id. It has a resource id of its own: it waits for nobody who
    works on what it looks at, and keeps nobody from it. `args` says what that is."""
    return open_operation(db, outside, caller, kind, outside.new_id(), args)


def refuse_while_live(db: Connection, kind: str, resource_ids: Sequence[str], doing: str | None = None) -> None:
    """Raise InvalidStateError when an operation on one of the resources is live: whatever their states say (an
    administrator may have reset them), somebody is at work on them. `kind` is for the sentence, as `volume`; `doing`
    narrows it to one kind of operation."""
    busy = live_among(db, resource_ids, doing)
    if busy:
        raise InvalidStateError(
            f"Invalid {kind}: {', '.join(busy)} is still being worked on by an earlier request; "
            "try again when it has settled."
        )


def live_among(db: Connection, resource_ids: Sequence[str], doing: str | None = None) -> list[str]:
    """Those of the resources that an operation (of the kind `doing`, or any) is working on."""
    if not resource_ids:
        return []
    live = select(col(Operation.resource_id)).where(
        col(Operation.resource_id).in_(resource_ids), col(Operation.state) == OperationState.LIVE
    )
    return list(db.scalars(live if doing is None else live.where(col(Operation.kind) == doing)))


def live_operation(db: Connection, resource_id: str) -> LiveOperation | None:
    """The operation that is working on the resource."""
    row = db.execute(
        select(col(Operation.id), col(Operation.kind), col(Operation.args)).where(
            col(Operation.resource_id) == resource_id, col(Operation.state) == OperationState.LIVE
        )
    ).first()
    return None if row is None else LiveOperation(row.id, row.kind, row.args)
