"""The embedded store: shared commits, and what becomes of them when one of them fails."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from cluster.store.seam import StoreUnavailableError
from cluster.store.sqlite import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    path = tmp_path / "t.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)")
    db.close()
    opened = SqliteStore(path)
    yield opened
    await opened.close()


async def ids(store: SqliteStore) -> list[int]:
    return await store.read(lambda db: list(db.scalars(text("SELECT id FROM t ORDER BY id"))))


def put(number: int, size: int = 1):  # type: ignore[no-untyped-def]
    def work(db: Connection) -> int:
        db.execute(text("INSERT INTO t VALUES (:id, zeroblob(:size))"), {"id": number, "size": size})
        return number

    return work


async def test_writers_that_gather_share_a_commit_and_keep_their_own_errors(store: SqliteStore) -> None:
    results = await asyncio.gather(*(store.write(put(one)) for one in (1, 2, 2, 3)), return_exceptions=True)
    assert results[:2] == [1, 2]
    assert isinstance(results[2], IntegrityError)
    assert results[3] == 3
    assert await ids(store) == [1, 2, 3]


async def test_when_sqlite_gives_the_transaction_up_nobody_is_told_that_it_is_done(store: SqliteStore) -> None:
    await store.write(lambda db: db.execute(text("PRAGMA max_page_count = 8")) and None)
    results = await asyncio.gather(
        store.write(put(1)), store.write(put(2, size=1 << 20)), store.write(put(3)), return_exceptions=True
    )
    there = await ids(store)
    for number, result in zip((1, 2, 3), results, strict=True):
        assert (result == number) == (number in there)
    assert isinstance(results[1], StoreUnavailableError)
    await store.write(put(9))
    assert 9 in await ids(store)


async def test_a_locked_or_broken_database_is_unavailable_not_a_defect(store: SqliteStore) -> None:
    def broken(db: Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    def through_sqlalchemy(db: Connection) -> None:
        db.exec_driver_sql("SELECT * FROM no_such_table")

    with pytest.raises(StoreUnavailableError, match="no such table"):
        await store.read(through_sqlalchemy)
    with pytest.raises(StoreUnavailableError, match="no such table"):
        await store.write(through_sqlalchemy)
    with pytest.raises(sqlite3.OperationalError):
        await store.write(broken)
    assert await store.write(put(1)) == 1


async def test_a_caller_that_gives_up_undoes_nothing(store: SqliteStore) -> None:
    task = asyncio.create_task(store.write(put(5)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(put(6))
    assert await ids(store) == [5, 6]


async def test_a_closed_store_says_so(store: SqliteStore) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.write(put(1))
