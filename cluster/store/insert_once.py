"""Inserting a row that may be there already: two who insert it at the same time both succeed, on either database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import SQLModel


def insert_once(db: Connection, table: type[SQLModel], values: Mapping[str, Any]) -> None:
    """Insert the row unless one with its key is there. Raises IntegrityError for any other constraint."""
    insert = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    db.execute(insert(table).values(**values).on_conflict_do_nothing())
