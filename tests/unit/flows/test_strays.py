"""Objects of an id that has a row, in another place than the row names: listed, removed there and only there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from actors.in_process import InProcessCluster
from cluster.errors import ConflictError, InvalidStateError
from cluster.journal.records import Operation
from cluster.reconcile import intents
from cluster.reconcile.reconciler import Reconciler
from cluster.reconcile.records import Orphan
from cluster.services.records import Service
from cluster.settings import BackendSettings, Settings
from cluster.volumes.records import Volume
from drivers.memory import MemoryBackend
from drivers.vocabulary import GIB, ObjectKind, SnapshotSpec, UncertainError, VolumeSpec
from tests.unit.flows.conftest import CALLER, Bench, Uuid

HERE, THERE = "h1@memory", "h2@memory"


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Bench, MemoryBackend]]:
    """Two hosts; the volumes of the bench are on the first, which has two pools."""
    settings = Settings(state_dir=tmp_path, host_name="h1", backends={"memory": BackendSettings(driver="memory")})
    first = MemoryBackend({"memory": 100 * GIB, "second": 100 * GIB})
    second = MemoryBackend({"memory": 100 * GIB})
    async with InProcessCluster(settings, {HERE: first, THERE: second}) as cluster:
        yield Bench(cluster, first), second


async def compare(bench: Bench, *services: str) -> list[tuple[str, str]]:
    """Look at the services; give the list of orphans, as id and host."""
    epoch = bench.cluster.conductor.epoch
    assert epoch is not None
    for service in services:
        await Reconciler(bench.cluster.conductor._context).service(service, epoch)
    return sorted((row.id, row.host) for row in await bench.rows(Orphan))


async def remove(bench: Bench, orphan_id: str) -> Any:
    """Delete the orphan as a person does; give the operation as it is afterwards."""
    cluster = bench.cluster
    operation_id = await cluster.store.write(
        lambda db: intents.delete(db, cluster.settings, cluster.outside, CALLER, orphan_id)
    )
    await cluster.settle()
    return await cluster.store.read(
        lambda db: db.execute(select(Operation.__table__).where(Operation.id == operation_id)).one()  # type: ignore[attr-defined,arg-type]
    )


async def ids(backend: MemoryBackend) -> list[tuple[str, str]]:
    """(pool, id) of what a backend holds."""
    return sorted((item.pool, item.id) for item in await backend.inventory())


async def late(two: tuple[Bench, MemoryBackend], volume_id: str) -> tuple[Bench, MemoryBackend]:
    """A volume on the first host, and what a late call has left of it on the second, with other bytes."""
    bench, second = two
    await bench.create_row(volume_id)
    await bench.backend.ensure_volume("memory", VolumeSpec(volume_id, 1))
    bench.backend.write("memory", ObjectKind.VOLUME, volume_id, 0, b"the user's")
    await second.ensure_volume("memory", VolumeSpec(volume_id, 1))
    return bench, second


async def test_a_stray_is_listed_and_removed_and_the_volume_is_not_touched(
    two: tuple[Bench, MemoryBackend], uuid: Uuid
) -> None:
    bench, second = await late(two, uuid(1))
    before = await bench.volume(uuid(1))
    for _ in range(2):
        assert await compare(bench, HERE, THERE) == [(uuid(1), "h2@memory#memory")]
    assert (await remove(bench, uuid(1))).state == "done"
    assert await ids(second) == []
    assert await ids(bench.backend) == [("memory", uuid(1))]
    assert bench.backend.read("memory", ObjectKind.VOLUME, uuid(1), 0, 10) == b"the user's"
    assert await bench.volume(uuid(1)) == before
    assert await compare(bench, HERE, THERE) == []


async def test_a_stray_in_another_pool_of_the_same_host(two: tuple[Bench, MemoryBackend], uuid: Uuid) -> None:
    bench, _second = two
    await bench.create_row(uuid(1))
    for pool in ("memory", "second"):
        await bench.backend.ensure_volume(pool, VolumeSpec(uuid(1), 1))
    assert await compare(bench, HERE, THERE) == [(uuid(1), "h1@memory#second")]
    assert (await remove(bench, uuid(1))).state == "done"
    assert await ids(bench.backend) == [("memory", uuid(1))]


async def test_a_snapshot_that_strayed(two: tuple[Bench, MemoryBackend], uuid: Uuid) -> None:
    bench, second = two
    spec = SnapshotSpec(uuid(2), uuid(1), 1)
    await bench.create(uuid(1))
    await bench.cluster.settle()
    own = (await bench.volume(uuid(1))).host
    await bench.snapshot(uuid(2), uuid(1))
    await bench.cluster.settle()
    service, _, pool = own.partition("#")
    other, place = (second, THERE) if service == HERE else (bench.backend, HERE)
    await other.ensure_volume("memory", VolumeSpec(uuid(1), 1))
    await other.ensure_snapshot("memory", spec)
    await other.ensure_volume_absent("memory", uuid(1))
    assert await compare(bench, HERE, THERE) == [(uuid(2), f"{place}#memory")]
    assert (await remove(bench, uuid(2))).state == "done"
    assert (pool, uuid(2)) in await ids(bench.backend if service == HERE else second)


async def test_what_is_left_of_a_failed_create_is_listed_while_its_row_is_there(
    two: tuple[Bench, MemoryBackend], uuid: Uuid
) -> None:
    bench, second = two
    await bench.create_row(uuid(1), host=None, status="error")
    await second.ensure_volume("memory", VolumeSpec(uuid(1), 1))
    assert await compare(bench, HERE, THERE) == [(uuid(1), "h2@memory#memory")]
    assert (await remove(bench, uuid(1))).state == "done"
    assert (await ids(second), (await bench.volume(uuid(1))).status) == ([], "error")


async def test_adoption_is_refused_with_where_the_volume_is(two: tuple[Bench, MemoryBackend], uuid: Uuid) -> None:
    bench, second = await late(two, uuid(1))
    await compare(bench, THERE)
    with pytest.raises(ConflictError) as refusal:
        await bench.cluster.store.write(
            lambda db: intents.adopt(db, bench.cluster.outside, CALLER, uuid(1), name=None, volume_type_id=None)
        )
    assert "has a row already, which says that it is in h1@memory#memory" in str(refusal.value)
    assert "the object in h2@memory#memory is left over" in str(refusal.value)
    assert await ids(second) == [("memory", uuid(1))]


async def test_the_only_object_of_a_row_is_never_called_a_stray(two: tuple[Bench, MemoryBackend], uuid: Uuid) -> None:
    bench, second = two
    await bench.create_row(uuid(1))  # its host says h1, where there is nothing
    await bench.create_row(uuid(2), host="gone@memory#memory")
    await bench.create_row(uuid(3), status="creating")
    for number in (1, 2, 3):
        await second.ensure_volume("memory", VolumeSpec(uuid(number), 1))
    assert await compare(bench, THERE) == []


async def test_the_object_of_a_row_under_work_is_not_judged(two: tuple[Bench, MemoryBackend], uuid: Uuid) -> None:
    bench, _second = await late(two, uuid(1))
    await bench.operate("volume.extend", uuid(1), size_gib=2, from_gib=1)
    assert await compare(bench, THERE) == []


async def test_a_stray_that_became_the_only_one_is_left_alone(two: tuple[Bench, MemoryBackend], uuid: Uuid) -> None:
    bench, second = await late(two, uuid(1))
    await compare(bench, THERE)
    await bench.backend.ensure_volume_absent("memory", uuid(1))
    operation = await remove(bench, uuid(1))
    assert (operation.state, "may be the only one" in operation.error) == ("failed", True)
    assert await ids(second) == [("memory", uuid(1))]
    assert await compare(bench, THERE) == [(uuid(1), "h2@memory#memory")]


async def test_what_the_row_has_come_to_name_is_no_orphan(two: tuple[Bench, MemoryBackend], uuid: Uuid) -> None:
    bench, second = await late(two, uuid(1))
    await compare(bench, THERE)
    await bench.cluster.store.write(
        lambda db: db.execute(update(Volume).values(host="h2@memory#memory", status="available")) and None
    )
    with pytest.raises(ConflictError):
        await remove(bench, uuid(1))
    assert await ids(second) == [("memory", uuid(1))]
    assert await compare(bench, THERE) == []


async def test_while_it_cannot_be_seen_where_the_volume_is_nothing_is_removed(
    two: tuple[Bench, MemoryBackend], uuid: Uuid, monkeypatch: Any
) -> None:
    bench, second = await late(two, uuid(1))
    await compare(bench, THERE)

    async def away(*_args: object) -> None:
        raise UncertainError("the node went away")

    monkeypatch.setattr(bench.backend, "inventory", away)
    operation = await remove(bench, uuid(1))
    for _ in range(9):
        assert await ids(second) == [("memory", uuid(1))]
        await bench.make_due()
        await bench.cluster.settle()
    [operation] = [row for row in await bench.rows(Operation) if row.id == operation.id]
    assert operation.state == "failed"  # and so requests on the volume are allowed again
    assert await ids(second) == [("memory", uuid(1))]


async def test_a_deletion_excludes_requests_on_the_volume_and_waits_for_no_dead_host(
    two: tuple[Bench, MemoryBackend], uuid: Uuid
) -> None:
    bench, _second = await late(two, uuid(1))
    await compare(bench, THERE)
    cluster = bench.cluster

    def delete(db: Any) -> str:
        return intents.delete(db, cluster.settings, cluster.outside, CALLER, uuid(1))

    await bench.operate("volume.extend", uuid(1), size_gib=2, from_gib=1)
    with pytest.raises(InvalidStateError, match="still being worked on"):
        await cluster.store.write(delete)
    await cluster.settle()
    await cluster.store.write(
        lambda db: db.execute(update(Service).where(Service.host == THERE).values(heartbeat_at=0.0)) and None  # type: ignore[arg-type]
    )
    with pytest.raises(InvalidStateError, match="h2@memory#memory does not answer"):
        await cluster.store.write(delete)


async def test_two_objects_of_one_id_on_two_hosts_do_not_stop_the_comparison(
    two: tuple[Bench, MemoryBackend], uuid: Uuid
) -> None:
    bench, second = two
    backends: Sequence[MemoryBackend] = (bench.backend, second)
    for backend in backends:
        await backend.ensure_volume("memory", VolumeSpec(uuid(1), 1))
    await bench.backend.ensure_volume("memory", VolumeSpec(uuid(2), 1))
    assert await compare(bench, HERE, THERE) == [(uuid(1), "h1@memory#memory"), (uuid(2), "h1@memory#memory")]
    assert (await remove(bench, uuid(1))).state == "done"
    assert await compare(bench, HERE, THERE) == [(uuid(1), "h2@memory#memory"), (uuid(2), "h1@memory#memory")]


async def test_between_the_looks_the_row_changed_hands(
    two: tuple[Bench, MemoryBackend], uuid: Uuid, monkeypatch: Any
) -> None:
    bench, second = await late(two, uuid(1))
    real, looks = second.inventory, 0

    async def meanwhile() -> Any:
        nonlocal looks
        looks += 1
        found = await real()
        if looks == 2:
            await bench.operate("volume.extend", uuid(1), size_gib=2, from_gib=1)
        return [replace(item) for item in found]

    monkeypatch.setattr(second, "inventory", meanwhile)
    assert await compare(bench, THERE) == []
