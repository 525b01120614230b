"""The older attachment actions of a volume (`POST /volumes/{volume_id}/action`): os-reserve to os-force_detach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from cluster.attachments import actions, queries
from cluster.caller import Caller
from cluster.outside import Outside
from serve_app.attachments import schemas
from serve_app.attachments.deletion import check_of_volume
from serve_app.attachments.waiting import done
from serve_app.wire.faults import Fault
from serve_app.wire.route import Action, Call, Handler, Reply

_NO_INFO: Final = "Unable to fetch connection information from backend."
_NOT_TERMINATED: Final = "Unable to terminate volume connection from backend."
_NOT_DETACHED: Final = "Unable to detach the volume."


def _only_records(change: Callable[[Connection, Outside, Caller, str], None]) -> Handler:
    async def handler(call: Call) -> Reply:
        volume_id = call.path["volume_id"]
        await call.room.store.write(lambda db: change(db, call.room.outside, call.caller, volume_id))
        return Reply(202)

    return handler


async def attach(call: Call) -> Reply:
    """os-attach."""
    body: schemas.Attach = call.body
    volume_id = call.path["volume_id"]
    await call.room.store.write(
        lambda db: actions.attach(
            db,
            call.room.outside,
            call.caller,
            volume_id,
            instance_id=body.instance_uuid,
            host_name=body.host_name,
            mountpoint=body.mountpoint,
            mode=body.mode,
        )
    )
    return Reply(202)


async def detach(call: Call) -> Reply:
    """os-detach."""
    body: schemas.Detach = call.body
    volume_id, attachment_id = call.path["volume_id"], body.root.attachment_id if body.root else None
    await check_of_volume(call, volume_id, attachment_id)
    await done(
        call,
        lambda db: actions.detach(db, call.room.outside, call.caller, volume_id, attachment_id=attachment_id),
        lambda work: work,
        _NOT_DETACHED,
    )
    return Reply(202)


async def force_detach(call: Call) -> Reply:
    """os-force_detach."""
    body: schemas.ForceDetach = call.body
    volume_id, attachment_id = call.path["volume_id"], body.attachment_id or None
    await check_of_volume(call, volume_id, attachment_id)
    await done(
        call,
        lambda db: actions.force_detach(
            db,
            call.room.outside,
            call.caller,
            volume_id,
            attachment_id=attachment_id,
            connector=body.connector or None,
        ),
        lambda work: work,
        _NOT_TERMINATED,
    )
    return Reply(202)


async def initialize(call: Call) -> Reply:
    """os-initialize_connection."""
    body: schemas.Initialize = call.body
    volume_id = call.path["volume_id"]
    made = await done(
        call,
        lambda db: actions.initialize(db, call.room.outside, call.caller, volume_id, body.connector),
        lambda initialized: initialized.work,
        _NO_INFO,
    )
    info = await call.room.store.read(lambda db: queries.connection_info(db, made.connection_id))
    if info is None:
        raise Fault(f"{_NO_INFO} It was terminated at the same time.")
    asked = {"enforce_multipath": body.connector.get("enforce_multipath") is True}
    return Reply(body={"connection_info": info | {"data": info["data"] | asked} | asked})


async def terminate(call: Call) -> Reply:
    """os-terminate_connection."""
    body: schemas.Terminate = call.body
    volume_id = call.path["volume_id"]
    await check_of_volume(call, volume_id)
    await done(
        call,
        lambda db: actions.terminate(db, call.room.outside, call.caller, volume_id, body.connector or None),
        lambda work: work,
        _NOT_TERMINATED,
    )
    return Reply(202)


_PATH: Final = "/volumes/{volume_id}"
_RULE: Final = "volume_extension:volume_actions:"

ACTIONS: tuple[Action, ...] = (
    Action(
        _PATH,
        "os-reserve",
        _only_records(actions.reserve_volume),
        f"{_RULE}reserve",
        "Set a volume aside to be attached",
    ),
    Action(_PATH, "os-unreserve", _only_records(actions.unreserve), f"{_RULE}unreserve", "Take back os-reserve"),
    Action(
        _PATH,
        "os-begin_detaching",
        _only_records(actions.begin_detaching),
        f"{_RULE}begin_detaching",
        "Say that a volume is being detached",
    ),
    Action(
        _PATH,
        "os-roll_detaching",
        _only_records(actions.roll_detaching),
        f"{_RULE}roll_detaching",
        "Take back os-begin_detaching",
    ),
    Action(_PATH, "os-attach", attach, f"{_RULE}attach", "Record who has a volume", body=schemas.Attach),
    Action(_PATH, "os-detach", detach, f"{_RULE}detach", "Record that a volume is free", body=schemas.Detach),
    Action(
        _PATH,
        "os-initialize_connection",
        initialize,
        f"{_RULE}initialize_connection",
        "Export a volume to a consumer",
        status=200,
        body=schemas.Initialize,
        reply=schemas.InfoReply,
    ),
    Action(
        _PATH,
        "os-terminate_connection",
        terminate,
        f"{_RULE}terminate_connection",
        "End a consumer's export",
        body=schemas.Terminate,
    ),
    Action(
        _PATH,
        "os-force_detach",
        force_detach,
        "volume_extension:volume_admin_actions:force_detach",
        "Detach a volume in any state",
        body=schemas.ForceDetach,
    ),
)
