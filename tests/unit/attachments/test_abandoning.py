"""Attachments whose consumer is gone, ended without its credentials."""

from __future__ import annotations

import asyncio

import pytest

from cluster.attachments import abandoning
from cluster.attachments.abandoning import NODE_KEY, LostNodes, abandon, carry_out_abandonment
from cluster.attachments.intents import complete, reserve
from cluster.errors import UnavailableError
from cluster.journal.outcome import Work
from cluster.journal.records import Operation
from drivers.vocabulary import InUseError
from tests.unit.attachments.conftest import CONNECTOR, Bench

CLAIM = "c1a10000-0000-4000-8000-000000000001"
OTHER_CLAIM = "c1a10000-0000-4000-8000-000000000002"
NODE = "n" * 56


async def mounted(bench: Bench, claim: str = CLAIM, node: str | None = NODE) -> str:
    """A volume that a node has attached for a claim; its id."""
    volume_id = await bench.volume()
    connector = {**CONNECTOR, **({NODE_KEY: node} if node else {})}
    made = await bench.run(reserve, volume_id, instance_id=claim, connector=connector)
    await bench.settle()
    await bench.run(complete, made.attachment["id"])
    assert await bench.states(volume_id) == ("in-use", "attached")
    return volume_id


async def let(bench: Bench, claim: str = CLAIM) -> Work | None:
    return await bench.cluster.store.write(lambda db: abandon(db, bench.cluster.outside, claim))


async def operations(bench: Bench) -> int:
    return len(await bench.rows(Operation))


async def test_what_a_claim_has_attached_ends_and_the_volume_is_free(bench: Bench) -> None:
    mine, others = await mounted(bench), await mounted(bench, OTHER_CLAIM)
    assert await let(bench) is not None
    await bench.settle()
    assert (await bench.states(mine), await bench.states(others)) == (("available", "detached"), ("in-use", "attached"))
    assert (len(await bench.attachments()), len(bench.served), len(await bench.connections())) == (1, 1, 1)


async def test_a_repeat_finds_the_same_work_and_then_none(bench: Bench) -> None:
    await mounted(bench)
    first = await let(bench)
    assert await let(bench) == first is not None
    await bench.settle()
    before = await operations(bench)
    assert await let(bench) is None
    assert await operations(bench) == before


async def test_what_no_node_made_stays_whatever_its_instance_is_called(bench: Bench) -> None:
    reserved, attached = await bench.volume(), await mounted(bench, node=None)
    await bench.run(reserve, reserved, instance_id=CLAIM)
    mine = await mounted(bench, node="gone")
    assert await let(bench) is not None
    await bench.settle()
    assert await bench.states(mine) == ("available", "detached")
    assert await bench.states(reserved) == ("reserved", "reserved")
    assert await bench.states(attached) == ("in-use", "attached")


async def test_a_lost_node_takes_only_its_own_along(bench: Bench) -> None:
    stranger, elsewhere = await mounted(bench, node=None), await mounted(bench, node="living")
    lost = await mounted(bench, node="gone")
    nodes = LostNodes(bench.cluster.store, bench.cluster.outside, lambda: None)
    await nodes.look({"living"})
    nodes._missing = dict.fromkeys(nodes._missing, -1e9)
    await nodes.look({"living"})
    await bench.settle()
    assert await bench.states(lost) == ("available", "detached")
    for volume_id in (stranger, elsewhere):
        assert await bench.states(volume_id) == ("in-use", "attached")


async def test_one_that_is_just_being_connected_ends_after_that(bench: Bench) -> None:
    volume_id = await bench.volume()
    await bench.run(reserve, volume_id, instance_id=CLAIM, connector={**CONNECTOR, NODE_KEY: NODE})
    work = await let(bench)
    assert work is not None
    assert work.again
    outside = bench.cluster.outside
    driving = asyncio.create_task(_drive(bench))
    await carry_out_abandonment(bench.cluster.store, outside, CLAIM, lambda: None)
    driving.cancel()
    assert (await bench.states(volume_id), bench.served) == (("available", "detached"), set())


async def test_whoever_waits_is_told_that_it_is_not_done(bench: Bench) -> None:
    volume_id = await mounted(bench)
    bench.export.broken["ensure_connection_absent"] = InUseError("the device is open")
    outside = bench.cluster.outside
    with pytest.raises(UnavailableError, match=CLAIM):
        await carry_out_abandonment(bench.cluster.store, outside, CLAIM, lambda: None, timeout_seconds=0.0)
    await bench.settle()
    del bench.export.broken["ensure_connection_absent"]
    await let(bench)
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")


async def test_a_lost_nodes_attachments_end_after_its_time_and_no_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abandoning, "LOST_SECONDS", 0.2)
    lost, living = await mounted(bench), await mounted(bench, OTHER_CLAIM, "m" * 56)
    plain = await mounted(bench, "c1a10000-0000-4000-8000-000000000003", None)
    bells = list[int]()
    nodes = LostNodes(bench.cluster.store, bench.cluster.outside, lambda: bells.append(1))
    before = await operations(bench)
    assert await nodes.look({"m" * 56}) == {NODE: CONNECTOR["host"]}
    assert (await operations(bench), bells) == (before, [])
    await asyncio.sleep(0.25)
    await nodes.look({"m" * 56})
    assert bells == [1]
    await bench.settle()
    assert await bench.states(lost) == ("available", "detached")
    assert {await bench.states(one) for one in (living, plain)} == {("in-use", "attached")}
    assert await nodes.look({"m" * 56}) == {}


async def test_a_node_that_was_away_shortly_keeps_what_it_has(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoning, "LOST_SECONDS", 0.2)
    volume_id = await mounted(bench)
    nodes = LostNodes(bench.cluster.store, bench.cluster.outside, lambda: None)
    await nodes.look({"m" * 56})
    assert await nodes.look({NODE}) == {}
    await asyncio.sleep(0.25)
    await nodes.look({"m" * 56})  # counted anew
    await bench.settle()
    assert await bench.states(volume_id) == ("in-use", "attached")


async def test_a_cluster_without_nodes_is_one_that_comes_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoning, "LOST_SECONDS", -1.0)
    volume_id = await mounted(bench)
    nodes = LostNodes(bench.cluster.store, bench.cluster.outside, lambda: None)
    assert await nodes.look(set()) == {}
    await bench.settle()
    assert await bench.states(volume_id) == ("in-use", "attached")


async def _drive(bench: Bench) -> None:
    while True:
        await bench.settle()
        await asyncio.sleep(0.01)
