"""The conductor's calls to the scheduler and to volume actors, over Ray; what went wrong becomes a family of error.

An actor that cannot be reached is *uncertain* even when the call was surely not sent: its node may be away for hours,
an earlier attempt may have reached it, and the same call on the same host is the only one that is safe.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from actors import ray_port
from actors.names import SCHEDULER, volume_actor
from cluster.flows.ports import BackendPort, ComputePort, NoCompute, SchedulerPort
from cluster.scheduling.host_name import HostName
from cluster.scheduling.request import PlacementRequest
from drivers.vocabulary import (
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    InventoryItem,
    Observed,
    RetryableError,
    SnapshotSpec,
    UncertainError,
    VolumeSpec,
)

_SCHEDULER_SECONDS = 30.0
_INVENTORY_SECONDS = 300.0
_CALLS_AT_ONCE = 64


class RayScheduler:
    """The scheduler actor."""

    async def place(self, request: PlacementRequest) -> str:
        try:
            host: str = await ray_port.call(SCHEDULER, "place", request, timeout_seconds=_SCHEDULER_SECONDS)
        except ray_port.ActorUnavailableError as error:
            # Whatever it reserved is keyed by the volume: a repeat reserves nothing twice.
            raise UncertainError(f"the scheduler did not answer: {error}") from error
        return host

    async def release(self, volume_id: str) -> None:
        await self._tell("release", volume_id)

    async def resize(self, volume_id: str, size_gib: int) -> None:
        await self._tell("resize", volume_id, size_gib)

    async def _tell(self, method: str, *args: Any) -> None:
        # A scheduler that is away recounts from the records when it is back.
        with contextlib.suppress(ray_port.ActorUnavailableError):
            await ray_port.call(SCHEDULER, method, *args, timeout_seconds=_SCHEDULER_SECONDS)


class RayBackend:
    """One pool behind its volume actor. `timeout_seconds` bounds each call, `places` how many are under way there."""

    def __init__(
        self,
        host: str,
        epoch: int,
        request_id: str,
        resource_id: str,
        timeout_seconds: float,
        places: Mapping[str, asyncio.Semaphore],
    ) -> None:
        name = HostName.parse(host)
        if name.pool is None:
            raise RetryableError(f"{host} names no pool")
        self._actor, self._pool = volume_actor(name.service), name.pool
        self._context = {"epoch": epoch, "request_id": request_id, "resource_id": resource_id}
        self._timeout = timeout_seconds
        self._places = places[name.service]

    async def _call(self, method: str, *args: Any) -> Any:
        try:
            async with self._places:
                return await ray_port.call(
                    self._actor, "call", method, self._pool, args, self._context, timeout_seconds=self._timeout
                )
        except ray_port.ActorUnavailableError as error:
            raise UncertainError(f"{self._actor} did not answer {method}: {error}") from error

    async def ensure_volume(self, spec: VolumeSpec) -> Observed:
        return await self._call("ensure_volume", spec)  # type: ignore[no-any-return]

    async def ensure_volume_from_snapshot(self, spec: VolumeSpec, source: SnapshotSpec) -> Observed:
        return await self._call("ensure_volume_from_snapshot", spec, source)  # type: ignore[no-any-return]

    async def ensure_volume_from_volume(self, spec: VolumeSpec, source: VolumeSpec) -> Observed:
        return await self._call("ensure_volume_from_volume", spec, source)  # type: ignore[no-any-return]

    async def ensure_volume_absent(self, volume_id: str) -> None:
        await self._call("ensure_volume_absent", volume_id)

    async def ensure_size(self, volume_id: str, size_gib: int) -> Observed:
        return await self._call("ensure_size", volume_id, size_gib)  # type: ignore[no-any-return]

    async def ensure_snapshot(self, spec: SnapshotSpec) -> Observed:
        return await self._call("ensure_snapshot", spec)  # type: ignore[no-any-return]

    async def ensure_snapshot_absent(self, spec: SnapshotSpec) -> None:
        await self._call("ensure_snapshot_absent", spec)

    async def ensure_connection(self, spec: ConnectionSpec) -> ConnectionInfo:
        return await self._call("ensure_connection", spec)  # type: ignore[no-any-return]

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None:
        await self._call("ensure_connection_absent", connection_id, volume_id)


class RayPorts:
    """The ports of a running cluster. A driver's call may take `timeout_seconds`."""

    def __init__(self, timeout_seconds: float, compute: ComputePort | None = None) -> None:
        self._compute = compute or NoCompute()
        self._scheduler = RayScheduler()
        self._timeout = timeout_seconds
        # For each backend its own, so that one that hangs holds up nobody else.
        self._places: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_CALLS_AT_ONCE))

    @property
    def scheduler(self) -> SchedulerPort:
        return self._scheduler

    @property
    def compute(self) -> ComputePort:
        return self._compute

    async def inventory(self, service: str, *, epoch: int) -> list[InventoryItem]:
        return await self._all(service, "inventory", epoch)

    async def connections(self, service: str, *, epoch: int) -> list[ConnectionItem]:
        return await self._all(service, "connections", epoch)

    async def _all(self, service: str, what: str, epoch: int) -> list[Any]:
        actor = volume_actor(service)
        try:
            found: list[Any] = await ray_port.call(actor, what, epoch, timeout_seconds=_INVENTORY_SECONDS)
        except ray_port.ActorUnavailableError as error:
            raise UncertainError(f"{actor} did not tell its {what}: {error}") from error
        return found

    def backend(self, host: str, *, epoch: int, request_id: str, resource_id: str) -> BackendPort:
        return RayBackend(host, epoch, request_id, resource_id, self._timeout, self._places)
