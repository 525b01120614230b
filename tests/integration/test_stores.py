"""The store and the intents on both engines: whole transactions, races that must not be lost, fences, pages, filters.

Every test runs on SQLite and on a real PostgreSQL; `other_store` stands for another process on the same database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update
from sqlmodel import col

from cluster.caller import Caller
from cluster.errors import ConflictError, InvalidStateError, OverQuotaError, RequestError
from cluster.journal import lease, ledger
from cluster.journal.intents import open_operation
from cluster.journal.ledger import CONDUCTOR, FencedError
from cluster.journal.records import Operation, OperationState, OperationStep
from cluster.messages.catalogue import Action, Detail, ResourceType
from cluster.messages.intents import prune, tell
from cluster.outside import Outside
from cluster.quotas import usage
from cluster.quotas.intents import set_limits
from cluster.quotas.records import QuotaLimit
from cluster.services.intents import report_pools, report_service
from cluster.services.records import Pool, Service
from cluster.settings import Settings
from cluster.store.open import open_store
from cluster.store.seam import Store, StoreUnavailableError, hold
from cluster.volume_types.intents import create as create_type
from cluster.volume_types.intents import ensure_default_type
from cluster.volumes import filters, intents, queries
from cluster.volumes.deletion import delete_volume
from cluster.volumes.intents import NewVolume
from cluster.volumes.records import Volume
from serve_app.wire.paging import Page, apply_page
from tests.integration.databases import (  # noqa: F401 - fixtures
    migrated,
    other_store,
    postgresql,
    postgresql_template,
    settings,
    sqlite_template,
    store,
)
from tests.integration.postgresql_server import PostgresqlServer

# The fixtures are imported by name, so that tests can ask for them by the same name.
# ruff: noqa: F811

CALLER = Caller(user_id="u", project_id="p", request_id="req-1", roles=frozenset({"member"}))
OUTSIDE = Outside()


async def _zone(store: Store, settings: Settings) -> None:
    """What a volume's create looks up: the default type, and a volume service in the zone."""
    await ensure_default_type(store, settings, OUTSIDE)
    await store.write(
        lambda db: report_service(
            db,
            OUTSIDE,
            binary="cinder-volume",
            host="h1@reflink",
            availability_zone=settings.availability_zone,
            node_labels={},
            backend_state="up",
        )
    )


async def _create(store: Store, settings: Settings, size_gib: int = 1, caller: Caller = CALLER, **values: Any) -> str:
    wanted = NewVolume(size_gib=size_gib, **values)
    row = await store.write(lambda db: intents.create(db, settings, OUTSIDE, caller, wanted))
    return row["id"]


async def _settle(store: Store, volume_id: str, **values: Any) -> None:
    """What the flow's end writes."""

    def work(db: Connection) -> None:
        changed = {"status": "available", "host": "h1@reflink#reflink"} | values
        db.execute(update(Volume).where(col(Volume.id) == volume_id).values(**changed))
        db.execute(update(Operation).where(col(Operation.resource_id) == volume_id).values(state=OperationState.DONE))

    await store.write(work)


async def _count(store: Store, table: type) -> int:
    return await store.read(lambda db: int(db.execute(select(func.count()).select_from(table)).scalar_one()))


def _errors(outcomes: list[Any]) -> list[type]:
    return sorted({type(one) for one in outcomes if isinstance(one, BaseException)}, key=str)


class TestTransactions:
    """A write is whole or nothing."""

    async def test_an_exception_takes_everything_back(self, store: Store) -> None:
        def work(db: Connection) -> None:
            lease.take(db, "a", "me", 0.0, 10.0)
            raise ConflictError("no")

        with pytest.raises(ConflictError):
            await store.write(work)
        assert await store.write(lambda db: lease.take(db, "a", "you", 0.0, 10.0)) == 1

    async def test_one_failing_writer_harms_no_other(self, store: Store) -> None:
        def good(number: int) -> Callable[[Connection], Any]:
            return lambda db: lease.take(db, f"lease-{number}", "me", 0.0, 10.0)

        def bad(db: Connection) -> None:
            lease.take(db, "never", "me", 0.0, 10.0)
            raise ConflictError("no")

        works = [bad if number % 3 == 0 else good(number) for number in range(30)]
        outcomes = await asyncio.gather(*(store.write(work) for work in works), return_exceptions=True)
        assert [outcome == 1 for outcome in outcomes] == [number % 3 != 0 for number in range(30)]
        assert _errors(outcomes) == [ConflictError]
        assert await store.write(lambda db: lease.take(db, "never", "you", 0.0, 1.0)) == 1

    async def test_writers_of_two_processes_lose_no_update(self, store: Store, other_store: Store) -> None:
        def work(db: Connection) -> None:
            hold(db, "counter")
            now = db.execute(select(col(QuotaLimit.hard_limit)).where(col(QuotaLimit.project_id) == "count")).scalar()
            if now is None:
                db.execute(insert(QuotaLimit).values(project_id="count", resource="volumes", hard_limit=1))
            else:
                db.execute(update(QuotaLimit).where(col(QuotaLimit.project_id) == "count").values(hard_limit=now + 1))

        await asyncio.gather(*(one.write(work) for _ in range(40) for one in (store, other_store)))
        found = await store.read(lambda db: db.execute(select(col(QuotaLimit.hard_limit))).scalars().all())
        assert found == [80]

    async def test_what_one_process_wrote_the_other_reads_at_once(self, store: Store, other_store: Store) -> None:
        for number in range(20):
            await store.write(lambda db, name=f"l{number}": lease.take(db, name, "me", 0.0, 1.0))
            names = await other_store.read(lambda db: list(db.scalars(select(ledger._LEASE.c.name))))
            assert f"l{number}" in names


