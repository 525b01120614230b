"""A pool's own XFS image: made once, mounted once, and no loop device left behind."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivers import pool_image
from drivers.pool_image import ImageGround, OwnFileSystem
from drivers.reflink.backend import ReflinkBackend
from drivers.vocabulary import GIB, BackendUnavailableError, VolumeSpec

VOLUME = VolumeSpec("a0000000-0000-4000-8000-000000000001", 1)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory in which nothing stays mounted."""
    assert os.geteuid() == 0, "these tests mount file systems: run them as root"
    assert shutil.which("mkfs.xfs"), "mkfs.xfs is missing: apt-get install xfsprogs"
    try:
        yield tmp_path
    finally:
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if str(tmp_path) in line:
                subprocess.run(["umount", "--lazy", line.split(" ")[4]], check=False)
        for backing in _loops(tmp_path):
            subprocess.run(["losetup", "--detach", f"/dev/{Path(backing).parts[3]}"], check=False)


def _loops(image: Path) -> list[str]:
    backing = Path("/sys/block").glob("loop*/loop/backing_file")
    return [str(path) for path in backing if path.read_text().startswith(str(image))]


def test_made_mounted_and_found_again(place: Path) -> None:
    image, mount_point = place / "pool.img", place / "mounted"
    assert pool_image.ensure_mounted(image, mount_point, 1) == mount_point
    assert os.path.ismount(mount_point)
    assert pool_image.reflink_supported(mount_point)
    assert image.stat().st_size == GIB
    assert image.stat().st_blocks * 512 < 128 << 20
    (mount_point / "kept").write_text("yes")
    pool_image.ensure_mounted(image, mount_point, 1)
    assert len(_loops(image)) == 1
    pool_image.ensure_unmounted(mount_point)
    pool_image.ensure_unmounted(mount_point)
    assert not os.path.ismount(mount_point)
    assert _loops(image) == []
    pool_image.ensure_mounted(image, mount_point, 5)
    assert (mount_point / "kept").read_text() == "yes"


def test_many_at_once_mount_once(place: Path) -> None:
    image, mount_point = place / "pool.img", place / "mounted"
    with ThreadPoolExecutor(4) as threads:
        for mounting in [threads.submit(pool_image.ensure_mounted, image, mount_point, 1) for _ in range(4)]:
            mounting.result()
    assert len(_loops(image)) == 1


def test_odd_paths(place: Path) -> None:
    image, mount_point = place / "a b\\c" / "pool.img", place / "a b\\c" / "moun ted"
    pool_image.ensure_mounted(image, mount_point, 1)
    pool_image.ensure_mounted(image, mount_point, 1)
    pool_image.ensure_unmounted(mount_point)
    assert _loops(image) == []


def test_a_died_mkfs_is_made_again(place: Path) -> None:
    (place / ".partial-pool.img").write_bytes(b"half")
    pool_image.ensure_mounted(place / "pool.img", place / "mounted", 1)
    assert not (place / ".partial-pool.img").exists()


