"""One pool in one directory, call by call, in blocking code. Knows files and specs; not asyncio, locks or threads.

In the pool's directory:

- `.pumice-pool.json`: the marker (see marker.py)
- `.pumice.lock`: the hold (see hold.py)
- `.pumice-epoch`: the latest epoch obeyed (see epoch.py)
- `volumes/volume-<uuid>`: raw sparse file, 0600
- `snapshots/snapshot-<uuid>`: raw sparse file, 0400
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from drivers.reflink import durable, epoch, extents, faults, marker
from drivers.reflink.checkpoints import Checkpoint
from drivers.reflink.hold import Hold
from drivers.reflink.shelf import Shelf
from drivers.vocabulary import (
    GIB,
    BackendUnavailableError,
    FinalError,
    InventoryItem,
    NoSpaceError,
    ObjectKind,
    Observed,
    SizeConflictError,
    SnapshotSpec,
    SourceMissingError,
    VolumeSpec,
)

_LARGEST_FILE_BYTES: Final = (1 << 63) - 1


class Pool:
    """Volumes and snapshots of one directory. Calls block; calls on one object must not overlap."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        identity_file: Path | None,
        extent_bytes: int,
        new_pool_id: Callable[[], str],
        checkpoint: Checkpoint,
    ) -> None:
        self.directory = directory
        self.name = name
        self.shares_extents = False
        self._identity_file = identity_file
        self._extent_bytes = extent_bytes
        self._new_pool_id = new_pool_id
        self._checkpoint = checkpoint
        self._hold = Hold(directory)
        self._marker: marker.Marker | None = None
        self._volumes = Shelf(directory / "volumes", ObjectKind.VOLUME, 0o600, checkpoint)
        self._snapshots = Shelf(directory / "snapshots", ObjectKind.SNAPSHOT, 0o400, checkpoint)

    @property
    def place(self) -> str | None:
        """What is held; see hold.py."""
        return self._hold.place

    def open(self) -> None:
        """Take the pool, beginning it in an empty or missing directory. Raises BackendUnavailableError."""
        with faults.attempt(f"opening pool {self.name} in {self.directory}"):
            marker.refuse_strange(self.directory, self._identity_file)
            durable.ensure_directory(self.directory)
            self._hold.take()
            try:
                self._take_stock()
            except BaseException:
                self._hold.let_go()
                raise

    def _take_stock(self) -> None:
        marker.refuse_strange(self.directory, self._identity_file)  # again: only the holder's look counts
        found = marker.ensure(
            self.directory,
            self._identity_file,
            new_pool_id=self._new_pool_id,
            shares_extents=lambda: extents.can_share(self.directory),
            checkpoint=self._checkpoint,
        )
        for shelf in (self._volumes, self._snapshots):
            durable.ensure_directory(shelf.directory)
            shelf.sweep()
        epoch.ensure(self.directory)
        try:
            self.shares_extents = extents.can_share(self.directory)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.shares_extents = found.shares_extents  # too full to try, and a full pool must open to be emptied
        self._marker = found

    def close(self) -> None:
        """Let go of the pool. Safe to repeat."""
        self._marker = None
        self._hold.let_go()

    @contextmanager
    def _attempt(self, action: str) -> Iterator[faults.Attempt]:
        """A call on the pool, refused when the pool is closed or its directory is not the one that was opened."""
        with faults.attempt(f"{action} in pool {self.name}") as attempt:
            if self._marker is None:
                raise BackendUnavailableError(f"{action}: pool {self.name} is not open")
            try:
                status = (self.directory / marker.MARKER_NAME).stat()
            except FileNotFoundError:
                status = None
            if status is None or (status.st_dev, status.st_ino) != (self._marker.device, self._marker.inode):
                raise BackendUnavailableError(
                    f"{action}: pool {self.name} is no longer at {self.directory}; mount it there and open it again"
                )
            yield attempt

    def measure(self) -> tuple[int, int]:
        """Total and free bytes of the pool's file system, as an unprivileged writer has them."""
        with self._attempt("measuring"):
            status = os.statvfs(self.directory)
            return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize

    def admit(self, number: int) -> None:
        """See `Fences.admit`. Calls must not overlap."""
        with self._attempt(f"marking epoch {number}"):
            epoch.admit(self.directory, self.name, number)

    def ensure_volume(self, spec: VolumeSpec) -> Observed:
        """See `Backend.ensure_volume`."""
        with self._attempt(f"making volume {spec.id} of {spec.size_gib} GiB") as attempt:
            return self._ensure(self._volumes, spec.id, spec.size_gib, attempt, self._fill_empty)

    def ensure_volume_absent(self, volume_id: str) -> None:
        """See `Backend.ensure_volume_absent`."""
        with self._attempt(f"deleting volume {volume_id}") as attempt:
            self._volumes.remove(volume_id, attempt)

    def ensure_size(self, volume_id: str, size_gib: int) -> Observed:
        """See `Backend.ensure_size`."""
        with self._attempt(f"growing volume {volume_id} to {size_gib} GiB") as attempt:
            size_bytes = _bytes(size_gib)
            status = self._volumes.look(volume_id)
            if status is None:
                raise SourceMissingError(f"volume {volume_id} is not in pool {self.name}")
            if status.st_size > size_bytes:
                raise SizeConflictError(
                    f"volume {volume_id} has {status.st_size / GIB:g} GiB and cannot shrink to {size_gib} GiB"
                )
            self._volumes.resize(volume_id, size_bytes, attempt)
            return self._observed(self._volumes, volume_id, created=False)

    def volume_path(self, volume_id: str) -> Path:
        """See `Files.volume_path`."""
        with self._attempt(f"finding volume {volume_id}"):
            if self._volumes.look(volume_id) is None:
                raise SourceMissingError(f"volume {volume_id} is not in pool {self.name}")
            return self._volumes.path(volume_id)

    def ensure_snapshot(self, spec: SnapshotSpec) -> Observed:
        """See `Snapshots.ensure_snapshot`."""

        def fill(target: int, size_bytes: int) -> None:
            with self._source(self._volumes, spec.volume_id) as source:
                if os.fstat(source).st_size != size_bytes:
                    raise SizeConflictError(
                        f"volume {spec.volume_id} has {os.fstat(source).st_size / GIB:g} GiB in pool {self.name}, "
                        f"not the {spec.size_gib} GiB of snapshot {spec.id}; extend the volume to mend its record"
                    )
                self._fill_from(source, target)
                os.ftruncate(target, size_bytes)

        with self._attempt(f"making snapshot {spec.id} of volume {spec.volume_id}") as attempt:
            return self._ensure(self._snapshots, spec.id, spec.size_gib, attempt, fill, parent_id=spec.volume_id)

    def ensure_snapshot_absent(self, snapshot_id: str) -> None:
        """See `Snapshots.ensure_snapshot_absent`."""
        with self._attempt(f"deleting snapshot {snapshot_id}") as attempt:
            self._snapshots.remove(snapshot_id, attempt)

    def ensure_volume_from_snapshot(self, spec: VolumeSpec, source: SnapshotSpec) -> Observed:
        """See `Snapshots.ensure_volume_from_snapshot`."""
        return self._ensure_copy(spec, self._snapshots, source.id)

    def ensure_volume_from_volume(self, spec: VolumeSpec, source: VolumeSpec) -> Observed:
        """See `Clones.ensure_volume_from_volume`."""
        return self._ensure_copy(spec, self._volumes, source.id)

    def inventory(self) -> list[InventoryItem]:
        """See `Backend.inventory`."""
        with self._attempt("listing the objects"):
            return [
                InventoryItem(shelf.kind, object_id, self.name, status.st_size, str(shelf.path(object_id)), parent_id)
                for shelf in (self._volumes, self._snapshots)
                for object_id, status, parent_id in shelf.scan()
            ]

    def _ensure_copy(self, spec: VolumeSpec, shelf: Shelf, source_id: str) -> Observed:
        def fill(target: int, size_bytes: int) -> None:
            with self._source(shelf, source_id) as source:
                if os.fstat(source).st_size > size_bytes:
                    raise SizeConflictError(
                        f"volume {spec.id} of {spec.size_gib} GiB is too small for {shelf.kind} {source_id}, "
                        f"which has {os.fstat(source).st_size / GIB:g} GiB"
                    )
                extents.ask_for_large_extents(target, self._extent_bytes)
                self._fill_from(source, target)
                os.ftruncate(target, size_bytes)

        with self._attempt(f"making volume {spec.id} from {shelf.kind} {source_id}") as attempt:
            return self._ensure(self._volumes, spec.id, spec.size_gib, attempt, fill)

    def _ensure(
        self,
        shelf: Shelf,
        object_id: str,
        size_gib: int,
        attempt: faults.Attempt,
        fill: Callable[[int, int], None],
        parent_id: str | None = None,
    ) -> Observed:
        """Find the object with this size or make it; `fill` gets the open empty file and its size in bytes."""
        size_bytes = _bytes(size_gib)
        status = shelf.look(object_id)
        if status is None:
            shelf.make(object_id, lambda target: fill(target, size_bytes), attempt, parent_id)
            return self._observed(shelf, object_id, created=True)
        if status.st_size != size_bytes:
            raise SizeConflictError(
                f"{shelf.kind} {object_id} is already in pool {self.name} with {status.st_size / GIB:g} GiB, "
                f"not {size_gib} GiB"
            )
        attempt.acted = True
        shelf.settle()
        return self._observed(shelf, object_id, created=False)

    def _fill_empty(self, target: int, size_bytes: int) -> None:
        extents.ask_for_large_extents(target, self._extent_bytes)
        os.ftruncate(target, size_bytes)

    def _fill_from(self, source: int, target: int) -> None:
        if self.shares_extents:
            extents.share(source, target)
            return
        wanted = os.fstat(source).st_blocks * 512
        status = os.statvfs(self.directory)
        free = status.f_bavail * status.f_frsize
        if wanted > free:
            raise NoSpaceError(f"copying needs {wanted >> 20} MiB and pool {self.name} has {free >> 20} MiB free")
        extents.copy_data(source, target, lambda: self._checkpoint("filling"))

    @contextmanager
    def _source(self, shelf: Shelf, object_id: str) -> Iterator[int]:
        """The object, open for reading."""
        try:
            descriptor = os.open(shelf.path(object_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise SourceMissingError(f"{shelf.kind} {object_id} is not in pool {self.name}") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _observed(self, shelf: Shelf, object_id: str, *, created: bool) -> Observed:
        path = shelf.path(object_id)
        status = path.stat()
        return Observed(object_id, status.st_size, status.st_blocks * 512, created, str(path))


def _bytes(size_gib: int) -> int:
    if size_gib < 1:
        raise FinalError(f"{size_gib} GiB is no size; ask for at least 1 GiB")
    if size_gib * GIB > _LARGEST_FILE_BYTES:
        raise NoSpaceError(f"{size_gib} GiB is larger than Linux lets a file be; ask for less")
    return size_gib * GIB
