"""Leases: the right to act under a name, for a while, in an epoch.

A new holder raises the epoch. Whoever holds an older epoch is refused at its next write, so a lease may be taken from a
holder that is merely believed dead without harm to the records. An epoch is never smaller than the clock's seconds when
it was taken, so that a pool which remembers epochs obeys a database that was begun anew.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection, Row, Table, insert, select, update

from cluster.journal.records import Lease
from cluster.store.seam import hold

_LEASE = cast(Table, Lease.__table__)  # type: ignore[attr-defined]


def take_turn(db: Connection, name: str) -> None:
    """Let nobody else take this lease until the transaction ends."""
    hold(db, f"lease:{name}")


def read(db: Connection, name: str) -> Row[Any, Any, Any] | None:
    """The lease's `epoch`, `holder` and `expires_at` (seconds since the epoch); None if nobody ever had it."""
    return db.execute(select(_LEASE.c.epoch, _LEASE.c.holder, _LEASE.c.expires_at).where(_LEASE.c.name == name)).first()


def take(db: Connection, name: str, holder: str, now: float, life_seconds: float) -> int | None:
    """Take the lease when it is free, expired, or was this holder's before; return its new epoch, else None."""
    take_turn(db, name)
    row = read(db, name)
    if row is not None and row.holder != holder and row.expires_at > now:
        return None
    return _begin(db, name, holder, now, life_seconds, row)


def keep(db: Connection, name: str, holder: str, now: float, life_seconds: float) -> int:
    """Prolong the lease if it is this holder's, in the same epoch; else take it, whoever has it, in a new one. Return
    the epoch. Whether it may be taken is the caller's affair, who has taken the turn before (`take_turn`)."""
    row = read(db, name)
    if row is not None and row.holder == holder:
        db.execute(update(Lease).where(_LEASE.c.name == name).values(expires_at=now + life_seconds))
        return int(row.epoch)
    return _begin(db, name, holder, now, life_seconds, row)


def _begin(
    db: Connection, name: str, holder: str, now: float, life_seconds: float, row: Row[Any, Any, Any] | None
) -> int:
    if row is None:
        epoch = max(1, int(now))
        db.execute(insert(Lease).values(name=name, epoch=epoch, holder=holder, expires_at=now + life_seconds))
        return epoch
    epoch = max(int(row.epoch) + 1, int(now))
    db.execute(
        update(Lease).where(_LEASE.c.name == name).values(epoch=epoch, holder=holder, expires_at=now + life_seconds)
    )
    return epoch


def expire(db: Connection, name: str, holder_prefix: str) -> None:
    """End the lease before its time if whoever holds it is named so. For one who knows that this holder is dead: the
    next need not wait then. Its epoch stays, so that a holder that lives after all is fenced as ever."""
    ours = _LEASE.c.holder.startswith(holder_prefix, autoescape=True)
    db.execute(update(Lease).where(_LEASE.c.name == name, ours).values(expires_at=0.0))


def renew(db: Connection, name: str, epoch: int, now: float, life_seconds: float) -> bool:
    """Prolong the lease; False when somebody took it since."""
    changed = db.execute(
        update(Lease).where(_LEASE.c.name == name, _LEASE.c.epoch == epoch).values(expires_at=now + life_seconds)
    )
    return changed.rowcount == 1
