"""The actor classes: each builds a plain class of `cluster/` or `actors/`, runs its loop, and passes calls on.

Ray calls `__init__` again after every restart, so what an actor is comes whole from its arguments and the records.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from actors import ray_port
from actors.fleet import keep
from actors.ports import SCHEDULER, RayPorts
from actors.volume_host import VolumeHost
from cluster import logs
from cluster.conductor import Conductor
from cluster.flows.catalogue import FLOWS
from cluster.flows.run import Context
from cluster.outside import Outside
from cluster.scheduling.desk import Desk
from cluster.scheduling.request import PlacementRequest
from cluster.services.report import ServiceReport
from cluster.settings import BackendSettings
from cluster.settings_file import load_effective
from cluster.store.open import open_store
from drivers.registry import create
from drivers.vocabulary import InventoryItem


class ConductorActor:
    """The conductor, and the keeper of the volume actors. `settings_path` is the file that `pumice up` wrote."""

    async def __init__(self, settings_path: str) -> None:  # type: ignore[misc]
        settings = load_effective(Path(settings_path))
        logs.configure(settings.state_dir / "logs", "conductor")
        context = Context(
            store=open_store(settings.database),
            outside=Outside(),
            settings=settings,
            ports=RayPorts(settings.timing.driver_call),
        )
        self._conductor = Conductor(context, FLOWS, holder=ray_port.own_actor_id())
        self._tasks = [asyncio.create_task(self._conductor.serve()), asyncio.create_task(keep(settings))]

    async def wake(self) -> None:
        """The doorbell."""
        self._conductor.wake()

    async def check(self) -> int | None:
        """The epoch under which it works now; raises when one of its loops has died."""
        _raise_dead(self._tasks)
        return self._conductor.epoch


class SchedulerActor:
    """The scheduler's desk."""

    async def __init__(self, settings_path: str) -> None:  # type: ignore[misc]
        settings = load_effective(Path(settings_path))
        logs.configure(settings.state_dir / "logs", "scheduler")
        self._desk = Desk(open_store(settings.database), Outside(), settings)
        await self._desk.start()
        self._tasks = [asyncio.create_task(self._desk.serve())]

    async def place(self, request: PlacementRequest) -> str:
        """See Desk.place."""
        return await self._desk.place(request)

    async def release(self, volume_id: str) -> None:
        """See Desk.release."""
        self._desk.release(volume_id)

    async def resize(self, volume_id: str, size_gib: int) -> None:
        """See Desk.resize."""
        self._desk.resize(volume_id, size_gib)

    async def report(self, report: ServiceReport) -> None:
        """A volume actor's heartbeat."""
        await self._desk.report(report)

    async def check(self) -> None:
        """Raises when its loop has died."""
        _raise_dead(self._tasks)


class VolumeActor:
    """One backend on one host. It gets no settings beyond its own backend's, and no database."""

    async def __init__(  # type: ignore[misc]
        self, host_name: str, backend_name: str, backend: BackendSettings, zone: str, heartbeat: float, state_dir: str
    ) -> None:
        directory = Path(state_dir)
        logs.configure(directory / "logs", f"volume-{host_name}-{backend_name}")
        labels = ray_port.own_labels()
        self._host = VolumeHost(
            f"{host_name}@{backend_name}",
            create(backend.driver, backend.options, directory, backend_name),
            availability_zone=backend.availability_zone or labels.get("ray.io/availability-zone") or zone,
            node_labels=labels,
            heartbeat=heartbeat,
            report=self._report,
        )
        self._tasks = [asyncio.create_task(self._host.serve())]

    async def call(self, method: str, pool: str, args: tuple[Any, ...], context: dict[str, Any]) -> Any:
        """See VolumeHost.call."""
        return await self._host.call(method, pool, args, **context)

    async def inventory(self, epoch: int) -> list[InventoryItem]:
        """See VolumeHost.inventory."""
        return await self._host.inventory(epoch=epoch)

    async def check(self) -> None:
        """Raises when its loop has died."""
        _raise_dead(self._tasks)

    @staticmethod
    async def _report(report: ServiceReport) -> None:
        await ray_port.call(SCHEDULER, "report", report, timeout_seconds=30.0)


def _raise_dead(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
            raise RuntimeError(f"{task.get_name()} ended")
