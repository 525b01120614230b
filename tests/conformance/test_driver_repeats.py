"""Calls may be repeated, sizes may not differ, and only a UUID names an object."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drivers.protocols import Backend, Clones, Fences, Snapshots
from drivers.vocabulary import (
    GIB,
    BackendUnavailableError,
    BadNameError,
    FinalError,
    ObjectKind,
    SizeConflictError,
    SnapshotSpec,
    SourceMissingError,
    StaleEpochError,
    VolumeSpec,
)
from tests.conformance.harness import Call, FullBackend, Harness

Ids = Callable[[], str]


async def test_it_is_what_it_says(harness: Harness) -> None:
    backend = harness.backend()
    for protocol in (Backend, Snapshots, Clones):
        assert isinstance(backend, protocol)


async def test_calls_before_open_and_after_close_are_refused(harness: Harness, new_id: Ids) -> None:
    backend = harness.backend()
    with pytest.raises(BackendUnavailableError):
        await backend.inventory()
    await backend.open()
    await backend.open()
    await backend.close()
    await backend.close()
    with pytest.raises(BackendUnavailableError):
        await backend.ensure_volume(harness.pool, VolumeSpec(new_id(), 1))


async def test_pools_are_measured(harness: Harness, backend: FullBackend) -> None:
    [report] = await backend.pools()
    assert report.name == harness.pool
    assert 0 < report.free_gib <= report.total_gib
    assert report.capabilities == backend.capabilities


async def test_volume_repeats(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    spec = VolumeSpec(new_id(), 2)
    first = await backend.ensure_volume(harness.pool, spec)
    again = await backend.ensure_volume(harness.pool, spec)
    assert (first.created, again.created) == (True, False)
    assert first.size_bytes == again.size_bytes == 2 * GIB
    assert first.location == again.location
    [item] = await backend.inventory()
    assert (item.kind, item.id, item.pool, item.size_bytes) == (ObjectKind.VOLUME, spec.id, harness.pool, 2 * GIB)


async def test_volume_of_another_size(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 2)
    await backend.ensure_volume(harness.pool, volume)
    for size_gib in (1, 3):
        with pytest.raises(SizeConflictError, match=volume.id):
            await backend.ensure_volume(harness.pool, VolumeSpec(volume.id, size_gib))
    assert [item.size_bytes for item in await backend.inventory()] == [2 * GIB]


@pytest.mark.parametrize("size_gib", [0, -1, 1 << 40])
async def test_impossible_sizes(harness: Harness, backend: FullBackend, new_id: Ids, size_gib: int) -> None:
    with pytest.raises(FinalError):
        await backend.ensure_volume(harness.pool, VolumeSpec(new_id(), size_gib))
    assert await backend.inventory() == []


async def test_snapshot_and_copies_repeat(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 1)
    snapshot = SnapshotSpec(new_id(), volume.id, 1)
    restored, clone = VolumeSpec(new_id(), 1), VolumeSpec(new_id(), 2)
    await backend.ensure_volume(harness.pool, volume)
    for created in (True, False):
        assert (await backend.ensure_snapshot(harness.pool, snapshot)).created is created
        assert (await backend.ensure_volume_from_snapshot(harness.pool, restored, snapshot)).created is created
        assert (await backend.ensure_volume_from_volume(harness.pool, clone, volume)).created is created
    found = {(item.kind, item.id): item for item in await backend.inventory()}
    assert {key: item.size_bytes // GIB for key, item in found.items()} == {
        (ObjectKind.VOLUME, volume.id): 1,
        (ObjectKind.SNAPSHOT, snapshot.id): 1,
        (ObjectKind.VOLUME, restored.id): 1,
        (ObjectKind.VOLUME, clone.id): 2,
    }
    parent = found[ObjectKind.SNAPSHOT, snapshot.id].parent_id
    assert parent == (volume.id if harness.keeps_parent else None)


async def test_made_copies_need_no_source(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 1)
    snapshot = SnapshotSpec(new_id(), volume.id, 1)
    clone = VolumeSpec(new_id(), 1)
    await backend.ensure_volume(harness.pool, volume)
    await backend.ensure_snapshot(harness.pool, snapshot)
    await backend.ensure_volume_from_snapshot(harness.pool, clone, snapshot)
    await backend.ensure_snapshot_absent(harness.pool, snapshot)
    assert not (await backend.ensure_volume_from_snapshot(harness.pool, clone, snapshot)).created


async def test_copies_of_nothing(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    nothing, spec = VolumeSpec(new_id(), 1), VolumeSpec(new_id(), 1)
    snapshot = SnapshotSpec(new_id(), nothing.id, 1)
    for call in (
        Call("ensure_snapshot", (harness.pool, snapshot)),
        Call("ensure_volume_from_snapshot", (harness.pool, spec, snapshot)),
        Call("ensure_volume_from_volume", (harness.pool, spec, nothing)),
        Call("ensure_size", (harness.pool, nothing.id, 2)),
    ):
        with pytest.raises(SourceMissingError):
            await call.on(backend)
    assert await backend.inventory() == []


async def test_copies_of_other_sizes(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 2)
    snapshot = SnapshotSpec(new_id(), volume.id, 2)
    small = VolumeSpec(new_id(), 1)
    await backend.ensure_volume(harness.pool, volume)
    await backend.ensure_snapshot(harness.pool, snapshot)
    for call in (
        Call("ensure_volume_from_snapshot", (harness.pool, small, snapshot)),
        Call("ensure_volume_from_volume", (harness.pool, small, volume)),
    ):
        with pytest.raises(SizeConflictError):
            await call.on(backend)
    assert {item.id for item in await backend.inventory()} == {volume.id, snapshot.id}
    await backend.ensure_volume(harness.pool, small)
    with pytest.raises(SizeConflictError):
        await backend.ensure_volume_from_volume(harness.pool, VolumeSpec(small.id, 2), volume)


async def test_growing(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 1)
    await backend.ensure_volume(harness.pool, volume)
    for _ in range(2):
        assert (await backend.ensure_size(harness.pool, volume.id, 3)).size_bytes == 3 * GIB
    with pytest.raises(SizeConflictError):
        await backend.ensure_size(harness.pool, volume.id, 2)
    assert [item.size_bytes for item in await backend.inventory()] == [3 * GIB]


async def test_deleting(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 1)
    snapshot = SnapshotSpec(new_id(), volume.id, 1)
    await backend.ensure_volume_absent(harness.pool, volume.id)
    await backend.ensure_snapshot_absent(harness.pool, snapshot)
    await backend.ensure_volume(harness.pool, volume)
    await backend.ensure_snapshot(harness.pool, snapshot)
    for _ in range(2):
        await backend.ensure_snapshot_absent(harness.pool, snapshot)
        await backend.ensure_volume_absent(harness.pool, volume.id)
    assert await backend.inventory() == []


ODD_NAMES = [
    "",
    ".",
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "A0000000-0000-4000-8000-000000000000",
    "a0000000-0000-4000-8000-000000000000\n",
    "a0000000-0000-4000-8000-00000000000\0",
    "a0000000000040008000000000000000",
    "a0000000-0000-4000-8000-00000000000/",
    "é0000000-0000-4000-8000-000000000000",
    "\u06600000000-0000-4000-8000-000000000000",
    "a" * 5000,
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
async def test_odd_names(harness: Harness, backend: FullBackend, new_id: Ids, name: str) -> None:
    pool, good = harness.pool, VolumeSpec(new_id(), 1)
    await backend.ensure_volume(pool, good)
    bad = VolumeSpec(name, 1)
    snapshot = SnapshotSpec(name, good.id, 1)
    for call in (
        Call("ensure_volume", (pool, bad)),
        Call("ensure_volume_absent", (pool, name)),
        Call("ensure_size", (pool, name, 2)),
        Call("ensure_snapshot", (pool, snapshot)),
        Call("ensure_snapshot", (pool, SnapshotSpec(new_id(), name, 1))),
        Call("ensure_snapshot_absent", (pool, snapshot)),
        Call("ensure_volume_from_snapshot", (pool, VolumeSpec(new_id(), 1), snapshot)),
        Call("ensure_volume_from_volume", (pool, bad, good)),
        Call("ensure_volume_from_volume", (pool, VolumeSpec(new_id(), 1), bad)),
    ):
        with pytest.raises(BadNameError):
            await call.on(backend)
    assert [item.id for item in await backend.inventory()] == [good.id]


async def test_another_pool(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    with pytest.raises(FinalError, match="elsewhere"):
        await backend.ensure_volume("elsewhere", VolumeSpec(new_id(), 1))
    with pytest.raises(FinalError, match="elsewhere"):
        await backend.ensure_volume_absent("elsewhere", new_id())


async def test_the_storage_obeys_the_latest_epoch_also_after_a_restart(harness: Harness, new_id: Ids) -> None:
    backend = harness.backend()
    if not isinstance(backend, Fences):
        return  # a driver need not remember epochs; the volume actor does while it lives
    await backend.open()
    for epoch in (5, 5, 9):
        await backend.admit(epoch)
    await backend.close()
    again = harness.backend()
    await again.open()
    assert isinstance(again, Fences)
    with pytest.raises(StaleEpochError):
        await again.admit(8)
    await again.admit(9)
    await again.close()
