"""Limits and use of a project; an administrator may ask for another project's from 3.39 on."""

from __future__ import annotations

from sqlalchemy import Connection

from cluster.quotas import usage
from serve_app.identity.policy import allows
from serve_app.limits import schemas
from serve_app.wire.route import Call, Reply, Route

_OTHERS_FROM = 39
_LIMITS = {
    "maxTotalVolumeGigabytes": "gigabytes",
    "maxTotalBackupGigabytes": "backup_gigabytes",
    "maxTotalVolumes": "volumes",
    "maxTotalSnapshots": "snapshots",
    "maxTotalBackups": "backups",
}
_USED = {
    "totalVolumesUsed": "volumes",
    "totalGigabytesUsed": "gigabytes",
    "totalSnapshotsUsed": "snapshots",
    "totalBackupsUsed": "backups",
    "totalBackupGigabytesUsed": "backup_gigabytes",
}
_USED_RULE = "limits_extension:used_limits"


async def index(call: Call) -> Reply:
    """GET /limits."""
    project_id = call.caller.project_id
    if call.minor >= _OTHERS_FROM and call.caller.is_admin:
        project_id = call.query.get("project_id") or call.query.get("tenant_id") or project_id

    def work(db: Connection) -> dict[str, int]:
        limits = usage.limits(db, call.room.settings.quotas, project_id)
        absolute = {shown: limits[name] for shown, name in _LIMITS.items()}
        if allows(_USED_RULE, call.caller):
            used = usage.usage(db, project_id)
            absolute |= {shown: used[name].in_use for shown, name in _USED.items()}
        return absolute

    absolute = await call.room.store.read(work)
    return Reply(body={"limits": {"rate": [], "absolute": absolute}})


ROUTES = (
    Route(
        "GET",
        "/limits",
        index,
        _USED_RULE,
        "Show limits and use",
        reply=schemas.LimitsReply,
        query=("project_id", "tenant_id"),
    ),
)
