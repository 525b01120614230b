"""Leases: the right to act under a name, for a while, in an epoch.

Taking a lease raises its epoch. Whoever holds an older epoch is refused at its next write, so a lease may be taken
from a holder that is merely believed dead without harm to the records. An epoch is never smaller than the clock's
seconds when it was taken, so that a pool which remembers epochs obeys a database that was begun anew.
"""

from __future__ import annotations

from typing import cast

from sqlalchemy import Connection, Table, insert, select, update

from cluster.journal.records import Lease
from cluster.store.seam import hold

_LEASE = cast(Table, Lease.__table__)  # type: ignore[attr-defined]


def take(db: Connection, name: str, holder: str, now: float, life_seconds: float) -> int | None:
    """Take the lease when it is free, expired, or was this holder's before; return its new epoch, else None."""
    hold(db, f"lease:{name}")
    row = db.execute(select(_LEASE.c.epoch, _LEASE.c.holder, _LEASE.c.expires_at).where(_LEASE.c.name == name)).first()
    if row is None:
        epoch = max(1, int(now))
        db.execute(insert(Lease).values(name=name, epoch=epoch, holder=holder, expires_at=now + life_seconds))
        return epoch
    if row.holder != holder and row.expires_at > now:
        return None
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
