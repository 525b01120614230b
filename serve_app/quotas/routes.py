"""Quota sets of projects: show, change, reset."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from cluster.quotas import intents, queries, usage
from serve_app.quotas import schemas
from serve_app.wire.faults import BadRequest, Forbidden
from serve_app.wire.paging import boolean_of
from serve_app.wire.route import Call, Reply, Route

_SHOW = "volume_extension:quotas:show"


def _own_project(call: Call) -> str:
    """The project in the path. A reader sees its own project's quotas only, an administrator all."""
    target = call.path["quota_project_id"]
    if not call.caller.is_admin and target != call.caller.project_id:
        raise Forbidden(f"Policy doesn't allow {_SHOW} to be performed.")
    return target


async def show(call: Call) -> Reply:
    """GET /os-quota-sets/{project_id}."""
    target, with_usage, quotas = _own_project(call), boolean_of(call, "usage"), call.room.settings.quotas

    def work(db: Connection) -> dict[str, Any]:
        if with_usage:
            return dict(queries.with_usage(db, quotas, target))
        return dict(usage.limits(db, quotas, target))

    return Reply(body={"quota_set": await call.room.store.read(work) | {"id": target}})


async def defaults(call: Call) -> Reply:
    """GET /os-quota-sets/{project_id}/defaults."""
    target = _own_project(call)
    limits = await call.room.store.read(lambda db: usage.defaults(db, call.room.settings.quotas))
    return Reply(body={"quota_set": {**limits, "id": target}})


async def update(call: Call) -> Reply:
    """PUT /os-quota-sets/{project_id}."""
    body: schemas.UpdateQuotas = call.body
    target = call.path["quota_project_id"]
    if len(target) > 255:
        raise BadRequest("Invalid input received: quota_set_name has more than 255 characters.")

    def work(db: Connection) -> dict[str, int]:
        intents.set_limits(db, target, body.quota_set)
        return usage.limits(db, call.room.settings.quotas, target)

    return Reply(body={"quota_set": await call.room.store.write(work)})


async def delete(call: Call) -> Reply:
    """DELETE /os-quota-sets/{project_id}: the defaults hold again."""
    await call.room.store.write(lambda db: intents.forget_limits(db, call.path["quota_project_id"]))
    return Reply()


_PATH = "/os-quota-sets/{quota_project_id}"

ROUTES = (
    Route("GET", _PATH, show, _SHOW, "Show a project's quotas", reply=schemas.QuotaSetReply, query=("usage",)),
    Route("GET", f"{_PATH}/defaults", defaults, _SHOW, "Show default quotas", reply=schemas.QuotaSetReply),
    Route(
        "PUT",
        _PATH,
        update,
        "volume_extension:quotas:update",
        "Change a project's quotas",
        body=schemas.UpdateQuotas,
        reply=schemas.QuotaSetReply,
    ),
    Route("DELETE", _PATH, delete, "volume_extension:quotas:delete", "Reset a project's quotas"),
)
