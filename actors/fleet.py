"""Which actors there should be, and seeing to it that they are: one conductor, one scheduler, and a volume actor for
each backend on each node that its label selector picks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from actors import ray_port
from actors.head_environment import head_labels
from actors.names import CONDUCTOR, HOST_LABEL, SCHEDULER, STORAGE_NETWORK, volume_actor
from actors.node_environment import VERSION_LABEL, version_label
from cluster.attachments.abandoning import LostNodes
from cluster.scheduling.labels import parse_selector
from cluster.settings import BackendSettings, Settings
from cluster.settings_file import settings_path

_KEEP_SECONDS = 2.0
_ASK_SECONDS = 5.0
log = structlog.get_logger()


def start(settings: Settings) -> None:
    """Start conductor and scheduler on the head, where the database is, unless they run; the rest follows by itself.
    Who joins from now on is told what the instance says of storage networks."""
    from actors.conductor import ConductorActor

    ray_port.remember(STORAGE_NETWORK, settings.storage_network.model_dump_json(exclude_unset=True))
    _ensure_scheduler(settings)
    ray_port.ensure_actor(ConductorActor, CONDUCTOR, args=_path(settings), label_selector=head_selector(settings))


async def keep(settings: Settings, lost: LostNodes) -> None:
    """See to the scheduler and the volume actors until cancelled: nodes come and go, and actors may be killed. (The
    conductor, in which this runs, is `pumice up`'s affair.) What nodes that are gone had attached is let go."""
    current: set[str] = set()
    while True:
        try:
            for name in await asyncio.to_thread(ensure_wanted, settings):
                log.info("fleet.started", actor=name)
            await end_outdated(settings, current)
            await let_go_of_lost(lost)
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


async def end_outdated(settings: Settings, current: set[str]) -> None:
    """End the volume actors that were made for other settings than these, under an earlier head; the next round makes
    them anew. `current` remembers those that were found right."""
    for name, (_, backend_name) in (await asyncio.to_thread(lambda: wanted(settings, ray_port.nodes()))).items():
        if name in current:
            continue
        try:
            found = await ray_port.call(name, "made_for", timeout_seconds=_ASK_SECONDS)
        except ray_port.ActorUnavailableError:
            continue  # it is being made, or its node is away; it is asked again
        if found == _made_for(settings, backend_name):
            current.add(name)
        else:
            log.info("fleet.outdated", actor=name)
            await asyncio.to_thread(ray_port.end_actor, name)


async def let_go_of_lost(lost: LostNodes) -> None:
    """End what nodes that are gone had attached. Where such a node lives on under another id, its node actor is started
    first: what was mounted there outlived the old one's."""
    living = {node.id: node.labels.get(HOST_LABEL) for node in await asyncio.to_thread(ray_port.nodes) if node.alive}
    hosts = set((await lost.look(living)).values())
    for node_id in [node_id for node_id, host in living.items() if host in hosts]:
        await asyncio.to_thread(start_node_actor, node_id)


def wanted(settings: Settings, nodes: list[ray_port.Node]) -> dict[str, tuple[str, str]]:
    """Actor name → (host, backend) for every backend on every living node that it selects, and that `pumice join` (or
    `up`) of this version has labelled."""
    actors = {}
    for node in nodes:
        host = node.labels.get(HOST_LABEL)
        if not node.alive or not host or node.labels.get(VERSION_LABEL) != version_label():
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


def on_head(settings: Settings) -> list[str]:
    """The backends that the head's own node runs."""
    labels = head_labels(settings)
    return [name for name, backend in settings.backends.items() if selects(backend.label_selector, labels)]


def head_selector(settings: Settings) -> dict[str, str]:
    """What picks the head's node: whoever opens the database runs there."""
    return {HOST_LABEL: settings.host_name}


def _ensure_scheduler(settings: Settings) -> None:
    from actors.scheduler import SchedulerActor

    ray_port.ensure_actor(SchedulerActor, SCHEDULER, args=_path(settings), label_selector=head_selector(settings))


def start_node_actor(node_id: str) -> None:
    """See that there is an actor for mounts on that node. Blocking."""
    from actors.node import ensure_node_actor

    ensure_node_actor(node_id)


def _made_for(settings: Settings, backend_name: str) -> tuple[BackendSettings, str, float]:
    """What of the settings a volume actor is given when it is made."""
    return settings.backends[backend_name], settings.availability_zone, settings.timing.heartbeat


def _ensure_volume_actor(settings: Settings, host: str, backend_name: str) -> None:
    from actors.volume import VolumeActor

    # Pinned by label: an actor hard-pinned to a node id never comes back when the node returns under a new one.
    ray_port.ensure_actor(
        VolumeActor,
        volume_actor(f"{host}@{backend_name}"),
        args=(host, backend_name, *_made_for(settings, backend_name)),
        label_selector={HOST_LABEL: host},
    )
