"""What must hold when a script is over, however often the process was killed on the way."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, select

from actors.in_process import InProcessCluster
from cluster.attachments.records import Attachment, VolumeConnection
from cluster.attachments.standing import standing
from cluster.journal.records import Operation
from cluster.messages.records import Message
from cluster.quotas.usage import usage
from cluster.reconcile.comparing import TRANSITIONAL
from cluster.reconcile.connections import ConnectionKeeper
from cluster.reconcile.reconciler import Reconciler
from cluster.reconcile.records import Orphan
from cluster.snapshots.records import Snapshot
from cluster.volumes.records import Volume
from drivers.vocabulary import GIB, ObjectKind
from tests.unit.flows.conftest import SERVICE, Bench
from tests.unit.flows.crash_play import NOTHING, Killer, World
from tests.unit.flows.crash_scripts import Script
from tests.unit.flows.crash_storage import POOL, Key

_PLACE = f"{SERVICE}#{POOL}"
_RECORDS: tuple[type[Any], ...] = (Volume, Snapshot, Attachment, VolumeConnection, Orphan, Operation, Message)


async def records(world: World) -> dict[str, list[Any]]:
    """Everything that requests change, by table."""
    cluster, _backend = world.cluster(Killer())
    async with cluster:
        tables: list[Table] = [table.__table__ for table in _RECORDS]
        return {
            table.name: await cluster.store.read(lambda db, table=table: list(db.execute(select(table)).all()))
            for table in tables
        }


async def check(world: World, script: Script, cluster: InProcessCluster, backend: Any) -> None:
    """All of it, in a cluster that has come to rest."""
    _objects(world, script)
    world.flaws.mend()
    bench = Bench(cluster, backend)
    volumes, snapshots = await bench.rows(Volume), await bench.rows(Snapshot)
    orphans, operations, messages = [await bench.rows(table) for table in (Orphan, Operation, Message)]
    attachments, connections = await bench.rows(Attachment), await bench.rows(VolumeConnection)
    _states(script, volumes, snapshots, attachments)
    _consumers(world, script, attachments, connections)
    _attached(world, volumes, attachments)
    _grown(world, volumes)
    assert world.nova.told == script.grown
    _rows_and_objects(script, volumes, snapshots, orphans)
    _once(script, operations[world.operations :], messages)
    await _quota(bench, volumes, snapshots)
    await _reservations(script, bench, volumes)
    # The product's own comparison sees it alike.
    epoch = cluster.conductor.epoch
    assert epoch is not None
    found = await Reconciler(cluster.conductor._context).service(SERVICE, epoch)
    assert (found.missing, found.stranded) == ((), ())
    keeper = ConnectionKeeper(cluster.conductor._context)
    for _round in range(2):
        await keeper.service(SERVICE, epoch)
    assert len(await bench.rows(Operation)) == len(operations)
    assert {row.id for row in await bench.rows(Orphan)} == {row.id for row in orphans}
    assert len(await bench.rows(Message)) == len(messages)


def _objects(world: World, script: Script) -> None:
    """Nothing is lost, leaked or doubled, and every byte is as it was."""
    sizes = world.storage.objects()
    assert sizes == {key: size_gib * GIB for key, size_gib in script.left.items()}
    for key, size_bytes in sizes.items():
        mark = world.marks.get(key) or world.marks.get(script.copies.get(key, key), NOTHING)
        assert _bytes(world, key, 0) == _bytes(world, key, GIB - len(mark)) == mark, f"{key} has other bytes"
        for offset in range(GIB, size_bytes, GIB):
            assert _bytes(world, key, offset) == NOTHING
            assert _bytes(world, key, offset + GIB - len(NOTHING)) == NOTHING
    assert set(world.flaws.made.values()) <= {1}
    assert world.flaws.made.keys() & {key[1] for key in sizes} == {key[1] for key in sizes.keys() - world.began_with}


def _bytes(world: World, key: Key, offset: int) -> bytes:
    return world.storage.read(key, offset, len(NOTHING))


def _states(script: Script, volumes: list[Any], snapshots: list[Any], attachments: list[Any]) -> None:
    assert not [row for row in volumes if row.status in TRANSITIONAL[ObjectKind.VOLUME]]
    assert not [row for row in snapshots if row.status in TRANSITIONAL[ObjectKind.SNAPSHOT]]
    statuses = {row.id: row.status for row in (*volumes, *snapshots)}
    assert statuses | {row.id: row.attach_status for row in attachments} == script.rows
    assert not [row for row in volumes if row.target_size_gib is not None or row.previous_status == row.status]


def _consumers(world: World, script: Script, attachments: list[Any], connections: list[Any]) -> None:
    """Whom the records let in is let in, and nobody else, by the means that the records and its attachment tell."""
    served = world.storage.consumers.served
    assert {key: one.connector["host"] for key, one in served.items()} == script.lets_in
    assert {row.id for row in connections} == served.keys()
    made = {}
    for row in connections:
        one = served[row.id]
        assert (one.volume_id, one.connector, one.secret) == (row.volume_id, row.connector, row.secret)
        assert one.mode == row.mode == script.mode
        made[row.id] = row.info["data"]
        assert made[row.id]["to"] == row.connector["host"]
        assert made[row.id]["password"] == row.secret[:8]
    told = {row.id: row.connection_info for row in attachments if row.connection_info is not None}
    assert told.keys() == {row.id for row in attachments} & made.keys()
    for key, info in told.items():
        assert (info["to"], info["password"], info["attachment_id"]) == (made[key]["to"], made[key]["password"], key)


def _attached(world: World, volumes: list[Any], attachments: list[Any]) -> None:
    """A volume is as its attachments say, unless it is broken; what stays attached is so since the same moment."""
    for row in attachments:
        if row.attach_status == "attached" and row.id in world.attached_at:
            assert row.attached_at == world.attached_at[row.id] is not None
    for row in volumes:
        of_it = [each for each in attachments if each.volume_id == row.id]
        status, attach_status = standing(each.attach_status for each in of_it)
        assert row.attach_status == attach_status
        assert row.status.startswith("error") or row.status == status
        mode = row.admin_metadata.get("attached_mode")
        assert mode is None or mode in [each.attach_mode for each in of_it if each.attach_status == "attached"]


def _grown(world: World, volumes: list[Any]) -> None:
    """Whoever is let in by an export that serves a volume sees the volume's size."""
    consumers = world.storage.consumers
    exported = {one.volume_id: one.size_gib for one in consumers.served.values()}
    for row in volumes:
        assert exported.get(row.id, row.size_gib) == row.size_gib or row.id in consumers.resized


