"""Mounting through the node actor of the node that this process runs on.

The node actor does the whole of it in the caller's name (attachment, device, file system, mount) and writes down what
it is about to do before it does it. So nothing is left behind, whichever of the two dies when.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from actors.handles.errors import FailedError, HandleError, RefusedError, UnreachableError
from actors.handles.session import Session
from actors.names import CONDUCTOR, HOST_LABEL, node_actor
from actors.processes import started_at

MOUNT_SECONDS = 120.0
_START_SECONDS = 30.0
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

    if not ray_port.connected():
        raise RefusedError(
            "a volume is mounted by the node on which a program runs, and this process belongs to no cluster: mount it "
            "in a task, an actor or a job, or use connect() without an endpoint"
        )
    owner = (os.getpid(), started_at(os.getpid()))
    actor = node_actor(ray_port.own_node_id())
    deadline, pause = time.monotonic() + MOUNT_SECONDS, 0.0
    while True:
        # A claim of its own for each try: what an earlier one came to is not known before it is released.
        claim_id = str(uuid.uuid4())
        asked = claim_id, session, volume_id, mode, filesystem, owner
        try:
            path: str = await ray_port.call(actor, "mount", *asked, timeout_seconds=MOUNT_SECONDS)
        except ray_port.ActorUnavailableError as error:
            if isinstance(error, ray_port.NotSentError):
                await _ask_for_node_actor()
            else:
                await _unmount(actor, claim_id, session)
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"volume {volume_id} was not mounted within {MOUNT_SECONDS:.0f} s: {error}; see with `pumice "
                    "status` whether the instance is ready, and try again"
                ) from error
            await asyncio.sleep(pause)
            pause = _PAUSE_SECONDS
        except asyncio.CancelledError:
            # The node actor goes on: it is told that nobody wants it any more.
            _last_words.add(leaving := asyncio.ensure_future(_unmount(actor, claim_id, session)))
            leaving.add_done_callback(_last_words.discard)
            raise
        except HandleError:
            raise
        except Exception as error:
            raise FailedError(
                f"volume {volume_id} was not mounted: {type(error).__name__}: {error}; the log of the node has more "
                "(`pumice logs` there)"
            ) from error
        else:
            return Claim(claim_id, actor, Path(path), session)


async def _ask_for_node_actor() -> None:
    """Have the conductor start this node's actor, if there is none; when it does not answer, it is to be asked again.
    Not started from here: what a job starts runs with the job's working directory, variables and packages, and the node
    actor outlives the job."""
    from actors import ray_port

    with contextlib.suppress(ray_port.ActorUnavailableError):
        await ray_port.call(CONDUCTOR, "start_node_actor", ray_port.own_node_id(), timeout_seconds=_START_SECONDS)


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
        except HandleError:
            raise
        except Exception as error:
            raise FailedError(
                f"a volume may still be mounted ({type(error).__name__}: {error}); it is unmounted at the latest when "
                "this process ends"
            ) from error
        else:
            return


async def node_hosts() -> list[str]:
    """The Pumice hosts among the living nodes."""
    from actors import ray_port

    nodes = await asyncio.to_thread(ray_port.nodes)
    hosts = sorted({node.labels[HOST_LABEL] for node in nodes if node.alive and HOST_LABEL in node.labels})
    if not hosts:
        raise HandleError("no living node has the label pumice.io/host; start nodes with `pumice up` or `pumice join`")
    return hosts
