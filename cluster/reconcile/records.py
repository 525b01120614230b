"""Objects found on a backend that no row stands for. A person decides what becomes of them."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class Orphan(SQLModel, table=True):
    """One object. `host` is `host@backend#pool`; `kind` is `volume` or `snapshot`; `first_seen_at` is a wire time."""

    __tablename__ = "orphan"

    id: str = Field(primary_key=True, max_length=36)
    kind: str = Field(max_length=16)
    host: str = Field(max_length=255, index=True)
    size_bytes: int = Field(sa_type=BigInteger)
    parent_id: str | None = Field(default=None, max_length=36)
    location: str = Field(max_length=1024)
    first_seen_at: str = Field(max_length=26)
