"""What is on the disk when the power goes: the image is copied at every checkpoint and the copy mounted.

The copy has what the file system has written to its device, and nothing of its memory: neither cached data nor the
log's tail.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.reflink import extents
from drivers.reflink.backend import ReflinkBackend
from drivers.vocabulary import ObjectKind, SnapshotSpec, VolumeSpec
from tests.conformance.harness import Call, Pattern
from tests.conformance.reflink_harness import BtrfsHarness, Ext4Harness, FileHarness, XfsHarness

Ids = Callable[[], str]
CALLS = ["ensure_volume", "ensure_snapshot", "ensure_volume_from_snapshot", "ensure_size", "ensure_volume_absent"]


@pytest.fixture(scope="module", params=[XfsHarness, BtrfsHarness, Ext4Harness], ids=lambda harness: harness.name)
def before(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileHarness]:
    """A file system whose power is cut."""
    harness: FileHarness = request.param()
    try:
        harness.start(tmp_path_factory.mktemp("power"))
        yield harness
    finally:
        harness.stop()


@pytest.mark.parametrize("method", CALLS)
async def test_power_cut_at_every_checkpoint(before: FileHarness, tmp_path: Path, new_id: Ids, method: str) -> None:
    before.renew()
    pictures: dict[str, Path] = {}
    taking = False

    def picture(point: str) -> None:
        if taking and point not in pictures:
            pictures[point] = tmp_path / f"{point}.img"
            _copy(before.mount_point.parent / "image", pictures[point])

    volume, made, pattern = VolumeSpec(new_id(), 1), VolumeSpec(new_id(), 2), Pattern(60, 1, blocks=6)
    first, second = SnapshotSpec(new_id(), volume.id, 1), SnapshotSpec(new_id(), volume.id, 1)
    call = {
        "ensure_volume": Call(method, ("pool", made)),
        "ensure_snapshot": Call(method, ("pool", second)),
        "ensure_volume_from_snapshot": Call(method, ("pool", made, first)),
        "ensure_size": Call(method, ("pool", volume.id, 2)),
        "ensure_volume_absent": Call(method, ("pool", volume.id)),
    }[method]
    backend = before.backend(picture)
    await backend.open()
    await backend.ensure_volume("pool", volume)
    await pattern.write(before, backend, volume.id)
    await backend.ensure_snapshot("pool", first)
    taking = True
    await call.on(backend)
    taking = False
    expected = await backend.inventory()
    await backend.close()
    # The picture of `settled` is that of the call's end: everything it promised must be in it.
    assert list(pictures)[-1] == "settled"
    for point, image in pictures.items():
        with _mounted(image, tmp_path / "mounted", before) as after:
            again = after.backend()
            await again.open()
            found = {item.id: item.size_bytes for item in await again.inventory()}
            if point == "settled":
                assert found == {item.id: item.size_bytes for item in expected}
            if method == "ensure_snapshot" and second.id in found:
                await pattern.check(after, again, ObjectKind.SNAPSHOT, second.id)
            if method == "ensure_volume_from_snapshot" and made.id in found:
                await pattern.check(after, again, ObjectKind.VOLUME, made.id)
            await pattern.check(after, again, ObjectKind.SNAPSHOT, first.id)
            await call.on(again)
            assert {item.id: item.size_bytes for item in await again.inventory()} == {
                item.id: item.size_bytes for item in expected
            }
            await again.close()


class _After(FileHarness):
    """The pool as the power cut left it."""

    def __init__(self, mount_point: Path, before: FileHarness) -> None:
        super().__init__()
        self._mount_point = mount_point
        self._relative = before.directory.relative_to(before.mount_point)

    @property
    def directory(self) -> Path:
        return self.mount_point / self._relative

    def backend(self, checkpoint: Callable[[str], None] = lambda _point: None) -> ReflinkBackend:
        return ReflinkBackend(self.directory, "pool", checkpoint=checkpoint)


@contextmanager
def _mounted(image: Path, mount_point: Path, before: FileHarness) -> Iterator[_After]:
    mount_point.mkdir(exist_ok=True)
    options = "loop,nouuid" if isinstance(before, XfsHarness) else "loop"  # its twin is still mounted
    subprocess.run(["mount", "-o", options, str(image), str(mount_point)], check=True)
    try:
        yield _After(mount_point, before)
    finally:
        if subprocess.run(["umount", str(mount_point)], check=False).returncode != 0:
            subprocess.run(["umount", "--lazy", str(mount_point)], check=True)
    image.unlink()


def _copy(image: Path, target: Path) -> None:
    source = os.open(image, os.O_RDONLY)
    copy = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        extents.copy_data(source, copy, lambda: None)
        os.ftruncate(copy, os.fstat(source).st_size)
    finally:
        os.close(source)
        os.close(copy)
