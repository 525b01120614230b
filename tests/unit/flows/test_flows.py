"""Each flow, its failures, and what is left afterwards."""

from __future__ import annotations

from typing import Any

from cluster.flows.subjects import hosts_of
from cluster.journal.records import Operation
from drivers.memory import MemoryBackend
from drivers.vocabulary import GIB, BackendUnavailableError, InUseError, UncertainError
from tests.unit.flows.conftest import Bench, Uuid


async def test_a_create_makes_the_volume_and_says_where(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1), size_gib=3)
    await bench.cluster.settle()
    row = await bench.volume(uuid(1))
    assert (row.status, row.host) == ("available", "h1@memory#memory")
    assert await bench.objects() == {("volume", uuid(1), 3)}
    assert set((await bench.states()).values()) == {"done"}


async def test_clone_snapshot_restore_extend_and_delete(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1))
    await bench.cluster.settle()
    await bench.create(uuid(2), size_gib=2, source={"volume_id": uuid(1)}, source_volid=uuid(1))
    await bench.snapshot(uuid(3), uuid(1))
    await bench.cluster.settle()
    await bench.create(uuid(4), source={"snapshot_id": uuid(3), "volume_id": uuid(1)}, snapshot_id=uuid(3))
    await bench.operate("volume.extend", uuid(2), size_gib=5, from_gib=2)
    await bench.cluster.settle()
    assert await bench.objects() == {
        ("volume", uuid(1), 1), ("volume", uuid(2), 5), ("snapshot", uuid(3), 1), ("volume", uuid(4), 1),
    }  # fmt: skip
    assert (await bench.volume(uuid(2))).size_gib == 5
    await bench.operate("snapshot.delete", uuid(3))
    await bench.cluster.settle()
    for number in (1, 2, 4):
        await bench.operate("volume.delete", uuid(number), snapshots=[])
    await bench.cluster.settle()
    assert await bench.objects() == set()
    assert await bench.volume(uuid(1)) is None


async def test_a_cascade_takes_the_snapshots_along(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1))
    await bench.cluster.settle()
    await bench.snapshot(uuid(2), uuid(1))
    await bench.cluster.settle()
    await bench.operate("volume.delete", uuid(1), snapshots=[uuid(2)])
    await bench.cluster.settle()
    assert await bench.objects() == set()


async def test_no_room_anywhere_is_told_to_the_user(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1), size_gib=100_000)
    await bench.cluster.settle()
    row = await bench.volume(uuid(1))
    assert (row.status, row.host) == ("error", None)
    [message] = await bench.messages()
    assert message.startswith("schedule allocate volume:Could not find any available weighted backend.")
    assert "CapacityFilter" in message
    assert "h1@memory#memory" in message
    assert set((await bench.states()).values()) == {"failed"}


async def test_a_pool_that_turns_out_full_is_left_and_everything_taken_back(
    bench: Bench, uuid: Uuid, monkeypatch: Any
) -> None:
    from drivers.vocabulary import NoSpaceError

    async def full(*_args: object) -> None:
        raise NoSpaceError("pool memory has 0 GiB left")

    monkeypatch.setattr(bench.backend, "ensure_volume", full)
    await bench.create(uuid(1))
    await bench.cluster.settle()
    row = await bench.volume(uuid(1))
    assert (row.status, row.host) == ("error", None)
    assert len(await bench.messages()) == 1
    assert bench.cluster.desk._scheduler.pools_view()[0].allocated_gib == 0


