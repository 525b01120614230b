"""The store for several control nodes: PostgreSQL through psycopg's asynchronous driver."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from cluster.store.seam import StoreUnavailableError, Work

T = TypeVar("T")
_AGAIN = {"40001", "40P01"}  # serialization failure, deadlock: PostgreSQL asks for the transaction once more
_TRIES = 6


class PostgresqlStore:
    """A store at `url` (`postgresql+psycopg://…`). The schema must be up to date (`migrate`)."""

    def __init__(self, url: str, pool_size: int = 8) -> None:
        self._engine = create_async_engine(url, pool_size=pool_size, max_overflow=8, pool_pre_ping=True)

    async def read(self, work: Work[T]) -> T:
        try:
            async with self._engine.connect() as db:
                await db.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                return await db.run_sync(work)
        except (OperationalError, InterfaceError) as error:
            raise StoreUnavailableError(f"PostgreSQL: {error.orig}") from error

    async def write(self, work: Work[T]) -> T:
        for attempt in range(1, _TRIES + 1):
            try:
                async with self._engine.begin() as db:
                    return await db.run_sync(work)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) in _AGAIN and attempt < _TRIES:
                    await asyncio.sleep(0.01 * attempt)
                elif isinstance(error, OperationalError | InterfaceError):
                    raise StoreUnavailableError(f"PostgreSQL: {error.orig}") from error
                else:
                    raise
        raise AssertionError("unreachable")

    async def close(self) -> None:
        await self._engine.dispose()