class TestQuota:
    """The last of the quota goes to one writer only."""

    async def test_a_race_for_the_last_volumes(self, store: Store, other_store: Store, settings: Settings) -> None:
        await _zone(store, settings)
        await store.write(lambda db: set_limits(db, "p", {"volumes": 7}))
        outcomes = await asyncio.gather(
            *(_create(one, settings) for _ in range(10) for one in (store, other_store)), return_exceptions=True
        )
        assert len([one for one in outcomes if isinstance(one, str)]) == 7
        assert _errors(outcomes) == [OverQuotaError]
        assert await _count(store, Volume) == await _count(store, Operation) == 7
        assert str(next(one for one in outcomes if isinstance(one, OverQuotaError))) == (
            "Maximum number of volumes allowed (7) exceeded for quota 'volumes'."
        )

    async def test_a_race_for_gigabytes_by_extends(self, store: Store, other_store: Store, settings: Settings) -> None:
        await _zone(store, settings)
        ids = [await _create(store, settings, 10) for _ in range(6)]
        for volume_id in ids:
            await _settle(store, volume_id)
        await store.write(lambda db: set_limits(db, "p", {"gigabytes": 80}))

        async def extend(one: Store, volume_id: str) -> None:
            await one.write(lambda db: intents.extend(db, settings, OUTSIDE, CALLER, volume_id, 20))

        outcomes = await asyncio.gather(
            *(extend((store, other_store)[place % 2], volume_id) for place, volume_id in enumerate(ids)),
            return_exceptions=True,
        )
        assert outcomes.count(None) == 2
        assert _errors(outcomes) == [OverQuotaError]
        used = await store.read(lambda db: usage.usage(db, "p"))
        assert (used["gigabytes"].in_use, used["gigabytes"].reserved) == (60, 20)

    async def test_types_and_projects_are_counted_apart(self, store: Store, settings: Settings) -> None:
        await _zone(store, settings)
        await store.write(
            lambda db: create_type(db, OUTSIDE, name="fast", description=None, extra_specs={}, is_public=True)
        )
        await store.write(lambda db: set_limits(db, "p", {"gigabytes_fast": 3}))
        await _create(store, settings, 3, volume_type="fast")
        await _create(store, settings, 5)
        await _create(store, settings, 9, volume_type="fast", caller=replace(CALLER, project_id="q"))
        with pytest.raises(OverQuotaError, match="gigabytes_fast"):
            await _create(store, settings, 1, volume_type="fast")
        used = await store.read(lambda db: usage.usage(db, "p"))
        assert (used["gigabytes"].in_use, used["gigabytes_fast"].in_use, used["volumes_fast"].in_use) == (8, 3, 1)


