"""The end of attachments: their rows, their connections, and with the last one what the older flow left open.

Runs inside `store.write` with the volume's row locked; used by the deletion of an attachment, by the older actions,
and by an operator's reset.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from cluster.attachments import connections
from cluster.attachments.queries import ATTACHMENT
from cluster.attachments.standing import settle
from cluster.caller import Caller
from cluster.journal.outcome import Work
from cluster.outside import Outside


def let_go(
    db: Connection,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    attachment_id: str | None,
    *,
    also: tuple[str, ...] = (),
) -> Work | None:
    """End the attachment (None: there is none) with its connection, with the connections `also`, and, if no other
    attachment is left, with every connection of the older flow. Without any connection all is done at once and None
    returned; else the attachment's row and the volume's status wait for the end of the connections."""
    others = db.execute(
        select(ATTACHMENT.c.id).where(ATTACHMENT.c.volume_id == volume_id, ATTACHMENT.c.id != (attachment_id or ""))
    ).first()
    ending = dict.fromkeys(also)
    if attachment_id is not None and connections.is_there(db, attachment_id):
        ending[attachment_id] = None
    if others is None:
        ending |= dict.fromkeys(connections.unattached(db, volume_id))
    if ending:
        return connections.close_connections(db, outside, caller, volume_id, list(ending), attachment_id, settles=True)
    if attachment_id is not None:
        db.execute(delete(ATTACHMENT).where(ATTACHMENT.c.id == attachment_id))
    settle(db, outside, volume_id)
    return None


def let_go_all(db: Connection, outside: Outside, caller: Caller, volume_id: str) -> Work | None:
    """End every attachment and connection of the volume; as `let_go`. Of a volume without any, nothing is changed."""
    ids: list[str | None] = list(db.scalars(select(ATTACHMENT.c.id).where(ATTACHMENT.c.volume_id == volume_id)))
    if not ids and connections.unattached(db, volume_id):
        ids = [None]
    works = [let_go(db, outside, caller, volume_id, each) for each in ids]
    found = [work for work in works if work is not None]
    if not found:
        return None
    operations = tuple(dict.fromkeys(each for work in found for each in work.operations))
    return Work(operations, again=any(work.again for work in found))
