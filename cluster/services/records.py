"""What the running pieces last reported: services and pools. Written by the scheduler, read by the API."""

from __future__ import annotations

from sqlalchemy import JSON, Column, UniqueConstraint
from sqlmodel import Field, SQLModel


class Service(SQLModel, table=True):
    """A running piece. `binary` is Cinder's name for it (cinder-volume, cinder-scheduler); `host` is `host@backend`
    for a volume service. `heartbeat_at` is seconds since the epoch."""

    __tablename__ = "service"
    __table_args__ = (UniqueConstraint("binary", "host"),)

    id: str = Field(primary_key=True, max_length=36)
    binary: str = Field(max_length=64)
    host: str = Field(max_length=255)
    availability_zone: str = Field(max_length=255)
    disabled: bool = False
    disabled_reason: str | None = Field(default=None, max_length=255)
    backend_state: str | None = Field(default=None, max_length=8)
    node_labels: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    heartbeat_at: float
    created_at: str = Field(max_length=26)
    updated_at: str | None = Field(default=None, max_length=26)


class Pool(SQLModel, table=True):
    """A pool as last reported. `name` is `host@backend#pool`; `stats` is the capabilities document of the wire."""

    __tablename__ = "pool"

    name: str = Field(primary_key=True, max_length=255)
    service_host: str = Field(max_length=255, index=True)
    stats: dict[str, object] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    reported_at: float
