"""Playing a script: run it to a point, kill the process there, start again from SQL and the storage alone.

A point is `(kind, step, phase, n)`: the n-th time that a run passes a flow's checkpoint. Transactions that are no
step's row are points too: `("request", "write", …)` is the API's own, `("conductor", "write", …)` a verdict, a retry or
a close; `undone` kills before the commit (what was written is rolled back), `committed` after it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, update

from actors.in_process import InProcessCluster
from cluster.attachments.records import Attachment
from cluster.journal.records import Operation, OperationState
from cluster.outside import stamp
from cluster.reconcile.reconciler import Reconciler
from cluster.settings import BackendSettings, Settings
from cluster.volume_types.records import VolumeType
from drivers.vocabulary import GIB, VolumeSpec
from tests.unit.attachments.memory_export import MemoryExport
from tests.unit.flows.conftest import SERVICE, Bench
from tests.unit.flows.crash_scripts import BEFORE, V1, Script
from tests.unit.flows.crash_storage import POOL, Flaws, InFiles, InMemory, Key, Storage

Point = tuple[str, str, str, int]
TYPE = "00000000-0000-4000-8000-00000000000a"
FIRST, SECOND, THIRD = (f"{word:<15}\n".encode() for word in ("first", "second", "third"))
NOTHING = bytes(len(FIRST))


class Killed(BaseException):
    """The process is gone at this instruction."""


class Killer:
    """Kills at each of `targets`, one after the other; remembers every point that was passed."""

    def __init__(self, targets: Sequence[Point] = ()) -> None:
        self.left, self.passed = list(targets), list[Point]()
        self.dead = False
        self.who = ""  # whose transactions those are that come next; nobody's are no points
        self._count: Counter[tuple[str, str, str]] = Counter()
        self._within_step = False

    async def checkpoint(self, kind: str, step: str, phase: str) -> None:
        """What flows call."""
        # The transaction that comes after these is the step's: killing there is killing here, or at its `row`.
        self._within_step = phase == "effect" or (step, phase) == ("fail", "before")
        self._pass(kind, step, phase)

    def _pass(self, *where: str) -> None:
        self._stay_dead()
        kind, step, phase = where
        self._count[kind, step, phase] += 1
        point = (kind, step, phase, self._count[kind, step, phase])
        self.passed.append(point)
        if self.left and self.left[0] == point:
            self.left.pop(0)
            self.dead = True
            raise Killed

    def _stay_dead(self) -> None:
        """What else runs in the process is gone with it."""
        if self.dead:
            raise Killed

    def watch(self, cluster: InProcessCluster) -> None:
        """From now on the cluster's transactions are points: it is a new process."""
        self._within_step = self.dead = False
        real = cluster.store.write

        async def write(work: Callable[[Connection], Any]) -> Any:
            self._stay_dead()
            if self._within_step or not self.who:
                return await real(work)

            def undone(db: Connection) -> Any:
                answer = work(db)
                self._pass(self.who, "write", "undone")
                return answer

            answer = await real(undone)
            self._pass(self.who, "write", "committed")
            return answer

        setattr(cluster.store, "write", write)  # noqa: B010


@dataclass
class Nova:
    """The cloud's compute service: which servers (sorted) it was told of, by volume. `answers` is what it says."""

    answers: bool = True
    told: dict[str, list[str]] = field(default_factory=dict)

    async def volume_extended(self, volume_id: str, server_ids: Sequence[str], request_id: str) -> bool:
        assert request_id
        self.told[volume_id] = sorted(server_ids)
        return self.answers


@dataclass
class World:
    """What outlives a process: the directory with the database, and the storage. `marks` is what each object must hold
    in its first bytes."""

    directory: Path
    storage: Storage
    flaws: Flaws = field(default_factory=lambda: Flaws(()))
    marks: dict[Key, bytes] = field(default_factory=dict)
    began_with: frozenset[Key] = frozenset()
    operations: int = 0  # that it has seen
    nova: Nova = field(default_factory=Nova)
    attached_at: Mapping[str, str | None] = field(default_factory=dict)  # of the attachments that were there before

    @property
    def settings(self) -> Settings:
        """Of the instance."""
        return Settings(state_dir=self.directory, host_name="h1", backends={POOL: BackendSettings(driver="memory")})

    def cluster(self, killer: Killer) -> tuple[InProcessCluster, Any]:
        """A new process on it, and its backend."""
        backend = self.flaws.put_into(self.storage.backend())
        exports = {SERVICE: [self.flaws.put_into_export(MemoryExport(self.storage.consumers))]}
        return InProcessCluster(
            self.settings, {SERVICE: backend}, checkpoint=killer.checkpoint, exports=exports, compute=self.nova
        ), backend

    def copied(self, directory: Path, script: Script) -> World:
        """The same for a play of its own."""
        directory.mkdir()
        shutil.copy(self.directory / "pumice.db", directory)
        storage = self.storage.copied(directory)
        began_with = frozenset(storage.objects())
        nova = Nova(script.nova_answers)
        seen = (dict(self.marks), began_with, self.operations, nova, self.attached_at)
        return World(directory, storage, Flaws(script.faults), *seen)

    def write(self, key: Key, mark: bytes) -> None:
        """The user of a volume writes at its beginning and before the end of its first GiB."""
        for offset in (0, GIB - len(mark)):
            self.storage.write(key[1], offset, mark)
        self.marks[key] = mark


