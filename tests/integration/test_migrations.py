"""The revisions: up, down, up again, several migrators at once; their end is what the models say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text

from cluster.store.open import migrate, migration_config
from cluster.store.tables import metadata
from tests.integration.databases import database, postgresql  # noqa: F401 - fixtures

# Dies by kill -9 in the middle of the first revision.
_MIGRATE_AND_DIE = """
import asyncio, os, sys
from sqlalchemy import Engine, event
from cluster.store.open import migrate

seen = []

@event.listens_for(Engine, "before_cursor_execute")
def count(connection, cursor, statement, *rest):
    seen.append(statement.lstrip().startswith("CREATE TABLE"))
    if sum(seen) == 5:
        os.kill(os.getpid(), 9)

asyncio.run(migrate(sys.argv[1]))
"""
_MIGRATE = "import asyncio, sys; from cluster.store.open import migrate; asyncio.run(migrate(sys.argv[1]))"


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:  # noqa: F811
    """A plain connection, outside of the product's store."""
    engine = create_engine(database)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def _tables(connection: Connection) -> set[str]:
    connection.rollback()
    return set(inspect(connection).get_table_names())


async def test_the_newest_revision_is_what_the_models_say(database: str, connection: Connection) -> None:  # noqa: F811
    await migrate(database)
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    assert compare_metadata(context, metadata) == []


async def test_partial_indexes_exist_on_the_engine(database: str, connection: Connection) -> None:  # noqa: F811
    await migrate(database)
    found = {index["name"]: index for index in inspect(connection).get_indexes("operation")}
    assert found["operation_one_live"]["unique"]
    where = found["operation_one_live"]["dialect_options"][f"{connection.dialect.name}_where"]
    assert "live" in str(where)


async def test_down_leaves_nothing_and_up_again_works(database: str, connection: Connection) -> None:  # noqa: F811
    await migrate(database)
    assert set(metadata.tables) < _tables(connection)
    connection.rollback()
    await asyncio.to_thread(command.downgrade, migration_config(database), "base")
    assert _tables(connection) == {"alembic_version"}
    connection.rollback()
    await migrate(database)
    assert set(metadata.tables) < _tables(connection)


async def test_migrating_twice_changes_nothing(database: str, connection: Connection) -> None:  # noqa: F811
    await migrate(database)
    connection.execute(text("INSERT INTO lease (name, epoch, holder, expires_at) VALUES ('l', 3, 'h', 0)"))
    connection.commit()
    await migrate(database)
    assert connection.execute(text("SELECT epoch FROM lease")).scalar_one() == 3


async def test_a_killed_migration_can_be_repeated(database: str, connection: Connection) -> None:  # noqa: F811
    done = subprocess.run(
        [sys.executable, "-c", _MIGRATE_AND_DIE, database], timeout=60, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == -9
    assert _tables(connection) <= {"alembic_version"}
    connection.rollback()
    await migrate(database)
    assert set(metadata.tables) < _tables(connection)


def test_migrators_at_once_wait_for_one_another(database: str, connection: Connection) -> None:  # noqa: F811
    migrators = [
        subprocess.Popen(
            [sys.executable, "-c", _MIGRATE, database], stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        for _ in range(3)
    ]
    said = [migrator.communicate(timeout=60)[1] for migrator in migrators]
    assert [migrator.returncode for migrator in migrators] == [0, 0, 0], said
    assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1


async def test_sqlite_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "pumice.db"
    await migrate(f"sqlite:///{path}")
    assert path.stat().st_mode & 0o777 == 0o600
