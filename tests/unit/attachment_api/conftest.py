"""The API over a whole cluster in one process: in-memory volumes, and an export that keeps its consumers in a dict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.in_process import InProcessCluster
from cluster.settings import BackendSettings, Settings
from cluster.volume_types.intents import ensure_default_type
from drivers.memory import MemoryBackend
from drivers.vocabulary import GIB, ConnectionInfo, ConnectionItem, ConnectionSpec, Limits, StorageError
from tests.unit.volumes.bench import Bench

HOST = "h1@memory#memory"
CONNECTOR = {"host": "node-1", "initiator": "iqn.2026-01.io.pumice:node-1", "ip": "192.0.2.7", "mountpoint": "/dev/vdb"}


class MemoryFiles(MemoryBackend):
    """Volumes that an export can be given: the paths are names only."""

    async def volume_path(self, pool: str, volume_id: str) -> Path:
        return Path("/") / pool / volume_id


class Consumers:
    """An export. `failure` is why it lets nobody in; `gate`, when it is closed, makes every call wait."""

    protocol = "fake"

    def __init__(self) -> None:
        self.specs: dict[str, ConnectionSpec] = {}
        self.failure: StorageError | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def serves(self, connector: Mapping[str, Any]) -> bool:
        return "host" in connector

    def cannot_keep(self, limits: Limits) -> str:
        return ""

    async def ensure_connection(self, spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.specs[spec.id] = spec
        return ConnectionInfo("fake", {"path": str(path), "discard": True})

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None:
        await self.gate.wait()
        self.specs.pop(connection_id, None)

    async def connections(self) -> list[ConnectionItem]:
        return [ConnectionItem(spec.id, spec.volume_id) for spec in self.specs.values()]

    async def resized(self, volume_id: str, path: Path) -> None: ...


class Attaching(Bench):
    """A bench whose operations are carried out, by `export`."""

    export: Consumers
    type_id: str

    async def placed(self, **values: Any) -> str:
        """An available volume on the host."""
        return await self.volume(**({"host": HOST, "volume_type_id": self.type_id} | values))

    async def at(self, method: str, path: str, body: Any = None, **how: Any) -> httpx.Response:
        """A call at 3.54, unless said otherwise."""
        return await self.call(method, path, body, **({"at": 54} | how))

    async def reserve(self, volume_id: str, **more: Any) -> dict[str, Any]:
        """An attachment as POST answers it."""
        answer = await self.at("POST", "/attachments", {"attachment": {"volume_uuid": volume_id, **more}})
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()["attachment"]
        return made

    async def attached(self, volume_id: str, connector: Mapping[str, Any] = CONNECTOR, **more: Any) -> dict[str, Any]:
        """An attachment that is connected and complete."""
        made = await self.reserve(volume_id, connector=dict(connector), **more)
        answer = await self.at("POST", f"/attachments/{made['id']}/action", {"os-complete": None})
        assert answer.status_code == 204, answer.text
        return made

    async def past(self, volume_id: str, status: str) -> None:
        """Wait until the volume has another status."""
        while (await self.standing(volume_id))[0] == status:
            self.ring()
            await asyncio.sleep(0.01)  # a read gives nobody else a turn

    async def standing(self, volume_id: str) -> tuple[str, str]:
        """The volume's status, and how many attachments it shows."""
        shown = (await self.get(f"/volumes/{volume_id}", by="admin"))["volume"]
        return shown["status"], len(shown["attachments"])


Make = Callable[..., Attaching]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes the bench; what it is called with goes into it (`servers`)."""
    settings = Settings(state_dir=tmp_path, host_name="h1", backends={"memory": BackendSettings(driver="memory")})
    export, wanted = Consumers(), asyncio.Event()
    backends = {"h1@memory": MemoryFiles({"memory": 100 * GIB})}
    async with InProcessCluster(settings, backends, exports={"h1@memory": (export,)}) as cluster:

        async def work() -> None:
            while True:
                await wanted.wait()
                wanted.clear()
                await cluster.settle()

        default = await ensure_default_type(cluster.store, settings, cluster.outside)
        driving = asyncio.create_task(work())

        def made(**more: Any) -> Attaching:
            bench = Attaching(cluster.store, settings, cluster.outside, ring=wanted.set, **more)
            bench.export, bench.type_id = export, default
            return bench

        yield made
        export.gate.set()
        driving.cancel()
        with suppress(asyncio.CancelledError):
            await driving


@pytest.fixture
def bench(make: Make) -> Attaching:
    return make()
