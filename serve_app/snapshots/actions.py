"""The actions of a snapshot (`POST /snapshots/{snapshot_id}/action`)."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from cluster.snapshots import intents
from cluster.snapshots.records import SnapshotStatus
from serve_app.wire.fields import refusal
from serve_app.wire.route import Action, Body, Call, Reply

_STATUSES: Final = tuple(status.value for status in SnapshotStatus)
_PROGRESS: Final = re.compile(r"0*(100|[0-9]{1,2})%")


def _status(value: str) -> str:
    if value.lower() not in _STATUSES:
        raise refusal(f"Volume status: {value[:255]} is invalid, valid statuses are: {list(_STATUSES)}.")
    return value.lower()


def _progress(value: str) -> str:
    if value and (len(value) > 8 or not _PROGRESS.fullmatch(value)):
        raise refusal("Invalid input received: progress must be an integer percentage between 0 and 100")
    return value


class ResetStatus(Body):
    """The status to write."""

    status: Annotated[str, AfterValidator(_status), WithJsonSchema({"type": "string", "enum": list(_STATUSES)})]


class UpdateStatus(Body):
    """How far Nova is with a snapshot that it makes itself."""

    status: str
    progress: Annotated[str, AfterValidator(_progress)] | None = None


async def reset_status(call: Call) -> Reply:
    """os-reset_status."""
    body: ResetStatus = call.body
    room, snapshot_id = call.room, call.path["snapshot_id"]
    await room.store.write(lambda db: intents.reset_status(db, room.outside, call.caller, snapshot_id, body.status))
    room.ring()
    return Reply(202)


async def force_delete(call: Call) -> Reply:
    """os-force_delete."""
    room, snapshot_id = call.room, call.path["snapshot_id"]
    await room.store.write(lambda db: intents.delete(db, room.outside, call.caller, snapshot_id, force=True))
    room.ring()
    return Reply(202)


async def update_snapshot_status(call: Call) -> Reply:
    """os-update_snapshot_status."""
    body: UpdateStatus = call.body
    room, snapshot_id = call.room, call.path["snapshot_id"]
    await room.store.write(
        lambda db: intents.report(db, room.outside, call.caller, snapshot_id, body.status, body.progress)
    )
    return Reply(202)


_PATH: Final = "/snapshots/{snapshot_id}"
_ADMIN: Final = "volume_extension:snapshot_admin_actions:"
_NOVA: Final = "snapshot_extension:snapshot_actions:update_snapshot_status"

ACTIONS: tuple[Action, ...] = (
    Action(_PATH, "os-reset_status", reset_status, f"{_ADMIN}reset_status", "Write the status", body=ResetStatus),
    Action(_PATH, "os-force_delete", force_delete, f"{_ADMIN}force_delete", "Delete a snapshot in any state"),
    Action(_PATH, "os-update_snapshot_status", update_snapshot_status, _NOVA, "Report progress", body=UpdateStatus),
)
