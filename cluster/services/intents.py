"""What is written about services: their reports (by the scheduler) and an administrator's word on them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlmodel import col

from cluster.errors import NotFoundError
from cluster.outside import Outside
from cluster.services.queries import at_host
from cluster.services.records import Pool, Service
from cluster.store.seam import hold


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
    known = db.execute(select(col(Service.id)).where(col(Service.binary) == binary, col(Service.host) == host)).scalar()
    if known is not None:
        db.execute(update(Service).where(col(Service.id) == known).values(**reported))
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
    known = set(db.execute(select(col(Pool.name)).where(col(Pool.service_host) == service_host)).scalars())
    gone = known - pools.keys()
    if gone:
        db.execute(delete(Pool).where(col(Pool.name).in_(sorted(gone))))
    now = outside.seconds()
    refreshed = [{"key": name, "document": dict(pools[name])} for name in sorted(known & pools.keys())]
    if refreshed:
        statement = update(Pool.__table__).where(col(Pool.name) == bindparam("key"))  # type: ignore[attr-defined]
        db.execute(statement.values(stats=bindparam("document"), reported_at=now), refreshed)
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
