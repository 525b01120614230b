"""A volume service that comes back after a while: what waits is tried at once, not at the end of its back-off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Table, insert, select

from cluster.journal.records import Operation
from cluster.outside import Outside
from cluster.scheduling.desk import Desk
from cluster.services.report import ServiceReport, holder_name
from cluster.settings import Settings
from cluster.store.open import migrate, open_store
from cluster.store.seam import Store

_OP = cast(Table, Operation.__table__)  # type: ignore[attr-defined]


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite:///{tmp_path / 'pumice.db'}"
    await migrate(url)
    one = open_store(url)
    yield one
    await one.close()


async def waiting(store: Store) -> dict[str, float]:
    return {row.id: row.not_before for row in await store.read(lambda db: db.execute(select(_OP)).all())}


@pytest.mark.parametrize(
    ("away_seconds", "backend_up", "hurried"), [(3.0, True, False), (60.0, True, True), (60.0, False, False)]
)
async def test_what_waits_is_tried_when_a_service_is_back(
    store: Store, tmp_path: Path, away_seconds: float, backend_up: bool, hurried: bool
) -> None:
    clock = Clock()
    desk = Desk(store, Outside(seconds=clock), Settings(state_dir=tmp_path, host_name="h"))

    async def report(since: float, *, up: bool) -> None:
        holder = holder_name("p", None, since)
        await desk.report(ServiceReport("h@b", "nova", {}, backend_up=up, pools=[], holder=holder))

    await report(1.0, up=True)
    later = clock.now + away_seconds + 200.0
    common = {"kind": "volume.create", "project_id": "p", "user_id": "u", "request_id": "r", "args": {}}
    rows = [
        {**common, "id": "tried", "resource_id": "a", "attempts": 7, "not_before": later, "state": "live"},
        {**common, "id": "refused", "resource_id": "b", "attempts": 7, "not_before": later, "state": "live"},
        {**common, "id": "closed", "resource_id": "c", "attempts": 7, "not_before": later, "state": "failed"},
    ]
    rest = {"epoch": 1, "refusals": 0, "created_at": "2026-11-22T00:00:00.000000"}
    rows = [{**row, **rest, "uncertain": row["id"] != "refused"} for row in rows]
    await store.write(lambda db: db.execute(insert(_OP), rows))
    clock.now += away_seconds
    await report(2.0, up=backend_up)
    assert await waiting(store) == {
        "tried": clock.now if hurried else later,
        "refused": later,
        "closed": later,
    }
