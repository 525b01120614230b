"""File systems on a block device: what is there, making one where nothing is, mounting, unmounting.

    BlankDeviceError    there is no file system, and none may be made
    ForeignDataError    there is something, and it is not a file system that can be mounted
    BusyError           files under the directory are open; the message says by which processes
    LostWritesError     what was written last is not on the volume; the directory is unmounted all the same

All are AttachErrors (programs.py).
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from drivers import mountinfo
from drivers.attach import making
from drivers.attach.contents import BlockDevice, Content, content_of, io_counts
from drivers.attach.programs import AttachError, Watch, run
from drivers.vocabulary import AccessMode

_READ_ONLY: Final = {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid", "btrfs": "ro"}
_READ_WRITE: Final = {"ext4": "rw", "xfs": "rw,nouuid", "btrfs": "rw"}
_UNMOUNT_SECONDS: Final = 5.0
_NOTHING_FOUND: Final = 2  # blkid's exit status


class BlankDeviceError(AttachError):
    """There is no file system."""


class ForeignDataError(AttachError):
    """There is data that is no file system."""


class BusyError(AttachError):
    """Files are open."""


class LostWritesError(AttachError):
    """Not all that was written is on the volume."""


def kind_of(device: BlockDevice) -> str | None:
    """The file system on `device`, or None when it holds nothing of anybody's. Raises ForeignDataError, AttachError."""
    return _look(device)[0]


def _look(device: BlockDevice) -> tuple[str | None, bool]:
    """The file system, if there is one, and whether there is nothing at all, not even zeroes that were written."""
    if making.is_torn(device.path):
        return None, False
    found = run(["blkid", "--probe", "--match-tag", "TYPE", "--output", "value", str(device.path)], (0, _NOTHING_FOUND))
    kind = found.strip()
    if kind in making.MAKERS:
        return kind, False
    if kind:
        raise ForeignDataError(
            f"{device.path} holds {kind!r}, which is not mounted here ({', '.join(making.MAKERS)} are)"
        )
    if (content := content_of(device)) is Content.DATA:
        raise ForeignDataError(f"{device.path} holds data without a file system; nothing is made there, to keep it")
    return None, content is Content.BLANK


def ensure_mounted(device: BlockDevice, directory: Path, mode: AccessMode, make: str | None, scratch: Path) -> None:
    """`device` is mounted at `directory`, with a new file system `make` if it is blank, which is put together in the
    file `scratch`. Raises AttachError."""
    if is_mounted(directory):
        return
    try:
        kind, is_clean = _look(device)
        if kind is None:
            if make is None or mode is AccessMode.READ_ONLY:
                raise BlankDeviceError("the volume is empty; mount it for writing once, with a file system to make")
            if make not in making.MAKERS:
                raise AttachError(f"{make!r} cannot be made here; choose {', '.join(making.MAKERS)}")
            making.make(make, device.path, scratch, clean=is_clean)
            kind = make
    except OSError as error:
        raise AttachError(f"{device.path}: {error}") from error
    options = _READ_ONLY[kind] if mode is AccessMode.READ_ONLY else _READ_WRITE[kind]
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    command = ["mount", "-t", kind, "-o", f"{options},nosuid,nodev", str(device.path), str(directory)]
    run(command, watch=device.watch())


def ensure_unmounted(directory: Path, cut: Callable[[], None] | None = None) -> None:
    """Nothing is mounted at `directory`, which is gone. What was written is on the device. `cut` makes the device fail
    when nothing moves any more. Raises BusyError; LostWritesError, when it is unmounted; AttachError."""
    try:
        lost = _unmount(directory, cut)
        stray = _remove(directory)
    except OSError as error:
        raise AttachError(f"{directory} cannot be unmounted: {error}") from error
    if lost is not None:
        raise LostWritesError(f"not all that was written last is on the volume, which could not be reached: {lost}")
    if stray:
        raise LostWritesError(f"written while or after the volume was unmounted, and not on it: {', '.join(stray)}")


def _unmount(directory: Path, cut: Callable[[], None] | None) -> AttachError | None:
    """Why writes were lost, if any were."""
    lost = None
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while (device := mounted_at(directory)) is not None:
        watch = None if cut is None else Watch(partial(io_counts, device), cut)
        try:
            # It alone is told of writes that failed in the background: unmounting succeeds all the same.
            run(["sync", "--file-system", str(directory)], watch=watch)
        except AttachError as error:
            lost = lost or error
        try:
            run(["umount", str(directory)], watch=watch)
        except AttachError as error:
            if time.monotonic() > deadline:
                raise BusyError(f"{directory} cannot be unmounted: {_users(directory) or error}") from error
            time.sleep(0.1)
    return lost


def _remove(directory: Path) -> list[str]:
    """The mount point is gone; the names of what somebody wrote into it when nothing was mounted there any more."""
    stray: set[str] = set()
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while directory.exists():
        try:
            directory.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or time.monotonic() > deadline:
                raise
            if any(place.is_relative_to(directory) for place, _ in mountinfo.places(mountinfo.read())):
                raise BusyError(f"something is mounted in {directory}; unmount it") from error
            stray.update(entry.name for entry in directory.iterdir())
            shutil.rmtree(directory, ignore_errors=True)
    return sorted(stray)


def is_mounted(directory: Path) -> bool:
    """Whether something is mounted at exactly this directory, as far as this process sees."""
    return mounted_at(directory) is not None


def mounted_at(directory: Path) -> Path | None:
    """What is mounted there: a device, or whatever a file system calls itself. `directory` has no symbolic links."""
    return next((Path(what) for place, what in mountinfo.places(mountinfo.read()) if place == directory), None)


def _users(directory: Path) -> str:
    """Which processes have files open below `directory`."""
    pids = [
        process.name
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and any(link.is_relative_to(directory) for link in _open_in(process))
    ]
    return f"files are open in process {', '.join(pids)}; close them" if pids else ""


def _open_in(process: Path) -> Iterator[Path]:
    """The files that a process has open, and where it is, of what can be looked at and is not gone meanwhile."""
    with contextlib.suppress(OSError):
        for link in (process / "cwd", *(process / "fd").iterdir()):
            with contextlib.suppress(OSError):
                yield link.readlink()
