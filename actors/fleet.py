"""Which actors there should be, and seeing to it that they are: one conductor, one scheduler, and a volume actor for
each backend on each node that its label selector picks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from actors import ray_port
from actors.names import CONDUCTOR, HOST_LABEL, SCHEDULER, volume_actor
from cluster.scheduling.labels import parse_selector
from cluster.settings import Settings
from cluster.settings_file import settings_path

_KEEP_SECONDS = 2.0
log = structlog.get_logger()


def start(settings: Settings) -> None:
    """Start conductor and scheduler on the head, where the database is, unless they run; the rest follows by itself."""
    from actors.conductor import ConductorActor

    _ensure_scheduler(settings)
    ray_port.ensure_actor(ConductorActor, CONDUCTOR, args=_path(settings), label_selector=_head(settings))


async def keep(settings: Settings) -> None:
    """See to the scheduler and the volume actors until cancelled: nodes come and go, and actors may be killed. (The
    conductor, in which this runs, is `pumice up`'s affair.)"""
    while True:
        try:
            for name in await asyncio.to_thread(ensure_wanted, settings):
                log.info("fleet.started", actor=name)
        except Exception as error:  # Ray may be away for a moment; the next round sees to it
            log.warning("fleet.keep", error=f"{type(error).__name__}: {error}")
        await asyncio.sleep(_KEEP_SECONDS)


def ensure_wanted(settings: Settings) -> list[str]:
    """Start whichever of scheduler and volume actors is not there; return their names. Two questions to the head."""
    there = ray_port.actor_names()
    started = []
    if SCHEDULER not in there:
        _ensure_scheduler(settings)
        started.append(SCHEDULER)
    for name, (host, backend_name) in wanted(settings, ray_port.nodes()).items():
        if name not in there:
            _ensure_volume_actor(settings, host, backend_name)
            started.append(name)
    return started


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


def _path(settings: Settings) -> tuple[str]:
    return (str(settings_path(settings.state_dir)),)


def _head(settings: Settings) -> dict[str, str]:
    return {HOST_LABEL: settings.host_name}


def _ensure_scheduler(settings: Settings) -> None:
    from actors.scheduler import SchedulerActor

    ray_port.ensure_actor(SchedulerActor, SCHEDULER, args=_path(settings), label_selector=_head(settings))


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
