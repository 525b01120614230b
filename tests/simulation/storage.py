"""The storage of a simulation: the published in-memory driver, whose calls take time, fail and hang."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from actors.names import SCHEDULER
from actors.volume_host import VolumeHost
from cluster.services.report import LeaseAnswer, ServiceReport
from drivers.memory import MemoryStore
from drivers.vocabulary import (
    ConnectionItem,
    FinalError,
    InventoryItem,
    ObjectKind,
    Observed,
    RetryableError,
    SnapshotSpec,
    UncertainError,
    VolumeSpec,
)
from tests.simulation.export import SimulatedExport
from tests.simulation.faults import DRIVER
from tests.simulation.loop import Process
from tests.unit.attachments.memory_export import PathBackend

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
Key = tuple[str, ObjectKind, str]  # service, kind, id; with the pool it is where an object is
CALL_EPOCH: ContextVar[int] = ContextVar("CALL_EPOCH", default=0)
CALL_IS_STALE: ContextVar[bool] = ContextVar("CALL_IS_STALE", default=False)


class InjectedError(Exception):
    """A defect of a driver: an error of no family."""


_ERRORS: dict[str, type[Exception]] = {
    "final": FinalError,
    "retryable": RetryableError,
    "uncertain": UncertainError,
    "unknown": InjectedError,
}


class SimulatedBackend(PathBackend):
    """One process's driver on the store of its service, one call at a time for each object as real drivers have it."""

    def __init__(self, world: World, service: str, process: Process, store: MemoryStore) -> None:
        super().__init__(store=store, max_over_subscription_ratio=1.0)
        self.service, self._world, self._process = service, world, process
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure_volume(self, pool: str, spec: VolumeSpec) -> Observed:
        return await self._make(ObjectKind.VOLUME, pool, spec.id, super().ensure_volume, pool, spec)

    async def ensure_volume_from_snapshot(self, pool: str, spec: VolumeSpec, source: SnapshotSpec) -> Observed:
        call = super().ensure_volume_from_snapshot
        return await self._make(ObjectKind.VOLUME, pool, spec.id, call, pool, spec, source)

    async def ensure_volume_from_volume(self, pool: str, spec: VolumeSpec, source: VolumeSpec) -> Observed:
        call = super().ensure_volume_from_volume
        return await self._make(ObjectKind.VOLUME, pool, spec.id, call, pool, spec, source)

    async def ensure_snapshot(self, pool: str, spec: SnapshotSpec) -> Observed:
        return await self._make(ObjectKind.SNAPSHOT, pool, spec.id, super().ensure_snapshot, pool, spec)

    async def ensure_size(self, pool: str, volume_id: str, size_gib: int) -> Observed:
        return await self._act(volume_id, super().ensure_size, pool, volume_id, size_gib)

    async def ensure_volume_absent(self, pool: str, volume_id: str) -> None:
        await self._remove_object(ObjectKind.VOLUME, pool, volume_id, super().ensure_volume_absent, pool, volume_id)

    async def ensure_snapshot_absent(self, pool: str, spec: SnapshotSpec) -> None:
        await self._remove_object(ObjectKind.SNAPSHOT, pool, spec.id, super().ensure_snapshot_absent, pool, spec)

    async def volume_path(self, pool: str, volume_id: str) -> Path:
        self._source(pool, ObjectKind.VOLUME, volume_id)
        return Path("/memory") / pool / volume_id

    async def inventory(self) -> list[InventoryItem]:
        return await self._looked(super().inventory)

    async def _looked(self, look: Callable[[], Awaitable[T]]) -> T:
        """What is found was there at one moment between question and answer."""
        await asyncio.sleep(self._world.chance.latency())
        found = await look()
        await asyncio.sleep(self._world.chance.latency())
        return found

    async def _make(
        self, kind: ObjectKind, pool: str, object_id: str, call: Callable[..., Awaitable[Observed]], *args: Any
    ) -> Observed:
        async def make() -> Observed:
            observed = await call(*args)
            if observed.created:
                self._world.watch.born(self.service, pool, kind, object_id)
            return observed

        return await self._act(object_id, make)

    async def _remove_object(
        self, kind: ObjectKind, pool: str, object_id: str, call: Callable[..., Awaitable[None]], *args: Any
    ) -> None:
        async def remove() -> None:
            was_there = (kind, object_id) in self.store.pool(pool).objects
            await call(*args)
            if was_there:
                self._world.watch.removed(self.service, pool, kind, object_id)

        await self._act(object_id, remove)

    async def _act(self, object_id: str, call: Callable[..., Awaitable[T]], *args: Any, exports: bool = False) -> T:
        world, epoch = self._world, CALL_EPOCH.get()
        stale = world.watch.is_stale(self.service, epoch, holds=self.holds)
        if exports:  # the calls on one volume were put in their order before they came here
            stale = CALL_IS_STALE.get()
        async with self._locks[object_id]:
            await asyncio.sleep(world.chance.latency())
            if world.faults.strikes("hang"):
                await asyncio.sleep(world.chance.within(5.0, 60.0))
            self._fail("before")
            held = self.holds
            result = await call(*args)
            world.trace("effect", self.service, object_id, repr(result))
            if stale:
                world.violate(f"stale write: {self._process.name} obeyed the replaced epoch {epoch}")
            if not held:
                world.violate(f"stale write: {self._process.name} wrote to storage that another process had taken")
            self._fail("after")
            return result

    @property
    def epoch(self) -> int | None:
        """The epoch in which it took the store; None: it is closed."""
        return self._epoch

    @property
    def holds(self) -> bool:
        """Whether nobody has taken the store since."""
        return self._epoch is not None and self.store.held_in(self._epoch)

    def _fail(self, when: str) -> None:
        for name in DRIVER[:-1]:
            if self._world.faults.strikes(f"{name}-{when}"):
                raise _ERRORS[name](f"simulated: {name} {when} the effect")


class HostActor:
    """The volume actor (`actors.volume`) without Ray."""

    def __init__(self, world: World, service: str, process: Process) -> None:
        self._world = world
        self.backend = SimulatedBackend(world, service, process, world.stores[service])
        self.host = VolumeHost(
            service,
            self.backend,
            availability_zone="nova",
            node_labels={},
            heartbeat=world.settings.timing.heartbeat,
            process=process.name,
            report=self._report,
            exports=[SimulatedExport(world, self.backend, world.consumers[service])],
            clock=world.loop.time,
        )

    async def serve(self) -> None:
        """The actor's loop."""
        await self.host.serve()

    async def call(self, method: str, pool: str, args: tuple[Any, ...], context: dict[str, Any]) -> Any:
        """See VolumeHost.call."""
        CALL_EPOCH.set(context["epoch"])
        CALL_IS_STALE.set(self._world.watch.is_replaced(self.backend.service, context["epoch"]))
        return await self.host.call(method, pool, args, **context)

    async def inventory(self, epoch: int) -> list[InventoryItem]:
        """See VolumeHost.inventory."""
        return await self.host.inventory(epoch=epoch)

    async def connections(self, epoch: int) -> list[ConnectionItem]:
        """See VolumeHost.connections."""
        return await self.host.connections(epoch=epoch)

    async def _report(self, report: ServiceReport) -> LeaseAnswer:
        answer: LeaseAnswer = await self._world.network.call(SCHEDULER, "report", report, timeout_seconds=30.0)
        return answer
