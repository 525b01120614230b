"""What an OSError means: which family of storage error it becomes. Must not know which call it came from.

Until an attempt has acted on a final name, any failure means that nothing was done (the partial file does not count):
NoSpaceError when the disk is full, else BackendUnavailableError. Once it has acted, a failure (an EIO of the
directory's fsync, say) leaves the effect unknown: UncertainError.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from drivers.vocabulary import BackendUnavailableError, NoSpaceError, StorageError, UncertainError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Attempt:
    """One call's memory of whether it has already changed anything that counts."""

    __slots__ = ("acted",)

    def __init__(self) -> None:
        self.acted = False


@contextmanager
def attempt(action: str) -> Iterator[Attempt]:
    """Run a block in which an OSError becomes a storage error that says `action` (as "making volume … in pool …")
    failed. Errors of the vocabulary pass unchanged."""
    current = Attempt()
    try:
        yield current
    except OSError as error:
        raise _translated(action, error, current.acted) from error


def _translated(action: str, error: OSError, acted: bool) -> StorageError:
    # Never the error's own text: it may hold paths, and these messages can reach tenants.
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    if acted:
        return UncertainError(f"{action}: {reason} after the change was begun; the same call must be repeated here")
    if error.errno in _FULL:
        return NoSpaceError(f"{action}: the file system is full ({reason}); free space or choose another pool")
    if error.errno == errno.EFBIG:
        return NoSpaceError(f"{action}: larger than this file system lets a file be; ask for less")
    # For operators only, as every BackendUnavailableError is.
    where = f" ({error.filename})" if error.filename else ""
    return BackendUnavailableError(f"{action}: {reason}{where}; nothing was done, look at the pool's file system")
