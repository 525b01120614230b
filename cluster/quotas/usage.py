"""How much of its quota a project uses, may use, and whether there is room for more.

Usage is counted from the resources themselves inside the transaction that needs it, so it cannot drift (known pains
25, 26). Limits come from the project, then from the class `default`, then from the settings. Names are those of the
wire: `volumes`, `gigabytes`, `snapshots` and, for every volume type, `volumes_<type>`, `gigabytes_<type>`,
`snapshots_<type>`; the tables hold the latter as `<resource>:<type id>`. Must not know HTTP.

Sources: Cinder's resource list and defaults (json_shapes §2, quota set); its sentences for the refusals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, case, func, select, true

from cluster.errors import OverQuotaError
from cluster.quotas.records import QuotaClassLimit, QuotaLimit
from cluster.settings import QuotaSettings
from cluster.snapshots.records import Snapshot
from cluster.store.seam import hold
from cluster.volume_types.records import VolumeType
from cluster.volumes.records import Volume

TYPED: Final = ("volumes", "gigabytes", "snapshots")
COUNTED: Final = ("volumes", "snapshots", "gigabytes", "backups", "backup_gigabytes", "groups")
DEFAULT_CLASS: Final = "default"
UNLIMITED: Final = -1

_VOLUME = Volume.metadata.tables["volume"].c
_SNAPSHOT = Snapshot.metadata.tables["snapshot"].c
_TYPE = VolumeType.metadata.tables["volume_type"].c
_LIMIT = QuotaLimit.metadata.tables["quota_limit"].c
_CLASS = QuotaClassLimit.metadata.tables["quota_class_limit"].c


@dataclass(frozen=True, slots=True)
class Usage:
    """What is there (`in_use`) and what extends under way will add (`reserved`)."""

    in_use: int = 0
    reserved: int = 0

    @property
    def total(self) -> int:
        """Both together: what a limit is compared with."""
        return self.in_use + self.reserved


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request would add to a project's usage, all of one volume type. `size_gib` is the size the volume would
    have (for `per_volume_gigabytes`); None for a snapshot."""

    volumes: int = 0
    snapshots: int = 0
    gigabytes: int = 0
    volume_type_id: str | None = None
    size_gib: int | None = None


@dataclass(slots=True)
class _Count:
    volumes: int = 0
    snapshots: int = 0
    gigabytes: int = 0
    growing: int = 0

    def add(self, other: _Count) -> None:
        self.volumes += other.volumes
        self.snapshots += other.snapshots
        self.gigabytes += other.gigabytes
        self.growing += other.growing

    def named(self) -> Iterator[tuple[str, Usage]]:
        yield "volumes", Usage(self.volumes)
        yield "snapshots", Usage(self.snapshots)
        yield "gigabytes", Usage(self.gigabytes, self.growing)


def _volume_counts() -> Select[Any]:
    growing = case((_VOLUME.target_size_gib > _VOLUME.size_gib, _VOLUME.target_size_gib - _VOLUME.size_gib), else_=0)
    return (
        select(
            _VOLUME.volume_type_id,
            func.count().label("volumes"),
            func.coalesce(func.sum(_VOLUME.size_gib), 0),
            func.coalesce(func.sum(growing), 0),
        )
        .where(_VOLUME.project_id == bindparam("project"), _VOLUME.consumes_quota.is_(true()))
        .group_by(_VOLUME.volume_type_id)
    )


def _snapshot_counts() -> Select[Any]:
    return (
        select(_SNAPSHOT.volume_type_id, func.count(), func.coalesce(func.sum(_SNAPSHOT.size_gib), 0))
        .where(_SNAPSHOT.project_id == bindparam("project"), _SNAPSHOT.consumes_quota.is_(true()))
        .group_by(_SNAPSHOT.volume_type_id)
    )


_VOLUME_COUNTS, _SNAPSHOT_COUNTS = _volume_counts(), _snapshot_counts()
_OWN_LIMITS = select(_LIMIT.resource, _LIMIT.hard_limit).where(_LIMIT.project_id == bindparam("project"))
_CLASS_LIMITS = select(_CLASS.resource, _CLASS.hard_limit).where(_CLASS.class_name == bindparam("name"))
_TYPES = select(_TYPE.id, _TYPE.name).order_by(_TYPE.name)


def stored_names(db: Connection) -> dict[str, str]:
    """For every resource of a type, how the quota tables name it: `{"volumes_<type name>": "volumes:<type id>", …}`.

    Resources that are of no type are named alike in both places and are not in here.
    """
    return {f"{resource}_{name}": f"{resource}:{type_id}" for type_id, name in db.execute(_TYPES) for resource in TYPED}


