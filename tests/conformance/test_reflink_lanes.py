"""Eight long copies, and who must not wait for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.reflink.backend import ReflinkBackend
from drivers.vocabulary import InventoryItem, StaleEpochError, VolumeSpec

Ids = Callable[[], str]
LONG_SECONDS = 60


async def test_measuring_listing_and_epochs_wait_for_no_copy(tmp_path: Path, new_id: Ids) -> None:
    go_on = threading.Event()
    busy = threading.Semaphore(0)

    def wait(point: str) -> None:
        if point == "created":
            busy.release()
            assert go_on.wait(LONG_SECONDS)

    backend = ReflinkBackend(tmp_path / "pool", "pool", checkpoint=wait)
    await backend.open()
    volumes = [VolumeSpec(new_id(), 1) for _ in range(9)]
    calls = [asyncio.ensure_future(backend.ensure_volume("pool", volume)) for volume in volumes]
    try:
        for _ in range(8):
            assert await asyncio.to_thread(busy.acquire, timeout=LONG_SECONDS)
        async with asyncio.timeout(LONG_SECONDS / 2):
            [report] = await backend.pools()
            assert report.free_gib > 0
            await backend.admit(9)
            with pytest.raises(StaleEpochError):
                await backend.admit(8)
            assert await backend.inventory() == []
        assert not any(call.done() for call in calls)
    finally:
        go_on.set()
        await asyncio.gather(*calls)
    assert {item.id for item in await backend.inventory()} == {volume.id for volume in volumes}
    await backend.close()


async def test_measuring_and_epochs_wait_for_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ReflinkBackend(tmp_path / "pool", "pool")
    await backend.open()
    go_on = threading.Event()

    def list_long() -> list[InventoryItem]:
        assert go_on.wait(LONG_SECONDS)
        return []

    monkeypatch.setattr(backend._pool, "inventory", list_long)
    lists = [asyncio.ensure_future(backend.inventory()) for _ in range(8)]
    try:
        async with asyncio.timeout(LONG_SECONDS / 2):
            [report] = await backend.pools()
            assert report.name == "pool"
            await backend.admit(1)
        assert not any(listing.done() for listing in lists)
    finally:
        go_on.set()
        assert await asyncio.gather(*lists) == [[]] * 8
    await backend.close()


async def test_epochs_at_once_leave_the_highest(tmp_path: Path) -> None:
    backend = ReflinkBackend(tmp_path / "pool", "pool")
    await backend.open()
    results = await asyncio.gather(*(backend.admit(epoch) for epoch in (3, 9, 4, 7, 9)), return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None),
        type(None),
        StaleEpochError,
        StaleEpochError,
        type(None),
    ]
    with pytest.raises(StaleEpochError, match="obeys epoch 9, not 8"):
        await backend.admit(8)
    await backend.close()
