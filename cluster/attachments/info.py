"""What a client is told of a connection: the export's own data and what Cinder adds to it.

Added: `access_mode` (of this very connection), `encrypted`, `cacheable` (the type's, unless the export says no),
`qos_specs` (what the consumer is to enforce), `enforce_multipath` (as the connector asked); for an attachment also
`attachment_id`. Source: Cinder's volume manager; json_shapes §2. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from cluster.qos_specs.limits import front_end
from cluster.qos_specs.records import QosSpec
from cluster.volume_types.records import VolumeType
from cluster.volumes.records import Volume

_TRUE: Final = "<is> True"
_VOLUME: Final = Volume.metadata.tables["volume"]
_TYPE: Final = VolumeType.metadata.tables["volume_type"]
_QOS: Final = QosSpec.metadata.tables["qos_spec"]


@dataclass(frozen=True, slots=True)
class Added:
    """What is added to the data of a volume's connection; `cacheable` None for a volume without a type."""

    access_mode: str
    encrypted: bool
    cacheable: bool | None
    qos_specs: Mapping[str, str | int] | None
    enforce_multipath: bool

    def to(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """`data` of the export with this added."""
        found = dict(data)
        found |= {"qos_specs": dict(self.qos_specs) if self.qos_specs is not None else None}
        found |= {"access_mode": self.access_mode, "enforce_multipath": self.enforce_multipath}
        if found.get("encrypted") is None:
            found["encrypted"] = self.encrypted
        if self.cacheable is not None:
            found["cacheable"] = self.cacheable and found.get("cacheable") in (None, True)
        return found


def added(db: Connection, volume_id: str, mode: str, connector: Mapping[str, Any]) -> Added:
    """What is to be added for a connection in `mode` (`rw`, `ro`) with this connector. The volume must exist."""
    row = db.execute(
        select(_VOLUME.c.size_gib, _VOLUME.c.encrypted, _TYPE.c.extra_specs, _QOS.c.consumer, _QOS.c.specs)
        .select_from(
            _VOLUME.outerjoin(_TYPE, _TYPE.c.id == _VOLUME.c.volume_type_id).outerjoin(
                _QOS, _QOS.c.id == _TYPE.c.qos_specs_id
            )
        )
        .where(_VOLUME.c.id == volume_id)
    ).one()
    return Added(
        access_mode=mode,
        encrypted=bool(row.encrypted),
        cacheable=None if row.extra_specs is None else row.extra_specs.get("cacheable") == _TRUE,
        qos_specs=None if row.consumer is None else front_end(row.consumer, row.specs, row.size_gib),
        enforce_multipath=connector.get("enforce_multipath") is True,
    )


def nested(driver_volume_type: str, data: Mapping[str, Any], more: Added) -> dict[str, Any]:
    """How the older flow shows a connection."""
    return {"driver_volume_type": driver_volume_type, "data": more.to(data)}


def flat(driver_volume_type: str, data: Mapping[str, Any], more: Added, attachment_id: str) -> dict[str, Any]:
    """How an attachment shows its connection."""
    return more.to(data) | {"driver_volume_type": driver_volume_type, "attachment_id": attachment_id}
