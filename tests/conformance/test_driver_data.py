"""The bytes: checked block by block after every kind of copy."""

from __future__ import annotations

from collections.abc import Callable

from drivers.vocabulary import GIB, ObjectKind, SnapshotSpec, VolumeSpec
from tests.conformance.harness import BLOCK, FullBackend, Harness, Pattern

Ids = Callable[[], str]
VOLUME, SNAPSHOT = ObjectKind.VOLUME, ObjectKind.SNAPSHOT


async def test_a_new_volume_reads_as_zeroes(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 1)
    await backend.ensure_volume(harness.pool, volume)
    for offset in (0, GIB // 2, GIB - BLOCK):
        assert await harness.read(backend, VOLUME, volume.id, offset, BLOCK) == bytes(BLOCK)


async def test_a_deleted_volume_does_not_shine_through(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume = VolumeSpec(new_id(), 1)
    await backend.ensure_volume(harness.pool, volume)
    await Pattern(1, 1).write(harness, backend, volume.id)
    await backend.ensure_volume_absent(harness.pool, volume.id)
    await backend.ensure_volume(harness.pool, volume)
    for offset in Pattern(1, 1).blocks:
        assert await harness.read(backend, VOLUME, volume.id, offset, BLOCK) == bytes(BLOCK)


async def test_a_repeat_keeps_the_bytes(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume, pattern = VolumeSpec(new_id(), 1), Pattern(2, 1)
    await backend.ensure_volume(harness.pool, volume)
    await pattern.write(harness, backend, volume.id)
    await backend.ensure_volume(harness.pool, volume)
    await pattern.check(harness, backend, VOLUME, volume.id)


async def test_a_snapshot_never_changes(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume, old, new = VolumeSpec(new_id(), 1), Pattern(3, 1), Pattern(4, 1)
    snapshot, later = SnapshotSpec(new_id(), volume.id, 1), SnapshotSpec(new_id(), volume.id, 1)
    await backend.ensure_volume(harness.pool, volume)
    await old.write(harness, backend, volume.id)
    await backend.ensure_snapshot(harness.pool, snapshot)
    await new.write(harness, backend, volume.id)
    await backend.ensure_snapshot(harness.pool, snapshot)
    await backend.ensure_snapshot(harness.pool, later)
    await old.check(harness, backend, SNAPSHOT, snapshot.id)
    await new.over(old).check(harness, backend, SNAPSHOT, later.id)
    await new.over(old).check(harness, backend, VOLUME, volume.id)
    # The volume may go: the snapshots hold their own.
    await backend.ensure_size(harness.pool, volume.id, 2)
    await backend.ensure_volume_absent(harness.pool, volume.id)
    await backend.ensure_snapshot_absent(harness.pool, later)
    await old.check(harness, backend, SNAPSHOT, snapshot.id)


async def test_a_volume_from_a_snapshot(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume, old, new = VolumeSpec(new_id(), 1), Pattern(5, 1), Pattern(6, 1)
    snapshot, restored = SnapshotSpec(new_id(), volume.id, 1), VolumeSpec(new_id(), 1)
    await backend.ensure_volume(harness.pool, volume)
    await old.write(harness, backend, volume.id)
    await backend.ensure_snapshot(harness.pool, snapshot)
    await backend.ensure_volume_from_snapshot(harness.pool, restored, snapshot)
    await old.check(harness, backend, VOLUME, restored.id)
    await new.write(harness, backend, restored.id)
    await new.over(old).check(harness, backend, VOLUME, restored.id)
    await old.check(harness, backend, SNAPSHOT, snapshot.id)
    await old.check(harness, backend, VOLUME, volume.id)


async def test_extending(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume, old, new = VolumeSpec(new_id(), 1), Pattern(7, 1), Pattern(8, 3)
    await backend.ensure_volume(harness.pool, volume)
    await old.write(harness, backend, volume.id)
    await backend.ensure_size(harness.pool, volume.id, 3)
    await old.check(harness, backend, VOLUME, volume.id)
    for offset in (GIB, 2 * GIB, 3 * GIB - BLOCK):
        assert await harness.read(backend, VOLUME, volume.id, offset, BLOCK) == bytes(BLOCK)
    await new.write(harness, backend, volume.id)
    await new.over(old).check(harness, backend, VOLUME, volume.id)


async def test_larger_copies_end_in_zeroes(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    volume, old = VolumeSpec(new_id(), 1), Pattern(9, 1)
    snapshot = SnapshotSpec(new_id(), volume.id, 1)
    clone, restored = VolumeSpec(new_id(), 2), VolumeSpec(new_id(), 3)
    await backend.ensure_volume(harness.pool, volume)
    await old.write(harness, backend, volume.id)
    await backend.ensure_snapshot(harness.pool, snapshot)
    await backend.ensure_volume_from_volume(harness.pool, clone, volume)
    await backend.ensure_volume_from_snapshot(harness.pool, restored, snapshot)
    for copy in (clone, restored):
        await old.check(harness, backend, VOLUME, copy.id)
        for offset in (GIB, copy.size_gib * GIB - BLOCK):
            assert await harness.read(backend, VOLUME, copy.id, offset, BLOCK) == bytes(BLOCK)


async def test_a_chain_of_clones(harness: Harness, backend: FullBackend, new_id: Ids) -> None:
    """Each link is written after it is made; all keep their own content, also when links are deleted."""
    links = [VolumeSpec(new_id(), 1) for _ in range(6)]
    expected: list[Pattern] = []
    await backend.ensure_volume(harness.pool, links[0])
    for place, link in enumerate(links):
        if place:
            await backend.ensure_volume_from_volume(harness.pool, link, links[place - 1])
        pattern = Pattern(100 + place, 1, blocks=8)
        await pattern.write(harness, backend, link.id)
        expected.append(pattern.over(expected[-1]) if expected else pattern)
    for link, pattern in zip(links, expected, strict=True):
        await pattern.check(harness, backend, VOLUME, link.id)
    for link in links[::2]:
        await backend.ensure_volume_absent(harness.pool, link.id)
    for link, pattern in list(zip(links, expected, strict=True))[1::2]:
        await pattern.check(harness, backend, VOLUME, link.id)


async def test_bytes_survive_a_restart(harness: Harness, new_id: Ids) -> None:
    volume, pattern = VolumeSpec(new_id(), 1), Pattern(10, 1)
    snapshot = SnapshotSpec(new_id(), volume.id, 1)
    first = harness.backend()
    await first.open()
    await first.ensure_volume(harness.pool, volume)
    await pattern.write(harness, first, volume.id)
    await first.ensure_snapshot(harness.pool, snapshot)
    before = await first.inventory()
    await first.close()
    second = harness.backend()
    await second.open()
    try:
        assert sorted(map(repr, await second.inventory())) == sorted(map(repr, before))
        await pattern.check(harness, second, VOLUME, volume.id)
        await pattern.check(harness, second, SNAPSHOT, snapshot.id)
    finally:
        await second.close()
