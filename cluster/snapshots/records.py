"""The snapshot table. Times are wire times (`cluster.outside.stamp`)."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, Column, Index
from sqlmodel import Field, SQLModel


class SnapshotStatus(StrEnum):
    """Cinder's snapshot states."""

    CREATING = "creating"
    AVAILABLE = "available"
    BACKING_UP = "backing-up"
    DELETING = "deleting"
    DELETED = "deleted"
    ERROR = "error"
    ERROR_DELETING = "error_deleting"
    UPDATING = "updating"
    UNMANAGING = "unmanaging"
    RESTORING = "restoring"


class Snapshot(SQLModel, table=True):
    """One snapshot. A deleted snapshot has no row. It lives in the pool of its volume; `size_gib` is the volume's
    size when it was taken."""

    __tablename__ = "snapshot"
    __table_args__ = (
        Index("snapshot_by_project", "project_id", "created_at", "id"),
        Index("snapshot_by_time", "created_at", "id"),
        Index("snapshot_by_usage", "project_id", "consumes_quota", "volume_type_id", "size_gib"),
        Index("snapshot_by_volume", "volume_id"),
    )

    id: str = Field(primary_key=True, max_length=36)
    volume_id: str = Field(max_length=36, foreign_key="volume.id")
    project_id: str = Field(max_length=255)
    user_id: str = Field(max_length=255)
    name: str | None = Field(default=None, max_length=255)
    description: str | None = Field(default=None, max_length=255)
    size_gib: int
    status: str = Field(max_length=32)
    progress: str | None = Field(default=None, max_length=8)
    volume_type_id: str | None = Field(default=None, max_length=36)
    group_snapshot_id: str | None = Field(default=None, max_length=36)
    user_metadata: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    consumes_quota: bool = True
    created_at: str = Field(max_length=26)
    updated_at: str | None = Field(default=None, max_length=26)
