"""Loop devices by ioctl, in blocking code. Knows nothing of connections: a device carries a tag of its user's.

The kernel keeps backing file, flags and tag of a device together and sets them in one call (LOOP_CONFIGURE), so a crash
leaves a device that is whole or none. Numbers are those of linux/loop.h.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_CLR_FD: Final = 0x4C01
_SET_STATUS64: Final = 0x4C04
_GET_STATUS64: Final = 0x4C05
_SET_CAPACITY: Final = 0x4C07
_CONFIGURE: Final = 0x4C0A
_GET_FREE: Final = 0x4C82
_READ_ONLY: Final = 1
_AUTOCLEAR: Final = 4
_DIRECT_IO: Final = 16
_INFO: Final = struct.Struct("=QQQQQIIII64s64s32sQQ")  # struct loop_info64
_FLAGS: Final = 8
_TAG: Final = 9
MAJOR: Final = 7
_TRIES: Final = 64
_CONTROL: Final = Path("/dev/loop-control")


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """A device that is bound. `leaving`: it frees itself when its last user closes it."""

    path: Path
    backing: str
    tag: str
    read_only: bool
    leaving: bool


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Nobody else who asks for it binds or frees devices of this machine meanwhile. For moments. Raises OSError."""
    with _opened(_CONTROL, os.O_RDWR) as control:
        fcntl.flock(control, fcntl.LOCK_EX)
        yield


def bound() -> list[LoopDevice]:
    """Every bound device of this machine whose state can be read."""
    found = []
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        device = look(Path("/dev") / entry.parts[3])
        if device is not None:
            found.append(device)
    return found


def look(path: Path) -> LoopDevice | None:
    """The device if it is bound, else None."""
    backing = ""
    try:
        backing = Path(f"/sys/block/{path.name}/loop/backing_file").read_text(errors="surrogateescape").rstrip("\n")
        with _opened(path, os.O_RDONLY) as descriptor:
            fields = _status(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
            return None
        # Over a FUSE file whose process has ended, or not for this user to look at: whose device it is is not told.
        if error.errno in (errno.ENOTCONN, errno.EACCES, errno.EPERM):
            return LoopDevice(path, backing, "", read_only=False, leaving=False)
        raise
    tag = fields[_TAG].rstrip(b"\0").decode(errors="replace")
    flags = fields[_FLAGS]
    return LoopDevice(path, backing, tag, bool(flags & _READ_ONLY), bool(flags & _AUTOCLEAR))


def bind(file: Path, tag: str, *, read_only: bool) -> LoopDevice:
    """A new device over `file` with `tag` (at most 63 bytes), with direct I/O where possible. Raises OSError."""
    backing = os.open(file, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    try:
        flags = _READ_ONLY if read_only else 0
        try:
            path = _configure(backing, flags | _DIRECT_IO, tag, read_only)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            path = _configure(backing, flags, tag, read_only)
    finally:
        os.close(backing)
    return LoopDevice(path, str(file), tag, read_only, leaving=False)


def keep(path: Path) -> None:
    """The device does not free itself any more. Raises OSError."""
    with _opened(path, os.O_RDONLY) as descriptor:
        fields = list(_status(descriptor))
        fields[_FLAGS] &= ~_AUTOCLEAR
        fcntl.ioctl(descriptor, _SET_STATUS64, _INFO.pack(*fields))


def refresh_size(path: Path) -> None:
    """The device is as large as its file is now. Raises OSError."""
    with _opened(path, os.O_RDONLY) as descriptor:
        fcntl.ioctl(descriptor, _SET_CAPACITY)


def unbind(device: LoopDevice, timeout_seconds: float) -> bool:
    """The device is free, or frees itself when its last user closes it; whether it is free after the timeout, which
    covers those who only look (udev, blkid). Raises OSError."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        with contextlib.suppress(FileNotFoundError), _opened(device.path, os.O_RDONLY) as descriptor:
            if not _is_still(device):
                return True
            try:
                fcntl.ioctl(descriptor, _CLR_FD)
            except OSError as error:
                if error.errno not in (errno.ENXIO, errno.EBUSY):
                    raise
        if not _is_still(device):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def _is_still(device: LoopDevice) -> bool:
    """Whether the device is what it was when it was looked at; its tag is not told over the file of a dead process."""
    now = look(device.path)
    if now is None:
        return False
    return now.tag == device.tag if now.tag and device.tag else now.backing == device.backing


def _configure(backing: int, flags: int, tag: str, read_only: bool) -> Path:
    information = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, tag.encode(), b"", b"", 0, 0)
    request = struct.pack("=II", backing, 0) + information + bytes(64)  # struct loop_config
    for _ in range(_TRIES):
        with _opened(_CONTROL, os.O_RDWR) as control:
            number = fcntl.ioctl(control, _GET_FREE)
        path = Path(f"/dev/loop{number}")
        if not path.exists():  # a container without devtmpfs
            with contextlib.suppress(FileExistsError):
                os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(MAJOR, number))
        with _opened(path, os.O_RDONLY if read_only else os.O_RDWR) as descriptor:
            try:
                fcntl.ioctl(descriptor, _CONFIGURE, request)
            except OSError as error:
                if error.errno != errno.EBUSY:  # another process took the number first
                    raise
            else:
                return path
    raise OSError(errno.EBUSY, "no free loop device")


def _status(descriptor: int) -> tuple[Any, ...]:
    buffer = bytearray(_INFO.size)
    fcntl.ioctl(descriptor, _GET_STATUS64, buffer)
    return _INFO.unpack(buffer)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
