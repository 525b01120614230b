"""The node actor: mounts volumes for tasks and actors of its node. Started at the first mount there.

It holds no credentials: it mounts in its caller's name, and what it releases for the dead it tells the conductor.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from actors import ray_port
from actors.handles.session import Session
from actors.liveness import or_end, watch
from actors.names import CONDUCTOR, HOST_LABEL, node_actor
from actors.node_claims import Owner, node_directory
from actors.node_host import NodeHost
from cluster import logs
from cluster.attachments.abandoning import NODE_KEY
from cluster.storage_network.chosen import address_of
from drivers.vocabulary import AccessMode

_ABANDON_SECONDS = 30.0


class NodeActor:
    """One a node. `node_id` is the node's id in the cluster."""

    async def __init__(self, node_id: str) -> None:  # type: ignore[misc]
        with or_end("node"):
            labels = ray_port.own_labels()
            host = labels.get(HOST_LABEL) or platform.node()
            state_dir = Path(os.environ["PUMICE_STATE_DIR"])
            logs.configure(state_dir / "logs", f"node-{host}")
            connector = {
                "host": host,
                "ip": address_of(labels) or ray_port.own_address(),
                "os_type": platform.system().lower(),
                "platform": platform.machine(),
                "multipath": False,
                NODE_KEY: node_id,
            }
            self._host = NodeHost(node_directory(state_dir), connector, _abandon)
            await self._host.open()
            self._loops = [watch(self._host.serve(), "node")]

    async def mount(
        self, claim_id: str, session: Session, volume_id: str, mode: str, filesystem: str, owner: tuple[int, str]
    ) -> str:
        """See NodeHost.mount."""
        return await self._host.mount(claim_id, session, volume_id, AccessMode(mode), filesystem or None, Owner(*owner))

    async def unmount(self, claim_id: str, session: Session) -> None:
        """See NodeHost.unmount."""
        await self._host.unmount(claim_id, session)


def ensure_node_actor(node_id: str) -> str:
    """The name of the actor of that node, which is started if there is none. Blocking."""
    name = node_actor(node_id)
    # Pinned to the node's id, and rightly gone with it: a node that returns has nothing of what was mounted.
    ray_port.ensure_actor(NodeActor, name, args=(node_id,), node_id=node_id)
    return name


async def _abandon(claim_id: str) -> None:
    await ray_port.call(CONDUCTOR, "abandon", claim_id, timeout_seconds=_ABANDON_SECONDS)
