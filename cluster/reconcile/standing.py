"""What the records say of an object that was found somewhere: whether a row has its id, and where that places its own.

An object whose row places its own elsewhere is a *stray*: what a late call left behind in a pool that was given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Table, select

from cluster.journal.records import Operation, OperationState
from cluster.reconcile.comparing import TRANSITIONAL
from cluster.snapshots.records import Snapshot
from cluster.volumes.records import Volume
from drivers.vocabulary import InventoryItem, ObjectKind

_VOLUME = cast(Table, Volume.__table__)  # type: ignore[attr-defined]
_SNAPSHOT = cast(Table, Snapshot.__table__)  # type: ignore[attr-defined]
_OPERATION = cast(Table, Operation.__table__)  # type: ignore[attr-defined]
_AT_ONCE = 500  # ids in one statement


@dataclass(frozen=True, slots=True)
class Standing:
    """The row of an object's id. `host` is `host@backend#pool`, None where the row places it nowhere. `busy`: an
    operation on it (for a snapshot: or on its volume) is live."""

    kind: ObjectKind
    id: str
    host: str | None
    status: str
    updated_at: str | None
    busy: bool

    @property
    def settled(self) -> bool:
        """Whether nothing works on it, and its state says so."""
        return not self.busy and self.status not in TRANSITIONAL[self.kind]

    @property
    def place(self) -> str:
        """Where it is, for a sentence."""
        return "on no backend" if self.host is None else f"in {self.host}"

    def is_at(self, service: str, item: InventoryItem) -> bool:
        """Whether the row places its object exactly where the service's inventory shows `item`."""
        return (self.kind, self.id, self.host) == (item.kind, item.id, f"{service}#{item.pool}")

    def is_among(self, service: str, inventory: Iterable[InventoryItem]) -> bool:
        """Whether the service's inventory shows the row's own object."""
        return any(self.is_at(service, item) for item in inventory)

    def may_be_strayed_from_by(self, service: str, item: InventoryItem) -> bool:
        """Whether `item` is not the row's own object, if that one is seen where the row places it."""
        return self.kind == item.kind and not self.is_at(service, item)


def standing_of(db: Connection, object_id: str) -> Standing | None:
    """The standing of one id; None when no row has it."""
    return standings(db, [object_id]).get(object_id)


def standings(db: Connection, ids: Sequence[str]) -> dict[str, Standing]:
    """The standing of those of the ids that a row has."""
    found: dict[str, Standing] = {}
    for start in range(0, len(ids), _AT_ONCE):
        found |= _some(db, ids[start : start + _AT_ONCE])
    return found


def _some(db: Connection, ids: Sequence[str]) -> dict[str, Standing]:
    columns = ("id", "status", "updated_at")
    volumes = db.execute(select(*(_VOLUME.c[name] for name in columns), _VOLUME.c.host).where(_VOLUME.c.id.in_(ids)))
    snapshots = db.execute(
        select(*(_SNAPSHOT.c[name] for name in columns), _VOLUME.c.host, _SNAPSHOT.c.volume_id)
        .join(_VOLUME, _VOLUME.c.id == _SNAPSHOT.c.volume_id)
        .where(_SNAPSHOT.c.id.in_(ids))
    )
    rows: list[tuple[ObjectKind, dict[str, Any]]] = [(ObjectKind.VOLUME, row._asdict()) for row in volumes]
    rows += [(ObjectKind.SNAPSHOT, row._asdict()) for row in snapshots]
    worked_on = {row["id"] for _kind, row in rows} | {row["volume_id"] for _kind, row in rows if "volume_id" in row}
    live = set(
        db.scalars(
            select(_OPERATION.c.resource_id).where(
                _OPERATION.c.resource_id.in_(worked_on), _OPERATION.c.state == OperationState.LIVE
            )
        )
    )
    return {
        row["id"]: Standing(
            *(kind, row["id"], row["host"], row["status"], row["updated_at"]),
            busy=bool({row["id"], row.get("volume_id")} & live),
        )
        for kind, row in rows
    }
