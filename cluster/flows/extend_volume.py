"""`volume.extend`: reserve the growth, grow the volume, say its new size, tell the servers that use it.

Args: `size_gib` (the size to reach), `from_gib` (the size before).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select

from cluster.attachments.abandoning import NODE_KEY
from cluster.attachments.queries import ATTACHMENT
from cluster.flows import subjects
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.messages.catalogue import Action, Detail
from cluster.scheduling.request import Operation, PlacementRequest
from cluster.volumes.records import VolumeStatus

KIND = "volume.extend"
_NOT_TOLD = (
    "The volume has its new size, but its server could not be told; the server sees it when it is attached anew."
)


async def forward(run: Run) -> None:
    """The room is asked for before the bytes are touched."""
    volume = await run.read(lambda db: subjects.volume_row(db, run.entry.resource_id))
    size_gib: int = run.entry.args["size_gib"]

    def record(db: Connection, _result: Result) -> None:
        # As it is now: attachments came and went meanwhile.
        before = subjects.volume_row(db, run.entry.resource_id)["previous_status"]
        subjects.set_volume(
            db,
            run,
            size_gib=size_gib,
            target_size_gib=None,
            status=before or VolumeStatus.AVAILABLE,
            previous_status=None,
        )

    await run.step("reserve", lambda: _reserve(run, volume, size_gib))
    servers = await run.read(lambda db: _servers(db, run.entry.resource_id))
    if not servers and "grow" not in run.entry.steps:
        await run.last_step("grow", lambda: _grow(run, volume, size_gib), record)
        return
    await run.step("grow", lambda: _grow(run, volume, size_gib), record)

    def complain(db: Connection, result: Result) -> None:
        if not result["told"]:
            failure = Failure("ComputeServiceError", _NOT_TOLD, f"{servers} do not know of {size_gib} GiB")
            subjects.explain(db, run, failure, Action.EXTEND_VOLUME, Detail.NOTIFY_COMPUTE_SERVICE_FAILED)

    await run.last_step("tell", lambda: _tell(run, servers), complain)


async def undo(run: Run, failure: Failure) -> None:
    """A volume is never shrunk: it keeps its old size in the records and says `error_extending`."""

    def record(db: Connection) -> None:
        subjects.set_volume(db, run, target_size_gib=None, status=VolumeStatus.ERROR_EXTENDING, previous_status=None)
        subjects.explain(db, run, failure, Action.EXTEND_VOLUME, Detail.DRIVER_FAILED_EXTEND)

    await run.fail(failure, record)
    await run.context.ports.scheduler.resize(run.entry.resource_id, run.entry.args["from_gib"])


async def _reserve(run: Run, volume: Mapping[str, Any], size_gib: int) -> Result:
    host = await run.context.ports.scheduler.place(
        PlacementRequest(
            volume_id=volume["id"],
            size_gib=size_gib,
            operation=Operation.EXTEND,
            current_size_gib=run.entry.args["from_gib"],
            extra_specs=volume["extra_specs"] or {},
            required_host=volume["host"],
            attached=volume["previous_status"] == VolumeStatus.IN_USE,
        )
    )
    return {"host": host}


async def _grow(run: Run, volume: Mapping[str, Any], size_gib: int) -> Result:
    return asdict(await run.backend(volume["host"]).ensure_size(volume["id"], size_gib))


def _servers(db: Connection, volume_id: str) -> list[str]:
    """The servers of a cloud that use the volume; a task's claim is none."""
    node = ATTACHMENT.c.connector[NODE_KEY].as_string()
    found = db.execute(
        select(ATTACHMENT.c.instance_id)
        .where(ATTACHMENT.c.volume_id == volume_id, ATTACHMENT.c.instance_id.is_not(None), node.is_(None))
        .distinct()
        .order_by(ATTACHMENT.c.instance_id)
    )
    return list(found.scalars())


async def _tell(run: Run, servers: list[str]) -> Result:
    compute = run.context.ports.compute
    return {"told": not servers or await compute.volume_extended(run.entry.resource_id, servers, run.entry.request_id)}


FLOW = Flow(KIND, ("reserve", "grow", "tell"), ("fail",), forward, undo)
