"""The reflink driver: the protocols of `drivers.protocols` over a pool of sparse files.

This module brings asyncio to the blocking calls of `pool.py`: one hop to a thread a call (see lanes.py), calls on one
object one after the other in the order they were made. A call whose awaiter is cancelled does nothing if it has not
begun, and runs to its end otherwise, so that a repeat or a deletion comes after it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from drivers.reflink import faults
from drivers.reflink.checkpoints import Checkpoint, pass_by
from drivers.reflink.ground import GivenGround, Ground
from drivers.reflink.keyed_locks import KeyedLocks
from drivers.reflink.lanes import Lane, Lanes
from drivers.reflink.pool import Pool
from drivers.vocabulary import (
    GIB,
    BackendUnavailableError,
    Capabilities,
    FinalError,
    InventoryItem,
    Observed,
    PoolReport,
    SnapshotSpec,
    VolumeSpec,
    checked_id,
)

T = TypeVar("T")

DRIVER_VERSION: Final = "1.0"
EXTENT_BYTES: Final = 1 << 20


class ReflinkBackend:
    """Volumes as sparse raw files of `directory`, one pool named `pool_name`; implements Backend, Snapshots, Clones,
    Fences and Files.

    `identity_file`, outside the pool, remembers the pool's UUID so that an unmounted pool is not taken for an empty
    one. `ground` brings the file system when the pool has its own. `extent_bytes` is the extent-size hint asked of XFS
    (bytes, a power of two). `threads` bounds the calls on objects that run at once. `checkpoint` is called between
    steps (see checkpoints.py) and must return in production.
    """

    def __init__(
        self,
        directory: Path,
        pool_name: str,
        *,
        reserved_percentage: int = 0,
        max_over_subscription_ratio: float = 20.0,
        filter_function: str | None = None,
        goodness_function: str | None = None,
        identity_file: Path | None = None,
        ground: Ground | None = None,
        extent_bytes: int = EXTENT_BYTES,
        threads: int = 8,
        new_pool_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        checkpoint: Checkpoint = pass_by,
    ) -> None:
        self._pool = Pool(
            directory,
            pool_name,
            identity_file=identity_file,
            extent_bytes=extent_bytes,
            new_pool_id=new_pool_id,
            checkpoint=checkpoint,
        )
        self._ground: Ground = ground or GivenGround()
        self._reserved_percentage = reserved_percentage
        self._max_over_subscription_ratio = max_over_subscription_ratio
        self._filter_function = filter_function
        self._goodness_function = goodness_function
        self._thread_count = threads
        self._lanes: Lanes | None = None
        self._locks = KeyedLocks()
        self._running: set[asyncio.Task[object]] = set()

    @property
    def capabilities(self) -> Capabilities:
        """What the pool's file system was found to do; `shares_extents` is False before `open`.

        `extra["snapshot_of_attached"]`: "point-in-time" where extents are shared; "not-atomic" where data is copied,
        because a write during the copy may be in it while an earlier one is not.
        """
        shares = self._pool.shares_extents
        extra = self._ground.remarks()
        extra["snapshot_of_attached"] = "point-in-time" if shares else "not-atomic"
        return Capabilities(
            storage_protocol="file",
            vendor_name="Pumice",
            driver_version=DRIVER_VERSION,
            thin=True,
            shares_extents=shares,
            extra=extra,
        )

    @property
    def place(self) -> str | None:
        """See `Holds`: the lock in the pool's directory."""
        return self._pool.place

    async def open(self) -> None:
        """Bring the file system, take the pool's lock, remove leftovers, find out whether extents can be shared.
        Raises BackendUnavailableError. Opening an open backend does nothing."""
        if self._lanes is not None:
            return
        lanes = Lanes(f"pool-{self._pool.name}", self._thread_count)
        try:
            await lanes.run(Lane.WORK, self._open)
        except BaseException:
            lanes.end()
            raise
        self._lanes = lanes

    def _open(self) -> None:
        try:
            with faults.attempt(f"preparing {self._pool.directory} for pool {self._pool.name}"):
                self._ground.prepare(self._pool.directory)
            self._pool.open()
        except FinalError as error:  # a full disk, say: opening is worth trying again once it is mended
            raise BackendUnavailableError(str(error)) from error

    async def close(self) -> None:
        """Wait for the calls that run, then let go of the pool. Safe to repeat. Raises BackendUnavailableError when the
        file system could not be looked after; the pool is let go of all the same."""
        lanes, self._lanes = self._lanes, None
        if lanes is None:
            return
        while self._running:
            await asyncio.wait(self._running)
        try:
            await lanes.run(Lane.WORK, self._close)
        finally:
            lanes.end()

    def _close(self) -> None:
        with faults.attempt(f"letting go of {self._pool.directory} of pool {self._pool.name}"):
            try:
                self._pool.close()
            finally:
                self._ground.release(self._pool.directory)

    async def pools(self) -> list[PoolReport]:
        """The one pool, as statvfs tells it and no freer than its ground. Raises BackendUnavailableError."""
        total_bytes, free_bytes = await self._run(self._pool.name, (), self._measure, Lane.MEASURE)
        report = PoolReport(
            name=self._pool.name,
            total_gib=total_bytes / GIB,
            free_gib=free_bytes / GIB,
            capabilities=self.capabilities,
            reserved_percentage=self._reserved_percentage,
            max_over_subscription_ratio=self._max_over_subscription_ratio,
            filter_function=self._filter_function,
            goodness_function=self._goodness_function,
        )
        return [report]

    def _measure(self) -> tuple[int, int]:
        total_bytes, free_bytes = self._pool.measure()
        below = self._ground.free_bytes()
        return total_bytes, free_bytes if below is None else min(free_bytes, below)

    async def ensure_volume(self, pool: str, spec: VolumeSpec) -> Observed:
        """See `Backend`; a size beyond what the file system lets a file be raises NoSpaceError."""
        return await self._run(pool, (spec.id,), lambda: self._pool.ensure_volume(spec))

    async def ensure_volume_absent(self, pool: str, volume_id: str) -> None:
        """See `Backend`; snapshots and clones of the volume stand alone and stay."""
        await self._run(pool, (volume_id,), lambda: self._pool.ensure_volume_absent(volume_id))

    async def ensure_size(self, pool: str, volume_id: str, size_gib: int) -> Observed:
        """See `Backend`."""
        return await self._run(pool, (volume_id,), lambda: self._pool.ensure_size(volume_id, size_gib))

    async def volume_path(self, pool: str, volume_id: str) -> Path:
        """See `Files`."""
        return await self._run(pool, (volume_id,), lambda: self._pool.volume_path(volume_id))

    async def admit(self, epoch: int) -> None:
        """See `Fences`."""
        await self._run(self._pool.name, (), lambda: self._pool.admit(epoch), Lane.MARK)

    async def inventory(self) -> list[InventoryItem]:
        """See `Backend`."""
        return await self._run(self._pool.name, (), self._pool.inventory, Lane.LIST)

    async def ensure_snapshot(self, pool: str, spec: SnapshotSpec) -> Observed:
        """See `Snapshots`; raises SizeConflictError when the volume's size is not that of `spec`."""
        return await self._run(pool, (spec.id, spec.volume_id), lambda: self._pool.ensure_snapshot(spec))

    async def ensure_snapshot_absent(self, pool: str, spec: SnapshotSpec) -> None:
        """See `Snapshots`."""
        await self._run(pool, (spec.id,), lambda: self._pool.ensure_snapshot_absent(spec.id))

    async def ensure_volume_from_snapshot(self, pool: str, spec: VolumeSpec, source: SnapshotSpec) -> Observed:
        """See `Snapshots`."""
        return await self._run(pool, (spec.id, source.id), lambda: self._pool.ensure_volume_from_snapshot(spec, source))

    async def ensure_volume_from_volume(self, pool: str, spec: VolumeSpec, source: VolumeSpec) -> Observed:
        """See `Clones`."""
        return await self._run(pool, (spec.id, source.id), lambda: self._pool.ensure_volume_from_volume(spec, source))

    async def _run(self, pool: str, ids: tuple[str, ...], work: Callable[[], T], lane: Lane = Lane.WORK) -> T:
        """Run `work` in a thread of `lane`, alone on `ids`; once begun, to its end even if the caller is cancelled."""
        for object_id in ids:
            checked_id(object_id)
        if pool != self._pool.name:
            raise FinalError(f"this backend has no pool {pool!r}; its pool is {self._pool.name!r}")
        if self._lanes is None:
            raise BackendUnavailableError(f"pool {pool} is not open")
        begun = asyncio.Event()
        task = asyncio.ensure_future(self._locked(self._lanes, lane, ids, work, begun))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not begun.is_set():
                task.cancel()
            raise

    async def _locked(
        self, lanes: Lanes, lane: Lane, ids: tuple[str, ...], work: Callable[[], T], begun: asyncio.Event
    ) -> T:
        async with self._locks.holding(*ids):
            begun.set()
            return await lanes.run(lane, work)
