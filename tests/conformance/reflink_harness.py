"""The reflink driver under test, on loop-mounted XFS, btrfs and ext4. Needs root; a crash is kill -9 of a child."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drivers import pool_image
from drivers.reflink.backend import ReflinkBackend
from drivers.reflink.checkpoints import pass_by
from drivers.vocabulary import ObjectKind
from tests.conformance.harness import Call, FullBackend, Harness

_PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, slots=True)
class Opener:
    """How a child process gets the backend."""

    directory: Path
    pool: str

    def backend(self, checkpoint: Callable[[str], None] = pass_by) -> ReflinkBackend:
        """A backend, not open."""
        return ReflinkBackend(self.directory, self.pool, checkpoint=checkpoint)


def call_until(opener: Opener, call: Call, point: str) -> None:
    """In a child: open, call, and die by kill -9 at the point."""

    def kill(passed: str) -> None:
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def run() -> None:
        # Points of `open` itself count only when `open` is the call.
        counts = call.method == "open"
        backend = opener.backend(lambda passed: kill(passed) if counts else None)
        await backend.open()
        counts = True
        await call.on(backend)

    asyncio.run(run())


async def ended(process: multiprocessing.process.BaseProcess, seconds: float = 60) -> int | None:
    """Wait for a child; its exit code."""
    await asyncio.to_thread(process.join, seconds)
    return process.exitcode


class FileHarness(Harness):
    """ReflinkBackend in a directory of a mounted image, which subclasses make."""

    package: str
    tools: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._mount_point: Path | None = None
        self._count = 0

    @property
    def mount_point(self) -> Path:
        """Where the image is mounted."""
        assert self._mount_point is not None, "the harness was not started"
        return self._mount_point

    @property
    def directory(self) -> Path:
        """The pool's directory for this test."""
        return self.mount_point / str(self._count)

    def start(self, directory: Path) -> None:
        """Mount a new image."""
        assert os.geteuid() == 0, "these tests mount file systems: run them as root"
        for tool in self.tools:
            assert shutil.which(tool), f"{tool} is missing: apt-get install {self.package}"
        mount_point = directory / "mounted"
        mount_point.mkdir()
        self._mount_point = mount_point
        self.mount(directory / "image", mount_point)

    def mount(self, image: Path, mount_point: Path) -> None:
        """Make the image and mount it."""
        raise NotImplementedError

    def stop(self) -> None:
        """Unmount, even under a backend that a failed test left open."""
        if self._mount_point is None or not os.path.ismount(self._mount_point):
            return
        if subprocess.run(["umount", str(self._mount_point)], check=False).returncode != 0:
            subprocess.run(["umount", "--lazy", str(self._mount_point)], check=True)

    def renew(self) -> None:
        """Another directory; everything of the last test is deleted, the filler too."""
        for entry in self.mount_point.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        os.sync()
        self._count += 1

    @property
    def opener(self) -> Opener:
        """For a child process."""
        return Opener(self.directory, self.pool)

    def backend(self, checkpoint: Callable[[str], None] = pass_by) -> ReflinkBackend:
        """Another backend on the same directory."""
        return self.opener.backend(checkpoint)

    def path(self, kind: ObjectKind, object_id: str) -> Path:
        """The file of an object, as docs/drivers.md tells it."""
        return self.directory / f"{kind}s" / f"{kind}-{object_id}"

    async def read(self, backend: FullBackend, kind: ObjectKind, object_id: str, offset: int, length: int) -> bytes:
        """From the file."""
        with self.path(kind, object_id).open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)

    async def write(self, backend: FullBackend, volume_id: str, offset: int, data: bytes) -> None:
        """To the file."""
        descriptor = os.open(self.path(ObjectKind.VOLUME, volume_id), os.O_WRONLY)
        try:
            assert os.pwrite(descriptor, data, offset) == len(data)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    async def fill(self, backend: FullBackend) -> None:
        """A file beside the pool takes the room."""
        fill(self.mount_point)

    async def used_bytes(self, backend: FullBackend) -> int:
        """By statvfs, once the file system has written everything out and freed what was deleted, which XFS and btrfs
        do later. Not by the report's free room: btrfs takes from it what it has set aside for metadata."""
        readings: list[int] = []
        while len(set(readings[-4:])) != 1 or len(readings) < 4:
            os.sync()
            status = os.statvfs(self.mount_point)
            readings.append((status.f_blocks - status.f_bfree) * status.f_frsize)
            await asyncio.sleep(0.03)
        return readings[-1]

    async def crash(self, call: Call, point: str) -> None:
        """Kill a child process."""
        process = _PROCESSES.Process(target=call_until, args=(self.opener, call, point))
        process.start()
        code = await ended(process)
        assert code == -signal.SIGKILL, f"{call.method} did not pass {point!r}: the child ended with {code}"


def fill(mount_point: Path) -> None:
    """Take all room of a file system, without writing it."""
    os.sync()
    descriptor = os.open(mount_point / "filler", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        step, end = 64 << 20, 0
        while step >= 4096:
            try:
                os.posix_fallocate(descriptor, end, step)
                end += step
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class XfsHarness(FileHarness):
    """Sharing, in the image that the driver's own `pool_image` makes."""

    name = "reflink-xfs"
    package = "xfsprogs"
    tools = ("mkfs.xfs",)

    def mount(self, image: Path, mount_point: Path) -> None:
        """By `pool_image`."""
        pool_image.ensure_mounted(image, mount_point, 1)


class BtrfsHarness(FileHarness):
    """Sharing on btrfs."""

    name = "reflink-btrfs"
    package = "btrfs-progs"
    tools = ("mkfs.btrfs",)

    def mount(self, image: Path, mount_point: Path) -> None:
        """512 MiB."""
        _make_and_mount(["mkfs.btrfs", "-q"], image, mount_point, 512 << 20)


class Ext4Harness(FileHarness):
    """Copying: ext4 shares no extents."""

    name = "reflink-ext4"
    package = "e2fsprogs"
    tools = ("mkfs.ext4",)

    def mount(self, image: Path, mount_point: Path) -> None:
        """256 MiB; 4 KiB blocks, or files could not have 100 GiB."""
        _make_and_mount(["mkfs.ext4", "-q", "-b", "4096"], image, mount_point, 256 << 20)


def _make_and_mount(mkfs: list[str], image: Path, mount_point: Path, size_bytes: int) -> None:
    with image.open("wb") as stream:
        stream.truncate(size_bytes)
    subprocess.run([*mkfs, str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount_point)], check=True)
