"""Reading QoS specs and which volume types have them. Only administrators come here: specs belong to no project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select
from sqlmodel import SQLModel, col

from cluster.errors import NotFoundError
from cluster.qos_specs.records import QosSpec
from cluster.volume_types.records import VolumeType

_TABLE = SQLModel.metadata.tables[str(QosSpec.__tablename__)]
COLUMNS: dict[str, ColumnElement[Any]] = {
    name: _TABLE.c[name] for name in ("id", "name", "consumer", "created_at", "updated_at")
}
FILTERS = frozenset(("id", "name", "consumer"))


def fetch(db: Connection, spec_id: str) -> dict[str, Any]:
    """The specs by id. Raises NotFoundError."""
    row = db.execute(select(QosSpec).where(col(QosSpec.id) == spec_id)).first()
    if row is None:
        raise NotFoundError(f"No such QoS spec {spec_id}.")
    return row._asdict()


def listing(equal: Mapping[str, str]) -> Select[Any]:
    """The specs whose columns (of `FILTERS`) have these values, unordered."""
    return select(QosSpec).where(*(COLUMNS[name] == value for name, value in equal.items()))


def associations(db: Connection, spec_id: str) -> list[dict[str, str]]:
    """`id` and `name` of the volume types that have the specs, by name."""
    statement = (
        select(col(VolumeType.id), col(VolumeType.name))
        .where(col(VolumeType.qos_specs_id) == spec_id)
        .order_by(col(VolumeType.name))
    )
    return [{"id": type_id, "name": name} for type_id, name in db.execute(statement)]
