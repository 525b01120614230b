"""Connections by the records against connections that are served; volumes that grow while attached."""

from __future__ import annotations

import asyncio

import pytest

from cluster.attachments import actions
from cluster.attachments.intents import complete, disconnect, reserve
from cluster.attachments.records import Attachment
from cluster.journal.ledger import FencedError
from cluster.journal.outcome import carry_out, wait
from cluster.journal.records import Operation, OperationState
from cluster.reconcile.connections import ConnectionKeeper
from cluster.volumes.intents import extend
from cluster.volumes.records import Volume
from drivers.vocabulary import AccessMode, BackendUnavailableError, ConnectionSpec, InUseError
from tests.unit.attachments.conftest import CALLER, CONNECTOR, OTHER, SERVICE, Bench

STRAY = "99999999-9999-4999-8999-999999999999"


async def attached(bench: Bench) -> tuple[str, str]:
    """Volume and attachment."""
    volume_id = await bench.volume()
    made = await bench.run(reserve, volume_id, connector=CONNECTOR)
    await bench.settle()
    await bench.run(complete, made.attachment["id"])
    return volume_id, made.attachment["id"]


def keeper(bench: Bench) -> ConnectionKeeper:
    return ConnectionKeeper(bench.cluster.conductor._context)


async def look(bench: Bench, one: ConnectionKeeper) -> None:
    epoch = bench.cluster.conductor.epoch
    assert epoch is not None
    await one.service(SERVICE, epoch)
    await bench.settle()


async def live(bench: Bench) -> list[str]:
    return [row.kind for row in await bench.rows(Operation) if row.state == OperationState.LIVE]


async def test_agreement_opens_no_operation(bench: Bench) -> None:
    await attached(bench)
    before = len(await bench.rows(Operation))
    one = keeper(bench)
    for _ in range(2):
        await look(bench, one)
    assert len(await bench.rows(Operation)) == before


async def test_a_connection_that_is_served_no_more_is_opened_again_with_the_same_answer(bench: Bench) -> None:
    volume_id, attachment_id = await attached(bench)
    before = await bench.row(Attachment, attachment_id)
    bench.export.store.served.clear()
    await look(bench, keeper(bench))
    assert bench.served == {attachment_id}
    after = await bench.row(Attachment, attachment_id)
    assert (after.connection_info, after.attached_at) == (before.connection_info, before.attached_at)
    assert await bench.states(volume_id) == ("in-use", "attached")


async def test_a_volume_in_use_whose_connection_cannot_be_opened_again_stays_in_use(bench: Bench) -> None:
    volume_id, attachment_id = await attached(bench)
    bench.export.store.served.clear()
    bench.export.broken["ensure_connection"] = InUseError("another has its name")
    one = keeper(bench)
    for _ in range(3):
        await look(bench, one)
    assert await bench.states(volume_id) == ("in-use", "attached")
    assert len(await bench.messages()) == 1
    assert await live(bench) == []
    assert await bench.connections() == {attachment_id}
    # Later it is tried again, and the user is not told twice of the same.
    await bench.set(Operation, finished_at="2000-01-01T00:00:00.000000")
    await look(bench, one)
    assert len(await bench.messages()) == 1
    bench.export.broken.clear()
    await bench.set(Operation, finished_at="2000-01-01T00:00:00.000000")
    await look(bench, one)
    assert bench.served == {attachment_id}


async def test_a_stray_connection_is_ended_when_it_is_seen_twice(bench: Bench) -> None:
    volume_id, attachment_id = await attached(bench)
    stray = ConnectionSpec(STRAY, volume_id, 1, AccessMode.READ_WRITE, OTHER, "00")
    bench.export.store.served[STRAY] = stray
    one = keeper(bench)
    await look(bench, one)
    assert bench.served == {attachment_id, STRAY}
    await look(bench, one)
    assert bench.served == {attachment_id}
    assert await bench.states(volume_id) == ("in-use", "attached")
    assert await bench.messages() == []


async def test_a_stray_connection_of_no_volume_is_ended_too(bench: Bench) -> None:
    bench.export.store.served[STRAY] = ConnectionSpec(STRAY, STRAY, 1, AccessMode.READ_WRITE, OTHER, "00")
    one = keeper(bench)
    for _ in range(2):
        await look(bench, one)
    assert bench.served == set()


async def test_seen_twice_means_in_a_row(bench: Bench) -> None:
    volume_id, _ = await attached(bench)
    stray = ConnectionSpec(STRAY, volume_id, 1, AccessMode.READ_WRITE, OTHER, "00")
    one = keeper(bench)
    for there in (True, False, True):
        if there:
            bench.export.store.served[STRAY] = stray
        else:
            del bench.export.store.served[STRAY]
        await look(bench, one)
    assert STRAY in bench.served


