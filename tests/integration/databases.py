"""Fixtures: an empty database on either engine, and an open store on it with the newest schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cluster.settings import Settings
from cluster.store.open import migrate, open_store
from cluster.store.seam import Store
from tests.integration.postgresql_server import PostgresqlServer


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A running PostgreSQL server."""
    server = PostgresqlServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, on each engine in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'pumice.db'}"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    """Settings of an instance on that database."""
    return Settings(state_dir=tmp_path, host_name="h1", database_url=database)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store with the newest schema."""
    await migrate(database)
    opened = open_store(database)
    yield opened
    await opened.close()


@pytest.fixture
async def other_store(store: Store, database: str) -> AsyncIterator[Store]:
    """A second store on the same database, as another process of the control side has it."""
    opened = open_store(database)
    yield opened
    await opened.close()
