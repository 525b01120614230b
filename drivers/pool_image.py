"""A pool's own file system: a sparse image file, formatted XFS with reflink, loop-mounted on a directory. Root only.

For hosts whose file system cannot share extents. The loop device is one that frees itself when the mount goes
(autoclear), so neither a crash nor `umount` leaves one behind. Knows no volumes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from drivers import mountinfo
from drivers.reflink import durable, extents, marker
from drivers.vocabulary import GIB, BackendUnavailableError

_LOG: Final = logging.getLogger(__name__)
_LOOP_SET_DIRECT_IO: Final = 0x4C08  # linux/loop.h
_TOOL_TIMEOUT_SECONDS: Final = 120
# noatime: reading a volume must not write. discard: deleting one gives the image's blocks back to the host.
_MOUNT_OPTIONS: Final = "loop,noatime,discard"


def reflink_supported(directory: Path) -> bool:
    """Whether two files in `directory` can share extents, found by trying. Raises BackendUnavailableError."""
    try:
        return extents.can_share(directory)
    except OSError as error:
        raise BackendUnavailableError(f"cannot try reflink in {directory}: {os.strerror(error.errno or 0)}") from error


def ensure_mounted(image: Path, mount_point: Path, size_gib: int) -> Path:
    """The XFS file system in `image` is mounted on `mount_point`, which is returned.

    A missing image is made with `size_gib` GiB (at least 1), sparse; one that is there keeps its size. Raises
    BackendUnavailableError: not root, mkfs.xfs missing, something else mounted there, no loop device.
    """
    if os.geteuid() != 0:
        raise BackendUnavailableError(f"mounting {image} needs root; run as root or give the pool a directory on XFS")
    try:
        durable.ensure_directory(image.parent)
        with _alone(image.parent):
            mounted = _backing_of(mount_point)
            if mounted is None:
                durable.ensure_directory(mount_point)
                if any(mount_point.iterdir()):
                    raise BackendUnavailableError(f"{mount_point} is not empty; {image} cannot be mounted on it")
                _ensure_image(image, size_gib)
                _mount(image, mount_point)
            elif mounted != str(image.resolve()):
                raise BackendUnavailableError(f"{mounted} is mounted on {mount_point}, not {image}; unmount it")
    except OSError as error:
        raise BackendUnavailableError(f"cannot mount {image} on {mount_point}: {error}") from error
    return mount_point


def ensure_unmounted(mount_point: Path) -> None:
    """Nothing is mounted on `mount_point`; the loop device frees itself. The image stays. Raises
    BackendUnavailableError while files in it are in use."""
    while _backing_of(mount_point) is not None:
        _run(["umount", str(mount_point)], f"cannot unmount {mount_point}")


def ensure_absent_unless_used(image: Path, mount_point: Path) -> bool:
    """Delete `image` unless something is mounted on `mount_point` or a loop device has it; whether it is gone. Raises
    OSError."""
    if not image.exists():
        return True
    with _alone(image.parent):
        if _backing_of(mount_point) is not None or _has_loop_device(image):
            return False
        image.unlink(missing_ok=True)
    return True


def _ensure_image(image: Path, size_gib: int) -> None:
    if image.exists():
        return
    if shutil.which("mkfs.xfs") is None:
        raise BackendUnavailableError("mkfs.xfs is missing; apt-get install xfsprogs")
    partial = image.with_name(f".partial-{image.name}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size_gib * GIB)
        _run(["mkfs.xfs", "-q", "-m", "reflink=1", str(partial)], f"cannot format {partial}")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # Crash window: a formatted image without its name; the next call begins again.
    partial.rename(image)
    durable.sync_directory(image.parent)


def _mount(image: Path, mount_point: Path) -> None:
    # Crash window: mounted though nobody says so; the next call finds it in mountinfo.
    _run(["mount", "-t", "xfs", "-o", _MOUNT_OPTIONS, str(image), str(mount_point)], f"cannot mount {image}")
    device = _source_of(mount_point)
    if device is None:
        raise BackendUnavailableError(f"{image} was mounted on {mount_point} and is gone again; another umount runs")
    try:
        _ask_for_direct_io(device)
    except OSError as error:
        _LOG.info("%s stays buffered: %s has no direct I/O (%s)", device, image, error)


def _ask_for_direct_io(device: str) -> None:
    """Direct I/O on the image keeps its blocks out of the page cache, where they would be held twice."""
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _LOOP_SET_DIRECT_IO, 1)
    finally:
        os.close(descriptor)


def _source_of(mount_point: Path) -> str | None:
    """The device mounted on `mount_point`, the topmost when there are several; None when it is no mount point."""
    wanted = mount_point.resolve()
    return next((what for place, what in reversed(mountinfo.places(mountinfo.read())) if place == wanted), None)


def _backing_of(mount_point: Path) -> str | None:
    """The image file mounted on `mount_point`, or the mount's source when that is no loop device, or None."""
    source = _source_of(mount_point)
    if source is None:
        return None
    try:
        return Path(f"/sys/block/{Path(source).name}/loop/backing_file").read_text(encoding="utf-8").rstrip("\n")
    except OSError:
        return source


