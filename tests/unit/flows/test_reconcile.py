"""What the records say against what the backend holds."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from cluster.errors import ConflictError
from cluster.flows.run import Context
from cluster.journal.ledger import FencedError
from cluster.reconcile import intents
from cluster.reconcile.reconciler import Reconciler
from cluster.reconcile.records import Orphan
from cluster.volumes.records import Volume
from drivers.vocabulary import SnapshotSpec, VolumeSpec
from tests.unit.flows.conftest import CALLER, SERVICE, Bench, Uuid


async def reconcile(bench: Bench) -> Any:
    """One look at the service."""
    context: Context = bench.cluster.conductor._context
    epoch = bench.cluster.conductor.epoch
    assert epoch is not None
    return await Reconciler(context).service(SERVICE, epoch)


async def test_agreement_changes_nothing(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1))
    await bench.cluster.settle()
    before = await bench.volume(uuid(1))
    found = await reconcile(bench)
    assert (found.missing, found.stranded, found.orphans) == ((), (), ())
    assert await bench.volume(uuid(1)) == before
    assert await bench.messages() == []


async def test_a_row_without_its_object_becomes_an_error_with_a_message(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1))
    await bench.cluster.settle()
    await bench.backend.ensure_volume_absent("memory", uuid(1))
    await reconcile(bench)
    assert (await bench.volume(uuid(1))).status == "error"
    [message] = await bench.messages()
    assert "not on its backend" in message
    await reconcile(bench)
    assert len(await bench.messages()) == 1


async def test_an_object_without_a_row_is_listed_and_left_alone(bench: Bench, uuid: Uuid) -> None:
    await bench.backend.ensure_volume("memory", VolumeSpec(uuid(7), 1))
    await bench.backend.ensure_snapshot("memory", SnapshotSpec(uuid(8), uuid(7), 1))
    for _ in range(2):
        await reconcile(bench)
    assert {(row.kind, row.id, row.host) for row in await bench.rows(Orphan)} == {
        ("volume", uuid(7), "h1@memory#memory"),
        ("snapshot", uuid(8), "h1@memory#memory"),
    }
    assert len(await bench.objects()) == 2
    await bench.backend.ensure_snapshot_absent("memory", SnapshotSpec(uuid(8), uuid(7), 1))
    await reconcile(bench)
    assert [row.id for row in await bench.rows(Orphan)] == [uuid(7)]


async def test_work_under_way_is_not_judged(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1), host="h1@memory#memory")
    await reconcile(bench)
    assert (await bench.volume(uuid(1))).status == "creating"
    await bench.backend.ensure_volume("memory", VolumeSpec(uuid(1), 1))
    await reconcile(bench)
    assert await bench.rows(Orphan) == []


async def test_a_transitional_state_that_nothing_works_on_becomes_the_truth(bench: Bench, uuid: Uuid) -> None:
    for number in (1, 2):
        await bench.create(uuid(number))
    await bench.cluster.settle()
    await bench.cluster.store.write(lambda db: db.execute(update(Volume).values(status="deleting")) and None)
    await bench.backend.ensure_volume_absent("memory", uuid(2))
    await reconcile(bench)
    assert (await bench.volume(uuid(1))).status == "available"
    assert (await bench.volume(uuid(2))).status == "error"
    assert len(await bench.messages()) == 2


async def test_an_old_conductor_writes_nothing(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1))
    await bench.cluster.settle()
    await bench.backend.ensure_volume_absent("memory", uuid(1))
    context = bench.cluster.conductor._context
    old = bench.cluster.conductor.epoch
    assert old is not None
    await bench.cluster.conductor.take_lease()
    with pytest.raises(FencedError):
        await Reconciler(context).service(SERVICE, old)
    assert (await bench.volume(uuid(1))).status == "available"


async def test_a_host_that_changed_its_name_makes_no_orphans(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1))
    await bench.cluster.settle()
    await bench.cluster.store.write(lambda db: db.execute(update(Volume).values(host="old@memory#memory")) and None)
    await reconcile(bench)
    assert await bench.rows(Orphan) == []


async def test_what_has_a_row_is_not_deleted_as_an_orphan(bench: Bench, uuid: Uuid) -> None:
    await bench.backend.ensure_volume("memory", VolumeSpec(uuid(1), 1))
    await reconcile(bench)
    await bench.operate("orphan.delete", uuid(1))
    await bench.create_row(uuid(1))
    await bench.cluster.settle()
    assert await bench.objects() == {("volume", uuid(1), 1)}
    with pytest.raises(ConflictError):
        await bench.cluster.store.write(
            lambda db: intents.delete(db, bench.cluster.settings, bench.cluster.outside, CALLER, uuid(1))
        )


async def test_a_look_between_the_adoption_and_its_run_changes_nothing(bench: Bench, uuid: Uuid) -> None:
    await bench.backend.ensure_volume("memory", VolumeSpec(uuid(1), 1))
    await reconcile(bench)
    await bench.cluster.store.write(
        lambda db: intents.adopt(db, bench.cluster.outside, CALLER, uuid(1), name="found", volume_type_id=None)
    )
    await reconcile(bench)
    await bench.cluster.settle()
    row = await bench.volume(uuid(1))
    assert (row.status, row.name, row.size_gib) == ("available", "found", 1)
    assert await bench.rows(Orphan) == []


async def test_a_volume_that_is_nowhere_is_not_left_in_a_transitional_state(bench: Bench, uuid: Uuid) -> None:
    await bench.create_row(uuid(1), status="creating", host=None)
    epoch = bench.cluster.conductor.epoch
    assert epoch is not None
    await Reconciler(bench.cluster.conductor._context).round(epoch)
    assert (await bench.volume(uuid(1))).status == "error"
    assert len(await bench.messages()) == 1
