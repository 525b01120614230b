"""Room: full pools, holes, and snapshots that cost nothing where the driver says so."""

from __future__ import annotations

from collections.abc import Callable

from drivers.protocols import Fences
from drivers.vocabulary import GIB, NoSpaceError, ObjectKind, SnapshotSpec, VolumeSpec
from tests.conformance.harness import BLOCK, Call, FullBackend, Harness, Pattern

Ids = Callable[[], str]
DATA_BYTES = 32 << 20


async def _volume_with_data(harness: Harness, backend: FullBackend, volume: VolumeSpec) -> None:
    await backend.ensure_volume(harness.pool, volume)
    block = bytes(range(256)) * (BLOCK // 256)
    for offset in range(0, DATA_BYTES, BLOCK):
        await harness.write(backend, volume.id, offset, block)


async def test_snapshots_and_clones_share_what_they_say(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 1)
    await _volume_with_data(harness, backend, volume)
    before = await harness.used_bytes(backend)
    snapshot = SnapshotSpec(new_id(), volume.id, 1)
    await backend.ensure_snapshot(harness.pool, snapshot)
    await backend.ensure_volume_from_snapshot(harness.pool, VolumeSpec(new_id(), 2), snapshot)
    await backend.ensure_volume_from_volume(harness.pool, VolumeSpec(new_id(), 1), volume)
    grown = await harness.used_bytes(backend) - before
    if backend.capabilities.shares_extents:
        assert grown < DATA_BYTES / 8
    else:
        assert 3 * DATA_BYTES * 0.9 < grown < 3 * DATA_BYTES * 1.2


async def test_holes_stay_holes(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    """A 100 GiB volume with data at both ends goes into a pool of at most 1 GiB, and so do its copies."""
    volume, pattern = VolumeSpec(new_id(), 100), Pattern(20, 100, blocks=8)
    snapshot, clone = SnapshotSpec(new_id(), volume.id, 100), VolumeSpec(new_id(), 200)
    made = await backend.ensure_volume(harness.pool, volume)
    assert made.size_bytes == 100 * GIB
    await pattern.write(harness, backend, volume.id)
    observed = [
        await backend.ensure_snapshot(harness.pool, snapshot),
        await backend.ensure_volume_from_snapshot(harness.pool, clone, snapshot),
    ]
    for item in observed:
        assert item.allocated_bytes <= 32 << 20
    await pattern.check(harness, backend, ObjectKind.SNAPSHOT, snapshot.id)
    await pattern.check(harness, backend, ObjectKind.VOLUME, clone.id)


async def test_deleting_gives_the_room_back(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    before = await harness.used_bytes(backend)
    volume = VolumeSpec(new_id(), 1)
    await _volume_with_data(harness, backend, volume)
    assert await harness.used_bytes(backend) - before >= DATA_BYTES * 0.9
    await backend.ensure_volume_absent(harness.pool, volume.id)
    assert await harness.used_bytes(backend) - before < DATA_BYTES / 8


async def test_a_full_pool(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    """Copies fail as final, leave nothing half, and everything can still be listed and deleted. Sharing needs so
    little room that it may succeed."""
    volume = VolumeSpec(new_id(), 1)
    snapshot, late = SnapshotSpec(new_id(), volume.id, 1), SnapshotSpec(new_id(), volume.id, 1)
    await _volume_with_data(harness, backend, volume)
    await backend.ensure_snapshot(harness.pool, snapshot)
    await harness.fill(backend)
    whole = {item.id for item in await backend.inventory()}
    for object_id, call in (
        (late.id, Call("ensure_snapshot", (harness.pool, late))),
        (made := new_id(), Call("ensure_volume_from_snapshot", (harness.pool, VolumeSpec(made, 1), snapshot))),
        (made := new_id(), Call("ensure_volume_from_volume", (harness.pool, VolumeSpec(made, 1), volume))),
    ):
        try:
            await call.on(backend)
            assert backend.capabilities.shares_extents, f"{call.method} found room in a full pool"
            whole.add(object_id)
        except NoSpaceError:
            assert object_id not in {item.id for item in await backend.inventory()}
    assert {item.id for item in await backend.inventory()} == whole
    [report] = await backend.pools()
    assert report.free_gib < DATA_BYTES / GIB
    await backend.ensure_snapshot_absent(harness.pool, snapshot)
    await backend.ensure_volume_absent(harness.pool, volume.id)
    assert {item.id for item in await backend.inventory()} == whole - {snapshot.id, volume.id}


async def test_a_full_pool_opens(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    """Or nobody could empty it."""
    volume = VolumeSpec(new_id(), 1)
    await _volume_with_data(harness, backend, volume)
    shares = backend.capabilities.shares_extents
    await harness.fill(backend)
    await backend.close()
    again = harness.backend()
    await again.open()
    try:
        assert again.capabilities.shares_extents is shares
        await again.ensure_volume_absent(harness.pool, volume.id)
    finally:
        await again.close()


async def test_a_full_pool_obeys_a_later_epoch(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    """Or a new conductor could not delete anything from it."""
    if not isinstance(backend, Fences):
        return
    volume = VolumeSpec(new_id(), 1)
    await _volume_with_data(harness, backend, volume)
    await harness.fill(backend)
    for epoch in (4, 5):
        await backend.admit(epoch)
    await backend.ensure_volume_absent(harness.pool, volume.id)
    assert volume.id not in {item.id for item in await backend.inventory()}
    await backend.admit(6)


async def test_a_full_pool_and_new_volumes(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    """Empty volumes may go on for long; when there is no room even for one more, that one leaves nothing."""
    await harness.fill(backend)
    made: set[str] = set()
    refused: set[str] = set()
    while not refused and len(made) < 1500:
        volume = VolumeSpec(new_id(), 1)
        try:
            await backend.ensure_volume(harness.pool, volume)
            made.add(volume.id)
        except NoSpaceError:
            refused.add(volume.id)
    found = {item.id for item in await backend.inventory()}
    assert made <= found
    assert not refused & found
