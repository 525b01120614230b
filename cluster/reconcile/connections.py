"""Comparing connections: what the records say is let in against what the exports of a host serve.

A connection that has an info and is not served is opened again: its consumer may be using it. One that is served and
unknown to the records, seen so twice in a row, is closed: it holds no data. Both run as operations, so that nothing
else works on the same connection at the same time; every write is fenced by the lease's epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog
from sqlalchemy import Connection, Table, and_, exists, or_, select

from cluster.attachments.connections import CLOSE, OPEN, How
from cluster.attachments.queries import ATTACHMENT, CONNECTION
from cluster.caller import Caller
from cluster.flows.run import Context
from cluster.journal import ledger
from cluster.journal.intents import open_operation
from cluster.journal.records import Operation, OperationState
from cluster.outside import stamp
from cluster.scheduling.host_name import service_of
from cluster.volumes.queries import VOLUME
from cluster.volumes.records import AttachStatus
from drivers.vocabulary import ConnectionItem

_OPERATION = cast(Table, Operation.__table__)  # type: ignore[attr-defined]
# How long a re-export that failed for good is left alone: it was told, and an operator has to act.
_LEFT_ALONE_SECONDS: Final = 600.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Open:
    """A connection that the records say is open; `project_id` and `user_id` are those of the volume."""

    id: str
    volume_id: str
    project_id: str
    user_id: str


class ConnectionKeeper:
    """Keeps what is served and what the records say the same. Remembers between rounds what it saw once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._strange: dict[str, set[str]] = {}

    async def service(self, service: str, epoch: int) -> None:
        """Compare one service (`host@backend`). Raises FencedError, StoreError, StorageError."""
        store = self._context.store
        # Whoever closes a connection removes its row last, and whoever opens one writes its row first: a row from
        # before the look and a service seen in it are both true only if nothing happened in between.
        before = await store.read(lambda db: _open_of(db, service, self._retry_since()))
        found = {item.id: item for item in await self._context.ports.connections(service, epoch=epoch)}
        lost = [one for one in before if one.id not in found]
        known = await store.read(lambda db: _known(db, found))
        strange = found.keys() - known
        twice = strange & self._strange.get(service, set())
        self._strange[service] = set(strange)
        if not lost and not twice:
            return
        mended = await store.write(lambda db: self._mend(db, service, epoch, lost, [found[each] for each in twice]))
        log.warning("reconcile.connections", host=service, reopened=mended[0], closed=mended[1])

    def _retry_since(self) -> str:
        return stamp(self._context.outside.seconds() - _LEFT_ALONE_SECONDS)

    def _mend(
        self, db: Connection, service: str, epoch: int, lost: Iterable[_Open], strange: Iterable[ConnectionItem]
    ) -> tuple[list[str], list[str]]:
        ledger.check_epoch(db, epoch)
        still = {one.id: one for one in _open_of(db, service, self._retry_since())}
        reopened = [one for one in lost if one.id in still]
        for one in reopened:
            caller = Caller(user_id=one.user_id, project_id=one.project_id, request_id="")
            args = {"volume_id": one.volume_id, "how": How.AGAIN.value}
            open_operation(db, self._context.outside, caller, OPEN, one.id, args)
        closed = [item for item in strange if item.id not in _known(db, [item.id])]
        for item in closed:
            caller = Caller(user_id="", project_id="", request_id="")
            args = {"volume_id": item.volume_id, "host": self._pool_of(db, service, item.volume_id)}
            open_operation(db, self._context.outside, caller, CLOSE, item.id, args)
        return [one.id for one in reopened], [item.id for item in closed]

    @staticmethod
    def _pool_of(db: Connection, service: str, volume_id: str) -> str:
        """Where the export is: the volume's own pool if it is of this service. The pool plays no part in ending a
        connection; of a volume that has no row, or is elsewhere by now, any name serves."""
        host = db.scalar(select(VOLUME.c.host).where(VOLUME.c.id == volume_id))
        return host if host is not None and service_of(host) == service else f"{service}#{service.partition('@')[2]}"


def _open_of(db: Connection, service: str, retry_since: str) -> list[_Open]:
    """The service's connections that are open by the records and that nothing works on, neither on them nor on the end
    of their volume, and whose re-export has not failed since `retry_since`."""
    operation = _OPERATION.alias()
    busy = exists(
        select(operation.c.id).where(
            operation.c.state == OperationState.LIVE,
            or_(
                operation.c.resource_id == CONNECTION.c.id,
                and_(operation.c.resource_id == VOLUME.c.id, operation.c.kind == "volume.delete"),
            ),
        )
    )
    failed = exists(
        select(operation.c.id).where(
            operation.c.resource_id == CONNECTION.c.id,
            operation.c.kind == OPEN,
            operation.c.state == OperationState.FAILED,
            operation.c.finished_at > retry_since,
        )
    )
    # A detachment that failed (its consumer held the device) is to be repeated, not taken back.
    leaving = exists(
        select(ATTACHMENT.c.id).where(
            ATTACHMENT.c.id == CONNECTION.c.id, ATTACHMENT.c.attach_status == AttachStatus.ERROR_DETACHING
        )
    )
    rows: Any = db.execute(
        select(CONNECTION.c.id, CONNECTION.c.volume_id, VOLUME.c.project_id, VOLUME.c.user_id)
        .join(VOLUME, VOLUME.c.id == CONNECTION.c.volume_id)
        .where(
            CONNECTION.c.info.is_not(None),
            VOLUME.c.host.startswith(f"{service}#", autoescape=True),
            ~busy,
            ~failed,
            ~leaving,
        )
        .order_by(CONNECTION.c.id)
    )
    return [_Open(row.id, row.volume_id, row.project_id, row.user_id) for row in rows]


def _known(db: Connection, ids: Iterable[str]) -> set[str]:
    """Those of the ids that have a row, or an operation that is live."""
    asked = list(ids)
    rows = set(db.scalars(select(CONNECTION.c.id).where(CONNECTION.c.id.in_(asked))))
    live = select(_OPERATION.c.resource_id).where(
        _OPERATION.c.resource_id.in_(asked), _OPERATION.c.state == OperationState.LIVE
    )
    return rows | set(db.scalars(live))
