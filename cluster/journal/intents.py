"""Opening an operation: the intent row that goes into the same transaction as the change of status it is for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert
from sqlalchemy.exc import IntegrityError

from cluster.caller import Caller
from cluster.errors import InvalidStateError
from cluster.journal.records import Operation, OperationState
from cluster.outside import Outside


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
