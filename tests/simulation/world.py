"""One run: the real control plane on virtual time, simulated messages, records and storage, and what is done to it."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

import actors.ports
from actors.names import CONDUCTOR, SCHEDULER, volume_actor
from cluster.conductor import Conductor
from cluster.flows.catalogue import FLOWS
from cluster.flows.run import Context
from cluster.lease_lost import LeaseLostError
from cluster.outside import Outside
from cluster.scheduling.desk import Desk
from cluster.settings import BackendSettings, QuotaSettings, Settings, TimingSettings
from drivers.memory import MemoryStore
from drivers.vocabulary import GIB
from tests.simulation.attachment_requests import ConsumersReplica
from tests.simulation.database import Database, SimulatedStore
from tests.simulation.disasters import Disasters
from tests.simulation.export import Consumers
from tests.simulation.faults import Chance, Faults
from tests.simulation.history import DISASTERS, REPLICAS, SERVICES, Event
from tests.simulation.loop import Process, State, VirtualLoop
from tests.simulation.model import Model
from tests.simulation.network import Network
from tests.simulation.storage import HostActor, InjectedError
from tests.simulation.watch import Watch

_EPOCH = 1_767_225_600.0  # 2026-01-01
_POOLS = {"h1@a": {"p1": 12, "p2": 6}, "h2@b": {"p1": 14}}
_LIMITS = {"volumes": 10, "snapshots": 10, "gigabytes": 60}
SETTINGS = Settings(
    state_dir=Path(tempfile.gettempdir()),  # nothing is put there
    host_name="h1",
    backends={"a": BackendSettings(driver="memory"), "b": BackendSettings(driver="memory")},
    quotas=QuotaSettings(**_LIMITS),
    timing=TimingSettings(
        heartbeat=10.0, service_down=25.0, lease=12.0, backend_lease=24.0, poll=3.0, reconcile=25.0, driver_call=25.0
    ),
)


class ViolationError(AssertionError):
    """The control plane did what it must never do, or did not settle."""


class ConductorActor:
    """The conductor actor (`actors.conductor`) without Ray."""

    def __init__(self, world: World, process: Process, holder: str) -> None:
        ports = actors.ports.RayPorts(world.settings.timing.driver_call)
        context = Context(SimulatedStore(world, process), world.outside_of(process), world.settings, ports)
        self.conductor = Conductor(context, FLOWS, holder=holder)

    async def serve(self) -> None:
        """The actor's loop."""
        await self.conductor.serve()

    async def wake(self) -> None:
        """The doorbell."""
        self.conductor.wake()


class SchedulerActor:
    """The scheduler actor (`actors.scheduler`) without Ray."""

    def __init__(self, world: World, process: Process) -> None:
        self.desk = Desk(SimulatedStore(world, process), world.outside_of(process), world.settings)
        self.place, self.report = self.desk.place, self.desk.report

    async def serve(self) -> None:
        """The actor's loop."""
        await self.desk.serve()

    async def release(self, volume_id: str) -> None:
        """See Desk.release."""
        self.desk.release(volume_id)

    async def resize(self, volume_id: str, size_gib: int) -> None:
        """See Desk.resize."""
        self.desk.resize(volume_id, size_gib)


