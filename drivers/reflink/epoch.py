"""The latest epoch that a pool obeyed, in `.pumice-epoch` of its directory. Call while holding the pool.

The file is made when the pool is opened, and then overwritten in place: twenty digits of one sector are never torn, and
a full pool, from which things must still be deleted, has the block already. Where a file system finds no room all the
same (the first opening of a pool that is full, or copy on write), the mark is the process's memory only.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from drivers.reflink import durable
from drivers.vocabulary import BackendUnavailableError, StaleEpochError

EPOCH_NAME: Final = ".pumice-epoch"


def ensure(directory: Path) -> None:
    """The file is there, with epoch 0 when it is new, durably unless the pool is full. Raises OSError."""
    path = directory / EPOCH_NAME
    if not path.exists() or path.stat().st_size == 0:
        _write(path, 0)


def admit(directory: Path, pool: str, epoch: int) -> None:
    """Raise the mark of the pool named `pool` to `epoch`, durably unless the pool is full. Raises StaleEpochError when
    it is higher, BackendUnavailableError when it cannot be understood, OSError other than for want of room."""
    path = directory / EPOCH_NAME
    try:
        latest = int(path.read_text(encoding="utf-8") or 0)
    except FileNotFoundError:
        latest = 0
    except ValueError as error:
        raise BackendUnavailableError(
            f"{path} holds no number; delete it once no other Pumice uses the pool"
        ) from error
    if epoch < latest:
        raise StaleEpochError(f"pool {pool} obeys epoch {latest}, not {epoch}")
    if epoch > latest:
        _write(path, epoch)


def _write(path: Path, epoch: int) -> None:
    with _room_or_not():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Crash window: an empty file, which counts as epoch 0.
            os.pwrite(descriptor, f"{epoch:020d}".encode(), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        durable.sync_directory(path.parent)


@contextlib.contextmanager
def _room_or_not() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
