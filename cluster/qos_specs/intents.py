"""Writing QoS specs and which volume types have them. Each function is one transaction's work.

A type has at most one. What changes reaches attached volumes by `live.renew`, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select, update
from sqlmodel import col

from cluster.caller import Caller
from cluster.errors import ConflictError, InvalidInputError, InvalidStateError, NotFoundError
from cluster.outside import Outside
from cluster.qos_specs import queries
from cluster.qos_specs.records import Consumer, QosSpec
from cluster.store.seam import hold
from cluster.volume_types import queries as types
from cluster.volume_types.intents import ALL_TYPES
from cluster.volume_types.records import VolumeType


def create(db: Connection, outside: Outside, *, name: str, consumer: str | None, specs: Mapping[str, str]) -> str:
    """Make specs; return their id. Without a `consumer` the back end enforces them. Raises ConflictError when the name
    is taken, InvalidInputError for a consumer that is none."""
    hold(db, ALL_TYPES)
    valid = _consumer(consumer)
    if db.execute(select(col(QosSpec.id)).where(col(QosSpec.name) == name)).first() is not None:
        raise ConflictError(f"QoS Specs {name} already exists.")
    spec_id = outside.new_id()
    values = {"id": spec_id, "name": name, "consumer": valid, "specs": dict(specs), "created_at": outside.now()}
    db.execute(insert(QosSpec).values(values))
    return spec_id


def change(db: Connection, outside: Outside, spec_id: str, changes: Mapping[str, str | None]) -> None:
    """Add or overwrite keys; the key `consumer` says who enforces them. Raises NotFoundError, InvalidInputError."""
    hold(db, ALL_TYPES)
    row = queries.fetch(db, spec_id)
    consumer = _consumer(changes["consumer"]) if "consumer" in changes else row["consumer"]
    added = {key: value or "" for key, value in changes.items() if key != "consumer"}
    _write(db, outside, spec_id, consumer=consumer, specs={**row["specs"], **added})


def drop_keys(db: Connection, outside: Outside, spec_id: str, keys: Sequence[str]) -> None:
    """Remove keys: all of them, or none where one is missing. Raises NotFoundError (the specs or a key)."""
    hold(db, ALL_TYPES)
    specs = dict(queries.fetch(db, spec_id)["specs"])
    for key in keys:
        if specs.pop(key, None) is None:
            raise NotFoundError(f"QoS spec {spec_id} has no spec with key {key}.")
    _write(db, outside, spec_id, specs=specs)


def remove(db: Connection, spec_id: str, *, force: bool = False) -> None:
    """Delete specs; `force` takes them from the types that have them. Raises NotFoundError, InvalidStateError."""
    hold(db, ALL_TYPES)
    queries.fetch(db, spec_id)
    if not force and queries.associations(db, spec_id):
        raise InvalidStateError("Qos specs still in use.")
    _dissociate(db, spec_id)
    db.execute(delete(QosSpec).where(col(QosSpec.id) == spec_id))


def associate(db: Connection, caller: Caller, spec_id: str, type_id: str) -> None:
    """Give the specs to a volume type; safe to repeat. Raises NotFoundError (specs, type), InvalidInputError when the
    type has others."""
    hold(db, ALL_TYPES)
    queries.fetch(db, spec_id)
    known = types.fetch(db, caller, type_id)["qos_specs_id"]
    if known is not None and known != spec_id:
        raise InvalidInputError(
            f"Invalid volume type: Type {type_id} is already associated with another qos specs: {known}"
        )
    db.execute(update(VolumeType).where(col(VolumeType.id) == type_id).values(qos_specs_id=spec_id))


def disassociate(db: Connection, caller: Caller, spec_id: str, type_id: str) -> None:
    """Take the specs from a volume type, if it has them. Raises NotFoundError (specs, type)."""
    hold(db, ALL_TYPES)
    queries.fetch(db, spec_id)
    types.fetch(db, caller, type_id)
    _dissociate(db, spec_id, type_id)


def disassociate_all(db: Connection, spec_id: str) -> None:
    """Take the specs from every volume type. Raises NotFoundError."""
    hold(db, ALL_TYPES)
    queries.fetch(db, spec_id)
    _dissociate(db, spec_id)


def _consumer(text: str | None) -> str:
    if text is None:
        return Consumer.BACK_END.value
    try:
        return Consumer(text).value
    except ValueError:
        known = ", ".join(each.value for each in Consumer)
        raise InvalidInputError(f"Invalid qos specs: Valid consumer of QoS specs are: {known}") from None


def _dissociate(db: Connection, spec_id: str, type_id: str | None = None) -> None:
    statement = update(VolumeType).where(col(VolumeType.qos_specs_id) == spec_id)
    if type_id is not None:
        statement = statement.where(col(VolumeType.id) == type_id)
    db.execute(statement.values(qos_specs_id=None))


def _write(db: Connection, outside: Outside, spec_id: str, **values: object) -> None:
    db.execute(update(QosSpec).where(col(QosSpec.id) == spec_id).values(**values, updated_at=outside.now()))