class TestOperations:
    """At most one live operation a resource, and nobody but the holder of the lease writes."""

    async def test_of_many_intents_one_wins(self, store: Store, other_store: Store, settings: Settings) -> None:
        await _zone(store, settings)
        volume_id = await _create(store, settings)
        await _settle(store, volume_id)

        def extend(db: Connection) -> None:
            intents.extend(db, settings, OUTSIDE, CALLER, volume_id, 2)

        def remove(db: Connection) -> None:
            delete_volume(db, OUTSIDE, CALLER, volume_id)

        outcomes = await asyncio.gather(
            *(one.write(work) for work in (extend, remove) * 4 for one in (store, other_store)), return_exceptions=True
        )
        assert len([one for one in outcomes if not isinstance(one, BaseException)]) == 1
        assert all(isinstance(one, RequestError) for one in outcomes if isinstance(one, BaseException))
        live = await store.read(lambda db: ledger.due(db, 1e12))
        assert len(live) == 1

    async def test_a_second_operation_is_refused_until_the_first_is_closed(self, store: Store) -> None:
        first = await store.write(lambda db: open_operation(db, OUTSIDE, CALLER, "volume.delete", "v"))
        with pytest.raises(InvalidStateError, match="still being worked on"):
            await store.write(lambda db: open_operation(db, OUTSIDE, CALLER, "volume.delete", "v"))
        epoch = await store.write(lambda db: lease.take(db, CONDUCTOR, "me", 0.0, 10.0))
        assert epoch is not None
        await store.write(lambda db: ledger.close(db, first, epoch, OUTSIDE.now()))
        assert await store.write(lambda db: open_operation(db, OUTSIDE, CALLER, "volume.delete", "v")) != first

    async def test_a_replaced_conductor_writes_nothing(self, store: Store, other_store: Store) -> None:
        operation = await store.write(lambda db: open_operation(db, OUTSIDE, CALLER, "volume.delete", "v"))
        assert await store.write(lambda db: lease.take(db, CONDUCTOR, "old", 0.0, 10.0)) == 1
        assert await other_store.write(lambda db: lease.take(db, CONDUCTOR, "new", 5.0, 10.0)) is None
        await store.write(lambda db: ledger.write_step(db, operation, 1, 1, "one", {"host": "h"}, OUTSIDE.now()))
        epoch = await other_store.write(lambda db: lease.take(db, CONDUCTOR, "new", 11.0, 10.0))
        assert epoch is not None
        assert epoch > 1
        assert not await store.write(lambda db: lease.renew(db, CONDUCTOR, 1, 12.0, 10.0))
        (entry,) = await store.read(lambda db: ledger.load(db, [operation]))
        for work in (
            lambda db: ledger.write_step(db, operation, 1, 2, "two", {}, OUTSIDE.now()),
            lambda db: ledger.write_later(db, entry, 1, 0.0, "later", uncertain=False),
            lambda db: ledger.write_failing(db, operation, 1, {"error": "E", "message": "m"}),
            lambda db: ledger.close(db, operation, 1, OUTSIDE.now()),
        ):
            with pytest.raises(FencedError):
                await store.write(work)
        entries = await other_store.read(lambda db: ledger.load(db, [operation]))
        assert [(entry.steps, entry.failing) for entry in entries] == [({"one": {"host": "h"}}, None)]
        await other_store.write(lambda db: ledger.close(db, operation, epoch, OUTSIDE.now()))
        assert await store.read(lambda db: ledger.load(db, [operation])) == []

    async def test_a_lease_has_one_holder_whoever_races(self, store: Store, other_store: Store) -> None:
        epochs = await asyncio.gather(
            *(
                one.write(lambda db, name=f"h{number}-{one is store}": lease.take(db, "l", name, 0.0, 10.0))
                for number in range(10)
                for one in (store, other_store)
            )
        )
        assert sorted(epoch for epoch in epochs if epoch is not None) == [1]

    async def test_old_operations_are_forgotten_with_their_steps(self, store: Store) -> None:
        old = await store.write(lambda db: open_operation(db, OUTSIDE, CALLER, "volume.delete", "v"))
        live = await store.write(lambda db: open_operation(db, OUTSIDE, CALLER, "volume.delete", "w"))
        await store.write(lambda db: lease.take(db, CONDUCTOR, "me", 0.0, 10.0))
        for operation in (old, live):
            await store.write(lambda db, one=operation: ledger.write_step(db, one, 1, 1, "s", {}, OUTSIDE.now()))
        await store.write(lambda db: ledger.close(db, old, 1, "2026-01-01T00:00:00.000000"))
        await store.write(lambda db: ledger.forget(db, "2026-01-02T00:00:00.000000"))
        assert await store.read(lambda db: list(db.scalars(select(col(Operation.id))))) == [live]
        assert await _count(store, OperationStep) == 1


