"""A block device on this node for a connection: the device of a local export, or a loop device over its file.

Blocking code. A claim's loop device carries the claim in its tag, so it is found again from the system alone. Steps are
safe to repeat, and each is undone if it is there.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from drivers.attach.filesystems import AttachError
from drivers.exports import loop_device
from drivers.vocabulary import AccessMode

_VANISH_SECONDS: Final = 10.0
_TAG: Final = "pn"


def ensure(claim_id: str, kind: str, data: Mapping[str, Any], mode: AccessMode) -> Path:
    """The device over the connection `data` (os-brick's) of the export `kind`. Raises AttachError."""
    if kind != "local":
        raise AttachError(
            f"volumes of the export {kind!r} cannot be mounted by tasks, those of local can, on their own node; "
            "run the task there: options(**volume.locality())"
        )
    path = Path(data["device_path"])
    try:
        if stat.S_ISBLK(path.stat().st_mode):
            return path
    except OSError as error:
        raise AttachError(f"{path} of the volume is not there: {error.strerror}") from error
    for found in loop_device.bound():
        if found.tag == _tag(claim_id):
            return found.path
    try:
        return loop_device.bind(path, _tag(claim_id), read_only=mode is AccessMode.READ_ONLY).path
    except OSError as error:
        raise AttachError(f"no loop device over the volume: {error.strerror}; is this process root?") from error


def ensure_absent(claim_id: str) -> None:
    """No device of the claim is left. Raises AttachError when somebody holds it open."""
    for device in loop_device.bound():
        if device.tag == _tag(claim_id) and not loop_device.unbind(device, _VANISH_SECONDS):
            raise AttachError(f"{device.path} is still open by another process; close what uses it")


def _tag(claim_id: str) -> str:
    return f"{_TAG}{claim_id}"
