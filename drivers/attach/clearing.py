"""Giving back to the machine what the claims of a node took of it: mounts and devices.

For when the instance ends and none of its processes lives any more. The claims themselves stay written down: whoever
starts the instance anew ends their attachments. Blocking code.
"""

from __future__ import annotations

from pathlib import Path

from drivers.attach import devices
from drivers.attach.filesystems import AttachError, ensure_unmounted


def mount_point(directory: Path, claim_id: str) -> Path:
    """Where a claim's volume is mounted; `directory` is the node's own."""
    return directory / "mounts" / claim_id


def clear(directory: Path) -> list[str]:
    """Unmount and free what the claims of the node with this directory hold; return what could not be done."""
    troubles = []
    for claim_id in sorted(path.stem for path in (directory / "claims").glob("*.json")):
        try:
            ensure_unmounted(mount_point(directory, claim_id))
            devices.ensure_absent(claim_id)
        except AttachError as error:
            troubles.append(str(error))
    return troubles
