"""QoS specs that change reach the volumes that are attached: their connections are opened again, as they were, and with
that their exports are told the new limits. A connection whose export cannot keep them stays as it is, and its volume's
owner is told. Part of the transaction that changes the specs; knows no export."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select
from sqlmodel import col

from cluster.attachments.connections import OPEN, How
from cluster.attachments.queries import ATTACHMENT, CONNECTION
from cluster.caller import Caller
from cluster.journal.intents import live_operation, open_operation
from cluster.outside import Outside
from cluster.volumes.records import AttachStatus, Volume


def renew(db: Connection, outside: Outside, type_ids: Collection[str]) -> int:
    """Open every open connection of volumes of these types again; return how many. One that is being worked on, or
    whose volume is being deleted, is left out: what opens it reads the specs, and what ends it needs none."""
    leaving = select(ATTACHMENT.c.id).where(ATTACHMENT.c.attach_status == AttachStatus.ERROR_DETACHING)
    rows = db.execute(
        select(CONNECTION.c.id, CONNECTION.c.volume_id, col(Volume.user_id), col(Volume.project_id))
        .join(Volume, col(Volume.id) == CONNECTION.c.volume_id)
        .where(
            col(Volume.volume_type_id).in_(list(type_ids)),
            CONNECTION.c.info.is_not(None),
            CONNECTION.c.id.not_in(leaving),
        )
        .order_by(CONNECTION.c.id)
    ).all()
    opened = 0
    for connection_id, volume_id, user_id, project_id in rows:
        ending = live_operation(db, volume_id)
        if live_operation(db, connection_id) is None and (ending is None or ending.kind != "volume.delete"):
            caller = Caller(user_id=user_id, project_id=project_id, request_id="")
            args = {"volume_id": volume_id, "how": How.AGAIN.value}
            open_operation(db, outside, caller, OPEN, connection_id, args)
            opened += 1
    return opened