def usage(db: Connection, project_id: str) -> dict[str, Usage]:
    """What the project uses, by wire name, of every resource and every type (zeros included)."""
    by_type = _counts(db, project_id)
    total = _Count()
    for count in by_type.values():
        total.add(count)
    answer = {resource: Usage() for resource in (*COUNTED, "per_volume_gigabytes")} | dict(total.named())
    for type_id, name in db.execute(_TYPES):
        for resource, used in by_type.get(type_id, _Count()).named():
            answer[f"{resource}_{name}"] = used
    return answer


def defaults(db: Connection, quotas: QuotaSettings) -> dict[str, int]:
    """The limits of a project that has none of its own, by wire name; -1 is unlimited."""
    return _wire_limits(db, quotas, {})


def limits(db: Connection, quotas: QuotaSettings, project_id: str) -> dict[str, int]:
    """The limits in force for the project, by wire name; -1 is unlimited."""
    return _wire_limits(db, quotas, _own_limits(db, project_id))


def class_limits(db: Connection, class_name: str) -> dict[str, int]:
    """The limits written for a class, by stored name; empty for a class nobody wrote."""
    return dict(db.execute(_CLASS_LIMITS, {"name": class_name}).all())


def check(db: Connection, quotas: QuotaSettings, project_id: str, claim: Claim) -> None:
    """Raise OverQuotaError unless the project has room for the claim.

    From here to the end of the transaction other claims of the same project wait (`hold`), so that what is counted
    stays true until the row that was claimed for is written. Refusals come in Cinder's order: the size of the one
    volume, then gigabytes, then the number, each in total before by type.
    """
    hold(db, f"quota:{project_id}")
    known = _stored_limits(db, quotas, _own_limits(db, project_id))
    largest = known["per_volume_gigabytes"]
    if claim.size_gib is not None and 0 <= largest < claim.size_gib:
        raise OverQuotaError(
            f"Requested volume size {claim.size_gib}G is larger than maximum allowed limit {largest}G."
        )
    wanted = [
        (resource, suffix, getattr(claim, resource), known.get(f"{resource}{suffix}", UNLIMITED))
        for resource in ("gigabytes", "snapshots", "volumes")
        for suffix in ("", f":{claim.volume_type_id}")
        if getattr(claim, resource)
    ]
    if all(limit < 0 for *_, limit in wanted):
        return
    counted = _counts(db, project_id)
    total, of_type = _Count(), counted.get(claim.volume_type_id, _Count())
    for count in counted.values():
        total.add(count)
    for resource, suffix, more, limit in wanted:
        used = dict((of_type if suffix else total).named())[resource].total
        if 0 <= limit < used + more:
            name = f"{resource}_{_type_name(db, claim.volume_type_id)}" if suffix else resource
            raise OverQuotaError(_refusal(resource, name, more, limit, used))


def _refusal(resource: str, name: str, more: int, limit: int, used: int) -> str:
    if resource == "gigabytes":
        return (
            f"Requested volume or snapshot exceeds allowed {name} quota. "
            f"Requested {more}G, quota is {limit}G and {used}G has been consumed."
        )
    if resource == "volumes":
        return f"Maximum number of volumes allowed ({limit}) exceeded for quota '{name}'."
    return f"Maximum number of snapshots allowed ({limit}) exceeded"


def _counts(db: Connection, project_id: str) -> dict[str | None, _Count]:
    counts: dict[str | None, _Count] = {}
    for type_id, volumes, gigabytes, growing in db.execute(_VOLUME_COUNTS, {"project": project_id}):
        counts[type_id] = _Count(volumes=volumes, gigabytes=int(gigabytes), growing=int(growing))
    for type_id, snapshots, gigabytes in db.execute(_SNAPSHOT_COUNTS, {"project": project_id}):
        counts.setdefault(type_id, _Count()).add(_Count(snapshots=snapshots, gigabytes=int(gigabytes)))
    return counts


def _own_limits(db: Connection, project_id: str) -> dict[str, int]:
    return dict(db.execute(_OWN_LIMITS, {"project": project_id}).all())


def _stored_limits(db: Connection, quotas: QuotaSettings, own: dict[str, int]) -> dict[str, int]:
    return quotas.model_dump() | class_limits(db, DEFAULT_CLASS) | own


def _wire_limits(db: Connection, quotas: QuotaSettings, own: dict[str, int]) -> dict[str, int]:
    known = _stored_limits(db, quotas, own)
    answer = {resource: known[resource] for resource in type(quotas).model_fields}
    return answer | {wire: known.get(stored, UNLIMITED) for wire, stored in stored_names(db).items()}


def _type_name(db: Connection, type_id: str | None) -> str:
    return str(db.execute(select(_TYPE.name).where(_TYPE.id == type_id)).scalar_one())
