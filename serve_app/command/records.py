"""What `pumice status` reads from the database: services, pools, operations in flight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, make_url, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel

from actors.node_environment import VERSION_LABEL
from cluster.journal.records import Operation, OperationState
from cluster.services.queries import VOLUME_BINARY
from cluster.services.records import Pool, Service
from cluster.settings import KEPT_LABELS, Settings
from cluster.storage_network.allow_list import CAPABILITY
from cluster.storage_network.chosen import INTERFACE, MTU, SPEED, address_of
from cluster.store.open import open_store
from cluster.store.seam import StoreError

_SERVICE, _POOL, _OPERATION = (
    SQLModel.metadata.tables[str(table.__tablename__)] for table in (Service, Pool, Operation)
)
# An address that no interface has is none that exports can listen on.
_ELSEWHERE = "(of no interface here: exports listen on loopback)"


@dataclass(frozen=True)
class Records:
    """Rows for people and programs; `error` says why there are none."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    services: list[dict[str, Any]] = field(default_factory=list)
    pools: list[dict[str, Any]] = field(default_factory=list)
    operations: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


async def look(settings: Settings, now: float) -> Records:
    """The records at `now` (seconds since the epoch)."""
    since = now - settings.timing.service_down

    def read(db: Connection) -> Records:
        found = list(db.execute(select(_SERVICE)).mappings())
        services = [_service(row, since) for row in found]
        up = {row["host"] for row in services if row["state"] == "up"}
        pools = [_pool(row, up) for row in db.execute(select(_POOL)).mappings()]
        live = select(_OPERATION).where(_OPERATION.c.state == OperationState.LIVE).order_by(_OPERATION.c.created_at)
        return Records(_nodes(found, since), services, pools, [_operation(row) for row in db.execute(live).mappings()])

    if _is_missing(settings.database):
        return Records(error="there is no database yet")
    store = open_store(settings.database)
    try:
        return await store.read(read)
    except (StoreError, SQLAlchemyError) as error:
        return Records(error=str(error).splitlines()[0])
    finally:
        await store.close()


def _is_missing(database: str) -> bool:
    # Opening an SQLite file that is not there would make an empty one.
    url = make_url(database)
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()


def _nodes(services: list[Any], since: float) -> list[dict[str, Any]]:
    """The nodes that volume services have reported from, with what the last report there said."""
    nodes = {}
    for row in sorted(services, key=lambda row: row["heartbeat_at"]):
        labels = row["node_labels"]
        if row["binary"] == VOLUME_BINARY:
            nodes[row["host"].partition("@")[0]] = {
                "host": row["host"].partition("@")[0],
                "zone": row["availability_zone"],
                "version": labels.get(VERSION_LABEL),
                "state": "up" if row["heartbeat_at"] >= since else "down",
                "storage": _storage(labels),
                "labels": {key: value for key, value in labels.items() if not key.startswith(KEPT_LABELS)},
            }
    return [nodes[name] for name in sorted(nodes)]


def _storage(labels: Mapping[str, str]) -> str | None:
    """The node's storage network, as `eth1 10.2.0.5, 9000 bytes, 25000 Mb/s`; None when it has told of none."""
    if (address := address_of(labels)) is None:
        return None
    there = f"{labels[INTERFACE]} {address}" if INTERFACE in labels else f"{address} {_ELSEWHERE}"
    said = [there]
    said += [f"{labels[key]} {unit}" for key, unit in ((MTU, "bytes"), (SPEED, "Mb/s")) if key in labels]
    return ", ".join(said)


def _service(row: Any, since: float) -> dict[str, Any]:
    up = row["heartbeat_at"] >= since and row["backend_state"] != "down"
    return {
        "binary": row["binary"],
        "host": row["host"],
        "zone": row["availability_zone"],
        "status": "disabled" if row["disabled"] else "enabled",
        "state": "up" if up else "down",
    }


def _pool(row: Any, up: set[str]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "total_gib": row["stats"].get("total_capacity_gb"),
        "free_gib": row["stats"].get("free_capacity_gb"),
        "state": "up" if row["service_host"] in up else "down",
        "ports": row["stats"].get(CAPABILITY),
    }


def _operation(row: Any) -> dict[str, Any]:
    return {key: row[key] for key in ("id", "kind", "resource_id", "request_id", "attempts", "created_at", "error")}
