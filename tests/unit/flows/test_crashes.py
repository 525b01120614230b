"""Kill the conductor at every step of every flow, start again from SQL and the backend alone, and look at what is left.

The points are not listed here: each flow is first run once to record the checkpoints that it passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from actors.in_process import InProcessCluster
from cluster.flows.catalogue import FLOWS
from cluster.reconcile.intents import adopt
from cluster.reconcile.reconciler import Reconciler
from cluster.reconcile.records import Orphan
from cluster.settings import BackendSettings, Settings
from drivers.memory import MemoryBackend
from drivers.vocabulary import GIB, FinalError, NoSpaceError, VolumeSpec
from tests.unit.flows.conftest import CALLER, SERVICE, Bench

Point = tuple[str, str, str]
V1, V2, S1 = (f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2, 3))


class Killed(BaseException):
    """The process is gone at this instruction."""


class Crasher:
    """Kills once, at `target`; passes and records every other point."""

    def __init__(self, target: Point | None) -> None:
        self.target, self.passed = target, list[Point]()

    async def __call__(self, kind: str, step: str, phase: str) -> None:
        point = (kind, step, phase)
        self.passed.append(point)
        if point == self.target:
            self.target = None
            raise Killed


async def _volume(bench: Bench) -> None:
    await bench.create(V1)
    await bench.cluster.settle()


async def _snapshot(bench: Bench) -> None:
    await _volume(bench)
    await bench.snapshot(S1, V1)
    await bench.cluster.settle()


async def _nothing(bench: Bench) -> None:
    del bench


async def _orphan(bench: Bench) -> None:
    await bench.backend.ensure_volume("memory", VolumeSpec(V1, 1))
    context = bench.cluster.conductor._context
    assert bench.cluster.conductor.epoch is not None
    await Reconciler(context).service(SERVICE, bench.cluster.conductor.epoch)


async def _adopt(bench: Bench) -> None:
    await bench.cluster.store.write(
        lambda db: adopt(db, bench.cluster.outside, CALLER, V1, name="found", volume_type_id=None)
    )


Script = Callable[[Bench], Awaitable[None]]
# name → (what is there before, the request under test, what the backend holds in the end, the driver call that fails)
SCRIPTS: dict[str, tuple[Script, Script, set[tuple[str, str, int]], str | None]] = {
    "create": (_nothing, lambda b: b.create(V1), {("volume", V1, 1)}, None),
    "create-fails": (_nothing, lambda b: b.create(V1), set(), "ensure_volume"),
    "create-full": (_nothing, lambda b: b.create(V1), set(), "ensure_volume"),
    "clone": (
        _volume,
        lambda b: b.create(V2, source={"volume_id": V1}),
        {("volume", V1, 1), ("volume", V2, 1)},
        None,
    ),
    "restore": (
        _snapshot,
        lambda b: b.create(V2, source={"snapshot_id": S1, "volume_id": V1}),
        {("volume", V1, 1), ("snapshot", S1, 1), ("volume", V2, 1)},
        None,
    ),
    "extend": (_volume, lambda b: b.operate("volume.extend", V1, size_gib=4, from_gib=1), {("volume", V1, 4)}, None),
    "extend-fails": (
        _volume,
        lambda b: b.operate("volume.extend", V1, size_gib=4, from_gib=1),
        {("volume", V1, 1)},
        "ensure_size",
    ),
    "delete": (_volume, lambda b: b.operate("volume.delete", V1, snapshots=[]), set(), None),
    "delete-fails": (
        _volume,
        lambda b: b.operate("volume.delete", V1, snapshots=[]),
        {("volume", V1, 1)},
        "ensure_volume_absent",
    ),
    "cascade": (_snapshot, lambda b: b.operate("volume.delete", V1, snapshots=[S1]), set(), None),
    "snapshot": (_volume, lambda b: b.snapshot(S1, V1), {("volume", V1, 1), ("snapshot", S1, 1)}, None),
    "snapshot-fails": (_volume, lambda b: b.snapshot(S1, V1), {("volume", V1, 1)}, "ensure_snapshot"),
    "orphan-adopt": (_orphan, _adopt, {("volume", V1, 1)}, None),
    "orphan-adopt-fails": (_orphan, _adopt, {("volume", V1, 1)}, "ensure_size"),
    "orphan-delete": (_orphan, lambda b: b.operate("orphan.delete", V1), set(), None),
    "orphan-delete-fails": (
        _orphan,
        lambda b: b.operate("orphan.delete", V1),
        {("volume", V1, 1)},
        "ensure_volume_absent",
    ),
    "snapshot-delete": (_snapshot, lambda b: b.operate("snapshot.delete", S1), {("volume", V1, 1)}, None),
    "snapshot-delete-fails": (
        _snapshot,
        lambda b: b.operate("snapshot.delete", S1),
        {("volume", V1, 1), ("snapshot", S1, 1)},
        "ensure_snapshot_absent",
    ),
}


async def _play(directory: Path, name: str, target: Point | None) -> Crasher:
    """Run the script, kill at `target` if there is one, start again, and check the invariants."""
    before, request, left, failing = SCRIPTS[name]
    settings = Settings(state_dir=directory, host_name="h1", backends={"memory": BackendSettings(driver="memory")})
    store = MemoryBackend({"memory": 100 * GIB}).store
    backend = MemoryBackend(store=store)
    async with InProcessCluster(settings, {SERVICE: backend}) as cluster:
        await before(Bench(cluster, backend))

    def spoiled() -> MemoryBackend:
        made = MemoryBackend(store=store)
        if failing is not None:

            async def refuse(*_args: object) -> None:
                raise (NoSpaceError if name.endswith("-full") else FinalError)("the storage refuses")

            setattr(made, failing, refuse)
        return made

    crasher = Crasher(target)
    first = spoiled()
    async with InProcessCluster(settings, {SERVICE: first}, checkpoint=crasher) as cluster:
        await request(Bench(cluster, first))
        entries = asyncio.ensure_future(cluster.settle())
        await asyncio.wait([entries])
        entries.exception()  # the kill itself, when a point was hit
    second = spoiled()
    async with InProcessCluster(settings, {SERVICE: second}, checkpoint=crasher) as cluster:
        bench = Bench(cluster, second)
        await cluster.settle()
        assert crasher.target is None
        await _check(bench, left)
    return crasher


async def _check(bench: Bench, left: set[tuple[str, str, int]]) -> None:
    from cluster.snapshots.records import Snapshot
    from cluster.volumes.records import Volume

    assert await bench.objects() == left
    volumes, snapshots = await bench.rows(Volume), await bench.rows(Snapshot)
    transitional = {"creating", "deleting", "extending", "restoring", "updating"}
    assert not [row for row in (*volumes, *snapshots) if row.status in transitional]
    assert "live" not in (await bench.states()).values()
    placed = {("volume", row.id, row.size_gib) for row in volumes if row.host}
    taken = {("snapshot", row.id, row.size_gib) for row in snapshots if row.status != "error"}
    listed = {(row.kind, row.id, row.size_bytes // GIB) for row in await bench.rows(Orphan)}
    assert placed | taken | listed == left
    assert not listed & (placed | taken)
    for row in (*volumes, *snapshots):
        assert not row.status.startswith("error") or await bench.messages()
    await bench.cluster.desk._rebuild()
    [pool] = bench.cluster.desk._scheduler.pools_view()
    assert pool.allocated_gib == sum(row.size_gib for row in volumes if row.host)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_killed_at_every_point_nothing_is_lost_leaked_or_stuck(name: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    points = list(dict.fromkeys((await _play(whole, name, None)).passed))
    assert points
    for number, point in enumerate(points):
        directory = tmp_path / str(number)
        directory.mkdir()
        await _play(directory, name, point)
    print(f"{name}: killed at {len(points)} points")


async def test_every_declared_step_of_every_flow_is_among_the_points(tmp_path: Path) -> None:
    seen: dict[str, set[str]] = {}
    for name in SCRIPTS:
        (tmp_path / name).mkdir()
        for kind, step, _phase in (await _play(tmp_path / name, name, None)).passed:
            seen.setdefault(kind, set()).add(step.partition(".")[0])
    for kind, flow in FLOWS.items():
        assert seen[kind] == {*flow.steps, *flow.undo_steps}
