"""Giving back to the machine what the claims of a node took of it: mounts and devices.

For when the instance ends and none of its processes lives any more. The claims themselves stay written down: whoever
starts the instance anew ends their attachments. Blocking code.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from drivers.attach import devices
from drivers.attach.filesystems import LostWritesError, ensure_unmounted
from drivers.attach.nbd_device import FRONT
from drivers.attach.programs import AttachError
from drivers.exports import clearing as exports

SERVING: Final = (*exports.SERVING, FRONT)
"""The programs without which what is attached, here or elsewhere, gives errors. They need nothing else of the instance,
so they need not end when it starts anew, and when it ends they end last."""


def mount_point(directory: Path, claim_id: str) -> Path:
    """Where a claim's volume is mounted; `directory` is the node's own."""
    return directory / "mounts" / claim_id


def clear(directory: Path) -> list[str]:
    """Unmount and free what the claims of the node with this directory hold; return what could not be done."""
    troubles = []
    for claim_id in sorted(path.stem for path in (directory / "claims").glob("*.json")):
        try:
            try:
                ensure_unmounted(mount_point(directory, claim_id), partial(devices.cut, directory, claim_id))
            except LostWritesError as error:
                troubles.append(str(error))
            devices.ensure_absent(directory, claim_id)
        except Exception as error:  # the others are cleared all the same
            troubles.append(str(error) if isinstance(error, AttachError) else f"claim {claim_id}: {error!r}")
    return troubles
