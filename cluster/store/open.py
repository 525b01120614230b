"""Opening the store that a URL names, and bringing its schema up to date."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import make_url

from cluster.store.postgresql import PostgresqlStore
from cluster.store.seam import Store
from cluster.store.sqlite import SqliteStore

_MIGRATIONS = Path(__file__).parent / "migrations"


def open_store(url: str) -> Store:
    """The store at `url`: `sqlite:////path` or `postgresql+psycopg://user:password@host/name`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database:
            raise ValueError("database.url: an SQLite URL must name a file")
        return SqliteStore(Path(parsed.database))
    return PostgresqlStore(url)


def migration_config(url: str) -> Config:
    """Alembic's configuration for the database at `url`."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = url
    return config


async def migrate(url: str) -> None:
    """Bring the schema at `url` to the newest revision. Safe to repeat; several at once wait for one another."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        # Made here so that it never exists with wider rights than the owner's.
        os.close(os.open(parsed.database, os.O_CREAT | os.O_RDWR, 0o600))
    await asyncio.to_thread(command.upgrade, migration_config(url), "head")
