"""The volume actor: one backend on one host. It has no database, and must not load what only control processes need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from actors import ray_port
from actors.instance import process_name
from actors.liveness import beat, or_end, watch
from actors.names import SCHEDULER
from actors.node_environment import ZONE_LABEL
from actors.volume_host import VolumeHost
from cluster import logs
from cluster.services.report import LeaseAnswer, ServiceReport
from cluster.settings import BackendSettings
from drivers import export_registry
from drivers.registry import create
from drivers.vocabulary import ConnectionItem, InventoryItem

_REPORT_SECONDS = 30.0


class VolumeActor:
    """`zone` is for a node without the label `ray.io/availability-zone`; `heartbeat` is seconds. Logs, and the pools
    without a directory of their own, go where the node was told to keep what is Pumice's (PUMICE_STATE_DIR)."""

    async def __init__(  # type: ignore[misc]
        self, host_name: str, backend_name: str, backend: BackendSettings, zone: str, heartbeat: float
    ) -> None:
        self._made_for = backend, zone, heartbeat
        with or_end("volume"):
            directory = Path(os.environ["PUMICE_STATE_DIR"])
            logs.configure(directory / "logs", f"volume-{host_name}-{backend_name}")
            labels = ray_port.own_labels()
            self._host = VolumeHost(
                f"{host_name}@{backend_name}",
                create(backend.driver, backend.options, directory, backend_name),
                availability_zone=backend.availability_zone or labels.get(ZONE_LABEL) or zone,
                node_labels=labels,
                heartbeat=heartbeat,
                process=process_name(directory),
                report=_report,
                exports=[
                    export_registry.create(
                        name, backend.export_options.get(name, {}), directory, backend_name, host_name
                    )
                    for name in backend.exports
                ],
            )
            self._loops = [watch(self._host.serve(), "volume"), watch(beat(directory), "beat")]

    async def made_for(self) -> tuple[BackendSettings, str, float]:
        """The settings that it was given."""
        return self._made_for

    async def call(self, method: str, pool: str, args: tuple[Any, ...], context: dict[str, Any]) -> Any:
        """See VolumeHost.call."""
        return await self._host.call(method, pool, args, **context)

    async def inventory(self, epoch: int) -> list[InventoryItem]:
        """See VolumeHost.inventory."""
        return await self._host.inventory(epoch=epoch)

    async def connections(self, epoch: int) -> list[ConnectionItem]:
        """See VolumeHost.connections."""
        return await self._host.connections(epoch=epoch)


async def _report(report: ServiceReport) -> LeaseAnswer:
    answer: LeaseAnswer = await ray_port.call(SCHEDULER, "report", report, timeout_seconds=_REPORT_SECONDS)
    return answer
