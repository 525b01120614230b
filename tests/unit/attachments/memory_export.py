"""An export in memory and a backend whose volumes it can export. What an `ExportStore` holds outlives both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.memory import MemoryBackend
from drivers.vocabulary import (
    UNLIMITED,
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    InUseError,
    Limits,
    ObjectKind,
    SourceMissingError,
)


@dataclass
class ExportStore:
    """Who is let in now, by which connector, mode and secret; `resized` are the volumes that exports were told of,
    `opened` counts every letting in."""

    served: dict[str, ConnectionSpec] = field(default_factory=dict)
    resized: list[str] = field(default_factory=list)
    opened: int = 0


class MemoryExport:
    """Serves whoever has a `host`. `broken` names the calls that fail, with what they raise; `keeps_not` says why no
    limits are kept. Whoever is let in must be shut out before the connection is another's: one that forgets it is told
    so with an InUseError."""

    def __init__(self, store: ExportStore, protocol: str = "memory") -> None:
        self.store, self.broken, self.keeps_not = store, dict[str, Exception](), ""
        self._protocol = protocol

    @property
    def protocol(self) -> str:
        return self._protocol

    def _pass(self, call: str) -> None:
        if call in self.broken:
            raise self.broken[call]

    async def open(self) -> None:
        self._pass("open")

    async def close(self) -> None:
        self._pass("close")

    def serves(self, connector: Mapping[str, Any]) -> bool:
        return "host" in connector

    def cannot_keep(self, limits: Limits) -> str:
        return self.keeps_not if limits != UNLIMITED else ""

    async def ensure_connection(self, spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        self._pass("ensure_connection")
        before = self.store.served.get(spec.id, spec)
        if (before.volume_id, *_consumer(before)) != (spec.volume_id, *_consumer(spec)):
            raise InUseError(f"connection {spec.id} lets in {before.connector['host']} {before.mode}; end that first")
        self.store.served[spec.id] = spec
        self.store.opened += 1
        data = {"device_path": str(path), "password": spec.secret[:8], "to": spec.connector["host"]}
        return ConnectionInfo(self._protocol, data)

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None:
        del volume_id
        self._pass("ensure_connection_absent")
        self.store.served.pop(connection_id, None)

    async def connections(self) -> list[ConnectionItem]:
        self._pass("connections")
        return [ConnectionItem(spec.id, spec.volume_id) for spec in self.store.served.values()]

    async def resized(self, volume_id: str, path: Path) -> None:
        del path
        self._pass("resized")
        self.store.resized.append(volume_id)


def _consumer(spec: ConnectionSpec) -> tuple[object, ...]:
    return spec.connector, spec.mode, spec.secret


class PathBackend(MemoryBackend):
    """The in-memory driver, with names for the bytes of its volumes."""

    async def volume_path(self, pool: str, volume_id: str) -> Path:
        if not any(item.id == volume_id and item.kind is ObjectKind.VOLUME for item in await self.inventory()):
            raise SourceMissingError(f"there is no volume {volume_id}")
        return Path("/memory") / pool / volume_id
