"""A published in-memory driver: real bytes, sparse, copy on write; for tests, demonstrations and learning.

The content lives in a MemoryStore that is handed in, so that a backend can "crash" and be built again on the same
store. A backend that opens a store takes it from the one before, whose calls then raise BackendUnavailableError: what
a lost flock does to a dead process.

A full pool raises NoSpaceError as a disk does: blocks are counted once however many objects share them, and every
object takes one block more for itself. Must not know files, threads or other drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from drivers.vocabulary import (
    GIB,
    BackendUnavailableError,
    Capabilities,
    FinalError,
    InventoryItem,
    NoSpaceError,
    ObjectKind,
    Observed,
    PoolReport,
    SizeConflictError,
    SnapshotSpec,
    SourceMissingError,
    StaleEpochError,
    VolumeSpec,
    checked_id,
)

BLOCK_BYTES: Final = 64 << 10
_CAPABILITIES: Final = Capabilities(
    storage_protocol="memory", vendor_name="Pumice", driver_version="1.0", thin=True, shares_extents=True
)


@dataclass(slots=True)
class _Block:
    content: bytes
    owners: int = 1


@dataclass(slots=True)
class _Object:
    size_bytes: int
    parent_id: str | None = None
    blocks: dict[int, _Block] = field(default_factory=dict)


@dataclass(slots=True)
class _Pool:
    capacity_bytes: int
    used_bytes: int = 0
    objects: dict[tuple[ObjectKind, str], _Object] = field(default_factory=dict)

    def take(self, length_bytes: int, action: str) -> None:
        """Count room as used or raise NoSpaceError, counting nothing."""
        if self.used_bytes + length_bytes > self.capacity_bytes:
            raise NoSpaceError(f"{action}: the pool is full; free space or choose another pool")
        self.used_bytes += length_bytes

    def put(self, key: tuple[ObjectKind, str], made: _Object) -> None:
        """Give a whole object its name; its blocks get one owner more."""
        self.take(BLOCK_BYTES, f"making {key[0]} {key[1]}")
        for block in made.blocks.values():
            block.owners += 1
        self.objects[key] = made

    def drop(self, key: tuple[ObjectKind, str]) -> None:
        """Forget an object, and the blocks that nobody else owns; nothing when there is none."""
        gone = self.objects.pop(key, None)
        if gone is None:
            return
        self.used_bytes -= BLOCK_BYTES
        for block in gone.blocks.values():
            self.let_go(block)

    def let_go(self, block: _Block) -> None:
        """One owner of `block` less."""
        block.owners -= 1
        if block.owners == 0:
            self.used_bytes -= len(block.content)


class MemoryStore:
    """What a backend's crash does not take: pools with their objects and bytes. `pools` maps names to bytes."""

    def __init__(self, pools: Mapping[str, int]) -> None:
        self._pools = {name: _Pool(capacity_bytes) for name, capacity_bytes in pools.items()}
        self._epoch = 0
        self._admitted = 0

    def admit(self, epoch: int) -> None:
        """Obey `epoch` from now on. Raises StaleEpochError when a later one was admitted."""
        if epoch < self._admitted:
            raise StaleEpochError(f"the store obeys epoch {self._admitted}, not {epoch}")
        self._admitted = epoch

    def taken(self) -> int:
        """Take the store; returns the epoch that its new holder has."""
        self._epoch += 1
        return self._epoch

    def held_in(self, epoch: int) -> bool:
        """Whether nobody has taken the store since `epoch`."""
        return epoch == self._epoch

    def pool(self, name: str) -> _Pool:
        """The pool of this name. Raises FinalError."""
        if name not in self._pools:
            raise FinalError(f"this backend has no pool {name!r}; its pools are {sorted(self._pools)}")
        return self._pools[name]

    def pools(self) -> dict[str, _Pool]:
        """All pools by name."""
        return self._pools


