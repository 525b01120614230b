"""The database of a simulation: SQLite in memory, every transaction whole at one moment of virtual time.

A commit happens in the process that wants it, some time after it was asked for, and is answered some time later: a
process that is killed between has written what it never heard of. Nothing that was committed is ever lost.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from cluster.outside import Outside
from cluster.settings import Settings
from cluster.store.open import migrate, open_store
from cluster.store.seam import StoreUnavailableError, Work, translated
from cluster.volume_types.intents import ensure_default_type
from tests.simulation.loop import Process
from tests.simulation.model import Look, rows

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")


@functools.cache
def template() -> bytes:
    """A migrated database with the default volume type, made once a process."""

    async def make(directory: Path) -> bytes:
        url = f"sqlite:///{directory / 'template.db'}"
        await migrate(url)
        store = open_store(url)
        await ensure_default_type(store, Settings(state_dir=directory), Outside())
        await store.close()
        import sqlite3

        disk, memory = sqlite3.connect(directory / "template.db"), sqlite3.connect(":memory:")
        disk.backup(memory)
        memory.execute("UPDATE volume_type SET id = '00000000-0000-4000-8000-000000000001', created_at = ''")
        memory.commit()
        # Bytes 18 and 19 of the header say WAL, which a database in memory cannot have.
        content = bytearray(memory.serialize())
        content[18:20] = b"\x01\x01"
        disk.close()
        memory.close()
        return bytes(content)

    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(make(Path(directory)))


@functools.cache
def _connection() -> Connection:
    # One for all runs of the process: SQLAlchemy keeps what it compiled with the engine.
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"isolation_level": None, "check_same_thread": False}
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine.connect()


class Database:
    """The records of one run."""

    def __init__(self) -> None:
        self._db = _connection()
        driver: Any = self._db.connection.driver_connection
        if driver.in_transaction:
            driver.rollback()
        driver.deserialize(template())
        driver.execute("PRAGMA foreign_keys=ON")
        self._driver = driver

    def run(self, work: Work[T]) -> T:
        """One transaction, now."""
        with translated("SQLite"), self._db.begin():
            return work(self._db)

    def rows(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """What a plain statement finds now."""
        return rows(self._db, statement, *parameters)

    def look(self) -> Look:
        """The records now."""
        return Look.at(self._db)

    def write(self, work: Work[T]) -> tuple[T, bool]:
        """One transaction, now; and whether it changed anything."""
        before = self._driver.total_changes
        result = self.run(work)
        return result, self._driver.total_changes != before


class SimulatedStore:
    """The database as one process sees it (`cluster.store.seam.Store`)."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process

    async def read(self, work: Work[T]) -> T:
        await asyncio.sleep(self._world.chance.latency())
        if self._world.faults.strikes("store-read"):
            raise StoreUnavailableError("simulated: the database does not answer")
        return self._world.database.run(work)

    async def write(self, work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        loop.call_later(self._world.chance.latency(), self._commit, work, answer, context=copy_context())
        # Shielded as in production: a caller that gives up does not undo its write.
        return await asyncio.shield(answer)

    async def close(self) -> None:
        return None

    def _commit(self, work: Work[Any], answer: asyncio.Future[Any]) -> None:
        world = self._world
        settle: Callable[[Any], None] = answer.set_exception
        result: Any
        try:
            if world.over:
                raise StoreUnavailableError("the simulation is over")
            if world.faults.strikes("store-before"):
                raise StoreUnavailableError("simulated: the database went away before the commit")
            result, changed = world.database.write(work)
            world.trace("commit", self._process.name, changed)
            if changed:
                world.watch.committed(self._process)
            if world.faults.strikes("store-after"):
                raise StoreUnavailableError("simulated: the database went away after the commit")
            settle = answer.set_result
        except Exception as error:  # it is the caller's
            result = error
        asyncio.get_running_loop().call_later(world.chance.latency(), _answer, answer, settle, result)


def _answer(future: asyncio.Future[Any], settle: Callable[[Any], None], result: Any) -> None:
    settle(result)
    future.exception()  # whoever asked may have given up
