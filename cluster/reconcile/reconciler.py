"""Comparing and mending: a row without its object becomes `error` with a message, an object without a row an orphan.

Run by the conductor under its lease; every write is fenced by the lease's epoch. No object of a backend is touched;
connections are mended (`cluster.reconcile.connections`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import structlog
from sqlalchemy import Connection, Table, exists, select, update

from cluster.attachments.standing import settle
from cluster.flows.run import Context
from cluster.journal import ledger
from cluster.journal.records import Operation, OperationState
from cluster.messages.catalogue import Action, Detail, ResourceType
from cluster.messages.intents import tell
from cluster.reconcile import listing, strays
from cluster.reconcile.comparing import TRANSITIONAL, Differences, Known, compare
from cluster.reconcile.connections import ConnectionKeeper
from cluster.reconcile.strays import Strays
from cluster.services.queries import living
from cluster.snapshots.records import Snapshot
from cluster.volumes.records import Volume
from drivers.vocabulary import InventoryItem, ObjectKind, StorageError

_VOLUME = cast(Table, Volume.__table__)  # type: ignore[attr-defined]
_SNAPSHOT = cast(Table, Snapshot.__table__)  # type: ignore[attr-defined]
_OPERATION = cast(Table, Operation.__table__)  # type: ignore[attr-defined]
_TABLES = {ObjectKind.VOLUME: _VOLUME, ObjectKind.SNAPSHOT: _SNAPSHOT}
_RESOURCES = {ObjectKind.VOLUME: ResourceType.VOLUME, ObjectKind.SNAPSHOT: ResourceType.SNAPSHOT}
log = structlog.get_logger()


class Reconciler:
    """Compares every service that lives with the records, all at the same time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._connections = ConnectionKeeper(context)

    async def round(self, epoch: int) -> None:
        """Look at every living volume service once. A service that does not answer is passed over: its work stays
        uncertain. Raises FencedError, StoreError."""
        alive = self._context.outside.seconds() - self._context.settings.timing.service_down
        services = await self._context.store.read(lambda db: living(db, alive))
        looks = [self._unplaced(epoch), *(self._guarded(service, epoch) for service in sorted(services))]
        # All of them to their end: one that went on beside the next round would be nobody's.
        for outcome in await asyncio.gather(*looks, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _guarded(self, service: str, epoch: int) -> None:
        try:
            await self.service(service, epoch)
            await self._connections.service(service, epoch)
        except StorageError as error:
            log.warning("reconcile.unanswered", host=service, error=str(error))

    async def _unplaced(self, epoch: int) -> None:
        """A volume that is nowhere and that nothing works on cannot be in a transitional state."""
        rows = await self._context.store.read(
            lambda db: db.execute(
                select(_VOLUME.c.id, _VOLUME.c.status, _VOLUME.c.project_id, _VOLUME.c.updated_at).where(
                    _VOLUME.c.host.is_(None), _VOLUME.c.status.in_(TRANSITIONAL[ObjectKind.VOLUME])
                )
            ).all()
        )

        def mend(db: Connection) -> None:
            ledger.check_epoch(db, epoch)
            for row in rows:
                one = Known(ObjectKind.VOLUME, row.id, "", row.status, row.project_id, row.updated_at, busy=False)
                if self._set(db, one, "error"):
                    self._tell(db, one, f"It was {one.status}, nothing worked on it, and it is on no backend.")

        if rows:
            await self._context.store.write(mend)

    async def service(self, service: str, epoch: int) -> Differences:
        """Compare one service (`host@backend`) and mend what differs; return the differences found."""
        before = await self._context.store.read(lambda db: known(db, service))
        found = await self._context.ports.inventory(service, epoch=epoch)
        after = await self._context.store.read(lambda db: known(db, service))
        differences = compare(before, found, after)
        listed = set((await self._context.store.read(listing.listed)).items())
        stray = await strays.find(self._context, epoch, service, found, listed)
        await self._context.store.write(lambda db: self._mend(db, service, epoch, differences, found, stray))
        if differences.missing or differences.stranded or differences.orphans or stray:
            log.warning(
                "reconcile.differences",
                host=service,
                missing=[one.id for one in differences.missing],
                stranded=[one.id for one, _there in differences.stranded],
                orphans=[item.id for item in differences.orphans],
                strays=sorted(stray),
            )
        return differences

    def _mend(
        self,
        db: Connection,
        service: str,
        epoch: int,
        differences: Differences,
        found: Sequence[InventoryItem],
        stray: Strays,
    ) -> None:
        ledger.check_epoch(db, epoch)
        for one in differences.missing:
            if self._set(db, one, "error"):
                self._tell(db, one, f"The {one.kind} is not on its backend any more; its data is not there.")
        for one, there in differences.stranded:
            truth = "available" if there else "error"
            if self._set(db, one, truth):
                if there and one.kind is ObjectKind.VOLUME:
                    settle(db, self._context.outside, one.id)
                where = "is whole on its backend" if there else "is not on its backend"
                self._tell(db, one, f"It was {one.status} and nothing worked on it. The {one.kind} {where}.")
        listing.update(db, self._context.outside, service, found, differences.orphans, stray)

    def _set(self, db: Connection, one: Known, status: str) -> bool:
        """Change the state unless the row has changed, or an operation was opened, since it was looked at."""
        table = _TABLES[one.kind]
        live = exists(
            select(_OPERATION.c.id).where(_OPERATION.c.resource_id == one.id, _OPERATION.c.state == OperationState.LIVE)
        )
        changed = db.execute(
            update(table)
            .where(table.c.id == one.id, table.c.status == one.status, ~live)
            .values(status=status, updated_at=self._context.outside.now())
        )
        return changed.rowcount == 1

    def _tell(self, db: Connection, one: Known, reason: str) -> None:
        tell(
            db,
            self._context.outside,
            self._context.settings.timing.message_life,
            project_id=one.project_id,
            request_id="",
            action=Action.COMPARE_WITH_STORAGE,
            detail=Detail.UNKNOWN_ERROR,
            resource_type=_RESOURCES[one.kind],
            resource_id=one.id,
            reason=reason,
        )


def known(db: Connection, service: str) -> list[Known]:
    """Every volume and snapshot that the records place on the service, and every one that is under way to it."""
    busy = set(db.scalars(select(_OPERATION.c.resource_id).where(_OPERATION.c.state == OperationState.LIVE)))
    volumes = db.execute(
        select(_VOLUME.c.id, _VOLUME.c.host, _VOLUME.c.status, _VOLUME.c.project_id, _VOLUME.c.updated_at).where(
            _VOLUME.c.host.startswith(f"{service}#", autoescape=True)
        )
    ).all()
    snapshots = db.execute(
        select(
            *(_SNAPSHOT.c.id, _VOLUME.c.host, _SNAPSHOT.c.status, _SNAPSHOT.c.project_id, _SNAPSHOT.c.updated_at),
            _SNAPSHOT.c.volume_id,
        )
        .join(_VOLUME, _VOLUME.c.id == _SNAPSHOT.c.volume_id)
        .where(_VOLUME.c.host.startswith(f"{service}#", autoescape=True))
    ).all()
    return [
        *(
            Known(ObjectKind.VOLUME, row.id, row.host, row.status, row.project_id, row.updated_at, row.id in busy)
            for row in volumes
        ),
        *(
            # A cascade works on the snapshots under the operation of their volume.
            Known(
                *(ObjectKind.SNAPSHOT, row.id, row.host, row.status, row.project_id, row.updated_at),
                row.id in busy or row.volume_id in busy,
            )
            for row in snapshots
        ),
    ]