async def prepared(name: str, directory: Path, *, files: bool) -> World:
    """A world with what the requests `BEFORE` of the name make (a `snapshot` is of an earlier content of its volume),
    with `nothing`, an `orphan`, or a `stray`: an object whose row says that it is nowhere."""
    directory.mkdir()
    (directory / "first-pool").mkdir()
    world = World(directory, InFiles(directory / "first-pool") if files else InMemory())
    cluster, backend = world.cluster(Killer())
    async with cluster:
        bench = Bench(cluster, backend)
        kind = {"id": TYPE, "name": "__DEFAULT__", "is_public": True, "extra_specs": {}, "created_at": stamp(0)}
        await cluster.store.write(lambda db: db.execute(insert(VolumeType).values(**kind)) and None)
        for number, request in enumerate(BEFORE.get(name, ())):
            await cluster.store.write(lambda db, work=request: work(db, cluster) and None)
            await cluster.settle()
            for key in world.storage.objects().keys() - world.marks.keys():
                world.marks[key] = FIRST
            world.write(next(key for key in world.marks if key[1] == V1), (FIRST, SECOND)[min(number, 1)])
        if name in ("orphan", "stray"):
            if name == "stray":
                await bench.create_row(V1, host=None, status="error")
            await backend.ensure_volume(POOL, VolumeSpec(V1, 1))
            [key] = world.storage.objects()
            world.write(key, FIRST)
            epoch = cluster.conductor.epoch
            assert epoch is not None
            await Reconciler(cluster.conductor._context).service(SERVICE, epoch)
        world.operations = len(await bench.rows(Operation))
        world.attached_at = {row.id: row.attached_at for row in await bench.rows(Attachment)}
    return world


Check = Callable[[World, Script, InProcessCluster, Any], Awaitable[None]]


async def play(world: World, script: Script, targets: Sequence[Point], check: Check | None = None) -> Killer:
    """Ask for what the script asks, be killed at each of the targets in turn, and go on until nothing is left to do.
    `check` is given the cluster that has come to rest, and its backend."""
    killer = Killer(targets)
    asked = False
    for life in range(len(targets) + 1):
        cluster, backend = world.cluster(killer)
        async with cluster:
            if asked:
                await _make_due(cluster)
            killer.watch(cluster)
            # One operation at a time, so that every run passes the same points in the same order.
            cluster.conductor._places = asyncio.Semaphore(1)
            killer.who = "conductor" if asked else "request"
            try:
                if not asked:
                    asked = True
                    await cluster.store.write(lambda db, on=cluster: script.request(db, on) and None)
                killer.who = "conductor"
                await _drive(cluster)
            except Killed:
                pass
            else:
                assert not killer.left, f"{killer.left} was never passed"
                killer.who = ""
                if check is not None:
                    await check(world, script, cluster, backend)
        if life == 0:
            _go_on_writing(world, script)
    return killer


async def _drive(cluster: InProcessCluster) -> None:
    """Until no operation is live. Raises Killed."""
    for _attempt in range(20):
        await cluster.conductor.claim()
        tasks = list(cluster.conductor._running.values())
        await asyncio.wait(tasks or [asyncio.ensure_future(asyncio.sleep(0))])
        for task in tasks:
            task.result()
        if not await _make_due(cluster):
            return
    raise AssertionError("operations are still live")


async def _make_due(cluster: InProcessCluster) -> int:
    """Let the waiting time of every operation be over; return how many are live. Not a transaction of the product."""

    def work(db: Connection) -> int:
        live = Operation.state == OperationState.LIVE
        return db.execute(update(Operation).where(live).values(not_before=0.0)).rowcount  # type: ignore[arg-type]

    return await type(cluster.store).write(cluster.store, work)


def _go_on_writing(world: World, script: Script) -> None:
    """While the service is down, whoever has the volume goes on writing. What was copied by then keeps the content of
    its source at that time; what was not copied yet will have the new one."""
    there, old = world.storage.objects(), dict(world.marks)
    for key in script.copies.keys() & there.keys():
        world.marks[key] = old[script.copies[key]]
    for key in [key for key in old if key[1] == V1 and key in there]:
        world.write(key, THIRD)
