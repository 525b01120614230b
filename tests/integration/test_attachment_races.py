"""Attachments under concurrent requests, on SQLite and on PostgreSQL: one wins, the others are refused in words, and
what the export lets in is what the records say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from actors.in_process import InProcessCluster
from cluster.attachments import actions
from cluster.attachments.intents import complete, disconnect, reserve
from cluster.errors import InvalidStateError, NotFoundError
from cluster.settings import BackendSettings, Settings
from cluster.volumes.deletion import delete_volume
from drivers.memory import MemoryStore
from drivers.vocabulary import GIB
from tests.integration.databases import (  # noqa: F401 - fixtures
    migrated,
    postgresql,
    postgresql_template,
    sqlite_template,
)
from tests.unit.attachments.conftest import CALLER, CONNECTOR, OTHER, SERVICE, Bench
from tests.unit.attachments.memory_export import ExportStore, MemoryExport, PathBackend

_AT_ONCE = 8


@pytest.fixture
async def bench(migrated: str, tmp_path: Path) -> AsyncIterator[Bench]:  # noqa: F811
    settings = Settings(
        state_dir=tmp_path,
        host_name="h1",
        database_url=SecretStr(migrated),
        backends={"memory": BackendSettings(driver="memory")},
    )
    export = MemoryExport(ExportStore())
    backend = PathBackend(store=MemoryStore({"memory": 100 * GIB}))
    async with InProcessCluster(settings, {SERVICE: backend}, exports={SERVICE: [export]}) as cluster:
        yield Bench(cluster, export)


async def together(bench: Bench, *acts: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> list[Any]:
    """The answers, exceptions among them, of transactions that run at once."""
    return await asyncio.gather(
        *(bench.run(intent, *args, by=CALLER, **options) for intent, args, options in acts), return_exceptions=True
    )


async def test_one_of_many_reserves_wins(bench: Bench) -> None:
    volume_id = await bench.volume()
    acts = [(reserve, (volume_id,), {"instance_id": str(n), "connector": CONNECTOR}) for n in range(_AT_ONCE)]
    answers = await together(bench, *acts)
    refused = [each for each in answers if isinstance(each, Exception)]
    assert [type(each) for each in refused] == [InvalidStateError] * (_AT_ONCE - 1)
    assert all("status must be available to reserve" in str(each) for each in refused)
    await bench.settle()
    assert bench.served == set(await bench.attachments())
    assert len(bench.served) == 1


async def test_one_of_many_older_attaches_wins(bench: Bench) -> None:
    volume_id = await bench.volume()
    where = {"host_name": None, "mountpoint": "/dev/vdb"}
    acts = [(actions.attach, (volume_id,), {"instance_id": f"{n}" * 36} | where) for n in range(_AT_ONCE)]
    answers = await together(bench, *acts)
    assert [type(each) for each in answers if each is not None] == [InvalidStateError] * (_AT_ONCE - 1)
    assert len(await bench.attachments()) == 1


async def test_a_volume_is_reserved_or_deleted_and_never_both(bench: Bench) -> None:
    for _ in range(_AT_ONCE):
        volume_id = await bench.volume()
        reserved, deleted = await together(
            bench, (reserve, (volume_id,), {"connector": CONNECTOR}), (delete_volume, (volume_id,), {})
        )
        assert isinstance(reserved, Exception) is not isinstance(deleted, Exception)
        for each in (reserved, deleted):
            assert not isinstance(each, Exception) or isinstance(each, InvalidStateError)
        await bench.settle()
    assert bench.served == set(await bench.attachments()) == await bench.connections()


async def test_one_consumer_that_asks_many_times_has_one_connection(bench: Bench) -> None:
    volume_id = await bench.volume()
    acts = [(actions.initialize, (volume_id, CONNECTOR), {}) for _ in range(_AT_ONCE)]
    answers = await together(bench, *acts)
    assert len({(each.connection_id, each.work.operations) for each in answers}) == 1
    await bench.settle()
    assert len(bench.served) == bench.export.store.opened == 1


async def test_many_deletions_of_one_attachment_are_one(bench: Bench) -> None:
    volume_id = await bench.volume(multiattach=True)
    kept = await bench.run(reserve, volume_id, connector=OTHER)
    await bench.settle()
    await bench.run(complete, kept.attachment["id"])
    made = await bench.run(reserve, volume_id, connector=CONNECTOR)
    await bench.settle()
    attachment_id = made.attachment["id"]
    acts: list[Any] = [(disconnect, (attachment_id,), {}) for _ in range(_AT_ONCE)]
    answers = await together(bench, *acts, (complete, (attachment_id,), {}))
    assert len({each.operations for each in answers[:-1]}) == 1
    assert answers[-1] is None or isinstance(answers[-1], InvalidStateError)
    await bench.settle()
    assert bench.served == {kept.attachment["id"]}
    assert await bench.states(volume_id) == ("in-use", "attached")
    with pytest.raises(NotFoundError):
        await bench.run(disconnect, attachment_id)


async def test_attachments_that_end_at_once_leave_the_volume_free(bench: Bench) -> None:
    volume_id = await bench.volume(multiattach=True)
    for number in range(_AT_ONCE):
        made = await bench.run(reserve, volume_id, connector={"host": f"n{number}"})
        await bench.settle()
        await bench.run(complete, made.attachment["id"])
    await together(bench, *((disconnect, (each,), {}) for each in await bench.attachments()))
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")
    assert (bench.served, await bench.attachments()) == (set(), {})


async def test_connections_that_end_for_one_detach_end_it(bench: Bench) -> None:
    volume_id = await bench.volume()
    for number in range(_AT_ONCE):
        await bench.run(actions.initialize, volume_id, {"host": f"n{number}"})
    await bench.settle()
    await bench.run(actions.attach, volume_id, instance_id="i", host_name=None, mountpoint="/dev/vdb")
    work = await bench.run(actions.detach, volume_id)
    assert len(work.operations) == _AT_ONCE
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")
    assert (bench.served, await bench.attachments()) == (set(), {})
