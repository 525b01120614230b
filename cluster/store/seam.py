"""How a transaction is run: `await store.read(work)` and `await store.write(work)`.

`work` is a plain function of one SQLAlchemy connection. It runs whole inside one transaction, may be run again when
the database asks for that (so it must have no effect but through the connection), and its exception rolls the
transaction back and reaches the caller. The same `work` runs on SQLite (synchronously) and on PostgreSQL
(over an asynchronous engine).

    StoreError
    └── StoreUnavailableError   the database does not answer; nothing is known to be written
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

T = TypeVar("T")
Work = Callable[[Connection], T]


class StoreError(Exception):
    """The database could not do what was asked."""


class StoreUnavailableError(StoreError):
    """The database does not answer."""


class Store(Protocol):
    """A database with Pumice's tables."""

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent view of the database; it must not write."""
        ...

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one durable transaction (synced to disk before this returns)."""
        ...

    async def close(self) -> None:
        """Let go of all connections. Safe to repeat."""
        ...


# What the database says of the statement or the data, not of itself: the caller's affair, and our defect if unhandled.
_OURS = (IntegrityError, DataError, ProgrammingError)


@contextmanager
def translated(database: str) -> Iterator[None]:
    """Within it, what the database says of its own state (locked, full, broken, gone, no connection free) becomes
    StoreUnavailableError. What it says of data or statements passes as it is."""
    try:
        yield
    except _OURS:
        raise
    except DBAPIError as error:
        raise StoreUnavailableError(f"{database}: {error.orig}") from error
    except PoolTimeoutError as error:
        raise StoreUnavailableError(f"{database}: no connection is free") from error


def hold(db: Connection, name: str) -> None:
    """Make writers that hold the same `name` go one after another until this transaction ends.

    SQLite has one writer at a time anyway; PostgreSQL takes a transaction-scoped advisory lock.
    """
    if db.dialect.name == "postgresql":
        db.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})
