"""Mounting through the node actor of the node that this process runs on.

The node actor does the whole of it in the caller's name (attachment, device, file system, mount) and writes down what
it is about to do before it does it. So nothing is left behind, whichever of the two dies when.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from actors.handles.errors import HandleError, UnreachableError
from actors.handles.session import Session
from actors.processes import started_at

MOUNT_SECONDS = 120.0


@dataclass(frozen=True)
class Claim:
    """A mount that is held: `id` names it for the node actor `actor`."""

    id: str
    actor: str
    path: Path
    session: Session = field(repr=False)


async def mount(session: Session, volume_id: str, mode: str, filesystem: str) -> Claim:
    """Have the volume mounted on this node for this process. Raises HandleError."""
    from actors import ray_port
    from actors.node import ensure_node_actor

    actor = await asyncio.to_thread(ensure_node_actor)
    claim_id = str(uuid.uuid4())
    owner = (os.getpid(), started_at(os.getpid()))
    try:
        path: str = await ray_port.call(
            actor,
            "mount",
            claim_id,
            session,
            volume_id,
            mode,
            filesystem,
            owner,
            timeout_seconds=MOUNT_SECONDS,
        )
    except ray_port.ActorUnavailableError as error:
        raise UnreachableError(f"volume {volume_id} was not mounted: {error}") from error
    return Claim(claim_id, actor, Path(path), session)


async def unmount(claim: Claim) -> None:
    """Unmount and detach. The node actor goes on with it if this call is lost. Raises HandleError."""
    from actors import ray_port

    try:
        await ray_port.call(claim.actor, "unmount", claim.id, claim.session, timeout_seconds=MOUNT_SECONDS)
    except ray_port.ActorUnavailableError as error:
        raise UnreachableError(
            f"{claim.path} may still be mounted ({error}); it is unmounted at the latest when this process ends"
        ) from error


async def node_hosts() -> list[str]:
    """The Pumice hosts among the living nodes."""
    from actors import ray_port
    from actors.names import HOST_LABEL

    nodes = await asyncio.to_thread(ray_port.nodes)
    hosts = sorted({node.labels[HOST_LABEL] for node in nodes if node.alive and HOST_LABEL in node.labels})
    if not hosts:
        raise HandleError("no living node has the label pumice.io/host; start nodes with `pumice up` or `pumice join`")
    return hosts
