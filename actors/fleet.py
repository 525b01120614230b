"""Which actors there should be, and seeing to it that they are: one conductor, one scheduler, and a volume actor for
each backend on each node that its label selector picks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from actors import ray_port
from actors.names import CONDUCTOR, SCHEDULER, volume_actor
from cluster.scheduling.labels import parse_selector
from cluster.settings import Settings
from cluster.settings_file import settings_path

HOST_LABEL = "pumice.io/host"
_KEEP_SECONDS = 2.0
log = structlog.get_logger()


def start(settings: Settings) -> None:
    """Start conductor and scheduler on the head, where the database is, unless they run; the rest follows by itself."""
    from actors.conductor import ConductorActor
    from actors.scheduler import SchedulerActor

    path = str(settings_path(settings.state_dir))
    here = {HOST_LABEL: settings.host_name}
    ray_port.ensure_actor(SchedulerActor, SCHEDULER, args=(path,), label_selector=here)
    ray_port.ensure_actor(ConductorActor, CONDUCTOR, args=(path,), label_selector=here)


async def keep(settings: Settings) -> None:
    """See to the volume actors until cancelled: nodes come and go."""
    known: set[str] = set()
    while True:
        try:
            for name, actor in wanted(settings, await asyncio.to_thread(ray_port.nodes)).items():
                if name not in known:
                    await asyncio.to_thread(_ensure_volume_actor, settings, *actor)
                    log.info("fleet.volume_actor", actor=name)
                    known.add(name)
        except Exception as error:  # Ray may be away for a moment; the next round sees to it
            log.warning("fleet.keep", error=f"{type(error).__name__}: {error}")
        await asyncio.sleep(_KEEP_SECONDS)


def wanted(settings: Settings, nodes: list[ray_port.Node]) -> dict[str, tuple[str, str]]:
    """Actor name → (host, backend) for every backend on every living node that it selects and that has a host label."""
    actors = {}
    for node in nodes:
        host = node.labels.get(HOST_LABEL)
        if not node.alive or not host:
            continue
        for backend_name, backend in settings.backends.items():
            if selects(backend.label_selector, node.labels):
                actors[volume_actor(f"{host}@{backend_name}")] = (host, backend_name)
    return actors


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels is picked, by Ray's rules for label selectors."""
    return all(parse_selector(text).matches(labels.get(key)) for key, text in selector.items())


def _ensure_volume_actor(settings: Settings, host: str, backend_name: str) -> None:
    from actors.volume import VolumeActor

    # Pinned by label: an actor hard-pinned to a node id never comes back when the node returns under a new one.
    state_dir = str(settings.state_dir) if host == settings.host_name else f"/var/lib/pumice/{host}"
    ray_port.ensure_actor(
        VolumeActor,
        volume_actor(f"{host}@{backend_name}"),
        args=(
            host,
            backend_name,
            settings.backends[backend_name],
            settings.availability_zone,
            settings.timing.heartbeat,
            state_dir,
        ),
        label_selector={HOST_LABEL: host},
    )
