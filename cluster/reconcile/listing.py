"""The list of orphans: objects without a row, and strays (`cluster.reconcile.strays`), as far as they are there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from sqlalchemy import Connection, Table, delete, insert, select

from cluster.journal.records import Operation, OperationState
from cluster.outside import Outside
from cluster.reconcile.records import Orphan
from cluster.reconcile.standing import standings
from cluster.reconcile.strays import Strays
from cluster.scheduling.host_name import service_of
from drivers.vocabulary import InventoryItem

_OPERATION = cast(Table, Operation.__table__)  # type: ignore[attr-defined]
_ORPHAN = cast(Table, Orphan.__table__)  # type: ignore[attr-defined]


def listed(db: Connection) -> dict[str, str]:
    """Id and host (`host@backend#pool`) of every orphan in the list. Of objects that share an id, one is listed at a
    time; the next one when that is gone."""
    return {row.id: row.host for row in db.execute(select(_ORPHAN.c.id, _ORPHAN.c.host))}


def update(
    db: Connection,
    outside: Outside,
    service: str,
    found: Iterable[InventoryItem],
    without_row: Iterable[InventoryItem],
    strays: Strays,
) -> None:
    """Bring the list of what is at `service` up to date. `without_row` and `strays` are of the inventory `found`."""
    before = listed(db)
    here = {object_id for object_id, host in before.items() if service_of(host) == service}
    there = {item.id: item for item in found if before.get(item.id) == f"{service}#{item.pool}"}
    candidates = {item.id: item for item in without_row} | {item.id: item for item, _standing in strays.values()}
    standing = standings(db, [*candidates.keys(), *there.keys()])
    current = {
        # Known on another host is known: a host that changed its name makes no orphans.
        **{item.id: item for item in candidates.values() if item.id not in standing},
        **{item.id: item for item, row in strays.values() if standing.get(item.id) == row},
        # A stray stays listed while only its row's own object cannot be seen: it is looked for again at a deletion.
        **{
            item.id: item
            for item in there.values()
            if item.id not in standing or standing[item.id].may_be_strayed_from_by(service, item)
        },
    }
    busy = set(db.scalars(select(_OPERATION.c.resource_id).where(_OPERATION.c.state == OperationState.LIVE)))
    gone = {
        object_id
        for object_id in here - busy  # those being adopted or deleted are that flow's
        if object_id not in current or before[object_id] != f"{service}#{current[object_id].pool}"
    }
    db.execute(delete(_ORPHAN).where(_ORPHAN.c.id.in_(gone)))
    for item in current.values():
        if item.id not in before or item.id in gone:
            db.execute(
                insert(_ORPHAN).values(
                    id=item.id,
                    kind=item.kind.value,
                    host=f"{service}#{item.pool}",
                    size_bytes=item.size_bytes,
                    parent_id=item.parent_id,
                    location=item.location[:1024],
                    first_seen_at=outside.now(),
                )
            )
