"""Many calls at once, cancelled calls, and two holders of one storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from drivers.vocabulary import (
    BackendUnavailableError,
    ObjectKind,
    SizeConflictError,
    SnapshotSpec,
    SourceMissingError,
    VolumeSpec,
)
from tests.conformance.harness import FullBackend, Harness, Pattern

Ids = Callable[[], str]


async def test_one_id_many_times(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 1)
    made = await asyncio.gather(*(backend.ensure_volume(harness.pool, volume) for _ in range(16)))
    assert [observed.created for observed in made].count(True) == 1
    snapshot = SnapshotSpec(new_id(), volume.id, 1)
    taken = await asyncio.gather(*(backend.ensure_snapshot(harness.pool, snapshot) for _ in range(16)))
    assert [observed.created for observed in taken].count(True) == 1
    assert len(await backend.inventory()) == 2


async def test_one_id_with_two_sizes(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    object_id = new_id()
    calls = [backend.ensure_volume(harness.pool, VolumeSpec(object_id, 1 + place % 2)) for place in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, SizeConflictError) for result in results) == 4
    assert len(await backend.inventory()) == 1


async def test_making_and_deleting_at_once(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume, pattern = VolumeSpec(new_id(), 1), Pattern(40, 1, blocks=6)
    await backend.ensure_volume(harness.pool, volume)
    await pattern.write(harness, backend, volume.id)
    clones = [VolumeSpec(new_id(), 1) for _ in range(4)]
    calls = [
        call
        for _ in range(4)
        for clone in clones
        for call in (
            backend.ensure_volume_from_volume(harness.pool, clone, volume),
            backend.ensure_volume_absent(harness.pool, clone.id),
            backend.ensure_volume_from_volume(harness.pool, clone, volume),
        )
    ]
    await asyncio.gather(*calls)
    for clone in clones:
        await pattern.check(harness, backend, ObjectKind.VOLUME, clone.id)


async def test_copying_a_volume_that_is_being_deleted(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    for _ in range(5):
        volume, clone = VolumeSpec(new_id(), 1), VolumeSpec(new_id(), 1)
        pattern = Pattern(41, 1, blocks=6)
        await backend.ensure_volume(harness.pool, volume)
        await pattern.write(harness, backend, volume.id)
        copied, _ = await asyncio.gather(
            backend.ensure_volume_from_volume(harness.pool, clone, volume),
            backend.ensure_volume_absent(harness.pool, volume.id),
            return_exceptions=True,
        )
        found = {item.id for item in await backend.inventory()}
        assert volume.id not in found
        if isinstance(copied, BaseException):
            assert isinstance(copied, SourceMissingError)
            assert clone.id not in found
        else:
            await pattern.check(harness, backend, ObjectKind.VOLUME, clone.id)


async def test_clones_in_a_ring(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    """Each is the source of the next: locks taken in the order of the arguments would stand still."""
    ring = [VolumeSpec(new_id(), 1) for _ in range(4)]
    for volume in ring:
        await backend.ensure_volume(harness.pool, volume)
    calls = [
        backend.ensure_volume_from_volume(harness.pool, ring[place], ring[(place + step) % 4])
        for place in range(4)
        for step in (1, 3)
    ]
    assert not any(observed.created for observed in await asyncio.wait_for(asyncio.gather(*calls), 60))


async def test_cancelled_calls(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    """Whatever a cancelled call left, a repeat finishes and a deletion removes."""
    volume, pattern = VolumeSpec(new_id(), 1), Pattern(42, 1, blocks=12)
    await backend.ensure_volume(harness.pool, volume)
    await pattern.write(harness, backend, volume.id)
    for delay in (0.0, 0.0005, 0.002, 0.005):
        kept, dropped = VolumeSpec(new_id(), 1), VolumeSpec(new_id(), 1)
        for clone in (kept, dropped):
            call = asyncio.ensure_future(backend.ensure_volume_from_volume(harness.pool, clone, volume))
            await asyncio.sleep(delay)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await backend.ensure_volume_from_volume(harness.pool, kept, volume)
        await backend.ensure_volume_absent(harness.pool, dropped.id)
        await pattern.check(harness, backend, ObjectKind.VOLUME, kept.id)
        assert dropped.id not in {item.id for item in await backend.inventory()}


async def test_closing_waits_for_calls(harness: Harness, new_id: Ids) -> None:
    first = harness.backend()
    await first.open()
    volumes = [VolumeSpec(new_id(), 1) for _ in range(8)]
    calls = [asyncio.ensure_future(first.ensure_volume(harness.pool, volume)) for volume in volumes]
    await asyncio.sleep(0)
    await first.close()
    await asyncio.gather(*calls)
    second = harness.backend()
    await second.open()
    try:
        assert {item.id for item in await second.inventory()} == {volume.id for volume in volumes}
    finally:
        await second.close()


async def test_two_holders(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    second = harness.backend()
    if harness.refuses_second_holder:
        with pytest.raises(BackendUnavailableError):
            await second.open()
        await backend.ensure_volume(harness.pool, VolumeSpec(new_id(), 1))
        await backend.close()
        await second.open()
    else:
        await second.open()
        with pytest.raises(BackendUnavailableError):
            await backend.ensure_volume(harness.pool, VolumeSpec(new_id(), 1))
    await second.ensure_volume(harness.pool, VolumeSpec(new_id(), 1))
    await second.close()