class TestReads:
    """Pages, filters and sums are the same whatever the engine."""

    @pytest.fixture
    async def rows(self, store: Store, settings: Settings) -> dict[str, Mapping[str, Any]]:
        """Volumes with equal times, equal and missing names, upper and lower case, other projects'."""
        await _zone(store, settings)
        await store.write(lambda db: set_limits(db, "p", {"volumes": -1, "gigabytes": -1}))
        names = [None, "b", "a", "B", "ä", "", "a", None, "a_c", "a%c", "Z", "_", "%"]

        def create_all(db: Connection) -> None:
            for number in range(26):
                metadata = {"number": str(number % 4), "a key: with/dots.": 'quote " and \\'} if number % 2 else {}
                stopped = Outside(seconds=lambda: 1_700_000_000.0 + number // 5)  # noqa: B023 - used at once
                wanted = NewVolume(size_gib=1 + number % 3, name=names[number % len(names)], metadata=metadata)
                intents.create(db, settings, stopped, CALLER, wanted)

        await store.write(create_all)
        await _create(store, settings, caller=replace(CALLER, project_id="q"), name="a", metadata={"number": "1"})
        return {row["id"]: row for row in await self._list(store)}

    @staticmethod
    async def _list(store: Store, page: Page | None = None, marker: str | None = None, **asked: Any) -> list[Any]:
        chosen = page or Page(1000, None, 0, (("created_at", "desc"), ("id", "desc")))

        def work(db: Connection) -> list[Any]:
            behind = queries.sort_values(db, CALLER, marker) if marker else None
            statement, parameters = queries.listing(CALLER, filters.conditions(asked))
            return list(queries.rows(db.execute(apply_page(statement, queries.SORTABLE, chosen, behind), parameters)))

        return await store.read(work)

    @pytest.mark.parametrize("direction", ["asc", "desc"])
    @pytest.mark.parametrize("key", ["created_at", "name", "size", "description", "status", "id"])
    async def test_pages_show_every_row_once(
        self, store: Store, rows: Mapping[str, Any], key: str, direction: str
    ) -> None:
        sort = ((key, direction),) if key == "id" else ((key, direction), ("id", direction))
        whole = [row["id"] for row in await self._list(store, Page(1000, None, 0, sort))]
        paged: list[str] = []
        while page := await self._list(store, Page(4, None, 0, sort), paged[-1] if paged else None):
            paged += [row["id"] for row in page]
        assert paged == whole
        assert sorted(paged) == sorted(rows)

    async def test_mixed_directions_page_as_well(self, store: Store, rows: Mapping[str, Any]) -> None:
        sort = (("name", "asc"), ("size", "desc"), ("created_at", "asc"), ("id", "desc"))
        whole = [row["id"] for row in await self._list(store, Page(1000, None, 0, sort))]
        paged: list[str] = []
        while page := await self._list(store, Page(3, None, 0, sort), paged[-1] if paged else None):
            paged += [row["id"] for row in page]
        assert paged == whole
        assert len(set(paged)) == len(rows) == 26

    async def test_null_sorts_below_everything(self, store: Store, rows: Mapping[str, Any]) -> None:
        up = await self._list(store, Page(1000, None, 0, (("name", "asc"), ("id", "asc"))))
        assert [row["name"] for row in up[:5]] == [None, None, None, None, ""]

    async def test_text_sorts_alike_on_both_engines(self, store: Store, rows: Mapping[str, Any]) -> None:
        up = await self._list(store, Page(1000, None, 0, (("name", "asc"), ("id", "asc"))))
        names = [row["name"] for row in up if row["name"] is not None]
        assert names == sorted(names)

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({"metadata": {"number": "1"}}, lambda row: row["user_metadata"].get("number") == "1"),
            ({"metadata": {"number": "0"}}, lambda row: False),
            ({"metadata": {}}, lambda row: True),
            ({"metadata": {"a key: with/dots.": 'quote " and \\'}}, lambda row: row["user_metadata"] != {}),
            ({"metadata": {"number": "1", "absent": "1"}}, lambda row: False),
            ({"name": "a"}, lambda row: row["name"] == "a"),
            ({"name": None}, lambda row: row["name"] is None),
            ({"name~": "a_"}, lambda row: "a_" in (row["name"] or "").lower()),
            ({"name~": "A"}, lambda row: "a" in (row["name"] or "").lower()),
            ({"name~": "%"}, lambda row: "%" in (row["name"] or "")),
            ({"size": "2"}, lambda row: row["size_gib"] == 2),
            ({"bootable": False}, lambda row: True),
            ({"bootable": True}, lambda row: False),
            ({"size": ["1", "3"]}, lambda row: row["size_gib"] in (1, 3)),
            ({"status": "creating"}, lambda row: True),
        ],
        ids=str,
    )
    async def test_filters(
        self, store: Store, rows: Mapping[str, Any], asked: dict[str, Any], expected: Callable[[Any], bool]
    ) -> None:
        found = {row["id"] for row in await self._list(store, **asked)}
        assert found == {row_id for row_id, row in rows.items() if expected(row)}

    async def test_summary_and_count(self, store: Store, rows: Mapping[str, Any]) -> None:
        number, size, values = await store.read(lambda db: queries.summary(db, CALLER))
        assert (number, size) == (26, sum(row["size_gib"] for row in rows.values()))
        assert {key: sorted(found) for key, found in values.items()} == {
            "number": ["1", "3"],
            "a key: with/dots.": ['quote " and \\'],
        }
        statement, parameters = queries.listing(CALLER)
        assert await store.read(lambda db: queries.count(db, statement, parameters)) == 26

    async def test_metadata_comes_back_as_it_was(self, store: Store, settings: Settings) -> None:
        await _zone(store, settings)
        metadata = {"k": "ünïcode ☃ 𝄞", "empty": "", "lines": "a\nb\tc", "json": '{"a": [1]}', "percent": "%(x)s :y"}
        volume_id = await _create(store, settings, metadata=metadata, name="☃ '\" \\", description="a\nb")
        row = await store.read(lambda db: queries.get(db, CALLER, volume_id))
        assert (row["user_metadata"], row["name"], row["description"]) == (metadata, "☃ '\" \\", "a\nb")


