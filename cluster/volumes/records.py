"""The volume table. Times are wire times (`cluster.outside.stamp`)."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, Column, Index
from sqlmodel import Field, SQLModel


class VolumeStatus(StrEnum):
    """Cinder's volume states (those of the flows served today are used; all are accepted by a status reset)."""

    CREATING = "creating"
    AVAILABLE = "available"
    RESERVED = "reserved"
    ATTACHING = "attaching"
    DETACHING = "detaching"
    IN_USE = "in-use"
    MAINTENANCE = "maintenance"
    DELETING = "deleting"
    AWAITING_TRANSFER = "awaiting-transfer"
    ERROR = "error"
    ERROR_DELETING = "error_deleting"
    BACKING_UP = "backing-up"
    RESTORING_BACKUP = "restoring-backup"
    ERROR_BACKING_UP = "error_backing-up"
    ERROR_RESTORING = "error_restoring"
    ERROR_EXTENDING = "error_extending"
    DOWNLOADING = "downloading"
    UPLOADING = "uploading"
    RETYPING = "retyping"
    EXTENDING = "extending"
    REVERTING = "reverting"
    MANAGING = "managing"
    ERROR_MANAGING = "error_managing"
    ERROR_MANAGING_DELETING = "error_managing_deleting"
    UNMANAGING = "unmanaging"
    ERROR_UNMANAGING = "error_unmanaging"


class AttachStatus(StrEnum):
    """Cinder's attach states of a volume."""

    DETACHED = "detached"
    RESERVED = "reserved"
    ATTACHING = "attaching"
    ATTACHED = "attached"
    ERROR_ATTACHING = "error_attaching"
    ERROR_DETACHING = "error_detaching"
    DELETED = "deleted"


class Volume(SQLModel, table=True):
    """One volume. A deleted volume has no row. `target_size_gib` is the size an extend under way is to reach, and
    counts towards the quota. `host` is `host@backend#pool` once placed. `readonly` and `attached_mode` live in
    `admin_metadata`."""

    __tablename__ = "volume"
    __table_args__ = (
        Index("volume_by_project", "project_id", "created_at", "id"),
        Index("volume_by_time", "created_at", "id"),
        Index("volume_by_usage", "project_id", "consumes_quota", "volume_type_id", "size_gib", "target_size_gib"),
        Index("volume_by_host", "host"),
        Index("volume_by_source", "source_volid"),
        Index("volume_by_snapshot", "snapshot_id"),
        Index("volume_by_type", "volume_type_id"),
    )

    id: str = Field(primary_key=True, max_length=36)
    project_id: str = Field(max_length=255)
    user_id: str = Field(max_length=255)
    name: str | None = Field(default=None, max_length=255)
    description: str | None = Field(default=None, max_length=255)
    size_gib: int
    target_size_gib: int | None = None
    status: str = Field(max_length=32)
    previous_status: str | None = Field(default=None, max_length=32)
    attach_status: str = Field(default=AttachStatus.DETACHED.value, max_length=32)
    migration_status: str | None = Field(default=None, max_length=64)
    availability_zone: str | None = Field(default=None, max_length=255)
    host: str | None = Field(default=None, max_length=255)
    volume_type_id: str | None = Field(default=None, max_length=36, foreign_key="volume_type.id")
    snapshot_id: str | None = Field(default=None, max_length=36)
    source_volid: str | None = Field(default=None, max_length=36)
    group_id: str | None = Field(default=None, max_length=36)
    bootable: bool = False
    encrypted: bool = False
    multiattach: bool = False
    user_metadata: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    admin_metadata: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    image_metadata: dict[str, str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    replication_status: str | None = Field(default=None, max_length=32)
    provider_id: str | None = Field(default=None, max_length=255)
    shared_targets: bool | None = None
    service_uuid: str | None = Field(default=None, max_length=36)
    cluster_name: str | None = Field(default=None, max_length=255)
    encryption_key_id: str | None = Field(default=None, max_length=36)
    consumes_quota: bool = True
    created_at: str = Field(max_length=26)
    updated_at: str | None = Field(default=None, max_length=26)
