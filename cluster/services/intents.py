"""What is written about services: their reports (by the scheduler) and an administrator's word on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update
from sqlmodel import col

from cluster.errors import NotFoundError
from cluster.outside import Outside
from cluster.services.queries import at_host
from cluster.services.records import Pool, Service
from cluster.store.seam import hold

# Built once: heartbeats are most of what an idle cluster does.
_SERVICE, _POOL = cast(Table, Service.__table__), cast(Table, Pool.__table__)  # type: ignore[attr-defined]
_KNOWN = select(_SERVICE.c.id).where(
    _SERVICE.c.binary == bindparam("at_binary"), _SERVICE.c.host == bindparam("at_host")
)
_REPORT = (
    update(_SERVICE)
    .where(_SERVICE.c.id == bindparam("known"))
    .values({name: bindparam(name) for name in ("availability_zone", "node_labels", "backend_state", "heartbeat_at")})
)
_POOLS = select(_POOL.c.name).where(_POOL.c.service_host == bindparam("at_host"))
_REFRESH = (
    update(_POOL)
    .where(_POOL.c.name == bindparam("key"))
    .values(stats=bindparam("document"), reported_at=bindparam("now"))
)


def report_service(
    db: Connection,
    outside: Outside,
    *,
    binary: str,
    host: str,
    availability_zone: str,
    node_labels: Mapping[str, str],
    backend_state: str | None,
) -> str:
    """Record that the service `binary` on `host` (`host@backend` for a volume service) is alive now; return its id.

    The first report makes the row, enabled. `backend_state` is `up` or `down` for a volume service, else None. What
    an administrator set (disabled, its reason) stays.
    """
    hold(db, f"service:{binary}:{host}")
    reported = {
        "availability_zone": availability_zone,
        "node_labels": dict(node_labels),
        "backend_state": backend_state,
        "heartbeat_at": outside.seconds(),
    }
    known = db.execute(_KNOWN, {"at_binary": binary, "at_host": host}).scalar()
    if known is not None:
        db.execute(_REPORT, {"known": known, **reported})
        return str(known)
    service_id = outside.new_id()
    db.execute(
        insert(Service).values(
            id=service_id, binary=binary, host=host, disabled=False, created_at=outside.now(), **reported
        )
    )
    return service_id


def report_pools(
    db: Connection, outside: Outside, service_host: str, pools: Mapping[str, Mapping[str, object]]
) -> None:
    """Make the pool rows of the volume service `service_host` (`host@backend`) those of `pools`: new ones appear,
    known ones are refreshed, others vanish. Keys are full names (`host@backend#pool`), values what get_pools shows.
    """
    hold(db, f"pools:{service_host}")
    known = set(db.scalars(_POOLS, {"at_host": service_host}))
    gone = known - pools.keys()
    if gone:
        db.execute(delete(Pool).where(col(Pool.name).in_(sorted(gone))))
    now = outside.seconds()
    refreshed = [{"key": name, "document": dict(pools[name]), "now": now} for name in sorted(known & pools.keys())]
    if refreshed:
        db.execute(_REFRESH, refreshed)
    new = [
        {"name": name, "service_host": service_host, "stats": dict(pools[name]), "reported_at": now}
        for name in sorted(pools.keys() - known)
    ]
    if new:
        db.execute(insert(Pool), new)


def set_enabled(
    db: Connection, outside: Outside, *, binary: str, host: str, enabled: bool, reason: str | None = None
) -> None:
    """Enable or disable a service for new volumes. `host` without a backend means every backend there, as in Cinder.

    Enabling clears the reason; disabling without one leaves the earlier reason. Raises NotFoundError.
    (Cinder of 2025-11 on answers 200 to both and stores nothing; the documented effect is what is done here.)
    """
    values: dict[str, object] = {"disabled": not enabled, "updated_at": outside.now()}
    if enabled or reason is not None:
        values["disabled_reason"] = None if enabled else reason
    statement = update(Service).where(col(Service.binary) == binary, at_host(host)).values(**values)
    if db.execute(statement).rowcount == 0:
        raise NotFoundError(f"Service {binary} could not be found on host {host}.")
