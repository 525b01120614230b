"""Making a file system on a volume so that one that was begun and not finished is known as such, on every node.

Programs that make file systems write in an order of their own, and leave what is neither empty nor a file system when
they are killed. So they do their work on a sparse file of the volume's size, and what they wrote is copied:

    1. the volume's first sector says that a file system is being made, and reaches the disk;
    2. all that was made is copied but its first 128 KiB, and reaches the disk;
    3. the first 128 KiB are written but for the first sector, and reach the disk;
    4. the first sector is written, and reaches the disk.

A sector is written whole or not at all, so the first alone says what there is. As long as it says that a file system is
being made, nobody has mounted the volume, for that is done after the fourth step: it is made anew. Whoever else uses
the volume then, for a partition table or a format of its own, begins with the first sector, and what was copied before
is not taken for a file system: what these are known by is in the first 128 KiB. In the first sector there are never a
user's data in any of them.

Blocking code. Raises AttachError, OSError.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from drivers.attach.contents import data_ranges
from drivers.attach.programs import run

MAKERS: Final = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"],
    "xfs": ["mkfs.xfs", "-q", "-K"],
    "btrfs": ["mkfs.btrfs", "-q", "--nodiscard"],
}
FRONT_BYTES: Final = 128 << 10
_SECTOR_BYTES: Final = 512
_TEXT: Final = (
    b"Pumice makes a file system here. It was begun and is not finished: nothing is lost by making it anew.\n"
)
MARK: Final = (_TEXT + bytes.fromhex("6d2f7b1ce4a94f0f9d5c3be8a2f0417e") * 26).ljust(_SECTOR_BYTES, b"\0")[
    :_SECTOR_BYTES
]
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # FALLOC_FL_*
_ZERO_OUT: Final = 0x127F  # BLKZEROOUT
_SECTOR_SIZE: Final = 0x1268  # BLKSSZGET
_STRETCH_BYTES: Final = 1 << 30
_COPIED_BYTES: Final = 1 << 20


def is_torn(device: Path) -> bool:
    """Whether a file system was begun on `device` and not finished."""
    with device.open("rb", buffering=0) as stream:
        return os.pread(stream.fileno(), _SECTOR_BYTES, 0) == MARK


def make(kind: str, device: Path, scratch: Path, *, clean: bool) -> None:
    """`device` has a new file system of the `kind`, of which there is nothing before and all of it after this call. It
    is made in the file `scratch`; when that fails, the device is as it was. `clean` says that there is nothing but
    zeroes on it; else what there is becomes holes first."""
    with device.open("r+b", buffering=0) as stream:
        target = stream.fileno()
        size = os.lseek(target, 0, os.SEEK_END)
        with _made(kind, size, _sector_bytes(target), scratch) as source:
            front = os.pread(source, FRONT_BYTES, 0)
            _write(target, MARK, 0)
            os.fsync(target)
            if not clean:
                _empty(target, size)
            for begin, end in data_ranges(source, size):
                for place in range(max(begin, FRONT_BYTES), end, _COPIED_BYTES):
                    _write(target, os.pread(source, min(_COPIED_BYTES, end - place), place), place)
            os.fsync(target)
            _write(target, front[_SECTOR_BYTES:], _SECTOR_BYTES)
            os.fsync(target)
            _write(target, front[:_SECTOR_BYTES], 0)
            os.fsync(target)


@contextmanager
def _made(kind: str, size: int, sector_bytes: int, scratch: Path) -> Iterator[int]:
    """The file with the file system."""
    scratch.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch.unlink(missing_ok=True)
    try:
        with scratch.open("wb") as stream:
            stream.truncate(size)
        # XFS cannot be mounted from sectors that are smaller than the device's.
        sectors = ["-s", f"size={sector_bytes}"] if kind == "xfs" else []
        run([*MAKERS[kind], *sectors, str(scratch)])
        with scratch.open("rb", buffering=0) as source:
            yield source.fileno()
    finally:
        scratch.unlink(missing_ok=True)


def _empty(target: int, size: int) -> None:
    """There are zeroes behind the front, for which a sparse volume takes no room if the device can say so."""
    for place in range(FRONT_BYTES, size, _STRETCH_BYTES):
        length = min(_STRETCH_BYTES, size - place)
        try:
            _punch(target, place, length)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            fcntl.ioctl(target, _ZERO_OUT, struct.pack("=QQ", place, length))


def _punch(target: int, place: int, length: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    where = ctypes.c_int64(place), ctypes.c_int64(length)
    if library.fallocate64(target, _PUNCH_HOLE | _KEEP_SIZE, *where):
        raise OSError(ctypes.get_errno(), f"fallocate: {os.strerror(ctypes.get_errno())}")


def _sector_bytes(target: int) -> int:
    [found] = struct.unpack("=I", fcntl.ioctl(target, _SECTOR_SIZE, bytes(4)))
    return int(found)


def _write(target: int, content: bytes, place: int) -> None:
    while content:
        written = os.pwrite(target, content, place)
        content, place = content[written:], place + written
