"""What the suite needs to know about a driver under test: the hook for third parties (see docs/drivers.md).

Must not know any driver.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drivers.protocols import Backend, Clones, Snapshots
from drivers.vocabulary import GIB, ObjectKind

BLOCK = 64 << 10


class FullBackend(Backend, Snapshots, Clones, Protocol):
    """A driver with everything the suite tests."""


@dataclass(frozen=True, slots=True)
class Call:
    """One driver call as data, so that it can be made in another process."""

    method: str
    arguments: tuple[object, ...]

    async def on(self, backend: FullBackend) -> object:
        """Make the call."""
        return await getattr(backend, self.method)(*self.arguments)


class Harness(ABC):
    """Storage for one driver under test. `start` and `stop` run once a session, `renew` before every test."""

    name: str
    pool = "pool"
    keeps_parent = True
    """Whether `inventory` tells a snapshot's volume."""
    passes_checkpoints = True
    """Whether calls pass checkpoints where a crash can be made."""
    refuses_second_holder = True
    """Whether a second `open` is refused while the first holds the storage (else it takes it away)."""

    @abstractmethod
    def start(self, directory: Path) -> None:
        """Make what the storage needs, in an empty directory. Fail, never skip, when a tool is missing."""

    @abstractmethod
    def stop(self) -> None:
        """Undo `start`, also when it failed half-way."""

    @abstractmethod
    def renew(self) -> None:
        """Have an empty pool named `self.pool`, of at least 100 MiB and at most about 1 GiB of real room."""

    @abstractmethod
    def backend(self, checkpoint: Callable[[str], None] = lambda _point: None) -> FullBackend:
        """A new backend, not open, on the storage of the last `renew`."""

    @abstractmethod
    async def read(self, backend: FullBackend, kind: ObjectKind, object_id: str, offset: int, length: int) -> bytes:
        """Bytes of an object."""

    @abstractmethod
    async def write(self, backend: FullBackend, volume_id: str, offset: int, data: bytes) -> None:
        """Write to a volume, durably."""

    @abstractmethod
    async def fill(self, backend: FullBackend) -> None:
        """Leave no room in the pool, without going through the driver's volumes where that is possible."""

    @abstractmethod
    async def crash(self, call: Call, point: str) -> None:
        """Open a backend, make the call and end as by kill -9 when it passes `point` for the first time.
        AssertionError when it ends otherwise. No backend of this storage is open when this is called."""

    async def used_bytes(self, backend: FullBackend) -> int:
        """What the pool has given away."""
        [report] = await backend.pools()
        return int((report.total_gib - report.free_gib) * GIB)


class Pattern:
    """Seeded random blocks at random places of a volume, and what is expected to be read back."""

    def __init__(self, seed: int, size_gib: int, blocks: int = 24) -> None:
        source = random.Random(seed)
        last = size_gib * GIB // BLOCK - 1
        places = {0, last, *(source.randrange(last) for _ in range(blocks - 2))}
        self.blocks = {place * BLOCK: source.randbytes(BLOCK) for place in sorted(places)}
        self._holes = [place * BLOCK for place in (source.randrange(last) for _ in range(8)) if place not in places]

    def over(self, older: Pattern) -> Pattern:
        """What a volume holds that was written with `older`, then with this."""
        both = Pattern.__new__(Pattern)
        both.blocks = older.blocks | self.blocks
        both._holes = [hole for hole in older._holes + self._holes if hole not in both.blocks]
        return both

    async def write(self, harness: Harness, backend: FullBackend, volume_id: str) -> None:
        """Write every block."""
        for offset, block in self.blocks.items():
            await harness.write(backend, volume_id, offset, block)

    async def check(self, harness: Harness, backend: FullBackend, kind: ObjectKind, object_id: str) -> None:
        """Every block is what was written, and the holes read as zeroes."""
        for offset, block in self.blocks.items():
            found = await harness.read(backend, kind, object_id, offset, BLOCK)
            assert found == block, f"{kind} {object_id} differs at byte {offset}"
        for offset in self._holes:
            found = await harness.read(backend, kind, object_id, offset, BLOCK)
            assert found == bytes(BLOCK), f"{kind} {object_id} has data in the hole at byte {offset}"
