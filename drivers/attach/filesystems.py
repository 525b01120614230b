"""File systems on a block device: what is there, making one where nothing is, mounting, unmounting.

    BlankDeviceError    there is no file system, and none may be made
    ForeignDataError    there is something, and it is not a file system that can be mounted
    BusyError           files under the directory are open; the message says by which processes
    AttachError         a program of the system refused; the message has what it said

Programs are called as lists, without a shell, and with the locale C.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from pathlib import Path
from typing import Final

from drivers.vocabulary import AccessMode

FILESYSTEMS: Final = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"],
    "xfs": ["mkfs.xfs", "-q"],
    "btrfs": ["mkfs.btrfs", "-q"],
}
_READ_ONLY: Final = {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid", "btrfs": "ro"}
_READ_WRITE: Final = {"ext4": "rw", "xfs": "rw,nouuid", "btrfs": "rw"}
_BLOCK_BYTES: Final = 1 << 20
_LOOKED_AT_BYTES: Final = 256 * _BLOCK_BYTES
_SECONDS: Final = 100
_UNMOUNT_SECONDS: Final = 5.0
_NOTHING_FOUND: Final = 2  # blkid's exit status


class AttachError(Exception):
    """The device cannot be used."""


class BlankDeviceError(AttachError):
    """There is no file system."""


class ForeignDataError(AttachError):
    """There is data that is no file system."""


class BusyError(AttachError):
    """Files are open."""


def kind_of(device: Path) -> str | None:
    """The file system on `device`, or None when it holds nothing at all. Raises ForeignDataError, AttachError."""
    done = _run(["blkid", "--probe", "--match-tag", "TYPE", "--output", "value", str(device)], (0, _NOTHING_FOUND))
    kind = done.strip()
    if kind in FILESYSTEMS:
        return kind
    if kind:
        raise ForeignDataError(f"{device} holds {kind!r}, which is not mounted here ({', '.join(FILESYSTEMS)} are)")
    if not _is_blank(device):
        raise ForeignDataError(f"{device} holds data without a file system; nothing is made there, to keep it")
    return None


def ensure_mounted(device: Path, directory: Path, mode: AccessMode, make: str | None) -> None:
    """`device` is mounted at `directory`, with a new file system `make` if it is blank. Raises AttachError."""
    if is_mounted(directory):
        return
    kind = kind_of(device)
    if kind is None:
        if make is None or mode is AccessMode.READ_ONLY:
            raise BlankDeviceError("the volume is empty; mount it for writing once, with a file system to make")
        if make not in FILESYSTEMS:
            raise AttachError(f"{make!r} cannot be made here; choose {', '.join(FILESYSTEMS)}")
        _run([*FILESYSTEMS[make], str(device)])
        kind = make
    options = _READ_ONLY[kind] if mode is AccessMode.READ_ONLY else _READ_WRITE[kind]
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    _run(["mount", "-t", kind, "-o", f"{options},nosuid,nodev", str(device), str(directory)])


def ensure_unmounted(directory: Path) -> None:
    """Nothing is mounted at `directory`, which is gone. What was written is on the device. Raises BusyError."""
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while is_mounted(directory):
        try:
            _run(["umount", str(directory)])
        except AttachError as error:
            if time.monotonic() > deadline:
                raise BusyError(f"{directory} cannot be unmounted: {_users(directory) or error}") from error
            time.sleep(0.1)
    if directory.exists():
        directory.rmdir()


def is_mounted(directory: Path) -> bool:
    """Whether something is mounted at exactly this directory, as far as this process sees."""
    wanted = str(directory)
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if line.split(" ")[4].replace("\\040", " ") == wanted:
            return True
    return False


def _is_blank(device: Path) -> bool:
    """Whether nothing but zeroes is there: exact for a loop device over a sparse file, whose holes are skipped. Of what
    is not a hole _LOOKED_AT_BYTES are read from the front, and the end in any case: what systems recognise is there."""
    left = _LOOKED_AT_BYTES
    with _content_of(device).open("rb", buffering=0) as file:
        size = os.lseek(file.fileno(), 0, os.SEEK_END)
        position = 0
        while left > 0:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # no data from here on
                    return True
                if error.errno != errno.EINVAL:  # a device that does not know its holes
                    raise
                os.lseek(file.fileno(), position, os.SEEK_SET)
            block = file.read(_BLOCK_BYTES)
            if block.strip(b"\0"):
                return False
            if not block:
                return True
            position += len(block)
            left -= len(block)
        os.lseek(file.fileno(), max(0, size - _BLOCK_BYTES), os.SEEK_SET)
        return not file.read(_BLOCK_BYTES).strip(b"\0")


def _content_of(device: Path) -> Path:
    """The file behind a loop device, which knows its holes, if it can be had; else the device."""
    try:
        name = Path(f"/sys/block/{device.name}/loop/backing_file").read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError):
        return device
    file = Path(name)
    return file if os.access(file, os.R_OK) else device


def _users(directory: Path) -> str:
    """Which processes have files open below `directory`."""
    pids = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            links = [str(link.readlink()) for link in (*(process / "fd").iterdir(), process / "cwd")]
        except OSError:
            continue
        if any(link == str(directory) or link.startswith(f"{directory}/") for link in links):
            pids.append(process.name)
    return f"files are open in process {', '.join(pids)}; close them" if pids else ""


def _run(command: list[str], good: tuple[int, ...] = (0,)) -> str:
    environment = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=_SECONDS, check=False, errors="replace"
        )
    except FileNotFoundError as error:
        raise AttachError(f"{command[0]} is not installed on this node") from error
    except subprocess.TimeoutExpired as error:
        raise AttachError(f"{command[0]} was not done after {_SECONDS} s") from error
    if done.returncode not in good:
        said = (done.stderr or done.stdout).strip().splitlines()
        # mount goes on with where more may be found; what it is about comes first.
        raise AttachError(f"{command[0]}: {said[0] if said else f'exit status {done.returncode}'}")
    return done.stdout