def _rows_and_objects(script: Script, volumes: list[Any], snapshots: list[Any], orphans: list[Any]) -> None:
    """One to one; what no row stands for is listed."""
    assert {row.host for row in volumes if row.host} <= {_PLACE}
    placed = {(ObjectKind.VOLUME, row.id): row.size_gib for row in volumes if row.host}
    placed |= {(ObjectKind.SNAPSHOT, row.id): row.size_gib for row in snapshots if row.status != "error"}
    # An administrator may call error what is whole.
    placed |= {key: script.left[key] for row in snapshots if (key := (ObjectKind.SNAPSHOT, row.id)) in script.left}
    listed = {(ObjectKind(row.kind), row.id): row.size_bytes // GIB for row in orphans}
    assert not placed.keys() & listed.keys()
    assert placed | listed == script.left


def _once(script: Script, operations: list[Any], messages: list[Any]) -> None:
    """The request has happened exactly once, or is one clean error that the user was told of."""
    assert [operation.state for operation in operations] == [script.outcome] * script.operations
    assert {operation.error is not None for operation in operations} == {script.outcome == "failed"}
    assert [message.resource_uuid for message in messages] == list(script.told)
    for message in messages:
        assert message.request_id == "req-1"
        assert len(message.user_message.split()) > 5


async def _quota(bench: Bench, volumes: list[Any], snapshots: list[Any]) -> None:
    """What the quota counts is what a recount of the rows says, and nothing is reserved."""
    used = await bench.cluster.store.read(lambda db: usage(db, "p"))
    assert {name: one.in_use for name, one in used.items() if name in ("volumes", "snapshots", "gigabytes")} == {
        "volumes": len(volumes),
        "snapshots": len(snapshots),
        "gigabytes": sum(row.size_gib for row in (*volumes, *snapshots)),
    }
    assert not any(one.reserved for one in used.values())


async def _reservations(script: Script, bench: Bench, volumes: list[Any]) -> None:
    """The scheduler has promised what the records show and, once the pool has reported, nothing beyond its report."""
    if script.before == "orphan":
        await (
            bench.cluster.desk._rebuild()
        )  # nobody asks the scheduler for what is there: it learns of it by its recount
    ledger = bench.cluster.desk._scheduler._ledger
    recount = {row.id: (row.host, row.size_gib) for row in volumes if row.host}
    assert {volume_id: (one.host, one.gib) for volume_id, one in ledger._entries.items()} == recount
    for host in bench.cluster.hosts.values():
        await host.beat()
    assert ledger.usage(_PLACE).unreported_gib == 0
    [pool] = bench.cluster.desk._scheduler.pools_view()
    assert pool.allocated_gib == sum(size_gib for _host, size_gib in recount.values())