async def test_work_under_way_is_left_alone(bench: Bench) -> None:
    volume_id, attachment_id = await attached(bench)
    bench.export.broken["ensure_connection_absent"] = BackendUnavailableError("away")
    await bench.run(disconnect, attachment_id)
    await bench.settle()
    bench.export.store.served.clear()
    one = keeper(bench)
    for _ in range(2):
        await look(bench, one)
    assert await live(bench) == ["connection.close"]
    assert bench.served == set()
    bench.export.broken.clear()
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")


async def test_an_export_that_is_not_open_proves_nothing(bench: Bench) -> None:
    await attached(bench)
    bench.export.broken["connections"] = BackendUnavailableError("away")
    before = len(await bench.rows(Operation))
    with pytest.raises(BackendUnavailableError):
        await look(bench, keeper(bench))
    assert len(await bench.rows(Operation)) == before


async def test_an_old_conductor_opens_nothing(bench: Bench) -> None:
    await attached(bench)
    bench.export.store.served.clear()
    old = bench.cluster.conductor.epoch
    assert old is not None
    context = bench.cluster.conductor._context

    one = ConnectionKeeper(context)
    found = context.ports.connections

    async def slow(service: str, *, epoch: int) -> object:
        items = await found(service, epoch=epoch)
        await bench.cluster.conductor.take_lease()
        return items

    context.ports.connections = slow  # type: ignore[method-assign,assignment]
    before = len(await bench.rows(Operation))
    with pytest.raises(FencedError):
        await one.service(SERVICE, old)
    assert len(await bench.rows(Operation)) == before


async def test_a_whole_round_looks_at_connections(bench: Bench) -> None:
    _, attachment_id = await attached(bench)
    bench.export.store.served.clear()
    epoch = bench.cluster.conductor.epoch
    assert epoch is not None
    await bench.cluster.conductor._reconciler.round(epoch)
    await bench.settle()
    assert bench.served == {attachment_id}


async def test_consumers_learn_that_their_volume_grew(bench: Bench) -> None:
    volume_id, _ = await attached(bench)
    await bench.run(lambda db, outside, by: extend(db, bench.cluster.settings, outside, by, volume_id, 3, in_use=True))
    bench.export.broken["resized"] = InUseError("busy")
    await bench.settle()
    assert (await bench.states(volume_id))[0] == "extending"  # it grew: only the same call can make that known
    bench.export.broken.clear()
    await bench.settle()
    row = await bench.row(Volume, volume_id)
    assert (row.status, row.attach_status, row.size_gib) == ("in-use", "attached", 3)
    assert bench.export.store.resized == [volume_id]


async def test_detached_while_it_grew(bench: Bench) -> None:
    volume_id, attachment_id = await attached(bench)
    await bench.run(lambda db, outside, by: extend(db, bench.cluster.settings, outside, by, volume_id, 3, in_use=True))
    await bench.run(disconnect, attachment_id)
    bench.export.broken["resized"] = BackendUnavailableError("away")
    await bench.settle()
    assert await bench.states(volume_id) == ("extending", "detached")
    bench.export.broken.clear()
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")
    assert (await bench.row(Volume, volume_id)).size_gib == 3


async def test_a_request_waits_for_its_operation_and_for_those_in_its_way(bench: Bench) -> None:
    volume_id, attachment_id = await attached(bench)
    bench.export.broken["ensure_connection"] = BackendUnavailableError("away")
    await bench.run(actions.initialize, volume_id, OTHER)
    store, outside, rings = bench.cluster.store, bench.cluster.outside, list[int]()
    [opening] = [row.id for row in await bench.rows(Operation) if row.state == OperationState.LIVE]
    late = await wait(store, outside, (opening,), timeout_seconds=0.0)
    assert late.state is OperationState.LIVE
    ended = asyncio.create_task(
        carry_out(
            store,
            outside,
            lambda db: actions.detach(db, outside, CALLER, volume_id),
            lambda work: work,
            lambda: rings.append(1),
        )
    )
    while not rings:
        await asyncio.sleep(0)
    bench.export.broken.clear()
    while not ended.done():
        await bench.settle()
        await asyncio.sleep(0.001)
    _work, outcome = await ended
    assert (outcome.state, outcome.error) == (OperationState.DONE, None)
    assert len(rings) == 2  # once for what was in the way, once for its own
    assert (bench.served, await bench.attachments()) == (set(), {})
    assert attachment_id not in await bench.connections()


async def test_a_failed_operation_says_why_to_operators(bench: Bench) -> None:
    volume_id = await bench.volume()
    bench.export.broken["ensure_connection"] = InUseError("another has its name")
    made = await bench.run(reserve, volume_id, connector=CONNECTOR)
    await bench.settle()
    outcome = await wait(bench.cluster.store, bench.cluster.outside, made.work.operations)
    assert (outcome.state, outcome.error) == (OperationState.FAILED, "InUseError: another has its name")