def test_refusals(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, mount_point = place / "pool.img", place / "mounted"
    mount_point.mkdir()
    (mount_point / "thesis.txt").touch()
    with pytest.raises(BackendUnavailableError, match="not empty"):
        pool_image.ensure_mounted(image, mount_point, 1)
    (mount_point / "thesis.txt").unlink()
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        with pytest.raises(BackendUnavailableError, match="apt-get install xfsprogs"):
            pool_image.ensure_mounted(image, mount_point, 1)
    with monkeypatch.context() as without:
        without.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(BackendUnavailableError, match="root"):
            pool_image.ensure_mounted(image, mount_point, 1)
    assert not image.exists()
    pool_image.ensure_mounted(image, mount_point, 1)
    with pytest.raises(BackendUnavailableError, match="is mounted on"):
        pool_image.ensure_mounted(place / "other.img", mount_point, 1)
    with (mount_point / "busy").open("w"), pytest.raises(BackendUnavailableError, match="unmount"):
        pool_image.ensure_unmounted(mount_point)


def test_a_damaged_image(place: Path) -> None:
    (place / "pool.img").write_bytes(bytes(1 << 20))
    with pytest.raises(BackendUnavailableError, match="cannot mount"):
        pool_image.ensure_mounted(place / "pool.img", place / "mounted", 1)
    assert _loops(place / "pool.img") == []


async def test_a_backend_on_its_own_file_system(place: Path) -> None:
    directory, image, identity = place / "pool", place / "pool.img", place / "identity.json"

    def backend() -> ReflinkBackend:
        ground = ImageGround(image, 1, OwnFileSystem.ALWAYS)
        return ReflinkBackend(directory, "pool", ground=ground, identity_file=identity)

    first = backend()
    await first.open()
    assert first.capabilities.shares_extents
    made = await first.ensure_volume("pool", VOLUME)
    [report] = await first.pools()
    host = os.statvfs(place)
    assert report.free_gib <= min(1.0, host.f_bavail * host.f_frsize / GIB + 0.1)
    with Path(made.location).open("rb"):
        await first.close()
        assert os.path.ismount(directory)  # something in it is in use: an attached volume
    second = backend()
    await second.open()
    assert [item.id for item in await second.inventory()] == [VOLUME.id]
    await second.close()
    assert not os.path.ismount(directory)
    assert _loops(image) == []
    image.rename(place / "lost.img")
    with pytest.raises(BackendUnavailableError, match="gone or not mounted"):
        await backend().open()


async def test_auto_says_why_it_copies(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not pool_image.reflink_supported(place), "this test wants a file system without reflink under tmp_path"
    monkeypatch.setenv("PATH", "")
    backend = ReflinkBackend(place / "pool", "pool", ground=ImageGround(place / "pool.img", 1))
    await backend.open()
    assert not backend.capabilities.shares_extents
    assert "xfsprogs" in str(backend.capabilities.extra["own_file_system"])
    await backend.ensure_volume("pool", VOLUME)
    await backend.close()
    monkeypatch.undo()
    again = ReflinkBackend(place / "pool", "pool", ground=ImageGround(place / "pool.img", 1))
    await again.open()
    assert [item.id for item in await again.inventory()] == [VOLUME.id]
    await again.close()


def _failing_after(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """`_mount` runs `command` with the image and the mount point in place of {0} and {1}, then fails."""

    def fail(image: Path, mount_point: Path) -> None:
        subprocess.run([word.format(image, mount_point) for word in command], check=True)
        raise BackendUnavailableError("mounting took too long")

    monkeypatch.setattr(pool_image, "_mount", fail)


async def test_an_image_that_was_mounted_all_the_same_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, image = place / "pool", place / "pool.img"
    backend = ReflinkBackend(directory, "pool", ground=ImageGround(image, 1))
    with monkeypatch.context() as failing:
        _failing_after(failing, ["mount", "-o", "loop", "{0}", "{1}"])
        with pytest.raises(BackendUnavailableError, match="took too long"):
            await backend.open()
    assert image.exists()
    assert os.path.ismount(directory)
    assert list(directory.iterdir()) == [], "no pool was begun that copies"
    await backend.open()
    assert backend.capabilities.shares_extents
    await backend.ensure_volume("pool", VOLUME)
    assert len(_loops(image)) == 1
    await backend.close()
    assert not os.path.ismount(directory)


async def test_an_image_that_a_loop_device_has_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, image = place / "pool", place / "pool.img"
    backend = ReflinkBackend(directory, "pool", ground=ImageGround(image, 1))
    with monkeypatch.context() as failing:
        _failing_after(failing, ["losetup", "--find", "{0}"])
        with pytest.raises(BackendUnavailableError, match="took too long"):
            await backend.open()
    [device] = _loops(image)
    assert image.exists()
    subprocess.run(["losetup", "--detach", f"/dev/{Path(device).parts[3]}"], check=True)
    await backend.open()
    assert backend.capabilities.shares_extents
    await backend.close()


async def test_an_image_that_nothing_has_goes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, image = place / "pool", place / "pool.img"
    _failing_after(monkeypatch, ["true"])
    backend = ReflinkBackend(directory, "pool", ground=ImageGround(image, 1))
    await backend.open()
    assert not image.exists()
    assert not backend.capabilities.shares_extents
    assert "took too long" in str(backend.capabilities.extra["own_file_system"])
    await backend.close()


def test_without_direct_io_it_is_mounted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_device: str) -> None:
        raise PermissionError(errno.EPERM, "not here")

    monkeypatch.setattr(pool_image, "_ask_for_direct_io", refuse)
    pool_image.ensure_mounted(place / "pool.img", place / "mounted", 1)
    assert os.path.ismount(place / "mounted")
