"""Fixtures: an empty database on either engine, and an open store on it with the newest schema."""

from __future__ import annotations

import asyncio
import shutil
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


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the newest schema, to copy: migrating costs more than most tests."""
    path = tmp_path_factory.mktemp("template") / "pumice.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgresqlServer) -> str:
    """The URL of a PostgreSQL database with the newest schema, to copy."""
    url = postgresql.new_database()
    asyncio.run(migrate(url))
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the newest schema, on each engine in turn."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "pumice.db")
        return f"sqlite:///{tmp_path / 'pumice.db'}"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.new_database(template=request.getfixturevalue("postgresql_template"))


@pytest.fixture
def settings(migrated: str, tmp_path: Path) -> Settings:
    """Settings of an instance on that database."""
    return Settings(state_dir=tmp_path, host_name="h1", database_url=migrated)


@pytest.fixture
async def store(migrated: str) -> AsyncIterator[Store]:
    """A store with the newest schema."""
    opened = open_store(migrated)
    yield opened
    await opened.close()


@pytest.fixture
async def other_store(store: Store, migrated: str) -> AsyncIterator[Store]:
    """A second store on the same database, as another process of the control side has it."""
    opened = open_store(migrated)
    yield opened
    await opened.close()
