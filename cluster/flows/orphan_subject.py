"""The orphan row, as the two flows on orphans read and remove it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Connection, Table, delete, select

from cluster.flows.subjects import GoneError
from cluster.reconcile.records import Orphan

_ORPHAN = cast(Table, Orphan.__table__)  # type: ignore[attr-defined]


def orphan_row(db: Connection, orphan_id: str) -> Mapping[str, Any]:
    """The orphan. Raises GoneError."""
    row = db.execute(select(_ORPHAN).where(_ORPHAN.c.id == orphan_id)).first()
    if row is None:
        raise GoneError(f"orphan {orphan_id} has no row")
    return dict(row._mapping)


def forget(db: Connection, orphan_id: str) -> None:
    """Remove the row."""
    db.execute(delete(_ORPHAN).where(_ORPHAN.c.id == orphan_id))
