"""The conductor actor: `cluster.conductor` with a cluster's ports, and the keeper of the other actors.

A process that looks an actor up imports the actor's module, for Ray wants the class. So nothing is imported here that
API replicas can do without: the constructor does that.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from actors import ray_port
from actors.instance import machine_mark_of
from actors.liveness import beat, or_end, watch


class ConductorActor:
    """`settings_path` is the file that `pumice up` wrote. Ray calls `__init__` again after every restart, so what an
    actor is comes whole from its arguments and the records."""

    async def __init__(self, settings_path: str) -> None:  # type: ignore[misc]
        with or_end("conductor"):
            from actors.cloud.compute_events import ComputeEvents
            from actors.fleet import keep
            from actors.ports import RayPorts
            from cluster import logs
            from cluster.attachments.abandoning import LostNodes
            from cluster.conductor import Conductor
            from cluster.flows.catalogue import FLOWS
            from cluster.flows.run import Context
            from cluster.outside import Outside
            from cluster.settings import IdentityMode
            from cluster.settings_file import load_effective
            from cluster.store.open import open_store

            settings = load_effective(Path(settings_path))
            logs.configure(settings.state_dir / "logs", "conductor")
            identity = settings.identity
            # Only a cloud with a Keystone can have a Nova.
            nova = ComputeEvents(identity, settings.region) if identity.mode is IdentityMode.KEYSTONE else None
            context = Context(
                store=open_store(settings.database),
                outside=Outside(),
                settings=settings,
                ports=RayPorts(settings.timing.driver_call, nova),
            )
            holder = f"{machine_mark_of(settings.state_dir)}{ray_port.own_actor_id()}"
            self._context = context
            self._conductor = Conductor(context, FLOWS, holder=holder)
            lost = LostNodes(context.store, context.outside, self._conductor.wake)
            self._loops = [
                watch(self._conductor.serve(), "conductor"),
                watch(keep(settings, lost), "fleet"),
                watch(beat(settings.state_dir), "beat"),
            ]

    async def wake(self) -> None:
        """The doorbell."""
        self._conductor.wake()

    async def epoch(self) -> int | None:
        """The epoch under which it works now; None while another conductor holds the lease."""
        return self._conductor.epoch

    async def abandon(self, claim_id: str) -> None:
        """End every attachment of a claim, whose owner is gone. Safe to repeat. Raises UnavailableError when that
        is not done yet."""
        from cluster.attachments.abandoning import carry_out_abandonment

        context = self._context
        await carry_out_abandonment(context.store, context.outside, claim_id, self._conductor.wake)

    async def start_node_actor(self, node_id: str) -> None:
        """See that there is an actor for mounts on that node. It is not waited for."""
        from actors.fleet import start_node_actor

        await asyncio.to_thread(start_node_actor, node_id)
