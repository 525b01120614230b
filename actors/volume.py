"""The volume actor: one backend on one host. It has no database, and must not load what only control processes need."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from actors import ray_port
from actors.head_environment import LOOPBACK
from actors.instance import mark_of, process_name
from actors.liveness import beat, or_end, watch
from actors.names import SCHEDULER
from actors.node_environment import ZONE_LABEL
from actors.volume_host import VolumeHost
from cluster import logs
from cluster.services.report import LeaseAnswer, ServiceReport
from cluster.settings import BackendSettings, is_loopback
from cluster.storage_network.allow_list import AllowList, table_name
from cluster.storage_network.chosen import Chosen
from cluster.storage_network.seam import Rules
from cluster.storage_network.settings import AllowListMode
from cluster.storage_network.shaping import Shaping, owner_of
from cluster.storage_network.ways import Ways, directory_of
from drivers import export_registry
from drivers.protocols import Export, Portals
from drivers.registry import create
from drivers.vocabulary import ConnectionItem, InventoryItem

_REPORT_SECONDS = 30.0
log = structlog.get_logger()


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
            network = Chosen.read(directory) or Chosen(None, LOOPBACK, None, None, AllowListMode.WHERE_POSSIBLE)
            leaving, troubles = export_registry.leaving(directory, backend_name, host_name, backend.exports)
            for trouble in troubles:
                log.error("export.stranded", error=trouble)
            for name in backend.exports:
                options = backend.export_options.get(name, {})
                try:
                    export_registry.remember(name, options, directory, backend_name, address=network.listens)
                except OSError as error:  # a full disk, say; it serves without that
                    log.warning("export.not_remembered", export=name, error=str(error))
            exports = [
                export_registry.create(
                    name,
                    backend.export_options.get(name, {}),
                    directory,
                    backend_name,
                    host_name,
                    address=network.listens,
                )
                for name in backend.exports
            ]
            self._host = VolumeHost(
                f"{host_name}@{backend_name}",
                create(backend.driver, backend.options, directory, backend_name),
                availability_zone=backend.availability_zone or labels.get(ZONE_LABEL) or zone,
                node_labels=labels,
                heartbeat=heartbeat,
                process=process_name(directory),
                report=_report,
                exports=exports,
                network=_network(f"{host_name}@{backend_name}", backend, exports, network, directory),
                leaving=leaving,
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


def is_expected(backend: BackendSettings, exports: Sequence[Export], chosen: Chosen) -> bool:
    """Whether consumers may come from elsewhere: an export listens on another address than loopback, its own or the
    node's. `exports` are those of `backend.exports`, in that order."""
    listening = [name for name, export in zip(backend.exports, exports, strict=True) if isinstance(export, Portals)]
    addresses = [backend.export_options.get(name, {}).get("address", chosen.listens) for name in listening]
    return not all(is_loopback(str(address)) for address in addresses)


def _network(
    service: str, backend: BackendSettings, exports: Sequence[Export], chosen: Chosen, directory: Path
) -> Ways:
    """The ways to the exports of `service`, and every kind of rule that this node keeps for them."""
    if chosen.is_elsewhere and any(isinstance(export, Portals) for export in exports):
        then = f"exports without an address of their own listen on {chosen.listens}"
        log.warning("network.address_is_elsewhere", host=service, address=chosen.address, then=then)
    mark, backend_name = mark_of(directory), service.partition("@")[2]
    rules: list[Rules] = [
        AllowList(table_name(mark, backend_name), chosen.allow_list, is_expected=is_expected(backend, exports, chosen)),
        Shaping(owner_of(mark, backend_name)),
    ]
    return Ways(service, directory_of(directory, backend_name), rules, chosen.capabilities)


async def _report(report: ServiceReport) -> LeaseAnswer:
    answer: LeaseAnswer = await ray_port.call(SCHEDULER, "report", report, timeout_seconds=_REPORT_SECONDS)
    return answer
