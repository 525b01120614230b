"""Storage whose content outlives a killed process: in memory, and the reflink driver's files in a plain directory.

Content is looked at past the backend, as the user of an attached volume sees it. Whom an export lets in outlives the
process too: it is kept by what serves the volume (a kernel, a daemon).
"""

from __future__ import annotations

import copy
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from drivers.memory import BLOCK_BYTES, MemoryBackend, MemoryStore, _Block
from drivers.reflink.backend import ReflinkBackend
from drivers.vocabulary import GIB, ObjectKind, Observed
from tests.unit.attachments.memory_export import ExportStore, MemoryExport, PathBackend

POOL = "memory"
Key = tuple[ObjectKind, str]
_CALLS = (
    "ensure_volume", "ensure_volume_from_snapshot", "ensure_volume_from_volume", "ensure_volume_absent", "ensure_size",
    "ensure_snapshot", "ensure_snapshot_absent", "inventory",
)  # fmt: skip
_EXPORT_CALLS = ("ensure_connection", "ensure_connection_absent", "resized")


class Storage(Protocol):
    """One pool, named POOL, and the `consumers` that its one export lets in."""

    consumers: ExportStore

    def backend(self) -> Any:
        """A driver on it, as a new process makes one."""
        ...

    def objects(self) -> dict[Key, int]:
        """Every whole object and its size in bytes."""
        ...

    def write(self, volume_id: str, offset: int, data: bytes) -> None:
        """What the user of a volume writes."""
        ...

    def read(self, key: Key, offset: int, length_bytes: int) -> bytes:
        """The bytes of an object."""
        ...

    def copied(self, directory: Path) -> Storage:
        """Another storage with the same content; `directory` is there for it."""
        ...


@dataclass
class InMemory:
    """The in-memory driver."""

    store: MemoryStore = field(default_factory=lambda: MemoryBackend({POOL: 100 * GIB}).store)
    consumers: ExportStore = field(default_factory=ExportStore)

    def backend(self) -> Any:
        return PathBackend(store=self.store)

    def objects(self) -> dict[Key, int]:
        return {key: found.size_bytes for key, found in self.store.pool(POOL).objects.items()}

    def write(self, volume_id: str, offset: int, data: bytes) -> None:
        number, start = divmod(offset, BLOCK_BYTES)
        volume = self.store.pool(POOL).objects[ObjectKind.VOLUME, volume_id]
        old = volume.blocks[number].content if number in volume.blocks else bytes(BLOCK_BYTES)
        volume.blocks[number] = _Block(old[:start] + data + old[start + len(data) :])

    def read(self, key: Key, offset: int, length_bytes: int) -> bytes:
        number, start = divmod(offset, BLOCK_BYTES)
        block = self.store.pool(POOL).objects[key].blocks.get(number)
        return (bytes(BLOCK_BYTES) if block is None else block.content)[start : start + length_bytes]

    def copied(self, directory: Path) -> Storage:
        return InMemory(copy.deepcopy(self.store), copy.deepcopy(self.consumers))


@dataclass
class InFiles:
    """The reflink driver in a directory of whatever file system the tests run on."""

    directory: Path
    consumers: ExportStore = field(default_factory=ExportStore)

    def backend(self) -> Any:
        return ReflinkBackend(self.directory, POOL)

    def objects(self) -> dict[Key, int]:
        return {
            (kind, path.name.removeprefix(f"{kind}-")): path.stat().st_size
            for kind in ObjectKind
            for path in (self.directory / f"{kind}s").glob(f"{kind}-*")
        }

    def write(self, volume_id: str, offset: int, data: bytes) -> None:
        with self._path((ObjectKind.VOLUME, volume_id)).open("r+b") as stream:
            stream.seek(offset)
            stream.write(data)

    def read(self, key: Key, offset: int, length_bytes: int) -> bytes:
        with self._path(key).open("rb") as stream:
            return os.pread(stream.fileno(), length_bytes, offset)

    def copied(self, directory: Path) -> Storage:
        to = directory / "pool"
        subprocess.run(["cp", "-a", "--sparse=always", self.directory, to], check=True)
        return InFiles(to, copy.deepcopy(self.consumers))

    def _path(self, key: Key) -> Path:
        kind, object_id = key
        return self.directory / f"{kind}s" / f"{kind}-{object_id}"


@dataclass
class Fault:
    """What the storage does to the first `times` calls of a method of its driver or export: raise `error`; with
    `after_effect` once it has done what was asked. It is the storage's, so that a restart of the process does not end
    it."""

    method: str
    error: Callable[[], Exception]
    times: int = 1_000_000
    after_effect: bool = False


class Flaws:
    """The faults of one storage, and how often each object was made in it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._left = [(fault, [fault.times]) for fault in faults]
        self.made: Counter[str] = Counter()

    def mend(self) -> None:
        """The storage does what it is asked from now on."""
        self._left.clear()

    def put_into(self, backend: Any) -> Any:
        """The same backend, with the faults."""
        return self._put(backend, _CALLS)

    def put_into_export(self, export: MemoryExport) -> MemoryExport:
        """The same export, with the faults."""
        self._put(export, _EXPORT_CALLS)
        return export

    def _put(self, part: Any, methods: Sequence[str]) -> Any:
        for method in methods:
            setattr(part, method, self._flawed(method, getattr(part, method)))
        return part

    def _flawed(self, method: str, real: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any) -> Any:
            fault = self._due(method)
            if fault is not None and not fault.after_effect:
                raise fault.error()
            answer = await real(*args)
            if isinstance(answer, Observed) and answer.created:
                self.made[answer.id] += 1
            if fault is not None:
                raise fault.error()
            return answer

        return call

    def _due(self, method: str) -> Fault | None:
        for fault, left in self._left:
            if fault.method == method and left[0] > 0:
                left[0] -= 1
                return fault
        return None