class TestServicesAndMessages:
    """What the scheduler writes at every heartbeat, and what users are told."""

    async def test_heartbeats_at_once_make_one_row(self, store: Store, other_store: Store, settings: Settings) -> None:
        async def beat(one: Store, number: int) -> None:
            def work(db: Connection) -> None:
                report_service(
                    db,
                    OUTSIDE,
                    binary="cinder-volume",
                    host="h@b",
                    availability_zone="nova",
                    node_labels={"rack": str(number)},
                    backend_state="up",
                )
                report_pools(db, OUTSIDE, "h@b", {"h@b#p": {"free_capacity_gb": float(number)}})

            await one.write(work)

        await asyncio.gather(*(beat(one, number) for number in range(10) for one in (store, other_store)))
        assert (await _count(store, Service), await _count(store, Pool)) == (1, 1)

    async def test_messages_end(self, store: Store) -> None:
        def work(db: Connection) -> None:
            for life in (-10.0, 1000.0):
                tell(
                    db,
                    OUTSIDE,
                    life,
                    project_id="p",
                    request_id="req-1",
                    action=Action.EXTEND_VOLUME,
                    detail=Detail.DRIVER_FAILED_EXTEND,
                    resource_type=ResourceType.VOLUME,
                    resource_id="v",
                    reason="x" * 5000,
                )

        await store.write(work)
        assert await store.write(lambda db: prune(db, OUTSIDE.seconds())) == 1


class TestAwayAndBack:
    """PostgreSQL goes away and returns; SQLite has no server that could."""

    async def test_the_store_says_unavailable_and_recovers(
        self, postgresql: PostgresqlServer, postgresql_template: str
    ) -> None:
        store = open_store(postgresql.new_database(postgresql_template))
        try:
            assert await store.write(lambda db: lease.take(db, "l", "me", 0.0, 10.0)) == 1
            postgresql.stop()
            try:
                with pytest.raises(StoreUnavailableError):
                    await store.write(lambda db: lease.take(db, "l", "me", 0.0, 10.0))
                with pytest.raises(StoreUnavailableError):
                    await store.read(lambda db: ledger.due(db, 0.0))
            finally:
                postgresql.start()
            assert await store.write(lambda db: lease.take(db, "l", "me", 0.0, 10.0)) == 2
            assert await store.read(lambda db: ledger.due(db, 0.0)) == []
        finally:
            await store.close()

    async def test_a_deadlock_is_run_again(self, postgresql: PostgresqlServer, postgresql_template: str) -> None:
        store = open_store(postgresql.new_database(postgresql_template))

        def grow(first: str, second: str) -> Callable[[Connection], None]:
            def work(db: Connection) -> None:
                for name in (first, second):
                    db.execute(
                        update(QuotaLimit)
                        .where(col(QuotaLimit.project_id) == name)
                        .values(hard_limit=QuotaLimit.hard_limit + 1)
                    )
                    db.execute(select(func.pg_sleep(0.05)))

            return work

        try:
            for name in ("a", "b"):
                await store.write(lambda db, name=name: set_limits(db, name, {"volumes": 0}))
            await asyncio.gather(*(store.write(grow(*pair)) for pair in (("a", "b"), ("b", "a")) * 2))
            found = await store.read(lambda db: db.execute(select(col(QuotaLimit.hard_limit))).scalars().all())
            assert found == [4, 4]
        finally:
            await store.close()
