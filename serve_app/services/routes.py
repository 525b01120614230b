"""Services: list, enable, disable. (set-log, get-log, freeze, thaw and failover are not served yet.)"""

from __future__ import annotations

from cluster.errors import InvalidInputError
from cluster.services import intents, queries
from serve_app.services import schemas, views
from serve_app.wire.route import Call, Reply, Route


async def index(call: Call) -> Reply:
    """GET /os-services."""
    room = call.room
    found = await room.store.read(
        lambda db: queries.services(
            db,
            room.outside.seconds(),
            room.settings.timing.service_down,
            host=call.query.get("host"),
            binary=call.query.get("binary"),
        )
    )
    return Reply(body={"services": [views.service(each, call.minor) for each in found]})


async def _set(call: Call, *, enabled: bool, reason: str | None = None) -> dict[str, object]:
    body: schemas.WhichService = call.body
    host = body.host
    if not host:
        raise InvalidInputError("Invalid input received: Host field is missing.")
    await call.room.store.write(
        lambda db: intents.set_enabled(
            db, call.room.outside, binary=body.binary or body.service, host=host, enabled=enabled, reason=reason
        )
    )
    return views.change(host, body.service, body.binary, disabled=not enabled)


async def enable(call: Call) -> Reply:
    """PUT /os-services/enable."""
    return Reply(body=await _set(call, enabled=True))


async def disable(call: Call) -> Reply:
    """PUT /os-services/disable."""
    return Reply(body=await _set(call, enabled=False))


async def disable_log_reason(call: Call) -> Reply:
    """PUT /os-services/disable-log-reason."""
    body: schemas.DisableWithReason = call.body
    answer = await _set(call, enabled=False, reason=body.disabled_reason)
    return Reply(body=answer | {"disabled_reason": body.disabled_reason})


_UPDATE = "volume_extension:services:update"

ROUTES = (
    Route(
        "GET",
        "/os-services",
        index,
        "volume_extension:services:index",
        "List services",
        reply=schemas.ServicesReply,
        query=("host", "binary"),
    ),
    Route(
        "PUT",
        "/os-services/enable",
        enable,
        _UPDATE,
        "Enable a service",
        body=schemas.WhichService,
        reply=schemas.ChangeReply,
    ),
    Route(
        "PUT",
        "/os-services/disable",
        disable,
        _UPDATE,
        "Disable a service",
        body=schemas.WhichService,
        reply=schemas.ChangeReply,
    ),
    Route(
        "PUT",
        "/os-services/disable-log-reason",
        disable_log_reason,
        _UPDATE,
        "Disable a service and say why",
        body=schemas.DisableWithReason,
        reply=schemas.ReasonReply,
    ),
)
