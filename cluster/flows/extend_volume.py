"""`volume.extend`: reserve the growth, grow the volume, say its new size.

Args: `size_gib` (the size to reach), `from_gib` (the size before).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from cluster.flows import subjects
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.messages.catalogue import Action, Detail
from cluster.scheduling.request import Operation, PlacementRequest
from cluster.volumes.records import VolumeStatus

KIND = "volume.extend"


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
    await run.last_step("grow", lambda: _grow(run, volume, size_gib), record)


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


FLOW = Flow(KIND, ("reserve", "grow"), ("fail",), forward, undo)
