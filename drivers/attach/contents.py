"""What a block device holds: which parts of it were ever written, and whether there is anything but zeroes.

A loop device over a sparse file, and an NBD server, know their holes; what they call a hole is not read. Blocking code.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from drivers.attach.programs import Watch, run

_ZERO: Final = 2  # of an extent's type in the context base:allocation
_COMPLETED: Final = (0, 2, 4, 6, 11, 13, 15)  # reads, writes, discards, each with sectors; flushes
_BLOCK_BYTES: Final = 1 << 20
_LOOKED_AT_BYTES: Final = 256 * _BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A device of this node. One of NBD's has a `uri`, where a client is told its holes, and can be `cut` off."""

    path: Path
    uri: str | None = None
    cut: Callable[[], None] | None = None

    def watch(self) -> Watch | None:
        """For programs that wait for it."""
        return None if self.cut is None else Watch(lambda: io_counts(self.path), self.cut)


def io_counts(device: Path) -> str:
    """What changes with each read or write that a device has done, and not while it does nothing."""
    try:
        return completed(Path(f"/sys/block/{device.name}/stat").read_text(encoding="ascii"))
    except OSError:
        return ""


def completed(stat: str) -> str:
    """Of a line of block/stat of the kernel, the requests that ended and their sectors: times go on while one hangs."""
    fields = stat.split()
    return " ".join(fields[number] for number in _COMPLETED if number < len(fields))


class Content(StrEnum):
    """`BLANK`: nothing but zeroes. `ZEROES`: so many zeroes were written that the rest was not looked at."""

    BLANK = "blank"
    ZEROES = "zeroes"
    DATA = "data"


def content_of(device: BlockDevice) -> Content:
    """What it holds. Of what is not a hole _LOOKED_AT_BYTES are read from the front, and the end in any case: what
    systems recognise is there. Raises OSError, AttachError."""
    left = _LOOKED_AT_BYTES
    with device.path.open("rb", buffering=0) as stream:
        size = os.lseek(stream.fileno(), 0, os.SEEK_END)
        for begin, end in _written(device, size):
            for position in range(begin, min(end, begin + left), _BLOCK_BYTES):
                if os.pread(stream.fileno(), min(_BLOCK_BYTES, end - position), position).strip(b"\0"):
                    return Content.DATA
            left -= end - begin
            if left <= 0:
                last = max(0, size - _BLOCK_BYTES)
                return Content.DATA if os.pread(stream.fileno(), size - last, last).strip(b"\0") else Content.ZEROES
    return Content.BLANK


def data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where an open file has data: begin and end in bytes. All of it, where the file system does not know. Raises
    OSError."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data from here on
                return
            if error.errno != errno.EINVAL:
                raise
            yield 0, size
            return
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield begin, end


def _written(device: BlockDevice, size: int) -> Iterator[tuple[int, int]]:
    if device.uri is not None:
        for extent in json.loads(run(["nbdinfo", "--json", "--map", device.uri])):
            if not extent["type"] & _ZERO:
                yield extent["offset"], extent["offset"] + extent["length"]
        return
    with (_file_behind(device.path) or device.path).open("rb", buffering=0) as file:
        yield from data_ranges(file.fileno(), size)


def _file_behind(device: Path) -> Path | None:
    """The file behind a loop device, which knows its holes, if it can be had."""
    try:
        name = Path(f"/sys/block/{device.name}/loop/backing_file").read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return Path(name) if os.access(name, os.R_OK) else None
