"""The objects of one kind in one directory: made whole or not at all. Knows files; not specs, locks or threads.

An object is made under `.partial-<kind>-<uuid>`, filled, synced and then renamed to `<kind>-<uuid>`, so the final name
means whole. A leftover partial is removed by a repeat, by a deletion and by `sweep`. A repeat of any call syncs the
directory again, because the first may have died between its rename or unlink and its sync.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from drivers.reflink import durable
from drivers.reflink.checkpoints import Checkpoint
from drivers.reflink.faults import Attempt
from drivers.vocabulary import BadNameError, ObjectKind, checked_id

_PARENT_ATTRIBUTE: Final = "user.pumice.volume"
_NO_ATTRIBUTE: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM})
PARTIAL_PREFIX: Final = ".partial-"


class Shelf:
    """One directory of `kind` objects; files get `mode`. All methods block, and raise OSError."""

    def __init__(self, directory: Path, kind: ObjectKind, mode: int, checkpoint: Checkpoint) -> None:
        self.directory = directory
        self.kind = kind
        self._mode = mode
        self._checkpoint = checkpoint

    def path(self, object_id: str) -> Path:
        """Where the whole object is. Raises BadNameError."""
        return self.directory / f"{self.kind.value}-{checked_id(object_id)}"

    def _partial(self, object_id: str) -> Path:
        return self.directory / f"{PARTIAL_PREFIX}{self.kind.value}-{checked_id(object_id)}"

    def look(self, object_id: str) -> os.stat_result | None:
        """What is there, or None."""
        try:
            return self.path(object_id).stat()
        except FileNotFoundError:
            return None

    def settle(self) -> None:
        """Make all names of this directory durable."""
        durable.sync_directory(self.directory)
        self._checkpoint("settled")

    def make(self, object_id: str, fill: Callable[[int], None], attempt: Attempt, parent_id: str | None = None) -> None:
        """Make an object that is not there. `fill` gives the open, empty file its content and size.

        `parent_id` is kept in an extended attribute of the file: it becomes durable by the same fsync and visible by
        the same rename as the content, which a separate record would not. Where the file system has no user
        attributes it is not kept.
        """
        partial = self._partial(object_id)
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                # Crash window, until the rename: a partial file that only its name's owner or a sweep removes.
                self._checkpoint("created")
                fill(descriptor)
                if parent_id is not None:
                    _keep_parent(descriptor, parent_id)
                os.fchmod(descriptor, self._mode)
                self._checkpoint("filled")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._checkpoint("synced")
            partial.rename(self.path(object_id))
        except OSError:
            # A partial that cannot be removed either is harmless: a repeat or the next open removes it.
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        attempt.acted = True
        # Crash window: whole, but a power cut may still take the name away; a repeat then finds or makes it.
        self._checkpoint("renamed")
        self.settle()

    def resize(self, object_id: str, size_bytes: int, attempt: Attempt) -> None:
        """Give the object this size, durably."""
        descriptor = os.open(self.path(object_id), os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != size_bytes:
                os.ftruncate(descriptor, size_bytes)
            attempt.acted = True
            # Crash window: resized, but not yet durable; a repeat finds the size and syncs again.
            self._checkpoint("resized")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._checkpoint("settled")

    def remove(self, object_id: str, attempt: Attempt) -> None:
        """No object and no partial of this id, durably."""
        self._partial(object_id).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.path(object_id).unlink()
            attempt.acted = True
        # Crash window: a power cut may bring the name back, whole; a repeat unlinks it again or syncs again.
        self._checkpoint("unlinked")
        self.settle()

    def sweep(self) -> int:
        """Remove every partial; only for a holder of the pool, while no call runs. Returns how many there were."""
        partials = [path for path in self.directory.iterdir() if path.name.startswith(PARTIAL_PREFIX)]
        for partial in partials:
            partial.unlink()
        return len(partials)

    def scan(self) -> Iterator[tuple[str, os.stat_result, str | None]]:
        """Id, status and parent of each whole object. Other files are passed over."""
        prefix = f"{self.kind.value}-"
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if not entry.name.startswith(prefix):
                    continue
                # Something else named like this, or an object deleted while we look, is not an object.
                with contextlib.suppress(BadNameError, FileNotFoundError):
                    object_id = checked_id(entry.name.removeprefix(prefix))
                    yield object_id, entry.stat(follow_symlinks=False), self._parent(entry.path)

    def _parent(self, path: str) -> str | None:
        if self.kind is not ObjectKind.SNAPSHOT:
            return None
        try:
            return os.getxattr(path, _PARENT_ATTRIBUTE).decode("ascii")
        except OSError as error:
            if error.errno in _NO_ATTRIBUTE:
                return None
            raise


def _keep_parent(descriptor: int, parent_id: str) -> None:
    try:
        os.setxattr(descriptor, _PARENT_ATTRIBUTE, parent_id.encode("ascii"))
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTE:
            raise
