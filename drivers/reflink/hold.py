"""Holding a pool: an flock on a file in it, which a dead process loses and a zombie keeps. Knows no volumes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from drivers.kernel import boot_id
from drivers.vocabulary import BackendUnavailableError

LOCK_NAME: Final = ".pumice.lock"


class Hold:
    """One process's exclusive hold of the pool in `directory`. The lock file is never deleted: a second process could
    otherwise lock a file that has no name any more."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK_NAME
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the pool or raise BackendUnavailableError naming the holder's pid. Raises OSError too."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _note_holder(descriptor)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise BackendUnavailableError(
                f"the pool in {self._path.parent} is held by process {holder}; end that process or wait for it"
            ) from error
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    @property
    def place(self) -> str | None:
        """What is held: this kernel and the lock file's device and inode; None while nothing is."""
        if self._descriptor is None:
            return None
        status = os.fstat(self._descriptor)
        return f"{boot_id()}:{status.st_dev}:{status.st_ino}"

    def let_go(self) -> None:
        """Release the pool. Safe to repeat."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _note_holder(descriptor: int) -> None:
    """Write our pid over the last holder's, in the same length so that a full disk need give no new block. Where it
    does not fit all the same, nothing is noted: a full pool must open, or nobody could empty it."""
    try:
        os.pwrite(descriptor, f"{os.getpid():<11}\n".encode("ascii"), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with contextlib.suppress(OSError):  # a wrong pid in a message is all that is left to prevent
            os.ftruncate(descriptor, 0)
