"""The connection as its two flows read it, and as its host is to have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select
from sqlmodel import col

from cluster.attachments.queries import CONNECTION
from cluster.flows.subjects import GoneError
from cluster.qos_specs import limits
from cluster.qos_specs.records import QosSpec
from cluster.scheduling.extra_specs import requirements
from cluster.scheduling.host_name import service_of
from cluster.services.records import Pool
from cluster.volume_types.records import VolumeType
from cluster.volumes.records import Volume
from drivers.vocabulary import UNLIMITED, AccessMode, ConnectionSpec


def connection_row(db: Connection, connection_id: str) -> Mapping[str, Any]:
    """The connection with its volume's `host` and `size_gib`, `extra_specs` and QoS `specs` of the type, and the
    `protocols` of the host. Raises GoneError."""
    row: Any = db.execute(
        select(
            CONNECTION,
            col(Volume.host),
            col(Volume.size_gib),
            col(Volume.target_size_gib),
            col(VolumeType.extra_specs),
            col(QosSpec.consumer).label("qos_consumer"),
            col(QosSpec.specs).label("qos_specs"),
        )
        .join(Volume, col(Volume.id) == CONNECTION.c.volume_id)
        .outerjoin(VolumeType, col(VolumeType.id) == col(Volume.volume_type_id))
        .outerjoin(QosSpec, col(QosSpec.id) == col(VolumeType.qos_specs_id))
        .where(CONNECTION.c.id == connection_id)
    ).first()
    if row is None:
        raise GoneError(f"connection {connection_id} has no row")
    return dict(row._mapping) | {"protocols": _protocols(db, row.host)}


def host_of(db: Connection, volume_id: str) -> str | None:
    """Where the volume is; None when it has no row or no place."""
    return db.scalar(select(col(Volume.host)).where(col(Volume.id) == volume_id))


def connection_spec(row: Mapping[str, Any]) -> ConnectionSpec:
    """The connection as the host is to have it."""
    qos = row["qos_specs"]
    return ConnectionSpec(
        id=row["id"],
        volume_id=row["volume_id"],
        size_gib=row["size_gib"],
        mode=AccessMode(row["mode"]),
        connector=row["connector"],
        secret=row["secret"],
        protocol=wanted_protocol(row["extra_specs"] or {}, row["protocols"]),
        limits=UNLIMITED if qos is None else limits.back_end(row["qos_consumer"], qos, row["size_gib"]),
    )


def as_told(spec: ConnectionSpec, row: Mapping[str, Any]) -> ConnectionSpec:
    """`spec` for a consumer that was let in before: by the protocol that it was told, whatever its type says by now,
    for it is using that one. A host without a protocol of this name chooses as for one that is new."""
    told = str(row["info"]["driver_volume_type"])
    is_there = told.lower() in (each.lower() for each in row["protocols"])
    return replace(spec, protocol=told) if is_there else spec


def wanted_protocol(extra_specs: Mapping[str, str], protocols: list[str]) -> str | None:
    """The first of the host's `protocols` that the type asks for; None when it does not ask. The scheduler saw to it
    that there is one; should it have gone meanwhile, what the type says is handed on for the host to refuse."""
    asked = [each for each in requirements(extra_specs) if each.path == ("storage_protocol",)]
    if not asked:
        return None
    fitting = [each for each in protocols if all(requirement.test(each) for requirement in asked)]
    return fitting[0] if fitting else asked[0].wanted


def _protocols(db: Connection, host: str | None) -> list[str]:
    if host is None:
        return []
    stats = db.scalars(select(col(Pool.stats)).where(col(Pool.name) == host)).first()
    if stats is None:
        stats = db.scalars(select(col(Pool.stats)).where(col(Pool.service_host) == service_of(host))).first() or {}
    found: Any = stats.get("storage_protocol")
    return [str(each) for each in found] if isinstance(found, list) else [str(found)] if found else []
