"""A whole cluster in one process, without Ray: for the tests of Pumice's users and its own.

    async with InProcessCluster(settings) as cluster:
        await cluster.settle()      # drive everything that the API has written down

The same conductor, scheduler and volume hosts as in production; only the calls between them are plain awaits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from actors.volume_host import VolumeHost
from cluster.conductor import Conductor
from cluster.flows.catalogue import FLOWS
from cluster.flows.ports import BackendPort, ComputePort, NoCompute, SchedulerPort
from cluster.flows.run import Checkpoint, Context, no_checkpoint
from cluster.outside import Outside
from cluster.scheduling.desk import Desk
from cluster.scheduling.host_name import HostName
from cluster.scheduling.request import PlacementRequest
from cluster.settings import Settings
from cluster.store.open import migrate, open_store
from cluster.store.seam import Store
from drivers.protocols import Backend, Export
from drivers.vocabulary import ConnectionItem, InventoryItem, UncertainError


class _Scheduler:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def place(self, request: PlacementRequest) -> str:
        return await self._desk.place(request)

    async def release(self, volume_id: str) -> None:
        self._desk.release(volume_id)

    async def resize(self, volume_id: str, size_gib: int) -> None:
        self._desk.resize(volume_id, size_gib)


class _Backend:
    """A pool of a volume host; every method is a driver call."""

    def __init__(self, host: VolumeHost, pool: str, context: Mapping[str, Any]) -> None:
        self._host, self._pool, self._context = host, pool, context

    def __getattr__(self, method: str) -> Any:
        return lambda *args: self._host.call(method, self._pool, args, **self._context)


class InProcessPorts:
    """Ports that are plain awaits. A service that is not in `hosts` does not answer."""

    def __init__(self, desk: Desk, hosts: Mapping[str, VolumeHost], compute: ComputePort) -> None:
        self._scheduler, self._hosts, self._compute = _Scheduler(desk), hosts, compute

    @property
    def scheduler(self) -> SchedulerPort:
        return self._scheduler

    @property
    def compute(self) -> ComputePort:
        return self._compute

    async def inventory(self, service: str, *, epoch: int) -> list[InventoryItem]:
        if service not in self._hosts:
            raise UncertainError(f"{service} does not answer")
        return await self._hosts[service].inventory(epoch=epoch)

    async def connections(self, service: str, *, epoch: int) -> list[ConnectionItem]:
        if service not in self._hosts:
            raise UncertainError(f"{service} does not answer")
        return await self._hosts[service].connections(epoch=epoch)

    def backend(self, host: str, *, epoch: int, request_id: str, resource_id: str) -> BackendPort:
        name = HostName.parse(host)
        if name.service not in self._hosts:
            raise UncertainError(f"{name.service} does not answer")
        context = {"epoch": epoch, "request_id": request_id, "resource_id": resource_id}
        port: BackendPort = _Backend(self._hosts[name.service], str(name.pool), context)
        return port


class InProcessCluster:
    """`backends` maps `host@backend` to its driver, `exports` to its exports. Its database is that of the settings.
    `holder` names conductor and volume hosts: a cluster started again under the same name takes its leases back at
    once."""

    def __init__(
        self,
        settings: Settings,
        backends: Mapping[str, Backend],
        *,
        outside: Outside | None = None,
        checkpoint: Checkpoint = no_checkpoint,
        holder: str = "in-process",
        exports: Mapping[str, Sequence[Export]] | None = None,
        compute: ComputePort | None = None,
    ) -> None:
        self.compute = compute or NoCompute()
        self.settings = settings
        self.outside = outside or Outside()
        self._backends = backends
        self._exports = exports or {}
        self._checkpoint = checkpoint
        self._holder = holder
        self.hosts: dict[str, VolumeHost] = {}

    async def __aenter__(self) -> Self:
        await migrate(self.settings.database)
        self.store: Store = open_store(self.settings.database)
        self.desk = Desk(self.store, self.outside, self.settings)
        await self.desk.start()
        for service, backend in self._backends.items():
            self.hosts[service] = VolumeHost(
                service,
                backend,
                availability_zone=self.settings.availability_zone,
                node_labels={},
                heartbeat=self.settings.timing.heartbeat,
                process=self._holder,
                report=self.desk.report,
                exports=self._exports.get(service, ()),
            )
        for host in self.hosts.values():
            await host.beat()
        context = Context(
            self.store,
            self.outside,
            self.settings,
            InProcessPorts(self.desk, self.hosts, self.compute),
            self._checkpoint,
        )
        self.conductor = Conductor(context, FLOWS, holder=self._holder)
        await self.conductor.take_lease()
        return self

    async def settle(self) -> None:
        """Drive every operation that is due until none is."""
        await self.conductor.hold_lease()
        await self.conductor.claim()
        await self.conductor.settle()

    async def __aexit__(self, *_exception: object) -> None:
        await self.conductor.stop()
        for exports in self._exports.values():
            for export in exports:
                await export.close()
        for backend in self._backends.values():
            await backend.close()
        await self.store.close()
