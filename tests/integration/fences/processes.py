"""The processes of a trial: real ones, with the parts of production, which talk over Unix sockets instead of Ray.

A process serves the actors it is given under their names, each at a socket of that name in the directory of the trial.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sqlite3
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import Engine, event

import actors.ports
from actors.names import SCHEDULER, volume_actor
from actors.ray_port import ActorUnavailableError, NotSentError, OutcomeUnknownError
from actors.volume_host import VolumeHost
from cluster.conductor import Conductor
from cluster.flows.catalogue import FLOWS
from cluster.flows.run import Context
from cluster.lease_lost import LeaseLostError
from cluster.outside import Outside
from cluster.scheduling.desk import Desk
from cluster.services.report import LeaseAnswer, ServiceReport
from cluster.settings import BackendSettings, QuotaSettings, Settings, TimingSettings
from cluster.store.open import open_store
from drivers.reflink.backend import ReflinkBackend
from drivers.reflink.lanes import Lane
from drivers.vocabulary import InventoryItem
from tests.integration.fences.evidence import Effects

T = TypeVar("T")
SERVICE = "h@b"
LEASE_LOST = 70  # the code with which a process ends whose lease another has
_CALL: ContextVar[tuple[int, int]] = ContextVar("_CALL", default=(0, 0))
Mutant = Callable[[], None]


def settings_of(directory: Path, **timing: float) -> Settings:
    """Those of a trial."""
    return Settings(
        state_dir=directory,
        host_name="h",
        backends={"b": BackendSettings(driver="reflink")},
        quotas=QuotaSettings(volumes=-1, gigabytes=-1),
        timing=TimingSettings(**timing, reconcile=3600.0, driver_call=20.0),
    )


class Wire:
    """Stands in for `actors.ray_port`: one connection a call."""

    ActorUnavailableError = ActorUnavailableError

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def call(self, actor_name: str, method: str, *args: Any, timeout_seconds: float) -> Any:
        """See `actors.ray_port.call`."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._directory / actor_name)
        except OSError as error:
            raise NotSentError(f"there is no actor {actor_name}") from error
        try:
            writer.write(_frame((method, args)))
            ok, value = await asyncio.wait_for(_frame_from(reader), timeout_seconds)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            raise OutcomeUnknownError(f"{actor_name}.{method}: {error!r}") from error
        finally:
            writer.close()
        if not ok:
            raise value
        return value


def _frame(message: object) -> bytes:
    body = pickle.dumps(message)
    return len(body).to_bytes(4) + body


async def _frame_from(reader: asyncio.StreamReader) -> Any:
    return pickle.loads(await reader.readexactly(int.from_bytes(await reader.readexactly(4))))


async def _serve(directory: Path, name: str, actor: object) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            method, args = await _frame_from(reader)
            try:
                reply = (True, await getattr(actor, method)(*args))
            except Exception as error:  # it goes to the caller
                reply = (False, error)
            writer.write(_frame(reply))
            await writer.drain()
        writer.close()

    path = directory / name
    path.unlink(missing_ok=True)
    return await asyncio.start_unix_server(answer, path)


class RecordingBackend(ReflinkBackend):
    """The reflink driver; each piece of work on an object is noted by the thread that is about to do it."""

    def __init__(self, pool: Path, process: str, effects: Effects) -> None:
        super().__init__(pool, "p")
        self._process, self._effects = process, effects

    async def _run(self, pool: str, ids: tuple[str, ...], work: Callable[[], T], lane: Lane = Lane.WORK) -> T:
        arrival, epoch = _CALL.get()

        def noted() -> T:
            if ids:
                self._effects.note(self._process, arrival, epoch)
            return work()

        return await super()._run(pool, ids, noted, lane)


class HostActor:
    """The volume actor (`actors.volume`) without Ray."""

    def __init__(self, directory: Path, pool: Path, process: str, settings: Settings) -> None:
        self._wire, self._arrivals = Wire(directory), count(1)
        self.host = VolumeHost(
            SERVICE,
            RecordingBackend(pool, process, Effects(directory)),
            availability_zone="nova",
            node_labels={},
            heartbeat=settings.timing.heartbeat,
            process=process,
            report=self._report,
        )

    async def call(self, method: str, pool: str, args: tuple[Any, ...], context: dict[str, Any]) -> Any:
        """See VolumeHost.call."""
        _CALL.set((next(self._arrivals), context["epoch"]))
        return await self.host.call(method, pool, args, **context)

    async def inventory(self, epoch: int) -> list[InventoryItem]:
        """See VolumeHost.inventory."""
        return await self.host.inventory(epoch=epoch)

    async def _report(self, report: ServiceReport) -> LeaseAnswer:
        answer: LeaseAnswer = await self._wire.call(SCHEDULER, "report", report, timeout_seconds=5.0)
        return answer


class SchedulerActor:
    """The scheduler actor (`actors.scheduler`) without Ray."""

    def __init__(self, settings: Settings) -> None:
        self.desk = Desk(open_store(settings.database), Outside(), settings)
        self.place, self.report = self.desk.place, self.desk.report

    async def release(self, volume_id: str) -> None:
        """See Desk.release."""
        self.desk.release(volume_id)

    async def resize(self, volume_id: str, size_gib: int) -> None:
        """See Desk.resize."""
        self.desk.resize(volume_id, size_gib)


def scheduler(directory: Path, settings: Settings) -> None:
    """A process: the scheduler."""

    async def live() -> None:
        actor = SchedulerActor(settings)
        server = await _serve(directory, SCHEDULER, actor)
        async with server:
            await actor.desk.serve()

    _live("scheduler", live())


def volume_host(directory: Path, settings: Settings, name: str, process: str, pool: Path, mutant: Mutant) -> None:
    """A process: a volume host on the directory `pool`, which answers at the socket `name`."""

    async def live() -> None:
        actor = HostActor(directory, pool, process, settings)
        server = await _serve(directory, name, actor)
        async with server:
            await actor.host.serve()

    mutant()
    _live(process, live())


def conductor(directory: Path, settings: Settings, process: str, mutant: Mutant) -> None:
    """A process: a conductor whose lease's holder is `process`."""
    mutant()
    actors.ports.ray_port = Wire(directory)  # type: ignore[assignment]

    async def live() -> None:
        ports = actors.ports.RayPorts(settings.timing.driver_call)
        context = Context(open_store(settings.database), Outside(), settings, ports)
        await Conductor(context, FLOWS, holder=process).serve()

    _live(process, live())


def _live(process: str, loop: Coroutine[Any, Any, None]) -> None:
    # As actors.liveness has it: a process whose lease is lost ends.
    structlog.configure(processors=[_drop])
    event.listen(Engine, "connect", partial(sign, process))
    try:
        asyncio.run(loop)
    except LeaseLostError:
        os._exit(LEASE_LOST)


def sign(process: str, connection: Any, _record: object) -> None:
    """What is written over this connection is noted as the work of `process` (see `evidence.watch_writes`)."""
    raw: sqlite3.Connection = getattr(connection, "driver_connection", connection)
    raw.create_function("writer", 0, lambda: process)


def _drop(_logger: Any, _method: str, _event: Any) -> Any:
    raise structlog.DropEvent


def name_of_host() -> str:
    """The socket at which conductors look for the volume host."""
    return volume_actor(SERVICE)
