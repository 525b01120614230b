"""`volume.create`: choose a pool, make the volume there, say that it is available.

Args: `source` (null, `{"snapshot_id", "volume_id"}` or `{"volume_id"}`), `hints`, and `is_admin` (hints may then name
any project's volumes).
A pool that turns out to be full is left (what was made there is taken back) for another, `scheduler.max_attempts`
times at most. An uncertain outcome never moves: the same call is repeated on the same host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from sqlalchemy import Connection

from cluster.flows import subjects
from cluster.flows.run import Failure, Flow, Result, Run
from cluster.messages.catalogue import Action, Detail
from cluster.scheduling.host_name import service_of
from cluster.scheduling.request import PlacementRequest
from cluster.services.queries import availability_zone
from cluster.volumes.records import VolumeStatus
from drivers.vocabulary import NoSpaceError, Observed, SourceMissingError, VolumeSpec

KIND = "volume.create"


async def forward(run: Run) -> None:
    """Place, provision; on a full pool retract and place elsewhere."""
    volume = await run.read(lambda db: subjects.volume_row(db, run.entry.resource_id))
    source = await run.read(lambda db: _source(db, run.entry.args.get("source")))
    tried: list[str] = []
    while True:
        attempt = len(tried) + 1
        placed = await run.step(
            f"place.{attempt}",
            lambda: _place(run, volume, source, tried),
            lambda db, result: subjects.set_volume(db, run, host=result["host"]),
        )
        host = placed["host"]
        if not {f"full.{attempt}", f"retract.{attempt}"} & run.entry.steps.keys():
            try:
                await run.last_step(
                    "provision", partial(_provision, run, host, volume, source), _available(run, volume, host)
                )
                return
            except NoSpaceError:
                if source is not None or attempt >= run.context.settings.scheduler.max_attempts:
                    raise
        # The decision to leave is a row before anything is removed. Without it, a retract that got no answer would be
        # followed by another try here; the volume could come to be, and the retract arrive late and remove it.
        await run.step(f"full.{attempt}", _nothing)
        await run.step(f"retract.{attempt}", partial(_retract, run, host))
        tried.append(host)


async def undo(run: Run, failure: Failure) -> None:
    """Take back what may have been made, and put the volume into `error` with the reason in a message."""
    attempt = 1
    while placed := run.entry.steps.get(f"place.{attempt}"):
        if f"retract.{attempt}" not in run.entry.steps:
            host = placed["host"]
            await run.step(f"retract.{attempt}", partial(_retract, run, host))
        attempt += 1

    def record(db: Connection) -> None:
        # Nothing of it is anywhere now: without a host, deleting it is a matter of the row alone.
        subjects.set_volume(db, run, status=VolumeStatus.ERROR, host=None)
        subjects.explain(db, run, failure, Action.CREATE_VOLUME_FROM_BACKEND, Detail.DRIVER_FAILED_CREATE)

    await run.fail(failure, record)
    await run.context.ports.scheduler.release(run.entry.resource_id)


def _source(db: Connection, source: Mapping[str, str] | None) -> Mapping[str, Any] | None:
    if source is None:
        return None
    try:
        if "snapshot_id" in source:
            return subjects.snapshot_row(db, source["snapshot_id"])
        return subjects.volume_row(db, source["volume_id"])
    except subjects.GoneError as error:
        raise SourceMissingError(f"the source to copy from is gone: {error}") from error


async def _place(run: Run, volume: Mapping[str, Any], source: Mapping[str, Any] | None, tried: list[str]) -> Result:
    hints: Mapping[str, Any] = run.entry.args.get("hints") or {}
    named = [one for hint in ("same_host", "different_host") for one in _listed(hints.get(hint))]
    project_id = None if run.entry.args.get("is_admin") else run.entry.project_id
    hosts = await run.read(lambda db: subjects.hosts_of(db, named, project_id)) if named else {}
    host = await run.context.ports.scheduler.place(
        PlacementRequest(
            volume_id=volume["id"],
            size_gib=volume["size_gib"],
            availability_zone=volume["availability_zone"],
            extra_specs=volume["extra_specs"] or {},
            volume_properties={"size": volume["size_gib"], "name": volume["name"], "type": volume["type_name"]},
            hints=hints,
            hosts_of=hosts,
            required_host=source["host"] if source is not None else None,
            exclude_hosts=frozenset(tried),
        )
    )
    return {"host": host}


def _listed(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


async def _provision(run: Run, host: str, volume: Mapping[str, Any], source: Mapping[str, Any] | None) -> Result:
    spec = subjects.volume_spec(volume)
    backend = run.backend(host)
    if source is None:
        observed: Observed = await backend.ensure_volume(spec)
    elif "volume_id" in source:
        observed = await backend.ensure_volume_from_snapshot(spec, subjects.snapshot_spec(source))
    else:
        observed = await backend.ensure_volume_from_volume(spec, VolumeSpec(source["id"], source["size_gib"]))
    return asdict(observed)


async def _nothing() -> Result:
    return {}


async def _retract(run: Run, host: str) -> Result:
    await run.backend(host).ensure_volume_absent(run.entry.resource_id)
    await run.context.ports.scheduler.release(run.entry.resource_id)
    return {}


def _available(run: Run, volume: Mapping[str, Any], host: str) -> Any:
    def record(db: Connection, _result: Result) -> None:
        # A type may have left the zone to the scheduler; only now is it sure to stay there.
        zone = volume["availability_zone"] or availability_zone(db, service_of(host))
        subjects.set_volume(db, run, status=VolumeStatus.AVAILABLE, availability_zone=zone)

    return record


FLOW = Flow(KIND, ("place", "provision", "full", "retract"), ("retract", "fail"), forward, undo)
