"""The store for several control nodes: PostgreSQL through psycopg's asynchronous driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from cluster.store.seam import StoreUnavailableError, Work, translated

T = TypeVar("T")
_AGAIN = {"40001", "40P01"}  # serialization failure, deadlock: PostgreSQL asks for the transaction once more
_TRIES = 6
# A transaction here takes milliseconds. A server that does not answer for so long is away, whatever TCP believes.
_TRANSACTION_SECONDS = 30.0
_CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c statement_timeout=20000 -c lock_timeout=20000 -c idle_in_transaction_session_timeout=60000",
}


class PostgresqlStore:
    """A store at `url` (`postgresql+psycopg://…`). The schema must be up to date (`migrate`)."""

    def __init__(self, url: str, pool_size: int = 16) -> None:
        self._engine = create_async_engine(
            url, pool_size=pool_size, max_overflow=16, pool_pre_ping=True, hide_parameters=True, connect_args=_CONNECT
        )

    async def read(self, work: Work[T]) -> T:
        async with _bounded(), self._engine.connect() as db:
            await db.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            return await db.run_sync(work)

    async def write(self, work: Work[T]) -> T:
        for attempt in range(1, _TRIES + 1):
            async with _bounded():
                try:
                    async with self._engine.begin() as db:
                        return await db.run_sync(work)
                except DBAPIError as error:
                    if getattr(error.orig, "sqlstate", None) not in _AGAIN or attempt == _TRIES:
                        raise
            await asyncio.sleep(0.01 * attempt)
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        await self._engine.dispose()


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    try:
        with translated("PostgreSQL"):
            async with asyncio.timeout(_TRANSACTION_SECONDS):
                yield
    except TimeoutError as error:
        raise StoreUnavailableError(f"PostgreSQL did not answer for {_TRANSACTION_SECONDS:g} s") from error