class MemoryBackend:
    """Implements Backend, Snapshots and Clones over a MemoryStore, or over a new one with `pools` (name to bytes).

    `checkpoint` is called with `created`, `filled`, `renamed`, `resized` or `unlinked` between the steps of a call; a
    test may raise there. Calls do not await, so none overlaps another.
    """

    def __init__(
        self,
        pools: Mapping[str, int] | None = None,
        *,
        store: MemoryStore | None = None,
        reserved_percentage: int = 0,
        max_over_subscription_ratio: float = 20.0,
        filter_function: str | None = None,
        goodness_function: str | None = None,
        checkpoint: Callable[[str], None] = lambda _point: None,
    ) -> None:
        self.store = store or MemoryStore(pools or {"memory": 100 * GIB})
        self._reserved_percentage = reserved_percentage
        self._max_over_subscription_ratio = max_over_subscription_ratio
        self._filter_function = filter_function
        self._goodness_function = goodness_function
        self._checkpoint = checkpoint
        self._epoch: int | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Thin, and snapshots and clones share blocks."""
        return _CAPABILITIES

    async def open(self) -> None:
        """Take the store, from another backend if one has it. Opening an open backend does nothing."""
        if self._epoch is None or not self.store.held_in(self._epoch):
            self._epoch = self.store.taken()

    async def close(self) -> None:
        """Let go of the store. Safe to repeat."""
        self._epoch = None

    async def pools(self) -> list[PoolReport]:
        """Every pool, in order of name. Raises BackendUnavailableError."""
        self._require_open()
        return [
            PoolReport(
                name=name,
                total_gib=pool.capacity_bytes / GIB,
                free_gib=(pool.capacity_bytes - pool.used_bytes) / GIB,
                capabilities=_CAPABILITIES,
                reserved_percentage=self._reserved_percentage,
                max_over_subscription_ratio=self._max_over_subscription_ratio,
                filter_function=self._filter_function,
                goodness_function=self._goodness_function,
            )
            for name, pool in sorted(self.store.pools().items())
        ]

    async def admit(self, epoch: int) -> None:
        """See `Fences`."""
        self._require_open()
        self.store.admit(epoch)

    async def ensure_volume(self, pool: str, spec: VolumeSpec) -> Observed:
        """See `Backend`."""
        return self._ensure(pool, ObjectKind.VOLUME, spec.id, spec.size_gib, _Object)

    async def ensure_volume_absent(self, pool: str, volume_id: str) -> None:
        """See `Backend`; snapshots and clones of the volume stand alone and stay."""
        self._remove(pool, ObjectKind.VOLUME, volume_id)

    async def ensure_size(self, pool: str, volume_id: str, size_gib: int) -> Observed:
        """See `Backend`."""
        volume = self._source(pool, ObjectKind.VOLUME, volume_id)
        size_bytes = _bytes(size_gib)
        if volume.size_bytes > size_bytes:
            raise SizeConflictError(
                f"volume {volume_id} has {volume.size_bytes // GIB} GiB and cannot shrink to {size_gib} GiB"
            )
        volume.size_bytes = size_bytes
        self._checkpoint("resized")
        return _observed(pool, ObjectKind.VOLUME, volume_id, volume, created=False)

    async def inventory(self) -> list[InventoryItem]:
        """See `Backend`."""
        self._require_open()
        return [
            InventoryItem(kind, object_id, name, found.size_bytes, _location(name, kind, object_id), found.parent_id)
            for name, pool in self.store.pools().items()
            for (kind, object_id), found in pool.objects.items()
        ]

    async def ensure_snapshot(self, pool: str, spec: SnapshotSpec) -> Observed:
        """See `Snapshots`; raises SizeConflictError when the volume's size is not that of `spec`."""
        checked_id(spec.volume_id)

        def fill(size_bytes: int) -> _Object:
            volume = self._source(pool, ObjectKind.VOLUME, spec.volume_id)
            if volume.size_bytes != size_bytes:
                raise SizeConflictError(
                    f"volume {spec.volume_id} has {volume.size_bytes // GIB} GiB in pool {pool}, "
                    f"not the {spec.size_gib} GiB of snapshot {spec.id}; extend the volume to mend its record"
                )
            return _Object(size_bytes, spec.volume_id, dict(volume.blocks))

        return self._ensure(pool, ObjectKind.SNAPSHOT, spec.id, spec.size_gib, fill)

    async def ensure_snapshot_absent(self, pool: str, spec: SnapshotSpec) -> None:
        """See `Snapshots`."""
        self._remove(pool, ObjectKind.SNAPSHOT, spec.id)

    async def ensure_volume_from_snapshot(self, pool: str, spec: VolumeSpec, source: SnapshotSpec) -> Observed:
        """See `Snapshots`."""
        return self._ensure_copy(pool, spec, ObjectKind.SNAPSHOT, source.id)

    async def ensure_volume_from_volume(self, pool: str, spec: VolumeSpec, source: VolumeSpec) -> Observed:
        """See `Clones`."""
        return self._ensure_copy(pool, spec, ObjectKind.VOLUME, source.id)

    def read(self, pool: str, kind: ObjectKind, object_id: str, offset: int, length: int) -> bytes:
        """The bytes of a volume or snapshot; fewer than `length` at its end. Raises SourceMissingError."""
        found = self._source(pool, kind, object_id)
        end = min(offset + length, found.size_bytes)
        pieces: list[bytes] = []
        while offset < end:
            number, start = divmod(offset, BLOCK_BYTES)
            stop = min(BLOCK_BYTES, start + end - offset)
            block = found.blocks.get(number)
            pieces.append(bytes(stop - start) if block is None else block.content[start:stop])
            offset += stop - start
        return b"".join(pieces)

    def write(self, pool: str, kind: ObjectKind, object_id: str, offset: int, data: bytes) -> None:
        """Write to a volume. Raises SourceMissingError; FinalError for a snapshot or beyond the end; NoSpaceError,
        when the blocks before the one that did not fit are written, as on a disk."""
        found = self._source(pool, kind, object_id)
        if kind is not ObjectKind.VOLUME:
            raise FinalError(f"{kind} {object_id} never changes; write to a volume made from it")
        if offset < 0 or offset + len(data) > found.size_bytes:
            raise FinalError(f"volume {object_id} ends at {found.size_bytes} bytes; write inside it")
        content = self.store.pool(pool)
        done = 0
        while done < len(data):
            number, start = divmod(offset + done, BLOCK_BYTES)
            piece = data[done : done + BLOCK_BYTES - start]
            old = found.blocks.get(number)
            before = bytes(BLOCK_BYTES) if old is None else old.content
            if old is None or old.owners > 1:
                content.take(BLOCK_BYTES, f"writing to volume {object_id}")
            found.blocks[number] = _Block(before[:start] + piece + before[start + len(piece) :])
            if old is not None and old.owners > 1:
                content.let_go(old)
            done += len(piece)

    def _ensure_copy(self, pool: str, spec: VolumeSpec, kind: ObjectKind, source_id: str) -> Observed:
        checked_id(source_id)

        def fill(size_bytes: int) -> _Object:
            source = self._source(pool, kind, source_id)
            if source.size_bytes > size_bytes:
                raise SizeConflictError(
                    f"volume {spec.id} of {spec.size_gib} GiB is too small for {kind} {source_id}, "
                    f"which has {source.size_bytes // GIB} GiB"
                )
            return _Object(size_bytes, None, dict(source.blocks))

        return self._ensure(pool, ObjectKind.VOLUME, spec.id, spec.size_gib, fill)

    def _ensure(
        self, pool: str, kind: ObjectKind, object_id: str, size_gib: int, fill: Callable[[int], _Object]
    ) -> Observed:
        self._require_open()
        key = (kind, checked_id(object_id))
        content = self.store.pool(pool)
        size_bytes = _bytes(size_gib)
        found = content.objects.get(key)
        if found is None:
            self._checkpoint("created")
            found = fill(size_bytes)
            # Crash window: made but in no pool, so it is gone with the process.
            self._checkpoint("filled")
            content.put(key, found)
            self._checkpoint("renamed")
            return _observed(pool, kind, object_id, found, created=True)
        if found.size_bytes != size_bytes:
            raise SizeConflictError(
                f"{kind} {object_id} is already in pool {pool} with {found.size_bytes // GIB} GiB, not {size_gib} GiB"
            )
        return _observed(pool, kind, object_id, found, created=False)

    def _remove(self, pool: str, kind: ObjectKind, object_id: str) -> None:
        self._require_open()
        checked_id(object_id)
        self.store.pool(pool).drop((kind, object_id))
        self._checkpoint("unlinked")

    def _source(self, pool: str, kind: ObjectKind, object_id: str) -> _Object:
        self._require_open()
        found = self.store.pool(pool).objects.get((kind, checked_id(object_id)))
        if found is None:
            raise SourceMissingError(f"{kind} {object_id} is not in pool {pool}")
        return found

    def _require_open(self) -> None:
        if self._epoch is None:
            raise BackendUnavailableError("the memory backend is not open")
        if not self.store.held_in(self._epoch):
            raise BackendUnavailableError("another memory backend has taken this store; this one may not act any more")


def _bytes(size_gib: int) -> int:
    if size_gib < 1:
        raise FinalError(f"{size_gib} GiB is no size; ask for at least 1 GiB")
    if size_gib * GIB >= 1 << 63:
        raise NoSpaceError(f"{size_gib} GiB is larger than this backend lets an object be; ask for less")
    return size_gib * GIB


def _location(pool: str, kind: ObjectKind, object_id: str) -> str:
    return f"memory:{pool}/{kind}/{object_id}"


def _observed(pool: str, kind: ObjectKind, object_id: str, found: _Object, *, created: bool) -> Observed:
    allocated_bytes = len(found.blocks) * BLOCK_BYTES
    return Observed(object_id, found.size_bytes, allocated_bytes, created, _location(pool, kind, object_id))
