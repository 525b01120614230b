"""Making a file system on a volume so that one that was begun and not finished is known as such, on every node.

Programs that make file systems write in an order of their own, and leave what is neither empty nor a file system when
they are killed. So they do their work on a sparse file of the volume's size, and what they wrote is copied:

    1. every sector of the volume's first 4 KiB says that a file system is being made;
    2. all that was made is copied but its first 4 KiB, and reaches the disk;
    3. the first 4 KiB are written, and reach the disk.

As long as one sector says so, nobody has mounted the volume, for that is done after the third step: it holds nothing of
anybody's and is made anew. After it none says so, for all are overwritten. In the first 4 KiB there are never a user's
data in any of these file systems: ext4 and XFS have their superblock there and leave the rest of the block, btrfs
leaves it all.

Blocking code. Raises AttachError, OSError.
"""

from __future__ import annotations

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
FRONT_BYTES: Final = 4096
_SECTOR_BYTES: Final = 512
_TEXT: Final = (
    b"Pumice makes a file system here. It was begun and is not finished: nothing is lost by making it anew.\n"
)
MARK: Final = (_TEXT + bytes.fromhex("6d2f7b1ce4a94f0f9d5c3be8a2f0417e") * 26).ljust(_SECTOR_BYTES, b"\0")[
    :_SECTOR_BYTES
]
_ZERO_OUT: Final = 0x127F  # BLKZEROOUT
_SECTOR_SIZE: Final = 0x1268  # BLKSSZGET
_STRETCH_BYTES: Final = 1 << 30
_COPIED_BYTES: Final = 1 << 20


def is_torn(device: Path) -> bool:
    """Whether a file system was begun on `device` and not finished."""
    with _opened(device, os.O_RDONLY) as descriptor:
        front = os.pread(descriptor, FRONT_BYTES, 0)
    return any(front[place : place + _SECTOR_BYTES] == MARK for place in range(0, FRONT_BYTES, _SECTOR_BYTES))


def make(kind: str, device: Path, scratch: Path, *, clean: bool) -> None:
    """`device` has a new file system of the `kind`, of which there is nothing before and all of it after this call. It
    is made in the file `scratch`. `clean` says that there is nothing but zeroes; else all is overwritten with zeroes
    first."""
    with _opened(device, os.O_RDWR) as target:
        size = os.lseek(target, 0, os.SEEK_END)
        _write(target, MARK * (FRONT_BYTES // _SECTOR_BYTES), 0)
        os.fsync(target)
        if not clean:
            _zero(target, size)
        with _made(kind, size, _sector_bytes(target), scratch) as source:
            for begin, end in data_ranges(source, size):
                for place in range(max(begin, FRONT_BYTES), end, _COPIED_BYTES):
                    _write(target, os.pread(source, min(_COPIED_BYTES, end - place), place), place)
            os.fsync(target)
            _write(target, os.pread(source, FRONT_BYTES, 0), 0)
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
        with _opened(scratch, os.O_RDONLY) as descriptor:
            yield descriptor
    finally:
        scratch.unlink(missing_ok=True)


def _zero(target: int, size: int) -> None:
    for place in range(FRONT_BYTES, size, _STRETCH_BYTES):
        fcntl.ioctl(target, _ZERO_OUT, struct.pack("=QQ", place, min(_STRETCH_BYTES, size - place)))


def _sector_bytes(target: int) -> int:
    [found] = struct.unpack("=I", fcntl.ioctl(target, _SECTOR_SIZE, bytes(4)))
    return int(found)


def _write(target: int, content: bytes, place: int) -> None:
    while content:
        written = os.pwrite(target, content, place)
        content, place = content[written:], place + written


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