class World:
    """Everything of one run. Use inside `running`."""

    def __init__(self, seed: int) -> None:
        self.settings, self.seed = SETTINGS, seed
        self.chance = Chance(seed)
        self.faults = Faults(self.chance)
        self.loop = VirtualLoop()
        self.database = Database()
        self.network = Network(self)
        self.stores = {
            service: MemoryStore({name: gib * GIB for name, gib in _POOLS[service].items()}) for service in SERVICES
        }
        self.consumers = {service: Consumers() for service in SERVICES}
        self.model = Model(_LIMITS)
        self.watch = Watch(self)
        self.disasters = Disasters(self)
        self.over = False
        self.violations: list[str] = []
        self.lines: list[str] | None = None
        self.skews: Counter[str] = Counter()
        self._hash = hashlib.blake2b(digest_size=16)
        self._births: Counter[str] = Counter()
        self.processes: list[Process] = []
        self.current: dict[str, Process] = {}

    @classmethod
    @contextmanager
    def running(cls, seed: int) -> Iterator[World]:
        """A cluster that has just been started; its processes are gone afterwards."""
        world = cls(seed)
        structlog.configure(processors=[world._log])
        try:
            with mock.patch.object(actors.ports, "ray_port", world.network):
                for role in ("scheduler", "conductor", *SERVICES, *REPLICAS):
                    world.start(role)
                world.run_for(3.0)
                try:
                    yield world
                finally:
                    world._end()
        finally:
            structlog.reset_defaults()
            world.loop.close()

    @property
    def trace_hash(self) -> str:
        """What happened, in 32 characters."""
        return self._hash.hexdigest()

    def trace(self, *facts: object) -> None:
        """Something happened."""
        line = f"{self.loop.time():.6f} {facts!r}"
        self._hash.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def violate(self, reason: str) -> None:
        """Something happened that must not."""
        self.violations.append(f"at {self.loop.time():.2f} s: {reason}")
        self.trace("VIOLATION", reason)

    def outside_of(self, process: Process) -> Outside:
        """Clock, ids and randomness of a process."""
        return Outside(
            seconds=lambda: _EPOCH + self.loop.time() + self.skews[process.role],
            monotonic=self.loop.time,
            new_id=self.chance.new_id,
            random=self.chance.stream(process.name),
            new_secret=lambda: self.chance.new_id().replace("-", "") * 2,
        )

    def start(self, role: str, holder: str | None = None) -> Process:
        """A new process of the role; calls to its name reach it from now on."""
        self._births[role] += 1
        process = Process(role, self._births[role])
        self.processes.append(process)
        self.current[role] = process
        self.trace("start", process.name)
        process.tasks.append(
            self.loop.create_task(self._live(process, holder or process.name), context=process.new_context())
        )
        return process

    async def _live(self, process: Process, holder: str) -> None:
        role, names = process.role, self.network.names
        if process.kind == "conductor":
            process.actor, names[CONDUCTOR] = ConductorActor(self, process, holder), process
        elif process.kind == "scheduler":
            process.actor, names[SCHEDULER] = SchedulerActor(self, process), process
        elif process.kind == "api":
            process.actor = ConsumersReplica(self, process)  # nobody calls it but users
        else:
            process.actor, names[volume_actor(role)] = HostActor(self, role, process), process
        try:
            await process.actor.serve()
        except LeaseLostError:
            self.disasters.end(process)
        except Exception as error:  # production ends the process then; here it is a finding
            if not self.over:
                self.violate(f"the loop of {process.name} ended with {error!r}")

    def ring(self) -> None:
        """The API's doorbell."""
        self.network.ring(CONDUCTOR, "wake")

    def apply(self, event: Event) -> None:
        """Let the event begin."""
        self.trace("event", event)
        if event.kind in DISASTERS:
            getattr(self.disasters, event.kind)(event)
            return
        # At times both replicas get it at once: a user who has had no answer asks again.
        twice = event.kind not in ("create", "attach", "write") and event.b % 5 == 0
        for role in REPLICAS if twice else [REPLICAS[event.a % 2]]:
            self._ask(self.current[role], event)

    def _ask(self, process: Process, event: Event) -> None:
        if process.state is State.DEAD or process.actor is None:
            self.trace("refused", process.name)  # nobody listens; a user who asks elsewhere is another event
            return
        request = getattr(process.actor, event.kind)(event.a, event.b, event.c)
        process.tasks.append(self.loop.create_task(request, context=process.new_context()))

    def run_for(self, seconds: float) -> None:
        """Let so much time pass. Raises ViolationError for the first thing that must not be."""

        async def wait() -> None:
            await asyncio.sleep(seconds)

        self.loop.run_until_complete(wait())
        self.violations += [f"nobody took {complaint}" for complaint in self.loop.complaints]
        self.loop.complaints.clear()
        if self.violations:
            raise ViolationError("; ".join(self.violations[:3]))

    def _end(self) -> None:
        self.over = True

        async def bury() -> None:
            for process in self.processes:
                process.bury()
            mine = asyncio.current_task()
            while left := [task for task in asyncio.all_tasks() if task is not mine]:
                for task in left:
                    task.cancel()
                await asyncio.sleep(1.0)

        self.loop.run_until_complete(bury())

    def _log(self, _logger: Any, _method: str, event: Any) -> Any:
        """Log lines are part of the trace; those that tell of a defect are violations."""
        name = event["event"]
        if not self.over:
            self.trace("log", name, event.get("kind"))
            if name.endswith((".defect", "loop_ended")):
                error = sys.exc_info()[1]
                if not isinstance(error, InjectedError):
                    self.violate(f"{name} {event.get('kind', '')}: {error!r}")
        raise structlog.DropEvent
