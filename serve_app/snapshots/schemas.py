"""Request bodies of the snapshot routes and the shapes of their replies (json_shapes §2, §3). Reply models are for the
OpenAPI document only; `views` builds the replies."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve_app.volumes.schemas import Named
from serve_app.wire.fields import (
    Metadata,
    NullableDescription255,
    NullableName255,
    OneMetadataItem,
    StrictBoolean,
    Uuid,
    refusal,
)
from serve_app.wire.route import Body


class SnapshotCreate(Body):
    """A snapshot to be taken. `force` lets the volume be attached, up to 3.65; from 3.66 on that is always so."""

    volume_id: Uuid | None
    name: NullableName255 = None
    display_name: NullableName255 = None
    description: NullableDescription255 = None
    force: StrictBoolean | None = None
    metadata: Metadata | None = None

    def title(self) -> str | None:
        """The name that counts."""
        return self.name if "name" in self.model_fields_set else self.display_name


class CreateBody(Body):
    """`POST /snapshots`."""

    snapshot: SnapshotCreate


class SnapshotUpdate(Named):
    """What may be changed of a snapshot; at least one of them."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not self.model_fields_set:
            raise refusal("{} is not valid under any of the given schemas")
        return self


class UpdateBody(Body):
    """`PUT /snapshots/{id}`."""

    snapshot: SnapshotUpdate


class MetadataBody(Body):
    """All metadata, or what is to be added."""

    metadata: Metadata


class MetaBody(Body):
    """One item of the metadata."""

    meta: OneMetadataItem


class SnapshotSummary(BaseModel):
    """A snapshot in the short list."""

    id: str
    volume_id: str
    name: str | None
    description: str | None
    status: str
    size: int
    metadata: dict[str, str]
    created_at: str
    updated_at: str | None


class SnapshotDetail(SnapshotSummary):
    """A snapshot. Keys that are not required appear from a microversion on, or when shown rather than created."""

    project_id: str = Field(default="", alias="os-extended-snapshot-attributes:project_id")
    progress: str | None = Field(default=None, alias="os-extended-snapshot-attributes:progress")
    group_snapshot_id: str | None = None
    user_id: str = ""
    consumes_quota: bool = True


class SnapshotReply(BaseModel):
    """One snapshot."""

    snapshot: SnapshotDetail


class SnapshotsReply(BaseModel):
    """A page of the short list."""

    snapshots: list[SnapshotSummary]
    snapshots_links: list[dict[str, Any]] = []
    count: int = 0


class SnapshotsDetailReply(BaseModel):
    """A page of snapshots."""

    snapshots: list[SnapshotDetail]
    snapshots_links: list[dict[str, Any]] = []
    count: int = 0


class MetadataReply(BaseModel):
    """All metadata."""

    metadata: dict[str, str]


class MetaReply(BaseModel):
    """One item of the metadata."""

    meta: dict[str, str]
