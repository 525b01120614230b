"""Runs the revisions on the URL that `cluster.store.open.migration_config` handed in, one migrator at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, text

from cluster.store.tables import metadata

_LOCK = 7_086_423_001  # any constant: PostgreSQL's advisory lock for Pumice's migrations


def run() -> None:
    """Run the revisions online; SQLite rewrites tables (batch mode) where it cannot alter them."""
    engine = create_engine(context.config.attributes["url"])
    try:
        with engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=metadata,
                render_as_batch=connection.dialect.name == "sqlite",
                compare_type=True,
            )
            with context.begin_transaction():
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                context.run_migrations()
    finally:
        engine.dispose()


run()
