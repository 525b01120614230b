"""The latest epoch that a pool obeyed, in `.pumice-epoch` of its directory. Call while holding the pool."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from drivers.vocabulary import BackendUnavailableError, StaleEpochError

EPOCH_NAME: Final = ".pumice-epoch"


def admit(directory: Path, epoch: int) -> None:
    """Raise the mark to `epoch`, durably. Raises StaleEpochError when it is higher, BackendUnavailableError when it
    cannot be understood, OSError."""
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
        raise StaleEpochError(f"the pool at {directory} obeys epoch {latest}, not {epoch}")
    if epoch > latest:
        _write(path, epoch)


def _write(path: Path, epoch: int) -> None:
    """Overwrite in place: twenty digits of one sector are never torn, and a full pool, from which things must still be
    deleted, has the block already. Where even the first write finds no room, the mark is the process's memory only."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, f"{epoch:020d}".encode(), 0)
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    finally:
        os.close(descriptor)
