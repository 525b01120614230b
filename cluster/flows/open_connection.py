"""`connection.open`: let a consumer reach a volume through an export of its host.

Args: `volume_id`; `how`: `first`, `again` (it is open by the records, and is made sure of), `anew` (for another
connector: the old one is shut out first). An attachment of the connection's id is told how to connect. What the
consumer is told may hold a password, so no step keeps it: it stands in the connection's row alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, update

from cluster.attachments import info
from cluster.attachments.connections import OPEN, How
from cluster.attachments.queries import ATTACHMENT, CONNECTION
from cluster.attachments.standing import hold_volume, settle
from cluster.flows import connection_subject, subjects
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.journal.ledger import last_end
from cluster.journal.records import OperationState
from cluster.messages.catalogue import Action, Detail
from cluster.volumes.records import AttachStatus
from drivers.vocabulary import ConnectionInfo, RetryableError

KIND = OPEN


async def forward(run: Run) -> None:
    """The export first, then its info in the records: a crash between leaves an export that the repeat finds."""
    row = await run.read(lambda db: connection_subject.connection_row(db, run.entry.resource_id))
    made: list[ConnectionInfo] = []
    spec = connection_subject.connection_spec(row)
    if run.entry.args["how"] == How.AGAIN:
        spec = connection_subject.as_told(spec, row)

    async def export() -> Result:
        made.append(await run.backend(row["host"]).ensure_connection(spec))
        return {}

    def record(db: Connection, _result: Result) -> None:
        now_asked = connection_subject.connection_spec(connection_subject.connection_row(db, row["id"]))
        if now_asked.limits != spec.limits:
            # Whoever changed the specs left this connection out, for it was being worked on.
            raise RetryableError(f"connection {row['id']}: its limits have changed while it was made")
        now, kind, data = run.context.outside.now(), made[0].driver_volume_type, made[0].data
        added = info.added(db, row["volume_id"], row["mode"], row["connector"])
        nested = info.nested(kind, data, added)
        db.execute(update(CONNECTION).where(CONNECTION.c.id == row["id"]).values(info=nested))
        flat = info.flat(kind, data, added, row["id"])
        shown = {"connection_info": flat, "attached_at": now, "updated_at": now}
        if run.entry.args["how"] == How.AGAIN:
            del shown["attached_at"]
        db.execute(update(ATTACHMENT).where(ATTACHMENT.c.id == row["id"]).values(**shown))

    if run.entry.args["how"] == How.ANEW:
        await run.step("replace", lambda: _remove(run, row))
    await run.last_step("export", export, record)


async def undo(run: Run, failure: Failure) -> None:
    """Shut the consumer out and forget the connection; the attachment says `error_attaching`. A connection that was
    open before stays in the records: its consumer may be using it, and the next comparison tries again."""
    volume_id: str = run.entry.args["volume_id"]
    again = run.entry.args["how"] == How.AGAIN
    if not again:
        row = await run.read(lambda db: connection_subject.connection_row(db, run.entry.resource_id))
        await run.step("retract", lambda: _remove(run, row))

    def record(db: Connection) -> None:
        if not again:
            _forget(db, run, volume_id)
        elif last_end(db, run.entry.resource_id, before=run.entry.id) is OperationState.FAILED:
            return  # the user was told already
        subjects.explain(db, run, failure, Action.ATTACH_VOLUME, Detail.ATTACH_ERROR, resource_id=volume_id)

    await run.fail(failure, record)


def _forget(db: Connection, run: Run, volume_id: str) -> None:
    hold_volume(db, volume_id)
    db.execute(delete(CONNECTION).where(CONNECTION.c.id == run.entry.resource_id))
    failed = {"attach_status": AttachStatus.ERROR_ATTACHING.value, "connection_info": None}
    changed = db.execute(
        update(ATTACHMENT)
        .where(ATTACHMENT.c.id == run.entry.resource_id)
        .values(**failed, updated_at=run.context.outside.now())
    )
    if changed.rowcount:
        settle(db, run.context.outside, volume_id)


async def _remove(run: Run, row: Mapping[str, Any]) -> Result:
    await run.backend(row["host"]).ensure_connection_absent(row["id"], row["volume_id"])
    return {}


FLOW = Flow(KIND, ("replace", "export"), ("retract", "fail"), forward, undo)
