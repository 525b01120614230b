"""Mounting through the node actor of the node that this process runs on.

The node actor does the whole of it in the caller's name (attachment, device, file system, mount) and writes down what
it is about to do before it does it. So nothing is left behind, whichever of the two dies when.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from actors.handles.errors import HandleError, UnreachableError
from actors.handles.session import Session
from actors.processes import started_at

MOUNT_SECONDS = 120.0
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Claim:
    """A mount that is held: `id` names it for the node actor `actor`."""

    id: str
    actor: str
    path: Path
    session: Session = field(repr=False)


# Kept here, since the event loop keeps no task alive that nobody waits for.
_last_words: set[asyncio.Future[None]] = set()


async def mount(session: Session, volume_id: str, mode: str, filesystem: str) -> Claim:
    """Have the volume mounted on this node for this process. Raises HandleError."""
    from actors import ray_port
    from actors.node import ensure_node_actor

    owner = (os.getpid(), started_at(os.getpid()))
    deadline = time.monotonic() + MOUNT_SECONDS
    while True:
        actor = await asyncio.to_thread(ensure_node_actor, ray_port.own_node_id())
        # A claim of its own for each try: what an earlier one came to is not known before it is released.
        claim_id = str(uuid.uuid4())
        asked = claim_id, session, volume_id, mode, filesystem, owner
        try:
            path: str = await ray_port.call(actor, "mount", *asked, timeout_seconds=MOUNT_SECONDS)
        except ray_port.ActorUnavailableError as error:
            if not isinstance(error, ray_port.NotSentError):
                await _unmount(actor, claim_id, session)
            if time.monotonic() > deadline:
                raise UnreachableError(f"volume {volume_id} was not mounted: {error}") from error
            await asyncio.sleep(_PAUSE_SECONDS)
        except asyncio.CancelledError:
            # The node actor goes on: it is told that nobody wants it any more.
            _last_words.add(leaving := asyncio.ensure_future(_unmount(actor, claim_id, session)))
            leaving.add_done_callback(_last_words.discard)
            raise
        else:
            return Claim(claim_id, actor, Path(path), session)


async def unmount(claim: Claim) -> None:
    """Unmount and detach. Raises HandleError; what is left then is released when this process ends."""
    await _unmount(claim.actor, claim.id, claim.session)


async def _unmount(actor: str, claim_id: str, session: Session) -> None:
    """An actor that was killed comes again and knows its claims, so the call is repeated until it answers."""
    from actors import ray_port

    deadline = time.monotonic() + MOUNT_SECONDS
    while True:
        try:
            await ray_port.call(actor, "unmount", claim_id, session, timeout_seconds=MOUNT_SECONDS)
        except ray_port.ActorUnavailableError as error:
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"a volume may still be mounted ({error}); it is unmounted at the latest when this process ends"
                ) from error
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


async def node_hosts() -> list[str]:
    """The Pumice hosts among the living nodes."""
    from actors import ray_port
    from actors.names import HOST_LABEL

    nodes = await asyncio.to_thread(ray_port.nodes)
    hosts = sorted({node.labels[HOST_LABEL] for node in nodes if node.alive and HOST_LABEL in node.labels})
    if not hosts:
        raise HandleError("no living node has the label pumice.io/host; start nodes with `pumice up` or `pumice join`")
    return hosts
