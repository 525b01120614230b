"""The exports of a simulation: one for each service, whose consumers outlive its processes and not its node."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.vocabulary import ConnectionInfo, ConnectionItem, ConnectionSpec, ObjectKind
from tests.unit.attachments.memory_export import ExportStore, MemoryExport

if TYPE_CHECKING:
    from tests.simulation.storage import SimulatedBackend
    from tests.simulation.world import World


@dataclass
class Consumers(ExportStore):
    """`seen_bytes` is the size that each consumer sees of its volume; `lost` counts how often all were lost."""

    seen_bytes: dict[str, int] = field(default_factory=dict)
    lost: int = 0

    def lose_all(self) -> None:
        """What served is gone: its node was rebooted, or its daemon died."""
        self.served.clear()
        self.seen_bytes.clear()
        self.lost += 1


class SimulatedExport(MemoryExport):
    """One process's export. Its calls take time, fail and hang as those of the driver do; and as a process that lost
    its storage has no path to export, it lets nobody in or out then."""

    def __init__(self, world: World, backend: SimulatedBackend, consumers: Consumers) -> None:
        super().__init__(consumers)
        self._world, self._backend, self._consumers = world, backend, consumers

    async def ensure_connection(self, spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        open_it = super().ensure_connection

        async def let_in() -> ConnectionInfo:
            size_bytes = self._size(path)
            info = await open_it(spec, path)
            self._consumers.seen_bytes.setdefault(spec.id, size_bytes)
            self._world.watch.let_in(spec)
            return info

        return await self._backend._act(spec.id, let_in, exports=True)

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None:
        end_it = super().ensure_connection_absent

        async def shut_out() -> None:
            self._backend._require_open()
            await end_it(connection_id, volume_id)
            self._consumers.seen_bytes.pop(connection_id, None)

        await self._backend._act(connection_id, shut_out, exports=True)

    async def connections(self) -> list[ConnectionItem]:
        self._backend._require_open()
        return await self._backend._looked(super().connections)

    async def resized(self, volume_id: str, path: Path) -> None:
        async def tell() -> None:
            size_bytes = self._size(path)
            for one in self._consumers.served.values():
                if one.volume_id == volume_id:
                    self._consumers.seen_bytes[one.id] = size_bytes

        await self._backend._act(volume_id, tell, exports=True)

    def _size(self, path: Path) -> int:
        """Of the volume's file, in bytes. Raises SourceMissingError, and BackendUnavailableError when the storage is
        another process's."""
        pool, volume_id = path.parts[-2:]
        return self._backend._source(pool, ObjectKind.VOLUME, volume_id).size_bytes
