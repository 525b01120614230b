"""Reading services, their zones and their pools, as last reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, or_, select
from sqlmodel import col

from cluster.outside import stamp
from cluster.services.records import Pool, Service

VOLUME_BINARY = "cinder-volume"


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service as an operator sees it. `up`: its heartbeat is young enough. `updated_at` is the wire time of the
    last heartbeat or of the last change by an administrator, whichever is later."""

    id: str
    binary: str
    host: str
    availability_zone: str
    disabled: bool
    disabled_reason: str | None
    backend_state: str | None
    node_labels: Mapping[str, str]
    up: bool
    updated_at: str


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool: its full name and its capabilities document."""

    name: str
    service_host: str
    stats: Mapping[str, Any]
    reported_at: float


def at_host(host: str) -> ColumnElement[bool]:
    """The services of `host`: `host@backend` names one, `host` alone also every backend on it."""
    exactly = col(Service.host) == host
    if "@" in host:
        return exactly
    return or_(exactly, col(Service.host).startswith(f"{host}@", autoescape=True))


def services(
    db: Connection, now: float, down_after: float, *, host: str | None = None, binary: str | None = None
) -> list[ServiceView]:
    """All services in the order of their first report, or those of `host` and `binary`. Up means that the heartbeat
    is at most `down_after` seconds old at `now` (seconds since the epoch)."""
    statement = select(Service).order_by(col(Service.created_at), col(Service.id))
    if host:
        statement = statement.where(at_host(host))
    if binary:
        statement = statement.where(col(Service.binary) == binary)
    return [
        ServiceView(
            id=row["id"],
            binary=row["binary"],
            host=row["host"],
            availability_zone=row["availability_zone"],
            disabled=row["disabled"],
            disabled_reason=row["disabled_reason"],
            backend_state=row["backend_state"],
            node_labels=row["node_labels"],
            up=abs(now - row["heartbeat_at"]) <= down_after,
            updated_at=max(stamp(row["heartbeat_at"]), row["updated_at"] or ""),
        )
        for row in db.execute(statement).mappings()
    ]


def living(db: Connection, since: float) -> set[str]:
    """The volume services (`host@backend`) that have reported at or after `since` (seconds since the epoch), with a
    backend that is open."""
    return set(
        db.scalars(
            select(col(Service.host)).where(
                col(Service.heartbeat_at) >= since,
                col(Service.binary) == VOLUME_BINARY,
                col(Service.backend_state) == "up",
            )
        )
    )


def works(db: Connection, host: str, since: float) -> bool | None:
    """Whether the volume service `host` (`host@backend`) was heard after `since` (seconds since the epoch) and had its
    storage open; None when it was never heard."""
    columns = (col(Service.heartbeat_at), col(Service.backend_state))
    row = db.execute(select(*columns).where(col(Service.binary) == VOLUME_BINARY, col(Service.host) == host)).first()
    return None if row is None else bool(row.heartbeat_at >= since and row.backend_state != "down")


def availability_zone(db: Connection, host: str) -> str | None:
    """The zone of the volume service `host` (`host@backend`) by its last report; None when it was never heard."""
    statement = select(col(Service.availability_zone)).where(
        col(Service.binary) == VOLUME_BINARY, col(Service.host) == host
    )
    return db.execute(statement).scalar()


def availability_zones(db: Connection, now: float, down_after: float) -> dict[str, bool]:
    """The zones that volume services are in, and whether any service there is enabled and up."""
    zones: dict[str, bool] = {}
    for service in services(db, now, down_after, binary=VOLUME_BINARY):
        usable = service.up and not service.disabled
        zones[service.availability_zone] = zones.get(service.availability_zone, False) or usable
    return zones


def pools(db: Connection, *, name: str | None = None, service_host: str | None = None) -> list[PoolView]:
    """All pools by name, or the one called `name`, or those of one service (`host@backend`)."""
    statement = select(Pool).order_by(col(Pool.name))
    if name:
        statement = statement.where(col(Pool.name) == name)
    if service_host:
        statement = statement.where(col(Pool.service_host) == service_host)
    return [
        PoolView(row["name"], row["service_host"], row["stats"], row["reported_at"])
        for row in db.execute(statement).mappings()
    ]