def _has_loop_device(image: Path) -> bool:
    wanted = str(image.resolve())
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # freed while we look
            if backing.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n") == wanted:
                return True
    return False


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No other process makes or mounts images of `directory`: a second mount of one image would ruin it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _run(command: list[str], failure: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_SECONDS, check=False)
    except FileNotFoundError as error:
        raise BackendUnavailableError(f"{failure}: {command[0]} is missing; apt-get install mount") from error
    except subprocess.TimeoutExpired as error:
        raise BackendUnavailableError(f"{failure}: {command[0]} took over {_TOOL_TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        raise BackendUnavailableError(f"{failure}: {done.stderr.strip() or f'{command[0]} gave {done.returncode}'}")


class OwnFileSystem(StrEnum):
    """Whether a pool brings its own file system: `auto` when the host's cannot share extents and it is possible."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class ImageGround:
    """A `drivers.reflink.ground.Ground` that mounts `image` on the pool's directory when the pool needs it.

    An image that exists is always mounted, and a pool begun without one stays without. With `auto`, a new pool whose
    image cannot be made or mounted copies instead, and `remarks` says why under `own_file_system`.
    """

    def __init__(self, image: Path, size_gib: int, choice: OwnFileSystem = OwnFileSystem.AUTO) -> None:
        self._image = image
        self._size_gib = size_gib
        self._choice = choice
        self._mounted = False
        self._remark = "not needed"

    def prepare(self, directory: Path) -> None:
        """Mount the image, made when wanted and not there. Raises BackendUnavailableError, OSError."""
        if self._image.exists() or self._choice is OwnFileSystem.ALWAYS:
            self._mount(directory)
        elif self._choice is OwnFileSystem.NEVER:
            self._remark = "not wanted"
        elif marker.read(directory) is None:
            self._prepare_new(directory)

    def _prepare_new(self, directory: Path) -> None:
        durable.ensure_directory(directory.parent)
        if reflink_supported(directory.parent):
            return
        try:
            self._mount(directory)
        except BackendUnavailableError as error:
            # Made just now if at all. Where the mount came about all the same (it failed after mount(2), or another
            # process did it), the image is the pool, and copying beside it would make a second one.
            if not ensure_absent_unless_used(self._image, directory):
                raise
            self._remark = f"copies instead of sharing: {error}"
            _LOG.warning("pool in %s %s", directory, self._remark)

    def _mount(self, directory: Path) -> None:
        ensure_mounted(self._image, directory, self._size_gib)
        self._mounted = True
        self._remark = f"mounted from {self._image}"

    def release(self, directory: Path) -> None:
        """Unmount unless something in it is still in use (an attached volume), which the next `prepare` finds."""
        if self._mounted:
            try:
                ensure_unmounted(directory)
            except BackendUnavailableError as error:
                _LOG.info("%s stays mounted: %s", directory, error)
            self._mounted = False

    def free_bytes(self) -> int | None:
        """What the host's file system has free for the sparse image to grow into."""
        if not self._mounted:
            return None
        status = os.statvfs(self._image.parent)
        return status.f_bavail * status.f_frsize

    def remarks(self) -> dict[str, str | int | float | bool]:
        """`own_file_system`: where it is mounted from, or why there is none."""
        return {"own_file_system": self._remark}
