"""The scheduler's desk while the database is away, and the conductor's lease after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.journal import lease
from cluster.outside import Outside
from cluster.scheduling import desk as desk_module
from cluster.scheduling.desk import Desk
from cluster.scheduling.request import PlacementRequest
from cluster.services.report import ServiceReport, holder_name
from cluster.settings import Settings
from cluster.store.open import migrate, open_store
from cluster.store.seam import Store, StoreUnavailableError
from drivers.vocabulary import Capabilities, PoolReport, RetryableError

REQUEST = PlacementRequest("6e1b0a6e-2f7e-4b0e-9d5e-0a5b0c1d2e3f", 1)


class Flaky:
    """A store whose database does not answer the first reads."""

    def __init__(self, store: Store, refusals: int) -> None:
        self._store, self.refusals = store, refusals

    async def read(self, work: Callable[..., Any]) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailableError("away")
        return await self._store.read(work)

    async def write(self, work: Callable[..., Any]) -> Any:
        return await self._store.write(work)

    async def close(self) -> None:
        await self._store.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite:///{tmp_path / 'pumice.db'}"
    await migrate(url)
    one = open_store(url)
    yield one
    await one.close()


async def test_nothing_is_placed_before_the_records_were_read_and_reading_is_tried_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "_START_PAUSE_SECONDS", 0.001)
    flaky = Flaky(store, 0)
    desk = Desk(flaky, Outside(), Settings(state_dir=tmp_path, host_name="h"))
    pool = PoolReport("p", 10.0, 10.0, Capabilities("file", "v", "1", thin=True, shares_extents=True))
    await desk.report(
        ServiceReport("h@b", "nova", {}, backend_up=True, pools=[pool], holder=holder_name("p", None, 1.0))
    )
    flaky.refusals = 3
    with pytest.raises(RetryableError, match="reading its records"):
        await desk.place(REQUEST)
    assert flaky.refusals == 3
    serving = asyncio.create_task(desk.serve())
    try:
        while flaky.refusals:
            await asyncio.sleep(0.001)
            assert not serving.done()
        await asyncio.sleep(0.1)
        assert await desk.place(REQUEST) == "h@b#p"
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_an_expired_lease_is_had_at_once_in_a_later_epoch(store: Store) -> None:
    first = await store.write(lambda db: lease.take(db, "conductor", "mark/1", 100.0, 10.0))
    assert first is not None
    assert await store.write(lambda db: lease.take(db, "conductor", "mark/2", 101.0, 10.0)) is None
    await store.write(lambda db: lease.expire(db, "conductor", "mark/"))
    second = await store.write(lambda db: lease.take(db, "conductor", "mark/2", 101.0, 10.0))
    assert second is not None
    assert second > first
    assert not await store.write(lambda db: lease.renew(db, "conductor", first, 102.0, 10.0))


async def test_the_lease_of_another_instance_is_left_alone(store: Store) -> None:
    await store.write(lambda db: lease.take(db, "conductor", "mark/1", 100.0, 10.0))
    await store.write(lambda db: lease.expire(db, "conductor", "other"))
    await store.write(lambda db: lease.expire(db, "conductor", "m_rk"))
    await store.write(lambda db: lease.expire(db, "other", "mark/"))
    assert await store.write(lambda db: lease.take(db, "conductor", "mark/2", 101.0, 10.0)) is None


@pytest.mark.parametrize("beats", [False, True])
async def test_who_was_stopped_does_not_take_the_others_for_dead(store: Store, tmp_path: Path, beats: bool) -> None:
    ahead, settings = 0.0, Settings(state_dir=tmp_path, host_name="h")
    outside = Outside(seconds=lambda: time.time() + ahead, monotonic=lambda: time.monotonic() + ahead)
    desk = Desk(store, outside, settings)
    await desk.start()
    await desk._beat()
    pool = PoolReport("p", 10.0, 10.0, Capabilities("file", "v", "1", thin=True, shares_extents=True))
    report = ServiceReport("h@b", "nova", {}, backend_up=True, pools=[pool], holder=holder_name("p", None, 1.0))
    await desk.report(report)
    assert await desk.place(REQUEST) == "h@b#p"
    ahead = desk_module._START_SECONDS + settings.timing.service_down + 1
    if beats:
        await desk._beat()
    with pytest.raises(RetryableError, match="held up"):
        await desk.place(PlacementRequest("7e1b0a6e-2f7e-4b0e-9d5e-0a5b0c1d2e3f", 1))
