"""Runs the revisions on the URL that `cluster.store.open.migration_config` handed in, one migrator at a time."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, event, text

from cluster.store.tables import metadata

_LOCK = 7_086_423_001  # any constant: PostgreSQL's advisory lock for Pumice's migrations


def _begin_for_real(engine: Engine) -> None:
    """Python's sqlite3 begins no transaction before a CREATE: a crash would leave half a schema, and migrators would
    not wait for one another."""

    @event.listens_for(engine, "connect")
    def _manual(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def run() -> None:
    """Run the revisions online; SQLite rewrites tables (batch mode) where it cannot alter them."""
    engine = create_engine(context.config.attributes["url"])
    if engine.dialect.name == "sqlite":
        _begin_for_real(engine)
    try:
        with engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=metadata,
                render_as_batch=connection.dialect.name == "sqlite",
                compare_type=True,
                transactional_ddl=True,
            )
            with context.begin_transaction():
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                context.run_migrations()
    finally:
        engine.dispose()


run()
