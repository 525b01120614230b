"""Reading limits as quota sets and quota class sets show them. What is counted lives in `usage`."""

from __future__ import annotations

from sqlalchemy import Connection

from cluster.quotas import usage
from cluster.settings import QuotaSettings


def class_set(db: Connection, quotas: QuotaSettings, class_name: str) -> dict[str, int]:
    """The limits of a class, by wire name: its own, else those of a project without any."""
    own = usage.class_limits(db, class_name)
    stored = usage.stored_names(db)
    return {name: own.get(stored.get(name, name), limit) for name, limit in usage.defaults(db, quotas).items()}


def with_usage(db: Connection, quotas: QuotaSettings, project_id: str) -> dict[str, dict[str, int]]:
    """Limit and use of every resource of the project, by wire name: `limit`, `in_use`, `reserved`."""
    used = usage.usage(db, project_id)
    return {
        name: {"limit": limit, "in_use": used[name].in_use, "reserved": used[name].reserved}
        for name, limit in usage.limits(db, quotas, project_id).items()
    }
