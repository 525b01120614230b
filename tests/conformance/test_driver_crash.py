"""The process dies at every checkpoint of every call: nothing half is seen, and a repeat finishes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drivers.vocabulary import ObjectKind, Observed, SnapshotSpec, VolumeSpec
from tests.conformance.harness import Call, Harness, Pattern

Ids = Callable[[], str]
VOLUME, SNAPSHOT = ObjectKind.VOLUME, ObjectKind.SNAPSHOT


class Scene:
    """A volume with data and its snapshot, and one of the calls on them."""

    def __init__(self, pool: str, new_id: Ids, method: str) -> None:
        self.volume = VolumeSpec(new_id(), 1)
        self.snapshot = SnapshotSpec(new_id(), self.volume.id, 1)
        self.pattern = Pattern(30, 1, blocks=6)
        made = VolumeSpec(new_id(), 2)
        taken = SnapshotSpec(new_id(), self.volume.id, 1)
        self.call, self.target = {
            "ensure_volume": (Call(method, (pool, made)), (VOLUME, made.id)),
            "ensure_volume_absent": (Call(method, (pool, self.volume.id)), (VOLUME, self.volume.id)),
            "ensure_size": (Call(method, (pool, self.volume.id, 2)), (VOLUME, self.volume.id)),
            "ensure_snapshot": (Call(method, (pool, taken)), (SNAPSHOT, taken.id)),
            "ensure_snapshot_absent": (Call(method, (pool, self.snapshot)), (SNAPSHOT, self.snapshot.id)),
            "ensure_volume_from_snapshot": (Call(method, (pool, made, self.snapshot)), (VOLUME, made.id)),
            "ensure_volume_from_volume": (Call(method, (pool, made, self.volume)), (VOLUME, made.id)),
        }[method]
        self.absent_after = method.endswith("_absent")
        self.has_data = not self.absent_after and method != "ensure_volume"

    async def set(self, harness: Harness) -> None:
        """Make the volume and the snapshot."""
        backend = harness.backend()
        await backend.open()
        try:
            await backend.ensure_volume(harness.pool, self.volume)
            await self.pattern.write(harness, backend, self.volume.id)
            await backend.ensure_snapshot(harness.pool, self.snapshot)
        finally:
            await backend.close()


METHODS = [
    "ensure_volume",
    "ensure_volume_absent",
    "ensure_size",
    "ensure_snapshot",
    "ensure_snapshot_absent",
    "ensure_volume_from_snapshot",
    "ensure_volume_from_volume",
]


async def _points(harness: Harness, scene: Scene) -> list[str]:
    """The checkpoints the call passes, in order, found by making it."""
    passed: list[str] = []
    backend = harness.backend(passed.append)
    await backend.open()
    passed.clear()
    try:
        await scene.call.on(backend)
    finally:
        await backend.close()
    return list(dict.fromkeys(passed))


@pytest.mark.parametrize("repeat", [True, False], ids=["repeated", "undone"])
@pytest.mark.parametrize("method", METHODS)
async def test_killed_at_every_checkpoint(harness: Harness, new_id: Ids, method: str, repeat: bool) -> None:
    rehearsal = Scene(harness.pool, new_id, method)
    await rehearsal.set(harness)
    points = await _points(harness, rehearsal)
    assert bool(points) is harness.passes_checkpoints
    for point in points:
        harness.renew()
        scene = Scene(harness.pool, new_id, method)
        await scene.set(harness)
        await harness.crash(scene.call, point)
        await _look_after(harness, scene, repeat)


async def _look_after(harness: Harness, scene: Scene, repeat: bool) -> None:
    backend = harness.backend()
    await backend.open()
    try:
        found = {(item.kind, item.id): item for item in await backend.inventory()}
        known = {(VOLUME, scene.volume.id), (SNAPSHOT, scene.snapshot.id)}
        assert known - {scene.target} <= set(found) <= known | {scene.target}
        if scene.target in found and scene.has_data:
            await scene.pattern.check(harness, backend, *scene.target)
        if repeat or scene.absent_after:
            observed = await scene.call.on(backend)
            assert not isinstance(observed, Observed) or observed.id == scene.target[1]
        elif scene.target[0] is VOLUME:
            await backend.ensure_volume_absent(harness.pool, scene.target[1])
        else:
            spec = SnapshotSpec(scene.target[1], scene.volume.id, 1)
            await backend.ensure_snapshot_absent(harness.pool, spec)
        present = {(item.kind, item.id) for item in await backend.inventory()}
        assert (scene.target in present) is (repeat and not scene.absent_after)
        if scene.target in present and scene.has_data:
            await scene.pattern.check(harness, backend, *scene.target)
        if (SNAPSHOT, scene.snapshot.id) in present:
            await scene.pattern.check(harness, backend, SNAPSHOT, scene.snapshot.id)
    finally:
        await backend.close()
