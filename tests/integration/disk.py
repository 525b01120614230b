"""The pool's files, as somebody with access to the machine sees them."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from tests.integration.conftest import Service

BLOCK = 64 * 1024
GIB = 1 << 30


def pool(service: Service) -> Path:
    """The directory of the default backend's pool."""
    return service.state_dir / "pools" / "reflink"


def volume_file(service: Service, volume_id: str) -> Path:
    """Where a volume's bytes are."""
    return pool(service) / "volumes" / f"volume-{volume_id}"


def snapshot_file(service: Service, snapshot_id: str) -> Path:
    """Where a snapshot's bytes are."""
    return pool(service) / "snapshots" / f"snapshot-{snapshot_id}"


def files(service: Service) -> set[str]:
    """The names of all volumes and snapshots there, half-made ones included."""
    return {entry.name for shelf in ("volumes", "snapshots") for entry in (pool(service) / shelf).iterdir()}


def write(path: Path, offset: int, data: bytes) -> None:
    """Write into the middle of a volume, as an attached host would."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
        os.fsync(file.fileno())


def read(path: Path, offset: int, length: int) -> bytes:
    """Bytes of a volume."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def blocks(path: Path) -> dict[int, str]:
    """Offset → digest of every block that is not all zeros."""
    found: dict[int, str] = {}
    with path.open("rb") as file:
        end, position = os.fstat(file.fileno()).st_size, 0
        while position < end:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole from here on
                    break
                raise
            stop = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            while position < max(stop, position + 1) and position < end:
                data = os.pread(file.fileno(), BLOCK, position)
                if data.strip(b"\0"):
                    found[position] = hashlib.sha256(data).hexdigest()
                position += BLOCK
                if position >= stop:
                    break
    return found
