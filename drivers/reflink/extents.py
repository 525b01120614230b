"""The kernel's calls on file extents: share them, copy only those with data, ask XFS to keep them large.

Linux only. Must not know of volumes, pools or names. Raises OSError only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

_FICLONE: Final = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_FSGETXATTR: Final = 0x801C581F  # linux/fs.h: FS_IOC_FSGETXATTR, struct fsxattr
_FSSETXATTR: Final = 0x401C5820
_FSXATTR: Final = struct.Struct("=5I8s")  # xflags, extsize, nextents, projid, cowextsize, padding
_XFLAG_EXTSIZE: Final = 0x0000_0800
_XFLAG_COWEXTSIZE: Final = 0x0001_0000

_COPY_PIECE_BYTES: Final = 64 << 20
_FALLBACK_PIECE_BYTES: Final = 1 << 20
_NO_KERNEL_COPY: Final = frozenset({errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_NO_SHARING: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM})
_NO_HINTS: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS})


def share(source: int, target: int) -> None:
    """Make the file open as `target` share every extent of `source` (FICLONE); atomic against writes to `source`,
    whose dirty pages the kernel writes out first."""
    fcntl.ioctl(target, _FICLONE, source)


def can_share(directory: Path) -> bool:
    """Whether FICLONE works between two files of `directory`, found by doing it on files that never get a name.
    Raises OSError when files cannot be made or read there (ENOSPC on a full file system)."""
    with (
        tempfile.TemporaryFile(prefix=".partial-probe-", dir=directory) as source,
        tempfile.TemporaryFile(prefix=".partial-probe-", dir=directory) as target,
    ):
        source.write(b"\xa5" * 65536)  # an inline or empty file could be shared where real extents cannot
        source.flush()
        try:
            share(source.fileno(), target.fileno())
        except OSError as error:
            if error.errno in _NO_SHARING:
                return False
            raise
        return os.pread(target.fileno(), 65536, 0) == b"\xa5" * 65536


def ask_for_large_extents(descriptor: int, extent_bytes: int) -> bool:
    """Set XFS's extent-size and copy-on-write extent-size hints on an empty file; False where there are no such hints.

    The cost of FICLONE grows with the number of extents, and random small writes make many. Measured on XFS 6.18, a
    64 MiB file filled in random order by 4 KiB writes: 16,264 extents and 320 ms to clone without a hint, 62 extents
    and 2 ms with 1 MiB. The price: the first write to an aligned `extent_bytes` piece allocates all of it.
    """
    packed = bytearray(_FSXATTR.size)
    try:
        fcntl.ioctl(descriptor, _FSGETXATTR, packed)
        flags, _, extents, project, _, padding = _FSXATTR.unpack(packed)
        flags |= _XFLAG_EXTSIZE | _XFLAG_COWEXTSIZE
        hinted = _FSXATTR.pack(flags, extent_bytes, extents, project, extent_bytes, padding)
        fcntl.ioctl(descriptor, _FSSETXATTR, hinted)
    except OSError as error:
        if error.errno in _NO_HINTS:
            return False
        raise
    return True


def copy_data(source: int, target: int, between: Callable[[], None]) -> None:
    """Copy the parts of `source` that hold data to the same offsets of the empty file `target`; holes stay holes.
    `between` is called after each piece (at most 64 MiB). Not atomic against writes to `source`."""
    end_of_file = os.fstat(source).st_size
    position = 0
    while position < end_of_file:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        position = os.lseek(source, start, os.SEEK_HOLE)
        _copy_range(source, target, start, position, between)


def _copy_range(source: int, target: int, start: int, end: int, between: Callable[[], None]) -> None:
    in_kernel = True
    while start < end:
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, min(_COPY_PIECE_BYTES, end - start), start, start)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                in_kernel = False
                continue
        else:
            copied = _copy_piece(source, target, start, min(_FALLBACK_PIECE_BYTES, end - start))
        if copied == 0:
            raise OSError(errno.EIO, "the source became shorter while it was copied")
        start += copied
        between()


def _copy_piece(source: int, target: int, offset: int, length: int) -> int:
    """Copy by way of memory; returns the bytes copied, fewer than `length` at the end of the file."""
    piece = memoryview(os.pread(source, length, offset))
    written = 0
    while written < len(piece):
        written += os.pwrite(target, piece[written:], offset + written)
    return written
