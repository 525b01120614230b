"""The in-memory driver under test. A crash is an exception that nobody catches; the store is what survives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drivers.memory import BLOCK_BYTES, MemoryBackend, MemoryStore
from drivers.vocabulary import GIB, NoSpaceError, ObjectKind, VolumeSpec
from tests.conformance.harness import Call, FullBackend, Harness


class _Killed(BaseException):
    """The process would be gone here."""


class MemoryHarness(Harness):
    """MemoryBackend over one store."""

    name = "memory"
    refuses_second_holder = False

    def start(self, directory: Path) -> None:
        """Nothing is needed."""

    def stop(self) -> None:
        """Nothing was made."""

    def renew(self) -> None:
        """A new store of 256 MiB."""
        self._store = MemoryStore({self.pool: 256 << 20})

    def backend(self, checkpoint: Callable[[str], None] = lambda _point: None) -> MemoryBackend:
        """Another backend on the same store."""
        return MemoryBackend(store=self._store, checkpoint=checkpoint)

    async def read(self, backend: FullBackend, kind: ObjectKind, object_id: str, offset: int, length: int) -> bytes:
        """Through the backend."""
        assert isinstance(backend, MemoryBackend)
        return backend.read(self.pool, kind, object_id, offset, length)

    async def write(self, backend: FullBackend, volume_id: str, offset: int, data: bytes) -> None:
        """Through the backend."""
        assert isinstance(backend, MemoryBackend)
        backend.write(self.pool, ObjectKind.VOLUME, volume_id, offset, data)

    async def fill(self, backend: FullBackend) -> None:
        """A volume takes the room: there is no other way into memory."""
        filler = VolumeSpec("ffffffff-ffff-ffff-ffff-ffffffffffff", 1)
        await backend.ensure_volume(self.pool, filler)
        try:
            for offset in range(0, GIB, BLOCK_BYTES):
                await self.write(backend, filler.id, offset, b"x" * BLOCK_BYTES)
        except NoSpaceError:
            return
        raise AssertionError("the pool cannot be filled")

    async def crash(self, call: Call, point: str) -> None:
        """Raise at the point and forget the backend."""

        def kill(passed: str) -> None:
            if passed == point:
                raise _Killed

        backend = self.backend(kill)
        await backend.open()
        try:
            await call.on(backend)
        except _Killed:
            return
        raise AssertionError(f"{call.method} did not pass {point!r}")
