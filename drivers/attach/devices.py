"""A block device on this node for a connection: that of a local export, a loop device over its file, or one over NBD.

Blocking code. A claim's device carries the claim in its tag, and what else there is lies in the claim's directory, so
all is found again from the system alone. Steps are safe to repeat, and each is undone if it is there.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from drivers.attach.contents import BlockDevice
from drivers.attach.nbd_device import NbdDevice, free
from drivers.attach.programs import AttachError
from drivers.exports import loop_device
from drivers.exports.short_names import LENGTH, shorten
from drivers.vocabulary import AccessMode

_TAG: Final = "pn"


def ensure(directory: Path, claim_id: str, kind: str, data: Mapping[str, Any], mode: AccessMode) -> BlockDevice:
    """The device over the connection `data` (os-brick's) of the export `kind`, for a claim of the node with this
    directory. Raises AttachError."""
    try:
        match kind:
            case "local":
                return BlockDevice(_local(claim_id, data, mode))
            case "nbd":
                nbd = _nbd(directory, claim_id)
                return BlockDevice(nbd.ensure(data, mode), nbd.uri, nbd.cut)
    except OSError as error:
        raise AttachError(f"no device over the volume: {error}; is this process root?") from error
    raise AttachError(f"volumes of the export {kind!r} cannot be mounted by tasks, those of local and nbd can")


def ensure_absent(directory: Path, claim_id: str) -> None:
    """Nothing of the claim's device is left. Raises AttachError when somebody holds it open."""
    _nbd(directory, claim_id).ensure_absent()
    try:
        free(device for device in loop_device.bound() if device.tag == _tag(claim_id))
    except OSError as error:
        raise AttachError(f"a device over the volume is not freed: {error}") from error
    shutil.rmtree(own_directory(directory, claim_id), ignore_errors=True)


def cut(directory: Path, claim_id: str) -> None:
    """Whoever waits for a volume of another node gets an error now. Raises AttachError."""
    _nbd(directory, claim_id).cut()


def attend(directory: Path, claim_id: str) -> None:
    """See NbdDevice.attend. Raises AttachError."""
    _nbd(directory, claim_id).attend()


def own_directory(directory: Path, claim_id: str) -> Path:
    """The claim's own, of the node with this directory. Short, since names of sockets are."""
    return directory / "devices" / shorten(claim_id)


def scratch_file(directory: Path, claim_id: str) -> Path:
    """Where a file system for the claim's volume is put together."""
    return own_directory(directory, claim_id) / "file-system"


def _local(claim_id: str, data: Mapping[str, Any], mode: AccessMode) -> Path:
    path = Path(data["device_path"])
    found = path.stat()
    if stat.S_ISBLK(found.st_mode):
        if os.major(found.st_rdev) == loop_device.MAJOR:
            _refuse_reused(path, data)
        return path
    for device in loop_device.bound():
        if device.tag == _tag(claim_id):
            return device.path
    return loop_device.bind(path, _tag(claim_id), read_only=mode is AccessMode.READ_ONLY).path


def _refuse_reused(path: Path, data: Mapping[str, Any]) -> None:
    """The kernel gives numbers of loop devices anew: since the export told it, the device can have become another's.
    Those of the export say in their tag which volume it is (`drivers.exports.local`)."""
    volume_id = data.get("volume_id")
    device = loop_device.look(path)
    if volume_id is None or device is None or device.tag[-LENGTH:] != shorten(str(volume_id)):
        raise AttachError(f"{path} is no device of volume {volume_id} any more; mount it again")


def _nbd(directory: Path, claim_id: str) -> NbdDevice:
    return NbdDevice(own_directory(directory, claim_id), _tag(claim_id))


def _tag(claim_id: str) -> str:
    return f"{_TAG}{claim_id}"
