"""Kill the conductor at every step of every flow, start again from SQL and the backend alone, and look at what is left.

The points are not listed here: each flow is first run once to record the checkpoints that it passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from actors.in_process import InProcessCluster
from cluster.attachments import actions, intents
from cluster.attachments.records import Attachment, VolumeConnection
from cluster.attachments.standing import standing
from cluster.flows.catalogue import FLOWS
from cluster.reconcile.intents import adopt
from cluster.reconcile.reconciler import Reconciler
from cluster.reconcile.records import Orphan
from cluster.settings import BackendSettings, Settings
from cluster.volumes.deletion import delete_volume
from drivers.memory import MemoryBackend
from drivers.vocabulary import GIB, FinalError, NoSpaceError, VolumeSpec
from tests.unit.attachments.memory_export import ExportStore, MemoryExport, PathBackend
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


async def _write(bench: Bench, intent: Callable[..., object], *args: object, **options: object) -> None:
    outside = bench.cluster.outside
    await bench.cluster.store.write(lambda db: intent(db, outside, CALLER, *args, **options) and None)


async def _attached(bench: Bench) -> None:
    await _volume(bench)
    await _write(bench, intents.reserve, V1, connector={"host": "n1"})
    await bench.cluster.settle()
    await _write(bench, intents.complete, await _attachment(bench))


async def _initialized(bench: Bench) -> None:
    await _volume(bench)
    await _write(bench, actions.initialize, V1, {"host": "n1"})
    await bench.cluster.settle()


async def _older(bench: Bench) -> None:
    await _initialized(bench)
    await _write(bench, actions.initialize, V1, {"host": "n2"})
    await bench.cluster.settle()
    await _write(bench, actions.attach, V1, instance_id="i", host_name=None, mountpoint="/dev/vdb")


async def _attachment(bench: Bench) -> str:
    [row] = await bench.rows(Attachment)
    return str(row.id)


async def _reserve(bench: Bench) -> None:
    await _write(bench, intents.reserve, V1, connector={"host": "n1"})


async def _disconnect(bench: Bench) -> None:
    await _write(bench, intents.disconnect, await _attachment(bench))


async def _connect(bench: Bench, host: str) -> None:
    await _write(bench, intents.connect, await _attachment(bench), {"host": host})


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
    "attach": (_volume, _reserve, {("volume", V1, 1)}, None),
    "attach-fails": (_volume, _reserve, {("volume", V1, 1)}, "ensure_connection"),
    "attach-anew": (_attached, lambda b: _connect(b, "n2"), {("volume", V1, 1)}, None),
    "attach-anew-fails": (_attached, lambda b: _connect(b, "n2"), {("volume", V1, 1)}, "ensure_connection"),
    "attach-again": (_attached, lambda b: _connect(b, "n1"), {("volume", V1, 1)}, None),
    "attach-again-fails": (_attached, lambda b: _connect(b, "n1"), {("volume", V1, 1)}, "ensure_connection"),
    "detach": (_attached, _disconnect, {("volume", V1, 1)}, None),
    "detach-fails": (_attached, _disconnect, {("volume", V1, 1)}, "ensure_connection_absent"),
    "detach-older": (_older, lambda b: _write(b, actions.detach, V1), {("volume", V1, 1)}, None),
    "delete-exported": (_initialized, lambda b: _write(b, delete_volume, V1), set(), None),
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
    backend, consumers = PathBackend(store=store), ExportStore()
    async with InProcessCluster(settings, {SERVICE: backend}, exports={SERVICE: [MemoryExport(consumers)]}) as cluster:
        await before(Bench(cluster, backend))

    def spoiled() -> tuple[MemoryBackend, MemoryExport]:
        made, export = PathBackend(store=store), MemoryExport(consumers)
        if failing is not None:

            async def refuse(*_args: object) -> None:
                raise (NoSpaceError if name.endswith("-full") else FinalError)("the storage refuses")

            setattr(export if hasattr(export, failing) else made, failing, refuse)
        return made, export

    crasher = Crasher(target)
    first, export = spoiled()
    exports = {SERVICE: [export]}
    async with InProcessCluster(settings, {SERVICE: first}, checkpoint=crasher, exports=exports) as cluster:
        await request(Bench(cluster, first))
        entries = asyncio.ensure_future(cluster.settle())
        await asyncio.wait([entries])
        entries.exception()  # the kill itself, when a point was hit
    second, export = spoiled()
    exports = {SERVICE: [export]}
    async with InProcessCluster(settings, {SERVICE: second}, checkpoint=crasher, exports=exports) as cluster:
        bench = Bench(cluster, second)
        await cluster.settle()
        assert crasher.target is None
        await _check(bench, left)
        await _check_connections(bench, consumers)
    return crasher


async def _check_connections(bench: Bench, consumers: ExportStore) -> None:
    """Whom the records let in, and nobody else, is let in, by the means its attachment says."""
    from cluster.volumes.records import Volume

    attachments, connections = await bench.rows(Attachment), await bench.rows(VolumeConnection)
    assert {row.id for row in connections} == consumers.served.keys()
    for row in connections:
        served = consumers.served[row.id]
        assert (served.connector, served.secret, served.mode) == (row.connector, row.secret, row.mode)
        assert row.info["data"]["to"] == row.connector["host"]
    told = {row.id: row.connection_info["to"] for row in attachments if row.connection_info}
    made = {row.id: row.info["data"]["to"] for row in connections}
    assert told == {key: host for key, host in made.items() if key in {row.id for row in attachments}}
    for row in await bench.rows(Volume):
        of_it = [each.attach_status for each in attachments if each.volume_id == row.id]
        assert row.status.startswith("error") or (row.status, row.attach_status) == standing(of_it)
    for row in attachments:
        assert not row.attach_status.startswith("error") or await bench.messages()


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