async def test_a_backend_that_is_away_is_tried_again_and_not_moved(bench: Bench, uuid: Uuid, monkeypatch: Any) -> None:
    calls = 0
    ensure = MemoryBackend.ensure_volume

    async def away(self: MemoryBackend, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            await ensure(self, *args)  # it took effect, and the answer was lost
            raise UncertainError("the node went away")
        return await ensure(self, *args)

    monkeypatch.setattr(MemoryBackend, "ensure_volume", away)
    await bench.create(uuid(1))
    await bench.cluster.settle()
    assert (await bench.volume(uuid(1))).status == "creating"
    await bench.make_due()
    await bench.cluster.settle()
    assert (await bench.volume(uuid(1))).status == "available"
    assert await bench.objects() == {("volume", uuid(1), 1)}


async def test_a_refusal_for_now_ends_as_an_error_with_a_reason(bench: Bench, uuid: Uuid, monkeypatch: Any) -> None:
    async def closed(*_args: object) -> None:
        raise BackendUnavailableError("/srv/pool is not mounted")

    monkeypatch.setattr(bench.backend, "ensure_volume", closed)
    await bench.create(uuid(1))
    for _ in range(9):
        await bench.make_due()
        await bench.cluster.settle()
    assert (await bench.volume(uuid(1))).status == "error"
    [message] = await bench.messages()
    assert "req-1" in message
    assert "/srv/pool" not in message  # paths are for operators
    assert "/srv/pool is not mounted" in (await bench.rows(Operation))[0].error


async def test_after_an_uncertain_outcome_refusals_are_never_final(bench: Bench, uuid: Uuid, monkeypatch: Any) -> None:
    answers: list[Exception] = [UncertainError("the node went away")]

    async def away(*_args: object) -> None:
        raise answers.pop() if answers else BackendUnavailableError("it has not been opened yet")

    await bench.create(uuid(1))
    await bench.cluster.settle()
    real = bench.backend.ensure_volume_absent
    monkeypatch.setattr(bench.backend, "ensure_volume_absent", away)
    await bench.operate("volume.delete", uuid(1), snapshots=[])
    for _ in range(15):
        await bench.make_due()
        await bench.cluster.settle()
    assert (await bench.states())[f"volume.delete {uuid(1)}"] == "live"
    monkeypatch.setattr(bench.backend, "ensure_volume_absent", real)
    await bench.make_due()
    await bench.cluster.settle()
    assert await bench.volume(uuid(1)) is None


async def test_a_conductor_that_the_storage_calls_stale_lets_go(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1))
    await bench.backend.admit(2**40)
    await bench.cluster.settle()
    [operation] = await bench.rows(Operation)
    assert (operation.state, operation.attempts, operation.failing) == ("live", 0, None)


async def test_what_a_defect_says_is_not_told_to_users(bench: Bench, uuid: Uuid, monkeypatch: Any) -> None:
    async def broken(*_args: object) -> None:
        raise ValueError("https://admin:hunter2@array.example/")

    monkeypatch.setattr(bench.cluster.desk, "place", broken)
    await bench.create(uuid(1))
    for _ in range(9):
        await bench.make_due()
        await bench.cluster.settle()
    assert (await bench.volume(uuid(1))).status == "error"
    [message] = await bench.messages()
    assert "hunter2" not in message
    assert "req-1" in message


async def test_a_busy_volume_stays_available(bench: Bench, uuid: Uuid, monkeypatch: Any) -> None:
    async def busy(*_args: object) -> None:
        raise InUseError("a clone depends on it")

    await bench.create(uuid(1))
    await bench.cluster.settle()
    monkeypatch.setattr(bench.backend, "ensure_volume_absent", busy)
    await bench.operate("volume.delete", uuid(1), snapshots=[])
    await bench.cluster.settle()
    assert (await bench.volume(uuid(1))).status == "available"
    assert "a clone depends on it" in (await bench.messages())[0]


async def test_a_failed_extend_keeps_the_size_and_says_so(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1))
    await bench.cluster.settle()
    await bench.operate("volume.extend", uuid(1), size_gib=90_000, from_gib=1)
    await bench.cluster.settle()
    row = await bench.volume(uuid(1))
    assert (row.status, row.size_gib, row.target_size_gib) == ("error_extending", 1, None)
    assert await bench.objects() == {("volume", uuid(1), 1)}
    assert bench.cluster.desk._scheduler.pools_view()[0].allocated_gib == 1


async def test_an_operation_whose_resource_is_gone_is_closed(bench: Bench, uuid: Uuid) -> None:
    await bench.operate("volume.extend", uuid(9), size_gib=2, from_gib=1)
    await bench.cluster.settle()
    assert await bench.states() == {f"volume.extend {uuid(9)}": "failed"}


async def test_the_content_of_a_clone_is_that_of_its_source(bench: Bench, uuid: Uuid) -> None:
    from drivers.vocabulary import ObjectKind

    await bench.create(uuid(1))
    await bench.cluster.settle()
    bench.backend.write("memory", ObjectKind.VOLUME, uuid(1), GIB - 4096, b"x" * 4096)
    await bench.create(uuid(2), source={"volume_id": uuid(1)})
    await bench.cluster.settle()
    assert bench.backend.read("memory", ObjectKind.VOLUME, uuid(2), GIB - 4096, 4096) == b"x" * 4096


async def test_hints_see_the_callers_own_volumes_only(bench: Bench, uuid: Uuid) -> None:
    await bench.create(uuid(1), project_id="stranger")
    await bench.cluster.settle()
    hosts = [
        await bench.cluster.store.read(lambda db, who=who: hosts_of(db, [uuid(1)], who))
        for who in ("p", "stranger", None)
    ]
    assert hosts == [{}, {uuid(1): "h1@memory#memory"}, {uuid(1): "h1@memory#memory"}]
