"""Whether an attachment may end: while a server of Nova uses it, only Nova may say so (Cinder's bug 2004555).

To take the volume from under a running server leaves a device behind that may later lead to another tenant's data.
Nova's requests carry a service token. For any other, Nova is asked whether its server still has this attachment; where
there is no Nova (`Room.servers` None) nobody does.
"""

from __future__ import annotations

from sqlalchemy import Connection

from cluster.attachments import queries
from cluster.attachments.queries import AttachmentRow
from cluster.errors import ConflictError
from cluster.volumes import queries as volumes
from serve_app.wire.route import Call


async def check_one(call: Call, row: AttachmentRow) -> None:
    """Raise ConflictError while a server uses the attachment; Unavailable when Nova cannot say."""
    server_id, servers = row["instance_id"], call.room.servers
    if servers is None or call.caller.is_service or server_id is None or not row["connection_info"]:
        return
    if await servers(call.headers.get("x-auth-token") or "", server_id, row["volume_id"]) == row["id"]:
        raise _conflict(server_id)


async def check_of_volume(call: Call, volume_id: str, attachment_id: str | None = None) -> None:
    """As `check_one` for the attachment that an older action is about: the one named, or the volume's only one. Where
    there are several and none is named, nobody but Nova may choose. Raises NotFoundError (volume)."""

    def work(db: Connection) -> list[AttachmentRow]:
        volumes.get(db, call.caller, volume_id)
        there = queries.of_volumes(db, [volume_id]).get(volume_id, [])
        return [row for row in there if attachment_id in (None, row["id"])]

    found = await call.room.store.read(work)
    if len(found) == 1:
        await check_one(call, found[0])
    elif found and call.room.servers is not None and not call.caller.is_service:
        raise _conflict("")


def _conflict(server_id: str) -> ConflictError:
    return ConflictError(f"Detach volume from instance {server_id} using the Compute API")
