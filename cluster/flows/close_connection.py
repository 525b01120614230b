"""`connection.close`: a consumer reaches a volume no more.

Args: `volume_id`; `together`, the connections that end for the same reason; with the last of them the attachment
`attachment_id` (if any) goes, and with `settles` the volume's status follows. `host` is for a connection that an export
serves though the records know nothing of it (`cluster.reconcile.connections`).
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, update

from cluster.attachments.connections import CLOSE
from cluster.attachments.letting_go import let_go
from cluster.attachments.queries import ATTACHMENT, CONNECTION
from cluster.attachments.standing import hold_volume, settle
from cluster.caller import Caller
from cluster.flows import connection_subject, subjects
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.messages.catalogue import Action, Detail
from cluster.volumes.records import AttachStatus

KIND = CLOSE


async def forward(run: Run) -> None:
    """The export first, then the rows: a crash between leaves rows of a connection that the repeat finds gone."""
    args = run.entry.args
    volume_id: str = args["volume_id"]
    host = args.get("host") or await run.read(lambda db: connection_subject.host_of(db, volume_id))
    if host is None:
        raise subjects.GoneError(f"volume {volume_id} is nowhere")

    async def unexport() -> Result:
        await run.backend(host).ensure_connection_absent(run.entry.resource_id, volume_id)
        return {}

    def record(db: Connection, _result: Result) -> None:
        hold_volume(db, volume_id)
        db.execute(delete(CONNECTION).where(CONNECTION.c.id == run.entry.resource_id))
        left = db.execute(select(CONNECTION.c.id).where(CONNECTION.c.id.in_(args.get("together") or ()))).first()
        if left is None and args.get("settles"):
            db.execute(delete(ATTACHMENT).where(ATTACHMENT.c.id == args["attachment_id"]))
            work = let_go(db, run.context.outside, _caller(run), volume_id, None)
            if work is not None and work.again:  # somebody is being let in right now, without an attachment
                settle(db, run.context.outside, volume_id)

    await run.last_step("unexport", unexport, record)


async def undo(run: Run, failure: Failure) -> None:
    """Nothing is taken back: the consumer may reach the volume still, so the connection stays in the records and the
    attachment says `error_detaching`; a repeat of the request tries again."""
    volume_id: str = run.entry.args["volume_id"]

    def record(db: Connection) -> None:
        if run.entry.args.get("settles"):
            db.execute(
                update(ATTACHMENT)
                .where(ATTACHMENT.c.id == run.entry.args["attachment_id"])
                .values(attach_status=AttachStatus.ERROR_DETACHING.value, updated_at=run.context.outside.now())
            )
            settle(db, run.context.outside, volume_id)
        if "host" not in run.entry.args:
            subjects.explain(db, run, failure, Action.UPDATE_ATTACHMENT, Detail.DETACH_ERROR, resource_id=volume_id)

    await run.fail(failure, record)


def _caller(run: Run) -> Caller:
    entry = run.entry
    return Caller(user_id=entry.user_id, project_id=entry.project_id, request_id=entry.request_id)


FLOW = Flow(KIND, ("unexport",), ("fail",), forward, undo)
